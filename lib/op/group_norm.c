/* group_norm: y[n, c, s] = xhat[n, c, s] * weight[c] + bias[c], xhat normalised over each
 * group of C / G channels and all positions. instance_norm1d, 2d, 3d: the same with G = C.
 *
 *   x [N, C, S...], weight, bias [C], biased variance.
 *   dweight[n, c] = sum_s dy * xhat; dbias[n, c] = sum_s dy. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t channels, space, groups;
    double eps;
    bool affine;
};

static const struct psg_attr_spec group_attrs[] = {
    { "num_groups", PSG_ATTR_INT, "required; divides the channels" },
    { "num_channels", PSG_ATTR_INT, "checked against the input's first axis when given" },
    { "eps", PSG_ATTR_REAL, "1e-5" },
    { "affine", PSG_ATTR_BOOL, "true" },
    { NULL, 0, NULL },
};

static const struct psg_attr_spec instance_attrs[] = {
    { "num_features", PSG_ATTR_INT, "checked against the input's first axis when given" },
    { "eps", PSG_ATTR_REAL, "1e-5" },
    { "affine", PSG_ATTR_BOOL, "false" },
    { "track_running_stats", PSG_ATTR_BOOL, "false; true is refused, it mixes samples" },
    { NULL, 0, NULL },
};

static int norm_infer(struct psg_infer *c, const char *count, bool affine)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (in->rank < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the input needs a channel axis");
    g->channels = in->dim[0];
    g->space = op_span(in, 1, in->rank);
    g->eps = psg_infer_real(c, "eps", 1e-5, 0, 1e30);
    g->affine = psg_infer_bool(c, "affine", affine);
    int64_t channels = psg_infer_int(c, count, g->channels, 0, INT64_MAX);
    if (channels != g->channels)
        return psg_infer_fail(c, PSG_E_SHAPE, count,
                              "%s is %lld, the input has %lld channels", count,
                              (long long)channels, (long long)g->channels);
    if (g->groups < 1 || g->channels % g->groups)
        return psg_infer_fail(c, PSG_E_INVALID, "num_groups",
                              "%lld groups do not divide %lld channels",
                              (long long)g->groups, (long long)g->channels);
    if (g->affine) {
        op_param(c, "weight", PSG_SHAPE(g->channels), op_init_constant(1));
        op_param(c, "bias", PSG_SHAPE(g->channels), op_init_constant(0));
    }
    op_out(c, *in);
    int64_t size = g->channels * g->space;
    psg_infer_save(c, size + g->groups, 0);
    psg_infer_scratch(c, 0, size + 2 * g->channels);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static int group_norm_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    g->groups = psg_infer_int_required(c, "num_groups", 1, INT64_MAX);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    return norm_infer(c, "num_channels", true);
}

static int instance_infer(struct psg_infer *c, int rank)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    if (psg_infer_bool(c, "track_running_stats", false))
        return psg_infer_fail(
            c, PSG_E_UNSUPPORTED, "track_running_stats",
            "running statistics mix samples; leave track_running_stats false");
    if (in->rank != rank + 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must have %d axes (channels first), not %d",
                              rank + 1, in->rank);
    g->groups = in->dim[0];
    return norm_infer(c, "num_features", false);
}

static int instance_norm1d_infer(struct psg_infer *c)
{
    return instance_infer(c, 1);
}

static int instance_norm2d_infer(struct psg_infer *c)
{
    return instance_infer(c, 2);
}

static int instance_norm3d_infer(struct psg_infer *c)
{
    return instance_infer(c, 3);
}

static void norm_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->groups, dim = g->channels / g->groups * g->space;
    psg_real *xhat = c->saved;
    c->be->normalize(rows, dim, g->eps, true, op_in(c, 0), xhat, xhat + rows * dim);
    if (!g->affine) {
        op_copy(c->be, rows * dim, xhat, c->out[0]);
        return;
    }
    op_binary_channels(c->be, PSG_MUL, c->n, g->channels, g->space, xhat, c->param[0],
                       c->out[0]);
    op_binary_channels(c->be, PSG_ADD, c->n, g->channels, g->space, c->out[0], c->param[1],
                       c->out[0]);
}

static void norm_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->groups, dim = g->channels / g->groups * g->space;
    if (!op_wants_din(c, 0))
        return;
    const psg_real *dxhat = c->dout[0];
    if (g->affine) {
        op_binary_channels(c->be, PSG_MUL, c->n, g->channels, g->space, c->dout[0],
                           c->param[0], c->scratch);
        dxhat = c->scratch;
    }
    c->be->normalize_bwd(rows, dim, true, c->saved, c->saved + rows * dim, dxhat,
                         c->din[0]);
}

static void norm_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t size = c->n * g->channels * g->space;
    psg_real *product = c->scratch, *tmp = product + size;
    if (g->affine && c->grad[0]) {
        op_binary(c->be, PSG_MUL, size, c->dout[0], c->saved, product);
        op_sum_space(c->be, c->n, g->channels, g->space, product, c->grad[0],
                     c->grad_stride, tmp);
    }
    if (g->affine && c->grad[1])
        op_sum_space(c->be, c->n, g->channels, g->space, c->dout[0], c->grad[1],
                     c->grad_stride, tmp);
}

static void norm_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->channels, g->channels };
    op_rows_norm_sample(c, norm_grad_sample, g->affine ? 2 : 0, size,
                        c->scratch + c->n * (g->channels * g->space + g->channels));
}

static void norm_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->channels, g->channels };
    op_rows_clipped_sum(c, norm_grad_sample, g->affine ? 2 : 0, size,
                        c->scratch + c->n * (g->channels * g->space + g->channels));
}

static void norm_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    int64_t dim = g->channels / g->groups * g->space;
    psg_value scale = psg_g_scalar(l->g, dim > 0 ? 1 / (double)dim : 0);
    psg_value x = OP_RESHAPE(l, l->in[0], g->groups, dim);
    psg_value mean = psg_g_mul(l->g, psg_g_sum(l->g, x, 2u), scale);
    x = psg_g_sub(l->g, x, op_g_unsqueeze(l, mean, 1));
    psg_value var = psg_g_mul(l->g, psg_g_sum(l->g, psg_g_mul(l->g, x, x), 2u), scale);
    psg_value rstd =
        psg_g_unary(l->g, PSG_RSQRT, psg_g_add(l->g, var, psg_g_scalar(l->g, g->eps)));
    psg_value y = psg_g_mul(l->g, x, op_g_unsqueeze(l, rstd, 1));
    if (g->affine) {
        y = OP_RESHAPE(l, y, g->channels, g->space);
        y = psg_g_mul(l->g, y, OP_RESHAPE(l, l->param[0], g->channels, 1));
        y = psg_g_add(l->g, y, OP_RESHAPE(l, l->param[1], g->channels, 1));
    }
    l->out[0] = psg_g_reshape(l->g, y, &l->in_type[0].shape);
}

static const struct psg_op_case group_cases[] = {
    { "num_groups=2", "4x3x2" },
    { "num_groups=1 eps=0.001", "3x5" },
    { "num_groups=3", "6" },
    { "num_groups=4 affine=false", "4x2x3" },
    { NULL, NULL },
};

static const struct psg_op_case cases1[] = {
    { "affine=true", "3x5" },
    { "eps=0.01", "2x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "affine=true num_features=3", "3x2x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "affine=true", "2x2x3x2" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define NORM_OP(NAME, ATTRS, CASES)                                                        \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = ATTRS,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = norm_forward,                                                           \
        .backward = norm_backward,                                                         \
        .grad_sample = norm_grad_sample,                                                   \
        .norm_sample = norm_norm_sample,                                                   \
        .clipped_sum = norm_clipped_sum,                                                   \
        .lower = norm_lower,                                                               \
        .cases = CASES,                                                                    \
    }

NORM_OP(group_norm, group_attrs, group_cases);
NORM_OP(instance_norm1d, instance_attrs, cases1);
NORM_OP(instance_norm2d, instance_attrs, cases2);
NORM_OP(instance_norm3d, instance_attrs, cases3);
