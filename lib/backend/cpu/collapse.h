/* A strided walk over a shape with as few axes as possible: axes of size 1 vanish,
 * neighbours that are one axis in both operands become one. The last axis is the row. */
#ifndef CPU_COLLAPSE_H
#define CPU_COLLAPSE_H

#include "psg/shape.h"

struct collapse {
    int rank; /* outer axes */
    int64_t dim[PSG_MAX_RANK], stride[2][PSG_MAX_RANK];
    int64_t n, step[2]; /* the row */
    int64_t n_rows;     /* 0 where any axis is 0 */
};

static inline struct collapse collapse_make(const struct psg_shape *shape,
                                            const int64_t *stride_a,
                                            const int64_t *stride_b)
{
    struct collapse c = { .n = 1, .n_rows = 1 };
    int rank = 0;
    for (int i = 0; i < shape->rank; i++) {
        int64_t d = shape->dim[i], a = stride_a[i], b = stride_b[i];
        if (d == 1)
            continue;
        if (rank > 0 && c.stride[0][rank - 1] == a * d && c.stride[1][rank - 1] == b * d) {
            c.dim[rank - 1] *= d;
            c.stride[0][rank - 1] = a;
            c.stride[1][rank - 1] = b;
        } else {
            c.dim[rank] = d;
            c.stride[0][rank] = a;
            c.stride[1][rank++] = b;
        }
    }
    c.rank = rank > 0 ? rank - 1 : 0;
    if (rank > 0) {
        c.n = c.dim[rank - 1];
        c.step[0] = c.stride[0][rank - 1];
        c.step[1] = c.stride[1][rank - 1];
    }
    for (int i = 0; i < c.rank; i++)
        c.n_rows *= c.dim[i];
    if (c.n == 0)
        c.n_rows = 0;
    return c;
}

/* moves at[] to the next row */
static inline void collapse_next(const struct collapse *c, int64_t *index, int64_t at[2])
{
    for (int i = c->rank - 1; i >= 0; i--) {
        at[0] += c->stride[0][i];
        at[1] += c->stride[1][i];
        if (++index[i] < c->dim[i])
            return;
        at[0] -= c->stride[0][i] * c->dim[i];
        at[1] -= c->stride[1][i] * c->dim[i];
        index[i] = 0;
    }
}

#endif
