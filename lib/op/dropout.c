/* dropout: y = x * keep / (1 - p) while training, y = x otherwise.
 *
 *   keep[n, i] = (u[n, i] >= p), u the uniform numbers of this node: one mask for forward,
 *   every rule and the lowering. p = 1 gives zeros. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t size;
    double p, scale;
};

static const struct psg_attr_spec attrs[] = {
    { "p", PSG_ATTR_REAL, "0.5; share of numbers that become zero, 0 to 1" },
    { NULL, 0, NULL },
};

static int dropout_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->size = psg_shape_size(&c->in[0].shape);
    g->p = psg_infer_real(c, "p", 0.5, 0, 1);
    g->scale = g->p < 1 ? 1 / (1 - g->p) : 0;
    op_out(c, c->in[0].shape);
    psg_infer_random(c, g->p > 0 ? g->size : 0);
    psg_infer_save(c, g->p > 0 ? g->size : 0, 0);
    psg_infer_scratch(c, 1, 0);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static bool is_identity(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    return !c->training || g->p == 0;
}

static void dropout_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t n = c->n * g->size;
    if (is_identity(c)) {
        op_copy(c->be, n, op_in(c, 0), c->out[0]);
        return;
    }
    c->be->fill(1, (psg_real)g->p, c->scratch);
    op_binary_scalar(c->be, PSG_GE, n, c->random, c->scratch, c->saved);
    c->be->fill(1, (psg_real)g->scale, c->scratch);
    op_binary_scalar(c->be, PSG_MUL, n, c->saved, c->scratch, c->saved);
    op_binary(c->be, PSG_MUL, n, op_in(c, 0), c->saved, c->out[0]);
}

static void dropout_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t n = c->n * g->size;
    if (!op_wants_din(c, 0))
        return;
    if (is_identity(c))
        op_copy(c->be, n, c->dout[0], c->din[0]);
    else
        op_binary(c->be, PSG_MUL, n, c->dout[0], c->saved, c->din[0]);
}

static void dropout_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = l->in[0];
    if (!l->training || g->p == 0)
        return;
    psg_value keep = psg_g_binary(l->g, PSG_GE, l->random, psg_g_scalar(l->g, g->p));
    psg_value mask = psg_g_reshape(l->g, keep, &l->in_type[0].shape);
    psg_value y = psg_g_mul(l->g, l->in[0], psg_g_scalar(l->g, g->scale));
    l->out[0] = psg_g_mul(l->g, y, mask);
}

static const struct psg_op_case cases[] = {
    { "", "9" }, { "p=0.25", "3x4" }, { "p=0", "5" }, { "p=1", "5" }, { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_dropout = {
    .name = "dropout",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = dropout_infer,
    .forward = dropout_forward,
    .backward = dropout_backward,
    .lower = dropout_lower,
    .cases = cases,
};
