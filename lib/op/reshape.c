/* reshape: y = x in another shape of one sample; one length may be -1. dx = dy. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t size;
    struct psg_shape out;
};

static const struct psg_attr_spec attrs[] = {
    { "shape", PSG_ATTR_INT | PSG_ATTR_INTS, "required; without the batch, one may be -1" },
    { NULL, 0, NULL },
};

static int reshape_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    int64_t known = 1;
    int free_axis = -1;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->size = psg_shape_size(&c->in[0].shape);
    g->out.rank = psg_infer_int_list(c, "shape", PSG_MAX_RANK, g->out.dim);
    if (!psg_infer_has(c, "shape"))
        psg_infer_fail(c, PSG_E_INVALID, "shape", "shape is missing");
    for (int i = 0; i < g->out.rank && !psg_infer_status(c); i++) {
        if (g->out.dim[i] == -1 && free_axis < 0)
            free_axis = i;
        else if (g->out.dim[i] < 0)
            psg_infer_fail(c, PSG_E_RANGE, "shape",
                           "lengths are at least 0, and one may be -1");
        else
            known = OP_PROD(c, known, g->out.dim[i]);
    }
    if (psg_infer_status(c))
        return psg_infer_status(c);
    if (free_axis >= 0)
        g->out.dim[free_axis] = known > 0 ? g->size / known : 0;
    char from[120], to[120];
    if (psg_shape_size(&g->out) != g->size)
        return psg_infer_fail(c, PSG_E_SHAPE, "shape", "%s does not become %s",
                              psg_shape_text(&c->in[0].shape, from, sizeof from),
                              psg_shape_text(&g->out, to, sizeof to));
    op_out(c, g->out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void reshape_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    op_copy(c->be, c->n * g->size, op_in(c, 0), c->out[0]);
}

static void reshape_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (op_wants_din(c, 0))
        op_copy(c->be, c->n * g->size, c->dout[0], c->din[0]);
}

static void reshape_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = psg_g_reshape(l->g, l->in[0], &g->out);
}

static const struct psg_op_case cases[] = {
    { "shape=3,4", "12" },
    { "shape=2,-1", "3x4" },
    { "shape=6", "2x3" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_reshape = {
    .name = "reshape",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = reshape_infer,
    .forward = reshape_forward,
    .backward = reshape_backward,
    .lower = reshape_lower,
    .cases = cases,
};
