/* Rules and lowering of transformer layers; formulas: transformer.c. */
#include "op/transformer.h"

/* One sublayer in one call. */
struct sub {
    const struct psg_call *c;
    const struct layer_geom *g;
    const struct sublayer *s;
    int k;
    int64_t rows;       /* N T */
    const psg_real *x;  /* its input [N, T, E] */
    const psg_real *in; /* what F sees */
    psg_real *xhat, *rstd, *out, *dnorm, *dbranch;
    psg_real *y, *fy, *kept, *dy;          /* feed forward [N, T, F] */
    psg_real *tmp, *drop_tmp, *dx, *dnext; /* scratch */
};

static struct sub sub_of(const struct psg_call *c, int k)
{
    const struct layer_geom *g = c->geom;
    const struct sublayer *s = &g->sub[k];
    int64_t n = c->n, row = n * g->t * g->e, wide = n * g->t * g->f;
    struct sub u = { .c = c, .g = g, .s = s, .k = k, .rows = n * g->t };
    u.x = k == 0 ? op_in(c, 0) : c->saved + n * g->sub[k - 1].at_out;
    u.xhat = c->saved + n * s->at_xhat;
    u.rstd = u.xhat + row;
    u.in = g->norm_first ? c->saved + n * s->at_in : u.x;
    u.out = k == g->n_sub - 1 ? c->out[0] : c->saved + n * s->at_out;
    u.dnorm = c->saved + n * s->at_dnorm;
    u.dbranch = c->saved + n * s->at_dbranch;
    u.y = c->saved + n * s->at_part;
    u.fy = u.y + wide;
    u.kept = u.fy + wide;
    u.dy = u.kept + wide;
    u.tmp = c->scratch;
    u.dx = u.tmp + row;
    u.dnext = u.dx + row;
    u.drop_tmp = u.dnext + 2 * row;
    return u;
}

static struct attn attn_of(const struct sub *u)
{
    const struct layer_geom *g = u->g;
    const psg_real *keys = u->s->kind == SUB_CROSS ? op_in(u->c, 1) : u->in;
    return (struct attn){ .c = u->c,
                          .g = &u->s->attn,
                          .saved = u->y,
                          .scratch = u->c->scratch + u->c->n * g->scratch_rows,
                          .random =
                              u->c->random ? u->c->random + u->s->at_random_part : NULL,
                          .random_stride = g->random,
                          .x = { u->in, keys, keys } };
}

static void drop(const struct sub *u, int64_t size, int64_t at_random, psg_real *x)
{
    if (u->c->training && u->g->dropout > 0)
        attn_drop(u->c->be, u->c->n, size, u->c->random + at_random, u->g->random,
                  u->g->dropout, x, u->drop_tmp);
}

/* y = norm(x) of this sublayer */
static void norm(const struct sub *u, const psg_real *x, psg_real *y)
{
    const struct psg_backend *be = u->c->be;
    be->normalize(u->rows, u->g->e, u->g->eps, true, x, u->xhat, u->rstd);
    op_binary_cols(be, PSG_MUL, u->rows, u->g->e, u->xhat, u->c->param[u->s->norm_w], y);
    if (u->s->norm_b >= 0)
        be->add_bias(u->rows, u->g->e, y, u->c->param[u->s->norm_b], y);
}

/* dx of the norm, from dnorm; dx is not dnorm */
static void norm_bwd(const struct sub *u, psg_real *tmp, psg_real *dx)
{
    const struct psg_backend *be = u->c->be;
    op_binary_cols(be, PSG_MUL, u->rows, u->g->e, u->dnorm, u->c->param[u->s->norm_w], tmp);
    be->normalize_bwd(u->rows, u->g->e, true, u->xhat, u->rstd, tmp, dx);
}

static const psg_real *param_or_null(const struct sub *u, int p)
{
    return p < 0 ? NULL : u->c->param[p];
}

/* ---- forward ---- */
static void branch(const struct sub *u, psg_real *to)
{
    const struct layer_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    if (u->s->kind != SUB_FEED_FORWARD) {
        struct attn a = attn_of(u);
        attn_forward(&a, to);
        return;
    }
    dense_forward(be, u->rows, g->e, g->f, u->in, u->c->param[g->w1],
                  param_or_null(u, g->b1), u->y);
    be->act(g->act, NULL, u->rows * g->f, u->y, u->fy);
    op_copy(be, u->rows * g->f, u->fy, u->kept);
    drop(u, g->t * g->f, u->s->at_random_part, u->kept);
    dense_forward(be, u->rows, g->f, g->e, u->kept, u->c->param[g->w2],
                  param_or_null(u, g->b2), to);
}

void layer_forward(const struct psg_call *c)
{
    const struct layer_geom *g = c->geom;
    if (c->n == 0)
        return;
    for (int k = 0; k < g->n_sub; k++) {
        struct sub u = sub_of(c, k);
        if (g->norm_first)
            norm(&u, u.x, c->saved + c->n * u.s->at_in);
        branch(&u, u.tmp);
        drop(&u, g->t * g->e, u.s->at_random, u.tmp);
        op_binary(c->be, PSG_ADD, u.rows * g->e, u.x, u.tmp, u.tmp);
        if (g->norm_first)
            op_copy(c->be, u.rows * g->e, u.tmp, u.out);
        else
            norm(&u, u.tmp, u.out);
    }
}

/* ---- backward ---- */
/* From dbranch: what the gradients of F's input and parameters are made of. */
static void branch_prepare(const struct sub *u)
{
    const struct layer_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    if (u->s->kind != SUB_FEED_FORWARD) {
        struct attn a = attn_of(u);
        attn_prepare(&a, u->dbranch);
        return;
    }
    dense_backward(be, u->rows, g->f, g->e, u->dbranch, u->c->param[g->w2], 0, u->dy);
    drop(u, g->t * g->f, u->s->at_random_part, u->dy);
    be->act_bwd(g->act, NULL, u->rows * g->f, u->y, u->fy, u->dy, u->dy);
}

/* din = gradient of F's input */
static void branch_input_grad(const struct sub *u, psg_real *din)
{
    const struct layer_geom *g = u->g;
    if (u->s->kind == SUB_FEED_FORWARD) {
        dense_backward(u->c->be, u->rows, g->e, g->f, u->dy, u->c->param[g->w1], 0, din);
        return;
    }
    struct attn a = attn_of(u);
    attn_input_grad(&a, 0, 0, din);
    for (int k = 1; k < 3 && u->s->kind == SUB_SELF; k++)
        attn_input_grad(&a, k, 1, din);
}

/* Everything that the parameters of a sublayer need; dout: gradient of its output. */
static void sub_prepare(const struct sub *u, const psg_real *dout)
{
    const struct layer_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t n = u->rows * g->e;
    if (g->norm_first) {
        op_copy(be, n, dout, u->dbranch);
    } else {
        op_copy(be, n, dout, u->dnorm);
        norm_bwd(u, u->tmp, u->dbranch);
    }
    drop(u, g->t * g->e, u->s->at_random, u->dbranch);
    branch_prepare(u);
    if (g->norm_first)
        branch_input_grad(u, u->dnorm);
}

/* dx [N, T, E]: gradient of the sublayer's input, after sub_prepare; dout as there, may be
 * dx */
static void sub_input_grad(const struct sub *u, const psg_real *dout, psg_real *dx)
{
    const struct psg_backend *be = u->c->be;
    int64_t n = u->rows * u->g->e;
    norm_bwd(u, u->tmp, u->dx);
    if (u->g->norm_first) {
        op_binary(be, PSG_ADD, n, dout, u->dx, dx);
        return;
    }
    branch_input_grad(u, u->tmp);
    op_binary(be, PSG_ADD, n, u->dx, u->tmp, dx);
}

void layer_prepare(const struct psg_call *c)
{
    const struct layer_geom *g = c->geom;
    const psg_real *dout = c->dout[0];
    for (int k = g->n_sub - 1; k >= 0 && c->n > 0; k--) {
        struct sub u = sub_of(c, k);
        sub_prepare(&u, dout);
        if (k > 0)
            sub_input_grad(&u, dout, u.dnext);
        else if (g->norm_first)
            op_copy(c->be, u.rows * g->e, dout, c->saved + c->n * g->at_dout);
        dout = u.dnext;
    }
}

void layer_backward(const struct psg_call *c)
{
    const struct layer_geom *g = c->geom;
    for (int k = 0; k < g->n_sub && c->n > 0; k++) {
        struct sub u = sub_of(c, k);
        if (u.s->kind == SUB_FEED_FORWARD)
            continue;
        struct attn a = attn_of(&u);
        if (k == 0 && op_wants_din(c, 0))
            sub_input_grad(&u, c->saved + c->n * g->at_dout, c->din[0]);
        for (int part = 1; part < 3 && u.s->kind == SUB_CROSS && op_wants_din(c, 1); part++)
            attn_input_grad(&a, part, part == 2, c->din[1]);
        attn_mask_grad(&a);
    }
}

/* ---- roles ---- */
enum { LAYER_ROLES_MAX = 2 * ATTN_ROLES_MAX + 4 + 2 * SUBLAYERS_MAX };

static int sub_roles(const struct sub *u, struct role *r)
{
    const struct layer_geom *g = u->g;
    int n = 0;
    r[n++] = (struct role){ ROLE_SCALE, u->s->norm_w, 0, g->t, 0, g->e, u->xhat, u->dnorm };
    if (u->s->norm_b >= 0)
        r[n++] = (struct role){ ROLE_BIAS, u->s->norm_b, 0, g->t, 0, g->e, NULL, u->dnorm };
    if (u->s->kind != SUB_FEED_FORWARD) {
        struct attn a = attn_of(u);
        return n + attn_roles(&a, u->dbranch, r + n);
    }
    r[n++] = (struct role){ ROLE_DENSE, g->w1, 0, g->t, g->e, g->f, u->in, u->dy };
    r[n++] = (struct role){ ROLE_DENSE, g->w2, 0, g->t, g->f, g->e, u->kept, u->dbranch };
    if (g->bias) {
        r[n++] = (struct role){ ROLE_BIAS, g->b1, 0, g->t, 0, g->f, NULL, u->dy };
        r[n++] = (struct role){ ROLE_BIAS, g->b2, 0, g->t, 0, g->e, NULL, u->dbranch };
    }
    return n;
}

static int roles_of(const struct psg_call *c, struct role *r)
{
    const struct layer_geom *g = c->geom;
    int n = 0;
    for (int k = 0; k < g->n_sub; k++) {
        struct sub u = sub_of(c, k);
        n += sub_roles(&u, r + n);
    }
    return n;
}

void layer_grad_sample(const struct psg_call *c)
{
    struct role r[LAYER_ROLES_MAX];
    roles_grad_sample(c, r, roles_of(c, r));
}

void layer_norm_sample(const struct psg_call *c)
{
    struct role r[LAYER_ROLES_MAX];
    roles_norm_sample(c, r, roles_of(c, r));
}

void layer_clipped_sum(const struct psg_call *c)
{
    struct role r[LAYER_ROLES_MAX];
    roles_clipped_sum(c, r, roles_of(c, r));
}

/* ---- lowering ---- */
static psg_value random_part(struct psg_lower *l, int64_t from, int64_t size)
{
    int64_t start[1] = { from }, limit[1] = { from + size }, step[1] = { 1 };
    if (l->random == PSG_NONE)
        return PSG_NONE;
    return psg_g_slice(l->g, l->random, start, limit, step);
}

static psg_value drop_lower(struct psg_lower *l, psg_value x, int64_t from, int64_t size)
{
    const struct layer_geom *g = l->geom;
    if (!l->training || g->dropout == 0)
        return x;
    return attn_drop_lower(l, x, random_part(l, from, size), g->dropout);
}

static psg_value norm_lower(struct psg_lower *l, const struct sublayer *s, psg_value x)
{
    const struct layer_geom *g = l->geom;
    psg_value scale = psg_g_scalar(l->g, 1 / (double)g->e);
    psg_value mean = psg_g_mul(l->g, psg_g_sum(l->g, x, 2u), scale);
    psg_value centred = psg_g_sub(l->g, x, op_g_unsqueeze(l, mean, 1));
    psg_value var =
        psg_g_mul(l->g, psg_g_sum(l->g, psg_g_mul(l->g, centred, centred), 2u), scale);
    psg_value rstd =
        psg_g_unary(l->g, PSG_RSQRT, psg_g_add(l->g, var, psg_g_scalar(l->g, g->eps)));
    psg_value y = psg_g_mul(l->g, centred, op_g_unsqueeze(l, rstd, 1));
    y = psg_g_mul(l->g, y, l->param[s->norm_w]);
    return s->norm_b < 0 ? y : psg_g_add(l->g, y, l->param[s->norm_b]);
}

static psg_value linear_lower(struct psg_lower *l, psg_value x, int w, int b)
{
    struct psg_dot dims = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    psg_value y = psg_g_dot(l->g, x, l->param[w], &dims);
    return b < 0 ? y : psg_g_add(l->g, y, l->param[b]);
}

static psg_value act_lower(struct psg_lower *l, psg_value x)
{
    const struct layer_geom *g = l->geom;
    psg_value zero = psg_g_scalar(l->g, 0), half = psg_g_scalar(l->g, 0.5);
    if (g->act == PSG_ACT_RELU)
        return psg_g_select(l->g, psg_g_binary(l->g, PSG_LE, x, zero), zero, x);
    psg_value e = psg_g_unary(
        l->g, PSG_ERF, psg_g_mul(l->g, x, psg_g_scalar(l->g, 0.70710678118654752440)));
    return psg_g_mul(l->g, psg_g_mul(l->g, x, half),
                     psg_g_add(l->g, e, psg_g_scalar(l->g, 1)));
}

static psg_value branch_lower(struct psg_lower *l, const struct sublayer *s, psg_value in)
{
    const struct layer_geom *g = l->geom;
    if (s->kind == SUB_FEED_FORWARD) {
        psg_value y = act_lower(l, linear_lower(l, in, g->w1, g->b1));
        y = drop_lower(l, y, s->at_random_part, g->t * g->f);
        return linear_lower(l, y, g->w2, g->b2);
    }
    psg_value keys = s->kind == SUB_CROSS ? l->in[1] : in;
    return attn_lower(l, &s->attn, (const psg_value[]){ in, keys, keys },
                      random_part(l, s->at_random_part, s->attn.random));
}

void layer_lower(struct psg_lower *l)
{
    const struct layer_geom *g = l->geom;
    psg_value x = l->in[0];
    for (int k = 0; k < g->n_sub; k++) {
        const struct sublayer *s = &g->sub[k];
        psg_value y = branch_lower(l, s, g->norm_first ? norm_lower(l, s, x) : x);
        y = psg_g_add(l->g, x, drop_lower(l, y, s->at_random, g->t * g->e));
        x = g->norm_first ? y : norm_lower(l, s, y);
    }
    l->out[0] = x;
}
