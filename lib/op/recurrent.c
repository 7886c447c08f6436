/* rnn_tanh, rnn_relu, gru, lstm: D directions of L layers over T steps (PyTorch's
 * formulas).
 *
 *   rnn   h' = f(W_ih x + b_ih + W_hh h + b_hh)
 *   gru   r, z = sigmoid(W_i. x + b_i. + W_h. h + b_h.), n = tanh(W_in x + b_in + r (W_hn h
 * + b_hn)), h' = (1 - z) n + z h; gates r, z, n lstm  i, f, o = sigmoid(...), g =
 * tanh(...), c' = f c + i g, h' = o tanh(c'); gates i, f, g, o; with proj_size h' = W_hr (o
 * tanh(c'))
 *
 *   x [N, T, I]; weight_ih_l0 [G H, I], weight_hh_l0 [G H, Ho], bias_ih_l0, bias_hh_l0 [G
 * H], weight_hr_l0 [Ho, H], then `_reverse`, then l1, whose input is [N, T, D Ho], with
 * dropout before it while training. Further inputs: lengths (int64 scalar), then h0 [L D,
 * Ho] and, for lstm, c0 [L D, H]. return: sequence [N, T, D Ho], zero past a sample's
 * length; last_hidden [N, D Ho] of the last layer; all: sequence, h_n [N, L D, Ho] and, for
 * lstm, c_n [N, L D, H].
 *
 * One product for the input projection of all steps, one for each step of the tile, one per
 * weight and sample for its gradient over all steps: dW_ih[n] = sum_t dgate[n, t] x[n, t],
 * dW_hh[n] = sum_t dgate[n, t] h[n, t - 1]. */
#include <stdio.h>

#include "op/ops.h"
#include "op/recurrent.h"

#define RNN_ATTRS                                                                          \
    { "input_size", PSG_ATTR_INT, "checked against the input's last axis when given" },    \
        { "hidden_size", PSG_ATTR_INT, "required" },                                       \
        { "num_layers", PSG_ATTR_INT, "1; up to 16" }, { "bias", PSG_ATTR_BOOL, "true" },  \
        { "batch_first", PSG_ATTR_BOOL, "no effect: a sample is [T, I] either way" },      \
        { "dropout", PSG_ATTR_REAL, "0; between layers, while training" },                 \
        { "bidirectional", PSG_ATTR_BOOL, "false" },                                       \
        { "return", PSG_ATTR_STRING, "sequence; or last_hidden, all" },                    \
    {                                                                                      \
        "lengths", PSG_ATTR_BOOL,                                                          \
            "checked when given: whether lengths are among the inputs"                     \
    }

static const struct psg_attr_spec rnn_attrs[] = { RNN_ATTRS, { NULL, 0, NULL } };
static const struct psg_attr_spec lstm_attrs[] = {
    RNN_ATTRS,
    { "proj_size", PSG_ATTR_INT, "0; below hidden_size" },
    { NULL, 0, NULL },
};

static int read_attrs(struct psg_infer *c, struct rnn_geom *g)
{
    g->gates = g->cell == PSG_CELL_LSTM ? 4 : g->cell == PSG_CELL_GRU ? 3 : 1;
    g->h = psg_infer_int_required(c, "hidden_size", 1, INT32_MAX);
    g->layers = (int)psg_infer_int(c, "num_layers", 1, 1, RNN_LAYERS_MAX);
    g->bias = psg_infer_bool(c, "bias", true);
    g->dropout = psg_infer_real(c, "dropout", 0, 0, 1);
    g->dirs = psg_infer_bool(c, "bidirectional", false) ? 2 : 1;
    g->ret = (enum rnn_return)psg_infer_choice(c, "return", "sequence",
                                               "sequence|last_hidden|all");
    psg_infer_bool(c, "batch_first", false);
    int64_t proj =
        g->cell == PSG_CELL_LSTM ? psg_infer_int(c, "proj_size", 0, 0, g->h - 1) : 0;
    g->proj = proj > 0;
    g->ho = g->proj ? proj : g->h;
    return psg_infer_status(c);
}

static int read_inputs(struct psg_infer *c, struct rnn_geom *g)
{
    const struct psg_shape *x = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (x->rank != 2 || x->dim[0] < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must be [T, I] with at least one step");
    g->t = x->dim[0];
    g->i = x->dim[1];
    g->lengths = g->h0 = g->c0 = -1;
    if (psg_infer_int(c, "input_size", g->i, 0, INT64_MAX) != g->i)
        return psg_infer_fail(c, PSG_E_SHAPE, "input_size",
                              "the input's last axis has %lld", (long long)g->i);
    for (int k = 1; k < c->n_in; k++) {
        const struct psg_type *in = &c->in[k];
        if (in->dtype == PSG_I64 && psg_shape_size(&in->shape) == 1 && g->lengths < 0) {
            g->lengths = k;
            psg_infer_index_range(c, k, 0, g->t + 1);
            continue;
        }
        bool cell = g->h0 >= 0;
        struct psg_shape want = PSG_SHAPE(g->layers * g->dirs, cell ? g->h : g->ho);
        if (in->dtype != PSG_REAL || !psg_shape_equal(&in->shape, &want) || g->c0 >= 0 ||
            (cell && g->cell != PSG_CELL_LSTM))
            return psg_infer_fail(
                c, PSG_E_SHAPE, NULL,
                "input %d is neither a length (one int64) nor a first state "
                "[layers * directions, size]",
                k);
        *(cell ? &g->c0 : &g->h0) = k;
    }
    op_check_input_flag(c, "lengths", g->lengths > 0);
    if (g->cell == PSG_CELL_LSTM && g->h0 >= 0 && g->c0 < 0)
        return psg_infer_fail(c, PSG_E_INVALID, NULL, "h0 needs c0 beside it");
    return psg_infer_status(c);
}

static void declare_params(struct psg_infer *c, const struct rnn_geom *g)
{
    struct psg_init init = op_init_fan_in(g->h);
    int64_t gh = g->gates * g->h;
    for (int k = 0; k < g->layers * g->dirs; k++) {
        int layer = k / g->dirs;
        int64_t in = layer == 0 ? g->i : g->dirs * g->ho;
        char end[32], role[64];
        snprintf(end, sizeof end, "_l%d%s", layer, k % g->dirs ? "_reverse" : "");
        snprintf(role, sizeof role, "weight_ih%s", end);
        op_param(c, role, PSG_SHAPE(gh, in), init);
        snprintf(role, sizeof role, "weight_hh%s", end);
        op_param(c, role, PSG_SHAPE(gh, g->ho), init);
        if (g->bias) {
            snprintf(role, sizeof role, "bias_ih%s", end);
            op_param(c, role, PSG_SHAPE(gh), init);
            snprintf(role, sizeof role, "bias_hh%s", end);
            op_param(c, role, PSG_SHAPE(gh), init);
        }
        if (g->proj) {
            snprintf(role, sizeof role, "weight_hr%s", end);
            op_param(c, role, PSG_SHAPE(g->ho, g->h), init);
        }
    }
}

/* the next `size` numbers of a layout */
static int64_t take(int64_t *at, int64_t size)
{
    int64_t from = *at;
    *at += size;
    return from;
}

static void declare_room(struct psg_infer *c, struct rnn_geom *g)
{
    int64_t t = g->t, w = g->dirs * g->ho, unit = 0, saved = 0;
    int64_t wide = g->i > w ? g->i : w, gh = g->gates * g->h;
    OP_PROD(c, g->gates, t + 1, g->h, 128 * RNN_LAYERS_MAX);
    OP_PROD(c, wide, t, 64 * RNN_LAYERS_MAX);
    OP_PROD(c, wide + g->h, gh, 64);
    OP_PROD(c, t, t, 64);
    if (psg_infer_status(c))
        return;
    g->at_gates = take(&unit, t * gh);
    g->at_from_h = take(&unit, g->cell == PSG_CELL_GRU ? t * gh : 0);
    g->at_h = take(&unit, (t + 1) * g->ho);
    g->at_c = take(&unit, g->cell == PSG_CELL_LSTM ? (t + 1) * g->h : 0);
    g->at_raw = take(&unit, g->proj ? t * g->h : 0);
    g->at_dproj = take(&unit, g->proj ? t * g->ho : 0);
    g->at_dh = take(&unit, g->ho);
    g->at_dc = take(&unit, g->h);
    g->unit_size = unit;
    g->at_mask = take(&saved, g->lengths >= 0 ? t : 0);
    for (int k = 0; k < g->layers; k++)
        g->at_x[k] = take(&saved, t * rnn_width(g, k));
    g->at_units = take(&saved, g->layers * g->dirs * unit);
    psg_infer_save(c, saved, 0);
    psg_infer_random(c, g->dropout > 0 ? (g->layers - 1) * t * w : 0);
    psg_infer_tile(c, RNN_TILE);
    rnn_declare_run(c, g);
    rnn_declare_rules(c, g);
}

static int rnn_infer(struct psg_infer *c, enum psg_cell_kind cell)
{
    struct rnn_geom *g = c->geom;
    g->cell = cell;
    if (read_attrs(c, g) || read_inputs(c, g))
        return psg_infer_status(c);
    declare_params(c, g);
    int64_t units = g->layers * g->dirs;
    if (g->ret == RETURN_LAST_HIDDEN)
        op_out(c, PSG_SHAPE(g->dirs * g->ho));
    else
        op_out(c, PSG_SHAPE(g->t, g->dirs * g->ho));
    if (g->ret == RETURN_ALL)
        op_out(c, PSG_SHAPE(units, g->ho));
    if (g->ret == RETURN_ALL && cell == PSG_CELL_LSTM)
        op_out(c, PSG_SHAPE(units, g->h));
    declare_room(c, g);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static int rnn_tanh_infer(struct psg_infer *c)
{
    return rnn_infer(c, PSG_CELL_RNN_TANH);
}

static int rnn_relu_infer(struct psg_infer *c)
{
    return rnn_infer(c, PSG_CELL_RNN_RELU);
}

static int gru_infer(struct psg_infer *c)
{
    return rnn_infer(c, PSG_CELL_GRU);
}

static int lstm_infer(struct psg_infer *c)
{
    return rnn_infer(c, PSG_CELL_LSTM);
}

#define SHARED_CASES                                                                       \
    { "hidden_size=3", "4x2" },                                                            \
        { "input_size=3 hidden_size=2 bidirectional=true num_layers=2 return=last_hidden", \
          "3x3" },                                                                         \
        { "hidden_size=3 bias=false", "1x4" },                                             \
        { "hidden_size=2 num_layers=2 dropout=0.4 bidirectional=true", "4x3" },            \
        { "hidden_size=2 num_layers=2 bidirectional=true", "4x3 i64<5:-" },                \
        { "hidden_size=3 return=last_hidden", "5x2 i64<6:1" },                             \
    {                                                                                      \
        "hidden_size=6 batch_first=true", "2x7"                                            \
    }

static const struct psg_op_case rnn_cases[] = {
    SHARED_CASES,
    { "hidden_size=3 return=all num_layers=2", "3x2 2x3" },
    { "hidden_size=2 bidirectional=true return=all", "3x2 i64<4:- 2x2" },
    { NULL, NULL },
};

static const struct psg_op_case lstm_cases[] = {
    SHARED_CASES,
    { "hidden_size=3 return=all num_layers=2", "3x2 2x3 2x3" },
    { "hidden_size=3 proj_size=2 bidirectional=true return=all", "3x2 i64<4:- 2x2 2x3" },
    { "hidden_size=4 proj_size=1 num_layers=2", "3x2" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", "lengths or h0", "h0 or c0", "c0", NULL };

#define RNN_OP(NAME, ATTRS, CASES, N_IN)                                                   \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = ATTRS,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = N_IN,                                                                  \
        .geom_size = sizeof(struct rnn_geom),                                              \
        .infer = NAME##_infer,                                                             \
        .forward = rnn_forward,                                                            \
        .prepare = rnn_prepare,                                                            \
        .backward = rnn_backward,                                                          \
        .grad_sample = rnn_grad_sample,                                                    \
        .norm_sample = rnn_norm_sample,                                                    \
        .clipped_sum = rnn_clipped_sum,                                                    \
        .lower = rnn_lower,                                                                \
        .cases = CASES,                                                                    \
    }

RNN_OP(rnn_tanh, rnn_attrs, rnn_cases, 3);
RNN_OP(rnn_relu, rnn_attrs, rnn_cases, 3);
RNN_OP(gru, rnn_attrs, rnn_cases, 3);
RNN_OP(lstm, lstm_attrs, lstm_cases, 4);
