/* The reference kernels, as psg/backend.h describes them. Sums and functions are computed
 * in double whatever psg_real is; what is stored is rounded once. */
#ifndef BACKEND_REF_H
#define BACKEND_REF_H

#include "psg/backend.h"

void ref_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b, psg_real *c);
void ref_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                      int64_t stride_a, const psg_real *b, int64_t stride_b, psg_real *c,
                      int64_t stride_c);

void ref_fill(int64_t n, psg_real value, psg_real *y);
void ref_unary(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y);
void ref_binary(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                psg_real *y);
void ref_narrow(int64_t n, const psg_real *x, uint16_t *y);
void ref_widen(int64_t n, const uint16_t *x, psg_real *y);
void ref_select(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                psg_real *y);
void ref_axpy(int64_t n, psg_real alpha, const psg_real *x, psg_real *y);
void ref_act(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x, psg_real *y);
void ref_act_bwd(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x,
                 const psg_real *y, const psg_real *dy, psg_real *dx);

void ref_copy(const struct psg_shape *shape, size_t size, const void *src,
              const int64_t *stride_src, void *dst, const int64_t *stride_dst);
void ref_reduce(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                const psg_real *x, psg_real *y);
void ref_argmax(int64_t outer, int64_t axis, int64_t inner, const psg_real *x, psg_real *y);

void ref_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                const psg_real *table, int64_t table_stride, const int64_t *id,
                psg_real *y);
void ref_scatter_add(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                     const int64_t *id, const psg_real *x, psg_real *table,
                     int64_t table_stride);
void ref_merge_ids(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                   const int64_t *id, int64_t *slot);
void ref_convert(int64_t n, const int64_t *id, psg_real *y);

void ref_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                const psg_real *x, psg_real *patches);
void ref_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
              psg_real *x);

int64_t ref_conv_scratch(const struct psg_conv *c);
void ref_conv(const struct psg_conv *c, int64_t n, const psg_real *x, const psg_real *w,
              const psg_real *bias, psg_real *y, psg_real *scratch);
void ref_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                       const psg_real *w, psg_real *dx, psg_real *scratch);
void ref_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                         const psg_real *dy, psg_real *dw, int64_t stride,
                         psg_real *scratch);

void ref_max_pool(const struct psg_window *w, int64_t outer, const psg_real *x, psg_real *y,
                  int64_t *arg);
void ref_max_pool_bwd(const struct psg_window *w, int64_t outer, const psg_real *dy,
                      const int64_t *arg, psg_real *dx);
void ref_avg_pool(const struct psg_window *w, int64_t outer, bool count_include_pad,
                  int64_t divisor, const psg_real *x, psg_real *y);
void ref_avg_pool_bwd(const struct psg_window *w, int64_t outer, bool count_include_pad,
                      int64_t divisor, const psg_real *dy, psg_real *dx);

void ref_normalize(int64_t rows, int64_t dim, double eps, bool centre, const psg_real *x,
                   psg_real *xhat, psg_real *rstd);
void ref_normalize_bwd(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                       const psg_real *rstd, const psg_real *dxhat, psg_real *dx);
void ref_softmax(int64_t rows, int64_t dim, bool log, const psg_real *x, psg_real *y);
void ref_softmax_bwd(int64_t rows, int64_t dim, bool log, const psg_real *y,
                     const psg_real *dy, psg_real *dx);
void ref_add_bias(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                  psg_real *y);
void ref_sum_rows(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                  int64_t stride_y);

void ref_cell(const struct psg_cell *c);
void ref_cell_bwd(const struct psg_cell *c);

void ref_add_sqnorm(int64_t n, int64_t p, const psg_real *g, int64_t stride, double *sq);
void ref_add_weighted(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                      int64_t stride, psg_real *sum);

#endif
