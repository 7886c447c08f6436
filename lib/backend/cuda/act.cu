/* Activations and their derivatives, in double; formulas and kinks of PyTorch. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/sigmoid.h"

static const double selu_alpha = 1.6732632423543772848170429916717;
static const double selu_scale = 1.0507009873554804934193349852946;

DEVICE double act_clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* log(1 + exp(x)) without overflow; fmax would drop a NaN, log1p brings it back */
DEVICE double log1p_exp(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

DEVICE double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

DEVICE double normal_pdf(double x)
{
    return exp(-0.5 * x * x) * 0.5 * M_SQRT1_2 * M_2_SQRTPI;
}

/* argument of tanh in the approximate gelu, sqrt(2/pi) (x + 0.044715 x^3), and its slope */
DEVICE double gelu_inner(double x)
{
    return M_SQRT2 * M_2_SQRTPI * 0.5 * (x + 0.044715 * x * x * x);
}

DEVICE double gelu_inner_slope(double x)
{
    return M_SQRT2 * M_2_SQRTPI * 0.5 * (1 + 3 * 0.044715 * x * x);
}

DEVICE double act_value(enum psg_act f, double p0, double p1, double x)
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
    case PSG_ACT_HARDSWISH: return x * act_clamp(x + 3, 0, 6) / 6;
    case PSG_ACT_HARDSIGMOID: return act_clamp(x + 3, 0, 6) / 6;
    case PSG_ACT_HARDTANH: return act_clamp(x, p0, p1);
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

DEVICE double gelu_tanh_slope(double x)
{
    double z = 2 * gelu_inner(x), s = sigmoid(z); /* (1 + tanh) / 2; its slope is s s(-z) */
    return s + 2 * x * s * sigmoid(-z) * gelu_inner_slope(x);
}

DEVICE double act_slope(enum psg_act f, double p0, double p1, double x)
{
    double s = 0;
    switch (f) {
    case PSG_ACT_RELU: return x <= 0 ? 0 : 1;
    case PSG_ACT_TANH: s = tanh(x); return 1 - s * s;
    case PSG_ACT_SIGMOID: s = sigmoid(x); return s * (1 - s);
    case PSG_ACT_GELU: return normal_cdf(x) + x * normal_pdf(x);
    case PSG_ACT_GELU_TANH: return gelu_tanh_slope(x);
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
    case PSG_ACT_TANHSHRINK: s = tanh(x); return s * s;
    case PSG_ACT_LOGSIGMOID: return sigmoid(-x);
    case PSG_ACT_HARDSHRINK:
    case PSG_ACT_SOFTSHRINK: return fabs(x) <= p0 ? 0 : 1;
    case PSG_ACT_MISH: s = tanh(log1p_exp(x)); return s + x * (1 - s * s) * sigmoid(x);
    case PSG_ACT_THRESHOLD: return x <= p0 ? 0 : 1;
    case PSG_ACT_COUNT: break;
    }
    return NAN;
}

struct act_params {
    enum psg_act f;
    double p[2];
};

/* p lies in host memory and may be NULL for functions without parameters. */
static struct act_params params_of(enum psg_act f, const psg_real *p)
{
    struct act_params a = { f, { 0, 0 } };
    int n = 0;
    switch (f) {
    case PSG_ACT_SOFTPLUS:
    case PSG_ACT_HARDTANH:
    case PSG_ACT_THRESHOLD: n = 2; break;
    case PSG_ACT_ELU:
    case PSG_ACT_LEAKY_RELU:
    case PSG_ACT_CELU:
    case PSG_ACT_HARDSHRINK:
    case PSG_ACT_SOFTSHRINK: n = 1; break;
    default: break;
    }
    for (int i = 0; i < n; i++)
        a.p[i] = (double)p[i];
    return a;
}

KERNEL act_kernel(struct act_params a, int64_t n, const psg_real *x, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = (psg_real)act_value(a.f, a.p[0], a.p[1], (double)x[i]);
}

void cuda_act(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x, psg_real *y)
{
    LAUNCH_EACH(act_kernel, n, params_of(f, p), n, x, y);
}

KERNEL act_bwd_kernel(struct act_params a, int64_t n, const psg_real *x, const psg_real *dy,
                      psg_real *dx)
{
    THREADS EACH_OF_GRID(i, n)
        dx[i] = (psg_real)((double)dy[i] * act_slope(a.f, a.p[0], a.p[1], (double)x[i]));
}

void cuda_act_bwd(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x,
                  const psg_real *y, const psg_real *dy, psg_real *dx)
{
    (void)y;
    LAUNCH_EACH(act_bwd_kernel, n, params_of(f, p), n, x, dy, dx);
}
