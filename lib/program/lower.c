/* A program as one graph of primitives. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "program/lower.h"

int node_lower(const struct psg_program *p, const struct node *node, struct psg_graph *g,
               const psg_value *in, const psg_value *param, psg_value random, bool training,
               psg_value *out)
{
    struct psg_type in_type[32];
    for (int i = 0; i < node->n_in; i++)
        in_type[i] = p->values[node->in[i]].type;
    for (int i = 0; i < node->n_out; i++)
        out[i] = PSG_NONE;
    struct psg_lower l = { .g = g,
                           .geom = node->geom,
                           .training = training,
                           .in = in,
                           .in_type = in_type,
                           .param = param,
                           .random = random,
                           .out = out };
    psg_graph_set_place(g, node->path);
    node->op->lower(&l);
    struct psg_error err;
    if (psg_graph_check(g, &err))
        return err.status;
    for (int i = 0; i < node->n_out; i++) {
        const struct psg_type *made = out[i] == PSG_NONE ? NULL : psg_graph_type(g, out[i]);
        const struct psg_type *want = &p->values[node->out[i]].type;
        if (!made || made->dtype != want->dtype || !psg_shape_equal(&made->shape, &want->shape))
            return PSG_E_SHAPE;
    }
    return 0;
}

static psg_value graph_input(struct psg_graph *g, const struct psg_type *type)
{
    return psg_graph_input(g, type->dtype, &type->shape);
}

static int lower_nodes(const struct psg_program *p, struct psg_graph *g, bool training,
                       const bool *round, psg_value *values, const psg_value *params, struct psg_error *err)
{
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        psg_value in[32], random = PSG_NONE;
        _cleanup_free_ psg_value *param = calloc((size_t)node->n_param + 1, sizeof *param);
        if (!param)
            return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
        for (int j = 0; j < node->n_in; j++)
            in[j] = values[node->in[j]];
        for (int j = 0; j < node->n_param; j++)
            param[j] = params[node->param[j].param];
        if (node->random > 0)
            random = psg_graph_input(g, PSG_REAL, &PSG_SHAPE(node->random));
        psg_value out[8];
        int r = node_lower(p, node, g, in, param, random, training, out);
        if (r && psg_graph_check(g, err))
            return r;
        if (r)
            return psg_fail(err, r, node->path,
                            "%s: the lowering's outputs are not what infer promised",
                            node->op->name);
        for (int j = 0; j < node->n_out; j++) {
            bool real = p->values[node->out[j]].type.dtype == PSG_REAL;
            bool rounds = round && round[i] && real;
            values[node->out[j]] = rounds ? psg_g_unary(g, PSG_BF16, out[j]) : out[j];
        }
    }
    return 0;
}

struct psg_graph *psg_program_lower(const struct psg_program *p, bool training,
                                    struct psg_error *err)
{
    return program_lower(p, training, NULL, err);
}

struct psg_graph *program_lower(const struct psg_program *p, bool training, const bool *round,
                                struct psg_error *err)
{
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    _cleanup_free_ psg_value *values = calloc((size_t)p->n_values + 1, sizeof *values);
    _cleanup_free_ psg_value *params = calloc((size_t)p->n_params + 1, sizeof *params);
    if (!g || !values || !params) {
        psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
        return NULL;
    }
    for (int i = 0; i < p->n_inputs; i++)
        values[p->inputs[i].value] = graph_input(g, &p->inputs[i].info.type);
    for (int i = 0; i < p->n_params; i++) {
        struct psg_type type = { PSG_REAL, p->params[i].info.shape };
        params[i] = graph_input(g, &type);
    }
    if (lower_nodes(p, g, training, round, values, params, err))
        return NULL;
    if (p->loss != PSG_NONE)
        psg_graph_output(g, values[p->loss]);
    if (p->output != PSG_NONE)
        psg_graph_output(g, values[p->output]);
    if (psg_graph_check(g, err))
        return NULL;
    return steal(&g);
}
