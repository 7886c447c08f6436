/* Per-sample gradients of one case against its reference. */
#include "grads.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void fixture_fail(struct fixture *f, const char *fmt, ...)
{
    if (f->out->why[0])
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->out->why, sizeof f->out->why, fmt, args);
    va_end(args);
}

double tensor_largest(const struct tensor *t, int64_t first, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(tensor_at(t, first + i)));
    return largest;
}

void fixture_compare(struct fixture *f, const char *what, const double *got,
                     const struct tensor *ref, int64_t first, int64_t n, double tolerance,
                     double scale)
{
    if (!ref || first + n > ref->size) {
        fixture_fail(f, "the reference has no %s of %lld numbers", what, (long long)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double want = tensor_at(ref, first + i), error = fabs(got[i] - want);
        double over = error == 0 ? 0 : error / (tolerance * scale);
        if (!(over <= f->out->worst)) {
            f->out->worst = over;
            snprintf(f->out->worst_at, sizeof f->out->worst_at, "%s[%lld]", what,
                     (long long)(first + i));
        }
        if (!(over <= 1))
            fixture_fail(f, "%s[%lld] is %.9g, should be %.9g (scale %.3g, tolerance %.2g)",
                         what, (long long)(first + i), got[i], want, scale, tolerance);
    }
}

static enum psg_column_type column_type(const struct tensor *t)
{
    if (t->dtype[0] == 'I')
        return strcmp(t->dtype, "I64") == 0 ? PSG_COL_I64 : PSG_COL_I32;
    if (t->dtype[0] == 'F')
        return strcmp(t->dtype, "F64") == 0 ? PSG_COL_F64 : PSG_COL_F32;
    return PSG_COL_U8;
}

static size_t column_bytes(enum psg_column_type type)
{
    return type == PSG_COL_U8 ? 1 : type == PSG_COL_F32 || type == PSG_COL_I32 ? 4 : 8;
}

/* A stored tensor as a column of records along any axis. */
static struct psg_column column_of(const struct tensor *t, int axis)
{
    int64_t inner = 1;
    for (int i = axis + 1; i < t->rank; i++)
        inner *= t->dim[i];
    enum psg_column_type type = column_type(t);
    struct psg_column c = { .type = type,
                            .data = t->data,
                            .stride = (size_t)inner * column_bytes(type) };
    if (axis > 0) {
        c.inner = inner;
        c.outer_stride = inner * t->dim[axis];
    }
    return c;
}

static bool load_params(struct fixture *f)
{
    f->params = calloc((size_t)psg_program_param_size(f->program) + 1, sizeof *f->params);
    if (!f->params)
        return false;
    for (int i = 0; i < psg_program_n_params(f->program); i++) {
        const struct psg_param_info *p = psg_program_param(f->program, i);
        const struct tensor *t = case_tensor(f->c, "param.%s", p->name);
        if (!t || t->size != p->size) {
            fixture_fail(f, "parameter %s: the case has %s", p->name,
                         t ? "another size" : "none of that name");
            return false;
        }
        for (int64_t k = 0; k < p->size; k++)
            f->params[p->offset + k] = (psg_real)tensor_at(t, k);
    }
    return true;
}

bool fixture_open(struct fixture *f, const struct golden_case *c, enum psg_mode mode,
                  const struct psg_backend *backend, const int *group, int n_groups,
                  bool input_grads, struct outcome *out)
{
    struct psg_error err = { 0 };
    *f = (struct fixture){ .c = c, .out = out };
    if (case_program(c, &f->program, &err)) {
        fixture_fail(f, "%s: %s", err.place, err.text);
        return false;
    }
    struct psg_plan_options options = { .mode = mode,
                                        .backend = backend,
                                        .n_threads = 2,
                                        .tile = 3,
                                        .group = group,
                                        .n_groups = n_groups,
                                        .input_grads = input_grads };
    if (psg_plan_new(f->program, &options, &f->plan, &err)) {
        fixture_fail(f, "plan: %s: %s", err.place, err.text);
        return false;
    }
    int n_inputs = psg_program_n_inputs(f->program);
    for (int i = 0; i < n_inputs && i < 16; i++) {
        const char *name = psg_program_input_info(f->program, i)->name;
        const struct tensor *t = i == n_inputs - 1 ? case_tensor(c, "target")
                                                   : case_tensor(c, "input.%s", name);
        f->column[i] = column_of(t, case_batch_axis(c, i));
    }
    return load_params(f);
}

void fixture_close(struct fixture *f)
{
    psg_plan_free(f->plan);
    psg_program_free(f->program);
    free(f->params);
}

static double *to_double(const psg_real *x, int64_t n)
{
    double *y = calloc((size_t)n + 1, sizeof *y);
    for (int64_t i = 0; y && i < n; i++)
        y[i] = (double)x[i];
    return y;
}

static void compare_reals(struct fixture *f, const char *what, const psg_real *got, int64_t n,
                          const struct tensor *ref, double tolerance, double scale)
{
    _cleanup_free_ double *x = to_double(got, n);
    if (!x)
        fixture_fail(f, "out of memory");
    else
        fixture_compare(f, what, x, ref, 0, n, tolerance, scale);
}

/* float64 builds are held to the stored precision of the reference. */
static double tolerance_for(const struct tensor *ref, double float_tolerance)
{
    if (sizeof(psg_real) == sizeof(float))
        return float_tolerance;
    return ref && strcmp(ref->dtype, "F64") == 0 ? 1e-10 : 1e-7;
}

static double own_tolerance(const struct golden_case *c)
{
    double worst = 0;
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(json_object_get(c->info, "float32_error"), "grad"), key,
                        value)
        worst = fmax(worst, json_number_value(value));
    return fmax(10 * worst, 2e-6);
}

static double largest_gradient(const struct golden_case *c)
{
    double largest = 0;
    for (int i = 0; i < c->n_tensors; i++)
        if (strncmp(c->tensors[i].name, "grad", 4) == 0)
            largest = fmax(largest, tensor_largest(&c->tensors[i], 0, c->tensors[i].size));
    return largest;
}

static void compare_params(struct fixture *f, int64_t n, const psg_real *rows)
{
    double overall = largest_gradient(f->c);
    int64_t length = psg_program_trainable_size(f->program);
    double tolerance = f->out->tolerance > 0 ? f->out->tolerance : own_tolerance(f->c);
    for (int i = 0; i < psg_program_n_params(f->program); i++) {
        const struct psg_param_info *p = psg_program_param(f->program, i);
        if (!p->trainable)
            continue;
        const struct tensor *ref = case_tensor(f->c, "grad.%s", p->name);
        _cleanup_free_ psg_real *got = calloc((size_t)(n * p->size) + 1, sizeof *got);
        for (int64_t s = 0; got && s < n; s++)
            memcpy(got + s * p->size, rows + s * length + p->offset,
                   (size_t)p->size * sizeof *got);
        if (!got || !ref) {
            fixture_fail(f, "no reference gradient of %s", p->name);
            return;
        }
        compare_reals(f, ref->name, got, n * p->size, ref, tolerance_for(ref, tolerance),
                      fmax(tensor_largest(ref, 0, ref->size), 0.01 * overall));
    }
}

/* Stored input gradients have the input's own batch axis; ours have it first. */
static void compare_input(struct fixture *f, int i, int64_t n, const psg_real *got)
{
    const struct psg_input_info *in = psg_program_input_info(f->program, i);
    const struct tensor *ref = case_tensor(f->c, "grad_input.%s", in->name);
    int64_t size = psg_shape_size(&in->type.shape), inner = 1, axis = case_batch_axis(f->c, i);
    if (!ref)
        return;
    for (int d = (int)axis + 1; d < ref->rank; d++)
        inner *= ref->dim[d];
    _cleanup_free_ psg_real *moved = calloc((size_t)(n * size) + 1, sizeof *moved);
    for (int64_t s = 0; moved && s < n; s++)
        for (int64_t e = 0; e < size; e++)
            moved[(e / inner * n + s) * inner + e % inner] = got[s * size + e];
    double tolerance = f->out->tolerance > 0 ? f->out->tolerance : own_tolerance(f->c);
    if (moved)
        compare_reals(f, ref->name, moved, n * size, ref, tolerance_for(ref, tolerance),
                      fmax(tensor_largest(ref, 0, ref->size), 0.01 * largest_gradient(f->c)));
}

static void compare_all(struct fixture *f, int64_t n, const struct psg_grad_out *out,
                        int64_t out_size)
{
    const struct tensor *loss = case_tensor(f->c, "loss"), *norm = case_tensor(f->c, "norm"),
                        *output = case_tensor(f->c, "output");
    _cleanup_free_ psg_real *norms = calloc((size_t)n + 1, sizeof *norms);
    for (int64_t s = 0; norms && s < n; s++)
        norms[s] = (psg_real)sqrt(out->sqnorm[s]);
    if (!norms || !loss || !norm || !output) {
        fixture_fail(f, "the case lacks loss, norm or output");
        return;
    }
    compare_reals(f, "output", out->output, n * out_size, output, tolerance_for(output, 5e-6),
                  tensor_largest(output, 0, output->size));
    compare_reals(f, "loss", out->loss, n, loss, tolerance_for(loss, 5e-6),
                  tensor_largest(loss, 0, n));
    compare_reals(f, "norm", norms, n, norm, tolerance_for(norm, 5e-6),
                  tensor_largest(norm, 0, n));
    compare_params(f, n, out->rows);
    for (int i = 0; i < psg_program_n_inputs(f->program) - 1; i++)
        if (out->input_grad[i])
            compare_input(f, i, n, out->input_grad[i]);
}

static void per_sample_check(struct fixture *f)
{
    int64_t n = (int64_t)case_real(f->c->info, "batch", 0);
    int64_t length = psg_program_trainable_size(f->program);
    int64_t out_size = psg_shape_size(&psg_program_output_type(f->program)->shape);
    int n_inputs = psg_program_n_inputs(f->program);
    psg_real *input_grad[16] = { NULL };
    struct psg_grad_out out = {
        .rows = calloc((size_t)(n * length) + 1, sizeof(psg_real)),
        .sqnorm = calloc((size_t)n + 1, sizeof(double)),
        .loss = calloc((size_t)n + 1, sizeof(psg_real)),
        .output = calloc((size_t)(n * out_size) + 1, sizeof(psg_real)),
        .input_grad = input_grad,
    };
    for (int i = 0; i < n_inputs - 1 && i < 16; i++) {
        const struct psg_type *type = &psg_program_input_info(f->program, i)->type;
        if (type->dtype == PSG_REAL)
            input_grad[i] = calloc((size_t)(n * psg_shape_size(&type->shape)) + 1,
                                   sizeof(psg_real));
    }
    struct psg_key key;
    psg_key_from_seed(1, &key);
    struct psg_records records = { .n = n, .column = f->column, .key = &key };
    struct psg_error err = { 0 };
    if (psg_grad_sample(f->plan, f->params, &records, &out, &err))
        fixture_fail(f, "%s: %s", err.place, err.text);
    else
        compare_all(f, n, &out, out_size);
    for (int i = 0; i < 16; i++)
        free(input_grad[i]);
    free(out.rows);
    free(out.sqnorm);
    free(out.loss);
    free(out.output);
}

void case_check(const struct golden_case *c, enum psg_mode mode,
                const struct psg_backend *backend, struct outcome *out)
{
    if (json_object_get(c->info, "dp")) {
        trajectory_check(c, mode, backend, out);
        return;
    }
    struct fixture f;
    if (fixture_open(&f, c, mode, backend, NULL, 0, true, out))
        per_sample_check(&f);
    fixture_close(&f);
}
