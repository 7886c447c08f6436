/* linear: y[n, ..., O] = sum_I x[n, ..., I] * weight[O, I] + bias[O]; x has any rank >= 1.
 *
 *   dx = dy weight
 *   dweight[n, O, I] = sum_t dy[n, t, O] x[n, t, I]      t runs over all axes but the last
 *   dbias[n, O] = sum_t dy[n, t, O]
 *   |dweight[n]|^2 = sum_{t,u} (x_t . x_u) (dy_t . dy_u)      (Goodfellow 2015 for T = 1)
 */
#include "op/dense.h"
#include "op/ops.h"

struct geom {
    int64_t t, i, o;
    bool bias;
};

static const struct psg_attr_spec attrs[] = {
    { "in_features", PSG_ATTR_INT, "checked against the input's last axis when given" },
    { "out_features", PSG_ATTR_INT, "required" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { NULL, 0, NULL },
};

static int linear_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    struct psg_shape shape = c->in[0].shape;
    if (shape.rank < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the input needs at least one axis");
    g->t = op_span(&shape, 0, shape.rank - 1);
    g->i = shape.dim[shape.rank - 1];
    int64_t in = psg_infer_int(c, "in_features", g->i, 0, INT64_MAX);
    g->o = psg_infer_int_required(c, "out_features", 0, INT64_MAX);
    g->bias = psg_infer_bool(c, "bias", true);
    if (in != g->i)
        return psg_infer_fail(c, PSG_E_SHAPE, "in_features",
                              "in_features is %lld, the input's last axis has %lld",
                              (long long)in, (long long)g->i);
    op_param(c, "weight", PSG_SHAPE(g->o, g->i), op_init_fan_in(g->i));
    if (g->bias)
        op_param(c, "bias", PSG_SHAPE(g->o), op_init_fan_in(g->i));
    shape.dim[shape.rank - 1] = g->o;
    op_out(c, shape);
    OP_PROD(c, 2, g->t, g->t);
    OP_PROD(c, 2, g->t, g->i);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    int64_t fixed, per_sample;
    dense_norm_scratch(g->t, g->i, g->o, &fixed, &per_sample);
    psg_infer_scratch(c, fixed, per_sample);
    psg_infer_scratch(c, 0, dense_sum_scratch(g->t, g->i, g->o));
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static void linear_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    dense_forward(c->be, c->n * g->t, g->i, g->o, op_in(c, 0), c->param[0],
                  g->bias ? c->param[1] : NULL, c->out[0]);
}

static void linear_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (op_wants_din(c, 0))
        dense_backward(c->be, c->n * g->t, g->i, g->o, c->dout[0], c->param[0], 0,
                       c->din[0]);
}

static void linear_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->grad[0])
        dense_grad(c->be, c->n, g->t, g->i, g->o, op_in(c, 0), c->dout[0], c->grad[0],
                   c->grad_stride);
    if (g->bias && c->grad[1])
        c->be->sum_rows(c->n, g->t, g->o, c->dout[0], c->grad[1], c->grad_stride);
}

static void linear_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->use[0])
        dense_norm(c->be, c->n, g->t, g->i, g->o, op_in(c, 0), c->dout[0], c->scratch,
                   c->sq);
    if (g->bias && c->use[1])
        dense_bias_norm(c->be, c->n, g->t, g->o, c->dout[0], c->scratch, c->sq);
}

static void linear_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->sum[0])
        dense_sum(c->be, c->n, g->t, g->i, g->o, c->weight, op_in(c, 0), c->dout[0],
                  c->scratch, c->sum[0]);
    if (g->bias && c->sum[1])
        dense_bias_sum(c->be, c->n, g->t, g->o, c->weight, c->dout[0], c->scratch,
                       c->sum[1]);
}

static void linear_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    int last = l->in_type[0].shape.rank - 1;
    struct psg_dot dims = { .n_contract = 1, .contract_a = { last }, .contract_b = { 1 } };
    l->out[0] = psg_g_dot(l->g, l->in[0], l->param[0], &dims);
    if (g->bias)
        l->out[0] = psg_g_add(l->g, l->out[0], l->param[1]);
}

static const struct psg_op_case cases[] = {
    { "in_features=5 out_features=3", "5" },
    { "out_features=4 bias=false", "7" },
    { "out_features=3", "4x5" },
    { "out_features=6 bias=false", "2x5" },
    { "out_features=2", "2x3x4" },
    { "out_features=2", "2x3x2x3" },
    { "out_features=1", "1" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_linear = {
    .name = "linear",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = linear_infer,
    .forward = linear_forward,
    .backward = linear_backward,
    .grad_sample = linear_grad_sample,
    .norm_sample = linear_norm_sample,
    .clipped_sum = linear_clipped_sum,
    .lower = linear_lower,
    .cases = cases,
};
