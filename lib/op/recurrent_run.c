/* Forward and backward through time of recurrent layers; formulas: recurrent.c.
 *
 *   forward   gates = x W_ih^T + b for all steps in one product; then step by step
 *             gates_t += h W_hh^T and the cell
 *   prepare   the steps in reverse; leaves the gradients of the gates in their place
 *   backward  dx = dgates W_ih for all steps in one product */
#include "op/recurrent.h"

struct room {
    psg_real *number, *steps; /* [1], [T] */
    psg_real *weight, *bias;  /* W_hh^T [Ho, G H], [G H] */
    psg_real *length;         /* [N] */
    psg_real *dy, *tmp;       /* [T, N, D Ho] where there are several layers */
    psg_real *block[3], *raw; /* [N, Ho], [N, H] */
};

static int64_t inner_size(const struct rnn_geom *g)
{
    return g->layers > 1 ? g->t * g->dirs * g->ho : 0;
}

void rnn_declare_run(struct psg_infer *c, const struct rnn_geom *g)
{
    int64_t gh = g->gates * g->h;
    psg_infer_scratch(c, 1 + g->t + gh * g->ho + gh,
                      1 + 2 * inner_size(g) + 3 * g->ho + g->h);
    psg_infer_scratch(c, 0, g->t * g->i);
}

static struct room room_of(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct room r = { .number = c->scratch, .steps = c->scratch + 1 };
    r.weight = r.steps + g->t;
    r.bias = r.weight + g->gates * g->h * g->ho;
    r.length = r.bias + g->gates * g->h;
    r.dy = r.length + c->n;
    r.tmp = r.dy + c->n * inner_size(g);
    r.block[0] = r.tmp + c->n * inner_size(g);
    r.block[1] = r.block[0] + c->n * g->ho;
    r.block[2] = r.block[1] + c->n * g->ho;
    r.raw = r.block[2] + c->n * g->ho;
    return r;
}

struct rnn_unit rnn_unit_of(const struct psg_call *c, int layer, int dir)
{
    const struct rnn_geom *g = c->geom;
    int index = layer * g->dirs + dir;
    psg_real *base = c->saved + c->n * (g->at_units + index * g->unit_size);
    struct rnn_unit u = { .c = c,
                          .g = g,
                          .layer = layer,
                          .dir = dir,
                          .index = index,
                          .first_param = index * rnn_n_param(g),
                          .in = rnn_width(g, layer),
                          .x = c->saved + c->n * g->at_x[layer],
                          .gates = base + c->n * g->at_gates,
                          .h = base + c->n * g->at_h,
                          .raw = base + c->n * g->at_raw,
                          .dproj = base + c->n * g->at_dproj,
                          .dh = base + c->n * g->at_dh,
                          .dc = base + c->n * g->at_dc };
    if (g->cell == PSG_CELL_GRU)
        u.from_h = base + c->n * g->at_from_h;
    if (g->cell == PSG_CELL_LSTM)
        u.cell = base + c->n * g->at_c;
    if (g->lengths >= 0)
        u.mask = c->saved + c->n * g->at_mask;
    return u;
}

/* Position in time of a unit's step s. */
static int64_t time_of(const struct rnn_unit *u, int64_t s)
{
    return u->dir ? u->g->t - 1 - s : s;
}

/* Blocks of h and c that step t reads and writes. */
static int64_t before(const struct rnn_unit *u, int64_t t)
{
    return u->dir ? t + 1 : t;
}

static int64_t after(const struct rnn_unit *u, int64_t t)
{
    return u->dir ? t : t + 1;
}

/* h after each step, [T, N, Ho] */
static const psg_real *outputs(const struct rnn_unit *u)
{
    return u->h + after(u, 0) * u->c->n * u->g->ho;
}

const psg_real *rnn_h_before(const struct rnn_unit *u)
{
    return u->h + before(u, 0) * u->c->n * u->g->ho;
}

const psg_real *rnn_from_h(const struct rnn_unit *u)
{
    return u->from_h ? u->from_h : u->gates;
}

static struct psg_cell cell_of(const struct rnn_unit *u, int64_t t)
{
    const struct rnn_geom *g = u->g;
    int64_t n = u->c->n, gh = g->gates * g->h;
    struct psg_cell cell = { .kind = g->cell,
                             .n = n,
                             .hidden = g->h,
                             .ld_mask = 1,
                             .ld_gates = gh,
                             .ld_h_prev = g->ho,
                             .ld_h = g->h,
                             .ld_c = g->h,
                             .mask = u->mask ? u->mask + t * n : NULL,
                             .gates = u->gates + t * n * gh };
    if (u->from_h)
        cell.from_h = u->from_h + t * n * gh;
    if (!g->proj) {
        cell.h_prev = u->h + before(u, t) * n * g->h;
        cell.h = u->h + after(u, t) * n * g->h;
    } else {
        cell.h = u->raw + t * n * g->h;
    }
    if (u->cell) {
        cell.c_prev = u->cell + before(u, t) * n * g->h;
        cell.c = u->cell + after(u, t) * n * g->h;
    }
    return cell;
}

/* ---- forward ---- */
static void fill_mask(const struct psg_call *c, const struct room *r)
{
    const struct rnn_geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(g->t, c->n);
    if (g->lengths < 0)
        return;
    op_iota(c->be, g->t, r->steps, r->number);
    c->be->convert(c->n, op_ids(c, g->lengths), r->length);
    c->be->binary(PSG_LT, &shape, r->steps, (const int64_t[]){ 1, 0 }, r->length,
                  (const int64_t[]){ 0, 1 }, c->saved + c->n * g->at_mask);
}

/* The gates but for what comes from h. */
static void project_input(const struct rnn_unit *u, const struct room *r)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t rows = g->t * u->c->n, gh = g->gates * g->h;
    if (g->bias)
        op_copy(be, gh, rnn_param(u, 2), r->bias);
    if (g->bias && !u->from_h)
        be->axpy(gh, 1, rnn_param(u, 3), r->bias);
    dense_forward(be, rows, u->in, gh, u->x, rnn_param(u, 0), g->bias ? r->bias : NULL,
                  u->gates);
    if (u->from_h)
        be->fill(rows * gh, 0, u->from_h);
    if (u->from_h && g->bias)
        be->add_bias(rows, gh, u->from_h, rnn_param(u, 3), u->from_h);
}

/* to [N, size]: first state of a unit out of input `slot` [N, L D, size], or zeros */
static void first_state(const struct rnn_unit *u, int slot, int64_t size, psg_real *to)
{
    const struct rnn_geom *g = u->g;
    int64_t n = u->c->n;
    if (slot < 0)
        u->c->be->fill(n * size, 0, to);
    else
        op_copy_rows(u->c->be, n, size, op_in(u->c, slot) + u->index * size,
                     g->layers * g->dirs * size, to, size);
}

/* the mask of step t for every number of a state [N, Ho] */
static psg_real *wide_mask(const struct rnn_unit *u, int64_t t, const struct room *r)
{
    int64_t n = u->c->n, size = u->g->ho;
    u->c->be->fill(n * size, 0, r->block[0]);
    op_binary_rows(u->c->be, PSG_ADD, n, size, r->block[0], u->mask + t * n, r->block[0]);
    return r->block[0];
}

/* h = raw W_hr^T; past a sample's length it stays */
static void project_state(const struct rnn_unit *u, int64_t t, const struct room *r)
{
    const struct rnn_geom *g = u->g;
    int64_t n = u->c->n, size = n * g->ho;
    psg_real *h = u->h + after(u, t) * size;
    dense_forward(u->c->be, n, g->h, g->ho, u->raw + t * n * g->h,
                  rnn_param(u, rnn_w_hr(g)), NULL, h);
    if (u->mask)
        u->c->be->select(size, wide_mask(u, t, r), h, u->h + before(u, t) * size, h);
}

/* W_hh goes in transposed, so that no step has to turn it around again. */
static void unit_forward(const struct rnn_unit *u, const struct room *r)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t n = u->c->n, gh = g->gates * g->h, start = before(u, time_of(u, 0));
    struct psg_gemm m = { .m = n,
                          .n = gh,
                          .k = g->ho,
                          .lda = g->ho,
                          .ldb = gh,
                          .ldc = gh,
                          .alpha = 1,
                          .beta = 1 };
    project_input(u, r);
    op_swap(be, 1, gh, g->ho, rnn_param(u, 1), r->weight);
    first_state(u, g->h0, g->ho, u->h + start * n * g->ho);
    if (u->cell)
        first_state(u, g->c0, g->h, u->cell + start * n * g->h);
    for (int64_t s = 0; s < g->t; s++) {
        int64_t t = time_of(u, s);
        struct psg_cell cell = cell_of(u, t);
        be->gemm(&m, u->h + before(u, t) * n * g->ho, r->weight,
                 cell.from_h ? cell.from_h : cell.gates);
        be->cell(&cell);
        if (g->proj)
            project_state(u, t, r);
    }
}

/* x [T, N, D Ho] of a layer's outputs, zero past the lengths */
static void join_directions(const struct psg_call *c, int layer, psg_real *x)
{
    const struct rnn_geom *g = c->geom;
    int64_t rows = g->t * c->n, w = g->dirs * g->ho;
    for (int d = 0; d < g->dirs; d++) {
        struct rnn_unit u = rnn_unit_of(c, layer, d);
        op_copy_rows(c->be, rows, g->ho, outputs(&u), g->ho, x + d * g->ho, w);
    }
    if (g->lengths >= 0)
        op_binary_rows(c->be, PSG_MUL, rows, w, x, c->saved + c->n * g->at_mask, x);
}

/* y [N, T, D Ho] of the last layer's outputs, zero past the lengths */
static void write_sequence(const struct psg_call *c, psg_real *y)
{
    const struct rnn_geom *g = c->geom;
    int64_t n = c->n, w = g->dirs * g->ho;
    struct psg_shape part = PSG_SHAPE(n, g->t, g->ho), all = PSG_SHAPE(n, g->t, w);
    const int64_t rows[3] = { g->t * w, w, 1 };
    for (int d = 0; d < g->dirs; d++) {
        struct rnn_unit u = rnn_unit_of(c, g->layers - 1, d);
        c->be->copy(&part, sizeof *y, outputs(&u), (const int64_t[]){ g->ho, n * g->ho, 1 },
                    y + d * g->ho, rows);
    }
    if (g->lengths >= 0)
        c->be->binary(PSG_MUL, &all, y, rows, c->saved + n * g->at_mask,
                      (const int64_t[]){ 1, n, 0 }, y);
}

/* x [T, N, D Ho] times the dropout mask that stands before `layer` */
static void drop(const struct psg_call *c, const struct room *r, int layer, psg_real *x)
{
    const struct rnn_geom *g = c->geom;
    int64_t w = g->dirs * g->ho, size = g->t * w;
    struct psg_shape shape = PSG_SHAPE(g->t, c->n, w);
    if (!c->training || g->dropout == 0)
        return;
    c->be->fill(1, (psg_real)g->dropout, r->number);
    c->be->binary(PSG_GE, &shape, c->random + (layer - 1) * size,
                  (const int64_t[]){ w, (g->layers - 1) * size, 1 }, r->number,
                  (const int64_t[]){ 0, 0, 0 }, r->tmp);
    c->be->fill(1, (psg_real)(g->dropout < 1 ? 1 / (1 - g->dropout) : 0), r->number);
    op_binary_scalar(c->be, PSG_MUL, c->n * size, r->tmp, r->number, r->tmp);
    op_binary(c->be, PSG_MUL, c->n * size, x, r->tmp, x);
}

/* to [N, units from `first` on, size]: last states of h, or of c */
static void last_states(const struct psg_call *c, int first, int64_t size, bool cells,
                        psg_real *to)
{
    const struct rnn_geom *g = c->geom;
    int units = g->layers * g->dirs;
    for (int k = first; k < units; k++) {
        struct rnn_unit u = rnn_unit_of(c, k / g->dirs, k % g->dirs);
        const psg_real *states = cells ? u.cell : u.h;
        op_copy_rows(c->be, c->n, size,
                     states + after(&u, time_of(&u, g->t - 1)) * c->n * size, size,
                     to + (k - first) * size, (units - first) * size);
    }
}

/* x [T, N, in] of a sample-major y */
static void time_first(const struct psg_call *c, int64_t in, const psg_real *y, psg_real *x)
{
    const struct rnn_geom *g = c->geom;
    struct psg_shape shape = PSG_SHAPE(g->t, c->n, in);
    c->be->copy(&shape, sizeof *x, y, (const int64_t[]){ in, g->t * in, 1 }, x,
                (const int64_t[]){ c->n * in, in, 1 });
}

void rnn_forward(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct room r = room_of(c);
    int top = g->layers - 1;
    if (c->n == 0)
        return;
    fill_mask(c, &r);
    time_first(c, g->i, op_in(c, 0), c->saved + c->n * g->at_x[0]);
    for (int layer = 0; layer <= top; layer++) {
        for (int d = 0; d < g->dirs; d++) {
            struct rnn_unit u = rnn_unit_of(c, layer, d);
            unit_forward(&u, &r);
        }
        if (layer < top) {
            psg_real *next = c->saved + c->n * g->at_x[layer + 1];
            join_directions(c, layer, next);
            drop(c, &r, layer + 1, next);
        }
    }
    if (g->ret == RETURN_LAST_HIDDEN)
        last_states(c, top * g->dirs, g->ho, false, c->out[0]);
    else
        write_sequence(c, c->out[0]);
    if (g->ret == RETURN_ALL)
        last_states(c, 0, g->ho, false, c->out[1]);
    if (g->ret == RETURN_ALL && g->cell == PSG_CELL_LSTM)
        last_states(c, 0, g->h, true, c->out[2]);
}

/* ---- backward through time ---- */
/* Gradient of a layer's outputs: that of step t and sample n at p + t * step + n * row. */
struct dy {
    const psg_real *p; /* NULL: zeros */
    int64_t step, row;
};

/* to [N, size]: gradient of a unit's last state from output j of units from `first` on */
static void last_state_grad(const struct rnn_unit *u, int j, int first, int64_t size,
                            psg_real *to)
{
    const struct psg_call *c = u->c;
    int64_t row = (u->g->layers * u->g->dirs - first) * size;
    if (j < 0 || !c->dout[j] || u->index < first)
        c->be->fill(c->n * size, 0, to);
    else
        op_copy_rows(c->be, c->n, size, c->dout[j] + (u->index - first) * size, row, to,
                     size);
}

/* The gradient of h of one step passes through the projection: what reaches raw comes out
 * in r->raw, what goes around the step stays in dh. */
static void unproject(const struct rnn_unit *u, int64_t t, struct psg_cell *cell,
                      const struct room *r)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t n = u->c->n, size = n * g->ho;
    psg_real *here = u->dproj + t * size, *zero = r->block[1];
    struct psg_shape shape = PSG_SHAPE(n, g->ho);
    be->fill(size, 0, zero);
    op_copy(be, size, u->dh, here);
    if (cell->dy)
        be->binary(PSG_ADD, &shape, here, (const int64_t[]){ g->ho, 1 }, cell->dy,
                   (const int64_t[]){ cell->ld_dy, 1 }, here);
    if (u->mask) {
        const psg_real *mask = wide_mask(u, t, r);
        be->select(size, mask, here, zero, here);
        be->select(size, mask, zero, u->dh, u->dh);
    } else {
        be->fill(size, 0, u->dh);
    }
    dense_backward(be, n, g->h, g->ho, here, rnn_param(u, rnn_w_hr(g)), 0, r->raw);
    cell->dy = NULL;
    cell->dh = r->raw;
}

static void unit_prepare(const struct rnn_unit *u, struct dy dy, const struct room *r)
{
    const struct rnn_geom *g = u->g;
    const struct psg_backend *be = u->c->be;
    int64_t gh = g->gates * g->h;
    int units = g->layers * g->dirs;
    int last = g->ret == RETURN_LAST_HIDDEN ? 0 : g->ret == RETURN_ALL ? 1 : -1;
    struct psg_gemm m = { .m = u->c->n,
                          .n = g->ho,
                          .k = gh,
                          .lda = gh,
                          .ldb = g->ho,
                          .ldc = g->ho,
                          .alpha = 1,
                          .beta = 1 };
    last_state_grad(u, last, last == 0 ? units - g->dirs : 0, g->ho, u->dh);
    last_state_grad(u, g->ret == RETURN_ALL && u->cell ? 2 : -1, 0, g->h, u->dc);
    for (int64_t s = g->t - 1; s >= 0; s--) {
        int64_t t = time_of(u, s);
        struct psg_cell cell = cell_of(u, t);
        cell.dy = dy.p ? dy.p + t * dy.step + u->dir * g->ho : NULL;
        cell.ld_dy = dy.row;
        cell.dh = u->dh;
        cell.dc = u->dc;
        if (g->proj)
            unproject(u, t, &cell, r);
        be->cell_bwd(&cell);
        be->gemm(&m, cell.from_h ? cell.from_h : cell.gates, rnn_param(u, 1), u->dh);
    }
}

/* dx [T, N, in] of a layer, overwritten */
static void layer_back(const struct psg_call *c, int layer, psg_real *dx)
{
    const struct rnn_geom *g = c->geom;
    for (int d = 0; d < g->dirs; d++) {
        struct rnn_unit u = rnn_unit_of(c, layer, d);
        dense_backward(c->be, c->n * g->t, u.in, g->gates * g->h, u.gates, rnn_param(&u, 0),
                       d > 0, dx);
    }
}

void rnn_prepare(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    struct room r = room_of(c);
    int64_t w = g->dirs * g->ho;
    struct dy dy = { g->ret == RETURN_LAST_HIDDEN ? NULL : c->dout[0], w, g->t * w };
    for (int layer = g->layers - 1; layer >= 0 && c->n > 0; layer--) {
        for (int d = 0; d < g->dirs; d++) {
            struct rnn_unit u = rnn_unit_of(c, layer, d);
            unit_prepare(&u, dy, &r);
        }
        if (layer > 0) {
            layer_back(c, layer, r.dy);
            drop(c, &r, layer, r.dy);
            dy = (struct dy){ r.dy, c->n * w, w };
        }
    }
}

void rnn_backward(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    int64_t n = c->n;
    int units = g->layers * g->dirs;
    if (n > 0 && op_wants_din(c, 0)) {
        struct psg_shape shape = PSG_SHAPE(n, g->t, g->i);
        layer_back(c, 0, c->scratch);
        c->be->copy(&shape, sizeof(psg_real), c->scratch,
                    (const int64_t[]){ g->i, n * g->i, 1 }, c->din[0],
                    (const int64_t[]){ g->t * g->i, g->i, 1 });
    }
    for (int k = 0; k < units; k++) {
        struct rnn_unit u = rnn_unit_of(c, k / g->dirs, k % g->dirs);
        if (g->h0 >= 0 && op_wants_din(c, g->h0))
            op_copy_rows(c->be, n, g->ho, u.dh, g->ho, c->din[g->h0] + k * g->ho,
                         units * g->ho);
        if (g->c0 >= 0 && op_wants_din(c, g->c0))
            op_copy_rows(c->be, n, g->h, u.dc, g->h, c->din[g->c0] + k * g->h,
                         units * g->h);
    }
}
