/* Pooling: one value per window. Cells in the padding never count as values. */
#include "ref.h"

#include <math.h>

#include "backend/window.h"

/* flat position of the first maximum of the window (NaN is largest); -1 if no cell is
 * inside */
static int64_t max_cell(const struct window3 *v, int64_t o, const psg_real *x)
{
    int64_t start[3], best = -1;
    window3_start(v, o, start);
    for (int64_t k = 0; k < v->n_kernel; k++) {
        int64_t i = window3_cell(v, start, k);
        if (i >= 0 && (best < 0 || x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))))
            best = i;
    }
    return best;
}

void ref_max_pool(const struct psg_window *w, int64_t outer, const psg_real *x, psg_real *y,
                  int64_t *arg)
{
    struct window3 v = window3_make(w);
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t o = 0; o < v.n_out; o++) {
            int64_t best = max_cell(&v, o, x + n * v.n_in);
            y[n * v.n_out + o] = best < 0 ? (psg_real)-INFINITY : x[n * v.n_in + best];
            arg[n * v.n_out + o] = best;
        }
    }
}

void ref_max_pool_bwd(const struct psg_window *w, int64_t outer, const psg_real *dy,
                      const int64_t *arg, psg_real *dx)
{
    struct window3 v = window3_make(w);
    ref_fill(outer * v.n_in, 0, dx);
    for (int64_t n = 0; n < outer; n++)
        for (int64_t o = 0; o < v.n_out; o++)
            if (arg[n * v.n_out + o] >= 0)
                dx[n * v.n_in + arg[n * v.n_out + o]] += dy[n * v.n_out + o];
}

/* cells of the window, on one axis, with low <= position < high */
static int64_t cells_between(const struct window3 *v, int axis, int64_t start, int64_t low,
                             int64_t high)
{
    int64_t count = 0;
    for (int64_t k = 0; k < v->kernel[axis]; k++) {
        int64_t i = start + k * v->dilation[axis];
        count += i >= low && i < high;
    }
    return count;
}

/* what the sum over the window at start is divided by; 0 where nothing counts */
static int64_t avg_divisor(const struct window3 *v, const int64_t start[3],
                           bool count_include_pad, int64_t divisor)
{
    if (divisor != 0)
        return divisor;
    int64_t count = 1;
    for (int axis = 0; axis < 3; axis++) {
        int64_t low = count_include_pad ? -v->pad_lo[axis] : 0;
        int64_t high = v->in[axis] + (count_include_pad ? v->pad_hi[axis] : 0);
        count *= cells_between(v, axis, start[axis], low, high);
    }
    return count;
}

void ref_avg_pool(const struct psg_window *w, int64_t outer, bool count_include_pad,
                  int64_t divisor, const psg_real *x, psg_real *y)
{
    struct window3 v = window3_make(w);
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t o = 0; o < v.n_out; o++) {
            int64_t start[3];
            window3_start(&v, o, start);
            int64_t count = avg_divisor(&v, start, count_include_pad, divisor);
            double sum = 0;
            for (int64_t k = 0; k < v.n_kernel; k++) {
                int64_t i = window3_cell(&v, start, k);
                sum += i < 0 ? 0 : (double)x[n * v.n_in + i];
            }
            y[n * v.n_out + o] = count == 0 ? 0 : (psg_real)(sum / (double)count);
        }
    }
}

void ref_avg_pool_bwd(const struct psg_window *w, int64_t outer, bool count_include_pad,
                      int64_t divisor, const psg_real *dy, psg_real *dx)
{
    struct window3 v = window3_make(w);
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t i = 0; i < v.n_in; i++) {
            double sum = 0;
            for (int64_t k = 0; k < v.n_kernel; k++) {
                int64_t start[3], o = window3_position(&v, i, k);
                if (o < 0)
                    continue;
                window3_start(&v, o, start);
                sum += (double)dy[n * v.n_out + o] /
                       (double)avg_divisor(&v, start, count_include_pad, divisor);
            }
            dx[n * v.n_in + i] = (psg_real)sum;
        }
    }
}
