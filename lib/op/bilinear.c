/* bilinear: y[n, ..., O] = sum_{i, j} x1[n, ..., i] weight[O, i, j] x2[n, ..., j] +
 * bias[O].
 *
 * A linear layer over z = x1 (x) x2 [N, T, I * J], kept from forward:
 *   dz = dy weight, dx1[i] = sum_j dz[i, j] x2[j], dx2[j] = sum_i dz[i, j] x1[i]. */
#include "op/dense.h"
#include "op/ops.h"

struct geom {
    int64_t t, i, j, o;
    bool bias;
};

static const struct psg_attr_spec attrs[] = {
    { "in1_features", PSG_ATTR_INT,
      "checked against the first input's last axis when given" },
    { "in2_features", PSG_ATTR_INT,
      "checked against the second input's last axis when given" },
    { "out_features", PSG_ATTR_INT, "required" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { NULL, 0, NULL },
};

static int64_t read_features(struct psg_infer *c, int k, const char *attr)
{
    const struct psg_shape *s = &c->in[k].shape;
    if (!op_need_dtype(c, k, PSG_REAL, "x"))
        return 0;
    if (s->rank < 1) {
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "the inputs need at least one axis");
        return 0;
    }
    int64_t have = s->dim[s->rank - 1], want = psg_infer_int(c, attr, have, 0, INT64_MAX);
    if (have != want)
        psg_infer_fail(c, PSG_E_SHAPE, attr, "%s is %lld, the input's last axis has %lld",
                       attr, (long long)want, (long long)have);
    return have;
}

static int bilinear_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    struct psg_shape a = c->in[0].shape, b = c->in[1].shape;
    g->i = read_features(c, 0, "in1_features");
    g->j = read_features(c, 1, "in2_features");
    g->o = psg_infer_int_required(c, "out_features", 0, INT32_MAX);
    g->bias = psg_infer_bool(c, "bias", true);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    a.dim[a.rank - 1] = b.dim[b.rank - 1] = g->o;
    if (!psg_shape_equal(&a, &b))
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "the inputs differ before their last axes");
    g->t = op_span(&a, 0, a.rank - 1);
    op_param(c, "weight", PSG_SHAPE(g->o, g->i, g->j), op_init_fan_in(g->i));
    if (g->bias)
        op_param(c, "bias", PSG_SHAPE(g->o), op_init_fan_in(g->i));
    op_out(c, a);
    int64_t z = OP_PROD(c, g->t, g->i, g->j), fixed, per_sample;
    OP_PROD(c, g->t, g->t, 2);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    psg_infer_save(c, z, 0);
    dense_norm_scratch(g->t, g->i * g->j, g->o, &fixed, &per_sample);
    psg_infer_scratch(c, fixed, per_sample);
    psg_infer_scratch(c, 0, dense_sum_scratch(g->t, g->i * g->j, g->o));
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static void bilinear_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->t;
    struct psg_shape z = PSG_SHAPE(rows, g->i, g->j);
    c->be->binary(PSG_MUL, &z, op_in(c, 0), (const int64_t[]){ g->i, 1, 0 }, op_in(c, 1),
                  (const int64_t[]){ g->j, 0, 1 }, c->saved);
    dense_forward(c->be, rows, g->i * g->j, g->o, c->saved, c->param[0],
                  g->bias ? c->param[1] : NULL, c->out[0]);
}

static void bilinear_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->t, ij = g->i * g->j;
    psg_real *dz = c->scratch;
    dense_backward(c->be, rows, ij, g->o, c->dout[0], c->param[0], 0, dz);
    struct psg_gemm one = {
        .m = g->i, .n = 1, .k = g->j, .lda = g->j, .ldb = 1, .ldc = 1, .alpha = 1
    };
    struct psg_gemm two = { .trans_a = true,
                            .m = g->j,
                            .n = 1,
                            .k = g->i,
                            .lda = g->j,
                            .ldb = 1,
                            .ldc = 1,
                            .alpha = 1 };
    if (op_wants_din(c, 0))
        c->be->gemm_batched(&one, rows, dz, ij, op_in(c, 1), g->j, c->din[0], g->i);
    if (op_wants_din(c, 1))
        c->be->gemm_batched(&two, rows, dz, ij, op_in(c, 0), g->i, c->din[1], g->j);
}

static void bilinear_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->grad[0])
        dense_grad(c->be, c->n, g->t, g->i * g->j, g->o, c->saved, c->dout[0], c->grad[0],
                   c->grad_stride);
    if (g->bias && c->grad[1])
        c->be->sum_rows(c->n, g->t, g->o, c->dout[0], c->grad[1], c->grad_stride);
}

static void bilinear_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->use[0])
        dense_norm(c->be, c->n, g->t, g->i * g->j, g->o, c->saved, c->dout[0], c->scratch,
                   c->sq);
    if (g->bias && c->use[1])
        dense_bias_norm(c->be, c->n, g->t, g->o, c->dout[0], c->scratch, c->sq);
}

static void bilinear_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->sum[0])
        dense_sum(c->be, c->n, g->t, g->i * g->j, g->o, c->weight, c->saved, c->dout[0],
                  c->scratch, c->sum[0]);
    if (g->bias && c->sum[1])
        dense_bias_sum(c->be, c->n, g->t, g->o, c->weight, c->dout[0], c->scratch,
                       c->sum[1]);
}

/* (x1 W) first, then the product with x2 */
static void bilinear_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value a = OP_RESHAPE(l, l->in[0], g->t, g->i),
              b = OP_RESHAPE(l, l->in[1], g->t, g->j);
    struct psg_dot first = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    psg_value aw = psg_g_dot(l->g, a, l->param[0], &first);
    struct psg_dot second = {
        .n_batch = 1, .n_contract = 1, .contract_a = { 2 }, .contract_b = { 1 }
    };
    psg_value y = psg_g_dot(l->g, aw, b, &second);
    if (g->bias)
        y = psg_g_add(l->g, y, l->param[1]);
    struct psg_shape shape = l->in_type[0].shape;
    shape.dim[shape.rank - 1] = g->o;
    l->out[0] = psg_g_reshape(l->g, y, &shape);
}

static const struct psg_op_case cases[] = {
    { "in1_features=3 in2_features=4 out_features=5", "3 4" },
    { "out_features=2 bias=false", "3x2 3x4" },
    { "out_features=1", "2x2x3 2x2x2" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x1", "x2", NULL };

const struct psg_op layer_bilinear = {
    .name = "bilinear",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 2,
    .n_in_max = 2,
    .geom_size = sizeof(struct geom),
    .infer = bilinear_infer,
    .forward = bilinear_forward,
    .backward = bilinear_backward,
    .grad_sample = bilinear_grad_sample,
    .norm_sample = bilinear_norm_sample,
    .clipped_sum = bilinear_clipped_sum,
    .lower = bilinear_lower,
    .cases = cases,
};
