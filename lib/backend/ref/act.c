/* Activations y = f(x) and their derivatives f'(x), with the formulas and the choices at
 * kinks of PyTorch. NaN stays NaN. */
#include "ref.h"

#include <math.h>

static const double selu_alpha = 1.6732632423543772848170429916717;
static const double selu_scale = 1.0507009873554804934193349852946;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* log(1 + exp(x)) without overflow */
static double log1p_exp(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double normal_pdf(double x)
{
    return exp(-0.5 * x * x) * 0.5 * M_SQRT1_2 * M_2_SQRTPI;
}

/* tanh argument of the approximate gelu: sqrt(2/pi) * (x + 0.044715 x^3) */
static double gelu_inner(double x)
{
    return M_SQRT2 * M_2_SQRTPI * 0.5 * (x + 0.044715 * x * x * x);
}

static double gelu_inner_slope(double x)
{
    return M_SQRT2 * M_2_SQRTPI * 0.5 * (1 + 3 * 0.044715 * x * x);
}

static double act_value(enum psg_act f, double p0, double p1, double x)
{
    switch (f) {
    case PSG_ACT_RELU: return x <= 0 ? 0 : x;
    case PSG_ACT_TANH: return tanh(x);
    case PSG_ACT_SIGMOID: return sigmoid(x);
    case PSG_ACT_GELU: return x * normal_cdf(x);
    case PSG_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(gelu_inner(x)));
    case PSG_ACT_SILU: return x * sigmoid(x);
    case PSG_ACT_EXP: return exp(x);
    case PSG_ACT_SOFTPLUS: return x * p0 > p1 ? x : log1p_exp(x * p0) / p0;
    case PSG_ACT_ELU: return x > 0 ? x : p0 * expm1(x);
    case PSG_ACT_LEAKY_RELU: return x > 0 ? x : p0 * x;
    case PSG_ACT_HARDSWISH: return x * clamp(x + 3, 0, 6) / 6;
    case PSG_ACT_HARDSIGMOID: return clamp(x + 3, 0, 6) / 6;
    case PSG_ACT_HARDTANH: return clamp(x, p0, p1);
    case PSG_ACT_SELU: return selu_scale * (x > 0 ? x : selu_alpha * expm1(x));
    case PSG_ACT_CELU: return x > 0 ? x : p0 * expm1(x / p0);
    case PSG_ACT_SOFTSIGN: return x / (1 + fabs(x));
    case PSG_ACT_TANHSHRINK: return x - tanh(x);
    case PSG_ACT_LOGSIGMOID: return -log1p_exp(-x);
    case PSG_ACT_HARDSHRINK: return fabs(x) <= p0 ? 0 : x;
    case PSG_ACT_SOFTSHRINK: return fabs(x) <= p0 ? 0 : x > 0 ? x - p0 : x + p0;
    case PSG_ACT_MISH: return x * tanh(log1p_exp(x));
    case PSG_ACT_THRESHOLD: return x <= p0 ? p1 : x;
    case PSG_ACT_COUNT: break;
    }
    return NAN;
}

static double act_slope(enum psg_act f, double p0, double p1, double x)
{
    double s, t;
    switch (f) {
    case PSG_ACT_RELU: return x <= 0 ? 0 : 1;
    case PSG_ACT_TANH: t = tanh(x); return 1 - t * t;
    case PSG_ACT_SIGMOID: s = sigmoid(x); return s * (1 - s);
    case PSG_ACT_GELU: return normal_cdf(x) + x * normal_pdf(x);
    case PSG_ACT_GELU_TANH:
        s = sigmoid(2 * gelu_inner(x)); /* (1 + tanh) / 2; s * (1 - s) is its slope / 2 */
        return s + 2 * x * s * sigmoid(-2 * gelu_inner(x)) * gelu_inner_slope(x);
    case PSG_ACT_SILU: s = sigmoid(x); return s * (1 + x * (1 - s));
    case PSG_ACT_EXP: return exp(x);
    case PSG_ACT_SOFTPLUS: return x * p0 > p1 ? 1 : sigmoid(x * p0);
    case PSG_ACT_ELU: return x > 0 ? 1 : p0 * exp(x);
    case PSG_ACT_LEAKY_RELU: return x > 0 ? 1 : p0;
    case PSG_ACT_HARDSWISH: return x < -3 ? 0 : x <= 3 ? x / 3 + 0.5 : 1;
    case PSG_ACT_HARDSIGMOID: return x > -3 && x < 3 ? 1.0 / 6 : 0;
    case PSG_ACT_HARDTANH: return x > p0 && x < p1 ? 1 : 0;
    case PSG_ACT_SELU: return selu_scale * (x > 0 ? 1 : selu_alpha * exp(x));
    case PSG_ACT_CELU: return x > 0 ? 1 : exp(x / p0);
    case PSG_ACT_SOFTSIGN: s = 1 / (1 + fabs(x)); return s * s;
    case PSG_ACT_TANHSHRINK: t = tanh(x); return t * t;
    case PSG_ACT_LOGSIGMOID: return sigmoid(-x);
    case PSG_ACT_HARDSHRINK:
    case PSG_ACT_SOFTSHRINK: return fabs(x) <= p0 ? 0 : 1;
    case PSG_ACT_MISH: t = tanh(log1p_exp(x)); return t + x * (1 - t * t) * sigmoid(x);
    case PSG_ACT_THRESHOLD: return x <= p0 ? 0 : 1;
    case PSG_ACT_COUNT: break;
    }
    return NAN;
}

/* p may be NULL for functions without parameters */
static double param(enum psg_act f, const psg_real *p, int i)
{
    static const char n_params[PSG_ACT_COUNT] = {
        [PSG_ACT_SOFTPLUS] = 2,   [PSG_ACT_ELU] = 1,       [PSG_ACT_LEAKY_RELU] = 1,
        [PSG_ACT_HARDTANH] = 2,   [PSG_ACT_CELU] = 1,      [PSG_ACT_HARDSHRINK] = 1,
        [PSG_ACT_SOFTSHRINK] = 1, [PSG_ACT_THRESHOLD] = 2,
    };
    return i < n_params[f] ? (double)p[i] : 0;
}

void ref_act(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x, psg_real *y)
{
    double p0 = param(f, p, 0), p1 = param(f, p, 1);
    for (int64_t i = 0; i < n; i++)
        y[i] = (psg_real)act_value(f, p0, p1, (double)x[i]);
}

void ref_act_bwd(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x,
                 const psg_real *y, const psg_real *dy, psg_real *dx)
{
    (void)y;
    double p0 = param(f, p, 0), p1 = param(f, p, 1);
    for (int64_t i = 0; i < n; i++)
        dx[i] = (psg_real)((double)dy[i] * act_slope(f, p0, p1, (double)x[i]));
}
