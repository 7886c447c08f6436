#include "op/attention.h"

#include <math.h>
#include <stdio.h>

/* ---- infer ---- */
/* an additive mask, which is a real input */
static bool attn_mask_has_grad(const struct attn_geom *g)
{
    return g->attn_mask >= 0 && !g->attn_mask_ids;
}

int attn_read_masks(struct psg_infer *c, struct attn_geom *g, int from)
{
    g->key_mask = g->attn_mask = -1;
    for (int k = from; k < c->n_in; k++) {
        const struct psg_shape *s = &c->in[k].shape;
        bool tail =
            s->rank >= 2 && s->dim[s->rank - 2] == g->t && s->dim[s->rank - 1] == g->s;
        if (s->rank == 1 && s->dim[0] == g->s && g->key_mask < 0) {
            g->key_mask = k;
            g->key_mask_ids = c->in[k].dtype == PSG_I64;
        } else if (tail && g->attn_mask < 0 &&
                   (s->rank == 2 || (s->rank == 3 && s->dim[0] == g->heads))) {
            g->attn_mask = k;
            g->attn_mask_ids = c->in[k].dtype == PSG_I64;
            g->mask_per_head = s->rank == 3;
        } else {
            return psg_infer_fail(
                c, PSG_E_SHAPE, NULL,
                "input %d is neither a key padding mask [S] nor an attention "
                "mask [T, S]",
                k);
        }
    }
    op_check_input_flag(c, "key_padding_mask", g->key_mask >= 0);
    return psg_infer_status(c);
}

static int declare(struct psg_infer *c, const char *prefix, const char *name,
                   struct psg_shape shape, struct psg_init init)
{
    char role[64];
    snprintf(role, sizeof role, "%s%s", prefix, name);
    return op_param(c, role, shape, init);
}

/* U(-b, b) with b = sqrt(6 / (rows + columns)) */
static struct psg_init xavier(int64_t rows, int64_t columns)
{
    double sum = (double)rows + (double)columns;
    return (struct psg_init){ .kind = PSG_INIT_UNIFORM,
                              .value = sqrt(6 / (sum > 0 ? sum : 1)) };
}

static void declare_params(struct psg_infer *c, struct attn_geom *g, const char *prefix)
{
    static const char *const names[] = { "q_proj_weight", "k_proj_weight",
                                         "v_proj_weight" };
    int64_t e = g->e, columns[3] = { e, g->kdim, g->vdim };
    if (g->packed) {
        int p = declare(c, prefix, "in_proj_weight", PSG_SHAPE(3 * e, e), xavier(3 * e, e));
        for (int k = 0; k < 3; k++) {
            g->in_weight[k] = p;
            g->in_at[k] = k * e * e;
        }
    }
    for (int k = 0; k < 3 && !g->packed; k++)
        g->in_weight[k] =
            declare(c, prefix, names[k], PSG_SHAPE(e, columns[k]), xavier(e, columns[k]));
    struct psg_init zero = op_init_constant(0), normal = { PSG_INIT_NORMAL, 1, 0 };
    normal.value = sqrt(2 / (1 + (double)e));
    g->in_bias = g->bias ? declare(c, prefix, "in_proj_bias", PSG_SHAPE(3 * e), zero) : -1;
    g->bias_k = g->bias_kv ? declare(c, prefix, "bias_k", PSG_SHAPE(1, 1, e), normal) : -1;
    g->bias_v = g->bias_kv ? declare(c, prefix, "bias_v", PSG_SHAPE(1, 1, e), normal) : -1;
    g->out_weight =
        declare(c, prefix, "out_proj.weight", PSG_SHAPE(e, e), op_init_fan_in(e));
    g->out_bias = g->bias ? declare(c, prefix, "out_proj.bias", PSG_SHAPE(e), zero) : -1;
}

static int64_t take(int64_t *at, int64_t size)
{
    int64_t from = *at;
    *at += size;
    return from;
}

int attn_infer(struct psg_infer *c, struct attn_geom *g, const char *prefix)
{
    if (g->heads < 1 || g->e % g->heads)
        return psg_infer_fail(c, PSG_E_INVALID, NULL, "%lld heads do not divide %lld",
                              (long long)g->heads, (long long)g->e);
    g->d = g->e / g->heads;
    g->s1 = g->s + g->bias_kv + g->zero_attn;
    declare_params(c, g, prefix);
    int64_t scores = OP_PROD(c, g->heads, g->t, g->s1);
    OP_PROD(c, 64, g->heads, g->t, g->s1);
    OP_PROD(c, 64, g->t + g->s1, g->e);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    int64_t queries = g->t * g->e, keys = g->s1 * g->e;
    g->saved = 0;
    g->at_q = take(&g->saved, queries);
    g->at_k = take(&g->saved, keys);
    g->at_v = take(&g->saved, keys);
    g->at_prob = take(&g->saved, scores);
    g->at_ctx = take(&g->saved, queries);
    g->at_dq = take(&g->saved, queries);
    g->at_dk = take(&g->saved, g->s * g->e);
    g->at_dv = take(&g->saved, g->s * g->e);
    g->at_dbk = take(&g->saved, g->bias_kv ? g->e : 0);
    g->at_dbv = take(&g->saved, g->bias_kv ? g->e : 0);
    g->at_dmask = take(&g->saved, attn_mask_has_grad(g) ? scores : 0);
    g->random = g->dropout > 0 ? scores : 0;
    /* masks: [T, S1] once, [S1] and [H or 1, T, S1] per sample; then scores three times,
     * keys twice, queries */
    g->scratch_fixed = g->t * g->s1 + 1;
    g->scratch = g->s1 + 4 * scores + 2 * keys + queries + 1;
    psg_infer_scratch(c, g->scratch_fixed, g->scratch);
    role_declare_room(c, ROLE_DENSE, g->t, g->e, g->e);
    role_declare_room(c, ROLE_DENSE, g->s, g->kdim, g->e);
    role_declare_room(c, ROLE_DENSE, g->s, g->vdim, g->e);
    role_declare_room(c, ROLE_BIAS, 1, 0, g->e);
    return psg_infer_status(c);
}

/* ---- room ---- */
struct room {
    psg_real *q, *k, *v, *prob, *ctx, *dq, *dk, *dv, *dbk, *dbv, *dmask; /* saved */
    psg_real *number, *causal, *keys_left, *kept, *ds, *mask, *tmp;      /* scratch */
    psg_real *dk1, *dv1, *dctx;
};

static struct room room_of(const struct attn *a)
{
    const struct attn_geom *g = a->g;
    int64_t n = a->c->n, scores = n * g->heads * g->t * g->s1, keys = n * g->s1 * g->e;
    struct room r = { .q = a->saved + n * g->at_q,
                      .k = a->saved + n * g->at_k,
                      .v = a->saved + n * g->at_v,
                      .prob = a->saved + n * g->at_prob,
                      .ctx = a->saved + n * g->at_ctx,
                      .dq = a->saved + n * g->at_dq,
                      .dk = a->saved + n * g->at_dk,
                      .dv = a->saved + n * g->at_dv,
                      .dbk = a->saved + n * g->at_dbk,
                      .dbv = a->saved + n * g->at_dbv,
                      .dmask = a->saved + n * g->at_dmask };
    r.number = a->scratch;
    r.causal = r.number + 1;
    r.keys_left = r.causal + g->t * g->s1;
    r.kept = r.keys_left + n * g->s1;
    r.ds = r.kept + scores;
    r.mask = r.ds + scores;
    r.tmp = r.mask + scores;
    r.dk1 = r.tmp + scores + 1;
    r.dv1 = r.dk1 + keys;
    r.dctx = r.dv1 + keys;
    return r;
}

/* ---- products per head: C[n] = alpha op(A[n]) op(B[n]), operands inside rows of E ---- */
struct operand {
    const psg_real *p;
    int64_t rows, ld; /* rows of a sample; distance between them */
    int64_t head;     /* distance between heads */
    int64_t sample;   /* distance between samples */
};

static struct operand by_head(const struct attn_geom *g, const psg_real *p, int64_t rows)
{
    return (struct operand){ p, rows, g->e, g->d, rows * g->e };
}

static struct operand score_like(const struct attn_geom *g, const psg_real *p)
{
    return (struct operand){ p, g->t, g->s1, g->t * g->s1, g->heads * g->t * g->s1 };
}

static void per_head(const struct attn *a, struct psg_gemm m, struct operand x,
                     struct operand y, struct operand to, psg_real *out)
{
    m.lda = x.ld;
    m.ldb = y.ld;
    m.ldc = to.ld;
    for (int64_t h = 0; h < a->g->heads; h++)
        a->c->be->gemm_batched(&m, a->c->n, x.p + h * x.head, x.sample, y.p + h * y.head,
                               y.sample, out + h * to.head, to.sample);
}

/* ---- dropout ---- */
void attn_drop(const struct psg_backend *be, int64_t n, int64_t size,
               const psg_real *random, int64_t random_stride, double p, psg_real *x,
               psg_real *tmp)
{
    struct psg_shape shape = PSG_SHAPE(n, size);
    psg_real *number = tmp + n * size;
    be->fill(1, (psg_real)p, number);
    be->binary(PSG_GE, &shape, random, (const int64_t[]){ random_stride, 1 }, number,
               (const int64_t[]){ 0, 0 }, tmp);
    be->fill(1, (psg_real)(p < 1 ? 1 / (1 - p) : 0), number);
    op_binary_scalar(be, PSG_MUL, n * size, tmp, number, tmp);
    op_binary(be, PSG_MUL, n * size, x, tmp, x);
}

static void drop_scores(const struct attn *a, psg_real *x, psg_real *tmp)
{
    const struct attn_geom *g = a->g;
    if (a->c->training && g->dropout > 0)
        attn_drop(a->c->be, a->c->n, g->heads * g->t * g->s1, a->random, a->random_stride,
                  g->dropout, x, tmp);
}

/* ---- forward ---- */
/* x W^T + b for all three, k and v with their appended rows */
static void project(const struct attn *a, const struct room *r)
{
    const struct attn_geom *g = a->g;
    const struct psg_backend *be = a->c->be;
    const psg_real *const *param = a->c->param;
    int64_t n = a->c->n, e = g->e, part = g->s * e, row = g->s1 * e;
    for (int k = 0; k < 3; k++) {
        const psg_real *w = param[g->in_weight[k]] + g->in_at[k];
        const psg_real *b = g->bias ? param[g->in_bias] + k * e : NULL;
        if (k == 0) {
            dense_forward(be, n * g->t, e, e, a->x[0], w, b, r->q);
            continue;
        }
        psg_real *to = k == 1 ? r->k : r->v;
        dense_forward(be, n * g->s, k == 1 ? g->kdim : g->vdim, e, a->x[k], w, b, r->dk1);
        op_copy_rows(be, n, part, r->dk1, part, to, row);
        if (g->bias_kv)
            op_copy_rows(be, n, e, param[k == 1 ? g->bias_k : g->bias_v], 0, to + part,
                         row);
        if (g->zero_attn) {
            be->fill(n * e, 0, r->dk1);
            op_copy_rows(be, n, e, r->dk1, e, to + row - e, row);
        }
    }
}

/* y = 0, or -inf where x is not 0; y may be x */
static void minus_infinity_where(const struct attn *a, const struct room *r, int64_t n,
                                 const psg_real *x, psg_real *y)
{
    const struct psg_backend *be = a->c->be;
    be->fill(1, 0, r->number);
    op_binary_scalar(be, PSG_EQ, n, x, r->number, y);
    be->unary(PSG_LOG, n, y, y); /* log 1 or log 0 */
}

/* numbers of a mask input, real or int64, in tmp */
static const psg_real *mask_numbers(const struct attn *a, int slot, bool ids, int64_t n,
                                    psg_real *tmp)
{
    if (!ids)
        return op_in(a->c, slot);
    a->c->be->convert(n, op_ids(a->c, slot), tmp);
    return tmp;
}

static void mask_keys(const struct attn *a, const struct room *r, bool ids,
                      psg_real *scores)
{
    const struct attn_geom *g = a->g;
    int64_t n = a->c->n;
    struct psg_shape shape = PSG_SHAPE(n, g->heads * g->t, g->s1);
    const psg_real *m = mask_numbers(a, g->key_mask, ids, n * g->s, r->tmp);
    a->c->be->fill(n * g->s1, 0, r->keys_left);
    minus_infinity_where(a, r, n * g->s, m, r->tmp);
    op_copy_rows(a->c->be, n, g->s, r->tmp, g->s, r->keys_left, g->s1);
    a->c->be->binary(PSG_ADD, &shape, scores,
                     (const int64_t[]){ g->heads * g->t * g->s1, g->s1, 1 }, r->keys_left,
                     (const int64_t[]){ g->s1, 0, 1 }, scores);
}

static void mask_pairs(const struct attn *a, const struct room *r, bool ids,
                       psg_real *scores)
{
    const struct attn_geom *g = a->g;
    int64_t n = a->c->n, heads = g->mask_per_head ? g->heads : 1, rows = n * heads * g->t;
    struct psg_shape shape = PSG_SHAPE(n, g->heads, g->t * g->s1);
    const psg_real *m = mask_numbers(a, g->attn_mask, ids, rows * g->s, r->tmp);
    if (ids) {
        minus_infinity_where(a, r, rows * g->s, m, r->tmp);
        m = r->tmp;
    }
    a->c->be->fill(rows * g->s1, 0, r->mask);
    op_copy_rows(a->c->be, rows, g->s, m, g->s, r->mask, g->s1);
    int64_t size = g->t * g->s1;
    a->c->be->binary(PSG_ADD, &shape, scores, (const int64_t[]){ g->heads * size, size, 1 },
                     r->mask, (const int64_t[]){ heads * size, heads > 1 ? size : 0, 1 },
                     scores);
}

/* query i sees key j <= i, and the appended keys */
static void mask_future(const struct attn *a, const struct room *r, psg_real *scores)
{
    const struct attn_geom *g = a->g;
    const struct psg_backend *be = a->c->be;
    be->fill(g->t * g->s1, 0, r->causal);
    for (int64_t i = 0; i < g->t && i + 1 < g->s; i++)
        be->fill(g->s - i - 1, (psg_real)-INFINITY, r->causal + i * g->s1 + i + 1);
    op_binary_cols(be, PSG_ADD, a->c->n * g->heads, g->t * g->s1, scores, r->causal,
                   scores);
}

void attn_forward(const struct attn *a, psg_real *out)
{
    const struct attn_geom *g = a->g;
    const struct psg_backend *be = a->c->be;
    struct room r = room_of(a);
    int64_t n = a->c->n, rows = n * g->heads * g->t;
    project(a, &r);
    struct psg_gemm qk = { .trans_b = true,
                           .m = g->t,
                           .n = g->s1,
                           .k = g->d,
                           .alpha = (psg_real)(1 / sqrt((double)g->d)) };
    per_head(a, qk, by_head(g, r.q, g->t), by_head(g, r.k, g->s1), score_like(g, r.prob),
             r.prob);
    if (g->causal)
        mask_future(a, &r, r.prob);
    if (g->key_mask >= 0)
        mask_keys(a, &r, g->key_mask_ids, r.prob);
    if (g->attn_mask >= 0)
        mask_pairs(a, &r, g->attn_mask_ids, r.prob);
    be->softmax(rows, g->s1, false, r.prob, r.prob);
    op_copy(be, rows * g->s1, r.prob, r.kept);
    drop_scores(a, r.kept, r.tmp);
    struct psg_gemm pv = { .m = g->t, .n = g->d, .k = g->s1, .alpha = 1 };
    per_head(a, pv, score_like(g, r.kept), by_head(g, r.v, g->s1), by_head(g, r.ctx, g->t),
             r.ctx);
    dense_forward(be, n * g->t, g->e, g->e, r.ctx, a->c->param[g->out_weight],
                  g->bias ? a->c->param[g->out_bias] : NULL, out);
}

/* ---- backward ---- */
/* dk1, dv1 [N, S1, E]: the first S rows are the keys', the next the appended biases' */
static void split_keys(const struct attn *a, const struct room *r)
{
    const struct attn_geom *g = a->g;
    int64_t n = a->c->n, part = g->s * g->e, row = g->s1 * g->e;
    op_copy_rows(a->c->be, n, part, r->dk1, row, r->dk, part);
    op_copy_rows(a->c->be, n, part, r->dv1, row, r->dv, part);
    if (g->bias_kv) {
        op_copy_rows(a->c->be, n, g->e, r->dk1 + part, row, r->dbk, g->e);
        op_copy_rows(a->c->be, n, g->e, r->dv1 + part, row, r->dbv, g->e);
    }
}

void attn_prepare(const struct attn *a, const psg_real *dout)
{
    const struct attn_geom *g = a->g;
    const struct psg_backend *be = a->c->be;
    struct room r = room_of(a);
    int64_t n = a->c->n, rows = n * g->heads * g->t;
    psg_real scale = (psg_real)(1 / sqrt((double)g->d));
    dense_backward(be, n * g->t, g->e, g->e, dout, a->c->param[g->out_weight], 0, r.dctx);
    op_copy(be, rows * g->s1, r.prob, r.kept);
    drop_scores(a, r.kept, r.tmp);
    struct psg_gemm dv = { .trans_a = true, .m = g->s1, .n = g->d, .k = g->t, .alpha = 1 };
    per_head(a, dv, score_like(g, r.kept), by_head(g, r.dctx, g->t),
             by_head(g, r.dv1, g->s1), r.dv1);
    struct psg_gemm dp = { .trans_b = true, .m = g->t, .n = g->s1, .k = g->d, .alpha = 1 };
    per_head(a, dp, by_head(g, r.dctx, g->t), by_head(g, r.v, g->s1), score_like(g, r.ds),
             r.ds);
    drop_scores(a, r.ds, r.tmp);
    be->softmax_bwd(rows, g->s1, false, r.prob, r.ds, r.ds);
    struct psg_gemm dq = { .m = g->t, .n = g->d, .k = g->s1, .alpha = scale };
    per_head(a, dq, score_like(g, r.ds), by_head(g, r.k, g->s1), by_head(g, r.dq, g->t),
             r.dq);
    struct psg_gemm dk = {
        .trans_a = true, .m = g->s1, .n = g->d, .k = g->t, .alpha = scale
    };
    per_head(a, dk, score_like(g, r.ds), by_head(g, r.q, g->t), by_head(g, r.dk1, g->s1),
             r.dk1);
    split_keys(a, &r);
    if (attn_mask_has_grad(g))
        op_copy(be, rows * g->s1, r.ds, r.dmask);
}

void attn_mask_grad(const struct attn *a)
{
    const struct attn_geom *g = a->g;
    const struct psg_backend *be = a->c->be;
    struct room r = room_of(a);
    int64_t n = a->c->n, size = g->t * g->s1;
    if (g->key_mask >= 0 && op_wants_din(a->c, g->key_mask))
        be->fill(n * g->s, 0, a->c->din[g->key_mask]);
    if (g->attn_mask < 0 || !op_wants_din(a->c, g->attn_mask))
        return;
    int64_t heads = g->mask_per_head ? g->heads : 1;
    const psg_real *from = r.dmask;
    if (heads == 1) {
        be->sum_rows(n, g->heads, size, r.dmask, r.mask, size);
        from = r.mask;
    }
    op_copy_rows(be, n * heads * g->t, g->s, from, g->s1, a->c->din[g->attn_mask], g->s);
}

void attn_input_grad(const struct attn *a, int which, double beta, psg_real *dx)
{
    const struct attn_geom *g = a->g;
    struct room r = room_of(a);
    int64_t n = a->c->n, columns[3] = { g->e, g->kdim, g->vdim };
    const psg_real *dy[3] = { r.dq, r.dk, r.dv };
    dense_backward(a->c->be, n * (which ? g->s : g->t), columns[which], g->e, dy[which],
                   a->c->param[g->in_weight[which]] + g->in_at[which], beta, dx);
}

int attn_roles(const struct attn *a, const psg_real *dout, struct role *to)
{
    const struct attn_geom *g = a->g;
    struct room r = room_of(a);
    const psg_real *dy[3] = { r.dq, r.dk, r.dv };
    int64_t e = g->e, columns[3] = { e, g->kdim, g->vdim };
    int n = 0;
    for (int k = 0; k < 3; k++) {
        int64_t rows = k ? g->s : g->t;
        to[n++] = (struct role){ ROLE_DENSE, g->in_weight[k], g->in_at[k], rows, columns[k],
                                 e,          a->x[k],         dy[k] };
        if (g->bias)
            to[n++] =
                (struct role){ ROLE_BIAS, g->in_bias, k * e, rows, 0, e, NULL, dy[k] };
    }
    if (g->bias_kv) {
        to[n++] = (struct role){ ROLE_BIAS, g->bias_k, 0, 1, 0, e, NULL, r.dbk };
        to[n++] = (struct role){ ROLE_BIAS, g->bias_v, 0, 1, 0, e, NULL, r.dbv };
    }
    to[n++] = (struct role){ ROLE_DENSE, g->out_weight, 0, g->t, e, e, r.ctx, dout };
    if (g->bias)
        to[n++] = (struct role){ ROLE_BIAS, g->out_bias, 0, g->t, 0, e, NULL, dout };
    return n;
}
