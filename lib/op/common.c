#include "op/common.h"

#include <math.h>

int64_t op_prod(struct psg_infer *c, int n, const int64_t *v)
{
    int64_t size = 1;
    bool overflow = false;
    for (int i = 0; i < n; i++)
        overflow |= __builtin_mul_overflow(size, v[i], &size);
    if (!overflow)
        return size;
    psg_infer_fail(c, PSG_E_SHAPE, NULL, "the shapes are too large");
    return 0;
}

int64_t op_span(const struct psg_shape *s, int from, int to)
{
    int64_t size = 1;
    for (int i = from; i < to; i++)
        size *= s->dim[i];
    return size;
}

bool op_need_dtype(struct psg_infer *c, int i, enum psg_dtype dtype, const char *name)
{
    if (c->in[i].dtype == dtype)
        return true;
    psg_infer_fail(c, PSG_E_SHAPE, NULL, "input %d (%s) must be %s", i, name,
                   dtype == PSG_I64 ? "int64" : "real numbers");
    return false;
}

int op_axis(struct psg_infer *c, const char *attr, int64_t value, int rank)
{
    int64_t axis = value < 0 ? value + rank + 1 : value;
    if (axis == 0) {
        psg_infer_fail(
            c, PSG_E_INVALID, attr,
            "dimension 0 is the batch, which may not be touched; the first axis of a "
            "sample is 1");
        return 0;
    }
    if (axis < 0 || axis > rank) {
        psg_infer_fail(c, PSG_E_RANGE, attr,
                       "dimension %lld of an input with %d (batch "
                       "included)",
                       (long long)value, rank + 1);
        return 0;
    }
    return (int)axis - 1;
}

void op_check_input_flag(struct psg_infer *c, const char *name, bool is_there)
{
    if (psg_infer_bool(c, name, is_there) != is_there)
        psg_infer_fail(c, PSG_E_INVALID, name, "%s disagrees with the inputs", name);
}

struct psg_init op_init_fan_in(int64_t fan_in)
{
    double bound = fan_in > 0 ? 1 / sqrt((double)fan_in) : 0;
    return (struct psg_init){ .kind = PSG_INIT_UNIFORM, .value = bound };
}

struct psg_init op_init_constant(double value)
{
    return (struct psg_init){ .kind = PSG_INIT_CONSTANT, .value = value };
}

int op_param(struct psg_infer *c, const char *role, struct psg_shape shape,
             struct psg_init init)
{
    return psg_infer_param(c, role, &shape, init);
}

int op_out(struct psg_infer *c, struct psg_shape shape)
{
    return psg_infer_out(c, PSG_REAL, &shape);
}

int64_t op_conv_scratch(const struct psg_conv *conv)
{
    static const char *const names[] = { "ref", "cpu", "cuda" };
    int64_t size = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct psg_backend *be = psg_backend_find(names[i]);
        int64_t need = be ? be->conv_scratch(conv) : 0;
        size = need > size ? need : size;
    }
    return size;
}

/* ---- call ---- */
void op_binary(const struct psg_backend *be, enum psg_binary f, int64_t n,
               const psg_real *a, const psg_real *b, psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(n);
    const int64_t one = 1;
    be->binary(f, &shape, a, &one, b, &one, y);
}

void op_binary_scalar(const struct psg_backend *be, enum psg_binary f, int64_t n,
                      const psg_real *a, const psg_real *s, psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(n);
    const int64_t one = 1, zero = 0;
    be->binary(f, &shape, a, &one, s, &zero, y);
}

void op_binary_rows(const struct psg_backend *be, enum psg_binary f, int64_t rows,
                    int64_t dim, const psg_real *a, const psg_real *v, psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(rows, dim);
    be->binary(f, &shape, a, (const int64_t[]){ dim, 1 }, v, (const int64_t[]){ 1, 0 }, y);
}

void op_binary_cols(const struct psg_backend *be, enum psg_binary f, int64_t rows,
                    int64_t dim, const psg_real *a, const psg_real *v, psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(rows, dim);
    be->binary(f, &shape, a, (const int64_t[]){ dim, 1 }, v, (const int64_t[]){ 0, 1 }, y);
}

void op_binary_channels(const struct psg_backend *be, enum psg_binary f, int64_t n,
                        int64_t c, int64_t s, const psg_real *a, const psg_real *v,
                        psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(n, c, s);
    be->binary(f, &shape, a, (const int64_t[]){ c * s, s, 1 }, v,
               (const int64_t[]){ 0, 1, 0 }, y);
}

void op_scale(const struct psg_backend *be, int64_t n, double alpha, const psg_real *x,
              psg_real *y)
{
    be->fill(n, 0, y);
    be->axpy(n, (psg_real)alpha, x, y);
}

void op_fill_list(const struct psg_backend *be, int64_t n, const double *value, psg_real *y)
{
    for (int64_t at = 0; at < n;) {
        int64_t end = at + 1;
        while (end < n && value[end] == value[at])
            end++;
        be->fill(end - at, (psg_real)value[at], y + at);
        at = end;
    }
}

void op_iota(const struct psg_backend *be, int64_t n, psg_real *y, psg_real *number)
{
    if (n > 0)
        be->fill(1, 0, y);
    for (int64_t have = 1; have < n; have *= 2) {
        int64_t more = have < n - have ? have : n - have;
        be->fill(1, (psg_real)have, number);
        op_binary_scalar(be, PSG_ADD, more, y, number, y + have);
    }
}

void op_copy(const struct psg_backend *be, int64_t n, const psg_real *x, psg_real *y)
{
    op_copy_rows(be, 1, n, x, n, y, n);
}

void op_copy_rows(const struct psg_backend *be, int64_t n, int64_t d, const psg_real *src,
                  int64_t src_stride, psg_real *dst, int64_t dst_stride)
{
    struct psg_shape shape = PSG_SHAPE(n, d);
    be->copy(&shape, sizeof(psg_real), src, (const int64_t[]){ src_stride, 1 }, dst,
             (const int64_t[]){ dst_stride, 1 });
}

void op_swap(const struct psg_backend *be, int64_t a, int64_t b, int64_t c,
             const psg_real *x, psg_real *y)
{
    struct psg_shape shape = PSG_SHAPE(a, c, b);
    be->copy(&shape, sizeof(psg_real), x, (const int64_t[]){ b * c, 1, c }, y,
             (const int64_t[]){ b * c, b, 1 });
}

void op_scale_rows(const struct psg_backend *be, int64_t n, int64_t p, const psg_real *w,
                   const psg_real *x, psg_real *y)
{
    be->fill(n * p, 0, y);
    for (int64_t i = 0; i < n; i++)
        be->add_weighted(1, p, w + i, x + i * p, p, y + i * p);
}

void op_keep_rows(const struct psg_backend *be, int64_t n, int64_t p, const psg_real *w,
                  const psg_real *x, psg_real *mask, psg_real *y)
{
    be->fill(n, 0, mask);
    op_binary(be, PSG_NE, n, w, mask, mask);
    op_scale_rows(be, n, p, mask, x, y);
}

void op_sum_space(const struct psg_backend *be, int64_t n, int64_t c, int64_t s,
                  const psg_real *x, psg_real *dst, int64_t stride, psg_real *tmp)
{
    be->sum_rows(n * c, s, 1, x, tmp, 1);
    op_copy_rows(be, n, c, tmp, c, dst, stride);
}

/* rows of parameter r alone */
static void one_param_rows(const struct psg_call *c,
                           void (*grad_sample)(const struct psg_call *), int r,
                           int64_t size, psg_real *room)
{
    psg_real *grad[OP_FEW] = { NULL };
    struct psg_call k = *c;
    grad[r] = room;
    k.grad = grad;
    k.grad_stride = size;
    grad_sample(&k);
}

void op_rows_norm_sample(const struct psg_call *c,
                         void (*grad_sample)(const struct psg_call *), int n_params,
                         const int64_t *size, psg_real *room)
{
    for (int r = 0; r < n_params; r++) {
        if (!c->use[r])
            continue;
        one_param_rows(c, grad_sample, r, size[r], room);
        c->be->add_sqnorm(c->n, size[r], room, size[r], c->sq);
    }
}

void op_rows_clipped_sum(const struct psg_call *c,
                         void (*grad_sample)(const struct psg_call *), int n_params,
                         const int64_t *size, psg_real *room)
{
    for (int r = 0; r < n_params; r++) {
        if (!c->sum[r])
            continue;
        one_param_rows(c, grad_sample, r, size[r], room);
        c->be->add_weighted(c->n, size[r], c->weight, room, size[r], c->sum[r]);
    }
}

/* ---- lower ---- */
struct psg_shape op_graph_shape(const struct psg_lower *l, psg_value v)
{
    if (v == PSG_NONE)
        return (struct psg_shape){ 0 };
    return psg_graph_type(l->g, v)->shape;
}

psg_value op_reshape(struct psg_lower *l, psg_value v, int rank, const int64_t *dim)
{
    struct psg_shape shape = psg_shape_make(rank, dim);
    return psg_g_reshape(l->g, v, &shape);
}

psg_value op_g_full(struct psg_lower *l, int rank, const int64_t *dim, double value)
{
    struct psg_shape shape = psg_shape_make(rank, dim);
    return psg_g_full(l->g, &shape, value);
}

psg_value op_g_t(struct psg_lower *l, psg_value v)
{
    return psg_g_transpose(l->g, v, (const int[]){ 1, 0 });
}

psg_value op_g_list(struct psg_lower *l, int64_t n, const double *value)
{
    struct psg_type type = { PSG_REAL, PSG_SHAPE(n) };
    psg_real data[OP_LIST_MAX];
    for (int64_t i = 0; i < n && i < OP_LIST_MAX; i++)
        data[i] = (psg_real)value[i];
    return psg_g_constant(l->g, &type, data);
}

psg_value op_g_unsqueeze(struct psg_lower *l, psg_value v, int axis)
{
    struct psg_shape s = op_graph_shape(l, v), t = { .rank = s.rank + 1 };
    for (int i = 0; i < t.rank; i++)
        t.dim[i] = i < axis ? s.dim[i] : i == axis ? 1 : s.dim[i - 1];
    return psg_g_reshape(l->g, v, &t);
}

psg_value op_g_first_max(struct psg_lower *l, psg_value v, int axis)
{
    struct psg_shape s = op_graph_shape(l, v);
    psg_value at = op_g_unsqueeze(l, psg_g_argmax(l->g, v, axis), axis);
    return psg_g_binary(l->g, PSG_EQ, psg_g_iota(l->g, &s, axis), at);
}

psg_value op_g_max_first(struct psg_lower *l, psg_value v, int axis)
{
    psg_value kept =
        psg_g_select(l->g, op_g_first_max(l, v, axis), v, psg_g_scalar(l->g, 0));
    return psg_g_sum(l->g, kept, 1u << axis);
}

psg_value op_g_softmax(struct psg_lower *l, psg_value v, int axis, bool log)
{
    struct psg_graph *g = l->g;
    /* the shift by the maximum changes nothing but the range of exp; a row of -inf stays as
     * it is */
    psg_value zero = psg_g_scalar(g, 0);
    psg_value top = op_g_unsqueeze(l, psg_g_reduce(g, PSG_REDUCE_MAX, v, 1u << axis), axis);
    psg_value none = psg_g_binary(g, PSG_EQ, top, psg_g_scalar(g, -INFINITY));
    psg_value x = psg_g_sub(g, v, psg_g_select(g, none, zero, psg_g_detach(g, top)));
    psg_value e = psg_g_exp(g, x);
    psg_value sum = op_g_unsqueeze(l, psg_g_sum(g, e, 1u << axis), axis);
    sum = psg_g_add(g, sum, none);
    if (log)
        return psg_g_sub(g, x, psg_g_log(g, sum));
    return psg_g_div(g, e, sum);
}
