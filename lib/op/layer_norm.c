/* layer_norm: y = xhat * weight + bias, xhat = (x - mean) / sqrt(var + eps),
 * rms_norm:   y = xhat * weight,        xhat = x / sqrt(mean(x^2) + eps), over the last axes.
 *
 *   x [N, R, D], weight, bias [D] (shape normalized_shape), var is biased.
 *   dweight[n] = sum_r dy[n, r] * xhat[n, r]; dbias[n] = sum_r dy[n, r]
 *   dx from dxhat = dy * weight (kernel normalize_bwd). */
#include <float.h>

#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t rows, dim; /* of one sample */
    double eps;
    bool centre, weight, bias;
};

static const struct psg_attr_spec layer_attrs[] = {
    { "normalized_shape", PSG_ATTR_INT | PSG_ATTR_INTS,
      "required; the last axes of a sample" },
    { "eps", PSG_ATTR_REAL, "1e-5" },
    { "elementwise_affine", PSG_ATTR_BOOL, "true; false: neither weight nor bias" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { NULL, 0, NULL },
};

static const struct psg_attr_spec rms_attrs[] = {
    { "normalized_shape", PSG_ATTR_INT | PSG_ATTR_INTS,
      "required; the last axes of a sample" },
    { "eps", PSG_ATTR_REAL, "the float type's epsilon" },
    { "elementwise_affine", PSG_ATTR_BOOL, "true; false: no weight" },
    { NULL, 0, NULL },
};

/* normalized_shape, checked against the input; *to gets it */
static int read_shape(struct psg_infer *c, struct psg_shape *to)
{
    const struct psg_shape *in = &c->in[0].shape;
    to->rank = psg_infer_int_list(c, "normalized_shape", PSG_MAX_RANK, to->dim);
    if (to->rank == 0)
        psg_infer_fail(c, PSG_E_INVALID, "normalized_shape", "normalized_shape is missing");
    bool fits = to->rank > 0 && to->rank <= in->rank;
    for (int i = 0; fits && i < to->rank; i++)
        fits = to->dim[i] == in->dim[in->rank - to->rank + i];
    char text[120];
    if (!fits)
        psg_infer_fail(c, PSG_E_SHAPE, "normalized_shape",
                       "normalized_shape does not end the sample's shape %s",
                       psg_shape_text(in, text, sizeof text));
    return psg_infer_status(c);
}

static int norm_infer(struct psg_infer *c, bool centre, double eps)
{
    struct geom *g = c->geom;
    struct psg_shape normalized = { 0 };
    if (!op_need_dtype(c, 0, PSG_REAL, "x") || read_shape(c, &normalized))
        return psg_infer_status(c);
    const struct psg_shape *in = &c->in[0].shape;
    g->rows = op_span(in, 0, in->rank - normalized.rank);
    g->dim = psg_shape_size(&normalized);
    g->eps = psg_infer_real(c, "eps", eps, 0, 1e30);
    g->centre = centre;
    g->weight = psg_infer_bool(c, "elementwise_affine", true);
    g->bias = centre && g->weight && psg_infer_bool(c, "bias", true);
    if (g->weight)
        op_param(c, "weight", normalized, op_init_constant(1));
    if (g->bias)
        op_param(c, "bias", normalized, op_init_constant(0));
    op_out(c, *in);
    psg_infer_save(c, g->rows * g->dim + g->rows, 0);
    psg_infer_scratch(c, 0, g->rows * g->dim + g->dim);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static int layer_norm_infer(struct psg_infer *c)
{
    return norm_infer(c, true, 1e-5);
}

static int rms_norm_infer(struct psg_infer *c)
{
    return norm_infer(c, false,
                      sizeof(psg_real) == sizeof(float) ? FLT_EPSILON : DBL_EPSILON);
}

static const psg_real *rstd_of(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    return c->saved + c->n * g->rows * g->dim;
}

static void norm_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows;
    psg_real *xhat = c->saved;
    c->be->normalize(rows, g->dim, g->eps, g->centre, op_in(c, 0), xhat,
                     xhat + rows * g->dim);
    if (!g->weight) {
        op_copy(c->be, rows * g->dim, xhat, c->out[0]);
        return;
    }
    op_binary_cols(c->be, PSG_MUL, rows, g->dim, xhat, c->param[0], c->out[0]);
    if (g->bias)
        c->be->add_bias(rows, g->dim, c->out[0], c->param[1], c->out[0]);
}

static void norm_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows;
    if (!op_wants_din(c, 0))
        return;
    const psg_real *dxhat = c->dout[0];
    if (g->weight) {
        op_binary_cols(c->be, PSG_MUL, rows, g->dim, c->dout[0], c->param[0], c->scratch);
        dxhat = c->scratch;
    }
    c->be->normalize_bwd(rows, g->dim, g->centre, c->saved, rstd_of(c), dxhat, c->din[0]);
}

static void norm_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (g->weight && c->grad[0]) {
        op_binary(c->be, PSG_MUL, c->n * g->rows * g->dim, c->dout[0], c->saved,
                  c->scratch);
        c->be->sum_rows(c->n, g->rows, g->dim, c->scratch, c->grad[0], c->grad_stride);
    }
    if (g->bias && c->grad[1])
        c->be->sum_rows(c->n, g->rows, g->dim, c->dout[0], c->grad[1], c->grad_stride);
}

static void norm_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->dim, g->dim };
    op_rows_norm_sample(c, norm_grad_sample, g->weight + g->bias, size,
                        c->scratch + c->n * g->rows * g->dim);
}

static void norm_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->dim, g->dim };
    op_rows_clipped_sum(c, norm_grad_sample, g->weight + g->bias, size,
                        c->scratch + c->n * g->rows * g->dim);
}

static void norm_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value x = OP_RESHAPE(l, l->in[0], g->rows, g->dim);
    psg_value scale = psg_g_scalar(l->g, g->dim > 0 ? 1 / (double)g->dim : 0);
    if (g->centre) {
        psg_value mean = psg_g_mul(l->g, psg_g_sum(l->g, x, 2u), scale);
        x = psg_g_sub(l->g, x, op_g_unsqueeze(l, mean, 1));
    }
    psg_value var = psg_g_mul(l->g, psg_g_sum(l->g, psg_g_mul(l->g, x, x), 2u), scale);
    psg_value rstd =
        psg_g_unary(l->g, PSG_RSQRT, psg_g_add(l->g, var, psg_g_scalar(l->g, g->eps)));
    psg_value y = psg_g_mul(l->g, x, op_g_unsqueeze(l, rstd, 1));
    if (g->weight)
        y = psg_g_mul(l->g, y, OP_RESHAPE(l, l->param[0], g->dim));
    if (g->bias)
        y = psg_g_add(l->g, y, OP_RESHAPE(l, l->param[1], g->dim));
    l->out[0] = psg_g_reshape(l->g, y, &l->in_type[0].shape);
}

static const struct psg_op_case layer_cases[] = {
    { "normalized_shape=5", "5" },
    { "normalized_shape=4 eps=0.01", "3x4" },
    { "normalized_shape=3,4 bias=false", "2x3x4" },
    { "normalized_shape=4 elementwise_affine=false", "2x3x4" },
    { NULL, NULL },
};

static const struct psg_op_case rms_cases[] = {
    { "normalized_shape=5 eps=1e-6", "5" },
    { "normalized_shape=3,4", "2x3x4" },
    { "normalized_shape=4 elementwise_affine=false eps=0.1", "3x4" },
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

NORM_OP(layer_norm, layer_attrs, layer_cases);
NORM_OP(rms_norm, rms_attrs, rms_cases);
