/* The CUDA kernels, as psg/backend.h describes them. What is expensive to get wrong (sums over
 * rows, norms, functions) is computed in double: on data-centre cards these kernels wait for
 * memory, not for arithmetic. Products sum in psg_real. No result depends on timing. */
#ifndef BACKEND_CUDA_H
#define BACKEND_CUDA_H

#include "psg/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The table. */
const struct psg_backend *cuda_backend(void);

/* device.cu; in tests, tests/cuda/memory.cpp */
void *cuda_alloc(size_t bytes);
void cuda_release(void *memory);
void cuda_upload(size_t bytes, const void *host, void *memory);
void cuda_download(size_t bytes, const void *memory, void *host);
int cuda_wait(struct psg_error *err);

void cuda_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b, psg_real *c);
void cuda_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                       int64_t stride_a, const psg_real *b, int64_t stride_b, psg_real *c,
                       int64_t stride_c);

void cuda_fill(int64_t n, psg_real value, psg_real *y);
void cuda_unary(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y);
void cuda_binary(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                 const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                 psg_real *y);
void cuda_select(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                 psg_real *y);
void cuda_act(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x, psg_real *y);
void cuda_act_bwd(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x,
                  const psg_real *y, const psg_real *dy, psg_real *dx);
void cuda_narrow(int64_t n, const psg_real *x, uint16_t *y);
void cuda_widen(int64_t n, const uint16_t *x, psg_real *y);
void cuda_axpy(int64_t n, psg_real alpha, const psg_real *x, psg_real *y);

void cuda_copy(const struct psg_shape *shape, size_t size, const void *src,
               const int64_t *stride_src, void *dst, const int64_t *stride_dst);
void cuda_reduce(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                 const psg_real *x, psg_real *y);
void cuda_argmax(int64_t outer, int64_t axis, int64_t inner, const psg_real *x, psg_real *y);

void cuda_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                 const psg_real *table, int64_t table_stride, const int64_t *id, psg_real *y);
void cuda_scatter_add(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                      const int64_t *id, const psg_real *x, psg_real *table,
                      int64_t table_stride);
void cuda_merge_ids(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                    const int64_t *id, int64_t *slot);
void cuda_convert(int64_t n, const int64_t *id, psg_real *y);

void cuda_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                 const psg_real *x, psg_real *patches);
void cuda_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
               psg_real *x);

int64_t cuda_conv_scratch(const struct psg_conv *c);
void cuda_conv(const struct psg_conv *c, int64_t n, const psg_real *x, const psg_real *w,
               const psg_real *bias, psg_real *y, psg_real *scratch);
void cuda_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                        const psg_real *w, psg_real *dx, psg_real *scratch);
void cuda_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                          const psg_real *dy, psg_real *dw, int64_t stride,
                          psg_real *scratch);

void cuda_max_pool(const struct psg_window *w, int64_t outer, const psg_real *x, psg_real *y,
                   int64_t *arg);
void cuda_max_pool_bwd(const struct psg_window *w, int64_t outer, const psg_real *dy,
                       const int64_t *arg, psg_real *dx);
void cuda_avg_pool(const struct psg_window *w, int64_t outer, bool count_include_pad,
                   int64_t divisor, const psg_real *x, psg_real *y);
void cuda_avg_pool_bwd(const struct psg_window *w, int64_t outer, bool count_include_pad,
                       int64_t divisor, const psg_real *dy, psg_real *dx);

void cuda_normalize(int64_t rows, int64_t dim, double eps, bool centre, const psg_real *x,
                    psg_real *xhat, psg_real *rstd);
void cuda_normalize_bwd(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                        const psg_real *rstd, const psg_real *dxhat, psg_real *dx);
void cuda_softmax(int64_t rows, int64_t dim, bool log, const psg_real *x, psg_real *y);
void cuda_softmax_bwd(int64_t rows, int64_t dim, bool log, const psg_real *y,
                      const psg_real *dy, psg_real *dx);
void cuda_add_bias(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                   psg_real *y);
void cuda_sum_rows(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                   int64_t stride_y);

void cuda_cell(const struct psg_cell *c);
void cuda_cell_bwd(const struct psg_cell *c);

void cuda_add_sqnorm(int64_t n, int64_t p, const psg_real *g, int64_t stride, double *sq);
void cuda_add_weighted(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                       int64_t stride, psg_real *sum);

#ifdef __cplusplus
}
#endif
#endif
