/* hooks, ghost and auto: layer by layer, each node by a route of its own.
 *
 *   rows   the grad sampler of the op (or the rule derived from its lowering) writes per-sample
 *          gradients of this tile; norm and weighted sum read them
 *   norm   the norm sampler gives the squared norms without per-sample gradients; the sum is a
 *          second, weighted use of the same activations and backprops (book-keeping)
 *
 * hooks takes `rows` everywhere. ghost takes `norm` wherever the parameter is used once and the
 * op has a norm sampler; the norm of a tied parameter is the norm of a sum over its uses, whose
 * cross terms need rows of that one parameter for the samples of the tile. auto takes the route
 * that costs less (route.c). */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "backend/memory.h"
#include "mode/mode.h"

struct layered {
    enum route *route;    /* [n_nodes] */
    enum put **put;       /* [n_nodes][n_param] how a use of a parameter puts its rows */
    int64_t *row_at;      /* [n_params] place in a row, or -1: not kept as rows */
    int64_t row_length;   /* reals of a kept row */
    int64_t temp;         /* reals per sample for rows that are added */
    bool *norm_use;       /* [n_params] use[] of norm samplers for one group */
    int n_spans;
    struct span *span;
    int *n_uses;          /* [n_params] by nodes that lead to the loss */
    int n_role_max;
};

struct layered_worker {
    psg_real *row;  /* [tile, row_length] */
    psg_real *temp; /* [tile, temp] */
    psg_real **to, **only; /* [n_role_max] */
    bool *seen;     /* [n_params] rows of this tile begun */
    bool *use;      /* [n_role_max] */
    psg_real *onehot; /* [tile] */
};

static const struct psg_param_info *param_info(const struct psg_plan *plan,
                                               const struct node *node, int r)
{
    return &plan->program->params[node->param[r].param].info;
}

/* Which parameters are kept as rows, where, and which use writes and which adds. */
static void place_rows(const struct psg_plan *plan, struct layered *l)
{
    const struct psg_program *p = plan->program;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &p->nodes[i];
        int64_t temp = 0;
        for (int r = 0; l->route[i] == ROUTE_ROWS && r < node->n_param; r++) {
            if (!param_trainable(plan, node, r))
                continue;
            int number = node->param[r].param;
            bool first = l->row_at[number] < 0;
            /* a derived rule writes contiguous rows, so its rows pass through the temp room */
            bool direct = first && rule_has_grad(plan, i);
            l->put[i][r] = direct ? PUT_WRITE : PUT_ADD;
            if (first)
                l->row_at[number] = 0; /* found; placed below */
            if (!direct)
                temp += p->params[number].info.size;
        }
        if (temp > l->temp)
            l->temp = temp;
    }
    /* in flat order, so that neighbours in a row are neighbours in the sum */
    for (int pass = 0; pass < p->n_params; pass++) {
        if (l->row_at[pass] < 0)
            continue;
        l->row_at[pass] = l->row_length;
        l->row_length += p->params[pass].info.size;
    }
}

static int make_spans(const struct psg_plan *plan, struct layered *l)
{
    const struct psg_program *p = plan->program;
    l->span = calloc((size_t)p->n_params + 1, sizeof *l->span);
    if (!l->span)
        return PSG_E_NOMEM;
    for (int i = 0; i < p->n_params; i++) {
        const struct psg_param_info *info = &p->params[i].info;
        if (l->row_at[i] < 0)
            continue;
        struct span *last = l->n_spans > 0 ? &l->span[l->n_spans - 1] : NULL;
        if (last && last->group == plan->group[i] &&
            last->row_at + last->length == l->row_at[i] &&
            last->sum_at + last->length == info->offset)
            last->length += info->size;
        else
            l->span[l->n_spans++] = (struct span){ .row_at = l->row_at[i],
                                                   .sum_at = info->offset,
                                                   .length = info->size,
                                                   .group = plan->group[i] };
    }
    return 0;
}

static void layered_destroy(struct psg_plan *plan)
{
    struct layered *l = plan->mode_state;
    if (!l)
        return;
    for (int i = 0; l->put && i < plan->program->n_nodes; i++)
        free(l->put[i]);
    free(l->put);
    free(l->route);
    free(l->row_at);
    free(l->span);
    free(l->n_uses);
    free(l);
    plan->mode_state = NULL;
}

static int layered_fill(struct psg_plan *plan, struct layered *l)
{
    const struct psg_program *p = plan->program;
    l->route = calloc((size_t)p->n_nodes + 1, sizeof *l->route);
    l->put = calloc((size_t)p->n_nodes + 1, sizeof *l->put);
    l->row_at = calloc((size_t)p->n_params + 1, sizeof *l->row_at);
    l->n_uses = calloc((size_t)p->n_params + 1, sizeof *l->n_uses);
    if (!l->route || !l->put || !l->row_at || !l->n_uses)
        return PSG_E_NOMEM;
    for (int i = 0; i < p->n_params; i++)
        l->row_at[i] = -1;
    for (int i = 0; i < p->n_nodes; i++) {
        int n = p->nodes[i].n_param;
        l->put[i] = calloc((size_t)n + 1, sizeof *l->put[i]);
        if (!l->put[i])
            return PSG_E_NOMEM;
        if (n > l->n_role_max)
            l->n_role_max = n;
    }
    route_choose(plan, l->route, l->n_uses);
    place_rows(plan, l);
    plan->row_reals = l->row_length;
    plan->row_temp = l->temp;
    for (int i = 0; i < p->n_nodes; i++)
        plan->tp.node[i].summed = l->route[i] == ROUTE_NORM;
    return make_spans(plan, l);
}

static int layered_compile(struct psg_plan *plan, struct psg_error *err)
{
    int r = tile_compile(plan, plan->backward, err);
    if (r || !plan->backward)
        return r;
    plan->mode_state = calloc(1, sizeof(struct layered));
    if (!plan->mode_state || layered_fill(plan, plan->mode_state))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    return 0;
}

static int layered_open(struct worker *w, struct psg_error *err)
{
    const struct layered *l = w->plan->mode_state;
    int r = tile_open(w, err);
    if (r || !l)
        return r;
    int64_t tile = w->plan->tile;
    struct layered_worker *lw = worker_room(w, 1, sizeof *lw);
    if (!lw || !(lw->to = worker_room(w, l->n_role_max, sizeof *lw->to)) ||
        !(lw->only = worker_room(w, l->n_role_max, sizeof *lw->only)) ||
        !(lw->seen = worker_room(w, w->plan->program->n_params, sizeof *lw->seen)) ||
        !(lw->use = worker_room(w, l->n_role_max, sizeof *lw->use)) ||
        !(lw->onehot = worker_reals(w, tile)))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    lw->row = worker_at(w, w->plan->rooms.row);
    lw->temp = worker_at(w, w->plan->rooms.row_temp);
    w->mode_state = lw;
    return 0;
}

/* Adds rows that passed through the temp room to the kept rows, or writes them there. */
static void put_down(struct worker *w, int i, int64_t n)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    const struct node *node = &plan->program->nodes[i];
    for (int r = 0; r < node->n_param; r++) {
        if (l->put[i][r] != PUT_ADD)
            continue;
        int number = node->param[r].param;
        int64_t size = plan->program->params[number].info.size;
        for (int64_t s = 0; s < n; s++) {
            psg_real *row = lw->row + s * l->row_length + l->row_at[number];
            if (!lw->seen[number])
                plan->be->fill(size, 0, row);
            plan->be->axpy(size, 1, lw->to[r] + s * size, row);
        }
        lw->seen[number] = true;
    }
}

/* The norm of a parameter's rows, while they are still in cache. */
static void add_row_norms(struct worker *w, int number, int64_t n, double *sq)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    const struct layered_worker *lw = w->mode_state;
    plan->be->add_sqnorm(n, plan->program->params[number].info.size,
                         lw->row + l->row_at[number], l->row_length,
                         sq + plan->group[number] * plan->tile);
}

/* rows of one node: samplers write in place, second uses and derived rules through temp */
static void visit_rows(struct worker *w, int i, struct psg_call *call)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    const struct node *node = &plan->program->nodes[i];
    int64_t temp = 0;
    bool all_direct = true;
    for (int r = 0; r < node->n_param; r++) {
        lw->to[r] = NULL;
        if (l->put[i][r] == PUT_WRITE)
            lw->to[r] = lw->row + l->row_at[node->param[r].param];
        else if (l->put[i][r] == PUT_ADD) {
            lw->to[r] = lw->temp + temp;
            temp += param_info(plan, node, r)->size * plan->tile;
            all_direct = false;
        }
    }
    if (!rule_has_grad(plan, i)) {
        derive_run(w, i, plan->tp.node[i].rows, w->rows[i], call, lw->to);
    } else if (all_direct) {
        call->grad = lw->to;
        call->grad_stride = l->row_length;
        rule_grad_sample(plan, i, call);
    } else { /* one stride serves all roles of a call: each role apart */
        for (int r = 0; r < node->n_param; r++) {
            if (!lw->to[r])
                continue;
            lw->only[r] = lw->to[r];
            call->grad = lw->only;
            call->grad_stride = l->put[i][r] == PUT_WRITE ? l->row_length
                                                          : param_info(plan, node, r)->size;
            rule_grad_sample(plan, i, call);
            lw->only[r] = NULL;
        }
    }
    for (int r = 0; r < node->n_param; r++)
        if (l->put[i][r] == PUT_WRITE)
            lw->seen[node->param[r].param] = true;
    put_down(w, i, call->n);
}

static void visit_norms(struct worker *w, int i, struct psg_call *call, double *sq)
{
    const struct psg_plan *plan = w->plan;
    struct layered_worker *lw = w->mode_state;
    const struct node *node = &plan->program->nodes[i];
    for (int g = 0; g < plan->n_groups; g++) {
        bool any = false;
        for (int r = 0; r < node->n_param; r++) {
            lw->use[r] = param_trainable(plan, node, r) &&
                         plan->group[node->param[r].param] == g;
            any |= lw->use[r];
        }
        if (!any)
            continue;
        call->use = lw->use;
        call->sq = sq + g * plan->tile;
        rule_norm_sample(plan, i, call);
    }
}

static void visit(struct worker *w, int i, struct psg_call *call, void *arg)
{
    const struct layered *l = w->plan->mode_state;
    const struct node *node = &w->plan->program->nodes[i];
    if (l->route[i] == ROUTE_NORM)
        visit_norms(w, i, call, arg);
    if (l->route[i] != ROUTE_ROWS)
        return;
    visit_rows(w, i, call);
    for (int r = 0; r < node->n_param; r++) /* a tied parameter's norm needs all its uses */
        if (param_trainable(w->plan, node, r) && l->n_uses[node->param[r].param] == 1)
            add_row_norms(w, node->param[r].param, call->n, arg);
}

static void layered_norms(struct worker *w, int64_t n, double *sq)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    memset(lw->seen, 0, (size_t)plan->program->n_params * sizeof *lw->seen);
    memory_zero_doubles(plan->be, plan->n_groups * plan->tile, sq);
    tile_forward(w, n, true);
    tile_backward(w, n, visit, sq);
    for (int i = 0; i < plan->program->n_params; i++)
        if (l->row_at[i] >= 0 && l->n_uses[i] > 1)
            add_row_norms(w, i, n, sq);
}

/* Book-keeping: the weighted sum of one node from kept activations and backprops. */
static void sum_node(struct worker *w, int i, int64_t n, const psg_real *weight, psg_real *sum)
{
    const struct psg_plan *plan = w->plan;
    struct layered_worker *lw = w->mode_state;
    const struct node *node = &plan->program->nodes[i];
    struct tile_call tc;
    tile_call_init(w, i, n, PHASE_SUM, &tc);
    for (int g = 0; g < plan->n_groups; g++) {
        bool any = false;
        for (int r = 0; r < node->n_param; r++) {
            bool here = param_trainable(plan, node, r) &&
                        plan->group[node->param[r].param] == g;
            lw->to[r] = here ? sum + param_info(plan, node, r)->offset : NULL;
            any |= here;
        }
        if (!any)
            continue;
        tc.call.weight = weight + g * plan->tile;
        tc.call.sum = lw->to;
        rule_clipped_sum(plan, i, &tc.call);
    }
}

static void layered_sum(struct worker *w, int64_t n, const psg_real *weight, psg_real *sum)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    for (int k = 0; k < l->n_spans; k++) {
        const struct span *s = &l->span[k];
        plan->be->add_weighted(n, s->length, weight + s->group * plan->tile,
                               lw->row + s->row_at, l->row_length, sum + s->sum_at);
    }
    for (int i = 0; i < plan->program->n_nodes; i++)
        if (l->route[i] == ROUTE_NORM) {
            sum_node(w, i, n, weight, sum);
            tile_poison(w, time_sum(plan, i));
        }
}

/* Kept rows are copied; the rest comes out of the weighted sums, one sample at a time with
 * weight 1, which is what ghost mode knows about a single sample. */
static void layered_rows(struct worker *w, int64_t n, psg_real *rows)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    int64_t length = plan->program->trainable_size;
    plan->be->fill(n * length, 0, rows);
    for (int64_t s = 0; s < n; s++)
        for (int k = 0; k < l->n_spans; k++)
            plan->be->axpy(l->span[k].length, 1,
                           lw->row + s * l->row_length + l->span[k].row_at,
                           rows + s * length + l->span[k].sum_at);
    for (int i = 0; i < plan->program->n_nodes; i++) {
        if (l->route[i] != ROUTE_NORM)
            continue;
        for (int64_t s = 0; s < n; s++) {
            for (int g = 0; g < plan->n_groups; g++) {
                plan->be->fill(n, 0, w->weight + g * plan->tile);
                plan->be->fill(1, 1, w->weight + g * plan->tile + s);
            }
            sum_node(w, i, n, w->weight, rows + s * length);
        }
    }
}

/* The ordinary gradient: each node adds its share while backward passes by. */
static void visit_plain(struct worker *w, int i, struct psg_call *call, void *arg)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    const struct node *node = &plan->program->nodes[i];
    if (l->route[i] == ROUTE_NONE)
        return;
    if (!rule_has_sum(plan, i)) {
        visit_rows(w, i, call);
        return;
    }
    for (int r = 0; r < node->n_param; r++)
        lw->to[r] = param_trainable(plan, node, r)
                        ? (psg_real *)arg + param_info(plan, node, r)->offset
                        : NULL;
    call->weight = w->ones;
    call->sum = lw->to;
    rule_clipped_sum(plan, i, call);
}

static void layered_plain(struct worker *w, int64_t n, psg_real *sum)
{
    const struct psg_plan *plan = w->plan;
    const struct layered *l = plan->mode_state;
    struct layered_worker *lw = w->mode_state;
    memset(lw->seen, 0, (size_t)plan->program->n_params * sizeof *lw->seen);
    tile_forward(w, n, true);
    tile_backward(w, n, visit_plain, sum);
    for (int i = 0; i < plan->program->n_params; i++)
        if (lw->seen[i])
            plan->be->add_weighted(n, plan->program->params[i].info.size, w->ones,
                                   lw->row + l->row_at[i], l->row_length,
                                   sum + plan->program->params[i].info.offset);
}

static const psg_real *layered_input_grad(struct worker *w, int input)
{
    return w->grad[w->plan->program->inputs[input].value];
}

static const char *layered_route(const struct psg_plan *plan, int i)
{
    const struct layered *l = plan->mode_state;
    if (!l || l->route[i] == ROUTE_NONE)
        return "";
    if (l->route[i] == ROUTE_NORM)
        return "norm_sample";
    return rule_has_grad(plan, i) ? "grad_sample" : "derived";
}

const struct mode_vtable mode_layered = {
    .compile = layered_compile,
    .destroy = layered_destroy,
    .worker_open = layered_open,
    .worker_close = tile_close,
    .norms = layered_norms,
    .sum = layered_sum,
    .rows = layered_rows,
    .plain = layered_plain,
    .input_grad = layered_input_grad,
    .route = layered_route,
};
