/* Activations: y = f(x) element by element, any shape.
 *
 *   dx = dy * f'(x), with PyTorch's formulas and choices at kinks (listed in
 *   psg/backend.h).
 * Lowerings keep exp and its like away from arguments whose branch is not taken: a product
 * of zero and infinity in the gradient would be NaN. */
#include <math.h>

#include "op/common.h"
#include "op/ops.h"

struct geom {
    enum psg_act act;
    int64_t size;
    psg_real p[2];
    psg_value (*formula)(struct psg_graph *g, const psg_real *p, psg_value x);
};

/* ---- formulas over primitives ---- */
static psg_value num(struct psg_graph *g, double v)
{
    return psg_g_scalar(g, v);
}

static psg_value clamp(struct psg_graph *g, psg_value x, double low, double high)
{
    psg_value y = psg_g_select(g, psg_g_binary(g, PSG_LE, x, num(g, low)), num(g, low), x);
    return psg_g_select(g, psg_g_binary(g, PSG_GE, x, num(g, high)), num(g, high), y);
}

/* x > 0 ? pos : neg; NaN takes neg */
static psg_value if_positive(struct psg_graph *g, psg_value x, psg_value pos, psg_value neg)
{
    return psg_g_select(g, psg_g_binary(g, PSG_GT, x, num(g, 0)), pos, neg);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); both parts take the branch x <= 0 at 0, so that
 * their derivatives add up to 1/2 there */
static psg_value softplus1(struct psg_graph *g, psg_value x)
{
    psg_value tail = psg_g_exp(g, if_positive(g, x, psg_g_neg(g, x), x));
    return psg_g_add(g, if_positive(g, x, x, num(g, 0)), psg_g_unary(g, PSG_LOG1P, tail));
}

static psg_value lower_relu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_select(g, psg_g_binary(g, PSG_LE, x, num(g, 0)), num(g, 0), x);
}

static psg_value lower_tanh(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_tanh(g, x);
}

static psg_value lower_sigmoid(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_sigmoid(g, x);
}

static psg_value lower_gelu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    psg_value e = psg_g_unary(g, PSG_ERF, psg_g_mul(g, x, num(g, M_SQRT1_2)));
    return psg_g_mul(g, psg_g_mul(g, x, num(g, 0.5)), psg_g_add(g, e, num(g, 1)));
}

static psg_value lower_gelu_tanh(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    psg_value x3 = psg_g_mul(g, x, psg_g_mul(g, x, x));
    psg_value inner = psg_g_add(g, x, psg_g_mul(g, x3, num(g, 0.044715)));
    psg_value t = psg_g_tanh(g, psg_g_mul(g, inner, num(g, M_SQRT2 * M_2_SQRTPI * 0.5)));
    return psg_g_mul(g, psg_g_mul(g, x, num(g, 0.5)), psg_g_add(g, t, num(g, 1)));
}

static psg_value lower_silu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_mul(g, x, psg_g_sigmoid(g, x));
}

static psg_value lower_exp(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_exp(g, x);
}

static psg_value lower_softplus(struct psg_graph *g, const psg_real *p, psg_value x)
{
    psg_value bx = psg_g_mul(g, x, num(g, (double)p[0]));
    psg_value soft = psg_g_div(g, softplus1(g, bx), num(g, (double)p[0]));
    return psg_g_select(g, psg_g_binary(g, PSG_GT, bx, num(g, (double)p[1])), x, soft);
}

/* min(x, 0) that leaves at 0 with slope 1 */
static psg_value min0(struct psg_graph *g, psg_value x)
{
    return if_positive(g, x, num(g, 0), x);
}

/* a * expm1(min(x, 0) / scale) below zero, x above */
static psg_value elu_like(struct psg_graph *g, psg_value x, double a, double scale)
{
    psg_value e = psg_g_unary(g, PSG_EXPM1, psg_g_div(g, min0(g, x), num(g, scale)));
    return if_positive(g, x, x, psg_g_mul(g, e, num(g, a)));
}

static psg_value lower_elu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    return elu_like(g, x, (double)p[0], 1);
}

static psg_value lower_celu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    return elu_like(g, x, (double)p[0], (double)p[0]);
}

static psg_value lower_selu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    psg_value y = elu_like(g, x, 1.6732632423543772848170429916717, 1);
    return psg_g_mul(g, y, num(g, 1.0507009873554804934193349852946));
}

static psg_value lower_leaky_relu(struct psg_graph *g, const psg_real *p, psg_value x)
{
    return if_positive(g, x, x, psg_g_mul(g, x, num(g, (double)p[0])));
}

static psg_value lower_hardsigmoid(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    psg_value y = psg_g_add(g, clamp(g, x, -3, 3), num(g, 3));
    return psg_g_mul(g, y, num(g, 1.0 / 6));
}

/* with the slopes of the middle piece at -3 and 3 */
static psg_value lower_hardswish(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    psg_value three = num(g, 3), least = num(g, -3);
    psg_value y = psg_g_select(g, psg_g_binary(g, PSG_LT, x, least), least, x);
    y = psg_g_select(g, psg_g_binary(g, PSG_GT, x, three), three, y);
    return psg_g_mul(g, x, psg_g_mul(g, psg_g_add(g, y, three), num(g, 1.0 / 6)));
}

static psg_value lower_hardtanh(struct psg_graph *g, const psg_real *p, psg_value x)
{
    return clamp(g, x, (double)p[0], (double)p[1]);
}

static psg_value lower_softsign(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_div(g, x, psg_g_add(g, psg_g_unary(g, PSG_ABS, x), num(g, 1)));
}

static psg_value lower_tanhshrink(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_sub(g, x, psg_g_tanh(g, x));
}

static psg_value lower_logsigmoid(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_neg(g, softplus1(g, psg_g_neg(g, x)));
}

/* 1 where |x| > lambda or x is NaN */
static psg_value outside(struct psg_graph *g, const psg_real *p, psg_value x)
{
    psg_value in =
        psg_g_binary(g, PSG_LE, psg_g_unary(g, PSG_ABS, x), num(g, (double)p[0]));
    return psg_g_sub(g, num(g, 1), in);
}

static psg_value lower_hardshrink(struct psg_graph *g, const psg_real *p, psg_value x)
{
    return psg_g_select(g, outside(g, p, x), x, num(g, 0));
}

static psg_value lower_softshrink(struct psg_graph *g, const psg_real *p, psg_value x)
{
    psg_value shift = psg_g_mul(g, psg_g_unary(g, PSG_SIGN, x), num(g, (double)p[0]));
    return psg_g_select(g, outside(g, p, x), psg_g_sub(g, x, shift), num(g, 0));
}

static psg_value lower_mish(struct psg_graph *g, const psg_real *p, psg_value x)
{
    (void)p;
    return psg_g_mul(g, x, psg_g_tanh(g, softplus1(g, x)));
}

static psg_value lower_threshold(struct psg_graph *g, const psg_real *p, psg_value x)
{
    psg_value low = psg_g_binary(g, PSG_LE, x, num(g, (double)p[0]));
    return psg_g_select(g, low, num(g, (double)p[1]), x);
}

/* ---- rules ---- */
static int act_infer(struct psg_infer *c, enum psg_act act,
                     psg_value (*formula)(struct psg_graph *, const psg_real *, psg_value))
{
    struct geom *g = c->geom;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->act = act;
    g->formula = formula;
    g->size = psg_shape_size(&c->in[0].shape);
    op_out(c, c->in[0].shape);
    bool from_value = act == PSG_ACT_TANH || act == PSG_ACT_SIGMOID || act == PSG_ACT_EXP ||
                      act == PSG_ACT_TANHSHRINK;
    psg_infer_unread(c, act == PSG_ACT_RELU, act != PSG_ACT_RELU && !from_value);
    return psg_infer_status(c);
}

static void act_params(struct psg_infer *c, double p0, double p1)
{
    struct geom *g = c->geom;
    g->p[0] = (psg_real)p0;
    g->p[1] = (psg_real)p1;
}

static void act_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    c->be->act(g->act, g->p, c->n * g->size, op_in(c, 0), c->out[0]);
}

static void act_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    /* relu(x) > 0 where x > 0 (and NaN where x is), so that x need not be kept */
    const psg_real *x = g->act == PSG_ACT_RELU ? c->out[0] : op_in(c, 0);
    if (op_wants_din(c, 0))
        c->be->act_bwd(g->act, g->p, c->n * g->size, x, c->out[0], c->dout[0], c->din[0]);
}

static void act_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = g->formula(l->g, g->p, l->in[0]);
}

static const char *const inputs[] = { "x", NULL };

static const struct psg_op_case plain_cases[] = {
    { "", "7" },
    { "", "2x3x5" },
    { "", "-" },
    { NULL, NULL },
};

#define ACT_OP(NAME, ATTRS, CASES)                                                         \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = ATTRS,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = act_forward,                                                            \
        .backward = act_backward,                                                          \
        .lower = act_lower,                                                                \
        .cases = CASES,                                                                    \
    }

/* ---- activations without attributes ---- */
#define ACT(NAME, ACTIVATION)                                                              \
    static int NAME##_infer(struct psg_infer *c)                                           \
    {                                                                                      \
        return act_infer(c, ACTIVATION, lower_##NAME);                                     \
    }                                                                                      \
    ACT_OP(NAME, NULL, plain_cases);
#include "op/activations.inc"
#undef ACT

/* ---- activations with attributes ---- */
static const struct psg_attr_spec gelu_attrs[] = {
    { "approximate", PSG_ATTR_STRING, "none (erf) or tanh" },
    { NULL, 0, NULL },
};

static int gelu_infer(struct psg_infer *c)
{
    if (psg_infer_choice(c, "approximate", "none", "none|tanh"))
        return act_infer(c, PSG_ACT_GELU_TANH, lower_gelu_tanh);
    return act_infer(c, PSG_ACT_GELU, lower_gelu);
}

static const struct psg_op_case gelu_cases[] = {
    { "", "2x7" },
    { "approximate=tanh", "9" },
    { NULL, NULL },
};
ACT_OP(gelu, gelu_attrs, gelu_cases);

static const struct psg_attr_spec softplus_attrs[] = {
    { "beta", PSG_ATTR_REAL, "1" },
    { "threshold", PSG_ATTR_REAL, "20; linear where beta * x is above" },
    { NULL, 0, NULL },
};

static int softplus_infer(struct psg_infer *c)
{
    double beta = psg_infer_real(c, "beta", 1, -1e6, 1e6);
    if (beta == 0)
        psg_infer_fail(c, PSG_E_RANGE, "beta", "beta must not be 0");
    act_params(c, beta, psg_infer_real(c, "threshold", 20, -1e6, 1e6));
    return act_infer(c, PSG_ACT_SOFTPLUS, lower_softplus);
}

static const struct psg_op_case softplus_cases[] = {
    { "", "3x4" },
    { "beta=2 threshold=1.5", "9" },
    { NULL, NULL },
};
ACT_OP(softplus, softplus_attrs, softplus_cases);

static const struct psg_attr_spec alpha_attrs[] = {
    { "alpha", PSG_ATTR_REAL, "1" },
    { NULL, 0, NULL },
};

static int elu_infer(struct psg_infer *c)
{
    act_params(c, psg_infer_real(c, "alpha", 1, -1e6, 1e6), 0);
    return act_infer(c, PSG_ACT_ELU, lower_elu);
}

static int celu_infer(struct psg_infer *c)
{
    double alpha = psg_infer_real(c, "alpha", 1, -1e6, 1e6);
    if (alpha == 0)
        psg_infer_fail(c, PSG_E_RANGE, "alpha", "alpha must not be 0");
    act_params(c, alpha, 0);
    return act_infer(c, PSG_ACT_CELU, lower_celu);
}

static const struct psg_op_case alpha_cases[] = {
    { "", "2x5" },
    { "alpha=0.6", "9" },
    { NULL, NULL },
};
ACT_OP(elu, alpha_attrs, alpha_cases);
ACT_OP(celu, alpha_attrs, alpha_cases);

static const struct psg_attr_spec leaky_relu_attrs[] = {
    { "negative_slope", PSG_ATTR_REAL, "0.01" },
    { NULL, 0, NULL },
};

static int leaky_relu_infer(struct psg_infer *c)
{
    act_params(c, psg_infer_real(c, "negative_slope", 0.01, -1e6, 1e6), 0);
    return act_infer(c, PSG_ACT_LEAKY_RELU, lower_leaky_relu);
}

static const struct psg_op_case leaky_relu_cases[] = {
    { "", "2x5" },
    { "negative_slope=0.2", "9" },
    { NULL, NULL },
};
ACT_OP(leaky_relu, leaky_relu_attrs, leaky_relu_cases);

static const struct psg_attr_spec hardtanh_attrs[] = {
    { "min_val", PSG_ATTR_REAL, "-1" },
    { "max_val", PSG_ATTR_REAL, "1" },
    { NULL, 0, NULL },
};

static int hardtanh_infer(struct psg_infer *c)
{
    double low = psg_infer_real(c, "min_val", -1, -1e30, 1e30);
    double high = psg_infer_real(c, "max_val", 1, -1e30, 1e30);
    if (!(low < high))
        psg_infer_fail(c, PSG_E_RANGE, "max_val", "max_val must be above min_val");
    act_params(c, low, high);
    return act_infer(c, PSG_ACT_HARDTANH, lower_hardtanh);
}

static const struct psg_op_case hardtanh_cases[] = {
    { "", "2x5" },
    { "min_val=-0.5 max_val=0.25", "9" },
    { NULL, NULL },
};
ACT_OP(hardtanh, hardtanh_attrs, hardtanh_cases);

static int relu6_infer(struct psg_infer *c)
{
    act_params(c, 0, 6);
    return act_infer(c, PSG_ACT_HARDTANH, lower_hardtanh);
}
ACT_OP(relu6, NULL, plain_cases);

static const struct psg_attr_spec lambda_attrs[] = {
    { "lambd", PSG_ATTR_REAL, "0.5; at least 0" },
    { NULL, 0, NULL },
};

static int hardshrink_infer(struct psg_infer *c)
{
    act_params(c, psg_infer_real(c, "lambd", 0.5, 0, 1e30), 0);
    return act_infer(c, PSG_ACT_HARDSHRINK, lower_hardshrink);
}

static int softshrink_infer(struct psg_infer *c)
{
    act_params(c, psg_infer_real(c, "lambd", 0.5, 0, 1e30), 0);
    return act_infer(c, PSG_ACT_SOFTSHRINK, lower_softshrink);
}

static const struct psg_op_case lambda_cases[] = {
    { "", "2x5" },
    { "lambd=0.25", "9" },
    { NULL, NULL },
};
ACT_OP(hardshrink, lambda_attrs, lambda_cases);
ACT_OP(softshrink, lambda_attrs, lambda_cases);

static const struct psg_attr_spec threshold_attrs[] = {
    { "threshold", PSG_ATTR_REAL, "required" },
    { "value", PSG_ATTR_REAL, "required; what replaces numbers up to threshold" },
    { NULL, 0, NULL },
};

static int threshold_infer(struct psg_infer *c)
{
    if (!psg_infer_has(c, "threshold") || !psg_infer_has(c, "value"))
        psg_infer_fail(c, PSG_E_INVALID, NULL, "threshold and value are required");
    act_params(c, psg_infer_real(c, "threshold", 0, -1e30, 1e30),
               psg_infer_real(c, "value", 0, -1e30, 1e30));
    return act_infer(c, PSG_ACT_THRESHOLD, lower_threshold);
}

static const struct psg_op_case threshold_cases[] = {
    { "threshold=0.1 value=-2", "2x5" },
    { NULL, NULL },
};
ACT_OP(threshold, threshold_attrs, threshold_cases);
