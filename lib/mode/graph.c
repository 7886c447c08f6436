/* functorch and ew: the whole program as one transformed graph of primitives.
 *
 *   functorch   vmap(grad(program)): the gradient program of one sample, then a batch axis
 *   ew          grad(vmap(program)) on expanded weights: every sample gets its own copy of the
 *               parameters, the batched program is differentiated for the copies, function by
 *               function, so that each primitive's rule sees the batch
 *
 * The two meet no common rule order, so each checks the other; neither needs a sampler. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "backend/memory.h"
#include "mode/mode.h"

struct graph_mode {
    struct psg_graph *graph; /* outputs: loss [N], output [N, ...] if any, gradients */
    int n_wrt;
    int *wrt; /* [n_wrt] graph inputs: program inputs first, then parameters */
};

struct graph_worker {
    struct psg_exec *exec;
    const void **in;
    void **out;
    psg_real **grad; /* [n_wrt] -> [tile, size] */
};

static int n_random_nodes(const struct psg_program *p)
{
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++)
        n += p->nodes[i].random > 0;
    return n;
}

/* Inputs of the lowered program: program inputs, parameters, random numbers. */
static bool is_param_input(const struct psg_program *p, int k)
{
    return k >= p->n_inputs && k < p->n_inputs + p->n_params;
}

static int list_wrt(const struct psg_plan *plan, struct graph_mode *gm)
{
    const struct psg_program *p = plan->program;
    gm->wrt = calloc((size_t)(p->n_inputs + p->n_params) + 1, sizeof *gm->wrt);
    if (!gm->wrt)
        return PSG_E_NOMEM;
    for (int i = 0; plan->input_grads && i < p->n_inputs; i++)
        if (p->inputs[i].info.type.dtype == PSG_REAL)
            gm->wrt[gm->n_wrt++] = i;
    for (int i = 0; i < p->n_params; i++)
        if (p->params[i].info.trainable)
            gm->wrt[gm->n_wrt++] = p->n_inputs + i;
    return 0;
}

static struct psg_graph *build_functorch(const struct psg_plan *plan,
                                         const struct graph_mode *gm,
                                         const struct psg_graph *one, bool *batched,
                                         struct psg_error *err)
{
    _cleanup_(psg_graph_freep) struct psg_graph *grad =
        psg_graph_grad(one, gm->wrt, gm->n_wrt, err);
    if (!grad)
        return NULL;
    for (int k = 0; k < psg_graph_n_inputs(one); k++)
        batched[k] = !is_param_input(plan->program, k);
    return psg_graph_vmap(grad, plan->tile, batched, err);
}

/* [tile, shape] of a parameter's value: one copy for each sample. */
static psg_value expand(struct psg_graph *g, psg_value v, int64_t tile)
{
    const struct psg_type type = *psg_graph_type(g, v);
    struct psg_shape shape = { .rank = type.shape.rank + 1, .dim = { tile } };
    int map[PSG_MAX_RANK];
    for (int i = 0; i < type.shape.rank; i++) {
        shape.dim[i + 1] = type.shape.dim[i];
        map[i] = i + 1;
    }
    return psg_g_broadcast(g, v, &shape, map);
}

/* The graph around the batched program and its vjp: expands the parameters, asks for the
 * gradient of the sum of losses. */
static struct psg_graph *wrap_expanded(const struct psg_plan *plan, const struct psg_graph *one,
                                       const struct psg_graph *many,
                                       const struct psg_graph *vjp, psg_value *arg,
                                       psg_value *out, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    if (!g) {
        psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
        return NULL;
    }
    int n_in = psg_graph_n_inputs(one), n_out = psg_graph_n_outputs(one);
    for (int k = 0; k < n_in; k++) {
        bool param = is_param_input(p, k);
        const struct psg_graph *like = param ? one : many;
        const struct psg_type *type = psg_graph_type(like, psg_graph_input_at(like, k));
        arg[k] = psg_graph_input(g, type->dtype, &type->shape);
    }
    for (int k = 0; k < n_in; k++)
        if (is_param_input(p, k))
            arg[k] = expand(g, arg[k], plan->tile);
    int r = psg_graph_inline(g, many, arg, out);
    for (int j = 0; r == 0 && j < n_out; j++) {
        psg_graph_output(g, out[j]);
        const struct psg_type type = *psg_graph_type(g, out[j]);
        arg[n_in + j] = psg_g_full(g, &type.shape, j == 0 ? 1 : 0);
    }
    if (r == 0)
        r = psg_graph_inline(g, vjp, arg, out);
    for (int j = 0; r == 0 && j < psg_graph_n_outputs(vjp); j++)
        psg_graph_output(g, out[j]);
    if (psg_graph_check(g, err) || r)
        return NULL;
    return steal(&g);
}

static struct psg_graph *build_ew(const struct psg_plan *plan, const struct graph_mode *gm,
                                  const struct psg_graph *one, bool *batched,
                                  struct psg_error *err)
{
    int n_in = psg_graph_n_inputs(one);
    for (int k = 0; k < n_in; k++)
        batched[k] = true;
    _cleanup_(psg_graph_freep) struct psg_graph *many =
        psg_graph_vmap(one, plan->tile, batched, err);
    if (!many)
        return NULL;
    _cleanup_(psg_graph_freep) struct psg_graph *vjp =
        psg_graph_vjp(many, gm->wrt, gm->n_wrt, err);
    _cleanup_free_ psg_value *arg = calloc((size_t)n_in + 4, sizeof *arg);
    _cleanup_free_ psg_value *out = calloc((size_t)gm->n_wrt + 4, sizeof *out);
    if (!vjp)
        return NULL;
    if (!arg || !out) {
        psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
        return NULL;
    }
    return wrap_expanded(plan, one, many, vjp, arg, out, err);
}

static int build(struct psg_plan *plan, struct graph_mode *gm, struct psg_error *err)
{
    _cleanup_(psg_graph_freep) struct psg_graph *one =
        program_lower(plan->program, true, plan->round, err);
    if (!one)
        return PSG_E_UNSUPPORTED;
    _cleanup_free_ bool *batched =
        calloc((size_t)psg_graph_n_inputs(one) + 1, sizeof *batched);
    if (!batched)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    _cleanup_(psg_graph_freep) struct psg_graph *raw =
        plan->mode == PSG_MODE_EW ? build_ew(plan, gm, one, batched, err)
                                  : build_functorch(plan, gm, one, batched, err);
    if (!raw)
        return PSG_E_UNSUPPORTED;
    gm->graph = psg_graph_simplify(raw, err);
    return gm->graph ? 0 : PSG_E_NOMEM;
}

static int graph_compile(struct psg_plan *plan, struct psg_error *err)
{
    struct psg_error own = { 0 };
    int r = tile_compile(plan, false, err);
    if (r || !plan->backward)
        return r;
    plan->whole_graph = true;
    struct graph_mode *gm = plan->mode_state = calloc(1, sizeof *gm);
    if (!gm || list_wrt(plan, gm))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    r = build(plan, gm, &own);
    if (r == 0)
        return 0;
    return psg_fail(err, own.status ? own.status : r, own.place, "%s", own.text);
}

static void graph_destroy(struct psg_plan *plan)
{
    struct graph_mode *gm = plan->mode_state;
    if (!gm)
        return;
    psg_graph_free(gm->graph);
    free(gm->wrt);
    free(gm);
    plan->mode_state = NULL;
}

static int64_t wrt_size(const struct psg_program *p, int k)
{
    return k < p->n_inputs ? psg_shape_size(&p->inputs[k].info.type.shape)
                           : p->params[k - p->n_inputs].info.size;
}

static int graph_open(struct worker *w, struct psg_error *err)
{
    const struct psg_program *p = w->plan->program;
    const struct graph_mode *gm = w->plan->mode_state;
    int r = tile_open(w, err);
    if (r || !gm)
        return r;
    struct graph_worker *gw = w->mode_state = worker_room(w, 1, sizeof *gw);
    if (!gw || !(gw->grad = worker_room(w, gm->n_wrt, sizeof *gw->grad)) ||
        !(gw->out = worker_room(w, gm->n_wrt + 2, sizeof *gw->out)) ||
        !(gw->in = worker_room(w, p->n_inputs + p->n_params + n_random_nodes(p),
                               sizeof *gw->in)))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    for (int k = 0; k < gm->n_wrt; k++)
        if (!(gw->grad[k] = worker_reals(w, wrt_size(p, gm->wrt[k]) * w->plan->tile)))
            return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    r = psg_exec_new(gm->graph, w->plan->be, &gw->exec, err);
    if (r == 0)
        w->plan->bytes += psg_exec_bytes(gw->exec);
    return r;
}

static void graph_close(struct worker *w)
{
    struct graph_worker *gw = w->mode_state;
    if (gw)
        gw->exec = psg_exec_free(gw->exec);
    tile_close(w);
}

static void run_exec(struct worker *w)
{
    const struct psg_program *p = w->plan->program;
    const struct graph_mode *gm = w->plan->mode_state;
    struct graph_worker *gw = w->mode_state;
    int in = 0, out = 0;
    for (int i = 0; i < p->n_inputs; i++)
        gw->in[in++] = w->value[p->inputs[i].value];
    for (int i = 0; i < p->n_params; i++)
        gw->in[in++] = w->params + p->params[i].info.offset;
    for (int i = 0; i < p->n_nodes; i++)
        if (p->nodes[i].random > 0)
            gw->in[in++] = w->random[i];
    gw->out[out++] = w->value[p->loss];
    if (p->output != PSG_NONE)
        gw->out[out++] = w->value[p->output];
    for (int k = 0; k < gm->n_wrt; k++)
        gw->out[out++] = gw->grad[k];
    psg_exec_run(gw->exec, gw->in, gw->out);
}

static void graph_norms(struct worker *w, int64_t n, double *sq)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    const struct graph_mode *gm = plan->mode_state;
    struct graph_worker *gw = w->mode_state;
    run_exec(w);
    memory_zero_doubles(plan->be, plan->n_groups * plan->tile, sq);
    for (int k = 0; k < gm->n_wrt; k++) {
        int64_t size = wrt_size(p, gm->wrt[k]);
        if (gm->wrt[k] >= p->n_inputs)
            plan->be->add_sqnorm(n, size, gw->grad[k], size,
                                 sq + plan->group[gm->wrt[k] - p->n_inputs] * plan->tile);
    }
}

static void graph_sum(struct worker *w, int64_t n, const psg_real *weight, psg_real *sum)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    const struct graph_mode *gm = plan->mode_state;
    struct graph_worker *gw = w->mode_state;
    for (int k = 0; k < gm->n_wrt; k++) {
        int number = gm->wrt[k] - p->n_inputs;
        if (number < 0)
            continue;
        const struct psg_param_info *info = &p->params[number].info;
        plan->be->add_weighted(n, info->size, weight + plan->group[number] * plan->tile,
                               gw->grad[k], info->size, sum + info->offset);
    }
}

static void graph_rows(struct worker *w, int64_t n, psg_real *rows)
{
    const struct psg_plan *plan = w->plan;
    const struct psg_program *p = plan->program;
    const struct graph_mode *gm = plan->mode_state;
    struct graph_worker *gw = w->mode_state;
    for (int k = 0; k < gm->n_wrt; k++) {
        if (gm->wrt[k] < p->n_inputs)
            continue;
        const struct psg_param_info *info = &p->params[gm->wrt[k] - p->n_inputs].info;
        plan->be->copy(&PSG_SHAPE(n, info->size), sizeof(psg_real), gw->grad[k],
                       (int64_t[]){ info->size, 1 }, rows + info->offset,
                       (int64_t[]){ p->trainable_size, 1 });
    }
}

static const psg_real *graph_input_grad(struct worker *w, int input)
{
    const struct graph_mode *gm = w->plan->mode_state;
    struct graph_worker *gw = w->mode_state;
    for (int k = 0; k < gm->n_wrt; k++)
        if (gm->wrt[k] == input)
            return gw->grad[k];
    return NULL;
}

static const char *graph_route(const struct psg_plan *plan, int node)
{
    (void)node;
    return plan->mode == PSG_MODE_EW ? "grad(vmap)" : "vmap(grad)";
}

const struct mode_vtable mode_graph = {
    .compile = graph_compile,
    .destroy = graph_destroy,
    .worker_open = graph_open,
    .worker_close = graph_close,
    .norms = graph_norms,
    .sum = graph_sum,
    .rows = graph_rows,
    .input_grad = graph_input_grad,
    .route = graph_route,
};
