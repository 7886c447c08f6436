/* Which OpenBLAS is linked decides whether threads may share it. See psg/blas.h. */
#include "psg/blas.h"

#include <cblas.h>

#include "blas_kind.h"

int blas_judge(int parallel, int n_workers, struct psg_error *err)
{
    if (n_workers < 1)
        return psg_fail(err, PSG_E_RANGE, "n_workers", "must be at least 1");
    if (n_workers == 1 || parallel == OPENBLAS_THREAD)
        return 0;
    if (parallel == OPENBLAS_SEQUENTIAL)
        return psg_fail(err, PSG_E_UNSUPPORTED, "openblas",
                        "the serial build gives wrong results to %d threads; install "
                        "libopenblas0-pthread or use one thread",
                        n_workers);
    return psg_fail(
        err, PSG_E_UNSUPPORTED, "openblas",
        "the OpenMP build starts threads of its own in each of %d threads; install "
        "libopenblas0-pthread or use one thread",
        n_workers);
}

int psg_blas_check(int n_workers, struct psg_error *err)
{
    openblas_set_num_threads(1);
    return blas_judge(openblas_get_parallel(), n_workers, err);
}
