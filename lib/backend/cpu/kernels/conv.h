/* Convolution without an image of patches in memory.
 *
 * The input is copied once into planes with its padding, one plane for each remainder of
 * the position by the stride, so that cell k of the window at o lies at cell[k] +
 * position[o] whatever stride and dilation are. All three products then read the planes
 * through two tables of offsets, with tiles (kernels/tile.h) over
 *
 *   y[o, co]       rows: positions    right matrix: weights [(ci, k), co]
 *   dw[(ci,k), co] rows: (ci, k)      right matrix: dy^T [o, co]
 *                  or, for few positions, rows: co, right matrix: patches [o, (ci, k)]
 *   dx[q, ci]      rows: positions    right matrix: weights [(co, k), ci], planes of dy;
 * one product for each remainder, with the cells that meet it
 *
 * Groups of few channels go along the positions instead: conv_flat.h. Many channels and 3 x 3
 * weights need fewer multiplications: winograd.h.
 *
 * Scratch: planes of one sample, packed weights, offsets. */
#ifndef CPU_KERNELS_CONV_H
#define CPU_KERNELS_CONV_H

#include "backend/cpu/conv_plan.h"
#include "backend/cpu/kernels/conv_flat.h"
#include "backend/cpu/kernels/tile.h"
#include "backend/cpu/kernels/winograd.h"

/* ---- forward ---- */

/* right matrices of all groups, panel after panel: [group][panel][k][width] */
static void conv_pack_weights(const struct conv_plan *p, const psg_real *w, psg_real *to)
{
    for (int64_t g = 0; g < p->groups; g++) {
        for (int64_t j = 0; j < p->og;) {
            int64_t width = tile_vectors(p->og - j) * VEC_LEN;
            int64_t n = p->og - j < width ? p->og - j : width;
            tile_pack_transposed(p->cells, n, width, w + (g * p->og + j) * p->cells,
                                 p->cells, w + p->groups * p->og * p->cells, to);
            to += p->cells * width;
            j += n;
        }
    }
}

/* one panel of output channels of one sample: y and bias start at its first channel */
static void conv_panel(const struct conv_plan *p, const psg_real *planes,
                       const psg_real *right, int nv, int64_t n, const psg_real *bias,
                       psg_real *y)
{
    psg_real tile[TILE_MR * TILE_NR];
    for (int64_t o = 0; o < p->v.n_out;) {
        int mr = tile_rows(p->v.n_out - o);
        const psg_real *rows[TILE_MR];
        for (int i = 0; i < mr; i++)
            rows[i] = planes + p->position[o + i];
        tile_off[tile_class(mr)][nv - 1](p->cells, rows, 0, p->cell, right, nv * VEC_LEN,
                                         tile, nv * VEC_LEN);
        tile_store_transposed(mr, n, nv * VEC_LEN, tile, bias, y + o, p->v.n_out);
        o += mr;
    }
}

static void cpu_conv(const struct psg_conv *c, int64_t n, const psg_real *x,
                     const psg_real *w, const psg_real *bias, psg_real *y,
                     psg_real *scratch)
{
    struct conv_plan p;
    if (wino_is_better(c)) {
        wino_conv(c, false, n, x, w, bias, y, scratch);
        return;
    }
    if (!conv_plan_make(c, VEC_LEN, &p)) {
        ref_conv(c, n, x, w, bias, y, scratch);
        return;
    }
    struct flat flat = flat_make(&p, p.v.out);
    bool along = flat_is_better(&flat, p.og);
    conv_plan_place(&p, scratch);
    if (!along)
        conv_pack_weights(&p, w, p.packed);
    for (int64_t s = 0; s < n; s++) {
        const psg_real *planes =
            conv_plan_planes(&p, c->in_channels, x + s * c->in_channels * p.v.n_in);
        if (along) {
            flat_conv(&p, &flat, planes, w, bias, y + s * c->out_channels * p.v.n_out);
            continue;
        }
        const psg_real *right = p.packed;
        for (int64_t co = 0; co < c->out_channels;) {
            int64_t g = co / p.og, left = (g + 1) * p.og - co;
            int nv = tile_vectors(left);
            int64_t width = nv * VEC_LEN, m = left < width ? left : width;
            conv_panel(&p, planes + g * p.cg * p.plane, right, nv, m,
                       bias ? bias + co : NULL, y + (s * c->out_channels + co) * p.v.n_out);
            right += p.cells * width;
            co += m;
        }
    }
}

/* ---- gradient of the weights ---- */

/* rows (ci, k), columns co: right matrix dy^T of one panel of channels */
static void weight_panel(const struct conv_plan *p, const psg_real *planes,
                         const psg_real *dy, const psg_real *end, int nv, int64_t n,
                         psg_real *dw)
{
    psg_real tile[TILE_MR * TILE_NR];
    int64_t width = nv * VEC_LEN;
    tile_pack_transposed(p->v.n_out, n, width, dy, p->v.n_out, end, p->packed);
    for (int64_t l = 0; l < p->cells;) {
        int mr = tile_rows(p->cells - l);
        const psg_real *rows[TILE_MR];
        for (int i = 0; i < mr; i++)
            rows[i] = planes + p->cell[l + i];
        tile_off[tile_class(mr)][nv - 1](p->v.n_out, rows, 0, p->position, p->packed, width,
                                         tile, width);
        tile_store_transposed(mr, n, width, tile, NULL, dw + l, p->cells);
        l += mr;
    }
}

/* right matrix [o][width]: the patches of n columns (ci, k) from l on. Each column is laid
 * out along o in `line`, then VEC_LEN of them are turned. */
static void weight_pack_patches(const struct conv_plan *p, const psg_real *planes,
                                int64_t l, int64_t n, int64_t width, psg_real *line,
                                psg_real *to)
{
    int64_t run = p->v.out[2], t = p->v.n_out;
    for (int64_t j = 0; j < n; j++) {
        const psg_real *from = planes + p->cell[l + j];
        psg_real *at = line + j * t;
        if (run < 4)
            for (int64_t o = 0; o < t; o++)
                at[o] = from[p->position[o]];
        else
            for (int64_t o = 0; o < t; o += run)
                for (int64_t i = 0; i < run; i++)
                    at[o + i] = from[p->position[o] + i];
    }
    tile_pack_transposed(t, n, width, line, t, p->packed + p->n_packed, to);
}

/* rows co, columns (ci, k) */
static void weight_patches(const struct conv_plan *p, const psg_real *planes,
                           const psg_real *dy, int nv, int64_t l, int64_t n, psg_real *dw)
{
    psg_real tile[TILE_MR * TILE_NR];
    int64_t width = nv * VEC_LEN;
    weight_pack_patches(p, planes, l, n, width, p->packed + p->v.n_out * width, p->packed);
    for (int64_t co = 0; co < p->og;) {
        int mr = tile_rows(p->og - co);
        const psg_real *rows[TILE_MR];
        for (int i = 0; i < mr; i++)
            rows[i] = dy + (co + i) * p->v.n_out;
        tile_fn *fn = tile_step[tile_class(mr)][nv - 1];
        psg_real *to = dw + co * p->cells + l;
        if (n == width) {
            fn(p->v.n_out, rows, 1, NULL, p->packed, width, to, p->cells);
        } else {
            fn(p->v.n_out, rows, 1, NULL, p->packed, width, tile, width);
            for (int i = 0; i < mr; i++)
                memcpy(to + i * p->cells, tile + i * width, (size_t)n * sizeof *to);
        }
        co += mr;
    }
}

static void cpu_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                                const psg_real *dy, psg_real *dw, int64_t stride,
                                psg_real *scratch)
{
    struct conv_plan p;
    if (wino_is_better(c) && wino_weight_is_better(c)) {
        wino_bwd_weight(c, n, x, dy, dw, stride, scratch);
        return;
    }
    if (!conv_plan_make(c, VEC_LEN, &p)) {
        ref_conv_bwd_weight(c, n, x, dy, dw, stride, scratch);
        return;
    }
    struct flat flat = flat_make(&p, p.v.out);
    bool along = flat_is_better(&flat, p.og);
    conv_plan_place(&p, scratch);
    /* laying out T * cells patches against turning og * cells results */
    bool few_positions = p.v.n_out * 2 <= p.og || p.og * 4 <= VEC_LEN;
    for (int64_t s = 0; s < n; s++) {
        const psg_real *planes =
            conv_plan_planes(&p, c->in_channels, x + s * c->in_channels * p.v.n_in);
        if (along)
            flat_weight(&p, &flat, planes, dy + s * c->out_channels * p.v.n_out,
                        dw + s * stride);
        for (int64_t g = 0; g < p.groups && !along; g++) {
            const psg_real *in = planes + g * p.cg * p.plane;
            const psg_real *out = dy + (s * c->out_channels + g * p.og) * p.v.n_out;
            psg_real *row = dw + s * stride + g * p.og * p.cells;
            int64_t columns = few_positions ? p.cells : p.og;
            for (int64_t j = 0; j < columns;) {
                int nv = tile_vectors(columns - j);
                int64_t width = nv * VEC_LEN, m = columns - j < width ? columns - j : width;
                if (few_positions)
                    weight_patches(&p, in, out, nv, j, m, row);
                else
                    weight_panel(&p, in, out + j * p.v.n_out,
                                 dy + n * c->out_channels * p.v.n_out, nv, m,
                                 row + j * p.cells);
                j += m;
            }
        }
    }
}

/* ---- gradient of the input ---- */

/* to[k][ci] = w[ci][cell k of the phase] for the n channels of a panel */
static void data_pack_cells(const struct conv_plan *p, const struct conv_phase *phase,
                            int64_t n, int64_t width, const psg_real *w,
                            const psg_real *end, psg_real *to)
{
    if (phase->n_cells == p->v.n_kernel) { /* all of them, in order */
        tile_pack_transposed(p->v.n_kernel, n, width, w, p->v.n_kernel, end, to);
        return;
    }
    for (int64_t k = 0; k < phase->n_cells; k++, to += width) {
        const psg_real *at = w + p->phase_cell[phase->first + k];
        for (int64_t ci = 0; ci < n; ci++)
            to[ci] = at[ci * p->v.n_kernel];
        for (int64_t ci = n; ci < width; ci++)
            to[ci] = 0;
    }
}

/* right matrices [remainder][group][panel][(co, k)][width] in the order bwd reads them */
static void data_pack_weights(const struct conv_plan *p, const psg_real *w, psg_real *to)
{
    const psg_real *end = w + p->groups * p->og * p->cells;
    for (int64_t f = 0; f < p->n_phases; f++) {
        const struct conv_phase phase = conv_plan_phase(p, f);
        for (int64_t g = 0; g < p->groups; g++) {
            for (int64_t j = 0; j < p->cg;) {
                int64_t width = tile_vectors(p->cg - j) * VEC_LEN;
                int64_t n = p->cg - j < width ? p->cg - j : width;
                for (int64_t co = 0; co < p->og; co++) {
                    data_pack_cells(p, &phase, n, width,
                                    w + ((g * p->og + co) * p->cg + j) * p->v.n_kernel, end,
                                    to);
                    to += phase.n_cells * width;
                }
                j += n;
            }
        }
    }
}

/* One remainder and panel of input channels: its positions in tiles. dx starts at the
 * panel's first channel. */
static void data_panel(const struct conv_plan *p, const struct conv_phase *phase,
                       const psg_real *planes, const psg_real *right, int nv, int64_t n,
                       psg_real *dx)
{
    psg_real tile[TILE_MR * TILE_NR];
    int64_t width = nv * VEC_LEN, at[TILE_MR];
    struct conv_walk walk = conv_walk_start(phase);
    for (int64_t q = 0; q < phase->n_positions;) {
        int mr = tile_rows(phase->n_positions - q);
        const psg_real *rows[TILE_MR];
        for (int i = 0; i < mr; i++) {
            rows[i] = planes + conv_walk_plane(p, &walk);
            at[i] = conv_walk_input(p, phase, &walk);
            conv_walk_next(phase, &walk);
        }
        tile_off[tile_class(mr)][nv - 1](phase->n_cells * p->og, rows, 0,
                                         p->cell + phase->first * p->og, right, width, tile,
                                         width);
        if (at[mr - 1] - at[0] == mr - 1)
            tile_store_transposed(mr, n, width, tile, NULL, dx + at[0], p->v.n_in);
        else
            for (int64_t j = 0; j < n; j++)
                for (int i = 0; i < mr; i++)
                    dx[j * p->v.n_in + at[i]] = tile[i * width + j];
        q += mr;
    }
}

static void cpu_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                              const psg_real *w, psg_real *dx, psg_real *scratch)
{
    struct conv_plan p;
    if (wino_is_better(c)) {
        wino_conv(c, true, n, dy, w, NULL, dx, scratch);
        return;
    }
    if (!conv_plan_make_data(c, VEC_LEN, &p)) {
        ref_conv_bwd_data(c, n, dy, w, dx, scratch);
        return;
    }
    conv_plan_place(&p, scratch);
    bool along = flat_data_is_better(&p);
    if (!along)
        data_pack_weights(&p, w, p.packed);
    for (int64_t s = 0; s < n; s++) {
        const psg_real *planes =
            conv_plan_planes(&p, c->out_channels, dy + s * c->out_channels * p.v.n_out);
        const psg_real *right = p.packed;
        if (along)
            flat_data(&p, planes, w, dx + s * c->in_channels * p.v.n_in);
        for (int64_t f = 0; f < p.n_phases && !along; f++) {
            const struct conv_phase phase = conv_plan_phase(&p, f);
            for (int64_t ci = 0; ci < c->in_channels;) {
                int64_t g = ci / p.cg, left = (g + 1) * p.cg - ci;
                int nv = tile_vectors(left);
                int64_t width = nv * VEC_LEN, m = left < width ? left : width;
                data_panel(&p, &phase, planes + g * p.og * p.plane, right, nv, m,
                           dx + (s * c->in_channels + ci) * p.v.n_in);
                right += phase.n_cells * p.og * width;
                ci += m;
            }
        }
    }
}

static int64_t cpu_conv_scratch(const struct psg_conv *c)
{
    struct conv_plan p;
    if (wino_is_better(c) && wino_weight_is_better(c))
        return wino_scratch(c);
    int64_t most = wino_is_better(c) ? wino_scratch(c) : 0;
    int64_t forward = conv_plan_make(c, VEC_LEN, &p) ? p.size : 0;
    int64_t data = conv_plan_make_data(c, VEC_LEN, &p) ? p.size : 0;
    most = forward > most ? forward : most;
    return data > most ? data : most;
}

#endif
