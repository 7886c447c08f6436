/* adaptive_avg_pool1d, 2d, 3d and adaptive_max_pool1d, 2d, 3d: pooling to a given output
 * size.
 *
 *   x [N, C, S...], y [N, C, n...]; window i of an axis is floor(i S / n) .. ceil((i + 1) S
 *   / n). max sends the gradient to the first largest cell of the window (row-major).
 * Where n divides S the windows are even and the pooling kernels do it all; else windows
 * are copied out one after the other. */
#include <string.h>

#include "op/common.h"
#include "op/ops.h"

struct geom {
    bool max, even;
    struct psg_window win; /* even: of everything; else in and out only */
    int64_t outer, n_in, n_out;
};

static const struct psg_attr_spec attrs[] = {
    { "output_size", PSG_ATTR_INT | PSG_ATTR_INTS, "required; one number or one per axis" },
    { NULL, 0, NULL },
};

static int adaptive_infer(struct psg_infer *c, int rank, bool max)
{
    struct geom *g = c->geom;
    struct psg_shape shape = c->in[0].shape;
    struct psg_window *w = &g->win;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (shape.rank != rank + 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must have %d axes (channels first), not %d",
                              rank + 1, shape.rank);
    *w = (struct psg_window){ .rank = rank };
    psg_infer_ints(c, "output_size", rank, NULL, 1, INT32_MAX, w->out);
    g->max = max;
    g->even = true;
    g->outer = shape.dim[0];
    for (int i = 0; i < rank && !psg_infer_status(c); i++) {
        w->in[i] = shape.dim[i + 1];
        if (w->in[i] < 1)
            return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the input is empty");
        g->even = g->even && w->in[i] % w->out[i] == 0;
        w->kernel[i] = w->stride[i] = w->in[i] / w->out[i];
        w->dilation[i] = 1;
        shape.dim[i + 1] = w->out[i];
    }
    g->n_in = op_prod(c, rank, w->in);
    g->n_out = op_prod(c, rank, w->out);
    op_out(c, shape);
    int64_t size = OP_PROD(c, g->outer, g->n_in), cells = OP_PROD(c, g->outer, g->n_out);
    psg_infer_save(c, 0, max ? cells : 0);
    psg_infer_scratch(c, 0, size * 2 + g->outer);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

/* ---- uneven windows, one output cell after the other ---- */
static int64_t from(const struct psg_window *w, int axis, int64_t i)
{
    return i * w->in[axis] / w->out[axis];
}

static int64_t to(const struct psg_window *w, int axis, int64_t i)
{
    return ((i + 1) * w->in[axis] + w->out[axis] - 1) / w->out[axis];
}

/* A window of [outer, in...] as a box: lengths, strides, first cell. */
struct cell {
    struct psg_shape shape;
    int64_t stride[4], at, size;
};

static struct cell cell_make(const struct geom *g, int64_t outer, int64_t o)
{
    const struct psg_window *w = &g->win;
    struct cell c = { .shape = { .rank = w->rank + 1, .dim = { outer } }, .size = 1 };
    int64_t step = 1;
    for (int i = w->rank - 1; i >= 0; i--) {
        int64_t at = o % w->out[i];
        o /= w->out[i];
        c.shape.dim[i + 1] = to(w, i, at) - from(w, i, at);
        c.stride[i + 1] = step;
        c.at += from(w, i, at) * step;
        c.size *= c.shape.dim[i + 1];
        step *= w->in[i];
    }
    c.stride[0] = step;
    return c;
}

/* the whole window as the only one of its pooling */
static struct psg_window cell_window(const struct cell *c)
{
    struct psg_window w = { .rank = c->shape.rank - 1 };
    for (int i = 0; i < w.rank; i++) {
        w.in[i] = w.kernel[i] = c->shape.dim[i + 1];
        w.out[i] = w.stride[i] = w.dilation[i] = 1;
    }
    return w;
}

static void uneven_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    psg_real *window = c->scratch, *y = window + outer * g->n_in;
    for (int64_t o = 0; o < g->n_out; o++) {
        struct cell cell = cell_make(g, outer, o);
        struct psg_window w = cell_window(&cell);
        int64_t packed[4];
        psg_shape_strides(&cell.shape, packed);
        c->be->copy(&cell.shape, sizeof *window, op_in(c, 0) + cell.at, cell.stride, window,
                    packed);
        if (g->max)
            c->be->max_pool(&w, outer, window, y, c->saved_i64 + o * outer);
        else
            c->be->avg_pool(&w, outer, true, 0, window, y);
        op_copy_rows(c->be, outer, 1, y, 1, c->out[0] + o, g->n_out);
    }
}

static void uneven_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    psg_real *window = c->scratch, *sum = window + outer * g->n_in;
    psg_real *dy = sum + outer * g->n_in;
    c->be->fill(outer * g->n_in, 0, c->din[0]);
    for (int64_t o = 0; o < g->n_out; o++) {
        struct cell cell = cell_make(g, outer, o);
        struct psg_window w = cell_window(&cell);
        int64_t packed[4];
        psg_shape_strides(&cell.shape, packed);
        op_copy_rows(c->be, outer, 1, c->dout[0] + o, g->n_out, dy, 1);
        if (g->max)
            c->be->max_pool_bwd(&w, outer, dy, c->saved_i64 + o * outer, window);
        else
            c->be->avg_pool_bwd(&w, outer, true, 0, dy, window);
        psg_real *dx = c->din[0] + cell.at;
        c->be->binary(PSG_ADD, &cell.shape, dx, cell.stride, window, packed, sum);
        c->be->copy(&cell.shape, sizeof *sum, sum, packed, dx, cell.stride);
    }
}

/* ---- rules ---- */
static void adaptive_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    if (!g->even)
        uneven_forward(c);
    else if (g->max)
        c->be->max_pool(&g->win, outer, op_in(c, 0), c->out[0], c->saved_i64);
    else
        c->be->avg_pool(&g->win, outer, true, 0, op_in(c, 0), c->out[0]);
}

static void adaptive_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    if (!op_wants_din(c, 0))
        return;
    if (!g->even)
        uneven_backward(c);
    else if (g->max)
        c->be->max_pool_bwd(&g->win, outer, c->dout[0], c->saved_i64, c->din[0]);
    else
        c->be->avg_pool_bwd(&g->win, outer, true, 0, c->dout[0], c->din[0]);
}

/* Both poolings go axis by axis, last axis first, so that the first largest cell in
 * row-major order wins. v [before, S, after] -> [before, n, after] */
static psg_value pool_axis(struct psg_lower *l, const struct geom *g, int axis, psg_value v,
                           int64_t before, int64_t after)
{
    const struct psg_window *w = &g->win;
    psg_value all = PSG_NONE;
    for (int64_t i = 0; i < w->out[axis]; i++) {
        int64_t start[3] = { 0, from(w, axis, i), 0 }, step[3] = { 1, 1, 1 };
        int64_t limit[3] = { before, to(w, axis, i), after };
        psg_value part = psg_g_slice(l->g, v, start, limit, step);
        if (g->max)
            part = op_g_max_first(l, part, 1);
        else
            part = psg_g_mul(l->g, psg_g_sum(l->g, part, 2u),
                             psg_g_scalar(l->g, 1 / (double)(limit[1] - start[1])));
        psg_value both[2] = { all, op_g_unsqueeze(l, part, 1) };
        all = i == 0 ? both[1] : psg_g_concat(l->g, both, 2, 1);
    }
    return all;
}

static void adaptive_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    const struct psg_window *w = &g->win;
    psg_value v = l->in[0];
    int64_t after = 1, before = g->outer * g->n_in;
    for (int i = w->rank - 1; i >= 0; i--) {
        before /= w->in[i];
        v = OP_RESHAPE(l, v, before, w->in[i], after);
        v = pool_axis(l, g, i, v, before, after);
        after *= w->out[i];
    }
    struct psg_shape shape = { .rank = w->rank + 1, .dim = { g->outer } };
    memcpy(shape.dim + 1, w->out, (size_t)w->rank * sizeof *w->out);
    l->out[0] = psg_g_reshape(l->g, v, &shape);
}

static const struct psg_op_case cases1[] = {
    { "output_size=3", "2x7" },
    { "output_size=2", "3x6" },
    { "output_size=5", "1x3" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "output_size=2,3", "2x5x4" },
    { "output_size=1", "3x2x4" },
    { "output_size=4,2", "1x3x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "output_size=2", "2x3x2x3" },
    { "output_size=1,2,1", "1x2x2x3" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define ADAPTIVE_OP(KIND, MAX, D)                                                          \
    static int KIND##D##d_infer(struct psg_infer *c)                                       \
    {                                                                                      \
        return adaptive_infer(c, D, MAX);                                                  \
    }                                                                                      \
    const struct psg_op layer_adaptive_##KIND##_pool##D##d = {                             \
        .name = "adaptive_" #KIND "_pool" #D "d",                                          \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = KIND##D##d_infer,                                                         \
        .forward = adaptive_forward,                                                       \
        .backward = adaptive_backward,                                                     \
        .lower = adaptive_lower,                                                           \
        .cases = cases##D,                                                                 \
    }

ADAPTIVE_OP(avg, false, 1);
ADAPTIVE_OP(avg, false, 2);
ADAPTIVE_OP(avg, false, 3);
ADAPTIVE_OP(max, true, 1);
ADAPTIVE_OP(max, true, 2);
ADAPTIVE_OP(max, true, 3);
