#include "op/pad.h"

/* A box of the padded buffer [outer, D0, D1, D2]: where it starts, and how it is walked. */
struct box {
    struct psg_shape shape;
    int64_t stride[4];
    int64_t at;
};

static int64_t padded(const struct pad_geom *g, int axis)
{
    return g->in[axis] + g->lo[axis] + g->hi[axis];
}

bool pad_check(struct psg_infer *c, const struct pad_geom *g)
{
    for (int i = 0; i < g->rank; i++) {
        int64_t most = g->lo[i] > g->hi[i] ? g->lo[i] : g->hi[i];
        int64_t limit = g->mode == PAD_REFLECT    ? g->in[i] - 1
                        : g->mode == PAD_CIRCULAR ? g->in[i]
                                                  : INT64_MAX;
        if (most > limit || g->in[i] < 1) {
            psg_infer_fail(c, PSG_E_SHAPE, "padding",
                           "padding %lld is too large for an axis of length %lld",
                           (long long)most, (long long)g->in[i]);
            return false;
        }
    }
    return true;
}

int64_t pad_size(const struct pad_geom *g)
{
    int64_t size = 1;
    for (int i = 0; i < g->rank; i++)
        size *= padded(g, i);
    return size;
}

/* The cells [from, from + length) of `axis`, walked by step; axes before it have their
 * whole padded length, axes after it only the interior. */
static struct box box_make(const struct pad_geom *g, int64_t outer, int axis, int64_t from,
                           int64_t length, int64_t step)
{
    struct box b = { .shape = { .rank = g->rank + 1, .dim = { outer } } };
    int64_t stride = 1;
    for (int i = g->rank - 1; i >= 0; i--) {
        b.shape.dim[i + 1] = i == axis ? length : i < axis ? padded(g, i) : g->in[i];
        b.stride[i + 1] = i == axis ? stride * step : stride;
        b.at += stride * (i == axis ? from : i < axis ? 0 : g->lo[i]);
        stride *= padded(g, i);
    }
    b.stride[0] = stride;
    return b;
}

/* Which cells of an axis the padding at its low (side 0) or high end repeats: source cell
 * of padding cell k is from + k * step. */
static void pad_source(const struct pad_geom *g, int axis, int side, int64_t *from,
                       int64_t *step)
{
    int64_t lo = g->lo[axis], in = g->in[axis];
    if (g->mode == PAD_REFLECT) {
        *from = side ? lo + in - 2 : 2 * lo;
        *step = -1;
    } else if (g->mode == PAD_REPLICATE) {
        *from = side ? lo + in - 1 : lo;
        *step = 0;
    } else {
        *from = side ? lo : in;
        *step = 1;
    }
}

static struct box interior(const struct pad_geom *g, int64_t outer)
{
    return box_make(g, outer, 0, g->lo[0], g->in[0], 1);
}

void pad_forward(const struct psg_backend *be, const struct pad_geom *g, int64_t outer,
                 const psg_real *x, psg_real *y)
{
    struct box in = interior(g, outer);
    int64_t stride[4];
    psg_shape_strides(&in.shape, stride);
    be->copy(&in.shape, sizeof *x, x, stride, y + in.at, in.stride);
    for (int axis = 0; axis < g->rank; axis++) {
        for (int side = 0; side < 2; side++) {
            int64_t length = side ? g->hi[axis] : g->lo[axis], from, step;
            pad_source(g, axis, side, &from, &step);
            struct box s = box_make(g, outer, axis, from, length, step);
            struct box d =
                box_make(g, outer, axis, side ? g->lo[axis] + g->in[axis] : 0, length, 1);
            if (length > 0)
                be->copy(&d.shape, sizeof *x, y + s.at, s.stride, y + d.at, d.stride);
        }
    }
}

/* y[s] += y[d], both boxes of one shape without common cells */
static void box_add(const struct psg_backend *be, psg_real *y, const struct box *s,
                    const struct box *d, psg_real *tmp)
{
    int64_t stride[4];
    psg_shape_strides(&s->shape, stride);
    be->binary(PSG_ADD, &s->shape, y + s->at, s->stride, y + d->at, d->stride, tmp);
    be->copy(&s->shape, sizeof *y, tmp, stride, y + s->at, s->stride);
}

static void fold_side(const struct psg_backend *be, const struct pad_geom *g, int64_t outer,
                      int axis, int side, psg_real *dy, psg_real *tmp)
{
    int64_t length = side ? g->hi[axis] : g->lo[axis], from, step;
    int64_t first = side ? g->lo[axis] + g->in[axis] : 0;
    pad_source(g, axis, side, &from, &step);
    /* repeated edges all add to one cell, so they go one after the other */
    int64_t run = step == 0 ? 1 : length;
    for (int64_t k = 0; k < length; k += run) {
        struct box s = box_make(g, outer, axis, from + k * step, run, step == 0 ? 1 : step);
        struct box d = box_make(g, outer, axis, first + k, run, 1);
        box_add(be, dy, &s, &d, tmp);
    }
}

void pad_backward(const struct psg_backend *be, const struct pad_geom *g, int64_t outer,
                  psg_real *dy, psg_real *tmp, psg_real *dx)
{
    for (int axis = g->rank - 1; axis >= 0; axis--)
        for (int side = 0; side < 2; side++)
            fold_side(be, g, outer, axis, side, dy, tmp);
    struct box in = interior(g, outer);
    int64_t stride[4];
    psg_shape_strides(&in.shape, stride);
    be->copy(&in.shape, sizeof *dy, dy + in.at, in.stride, dx, stride);
}

/* cells [from, from + length) of an axis */
static psg_value cells(struct psg_lower *l, psg_value v, int axis, int64_t from,
                       int64_t length)
{
    struct psg_shape s = op_graph_shape(l, v);
    int64_t start[PSG_MAX_RANK] = { 0 }, limit[PSG_MAX_RANK], stride[PSG_MAX_RANK];
    for (int i = 0; i < s.rank; i++) {
        limit[i] = s.dim[i];
        stride[i] = 1;
    }
    start[axis] = from;
    limit[axis] = from + length;
    return psg_g_slice(l->g, v, start, limit, stride);
}

psg_value pad_lower(struct psg_lower *l, const struct pad_geom *g, psg_value v)
{
    int first = op_graph_shape(l, v).rank - g->rank;
    for (int i = 0; i < g->rank; i++) {
        int axis = first + i, n = 0;
        int64_t in = g->in[i], lo = g->lo[i], hi = g->hi[i];
        psg_value part[3];
        unsigned bit = 1u << axis;
        if (lo > 0 && g->mode == PAD_REFLECT)
            part[n++] = psg_g_reverse(l->g, cells(l, v, axis, 1, lo), bit);
        if (lo > 0 && g->mode == PAD_CIRCULAR)
            part[n++] = cells(l, v, axis, in - lo, lo);
        if (lo > 0 && g->mode == PAD_REPLICATE) {
            struct psg_shape s = op_graph_shape(l, v);
            s.dim[axis] = lo;
            part[n++] = psg_g_broadcast_to(l->g, cells(l, v, axis, 0, 1), &s);
        }
        part[n++] = v;
        if (hi > 0 && g->mode == PAD_REFLECT)
            part[n++] = psg_g_reverse(l->g, cells(l, v, axis, in - 1 - hi, hi), bit);
        if (hi > 0 && g->mode == PAD_CIRCULAR)
            part[n++] = cells(l, v, axis, 0, hi);
        if (hi > 0 && g->mode == PAD_REPLICATE) {
            struct psg_shape s = op_graph_shape(l, v);
            s.dim[axis] = hi;
            part[n++] = psg_g_broadcast_to(l->g, cells(l, v, axis, in - 1, 1), &s);
        }
        if (n > 1)
            v = psg_g_concat(l->g, part, n, axis);
    }
    return v;
}
