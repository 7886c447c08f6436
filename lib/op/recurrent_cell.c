#include "op/recurrent.h"

/* ---- formulas over a block of [N, H] ---- */
struct block {
    const struct psg_backend *be;
    int64_t n;
};

static void mul(const struct block *b, const psg_real *x, const psg_real *y, psg_real *to)
{
    op_binary(b->be, PSG_MUL, b->n, x, y, to);
}

/* to = dy (1 - y^2); to is neither */
static void tanh_bwd(const struct block *b, const psg_real *y, const psg_real *dy,
                     psg_real *to)
{
    mul(b, y, y, to);
    mul(b, to, dy, to);
    op_binary(b->be, PSG_SUB, b->n, dy, to, to);
}

/* to = dy y (1 - y); to is neither */
static void sigmoid_bwd(const struct block *b, const psg_real *y, const psg_real *dy,
                        psg_real *to)
{
    mul(b, y, y, to);
    op_binary(b->be, PSG_SUB, b->n, y, to, to);
    mul(b, to, dy, to);
}

static psg_real *gate_at(const struct rnn_unit *u, psg_real *gates, int g, int64_t t)
{
    int64_t block = u->c->n * u->g->h;
    return gates + (g * u->g->t + t) * block;
}

/* the state that enters step s: of the step before it, or the first (may be NULL) */
static const psg_real *entering(const struct rnn_unit *u, const psg_real *states,
                                int64_t size, int64_t s, const psg_real *first)
{
    return s == 0 ? first : states + rnn_time(u, s - 1) * u->c->n * size;
}

/* ---- forward ---- */
/* gates = W_ih x + biases, for all steps at once; gru's n leaves b_hn to the steps */
static void project_input(const struct rnn_unit *u, const psg_real *xt)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t rows = g->t * u->c->n;
    struct psg_gemm m = { .trans_b = true,
                          .m = rows,
                          .n = g->h,
                          .k = u->in,
                          .lda = u->in,
                          .ldb = u->in,
                          .ldc = g->h,
                          .alpha = 1 };
    be->gemm_batched(&m, g->gates, xt, 0, rnn_param(u, 0), g->h * u->in, u->gates,
                     rows * g->h);
    for (int k = 0; k < g->gates && g->bias; k++) {
        psg_real *gate = gate_at(u, u->gates, k, 0);
        be->add_bias(rows, g->h, gate, rnn_param(u, 2) + k * g->h, gate);
        if (g->cell != GRU || k != 2)
            be->add_bias(rows, g->h, gate, rnn_param(u, 3) + k * g->h, gate);
    }
}

/* gates of step t += W_hh h; gru's n part goes to extra, with its bias */
static void project_state(const struct rnn_unit *u, int64_t t, const psg_real *h)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t block = u->c->n * g->h;
    int summed = g->cell == GRU ? 2 : g->gates;
    struct psg_gemm m = { .trans_b = true,
                          .m = u->c->n,
                          .n = g->h,
                          .k = g->ho,
                          .lda = g->ho,
                          .ldb = g->ho,
                          .ldc = g->h,
                          .alpha = 1,
                          .beta = 1 };
    if (h)
        be->gemm_batched(&m, summed, h, 0, rnn_param(u, 1), g->h * g->ho,
                         gate_at(u, u->gates, 0, t), g->t * block);
    if (g->cell != GRU)
        return;
    psg_real *hn = u->extra + t * block;
    m.beta = 0;
    if (h)
        be->gemm(&m, h, rnn_param(u, 1) + 2 * g->h * g->ho, hn);
    else
        be->fill(block, 0, hn);
    if (g->bias)
        be->add_bias(u->c->n, g->h, hn, rnn_param(u, 3) + 2 * g->h, hn);
}

/* c' = f c + i g, h' = o tanh(c') */
static void lstm_step(const struct rnn_unit *u, int64_t t, const psg_real *c,
                      psg_real *c_out, psg_real *h_out)
{
    struct block b = { u->c->be, u->c->n * u->g->h };
    psg_real *gate[4];
    for (int k = 0; k < 4; k++) {
        gate[k] = gate_at(u, u->gates, k, t);
        b.be->unary(k == 2 ? PSG_TANH : PSG_SIGMOID, b.n, gate[k], gate[k]);
    }
    mul(&b, gate[0], gate[2], c_out);
    if (c) {
        mul(&b, gate[1], c, u->block[0]);
        b.be->axpy(b.n, 1, u->block[0], c_out);
    }
    b.be->unary(PSG_TANH, b.n, c_out, u->block[0]);
    mul(&b, gate[3], u->block[0], h_out);
}

/* n = tanh(a_n + r hn), h' = n + z (h - n) */
static void gru_step(const struct rnn_unit *u, int64_t t, const psg_real *h,
                     psg_real *h_out)
{
    struct block b = { u->c->be, u->c->n * u->g->h };
    psg_real *r = gate_at(u, u->gates, 0, t), *z = gate_at(u, u->gates, 1, t);
    psg_real *n = gate_at(u, u->gates, 2, t), *tmp = u->block[0];
    b.be->unary(PSG_SIGMOID, b.n, r, r);
    b.be->unary(PSG_SIGMOID, b.n, z, z);
    mul(&b, r, u->extra + t * b.n, tmp);
    b.be->axpy(b.n, 1, tmp, n);
    b.be->unary(PSG_TANH, b.n, n, n);
    if (h)
        op_binary(b.be, PSG_SUB, b.n, h, n, tmp);
    else
        b.be->unary(PSG_NEG, b.n, n, tmp);
    mul(&b, z, tmp, tmp);
    op_binary(b.be, PSG_ADD, b.n, n, tmp, h_out);
}

static void simple_step(const struct rnn_unit *u, int64_t t, psg_real *h_out)
{
    int64_t n = u->c->n * u->g->h;
    psg_real *a = gate_at(u, u->gates, 0, t);
    u->c->be->act(u->g->cell == RNN_RELU ? PSG_ACT_RELU : PSG_ACT_TANH, NULL, n, a, a);
    op_copy(u->c->be, n, a, h_out);
}

/* past a sample's length the state stays: new = new or before, by the mask of this step */
static void freeze(const struct rnn_unit *u, int64_t t, int64_t size,
                   const psg_real *before, psg_real *state)
{
    int64_t n = u->c->n * size;
    psg_real *mask = u->block[1], *old = u->block[2];
    if (!u->mask)
        return;
    u->c->be->fill(n, 0, old);
    op_binary_rows(u->c->be, PSG_ADD, u->c->n, size, old, u->mask + t * u->c->n, mask);
    u->c->be->select(n, mask, state, before ? before : old, state);
}

void rnn_unit_forward(const struct rnn_unit *u, const psg_real *xt, const psg_real *h0,
                      const psg_real *c0)
{
    const struct rnn_geom *g = u->g;
    int64_t n = u->c->n;
    project_input(u, xt);
    for (int64_t s = 0; s < g->t; s++) {
        int64_t t = rnn_time(u, s);
        const psg_real *h = entering(u, u->h, g->ho, s, h0);
        const psg_real *c = entering(u, u->extra, g->h, s, c0);
        psg_real *raw = u->raw + t * n * g->h, *out = u->h + t * n * g->ho;
        project_state(u, t, h);
        if (g->cell == LSTM)
            lstm_step(u, t, c, u->extra + t * n * g->h, raw);
        else if (g->cell == GRU)
            gru_step(u, t, h, raw);
        else
            simple_step(u, t, raw);
        if (g->proj)
            dense_forward(u->c->be, n, g->h, g->ho, raw, rnn_param(u, rnn_w_hr(g)), NULL,
                          out);
        freeze(u, t, g->ho, h, out);
        if (g->cell == LSTM)
            freeze(u, t, g->h, c, u->extra + t * n * g->h);
    }
}

/* ---- backward ---- */
/* dh of raw [N, H] -> dg of this step; dc [N, H] in and out */
static void lstm_step_bwd(const struct rnn_unit *u, int64_t t, const psg_real *dh,
                          const psg_real *c, psg_real *dc, psg_real *dg)
{
    struct block b = { u->c->be, u->c->n * u->g->h };
    psg_real *gate[4], *d[4], *tc = u->block[0], *tmp = u->block[1];
    for (int k = 0; k < 4; k++) {
        gate[k] = gate_at(u, u->gates, k, t);
        d[k] = gate_at(u, dg, k, t);
    }
    b.be->unary(PSG_TANH, b.n, u->extra + t * b.n, tc);
    mul(&b, dh, tc, tmp);
    sigmoid_bwd(&b, gate[3], tmp, d[3]);
    mul(&b, dh, gate[3], tmp);
    tanh_bwd(&b, tc, tmp, d[0]);
    b.be->axpy(b.n, 1, d[0], dc);
    mul(&b, dc, gate[2], tmp);
    sigmoid_bwd(&b, gate[0], tmp, d[0]);
    mul(&b, dc, gate[0], tmp);
    tanh_bwd(&b, gate[2], tmp, d[2]);
    b.be->fill(b.n, 0, d[1]);
    if (c) {
        mul(&b, dc, c, tmp);
        sigmoid_bwd(&b, gate[1], tmp, d[1]);
    }
    mul(&b, dc, gate[1], dc);
}

/* dg of r, z, n; dgn: of hn; dh_in [N, H]: the part of dh that goes around the gates */
static void gru_step_bwd(const struct rnn_unit *u, int64_t t, const psg_real *dh,
                         const psg_real *h, psg_real *dg, psg_real *dgn, psg_real *dh_in)
{
    struct block b = { u->c->be, u->c->n * u->g->h };
    psg_real *r = gate_at(u, u->gates, 0, t), *z = gate_at(u, u->gates, 1, t);
    psg_real *n = gate_at(u, u->gates, 2, t), *tmp = u->block[0];
    psg_real *dr = gate_at(u, dg, 0, t), *dz = gate_at(u, dg, 1, t),
             *dn = gate_at(u, dg, 2, t);
    psg_real *hn = u->extra + t * b.n;
    if (h)
        op_binary(b.be, PSG_SUB, b.n, h, n, tmp);
    else
        b.be->unary(PSG_NEG, b.n, n, tmp);
    mul(&b, dh, tmp, tmp);
    sigmoid_bwd(&b, z, tmp, dz);
    mul(&b, dh, z, dh_in);
    op_binary(b.be, PSG_SUB, b.n, dh, dh_in, tmp);
    tanh_bwd(&b, n, tmp, dn);
    mul(&b, dn, hn, tmp);
    sigmoid_bwd(&b, r, tmp, dr);
    mul(&b, dn, r, dgn + t * b.n);
}

static void simple_step_bwd(const struct rnn_unit *u, int64_t t, const psg_real *dh,
                            psg_real *dg)
{
    struct block b = { u->c->be, u->c->n * u->g->h };
    psg_real *y = gate_at(u, u->gates, 0, t), *d = gate_at(u, dg, 0, t);
    if (u->g->cell == RNN_TANH) {
        tanh_bwd(&b, y, dh, d);
        return;
    }
    b.be->fill(b.n, 0, d);
    op_binary(b.be, PSG_GT, b.n, y, d, u->block[0]);
    b.be->select(b.n, u->block[0], dh, d, d);
}

/* d [N, size] splits at the mask: rest = d where the state was frozen, d = d elsewhere */
static void split(const struct rnn_unit *u, int64_t t, int64_t size, psg_real *d,
                  psg_real *rest)
{
    int64_t n = u->c->n * size;
    psg_real *mask = u->block[1], *zero = u->block[2];
    u->c->be->fill(n, 0, zero);
    op_binary_rows(u->c->be, PSG_ADD, u->c->n, size, zero, u->mask + t * u->c->n, mask);
    u->c->be->select(n, mask, zero, d, rest);
    u->c->be->select(n, mask, d, zero, d);
}

/* dh [N, Ho] = sum over gates of dg W_hh + beta * dh */
static void state_bwd(const struct rnn_unit *u, int64_t t, psg_real *dg, psg_real *dgn,
                      double beta, psg_real *dh)
{
    const struct rnn_geom *g = u->g;
    for (int k = 0; k < g->gates; k++) {
        bool aside = g->cell == GRU && k == 2;
        dense_backward(u->c->be, u->c->n, g->ho, g->h,
                       aside ? dgn + t * u->c->n * g->h : gate_at(u, dg, k, t),
                       rnn_param(u, 1) + k * g->h * g->ho, k == 0 ? beta : 1, dh);
    }
}

/* [T, N, size] -> [N, T, size] */
static void sample_major(const struct rnn_unit *u, int64_t size, const psg_real *from,
                         psg_real *to)
{
    int64_t n = u->c->n, t = u->g->t;
    struct psg_shape shape = PSG_SHAPE(n, t, size);
    u->c->be->copy(&shape, sizeof *to, from, (const int64_t[]){ size, n * size, 1 }, to,
                   (const int64_t[]){ t * size, size, 1 });
}

/* gates [G, T, N, H] -> [N, T, G H] */
static void gates_sample_major(const struct rnn_unit *u, const psg_real *from, psg_real *to)
{
    int64_t n = u->c->n, t = u->g->t, h = u->g->h, gates = u->g->gates;
    struct psg_shape shape = PSG_SHAPE(n, t, gates, h);
    u->c->be->copy(&shape, sizeof *to, from, (const int64_t[]){ h, n * h, t * n * h, 1 },
                   to, (const int64_t[]){ t * gates * h, gates * h, h, 1 });
}

/* what the weight gradients need, sample by sample */
static void keep_for_weights(const struct rnn_unit *u, const psg_real *h0, psg_real *dg,
                             psg_real *dgn)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t n = u->c->n, row = g->t * g->ho;
    gates_sample_major(u, dg, u->dgi);
    if (g->cell == GRU) {
        op_copy(be, n * g->t * g->h, dgn, gate_at(u, dg, 2, 0));
        gates_sample_major(u, dg, u->dgh);
    }
    if (g->proj)
        sample_major(u, g->h, u->raw, u->raw_sm);
    /* h moved by one step; the first is h0 */
    struct psg_shape shape = PSG_SHAPE(n, g->t - 1, g->ho);
    int64_t shift = u->dir ? 0 : g->ho, from = u->dir ? n * g->ho : 0;
    be->copy(&shape, sizeof *u->hp, u->h + from, (const int64_t[]){ g->ho, n * g->ho, 1 },
             u->hp + shift, (const int64_t[]){ row, g->ho, 1 });
    psg_real *first = u->hp + (u->dir ? row - g->ho : 0);
    if (h0) {
        op_copy_rows(be, n, g->ho, h0, g->ho, first, row);
    } else {
        be->fill(n * g->ho, 0, u->block[0]);
        op_copy_rows(be, n, g->ho, u->block[0], g->ho, first, row);
    }
}

void rnn_unit_backward(const struct rnn_unit *u, const psg_real *dhs, const psg_real *h0,
                       const psg_real *c0, psg_real *dh, psg_real *dc, psg_real *dg,
                       psg_real *dgn)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t n = u->c->n;
    psg_real *rest_h = u->block[3], *rest_c = u->block[4], *draw = u->block[5];
    psg_real *around = u->block[6];
    for (int64_t s = g->t - 1; s >= 0; s--) {
        int64_t t = rnn_time(u, s);
        const psg_real *h = entering(u, u->h, g->ho, s, h0);
        const psg_real *c = entering(u, u->extra, g->h, s, c0);
        be->axpy(n * g->ho, 1, dhs + t * n * g->ho, dh);
        if (u->mask)
            split(u, t, g->ho, dh, rest_h);
        if (u->mask && g->cell == LSTM)
            split(u, t, g->h, dc, rest_c);
        const psg_real *d = dh;
        if (g->proj) {
            op_copy_rows(be, n, g->ho, dh, g->ho, u->dproj + t * g->ho, g->t * g->ho);
            dense_backward(be, n, g->h, g->ho, dh, rnn_param(u, rnn_w_hr(g)), 0, draw);
            d = draw;
        }
        if (g->cell == LSTM)
            lstm_step_bwd(u, t, d, c, dc, dg);
        else if (g->cell == GRU)
            gru_step_bwd(u, t, d, h, dg, dgn, around);
        else
            simple_step_bwd(u, t, d, dg);
        state_bwd(u, t, dg, dgn, 0, dh);
        if (g->cell == GRU)
            be->axpy(n * g->ho, 1, around, dh);
        if (u->mask)
            be->axpy(n * g->ho, 1, rest_h, dh);
        if (u->mask && g->cell == LSTM)
            be->axpy(n * g->h, 1, rest_c, dc);
    }
    keep_for_weights(u, h0, dg, dgn);
}
