/* Kernels over whole rows. Sums in double. */
#ifndef CPU_KERNELS_ROWS_H
#define CPU_KERNELS_ROWS_H

#include "backend/cpu/kernels/math.h"

static void cpu_normalize(int64_t rows, int64_t dim, double eps, bool centre,
                          const psg_real *x, psg_real *xhat, psg_real *rstd)
{
    double over = dim == 0 ? 0 : 1 / (double)dim;
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *row = x + r * dim;
        psg_real *out = xhat + r * dim;
        double mean = centre ? wide_sum(dim, row) * over : 0;
        double scale = 1 / sqrt(wide_sum_square(dim, row, mean) * over + eps);
        /* the difference first: mean may be far larger than the spread */
        psg_real m_high = (psg_real)mean, m_low = (psg_real)(mean - (double)m_high);
        psg_real s = (psg_real)scale;
        for (int64_t d = 0; d < dim; d++)
            out[d] = ((row[d] - m_high) - m_low) * s;
        rstd[r] = s;
    }
}

static void cpu_normalize_bwd(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                              const psg_real *rstd, const psg_real *dxhat, psg_real *dx)
{
    double over = dim == 0 ? 0 : 1 / (double)dim;
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *h = xhat + r * dim, *dh = dxhat + r * dim;
        psg_real m1 = centre ? (psg_real)(wide_sum(dim, dh) * over) : 0;
        psg_real m2 = (psg_real)(wide_dot(dim, dh, h) * over), s = rstd[r];
        psg_real *out = dx + r * dim;
        for (int64_t d = 0; d < dim; d++)
            out[d] = s * (dh[d] - m1 - h[d] * m2);
    }
}

/* largest entry; a NaN is passed over, and shows in the sum of exponentials */
static psg_real row_max(int64_t dim, const psg_real *x)
{
    enum { LANES = 2 * VEC_LEN };
    psg_real lane[LANES];
    for (int i = 0; i < LANES; i++)
        lane[i] = (psg_real)-INFINITY;
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] = x[d + i] > lane[i] ? x[d + i] : lane[i];
    psg_real top = (psg_real)-INFINITY;
    for (; d < dim; d++)
        top = x[d] > top ? x[d] : top;
    for (int i = 0; i < LANES; i++)
        top = lane[i] > top ? lane[i] : top;
    return top;
}

static void softmax_row(int64_t dim, bool log_space, const psg_real *x, psg_real *y)
{
    psg_real top = row_max(dim, x);
    if (top == (psg_real)-INFINITY) {
        ref_softmax(1, dim, log_space, x, y);
        return;
    }
    if (!log_space) {
        for (int64_t d = 0; d < dim; d++)
            y[d] = m_exp(x[d] - top);
        psg_real scale = (psg_real)(1 / wide_sum(dim, y));
        for (int64_t d = 0; d < dim; d++)
            y[d] *= scale;
        return;
    }
    enum { CHUNK = 256 };
    psg_real part[CHUNK];
    double sum = 0;
    for (int64_t d = 0; d < dim; d += CHUNK) {
        int64_t n = dim - d < CHUNK ? dim - d : CHUNK;
        for (int64_t i = 0; i < n; i++)
            part[i] = m_exp(x[d + i] - top);
        sum += wide_sum(n, part);
    }
    psg_real log_sum = (psg_real)log(sum);
    for (int64_t d = 0; d < dim; d++)
        y[d] = (x[d] - top) - log_sum;
}

static void cpu_softmax(int64_t rows, int64_t dim, bool log_space, const psg_real *x,
                        psg_real *y)
{
    for (int64_t r = 0; r < rows; r++)
        softmax_row(dim, log_space, x + r * dim, y + r * dim);
}

static void cpu_softmax_bwd(int64_t rows, int64_t dim, bool log_space, const psg_real *y,
                            const psg_real *dy, psg_real *dx)
{
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *yr = y + r * dim, *dyr = dy + r * dim;
        psg_real *out = dx + r * dim;
        psg_real sum = (psg_real)(log_space ? wide_sum(dim, dyr) : wide_dot(dim, dyr, yr));
        if (log_space)
            for (int64_t d = 0; d < dim; d++)
                out[d] = dyr[d] - m_exp(yr[d]) * sum;
        else
            for (int64_t d = 0; d < dim; d++)
                out[d] = yr[d] * (dyr[d] - sum);
    }
}

static void cpu_add_bias(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                         psg_real *y)
{
    if (!b) {
        memmove(y, x, (size_t)(rows * dim) * sizeof *y);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < dim; d++)
            y[r * dim + d] = x[r * dim + d] + b[d];
}

/* y[0..width) = sum over t of x[t * d ..], in double; width <= SUM_BLOCK */
enum { SUM_BLOCK = 8 * WIDE_LEN };

static void sum_columns(int64_t t, int64_t d, int64_t width, const psg_real *x, psg_real *y)
{
    if (width == SUM_BLOCK) {
        wide acc[8] = { { 0 } };
        for (int64_t i = 0; i < t; i++) {
            CPU_UNROLL
            for (int j = 0; j < 8; j++)
                acc[j] += wide_load(x + i * d + j * WIDE_LEN);
        }
        for (int j = 0; j < 8; j++)
            for (int l = 0; l < WIDE_LEN; l++)
                y[j * WIDE_LEN + l] = (psg_real)acc[j][l];
        return;
    }
    double acc[SUM_BLOCK] = { 0 };
    for (int64_t i = 0; i < t; i++)
        for (int64_t j = 0; j < width; j++)
            acc[j] += (double)x[i * d + j];
    for (int64_t j = 0; j < width; j++)
        y[j] = (psg_real)acc[j];
}

static void cpu_sum_rows(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                         int64_t stride_y)
{
    for (int64_t s = 0; s < n; s++) {
        if (d == 1) {
            y[s * stride_y] = (psg_real)wide_sum(t, x + s * t);
            continue;
        }
        for (int64_t j = 0; j < d; j += SUM_BLOCK)
            sum_columns(t, d, d - j < SUM_BLOCK ? d - j : SUM_BLOCK, x + s * t * d + j,
                        y + s * stride_y + j);
    }
}

/* Reductions of one run of neighbouring axes are [outer, run, inner] */
static bool reduce_run(const struct psg_shape *shape, unsigned mask, int64_t size[3])
{
    int part = 0;
    size[0] = size[1] = size[2] = 1;
    for (int i = 0; i < shape->rank; i++) {
        bool reduced = mask >> i & 1;
        if (shape->dim[i] == 1)
            continue;
        if (reduced != (part == 1))
            part++;
        if (part > 2)
            return false;
        size[part] *= shape->dim[i];
    }
    return true;
}

/* y[0..n) = the larger (or smaller) of x and y, NaN if one is: each column on its own */
static void extreme_row(bool max, int64_t n, const psg_real *x, psg_real *y)
{
    if (max)
        for (int64_t i = 0; i < n; i++)
            y[i] = ((x[i] > y[i]) | (x[i] != x[i])) ? x[i] : y[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = ((x[i] < y[i]) | (x[i] != x[i])) ? x[i] : y[i];
}

/* [outer, run, inner] -> [outer, inner], inner > 1 and run > 0 */
static void extreme_columns(bool max, const int64_t size[3], const psg_real *x, psg_real *y)
{
    for (int64_t o = 0; o < size[0]; o++, y += size[2]) {
        memcpy(y, x, (size_t)size[2] * sizeof *y);
        for (int64_t j = 1; j < size[1]; j++)
            extreme_row(max, size[2], x + j * size[2], y);
        x += size[1] * size[2];
    }
}

/* As ref_argmax, for many columns at once. */
static void cpu_argmax(int64_t outer, int64_t axis, int64_t inner, const psg_real *x,
                       psg_real *y)
{
    enum { BLOCK = 64 };
    psg_real top[BLOCK];
    if (inner == 1) {
        ref_argmax(outer, axis, inner, x, y);
        return;
    }
    for (int64_t o = 0; o < outer; o++, x += axis * inner, y += inner)
        for (int64_t i = 0; i < inner; i += BLOCK) {
            int64_t n = inner - i < BLOCK ? inner - i : BLOCK;
            memcpy(top, x + i, (size_t)n * sizeof *top);
            memset(y + i, 0, (size_t)n * sizeof *y);
            for (int64_t j = 1; j < axis; j++) {
                const psg_real *v = x + j * inner + i;
                for (int64_t k = 0; k < n; k++) {
                    bool take = (v[k] > top[k]) | ((v[k] != v[k]) & (top[k] == top[k]));
                    y[i + k] = take ? (psg_real)j : y[i + k];
                    top[k] = take ? v[k] : top[k];
                }
            }
        }
}

static void cpu_reduce(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                       const psg_real *x, psg_real *y)
{
    int64_t size[3];
    bool one_run = reduce_run(shape, mask, size);
    if (one_run && f != PSG_REDUCE_SUM && size[1] > 0 && size[2] > 1) {
        extreme_columns(f == PSG_REDUCE_MAX, size, x, y);
        return;
    }
    if (f != PSG_REDUCE_SUM || !one_run) {
        ref_reduce(f, shape, mask, x, y);
        return;
    }
    if (size[2] == 1)
        for (int64_t i = 0; i < size[0]; i++)
            y[i] = (psg_real)wide_sum(size[1], x + i * size[1]);
    else
        cpu_sum_rows(size[0], size[1], size[2], x, y, size[2]);
}

#endif
