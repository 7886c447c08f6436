/* Numbers, shapes and types of tensors. All tensors are dense and row-major. */
#ifndef PSG_SHAPE_H
#define PSG_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The float type of parameters, activations and gradients. The library is built a second time
 * with PSG_REAL_DOUBLE for tests that need float64; the two builds are not link-compatible. */
#ifdef PSG_REAL_DOUBLE
typedef double psg_real;
#else
typedef float psg_real;
#endif

enum { PSG_MAX_RANK = 12 };

enum psg_dtype {
    PSG_REAL, /* psg_real */
    PSG_I64   /* int64_t: class numbers, token ids, lengths. Never differentiated */
};

struct psg_shape {
    int rank;
    int64_t dim[PSG_MAX_RANK]; /* each >= 0; entries past rank are 0 */
};

struct psg_type {
    enum psg_dtype dtype;
    struct psg_shape shape;
};

/* Product of all dimensions (1 for rank 0), or -1 if it does not fit in int64_t. */
PSG_API int64_t psg_shape_size(const struct psg_shape *shape);
PSG_API bool psg_shape_equal(const struct psg_shape *a, const struct psg_shape *b);
PSG_API struct psg_shape psg_shape_make(int rank, const int64_t *dim);
/* "[3, 4]" into buf; returns buf. */
PSG_API char *psg_shape_text(const struct psg_shape *shape, char *buf, size_t size);
/* Row-major strides in elements: stride[rank-1] = 1. */
PSG_API void psg_shape_strides(const struct psg_shape *shape, int64_t *stride);
PSG_API size_t psg_dtype_size(enum psg_dtype dtype);

/* A shape as an lvalue: &PSG_SHAPE(3, 4). */
#define PSG_SHAPE(...)                                                                         \
    ((struct psg_shape){ .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), \
                         .dim = { __VA_ARGS__ } })

#ifdef __cplusplus
}
#endif
#endif
