/* Forward and backward of a tile, layer by layer, with the rules of the ops. */
#include "mode/mode.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int64_t value_size(const struct psg_plan *plan, psg_value v)
{
    return psg_shape_size(&plan->program->values[v].type.shape);
}

bool param_trainable(const struct psg_plan *plan, const struct node *node, int r)
{
    return plan->program->params[node->param[r].param].info.trainable;
}

static bool has_trainable(const struct psg_plan *plan, const struct node *node)
{
    for (int r = 0; r < node->n_param; r++)
        if (param_trainable(plan, node, r))
            return true;
    return false;
}

/* wants_grad: real values that depend on a trainable parameter (or, with input_grads, on a real
 * input) and lead to the loss. A node is live when one of its outputs is such a value. */
static int mark_live(struct psg_plan *plan)
{
    const struct psg_program *p = plan->program;
    struct tile_plan *tp = &plan->tp;
    _cleanup_free_ bool *leads = calloc((size_t)p->n_values + 1, sizeof *leads);
    if (!leads)
        return PSG_E_NOMEM;
    leads[p->loss] = true;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &p->nodes[i];
        bool any = false;
        for (int j = 0; j < node->n_out; j++)
            any |= leads[node->out[j]];
        for (int j = 0; any && j < node->n_in; j++)
            leads[node->in[j]] = true;
    }
    for (int i = 0; plan->input_grads && i < p->n_inputs; i++) {
        psg_value v = p->inputs[i].value;
        tp->wants_grad[v] = p->values[v].type.dtype == PSG_REAL && leads[v];
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        bool depends = has_trainable(plan, node);
        for (int j = 0; j < node->n_in; j++)
            depends |= tp->wants_grad[node->in[j]];
        for (int j = 0; j < node->n_out; j++) {
            psg_value v = node->out[j];
            tp->wants_grad[v] = depends && leads[v] && p->values[v].type.dtype == PSG_REAL;
            tp->node[i].live |= tp->wants_grad[v];
        }
    }
    return 0;
}

/* In order of execution (last node first): the first use of a value writes its gradient, later
 * ones add to it through the temp room. */
static void assign_puts(struct psg_plan *plan, bool *written)
{
    const struct psg_program *p = plan->program;
    struct tile_plan *tp = &plan->tp;
    written[p->loss] = true;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &p->nodes[i];
        struct node_plan *np = &tp->node[i];
        int64_t temp = 0;
        for (int j = 0; np->live && j < node->n_out; j++) {
            np->zero_out[j] = tp->wants_grad[node->out[j]] && !written[node->out[j]];
        }
        for (int j = 0; np->live && j < node->n_in; j++) {
            psg_value v = node->in[j];
            if (!tp->wants_grad[v])
                continue;
            np->in_put[j] = written[v] ? PUT_ADD : PUT_WRITE;
            np->in_temp[j] = temp;
            if (written[v])
                temp += value_size(plan, v);
            written[v] = true;
        }
        if (temp > tp->temp)
            tp->temp = temp;
    }
}

static int compile_backward(struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    _cleanup_free_ bool *written = calloc((size_t)p->n_values + 1, sizeof *written);
    if (!written || mark_live(plan))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    assign_puts(plan, written);
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        struct node_plan *np = &plan->tp.node[i];
        bool wants_in = false;
        for (int j = 0; j < node->n_in; j++)
            wants_in |= np->in_put[j] != PUT_NONE;
        bool wants_rows = np->live && has_trainable(plan, node);
        int r = 0;
        if (np->live && wants_in && !node->op->backward)
            r = derive_node(plan, i, true, &np->back, err);
        if (r == 0 && wants_rows && !rule_has_grad(plan, i))
            r = derive_node(plan, i, false, &np->rows, err);
        if (r)
            return r;
    }
    return 0;
}

static int compile_forward(struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    int r = 0;
    for (int i = 0; r == 0 && i < p->n_nodes; i++) {
        struct derived **forward = plan->tp.node[i].forward;
        if (p->nodes[i].op->forward)
            continue;
        r = derive_forward(plan, i, true, &forward[1], err);
        if (r == 0 && p->nodes[i].random > 0)
            r = derive_forward(plan, i, false, &forward[0], err);
    }
    return r;
}

int tile_compile(struct psg_plan *plan, bool backward, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    struct tile_plan *tp = &plan->tp;
    tp->node = calloc((size_t)p->n_nodes + 1, sizeof *tp->node);
    tp->wants_grad = calloc((size_t)p->n_values + 1, sizeof *tp->wants_grad);
    if (!tp->node || !tp->wants_grad)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        tp->node[i].in_put = calloc((size_t)node->n_in + 1, sizeof *tp->node[i].in_put);
        tp->node[i].in_temp = calloc((size_t)node->n_in + 1, sizeof *tp->node[i].in_temp);
        if (!tp->node[i].in_put || !tp->node[i].in_temp)
            return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    }
    int r = compile_forward(plan, err);
    if (r == 0 && backward)
        r = client_rules_bind(plan, err);
    return r || !backward ? r : compile_backward(plan, err);
}

void tile_destroy(struct psg_plan *plan)
{
    struct tile_plan *tp = &plan->tp;
    for (int i = 0; tp->node && i < plan->program->n_nodes; i++) {
        free(tp->node[i].in_put);
        free(tp->node[i].in_temp);
        derive_free(tp->node[i].back);
        derive_free(tp->node[i].rows);
        for (int k = 0; k < 2; k++)
            derive_free(tp->node[i].forward[k]);
        client_rules_free(tp->node[i].client);
    }
    free(tp->node);
    free(tp->wants_grad);
}

void *worker_at(const struct worker *w, int room)
{
    return room == NO_ROOM ? NULL : w->arena + w->plan->rooms.stay[room].offset;
}

void tile_poison(struct worker *w, int64_t t)
{
    const struct rooms *r = &w->plan->rooms;
    for (int i = 0; w->plan->poison && i < r->n; i++)
        if (r->stay[i].last == t && r->stay[i].bytes > 0 && !w->plan->be->device_memory)
            memset(w->arena + r->stay[i].offset, 0xff, (size_t)r->stay[i].bytes);
}

static bool open_values(struct worker *w)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    w->value = worker_room(w, p->n_values, sizeof *w->value);
    w->grad = worker_room(w, p->n_values, sizeof *w->grad);
    w->arena = worker_memory(w, plan->rooms.bytes, 1);
    if (!w->value || !w->grad || !w->arena)
        return false;
    for (int v = 0; v < p->n_values; v++) {
        w->value[v] = worker_at(w, plan->rooms.value[v]);
        w->grad[v] = worker_at(w, plan->rooms.grad[v]);
    }
    w->temp = worker_at(w, plan->rooms.temp);
    return true;
}

static bool open_nodes(struct worker *w)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    w->saved = worker_room(w, p->n_nodes, sizeof *w->saved);
    w->saved_i64 = worker_room(w, p->n_nodes, sizeof *w->saved_i64);
    w->random = worker_room(w, p->n_nodes, sizeof *w->random);
    w->back = worker_room(w, p->n_nodes, sizeof *w->back);
    w->rows = worker_room(w, p->n_nodes, sizeof *w->rows);
    for (int k = 0; k < 2; k++)
        w->forward[k] = worker_room(w, p->n_nodes, sizeof *w->forward[k]);
    w->param = worker_room(w, p->n_nodes, sizeof *w->param);
    if (!w->saved || !w->saved_i64 || !w->random || !w->back || !w->rows ||
        !w->forward[0] || !w->forward[1] || !w->param)
        return false;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        const struct node_rooms *nr = &plan->rooms.node[i];
        w->saved[i] = worker_at(w, nr->saved);
        w->saved_i64[i] = worker_at(w, nr->saved_i64);
        w->random[i] = worker_at(w, nr->random);
        w->param[i] = worker_room(w, node->n_param, sizeof *w->param[i]);
        if (!w->param[i])
            return false;
    }
    return true;
}

void worker_set_params(struct worker *w, const psg_real *params)
{
    const struct psg_program *p = w->plan->program;
    w->params = params;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        for (int r = 0; r < node->n_param; r++)
            w->param[i][r] = params + p->params[node->param[r].param].info.offset;
    }
}

static int open_derived(struct worker *w, const struct derived *d, struct psg_exec **execp,
                        struct psg_error *err)
{
    int r = d ? psg_exec_new(d->graph, w->plan->be, execp, err) : 0;
    if (d && r == 0)
        w->plan->bytes += psg_exec_bytes(*execp);
    return r;
}

int tile_open(struct worker *w, struct psg_error *err)
{
    const struct psg_plan *plan = w->plan;
    const struct tile_plan *tp = &plan->tp;
    if (!open_values(w) || !open_nodes(w))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = 0;
    for (int i = 0; r == 0 && i < plan->program->n_nodes; i++) {
        r = open_derived(w, tp->node[i].back, &w->back[i], err);
        if (r == 0)
            r = open_derived(w, tp->node[i].rows, &w->rows[i], err);
        for (int k = 0; r == 0 && k < 2; k++)
            r = open_derived(w, tp->node[i].forward[k], &w->forward[k][i], err);
    }
    return r;
}

void tile_close(struct worker *w)
{
    bool open = w->back && w->rows && w->forward[0] && w->forward[1];
    for (int i = 0; open && i < w->plan->program->n_nodes; i++) {
        psg_exec_free(w->back[i]);
        psg_exec_free(w->rows[i]);
        for (int k = 0; k < 2; k++)
            psg_exec_free(w->forward[k][i]);
    }
}

/* The value as the phase reads it: what was kept as bf16 is widened. */
static void *value_in(struct worker *w, int wide, psg_value v, int64_t n)
{
    const struct psg_plan *plan = w->plan;
    if (wide == NO_ROOM)
        return w->value[v];
    psg_real *to = worker_at(w, wide);
    plan->be->widen(n * value_size(plan, v), worker_at(w, plan->rooms.half[v]), to);
    return to;
}

/* What prepare wrote on the way back is still there when the sum is taken. */
static psg_real *saved_in(struct worker *w, int i, enum phase phase, int64_t n)
{
    const struct psg_plan *plan = w->plan;
    const struct node_rooms *nr = &plan->rooms.node[i];
    int read = phase == PHASE_SUM ? READ_SUM : READ_BACKWARD;
    if (phase < PHASE_BACKWARD || nr->wide_saved[read] == NO_ROOM)
        return w->saved[i];
    psg_real *to = worker_at(w, nr->wide_saved[read]);
    if (read == READ_BACKWARD || nr->wide_saved[read] != nr->wide_saved[READ_BACKWARD])
        plan->be->widen(n * plan->program->nodes[i].save_real, worker_at(w, nr->half_saved), to);
    return to;
}

void tile_call_init(struct worker *w, int i, int64_t n, enum phase phase, struct tile_call *tc)
{
    const struct psg_plan *plan = w->plan;
    const struct node *node = &plan->program->nodes[i];
    const struct node_rooms *nr = &plan->rooms.node[i];
    const int *wide = phase == PHASE_BACKWARD ? nr->wide[READ_BACKWARD]
                      : phase == PHASE_SUM    ? nr->wide[READ_SUM]
                                              : NULL;
    for (int j = 0; j < node->n_in; j++)
        tc->in[j] = value_in(w, wide ? wide[j] : NO_ROOM, node->in[j], n);
    for (int j = 0; j < node->n_out; j++) {
        tc->out[j] = value_in(w, wide ? wide[node->n_in + j] : NO_ROOM, node->out[j], n);
        tc->dout[j] = w->grad[node->out[j]];
    }
    tc->call = (struct psg_call){ .be = plan->be,
                                  .geom = node->geom,
                                  .n = n,
                                  .training = phase != PHASE_EVALUATE,
                                  .in = tc->in,
                                  .out = tc->out,
                                  .param = w->param[i],
                                  .saved = saved_in(w, i, phase, n),
                                  .saved_i64 = w->saved_i64[i],
                                  .random = w->random[i],
                                  .scratch = worker_at(w, nr->scratch[phase]),
                                  .dout = tc->dout };
}

/* Numbers of a node become bf16 numbers, and are kept as such where the plan says so. */
static void round_numbers(struct worker *w, int64_t n, int half, psg_real *x)
{
    const struct psg_backend *be = w->plan->be;
    if (half == NO_ROOM) {
        be->unary(PSG_BF16, n, x, x);
        return;
    }
    be->narrow(n, x, worker_at(w, half));
    be->widen(n, worker_at(w, half), x);
}

static void round_node(struct worker *w, int i, int64_t n)
{
    const struct psg_plan *plan = w->plan;
    const struct node *node = &plan->program->nodes[i];
    const struct node_rooms *nr = &plan->rooms.node[i];
    for (int j = 0; j < node->n_out; j++) {
        psg_value v = node->out[j];
        if (plan->program->values[v].type.dtype == PSG_REAL)
            round_numbers(w, n * value_size(plan, v), plan->rooms.half[v], w->value[v]);
    }
    if (node->save_real > 0)
        round_numbers(w, n * node->save_real, nr->half_saved, w->saved[i]);
}

void tile_forward(struct worker *w, int64_t n, bool training)
{
    const struct psg_program *p = w->plan->program;
    for (int i = 0; i < p->n_nodes; i++) {
        struct tile_call tc;
        tile_call_init(w, i, n, training ? PHASE_FORWARD : PHASE_EVALUATE, &tc);
        bool drawn = training || !w->forward[0][i];
        if (p->nodes[i].op->forward)
            p->nodes[i].op->forward(&tc.call);
        else
            derive_run_forward(w, i, w->forward[drawn][i], &tc.call);
        if (training && w->plan->round[i])
            round_node(w, i, n);
        tile_poison(w, time_forward(i));
    }
}

/* Where backward of a node writes: the gradient itself, or the temp room to be added. */
static bool din_places(struct worker *w, int i, psg_real **din)
{
    const struct node *node = &w->plan->program->nodes[i];
    const struct node_plan *np = &w->plan->tp.node[i];
    bool any = false;
    for (int j = 0; j < node->n_in; j++) {
        din[j] = NULL;
        if (np->in_put[j] == PUT_WRITE)
            din[j] = w->grad[node->in[j]];
        else if (np->in_put[j] == PUT_ADD)
            din[j] = w->temp + np->in_temp[j] * w->plan->tile;
        any |= din[j] != NULL;
    }
    return any;
}

static void node_backward(struct worker *w, int i, struct psg_call *call)
{
    const struct psg_plan *plan = w->plan;
    const struct node *node = &plan->program->nodes[i];
    psg_real *din[32];
    if (!din_places(w, i, din))
        return;
    call->din = din;
    if (node->op->backward)
        node->op->backward(call);
    else
        derive_run(w, i, plan->tp.node[i].back, w->back[i], call, din);
    for (int j = 0; j < node->n_in; j++)
        if (plan->tp.node[i].in_put[j] == PUT_ADD)
            plan->be->axpy(call->n * value_size(plan, node->in[j]), 1, din[j],
                           w->grad[node->in[j]]);
    call->din = NULL;
}

void tile_backward(struct worker *w, int64_t n, tile_visit visit, void *arg)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    if (!plan->tp.wants_grad[p->loss])
        return;
    plan->be->fill(n, 1, w->grad[p->loss]);
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &p->nodes[i];
        const struct node_plan *np = &plan->tp.node[i];
        if (!np->live)
            continue;
        for (int j = 0; j < node->n_out; j++)
            if (np->zero_out[j])
                plan->be->fill(n * value_size(plan, node->out[j]), 0, w->grad[node->out[j]]);
        struct tile_call tc;
        tile_call_init(w, i, n, PHASE_BACKWARD, &tc);
        if (node->op->prepare)
            node->op->prepare(&tc.call);
        visit(w, i, &tc.call, arg);
        node_backward(w, i, &tc.call);
        tile_poison(w, time_backward(plan, i));
    }
}
