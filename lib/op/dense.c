#include "op/dense.h"

void dense_forward(const struct psg_backend *be, int64_t rows, int64_t i, int64_t o,
                   const psg_real *x, const psg_real *w, const psg_real *b, psg_real *y)
{
    struct psg_gemm g = {
        .trans_b = true, .m = rows, .n = o, .k = i, .lda = i, .ldb = i, .ldc = o, .alpha = 1
    };
    be->gemm(&g, x, w, y);
    if (b)
        be->add_bias(rows, o, y, b, y);
}

void dense_backward(const struct psg_backend *be, int64_t rows, int64_t i, int64_t o,
                    const psg_real *dy, const psg_real *w, double beta, psg_real *dx)
{
    struct psg_gemm g = { .m = rows,
                          .n = i,
                          .k = o,
                          .lda = o,
                          .ldb = i,
                          .ldc = i,
                          .alpha = 1,
                          .beta = (psg_real)beta };
    be->gemm(&g, dy, w, dx);
}

void dense_grad(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
                const psg_real *x, const psg_real *dy, psg_real *g, int64_t stride)
{
    struct psg_gemm gemm = {
        .trans_a = true, .m = o, .n = i, .k = t, .lda = o, .ldb = i, .ldc = i, .alpha = 1
    };
    be->gemm_batched(&gemm, n, dy, t * o, x, t * i, g, stride);
}

static bool gram_is_cheaper(int64_t t, int64_t i, int64_t o)
{
    return (double)t * ((double)i + (double)o) <= (double)i * (double)o;
}

void dense_norm_scratch(int64_t t, int64_t i, int64_t o, int64_t *fixed,
                        int64_t *per_sample)
{
    bool gram = gram_is_cheaper(t, i, o);
    *fixed = gram ? 0 : i * o;
    *per_sample = gram ? 2 * t * t + 1 : 0;
}

static void gram(const struct psg_backend *be, int64_t n, int64_t t, int64_t d,
                 const psg_real *x, psg_real *y)
{
    struct psg_gemm g = {
        .trans_b = true, .m = t, .n = t, .k = d, .lda = d, .ldb = d, .ldc = t, .alpha = 1
    };
    be->gemm_batched(&g, n, x, t * d, x, t * d, y, t * t);
}

void gram_norm(const struct psg_backend *be, int64_t n, int64_t k, psg_real *a,
               const psg_real *b, psg_real *tmp, double *sq)
{
    op_binary(be, PSG_MUL, n * k, a, b, a);
    be->sum_rows(n, k, 1, a, tmp, 1);
    /* rounding may leave a sum that should be zero below it; abs keeps NaN, a maximum need
     * not */
    be->unary(PSG_ABS, n, tmp, tmp);
    be->unary(PSG_SQRT, n, tmp, tmp);
    be->add_sqnorm(n, 1, tmp, 1, sq);
}

void dense_norm(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
                const psg_real *x, const psg_real *dy, psg_real *scratch, double *sq)
{
    if (!gram_is_cheaper(t, i, o)) {
        for (int64_t s = 0; s < n; s++) {
            dense_grad(be, 1, t, i, o, x + s * t * i, dy + s * t * o, scratch, i * o);
            be->add_sqnorm(1, i * o, scratch, i * o, sq + s);
        }
        return;
    }
    psg_real *a = scratch, *b = a + n * t * t, *tmp = b + n * t * t;
    gram(be, n, t, i, x, a);
    gram(be, n, t, o, dy, b);
    gram_norm(be, n, t * t, a, b, tmp, sq);
}

int64_t dense_sum_scratch(int64_t t, int64_t i, int64_t o)
{
    return t * (i + o) + 1;
}

void dense_sum(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
               const psg_real *weight, const psg_real *x, const psg_real *dy,
               psg_real *scratch, psg_real *sum)
{
    psg_real *wdy = scratch, *kx = wdy + n * t * o, *mask = kx + n * t * i;
    op_scale_rows(be, n, t * o, weight, dy, wdy);
    op_keep_rows(be, n, t * i, weight, x, mask, kx);
    struct psg_gemm g = { .trans_a = true,
                          .m = o,
                          .n = i,
                          .k = n * t,
                          .lda = o,
                          .ldb = i,
                          .ldc = i,
                          .alpha = 1,
                          .beta = 1 };
    be->gemm(&g, wdy, kx, sum);
}

void dense_bias_norm(const struct psg_backend *be, int64_t n, int64_t t, int64_t o,
                     const psg_real *dy, psg_real *scratch, double *sq)
{
    const psg_real *db = dy;
    if (t != 1) {
        be->sum_rows(n, t, o, dy, scratch, o);
        db = scratch;
    }
    be->add_sqnorm(n, o, db, o, sq);
}

void dense_bias_sum(const struct psg_backend *be, int64_t n, int64_t t, int64_t o,
                    const psg_real *weight, const psg_real *dy, psg_real *scratch,
                    psg_real *sum)
{
    const psg_real *db = dy;
    if (t != 1) {
        be->sum_rows(n, t, o, dy, scratch, o);
        db = scratch;
    }
    be->add_weighted(n, o, weight, db, o, sum);
}
