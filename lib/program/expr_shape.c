/* Functions of formulas that move, cut and repeat tensors. */
#include <string.h>

#include "program/expr.h"

/* Whole numbers of a list (or one number): at most `most` of them, each within [lo, hi]. */
static int read_list(struct expr_eval *x, const struct expr_value *a, const char *what,
                     int most, int64_t lo, int64_t hi, int64_t *to, int *np)
{
    if (a->kind != VALUE_LIST && a->kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "%s must be a list of numbers", what);
    if (a->n > most)
        return expr_fail(x, PSG_E_INVALID, "%s has %d numbers, at most %d fit", what, a->n,
                         most);
    *np = a->n;
    for (int i = 0; i < a->n; i++) {
        struct expr_value one;
        expr_number(&one, a->number[i]);
        int r = expr_int(x, &one, what, lo, hi, &to[i]);
        if (r)
            return r;
    }
    return 0;
}

static int read_shape(struct expr_eval *x, const struct expr_value *a, int64_t lo,
                      struct psg_shape *shape)
{
    *shape = (struct psg_shape){ 0 };
    return read_list(x, a, "the shape", PSG_MAX_RANK, lo, EXPR_ELEMENTS_MAX, shape->dim,
                     &shape->rank);
}

EXPR_RUN(expr_run_size)
{
    int axis = 0;
    (void)f, (void)n;
    if (a[0].kind != VALUE_TENSOR)
        return expr_fail(x, PSG_E_INVALID, "only tensors have a size");
    struct psg_shape shape = expr_shape_of(x, a[0].v);
    if (expr_axis(x, &a[1], shape.rank, &axis))
        return x->status;
    expr_number(out, (double)shape.dim[axis]);
    return 0;
}

/* The -1 of a shape is what the other axes leave. */
EXPR_RUN(expr_run_reshape)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape from = expr_shape_of(x, v), to;
    int64_t known = 1;
    int open = -1;
    char text[96];
    (void)f, (void)n;
    if (x->status || read_shape(x, &a[1], -1, &to))
        return x->status;
    for (int i = 0; i < to.rank; i++) {
        if (to.dim[i] == -1 && open >= 0)
            return expr_fail(x, PSG_E_INVALID, "only one axis may be -1");
        if (to.dim[i] == -1)
            open = i;
        else if (__builtin_mul_overflow(known, to.dim[i], &known))
            return expr_fail(x, PSG_E_SHAPE, "the shape is too large");
    }
    int64_t size = psg_shape_size(&from);
    if (open >= 0)
        to.dim[open] = known > 0 ? size / known : 0;
    if (psg_shape_size(&to) != size)
        return expr_fail(x, PSG_E_SHAPE, "the shape does not hold the %lld numbers of %s",
                         (long long)size, psg_shape_text(&from, text, sizeof text));
    expr_tensor(out, psg_g_reshape(x->g, v, &to));
    return x->status;
}

EXPR_RUN(expr_run_flatten)
{
    psg_value v = expr_real(x, a);
    struct psg_shape shape = expr_shape_of(x, v);
    (void)f, (void)n;
    if (x->status)
        return x->status;
    expr_tensor(out, psg_g_reshape(x->g, v, &PSG_SHAPE(psg_shape_size(&shape))));
    return 0;
}

static int swap_axes(struct expr_eval *x, psg_value v, int rank, int i, int j,
                     struct expr_value *out)
{
    int perm[PSG_MAX_RANK];
    for (int k = 0; k < rank; k++)
        perm[k] = k == i ? j : k == j ? i : k;
    expr_tensor(out, psg_g_transpose(x->g, v, perm));
    return x->status;
}

EXPR_RUN(expr_run_transpose)
{
    psg_value v = expr_real(x, &a[0]);
    int rank = expr_shape_of(x, v).rank, i = 0, j = 0;
    (void)f, (void)n;
    if (x->status || expr_axis(x, &a[1], rank, &i) || expr_axis(x, &a[2], rank, &j))
        return x->status;
    return swap_axes(x, v, rank, i, j, out);
}

EXPR_RUN(expr_run_swap)
{
    psg_value v = expr_real(x, a);
    int rank = expr_shape_of(x, v).rank;
    (void)f, (void)n;
    if (x->status)
        return x->status;
    if (rank < 2)
        return expr_fail(x, PSG_E_SHAPE, ".T needs two axes");
    return swap_axes(x, v, rank, rank - 2, rank - 1, out);
}

EXPR_RUN(expr_run_permute)
{
    psg_value v = expr_real(x, &a[0]);
    int rank = expr_shape_of(x, v).rank, perm[PSG_MAX_RANK];
    unsigned axes;
    (void)f, (void)n;
    if (x->status || expr_axes(x, &a[1], rank, &axes))
        return x->status;
    if (a[1].n != rank)
        return expr_fail(x, PSG_E_SHAPE, "all %d axes must be named", rank);
    for (int i = 0; i < rank; i++)
        perm[i] = (int)a[1].number[i] + (a[1].number[i] < 0 ? rank : 0);
    expr_tensor(out, psg_g_transpose(x->g, v, perm));
    return x->status;
}

EXPR_RUN(expr_run_unsqueeze)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape from = expr_shape_of(x, v), to = { 0 };
    int axis = 0;
    (void)f, (void)n;
    if (x->status || expr_axis(x, &a[1], from.rank + 1, &axis))
        return x->status;
    if (from.rank == PSG_MAX_RANK)
        return expr_fail(x, PSG_E_SHAPE, "too many axes");
    for (int i = 0; i <= from.rank; i++)
        to.dim[to.rank++] = i == axis ? 1 : from.dim[i - (i > axis)];
    expr_tensor(out, psg_g_reshape(x->g, v, &to));
    return x->status;
}

EXPR_RUN(expr_run_squeeze)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape from = expr_shape_of(x, v), to = { 0 };
    int axis = 0;
    (void)f, (void)n;
    if (x->status || expr_axis(x, &a[1], from.rank, &axis))
        return x->status;
    if (from.dim[axis] != 1)
        return expr_fail(x, PSG_E_SHAPE, "axis %d has length %lld, not 1", axis,
                         (long long)from.dim[axis]);
    for (int i = 0; i < from.rank; i++)
        if (i != axis)
            to.dim[to.rank++] = from.dim[i];
    expr_tensor(out, psg_g_reshape(x->g, v, &to));
    return x->status;
}

EXPR_RUN(expr_run_expand)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape from = expr_shape_of(x, v), to;
    char ta[96], tb[96];
    (void)f, (void)n;
    if (x->status || read_shape(x, &a[1], 0, &to))
        return x->status;
    bool fits = to.rank >= from.rank;
    for (int i = 0; fits && i < from.rank; i++) {
        int64_t want = to.dim[to.rank - from.rank + i];
        fits = from.dim[i] == want || from.dim[i] == 1;
    }
    if (!fits)
        return expr_fail(x, PSG_E_SHAPE, "%s does not expand to %s",
                         psg_shape_text(&from, ta, sizeof ta), psg_shape_text(&to, tb, sizeof tb));
    expr_tensor(out, psg_g_broadcast_to(x->g, v, &to));
    return x->status;
}

/* a, b, ..., axis */
EXPR_RUN(expr_run_concat)
{
    psg_value v[EXPR_ARGS_MAX];
    int axis = 0;
    (void)f;
    for (int i = 0; i < n - 1; i++)
        v[i] = expr_real(x, &a[i]);
    if (x->status || expr_axis(x, &a[n - 1], expr_shape_of(x, v[0]).rank, &axis))
        return x->status;
    expr_tensor(out, psg_g_concat(x->g, v, n - 1, axis));
    return x->status;
}

/* [start, stop) of one axis; negative numbers count from the end, both are cut to the axis */
static int slice_axis(struct expr_eval *x, psg_value v, int axis, int64_t start, int64_t stop,
                      int64_t step, struct expr_value *out)
{
    struct psg_shape shape = expr_shape_of(x, v);
    int64_t from[PSG_MAX_RANK] = { 0 }, to[PSG_MAX_RANK], by[PSG_MAX_RANK];
    int64_t len = shape.dim[axis];
    start = start < 0 ? start + len : start;
    stop = stop < 0 ? stop + len : stop;
    start = start < 0 ? 0 : start > len ? len : start;
    stop = stop < start ? start : stop > len ? len : stop;
    for (int i = 0; i < shape.rank; i++) {
        to[i] = shape.dim[i];
        by[i] = 1;
    }
    from[axis] = start;
    to[axis] = stop;
    by[axis] = step;
    expr_tensor(out, psg_g_slice(x->g, v, from, to, by));
    return x->status;
}

EXPR_RUN(expr_run_slice)
{
    psg_value v = expr_real(x, &a[0]);
    int64_t start = 0, stop = 0, step = 1;
    int axis = 0;
    struct expr_value end = a[3];
    (void)f;
    if (end.kind == VALUE_NUMBER && end.number[0] > EXPR_ELEMENTS_MAX)
        end.number[0] = EXPR_ELEMENTS_MAX; /* inf: to the end */
    if (x->status || expr_axis(x, &a[1], expr_shape_of(x, v).rank, &axis) ||
        expr_int(x, &a[2], "the start", -EXPR_ELEMENTS_MAX, EXPR_ELEMENTS_MAX, &start) ||
        expr_int(x, &end, "the stop", -EXPR_ELEMENTS_MAX, EXPR_ELEMENTS_MAX, &stop) ||
        (n > 4 && expr_int(x, &a[4], "the step", 1, EXPR_ELEMENTS_MAX, &step)))
        return x->status;
    return slice_axis(x, v, axis, start, stop, step, out);
}

EXPR_RUN(expr_run_select)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape shape = expr_shape_of(x, v), to = { 0 };
    int64_t i = 0;
    int axis = 0;
    (void)f, (void)n;
    if (x->status || expr_axis(x, &a[1], shape.rank, &axis))
        return x->status;
    int64_t len = shape.dim[axis];
    if (len < 1)
        return expr_fail(x, PSG_E_SHAPE, "axis %d is empty", axis);
    if (expr_int(x, &a[2], "the index", -len, len - 1, &i))
        return x->status;
    i = i < 0 ? i + len : i;
    if (slice_axis(x, v, axis, i, i + 1, 1, out))
        return x->status;
    for (int k = 0; k < shape.rank; k++)
        if (k != axis)
            to.dim[to.rank++] = shape.dim[k];
    expr_tensor(out, psg_g_reshape(x->g, out->v, &to));
    return x->status;
}

EXPR_RUN(expr_run_pad)
{
    psg_value v = expr_real(x, &a[0]);
    int64_t lo[PSG_MAX_RANK] = { 0 }, hi[PSG_MAX_RANK] = { 0 }, inside[PSG_MAX_RANK] = { 0 };
    int axis = 0;
    (void)f;
    if (x->status || expr_axis(x, &a[1], expr_shape_of(x, v).rank, &axis) ||
        expr_int(x, &a[2], "the padding before", 0, EXPR_ELEMENTS_MAX, &lo[axis]) ||
        expr_int(x, &a[3], "the padding after", 0, EXPR_ELEMENTS_MAX, &hi[axis]))
        return x->status;
    if (n > 4 && a[4].kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "the padding's value must be a number");
    expr_tensor(out, psg_g_pad(x->g, v, lo, hi, inside, n > 4 ? a[4].number[0] : 0));
    return x->status;
}

EXPR_RUN(expr_run_flip)
{
    psg_value v = expr_real(x, &a[0]);
    unsigned axes;
    (void)f, (void)n;
    if (x->status || expr_axes(x, &a[1], expr_shape_of(x, v).rank, &axes))
        return x->status;
    expr_tensor(out, psg_g_reverse(x->g, v, axes));
    return x->status;
}

/* one number for all spatial axes, or one for each */
static int read_spatial(struct expr_eval *x, const struct expr_value *a, const char *what,
                        int rank, int64_t lo, int64_t *to)
{
    int n = 0;
    if (read_list(x, a, what, 3, lo, EXPR_ELEMENTS_MAX, to, &n))
        return x->status;
    if (n != rank && n != 1)
        return expr_fail(x, PSG_E_INVALID, "%s needs one number, or %d", what, rank);
    for (int i = n; i < rank; i++)
        to[i] = to[0];
    return 0;
}

EXPR_RUN(expr_run_unfold)
{
    psg_value v = expr_real(x, &a[0]);
    struct psg_shape shape = expr_shape_of(x, v);
    struct psg_window w = { 0 };
    struct psg_error err;
    (void)f, (void)n;
    if (x->status ||
        read_list(x, &a[1], "the kernel", 3, 1, EXPR_ELEMENTS_MAX, w.kernel, &w.rank))
        return x->status;
    if (w.rank < 1 || shape.rank < w.rank || shape.rank + w.rank > PSG_MAX_RANK)
        return expr_fail(x, PSG_E_SHAPE, "a kernel of %d axes does not fit %d axes", w.rank,
                         shape.rank);
    if (read_spatial(x, &a[2], "the stride", w.rank, 1, w.stride) ||
        read_spatial(x, &a[3], "the padding", w.rank, 0, w.pad_lo) ||
        read_spatial(x, &a[4], "the dilation", w.rank, 1, w.dilation))
        return x->status;
    memcpy(w.pad_hi, w.pad_lo, sizeof w.pad_hi);
    memcpy(w.in, shape.dim + shape.rank - w.rank, (size_t)w.rank * sizeof *w.in);
    if (psg_window_infer(&w, "", &err))
        return expr_fail(x, err.status, "%s", err.text);
    expr_tensor(out, psg_g_unfold(x->g, v, &w, 0));
    return x->status;
}

EXPR_RUN(expr_run_arange)
{
    int64_t size = 0;
    (void)f, (void)n;
    if (expr_int(x, a, "the length", 0, EXPR_ELEMENTS_MAX, &size))
        return x->status;
    expr_tensor(out, psg_g_iota(x->g, &PSG_SHAPE(size), 0));
    return x->status;
}

/* zeros (f 0), ones (1), full (2) */
EXPR_RUN(expr_run_full)
{
    struct psg_shape shape;
    (void)n;
    if (read_shape(x, &a[0], 0, &shape))
        return x->status;
    if (f->f == 2 && a[1].kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "the value must be a number");
    int64_t size = psg_shape_size(&shape);
    if (size < 0 || size > EXPR_ELEMENTS_MAX)
        return expr_fail(x, PSG_E_SHAPE, "the shape is too large");
    expr_tensor(out, psg_g_full(x->g, &shape, f->f == 2 ? a[1].number[0] : f->f));
    return x->status;
}
