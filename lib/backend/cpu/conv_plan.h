/* Where a convolution finds its numbers: padded planes and tables of offsets
 * (kernels/conv.h says what for). Made anew for each call: it costs one pass over the
 * tables. */
#ifndef CPU_CONV_PLAN_H
#define CPU_CONV_PLAN_H

#include "backend/window.h"

struct conv_plan {
    struct window3 v;
    int64_t groups, cg, og; /* channels of a group: in, out */
    int64_t cells;          /* cg * kernel cells: length of a row of weights */
    /* planes: [channel][remainder 0, 1, 2][extent 0, 1, 2] */
    int64_t extent[3], plane; /* plane: numbers per channel, all remainders */
    int64_t reach[3];         /* (kernel - 1) * dilation / stride: bwd_data pads by it */
    bool data;                /* planes of dy, for bwd_data */
    bool in_place;            /* the planes are the tensor as it is */
    int64_t n_phases;         /* remainders: product of the strides */
    int64_t n_cell, n_position, n_packed, n_planes, size;
    int32_t *cell, *position, *phase_cell;
    psg_real *packed, *planes;
};

/* Fills *p for conv and conv_bwd_weight; false where offsets would not fit into int32 or
 * sizes are 0, and the reference kernel has to do. lanes: vector length of the right
 * matrices. */
bool conv_plan_make(const struct psg_conv *c, int64_t lanes, struct conv_plan *p);
/* the same for conv_bwd_data */
bool conv_plan_make_data(const struct psg_conv *c, int64_t lanes, struct conv_plan *p);
/* Divides scratch (p->size numbers), fills the tables and zeroes the planes. */
void conv_plan_place(struct conv_plan *p, psg_real *scratch);
/* Planes of one sample, in place of those of the last one; x has `channels` channels. */
const psg_real *conv_plan_planes(const struct conv_plan *p, int64_t channels,
                                 const psg_real *x);

/* The input positions i with (i + pad_lo) % stride = remainder on each axis, which are
 * i = q * stride + remainder - pad_lo for q from `low`, and the cells of the kernel that
 * reach them. */
struct conv_phase {
    int64_t remainder[3], low[3], count[3];
    int64_t n_positions;
    int64_t first, n_cells; /* its part of phase_cell; cell has og entries for each */
};

struct conv_phase conv_plan_phase(const struct conv_plan *p, int64_t f);

struct conv_walk {
    int64_t q[3];
};

static inline struct conv_walk conv_walk_start(const struct conv_phase *phase)
{
    return (struct conv_walk){ { phase->low[0], phase->low[1], phase->low[2] } };
}

static inline void conv_walk_next(const struct conv_phase *phase, struct conv_walk *walk)
{
    for (int i = 2; i >= 0; i--) {
        if (++walk->q[i] < phase->low[i] + phase->count[i])
            return;
        walk->q[i] = phase->low[i];
    }
}

static inline int64_t conv_walk_plane(const struct conv_plan *p,
                                      const struct conv_walk *walk)
{
    return (walk->q[0] * p->extent[1] + walk->q[1]) * p->extent[2] + walk->q[2];
}

static inline int64_t conv_walk_input(const struct conv_plan *p,
                                      const struct conv_phase *phase,
                                      const struct conv_walk *walk)
{
    int64_t at = 0;
    for (int i = 0; i < 3; i++)
        at = at * p->v.in[i] + walk->q[i] * p->v.stride[i] + phase->remainder[i] -
             p->v.pad_lo[i];
    return at;
}

#endif
