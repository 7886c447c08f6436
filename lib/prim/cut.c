/* slice, pad, concat. A slice is a view; the other two copy into their place. */
#include "prim/prim.h"

#include <stdlib.h>
#include <string.h>

/* ---- building ---- */

static int64_t slice_count(int64_t start, int64_t limit, int64_t stride)
{
    return limit > start ? (limit - start - 1) / stride + 1 : 0;
}

psg_value psg_g_slice(struct psg_graph *g, psg_value x, const int64_t *start,
                      const int64_t *limit, const int64_t *stride)
{
    struct attr_slice a;
    bool all = true;
    if (!prim_operands_ok(g, &x, 1, "slice"))
        return PSG_NONE;
    memset(&a, 0, sizeof a);
    struct psg_type type = *prim_type(g, x);
    for (int i = 0; i < type.shape.rank; i++) {
        int64_t n = type.shape.dim[i];
        if (start[i] < 0 || limit[i] < start[i] || limit[i] > n || stride[i] < 1)
            return prim_fail(g, PSG_E_SHAPE, "slice: axis %d of length %lld from %lld to %lld"
                             " in steps of %lld", i, (long long)n, (long long)start[i],
                             (long long)limit[i], (long long)stride[i]);
        a.start[i] = start[i];
        a.limit[i] = limit[i];
        a.stride[i] = stride[i];
        type.shape.dim[i] = slice_count(start[i], limit[i], stride[i]);
        all &= type.shape.dim[i] == n;
    }
    if (all)
        return x;
    return prim_append(g, PRIM_SLICE, &x, 1, &a, sizeof a, &type, 1);
}

/* lo + n + (n - 1) * interior + hi; false when it overflows */
static bool padded_length(int64_t n, int64_t lo, int64_t hi, int64_t interior, int64_t *out)
{
    int64_t gaps = 0;
    return !(n > 1 && __builtin_mul_overflow(n - 1, interior, &gaps)) &&
           !__builtin_add_overflow(gaps, n, &gaps) &&
           !__builtin_add_overflow(gaps, lo, &gaps) && !__builtin_add_overflow(gaps, hi, out);
}

psg_value psg_g_pad(struct psg_graph *g, psg_value x, const int64_t *lo, const int64_t *hi,
                    const int64_t *interior, double value)
{
    struct attr_pad a;
    bool none = true;
    if (!prim_operands_ok(g, &x, 1, "pad"))
        return PSG_NONE;
    memset(&a, 0, sizeof a);
    a.value = value;
    struct psg_type type = *prim_type(g, x);
    if (type.dtype != PSG_REAL)
        return prim_fail(g, PSG_E_SHAPE, "pad: the operand is int64, real numbers are needed");
    for (int i = 0; i < type.shape.rank; i++) {
        int64_t n = type.shape.dim[i];
        if (lo[i] < 0 || hi[i] < 0 || interior[i] < 0 ||
            !padded_length(n, lo[i], hi[i], interior[i], &type.shape.dim[i]))
            return prim_fail(g, PSG_E_SHAPE, "pad: axis %d of length %lld by %lld, %lld and"
                             " %lld", i, (long long)n, (long long)lo[i], (long long)hi[i],
                             (long long)interior[i]);
        a.lo[i] = lo[i];
        a.hi[i] = hi[i];
        a.interior[i] = n > 1 ? interior[i] : 0;
        none &= type.shape.dim[i] == n;
    }
    if (none)
        return x;
    return prim_append(g, PRIM_PAD, &x, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_concat(struct psg_graph *g, const psg_value *x, int n, int axis)
{
    struct attr_axis a = { axis };
    if (!prim_operands_ok(g, x, n, "concat"))
        return PSG_NONE;
    if (n < 1)
        return prim_fail(g, PSG_E_SHAPE, "concat: no operands");
    struct psg_type type = *prim_type(g, x[0]);
    if (axis < 0 || axis >= type.shape.rank)
        return prim_fail(g, PSG_E_SHAPE, "concat: axis %d of rank %d", axis, type.shape.rank);
    for (int i = 1; i < n; i++) {
        const struct psg_type *t = prim_type(g, x[i]);
        bool fits = t->dtype == type.dtype && t->shape.rank == type.shape.rank;
        for (int k = 0; fits && k < type.shape.rank; k++)
            fits = k == axis || t->shape.dim[k] == type.shape.dim[k];
        if (!fits || __builtin_add_overflow(type.shape.dim[axis], t->shape.dim[axis],
                                            &type.shape.dim[axis])) {
            char s[160];
            return prim_fail(g, PSG_E_SHAPE, "concat: operand %d of shape %s does not fit", i,
                             psg_shape_text(&t->shape, s, sizeof s));
        }
    }
    if (n == 1)
        return x[0];
    return prim_append(g, PRIM_CONCAT, x, n, &a, sizeof a, &type, 1);
}

/* ---- execution ---- */

static bool slice_view(const struct psg_graph *g, const struct prim_node *node,
                       const struct prim_arg *in, struct prim_arg *out)
{
    const struct attr_slice *a = node->attr;
    const struct psg_shape *to = &out->type->shape;
    int64_t size = (int64_t)psg_dtype_size(in->type->dtype);
    bool empty = psg_shape_size(to) == 0;
    (void)g;
    for (int i = 0; i < to->rank; i++) {
        out->stride[i] = to->dim[i] == 1 || empty ? 0 : in->stride[i] * a->stride[i];
        if (!empty)
            out->offset += a->start[i] * in->stride[i] * size;
    }
    return true;
}

static void pad_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_pad *a = s->node->attr;
    const struct psg_shape *from = &s->in[0].type->shape;
    int64_t dense[PSG_MAX_RANK], stride[PSG_MAX_RANK], at = 0;
    psg_real *y = prim_ptr(x, &s->out[0]);
    x->be->fill(prim_size(&s->out[0]), (psg_real)a->value, y);
    if (psg_shape_size(from) == 0)
        return;
    psg_shape_strides(&s->out[0].type->shape, dense);
    for (int i = 0; i < from->rank; i++) {
        at += a->lo[i] * dense[i];
        stride[i] = dense[i] * (a->interior[i] + 1);
    }
    x->be->copy(from, sizeof *y, prim_ptr(x, &s->in[0]), s->in[0].stride, y + at, stride);
}

static void concat_run(const struct prim_ctx *x, const struct prim_step *s)
{
    int axis = ((const struct attr_axis *)s->node->attr)->axis;
    int64_t dense[PSG_MAX_RANK], at = 0;
    size_t size = psg_dtype_size(s->out[0].type->dtype);
    psg_shape_strides(&s->out[0].type->shape, dense);
    char *y = prim_ptr(x, &s->out[0]);
    for (int i = 0; i < s->n_in; i++) {
        const struct psg_shape *from = &s->in[i].type->shape;
        if (psg_shape_size(from) > 0)
            x->be->copy(from, size, prim_ptr(x, &s->in[i]), s->in[i].stride,
                        y + at * dense[axis] * (int64_t)size, dense);
        at += from->dim[axis];
    }
}

/* ---- reverse mode ---- */

static void slice_vjp(const struct prim_vjp *d)
{
    const struct attr_slice *a = d->node->attr;
    struct psg_shape from = *prim_shape(d->g, d->in[0]), to = *prim_shape(d->g, d->out[0]);
    int64_t hi[PSG_MAX_RANK], gap[PSG_MAX_RANK];
    if (psg_shape_size(&to) == 0) {
        d->din[0] = psg_g_full(d->g, &from, 0.0);
        return;
    }
    for (int i = 0; i < from.rank; i++) {
        gap[i] = a->stride[i] - 1;
        hi[i] = from.dim[i] - (a->start[i] + (to.dim[i] - 1) * a->stride[i] + 1);
    }
    d->din[0] = psg_g_pad(d->g, d->ct[0], a->start, hi, gap, 0.0);
}

static void pad_vjp(const struct prim_vjp *d)
{
    const struct attr_pad *a = d->node->attr;
    struct psg_shape from = *prim_shape(d->g, d->in[0]);
    int64_t limit[PSG_MAX_RANK], stride[PSG_MAX_RANK];
    for (int i = 0; i < from.rank; i++) {
        stride[i] = from.dim[i] > 1 ? a->interior[i] + 1 : 1;
        limit[i] = from.dim[i] ? a->lo[i] + (from.dim[i] - 1) * stride[i] + 1 : a->lo[i];
    }
    d->din[0] = psg_g_slice(d->g, d->ct[0], a->lo, limit, stride);
}

static void concat_vjp(const struct prim_vjp *d)
{
    int axis = ((const struct attr_axis *)d->node->attr)->axis;
    struct psg_shape whole = *prim_shape(d->g, d->out[0]);
    int64_t start[PSG_MAX_RANK] = { 0 }, limit[PSG_MAX_RANK], stride[PSG_MAX_RANK];
    for (int i = 0; i < whole.rank; i++) {
        limit[i] = whole.dim[i];
        stride[i] = 1;
    }
    limit[axis] = 0;
    for (int i = 0; i < d->node->n_in; i++) {
        start[axis] = limit[axis];
        limit[axis] += prim_shape(d->g, d->in[i])->dim[axis];
        if (d->need[i])
            d->din[i] = psg_g_slice(d->g, d->ct[0], start, limit, stride);
    }
}

/* ---- batching: the new axis is kept whole ---- */

static void widen(const int64_t *list, int rank, int64_t first, int64_t *wide)
{
    wide[0] = first;
    for (int i = 0; i < rank && i + 1 < PSG_MAX_RANK; i++)
        wide[i + 1] = list[i];
}

static void slice_batch(const struct prim_batch *b)
{
    const struct attr_slice *a = b->node->attr;
    int rank = prim_shape(b->src, b->node->out)->rank;
    int64_t start[PSG_MAX_RANK], limit[PSG_MAX_RANK], stride[PSG_MAX_RANK];
    widen(a->start, rank, 0, start);
    widen(a->limit, rank, b->size, limit);
    widen(a->stride, rank, 1, stride);
    b->out[0] = psg_g_slice(b->g, b->in[0], start, limit, stride);
}

static void pad_batch(const struct prim_batch *b)
{
    const struct attr_pad *a = b->node->attr;
    int rank = prim_shape(b->src, b->node->out)->rank;
    int64_t lo[PSG_MAX_RANK], hi[PSG_MAX_RANK], interior[PSG_MAX_RANK];
    widen(a->lo, rank, 0, lo);
    widen(a->hi, rank, 0, hi);
    widen(a->interior, rank, 0, interior);
    b->out[0] = psg_g_pad(b->g, b->in[0], lo, hi, interior, a->value);
}

static void concat_batch(const struct prim_batch *b)
{
    psg_value *x = malloc(sizeof *x * (size_t)b->node->n_in);
    if (!x) {
        prim_fail(b->g, PSG_E_NOMEM, "out of memory");
        return;
    }
    for (int i = 0; i < b->node->n_in; i++)
        x[i] = prim_batch_arg(b, i);
    b->out[0] = psg_g_concat(b->g, x, b->node->n_in,
                             1 + ((const struct attr_axis *)b->node->attr)->axis);
    free(x);
}

const struct prim prim_slice = { .name = "slice", .view = true, .strided = true,
                                 .view_of = slice_view, .vjp = slice_vjp,
                                 .batch = slice_batch };
const struct prim prim_pad = { .name = "pad", .strided = true, .run = pad_run, .vjp = pad_vjp,
                               .batch = pad_batch };
const struct prim prim_concat = { .name = "concat", .strided = true, .run = concat_run,
                                  .vjp = concat_vjp, .batch = concat_batch };
