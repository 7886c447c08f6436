/* Batching: the same function over a leading axis, one node for one node. Values that do not
 * depend on a batched input stay as they are and are computed once. */
#include "transform/transform.h"

#include <stdlib.h>

psg_value prim_batch_arg(const struct prim_batch *b, int i)
{
    return b->batched[i] ? b->in[i] : prim_repeat(b->g, b->in[i], b->size);
}

struct batching {
    struct psg_graph *g;
    const struct psg_graph *src;
    int64_t size;
    psg_value *map; /* [n_value] */
    bool *on;       /* [n_value] batched */
    psg_value *in;  /* of one node */
    bool *on_in;
};

static void batch_inputs(struct batching *x, const bool *batched)
{
    for (int i = 0; i < x->src->n_input; i++) {
        psg_value v = x->src->input[i];
        struct psg_type type = *prim_type(x->src, v);
        if (batched[i] && !prim_prepend(&type.shape, x->size, &type.shape))
            prim_fail(x->g, PSG_E_SHAPE, "vmap: input %d has no axis left", i);
        x->on[v] = batched[i];
        x->map[v] = psg_graph_input(x->g, type.dtype, &type.shape);
    }
}

static void batch_node(struct batching *x, const struct prim_node *n)
{
    const psg_value *old = prim_in(x->src, n);
    bool any = false;
    for (int k = 0; k < n->n_in; k++) {
        x->in[k] = x->map[old[k]];
        x->on_in[k] = x->on[old[k]];
        any |= x->on_in[k];
    }
    psg_graph_set_place(x->g, n->place);
    if (!any) {
        psg_value v = prim_append_copy(x->g, x->src, n, x->in);
        for (int k = 0; v != PSG_NONE && k < n->n_out; k++)
            x->map[n->out + k] = v + k;
        return;
    }
    for (int k = 0; k < n->n_out; k++) {
        x->map[n->out + k] = PSG_NONE;
        x->on[n->out + k] = true;
    }
    struct prim_batch b = { .g = x->g, .size = x->size, .src = x->src, .node = n, .in = x->in,
                            .batched = x->on_in, .out = x->map + n->out,
                            .out_batched = x->on + n->out };
    prim_table[n->kind]->batch(&b);
}

static void batch_outputs(struct batching *x, const bool *force, bool *out_batched)
{
    for (int j = 0; j < x->src->n_output && !x->g->err.status; j++) {
        psg_value v = x->src->output[j];
        bool on = x->on[v];
        bool repeat = !on && force && force[j];
        psg_graph_output(x->g, repeat ? prim_repeat(x->g, x->map[v], x->size) : x->map[v]);
        out_batched[j] = on || repeat;
    }
}

struct psg_graph *vmap_graph(const struct psg_graph *src, int64_t size, const bool *batched,
                             const bool *force, bool *out_batched, struct psg_error *err)
{
    struct batching x = { .g = psg_graph_new(), .src = src, .size = size };
    size_t nv = (size_t)src->n_value + 1, widest = 1;
    for (int i = 0; i < src->n_node; i++)
        widest = (size_t)src->node[i].n_in > widest ? (size_t)src->node[i].n_in : widest;
    x.map = malloc(nv * sizeof *x.map);
    x.on = calloc(nv, sizeof *x.on);
    x.in = malloc(widest * sizeof *x.in);
    x.on_in = malloc(widest * sizeof *x.on_in);
    bool room = x.g && x.map && x.on && x.in && x.on_in;
    if (room) {
        batch_inputs(&x, batched);
        for (int i = 0; i < src->n_node && !x.g->err.status; i++)
            if (src->node[i].kind != PRIM_INPUT)
                batch_node(&x, &src->node[i]);
        psg_graph_set_place(x.g, "");
        batch_outputs(&x, force, out_batched);
    }
    free(x.map);
    free(x.on);
    free(x.in);
    free(x.on_in);
    if (!room || x.g->err.status)
        return prim_abandon(x.g, err);
    return x.g;
}

struct psg_graph *psg_graph_vmap(const struct psg_graph *g, int64_t size, const bool *batched,
                                 struct psg_error *err)
{
    if (psg_graph_check(g, err))
        return NULL;
    if (size < 0) {
        psg_fail(err, PSG_E_SHAPE, "", "vmap: a batch of %lld is not possible", (long long)size);
        return NULL;
    }
    size_t n = (size_t)g->n_output + 1;
    bool *force = malloc(n), *out = malloc(n);
    struct psg_graph *r = NULL;
    if (force && out) {
        for (size_t i = 0; i < n; i++)
            force[i] = true;
        r = vmap_graph(g, size, batched, force, out, err);
    } else {
        psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    }
    free(force);
    free(out);
    return r;
}
