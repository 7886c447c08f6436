#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"
#include "psg/formats.h"

/* ---- names beneath the root ---- */

/* Never follows a link or ".." out of the root; kernels without openat2 get no files at all. */
static int open_beneath(int root, const char *name, const char *pointer, int *fdp,
                        struct problem *p)
{
    if (root < 0) {
        problem_invalid(p, pointer, ITEM_FILE, "no data folder is configured");
        return ERROR_REFUSED;
    }
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    long fd = syscall(SYS_openat2, root, name, &how, sizeof how);
    if (fd < 0) {
        problem_invalid(p, pointer, ITEM_FILE, "%s",
                        errno == EXDEV    ? "lies outside of the data folder"
                        : errno == ENOSYS ? "this kernel cannot open files beneath a folder"
                                          : strerror(errno));
        return ERROR_REFUSED;
    }
    struct stat st;
    if (fstat((int)fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close((int)fd);
        problem_invalid(p, pointer, ITEM_FILE, "is not a regular file");
        return ERROR_REFUSED;
    }
    *fdp = (int)fd;
    return 0;
}

static void closep(int *fdp)
{
    if (*fdp >= 0)
        close(*fdp);
}

/* libpsg reads by path; this one leads to the file that was opened, whatever happens to names */
struct fd_path {
    char text[32];
};

static struct fd_path path_of(int fd)
{
    struct fd_path path;
    snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
    return path;
}

static int refuse_file(const char *pointer, const struct psg_error *err, struct problem *p)
{
    if (err->status == PSG_E_NOMEM)
        return error_nomem(p);
    problem_invalid(p, pointer, ITEM_FILE, "%s", err->text);
    return ERROR_REFUSED;
}

static int read_array(const struct dataset_spec *spec, int root, const char *name,
                      const char *pointer, struct psg_array *array, struct problem *p)
{
    _cleanup_(closep) int fd = -1;
    struct psg_error err;
    int r = open_beneath(root, name, pointer, &fd, p);
    if (r)
        return r;
    struct fd_path path = path_of(fd);
    int rc = spec->format == DATASET_IDX ? psg_idx_read(path.text, array, &err)
                                         : psg_npy_read(path.text, array, &err);
    return rc < 0 ? refuse_file(pointer, &err, p) : 0;
}

/* [A, R, B] as [R, A, B]: records first. *movedp owns the new numbers. */
static int records_first(struct psg_array *array, int64_t axis, const char *pointer,
                         void **movedp, struct problem *p)
{
    struct psg_shape from = array->shape, to = { .rank = from.rank };
    int64_t before = 1, inner = 1;
    if (axis <= 0)
        return 0;
    if (axis >= from.rank) {
        problem_invalid(p, pointer, ITEM_SHAPE_MISMATCH, "the file's array has %d axes only",
                        from.rank);
        return ERROR_REFUSED;
    }
    to.dim[0] = from.dim[axis];
    for (int i = 0; i < from.rank; i++) {
        before *= i < axis ? from.dim[i] : 1;
        inner *= i > axis ? from.dim[i] : 1;
        if (i != axis)
            to.dim[i + (i < axis)] = from.dim[i];
    }
    size_t run = (size_t)inner * psg_array_dtype_size(array->dtype);
    int64_t n = from.dim[axis];
    char *out = malloc((size_t)(before * n) * run + 1);
    if (!out)
        return error_nomem(p);
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < before; k++)
            memcpy(out + (size_t)(r * before + k) * run,
                   (const char *)array->data + (size_t)(k * n + r) * run, run);
    struct psg_array moved = { .dtype = array->dtype, .shape = to, .data = out };
    psg_array_free(array);
    *array = moved;
    *movedp = out;
    return 0;
}

/* ---- arrays to parts ---- */

static int take_bytes(const struct psg_array *array, int64_t n, void **outp, struct problem *p)
{
    void *out = malloc((size_t)n + 1);
    if (!out)
        return error_nomem(p);
    memcpy(out, array->data, (size_t)n);
    *outp = out;
    return 0;
}

static int take_floats(const struct psg_array *array, int64_t n, const char *pointer,
                       void **outp, struct problem *p)
{
    _cleanup_free_ psg_real *out = calloc((size_t)n + 1, sizeof *out);
    struct psg_error err;
    if (!out)
        return error_nomem(p);
    if (psg_array_read_real(array, 0, psg_array_rows(array), out, &err) < 0)
        return refuse_file(pointer, &err, p);
    *outp = steal(&out);
    return 0;
}

static int take_longs(const struct psg_array *array, int64_t n, const char *pointer,
                      void **outp, struct problem *p)
{
    _cleanup_free_ int64_t *out = calloc((size_t)n + 1, sizeof *out);
    struct psg_error err;
    if (!out)
        return error_nomem(p);
    if (psg_array_read_i64(array, 0, psg_array_rows(array), out, &err) < 0)
        return refuse_file(pointer, &err, p);
    *outp = steal(&out);
    return 0;
}

static int take_tokens(const struct psg_array *array, int64_t n, const char *pointer,
                       void **outp, struct problem *p)
{
    void *wide = NULL;
    int r = take_longs(array, n, pointer, &wide, p);
    _cleanup_free_ int64_t *from = wide;
    _cleanup_free_ int32_t *out = r ? NULL : calloc((size_t)n + 1, sizeof *out);
    if (r)
        return r;
    if (!out)
        return error_nomem(p);
    for (int64_t k = 0; k < n; k++)
        out[k] = from[k] < 0 || from[k] > INT32_MAX ? -1 : (int32_t)from[k]; /* -1: refused */
    *outp = steal(&out);
    return 0;
}

/* What a program sees of one record: the spec's shape, or the file's, images with a channel. */
static int find_shape(const struct dataset_spec *spec, const struct psg_array *array,
                      struct data *data, struct problem *p)
{
    data->input = data_input_type(spec);
    data->record_size = psg_array_row_size(array);
    struct psg_shape *shape = &data->input.shape;
    if (array->shape.rank < 1) {
        problem_invalid(p, "/files", ITEM_SHAPE_MISMATCH, "the file holds a single number");
        return ERROR_REFUSED;
    }
    if (spec->inputs.n_shape == 0) {
        bool add = spec->inputs.kind == DATASET_IMAGE && array->shape.rank == 3;
        *shape = (struct psg_shape){ 0 };
        if (add)
            shape->dim[shape->rank++] = 1;
        for (int i = 1; i < array->shape.rank && shape->rank < PSG_MAX_RANK; i++)
            shape->dim[shape->rank++] = array->shape.dim[i];
    }
    if (psg_shape_size(shape) != data->record_size || data->record_size < 1) {
        problem_invalid(p, "/inputs/shape", ITEM_SHAPE_MISMATCH,
                        "records of the file have %lld values",
                        (long long)data->record_size);
        return ERROR_REFUSED;
    }
    return 0;
}

static int take_inputs(const struct dataset_spec *spec, const struct psg_array *array,
                       const char *pointer, struct data *data, enum data_split split,
                       struct problem *p)
{
    struct data_part *part = &data->part[split];
    int64_t n = psg_array_rows(array), size;
    if (split == DATA_TRAIN) {
        int r = find_shape(spec, array, data, p);
        if (r)
            return r;
        data->input_type = spec->inputs.kind == DATASET_TOKENS   ? PSG_COL_I32
                           : array->dtype == PSG_ARRAY_U8 ? PSG_COL_U8
                                                                 : PSG_COL_F32;
    } else if (psg_array_row_size(array) != data->record_size ||
               (data->input_type == PSG_COL_U8 && array->dtype != PSG_ARRAY_U8)) {
        problem_invalid(p, pointer, ITEM_SHAPE_MISMATCH,
                        "records are not those of the training file");
        return ERROR_REFUSED;
    }
    if (__builtin_mul_overflow(n, data->record_size, &size) || size > INT64_MAX / 16)
        return error_nomem(p);
    part->n = n;
    switch (data->input_type) {
    case PSG_COL_U8: return take_bytes(array, size, &part->inputs, p);
    case PSG_COL_I32: return take_tokens(array, size, pointer, &part->inputs, p);
    default: return take_floats(array, size, pointer, &part->inputs, p);
    }
}

static int take_labels(const struct dataset_spec *spec, const struct psg_array *array,
                       const char *pointer, struct data *data, enum data_split split,
                       struct problem *p)
{
    struct data_part *part = &data->part[split];
    if (psg_array_rows(array) != part->n || psg_array_row_size(array) != 1 ||
        array->shape.rank < 1) {
        problem_invalid(p, pointer, ITEM_SHAPE_MISMATCH, "there must be one label per record");
        return ERROR_REFUSED;
    }
    data->label_type = spec->classes > 0 ? PSG_COL_I64 : PSG_COL_F32;
    return data->label_type == PSG_COL_I64
               ? take_longs(array, part->n, pointer, &part->labels, p)
               : take_floats(array, part->n, pointer, &part->labels, p);
}

/* ---- a split from its files ---- */

static int load_pair(const struct dataset_spec *spec, int root, const char *const name[2],
                     const char *const pointer[2], struct data *data, enum data_split split,
                     struct problem *p)
{
    struct psg_array inputs = { 0 }, labels = { 0 };
    _cleanup_free_ void *moved = NULL;
    int r = read_array(spec, root, name[0], pointer[0], &inputs, p);
    if (r == 0)
        r = records_first(&inputs, spec->inputs.record_axis, "/inputs/record_axis", &moved, p);
    if (r == 0)
        r = take_inputs(spec, &inputs, pointer[0], data, split, p);
    if (r == 0)
        r = read_array(spec, root, name[1], pointer[1], &labels, p);
    if (r == 0)
        r = take_labels(spec, &labels, pointer[1], data, split, p);
    psg_array_free(&inputs);
    psg_array_free(&labels);
    return r;
}

/* The further columns of a split, each from its own file. */
static int load_columns(const struct dataset_spec *spec, int root, struct data *data,
                        enum data_split split, struct problem *p)
{
    int r = 0;
    for (size_t i = 0; i < spec->n_columns && r == 0; i++) {
        const struct dataset_column *c = &spec->columns[i];
        struct psg_array array = { 0 };
        _cleanup_free_ void *moved = NULL;
        char pointer[64];
        if (split == DATA_TEST && c->kind == DATASET_COLUMN_USER)
            continue;
        snprintf(pointer, sizeof pointer, "/columns/%zu/%s", i,
                 split == DATA_TRAIN ? "train" : "test");
        r = read_array(spec, root, split == DATA_TRAIN ? c->train : c->test, pointer, &array, p);
        if (r == 0)
            r = records_first(&array, c->record_axis, pointer, &moved, p);
        if (r == 0)
            r = data_column_take(spec, i, &array, split, pointer, data, p);
        psg_array_free(&array);
    }
    return r;
}

/* The number of the last column, from the first line of the file. */
static int last_column(int fd, char delimiter)
{
    char buf[4096];
    int n = 0;
    off_t at = 0;
    for (ssize_t got; (got = pread(fd, buf, sizeof buf, at)) > 0; at += got)
        for (ssize_t i = 0; i < got; i++) {
            if (buf[i] == '\n' || n > 1000000)
                return n;
            n += buf[i] == delimiter;
        }
    return n;
}

/* Numbers of columns as the reader wants them. */
struct csv_names {
    size_t n;
    const char **name;
    char (*text)[24];
};

static void csv_names_clear(struct csv_names *names)
{
    free(names->name);
    free(names->text);
}

static int csv_names_open(struct csv_names *names, size_t most, struct problem *p)
{
    names->name = calloc(most + 1, sizeof *names->name);
    names->text = calloc(most + 1, sizeof *names->text);
    return names->name && names->text ? 0 : error_nomem(p);
}

static void csv_names_add(struct csv_names *names, int64_t column)
{
    snprintf(names->text[names->n], sizeof names->text[0], "%lld", (long long)column);
    names->name[names->n] = names->text[names->n];
    names->n++;
}

/* What is left for the inputs: neither the label nor one of the further columns. */
static int csv_names_of_inputs(struct csv_names *names, const struct dataset_spec *spec,
                               int64_t label, int last, struct problem *p)
{
    _cleanup_free_ bool *taken = calloc((size_t)last + 1, sizeof *taken);
    int r = csv_names_open(names, (size_t)last + 1, p);
    if (!taken || r)
        return error_nomem(p);
    for (size_t i = 0; i < spec->n_columns; i++)
        for (size_t k = 0; k < spec->columns[i].n_columns; k++)
            if (spec->columns[i].columns[k] <= last)
                taken[spec->columns[i].columns[k]] = true;
    for (int k = 0; k <= last; k++)
        if (k != label && !taken[k])
            csv_names_add(names, k);
    return 0;
}

static int read_csv(int fd, const struct psg_csv_options *options, const char *pointer,
                    struct psg_array *features, struct psg_array *label, struct problem *p)
{
    struct fd_path path = path_of(fd);
    struct psg_error err;
    if (psg_csv_read(path.text, options, features, label, &err) < 0)
        return refuse_file(pointer, &err, p);
    return 0;
}

static int load_csv_columns(const struct dataset_spec *spec, int fd, char delimiter,
                            struct data *data, enum data_split split, struct problem *p)
{
    int r = 0;
    for (size_t i = 0; i < spec->n_columns && r == 0; i++) {
        const struct dataset_column *c = &spec->columns[i];
        _cleanup_(csv_names_clear) struct csv_names names = { 0 };
        struct psg_array values = { 0 }, none = { 0 };
        char pointer[64];
        if (split == DATA_TEST && c->kind == DATASET_COLUMN_USER)
            continue;
        snprintf(pointer, sizeof pointer, "/columns/%zu/columns", i);
        r = csv_names_open(&names, c->n_columns, p);
        for (size_t k = 0; k < c->n_columns && r == 0; k++)
            csv_names_add(&names, c->columns[k]);
        struct psg_csv_options options = { .delimiter = delimiter,
                                           .header = spec->csv.header,
                                           .column = names.name,
                                           .n_columns = names.n };
        if (r == 0)
            r = read_csv(fd, &options, pointer, &values, &none, p);
        if (r == 0)
            r = data_column_take(spec, i, &values, split, pointer, data, p);
        psg_array_free(&values);
        psg_array_free(&none);
    }
    return r;
}

static int load_csv(const struct dataset_spec *spec, int root, const char *name,
                    const char *pointer, struct data *data, enum data_split split,
                    struct problem *p)
{
    _cleanup_(closep) int fd = -1;
    _cleanup_(csv_names_clear) struct csv_names names = { 0 };
    int r = open_beneath(root, name, pointer, &fd, p);
    if (r)
        return r;
    char delimiter = spec->csv.separator ? spec->csv.separator[0] : ',';
    int last = last_column(fd, delimiter);
    int64_t column = spec->csv.label_column >= 0 ? spec->csv.label_column : last;
    char label[24];
    snprintf(label, sizeof label, "%lld", (long long)column);
    struct psg_csv_options options = { .delimiter = delimiter,
                                       .header = spec->csv.header,
                                       .label = label };
    if (spec->n_columns) {
        r = csv_names_of_inputs(&names, spec, column, last, p);
        options.column = names.name;
        options.n_columns = names.n;
    }
    struct psg_array inputs = { 0 }, labels = { 0 };
    if (r == 0)
        r = read_csv(fd, &options, pointer, &inputs, &labels, p);
    if (r == 0)
        r = take_inputs(spec, &inputs, pointer, data, split, p);
    if (r == 0)
        r = take_labels(spec, &labels, pointer, data, split, p);
    psg_array_free(&inputs);
    psg_array_free(&labels);
    return r ? r : load_csv_columns(spec, fd, delimiter, data, split, p);
}

int data_load_files(const struct dataset_spec *spec, int root, struct data *data,
                    struct problem *p)
{
    const struct dataset_files *f = &spec->files;
    int r = data_columns_open(spec, data, p);
    if (r)
        return r;
    if (spec->format == DATASET_CSV) {
        r = load_csv(spec, root, f->train, "/files/train", data, DATA_TRAIN, p);
        if (r == 0 && f->test)
            r = load_csv(spec, root, f->test, "/files/test", data, DATA_TEST, p);
        return r;
    }
    static const char *const train[] = { "/files/train_inputs", "/files/train_labels" };
    static const char *const test[] = { "/files/test_inputs", "/files/test_labels" };
    r = load_pair(spec, root, (const char *const[]){ f->train_inputs, f->train_labels }, train,
                      data, DATA_TRAIN, p);
    if (r == 0 && f->test_inputs)
        r = load_pair(spec, root, (const char *const[]){ f->test_inputs, f->test_labels }, test,
                      data, DATA_TEST, p);
    if (r == 0)
        r = load_columns(spec, root, data, DATA_TRAIN, p);
    if (r == 0 && f->test_inputs)
        r = load_columns(spec, root, data, DATA_TEST, p);
    return r;
}
