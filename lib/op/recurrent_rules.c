/* Layers and rules of recurrent nets; formulas: recurrent.c. */
#include "op/recurrent.h"

/* ---- buffers ---- */
static int64_t width(const struct rnn_geom *g)
{
    return g->dirs * g->ho;
}

static int64_t input_size(const struct rnn_geom *g, int layer)
{
    return layer == 0 ? g->i : width(g);
}

static int64_t block_size(const struct rnn_geom *g)
{
    return g->h > g->ho ? g->h : g->ho;
}

struct rnn_scratch {
    psg_real *number, *steps; /* [1], [T] */
    psg_real *xt;             /* [T, N, widest input] */
    psg_real *dg, *dgn;       /* [G, T, N, H], [T, N, H] */
    psg_real *dhs;            /* [T, N, Ho] */
    psg_real *dh, *dc;        /* [N, Ho], [N, H] */
    psg_real *h0, *c0;        /* [N, Ho], [N, H] */
    psg_real *seq, *tmp;      /* [N, T, widest input] */
    psg_real *length;         /* [N] */
    psg_real *blocks;
};

static int64_t widest(const struct rnn_geom *g)
{
    return g->i > width(g) ? g->i : width(g);
}

static struct rnn_scratch scratch_of(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = { .number = c->scratch, .steps = c->scratch + 1 };
    int64_t n = c->n, sequence = n * g->t * widest(g);
    s.xt = s.steps + g->t;
    s.seq = s.xt + sequence;
    s.tmp = s.seq + sequence;
    s.dg = s.tmp + sequence;
    s.dgn = s.dg + n * g->gates * g->t * g->h;
    s.dhs = s.dgn + n * g->t * g->h;
    s.dh = s.dhs + n * g->t * g->ho;
    s.dc = s.dh + n * g->ho;
    s.h0 = s.dc + n * g->h;
    s.c0 = s.h0 + n * g->ho;
    s.length = s.c0 + n * g->h;
    s.blocks = s.length + n;
    return s;
}

static struct rnn_unit unit_of(const struct psg_call *c, const struct rnn_scratch *s,
                               int layer, int dir)
{
    const struct rnn_geom *g = c->geom;
    int index = layer * g->dirs + dir;
    psg_real *base = c->saved + c->n * (g->at_units + index * g->unit_size);
    struct rnn_unit u = { .c = c,
                          .g = g,
                          .layer = layer,
                          .dir = dir,
                          .first_param = index * rnn_n_param(g),
                          .in = input_size(g, layer) };
    u.gates = base + c->n * g->at_gates;
    u.extra = base + c->n * g->at_extra;
    u.h = base + c->n * g->at_h;
    u.raw = g->proj ? base + c->n * g->at_raw : u.h;
    u.dgi = base + c->n * g->at_dgi;
    u.dgh = g->cell == GRU ? base + c->n * g->at_dgh : u.dgi;
    u.hp = base + c->n * g->at_hp;
    u.raw_sm = base + c->n * g->at_raw_sm;
    u.dproj = base + c->n * g->at_dproj;
    u.mask = g->lengths < 0 ? NULL : c->saved + c->n * g->at_mask;
    for (int k = 0; k < RNN_BLOCKS; k++)
        u.block[k] = s->blocks + k * c->n * block_size(g);
    return u;
}

/* [N, T, in] of a layer */
static psg_real *layer_input(const struct psg_call *c, int layer)
{
    const struct rnn_geom *g = c->geom;
    return c->saved + c->n * (g->at_xin + (layer - 1) * g->t * width(g));
}

static const psg_real *unit_input(const struct psg_call *c, int layer)
{
    return layer == 0 ? op_in(c, 0) : layer_input(c, layer);
}

/* First state of a unit [N, size] out of input `slot` [N, L D, size]; NULL: zero. */
static const psg_real *first_state(const struct psg_call *c, int slot, int index,
                                   int64_t size, psg_real *to)
{
    const struct rnn_geom *g = c->geom;
    int64_t row = g->layers * g->dirs * size;
    if (slot < 0)
        return NULL;
    op_copy_rows(c->be, c->n, size, op_in(c, slot) + index * size, row, to, size);
    return to;
}

/* ---- forward ---- */
static void fill_mask(const struct psg_call *c, const struct rnn_scratch *s)
{
    const struct rnn_geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(g->t, c->n);
    if (g->lengths < 0)
        return;
    op_iota(c->be, g->t, s->steps, s->number);
    c->be->convert(c->n, op_ids(c, g->lengths), s->length);
    c->be->binary(PSG_LT, &shape, s->steps, (const int64_t[]){ 1, 0 }, s->length,
                  (const int64_t[]){ 0, 1 }, c->saved + c->n * g->at_mask);
}

/* to [N, T, D Ho] from the units of a layer, zero past the lengths */
static void join_directions(const struct psg_call *c, const struct rnn_scratch *s,
                            int layer, psg_real *to)
{
    const struct rnn_geom *g = c->geom;
    int64_t n = c->n, w = width(g);
    struct psg_shape part = PSG_SHAPE(n, g->t, g->ho), all = PSG_SHAPE(n, g->t, w);
    const int64_t rows[3] = { g->t * w, w, 1 };
    for (int d = 0; d < g->dirs; d++) {
        struct rnn_unit u = unit_of(c, s, layer, d);
        c->be->copy(&part, sizeof *to, u.h, (const int64_t[]){ g->ho, n * g->ho, 1 },
                    to + d * g->ho, rows);
    }
    if (g->lengths >= 0)
        c->be->binary(PSG_MUL, &all, to, rows, c->saved + n * g->at_mask,
                      (const int64_t[]){ 1, n, 0 }, to);
}

/* x [N, T, D Ho] times the dropout mask that stands before `layer`; tmp as large */
static void drop(const struct psg_call *c, const struct rnn_scratch *s, int layer,
                 psg_real *x)
{
    const struct rnn_geom *g = c->geom;
    int64_t size = g->t * width(g), row = (g->layers - 1) * size;
    struct psg_shape shape = PSG_SHAPE(c->n, size);
    if (!c->training || g->dropout == 0)
        return;
    c->be->fill(1, (psg_real)g->dropout, s->number);
    c->be->binary(PSG_GE, &shape, c->random + (layer - 1) * size,
                  (const int64_t[]){ row, 1 }, s->number, (const int64_t[]){ 0, 0 },
                  s->tmp);
    c->be->fill(1, (psg_real)(g->dropout < 1 ? 1 / (1 - g->dropout) : 0), s->number);
    op_binary_scalar(c->be, PSG_MUL, c->n * size, s->tmp, s->number, s->tmp);
    op_binary(c->be, PSG_MUL, c->n * size, x, s->tmp, x);
}

static void layer_forward(const struct psg_call *c, const struct rnn_scratch *s, int layer)
{
    const struct rnn_geom *g = c->geom;
    int64_t in = input_size(g, layer);
    struct psg_shape shape = PSG_SHAPE(g->t, c->n, in);
    c->be->copy(&shape, sizeof(psg_real), unit_input(c, layer),
                (const int64_t[]){ in, g->t * in, 1 }, s->xt,
                (const int64_t[]){ c->n * in, in, 1 });
    for (int d = 0; d < g->dirs; d++) {
        struct rnn_unit u = unit_of(c, s, layer, d);
        int index = layer * g->dirs + d;
        rnn_unit_forward(&u, s->xt, first_state(c, g->h0, index, g->ho, s->h0),
                         first_state(c, g->c0, index, g->h, s->c0));
    }
    if (layer + 1 < g->layers) {
        join_directions(c, s, layer, layer_input(c, layer + 1));
        drop(c, s, layer + 1, layer_input(c, layer + 1));
    }
}

/* last states of all units from `first` on -> to [N, count, size] */
static void last_states(const struct psg_call *c, const struct rnn_scratch *s, int first,
                        int64_t size, bool cells, psg_real *to)
{
    const struct rnn_geom *g = c->geom;
    int units = g->layers * g->dirs;
    for (int k = first; k < units; k++) {
        struct rnn_unit u = unit_of(c, s, k / g->dirs, k % g->dirs);
        const psg_real *states = cells ? u.extra : u.h;
        op_copy_rows(c->be, c->n, size, states + rnn_time(&u, g->t - 1) * c->n * size, size,
                     to + (k - first) * size, (units - first) * size);
    }
}

void rnn_forward(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = scratch_of(c);
    if (c->n == 0)
        return;
    fill_mask(c, &s);
    for (int layer = 0; layer < g->layers; layer++)
        layer_forward(c, &s, layer);
    if (g->ret == RETURN_LAST_HIDDEN)
        last_states(c, &s, (g->layers - 1) * g->dirs, g->ho, false, c->out[0]);
    else
        join_directions(c, &s, g->layers - 1, c->out[0]);
    if (g->ret == RETURN_ALL)
        last_states(c, &s, 0, g->ho, false, c->out[1]);
    if (g->ret == RETURN_ALL && g->cell == LSTM)
        last_states(c, &s, 0, g->h, true, c->out[2]);
    op_set_done(c, false);
}

/* ---- backward through time ---- */
/* gradient of a unit's last state [N, size] from output j, where units from `first` on are
 */
static void last_state_grad(const struct psg_call *c, int j, int index, int first,
                            int64_t size, psg_real *to)
{
    const struct rnn_geom *g = c->geom;
    int64_t row = (g->layers * g->dirs - first) * size;
    if (j < 0 || !c->dout[j] || index < first)
        c->be->fill(c->n * size, 0, to);
    else
        op_copy_rows(c->be, c->n, size, c->dout[j] + (index - first) * size, row, to, size);
}

/* dhs [T, N, Ho] of one direction from dseq [N, T, D Ho]; NULL: zero */
static void split_direction(const struct psg_call *c, const struct rnn_scratch *s, int dir,
                            const psg_real *dseq)
{
    const struct rnn_geom *g = c->geom;
    int64_t n = c->n, w = width(g);
    struct psg_shape shape = PSG_SHAPE(g->t, n, g->ho);
    if (!dseq) {
        c->be->fill(g->t * n * g->ho, 0, s->dhs);
        return;
    }
    c->be->copy(&shape, sizeof *dseq, dseq + dir * g->ho,
                (const int64_t[]){ w, g->t * w, 1 }, s->dhs,
                (const int64_t[]){ n * g->ho, g->ho, 1 });
    if (g->lengths >= 0)
        op_binary_rows(c->be, PSG_MUL, g->t * n, g->ho, s->dhs, c->saved + n * g->at_mask,
                       s->dhs);
}

static void unit_backward(const struct psg_call *c, const struct rnn_scratch *s, int layer,
                          int dir, const psg_real *dseq)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_unit u = unit_of(c, s, layer, dir);
    int index = layer * g->dirs + dir, units = g->layers * g->dirs;
    int last = g->ret == RETURN_LAST_HIDDEN ? 0 : g->ret == RETURN_ALL ? 1 : -1;
    split_direction(c, s, dir, dseq);
    last_state_grad(c, last, index, last == 0 ? units - g->dirs : 0, g->ho, s->dh);
    last_state_grad(c, g->ret == RETURN_ALL && g->cell == LSTM ? 2 : -1, index, 0, g->h,
                    s->dc);
    rnn_unit_backward(&u, s->dhs, first_state(c, g->h0, index, g->ho, s->h0),
                      first_state(c, g->c0, index, g->h, s->c0), s->dh, s->dc, s->dg,
                      s->dgn);
    if (g->h0 >= 0 && op_wants_din(c, g->h0))
        op_copy_rows(c->be, c->n, g->ho, s->dh, g->ho, c->din[g->h0] + index * g->ho,
                     units * g->ho);
    if (g->c0 >= 0 && op_wants_din(c, g->c0))
        op_copy_rows(c->be, c->n, g->h, s->dc, g->h, c->din[g->c0] + index * g->h,
                     units * g->h);
}

/* Gradients of all units into saved, and of the inputs where they are wanted. */
static void through_time(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = scratch_of(c);
    const psg_real *dseq = g->ret == RETURN_LAST_HIDDEN ? NULL : c->dout[0];
    for (int layer = g->layers - 1; layer >= 0; layer--) {
        int64_t in = input_size(g, layer);
        psg_real *dx = layer > 0 ? s.seq : op_wants_din(c, 0) ? c->din[0] : NULL;
        /* dseq may lie in s.seq: both directions read it before it is overwritten */
        for (int d = 0; d < g->dirs; d++)
            unit_backward(c, &s, layer, d, dseq);
        for (int d = 0; d < g->dirs && dx; d++) {
            struct rnn_unit u = unit_of(c, &s, layer, d);
            dense_backward(c->be, c->n * g->t, in, g->gates * g->h, u.dgi, rnn_param(&u, 0),
                           d > 0, dx);
        }
        if (layer > 0)
            drop(c, &s, layer, dx);
        dseq = dx;
    }
    op_set_done(c, true);
}

void rnn_backward(const struct psg_call *c)
{
    if (c->n > 0)
        through_time(c);
}

/* The rules of one forward pass all see the same backprops: the first computes, the others
 * read what it left. */
static void need_unit_gradients(const struct psg_call *c)
{
    if (c->n > 0 && !op_is_done(c)) {
        struct psg_call again = *c;
        again.din = NULL;
        through_time(&again);
    }
}

/* ---- rules: each parameter is a dense layer over [N, T, ...] ---- */
struct role {
    const psg_real *x, *dy; /* x NULL: a bias */
    int64_t in, out;
};

static struct role role_of(const struct psg_call *c, const struct rnn_scratch *s, int param)
{
    const struct rnn_geom *g = c->geom;
    int index = param / rnn_n_param(g), k = param % rnn_n_param(g), layer = index / g->dirs;
    struct rnn_unit u = unit_of(c, s, layer, index % g->dirs);
    int64_t gh = g->gates * g->h;
    if (g->proj && k == rnn_w_hr(g))
        return (struct role){ u.raw_sm, u.dproj, g->h, g->ho };
    switch (k) {
    case 0: return (struct role){ unit_input(c, layer), u.dgi, u.in, gh };
    case 1: return (struct role){ u.hp, u.dgh, g->ho, gh };
    case 2: return (struct role){ NULL, u.dgi, 0, gh };
    default: return (struct role){ NULL, u.dgh, 0, gh };
    }
}

static int n_params(const struct rnn_geom *g)
{
    return g->layers * g->dirs * rnn_n_param(g);
}

void rnn_grad_sample(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = scratch_of(c);
    need_unit_gradients(c);
    for (int p = 0; p < n_params(g); p++) {
        struct role r = role_of(c, &s, p);
        if (!c->grad[p])
            continue;
        if (r.x)
            dense_grad(c->be, c->n, g->t, r.in, r.out, r.x, r.dy, c->grad[p],
                       c->grad_stride);
        else
            c->be->sum_rows(c->n, g->t, r.out, r.dy, c->grad[p], c->grad_stride);
    }
}

void rnn_norm_sample(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = scratch_of(c);
    need_unit_gradients(c);
    for (int p = 0; p < n_params(g); p++) {
        struct role r = role_of(c, &s, p);
        if (c->use[p] && r.x)
            dense_norm(c->be, c->n, g->t, r.in, r.out, r.x, r.dy, c->scratch, c->sq);
        else if (c->use[p])
            dense_bias_norm(c->be, c->n, g->t, r.out, r.dy, c->scratch, c->sq);
    }
}

void rnn_clipped_sum(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct rnn_scratch s = scratch_of(c);
    need_unit_gradients(c);
    for (int p = 0; p < n_params(g); p++) {
        struct role r = role_of(c, &s, p);
        if (c->sum[p] && r.x)
            dense_sum(c->be, c->n, g->t, r.in, r.out, c->weight, r.x, r.dy, c->scratch,
                      c->sum[p]);
        else if (c->sum[p])
            dense_bias_sum(c->be, c->n, g->t, r.out, c->weight, r.dy, c->scratch,
                           c->sum[p]);
    }
}
