/* The cut: what of a scan's joint graph runs forward, what is kept, and what runs backward. */
#include "transform/scan_cut.h"

#include <stdlib.h>
#include <string.h>

#include "transform/transform.h"

enum { MAX_TERMS = 8 };

/* Scratch of the cut. */
struct cut {
    const struct attr_scan *a;
    struct psg_graph *joint;
    struct scan_keep *k;
    int n_in, n_out;     /* of the body */
    int n_ct;            /* cotangent inputs of joint, after the body's */
    psg_value *ct_of;    /* [n_in] value of joint, PSG_NONE where not on */
    bool *by_time;       /* [n_value] depends on carry or slice */
    bool *by_ct;         /* [n_value] depends on a cotangent */
    bool *back;          /* [n_value] is made or read in the backward body */
    int *kept_at;        /* [n_value] place among the kept values, or -1 */
    int *stacked_at;     /* [n_value] place among the results that back stacks, or -1 */
    int n_kept, n_stacked;
};

static bool is_slice_at(const struct attr_scan *a, int i)
{
    return i >= a->n_carry && i < a->n_carry + a->n_xs;
}

/* ---- what depends on what ---- */

static void mark_depends(struct cut *c)
{
    const struct psg_graph *g = c->joint;
    for (int i = 0; i < g->n_input; i++) {
        c->by_time[g->input[i]] = i < c->a->n_carry + c->a->n_xs;
        c->by_ct[g->input[i]] = i >= c->n_in;
    }
    for (int i = 0; i < g->n_node; i++) {
        const struct prim_node *n = &g->node[i];
        bool time = false, ct = false;
        for (int j = 0; j < n->n_in; j++) {
            time |= c->by_time[prim_in(g, n)[j]];
            ct |= c->by_ct[prim_in(g, n)[j]];
        }
        for (int j = 0; j < n->n_out && n->n_in; j++) {
            c->by_time[n->out + j] = time;
            c->by_ct[n->out + j] = ct;
        }
    }
}

static int input_index(const struct psg_graph *g, psg_value v)
{
    for (int i = 0; i < g->n_input; i++)
        if (g->input[i] == v)
            return i;
    return -1;
}

/* v is read by the backward pass: from a slice, from what the forward scan keeps, or made. */
static void want(struct cut *c, psg_value v)
{
    const struct prim_node *n = prim_node_of(c->joint, v);
    if (n->kind == PRIM_INPUT) {
        int i = input_index(c->joint, v);
        if (i < c->a->n_carry && c->kept_at[v] < 0)
            c->kept_at[v] = c->n_kept++;
        else if (i < c->n_in)
            c->k->used[i] = true;
        return;
    }
    c->back[v] = true;
    if (c->by_time[v] && !c->by_ct[v] && !prim_table[n->kind]->view && c->kept_at[v] < 0)
        c->kept_at[v] = c->n_kept++;
}

/* Marks what is made in the backward body, from the wanted values on. */
static void spread_wants(struct cut *c)
{
    const struct psg_graph *g = c->joint;
    for (int i = g->n_node - 1; i >= 0; i--) {
        const struct prim_node *n = &g->node[i];
        bool made = false;
        for (int j = 0; j < n->n_out; j++)
            made |= c->back[n->out + j] && c->kept_at[n->out + j] < 0;
        for (int j = 0; made && j < n->n_in; j++)
            want(c, prim_in(g, n)[j]);
    }
}

/* ---- terms that are left for one dot after the scan ---- */

/* A factor that varies from step to step. */
static bool varies(const struct cut *c, psg_value v)
{
    return c->by_time[v] || c->by_ct[v];
}

static struct source source_of(struct cut *c, psg_value v)
{
    const struct prim_node *n = prim_node_of(c->joint, v);
    int i = n->kind == PRIM_INPUT ? input_index(c->joint, v) : -1;
    if (i >= 0 && is_slice_at(c->a, i)) {
        c->k->used[i] = true;
        return (struct source){ FROM_SLICE, i };
    }
    want(c, v);
    if (c->kept_at[v] >= 0)
        return (struct source){ FROM_KEPT, c->kept_at[v] };
    if (c->stacked_at[v] < 0)
        c->stacked_at[v] = c->n_stacked++;
    return (struct source){ FROM_STACKED, c->stacked_at[v] };
}

/* Adds v, a term of the gradient of constant `input`, as a late dot if it is one. */
static bool late_term(struct cut *c, int input, psg_value v)
{
    const struct psg_graph *g = c->joint;
    struct scan_keep *k = c->k;
    const struct prim_node *n = prim_node_of(g, v);
    psg_value turned = PSG_NONE;
    if (n->kind == PRIM_TRANSPOSE) {
        turned = v;
        v = prim_in(g, n)[0];
        n = prim_node_of(g, v);
    }
    if (n->kind != PRIM_DOT || !varies(c, prim_in(g, n)[0]) || !varies(c, prim_in(g, n)[1]))
        return false;
    const struct psg_dot *d = n->attr;
    for (int s = 0; s < 2; s++)
        if (prim_shape(g, prim_in(g, n)[s])->rank >= PSG_MAX_RANK)
            return false;
    struct late_dot *late = &k->late[k->n_late];
    *late = (struct late_dot){ .input = input, .dot = v, .transpose = turned };
    for (int s = 0; s < 2; s++)
        late->factor[s] = source_of(c, prim_in(g, n)[s]);
    struct psg_dot *e = &k->late_dims[k->n_late];
    *e = (struct psg_dot){ .n_batch = d->n_batch, .n_contract = d->n_contract + 1 };
    for (int i = 0; i < d->n_batch; i++) {
        e->batch_a[i] = d->batch_a[i] + 1;
        e->batch_b[i] = d->batch_b[i] + 1;
    }
    for (int i = 0; i < d->n_contract; i++) { /* time stays axis 0 */
        e->contract_a[i + 1] = d->contract_a[i] + 1;
        e->contract_b[i + 1] = d->contract_b[i] + 1;
    }
    if (turned != PSG_NONE)
        k->late_perm[k->n_late] = *(const struct attr_perm *)prim_node_of(g, turned)->attr;
    k->n_late++;
    return true;
}

/* The gradient of a constant: late if every term of its sum is a dot. */
static void place_constant(struct cut *c, int input)
{
    const struct psg_graph *g = c->joint;
    psg_value term[MAX_TERMS] = { c->ct_of[input] };
    int n = 1, before = c->k->n_late;
    for (int i = 0; i < n;) {
        const struct prim_node *node = prim_node_of(g, term[i]);
        if (node->kind == PRIM_BINARY && n < MAX_TERMS &&
            ((const struct attr_fn *)node->attr)->f == PSG_ADD) {
            term[n++] = prim_in(g, node)[1];
            term[i] = prim_in(g, node)[0];
        } else {
            i++;
        }
    }
    bool all = true;
    for (int i = 0; i < n && all; i++)
        all = late_term(c, input, term[i]);
    if (!all) {
        c->k->n_late = before;
        c->k->summed[input] = true;
        want(c, c->ct_of[input]);
    }
}

/* ---- the two bodies ---- */

/* Copies the marked nodes of src; map has what stands for values that are given. */
static void copy_marked(struct psg_graph *g, const struct psg_graph *src, const bool *mark,
                        psg_value *map)
{
    int widest = 1;
    for (int i = 0; i < src->n_node; i++)
        widest = src->node[i].n_in > widest ? src->node[i].n_in : widest;
    psg_value *in = malloc(sizeof *in * (size_t)widest);
    if (!in)
        prim_fail(g, PSG_E_NOMEM, "out of memory");
    for (int i = 0; in && i < src->n_node && !g->err.status; i++) {
        const struct prim_node *n = &src->node[i];
        bool wanted = false;
        for (int j = 0; j < n->n_out; j++)
            wanted |= mark[n->out + j] && map[n->out + j] == PSG_NONE;
        if (!wanted || n->kind == PRIM_INPUT)
            continue;
        for (int j = 0; j < n->n_in; j++)
            in[j] = map[prim_in(src, n)[j]];
        psg_graph_set_place(g, n->place);
        psg_value v = prim_append_copy(g, src, n, in);
        for (int j = 0; v != PSG_NONE && j < n->n_out; j++)
            if (map[n->out + j] == PSG_NONE)
                map[n->out + j] = v + j;
    }
    free(in);
}

/* Outputs: the body's, then the kept values. */
static void write_forward(const struct cut *c, struct psg_graph *g, psg_value *map, bool *mark,
                          psg_value *args)
{
    const struct psg_graph *src = c->joint;
    for (int i = 0; i < c->n_in; i++) {
        const struct psg_type *t = prim_type(src, src->input[i]);
        map[src->input[i]] = psg_graph_input(g, t->dtype, &t->shape);
    }
    for (int v = 0; v < src->n_value; v++)
        mark[v] = c->kept_at[v] >= 0;
    for (int j = 0; j < c->n_out; j++)
        mark[src->output[j]] = true;
    for (int i = src->n_node - 1; i >= 0; i--) {
        const struct prim_node *n = &src->node[i];
        bool made = false;
        for (int j = 0; j < n->n_out; j++)
            made |= mark[n->out + j];
        for (int j = 0; made && j < n->n_in; j++)
            mark[prim_in(src, n)[j]] = true;
    }
    copy_marked(g, src, mark, map);
    for (int j = 0; j < c->n_out && !g->err.status; j++)
        psg_graph_output(g, map[src->output[j]]);
    for (int v = 0; v < src->n_value; v++)
        if (c->kept_at[v] >= 0)
            args[c->kept_at[v]] = map[v];
    for (int i = 0; i < c->n_kept && !g->err.status; i++)
        psg_graph_output(g, args[i]);
}

static psg_value input_like(struct psg_graph *g, const struct psg_graph *src, psg_value v)
{
    const struct psg_type *t = prim_type(src, v);
    return psg_graph_input(g, t->dtype, &t->shape);
}

/* Inputs: cotangents of carries, sums | kept values, slices, cotangents of ys | constants.
 * Outputs: cotangents of carries, sums | cotangents of slices, factors of late dots. */
static void write_back(const struct cut *c, struct psg_graph *g, psg_value *map, psg_value *list)
{
    const struct psg_graph *src = c->joint;
    const struct scan_keep *k = c->k;
    const struct attr_scan *a = c->a;
    int n_on_carry = 0;
    for (int i = 0; i < a->n_carry; i++)
        if (k->on[i]) {
            psg_value ct = src->input[c->n_in + n_on_carry++];
            map[ct] = input_like(g, src, ct);
        }
    for (int i = 0; i < c->n_in; i++)
        if (k->summed[i])
            list[i] = input_like(g, src, src->input[i]);
    psg_value *at = list + c->n_in; /* values in the order in which they are kept or stacked */
    for (int v = 0; v < src->n_value; v++)
        if (c->kept_at[v] >= 0)
            at[c->kept_at[v]] = v;
    for (int i = 0; i < c->n_kept; i++)
        map[at[i]] = input_like(g, src, at[i]);
    for (int i = a->n_carry; i < a->n_carry + a->n_xs; i++)
        if (k->used[i])
            map[src->input[i]] = input_like(g, src, src->input[i]);
    for (int i = c->n_in + n_on_carry; i < src->n_input; i++)
        map[src->input[i]] = input_like(g, src, src->input[i]);
    for (int i = a->n_carry + a->n_xs; i < c->n_in; i++)
        if (k->used[i])
            map[src->input[i]] = input_like(g, src, src->input[i]);
    copy_marked(g, src, c->back, map);
    for (int i = 0; i < a->n_carry && !g->err.status; i++)
        if (k->on[i])
            psg_graph_output(g, map[c->ct_of[i]]);
    for (int i = 0; i < c->n_in && !g->err.status; i++)
        if (k->summed[i])
            psg_graph_output(g, psg_g_add(g, list[i], map[c->ct_of[i]]));
    for (int i = a->n_carry; i < a->n_carry + a->n_xs && !g->err.status; i++)
        if (k->on[i])
            psg_graph_output(g, map[c->ct_of[i]]);
    for (int v = 0; v < src->n_value; v++)
        if (c->stacked_at[v] >= 0)
            at[c->stacked_at[v]] = v;
    for (int i = 0; i < c->n_stacked && !g->err.status; i++)
        psg_graph_output(g, map[at[i]]);
}

static bool plan_cut(struct cut *c)
{
    struct psg_graph *g = c->joint;
    struct scan_keep *k = c->k;
    size_t n_late = (size_t)c->n_in * MAX_TERMS + 1;
    k->late = calloc(n_late, sizeof *k->late);
    k->late_dims = calloc(n_late, sizeof *k->late_dims);
    k->late_perm = calloc(n_late, sizeof *k->late_perm);
    if (!k->late || !k->late_dims || !k->late_perm)
        return false;
    for (int v = 0; v < g->n_value; v++)
        c->kept_at[v] = c->stacked_at[v] = -1;
    for (int i = 0, at = c->n_out; i < c->n_in; i++)
        c->ct_of[i] = k->on[i] ? g->output[at++] : PSG_NONE;
    mark_depends(c);
    for (int i = 0; i < c->n_in; i++)
        if (k->on[i] && i < c->a->n_carry + c->a->n_xs)
            want(c, c->ct_of[i]);
        else if (k->on[i])
            place_constant(c, i);
    spread_wants(c);
    k->n_stacked = c->n_stacked;
    k->n_kept = c->n_kept;
    return true;
}

/* The forward scan in d->g, the backward body in c->k. */
static psg_value finish_cut(struct cut *c, const struct prim_vjp *d)
{
    size_t nv = (size_t)c->joint->n_value + 1;
    size_t n_list = (size_t)c->n_in + nv;
    struct psg_graph *ahead = psg_graph_new();
    psg_value *map = malloc(nv * sizeof *map), *list = malloc(n_list * sizeof *list);
    bool *mark = calloc(nv, sizeof *mark);
    psg_value v = PSG_NONE;
    c->k->back = psg_graph_new();
    c->k->kept = malloc(((size_t)c->n_kept + 1) * sizeof *c->k->kept);
    if (!ahead || !map || !list || !mark || !c->k->back || !c->k->kept) {
        prim_fail(d->g, PSG_E_NOMEM, "out of memory");
    } else {
        struct attr_scan a = *c->a;
        for (size_t i = 0; i < nv; i++)
            map[i] = PSG_NONE;
        write_forward(c, ahead, map, mark, list);
        for (size_t i = 0; i < nv; i++)
            map[i] = PSG_NONE;
        write_back(c, c->k->back, map, list);
        const struct psg_error *e = ahead->err.status ? &ahead->err : &c->k->back->err;
        a.body = ahead;
        a.n_ys += c->n_kept;
        if (e->status)
            prim_fail(d->g, e->status, "%s", e->text);
        else
            v = prim_scan_append(d->g, &a, d->in);
        for (int i = 0; v != PSG_NONE && i < c->n_kept; i++)
            c->k->kept[i] = v + c->n_out + i;
    }
    psg_graph_free(ahead);
    free(map);
    free(list);
    free(mark);
    return v;
}

psg_value scan_cut(const struct prim_vjp *d, struct scan_keep *k, struct psg_graph *joint)
{
    const struct attr_scan *a = d->node->attr;
    struct cut c = { .a = a, .joint = joint, .k = k, .n_in = a->body->n_input,
                     .n_out = a->body->n_output };
    psg_value v = PSG_NONE;
    size_t nv = (size_t)c.joint->n_value + 1;
    c.ct_of = calloc((size_t)c.n_in + 1, sizeof *c.ct_of);
    c.by_time = calloc(nv, 1);
    c.by_ct = calloc(nv, 1);
    c.back = calloc(nv, 1);
    c.kept_at = calloc(nv, sizeof *c.kept_at);
    c.stacked_at = calloc(nv, sizeof *c.stacked_at);
    if (c.ct_of && c.by_time && c.by_ct && c.back && c.kept_at && c.stacked_at && plan_cut(&c))
        v = finish_cut(&c, d);
    else
        prim_fail(d->g, PSG_E_NOMEM, "out of memory");
    psg_graph_free(c.joint);
    free(c.ct_of);
    free(c.by_time);
    free(c.by_ct);
    free(c.back);
    free(c.kept_at);
    free(c.stacked_at);
    return v;
}
