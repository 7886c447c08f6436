/* Moving and reducing over axes. */
#include "ref.h"

#include <math.h>
#include <string.h>

#include "index.h"

void ref_copy(const struct psg_shape *shape, size_t size, const void *src,
              const int64_t *stride_src, void *dst, const int64_t *stride_dst)
{
    const char *from = src;
    char *to = dst;
    int64_t n = psg_shape_size(shape), index[PSG_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + index_dot(shape->rank, index, stride_dst) * (int64_t)size,
               from + index_dot(shape->rank, index, stride_src) * (int64_t)size, size);
        index_next(shape, index);
    }
}

static double reduce_start(enum psg_reduce f)
{
    return f == PSG_REDUCE_SUM ? 0 : f == PSG_REDUCE_MAX ? -INFINITY : INFINITY;
}

/* max and min of anything with NaN are NaN */
static double reduce_value(enum psg_reduce f, double acc, double x)
{
    if (f == PSG_REDUCE_SUM || isnan(acc) || isnan(x))
        return acc + x;
    return f == PSG_REDUCE_MAX ? fmax(acc, x) : fmin(acc, x);
}

/* Splits shape into kept and reduced axes, with the strides of x. */
static void reduce_split(const struct psg_shape *shape, unsigned mask,
                         struct psg_shape part[2], int64_t stride[2][PSG_MAX_RANK])
{
    int64_t step = 1;
    int64_t all[PSG_MAX_RANK];
    for (int i = shape->rank - 1; i >= 0; i--) {
        all[i] = step;
        step *= shape->dim[i];
    }
    part[0].rank = part[1].rank = 0;
    for (int i = 0; i < shape->rank; i++) {
        int side = mask >> i & 1;
        stride[side][part[side].rank] = all[i];
        part[side].dim[part[side].rank++] = shape->dim[i];
    }
}

void ref_reduce(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                const psg_real *x, psg_real *y)
{
    struct psg_shape part[2];
    int64_t stride[2][PSG_MAX_RANK];
    reduce_split(shape, mask, part, stride);
    int64_t n_kept = psg_shape_size(&part[0]), n_reduced = psg_shape_size(&part[1]);
    int64_t kept[PSG_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < n_kept; i++) {
        const psg_real *from = x + index_dot(part[0].rank, kept, stride[0]);
        int64_t reduced[PSG_MAX_RANK] = { 0 };
        double acc = reduce_start(f);
        for (int64_t j = 0; j < n_reduced; j++) {
            int64_t at = index_dot(part[1].rank, reduced, stride[1]);
            acc = reduce_value(f, acc, (double)from[at]);
            index_next(&part[1], reduced);
        }
        y[i] = (psg_real)acc;
        index_next(&part[0], kept);
    }
}

void ref_argmax(int64_t outer, int64_t axis, int64_t inner, const psg_real *x, psg_real *y)
{
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t i = 0; i < inner; i++) {
            const psg_real *line = x + o * axis * inner + i;
            int64_t best = 0;
            for (int64_t j = 1; j < axis; j++) {
                psg_real top = line[best * inner], v = line[j * inner];
                if (v > top || (isnan(v) && !isnan(top)))
                    best = j;
            }
            y[o * inner + i] = (psg_real)best;
        }
    }
}
