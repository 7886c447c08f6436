/* Counting through a shape, last axis fastest. */
#ifndef BACKEND_REF_INDEX_H
#define BACKEND_REF_INDEX_H

#include "psg/shape.h"

/* The next index in row-major order; after the last one, zeros again. */
static inline void index_next(const struct psg_shape *shape, int64_t *index)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (++index[i] < shape->dim[i])
            return;
        index[i] = 0;
    }
}

static inline int64_t index_dot(int rank, const int64_t *index, const int64_t *stride)
{
    int64_t at = 0;
    for (int i = 0; i < rank; i++)
        at += index[i] * stride[i];
    return at;
}

#endif
