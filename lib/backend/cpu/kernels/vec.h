/* Vectors of CPU_VECTOR_BYTES in the notation of GCC and Clang, for any processor. */
#ifndef CPU_KERNELS_VEC_H
#define CPU_KERNELS_VEC_H

#include <math.h>
#include <string.h>

#include "backend/ref/ref.h"

enum { VEC_LEN = CPU_VECTOR_BYTES / sizeof(psg_real), WIDE_LEN = CPU_VECTOR_BYTES / 8 };

typedef psg_real vec __attribute__((vector_size(CPU_VECTOR_BYTES)));
typedef psg_real vec_any
    __attribute__((vector_size(CPU_VECTOR_BYTES), aligned(sizeof(psg_real)), may_alias));
/* WIDE_LEN numbers, in memory as psg_real and in registers as double */
typedef double wide __attribute__((vector_size(CPU_VECTOR_BYTES)));
typedef psg_real wide_any __attribute__((vector_size(WIDE_LEN * sizeof(psg_real)),
                                         aligned(sizeof(psg_real)), may_alias));

#if defined(__clang__)
#define CPU_UNROLL _Pragma("unroll")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif
#define CPU_INLINE static inline __attribute__((always_inline))

CPU_INLINE vec vec_load(const psg_real *p)
{
    return (vec) * (const vec_any *)p;
}

CPU_INLINE void vec_store(psg_real *p, vec v)
{
    *(vec_any *)p = (vec_any)v;
}

/* ---- transposes, by rounds of interleaving ---- */

#if CPU_VECTOR_BYTES == 64 && !defined(PSG_REAL_DOUBLE)
#define VEC_ZIP_LOW(a, b)                                                                  \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define VEC_ZIP_HIGH(a, b)                                                                 \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,    \
                            15, 31)
#elif CPU_VECTOR_BYTES / 8 == 8 || (CPU_VECTOR_BYTES == 32 && !defined(PSG_REAL_DOUBLE))
#define VEC_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define VEC_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif CPU_VECTOR_BYTES == 32 || !defined(PSG_REAL_DOUBLE)
#define VEC_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define VEC_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define VEC_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 2)
#define VEC_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif

/* v is n rows, n a power of two up to VEC_LEN. Afterwards v[r] holds VEC_LEN / n columns of
 * n numbers, those from column r * VEC_LEN / n on. */
CPU_INLINE void vec_transpose(int n, vec *v)
{
    CPU_UNROLL
    for (int round = 1; round < n; round *= 2) {
        vec next[VEC_LEN];
        CPU_UNROLL
        for (int i = 0; i < n / 2; i++) {
            next[2 * i] = VEC_ZIP_LOW(v[i], v[i + n / 2]);
            next[2 * i + 1] = VEC_ZIP_HIGH(v[i], v[i + n / 2]);
        }
        CPU_UNROLL
        for (int i = 0; i < n; i++)
            v[i] = next[i];
    }
}

/* ---- sums in double ---- */

CPU_INLINE wide wide_load(const psg_real *p)
{
    return __builtin_convertvector(*(const wide_any *)p, wide);
}

/* fixed order, so that a sum does not depend on the compiler's mood */
CPU_INLINE double wide_total(wide v)
{
    double sum = 0;
    for (int i = 0; i < WIDE_LEN; i++)
        sum += v[i];
    return sum;
}

/* sum of x[0..n) in double */
static inline double wide_sum(int64_t n, const psg_real *x)
{
    wide s0 = { 0 }, s1 = { 0 };
    int64_t i = 0;
    for (; i + 2 * WIDE_LEN <= n; i += 2 * WIDE_LEN) {
        s0 += wide_load(x + i);
        s1 += wide_load(x + i + WIDE_LEN);
    }
    double sum = wide_total(s0 + s1);
    for (; i < n; i++)
        sum += (double)x[i];
    return sum;
}

/* sum of (x[i] - m)^2 in double */
static inline double wide_sum_square(int64_t n, const psg_real *x, double m)
{
    wide s[4] = { { 0 } };
    int64_t i = 0;
    for (; i + 4 * WIDE_LEN <= n; i += 4 * WIDE_LEN) {
        CPU_UNROLL
        for (int j = 0; j < 4; j++) {
            wide v = wide_load(x + i + j * WIDE_LEN) - m;
            s[j] += v * v;
        }
    }
    double sum = wide_total((s[0] + s[1]) + (s[2] + s[3]));
    for (; i < n; i++)
        sum += ((double)x[i] - m) * ((double)x[i] - m);
    return sum;
}

/* sum of a[i] * b[i] in double */
static inline double wide_dot(int64_t n, const psg_real *a, const psg_real *b)
{
    wide s0 = { 0 }, s1 = { 0 };
    int64_t i = 0;
    for (; i + 2 * WIDE_LEN <= n; i += 2 * WIDE_LEN) {
        s0 += wide_load(a + i) * wide_load(b + i);
        s1 += wide_load(a + i + WIDE_LEN) * wide_load(b + i + WIDE_LEN);
    }
    double sum = wide_total(s0 + s1);
    for (; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

#endif
