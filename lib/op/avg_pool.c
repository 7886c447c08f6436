/* avg_pool1d, avg_pool2d, avg_pool3d: y[n, c, p] = sum over the window at p of x[n, c, .] /
 * d.
 *
 *   x [N, C, in...], y [N, C, out...]; padding counts as zeros. d is divisor_override, else
 *   the number of the window's cells in the padded input (count_include_pad) or in the
 *   input. */
#include "op/ops.h"
#include "op/pool.h"

#define KERNEL_ATTRS                                                                       \
    { "kernel_size", PSG_ATTR_INT | PSG_ATTR_INTS,                                         \
      "required; one number or one per axis" },                                            \
        { "stride", PSG_ATTR_INT | PSG_ATTR_INTS, "kernel_size" },                         \
        { "padding", PSG_ATTR_INT | PSG_ATTR_INTS, "0; at most half of the kernel" },      \
        { "ceil_mode", PSG_ATTR_BOOL, "false; true rounds the output length up" },         \
    {                                                                                      \
        "count_include_pad", PSG_ATTR_BOOL, "true"                                         \
    }

static const struct psg_attr_spec attrs1[] = { KERNEL_ATTRS, { NULL, 0, NULL } };
static const struct psg_attr_spec attrs23[] = {
    KERNEL_ATTRS,
    { "divisor_override", PSG_ATTR_INT, "the window's size" },
    { NULL, 0, NULL },
};

static int avg_pool_infer(struct psg_infer *c, int rank)
{
    struct pool_geom *g = c->geom;
    g->count_include_pad = psg_infer_bool(c, "count_include_pad", true);
    g->divisor = rank > 1 ? psg_infer_int(c, "divisor_override", 0, 1, INT32_MAX) : 0;
    psg_infer_unread(c, true, true);
    return pool_infer(c, g, rank, false);
}

static int avg_pool1d_infer(struct psg_infer *c)
{
    return avg_pool_infer(c, 1);
}

static int avg_pool2d_infer(struct psg_infer *c)
{
    return avg_pool_infer(c, 2);
}

static int avg_pool3d_infer(struct psg_infer *c)
{
    return avg_pool_infer(c, 3);
}

static void avg_pool_forward(const struct psg_call *c)
{
    const struct pool_geom *g = c->geom;
    c->be->avg_pool(&g->win, c->n * g->outer, g->count_include_pad, g->divisor, op_in(c, 0),
                    c->out[0]);
}

static void avg_pool_backward(const struct psg_call *c)
{
    const struct pool_geom *g = c->geom;
    if (op_wants_din(c, 0))
        c->be->avg_pool_bwd(&g->win, c->n * g->outer, g->count_include_pad, g->divisor,
                            c->dout[0], c->din[0]);
}

/* The padded input as a mask of what counts, pooled like the input: sums of ones. Nominal
 * padding becomes explicit, so that cells past it (ceil_mode) are told apart. */
static psg_value divisors(struct psg_lower *l, const struct pool_geom *g)
{
    int64_t in[4] = { 1 }, lo[4] = { 0 }, hi[4] = { 0 }, interior[4] = { 0 };
    struct psg_window w = pool_grown(g);
    for (int i = 0; i < w.rank; i++) {
        in[i + 1] = w.in[i];
        lo[i + 1] = w.pad_lo[i];
        hi[i + 1] = g->win.pad_hi[i];
        w.in[i] += w.pad_lo[i] + g->win.pad_hi[i];
        w.pad_lo[i] = 0;
        w.pad_hi[i] -= g->win.pad_hi[i];
    }
    psg_value counts = psg_g_pad(l->g, op_g_full(l, w.rank + 1, in, 1), lo, hi, interior,
                                 g->count_include_pad ? 1 : 0);
    psg_value cells =
        OP_RESHAPE(l, psg_g_unfold(l->g, counts, &w, 0), 1, g->n_kernel, g->n_out);
    psg_value sum = psg_g_sum(l->g, cells, 1u << 1);
    /* a window without any cell sums to zero: divide by one instead */
    return psg_g_binary(l->g, PSG_MAX, sum, psg_g_scalar(l->g, 1));
}

static void avg_pool_lower(struct psg_lower *l)
{
    const struct pool_geom *g = l->geom;
    psg_value sum = psg_g_sum(l->g, pool_patches(l, g, l->in[0], 0), 1u << 1);
    psg_value by = g->divisor ? psg_g_scalar(l->g, (double)g->divisor) : divisors(l, g);
    l->out[0] = pool_output(l, g, psg_g_div(l->g, sum, by));
}

static const struct psg_op_case cases1[] = {
    { "kernel_size=3", "2x7" },
    { "kernel_size=3 stride=2 padding=1 count_include_pad=false", "3x6" },
    { "kernel_size=4 stride=3 padding=2 ceil_mode=true", "2x6" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "kernel_size=2", "3x4x5" },
    { "kernel_size=3,2 stride=2,1 padding=1 count_include_pad=false", "2x5x4" },
    { "kernel_size=3 stride=2 padding=1 ceil_mode=true", "2x4x6" },
    { "kernel_size=2,3 stride=1 divisor_override=5", "1x3x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "kernel_size=2 stride=1", "2x3x2x4" },
    { "kernel_size=2,3,2 padding=1 ceil_mode=true count_include_pad=false", "1x3x4x3" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define AVG_POOL_OP(D, ATTRS)                                                              \
    const struct psg_op layer_avg_pool##D##d = {                                           \
        .name = "avg_pool" #D "d",                                                         \
        .attrs = ATTRS,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct pool_geom),                                             \
        .infer = avg_pool##D##d_infer,                                                     \
        .forward = avg_pool_forward,                                                       \
        .backward = avg_pool_backward,                                                     \
        .lower = avg_pool_lower,                                                           \
        .cases = cases##D,                                                                 \
    }

AVG_POOL_OP(1, attrs1);
AVG_POOL_OP(2, attrs23);
AVG_POOL_OP(3, attrs23);
