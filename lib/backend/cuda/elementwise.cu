/* One thread for each element; functions in double. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/walk.h"
#include "base/bf16.h"

KERNEL fill_kernel(int64_t n, psg_real value, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = value;
}

void cuda_fill(int64_t n, psg_real value, psg_real *y)
{
    LAUNCH_EACH(fill_kernel, n, n, value, y);
}

DEVICE double unary_value(enum psg_unary f, double x)
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
    case PSG_SIGN: return x > 0 ? 1 : x < 0 ? -1 : 0;
    case PSG_FLOOR: return floor(x);
    case PSG_SIN: return sin(x);
    case PSG_COS: return cos(x);
    case PSG_RECIP: return 1 / x;
    case PSG_BF16: return (double)bf16_to_real(bf16_from_real((psg_real)x));
    case PSG_UNARY_COUNT: break;
    }
    return NAN;
}

KERNEL unary_kernel(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = (psg_real)unary_value(f, (double)x[i]);
}

void cuda_unary(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y)
{
    LAUNCH_EACH(unary_kernel, n, f, n, x, y);
}

/* Arithmetic of two psg_real rounded once is the same from double; pow is better from it. */
DEVICE psg_real binary_value(enum psg_binary f, psg_real a, psg_real b)
{
    switch (f) {
    case PSG_ADD: return a + b;
    case PSG_SUB: return a - b;
    case PSG_MUL: return a * b;
    case PSG_DIV: return a / b;
    case PSG_POW: return (psg_real)pow((double)a, (double)b);
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
    return (psg_real)NAN;
}

KERNEL binary_kernel(enum psg_binary f, struct walk w, const psg_real *a, const psg_real *b,
                     psg_real *y)
{
    THREADS EACH_OF_GRID(i, w.n)
    {
        struct walk_place p = walk_at(w, i);
        y[i] = binary_value(f, a[p.at[0]], b[p.at[1]]);
    }
}

void cuda_binary(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                 const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                 psg_real *y)
{
    struct walk w = walk_make(shape, stride_a, stride_b);
    LAUNCH_EACH(binary_kernel, w.n, f, w, a, b, y);
}

KERNEL select_kernel(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                     psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = mask[i] != 0 ? a[i] : b[i];
}

void cuda_select(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                 psg_real *y)
{
    LAUNCH_EACH(select_kernel, n, n, mask, a, b, y);
}

KERNEL narrow_kernel(int64_t n, const psg_real *x, uint16_t *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = bf16_from_real(x[i]);
}

void cuda_narrow(int64_t n, const psg_real *x, uint16_t *y)
{
    LAUNCH_EACH(narrow_kernel, n, n, x, y);
}

KERNEL widen_kernel(int64_t n, const uint16_t *x, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = bf16_to_real(x[i]);
}

void cuda_widen(int64_t n, const uint16_t *x, psg_real *y)
{
    LAUNCH_EACH(widen_kernel, n, n, x, y);
}

KERNEL axpy_kernel(int64_t n, psg_real alpha, const psg_real *x, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = (psg_real)((double)y[i] + (double)alpha * (double)x[i]);
}

void cuda_axpy(int64_t n, psg_real alpha, const psg_real *x, psg_real *y)
{
    LAUNCH_EACH(axpy_kernel, n, n, alpha, x, y);
}
