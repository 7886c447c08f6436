/* Pooling: a row of outputs at a time where the whole row lies inside, cell by cell
 * elsewhere. */
#ifndef CPU_KERNELS_POOL_H
#define CPU_KERNELS_POOL_H

#include "backend/cpu/axis.h"
#include "backend/window.h"
#include "backend/cpu/kernels/vec.h"

/* The cells k of one axis, [low, high), that position o sees inside of the input. */
struct span {
    int64_t first, low, high; /* first: input position of k = 0 */
};

CPU_INLINE struct span span_make(const struct window3 *v, int axis, int64_t o)
{
    struct span s = { .first = o * v->stride[axis] - v->pad_lo[axis] };
    axis_range(v->kernel[axis], v->dilation[axis], s.first, v->in[axis], &s.low, &s.high);
    return s;
}

/* the first maximum of one window; row is x at (first of axis 0, first of axis 1) or beyond
 */
static int64_t max_window(const struct window3 *v, const struct span s[3],
                          const psg_real *x)
{
    int64_t best = -1;
    psg_real top = 0;
    for (int64_t k0 = s[0].low; k0 < s[0].high; k0++) {
        int64_t i0 = s[0].first + k0 * v->dilation[0];
        for (int64_t k1 = s[1].low; k1 < s[1].high; k1++) {
            int64_t row = (i0 * v->in[1] + s[1].first + k1 * v->dilation[1]) * v->in[2];
            for (int64_t k2 = s[2].low; k2 < s[2].high; k2++) {
                int64_t i = row + s[2].first + k2 * v->dilation[2];
                if (best < 0 || x[i] > top || (x[i] != x[i] && top == top)) {
                    best = i;
                    top = x[i];
                }
            }
        }
    }
    return best;
}

#ifdef PSG_REAL_DOUBLE
typedef int64_t pool_int; /* as wide as psg_real: comparisons give masks of it */
#else
typedef int32_t pool_int;
#endif

#define POOL_LANES      4
#define POOL_NAME(name) name##4
#include "backend/cpu/kernels/pool_lanes.inc"
#undef POOL_LANES
#undef POOL_NAME
#define POOL_LANES      8
#define POOL_NAME(name) name##8
#include "backend/cpu/kernels/pool_lanes.inc"
#undef POOL_LANES
#undef POOL_NAME

static void max_one(const struct window3 *v, const struct span s01[2], int64_t o,
                    const psg_real *x, psg_real *y, int64_t *arg)
{
    const struct span s[3] = { s01[0], s01[1], span_make(v, 2, o) };
    int64_t best = max_window(v, s, x);
    y[o] = best < 0 ? (psg_real)-INFINITY : x[best];
    arg[o] = best;
}

static void max_row(const struct window3 *v, const struct span s01[2], int64_t low,
                    int64_t high, const psg_real *x, psg_real *y, int64_t *arg)
{
    for (int64_t o = 0; o < low; o++)
        max_one(v, s01, o, x, y, arg);
    int lanes = high - low >= 8 ? 8 : 4;
    for (int64_t o = low; o < high; o += lanes) {
        int64_t at = o + lanes <= high ? o : high - lanes; /* the last overlaps */
        int64_t first = at * v->stride[2] - v->pad_lo[2];
        if (lanes == 8)
            max_lanes8(v, s01, first, x, y + at, arg + at);
        else
            max_lanes4(v, s01, first, x, y + at, arg + at);
    }
    for (int64_t o = high; o < v->out[2]; o++)
        max_one(v, s01, o, x, y, arg);
}

enum { SLIDE_RUN = 256 };

/* Windows of 2 x 2 at every position, all inside: what small nets use. */
static bool max_is_sliding(const struct window3 *v)
{
    bool same = v->in[0] == 1 && v->kernel[0] == 1 && v->pad_lo[0] == 0 && v->out[0] == 1;
    for (int i = 1; i < 3; i++)
        same = same && v->kernel[i] == 2 && v->stride[i] == 1 && v->dilation[i] == 1 &&
               v->pad_lo[i] == 0 && v->out[i] == v->in[i] - 1;
    return same && v->in[2] * 2 <= SLIDE_RUN && v->out[1] * v->in[2] > VEC_LEN &&
           v->n_in <= INT32_MAX / 2;
}

typedef pool_int pool_ints __attribute__((vector_size(CPU_VECTOR_BYTES)));

/* larger or NaN, unless the maximum is NaN already */
CPU_INLINE void max_take(const psg_real *x, pool_int at, vec *top, pool_ints *where)
{
    vec value = vec_load(x);
    pool_ints take = ~(value <= *top) & (*top == *top);
    *top = (vec)((take & (pool_ints)value) | (~take & (pool_ints)*top));
    *where = (take & at) | (~take & *where);
}

/* Windows at n >= VEC_LEN positions from x on; the last vector overlaps. */
static void max_slide_run(int64_t width, int64_t n, const psg_real *x, psg_real *top,
                          pool_int *where)
{
    for (int64_t o = 0; o < n; o += VEC_LEN) {
        int64_t i = o + VEC_LEN <= n ? o : n - VEC_LEN;
        vec t = vec_load(x + i);
        pool_ints w = { 0 };
        max_take(x + i + 1, 1, &t, &w);
        max_take(x + i + width, (pool_int)width, &t, &w);
        max_take(x + i + width + 1, (pool_int)width + 1, &t, &w);
        vec_store(top + i, t);
        memcpy(where + i, &w, sizeof w);
    }
}

/* Runs of positions across the ends of rows; the window at the end of a row is not kept. */
static void max_slide(const struct window3 *v, const psg_real *x, psg_real *y, int64_t *arg)
{
    psg_real top[SLIDE_RUN];
    pool_int where[SLIDE_RUN];
    int64_t width = v->in[2], kept = v->out[2], rows = SLIDE_RUN / width;
    for (int64_t row = 0; row < v->out[1]; row += rows) {
        if (v->out[1] - row < rows && row > 0) /* the last run overlaps too */
            row = v->out[1] - rows;
        int64_t n_rows = v->out[1] < rows ? v->out[1] : rows;
        max_slide_run(width, n_rows * width - 1, x + row * width, top, where);
        for (int64_t r = 0; r < n_rows; r++) {
            int64_t at = (row + r) * kept;
            memcpy(y + at, top + r * width, (size_t)kept * sizeof *y);
            for (int64_t i = 0; i < kept; i++)
                arg[at + i] = where[r * width + i] + (row + r) * width + i;
        }
    }
}

/* samples innermost: the spans of a row, with their divisions, are found once for all */
static void cpu_max_pool(const struct psg_window *w, int64_t outer, const psg_real *x,
                         psg_real *y, int64_t *arg)
{
    struct window3 v = window3_make(w);
    if (max_is_sliding(&v)) {
        for (int64_t n = 0; n < outer; n++)
            max_slide(&v, x + n * v.n_in, y + n * v.n_out, arg + n * v.n_out);
        return;
    }
    /* [low, high): outputs whose windows lie inside along axis 2 */
    int64_t reach = (v.kernel[2] - 1) * v.dilation[2], low, high;
    axis_range(v.out[2], v.stride[2], -v.pad_lo[2], v.in[2] - reach, &low, &high);
    bool wide_rows = high - low >= 4 && v.n_in <= INT32_MAX / 2;
    for (int64_t o0 = 0; o0 < v.out[0]; o0++) {
        for (int64_t o1 = 0; o1 < v.out[1]; o1++) {
            const struct span s[2] = { span_make(&v, 0, o0), span_make(&v, 1, o1) };
            bool some = wide_rows && s[0].low < s[0].high && s[1].low < s[1].high;
            int64_t at = (o0 * v.out[1] + o1) * v.out[2];
            for (int64_t n = 0; n < outer; n++, at += v.n_out)
                max_row(&v, s, some ? low : v.out[2], some ? high : v.out[2],
                        x + n * v.n_in, y + at, arg + at);
        }
    }
}

static void cpu_max_pool_bwd(const struct psg_window *w, int64_t outer, const psg_real *dy,
                             const int64_t *arg, psg_real *dx)
{
    struct window3 v = window3_make(w);
    memset(dx, 0, (size_t)(outer * v.n_in) * sizeof *dx);
    for (int64_t n = 0; n < outer; n++, dx += v.n_in, dy += v.n_out, arg += v.n_out)
        for (int64_t o = 0; o < v.n_out; o++)
            if (arg[o] >= 0)
                dx[arg[o]] += dy[o];
}

/* cells of one axis that count for the divisor */
static int64_t avg_cells(const struct window3 *v, int axis, int64_t o,
                         bool count_include_pad)
{
    int64_t first = o * v->stride[axis] - v->pad_lo[axis], low, high;
    int64_t before = count_include_pad ? v->pad_lo[axis] : 0;
    int64_t after = count_include_pad ? v->pad_hi[axis] : 0;
    axis_range(v->kernel[axis], v->dilation[axis], first + before,
               v->in[axis] + before + after, &low, &high);
    return high - low;
}

/* 1 / divisor of the window at o, 0 where nothing counts */
static double avg_scale(const struct window3 *v, const int64_t o[3], bool count_include_pad,
                        int64_t divisor)
{
    if (divisor != 0)
        return 1 / (double)divisor;
    int64_t cells = 1;
    for (int axis = 0; axis < 3; axis++)
        cells *= avg_cells(v, axis, o[axis], count_include_pad);
    return cells == 0 ? 0 : 1 / (double)cells;
}

/* 2x2 windows with stride 2 and no padding: what small nets use */
static bool avg_is_halving(const struct window3 *v, int64_t divisor)
{
    bool same = v->in[0] == 1 && v->kernel[0] == 1 && divisor == 0;
    for (int i = 1; i < 3; i++)
        same = same && v->kernel[i] == 2 && v->stride[i] == 2 && v->dilation[i] == 1 &&
               v->pad_lo[i] == 0 && v->out[i] * 2 <= v->in[i];
    return same && v->out[0] == 1 && v->pad_lo[0] == 0;
}

static void avg_halve(const struct window3 *v, int64_t outer, const psg_real *x,
                      psg_real *y)
{
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t o1 = 0; o1 < v->out[1]; o1++, y += v->out[2]) {
            const psg_real *a = x + n * v->n_in + 2 * o1 * v->in[2], *b = a + v->in[2];
            for (int64_t o2 = 0; o2 < v->out[2]; o2++)
                y[o2] = (psg_real)0.25 *
                        ((a[2 * o2] + a[2 * o2 + 1]) + (b[2 * o2] + b[2 * o2 + 1]));
        }
    }
}

static void cpu_avg_pool(const struct psg_window *w, int64_t outer, bool count_include_pad,
                         int64_t divisor, const psg_real *x, psg_real *y)
{
    struct window3 v = window3_make(w);
    if (avg_is_halving(&v, divisor)) {
        avg_halve(&v, outer, x, y);
        return;
    }
    for (int64_t at = 0; at < outer * v.n_out; at++) {
        int64_t flat = at % v.n_out;
        const int64_t o[3] = { flat / v.out[2] / v.out[1], flat / v.out[2] % v.out[1],
                               flat % v.out[2] };
        const struct span s[3] = { span_make(&v, 0, o[0]), span_make(&v, 1, o[1]),
                                   span_make(&v, 2, o[2]) };
        const psg_real *from = x + at / v.n_out * v.n_in;
        psg_real sum = 0;
        for (int64_t k0 = s[0].low; k0 < s[0].high; k0++) {
            for (int64_t k1 = s[1].low; k1 < s[1].high; k1++) {
                const psg_real *row = from + ((s[0].first + k0 * v.dilation[0]) * v.in[1] +
                                              s[1].first + k1 * v.dilation[1]) *
                                                 v.in[2];
                for (int64_t k2 = s[2].low; k2 < s[2].high; k2++)
                    sum += row[s[2].first + k2 * v.dilation[2]];
            }
        }
        y[at] = (psg_real)((double)sum * avg_scale(&v, o, count_include_pad, divisor));
    }
}

static void avg_halve_bwd(const struct window3 *v, int64_t outer, const psg_real *dy,
                          psg_real *dx)
{
    for (int64_t n = 0; n < outer; n++) {
        for (int64_t o1 = 0; o1 < v->out[1]; o1++, dy += v->out[2]) {
            psg_real *a = dx + n * v->n_in + 2 * o1 * v->in[2], *b = a + v->in[2];
            for (int64_t o2 = 0; o2 < v->out[2]; o2++) {
                psg_real part = (psg_real)0.25 * dy[o2];
                a[2 * o2] = a[2 * o2 + 1] = part;
                b[2 * o2] = b[2 * o2 + 1] = part;
            }
        }
    }
}

static void cpu_avg_pool_bwd(const struct psg_window *w, int64_t outer,
                             bool count_include_pad, int64_t divisor, const psg_real *dy,
                             psg_real *dx)
{
    struct window3 v = window3_make(w);
    memset(dx, 0, (size_t)(outer * v.n_in) * sizeof *dx);
    if (avg_is_halving(&v, divisor)) {
        avg_halve_bwd(&v, outer, dy, dx);
        return;
    }
    for (int64_t at = 0; at < outer * v.n_out; at++) {
        int64_t flat = at % v.n_out;
        const int64_t o[3] = { flat / v.out[2] / v.out[1], flat / v.out[2] % v.out[1],
                               flat % v.out[2] };
        const struct span s[3] = { span_make(&v, 0, o[0]), span_make(&v, 1, o[1]),
                                   span_make(&v, 2, o[2]) };
        psg_real *to = dx + at / v.n_out * v.n_in;
        psg_real part =
            (psg_real)((double)dy[at] * avg_scale(&v, o, count_include_pad, divisor));
        for (int64_t k0 = s[0].low; k0 < s[0].high; k0++) {
            for (int64_t k1 = s[1].low; k1 < s[1].high; k1++) {
                psg_real *row = to + ((s[0].first + k0 * v.dilation[0]) * v.in[1] +
                                      s[1].first + k1 * v.dilation[1]) *
                                         v.in[2];
                for (int64_t k2 = s[2].low; k2 < s[2].high; k2++)
                    row[s[2].first + k2 * v.dilation[2]] += part;
            }
        }
    }
}

#endif
