/* What a layer costs, counted on its lowering (psg/check.h). */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mode/mode.h"
#include "prim/prim.h"
#include "psg/check.h"

static double size_of(const struct psg_graph *g, psg_value v)
{
    return (double)psg_shape_size(prim_shape(g, v));
}

static double dot_flops(const struct psg_graph *g, const struct prim_node *node)
{
    const struct psg_dot *dims = node->attr;
    const struct psg_shape *a = prim_shape(g, prim_in(g, node)[0]);
    double sum = 2 * size_of(g, node->out);
    for (int i = 0; i < dims->n_contract; i++)
        sum *= (double)a->dim[dims->contract_a[i]];
    return sum;
}

/* A multiply and an add are two; moving numbers is none. */
static double graph_flops(const struct psg_graph *g, int depth)
{
    double sum = 0;
    for (int i = 0; i < g->n_node && depth < PRIM_MAX_DEPTH; i++) {
        const struct prim_node *node = &g->node[i];
        const struct attr_scan *scan = node->attr;
        switch (node->kind) {
        case PRIM_DOT: sum += dot_flops(g, node); break;
        case PRIM_UNARY:
        case PRIM_BINARY:
        case PRIM_SELECT: sum += size_of(g, node->out); break;
        case PRIM_REDUCE:
        case PRIM_FOLD: sum += size_of(g, prim_in(g, node)[0]); break;
        case PRIM_SCATTER_ADD: sum += size_of(g, prim_in(g, node)[1]); break;
        case PRIM_SCAN:
            sum += (double)scan->length * graph_flops(scan->body, depth + 1);
            break;
        default: break;
        }
    }
    return sum;
}

static int forward_flops(const struct psg_program *p, const struct node *node, double *flops,
                         struct psg_error *err)
{
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    _cleanup_free_ psg_value *param = calloc((size_t)node->n_param + 1, sizeof *param);
    psg_value in[32], out[8], random = PSG_NONE;
    if (!g || !param)
        return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
    for (int j = 0; j < node->n_in; j++) {
        const struct psg_type *type = &p->values[node->in[j]].type;
        in[j] = psg_graph_input(g, type->dtype, &type->shape);
    }
    for (int r = 0; r < node->n_param; r++)
        param[r] = psg_graph_input(g, PSG_REAL, &p->params[node->param[r].param].info.shape);
    if (node->random > 0)
        random = psg_graph_input(g, PSG_REAL, &PSG_SHAPE(node->random));
    int r = node_lower(p, node, g, in, param, random, true, out);
    if (r)
        return psg_fail(err, r, node->path, "%s: its lowering fails", node->op->name);
    *flops = graph_flops(g, 0);
    return 0;
}

static bool first_use(const struct psg_program *p, int node, int param)
{
    for (int i = 0; i < node; i++)
        for (int r = 0; r < p->nodes[i].n_param; r++)
            if (p->nodes[i].param[r].param == param)
                return false;
    return true;
}

/* The rows of a step: written, squared for the norm, weighted for the sum. The norm route takes
 * Gram matrices of a weight's `t` uses by a sample, or rows one at a time where these are less. */
static double extra_flops(const struct psg_program *p, const struct node *node, const char *route)
{
    double extra = 0, t = 1;
    const struct psg_shape *out = &p->values[node->out[0]].type.shape;
    bool lookup = node->n_in > 0 && p->values[node->in[0]].type.dtype == PSG_I64;
    for (int i = 0; i + 1 < out->rank; i++)
        t *= (double)out->dim[i];
    for (int r = 0; r < node->n_param; r++) {
        const struct psg_param_info *info = &p->params[node->param[r].param].info;
        double size = (double)info->size;
        if (!info->trainable)
            continue;
        if (strcmp(route, "norm_sample") == 0 && lookup) { /* repeated ids are merged */
            extra += 3 * (double)psg_shape_size(out);
            continue;
        }
        if (strcmp(route, "norm_sample") != 0 || info->shape.rank != 2) {
            extra += 4 * size;
            continue;
        }
        double both = (double)(info->shape.dim[0] + info->shape.dim[1]);
        double gram = 2 * t * t * both, again = 2 * t * size + 2 * size;
        extra += (gram < again ? gram : again) + t * both;
    }
    return extra;
}

int psg_layer_cost(const struct psg_plan *plan, const struct psg_program *p, int i,
                   struct psg_layer_cost *cost, struct psg_error *err)
{
    if (i < 0 || i >= p->n_nodes || plan->program != p)
        return psg_fail(err, PSG_E_RANGE, NULL, "there is no layer %d", i);
    const struct node *node = &p->nodes[i];
    *cost = (struct psg_layer_cost){ .path = node->path,
                                     .op = node->op->name,
                                     .route = "",
                                     .type = p->values[node->out[0]].type };
    int64_t reals = node->save_real;
    const struct node_plan *np = plan->tp.node ? &plan->tp.node[i] : NULL; /* not in one graph */
    bool live = plan->backward && (!np || np->live), passes = false;
    for (int j = 0; j < node->n_out; j++)
        reals += psg_shape_size(&p->values[node->out[j]].type.shape) * (live ? 2 : 1);
    for (int j = 0; live && j < node->n_in; j++)
        passes = passes || (np ? np->in_put[j] != PUT_NONE : p->values[node->in[j]].node >= 0);
    int64_t own = 0;
    for (int r = 0; r < node->n_param; r++) {
        const struct psg_param_info *info = &p->params[node->param[r].param].info;
        own += info->trainable ? info->size : 0;
        if (!first_use(p, i, node->param[r].param))
            continue;
        cost->params += info->size;
        cost->trainable += info->trainable ? info->size : 0;
    }
    if (own && live)
        cost->route = psg_plan_route(plan, i);
    cost->activation_bytes = reals * (int64_t)sizeof(psg_real) + node->save_i64 * 8;
    if (cost->route[0] && strcmp(cost->route, "norm_sample") != 0)
        cost->row_bytes = cost->trainable * (int64_t)sizeof(psg_real);
    int r = forward_flops(p, node, &cost->forward_flops, err);
    if (r)
        return r;
    cost->plain_flops = cost->forward_flops * (1 + passes + (own && live ? 1 : 0));
    cost->private_flops = cost->plain_flops;
    if (own && live)
        cost->private_flops += extra_flops(p, node, cost->route);
    return 0;
}
