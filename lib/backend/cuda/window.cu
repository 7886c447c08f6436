/* Patches: patches[outer, k, o] = x[outer, cell k of the window at o]. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"
#include "backend/window.h"

KERNEL unfold_kernel(int64_t n, struct window3 v, psg_real pad_value, const psg_real *x,
                     psg_real *patches)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t o = e % v.n_out, k = e / v.n_out % v.n_kernel, s = e / v.n_out / v.n_kernel;
        int64_t start[3];
        window3_start(&v, o, start);
        int64_t i = window3_cell(&v, start, k);
        patches[e] = i < 0 ? pad_value : x[s * v.n_in + i];
    }
}

void cuda_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                 const psg_real *x, psg_real *patches)
{
    struct window3 v = window3_make(w);
    int64_t n = outer * v.n_kernel * v.n_out;
    LAUNCH_EACH(unfold_kernel, n, n, v, pad_value, x, patches);
}

KERNEL fold_kernel(int64_t n, struct window3 v, const psg_real *patches, psg_real *x)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t i = e % v.n_in, s = e / v.n_in;
        double sum = 0;
        for (int64_t k = 0; k < v.n_kernel; k++) {
            int64_t o = window3_position(&v, i, k);
            if (o >= 0)
                sum += (double)patches[(s * v.n_kernel + k) * v.n_out + o];
        }
        x[e] = (psg_real)sum;
    }
}

void cuda_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
               psg_real *x)
{
    struct window3 v = window3_make(w);
    int64_t n = outer * v.n_in;
    LAUNCH_EACH(fold_kernel, n, n, v, patches, x);
}
