/* Moving and reducing over axes. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/walk.h"

template <class Element>
KERNEL copy_kernel(struct walk w, const Element *src, Element *dst)
{
    THREADS EACH_OF_GRID(i, w.n)
    {
        struct walk_place p = walk_at(w, i);
        dst[p.at[1]] = src[p.at[0]];
    }
}

KERNEL copy_bytes_kernel(struct walk w, int64_t size, const unsigned char *src,
                         unsigned char *dst)
{
    THREADS EACH_OF_GRID(i, w.n)
    {
        struct walk_place p = walk_at(w, i);
        for (int64_t byte = 0; byte < size; byte++)
            dst[p.at[1] * size + byte] = src[p.at[0] * size + byte];
    }
}

void cuda_copy(const struct psg_shape *shape, size_t size, const void *src,
               const int64_t *stride_src, void *dst, const int64_t *stride_dst)
{
    struct walk w = walk_make(shape, stride_src, stride_dst);
    bool aligned = ((uintptr_t)src | (uintptr_t)dst) % size == 0;
    if (aligned && size == sizeof(uint32_t))
        LAUNCH_EACH(copy_kernel<uint32_t>, w.n, w, (const uint32_t *)src, (uint32_t *)dst);
    else if (aligned && size == sizeof(uint64_t))
        LAUNCH_EACH(copy_kernel<uint64_t>, w.n, w, (const uint64_t *)src, (uint64_t *)dst);
    else
        LAUNCH_EACH(copy_bytes_kernel, w.n, w, (int64_t)size, (const unsigned char *)src,
                    (unsigned char *)dst);
}

/* Kept axes and reduced axes, each with its strides in x. */
struct reduction {
    enum psg_reduce f;
    struct walk kept, reduced;
};

DEVICE double reduce_start(enum psg_reduce f)
{
    return f == PSG_REDUCE_SUM ? 0 : f == PSG_REDUCE_MAX ? -INFINITY : INFINITY;
}

/* max and min of anything with NaN are NaN */
DEVICE double reduce_value(enum psg_reduce f, double a, double b)
{
    if (f == PSG_REDUCE_SUM || isnan(a) || isnan(b))
        return a + b;
    return f == PSG_REDUCE_MAX ? (a > b ? a : b) : (a < b ? a : b);
}

/* one thread for each result */
KERNEL reduce_threads_kernel(struct reduction r, const psg_real *x, psg_real *y)
{
    THREADS EACH_OF_GRID(i, r.kept.n)
    {
        const psg_real *from = x + walk_at(r.kept, i).at[0];
        double acc = reduce_start(r.f);
        for (int64_t j = 0; j < r.reduced.n; j++)
            acc = reduce_value(r.f, acc, (double)from[walk_at(r.reduced, j).at[0]]);
        y[i] = (psg_real)acc;
    }
}

/* one block for each result */
KERNEL reduce_block_kernel(struct reduction r, const psg_real *x, psg_real *y)
{
    SHARED double part[CUDA_THREADS];
    const psg_real *from = x + walk_at(r.kept, blockIdx.x).at[0];
    THREADS
    {
        double acc = reduce_start(r.f);
        for (int64_t j = threadIdx.x; j < r.reduced.n; j += blockDim.x)
            acc = reduce_value(r.f, acc, (double)from[walk_at(r.reduced, j).at[0]]);
        part[threadIdx.x] = acc;
    }
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2)
        THREADS if (threadIdx.x < half)
            part[threadIdx.x] =
                reduce_value(r.f, part[threadIdx.x], part[threadIdx.x + half]);
    THREADS if (threadIdx.x == 0)
        y[blockIdx.x] = (psg_real)part[0];
}

void cuda_reduce(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                 const psg_real *x, psg_real *y)
{
    const int64_t worth_a_block = 64;
    struct psg_shape part[2] = {};
    int64_t stride[2][PSG_MAX_RANK], step = 1, all[PSG_MAX_RANK];
    for (int i = shape->rank - 1; i >= 0; i--) {
        all[i] = step;
        step *= shape->dim[i];
    }
    for (int i = 0; i < shape->rank; i++) {
        int side = mask >> i & 1;
        stride[side][part[side].rank] = all[i];
        part[side].dim[part[side].rank++] = shape->dim[i];
    }
    struct reduction r = { f, walk_make(&part[0], stride[0], stride[0]),
                           walk_make(&part[1], stride[1], stride[1]) };
    bool many = r.kept.n >= 64 * CUDA_THREADS;
    if (!many && r.reduced.n >= worth_a_block)
        LAUNCH(reduce_block_kernel, r.kept.n, CUDA_THREADS, r, x, y);
    else
        LAUNCH_EACH(reduce_threads_kernel, r.kept.n, r, x, y);
}

KERNEL argmax_kernel(int64_t n, int64_t axis, int64_t inner, const psg_real *x, psg_real *y)
{
    THREADS EACH_OF_GRID(e, n)
    {
        const psg_real *line = x + e / inner * axis * inner + e % inner;
        int64_t best = 0;
        for (int64_t j = 1; j < axis; j++) {
            psg_real top = line[best * inner], v = line[j * inner];
            if (v > top || (isnan(v) && !isnan(top)))
                best = j;
        }
        y[e] = (psg_real)best;
    }
}

void cuda_argmax(int64_t outer, int64_t axis, int64_t inner, const psg_real *x, psg_real *y)
{
    LAUNCH_EACH(argmax_kernel, outer * inner, outer * inner, axis, inner, x, y);
}
