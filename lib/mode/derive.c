/* Rules that an op leaves out, made from its lowering: vjp of one node, vmapped over a tile. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "mode/mode.h"

struct derived *derive_free(struct derived *d)
{
    if (!d)
        return NULL;
    psg_graph_free(d->graph);
    free(d->of);
    free(d);
    return NULL;
}

static void derive_freep(struct derived **dp)
{
    *dp = derive_free(*dp);
}

/* Inputs: the node's inputs, its parameters, random numbers if it draws. Outputs: those of the
 * node's outputs that have a gradient, or all of them. */
static struct psg_graph *node_graph(const struct psg_plan *plan, const struct node *node,
                                    bool training, bool all, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    _cleanup_free_ psg_value *param = calloc((size_t)node->n_param + 1, sizeof *param);
    psg_value in[32], out[8], random = PSG_NONE;
    if (!g || !param) {
        psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
        return NULL;
    }
    for (int j = 0; j < node->n_in; j++) {
        const struct psg_type *type = &p->values[node->in[j]].type;
        in[j] = psg_graph_input(g, type->dtype, &type->shape);
    }
    for (int r = 0; r < node->n_param; r++)
        param[r] = psg_graph_input(g, PSG_REAL, &p->params[node->param[r].param].info.shape);
    if (node->random > 0)
        random = psg_graph_input(g, PSG_REAL, &PSG_SHAPE(node->random));
    int r = node_lower(p, node, g, in, param, random, training, out);
    for (int j = 0; r == 0 && j < node->n_out; j++)
        if (all || plan->tp.wants_grad[node->out[j]])
            psg_graph_output(g, out[j]);
    if (r == 0)
        r = psg_graph_check(g, err);
    else if (psg_graph_check(g, err) == 0)
        psg_fail(err, r, node->path, "%s: its lowering is not what infer promised",
                 node->op->name);
    return r ? NULL : steal(&g);
}

/* Lists what the gradient is taken of, as graph inputs; d keeps slots or roles. */
static void list_wrt(const struct psg_plan *plan, int i, bool inputs, struct derived *d,
                     int *wrt)
{
    const struct node *node = &plan->program->nodes[i];
    for (int j = 0; inputs && j < node->n_in; j++) {
        if (plan->tp.node[i].in_put[j] == PUT_NONE)
            continue;
        d->of[d->n_wrt] = j;
        wrt[d->n_wrt++] = j;
    }
    for (int r = 0; !inputs && r < node->n_param; r++) {
        if (!param_trainable(plan, node, r))
            continue;
        d->of[d->n_wrt] = r;
        wrt[d->n_wrt++] = node->n_in + r;
    }
}

/* One graph over a tile: what the samples share is not batched. */
static int derive_batch(const struct psg_plan *plan, const struct node *node,
                        const struct psg_graph *one, struct derived *d, struct psg_error *err)
{
    int n = psg_graph_n_inputs(one);
    _cleanup_free_ bool *batched = calloc((size_t)n + 1, sizeof *batched);
    if (!batched)
        return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
    for (int k = 0; k < n; k++)
        batched[k] = k < node->n_in || k >= node->n_in + node->n_param;
    _cleanup_(psg_graph_freep) struct psg_graph *many =
        psg_graph_vmap(one, plan->tile, batched, err);
    if (!many)
        return err ? err->status : PSG_E_UNSUPPORTED;
    d->graph = psg_graph_simplify(many, err);
    return d->graph ? 0 : err ? err->status : PSG_E_UNSUPPORTED;
}

int derive_forward(const struct psg_plan *plan, int i, bool training, struct derived **dp,
                   struct psg_error *err)
{
    const struct node *node = &plan->program->nodes[i];
    _cleanup_(derive_freep) struct derived *d = calloc(1, sizeof *d);
    if (!d)
        return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
    _cleanup_(psg_graph_freep) struct psg_graph *one =
        node_graph(plan, node, training, true, err);
    if (!one)
        return err ? err->status : PSG_E_UNSUPPORTED;
    int r = derive_batch(plan, node, one, d, err);
    if (r == 0)
        *dp = steal(&d);
    return r;
}

int derive_node(const struct psg_plan *plan, int i, bool inputs, struct derived **dp,
                struct psg_error *err)
{
    const struct node *node = &plan->program->nodes[i];
    size_t most = (size_t)(node->n_in + node->n_param) + 1;
    _cleanup_(derive_freep) struct derived *d = calloc(1, sizeof *d);
    _cleanup_free_ int *wrt = calloc(most, sizeof *wrt);
    if (!d || !wrt || !(d->of = calloc(most, sizeof(int))))
        return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
    list_wrt(plan, i, inputs, d, wrt);
    _cleanup_(psg_graph_freep) struct psg_graph *one = node_graph(plan, node, true, false, err);
    if (!one)
        return err ? err->status : PSG_E_UNSUPPORTED;
    _cleanup_(psg_graph_freep) struct psg_graph *vjp = psg_graph_vjp(one, wrt, d->n_wrt, err);
    if (!vjp)
        return err ? err->status : PSG_E_UNSUPPORTED;
    int r = derive_batch(plan, node, vjp, d, err);
    if (r == 0)
        *dp = steal(&d);
    return r;
}

/* What every derived rule begins with: inputs, parameters, random numbers; how many. */
static int put_arguments(const struct node *node, const struct psg_call *call, const void **in)
{
    int k = 0;
    for (int j = 0; j < node->n_in; j++)
        in[k++] = call->in[j];
    for (int r = 0; r < node->n_param; r++)
        in[k++] = call->param[r];
    if (node->random > 0)
        in[k++] = call->random;
    return k;
}

void derive_run_forward(struct worker *w, int i, struct psg_exec *exec,
                        const struct psg_call *call)
{
    const struct node *node = &w->plan->program->nodes[i];
    put_arguments(node, call, w->exec_in);
    for (int j = 0; j < node->n_out; j++)
        w->exec_out[j] = call->out[j];
    psg_exec_run(exec, w->exec_in, w->exec_out);
}

void derive_run(struct worker *w, int i, const struct derived *d, struct psg_exec *exec,
                const struct psg_call *call, psg_real *const *to)
{
    const struct psg_plan *plan = w->plan;
    const struct node *node = &plan->program->nodes[i];
    const void **in = w->exec_in;
    void **out = w->exec_out;
    int k = put_arguments(node, call, in);
    for (int j = 0; j < node->n_out; j++)
        if (plan->tp.wants_grad[node->out[j]])
            in[k++] = call->dout[j];
    for (int j = 0; j < d->n_wrt; j++)
        out[j] = to[d->of[j]];
    psg_exec_run(exec, in, out);
}
