/* Attention, written out in products and a softmax; the fused operators of PyTorch's fast paths. */
#include <math.h>
#include <string.h>

#include "import/run.h"

/* Scores where the mask is true, -inf elsewhere; a mask of numbers is added. */
static int apply_mask(struct im_run *r, struct im_tensor **scores, struct im_tensor *mask,
                      bool keep_true)
{
    if (mask->type != IM_BOOLEAN)
        return im_binary(r, PSG_ADD, *scores, mask, scores);
    struct im_tensor *low = im_tensor_number(r, IM_FLOAT, -(double)INFINITY);
    if (!low)
        return im_no_memory(r);
    struct im_value s = im_tensor_value(*scores), n = im_tensor_value(low);
    const struct im_value args[] = { im_tensor_value(mask), keep_true ? s : n,
                                     keep_true ? n : s };
    struct im_value v;
    int status = im_find_op("torch.where")->fn(r, args, &v);
    if (!status)
        *scores = v.tensor;
    return status;
}

static struct im_tensor *causal_mask(struct im_run *r, int64_t rows, int64_t columns)
{
    double *m = rows * columns > 1 << 24
                    ? NULL
                    : im_pool_array(r->pool, (size_t)(rows * columns), sizeof *m);
    for (int64_t i = 0; m && i < rows * columns; i++)
        m[i] = i % columns <= i / columns;
    return m ? im_tensor_data(r, IM_BOOLEAN, &PSG_SHAPE(rows, columns), m) : NULL;
}

struct attention {
    struct im_tensor *q, *k, *v, *mask;
    bool causal, training;
    double dropout, scale; /* scale 0: 1 / sqrt(E) */
};

/* softmax(q kᵀ scale + mask) v */
static int attend(struct im_run *r, const struct attention *a, struct im_tensor **out)
{
    struct im_tensor *kt = NULL, *s = NULL;
    int status, rank = a->q->rank;
    if (rank < 2 || a->k->rank < 2)
        return im_fail(r, PSG_E_SHAPE, "needs [..., time, features]");
    double scale = a->scale != 0 ? a->scale : 1 / sqrt((double)a->q->dim[rank - 1]);
    struct im_tensor *f = im_tensor_number(r, IM_FLOAT, scale);
    if (!f)
        return im_no_memory(r);
    if ((status = im_swap_axes(r, a->k, a->k->rank - 2, a->k->rank - 1, &kt)) ||
        (status = im_matmul(r, a->q, kt, &s)) || (status = im_binary(r, PSG_MUL, s, f, &s)))
        return status;
    if (a->causal) {
        struct im_tensor *m = causal_mask(r, s->dim[s->rank - 2], s->dim[s->rank - 1]);
        status = m ? apply_mask(r, &s, m, true) : im_no_memory(r);
    }
    if (!status && a->mask)
        status = apply_mask(r, &s, a->mask, true);
    if (!status)
        status = im_softmax(r, s, s->rank - 1, false, &s);
    if (!status)
        status = im_dropout(r, s, a->dropout, a->training, &s);
    return status ? status : im_matmul(r, s, a->v, out);
}

/* scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale) */
static int op_sdpa(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct attention t = { .training = true };
    struct im_tensor *y = NULL;
    int status = im_arg_tensor(r, &a[0], &t.q);
    if (!status)
        status = im_arg_tensor(r, &a[1], &t.k);
    if (!status)
        status = im_arg_tensor(r, &a[2], &t.v);
    if (!status && im_given(&a[3]))
        status = im_arg_tensor(r, &a[3], &t.mask);
    if (!status)
        status = im_arg_real(r, &a[4], 0, &t.dropout);
    if (!status)
        status = im_arg_bool(r, &a[5], false, &t.causal);
    if (!status)
        status = im_arg_real(r, &a[6], 0, &t.scale);
    if (!status)
        status = attend(r, &t, &y);
    return status ? status : im_set(r, y, out);
}

/* [B, T, E] -> [B, heads, T, E / heads] */
static int split_heads(struct im_run *r, struct im_tensor *x, int64_t heads,
                       struct im_tensor **out)
{
    const struct im_size four[] = {
        { 1, 1 }, { x->dim[1], 0 }, { heads, 0 }, { x->dim[2] / heads, 0 }
    };
    int status = im_reshape(r, x, four, 4, out);
    return status ? status : im_swap_axes(r, *out, 1, 2, out);
}

struct self_attention {
    int64_t heads;
    struct im_tensor *w_in, *b_in, *w_out, *b_out, *mask;
    int64_t mask_type; /* 0: of scores, 1: of keys; true leaves out */
};

static int self_attend(struct im_run *r, const struct self_attention *a,
                       struct im_tensor *x, struct im_tensor **out)
{
    struct im_tensor *all, *part[3], *y;
    int status;
    if (x->rank != 3 || x->batch != 0 || !im_pure_batch(x) || a->heads < 1 ||
        x->dim[2] % a->heads)
        return im_fail(r, PSG_E_SHAPE,
                       "needs [batch, time, features] and heads that divide it");
    if ((status = im_linear(r, x, a->w_in, a->b_in, &all)))
        return status;
    int64_t e = x->dim[2];
    for (int i = 0; i < 3; i++)
        if ((status = im_slice(r, all, 2, i * e, (i + 1) * e, 1, &part[i])) ||
            (status = split_heads(r, part[i], a->heads, &part[i])))
            return status;
    struct attention t = { .q = part[0], .k = part[1], .v = part[2] };
    if (a->mask) {
        struct im_tensor *m = im_tensor_copy(r, a->mask);
        struct im_value v, zero = im_int(0);
        if (!m)
            return im_no_memory(r);
        if (a->mask_type == 1) { /* [B, T] -> [B, 1, 1, T] */
            im_add_axis(m, 1);
            im_add_axis(m, 1);
        }
        const struct im_value args[] = { im_tensor_value(m), zero };
        if (m->type == IM_BOOLEAN) {
            if ((status = im_find_op("torch.eq")->fn(r, args, &v)))
                return status;
            m = v.tensor;
        }
        t.mask = m;
    }
    const struct im_size three[] = { { 1, 1 }, { x->dim[1], 0 }, { e, 0 } };
    if ((status = attend(r, &t, &y)) || (status = im_swap_axes(r, y, 1, 2, &y)) ||
        (status = im_reshape(r, y, three, 3, &y)))
        return status;
    return im_linear(r, y, a->w_out, a->b_out, out);
}

static int tensors(struct im_run *r, const struct im_value *a, struct im_tensor **t, int n)
{
    int status = 0;
    for (int i = 0; i < n && !status; i++)
        status = im_arg_tensor(r, &a[i], &t[i]);
    return status;
}

/* _native_multi_head_attention(query, key, value, embed_dim, num_heads, w_in, b_in, w_out, b_out,
 * mask, need_weights, average, mask_type) */
static int op_native_mha(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct self_attention s = { 0 };
    struct im_tensor *x[3], *w[4], *y = NULL;
    int status = tensors(r, a, x, 3);
    if (!status)
        status = im_arg_int(r, &a[4], 1, &s.heads);
    if (!status)
        status = tensors(r, &a[5], w, 4);
    if (!status && im_given(&a[9]))
        status = im_arg_tensor(r, &a[9], &s.mask);
    if (!status)
        status = im_arg_int(r, &a[12], 0, &s.mask_type);
    if (status)
        return status;
    if (x[0] != x[1] || x[1] != x[2])
        return im_fail(r, PSG_E_UNSUPPORTED, "three different inputs");
    s.w_in = w[0];
    s.b_in = w[1];
    s.w_out = w[2];
    s.b_out = w[3];
    if ((status = self_attend(r, &s, x[0], &y)))
        return status;
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, im_tensor_value(y)) ||
        im_list_push(r->pool, out->list, (struct im_value){ .kind = IM_UNKNOWN }))
        return im_no_memory(r);
    return 0;
}

/* _transformer_encoder_layer_fwd(src, embed_dim, num_heads, w_in, b_in, w_out, b_out, use_gelu,
 * norm_first, eps, w_norm1, b_norm1, w_norm2, b_norm2, w1, b1, w2, b2, mask, mask_type) */
static int op_encoder_layer(struct im_run *r, const struct im_value *a,
                            struct im_value *out)
{
    struct self_attention s = { 0 };
    struct im_tensor *x, *w[4], *norm[4], *ffn[4], *y;
    bool gelu, first;
    double eps;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_int(r, &a[2], 1, &s.heads);
    if (!status)
        status = tensors(r, &a[3], w, 4);
    if (!status)
        status = im_arg_bool(r, &a[7], false, &gelu);
    if (!status)
        status = im_arg_bool(r, &a[8], false, &first);
    if (!status)
        status = im_arg_real(r, &a[9], 1e-5, &eps);
    if (!status)
        status = tensors(r, &a[10], norm, 4);
    if (!status)
        status = tensors(r, &a[14], ffn, 4);
    if (!status && im_given(&a[18]))
        status = im_arg_tensor(r, &a[18], &s.mask);
    if (!status)
        status = im_arg_int(r, &a[19], 0, &s.mask_type);
    if (status)
        return status;
    s.w_in = w[0];
    s.b_in = w[1];
    s.w_out = w[2];
    s.b_out = w[3];
    y = x;
    if (first)
        status = im_layer_norm(r, x, 1, norm[0], norm[1], eps, &y);
    if (!status)
        status = self_attend(r, &s, y, &y);
    if (!status)
        status = im_binary(r, PSG_ADD, x, y, &x);
    if (!status && !first)
        status = im_layer_norm(r, x, 1, norm[0], norm[1], eps, &x);
    y = x;
    if (!status && first)
        status = im_layer_norm(r, x, 1, norm[2], norm[3], eps, &y);
    if (!status)
        status = im_linear(r, y, ffn[0], ffn[1], &y);
    if (!status)
        status = im_activation(r, gelu ? "gelu" : "relu", y, &y);
    if (!status)
        status = im_linear(r, y, ffn[2], ffn[3], &y);
    if (!status)
        status = im_binary(r, PSG_ADD, x, y, &x);
    if (!status && !first)
        status = im_layer_norm(r, x, 1, norm[2], norm[3], eps, &x);
    return status ? status : im_set(r, x, out);
}

const struct im_op im_ops_attention[] = {
    { "scaled_dot_product_attention",
      "query key value attn_mask dropout_p is_causal scale enable_gqa", op_sdpa },
    { "_native_multi_head_attention",
      "query key value embed_dim num_head qkv_weight qkv_bias proj_weight proj_bias mask "
      "need_weights average_attn_weights mask_type",
      op_native_mha },
    { "_transformer_encoder_layer_fwd",
      "src embed_dim num_heads qkv_weight qkv_bias proj_weight proj_bias use_gelu "
      "norm_first eps "
      "norm_weight_1 norm_bias_1 norm_weight_2 norm_bias_2 ffn_weight_1 ffn_bias_1 "
      "ffn_weight_2 "
      "ffn_bias_2 mask mask_type",
      op_encoder_layer },
    { NULL, NULL, NULL },
};
