/* transformer_encoder_layer, transformer_decoder_layer: sublayers F with a residual each
 * (PyTorch's parameters and order).
 *
 *   norm_first false   y = norm(x + drop(F(x)))
 *   norm_first true    y = x + drop(F(norm(x)))
 *   encoder: self attention, feed forward; decoder: self attention, attention to the
 * memory, feed forward. Feed forward: linear2(drop(f(linear1(x)))), f relu or gelu (erf).
 *
 *   encoder inputs: x [N, T, E], then masks; decoder inputs: x [N, T, E], memory [N, S, E],
 * then tgt_key_padding_mask [T] and memory_key_padding_mask [S], in this order. causal
 * masks the self attention. y [N, T, E]. */
#include "op/ops.h"
#include "op/transformer.h"

#define LAYER_ATTRS                                                                        \
    { "d_model", PSG_ATTR_INT, "checked against the input's last axis when given" },       \
        { "nhead", PSG_ATTR_INT, "required" },                                             \
        { "dim_feedforward", PSG_ATTR_INT, "2048" },                                       \
        { "dropout", PSG_ATTR_REAL, "0.1; while training" },                               \
        { "activation", PSG_ATTR_STRING, "relu; or gelu" },                                \
        { "layer_norm_eps", PSG_ATTR_REAL, "1e-5" },                                       \
        { "eps", PSG_ATTR_REAL, "another name of layer_norm_eps" },                        \
        { "batch_first", PSG_ATTR_BOOL, "no effect: a sample is [T, E] either way" },      \
        { "norm_first", PSG_ATTR_BOOL, "false" }, { "bias", PSG_ATTR_BOOL, "true" },       \
        { "causal", PSG_ATTR_BOOL, "false" },                                              \
    {                                                                                      \
        "key_padding_mask", PSG_ATTR_BOOL,                                                 \
            "checked when given: whether one is among the inputs"                          \
    }

static const struct psg_attr_spec attrs[] = { LAYER_ATTRS, { NULL, 0, NULL } };

/* ---- infer ---- */
static int read_attrs(struct psg_infer *c, struct layer_geom *g)
{
    const struct psg_shape *x = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (x->rank != 2 || x->dim[0] < 1 || x->dim[1] < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "a sample must be [T, E], not empty");
    g->t = x->dim[0];
    g->e = x->dim[1];
    if (psg_infer_int(c, "d_model", g->e, 1, INT64_MAX) != g->e)
        psg_infer_fail(c, PSG_E_SHAPE, "d_model", "the input's last axis has %lld",
                       (long long)g->e);
    g->f = psg_infer_int(c, "dim_feedforward", 2048, 1, INT32_MAX);
    g->dropout = psg_infer_real(c, "dropout", 0.1, 0, 1);
    g->act = psg_infer_choice(c, "activation", "relu", "relu|gelu") ? PSG_ACT_GELU
                                                                    : PSG_ACT_RELU;
    g->eps = psg_infer_real(c, "eps", psg_infer_real(c, "layer_norm_eps", 1e-5, 0, 1e30), 0,
                            1e30);
    g->norm_first = psg_infer_bool(c, "norm_first", false);
    g->bias = psg_infer_bool(c, "bias", true);
    psg_infer_bool(c, "batch_first", false);
    return psg_infer_status(c);
}

static int attention_infer(struct psg_infer *c, struct layer_geom *g, struct attn_geom *a,
                           const char *prefix)
{
    a->t = g->t;
    a->e = a->kdim = a->vdim = g->e;
    a->heads = psg_infer_int_required(c, "nhead", 1, INT32_MAX);
    a->packed = true;
    a->bias = g->bias;
    a->dropout = g->dropout;
    return psg_infer_status(c) ? psg_infer_status(c) : attn_infer(c, a, prefix);
}

static int64_t take(int64_t *at, int64_t size)
{
    int64_t from = *at;
    *at += size;
    return from;
}

static void declare_rest(struct psg_infer *c, struct layer_geom *g)
{
    static const char *const norms[3][2] = { { "norm1.weight", "norm1.bias" },
                                             { "norm2.weight", "norm2.bias" },
                                             { "norm3.weight", "norm3.bias" } };
    struct psg_init in = op_init_fan_in(g->e), hidden = op_init_fan_in(g->f);
    g->w1 = op_param(c, "linear1.weight", PSG_SHAPE(g->f, g->e), in);
    g->b1 = g->bias ? op_param(c, "linear1.bias", PSG_SHAPE(g->f), in) : -1;
    g->w2 = op_param(c, "linear2.weight", PSG_SHAPE(g->e, g->f), hidden);
    g->b2 = g->bias ? op_param(c, "linear2.bias", PSG_SHAPE(g->e), hidden) : -1;
    for (int k = 0; k < g->n_sub; k++) {
        g->sub[k].norm_w = op_param(c, norms[k][0], PSG_SHAPE(g->e), op_init_constant(1));
        g->sub[k].norm_b =
            g->bias ? op_param(c, norms[k][1], PSG_SHAPE(g->e), op_init_constant(0)) : -1;
    }
}

static void declare_room(struct psg_infer *c, struct layer_geom *g)
{
    int64_t row = OP_PROD(c, g->t, g->e), wide = OP_PROD(c, g->t, g->f), saved = 0,
            random = 0;
    int64_t attn_scratch = 0, attn_fixed = 0;
    OP_PROD(c, row + wide, 64);
    if (psg_infer_status(c))
        return;
    for (int k = 0; k < g->n_sub; k++) {
        struct sublayer *s = &g->sub[k];
        s->at_xhat = take(&saved, row + g->t);
        s->at_in = take(&saved, g->norm_first ? row : 0);
        s->at_out = take(&saved, row);
        s->at_dnorm = take(&saved, row);
        s->at_dbranch = take(&saved, row);
        s->at_part = take(&saved, s->kind == SUB_FEED_FORWARD ? 4 * wide : s->attn.saved);
        s->at_random = take(&random, g->dropout > 0 ? row : 0);
        s->at_random_part = take(&random, g->dropout == 0               ? 0
                                          : s->kind == SUB_FEED_FORWARD ? wide
                                                                        : s->attn.random);
        if (s->kind != SUB_FEED_FORWARD && s->attn.scratch > attn_scratch)
            attn_scratch = s->attn.scratch;
        if (s->kind != SUB_FEED_FORWARD && s->attn.scratch_fixed > attn_fixed)
            attn_fixed = s->attn.scratch_fixed;
    }
    g->at_dout = take(&saved, g->norm_first ? row : 0);
    g->random = random;
    g->scratch_rows = 4 * row + (row > wide ? row : wide) + 1;
    psg_infer_save(c, saved, 0);
    psg_infer_random(c, random);
    psg_infer_scratch(c, attn_fixed, g->scratch_rows + attn_scratch);
    role_declare_room(c, ROLE_DENSE, g->t, g->e, g->f);
    role_declare_room(c, ROLE_DENSE, g->t, g->f, g->e);
    role_declare_room(c, ROLE_BIAS, g->t, 0, g->f);
    role_declare_room(c, ROLE_SCALE, g->t, 0, 2 * g->e);
}

static int transformer_encoder_layer_infer(struct psg_infer *c)
{
    struct layer_geom *g = c->geom;
    struct attn_geom *a = &g->sub[0].attn;
    if (read_attrs(c, g))
        return psg_infer_status(c);
    g->n_sub = 2;
    g->sub[0].kind = SUB_SELF;
    g->sub[1].kind = SUB_FEED_FORWARD;
    a->s = a->t = g->t;
    a->heads = psg_infer_int(c, "nhead", 1, 1, INT32_MAX);
    a->causal = psg_infer_bool(c, "causal", false);
    if (attn_read_masks(c, a, 1) || attention_infer(c, g, a, "self_attn."))
        return psg_infer_status(c);
    declare_rest(c, g);
    op_out(c, PSG_SHAPE(g->t, g->e));
    declare_room(c, g);
    return psg_infer_status(c);
}

/* a key padding mask at input `slot`, if the node has one there */
static void read_key_mask(struct psg_infer *c, struct attn_geom *a, int slot)
{
    struct psg_shape want = PSG_SHAPE(a->s);
    a->key_mask = a->attn_mask = -1;
    if (slot >= c->n_in)
        return;
    if (!psg_shape_equal(&c->in[slot].shape, &want))
        psg_infer_fail(c, PSG_E_SHAPE, NULL,
                       "input %d must be a key padding mask of length %lld", slot,
                       (long long)a->s);
    a->key_mask = slot;
    a->key_mask_ids = c->in[slot].dtype == PSG_I64;
}

static int transformer_decoder_layer_infer(struct psg_infer *c)
{
    struct layer_geom *g = c->geom;
    struct attn_geom *self = &g->sub[0].attn, *cross = &g->sub[1].attn;
    const struct psg_shape *memory = &c->in[1].shape;
    if (!op_need_dtype(c, 1, PSG_REAL, "memory") || read_attrs(c, g))
        return psg_infer_status(c);
    if (memory->rank != 2 || memory->dim[0] < 1 || memory->dim[1] != g->e)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "the memory of a sample must be [S, E]");
    g->n_sub = 3;
    g->sub[0].kind = SUB_SELF;
    g->sub[1].kind = SUB_CROSS;
    g->sub[2].kind = SUB_FEED_FORWARD;
    self->s = g->t;
    cross->s = memory->dim[0];
    self->causal = psg_infer_bool(c, "causal", false);
    read_key_mask(c, self, 2);
    read_key_mask(c, cross, 3);
    op_check_input_flag(c, "key_padding_mask", self->key_mask >= 0);
    if (psg_infer_status(c) || attention_infer(c, g, self, "self_attn.") ||
        attention_infer(c, g, cross, "multihead_attn."))
        return psg_infer_status(c);
    declare_rest(c, g);
    op_out(c, PSG_SHAPE(g->t, g->e));
    declare_room(c, g);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

/* ---- the layer functions ---- */
static const struct psg_op_case transformer_encoder_layer_cases[] = {
    { "d_model=4 nhead=2 dim_feedforward=5 dropout=0", "3x4" },
    { "nhead=1 dim_feedforward=3 norm_first=true activation=gelu dropout=0 causal=true",
      "3x4 i64<2:3" },
    { "nhead=2 dim_feedforward=3 dropout=0.3", "2x4" },
    { "nhead=2 dim_feedforward=3 dropout=0.3 norm_first=true bias=false eps=1e-3", "2x4" },
    { NULL, NULL },
};

static const struct psg_op_case transformer_decoder_layer_cases[] = {
    { "d_model=4 nhead=2 dim_feedforward=5 dropout=0", "3x4 2x4" },
    { "nhead=1 dim_feedforward=3 norm_first=true activation=gelu dropout=0 causal=true",
      "3x4 2x4 i64<2:3 i64<2:2" },
    { "nhead=2 dim_feedforward=3 dropout=0.3 bias=false", "2x4 3x4" },
    { NULL, NULL },
};

static const char *const transformer_encoder_layer_inputs[] = { "x", "mask", "mask", NULL };
static const char *const transformer_decoder_layer_inputs[] = {
    "x", "memory", "tgt_key_padding_mask", "memory_key_padding_mask", NULL
};

#define LAYER_OP(NAME, MIN, MAX)                                                           \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = attrs,                                                                    \
        .inputs = NAME##_inputs,                                                           \
        .n_in_min = MIN,                                                                   \
        .n_in_max = MAX,                                                                   \
        .geom_size = sizeof(struct layer_geom),                                            \
        .infer = NAME##_infer,                                                             \
        .forward = layer_forward,                                                          \
        .prepare = layer_prepare,                                                          \
        .backward = layer_backward,                                                        \
        .grad_sample = layer_grad_sample,                                                  \
        .norm_sample = layer_norm_sample,                                                  \
        .clipped_sum = layer_clipped_sum,                                                  \
        .lower = layer_lower,                                                              \
        .cases = NAME##_cases,                                                             \
    }

LAYER_OP(transformer_encoder_layer, 1, 3);
LAYER_OP(transformer_decoder_layer, 2, 4);
