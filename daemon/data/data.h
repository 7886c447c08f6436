/* One dataset in memory: records as libpsg's columns, and the digest that is its identity.
 *
 *   spec + files beneath the root (or the embedded digits) -> data_load -> struct data
 *
 * Data are read once and copied, so that a file that changes afterwards changes nothing. A struct
 * data is immutable; any number of threads may read it. Nothing here touches the store. */
#ifndef DAEMON_DATA_DATA_H
#define DAEMON_DATA_DATA_H

#include <stdint.h>

#include "proto/dataset.h"
#include "psg/formats.h"
#include "psg/plan.h"
#include "psg/shape.h"

enum data_split { DATA_TRAIN, DATA_TEST };

struct data_part {
    int64_t n;     /* records; private for the train split */
    void *inputs;  /* [n, record_size] of input_type */
    void *labels;  /* [n] int64 or float */
};

/* A further input of every record. */
struct data_column {
    char name[65];
    struct psg_type type;      /* of one record, as the program sees it */
    enum psg_column_type memory; /* F32 or I64 */
    int64_t size;              /* elements of one record */
    void *values[2];           /* [n, size] by enum data_split */
};

struct data {
    struct psg_type input;            /* of one record, as the program sees it */
    enum psg_column_type input_type;  /* in memory: U8, F32 or I32 */
    enum psg_column_type label_type;  /* I64: class numbers; F32: real targets */
    int64_t record_size;              /* elements */
    double scale, shift;              /* value * scale + shift */
    struct data_part part[2];         /* by enum data_split */
    struct data_column *columns;      /* [n_columns], as the spec lists them */
    size_t n_columns;
    /* Records of the train split by user, ascending by user id: unit u has the records
     * unit_record[unit_first[u] .. unit_first[u + 1] - 1]. n_units 0: nobody said whose they are */
    int64_t n_units;     /* private */
    int64_t *unit_first; /* [n_units + 1] */
    int64_t *unit_record; /* [n] */
    uint8_t sha256[32];               /* of the train split's content */
};

/* Fills what an embedded dataset's spec leaves open: its shape, classes and so on. */
void data_complete_spec(struct dataset_spec *spec);

/* What programs see of one record: known from the spec alone when inputs.shape is given;
 * otherwise (n_shape 0) of rank 0, until the data are loaded. */
struct psg_type data_input_type(const struct dataset_spec *spec);

/* root: descriptor of the folder that file names are relative to, or -1. 0 or ERROR_REFUSED. */
int data_load(const struct dataset_spec *spec, int root, struct data **datap,
              struct problem *p);
struct data *data_free(struct data *data);
void data_freep(struct data **datap);

/* What programs see of a further column of one record. */
struct psg_type data_column_type(const struct dataset_column *column);

/* The column that a program's input of this name reads: "input", "target", or a further one.
 * False when there is none. */
bool data_column(const struct data *data, enum data_split split, const char *name,
                 struct psg_column *column);

/* The count rounded to two digits: 1442 -> 1400. */
int64_t data_round_size(int64_t n);

/* SHA-256 of the sorted SHA-256s of the records, so that neither order nor file format matters. */
int data_digest(const struct data *data, const struct data_part *part, uint8_t sha256[32],
                struct problem *p);

/* ---- sources; each fills data->part and what describes it ---- */
int data_load_digits(struct data *data, struct problem *p);
int data_load_files(const struct dataset_spec *spec, int root, struct data *data,
                    struct problem *p);

/* ---- units.c ---- */
/* Fills the units from the column of kind user, where the spec has one. */
int data_units_open(const struct dataset_spec *spec, struct data *data, struct problem *p);

/* ---- columns.c ---- */
/* Room for the spec's further columns, without values. */
int data_columns_open(const struct dataset_spec *spec, struct data *data, struct problem *p);
/* Values of column i from an array whose rows are records. */
int data_column_take(const struct dataset_spec *spec, size_t i, const struct psg_array *array,
                     enum data_split split, const char *pointer, struct data *data,
                     struct problem *p);
/* Finite numbers, ids of the vocabulary, lengths up to the inputs' first axis. */
int data_columns_check(const struct dataset_spec *spec, const struct data *data,
                       enum data_split split, struct problem *p);

#endif
