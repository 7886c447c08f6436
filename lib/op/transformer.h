/* What transformer.c (infer) and transformer_rules.c (rules, lowering) share. */
#ifndef OP_TRANSFORMER_H
#define OP_TRANSFORMER_H

#include "op/attention.h"

enum sub_kind { SUB_SELF, SUB_CROSS, SUB_FEED_FORWARD };
enum { SUBLAYERS_MAX = 3 };

struct sublayer {
    enum sub_kind kind;
    struct attn_geom attn; /* not of the feed forward */
    int norm_w, norm_b;    /* parameter numbers, -1: none */
    /* places in saved, per sample */
    int64_t at_xhat;    /* [T, E] and rstd [T] */
    int64_t at_in;      /* norm_first: what F sees [T, E] */
    int64_t at_out;     /* [T, E] */
    int64_t at_dnorm;   /* gradient behind the norm [T, E] */
    int64_t at_dbranch; /* gradient behind F [T, E] */
    int64_t at_part;    /* attention's room, or linear1's y, f(y), the dropped f(y), their
                         * gradient [4, T, F] */
    int64_t at_random, at_random_part;
};

struct layer_geom {
    int64_t t, e, f;
    enum psg_act act;
    double dropout, eps;
    bool norm_first, bias;
    int n_sub;
    struct sublayer sub[SUBLAYERS_MAX];
    int w1, b1, w2, b2; /* parameter numbers of the feed forward */
    int64_t at_dout;    /* norm_first: gradient of the first sublayer's output, in saved */
    int64_t random;     /* per sample */
    int64_t scratch_rows; /* per sample, before the attention's */
};

void layer_forward(const struct psg_call *c);
void layer_prepare(const struct psg_call *c);
void layer_backward(const struct psg_call *c);
void layer_grad_sample(const struct psg_call *c);
void layer_norm_sample(const struct psg_call *c);
void layer_clipped_sum(const struct psg_call *c);
void layer_lower(struct psg_lower *l);

#endif
