/* Matrix products: c[i, j] = alpha * sum_l op(a)[i, l] * op(b)[l, j] + beta * c[i, j] */
#include "ref.h"

void ref_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b, psg_real *c)
{
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < g->k; l++) {
                double va = g->trans_a ? a[l * g->lda + i] : a[i * g->lda + l];
                double vb = g->trans_b ? b[j * g->ldb + l] : b[l * g->ldb + j];
                sum += va * vb;
            }
            sum *= (double)g->alpha;
            psg_real *out = &c[i * g->ldc + j];
            /* what c held before, NaN included, is of no interest when beta is 0 */
            *out = (psg_real)(g->beta == 0 ? sum : sum + (double)g->beta * (double)*out);
        }
    }
}

void ref_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                      int64_t stride_a, const psg_real *b, int64_t stride_b, psg_real *c,
                      int64_t stride_c)
{
    for (int64_t i = 0; i < count; i++)
        ref_gemm(g, a + i * stride_a, b + i * stride_b, c + i * stride_c);
}
