/* max_pool1d, max_pool2d, max_pool3d: y[n, c, p] = max over the window at p of x[n, c, .].
 *
 *   x [N, C, in...], y [N, C, out...]; padding never wins. The gradient goes to the first
 *   largest cell of the window (row-major). */
#include <math.h>

#include "op/ops.h"
#include "op/pool.h"

static const struct psg_attr_spec attrs[] = {
    { "kernel_size", PSG_ATTR_INT | PSG_ATTR_INTS, "required; one number or one per axis" },
    { "stride", PSG_ATTR_INT | PSG_ATTR_INTS, "kernel_size" },
    { "padding", PSG_ATTR_INT | PSG_ATTR_INTS, "0; at most half of the kernel" },
    { "dilation", PSG_ATTR_INT | PSG_ATTR_INTS, "1" },
    { "ceil_mode", PSG_ATTR_BOOL, "false; true rounds the output length up" },
    { NULL, 0, NULL },
};

static int max_pool_infer(struct psg_infer *c, int rank)
{
    struct pool_geom *g = c->geom;
    if (pool_infer(c, g, rank, true))
        return psg_infer_status(c);
    /* cells further apart than the input is long can all miss it: a maximum over nothing */
    for (int i = 0; i < rank; i++)
        if (g->win.dilation[i] > g->win.in[i] && g->win.pad_lo[i] > 0)
            psg_infer_fail(c, PSG_E_SHAPE, "dilation",
                           "some windows would hold only padding");
    psg_infer_save(c, 0, g->outer * g->n_out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static int max_pool1d_infer(struct psg_infer *c)
{
    return max_pool_infer(c, 1);
}

static int max_pool2d_infer(struct psg_infer *c)
{
    return max_pool_infer(c, 2);
}

static int max_pool3d_infer(struct psg_infer *c)
{
    return max_pool_infer(c, 3);
}

static void max_pool_forward(const struct psg_call *c)
{
    const struct pool_geom *g = c->geom;
    c->be->max_pool(&g->win, c->n * g->outer, op_in(c, 0), c->out[0], c->saved_i64);
}

static void max_pool_backward(const struct psg_call *c)
{
    const struct pool_geom *g = c->geom;
    if (op_wants_din(c, 0))
        c->be->max_pool_bwd(&g->win, c->n * g->outer, c->dout[0], c->saved_i64, c->din[0]);
}

static void max_pool_lower(struct psg_lower *l)
{
    const struct pool_geom *g = l->geom;
    psg_value patches = pool_patches(l, g, l->in[0], -INFINITY);
    l->out[0] = pool_output(l, g, op_g_max_first(l, patches, 1));
}

static const struct psg_op_case cases1[] = {
    { "kernel_size=2", "3x7" },
    { "kernel_size=3 stride=1 padding=1 dilation=2", "2x6" },
    { "kernel_size=3 stride=2 ceil_mode=true", "2x6" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "kernel_size=2", "3x4x6" },
    { "kernel_size=3,2 stride=2,1 padding=1,0", "2x5x4" },
    { "kernel_size=3 stride=2 padding=1 ceil_mode=true", "2x6x5" },
    { "kernel_size=2 dilation=2 stride=1", "1x5x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "kernel_size=2", "2x2x4x3" },
    { "kernel_size=2,1,3 stride=1 padding=1,0,1 ceil_mode=true", "1x3x2x4" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define MAX_POOL_OP(D)                                                                     \
    const struct psg_op layer_max_pool##D##d = {                                           \
        .name = "max_pool" #D "d",                                                         \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct pool_geom),                                             \
        .infer = max_pool##D##d_infer,                                                     \
        .forward = max_pool_forward,                                                       \
        .backward = max_pool_backward,                                                     \
        .lower = max_pool_lower,                                                           \
        .cases = cases##D,                                                                 \
    }

MAX_POOL_OP(1);
MAX_POOL_OP(2);
MAX_POOL_OP(3);
