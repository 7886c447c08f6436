/* From the number of an element of a shape to its places in operands with strides. */
#ifndef BACKEND_CUDA_WALK_H
#define BACKEND_CUDA_WALK_H

#include "launch.h"
#include "psg/shape.h"

/* Axes of size 1 are gone and axes that follow each other in both operands are one. */
struct walk {
    int rank;
    int64_t n; /* elements */
    int64_t dim[PSG_MAX_RANK], stride[2][PSG_MAX_RANK];
};

struct walk_place {
    int64_t at[2];
};

static inline struct walk walk_make(const struct psg_shape *shape, const int64_t *stride_a,
                                    const int64_t *stride_b)
{
    struct walk w = {};
    w.n = 1;
    for (int i = 0; i < shape->rank; i++) {
        int64_t dim = shape->dim[i];
        w.n *= dim;
        if (dim == 1)
            continue;
        int last = w.rank - 1;
        if (last >= 0 && w.stride[0][last] == stride_a[i] * dim &&
            w.stride[1][last] == stride_b[i] * dim)
            w.dim[last] *= dim;
        else
            last = w.rank++, w.dim[last] = dim;
        w.stride[0][last] = stride_a[i];
        w.stride[1][last] = stride_b[i];
    }
    return w;
}

/* Row-major: the last axis runs fastest. */
DEVICE struct walk_place walk_at(const struct walk &w, int64_t i)
{
    struct walk_place p = { { 0, 0 } };
    for (int axis = w.rank - 1; axis >= 0; axis--) {
        int64_t index = axis > 0 ? i % w.dim[axis] : i;
        p.at[0] += index * w.stride[0][axis];
        p.at[1] += index * w.stride[1][axis];
        i /= axis > 0 ? w.dim[axis] : 1;
    }
    return p;
}

#endif
