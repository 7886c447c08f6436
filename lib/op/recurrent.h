/* rnn_tanh, rnn_relu, gru, lstm: what recurrent.c (infer), recurrent_run.c (layers through
 * time), recurrent_rules.c (rules) and recurrent_lower.c (primitives) share. Formulas:
 * recurrent.c.
 *
 * A unit is one direction of one layer. Inside, time comes first: a step of the whole tile
 * is one block of rows, and all steps together are one matrix of T N rows. */
#ifndef OP_RECURRENT_H
#define OP_RECURRENT_H

#include "op/dense.h"

enum rnn_return { RETURN_SEQUENCE, RETURN_LAST_HIDDEN, RETURN_ALL };
enum { RNN_LAYERS_MAX = 16, RNN_TILE = 16 };

struct rnn_geom {
    enum psg_cell_kind cell;
    enum rnn_return ret;
    int gates;           /* G */
    int64_t t, i, h, ho; /* T, input, hidden, output (projected) size */
    int layers, dirs;
    bool bias, proj;
    double dropout;
    int lengths, h0, c0; /* input slots, or -1 */
    /* places in saved, per sample */
    int64_t at_mask, at_x[RNN_LAYERS_MAX], at_units, unit_size;
    /* places in a unit, per sample */
    int64_t at_gates, at_from_h, at_h, at_c, at_raw, at_dproj, at_dh, at_dc;
};

/* Buffers of one unit in one call. Forward leaves the gates' values in gates, prepare
 * replaces them by the gradients of what went into the gates. Step t of a forward unit
 * reads row block t of h and c and writes t + 1; a reverse unit reads t + 1 and writes t.
 */
struct rnn_unit {
    const struct psg_call *c;
    const struct rnn_geom *g;
    int layer, dir, index, first_param;
    int64_t in;           /* length of its input rows */
    const psg_real *x;    /* [T, N, in] */
    psg_real *gates;      /* [T, N, G H] */
    psg_real *from_h;     /* gru: the part that comes from h, as gates; else NULL */
    psg_real *h;          /* [T + 1, N, Ho] */
    psg_real *cell;       /* lstm: c [T + 1, N, H] */
    psg_real *raw;        /* projections: h before it [T, N, H] */
    psg_real *dproj;      /* projections: gradient behind it [T, N, Ho] */
    psg_real *dh, *dc;    /* [N, Ho], [N, H]: of the first states, after prepare */
    const psg_real *mask; /* [T, N] 1 within the length; NULL: no lengths */
};

struct rnn_unit rnn_unit_of(const struct psg_call *c, int layer, int dir);
/* What the recurrent weights meet: h before each step [T, N, Ho]; and the gradients there.
 */
const psg_real *rnn_h_before(const struct rnn_unit *u);
const psg_real *rnn_from_h(const struct rnn_unit *u);

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

static inline int64_t rnn_width(const struct rnn_geom *g, int layer)
{
    return layer == 0 ? g->i : g->dirs * g->ho;
}

void rnn_forward(const struct psg_call *c);
void rnn_prepare(const struct psg_call *c);
void rnn_backward(const struct psg_call *c);
void rnn_grad_sample(const struct psg_call *c);
void rnn_norm_sample(const struct psg_call *c);
void rnn_clipped_sum(const struct psg_call *c);
void rnn_lower(struct psg_lower *l);

/* Scratch of forward, prepare and backward; of the rules. */
void rnn_declare_run(struct psg_infer *c, const struct rnn_geom *g);
void rnn_declare_rules(struct psg_infer *c, const struct rnn_geom *g);

#endif
