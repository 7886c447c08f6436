/* select: y = x at one index of an axis, which vanishes. slice: y = indices start, start +
 * step, ... < end of an axis. Dimension numbers count the batch; negative indices count
 * from the end.
 * dx = dy at those cells, 0 elsewhere. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int axis;
    int64_t outer, along, inner; /* a sample is [outer, along, inner] */
    int64_t start, step, count;  /* cells taken from `along` */
    struct psg_shape out;
};

static const struct psg_attr_spec select_attrs[] = {
    { "dim", PSG_ATTR_INT, "1; counts the batch dimension" },
    { "index", PSG_ATTR_INT, "required; negative counts from the end" },
    { NULL, 0, NULL },
};

static const struct psg_attr_spec slice_attrs[] = {
    { "dim", PSG_ATTR_INT, "1; counts the batch dimension" },
    { "start", PSG_ATTR_INT, "0; negative counts from the end" },
    { "end", PSG_ATTR_INT, "the axis' length; negative counts from the end" },
    { "step", PSG_ATTR_INT, "1; at least 1" },
    { NULL, 0, NULL },
};

static int read_axis(struct psg_infer *c, struct geom *g)
{
    const struct psg_shape *in = &c->in[0].shape;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->axis = op_axis(c, "dim", psg_infer_int(c, "dim", 1, -PSG_MAX_RANK, PSG_MAX_RANK),
                      in->rank);
    if (in->rank == 0)
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "a scalar has no axis to take from");
    if (psg_infer_status(c))
        return psg_infer_status(c);
    g->outer = op_span(in, 0, g->axis);
    g->along = in->dim[g->axis];
    g->inner = op_span(in, g->axis + 1, in->rank);
    return 0;
}

static int select_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    if (read_axis(c, g))
        return psg_infer_status(c);
    if (!psg_infer_has(c, "index"))
        return psg_infer_fail(c, PSG_E_INVALID, "index", "index is missing");
    int64_t index = psg_infer_int(c, "index", 0, -g->along, g->along - 1);
    g->start = index < 0 ? index + g->along : index;
    g->step = g->count = 1;
    for (int i = 0; i < c->in[0].shape.rank; i++)
        if (i != g->axis)
            g->out.dim[g->out.rank++] = c->in[0].shape.dim[i];
    op_out(c, g->out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

/* Python's rule: negative from the end, then cut to the axis */
static int64_t bound(int64_t v, int64_t along)
{
    v = v < 0 ? v + along : v;
    return v < 0 ? 0 : v > along ? along : v;
}

static int slice_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    if (read_axis(c, g))
        return psg_infer_status(c);
    g->start = bound(psg_infer_int(c, "start", 0, INT64_MIN / 2, INT64_MAX), g->along);
    int64_t end =
        bound(psg_infer_int(c, "end", g->along, INT64_MIN / 2, INT64_MAX), g->along);
    g->step = psg_infer_int(c, "step", 1, 1, INT32_MAX);
    g->count = end > g->start ? (end - g->start - 1) / g->step + 1 : 0;
    g->out = c->in[0].shape;
    g->out.dim[g->axis] = g->count;
    op_out(c, g->out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void select_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n * g->outer, g->count, g->inner);
    int64_t to[3];
    psg_shape_strides(&shape, to);
    c->be->copy(&shape, sizeof(psg_real), op_in(c, 0) + g->start * g->inner,
                (const int64_t[]){ g->along * g->inner, g->step * g->inner, 1 }, c->out[0],
                to);
}

static void select_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n * g->outer, g->count, g->inner);
    int64_t from[3];
    if (!op_wants_din(c, 0))
        return;
    psg_shape_strides(&shape, from);
    c->be->fill(c->n * g->outer * g->along * g->inner, 0, c->din[0]);
    c->be->copy(&shape, sizeof(psg_real), c->dout[0], from, c->din[0] + g->start * g->inner,
                (const int64_t[]){ g->along * g->inner, g->step * g->inner, 1 });
}

static void select_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value x = OP_RESHAPE(l, l->in[0], g->outer, g->along, g->inner);
    int64_t start[3] = { 0, g->start, 0 }, step[3] = { 1, g->step, 1 };
    int64_t limit[3] = { g->outer, g->start + (g->count - 1) * g->step + 1, g->inner };
    limit[1] = g->count == 0 ? g->start : limit[1];
    l->out[0] = psg_g_reshape(l->g, psg_g_slice(l->g, x, start, limit, step), &g->out);
}

static const struct psg_op_case select_cases[] = {
    { "index=-1", "3x4" },
    { "dim=2 index=1", "2x3x4" },
    { "dim=-1 index=0", "2x3" },
    { NULL, NULL },
};

static const struct psg_op_case slice_cases[] = {
    { "start=1", "3x4" },
    { "dim=2 start=0 end=3 step=2", "2x4x3" },
    { "dim=-1 start=-2 end=-1", "2x5" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define SELECT_OP(NAME)                                                                    \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = NAME##_attrs,                                                             \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = select_forward,                                                         \
        .backward = select_backward,                                                       \
        .lower = select_lower,                                                             \
        .cases = NAME##_cases,                                                             \
    }

SELECT_OP(select);
SELECT_OP(slice);
