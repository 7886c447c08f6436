/* Reverse mode: cotangents flow from the outputs to the inputs, each node's vjp rule writing
 * nodes of the new graph, so that the result can be differentiated again. */
#include "transform/transform.h"

#include <stdlib.h>

void grad_mark(const struct psg_graph *g, const bool *on, bool *need)
{
    for (int i = 0; i < g->n_input; i++)
        need[g->input[i]] = on[i] && prim_is_real(g, g->input[i]);
    for (int i = 0; i < g->n_node; i++) {
        const struct prim_node *n = &g->node[i];
        const psg_value *in = prim_in(g, n);
        bool any = false;
        for (int k = 0; k < n->n_in; k++)
            any |= need[in[k]];
        for (int k = 0; any && prim_table[n->kind]->vjp && k < n->n_out; k++)
            need[n->out + k] = prim_is_real(g, n->out + k);
    }
}

/* Operands of a node and which of them need a cotangent; true when one does. */
static bool load_operands(struct grad *r, const struct prim_node *n)
{
    const psg_value *in = prim_in(r->src, n);
    bool some = false;
    for (int k = 0; k < n->n_in; k++) {
        r->need_in[k] = r->need[in[k]];
        some |= r->need_in[k];
        r->room[k] = r->map[in[k]];
        r->room[n->n_in + k] = PSG_NONE;
    }
    return some;
}

/* ---- forward ---- */

static void forward_node(struct grad *r, int i)
{
    const struct prim_node *n = &r->src->node[i];
    bool some = load_operands(r, n);
    psg_value v;
    psg_graph_set_place(r->g, n->place);
    if (some && prim_table[n->kind]->forward) {
        struct prim_vjp d = { .g = r->g, .node = n, .in = r->room, .need = r->need_in };
        v = prim_table[n->kind]->forward(&d, &r->keep[i]);
    } else {
        v = prim_append_copy(r->g, r->src, n, r->room);
    }
    for (int k = 0; v != PSG_NONE && k < n->n_out; k++)
        r->map[n->out + k] = v + k;
}

static bool grad_alloc(struct grad *r)
{
    size_t nv = (size_t)r->src->n_value + 1, widest = 1;
    for (int i = 0; i < r->src->n_node; i++)
        if ((size_t)r->src->node[i].n_in > widest)
            widest = (size_t)r->src->node[i].n_in;
    r->need = calloc(nv, sizeof *r->need);
    r->map = malloc(nv * sizeof *r->map);
    r->ct = malloc(nv * sizeof *r->ct);
    r->room = malloc(2 * widest * sizeof *r->room);
    r->need_in = malloc(widest * sizeof *r->need_in);
    if (r->src->depth)
        r->keep = calloc((size_t)r->src->n_node, sizeof *r->keep);
    if (!r->need || !r->map || !r->ct || !r->room || !r->need_in ||
        (r->src->depth && !r->keep))
        return false;
    for (size_t i = 0; i < nv; i++)
        r->ct[i] = r->map[i] = PSG_NONE;
    return true;
}

int grad_forward(struct grad *r, struct psg_graph *g, const struct psg_graph *src,
                 const psg_value *args, const bool *on)
{
    *r = (struct grad){ .g = g, .src = src };
    const char *place = g->place;
    if (!grad_alloc(r)) {
        prim_fail(g, PSG_E_NOMEM, "out of memory");
        return (int)g->err.status;
    }
    grad_mark(src, on, r->need);
    for (int i = 0; i < src->n_input; i++)
        r->map[src->input[i]] = args[i];
    for (int i = 0; i < src->n_node && !g->err.status; i++)
        if (src->node[i].kind != PRIM_INPUT)
            forward_node(r, i);
    if (!g->err.status)
        g->place = place;
    return (int)g->err.status;
}

void grad_close(struct grad *r)
{
    for (int i = 0; r->keep && i < r->src->n_node; i++)
        if (r->keep[i])
            prim_table[r->src->node[i].kind]->unkeep(r->keep[i]);
    free(r->need);
    free(r->map);
    free(r->ct);
    free(r->room);
    free(r->need_in);
    free(r->keep);
}

/* ---- backward ---- */

static void add_ct(struct grad *r, psg_value v, psg_value ct)
{
    if (ct != PSG_NONE && r->need[v])
        r->ct[v] = r->ct[v] == PSG_NONE ? ct : psg_g_add(r->g, r->ct[v], ct);
}

static void backward_node(struct grad *r, int i)
{
    const struct prim_node *n = &r->src->node[i];
    const psg_value *in = prim_in(r->src, n);
    bool some_ct = false;
    for (int k = 0; k < n->n_out; k++)
        some_ct |= r->ct[n->out + k] != PSG_NONE;
    if (!some_ct || !prim_table[n->kind]->vjp || !load_operands(r, n))
        return;
    psg_graph_set_place(r->g, n->place);
    struct prim_vjp d = { .g = r->g, .node = n, .in = r->room, .out = r->map + n->out,
                          .ct = r->ct + n->out, .need = r->need_in, .din = r->room + n->n_in,
                          .keep = r->keep ? r->keep[i] : NULL };
    prim_table[n->kind]->vjp(&d);
    for (int k = 0; k < n->n_in; k++)
        add_ct(r, in[k], d.din[k]);
}

int grad_backward(struct grad *r, const psg_value *seed)
{
    const char *place = r->g->place;
    for (int j = 0; j < r->src->n_output; j++)
        add_ct(r, r->src->output[j], seed[j]);
    for (int i = r->src->n_node - 1; i >= 0 && !r->g->err.status; i--)
        backward_node(r, i);
    if (!r->g->err.status)
        r->g->place = place;
    return (int)r->g->err.status;
}

/* ---- the two public forms ---- */

static int check_wrt(const struct psg_graph *g, const int *wrt, int n_wrt, struct psg_error *err)
{
    int r = psg_graph_check(g, err);
    if (r)
        return r;
    for (int i = 0; i < n_wrt; i++)
        if (wrt[i] < 0 || wrt[i] >= g->n_input || !prim_is_real(g, g->input[wrt[i]]))
            return psg_fail(err, PSG_E_INVALID, "", "input %d of the graph has no gradient",
                            wrt[i]);
    return 0;
}

/* Writes src into g and the cotangents of wrt as its last outputs. With `unit` output 0 has the
 * cotangent 1 and src's outputs come first; else there is an input for each cotangent. */
static void write_grad(struct psg_graph *g, const struct psg_graph *src, const int *wrt,
                       int n_wrt, bool unit, psg_value *args, psg_value *seed, bool *on)
{
    struct grad r;
    if (prim_copy_inputs(g, src, args))
        return;
    for (int j = 0; j < src->n_output; j++) {
        const struct psg_shape *shape = prim_shape(src, src->output[j]);
        seed[j] = PSG_NONE;
        if (!unit)
            seed[j] = psg_graph_input(g, PSG_REAL, shape);
        else if (j == 0)
            seed[j] = psg_g_full(g, shape, 1.0);
    }
    for (int i = 0; i < n_wrt; i++)
        on[wrt[i]] = true;
    if (!grad_forward(&r, g, src, args, on) && !grad_backward(&r, seed)) {
        for (int j = 0; unit && j < src->n_output; j++)
            psg_graph_output(g, r.map[src->output[j]]);
        for (int i = 0; i < n_wrt; i++) {
            psg_value v = src->input[wrt[i]];
            psg_graph_output(g, r.ct[v] != PSG_NONE ? r.ct[v] : prim_zeros_like(g, r.map[v]));
        }
    }
    grad_close(&r);
}

static struct psg_graph *make_grad(const struct psg_graph *src, const int *wrt, int n_wrt,
                                   bool unit, struct psg_error *err)
{
    struct psg_graph *g = psg_graph_new();
    psg_value *args = malloc(sizeof *args * ((size_t)src->n_input + 1));
    psg_value *seed = malloc(sizeof *seed * ((size_t)src->n_output + 1));
    bool *on = calloc((size_t)src->n_input + 1, sizeof *on);
    bool room = g && args && seed && on;
    if (room)
        write_grad(g, src, wrt, n_wrt, unit, args, seed, on);
    free(args);
    free(seed);
    free(on);
    if (!room || g->err.status)
        return prim_abandon(g, err);
    return g;
}

struct psg_graph *psg_graph_vjp(const struct psg_graph *g, const int *wrt, int n_wrt,
                                struct psg_error *err)
{
    if (check_wrt(g, wrt, n_wrt, err))
        return NULL;
    return make_grad(g, wrt, n_wrt, false, err);
}

struct psg_graph *psg_graph_grad(const struct psg_graph *g, const int *wrt, int n_wrt,
                                 struct psg_error *err)
{
    if (check_wrt(g, wrt, n_wrt, err))
        return NULL;
    if (g->n_output < 1 || prim_shape(g, g->output[0])->rank != 0 ||
        !prim_is_real(g, g->output[0])) {
        psg_fail(err, PSG_E_SHAPE, "", "the gradient needs an output 0 of rank 0");
        return NULL;
    }
    return make_grad(g, wrt, n_wrt, true, err);
}
