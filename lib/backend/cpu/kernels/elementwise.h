/* Elementwise kernels: one loop per function, vectorised by the compiler. */
#ifndef CPU_KERNELS_ELEMENTWISE_H
#define CPU_KERNELS_ELEMENTWISE_H

#include "backend/cpu/collapse.h"
#include "backend/cpu/kernels/bf16.h"
#include "backend/cpu/kernels/math.h"

static void cpu_fill(int64_t n, psg_real value, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = value;
}

static void cpu_unary(enum psg_unary f, int64_t n, const psg_real *at, psg_real *y)
{
    switch (f) {
#define UNARY(name, value)                                                                 \
    case PSG_##name:                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real x = at[i];                                                            \
            y[i] = value;                                                                  \
        }                                                                                  \
        break;
#include "backend/cpu/kernels/unary.inc"
#undef UNARY
    default: ref_unary(f, n, at, y); break; /* sin and cos: rare, and libm reduces well */
    }
}

/* one row: y[i] = f(a[i * step_a], b[i * step_b]) */
static void binary_row(enum psg_binary f, int64_t n, const psg_real *a, int64_t step_a,
                       const psg_real *b, int64_t step_b, psg_real *y)
{
    int form = step_a == 1 && step_b == 1   ? 0
               : step_a == 1 && step_b == 0 ? 1
               : step_a == 0 && step_b == 1 ? 2
                                            : 3;
    switch ((int)f * 4 + form) {
#define BINARY(name, value)                                                                \
    case PSG_##name * 4:                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real u = a[i], v = b[i];                                                   \
            y[i] = value;                                                                  \
        }                                                                                  \
        break;                                                                             \
    case PSG_##name * 4 + 1: {                                                             \
        psg_real v = b[0];                                                                 \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real u = a[i];                                                             \
            y[i] = value;                                                                  \
        }                                                                                  \
        break;                                                                             \
    }                                                                                      \
    case PSG_##name * 4 + 2: {                                                             \
        psg_real u = a[0];                                                                 \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real v = b[i];                                                             \
            y[i] = value;                                                                  \
        }                                                                                  \
        break;                                                                             \
    }                                                                                      \
    case PSG_##name * 4 + 3:                                                               \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real u = a[i * step_a], v = b[i * step_b];                                 \
            y[i] = value;                                                                  \
        }                                                                                  \
        break;
#include "backend/cpu/kernels/binary.inc"
#undef BINARY
    default: { /* pow */
        const struct psg_shape row = { .rank = 1, .dim = { n } };
        ref_binary(f, &row, a, &step_a, b, &step_b, y);
    }
    }
}

static void cpu_binary(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                       const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                       psg_real *y)
{
    struct collapse c = collapse_make(shape, stride_a, stride_b);
    int64_t index[PSG_MAX_RANK] = { 0 }, at[2] = { 0, 0 };
    for (int64_t i = 0; i < c.n_rows; i++) {
        binary_row(f, c.n, a + at[0], c.step[0], b + at[1], c.step[1], y + i * c.n);
        collapse_next(&c, index, at);
    }
}

static void cpu_select(int64_t n, const psg_real *mask, const psg_real *a,
                       const psg_real *b, psg_real *y)
{
    for (int64_t i = 0; i < n; i++) {
        psg_real u = a[i], v = b[i];
        y[i] = mask[i] != 0 ? u : v;
    }
}

static void cpu_axpy(int64_t n, psg_real alpha, const psg_real *x, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += alpha * x[i];
}

/* ---- activations ---- */

static const psg_real inv_sqrt2 = (psg_real)0.70710678118654752440;
static const psg_real inv_sqrt_2pi = (psg_real)0.39894228040143267794;
static const psg_real selu_alpha = (psg_real)1.6732632423543772848170429916717;
static const psg_real selu_scale = (psg_real)1.0507009873554804934193349852946;
static const psg_real gelu_scale = (psg_real)0.79788456080286535588; /* sqrt(2 / pi) */
static const psg_real gelu_cubic = (psg_real)0.044715;

CPU_INLINE psg_real clamp(psg_real x, psg_real low, psg_real high)
{
    return x < low ? low : x > high ? high : x;
}

/* (1 + tanh(z)) / 2 = sigmoid(2 z) */
CPU_INLINE psg_real gelu_inner(psg_real x)
{
    return gelu_scale * (x + gelu_cubic * x * x * x);
}

/* s + 2 x s (1 - s) z'(x) with s = sigmoid(2 z), s (1 - s) = e / (1 + e)^2 without
 * cancelling */
CPU_INLINE psg_real gelu_tanh_slope(psg_real x)
{
    psg_real z2 = 2 * gelu_inner(x), e = m_exp(-m_abs(z2)), r = 1 / (1 + e);
    psg_real s = z2 < 0 ? e * r : r;
    return s + 2 * x * e * r * r * gelu_scale * (1 + 3 * gelu_cubic * x * x);
}

CPU_INLINE psg_real silu_slope(psg_real x, psg_real s)
{
    return s * (1 + x * (1 - s));
}

CPU_INLINE psg_real mish_slope(psg_real x, psg_real t, psg_real s)
{
    return t + x * (1 - t * t) * s;
}

static const char act_params[PSG_ACT_COUNT] = {
    [PSG_ACT_SOFTPLUS] = 2,   [PSG_ACT_ELU] = 1,       [PSG_ACT_LEAKY_RELU] = 1,
    [PSG_ACT_HARDTANH] = 2,   [PSG_ACT_CELU] = 1,      [PSG_ACT_HARDSHRINK] = 1,
    [PSG_ACT_SOFTSHRINK] = 1, [PSG_ACT_THRESHOLD] = 2,
};

static void cpu_act(enum psg_act f, const psg_real *p, int64_t n, const psg_real *at,
                    psg_real *out)
{
    psg_real p0 = act_params[f] > 0 ? p[0] : 0, p1 = act_params[f] > 1 ? p[1] : 0;
    switch (f) {
#define ACT(name, value, slope)                                                            \
    case PSG_ACT_##name:                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real x = at[i];                                                            \
            out[i] = value;                                                                \
        }                                                                                  \
        break;
#include "backend/cpu/kernels/act.inc"
#undef ACT
    case PSG_ACT_COUNT: break;
    }
}

static void cpu_act_bwd(enum psg_act f, const psg_real *p, int64_t n, const psg_real *at,
                        const psg_real *value_at, const psg_real *dy, psg_real *dx)
{
    psg_real p0 = act_params[f] > 0 ? p[0] : 0, p1 = act_params[f] > 1 ? p[1] : 0;
    switch (f) {
#define ACT(name, value, slope)                                                            \
    case PSG_ACT_##name:                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                  \
            psg_real x = at[i], y = value_at[i];                                           \
            (void)x, (void)y;                                                              \
            dx[i] = dy[i] * (slope);                                                       \
        }                                                                                  \
        break;
#include "backend/cpu/kernels/act.inc"
#undef ACT
    case PSG_ACT_COUNT: break;
    }
}

#endif
