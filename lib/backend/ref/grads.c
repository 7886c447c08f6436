/* Per-sample gradients: their squared norms and their weighted sum. */
#include "ref.h"

void ref_add_sqnorm(int64_t n, int64_t p, const psg_real *g, int64_t stride, double *sq)
{
    for (int64_t s = 0; s < n; s++) {
        double sum = 0;
        for (int64_t i = 0; i < p; i++)
            sum += (double)g[s * stride + i] * (double)g[s * stride + i];
        sq[s] += sum;
    }
}

void ref_add_weighted(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                      int64_t stride, psg_real *sum)
{
    for (int64_t i = 0; i < p; i++) {
        double total = (double)sum[i];
        for (int64_t s = 0; s < n; s++)
            if (c[s] != 0)
                total += (double)c[s] * (double)g[s * stride + i];
        sum[i] = (psg_real)total;
    }
}
