/* exp, log, tanh, ... without branches, so that loops over them become vector code. In
 * float within 2 ulp; polynomials are minimax fits of our own on the ranges named. In
 * double: libm. */
#ifndef CPU_KERNELS_MATH_H
#define CPU_KERNELS_MATH_H

#include "backend/cpu/kernels/vec.h"

#ifdef PSG_REAL_DOUBLE

#define m_exp   exp
#define m_expm1 expm1
#define m_log   log
#define m_log1p log1p
#define m_tanh  tanh
#define m_erf   erf
#define m_sqrt  sqrt
#define m_abs   fabs
#define m_floor floor

#else

#define m_sqrt  sqrtf
#define m_abs   fabsf
#define m_floor floorf

CPU_INLINE int32_t m_bits(float x)
{
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i;
}

CPU_INLINE float m_from_bits(int32_t i)
{
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}

/* x = n * log(2) + r, |r| <= log(2) / 2; returns (exp(r) - 1) and 2^n as 2^a * 2^b */
CPU_INLINE float m_exp_split(float x, float *two_a, float *two_b)
{
    const float round =
        12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in low bits */
    float shifted = x * 1.44269504f + round;
    float n = shifted - round;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.393454193e-3f;
    p = p * r + 8.333310024e-3f;
    p = p * r + 4.166645681e-2f;
    p = p * r + 1.666666668e-1f;
    p = p * r + 5.000000014e-1f;
    int32_t whole = (int32_t)((uint32_t)m_bits(shifted) - (uint32_t)m_bits(round));
    int32_t half = whole >> 1;
    *two_a = m_from_bits((int32_t)((uint32_t)(half + 127) << 23));
    *two_b = m_from_bits((int32_t)((uint32_t)(whole - half + 127) << 23));
    return p * r * r + r;
}

CPU_INLINE float m_exp(float x)
{
    float a, b, c = x < -104 ? -104 : x;
    c = c > 89 ? 89 : c;
    return (m_exp_split(c, &a, &b) + 1) * a * b;
}

CPU_INLINE float m_expm1(float x)
{
    float a, b, c = x < -20 ? -20 : x;
    c = c > 89 ? 89 : c;
    float p = 2.492733077e-5f; /* |x| <= 0.51: 2^n (1 + e) - 1 would cancel */
    p = p * c + 1.996707529e-4f;
    p = p * c + 1.388872524e-3f;
    p = p * c + 8.333169578e-3f;
    p = p * c + 4.166666720e-2f;
    p = p * c + 1.666666720e-1f;
    p = p * c + 0.5f;
    float low = p * c * c + c;
    float e = m_exp_split(c, &a, &b);
    float s = a * b; /* infinite from n = 128 on */
    float high = c > 80 ? (e + 1) * a * b : s * e + (s - 1);
    return m_abs(c) <= 0.5f || x != x ? low : high;
}

CPU_INLINE float m_log(float x)
{
    float tiny = x < 1.17549435e-38f ? 1.0f : 0.0f;
    float v = tiny != 0 ? x * 8388608.0f : x; /* 2^23 lifts subnormal numbers */
    int32_t bits = m_bits(v);
    /* v = 2^n * m, sqrt(1/2) <= m < sqrt(2) */
    int32_t n = (int32_t)((uint32_t)bits - 0x3f3504f3u) >> 23;
    float m = m_from_bits((int32_t)((uint32_t)bits - ((uint32_t)n << 23)));
    float f = m - 1, k = (float)n - tiny * 23;
    float p = 6.971611471e-2f;
    p = p * f - 1.147973385e-1f;
    p = p * f + 1.168541992e-1f;
    p = p * f - 1.242568733e-1f;
    p = p * f + 1.424905765e-1f;
    p = p * f - 1.666780232e-1f;
    p = p * f + 2.000071575e-1f;
    p = p * f - 2.499999696e-1f;
    p = p * f + 3.333333118e-1f;
    float y = f * f * (p * f - 0.5f) - k * 2.12194440e-4f;
    y = y + f + k * 0.693359375f;
    y = x == 0 ? -INFINITY : y;
    y = x == INFINITY ? INFINITY : y;
    return x < 0 || x != x ? NAN : y;
}

/* u = 1 + x rounds; log(u) * x / (u - 1) takes the rounding out again (Kahan) */
CPU_INLINE float m_log1p(float x)
{
    float u = 1 + x, d = u - 1;
    float y = m_log(u) * (x / (d == 0 ? 1 : d));
    y = d == 0 ? x : y;
    return x == INFINITY ? INFINITY : x == -1 ? -INFINITY : y;
}

CPU_INLINE float m_tanh(float x)
{
    float t = m_abs(x), s = x * x;
    float p = -6.045165097e-3f; /* |x| < 0.63 */
    p = p * s + 2.096132911e-2f;
    p = p * s - 5.384326318e-2f;
    p = p * s + 1.333271885e-1f;
    p = p * s - 3.333332843e-1f;
    float low = p * s * x + x;
    float high = 1 - 2 / (m_exp(2 * (t > 10 ? 10 : t)) + 1);
    high = x < 0 ? -high : high;
    return t < 0.625f || x != x ? low : high;
}

CPU_INLINE float m_erf(float x)
{
    float t = m_abs(x), s = x * x;
    float p = 7.875875063e-5f; /* |x| <= 1 */
    p = p * s - 8.016864287e-4f;
    p = p * s + 5.189087423e-3f;
    p = p * s - 2.685421201e-2f;
    p = p * s + 1.128359472e-1f;
    p = p * s - 3.761262667e-1f;
    p = p * s + 1.283791658e-1f;
    float low = p * x + x;
    float c = t > 4.2f ? 4.2f : t, u = 2 / (2 + c); /* exp(t^2) erfc(t) for 1 <= t <= 4.2 */
    float q = -5.6199323e-2f;
    q = q * u - 4.884562839e-2f;
    q = q * u + 3.926775919e-1f;
    q = q * u + 1.089886249e-1f;
    q = q * u + 3.278764796e-1f;
    q = q * u + 2.742169499e-1f;
    q = q * u + 5.566953267e-4f;
    float high = 1 - q * m_exp(-c * c);
    high = x < 0 ? -high : high;
    return t <= 1 || x != x ? low : high;
}

#endif

CPU_INLINE psg_real m_sigmoid(psg_real x)
{
    return 1 / (1 + m_exp(-x));
}

/* log(1 + exp(x)) */
CPU_INLINE psg_real m_softplus(psg_real x)
{
    return (x < 0 ? 0 : x) + m_log1p(m_exp(-m_abs(x)));
}

#endif
