/* Matrix products: c = alpha * op(a) op(b) + beta * c. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/product.h"

struct gemm_product {
    int64_t m, n, k, count;
    bool a_along_l, b_along_l;
    int64_t lda, ldb, ldc, stride_a, stride_b, stride_c;
    psg_real alpha, beta;
    const psg_real *left, *right;
    psg_real *out;

    METHOD psg_real a(int64_t batch, int64_t i, int64_t l) const
    {
        return left[batch * stride_a + (a_along_l ? i * lda + l : l * lda + i)];
    }
    METHOD psg_real b(int64_t batch, int64_t l, int64_t j) const
    {
        return right[batch * stride_b + (b_along_l ? j * ldb + l : l * ldb + j)];
    }
    /* what was there before, NaN included, is of no interest when beta is 0 */
    METHOD void store(int64_t batch, int64_t i, int64_t j, psg_real sum) const
    {
        psg_real *to = out + batch * stride_c + i * ldc + j;
        *to = beta == 0 ? alpha * sum : alpha * sum + beta * *to;
    }
};

void cuda_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                       int64_t stride_a, const psg_real *b, int64_t stride_b, psg_real *c,
                       int64_t stride_c)
{
    struct gemm_product p = {};
    p.m = g->m, p.n = g->n, p.k = g->k, p.count = count;
    p.a_along_l = !g->trans_a, p.b_along_l = g->trans_b;
    p.lda = g->lda, p.ldb = g->ldb, p.ldc = g->ldc;
    p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = stride_c;
    p.alpha = g->alpha, p.beta = g->beta;
    p.left = a, p.right = b, p.out = c;
    product_launch(p);
}

void cuda_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b, psg_real *c)
{
    cuda_gemm_batched(g, 1, a, 0, b, 0, c, 0);
}
