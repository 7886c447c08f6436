/* embedding_bag: one vector per sample out of the rows of its tokens.
 *
 *   ids int64 [N, L], weight [V, D], y [N, D]
 *   sum   y = sum_i m_i s_i weight[id_i]        s per_sample_weights (1)
 *   mean  y = sum_i m_i weight[id_i] / max(1, sum_i m_i)
 *   max   y_d = max over i with m_i of weight[id_i, d]; 0 for an empty bag
 *   m_i = (id_i != padding_idx) and (i < length).
 *
 * Further inputs, in any order: lengths (int64 scalar) and per_sample_weights (real [L],
 * sum only). Each token's share of dy, dtok[n, i, D], is what the rules are made of:
 *   dweight[n, v] = sum over i with id_i = v of dtok[n, i], ds_i = m_i dy . weight[id_i]
 *   sum, mean: dtok = a_i dy with a_i the factor above; max: dy_d goes to the first
 *   maximum. */
#include <math.h>

#include "op/common.h"
#include "op/ops.h"

enum mode { SUM, MEAN, MAX };

struct geom {
    enum mode mode;
    int64_t length, rows, dim; /* L, V, D */
    int64_t padding;           /* -1: none */
    int lengths, weights;      /* input slots, or -1 */
};

static const struct psg_attr_spec attrs[] = {
    { "num_embeddings", PSG_ATTR_INT, "required" },
    { "embedding_dim", PSG_ATTR_INT, "required" },
    { "mode", PSG_ATTR_STRING, "mean; or sum, max" },
    { "padding_idx", PSG_ATTR_INT,
      "none; tokens that are left out, negative counts from the end" },
    { "max_norm", PSG_ATTR_REAL, "refused: it rewrites the table from the samples' ids" },
    { "scale_grad_by_freq", PSG_ATTR_BOOL,
      "false; true is refused, it counts over the batch" },
    { "sparse", PSG_ATTR_BOOL, "no effect" },
    { "lengths", PSG_ATTR_BOOL,
      "checked when given: whether lengths are among the inputs" },
    { "per_sample_weights", PSG_ATTR_BOOL, "checked when given: whether they are" },
    { NULL, 0, NULL },
};

static int read_inputs(struct psg_infer *c, struct geom *g)
{
    const struct psg_shape *ids = &c->in[0].shape;
    g->lengths = g->weights = -1;
    if (!op_need_dtype(c, 0, PSG_I64, "ids"))
        return psg_infer_status(c);
    if (ids->rank != 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the ids of a sample must have 1 axis");
    g->length = ids->dim[0];
    if (g->length < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a bag needs room for at least one token");
    for (int k = 1; k < c->n_in; k++) {
        bool is_length = c->in[k].dtype == PSG_I64 && psg_shape_size(&c->in[k].shape) == 1;
        bool is_weights =
            c->in[k].dtype == PSG_REAL && psg_shape_equal(&c->in[k].shape, ids);
        if (is_length && g->lengths < 0)
            g->lengths = k;
        else if (is_weights && g->weights < 0)
            g->weights = k;
        else
            return psg_infer_fail(
                c, PSG_E_SHAPE, NULL,
                "input %d is neither a length (one int64) nor a real weight "
                "per token",
                k);
    }
    op_check_input_flag(c, "lengths", g->lengths > 0);
    op_check_input_flag(c, "per_sample_weights", g->weights > 0);
    if (g->lengths > 0)
        psg_infer_index_range(c, g->lengths, 0, g->length + 1);
    return 0;
}

static int embedding_bag_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    if (read_inputs(c, g) || psg_infer_status(c))
        return psg_infer_status(c);
    if (psg_infer_has(c, "max_norm"))
        return psg_infer_fail(
            c, PSG_E_UNSUPPORTED, "max_norm",
            "max_norm rewrites table rows from the ids of a batch, outside of "
            "the gradient; leave it out and use weight_decay");
    if (psg_infer_bool(c, "scale_grad_by_freq", false))
        return psg_infer_fail(
            c, PSG_E_UNSUPPORTED, "scale_grad_by_freq",
            "scale_grad_by_freq counts ids over the batch, which mixes samples");
    g->mode = (enum mode)psg_infer_choice(c, "mode", "mean", "sum|mean|max");
    if (g->weights > 0 && g->mode != SUM)
        return psg_infer_fail(c, PSG_E_INVALID, "mode",
                              "per_sample_weights need mode \"sum\", as in PyTorch");
    g->rows = psg_infer_int_required(c, "num_embeddings", 1, INT64_MAX);
    g->dim = psg_infer_int_required(c, "embedding_dim", 1, INT64_MAX);
    g->padding = -1;
    if (psg_infer_has(c, "padding_idx")) {
        int64_t v = psg_infer_int(c, "padding_idx", 0, -g->rows, g->rows - 1);
        g->padding = v < 0 ? v + g->rows : v;
        if (g->rows > 1 << 24)
            psg_infer_fail(c, PSG_E_UNSUPPORTED, "padding_idx",
                           "padding_idx needs num_embeddings up to 2^24");
    }
    op_param(c, "weight", PSG_SHAPE(g->rows, g->dim),
             (struct psg_init){ PSG_INIT_NORMAL, 1, g->padding + 1 });
    op_out(c, PSG_SHAPE(g->dim));
    psg_infer_index_range(c, 0, 0, g->rows);
    int64_t tokens = OP_PROD(c, g->length, g->dim);
    /* saved: factors [N, L]; slots [N, L] and positions of maxima [N, D] */
    psg_infer_save(c, g->length, g->length + g->dim);
    psg_infer_scratch(c, 1 + g->length, OP_PROD(c, 2, tokens) + g->length + 1);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static int64_t *slots_of(const struct psg_call *c)
{
    return c->saved_i64;
}

static int64_t *maxima_of(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    return c->saved_i64 + c->n * g->length;
}

/* scratch: a number, 0 1 2 .. [L], then two [N, L, D] and a tail of [N, L + 1] */
static psg_real *tokens_of(const struct psg_call *c, int which)
{
    const struct geom *g = c->geom;
    return c->scratch + 1 + g->length + which * c->n * g->length * g->dim;
}

static psg_real *tail_of(const struct psg_call *c)
{
    return tokens_of(c, 2);
}

/* m [N, L], and the slot of each token that counts by its id */
static void fill_mask(const struct psg_call *c, psg_real *mask)
{
    const struct geom *g = c->geom;
    int64_t tokens = c->n * g->length;
    psg_real *number = c->scratch, *steps = number + 1, *length = tail_of(c);
    psg_real *inside = length + c->n;
    c->be->merge_ids(c->n, g->length, g->rows, g->padding, op_ids(c, 0), slots_of(c));
    c->be->convert(tokens, slots_of(c), mask);
    c->be->fill(1, 0, number);
    op_binary_scalar(c->be, PSG_GE, tokens, mask, number, mask);
    if (g->lengths < 0)
        return;
    op_iota(c->be, g->length, steps, number);
    c->be->convert(c->n, op_ids(c, g->lengths), length);
    struct psg_shape shape = PSG_SHAPE(c->n, g->length);
    c->be->binary(PSG_LT, &shape, steps, (const int64_t[]){ 0, 1 }, length,
                  (const int64_t[]){ 1, 0 }, inside);
    op_binary(c->be, PSG_MUL, tokens, mask, inside, mask);
}

/* the mask becomes the factors of sum or mean */
static void fill_factors(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    psg_real *factor = c->saved, *number = c->scratch, *count = tail_of(c);
    if (g->mode == SUM && g->weights > 0)
        op_binary(c->be, PSG_MUL, c->n * g->length, factor, op_in(c, g->weights), factor);
    if (g->mode != MEAN)
        return;
    c->be->sum_rows(c->n, g->length, 1, factor, count, 1);
    c->be->fill(1, 1, number);
    op_binary_scalar(c->be, PSG_MAX, c->n, count, number, count);
    op_binary_rows(c->be, PSG_DIV, c->n, g->length, factor, count, factor);
}

/* one window over all tokens */
static struct psg_window all_tokens(const struct geom *g)
{
    return (struct psg_window){ .rank = 1,
                                .in = { g->length },
                                .kernel = { g->length },
                                .out = { 1 },
                                .stride = { 1 },
                                .dilation = { 1 } };
}

/* y by the first largest token that counts; tokens 0 hold table rows */
static void max_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_window w = all_tokens(g);
    int64_t tokens = c->n * g->length, cells = c->n * g->dim;
    psg_real *tok = tokens_of(c, 0), *other = tokens_of(c, 1), *tail = tail_of(c);
    /* log m is 0 or -inf */
    c->be->unary(PSG_LOG, tokens, c->saved, tail);
    op_binary_rows(c->be, PSG_ADD, tokens, g->dim, tok, tail, other);
    op_swap(c->be, c->n, g->length, g->dim, other, tok);
    c->be->max_pool(&w, cells, tok, c->out[0], maxima_of(c));
    /* an empty bag gave -inf, and becomes 0 */
    c->be->sum_rows(c->n, g->length, 1, c->saved, tail, 1);
    c->be->fill(cells, 0, tok);
    op_binary_rows(c->be, PSG_ADD, c->n, g->dim, tok, tail, other);
    c->be->select(cells, other, c->out[0], tok, c->out[0]);
}

static void embedding_bag_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    psg_real *tok = tokens_of(c, 0);
    fill_mask(c, c->saved);
    fill_factors(c);
    c->be->gather(1, c->n * g->length, g->rows, g->dim, c->param[0], 0, op_ids(c, 0), tok);
    if (g->mode == MAX) {
        max_forward(c);
        return;
    }
    struct psg_gemm m = { .m = 1,
                          .n = g->dim,
                          .k = g->length,
                          .lda = g->length,
                          .ldb = g->dim,
                          .ldc = g->dim,
                          .alpha = 1 };
    c->be->gemm_batched(&m, c->n, c->saved, g->length, tok, g->length * g->dim, c->out[0],
                        g->dim);
}

static void embedding_bag_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (g->weights < 0 || !op_wants_din(c, g->weights))
        return;
    psg_real *tok = tokens_of(c, 0), *mask = tokens_of(c, 1), *ds = c->din[g->weights];
    c->be->gather(1, c->n * g->length, g->rows, g->dim, c->param[0], 0, op_ids(c, 0), tok);
    struct psg_gemm m = {
        .m = g->length, .n = 1, .k = g->dim, .lda = g->dim, .ldb = 1, .ldc = 1, .alpha = 1
    };
    c->be->gemm_batched(&m, c->n, tok, g->length * g->dim, c->dout[0], g->dim, ds,
                        g->length);
    /* m, not the factors, which hold s */
    fill_mask(c, mask);
    op_binary(c->be, PSG_MUL, c->n * g->length, ds, mask, ds);
}

/* dtok [N, L, D]; tmp as large */
static void token_grads(const struct psg_call *c, psg_real *dtok, psg_real *tmp)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(c->n, g->length, g->dim);
    const int64_t by_token[3] = { g->length, 1, 0 };
    if (g->mode != MAX) {
        c->be->binary(PSG_MUL, &shape, c->saved, by_token, c->dout[0],
                      (const int64_t[]){ g->dim, 0, 1 }, dtok);
        return;
    }
    struct psg_window w = all_tokens(g);
    c->be->max_pool_bwd(&w, c->n * g->dim, c->dout[0], maxima_of(c), tmp);
    op_swap(c->be, c->n, g->dim, g->length, tmp, dtok);
    /* an empty bag has no maximum to blame */
    c->be->binary(PSG_MUL, &shape, dtok, (const int64_t[]){ g->length * g->dim, g->dim, 1 },
                  c->saved, by_token, dtok);
}

static void embedding_bag_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    psg_real *dtok = tokens_of(c, 0), *tmp = tokens_of(c, 1);
    if (!c->grad[0])
        return;
    token_grads(c, dtok, tmp);
    for (int64_t n = 0; n < c->n; n++)
        c->be->fill(g->rows * g->dim, 0, c->grad[0] + n * c->grad_stride);
    c->be->scatter_add(c->n, g->length, g->rows, g->dim, op_ids(c, 0), dtok, c->grad[0],
                       c->grad_stride);
}

static void embedding_bag_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t size = g->length * g->dim;
    psg_real *dtok = tokens_of(c, 0), *merged = tokens_of(c, 1);
    if (!c->use[0])
        return;
    token_grads(c, dtok, merged);
    c->be->fill(c->n * size, 0, merged);
    c->be->scatter_add(c->n, g->length, g->length, g->dim, slots_of(c), dtok, merged, size);
    c->be->add_sqnorm(c->n, size, merged, size, c->sq);
}

static void embedding_bag_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t size = g->length * g->dim;
    psg_real *dtok = tokens_of(c, 0), *weighted = tokens_of(c, 1);
    if (!c->sum[0])
        return;
    token_grads(c, dtok, weighted);
    op_scale_rows(c->be, c->n, size, c->weight, dtok, weighted);
    c->be->scatter_add(1, c->n * g->length, g->rows, g->dim, op_ids(c, 0), weighted,
                       c->sum[0], 0);
}

static psg_value lower_mask(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    int64_t dim[1] = { g->length };
    struct psg_shape shape = psg_shape_make(1, dim);
    psg_value mask = psg_g_full(l->g, &shape, 1);
    if (g->padding >= 0)
        mask = psg_g_binary(l->g, PSG_NE, psg_g_convert(l->g, l->in[0]),
                            psg_g_scalar(l->g, (double)g->padding));
    if (g->lengths >= 0) {
        psg_value n = psg_g_convert(l->g, OP_RESHAPE(l, l->in[g->lengths], 1));
        mask = psg_g_mul(l->g, mask,
                         psg_g_binary(l->g, PSG_LT, psg_g_iota(l->g, &shape, 0), n));
    }
    return mask;
}

static void embedding_bag_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value mask = lower_mask(l), tok = psg_g_gather(l->g, l->param[0], l->in[0], 0);
    psg_value count = psg_g_sum(l->g, mask, 1u), column = OP_RESHAPE(l, mask, g->length, 1);
    psg_value zero = psg_g_scalar(l->g, 0);
    if (g->mode == MAX) {
        psg_value kept = psg_g_select(l->g, column, tok, psg_g_scalar(l->g, -INFINITY));
        l->out[0] = psg_g_select(l->g, count, op_g_max_first(l, kept, 0), zero);
        return;
    }
    if (g->weights >= 0)
        column = psg_g_mul(l->g, column, OP_RESHAPE(l, l->in[g->weights], g->length, 1));
    psg_value y = psg_g_sum(l->g, psg_g_mul(l->g, tok, column), 1u);
    if (g->mode == MEAN)
        y = psg_g_div(l->g, y, psg_g_binary(l->g, PSG_MAX, count, psg_g_scalar(l->g, 1)));
    l->out[0] = y;
}

static const struct psg_op_case cases[] = {
    { "num_embeddings=4 embedding_dim=3 mode=sum", "i64<4:6" },
    { "num_embeddings=4 embedding_dim=3 mode=mean padding_idx=1", "i64<4:6" },
    { "num_embeddings=3 embedding_dim=2 mode=max padding_idx=-1", "i64<3:5" },
    { "num_embeddings=3 embedding_dim=4 mode=sum padding_idx=0", "i64<3:5 5" },
    { "num_embeddings=5 embedding_dim=2 mode=mean", "i64<5:4 i64<5:-" },
    { "num_embeddings=2 embedding_dim=2 mode=max padding_idx=0", "i64<2:2 i64<3:1" },
    { "num_embeddings=3 embedding_dim=2 mode=sum", "i64<3:4 4 i64<5:-" },
    { NULL, NULL },
};

static const char *const inputs[] = { "ids", "lengths or per_sample_weights",
                                      "lengths or per_sample_weights", NULL };

const struct psg_op layer_embedding_bag = {
    .name = "embedding_bag",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 3,
    .geom_size = sizeof(struct geom),
    .infer = embedding_bag_infer,
    .forward = embedding_bag_forward,
    .backward = embedding_bag_backward,
    .grad_sample = embedding_bag_grad_sample,
    .norm_sample = embedding_bag_norm_sample,
    .clipped_sum = embedding_bag_clipped_sum,
    .lower = embedding_bag_lower,
    .cases = cases,
};
