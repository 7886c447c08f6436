/* mean, sum over axes: y = scale * sum of x over `dims`, scale 1 or 1 / (number of
 * summed cells). dx = scale * dy, repeated. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    struct psg_shape in, out; /* of one sample; out without kept axes */
    unsigned axes;            /* of one sample */
    int64_t size, out_size;
    double scale;
    bool keepdim;
};

static const struct psg_attr_spec attrs[] = {
    { "dim", PSG_ATTR_INT | PSG_ATTR_INTS,
      "all axes of a sample; counts the batch dimension" },
    { "dims", PSG_ATTR_INT | PSG_ATTR_INTS, "another name of dim" },
    { "keepdim", PSG_ATTR_BOOL, "false" },
    { NULL, 0, NULL },
};

static int reduce_infer(struct psg_infer *c, bool mean)
{
    struct geom *g = c->geom;
    int64_t dims[PSG_MAX_RANK], summed = 1;
    struct psg_shape shown = { 0 };
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->in = c->in[0].shape;
    if (g->in.rank == PSG_MAX_RANK)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "too many axes");
    const char *name = psg_infer_has(c, "dims") ? "dims" : "dim";
    if (psg_infer_has(c, "dims") && psg_infer_has(c, "dim"))
        return psg_infer_fail(c, PSG_E_INVALID, "dims", "dim is given too");
    int n = psg_infer_int_list(c, name, PSG_MAX_RANK, dims);
    g->keepdim = psg_infer_bool(c, "keepdim", false);
    for (int i = 0; i < n && !psg_infer_status(c); i++)
        g->axes |= 1u << op_axis(c, name, dims[i], g->in.rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    if (!psg_infer_has(c, name))
        g->axes = (1u << g->in.rank) - 1;
    for (int i = 0; i < g->in.rank; i++) {
        bool gone = g->axes >> i & 1;
        summed *= gone ? g->in.dim[i] : 1;
        if (!gone)
            g->out.dim[g->out.rank++] = g->in.dim[i];
        if (!gone || g->keepdim)
            shown.dim[shown.rank++] = gone ? 1 : g->in.dim[i];
    }
    g->scale = !mean ? 1 : summed > 0 ? 1 / (double)summed : 0;
    g->size = psg_shape_size(&g->in);
    g->out_size = psg_shape_size(&g->out);
    op_out(c, shown);
    psg_infer_scratch(c, 0, g->out_size);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static int mean_infer(struct psg_infer *c)
{
    return reduce_infer(c, true);
}

static int sum_infer(struct psg_infer *c)
{
    return reduce_infer(c, false);
}

static void reduce_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->in.rank + 1, .dim = { c->n } };
    for (int i = 0; i < g->in.rank; i++)
        shape.dim[i + 1] = g->in.dim[i];
    c->be->reduce(PSG_REDUCE_SUM, &shape, g->axes << 1, op_in(c, 0), c->scratch);
    op_scale(c->be, c->n * g->out_size, g->scale, c->scratch, c->out[0]);
}

static void reduce_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->in.rank + 1, .dim = { c->n } };
    int64_t from[PSG_MAX_RANK], to[PSG_MAX_RANK], step = g->out_size;
    if (!op_wants_din(c, 0))
        return;
    op_scale(c->be, c->n * g->out_size, g->scale, c->dout[0], c->scratch);
    from[0] = g->out_size;
    for (int i = 0; i < g->in.rank; i++) {
        bool gone = g->axes >> i & 1;
        shape.dim[i + 1] = g->in.dim[i];
        step = gone || g->in.dim[i] == 0 ? step : step / g->in.dim[i];
        from[i + 1] = gone ? 0 : step;
    }
    psg_shape_strides(&shape, to);
    c->be->copy(&shape, sizeof(psg_real), c->scratch, from, c->din[0], to);
}

static void reduce_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value y = psg_g_sum(l->g, l->in[0], g->axes);
    y = psg_g_mul(l->g, y, psg_g_scalar(l->g, g->scale));
    struct psg_shape shown = { 0 };
    for (int i = 0; i < g->in.rank; i++)
        if (!(g->axes >> i & 1) || g->keepdim)
            shown.dim[shown.rank++] = g->axes >> i & 1 ? 1 : g->in.dim[i];
    l->out[0] = psg_g_reshape(l->g, y, &shown);
}

static const struct psg_op_case cases[] = {
    { "dim=1", "3x4" }, { "dims=2,3", "2x3x4" }, { "dims=-2 keepdim=true", "2x3x4" },
    { "", "2x3" },      { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define REDUCE_OP(NAME)                                                                    \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = reduce_forward,                                                         \
        .backward = reduce_backward,                                                       \
        .lower = reduce_lower,                                                             \
        .cases = cases,                                                                    \
    }

REDUCE_OP(mean);
REDUCE_OP(sum);
