/* Kernels that move numbers without computing much: copies, patches, rows of tables. */
#include <string.h>

#include "backend/window.h"
#include "cpu.h"
#include "collapse.h"
#include "axis.h"

typedef uint32_t word4 __attribute__((may_alias, aligned(1)));
typedef uint64_t word8 __attribute__((may_alias, aligned(1)));

static int64_t absolute(int64_t v)
{
    return v < 0 ? -v : v;
}

/* n elements, steps in elements */
static void copy_row(int64_t n, size_t size, const char *src, int64_t step_src, char *dst,
                     int64_t step_dst)
{
    if (step_src == 1 && step_dst == 1) {
        memcpy(dst, src, (size_t)n * size);
    } else if (size == 4) {
        for (int64_t i = 0; i < n; i++)
            ((word4 *)dst)[i * step_dst] = ((const word4 *)src)[i * step_src];
    } else if (size == 8) {
        for (int64_t i = 0; i < n; i++)
            ((word8 *)dst)[i * step_dst] = ((const word8 *)src)[i * step_src];
    } else {
        for (int64_t i = 0; i < n; i++)
            memcpy(dst + i * step_dst * (int64_t)size, src + i * step_src * (int64_t)size,
                   size);
    }
}

/* dst[i * step_dst + j] = src[i + j * step_src], i < m, j < n, in blocks that stay in cache
 */
static void transpose(int64_t m, int64_t n, size_t size, const char *src, int64_t step_src,
                      char *dst, int64_t step_dst)
{
    enum { BLOCK = 16 };
    for (int64_t i0 = 0; i0 < m; i0 += BLOCK) {
        int64_t i1 = i0 + BLOCK < m ? i0 + BLOCK : m;
        for (int64_t j = 0; j < n; j += BLOCK) {
            int64_t width = j + BLOCK < n ? BLOCK : n - j;
            for (int64_t i = i0; i < i1; i++)
                copy_row(width, size, src + (i + j * step_src) * (int64_t)size, step_src,
                         dst + (i * step_dst + j) * (int64_t)size, 1);
        }
    }
}

/* axes in the order of dst, so that writes run through memory */
static void sort_axes(const struct psg_shape *shape, const int64_t *src, const int64_t *dst,
                      struct psg_shape *sorted, int64_t out[2][PSG_MAX_RANK])
{
    *sorted = *shape;
    for (int i = 0; i < shape->rank; i++) {
        int at = i;
        for (; at > 0 && absolute(out[1][at - 1]) < absolute(dst[i]); at--) {
            sorted->dim[at] = sorted->dim[at - 1];
            out[0][at] = out[0][at - 1];
            out[1][at] = out[1][at - 1];
        }
        sorted->dim[at] = shape->dim[i];
        out[0][at] = src[i];
        out[1][at] = dst[i];
    }
}

/* Takes an outer axis that is contiguous in src out of the walk; its size, or 0 for none.
 */
static int64_t take_transposed(struct collapse *c, int64_t *step_dst)
{
    if (c->step[1] != 1 || c->step[0] == 1)
        return 0;
    for (int i = 0; i < c->rank; i++) {
        if (c->stride[0][i] != 1)
            continue;
        int64_t m = c->dim[i];
        *step_dst = c->stride[1][i];
        for (int j = i; j + 1 < c->rank; j++) {
            c->dim[j] = c->dim[j + 1];
            c->stride[0][j] = c->stride[0][j + 1];
            c->stride[1][j] = c->stride[1][j + 1];
        }
        c->rank--;
        c->n_rows /= m;
        return m;
    }
    return 0;
}

void cpu_copy(const struct psg_shape *shape, size_t size, const void *src,
              const int64_t *stride_src, void *dst, const int64_t *stride_dst)
{
    struct psg_shape sorted;
    int64_t stride[2][PSG_MAX_RANK], index[PSG_MAX_RANK] = { 0 }, at[2] = { 0, 0 };
    int64_t step_dst = 0, bytes = (int64_t)size;
    sort_axes(shape, stride_src, stride_dst, &sorted, stride);
    struct collapse c = collapse_make(&sorted, stride[0], stride[1]);
    if (c.n_rows == 0)
        return;
    int64_t m = take_transposed(&c, &step_dst);
    for (int64_t i = 0; i < c.n_rows; i++) {
        const char *from = (const char *)src + at[0] * bytes;
        char *to = (char *)dst + at[1] * bytes;
        if (m > 0)
            transpose(m, c.n, size, from, c.step[0], to, step_dst);
        else
            copy_row(c.n, size, from, c.step[0], to, c.step[1]);
        collapse_next(&c, index, at);
    }
}

/* One cell k of the kernel: its base on each axis and the positions that read inside. */
struct cell {
    int64_t base[3], low[3], high[3];
};

static struct cell cell_make(const struct window3 *w, int64_t k)
{
    int64_t at[3] = { k / w->kernel[2] / w->kernel[1], k / w->kernel[2] % w->kernel[1],
                      k % w->kernel[2] };
    struct cell c;
    for (int i = 0; i < 3; i++) {
        c.base[i] = at[i] * w->dilation[i] - w->pad_lo[i];
        axis_range(w->out[i], w->stride[i], c.base[i], w->in[i], &c.low[i], &c.high[i]);
    }
    return c;
}

/* first input cell of the row (o0, o1), as if o2 = 0 */
static int64_t cell_row(const struct window3 *w, const struct cell *c, int64_t o0,
                        int64_t o1)
{
    int64_t i0 = o0 * w->stride[0] + c->base[0], i1 = o1 * w->stride[1] + c->base[1];
    return (i0 * w->in[1] + i1) * w->in[2] + c->base[2];
}

static void unfold_cell(const struct window3 *w, const struct cell *c, psg_real pad_value,
                        const psg_real *x, psg_real *to)
{
    int64_t step = w->stride[2], low = c->low[2], high = c->high[2], n = w->out[2];
    for (int64_t o0 = 0; o0 < w->out[0]; o0++) {
        for (int64_t o1 = 0; o1 < w->out[1]; o1++, to += n) {
            bool inside =
                o0 >= c->low[0] && o0 < c->high[0] && o1 >= c->low[1] && o1 < c->high[1];
            int64_t from = inside ? low : n, till = inside ? high : n;
            for (int64_t o2 = 0; o2 < from; o2++)
                to[o2] = pad_value;
            for (int64_t o2 = till; o2 < n; o2++)
                to[o2] = pad_value;
            if (from == till)
                continue;
            const psg_real *row = x + cell_row(w, c, o0, o1);
            if (step == 1)
                memcpy(to + from, row + from, (size_t)(till - from) * sizeof *to);
            else
                for (int64_t o2 = from; o2 < till; o2++)
                    to[o2] = row[o2 * step];
        }
    }
}

void cpu_unfold(const struct psg_window *w, int64_t outer, psg_real pad_value,
                const psg_real *x, psg_real *patches)
{
    struct window3 v = window3_make(w);
    for (int64_t k = 0; k < v.n_kernel; k++) {
        struct cell c = cell_make(&v, k);
        for (int64_t n = 0; n < outer; n++)
            unfold_cell(&v, &c, pad_value, x + n * v.n_in,
                        patches + (n * v.n_kernel + k) * v.n_out);
    }
}

static void fold_cell(const struct window3 *w, const struct cell *c, const psg_real *from,
                      psg_real *x)
{
    int64_t step = w->stride[2];
    for (int64_t o0 = c->low[0]; o0 < c->high[0]; o0++) {
        for (int64_t o1 = c->low[1]; o1 < c->high[1]; o1++) {
            const psg_real *row = from + (o0 * w->out[1] + o1) * w->out[2];
            int64_t at = cell_row(w, c, o0, o1);
            for (int64_t o2 = c->low[2]; o2 < c->high[2]; o2++)
                x[at + o2 * step] += row[o2];
        }
    }
}

void cpu_fold(const struct psg_window *w, int64_t outer, const psg_real *patches,
              psg_real *x)
{
    struct window3 v = window3_make(w);
    memset(x, 0, (size_t)(outer * v.n_in) * sizeof *x);
    for (int64_t k = 0; k < v.n_kernel; k++) {
        struct cell c = cell_make(&v, k);
        for (int64_t n = 0; n < outer; n++)
            fold_cell(&v, &c, patches + (n * v.n_kernel + k) * v.n_out, x + n * v.n_in);
    }
}

/* Rows of a table are often short: a call of memcpy takes longer than their copy. */
static void copy_table_row(const psg_real *from, int64_t dim, psg_real *to)
{
    enum { QUAD = 4, SHORT = 64 };
    if (dim > SHORT || dim % QUAD != 0) {
        memcpy(to, from, (size_t)dim * sizeof *to);
        return;
    }
    for (int64_t d = 0; d < dim; d += QUAD)
        memcpy(to + d, from + d, QUAD * sizeof *to);
}

void cpu_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                const psg_real *table, int64_t table_stride, const int64_t *id, psg_real *y)
{
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t i = 0; i < count; i++, y += dim) {
            int64_t row = id[b * count + i];
            if (row >= 0 && row < rows)
                copy_table_row(table + b * table_stride + row * dim, dim, y);
            else
                memset(y, 0, (size_t)dim * sizeof *y);
        }
    }
}
