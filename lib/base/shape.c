#include "psg/shape.h"

#include <stdio.h>
#include <string.h>

int64_t psg_shape_size(const struct psg_shape *shape)
{
    int64_t size = 1;
    bool overflow = false;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] == 0)
            return 0;
        overflow |= __builtin_mul_overflow(size, shape->dim[i], &size);
    }
    return overflow ? -1 : size;
}

bool psg_shape_equal(const struct psg_shape *a, const struct psg_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

struct psg_shape psg_shape_make(int rank, const int64_t *dim)
{
    struct psg_shape shape = { .rank = rank };
    for (int i = 0; i < rank; i++)
        shape.dim[i] = dim[i];
    return shape;
}

char *psg_shape_text(const struct psg_shape *shape, char *buf, size_t size)
{
    size_t at = 0;
    if (size == 0)
        return buf;
    buf[0] = '\0';
    at += (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < shape->rank && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, i ? ", %lld" : "%lld",
                               (long long)shape->dim[i]);
    if (at < size)
        snprintf(buf + at, size - at, "]");
    return buf;
}

void psg_shape_strides(const struct psg_shape *shape, int64_t *stride)
{
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape->dim[i];
    }
}

size_t psg_dtype_size(enum psg_dtype dtype)
{
    return dtype == PSG_I64 ? sizeof(int64_t) : sizeof(psg_real);
}
