/* Windows as kernels read them: always three axes, the leading ones of size 1 where the
 * window has fewer. Row-major order and flat positions are unchanged by that. */
#ifndef BACKEND_WINDOW_H
#define BACKEND_WINDOW_H

#include "base/device.h"
#include "psg/backend.h"

/* w with rank 3; n_in, n_kernel and n_out are the products over the axes. */
struct window3 {
    int64_t in[3], kernel[3], out[3];
    int64_t stride[3], dilation[3], pad_lo[3], pad_hi[3];
    int64_t n_in, n_kernel, n_out;
};

static inline struct window3 window3_make(const struct psg_window *w)
{
    struct window3 v = { .n_in = 1, .n_kernel = 1, .n_out = 1 };
    for (int i = 0; i < 3; i++) {
        int from = i - (3 - w->rank);
        bool has = from >= 0;
        v.in[i] = has ? w->in[from] : 1;
        v.kernel[i] = has ? w->kernel[from] : 1;
        v.out[i] = has ? w->out[from] : 1;
        v.stride[i] = has ? w->stride[from] : 1;
        v.dilation[i] = has ? w->dilation[from] : 1;
        v.pad_lo[i] = has ? w->pad_lo[from] : 0;
        v.pad_hi[i] = has ? w->pad_hi[from] : 0;
        v.n_in *= v.in[i];
        v.n_kernel *= v.kernel[i];
        v.n_out *= v.out[i];
    }
    return v;
}

/* First cell (k = 0) of output position o (flat), for each axis; may be negative. */
static inline ON_DEVICE void window3_start(const struct window3 *w, int64_t o, int64_t start[3])
{
    int64_t o2 = o % w->out[2], o1 = o / w->out[2] % w->out[1];
    int64_t o0 = o / w->out[2] / w->out[1];
    start[0] = o0 * w->stride[0] - w->pad_lo[0];
    start[1] = o1 * w->stride[1] - w->pad_lo[1];
    start[2] = o2 * w->stride[2] - w->pad_lo[2];
}

/* Flat input position of kernel cell k (flat) of a window that starts at start, or -1 where
 * it lies in the padding. */
static inline ON_DEVICE int64_t window3_cell(const struct window3 *w, const int64_t start[3],
                                   int64_t k)
{
    int64_t i2 = start[2] + k % w->kernel[2] * w->dilation[2];
    int64_t i1 = start[1] + k / w->kernel[2] % w->kernel[1] * w->dilation[1];
    int64_t i0 = start[0] + k / w->kernel[2] / w->kernel[1] * w->dilation[0];
    if (i0 < 0 || i0 >= w->in[0] || i1 < 0 || i1 >= w->in[1] || i2 < 0 || i2 >= w->in[2])
        return -1;
    return (i0 * w->in[1] + i1) * w->in[2] + i2;
}

/* The inverse: output position (flat) whose cell k is input position i, or -1 where none
 * is. */
static inline ON_DEVICE int64_t window3_position(const struct window3 *w, int64_t i, int64_t k)
{
    int64_t at[3] = { i / w->in[2] / w->in[1], i / w->in[2] % w->in[1], i % w->in[2] };
    int64_t cell[3] = { k / w->kernel[2] / w->kernel[1], k / w->kernel[2] % w->kernel[1],
                        k % w->kernel[2] };
    int64_t o = 0;
    for (int axis = 0; axis < 3; axis++) {
        int64_t from = at[axis] + w->pad_lo[axis] - cell[axis] * w->dilation[axis];
        if (from < 0 || from % w->stride[axis] != 0 ||
            from / w->stride[axis] >= w->out[axis])
            return -1;
        o = o * w->out[axis] + from / w->stride[axis];
    }
    return o;
}

#endif
