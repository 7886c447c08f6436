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

/* room for a line of positions (kernels/conv_flat.h) where packed matrices are smaller */
static void keep_line(struct conv_plan *p, int64_t length)
{
    if (p->n_packed < length)
        p->n_packed = length;
}

bool conv_plan_make(const struct psg_conv *c, int64_t lanes, struct conv_plan *p)
{
    if (!plan_base(c, p))
        return false;
    p->plane = p->n_phases = 1;
    p->in_place = true;
    for (int i = 0; i < 3; i++) {
        p->extent[i] = p->v.out[i] + p->reach[i];
        if (!multiply(&p->plane, p->extent[i]) || !multiply(&p->plane, p->v.stride[i]) ||
            !multiply(&p->n_phases, p->v.stride[i]))
            return false;
        p->in_place = p->in_place && p->v.stride[i] == 1 && p->v.pad_lo[i] == 0 &&
                      p->extent[i] == p->v.in[i];
    }
    p->n_cell = p->cells;
    p->n_position = p->v.n_out;
    /* weights of all groups, or one panel of dy^T or patches of at most 3 vectors (twice:
     * in lines and turned) */
    int64_t weights = p->groups, panel = p->v.n_out;
    if (!multiply(&weights, p->cells) || !multiply(&weights, round_up(p->og, lanes)) ||
        !multiply(&panel, 6 * lanes))
        return false;
    p->n_packed = weights > panel ? weights : panel;
    keep_line(p, p->plane);
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
    keep_line(p, p->plane + p->n_cell);
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
    memset(p->planes, 0, (size_t)p->n_planes * sizeof *p->planes);
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

/* ---- copying into planes: rows are short, so a call of memcpy for each would show ---- */

enum { QUAD = 4 };
typedef psg_real quad __attribute__((vector_size(QUAD * sizeof(psg_real)),
                                     aligned(sizeof(psg_real)), may_alias));

/* to[i] = x[i * step], i < n */
static inline void plane_run(int64_t n, int64_t step, const psg_real *x, psg_real *to)
{
    int64_t i = 0;
    if (step == 1 && n >= QUAD) {
        for (; i + QUAD < n; i += QUAD)
            *(quad *)(to + i) = *(const quad *)(x + i);
        *(quad *)(to + n - QUAD) = *(const quad *)(x + n - QUAD); /* may overlap the last */
        return;
    }
    if (step ==
        2) /* i + QUAD < n: the number after the last one read is still in the row */
        for (; i + QUAD < n; i += QUAD) {
            const quad *from = (const quad *)(x + 2 * i);
            *(quad *)(to + i) = __builtin_shufflevector(
                from[0], *(const quad *)(x + 2 * i + QUAD), 0, 2, 4, 6);
        }
    for (; i < n; i++)
        to[i] = x[i * step];
}

/* Whether any cell of the kernel reads positions of this remainder. */
static bool remainder_used(const struct window3 *v, const int64_t remainder[3])
{
    for (int i = 0; i < 3; i++) {
        int64_t k = 0;
        while (k < v->kernel[i] && k * v->dilation[i] % v->stride[i] != remainder[i])
            k++;
        if (k == v->kernel[i])
            return false;
    }
    return true;
}

/* One remainder of all channels. What lies in the padding is zero already. */
static void planes_fill(const struct conv_plan *p, int64_t channels, const int64_t in[3],
                        const int64_t stride[3], const int64_t shift[3], const psg_real *x,
                        psg_real *to)
{
    int64_t low[3], high[3], n = in[0] * in[1] * in[2];
    for (int i = 0; i < 3; i++)
        axis_range(p->extent[i], stride[i], shift[i], in[i], &low[i], &high[i]);
    x += low[2] * stride[2] + shift[2];
    to += low[2];
    for (int64_t c = 0; c < channels; c++, x += n, to += p->plane)
        for (int64_t q0 = low[0]; q0 < high[0]; q0++)
            for (int64_t q1 = low[1]; q1 < high[1]; q1++)
                plane_run(
                    high[2] - low[2], stride[2],
                    x + ((q0 * stride[0] + shift[0]) * in[1] + q1 * stride[1] + shift[1]) *
                            in[2],
                    to + (q0 * p->extent[1] + q1) * p->extent[2]);
}

const psg_real *conv_plan_planes(const struct conv_plan *p, int64_t channels,
                                 const psg_real *x)
{
    static const int64_t ones[3] = { 1, 1, 1 };
    if (p->in_place)
        return x;
    const int64_t *in = p->data ? p->v.out : p->v.in;
    const int64_t *stride = p->data ? ones : p->v.stride;
    int64_t n_phases = p->data ? 1 : p->n_phases;
    for (int64_t f = 0; f < n_phases; f++) {
        int64_t remainder[3] = { 0 }, shift[3];
        if (!p->data)
            phase_remainder(p, f, remainder);
        if (!p->data && !remainder_used(&p->v, remainder))
            continue;
        for (int i = 0; i < 3; i++)
            shift[i] = remainder[i] - (p->data ? p->reach[i] : p->v.pad_lo[i]);
        planes_fill(p, channels, in, stride, shift, x,
                    p->planes + f * (p->plane / n_phases));
    }
    return p->planes;
}
