/* Matrix products: tiles in registers for small sizes, OpenBLAS for large ones. */
#ifndef CPU_KERNELS_GEMM_H
#define CPU_KERNELS_GEMM_H

#include <cblas.h>
#include <limits.h>

#include "backend/cpu/kernels/tile.h"

#ifdef PSG_REAL_DOUBLE
#define blas_gemm cblas_dgemm
#define blas_gemv cblas_dgemv
#else
#define blas_gemm cblas_sgemm
#define blas_gemv cblas_sgemv
#endif

enum { GEMM_KC = 256 };

/* c = alpha * tile + beta * c */
static void gemm_finish(const struct psg_gemm *g, psg_real beta, int mr, int64_t n,
                        int64_t width, const psg_real *tile, psg_real *c)
{
    for (int i = 0; i < mr; i++) {
        const psg_real *from = tile + i * width;
        psg_real *to = c + i * g->ldc;
        if (beta == 0)
            for (int64_t j = 0; j < n; j++)
                to[j] = g->alpha * from[j];
        else
            for (int64_t j = 0; j < n; j++)
                to[j] = g->alpha * from[j] + beta * to[j];
    }
}

/* one panel of columns: c[0..m, 0..n) from k terms; b is k x nv vectors with rows ldb apart
 */
static void gemm_panel(const struct psg_gemm *g, int64_t k, int64_t n, int nv,
                       psg_real beta, const psg_real *a, const psg_real *b, int64_t ldb,
                       psg_real *c)
{
    int64_t step_row = g->trans_a ? 1 : g->lda, step = g->trans_a ? g->lda : 1;
    bool direct = g->alpha == 1 && beta == 0 && n == nv * VEC_LEN;
    psg_real tile[TILE_MR * TILE_NR];
    for (int64_t i = 0; i < g->m;) {
        int mr = tile_rows(g->m - i);
        const psg_real *rows[TILE_MR];
        for (int r = 0; r < mr; r++)
            rows[r] = a + (i + r) * step_row;
        psg_real *to = c + i * g->ldc;
        tile_fn *fn = tile_step[tile_class(mr)][nv - 1];
        if (direct) {
            fn(k, rows, step, NULL, b, ldb, to, g->ldc);
        } else {
            fn(k, rows, step, NULL, b, ldb, tile, nv * VEC_LEN);
            gemm_finish(g, beta, mr, n, nv * VEC_LEN, tile, to);
        }
        i += mr;
    }
}

static void gemm_tiles(const struct psg_gemm *g, const psg_real *a, const psg_real *b,
                       psg_real *c)
{
    psg_real pack[GEMM_KC * TILE_NR];
    for (int64_t l = 0; l < g->k; l += GEMM_KC) {
        int64_t k = g->k - l < GEMM_KC ? g->k - l : GEMM_KC;
        psg_real beta = l == 0 ? g->beta : 1;
        const psg_real *al = a + l * (g->trans_a ? g->lda : 1);
        for (int64_t j = 0; j < g->n;) {
            int nv = tile_vectors(g->n - j);
            int64_t width = nv * VEC_LEN, n = g->n - j < width ? g->n - j : width;
            const psg_real *bl = g->trans_b ? b + j * g->ldb + l : b + l * g->ldb + j;
            int64_t ldb = g->ldb;
            if (g->trans_b) {
                tile_pack_transposed(k, n, width, bl, g->ldb,
                                     b + (g->n - 1) * g->ldb + g->k, pack);
            } else if (n < width) { /* a full vector would read past the end of a row */
                for (int64_t r = 0; r < k; r++) {
                    memcpy(pack + r * width, bl + r * ldb, (size_t)n * sizeof *pack);
                    for (int64_t z = n; z < width; z++)
                        pack[r * width + z] = 0;
                }
            }
            if (g->trans_b || n < width) {
                bl = pack;
                ldb = width;
            }
            gemm_panel(g, k, n, nv, beta, al, bl, ldb, c + j);
            j += n;
        }
    }
}

/* k = 0, or the part of k = 1 that is left to c */
static void gemm_scale(const struct psg_gemm *g, psg_real *c)
{
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++)
            c[i * g->ldc + j] = g->beta == 0 ? 0 : g->beta * c[i * g->ldc + j];
}

/* k = 1: the per-sample gradient of a linear layer */
static void gemm_outer(const struct psg_gemm *g, const psg_real *a, const psg_real *b,
                       psg_real *c)
{
    int64_t step_a = g->trans_a ? 1 : g->lda, step_b = g->trans_b ? g->ldb : 1;
    for (int64_t i = 0; i < g->m; i++) {
        psg_real *to = c + i * g->ldc, f = g->alpha * a[i * step_a];
        if (step_b != 1)
            for (int64_t j = 0; j < g->n; j++)
                to[j] = f * b[j * step_b] + (g->beta == 0 ? 0 : g->beta * to[j]);
        else if (g->beta == 0)
            for (int64_t j = 0; j < g->n; j++)
                to[j] = f * b[j];
        else
            for (int64_t j = 0; j < g->n; j++)
                to[j] = f * b[j] + g->beta * to[j];
    }
}

/* m = 1 or n = 1: a matrix times a vector */
static void gemm_vector(const struct psg_gemm *g, const psg_real *a, const psg_real *b,
                        psg_real *c)
{
    if (g->n == 1)
        blas_gemv(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans,
                  (int)(g->trans_a ? g->k : g->m), (int)(g->trans_a ? g->m : g->k),
                  g->alpha, a, (int)g->lda, b, (int)(g->trans_b ? 1 : g->ldb), g->beta, c,
                  (int)g->ldc);
    else
        blas_gemv(CblasRowMajor, g->trans_b ? CblasNoTrans : CblasTrans,
                  (int)(g->trans_b ? g->n : g->k), (int)(g->trans_b ? g->k : g->n),
                  g->alpha, b, (int)g->ldb, a, (int)(g->trans_a ? g->lda : 1), g->beta, c,
                  1);
}

/* OpenBLAS counts in int */
static bool gemm_fits_blas(const struct psg_gemm *g)
{
    const int64_t limit = INT_MAX;
    return g->m <= limit && g->n <= limit && g->k <= limit && g->lda <= limit &&
           g->ldb <= limit && g->ldc <= limit;
}

/* where the tiles win against OpenBLAS, as bench_kernels measures it */
static bool gemm_is_small(const struct psg_gemm *g)
{
    if (g->trans_b && g->m <= 32) /* few rows: laying out b is most of the work */
        return g->m > 8 || g->n > 64;
    return g->k <= 32 || g->m * g->n <= 64 * 64 || g->m * g->n * g->k <= 64 * 64 * 64;
}

static void cpu_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b,
                     psg_real *c)
{
    if (g->m == 0 || g->n == 0)
        return;
    if (g->k == 0)
        gemm_scale(g, c);
    else if (g->k == 1)
        gemm_outer(g, a, b, c);
    else if (!gemm_fits_blas(g))
        gemm_tiles(g, a, b, c);
    else if (g->m == 1 || g->n == 1)
        gemm_vector(g, a, b, c);
    else if (gemm_is_small(g))
        gemm_tiles(g, a, b, c);
    else
        blas_gemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans,
                  g->trans_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k,
                  g->alpha, a, (int)g->lda, b, (int)g->ldb, g->beta, c, (int)g->ldc);
}

static void cpu_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                             int64_t stride_a, const psg_real *b, int64_t stride_b,
                             psg_real *c, int64_t stride_c)
{
    for (int64_t i = 0; i < count; i++)
        cpu_gemm(g, a + i * stride_a, b + i * stride_b, c + i * stride_c);
}

#endif
