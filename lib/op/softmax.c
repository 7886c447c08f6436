/* softmax, log_softmax over one axis (dimension numbers count the batch; the last by
 * default).
 *
 *   softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - exp(y) sum(dy). */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int axis;
    bool log;
    int64_t outer, along, inner; /* a sample is [outer, along, inner] */
};

static const struct psg_attr_spec attrs[] = {
    { "dim", PSG_ATTR_INT, "-1; counts the batch dimension" },
    { NULL, 0, NULL },
};

static int infer(struct psg_infer *c, bool log)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    op_need_dtype(c, 0, PSG_REAL, "x");
    if (in->rank == 0)
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "a scalar has no axis to normalise");
    g->axis = op_axis(c, "dim", psg_infer_int(c, "dim", -1, -PSG_MAX_RANK, PSG_MAX_RANK),
                      in->rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    g->log = log;
    g->outer = op_span(in, 0, g->axis);
    g->along = in->dim[g->axis];
    g->inner = op_span(in, g->axis + 1, in->rank);
    op_out(c, *in);
    /* y and dy with the axis last */
    psg_infer_scratch(c, 0, g->inner == 1 ? 0 : OP_PROD(c, 2, psg_shape_size(in)));
    return psg_infer_status(c);
}

static int softmax_infer(struct psg_infer *c)
{
    return infer(c, false);
}

static int log_softmax_infer(struct psg_infer *c)
{
    return infer(c, true);
}

static void softmax_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    if (g->inner == 1) {
        c->be->softmax(outer, g->along, g->log, op_in(c, 0), c->out[0]);
        return;
    }
    op_swap(c->be, outer, g->along, g->inner, op_in(c, 0), c->scratch);
    c->be->softmax(outer * g->inner, g->along, g->log, c->scratch, c->scratch);
    op_swap(c->be, outer, g->inner, g->along, c->scratch, c->out[0]);
}

static void softmax_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t outer = c->n * g->outer;
    psg_real *y = c->scratch, *dy = y + outer * g->along * g->inner;
    if (!op_wants_din(c, 0))
        return;
    if (g->inner == 1) {
        c->be->softmax_bwd(outer, g->along, g->log, c->out[0], c->dout[0], c->din[0]);
        return;
    }
    op_swap(c->be, outer, g->along, g->inner, c->out[0], y);
    op_swap(c->be, outer, g->along, g->inner, c->dout[0], dy);
    c->be->softmax_bwd(outer * g->inner, g->along, g->log, y, dy, dy);
    op_swap(c->be, outer, g->inner, g->along, dy, c->din[0]);
}

static void softmax_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = op_g_softmax(l, l->in[0], g->axis, g->log);
}

static const struct psg_op_case cases[] = {
    { "", "7" },         { "dim=1", "3x4" }, { "dim=2", "2x3x4" },
    { "dim=-1", "2x3" }, { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define SOFTMAX_OP(NAME)                                                                   \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = softmax_forward,                                                        \
        .backward = softmax_backward,                                                      \
        .lower = softmax_lower,                                                            \
        .cases = cases,                                                                    \
    }

SOFTMAX_OP(softmax);
SOFTMAX_OP(log_softmax);
