/* Further inputs of every record: features, tokens, lengths. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"

struct psg_type data_column_type(const struct dataset_column *column)
{
    struct psg_type type = {
        .dtype = column->kind == DATASET_COLUMN_FEATURES ? PSG_REAL : PSG_I64,
    };
    if (column->n_shape <= PSG_MAX_RANK)
        type.shape = psg_shape_make((int)column->n_shape, column->shape);
    return type;
}

int data_columns_open(const struct dataset_spec *spec, struct data *data, struct problem *p)
{
    data->columns = calloc(spec->n_columns + 1, sizeof *data->columns);
    if (!data->columns)
        return error_nomem(p);
    data->n_columns = spec->n_columns;
    for (size_t i = 0; i < spec->n_columns; i++) {
        struct data_column *c = &data->columns[i];
        snprintf(c->name, sizeof c->name, "%s", spec->columns[i].name);
        c->type = data_column_type(&spec->columns[i]);
        c->memory = c->type.dtype == PSG_I64 ? PSG_COL_I64 : PSG_COL_F32;
        c->size = psg_shape_size(&c->type.shape);
        if (c->size < 1) {
            char pointer[64];
            snprintf(pointer, sizeof pointer, "/columns/%zu/shape", i);
            problem_invalid(p, pointer, ITEM_OUT_OF_RANGE, "is too large");
            return ERROR_REFUSED;
        }
    }
    return 0;
}

/* Whole numbers that a file's floating-point numbers keep apart lie below this; 0: any do. */
static int64_t exact_below(enum psg_array_dtype dtype)
{
    switch (dtype) {
    case PSG_ARRAY_BF16: return 1 << 8;
    case PSG_ARRAY_F16: return 1 << 11;
    case PSG_ARRAY_F32: return 1 << 24;
    case PSG_ARRAY_F64: return INT64_C(1) << 53;
    default: return 0;
    }
}

/* Two users under one id would be clipped as one, and each would not be protected as stated. */
static int check_users(const struct data_column *c, int64_t n, enum psg_array_dtype dtype,
                       enum data_split split, const char *pointer, struct problem *p)
{
    int64_t below = exact_below(dtype);
    const int64_t *user = c->values[split];
    for (int64_t i = 0; below && i < n; i++)
        if (user[i] >= below || user[i] <= -below) {
            problem_invalid(p, pointer, ITEM_OUT_OF_RANGE,
                            "record %lld has an id that the file's numbers do not tell apart "
                            "from others",
                            (long long)i);
            return ERROR_REFUSED;
        }
    return 0;
}

int data_column_take(const struct dataset_spec *spec, size_t i, const struct psg_array *array,
                     enum data_split split, const char *pointer, struct data *data,
                     struct problem *p)
{
    struct data_column *c = &data->columns[i];
    int64_t n = data->part[split].n;
    struct psg_error err;
    if (array->shape.rank < 1 || psg_array_rows(array) != n ||
        psg_array_row_size(array) != c->size) {
        problem_invalid(p, pointer, ITEM_SHAPE_MISMATCH,
                        "%s needs %lld numbers for each record", spec->columns[i].name,
                        (long long)c->size);
        return ERROR_REFUSED;
    }
    /* rows were read from a file of that size, so that the product fits */
    void *out = calloc((size_t)(n * c->size) + 1, sizeof(int64_t));
    if (!out)
        return error_nomem(p);
    c->values[split] = out;
    int r = c->memory == PSG_COL_I64 ? psg_array_read_i64(array, 0, n, out, &err)
                                     : psg_array_read_real(array, 0, n, out, &err);
    if (r == 0)
        return spec->columns[i].kind == DATASET_COLUMN_USER
                   ? check_users(c, n, array->dtype, split, pointer, p)
                   : 0;
    if (err.status == PSG_E_NOMEM)
        return error_nomem(p);
    problem_invalid(p, pointer, ITEM_FILE, "%s", err.text);
    return ERROR_REFUSED;
}

static int check_column(const struct dataset_spec *spec, const struct data *data, size_t i,
                        enum data_split split, struct problem *p)
{
    const struct data_column *c = &data->columns[i];
    int64_t hi = spec->columns[i].vocabulary - 1, n = data->part[split].n * c->size;
    if (spec->columns[i].kind == DATASET_COLUMN_USER)
        return 0; /* any number is a name */
    if (spec->columns[i].kind == DATASET_COLUMN_LENGTHS)
        hi = data->input.shape.rank > 0 ? data->input.shape.dim[0] : 0;
    for (int64_t k = 0; k < n; k++) {
        bool ok = c->memory == PSG_COL_I64
                      ? ((const int64_t *)c->values[split])[k] >= 0 &&
                            ((const int64_t *)c->values[split])[k] <= hi
                      : isfinite(((const psg_real *)c->values[split])[k]);
        if (ok)
            continue;
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/columns/%zu", i);
        problem_invalid(p, pointer, ITEM_OUT_OF_RANGE,
                        "record %lld has a value that is not finite or out of range",
                        (long long)(k / c->size));
        return ERROR_REFUSED;
    }
    return 0;
}

int data_columns_check(const struct dataset_spec *spec, const struct data *data,
                       enum data_split split, struct problem *p)
{
    int r = 0;
    for (size_t i = 0; i < data->n_columns && r == 0; i++)
        r = check_column(spec, data, i, split, p);
    return r;
}
