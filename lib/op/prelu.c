/* prelu: y = x > 0 ? x : a x, with one slope a or one per channel (the first axis of a
 * sample).
 *
 *   dx = x > 0 ? dy : a dy; da[n, c] = sum over positions of dy min(x, 0). */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t slopes, space; /* a sample is [slopes, space] */
};

static const struct psg_attr_spec attrs[] = {
    { "num_parameters", PSG_ATTR_INT, "1; or the number of channels" },
    { "init", PSG_ATTR_REAL, "0.25" },
    { NULL, 0, NULL },
};

static int prelu_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    g->slopes = psg_infer_int(c, "num_parameters", 1, 1, INT64_MAX);
    if (g->slopes != 1 && (in->rank < 1 || in->dim[0] != g->slopes))
        return psg_infer_fail(c, PSG_E_SHAPE, "num_parameters",
                              "num_parameters must be 1 or the length of the first axis");
    int64_t size = psg_shape_size(in);
    g->space = size / g->slopes;
    op_param(c, "weight", PSG_SHAPE(g->slopes),
             op_init_constant(psg_infer_real(c, "init", 0.25, -1e30, 1e30)));
    op_out(c, *in);
    psg_infer_scratch(c, 1, OP_PROD(c, 2, size) + 2 * g->slopes);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

/* y = f(x, 0) */
static void with_zero(const struct psg_call *c, enum psg_binary f, const psg_real *x,
                      psg_real *y)
{
    const struct geom *g = c->geom;
    c->be->fill(1, 0, c->scratch);
    op_binary_scalar(c->be, f, c->n * g->slopes * g->space, x, c->scratch, y);
}

static void prelu_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    psg_real *low = c->scratch + 1;
    with_zero(c, PSG_MIN, op_in(c, 0), low);
    with_zero(c, PSG_MAX, op_in(c, 0), c->out[0]);
    op_binary_channels(c->be, PSG_MUL, c->n, g->slopes, g->space, low, c->param[0], low);
    c->be->axpy(c->n * g->slopes * g->space, 1, low, c->out[0]);
}

static void prelu_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t size = c->n * g->slopes * g->space;
    psg_real *mask = c->scratch + 1, *low = mask + size;
    if (!op_wants_din(c, 0))
        return;
    with_zero(c, PSG_GT, op_in(c, 0), mask);
    op_binary_channels(c->be, PSG_MUL, c->n, g->slopes, g->space, c->dout[0], c->param[0],
                       low);
    c->be->select(size, mask, c->dout[0], low, c->din[0]);
}

static void prelu_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t size = c->n * g->slopes * g->space;
    psg_real *low = c->scratch + 1, *tmp = low + size;
    if (!c->grad[0])
        return;
    with_zero(c, PSG_MIN, op_in(c, 0), low);
    op_binary(c->be, PSG_MUL, size, low, c->dout[0], low);
    op_sum_space(c->be, c->n, g->slopes, g->space, low, c->grad[0], c->grad_stride, tmp);
}

static void prelu_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->slopes };
    op_rows_norm_sample(c, prelu_grad_sample, 1, size,
                        c->scratch + 1 + c->n * (2 * g->slopes * g->space + g->slopes));
}

static void prelu_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->slopes };
    op_rows_clipped_sum(c, prelu_grad_sample, 1, size,
                        c->scratch + 1 + c->n * (2 * g->slopes * g->space + g->slopes));
}

static void prelu_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value x = OP_RESHAPE(l, l->in[0], g->slopes, g->space);
    psg_value low = psg_g_mul(l->g, x, OP_RESHAPE(l, l->param[0], g->slopes, 1));
    psg_value positive = psg_g_binary(l->g, PSG_GT, x, psg_g_scalar(l->g, 0));
    l->out[0] =
        psg_g_reshape(l->g, psg_g_select(l->g, positive, x, low), &l->in_type[0].shape);
}

static const struct psg_op_case cases[] = {
    { "", "7" },
    { "num_parameters=3", "3x2x2" },
    { "num_parameters=4", "4" },
    { "", "2x5" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_prelu = {
    .name = "prelu",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = prelu_infer,
    .forward = prelu_forward,
    .backward = prelu_backward,
    .grad_sample = prelu_grad_sample,
    .norm_sample = prelu_norm_sample,
    .clipped_sum = prelu_clipped_sum,
    .lower = prelu_lower,
    .cases = cases,
};
