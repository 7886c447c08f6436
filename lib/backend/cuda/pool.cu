/* Pooling: one thread for each value that is written. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"
#include "backend/window.h"

/* flat position of the first maximum of the window (NaN is largest); -1: all padding */
DEVICE int64_t max_cell(const struct window3 &v, int64_t o, const psg_real *x)
{
    int64_t start[3], best = -1;
    psg_real top = 0;
    window3_start(&v, o, start);
    for (int64_t k = 0; k < v.n_kernel; k++) {
        int64_t i = window3_cell(&v, start, k);
        if (i < 0)
            continue;
        psg_real here = x[i];
        if (best < 0 || here > top || (isnan(here) && !isnan(top))) {
            best = i;
            top = here;
        }
    }
    return best;
}

KERNEL max_pool_kernel(int64_t n, struct window3 v, const psg_real *x, psg_real *y,
                       int64_t *arg)
{
    THREADS EACH_OF_GRID(e, n)
    {
        const psg_real *from = x + e / v.n_out * v.n_in;
        int64_t best = max_cell(v, e % v.n_out, from);
        y[e] = best < 0 ? (psg_real)-INFINITY : from[best];
        arg[e] = best;
    }
}

void cuda_max_pool(const struct psg_window *w, int64_t outer, const psg_real *x, psg_real *y,
                   int64_t *arg)
{
    struct window3 v = window3_make(w);
    int64_t n = outer * v.n_out;
    LAUNCH_EACH(max_pool_kernel, n, n, v, x, y, arg);
}

/* Kernel cells from the last to the first are window positions in ascending order, so that a
 * sum has the order in which one thread would add. */
KERNEL max_pool_bwd_kernel(int64_t n, struct window3 v, const psg_real *dy,
                           const int64_t *arg, psg_real *dx)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t i = e % v.n_in, first = e / v.n_in * v.n_out;
        psg_real sum = 0;
        for (int64_t k = v.n_kernel - 1; k >= 0; k--) {
            int64_t o = window3_position(&v, i, k);
            if (o >= 0 && arg[first + o] == i)
                sum += dy[first + o];
        }
        dx[e] = sum;
    }
}

void cuda_max_pool_bwd(const struct psg_window *w, int64_t outer, const psg_real *dy,
                       const int64_t *arg, psg_real *dx)
{
    struct window3 v = window3_make(w);
    int64_t n = outer * v.n_in;
    LAUNCH_EACH(max_pool_bwd_kernel, n, n, v, dy, arg, dx);
}

/* cells of the window, on one axis, with low <= position < high */
DEVICE int64_t cells_between(const struct window3 &v, int axis, int64_t start, int64_t low,
                             int64_t high)
{
    int64_t count = 0;
    for (int64_t k = 0; k < v.kernel[axis]; k++) {
        int64_t i = start + k * v.dilation[axis];
        count += i >= low && i < high;
    }
    return count;
}

/* How averages are taken. */
struct avg_rule {
    bool count_include_pad;
    int64_t divisor;
};

/* what the sum over the window at start is divided by; 0 where nothing counts */
DEVICE int64_t avg_divisor(const struct window3 &v, const int64_t start[3],
                           struct avg_rule rule)
{
    if (rule.divisor != 0)
        return rule.divisor;
    int64_t count = 1;
    for (int axis = 0; axis < 3; axis++) {
        int64_t low = rule.count_include_pad ? -v.pad_lo[axis] : 0;
        int64_t high = v.in[axis] + (rule.count_include_pad ? v.pad_hi[axis] : 0);
        count *= cells_between(v, axis, start[axis], low, high);
    }
    return count;
}

KERNEL avg_pool_kernel(int64_t n, struct window3 v, struct avg_rule rule, const psg_real *x,
                       psg_real *y)
{
    THREADS EACH_OF_GRID(e, n)
    {
        const psg_real *from = x + e / v.n_out * v.n_in;
        int64_t start[3];
        window3_start(&v, e % v.n_out, start);
        int64_t count = avg_divisor(v, start, rule);
        double sum = 0;
        for (int64_t k = 0; k < v.n_kernel; k++) {
            int64_t i = window3_cell(&v, start, k);
            sum += i < 0 ? 0 : (double)from[i];
        }
        y[e] = count == 0 ? 0 : (psg_real)(sum / (double)count);
    }
}

void cuda_avg_pool(const struct psg_window *w, int64_t outer, bool count_include_pad,
                   int64_t divisor, const psg_real *x, psg_real *y)
{
    struct window3 v = window3_make(w);
    struct avg_rule rule = { count_include_pad, divisor };
    int64_t n = outer * v.n_out;
    LAUNCH_EACH(avg_pool_kernel, n, n, v, rule, x, y);
}

KERNEL avg_pool_bwd_kernel(int64_t n, struct window3 v, struct avg_rule rule,
                           const psg_real *dy, psg_real *dx)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t i = e % v.n_in, first = e / v.n_in * v.n_out;
        double sum = 0;
        for (int64_t k = 0; k < v.n_kernel; k++) {
            int64_t start[3], o = window3_position(&v, i, k);
            if (o < 0)
                continue;
            window3_start(&v, o, start);
            sum += (double)dy[first + o] / (double)avg_divisor(v, start, rule);
        }
        dx[e] = (psg_real)sum;
    }
}

void cuda_avg_pool_bwd(const struct psg_window *w, int64_t outer, bool count_include_pad,
                       int64_t divisor, const psg_real *dy, psg_real *dx)
{
    struct window3 v = window3_make(w);
    struct avg_rule rule = { count_include_pad, divisor };
    int64_t n = outer * v.n_in;
    LAUNCH_EACH(avg_pool_bwd_kernel, n, n, v, rule, dy, dx);
}
