/* Datasets: what a custodian registers (POST /datasets, strict) and what everybody sees. */
#ifndef PROTO_DATASET_H
#define PROTO_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/budget.h"
#include "proto/problem.h"

enum dataset_format { DATASET_IDX = 1, DATASET_NPY, DATASET_CSV, DATASET_EMBEDDED };
enum dataset_kind { DATASET_IMAGE = 1, DATASET_FEATURES, DATASET_TOKENS };
enum dataset_dtype { DATASET_F32 = 1, DATASET_F64, DATASET_U8, DATASET_I32, DATASET_I64 };
enum telemetry_policy { TELEMETRY_PRIVATE = 1, TELEMETRY_RAW, TELEMETRY_NONE };
/* PRIVACY_UNIT_USER: all records of a user, told by the column of kind user */
enum privacy_unit { PRIVACY_UNIT_RECORD = 1, PRIVACY_UNIT_USER };
enum split_policy { SPLIT_PRIVATE = 1, SPLIT_PUBLIC };

/* paths relative to the daemon's data root, never absolute, never with ".." */
struct dataset_files {
    const char *train_inputs; /* idx, npy */
    const char *train_labels;
    const char *test_inputs; /* both or none */
    const char *test_labels;
    const char *train; /* csv */
    const char *test;
};

struct dataset_csv {
    const char *separator; /* one character, default "," */
    bool header;           /* the first line names the columns; default false */
    int64_t label_column;  /* from 0; -1: the last (default) */
};

/* x -> (x / divide_by - mean) / std, elementwise or per channel */
struct dataset_normalize {
    double divide_by; /* 1 */
    size_t n_mean;
    const double *mean; /* none, one, or one for each channel */
    size_t n_std;
    const double *std;
};

/* public facts about the data, what a dataset_spec and a dataset_view share */
struct dataset_inputs {
    enum dataset_kind kind;
    enum dataset_dtype dtype; /* 0: as the file has it */
    size_t n_shape;
    const int64_t *shape; /* of one record, channels first; none: as the file has it */
    int64_t vocabulary;   /* tokens: ids lie below it; otherwise 0 */
    int64_t record_axis;  /* idx, npy: axis of the file's array that counts records; -1: the first */
};

/* USER: whose record it is, a whole number; no input of a model, training records only */
enum dataset_column_kind {
    DATASET_COLUMN_FEATURES = 1,
    DATASET_COLUMN_TOKENS,
    DATASET_COLUMN_LENGTHS,
    DATASET_COLUMN_USER
};

/* A further input of every record, beside the inputs; programs name it. */
struct dataset_column {
    const char *name;
    enum dataset_column_kind kind;
    const char *train, *test; /* idx, npy: files */
    size_t n_columns;
    const int64_t *columns; /* csv: numbers of the file's columns, from 0 */
    size_t n_shape;
    const int64_t *shape; /* of one record; none: a single number */
    int64_t vocabulary;   /* tokens: ids lie below it */
    int64_t record_axis;  /* as for the inputs */
};

struct dataset_budget {
    double epsilon;
    double delta;
};

struct dataset_spec {
    const char *name;
    const char *description; /* NULL: none */
    enum dataset_format format;
    struct dataset_files files;
    struct dataset_csv csv; /* format csv */
    struct dataset_inputs inputs;
    size_t n_columns;
    const struct dataset_column *columns;
    int64_t classes;      /* of the labels, from 2; -1: labels are real targets */
    int64_t nominal_size; /* public, in units; -1: the count rounded to two digits */
    struct dataset_normalize normalize;
    struct dataset_budget *budget;   /* NULL: public data only */
    enum telemetry_policy telemetry; /* private */
    double loss_bound;               /* default of the jobs' telemetry; 8 */
    enum split_policy test_split;    /* private: evaluations are charged */
    bool is_public;                  /* "public": jobs may run without privacy */
    enum privacy_unit unit;          /* what the budget protects; record */
};

struct dataset_view {
    const char *id;
    const char *name;
    const char *description;
    enum dataset_format format;
    struct dataset_inputs inputs;
    size_t n_columns;
    const struct dataset_column *columns;
    int64_t classes;
    int64_t nominal_size;
    int64_t test_size; /* public test split only; -1: not told */
    struct dataset_normalize normalize;
    enum telemetry_policy telemetry;
    double loss_bound;
    enum split_policy test_split;
    bool is_public;
    enum privacy_unit unit;
    const char *sha256; /* of the content: the dataset's identity */
    const char *owner;  /* custodian; NULL: the installation */
    int64_t created_at;
    struct budget_view *budget; /* NULL: public data without a budget */
};

struct dataset_page {
    size_t n_data;
    struct dataset_view *data;
    bool has_more;
};

int dataset_spec_decode(struct dataset_spec **p, const char *text, size_t len,
                        struct problem *problem);
char *dataset_spec_encode(const struct dataset_spec *spec, size_t *lenp);
struct dataset_spec *dataset_spec_free(struct dataset_spec *spec);
void dataset_spec_freep(struct dataset_spec **p);

void dataset_view_init(struct dataset_view *view);
int dataset_view_decode(struct dataset_view **p, const char *text, size_t len,
                        struct problem *problem);
char *dataset_view_encode(const struct dataset_view *view, size_t *lenp);
struct dataset_view *dataset_view_free(struct dataset_view *view);
void dataset_view_freep(struct dataset_view **p);

int dataset_page_decode(struct dataset_page **p, const char *text, size_t len,
                        struct problem *problem);
char *dataset_page_encode(const struct dataset_page *page, size_t *lenp);
struct dataset_page *dataset_page_free(struct dataset_page *page);
void dataset_page_freep(struct dataset_page **p);

const char *dataset_format_name(enum dataset_format format);
const char *dataset_kind_name(enum dataset_kind kind);
const char *dataset_dtype_name(enum dataset_dtype dtype);
const char *dataset_unit_name(enum privacy_unit unit);
/* The column that says whose record it is; n_columns: there is none. */
size_t dataset_user_column(size_t n_columns, const struct dataset_column *columns);
const char *telemetry_policy_name(enum telemetry_policy policy);

#endif
