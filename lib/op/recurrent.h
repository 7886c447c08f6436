/* rnn_tanh, rnn_relu, gru, lstm: the parts that recurrent.c (infer), recurrent_rules.c
 * (layers and rules), recurrent_cell.c (steps) and recurrent_lower.c (primitives) share.
 * Formulas: recurrent.c.
 *
 * A unit is one direction of one layer. Inside, time comes first, so that a step of the
 * whole tile is one block: h [T, N, Ho], c [T, N, H], gates [G, T, N, H]. What weight
 * gradients are made of is sample-major: [N, T, G H], so that each is one product per
 * sample over all T. */
#ifndef OP_RECURRENT_H
#define OP_RECURRENT_H

#include "op/dense.h"

enum cell { RNN_TANH, RNN_RELU, GRU, LSTM };
enum rnn_return { RETURN_SEQUENCE, RETURN_LAST_HIDDEN, RETURN_ALL };
enum { RNN_LAYERS_MAX = 16, RNN_BLOCKS = 8 };

struct rnn_geom {
    enum cell cell;
    enum rnn_return ret;
    int gates;           /* G */
    int64_t t, i, h, ho; /* T, input, hidden, output (projected) size */
    int layers, dirs;
    bool bias, proj;
    double dropout;
    int lengths, h0, c0; /* input slots, or -1 */
    /* places in saved, per sample */
    int64_t at_mask, at_xin, at_units, unit_size;
    /* places in a unit, per sample */
    int64_t at_gates, at_extra, at_h, at_raw, at_dgi, at_dgh, at_hp, at_raw_sm, at_dproj;
};

/* Buffers of one unit in one call. */
struct rnn_unit {
    const struct psg_call *c;
    const struct rnn_geom *g;
    int layer, dir, first_param;
    int64_t in;           /* length of its input rows */
    psg_real *gates;      /* [G, T, N, H], activated */
    psg_real *extra;      /* lstm: c [T, N, H]; gru: W_hn h + b_hn [T, N, H] */
    psg_real *h;          /* [T, N, Ho] */
    psg_real *raw;        /* projections: h before it [T, N, H]; else h */
    psg_real *dgi, *dgh;  /* [N, T, G H]: at the input's and at the recurrent product */
    psg_real *hp;         /* [N, T, Ho]: the h that entered each step */
    psg_real *raw_sm;     /* projections: raw as [N, T, H] */
    psg_real *dproj;      /* projections: gradient behind it [N, T, Ho] */
    const psg_real *mask; /* [T, N] 1 within the length; NULL: no lengths */
    psg_real *block[RNN_BLOCKS]; /* scratch [N, max(H, Ho)] */
};

static inline const psg_real *rnn_param(const struct rnn_unit *u, int k)
{
    return u->c->param[u->first_param + k];
}

/* numbers of a unit's parameters: weight_ih, weight_hh, bias_ih, bias_hh, weight_hr */
static inline int rnn_w_hr(const struct rnn_geom *g)
{
    return g->bias ? 4 : 2;
}

static inline int rnn_n_param(const struct rnn_geom *g)
{
    return 2 + 2 * g->bias + g->proj;
}

/* Position of step s in time. */
static inline int64_t rnn_time(const struct rnn_unit *u, int64_t s)
{
    return u->dir ? u->g->t - 1 - s : s;
}

/* xt [T, N, in]; h0 [N, Ho] and c0 [N, H] may be NULL (zero). */
void rnn_unit_forward(const struct rnn_unit *u, const psg_real *xt, const psg_real *h0,
                      const psg_real *c0);
/* dhs [T, N, Ho]: gradient of h from outside; dh [N, Ho] and dc [N, H] hold the gradient of
 * the last states and become that of the first. dg, dgn: scratch [G, T, N, H] and [T, N,
 * H]. Fills dgi, dgh, hp, raw_sm, dproj. */
void rnn_unit_backward(const struct rnn_unit *u, const psg_real *dhs, const psg_real *h0,
                       const psg_real *c0, psg_real *dh, psg_real *dc, psg_real *dg,
                       psg_real *dgn);

void rnn_forward(const struct psg_call *c);
void rnn_backward(const struct psg_call *c);
void rnn_grad_sample(const struct psg_call *c);
void rnn_norm_sample(const struct psg_call *c);
void rnn_clipped_sum(const struct psg_call *c);
void rnn_lower(struct psg_lower *l);

#endif
