/* Fewer nodes for the same function: what no output needs is left out, a node is replaced by a
 * cheaper one (simplify_rules.c), and equal nodes over equal operands become one. Repeated until
 * nothing changes, at most max_rounds times. */
#include "transform/simplify.h"

#include <stdlib.h>
#include <string.h>

enum { max_rounds = 6 };

/* ---- equal nodes are found by their hash ---- */

static uint64_t hash_bytes(uint64_t h, const void *data, size_t size)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return h;
}

static uint64_t node_hash(const struct psg_graph *g, const struct prim_node *n)
{
    const struct psg_type *type = prim_type(g, n->out);
    uint64_t h = UINT64_C(0xcbf29ce484222325) + (uint64_t)n->kind;
    h = hash_bytes(h, prim_in(g, n), (size_t)n->n_in * sizeof(psg_value));
    h = hash_bytes(h, n->attr, n->attr_size);
    h = hash_bytes(h, &type->dtype, sizeof type->dtype);
    return hash_bytes(h, &type->shape, sizeof type->shape) | 1;
}

static bool node_equal(const struct psg_graph *g, const struct prim_node *a,
                       const struct prim_node *b)
{
    const struct psg_type *ta = prim_type(g, a->out), *tb = prim_type(g, b->out);
    return a->kind == b->kind && a->n_in == b->n_in && a->attr_size == b->attr_size &&
           (a->n_in == 0 ||
            memcmp(prim_in(g, a), prim_in(g, b), (size_t)a->n_in * sizeof(psg_value)) == 0) &&
           (a->attr_size == 0 || memcmp(a->attr, b->attr, a->attr_size) == 0) &&
           ta->dtype == tb->dtype && psg_shape_equal(&ta->shape, &tb->shape);
}

struct entry {
    uint64_t hash; /* 0: free */
    int node;
};

static void table_put(struct simplify *x, uint64_t hash, int node)
{
    size_t at = hash & (x->cap - 1);
    while (x->table[at].hash)
        at = (at + 1) & (x->cap - 1);
    x->table[at] = (struct entry){ hash, node };
    x->used++;
}

static bool table_grow(struct simplify *x)
{
    struct entry *old = x->table;
    size_t cap = x->cap;
    if (x->used * 2 < cap)
        return true;
    x->cap = cap ? cap * 2 : 64;
    x->table = calloc(x->cap, sizeof *x->table);
    if (!x->table) {
        x->table = old;
        x->cap = cap;
        return false;
    }
    x->used = 0;
    for (size_t i = 0; i < cap; i++)
        if (old[i].hash)
            table_put(x, old[i].hash, old[i].node);
    free(old);
    return true;
}

/* The value that stands for the newest node: itself, or an older equal node's, which then is
 * the one in use (the newer one is left without readers). */
static psg_value unify(struct simplify *x, const struct prim_node *n)
{
    uint64_t hash = node_hash(x->g, n);
    if (!table_grow(x))
        return prim_fail(x->g, PSG_E_NOMEM, "out of memory");
    for (size_t at = hash & (x->cap - 1); x->table[at].hash; at = (at + 1) & (x->cap - 1)) {
        const struct prim_node *o = &x->g->node[x->table[at].node];
        if (x->table[at].hash == hash && node_equal(x->g, o, n))
            return o->out;
    }
    table_put(x, hash, (int)(n - x->g->node));
    return n->out;
}

/* ---- one round ---- */

static void mark_live(const struct psg_graph *g, bool *live)
{
    for (int j = 0; j < g->n_output; j++)
        live[g->value[g->output[j]].node] = true;
    for (int i = g->n_node - 1; i >= 0; i--) {
        const struct prim_node *n = &g->node[i];
        for (int k = 0; live[i] && k < n->n_in; k++)
            live[g->value[prim_in(g, n)[k]].node] = true;
    }
}

/* Nodes that a rule has written pass through unify too, in order; stand[v] is the value that
 * takes the place of v. Rules may look at operands only, which have been unified before. */
static psg_value settle(struct simplify *x, psg_value v, int from)
{
    struct psg_graph *g = x->g;
    for (int i = from; i < g->n_node && !g->err.status; i++) {
        struct prim_node *n = &g->node[i];
        for (int k = 0; k < n->n_in; k++) {
            psg_value *in = &g->operand[n->in_at + k];
            if (*in >= x->n_stand)
                *in = x->fresh[*in - x->n_stand];
        }
        psg_value to = n->kind == PRIM_INPUT || n->n_out != 1 ? n->out : unify(x, n);
        for (int k = 0; k < n->n_out; k++) {
            int at = n->out + k - x->n_stand;
            if (at >= x->cap_fresh) {
                int cap = at * 2 + 16;
                psg_value *f = reallocarray(x->fresh, (size_t)cap, sizeof *f);
                if (!f)
                    return prim_fail(g, PSG_E_NOMEM, "out of memory");
                x->fresh = f;
                x->cap_fresh = cap;
            }
            x->fresh[at] = to + k;
        }
    }
    if (g->err.status)
        return PSG_NONE;
    v = v >= x->n_stand ? x->fresh[v - x->n_stand] : v;
    x->n_stand = g->n_value;
    return v;
}

static void round_node(struct simplify *x, const struct prim_node *n)
{
    const psg_value *old = prim_in(x->src, n);
    int from = x->g->n_node;
    for (int k = 0; k < n->n_in; k++)
        x->in[k] = x->map[old[k]];
    psg_graph_set_place(x->g, n->place);
    psg_value v = simplify_node(x->g, x->src, n, x->in);
    if (v == PSG_NONE)
        v = prim_append_copy(x->g, x->src, n, x->in);
    v = settle(x, v, from);
    for (int k = 0; v != PSG_NONE && k < n->n_out; k++)
        x->map[n->out + k] = v + k;
}

static struct psg_graph *one_round(const struct psg_graph *src, struct psg_error *err)
{
    struct simplify x = { .src = src, .g = psg_graph_new() };
    size_t widest = 1;
    for (int i = 0; i < src->n_node; i++)
        widest = (size_t)src->node[i].n_in > widest ? (size_t)src->node[i].n_in : widest;
    bool *live = calloc((size_t)src->n_node + 1, sizeof *live);
    psg_value *args = malloc(sizeof *args * ((size_t)src->n_input + 1));
    x.map = malloc(sizeof *x.map * ((size_t)src->n_value + 1));
    x.in = malloc(sizeof *x.in * widest);
    bool room = x.g && live && args && x.map && x.in;
    if (room && !prim_copy_inputs(x.g, src, args)) {
        for (int i = 0; i < src->n_input; i++)
            x.map[src->input[i]] = args[i];
        x.n_stand = x.g->n_value;
        mark_live(src, live);
        for (int i = 0; i < src->n_node && !x.g->err.status; i++)
            if (live[i] && src->node[i].kind != PRIM_INPUT)
                round_node(&x, &src->node[i]);
        for (int j = 0; j < src->n_output && !x.g->err.status; j++)
            psg_graph_output(x.g, x.map[src->output[j]]);
    }
    free(live);
    free(args);
    free(x.map);
    free(x.in);
    free(x.fresh);
    free(x.table);
    if (!room || x.g->err.status)
        return prim_abandon(x.g, err);
    return x.g;
}

struct psg_graph *psg_graph_simplify(const struct psg_graph *g, struct psg_error *err)
{
    if (psg_graph_check(g, err))
        return NULL;
    struct psg_graph *now = one_round(g, err);
    for (int i = 1; now && i < max_rounds; i++) {
        struct psg_graph *next = one_round(now, err);
        bool same = next && next->n_node == now->n_node;
        psg_graph_free(now);
        now = next;
        if (same)
            break;
    }
    return now;
}
