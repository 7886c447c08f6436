/* Multi-head attention as a part of layer functions: multihead_attention itself and the
 * transformer layers. Formulas: multihead_attention.c.
 *
 * Letters: T queries, S keys, S1 = S + appended keys, E embed_dim, H heads, d = E / H. */
#ifndef OP_ATTENTION_H
#define OP_ATTENTION_H

#include "op/role.h"

struct attn_geom {
    int64_t t, s, s1, e, heads, d, kdim, vdim;
    bool packed; /* one in_proj_weight; else one weight for each of q, k, v */
    bool bias, bias_kv, zero_attn, causal;
    double dropout;
    /* parameter numbers, -1: none. The weight of q, k, v starts at in_at */
    int in_weight[3], in_bias, bias_k, bias_v, out_weight, out_bias;
    int64_t in_at[3];
    int n_qkv; /* inputs that q, k and v are: 3 or 1 */
    /* masks, as input slots of the node, or -1 */
    int key_mask, attn_mask;
    bool key_mask_ids, attn_mask_ids, mask_per_head;
    /* places in saved, scratch and random, per sample, from what the node gives this part
     */
    int64_t at_q, at_k, at_v, at_prob, at_ctx, at_dq, at_dk, at_dv, at_dbk, at_dbv,
        at_dmask, saved;
    int64_t scratch, scratch_fixed, random;
};

enum { ATTN_ROLES_MAX = 10 };

/* Where one call has this part's room and inputs. */
struct attn {
    const struct psg_call *c;
    const struct attn_geom *g;
    psg_real *saved, *scratch;
    const psg_real *random; /* first sample; rows random_stride apart */
    int64_t random_stride;
    const psg_real *x[3]; /* q [N, T, E], k [N, S, kdim], v [N, S, vdim] */
};

/* Sizes, masks and flags are set; checks them, declares parameters called prefix +
 * PyTorch's name, lays out the room. */
int attn_infer(struct psg_infer *c, struct attn_geom *g, const char *prefix);
/* The masks among inputs `from` on: key_padding_mask [S] (nonzero: leave out) and attn_mask
 * [T, S] or [H, T, S] (int64: nonzero leaves out; real: added to the scores). */
int attn_read_masks(struct psg_infer *c, struct attn_geom *g, int from);
/* out [N, T, E] */
void attn_forward(const struct attn *a, psg_real *out);
/* From dout [N, T, E]: what input and weight gradients are made of, into saved. */
void attn_prepare(const struct attn *a, const psg_real *dout);
/* After attn_prepare: dx = gradient of x[which] + beta * dx */
void attn_input_grad(const struct attn *a, int which, double beta, psg_real *dx);
/* After attn_prepare: din of the masks; of an additive one the scores' gradient, summed
 * over heads where it has none, of the others zero. */
void attn_mask_grad(const struct attn *a);
/* Roles of the parameters; after attn_prepare. Returns their number. */
int attn_roles(const struct attn *a, const psg_real *dout, struct role *r);
/* The same as primitives; random [attn random], or PSG_NONE. */
psg_value attn_lower(struct psg_lower *l, const struct attn_geom *g, const psg_value x[3],
                     psg_value random);
/* x [N, size] times a dropout mask of (random >= p) / (1 - p); tmp [n * size] + 1 */
void attn_drop(const struct psg_backend *be, int64_t n, int64_t size,
               const psg_real *random, int64_t random_stride, double p, psg_real *x,
               psg_real *tmp);
psg_value attn_drop_lower(struct psg_lower *l, psg_value x, psg_value random, double p);

#endif
