/* The route of each node: what its per-sample gradients cost.
 *
 *   rows   the op's grad sampler writes a row for each sample; it is read for the norm and again
 *          for the weighted sum. With a batched product the ordinary gradient writes nothing per
 *          sample, so the whole row is extra
 *   norm   the norm alone, then the ordinary product on weighted backprops. Extra are the Gram
 *          matrices (or the product once more) and a scaled copy of what the product reads
 *
 * The choice is part of the result's bits: it follows from shapes and the constants below alone,
 * so that every process makes the same one. They were measured with bench_step on single layers,
 * on AVX-512 and AVX2 machines; ratios of memory to arithmetic matter, not the nanoseconds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mode/mode.h"

/* ns: of a row's element written once and read twice; of an element read, scaled and written;
 * of a multiply-add in a small product */
static const double ROW_NS = 0.3, COPY_NS = 0.3, MAC_NS = 0.02;

static const struct psg_param_info *info_of(const struct psg_program *p,
                                            const struct node *node, int r)
{
    return &p->params[node->param[r].param].info;
}

/* Rows in front of the last axis: how often a sample uses each weight. */
static double positions(const struct psg_program *p, const struct node *node)
{
    const struct psg_shape *out = &p->values[node->out[0]].type.shape;
    double n = 1;
    for (int i = 0; i + 1 < out->rank; i++)
        n *= (double)out->dim[i];
    return n;
}

static bool is_lookup(const struct psg_program *p, const struct node *node)
{
    return node->n_in > 0 && p->values[node->in[0]].type.dtype == PSG_I64;
}

/* A weight of rank 2 is a product with `t` rows of a sample. Weights of other ranks
 * (convolutions, scales) have norm samplers that form the row anyway: then the row is kept. */
static double norm_ns(const struct psg_shape *weight, double t)
{
    if (weight->rank != 2)
        return INFINITY;
    double in = (double)weight->dim[1], out = (double)weight->dim[0];
    double gram = t * t * (in + out), again = t * in * out;
    double norm = gram <= again ? gram * MAC_NS : again * MAC_NS + in * out * ROW_NS / 2;
    return norm + t * (in + out) * COPY_NS;
}

/* A lookup's row is a whole table; its norm merges the ids and adds up what they touch. */
static bool norm_is_cheaper(const struct psg_program *p, const struct node *node)
{
    double rows = 0, norm = 0, t = positions(p, node);
    const struct psg_shape *out = &p->values[node->out[0]].type.shape;
    for (int r = 0; r < node->n_param; r++) {
        const struct psg_param_info *info = info_of(p, node, r);
        if (!info->trainable)
            continue;
        rows += (double)info->size * ROW_NS;
        if (is_lookup(p, node))
            norm += 3 * COPY_NS * (double)psg_shape_size(out);
        else if (info->shape.rank != 1)
            norm += norm_ns(&info->shape, t);
    }
    return norm > 0 && norm < rows;
}

/* n_uses: of each parameter, by nodes that lead to the loss */
static enum route choose(const struct psg_program *p, enum psg_mode mode,
                         const struct psg_registry *registry, const struct node *node,
                         const int *n_uses)
{
    bool any = false, tied = false;
    for (int r = 0; r < node->n_param; r++) {
        any |= info_of(p, node, r)->trainable;
        tied |= n_uses[node->param[r].param] > 1;
    }
    if (!any)
        return ROUTE_NONE;
    bool can = rule_has_norm(registry, node->op) && !tied;
    if (!can || mode == PSG_MODE_HOOKS)
        return ROUTE_ROWS;
    if (mode == PSG_MODE_GHOST)
        return ROUTE_NORM;
    return norm_is_cheaper(p, node) ? ROUTE_NORM : ROUTE_ROWS;
}

void route_choose(const struct psg_plan *plan, enum route *route, int *n_uses)
{
    const struct psg_program *p = plan->program;
    for (int i = 0; i < p->n_nodes; i++)
        for (int r = 0; plan->tp.node[i].live && r < p->nodes[i].n_param; r++)
            n_uses[p->nodes[i].param[r].param]++;
    for (int i = 0; i < p->n_nodes; i++)
        if (plan->tp.node[i].live)
            route[i] = choose(p, plan->mode, plan->registry, &p->nodes[i], n_uses);
}

int64_t layered_row_reals(const struct psg_program *p, enum psg_mode mode,
                          const struct psg_registry *registry)
{
    _cleanup_free_ int *n_uses = calloc((size_t)p->n_params + 1, sizeof *n_uses);
    int64_t reals = 0;
    if (!n_uses)
        return p->trainable_size;
    for (int i = 0; i < p->n_nodes; i++)
        for (int r = 0; r < p->nodes[i].n_param; r++)
            n_uses[p->nodes[i].param[r].param]++;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        if (choose(p, mode, registry, node, n_uses) != ROUTE_ROWS)
            continue;
        for (int r = 0; r < node->n_param; r++)
            if (info_of(p, node, r)->trainable)
                reals += info_of(p, node, r)->size / n_uses[node->param[r].param];
    }
    return reals;
}
