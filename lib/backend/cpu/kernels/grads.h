/* Per-sample gradients: norms in double, weighted sums that read each row once. */
#ifndef CPU_KERNELS_GRADS_H
#define CPU_KERNELS_GRADS_H

#include "backend/cpu/kernels/vec.h"

static void cpu_add_sqnorm(int64_t n, int64_t p, const psg_real *g, int64_t stride,
                           double *sq)
{
    for (int64_t s = 0; s < n; s++)
        sq[s] += wide_sum_square(p, g + s * stride, 0);
}

/* sum[0..width) += sum_n c[n] * g[n, 0..width), width in vectors */
CPU_INLINE void weighted_block(int width, int64_t n, const psg_real *c, const psg_real *g,
                               int64_t stride, psg_real *sum)
{
    vec acc[4];
    CPU_UNROLL
    for (int j = 0; j < width; j++)
        acc[j] = vec_load(sum + j * VEC_LEN);
    for (int64_t s = 0; s < n; s++) {
        if (c[s] == 0)
            continue;
        CPU_UNROLL
        for (int j = 0; j < width; j++)
            acc[j] += c[s] * vec_load(g + s * stride + j * VEC_LEN);
    }
    CPU_UNROLL
    for (int j = 0; j < width; j++)
        vec_store(sum + j * VEC_LEN, acc[j]);
}

static void cpu_add_weighted(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                             int64_t stride, psg_real *sum)
{
    int64_t i = 0;
    for (; i + 4 * VEC_LEN <= p; i += 4 * VEC_LEN)
        weighted_block(4, n, c, g + i, stride, sum + i);
    for (; i + VEC_LEN <= p; i += VEC_LEN)
        weighted_block(1, n, c, g + i, stride, sum + i);
    for (; i < p; i++)
        for (int64_t s = 0; s < n; s++)
            if (c[s] != 0)
                sum[i] += c[s] * g[s * stride + i];
}

#endif
