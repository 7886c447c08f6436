/* Reverse mode of scan.
 *
 * The body f: (carry, slice, const) -> (carry', y) and its pullback are written as one graph,
 * the joint graph, which is cut in two. What needs no cotangent runs in the forward scan, which
 * stacks the values that the rest reads; the rest runs in a second scan, backwards in time,
 * whose carries are the cotangents of f's carries and the sums for f's constants:
 *
 *   forward   carry, slices, consts -> carry', ys, kept values [T, ...]
 *   backward  ct carry', sums, kept, slices, ct ys, consts -> ct carry, sums, ct slices
 *
 * Values that need neither carry nor slice, and views, are made again rather than kept. Where
 * the term of a constant is a dot of two values of the step (the weight of a recurrent layer),
 * there is no sum: its factors are stacked, and ONE dot after the scan sums over time too. */
#include "transform/scan_cut.h"
#include "transform/transform.h"

#include <stdlib.h>
#include <string.h>

void scan_unkeep(void *keep)
{
    struct scan_keep *k = keep;
    if (!k)
        return;
    psg_graph_free(k->back);
    free(k->on);
    free(k->on_y);
    free(k->used);
    free(k->summed);
    free(k->kept);
    free(k->late);
    free(k->late_dims);
    free(k->late_perm);
    free(k);
}

/* ---- which inputs of the body have a gradient ---- */

/* A carry has one if it starts so or becomes so in the body. */
static bool find_on(struct scan_keep *k, const struct attr_scan *a)
{
    const struct psg_graph *b = a->body;
    bool *need = malloc((size_t)b->n_value + 1);
    bool again = need != NULL;
    while (again) {
        again = false;
        memset(need, 0, (size_t)b->n_value + 1);
        grad_mark(b, k->on, need);
        for (int i = 0; i < a->n_carry; i++) {
            again |= need[b->output[i]] && !k->on[i];
            k->on[i] |= need[b->output[i]];
        }
        for (int j = 0; j < a->n_ys; j++)
            k->on_y[j] = need[b->output[a->n_carry + j]];
    }
    bool ok = need != NULL;
    free(need);
    return ok;
}

/* ---- the joint graph ---- */

/* Inputs: the body's, a cotangent for each carry and each y that is on. Outputs: the body's, the
 * cotangent of each input that is on. */
static void write_joint(struct psg_graph *g, const struct scan_keep *k,
                        const struct attr_scan *a, psg_value *args, psg_value *seed)
{
    const struct psg_graph *b = a->body;
    struct grad r;
    if (prim_copy_inputs(g, b, args))
        return;
    for (int j = 0; j < b->n_output; j++) {
        bool on = j < a->n_carry ? k->on[j] : k->on_y[j - a->n_carry];
        seed[j] = on ? psg_graph_input(g, PSG_REAL, prim_shape(b, b->output[j])) : PSG_NONE;
    }
    if (!grad_forward(&r, g, b, args, k->on) && !grad_backward(&r, seed)) {
        for (int j = 0; j < b->n_output; j++)
            psg_graph_output(g, r.map[b->output[j]]);
        for (int i = 0; i < b->n_input; i++) {
            psg_value ct = r.ct[b->input[i]];
            if (k->on[i])
                psg_graph_output(g, ct != PSG_NONE ? ct : prim_zeros_like(g, args[i]));
        }
    }
    grad_close(&r);
}

static struct psg_graph *joint_graph(const struct scan_keep *k, const struct attr_scan *a,
                                     struct psg_error *err)
{
    struct psg_graph *g = psg_graph_new(), *simple = NULL;
    psg_value *args = malloc(sizeof *args * ((size_t)a->body->n_input + 1));
    psg_value *seed = malloc(sizeof *seed * ((size_t)a->body->n_output + 1));
    bool room = g && args && seed;
    if (room)
        write_joint(g, k, a, args, seed);
    free(args);
    free(seed);
    if (!room || g->err.status)
        return prim_abandon(g, err);
    simple = psg_graph_simplify(g, err);
    psg_graph_free(g);
    return simple;
}

static psg_value forward_scan(const struct prim_vjp *d, struct scan_keep *k)
{
    struct psg_error err = { 0 };
    struct psg_graph *joint = joint_graph(k, d->node->attr, &err);
    if (!joint)
        return prim_fail(d->g, err.status, "%s", err.text);
    return scan_cut(d, k, joint);
}

psg_value scan_forward(const struct prim_vjp *d, void **keep)
{
    const struct attr_scan *a = d->node->attr;
    size_t n_in = (size_t)a->body->n_input + 1, n_out = (size_t)a->body->n_output + 1;
    struct scan_keep *k = calloc(1, sizeof *k);
    psg_value v = PSG_NONE;
    if (k) {
        k->n_body_in = a->body->n_input;
        k->on = calloc(n_in, 1);
        k->on_y = calloc(n_out, 1);
        k->used = calloc(n_in, 1);
        k->summed = calloc(n_in, 1);
    }
    if (k && k->on && k->on_y && k->used && k->summed) {
        memcpy(k->on, d->need, n_in - 1);
        if (find_on(k, a))
            v = forward_scan(d, k);
    }
    if (v == PSG_NONE) {
        prim_fail(d->g, PSG_E_NOMEM, "out of memory");
        scan_unkeep(k);
        return PSG_NONE;
    }
    *keep = k;
    return v;
}

/* ---- the backward scan ---- */

static psg_value ct_or_zero(const struct prim_vjp *d, int j)
{
    return d->ct[j] != PSG_NONE ? d->ct[j] : prim_zeros_like(d->g, d->out[j]);
}

/* Operands of the backward scan in the order of write_back; returns their number. */
static int back_operands(const struct prim_vjp *d, const struct scan_keep *k,
                         struct attr_scan *b, psg_value *in)
{
    const struct attr_scan *a = d->node->attr;
    int n = 0, end_xs = a->n_carry + a->n_xs;
    for (int i = 0; i < a->n_carry; i++)
        if (k->on[i])
            in[n++] = ct_or_zero(d, i);
    for (int i = end_xs; i < k->n_body_in; i++)
        if (k->summed[i])
            in[n++] = prim_zeros_like(d->g, d->in[i]);
    b->n_carry = n;
    for (int i = 0; i < k->n_kept; i++)
        in[n++] = k->kept[i];
    for (int i = a->n_carry; i < end_xs; i++)
        if (k->used[i])
            in[n++] = d->in[i];
    for (int j = 0; j < a->n_ys; j++)
        if (k->on_y[j])
            in[n++] = ct_or_zero(d, a->n_carry + j);
    b->n_xs = n - b->n_carry;
    for (int i = end_xs; i < k->n_body_in; i++)
        if (k->used[i])
            in[n++] = d->in[i];
    b->n_consts = n - b->n_carry - b->n_xs;
    b->n_ys = k->back->n_output - b->n_carry;
    return n;
}

static void late_dots(const struct prim_vjp *d, const struct scan_keep *k, psg_value stacked)
{
    for (int i = 0; i < k->n_late && !d->g->err.status; i++) {
        const struct late_dot *late = &k->late[i];
        psg_value f[2];
        for (int s = 0; s < 2; s++) {
            int at = late->factor[s].at;
            f[s] = late->factor[s].from == FROM_KEPT    ? k->kept[at]
                   : late->factor[s].from == FROM_SLICE ? d->in[at]
                                                        : stacked + at;
        }
        psg_value ct = psg_g_dot(d->g, f[0], f[1], &k->late_dims[i]);
        if (late->transpose != PSG_NONE)
            ct = psg_g_transpose(d->g, ct, k->late_perm[i].perm);
        psg_value *din = &d->din[late->input];
        *din = *din == PSG_NONE ? ct : psg_g_add(d->g, *din, ct);
    }
}

void scan_vjp(const struct prim_vjp *d)
{
    const struct attr_scan *a = d->node->attr;
    const struct scan_keep *k = d->keep;
    struct attr_scan b = { .body = k->back, .length = a->length, .reverse = !a->reverse };
    psg_value *in = malloc(sizeof *in * ((size_t)k->back->n_input + 1));
    if (!in) {
        prim_fail(d->g, PSG_E_NOMEM, "out of memory");
        return;
    }
    back_operands(d, k, &b, in);
    psg_value v = prim_scan_append(d->g, &b, in);
    free(in);
    if (v == PSG_NONE)
        return;
    for (int i = 0; i < a->n_carry; i++)
        if (k->on[i])
            d->din[i] = v++;
    for (int i = a->n_carry + a->n_xs; i < k->n_body_in; i++)
        if (k->summed[i])
            d->din[i] = v++;
    for (int i = a->n_carry; i < a->n_carry + a->n_xs; i++)
        if (k->on[i])
            d->din[i] = v++;
    late_dots(d, k, v);
}
