/* One axis of a window: which positions o in [0, out) read inside of the input. */
#ifndef CPU_AXIS_H
#define CPU_AXIS_H

#include <stdint.h>

/* [*low, *high) are the o in [0, out) with 0 <= o * stride + base < in; low <= high */
static inline void axis_range(int64_t out, int64_t stride, int64_t base, int64_t in,
                              int64_t *low, int64_t *high)
{
    int64_t from = base >= 0 ? 0 : (-base + stride - 1) / stride;
    int64_t to = base >= in ? 0 : (in - 1 - base) / stride + 1;
    *low = from < out ? from : out;
    *high = to < out ? to : out;
    if (*high < *low)
        *high = *low;
}

#endif
