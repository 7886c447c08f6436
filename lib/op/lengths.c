/* Sequences of several lengths, padded to T positions; length int64, one number of a sample.
 *
 *   padding_mask    y[n, t] = 1 where t >= length[n], else 0: the positions that a
 *                   key_padding_mask leaves out. No gradient.
 *   sequence_mean   y[n, ...] = sum over t < length[n] of x[n, t, ...] / length[n], zero for a
 *                   length of 0. dx[n, t] = dy[n] / length[n] where t < length[n], else 0. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t t, inner;
    struct psg_shape out; /* of one sample */
};

static int read_length(struct psg_infer *c, int slot, int64_t t)
{
    if (!op_need_dtype(c, slot, PSG_I64, "length"))
        return psg_infer_status(c);
    if (psg_shape_size(&c->in[slot].shape) != 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "a sample has one length");
    psg_infer_index_range(c, slot, 0, t + 1);
    return psg_infer_status(c);
}

/* number[n] = the lengths; y[n, t] = f(t, length[n]); steps is room for t + 1 */
static void compare(const struct psg_call *c, int slot, enum psg_binary f, psg_real *number,
                    psg_real *steps, psg_real *y)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n, g->t);
    c->be->convert(c->n, op_ids(c, slot), number);
    op_iota(c->be, g->t, steps + 1, steps);
    c->be->binary(f, &shape, steps + 1, (const int64_t[]){ 0, 1 }, number,
                  (const int64_t[]){ 1, 0 }, y);
}

/* f(t, length) [T] of one sample */
static psg_value lower_compare(struct psg_lower *l, int slot, enum psg_binary f, int64_t t)
{
    psg_value length = psg_g_reshape(l->g, psg_g_convert(l->g, l->in[slot]), &PSG_SHAPE(1));
    return psg_g_binary(l->g, f, psg_g_iota(l->g, &PSG_SHAPE(t), 0), length);
}

/* ---- padding_mask ---- */
static const struct psg_attr_spec mask_attrs[] = {
    { "size", PSG_ATTR_INT, "required; T, positions of the padded sequence" },
    { NULL, 0, NULL },
};

static int padding_mask_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    g->t = psg_infer_int_required(c, "size", 1, INT32_MAX);
    if (read_length(c, 0, g->t))
        return psg_infer_status(c);
    op_out(c, PSG_SHAPE(g->t));
    psg_infer_scratch(c, g->t + 1, 1);
    return psg_infer_status(c);
}

static void padding_mask_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    compare(c, 0, PSG_GE, c->scratch + g->t + 1, c->scratch, c->out[0]);
}

static void padding_mask_backward(const struct psg_call *c)
{
    (void)c; /* its input is an integer */
}

static void padding_mask_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = lower_compare(l, 0, PSG_GE, g->t);
}

static const struct psg_op_case mask_cases[] = {
    { "size=4", "i64<5:-" },
    { "size=1", "i64<2:1" },
    { NULL, NULL },
};

static const char *const mask_inputs[] = { "length", NULL };

const struct psg_op layer_padding_mask = {
    .name = "padding_mask",
    .attrs = mask_attrs,
    .inputs = mask_inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = padding_mask_infer,
    .forward = padding_mask_forward,
    .backward = padding_mask_backward,
    .lower = padding_mask_lower,
    .cases = mask_cases,
};

/* ---- sequence_mean ---- */
static int sequence_mean_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    const struct psg_shape *x = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (x->rank < 1 || x->dim[0] < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "a sample must be [T, ...], T at least 1");
    g->t = x->dim[0];
    g->inner = op_span(x, 1, x->rank);
    for (int i = 1; i < x->rank; i++)
        g->out.dim[g->out.rank++] = x->dim[i];
    if (read_length(c, 1, g->t))
        return psg_infer_status(c);
    op_out(c, g->out);
    psg_infer_save(c, g->t, 0);
    psg_infer_scratch(c, g->t + 1, OP_PROD(c, g->t, g->inner) + 2);
    return psg_infer_status(c);
}

/* saved[n, t] = 1 / length where t < length, else 0 */
static void weights(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    psg_real *number = c->scratch + g->t + 1;
    struct psg_shape shape = PSG_SHAPE(c->n, g->t);
    compare(c, 1, PSG_LT, number, c->scratch, c->saved);
    c->be->fill(1, 1, c->scratch);
    op_binary_scalar(c->be, PSG_MAX, c->n, number, c->scratch, number);
    c->be->binary(PSG_DIV, &shape, c->saved, (const int64_t[]){ g->t, 1 }, number,
                  (const int64_t[]){ 1, 0 }, c->saved);
}

static void sequence_mean_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n, g->t, g->inner);
    psg_real *product = c->scratch + g->t + 1 + c->n;
    weights(c);
    op_binary_rows(c->be, PSG_MUL, c->n * g->t, g->inner, op_in(c, 0), c->saved, product);
    c->be->reduce(PSG_REDUCE_SUM, &shape, 1u << 1, product, c->out[0]);
}

static void sequence_mean_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n, g->t, g->inner);
    if (!op_wants_din(c, 0))
        return;
    c->be->binary(PSG_MUL, &shape, c->dout[0], (const int64_t[]){ g->inner, 0, 1 }, c->saved,
                  (const int64_t[]){ g->t, 1, 0 }, c->din[0]);
}

static void sequence_mean_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value keep = lower_compare(l, 1, PSG_LT, g->t);
    psg_value x = OP_RESHAPE(l, l->in[0], g->t, g->inner);
    psg_value y = psg_g_matmul(l->g, OP_RESHAPE(l, keep, 1, g->t), x);
    psg_value length = psg_g_binary(l->g, PSG_MAX, psg_g_sum(l->g, keep, 1u), psg_g_scalar(l->g, 1));
    l->out[0] = psg_g_reshape(l->g, psg_g_div(l->g, y, length), &g->out);
}

static const struct psg_op_case mean_cases[] = {
    { "", "4x3 i64<5:-" },
    { "", "5 i64<6:1" },
    { "", "3x2x2 i64<4:-" },
    { NULL, NULL },
};

static const char *const mean_inputs[] = { "x", "length", NULL };

const struct psg_op layer_sequence_mean = {
    .name = "sequence_mean",
    .inputs = mean_inputs,
    .n_in_min = 2,
    .n_in_max = 2,
    .geom_size = sizeof(struct geom),
    .infer = sequence_mean_infer,
    .forward = sequence_mean_forward,
    .backward = sequence_mean_backward,
    .lower = sequence_mean_lower,
    .cases = mean_cases,
};
