/* The decision of psg_blas_check, apart from the library that is linked. */
#ifndef BASE_BLAS_KIND_H
#define BASE_BLAS_KIND_H

#include "psg/status.h"

/* parallel: what openblas_get_parallel() says (0 serial, 1 own threads, 2 OpenMP). */
int blas_judge(int parallel, int n_workers, struct psg_error *err);

#endif
