/* Convolutions with few channels in a group: tiles over channels would be nearly empty, so the
 * vectors run along the positions instead.
 *
 * Positions of an output row are neighbours in the planes (conv.h), and the next row begins
 * where the window's reach ends, so all positions from the first to the last are one line in
 * which only the ends of rows are idle:
 *
 *   line[q] = bias + sum_c w[c] planes[cell[c] + q]      forward, gradient of the input
 *   dw[c] = sum_q line[q] planes[cell[c] + q]            gradient of the weights */
#ifndef CPU_KERNELS_CONV_FLAT_H
#define CPU_KERNELS_CONV_FLAT_H

#include "backend/cpu/conv_plan.h"
#include "backend/cpu/kernels/vec.h"

/* count positions on each axis, in planes of the plan */
struct flat {
    int64_t count[3], row,
        slab; /* numbers from a row to the next, from a slab to the next */
    int64_t length;
};

static struct flat flat_make(const struct conv_plan *p, const int64_t count[3])
{
    struct flat f = { .count = { count[0], count[1], count[2] },
                      .row = p->extent[2],
                      .slab = p->extent[1] * p->extent[2] };
    f.length = (count[0] - 1) * f.slab + (count[1] - 1) * f.row + count[2];
    return f;
}

/* channels: those that a tile would hold side by side */
static bool flat_is_better(const struct flat *f, int64_t channels)
{
    int64_t n = f->count[0] * f->count[1] * f->count[2];
    return n == 0 ||
           (channels * 4 <= VEC_LEN && f->length >= VEC_LEN && f->length <= 2 * n);
}

CPU_INLINE void flat_block(int width, int64_t n, const psg_real *w, const psg_real *from,
                           const int32_t *cell, psg_real bias, psg_real *to)
{
    vec acc[8];
    CPU_UNROLL
    for (int j = 0; j < width; j++)
        acc[j] = (vec){ 0 } + bias;
    for (int64_t c = 0; c < n; c++) {
        const psg_real *at = from + cell[c];
        CPU_UNROLL
        for (int j = 0; j < width; j++)
            acc[j] += w[c] * vec_load(at + j * VEC_LEN);
    }
    CPU_UNROLL
    for (int j = 0; j < width; j++)
        vec_store(to + j * VEC_LEN, acc[j]);
}

/* to[0..length) from n cells; length >= VEC_LEN, the last vector may overlap the one before */
static void flat_line(int64_t length, int64_t n, const psg_real *w, const psg_real *from,
                      const int32_t *cell, psg_real bias, psg_real *to)
{
    int64_t q = 0;
    for (; q + 8 * VEC_LEN <= length; q += 8 * VEC_LEN)
        flat_block(8, n, w, from + q, cell, bias, to + q);
    for (; q + 2 * VEC_LEN <= length; q += 2 * VEC_LEN)
        flat_block(2, n, w, from + q, cell, bias, to + q);
    for (; q + VEC_LEN <= length; q += VEC_LEN)
        flat_block(1, n, w, from + q, cell, bias, to + q);
    if (q < length)
        flat_block(1, n, w, from + length - VEC_LEN, cell, bias, to + length - VEC_LEN);
}

/* numbers of the line's rows, one after the other in y, into the line, or back */
static void flat_spread(const struct flat *f, const psg_real *y, psg_real *line)
{
    memset(line, 0, (size_t)f->length * sizeof *line);
    for (int64_t i = 0; i < f->count[0]; i++)
        for (int64_t j = 0; j < f->count[1]; j++, y += f->count[2])
            for (int64_t k = 0; k < f->count[2]; k++)
                line[i * f->slab + j * f->row + k] = y[k];
}

static void flat_gather(const struct flat *f, const psg_real *line, psg_real *y)
{
    for (int64_t i = 0; i < f->count[0]; i++)
        for (int64_t j = 0; j < f->count[1]; j++, y += f->count[2])
            for (int64_t k = 0; k < f->count[2]; k++)
                y[k] = line[i * f->slab + j * f->row + k];
}

/* dw[0..width): `last` holds the numbers of the line behind its whole vectors */
CPU_INLINE void flat_dots(int width, int64_t length, const psg_real *line, vec last,
                          const psg_real *from, const int32_t *cell, psg_real *dw)
{
    vec acc[8] = { { 0 } };
    int64_t q = 0;
    for (; q + VEC_LEN <= length; q += VEC_LEN) {
        vec d = vec_load(line + q);
        CPU_UNROLL
        for (int j = 0; j < width; j++)
            acc[j] += d * vec_load(from + cell[j] + q);
    }
    CPU_UNROLL
    for (int j = 0; j < width; j++) {
        acc[j] += last * vec_load(from + cell[j] + length - VEC_LEN);
        psg_real sum = 0;
        for (int i = 0; i < VEC_LEN; i++)
            sum += acc[j][i];
        dw[j] = sum;
    }
}

static void flat_dw(int64_t length, int64_t n, const psg_real *line, const psg_real *from,
                    const int32_t *cell, psg_real *dw)
{
    vec last = { 0 };
    int64_t c = 0;
    for (int64_t i = length / VEC_LEN * VEC_LEN; i < length; i++)
        last[i - (length - VEC_LEN)] = line[i];
    for (; c + 8 <= n; c += 8)
        flat_dots(8, length, line, last, from, cell + c, dw + c);
    for (; c + 3 <= n; c += 3)
        flat_dots(3, length, line, last, from, cell + c, dw + c);
    for (; c < n; c++)
        flat_dots(1, length, line, last, from, cell + c, dw + c);
}

/* ---- the three products of one sample ---- */

static void flat_conv(const struct conv_plan *p, const struct flat *f,
                      const psg_real *planes, const psg_real *w, const psg_real *bias,
                      psg_real *y)
{
    for (int64_t co = 0; co < p->groups * p->og; co++) {
        flat_line(f->length, p->cells, w + co * p->cells,
                  planes + co / p->og * p->cg * p->plane, p->cell, bias ? bias[co] : 0,
                  p->packed);
        flat_gather(f, p->packed, y + co * p->v.n_out);
    }
}

static void flat_weight(const struct conv_plan *p, const struct flat *f,
                        const psg_real *planes, const psg_real *dy, psg_real *dw)
{
    for (int64_t co = 0; co < p->groups * p->og; co++) {
        flat_spread(f, dy + co * p->v.n_out, p->packed);
        flat_dw(f->length, p->cells, p->packed, planes + co / p->og * p->cg * p->plane,
                p->cell, dw + co * p->cells);
    }
}

static bool flat_data_is_better(const struct conv_plan *p)
{
    for (int64_t i = 0; i < p->n_phases; i++) {
        const struct conv_phase phase = conv_plan_phase(p, i);
        struct flat f = flat_make(p, phase.count);
        if (!flat_is_better(&f, p->cg))
            return false;
    }
    return true;
}

/* one remainder of one input channel; dx: the channel's plane */
static void flat_data_phase(const struct conv_plan *p, const struct conv_phase *phase,
                            const psg_real *planes, const psg_real *w, psg_real *dx)
{
    struct flat f = flat_make(p, phase->count);
    psg_real *line = p->packed, *weight = p->packed + p->plane;
    struct conv_walk walk = conv_walk_start(phase);
    if (phase->n_positions == 0)
        return;
    for (int64_t co = 0; co < p->og; co++)
        for (int64_t k = 0; k < phase->n_cells; k++)
            weight[co * phase->n_cells + k] =
                w[co * p->cells + p->phase_cell[phase->first + k]];
    flat_line(f.length, phase->n_cells * p->og, weight, planes + conv_walk_plane(p, &walk),
              p->cell + phase->first * p->og, 0, line);
    for (int64_t i = 0; i < f.count[0]; i++)
        for (int64_t j = 0; j < f.count[1]; j++) {
            struct conv_walk at = { { walk.q[0] + i, walk.q[1] + j, walk.q[2] } };
            const psg_real *from = line + i * f.slab + j * f.row;
            psg_real *to = dx + conv_walk_input(p, phase, &at);
            for (int64_t k = 0; k < f.count[2]; k++)
                to[k * p->v.stride[2]] = from[k];
        }
}

static void flat_data(const struct conv_plan *p, const psg_real *planes, const psg_real *w,
                      psg_real *dx)
{
    for (int64_t i = 0; i < p->n_phases; i++) {
        const struct conv_phase phase = conv_plan_phase(p, i);
        for (int64_t ci = 0; ci < p->groups * p->cg; ci++) {
            int64_t g = ci / p->cg;
            flat_data_phase(p, &phase, planes + g * p->og * p->plane,
                            w + g * p->og * p->cells + ci % p->cg * p->v.n_kernel,
                            dx + ci * p->v.n_in);
        }
    }
}

#endif
