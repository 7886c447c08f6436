/* Per-sample gradients: their squared norms and their weighted sum. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"

/* one block for each row */
KERNEL add_sqnorm_kernel(int64_t p, const psg_real *g, int64_t stride, double *sq)
{
    SHARED double part[CUDA_THREADS];
    const psg_real *row = g + (int64_t)blockIdx.x * stride;
    THREADS
    {
        double sum = 0;
        for (int64_t i = threadIdx.x; i < p; i += blockDim.x)
            sum += (double)row[i] * (double)row[i];
        part[threadIdx.x] = sum;
    }
    block_sum(part);
    THREADS if (threadIdx.x == 0)
        sq[blockIdx.x] += part[0];
}

void cuda_add_sqnorm(int64_t n, int64_t p, const psg_real *g, int64_t stride, double *sq)
{
    LAUNCH(add_sqnorm_kernel, n, CUDA_THREADS, p, g, stride, sq);
}

/* one thread for each coordinate */
KERNEL add_weighted_kernel(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                           int64_t stride, psg_real *sum)
{
    THREADS EACH_OF_GRID(i, p)
    {
        double total = (double)sum[i];
        for (int64_t s = 0; s < n; s++)
            if (c[s] != 0)
                total += (double)c[s] * (double)g[s * stride + i];
        sum[i] = (psg_real)total;
    }
}

void cuda_add_weighted(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                       int64_t stride, psg_real *sum)
{
    LAUNCH_EACH(add_weighted_kernel, p, n, p, c, g, stride, sum);
}
