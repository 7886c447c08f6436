/* The BLAS underneath: one thread per caller, and safe to call from many. */
#ifndef PSG_BLAS_H
#define PSG_BLAS_H

#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Call once at start, before other threads call BLAS. Sets OpenBLAS to one thread, for the
 * library brings its own. PSG_E_UNSUPPORTED when n_workers > 1 threads are to call it and it is
 * the serial build, whose results are then wrong, or the OpenMP build, which keeps its own
 * threads in every thread but this one. */
PSG_API int psg_blas_check(int n_workers, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
