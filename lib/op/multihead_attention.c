/* multihead_attention: y = concat over heads h of softmax(q_h k_h^T / sqrt(d) + masks) v_h,
 * times W_o^T + b_o (Vaswani et al. 2017, PyTorch's parameters).
 *
 *   inputs q [N, T, E], k [N, S, kdim], v [N, S, vdim]; one input alone is all three. Then
 * masks: key_padding_mask [S] (nonzero: leave the key out) and attn_mask [T, S] or [H, T,
 * S] (int64: nonzero leaves out; real: added to the scores). q, k, v are projected by
 * in_proj_weight [3E, E] or, where kdim or vdim differ from E, by q_proj_weight,
 * k_proj_weight, v_proj_weight; add_bias_kv appends bias_k and bias_v after that,
 * add_zero_attn a zero key and value; appended ones are never masked. causal: key j > i is
 *   hidden from query i. A query that sees nothing gets zero weights. dropout acts on the
 * weights. y [N, T, E]. */
#include "op/attention.h"
#include "op/ops.h"

static const struct psg_attr_spec attrs[] = {
    { "embed_dim", PSG_ATTR_INT, "checked against the queries' last axis when given" },
    { "num_heads", PSG_ATTR_INT, "required" },
    { "dropout", PSG_ATTR_REAL, "0; of the attention weights, while training" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { "add_bias_kv", PSG_ATTR_BOOL, "false" },
    { "add_zero_attn", PSG_ATTR_BOOL, "false" },
    { "kdim", PSG_ATTR_INT, "checked against the keys' last axis when given" },
    { "vdim", PSG_ATTR_INT, "checked against the values' last axis when given" },
    { "batch_first", PSG_ATTR_BOOL, "no effect: a sample is [T, E] either way" },
    { "causal", PSG_ATTR_BOOL, "false" },
    { "key_padding_mask", PSG_ATTR_BOOL,
      "checked when given: whether one is among the inputs" },
    { NULL, 0, NULL },
};

/* The first rank-2 real inputs are q, k, v; how many inputs they are. */
static int count_qkv(const struct psg_infer *c)
{
    for (int k = 0; k < 3 && k < c->n_in; k++)
        if (c->in[k].dtype != PSG_REAL || c->in[k].shape.rank != 2)
            return k == 0 ? 0 : 1;
    return c->n_in >= 3 ? 3 : 1;
}

static int read_sizes(struct psg_infer *c, struct attn_geom *g, int n)
{
    const struct psg_shape *q = &c->in[0].shape, *k = &c->in[n - 1 > 0].shape;
    const struct psg_shape *v = &c->in[n - 1].shape;
    g->t = q->dim[0];
    g->e = q->dim[1];
    g->s = k->dim[0];
    g->kdim = k->dim[1];
    g->vdim = v->dim[1];
    struct {
        const char *name;
        int64_t have;
    } checks[3] = { { "embed_dim", g->e }, { "kdim", g->kdim }, { "vdim", g->vdim } };
    for (int i = 0; i < 3; i++)
        if (psg_infer_int(c, checks[i].name, checks[i].have, 0, INT64_MAX) !=
            checks[i].have)
            psg_infer_fail(c, PSG_E_SHAPE, checks[i].name, "the input's last axis has %lld",
                           (long long)checks[i].have);
    if (v->dim[0] != g->s)
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "%lld keys but %lld values", (long long)g->s,
                       (long long)v->dim[0]);
    if (g->t < 1 || g->s < 1 || g->e < 1)
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "a sequence is empty");
    return psg_infer_status(c);
}

static int multihead_attention_infer(struct psg_infer *c)
{
    struct attn_geom *g = c->geom;
    int n = count_qkv(c);
    if (n == 0)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "the queries of a sample must be [T, E]");
    if (read_sizes(c, g, n))
        return psg_infer_status(c);
    g->heads = psg_infer_int_required(c, "num_heads", 1, INT32_MAX);
    g->packed = g->kdim == g->e && g->vdim == g->e;
    g->dropout = psg_infer_real(c, "dropout", 0, 0, 1);
    g->bias = psg_infer_bool(c, "bias", true);
    g->bias_kv = psg_infer_bool(c, "add_bias_kv", false);
    g->zero_attn = psg_infer_bool(c, "add_zero_attn", false);
    g->causal = psg_infer_bool(c, "causal", false);
    psg_infer_bool(c, "batch_first", false);
    if (psg_infer_status(c) || attn_read_masks(c, g, n) || attn_infer(c, g, ""))
        return psg_infer_status(c);
    g->n_qkv = n;
    op_out(c, PSG_SHAPE(g->t, g->e));
    psg_infer_save(c, g->saved, 0);
    psg_infer_random(c, g->random);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static struct attn attn_of(const struct psg_call *c)
{
    const struct attn_geom *g = c->geom;
    struct attn a = { .c = c,
                      .g = g,
                      .saved = c->saved,
                      .scratch = c->scratch,
                      .random = c->random,
                      .random_stride = g->random };
    for (int k = 0; k < 3; k++)
        a.x[k] = op_in(c, g->n_qkv == 3 ? k : 0);
    return a;
}

static void multihead_attention_forward(const struct psg_call *c)
{
    struct attn a = attn_of(c);
    if (c->n > 0)
        attn_forward(&a, c->out[0]);
}

static void multihead_attention_prepare(const struct psg_call *c)
{
    struct attn a = attn_of(c);
    if (c->n > 0)
        attn_prepare(&a, c->dout[0]);
}

static void multihead_attention_backward(const struct psg_call *c)
{
    const struct attn_geom *g = c->geom;
    struct attn a = attn_of(c);
    if (c->n == 0)
        return;
    for (int k = 0; k < 3; k++)
        if (g->n_qkv == 3 && op_wants_din(c, k))
            attn_input_grad(&a, k, 0, c->din[k]);
        else if (g->n_qkv == 1 && op_wants_din(c, 0))
            attn_input_grad(&a, k, k > 0, c->din[0]);
    attn_mask_grad(&a);
}

static int roles_of(const struct psg_call *c, struct role *r)
{
    struct attn a = attn_of(c);
    return attn_roles(&a, c->dout[0], r);
}

static void multihead_attention_grad_sample(const struct psg_call *c)
{
    struct role r[ATTN_ROLES_MAX];
    roles_grad_sample(c, r, roles_of(c, r));
}

static void multihead_attention_norm_sample(const struct psg_call *c)
{
    struct role r[ATTN_ROLES_MAX];
    roles_norm_sample(c, r, roles_of(c, r));
}

static void multihead_attention_clipped_sum(const struct psg_call *c)
{
    struct role r[ATTN_ROLES_MAX];
    roles_clipped_sum(c, r, roles_of(c, r));
}

static void multihead_attention_lower(struct psg_lower *l)
{
    const struct attn_geom *g = l->geom;
    psg_value x[3];
    for (int k = 0; k < 3; k++)
        x[k] = l->in[g->n_qkv == 3 ? k : 0];
    l->out[0] = attn_lower(l, g, x, l->random);
}

static const struct psg_op_case cases[] = {
    { "embed_dim=4 num_heads=2", "3x4" },
    { "num_heads=2 bias=false", "3x4 3x4 3x4" },
    { "num_heads=3 kdim=5 vdim=4", "2x6 4x5 4x4" },
    { "num_heads=1 add_bias_kv=true causal=true", "3x4" },
    { "num_heads=2 add_zero_attn=true add_bias_kv=true", "2x4 3x4 3x4 i64<2:3" },
    { "num_heads=2 causal=true key_padding_mask=true", "3x4 3x4 3x4 i64<2:3" },
    { "num_heads=2", "2x4 3x4 3x4 2x3" },
    { "num_heads=2", "2x4 3x4 3x4 2x2x3" },
    { "num_heads=2", "2x4 3x4 3x4 i64<2:2x3" },
    { "num_heads=2 dropout=0.4", "3x4" },
    { "num_heads=2", "1x6" },
    { NULL, NULL },
};

static const char *const inputs[] = { "q", "k", "v", "mask", "mask", NULL };

const struct psg_op layer_multihead_attention = {
    .name = "multihead_attention",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 5,
    .geom_size = sizeof(struct attn_geom),
    .infer = multihead_attention_infer,
    .forward = multihead_attention_forward,
    .prepare = multihead_attention_prepare,
    .backward = multihead_attention_backward,
    .grad_sample = multihead_attention_grad_sample,
    .norm_sample = multihead_attention_norm_sample,
    .clipped_sum = multihead_attention_clipped_sum,
    .lower = multihead_attention_lower,
    .cases = cases,
};
