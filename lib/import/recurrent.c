/* lstm, gru, rnn and their cells. */
#include <stdio.h>
#include <string.h>

#include "import/run.h"

struct rnn {
    const char *op;
    int states; /* 1, or 2 for lstm */
    struct im_tensor *x, *h[2], *w[IM_USES_MAX];
    int n_w;
    bool bias, bidirectional, batch_first, training;
    int64_t layers;
    double dropout;
};

/* Role of parameter number i: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0,
 * then _reverse, then the next layer. */
static const char *role_of(struct im_run *r, const struct rnn *n, int i, int each)
{
    static const char *const plain[] = { "weight_ih", "weight_hh", "bias_ih", "bias_hh" };
    int cell = i / each, k = i % each, dirs = n->bidirectional ? 2 : 1;
    const char *kind = k < (n->bias ? 4 : 2) ? plain[k] : "weight_hr";
    return im_pool_printf(r->pool, "%s_l%d%s", kind, cell / dirs,
                          cell % dirs ? "_reverse" : "");
}

static int read_weights(struct im_run *r, const struct rnn *n, struct im_node *node,
                        int *each)
{
    int cells = (int)n->layers * (n->bidirectional ? 2 : 1), status = 0;
    *each = cells > 0 ? n->n_w / cells : 0;
    int plain = n->bias ? 4 : 2;
    if (n->layers < 1 || n->layers > 16 || *each * cells != n->n_w ||
        (*each != plain && *each != plain + 1))
        return im_fail(r, PSG_E_SHAPE, "%d parameters do not fit the number of layers",
                       n->n_w);
    for (int i = 0; i < n->n_w && !status; i++) {
        const char *role = role_of(r, n, i, *each);
        status = role ? im_use(r, node, role, n->w[i]) : im_no_memory(r);
    }
    return status;
}

/* Initial states [L D, B, H]: zeros are what the layer starts with anyway. */
static int read_states(struct im_run *r, const struct rnn *n, struct im_tensor **in,
                       int *n_in)
{
    bool zero = true;
    for (int i = 0; i < n->states; i++)
        zero &= !n->h[i] || im_all_equal(n->h[i], 0);
    if (zero)
        return 0;
    for (int i = 0; i < n->states; i++) {
        struct im_tensor *h = n->h[i];
        if (h->rank != 3)
            return im_fail(r, PSG_E_SHAPE, "an initial state has three axes");
        if (h->batch < 0 && (h->dim[1] == 1 || h->same >> 1 & 1)) {
            struct im_tensor *y = im_tensor_copy(r, h);
            if (!y)
                return im_no_memory(r);
            y->dim[1] = 1;
            y->same &= ~2u;
            y->batch = 1;
            h = y;
        }
        if (h->batch != 1 || !im_pure_batch(h))
            return im_mixes(r, "initial states that are not one for each sample");
        in[(*n_in)++] = h;
    }
    return 0;
}

static int emit(struct im_run *r, const struct rnn *n, struct im_tensor **y)
{
    struct im_tensor *in[3], made[3];
    int at = n->batch_first ? 0 : 1, n_in = 1, each, status;
    if (n->x->rank != 3)
        return im_fail(r, PSG_E_SHAPE, "needs [batch, time, features]");
    if (n->x->batch != at || !im_pure_batch(n->x))
        return im_mixes(r, n->batch_first
                               ? "the batch is not axis 0: time would run over samples"
                               : "the batch is not axis 1: time would run over samples");
    struct im_node *node = im_node_new(r, n->op);
    if (!node)
        return im_no_memory(r);
    in[0] = n->x;
    if ((status = read_weights(r, n, node, &each)) ||
        (status = read_states(r, n, in, &n_in)))
        return status;
    int64_t hidden = n->w[1]->dim[0] / (n->states == 2 ? 4 : strcmp(n->op, "gru") ? 1 : 3);
    int64_t wide = n->w[1]->rank == 2 ? n->w[1]->dim[1] : 0,
            dirs = n->bidirectional ? 2 : 1;
    im_attr_int(node, "hidden_size", hidden);
    im_attr_int(node, "num_layers", n->layers);
    im_attr_bool(node, "bias", n->bias);
    im_attr_real(node, "dropout", n->training ? n->dropout : 0);
    im_attr_bool(node, "bidirectional", n->bidirectional);
    im_attr_text(node, "return", "all");
    if (wide < hidden && n->states == 2)
        im_attr_int(node, "proj_size", wide);
    node->n_out = 1 + n->states;
    if ((status = im_layer(r, node, in, n_in, made)))
        return status;
    for (int i = 0; i <= n->states; i++) {
        y[i] = im_tensor_copy(r, &made[i]);
        if (!y[i])
            return im_no_memory(r);
        y[i]->rank = 3;
        y[i]->batch = i == 0 ? at : 1;
        y[i]->dim[0] = i == 0 ? (at == 0 ? 1 : n->x->dim[0]) : n->layers * dirs;
        y[i]->dim[1] = i == 0 ? (at == 1 ? 1 : n->x->dim[1]) : 1;
        y[i]->dim[2] = i == 0 ? dirs * wide : i == 1 ? wide : hidden;
    }
    return 0;
}

/* (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first) */
static int sequence(struct im_run *r, const struct im_value *a, const char *op, int states,
                    struct im_value *out)
{
    struct rnn n = { .op = op, .states = states };
    struct im_tensor *y[3];
    int k = 0, status = im_arg_tensor(r, &a[0], &n.x);
    if (!status && a[2].kind != IM_LIST)
        return im_fail(r, PSG_E_UNSUPPORTED, "packed sequences; pass padded ones");
    if (!status && states == 2)
        status = im_arg_tensors(r, &a[1], n.h, 2, &k);
    else if (!status)
        status = im_arg_tensor(r, &a[1], &n.h[0]);
    if (!status && states == 2 && k != 2)
        return im_fail(r, PSG_E_SHAPE, "needs two initial states");
    if (!status)
        status = im_arg_tensors(r, &a[2], n.w, IM_USES_MAX, &n.n_w);
    if (!status)
        status = im_arg_bool(r, &a[3], true, &n.bias);
    if (!status)
        status = im_arg_int(r, &a[4], 1, &n.layers);
    if (!status)
        status = im_arg_real(r, &a[5], 0, &n.dropout);
    if (!status)
        status = im_arg_bool(r, &a[6], false, &n.training);
    if (!status)
        status = im_arg_bool(r, &a[7], false, &n.bidirectional);
    if (!status)
        status = im_arg_bool(r, &a[8], false, &n.batch_first);
    if (!status)
        status = emit(r, &n, y);
    if (status)
        return status;
    *out = im_list_new(r->pool, IM_TUPLE);
    for (int i = 0; out->kind != IM_NONE && i <= states; i++)
        if (im_list_push(r->pool, out->list, im_tensor_value(y[i])))
            return im_no_memory(r);
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

#define SEQUENCE(NAME, STATES)                                                             \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        return sequence(r, a, #NAME, STATES, out);                                         \
    }
SEQUENCE(lstm, 2)
SEQUENCE(gru, 1)
SEQUENCE(rnn_tanh, 1)
SEQUENCE(rnn_relu, 1)

/* A cell is a sequence of one step: (input [B, I], hx, w_ih, w_hh, b_ih, b_hh). */
static int cell(struct im_run *r, const struct im_value *a, const char *op, int states,
                struct im_value *out)
{
    struct rnn n = { .op = op, .states = states, .layers = 1, .batch_first = true };
    struct im_tensor *y[3];
    int k = states, status = im_arg_tensor(r, &a[0], &n.x);
    if (!status && states == 2)
        status = im_arg_tensors(r, &a[1], n.h, 2, &k);
    else if (!status)
        status = im_arg_tensor(r, &a[1], &n.h[0]);
    n.bias = im_given(&a[4]);
    for (int i = 0; i < (n.bias ? 4 : 2) && !status; i++)
        status = im_arg_tensor(r, &a[2 + i], &n.w[n.n_w++]);
    if (status)
        return status;
    if (n.x->rank != 2 || k != states)
        return im_fail(r, PSG_E_SHAPE, "needs [batch, features] and its states");
    for (int i = -1; i < states; i++) {
        struct im_tensor **t = i < 0 ? &n.x : &n.h[i];
        if ((*t)->rank != 2)
            return im_fail(r, PSG_E_SHAPE, "needs [batch, features] and its states");
        *t = im_tensor_copy(r, *t);
        if (!*t)
            return im_no_memory(r);
        im_add_axis(*t, i < 0 ? 1 : 0);
    }
    if ((status = emit(r, &n, y)))
        return status;
    for (int i = 1; i <= states; i++)
        im_drop_axis(y[i], 0);
    if (states == 1)
        return im_set(r, y[1], out);
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, im_tensor_value(y[1])) ||
        im_list_push(r->pool, out->list, im_tensor_value(y[2])))
        return im_no_memory(r);
    return 0;
}

#define CELL(NAME, OP, STATES)                                                             \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        return cell(r, a, #OP, STATES, out);                                               \
    }
CELL(lstm_cell, lstm, 2)
CELL(gru_cell, gru, 1)
CELL(rnn_tanh_cell, rnn_tanh, 1)
CELL(rnn_relu_cell, rnn_relu, 1)

#define ARGS "input hx params has_biases num_layers dropout train bidirectional batch_first"

const struct im_op im_ops_recurrent[] = {
    { "lstm", ARGS, op_lstm },
    { "gru", ARGS, op_gru },
    { "rnn_tanh", ARGS, op_rnn_tanh },
    { "rnn_relu", ARGS, op_rnn_relu },
    { "lstm_cell", "input hx w_ih w_hh b_ih b_hh", op_lstm_cell },
    { "gru_cell", "input hx w_ih w_hh b_ih b_hh", op_gru_cell },
    { "rnn_tanh_cell", "input hx w_ih w_hh b_ih b_hh", op_rnn_tanh_cell },
    { "rnn_relu_cell", "input hx w_ih w_hh b_ih b_hh", op_rnn_relu_cell },
    { NULL, NULL, NULL },
};
