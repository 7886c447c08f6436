/* Recurrent nets as primitives: a scan over time for each unit. */
#include "op/recurrent.h"

/* A unit's values: x [T, in] and parameters. */
struct unit {
    struct psg_lower *l;
    const struct rnn_geom *g;
    const psg_value *param;
    psg_value mask; /* [T], or PSG_NONE */
};

/* the part [k size, (k + 1) size) of a vector */
static psg_value part(struct psg_graph *g, psg_value v, int k, int64_t size)
{
    int64_t start[1] = { k * size }, limit[1] = { (k + 1) * size }, step[1] = { 1 };
    return psg_g_slice(g, v, start, limit, step);
}

static psg_value relu(struct psg_graph *s, psg_value x)
{
    psg_value zero = psg_g_scalar(s, 0);
    return psg_g_select(s, psg_g_binary(s, PSG_LE, x, zero), zero, x);
}

static psg_value matvec(struct psg_graph *g, psg_value w, psg_value v)
{
    struct psg_dot dims = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 0 } };
    return psg_g_dot(g, w, v, &dims);
}

static psg_value input(struct psg_graph *g, int64_t size)
{
    struct psg_shape shape = PSG_SHAPE(size);
    return psg_graph_input(g, PSG_REAL, &shape);
}

static psg_value lstm_cell(struct psg_graph *g, int64_t h, psg_value a, psg_value *c)
{
    psg_value i = psg_g_sigmoid(g, part(g, a, 0, h)),
              f = psg_g_sigmoid(g, part(g, a, 1, h));
    psg_value n = psg_g_tanh(g, part(g, a, 2, h)), o = psg_g_sigmoid(g, part(g, a, 3, h));
    *c = psg_g_add(g, psg_g_mul(g, f, *c), psg_g_mul(g, i, n));
    return psg_g_mul(g, o, psg_g_tanh(g, *c));
}

static psg_value gru_cell(struct psg_graph *g, int64_t h, psg_value x, psg_value a,
                          psg_value old)
{
    psg_value r = psg_g_sigmoid(g, psg_g_add(g, part(g, x, 0, h), part(g, a, 0, h)));
    psg_value z = psg_g_sigmoid(g, psg_g_add(g, part(g, x, 1, h), part(g, a, 1, h)));
    psg_value n =
        psg_g_tanh(g, psg_g_add(g, part(g, x, 2, h), psg_g_mul(g, r, part(g, a, 2, h))));
    psg_value keep = psg_g_mul(g, z, old);
    return psg_g_add(g, psg_g_mul(g, psg_g_sub(g, psg_g_scalar(g, 1), z), n), keep);
}

/* Inputs: h (, c), x's gates (, mask), W_hh (, b_hh) (, W_hr). Outputs: h (, c), h. */
static struct psg_graph *step_graph(const struct unit *u)
{
    const struct rnn_geom *g = u->g;
    struct psg_graph *s = psg_graph_new();
    bool lstm = g->cell == PSG_CELL_LSTM;
    struct psg_shape w = PSG_SHAPE(g->gates * g->h, g->ho), hr = PSG_SHAPE(g->ho, g->h);
    struct psg_shape scalar = { 0 };
    if (!s)
        return NULL;
    psg_value h = input(s, g->ho), c = lstm ? input(s, g->h) : PSG_NONE;
    psg_value x = input(s, g->gates * g->h);
    psg_value mask = u->mask == PSG_NONE ? PSG_NONE : psg_graph_input(s, PSG_REAL, &scalar);
    psg_value a = matvec(s, psg_graph_input(s, PSG_REAL, &w), h);
    if (g->bias)
        a = psg_g_add(s, a, input(s, g->gates * g->h));
    psg_value new_c = c, new_h;
    if (lstm)
        new_h = lstm_cell(s, g->h, psg_g_add(s, a, x), &new_c);
    else if (g->cell == PSG_CELL_GRU)
        new_h = gru_cell(s, g->h, x, a, h);
    else if (g->cell == PSG_CELL_RNN_TANH)
        new_h = psg_g_tanh(s, psg_g_add(s, a, x));
    else
        new_h = relu(s, psg_g_add(s, a, x));
    if (g->proj)
        new_h = matvec(s, psg_graph_input(s, PSG_REAL, &hr), new_h);
    if (mask != PSG_NONE) {
        new_h = psg_g_select(s, mask, new_h, h);
        new_c = lstm ? psg_g_select(s, mask, new_c, c) : PSG_NONE;
    }
    psg_graph_output(s, new_h);
    if (lstm)
        psg_graph_output(s, new_c);
    psg_graph_output(s, new_h);
    return s;
}

/* row `index` of a first state [L D, size], or zeros */
static psg_value first_state(struct psg_lower *l, int slot, int index, int64_t size)
{
    int64_t start[2] = { index, 0 }, limit[2] = { index + 1, size }, step[2] = { 1, 1 };
    if (slot < 0)
        return op_g_full(l, 1, &size, 0);
    return OP_RESHAPE(l, psg_g_slice(l->g, l->in[slot], start, limit, step), size);
}

/* out: last h, last c (lstm), the sequence [T, Ho] */
static void unit_lower(const struct unit *u, int index, psg_value x, psg_value *h,
                       psg_value *c, psg_value *seq)
{
    const struct rnn_geom *g = u->g;
    struct psg_lower *l = u->l;
    psg_value carry[2], xs[2], consts[3], out[3] = { PSG_NONE, PSG_NONE, PSG_NONE };
    int n_carry = 0, n_xs = 0, n_consts = 0;
    struct psg_dot dims = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    carry[n_carry++] = first_state(l, g->h0, index, g->ho);
    if (g->cell == PSG_CELL_LSTM)
        carry[n_carry++] = first_state(l, g->c0, index, g->h);
    xs[n_xs] = psg_g_dot(l->g, x, u->param[0], &dims);
    if (g->bias)
        xs[n_xs] = psg_g_add(l->g, xs[n_xs], u->param[2]);
    n_xs++;
    if (u->mask != PSG_NONE)
        xs[n_xs++] = u->mask;
    consts[n_consts++] = u->param[1];
    if (g->bias)
        consts[n_consts++] = u->param[3];
    if (g->proj)
        consts[n_consts++] = u->param[rnn_w_hr(g)];
    struct psg_graph *body = step_graph(u);
    if (body)
        psg_g_scan(l->g, body, g->t, index % g->dirs == 1, carry, n_carry, xs, n_xs, consts,
                   n_consts, out);
    psg_graph_free(body);
    *h = out[0];
    *c = g->cell == PSG_CELL_LSTM ? out[1] : PSG_NONE;
    *seq = out[n_carry];
}

/* [T, D Ho] * dropout before the next layer */
static psg_value drop_lower(struct psg_lower *l, int layer, psg_value x)
{
    const struct rnn_geom *g = l->geom;
    int64_t size = g->t * g->dirs * g->ho;
    int64_t start[1] = { (layer - 1) * size }, limit[1] = { layer * size }, step[1] = { 1 };
    if (!l->training || g->dropout == 0)
        return x;
    psg_value u = psg_g_slice(l->g, l->random, start, limit, step);
    psg_value keep = psg_g_binary(l->g, PSG_GE, u, psg_g_scalar(l->g, g->dropout));
    keep = psg_g_mul(l->g, OP_RESHAPE(l, keep, g->t, g->dirs * g->ho),
                     psg_g_scalar(l->g, g->dropout < 1 ? 1 / (1 - g->dropout) : 0));
    return psg_g_mul(l->g, x, keep);
}

/* vectors one after the other as the rows of [n, size] */
static psg_value stack(struct psg_lower *l, psg_value *v, int n)
{
    psg_value row[2 * RNN_LAYERS_MAX];
    for (int k = 0; k < n; k++)
        row[k] = op_g_unsqueeze(l, v[k], 0);
    return psg_g_concat(l->g, row, n, 0);
}

void rnn_lower(struct psg_lower *l)
{
    const struct rnn_geom *g = l->geom;
    psg_value x = l->in[0], h[2 * RNN_LAYERS_MAX], c[2 * RNN_LAYERS_MAX], seq[2];
    struct unit u = { .l = l, .g = g, .mask = PSG_NONE };
    int units = g->layers * g->dirs;
    if (g->lengths >= 0) {
        struct psg_shape shape = PSG_SHAPE(g->t);
        psg_value n = psg_g_convert(l->g, OP_RESHAPE(l, l->in[g->lengths], 1));
        u.mask = psg_g_binary(l->g, PSG_LT, psg_g_iota(l->g, &shape, 0), n);
    }
    for (int layer = 0; layer < g->layers; layer++) {
        if (layer > 0)
            x = drop_lower(l, layer, x);
        for (int d = 0; d < g->dirs; d++) {
            int k = layer * g->dirs + d;
            u.param = l->param + k * rnn_n_param(g);
            unit_lower(&u, k, x, &h[k], &c[k], &seq[d]);
        }
        x = g->dirs == 1 ? seq[0] : psg_g_concat(l->g, seq, 2, 1);
        if (u.mask != PSG_NONE)
            x = psg_g_mul(l->g, x, OP_RESHAPE(l, u.mask, g->t, 1));
    }
    l->out[0] = x;
    if (g->ret == RETURN_LAST_HIDDEN)
        l->out[0] = psg_g_concat(l->g, h + units - g->dirs, g->dirs, 0);
    if (g->ret == RETURN_ALL)
        l->out[1] = stack(l, h, units);
    if (g->ret == RETURN_ALL && g->cell == PSG_CELL_LSTM)
        l->out[2] = stack(l, c, units);
}
