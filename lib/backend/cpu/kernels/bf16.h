/* Real numbers to bf16 and back. The rounding of base/bf16.h in lanes of 32 bits: one add, two
 * shifts and a select for each number; stores are half as wide as loads. */
#ifndef CPU_KERNELS_BF16_H
#define CPU_KERNELS_BF16_H

#include "backend/cpu/kernels/vec.h"
#include "base/bf16.h"

CPU_INLINE psg_real m_bf16(psg_real x)
{
    return bf16_to_real(bf16_from_real(x));
}

#ifdef PSG_REAL_DOUBLE

#define cpu_narrow ref_narrow
#define cpu_widen  ref_widen

#else

typedef uint32_t word_any
    __attribute__((vector_size(CPU_VECTOR_BYTES), aligned(sizeof(float)), may_alias));
typedef uint16_t half_any
    __attribute__((vector_size(CPU_VECTOR_BYTES / 2), aligned(sizeof(uint16_t)), may_alias));

static void cpu_narrow(int64_t n, const psg_real *x, uint16_t *y)
{
    int64_t i = 0;
    for (; i + VEC_LEN <= n; i += VEC_LEN) {
        word_any u = *(const word_any *)(x + i);
        word_any rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, nan = (u >> 16) | 0x40;
        word_any is_nan = (word_any)((u & 0x7fffffff) > 0x7f800000);
        *(half_any *)(y + i) =
            __builtin_convertvector((nan & is_nan) | (rounded & ~is_nan), half_any);
    }
    for (; i < n; i++)
        y[i] = bf16_from_real(x[i]);
}

static void cpu_widen(int64_t n, const uint16_t *x, psg_real *y)
{
    int64_t i = 0;
    for (; i + VEC_LEN <= n; i += VEC_LEN)
        *(word_any *)(y + i) =
            __builtin_convertvector(*(const half_any *)(x + i), word_any) << 16;
    for (; i < n; i++)
        y[i] = bf16_to_real(x[i]);
}

#endif
#endif
