/* sequence_bias: y = x with the parameter appended as one more position.
 *
 *   x [N, T, E], bias [E], y [N, T + 1, E]; dx = dy[:, :T], dbias[n] = dy[n, T]. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t t, e;
};

static const struct psg_attr_spec attrs[] = {
    { "embed_dim", PSG_ATTR_INT, "checked against the input's last axis when given" },
    { NULL, 0, NULL },
};

static int sequence_bias_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (in->rank != 2)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "a sample must have 2 axes, not %d",
                              in->rank);
    g->t = in->dim[0];
    g->e = in->dim[1];
    if (psg_infer_int(c, "embed_dim", g->e, 0, INT64_MAX) != g->e)
        return psg_infer_fail(c, PSG_E_SHAPE, "embed_dim", "the input's last axis has %lld",
                              (long long)g->e);
    op_param(c, "bias", PSG_SHAPE(g->e), (struct psg_init){ PSG_INIT_NORMAL, 0.1, 0 });
    op_out(c, PSG_SHAPE(g->t + 1, g->e));
    psg_infer_scratch(c, 0, g->e);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void sequence_bias_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t row = (g->t + 1) * g->e, part = g->t * g->e;
    op_copy_rows(c->be, c->n, part, op_in(c, 0), part, c->out[0], row);
    op_copy_rows(c->be, c->n, g->e, c->param[0], 0, c->out[0] + part, row);
}

static void sequence_bias_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t row = (g->t + 1) * g->e, part = g->t * g->e;
    if (op_wants_din(c, 0))
        op_copy_rows(c->be, c->n, part, c->dout[0], row, c->din[0], part);
}

static void sequence_bias_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->grad[0])
        op_copy_rows(c->be, c->n, g->e, c->dout[0] + g->t * g->e, (g->t + 1) * g->e,
                     c->grad[0], c->grad_stride);
}

static void sequence_bias_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->e };
    op_rows_norm_sample(c, sequence_bias_grad_sample, 1, size, c->scratch + 0);
}

static void sequence_bias_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->e };
    op_rows_clipped_sum(c, sequence_bias_grad_sample, 1, size, c->scratch + 0);
}

static void sequence_bias_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value part[2] = { l->in[0], OP_RESHAPE(l, l->param[0], 1, g->e) };
    l->out[0] = psg_g_concat(l->g, part, 2, 0);
}

static const struct psg_op_case cases[] = {
    { "embed_dim=3", "4x3" },
    { "", "1x5" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_sequence_bias = {
    .name = "sequence_bias",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = sequence_bias_infer,
    .forward = sequence_bias_forward,
    .backward = sequence_bias_backward,
    .grad_sample = sequence_bias_grad_sample,
    .norm_sample = sequence_bias_norm_sample,
    .clipped_sum = sequence_bias_clipped_sum,
    .lower = sequence_bias_lower,
    .cases = cases,
};
