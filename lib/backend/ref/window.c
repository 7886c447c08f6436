/* Patches: patches[outer, k, o] = x[outer, cell k of the window at o] */
#include "ref.h"

#include "backend/window.h"

void ref_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                const psg_real *x, psg_real *patches)
{
    struct window3 v = window3_make(w);
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t k = 0; k < v.n_kernel; k++) {
            for (int64_t o = 0; o < v.n_out; o++) {
                int64_t start[3];
                window3_start(&v, o, start);
                int64_t i = window3_cell(&v, start, k);
                patches[(n * v.n_kernel + k) * v.n_out + o] =
                    i < 0 ? pad_value : x[n * v.n_in + i];
            }
        }
    }
}

void ref_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
              psg_real *x)
{
    struct window3 v = window3_make(w);
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t i = 0; i < v.n_in; i++) {
            double sum = 0;
            for (int64_t k = 0; k < v.n_kernel; k++) {
                int64_t o = window3_position(&v, i, k);
                if (o >= 0)
                    sum += (double)patches[(n * v.n_kernel + k) * v.n_out + o];
            }
            x[n * v.n_in + i] = (psg_real)sum;
        }
    }
}
