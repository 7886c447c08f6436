/* The matrix product at the heart of linear, recurrent and attention layers, and its
 * per-sample gradients. For each sample: x [T, I], w [O, I], y [T, O] = x w^T + b. */
#ifndef OP_DENSE_H
#define OP_DENSE_H

#include "op/common.h"

/* y [rows, O] = x w^T + b; b may be NULL */
void dense_forward(const struct psg_backend *be, int64_t rows, int64_t i, int64_t o,
                   const psg_real *x, const psg_real *w, const psg_real *b, psg_real *y);
/* dx [rows, I] = dy w + beta * dx */
void dense_backward(const struct psg_backend *be, int64_t rows, int64_t i, int64_t o,
                    const psg_real *dy, const psg_real *w, double beta, psg_real *dx);
/* row n at g + n * stride: dw [O, I] = sum_t dy[n, t, O] x[n, t, I] */
void dense_grad(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
                const psg_real *x, const psg_real *dy, psg_real *g, int64_t stride);

/* Room of dense_norm, per call and per sample. */
void dense_norm_scratch(int64_t t, int64_t i, int64_t o, int64_t *fixed,
                        int64_t *per_sample);
/* sq[n] += |dw of sample n|^2. Through the Gram matrices x x^T and dy dy^T (T x T) where
 * they cost less than dw, else one dw at a time. */
void dense_norm(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
                const psg_real *x, const psg_real *dy, psg_real *scratch, double *sq);

/* Room of dense_sum per sample. */
int64_t dense_sum_scratch(int64_t t, int64_t i, int64_t o);
/* sum [O, I] += sum_n weight[n] dw_n, as one product over N * T rows */
void dense_sum(const struct psg_backend *be, int64_t n, int64_t t, int64_t i, int64_t o,
               const psg_real *weight, const psg_real *x, const psg_real *dy,
               psg_real *scratch, psg_real *sum);

/* The bias: db [O] = sum_t dy[n, t, O]. scratch: O per sample. */
void dense_bias_norm(const struct psg_backend *be, int64_t n, int64_t t, int64_t o,
                     const psg_real *dy, psg_real *scratch, double *sq);
void dense_bias_sum(const struct psg_backend *be, int64_t n, int64_t t, int64_t o,
                    const psg_real *weight, const psg_real *dy, psg_real *scratch,
                    psg_real *sum);

/* sq[n] += sum over i, j of a[n, i, j] b[n, i, j] with a, b [N, k], where the sum is known
 * to be a squared norm; a is overwritten, tmp has room for n numbers. */
void gram_norm(const struct psg_backend *be, int64_t n, int64_t k, psg_real *a,
               const psg_real *b, psg_real *tmp, double *sq);

#endif
