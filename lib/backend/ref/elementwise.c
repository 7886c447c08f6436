/* One function per element, computed in double. */
#include "ref.h"

#include <math.h>

#include "base/bf16.h"
#include "index.h"

void ref_fill(int64_t n, psg_real value, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = value;
}

static double unary_value(enum psg_unary f, double x)
{
    switch (f) {
    case PSG_NEG: return -x;
    case PSG_EXP: return exp(x);
    case PSG_LOG: return log(x);
    case PSG_LOG1P: return log1p(x);
    case PSG_EXPM1: return expm1(x);
    case PSG_SQRT: return sqrt(x);
    case PSG_RSQRT: return 1 / sqrt(x);
    case PSG_TANH: return tanh(x);
    case PSG_SIGMOID: return 1 / (1 + exp(-x));
    case PSG_ERF: return erf(x);
    case PSG_ABS: return fabs(x);
    case PSG_SIGN: return (x > 0) - (x < 0);
    case PSG_FLOOR: return floor(x);
    case PSG_SIN: return sin(x);
    case PSG_COS: return cos(x);
    case PSG_RECIP: return 1 / x;
    case PSG_BF16: return (double)bf16_to_real(bf16_from_real((psg_real)x));
    case PSG_UNARY_COUNT: break;
    }
    return NAN;
}

void ref_unary(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (psg_real)unary_value(f, (double)x[i]);
}

static double binary_value(enum psg_binary f, double a, double b)
{
    switch (f) {
    case PSG_ADD: return a + b;
    case PSG_SUB: return a - b;
    case PSG_MUL: return a * b;
    case PSG_DIV: return a / b;
    case PSG_POW: return pow(a, b);
    case PSG_MAX: return isnan(a) || isnan(b) ? a + b : a > b ? a : b;
    case PSG_MIN: return isnan(a) || isnan(b) ? a + b : a < b ? a : b;
    case PSG_EQ: return a == b;
    case PSG_NE: return a != b;
    case PSG_LT: return a < b;
    case PSG_LE: return a <= b;
    case PSG_GT: return a > b;
    case PSG_GE: return a >= b;
    case PSG_BINARY_COUNT: break;
    }
    return NAN;
}

void ref_binary(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                psg_real *y)
{
    int64_t n = psg_shape_size(shape), index[PSG_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        y[i] = (psg_real)binary_value(f, (double)a[index_dot(shape->rank, index, stride_a)],
                                      (double)b[index_dot(shape->rank, index, stride_b)]);
        index_next(shape, index);
    }
}

void ref_select(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = mask[i] != 0 ? a[i] : b[i];
}

void ref_narrow(int64_t n, const psg_real *x, uint16_t *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = bf16_from_real(x[i]);
}

void ref_widen(int64_t n, const uint16_t *x, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = bf16_to_real(x[i]);
}

void ref_axpy(int64_t n, psg_real alpha, const psg_real *x, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (psg_real)((double)y[i] + (double)alpha * (double)x[i]);
}
