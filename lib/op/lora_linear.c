/* lora_linear: y = x weight^T + bias + (alpha / r) (drop(x) A^T) B^T (Hu et al. 2022).
 *
 *   x [N, ..., I], weight [O, I] and bias [O] as in linear (freeze them to train the
 *   adapter only), lora_A [r, I], lora_B [O, r] (starts at zero); T is the product of the
 *   leading axes.
 *   With u = drop(x) A^T and s = alpha / r: dB[n] = s sum_t dy u, du = s dy B,
 *   dA[n] = sum_t du drop(x), dx = dy weight + drop(du A). */
#include "op/attention.h"
#include "op/ops.h"

struct geom {
    int64_t t, i, o, r;
    bool bias;
    double scale, dropout;
    int p_bias, p_a, p_b; /* parameter numbers; the weight is 0 */
};

static const struct psg_attr_spec attrs[] = {
    { "in_features", PSG_ATTR_INT, "checked against the input's last axis when given" },
    { "out_features", PSG_ATTR_INT, "required" },
    { "r", PSG_ATTR_INT, "8; rank of the adapter" },
    { "lora_alpha", PSG_ATTR_REAL, "8; the adapter is scaled by lora_alpha / r" },
    { "lora_dropout", PSG_ATTR_REAL, "0; of the adapter's input, while training" },
    { "init", PSG_ATTR_STRING, "kaiming, or gaussian: lora_A from N(0, 1 / r^2)" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { NULL, 0, NULL },
};

static int lora_linear_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    struct psg_shape shape = c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (shape.rank < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the input needs at least one axis");
    g->t = op_span(&shape, 0, shape.rank - 1);
    g->i = shape.dim[shape.rank - 1];
    if (psg_infer_int(c, "in_features", g->i, 0, INT64_MAX) != g->i)
        return psg_infer_fail(c, PSG_E_SHAPE, "in_features",
                              "the input's last axis has %lld", (long long)g->i);
    g->o = psg_infer_int_required(c, "out_features", 0, INT64_MAX);
    g->r = psg_infer_int(c, "r", 8, 1, INT32_MAX);
    g->scale = psg_infer_real(c, "lora_alpha", 8, -1e30, 1e30) / (double)g->r;
    g->dropout = psg_infer_real(c, "lora_dropout", 0, 0, 1);
    g->bias = psg_infer_bool(c, "bias", true);
    struct psg_init init = op_init_fan_in(g->i);
    struct psg_init init_a = init;
    if (psg_infer_choice(c, "init", "kaiming", "kaiming|gaussian") == 1)
        init_a = (struct psg_init){ .kind = PSG_INIT_NORMAL, .value = 1.0 / (double)g->r };
    op_param(c, "weight", PSG_SHAPE(g->o, g->i), init);
    g->p_bias = g->bias ? op_param(c, "bias", PSG_SHAPE(g->o), init) : -1;
    g->p_a = op_param(c, "lora_A", PSG_SHAPE(g->r, g->i), init_a);
    g->p_b = op_param(c, "lora_B", PSG_SHAPE(g->o, g->r), op_init_constant(0));
    shape.dim[shape.rank - 1] = g->o;
    op_out(c, shape);
    /* saved: drop(x), u, s dy, du */
    psg_infer_save(c, OP_PROD(c, g->t, g->i + g->o) + OP_PROD(c, 2, g->t, g->r), 0);
    psg_infer_scratch(c, 0, OP_PROD(c, 2, g->t, g->i) + OP_PROD(c, g->t, g->o) + 1);
    psg_infer_random(c, g->dropout > 0 ? g->t * g->i : 0);
    role_declare_room(c, ROLE_DENSE, g->t, g->i, g->o);
    role_declare_room(c, ROLE_DENSE, g->t, g->i, g->r);
    role_declare_room(c, ROLE_DENSE, g->t, g->r, g->o);
    role_declare_room(c, ROLE_BIAS, g->t, 0, g->o);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

struct room {
    psg_real *x, *u, *sdy, *du;
};

static struct room room_of(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->t;
    struct room r = { .x = c->saved };
    r.u = r.x + rows * g->i;
    r.sdy = r.u + rows * g->r;
    r.du = r.sdy + rows * g->o;
    return r;
}

static void drop(const struct psg_call *c, psg_real *x, psg_real *tmp)
{
    const struct geom *g = c->geom;
    if (c->training && g->dropout > 0)
        attn_drop(c->be, c->n, g->t * g->i, c->random, g->t * g->i, g->dropout, x, tmp);
}

static void lora_linear_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct room r = room_of(c);
    int64_t rows = c->n * g->t;
    dense_forward(c->be, rows, g->i, g->o, op_in(c, 0), c->param[0],
                  g->bias ? c->param[g->p_bias] : NULL, c->out[0]);
    op_copy(c->be, rows * g->i, op_in(c, 0), r.x);
    drop(c, r.x, c->scratch);
    dense_forward(c->be, rows, g->i, g->r, r.x, c->param[g->p_a], NULL, r.u);
    dense_forward(c->be, rows, g->r, g->o, r.u, c->param[g->p_b], NULL, c->scratch);
    c->be->axpy(rows * g->o, (psg_real)g->scale, c->scratch, c->out[0]);
}

/* s dy and du */
static void inner_gradients(const struct psg_call *c, const struct room *r)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->t;
    op_scale(c->be, rows * g->o, g->scale, c->dout[0], r->sdy);
    dense_backward(c->be, rows, g->r, g->o, r->sdy, c->param[g->p_b], 0, r->du);
}

static void lora_linear_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct room r = room_of(c);
    int64_t rows = c->n * g->t;
    psg_real *dx = c->scratch, *tmp = dx + rows * g->i;
    if (!op_wants_din(c, 0))
        return;
    inner_gradients(c, &r);
    dense_backward(c->be, rows, g->i, g->r, r.du, c->param[g->p_a], 0, dx);
    drop(c, dx, tmp);
    dense_backward(c->be, rows, g->i, g->o, c->dout[0], c->param[0], 0, c->din[0]);
    c->be->axpy(rows * g->i, 1, dx, c->din[0]);
}

static int roles_of(const struct psg_call *c, struct role *to)
{
    const struct geom *g = c->geom;
    struct room r = room_of(c);
    int n = 0;
    inner_gradients(c, &r);
    to[n++] = (struct role){ ROLE_DENSE, 0, 0, g->t, g->i, g->o, op_in(c, 0), c->dout[0] };
    if (g->bias)
        to[n++] = (struct role){ ROLE_BIAS, g->p_bias, 0, g->t, 0, g->o, NULL, c->dout[0] };
    to[n++] = (struct role){ ROLE_DENSE, g->p_a, 0, g->t, g->i, g->r, r.x, r.du };
    to[n++] = (struct role){ ROLE_DENSE, g->p_b, 0, g->t, g->r, g->o, r.u, r.sdy };
    return n;
}

static void lora_linear_grad_sample(const struct psg_call *c)
{
    struct role r[4];
    roles_grad_sample(c, r, roles_of(c, r));
}

static void lora_linear_norm_sample(const struct psg_call *c)
{
    struct role r[4];
    roles_norm_sample(c, r, roles_of(c, r));
}

static void lora_linear_clipped_sum(const struct psg_call *c)
{
    struct role r[4];
    roles_clipped_sum(c, r, roles_of(c, r));
}

static void lora_linear_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    int last = l->in_type[0].shape.rank - 1;
    struct psg_dot dims = { .n_contract = 1, .contract_a = { last }, .contract_b = { 1 } };
    psg_value x = l->in[0], y = psg_g_dot(l->g, x, l->param[0], &dims);
    if (g->bias)
        y = psg_g_add(l->g, y, l->param[g->p_bias]);
    if (l->training && g->dropout > 0)
        x = attn_drop_lower(l, x, l->random, g->dropout);
    psg_value u = psg_g_dot(l->g, x, l->param[g->p_a], &dims);
    psg_value v = psg_g_dot(l->g, u, l->param[g->p_b], &dims);
    l->out[0] = psg_g_add(l->g, y, psg_g_mul(l->g, v, psg_g_scalar(l->g, g->scale)));
}

static const struct psg_op_case cases[] = {
    { "out_features=3 r=2 lora_alpha=4", "5" },
    { "out_features=4 r=1 bias=false", "3x2" },
    { "in_features=3 out_features=2 r=2 lora_dropout=0.3", "2x2x3" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_lora_linear = {
    .name = "lora_linear",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = lora_linear_infer,
    .forward = lora_linear_forward,
    .backward = lora_linear_backward,
    .grad_sample = lora_linear_grad_sample,
    .norm_sample = lora_linear_norm_sample,
    .clipped_sum = lora_linear_clipped_sum,
    .lower = lora_linear_lower,
    .cases = cases,
};
