#include <math.h>

#include "op/attention.h"

psg_value attn_drop_lower(struct psg_lower *l, psg_value x, psg_value random, double p)
{
    struct psg_shape shape = op_graph_shape(l, x);
    psg_value keep = psg_g_binary(l->g, PSG_GE, random, psg_g_scalar(l->g, p));
    keep = psg_g_mul(l->g, keep, psg_g_scalar(l->g, p < 1 ? 1 / (1 - p) : 0));
    return psg_g_mul(l->g, x, psg_g_reshape(l->g, keep, &shape));
}

/* elements [from, from + n) of the first axis */
static psg_value rows_from(struct psg_lower *l, psg_value v, int64_t from, int64_t n)
{
    struct psg_shape s = op_graph_shape(l, v);
    int64_t start[PSG_MAX_RANK] = { from }, step[PSG_MAX_RANK], limit[PSG_MAX_RANK];
    for (int i = 0; i < s.rank; i++) {
        step[i] = 1;
        limit[i] = i == 0 ? from + n : s.dim[i];
    }
    return psg_g_slice(l->g, v, start, limit, step);
}

/* x W^T + b, for q, k or v, as heads [rows, H, d] with the appended rows */
static psg_value projected(struct psg_lower *l, const struct attn_geom *g, psg_value x,
                           int which)
{
    psg_value w = l->param[g->in_weight[which]];
    struct psg_dot dims = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    if (g->packed)
        w = rows_from(l, w, which * g->e, g->e);
    psg_value part[3] = { psg_g_dot(l->g, x, w, &dims) };
    int n = 1;
    if (g->bias)
        part[0] = psg_g_add(l->g, part[0],
                            rows_from(l, l->param[g->in_bias], which * g->e, g->e));
    if (which > 0 && g->bias_kv)
        part[n++] = OP_RESHAPE(l, l->param[which == 1 ? g->bias_k : g->bias_v], 1, g->e);
    if (which > 0 && g->zero_attn)
        part[n++] = op_g_full(l, 2, (const int64_t[]){ 1, g->e }, 0);
    psg_value all = n > 1 ? psg_g_concat(l->g, part, n, 0) : part[0];
    return OP_RESHAPE(l, all, which ? g->s1 : g->t, g->heads, g->d);
}

/* v [..., S] -> [..., S1], zeros for the appended keys */
static psg_value widen(struct psg_lower *l, const struct attn_geom *g, psg_value v)
{
    int64_t lo[3] = { 0 }, hi[3] = { 0 }, interior[3] = { 0 };
    hi[op_graph_shape(l, v).rank - 1] = g->s1 - g->s;
    return psg_g_pad(l->g, v, lo, hi, interior, 0);
}

static psg_value mask_value(struct psg_lower *l, int slot, bool ids)
{
    return ids ? psg_g_convert(l->g, l->in[slot]) : l->in[slot];
}

/* scores [H, T, S1] with -inf where a mask says so */
static psg_value masked(struct psg_lower *l, const struct attn_geom *g, psg_value scores)
{
    psg_value zero = psg_g_scalar(l->g, 0), gone = psg_g_scalar(l->g, -INFINITY);
    if (g->causal) {
        struct psg_shape shape = PSG_SHAPE(g->t, g->s1);
        psg_value j = psg_g_iota(l->g, &shape, 1), i = psg_g_iota(l->g, &shape, 0);
        psg_value later =
            psg_g_mul(l->g, psg_g_binary(l->g, PSG_GT, j, i),
                      psg_g_binary(l->g, PSG_LT, j, psg_g_scalar(l->g, (double)g->s)));
        scores = psg_g_select(l->g, later, gone, scores);
    }
    if (g->key_mask >= 0) {
        psg_value m = mask_value(l, g->key_mask, g->key_mask_ids);
        m = widen(l, g, psg_g_binary(l->g, PSG_NE, m, zero));
        scores = psg_g_select(l->g, m, gone, scores);
    }
    if (g->attn_mask >= 0 && g->attn_mask_ids) {
        psg_value m = mask_value(l, g->attn_mask, true);
        m = widen(l, g, psg_g_binary(l->g, PSG_NE, m, zero));
        scores = psg_g_select(l->g, m, gone, scores);
    } else if (g->attn_mask >= 0) {
        scores = psg_g_add(l->g, scores, widen(l, g, l->in[g->attn_mask]));
    }
    return scores;
}

psg_value attn_lower(struct psg_lower *l, const struct attn_geom *g, const psg_value x[3],
                     psg_value random)
{
    psg_value q = projected(l, g, x[0], 0), k = projected(l, g, x[1], 1);
    psg_value v = projected(l, g, x[2], 2);
    struct psg_dot qk = { .n_batch = 1,
                          .batch_a = { 1 },
                          .batch_b = { 1 },
                          .n_contract = 1,
                          .contract_a = { 2 },
                          .contract_b = { 2 } };
    psg_value scores = psg_g_mul(l->g, psg_g_dot(l->g, q, k, &qk),
                                 psg_g_scalar(l->g, 1 / sqrt((double)g->d)));
    psg_value prob = op_g_softmax(l, masked(l, g, scores), 2, false);
    if (l->training && g->dropout > 0)
        prob = attn_drop_lower(l, prob, random, g->dropout);
    struct psg_dot pv = { .n_batch = 1,
                          .batch_a = { 0 },
                          .batch_b = { 1 },
                          .n_contract = 1,
                          .contract_a = { 2 },
                          .contract_b = { 0 } };
    psg_value ctx =
        psg_g_transpose(l->g, psg_g_dot(l->g, prob, v, &pv), (const int[]){ 1, 0, 2 });
    struct psg_dot out = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    psg_value y =
        psg_g_dot(l->g, OP_RESHAPE(l, ctx, g->t, g->e), l->param[g->out_weight], &out);
    return g->bias ? psg_g_add(l->g, y, l->param[g->out_bias]) : y;
}
