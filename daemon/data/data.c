#include "data/data.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"

static const int64_t digits_shape[] = { 1, 8, 8 };
static const double digits_mean = 1;

void data_complete_spec(struct dataset_spec *spec)
{
    if (spec->format != DATASET_EMBEDDED)
        return;
    spec->inputs = (struct dataset_inputs){
        .kind = DATASET_IMAGE, .dtype = DATASET_U8, .n_shape = 3, .shape = digits_shape
    };
    spec->classes = 10;
    if (spec->normalize.divide_by == 1 && !spec->normalize.n_mean && !spec->normalize.n_std) {
        /* 0 to 16 becomes -1 to 1 */
        spec->normalize.divide_by = 8;
        spec->normalize.mean = &digits_mean;
        spec->normalize.n_mean = 1;
    }
    spec->test_split = SPLIT_PUBLIC;
}

struct psg_type data_input_type(const struct dataset_spec *spec)
{
    struct psg_type type = {
        .dtype = spec->inputs.kind == DATASET_TOKENS ? PSG_I64 : PSG_REAL,
    };
    if (spec->inputs.n_shape <= PSG_MAX_RANK)
        type.shape = psg_shape_make((int)spec->inputs.n_shape, spec->inputs.shape);
    return type;
}

int64_t data_round_size(int64_t n)
{
    int64_t unit = 1;
    while (n / unit >= 100)
        unit *= 10;
    return (n + unit / 2) / unit * unit;
}

struct data *data_free(struct data *data)
{
    if (!data)
        return NULL;
    for (int s = 0; s < 2; s++) {
        free(data->part[s].inputs);
        free(data->part[s].labels);
        for (size_t i = 0; i < data->n_columns; i++)
            free(data->columns[i].values[s]);
    }
    free(data->columns);
    free(data->unit_first);
    free(data->unit_record);
    free(data);
    return NULL;
}

void data_freep(struct data **datap)
{
    *datap = data_free(*datap);
}

static size_t element_size(enum psg_column_type type)
{
    return type == PSG_COL_U8 ? 1 : type == PSG_COL_I64 ? 8 : 4;
}

bool data_column(const struct data *data, enum data_split split, const char *name,
                 struct psg_column *column)
{
    const struct data_part *part = &data->part[split];
    *column = (struct psg_column){ .type = data->input_type, .scale = 1 };
    if (strcmp(name, "input") == 0) {
        column->data = part->inputs;
        column->stride = (size_t)data->record_size * element_size(data->input_type);
        column->scale = data->scale;
        column->shift = data->shift;
        return true;
    }
    if (strcmp(name, "target") == 0) {
        column->type = data->label_type;
        column->data = part->labels;
        column->stride = element_size(data->label_type);
        return true;
    }
    for (size_t i = 0; i < data->n_columns; i++) {
        const struct data_column *c = &data->columns[i];
        if (strcmp(c->name, name) != 0 || !c->values[split])
            continue;
        column->type = c->memory;
        column->data = c->values[split];
        column->stride = (size_t)c->size * element_size(c->memory);
        return true;
    }
    return false;
}

/* ---- identity ---- */

/* The further columns of a record; nothing where there are none. */
static void digest_columns(const struct data *data, const struct data_part *part, int64_t i,
                           crypto_hash_sha256_state *h)
{
    for (size_t k = 0; k < data->n_columns; k++) {
        const struct data_column *c = &data->columns[k];
        size_t size = (size_t)c->size * element_size(c->memory);
        const char *values = c->values[part == &data->part[DATA_TEST]];
        crypto_hash_sha256_update(h, (const unsigned char *)c->name, strlen(c->name) + 1);
        crypto_hash_sha256_update(h, (const unsigned char *)values + (size_t)i * size, size);
    }
}

/* A record's values as text-free bytes that do not depend on how they were stored: bytes where all
 * of them are whole numbers from 0 to 255, else floats or 64-bit ids. */
static void record_digest(const struct data *data, const struct data_part *part, int64_t i,
                          unsigned char *room, uint8_t out[32])
{
    crypto_hash_sha256_state h;
    int64_t n = data->record_size;
    size_t size = (size_t)n * element_size(data->input_type);
    const unsigned char *at = (const unsigned char *)part->inputs + (size_t)i * size;
    unsigned char tag = data->input_type == PSG_COL_I32 ? 'i' : 'b';
    if (data->input_type == PSG_COL_F32) {
        const float *value = (const float *)(const void *)at;
        for (int64_t k = 0; k < n && tag == 'b'; k++)
            tag = value[k] >= 0 && value[k] <= 255 && value[k] == floorf(value[k]) ? 'b' : 'f';
        for (int64_t k = 0; k < n && tag == 'b'; k++)
            room[k] = (unsigned char)value[k];
        if (tag == 'b') {
            at = room;
            size = (size_t)n;
        }
    }
    double label = data->label_type == PSG_COL_I64 ? (double)((const int64_t *)part->labels)[i]
                                                   : ((const float *)part->labels)[i];
    crypto_hash_sha256_init(&h);
    crypto_hash_sha256_update(&h, &tag, 1);
    crypto_hash_sha256_update(&h, (const unsigned char *)&n, sizeof n);
    crypto_hash_sha256_update(&h, (const unsigned char *)&label, sizeof label);
    crypto_hash_sha256_update(&h, at, size);
    digest_columns(data, part, i, &h);
    crypto_hash_sha256_final(&h, out);
}

static int compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

int data_digest(const struct data *data, const struct data_part *part, uint8_t sha256[32],
                struct problem *p)
{
    _cleanup_free_ uint8_t(*digests)[32] = calloc((size_t)part->n + 1, 32);
    _cleanup_free_ unsigned char *room = malloc((size_t)data->record_size + 1);
    if (!digests || !room)
        return error_nomem(p);
    for (int64_t i = 0; i < part->n; i++)
        record_digest(data, part, i, room, digests[i]);
    qsort(digests, (size_t)part->n, 32, compare_digests);
    crypto_hash_sha256(sha256, digests[0], (size_t)part->n * 32);
    return 0;
}

/* ---- checks after reading ---- */

static int check_labels(const struct dataset_spec *spec, const struct data *data,
                        const struct data_part *part, struct problem *p)
{
    for (int64_t i = 0; i < part->n; i++) {
        bool ok = data->label_type == PSG_COL_F32
                      ? isfinite(((const float *)part->labels)[i])
                      : ((const int64_t *)part->labels)[i] >= 0 &&
                            ((const int64_t *)part->labels)[i] < spec->classes;
        if (!ok) {
            problem_invalid(p, "/classes", ITEM_OUT_OF_RANGE,
                            "record %lld has a label outside of the %lld classes", (long long)i,
                            (long long)spec->classes);
            return ERROR_REFUSED;
        }
    }
    return 0;
}

static int check_inputs(const struct dataset_spec *spec, const struct data *data,
                        const struct data_part *part, struct problem *p)
{
    int64_t n = part->n * data->record_size;
    for (int64_t k = 0; k < n; k++) {
        bool ok = true;
        if (data->input_type == PSG_COL_F32)
            ok = isfinite(((const float *)part->inputs)[k]);
        if (data->input_type == PSG_COL_I32)
            ok = ((const int32_t *)part->inputs)[k] >= 0 &&
                 ((const int32_t *)part->inputs)[k] < spec->inputs.vocabulary;
        if (!ok) {
            problem_invalid(p, "/files", ITEM_OUT_OF_RANGE,
                            "record %lld has a value that is not finite or not in the vocabulary",
                            (long long)(k / data->record_size));
            return ERROR_REFUSED;
        }
    }
    return 0;
}

/* per-channel constants need the values in floats: (x / d - mean[c]) / std[c] */
static int normalize(const struct dataset_spec *spec, struct data *data, struct problem *p)
{
    const struct dataset_normalize *z = &spec->normalize;
    if (data->input.dtype == PSG_I64)
        return 0;
    if (z->n_mean <= 1 && z->n_std <= 1) {
        double std = z->n_std ? z->std[0] : 1, mean = z->n_mean ? z->mean[0] : 0;
        data->scale = 1 / (z->divide_by * std);
        data->shift = -mean / std;
        return 0;
    }
    int64_t channels = data->input.shape.rank ? data->input.shape.dim[0] : 0;
    if ((z->n_mean > 1 && (int64_t)z->n_mean != channels) ||
        (z->n_std > 1 && (int64_t)z->n_std != channels)) {
        problem_invalid(p, "/normalize", ITEM_SHAPE_MISMATCH,
                        "mean and std need one number, or one for each of the %lld channels",
                        (long long)channels);
        return ERROR_REFUSED;
    }
    int64_t per = data->record_size / channels;
    for (int s = 0; s < 2; s++) {
        struct data_part *part = &data->part[s];
        float *out = calloc((size_t)(part->n * data->record_size) + 1, sizeof *out);
        if (!out)
            return error_nomem(p);
        for (int64_t k = 0; k < part->n * data->record_size; k++) {
            size_t c = (size_t)(k % data->record_size / per);
            double x = data->input_type == PSG_COL_U8 ? ((const uint8_t *)part->inputs)[k]
                                                      : ((const float *)part->inputs)[k];
            double mean = z->n_mean ? z->mean[z->n_mean > 1 ? c : 0] : 0;
            double std = z->n_std ? z->std[z->n_std > 1 ? c : 0] : 1;
            out[k] = (float)((x / z->divide_by - mean) / std);
        }
        free(part->inputs);
        part->inputs = out;
    }
    data->input_type = PSG_COL_F32;
    return 0;
}

int data_load(const struct dataset_spec *spec, int root, struct data **datap, struct problem *p)
{
    _cleanup_(data_freep) struct data *data = calloc(1, sizeof *data);
    if (!data)
        return error_nomem(p);
    data->scale = 1;
    int r = spec->format == DATASET_EMBEDDED ? data_load_digits(data, p)
                                             : data_load_files(spec, root, data, p);
    if (r == 0 && data->part[DATA_TRAIN].n == 0) {
        problem_invalid(p, "/files", ITEM_TOO_FEW, "there are no records");
        r = ERROR_REFUSED;
    }
    for (int s = 0; s < 2 && r == 0; s++) {
        r = check_labels(spec, data, &data->part[s], p);
        if (r == 0)
            r = check_inputs(spec, data, &data->part[s], p);
        if (r == 0)
            r = data_columns_check(spec, data, (enum data_split)s, p);
    }
    if (r == 0)
        r = data_units_open(spec, data, p);
    if (r == 0)
        r = data_digest(data, &data->part[DATA_TRAIN], data->sha256, p);
    if (r == 0)
        r = normalize(spec, data, p);
    if (r == 0)
        *datap = steal(&data);
    return r;
}
