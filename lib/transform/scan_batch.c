/* Batching of scan: a scan over a batched body. Slices and stacked values have time first, the
 * batch second. */
#include "prim/scan.h"
#include "transform/transform.h"

#include <stdlib.h>
#include <string.h>

/* ---- batching ---- */

/* x with its first two axes exchanged. */
static psg_value swap_first(struct psg_graph *g, psg_value x)
{
    int perm[PSG_MAX_RANK] = { 1, 0 };
    if (g->err.status)
        return PSG_NONE;
    for (int i = 2; i < prim_shape(g, x)->rank; i++)
        perm[i] = i;
    return psg_g_transpose(g, x, perm);
}

/* A carry is batched if it starts so or becomes so in the body: flags grow until nothing
 * changes. Returns the batched body; on_in, on_out tell what has an axis; force: room. */
static struct psg_graph *batch_body(const struct prim_batch *b, const struct attr_scan *a,
                                    bool *on_in, bool *on_out, bool *force)
{
    struct psg_error err = { 0 };
    for (;;) {
        bool again = false;
        memcpy(force, on_in, (size_t)a->n_carry * sizeof *force);
        struct psg_graph *body = vmap_graph(a->body, b->size, on_in, force, on_out, &err);
        if (!body) {
            prim_fail(b->g, err.status, "%s", err.text);
            return NULL;
        }
        for (int i = 0; i < a->n_carry; i++) {
            again |= on_out[i] && !on_in[i];
            on_in[i] |= on_out[i];
        }
        if (!again)
            return body;
        psg_graph_free(body);
    }
}

static void batch_scan(const struct prim_batch *b, psg_value *in, bool *on_in, bool *on_out,
                       bool *force)
{
    struct attr_scan a = *(const struct attr_scan *)b->node->attr;
    int n_in = b->node->n_in;
    memcpy(on_in, b->batched, (size_t)n_in * sizeof *on_in);
    struct psg_graph *body = batch_body(b, &a, on_in, on_out, force);
    if (!body)
        return;
    for (int i = 0; i < n_in; i++) {
        bool slice = i >= a.n_carry && i < a.n_carry + a.n_xs;
        in[i] = i < a.n_carry && on_in[i] ? prim_batch_arg(b, i) : b->in[i];
        if (slice && on_in[i])
            in[i] = swap_first(b->g, in[i]);
    }
    a.body = body;
    psg_value v = prim_scan_append(b->g, &a, in);
    psg_graph_free(body);
    for (int j = 0; v != PSG_NONE && j < b->node->n_out; j++) {
        b->out[j] = j >= a.n_carry && on_out[j] ? swap_first(b->g, v + j) : v + j;
        b->out_batched[j] = on_out[j];
    }
}

void scan_batch(const struct prim_batch *b)
{
    size_t n_in = (size_t)b->node->n_in + 1, n_out = (size_t)b->node->n_out + 1;
    psg_value *in = malloc(sizeof *in * n_in);
    bool *on_in = calloc(n_in, sizeof *on_in), *on_out = calloc(n_out, sizeof *on_out);
    bool *force = calloc(n_out, sizeof *force);
    if (in && on_in && on_out && force)
        batch_scan(b, in, on_in, on_out, force);
    else
        prim_fail(b->g, PSG_E_NOMEM, "out of memory");
    free(in);
    free(on_in);
    free(on_out);
    free(force);
}
