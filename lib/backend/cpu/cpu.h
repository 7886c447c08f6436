/* Versions of the cpu backend: the same kernels compiled for several instruction sets. */
#ifndef BACKEND_CPU_H
#define BACKEND_CPU_H

#include "psg/backend.h"

/* The i-th version that this machine can run, best first (0 is psg_backend_cpu()); NULL
 * after the last one. */
const struct psg_backend *cpu_backend_version(int i);

extern const struct psg_backend cpu_backend_base;
#if defined(__x86_64__)
extern const struct psg_backend cpu_backend_avx2;
extern const struct psg_backend cpu_backend_avx512;
#endif

/* shared by all versions */
void cpu_copy(const struct psg_shape *shape, size_t size, const void *src,
              const int64_t *stride_src, void *dst, const int64_t *stride_dst);
void cpu_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                const psg_real *x, psg_real *patches);
void cpu_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
              psg_real *x);
void cpu_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                const psg_real *table, int64_t table_stride, const int64_t *id,
                psg_real *y);

#endif
