#include "conv_plan.h"

#include <string.h>

#include "axis.h"

/* false where a * b does not fit into int32 */
static bool multiply(int64_t *a, int64_t b)
{
    return !__builtin_mul_overflow(*a, b, a) && *a <= INT32_MAX;
}

static int64_t round_up(int64_t n, int64_t lanes)
{
    return (n + lanes - 1) / lanes * lanes;
}

static bool plan_base(const struct psg_conv *c, struct conv_plan *p)
{
    *p = (struct conv_plan){ .v = window3_make(&c->win), .groups = c->groups };
    p->cg = c->in_channels / c->groups;
    p->og = c->out_channels / c->groups;
    p->cells = p->cg;
    int64_t positions = p->og;
    for (int i = 0; i < 3; i++) {
        p->reach[i] = (p->v.kernel[i] - 1) * p->v.dilation[i] / p->v.stride[i];
        if (!multiply(&p->cells, p->v.kernel[i]) || !multiply(&positions, p->v.out[i]))
            return false;
    }
    return p->cells > 0 && positions > 0 && p->v.n_in > 0;
}

/* sums the parts of scratch; false where they are too large */
static bool plan_size(struct conv_plan *p, int64_t channels)
{
    int64_t planes = channels, table = p->n_cell + p->n_position + p->v.n_kernel;
    if (!multiply(&planes, p->plane))
        return false;
    p->n_planes = p->in_place ? 0 : planes;
    p->size = p->n_planes + p->n_packed + table;
    return p->size <= INT32_MAX;
}

bool conv_plan_make(const struct psg_conv *c, int64_t lanes, struct conv_plan *p)
{
    if (!plan_base(c, p))
        return false;
    p->plane = 1;
    p->in_place = true;
    for (int i = 0; i < 3; i++) {
        p->extent[i] = p->v.out[i] + p->reach[i];
        if (!multiply(&p->plane, p->extent[i]) || !multiply(&p->plane, p->v.stride[i]))
            return false;
        p->in_place = p->in_place && p->v.stride[i] == 1 && p->v.pad_lo[i] == 0 &&
                      p->extent[i] == p->v.in[i];
    }
    p->n_cell = p->cells;
    p->n_position = p->v.n_out;
    /* weights of all groups, or one panel of dy^T or patches of at most 3 vectors */
    int64_t weights = p->groups, panel = p->v.n_out;
    if (!multiply(&weights, p->cells) || !multiply(&weights, round_up(p->og, lanes)) ||
        !multiply(&panel, 3 * lanes))
        return false;
    p->n_packed = weights > panel ? weights : panel;
    return plan_size(p, c->in_channels);
}

bool conv_plan_make_data(const struct psg_conv *c, int64_t lanes, struct conv_plan *p)
{
    if (!plan_base(c, p))
        return false;
    p->data = true;
    p->plane = p->n_phases = 1;
    p->in_place = true;
    for (int i = 0; i < 3; i++) {
        p->extent[i] = (p->v.in[i] - 1 + p->v.pad_lo[i]) / p->v.stride[i] + 1 + p->reach[i];
        if (!multiply(&p->plane, p->extent[i]) || !multiply(&p->n_phases, p->v.stride[i]))
            return false;
        p->in_place = p->in_place && p->reach[i] == 0 && p->extent[i] == p->v.out[i];
    }
    p->n_packed = p->groups;
    p->n_cell = p->og * p->v.n_kernel;
    if (!multiply(&p->n_packed, p->n_cell) ||
        !multiply(&p->n_packed, round_up(p->cg, lanes)))
        return false;
    return plan_size(p, c->out_channels);
}

static void kernel_cell(const struct window3 *v, int64_t k, int64_t at[3])
{
    at[0] = k / v->kernel[2] / v->kernel[1];
    at[1] = k / v->kernel[2] % v->kernel[1];
    at[2] = k % v->kernel[2];
}

static void place_forward(struct conv_plan *p)
{
    for (int64_t k = 0; k < p->v.n_kernel; k++) {
        int64_t at[3], remainder = 0, offset = 0;
        kernel_cell(&p->v, k, at);
        for (int i = 0; i < 3; i++) {
            int64_t ahead = at[i] * p->v.dilation[i];
            remainder = remainder * p->v.stride[i] + ahead % p->v.stride[i];
            offset = offset * p->extent[i] + ahead / p->v.stride[i];
        }
        offset += remainder * p->extent[0] * p->extent[1] * p->extent[2];
        for (int64_t ci = 0; ci < p->cg; ci++)
            p->cell[ci * p->v.n_kernel + k] = (int32_t)(ci * p->plane + offset);
    }
    for (int64_t o = 0; o < p->v.n_out; o++) {
        int64_t o2 = o % p->v.out[2], o1 = o / p->v.out[2] % p->v.out[1];
        int64_t o0 = o / p->v.out[2] / p->v.out[1];
        p->position[o] = (int32_t)((o0 * p->extent[1] + o1) * p->extent[2] + o2);
    }
}

/* whether cell k meets the remainder, and its offset in a plane of dy */
static bool phase_has(const struct conv_plan *p, const int64_t remainder[3], int64_t k,
                      int64_t *offset)
{
    int64_t at[3];
    kernel_cell(&p->v, k, at);
    *offset = 0;
    for (int i = 0; i < 3; i++) {
        int64_t ahead = at[i] * p->v.dilation[i];
        if (ahead % p->v.stride[i] != remainder[i])
            return false;
        *offset = *offset * p->extent[i] + p->reach[i] - ahead / p->v.stride[i];
    }
    return true;
}

static void phase_remainder(const struct conv_plan *p, int64_t f, int64_t remainder[3])
{
    for (int i = 2; i >= 0; i--) {
        remainder[i] = f % p->v.stride[i];
        f /= p->v.stride[i];
    }
}

static void place_data(struct conv_plan *p)
{
    int64_t n = 0;
    for (int64_t f = 0; f < p->n_phases && n < p->v.n_kernel; f++) {
        int64_t remainder[3], first = n, offset;
        phase_remainder(p, f, remainder);
        for (int64_t k = 0; k < p->v.n_kernel; k++)
            if (phase_has(p, remainder, k, &offset))
                p->phase_cell[n++] = (int32_t)k;
        int32_t *cell = p->cell + first * p->og;
        for (int64_t co = 0; co < p->og; co++)
            for (int64_t i = first; i < n; i++) {
                phase_has(p, remainder, p->phase_cell[i], &offset);
                *cell++ = (int32_t)(co * p->plane + offset);
            }
    }
}

void conv_plan_place(struct conv_plan *p, psg_real *scratch)
{
    p->packed = scratch;
    p->planes = p->packed + p->n_packed;
    p->cell = (int32_t *)(p->planes + p->n_planes);
    p->position = p->cell + p->n_cell;
    p->phase_cell = p->position + p->n_position;
    if (p->data)
        place_data(p);
    else
        place_forward(p);
}

struct conv_phase conv_plan_phase(const struct conv_plan *p, int64_t f)
{
    struct conv_phase phase = { .n_positions = 1, .n_cells = 1 };
    phase_remainder(p, f, phase.remainder);
    for (int i = 0; i < 3; i++) {
        int64_t base = phase.remainder[i] - p->v.pad_lo[i], high;
        int64_t extent = p->extent[i] - p->reach[i];
        axis_range(extent, p->v.stride[i], base, p->v.in[i], &phase.low[i], &high);
        phase.count[i] = high - phase.low[i];
        phase.n_positions *= phase.count[i];
    }
    /* cells of earlier remainders come first */
    for (int64_t e = 0; e <= f; e++) {
        int64_t remainder[3], cells = 1;
        phase_remainder(p, e, remainder);
        for (int i = 0; i < 3; i++) {
            int64_t n = 0;
            for (int64_t k = 0; k < p->v.kernel[i]; k++)
                n += k * p->v.dilation[i] % p->v.stride[i] == remainder[i];
            cells *= n;
        }
        if (e < f)
            phase.first += cells;
        else
            phase.n_cells = cells;
    }
    return phase;
}

/* row[q] = x[q * stride + base] where that is inside, 0 elsewhere */
static void plane_row(int64_t n, int64_t stride, int64_t base, int64_t in,
                      const psg_real *x, psg_real *row)
{
    int64_t low, high;
    axis_range(n, stride, base, in, &low, &high);
    for (int64_t q = 0; q < low; q++)
        row[q] = 0;
    if (stride == 1)
        memcpy(row + low, x + base + low, (size_t)(high - low) * sizeof *row);
    else
        for (int64_t q = low; q < high; q++)
            row[q] = x[q * stride + base];
    for (int64_t q = high; q < n; q++)
        row[q] = 0;
}

/* one channel: in[3] is the size of x, shift what is added to q * stride + remainder */
static void plane_fill(const struct conv_plan *p, const int64_t in[3],
                       const int64_t stride[3], const int64_t shift[3], const psg_real *x,
                       psg_real *to)
{
    const int64_t *e = p->extent;
    int64_t n_rows = stride[0] * stride[1] * stride[2] * e[0] * e[1];
    int64_t remainder[3] = { 0 }, q0 = 0, q1 = 0;
    for (int64_t row = 0; row < n_rows; row++, to += e[2]) {
        int64_t i0 = q0 * stride[0] + remainder[0] + shift[0];
        int64_t i1 = q1 * stride[1] + remainder[1] + shift[1];
        if (i0 < 0 || i0 >= in[0] || i1 < 0 || i1 >= in[1])
            memset(to, 0, (size_t)e[2] * sizeof *to);
        else
            plane_row(e[2], stride[2], remainder[2] + shift[2], in[2],
                      x + (i0 * in[1] + i1) * in[2], to);
        if (++q1 < e[1])
            continue;
        q1 = 0;
        if (++q0 < e[0])
            continue;
        q0 = 0;
        for (int i = 2; i >= 0; i--) {
            if (++remainder[i] < stride[i])
                break;
            remainder[i] = 0;
        }
    }
}

const psg_real *conv_plan_planes(const struct conv_plan *p, int64_t channels,
                                 const psg_real *x)
{
    static const int64_t ones[3] = { 1, 1, 1 };
    if (p->in_place)
        return x;
    int64_t shift[3];
    for (int i = 0; i < 3; i++)
        shift[i] = -(p->data ? p->reach[i] : p->v.pad_lo[i]);
    int64_t n = p->data ? p->v.n_out : p->v.n_in;
    for (int64_t c = 0; c < channels; c++)
        plane_fill(p, p->data ? p->v.out : p->v.in, p->data ? ones : p->v.stride, shift,
                   x + c * n, p->planes + c * p->plane);
    return p->planes;
}
