/* scan: a body repeated over time. Its rules are in transform/scan_vjp.c and
 * transform/scan_batch.c: they need whole transforms of the body. */
#include "prim/scan.h"

#include <stdlib.h>
#include <string.h>

/* ---- building ---- */

static bool same_type(const struct psg_type *a, const struct psg_type *b)
{
    return a->dtype == b->dtype && psg_shape_equal(&a->shape, &b->shape);
}

/* Operand i of the scan against input i of the body; slices lose their first axis. */
static bool operand_fits(struct psg_graph *g, const struct attr_scan *a, int i, psg_value v)
{
    const struct psg_type *want = prim_type(a->body, a->body->input[i]);
    struct psg_type have = *prim_type(g, v);
    if (i >= a->n_carry && i < a->n_carry + a->n_xs) {
        struct psg_shape s = have.shape;
        if (s.rank < 1 || s.dim[0] != a->length) {
            prim_fail(g, PSG_E_SHAPE, "scan: slices %d do not have length %lld",
                      i - a->n_carry, (long long)a->length);
            return false;
        }
        have.shape = psg_shape_make(s.rank - 1, s.dim + 1);
    }
    if (same_type(want, &have))
        return true;
    char sw[160], sh[160];
    prim_fail(g, PSG_E_SHAPE, "scan: operand %d has shape %s, the body wants %s", i,
              psg_shape_text(&have.shape, sh, sizeof sh),
              psg_shape_text(&want->shape, sw, sizeof sw));
    return false;
}

static bool body_fits(struct psg_graph *g, const struct attr_scan *a)
{
    const struct psg_graph *b = a->body;
    if (b->n_input != a->n_carry + a->n_xs + a->n_consts || b->n_output < a->n_carry ||
        a->length < 0) {
        prim_fail(g, PSG_E_SHAPE, "scan: body of %d inputs and %d outputs, length %lld",
                  b->n_input, b->n_output, (long long)a->length);
        return false;
    }
    if (b->depth >= PRIM_MAX_DEPTH) {
        prim_fail(g, PSG_E_RANGE, "scan: bodies nest deeper than %d", PRIM_MAX_DEPTH);
        return false;
    }
    for (int i = 0; i < a->n_carry; i++) {
        if (!same_type(prim_type(b, b->input[i]), prim_type(b, b->output[i]))) {
            prim_fail(g, PSG_E_SHAPE, "scan: carry %d changes its type", i);
            return false;
        }
    }
    return true;
}

psg_value prim_scan_append(struct psg_graph *g, const struct attr_scan *a, const psg_value *in)
{
    int n_in = a->n_carry + a->n_xs + a->n_consts, n_out = a->n_carry + a->n_ys;
    const struct psg_graph *b = a->body;
    if (!prim_operands_ok(g, in, n_in, "scan") || !body_fits(g, a))
        return PSG_NONE;
    for (int i = 0; i < n_in; i++)
        if (!operand_fits(g, a, i, in[i]))
            return PSG_NONE;
    struct psg_type *type = calloc((size_t)n_out + 1, sizeof *type);
    if (!type)
        return prim_fail(g, PSG_E_NOMEM, "out of memory");
    bool fits = true;
    for (int i = 0; i < n_out; i++) {
        type[i] = *prim_type(b, b->output[i]);
        if (i >= a->n_carry)
            fits &= prim_prepend(&type[i].shape, a->length, &type[i].shape);
    }
    psg_value v = fits ? prim_append(g, PRIM_SCAN, in, n_in, a, sizeof *a, type, n_out)
                       : prim_fail(g, PSG_E_SHAPE, "scan: stacked values have no axis left");
    free(type);
    return v;
}

int psg_g_scan(struct psg_graph *g, const struct psg_graph *body, int64_t length, bool reverse,
               const psg_value *carry, int n_carry, const psg_value *xs, int n_xs,
               const psg_value *consts, int n_consts, psg_value *out)
{
    struct attr_scan a = { .length = length, .reverse = reverse, .n_carry = n_carry,
                           .n_xs = n_xs, .n_consts = n_consts,
                           .n_ys = body->n_output - n_carry };
    int n_in = n_carry + n_xs + n_consts, n_out = body->n_output;
    psg_value v = PSG_NONE;
    struct psg_graph *copy = NULL;
    psg_value *in = malloc(sizeof *in * ((size_t)n_in + 1));
    if (!g->err.status && body->err.status)
        psg_fail(&g->err, body->err.status, body->err.place, "%s", body->err.text);
    if (!g->err.status)
        copy = prim_copy(body);
    if (!in || (!copy && !g->err.status)) {
        prim_fail(g, PSG_E_NOMEM, "out of memory");
    } else if (copy) {
        a.body = copy;
        for (int i = 0; i < n_in; i++)
            in[i] = i < n_carry ? carry[i]
                    : i < n_carry + n_xs ? xs[i - n_carry]
                                         : consts[i - n_carry - n_xs];
        v = prim_scan_append(g, &a, in);
    }
    for (int i = 0; i < n_out; i++)
        out[i] = v == PSG_NONE ? PSG_NONE : v + i;
    free(in);
    psg_graph_free(copy);
    return (int)g->err.status;
}

/* ---- execution: the body's own plan, run length times ---- */

struct scan_plan {
    struct psg_exec *body;
    const void **in;
    void **out;
    int64_t *bytes; /* of each body input, then of each body output */
    int64_t *spare; /* place of each carry's second copy in scratch */
};

static int64_t type_bytes(const struct psg_type *t)
{
    return psg_shape_size(&t->shape) * (int64_t)psg_dtype_size(t->dtype);
}

static void scan_unplan(void *plan)
{
    struct scan_plan *p = plan;
    psg_exec_free(p->body);
    free(p->in);
    free(p->out);
    free(p->bytes);
    free(p->spare);
    free(p);
}

static int scan_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                     struct psg_error *err)
{
    const struct attr_scan *a = s->node->attr;
    const struct psg_graph *b = a->body;
    size_t n_in = (size_t)b->n_input + 1, n_out = (size_t)b->n_output + 1;
    struct scan_plan *p = calloc(1, sizeof *p);
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    s->plan = p;
    p->in = calloc(n_in, sizeof *p->in);
    p->out = calloc(n_out, sizeof *p->out);
    p->bytes = calloc(n_in + n_out, sizeof *p->bytes);
    p->spare = calloc((size_t)a->n_carry + 1, sizeof *p->spare);
    if (!p->in || !p->out || !p->bytes || !p->spare)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    for (int i = 0; i < b->n_input; i++)
        p->bytes[i] = type_bytes(prim_type(b, b->input[i]));
    for (int j = 0; j < b->n_output; j++)
        p->bytes[b->n_input + j] = type_bytes(prim_type(b, b->output[j]));
    for (int i = 0; i < a->n_carry; i++) {
        p->spare[i] = *scratch;
        *scratch += (p->bytes[i] / 64 + 1) * 64; /* never none */
    }
    int r = psg_exec_new(b, be, &p->body, err);
    if (r)
        return r;
    s->plan_size = sizeof *p + n_in * sizeof *p->in + n_out * sizeof *p->out +
                   (n_in + n_out) * sizeof *p->bytes +
                   ((size_t)a->n_carry + 1) * sizeof *p->spare + psg_exec_bytes(p->body);
    return 0;
}

/* Step number i of the run, at time t. Carries alternate between the result and its spare so
 * that the last step writes the result. */
static void scan_step(const struct prim_ctx *x, const struct prim_step *s, int64_t i, int64_t t)
{
    const struct attr_scan *a = s->node->attr;
    const struct scan_plan *p = s->plan;
    int n_in = a->body->n_input;
    bool to_result = (a->length - 1 - i) % 2 == 0;
    for (int k = 0; k < n_in; k++) {
        const char *v = prim_ptr(x, &s->in[k]);
        if (k < a->n_carry && i > 0)
            v = to_result ? (char *)prim_scratch(x, s) + p->spare[k]
                          : (char *)prim_ptr(x, &s->out[k]);
        else if (k >= a->n_carry && k < a->n_carry + a->n_xs)
            v += t * p->bytes[k];
        p->in[k] = v;
    }
    for (int j = 0; j < a->body->n_output; j++) {
        char *v = prim_ptr(x, &s->out[j]);
        if (j < a->n_carry && !to_result)
            v = (char *)prim_scratch(x, s) + p->spare[j];
        else if (j >= a->n_carry)
            v += t * p->bytes[n_in + j];
        p->out[j] = v;
    }
    psg_exec_run(p->body, p->in, p->out);
}

static void scan_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_scan *a = s->node->attr;
    for (int64_t i = 0; i < a->length; i++)
        scan_step(x, s, i, a->reverse ? a->length - 1 - i : i);
    for (int k = 0; a->length == 0 && k < a->n_carry; k++) {
        const struct psg_shape flat = PSG_SHAPE(prim_size(&s->out[k]));
        if (flat.dim[0] > 0)
            x->be->copy(&flat, psg_dtype_size(s->out[k].type->dtype), prim_ptr(x, &s->in[k]),
                        (int64_t[]){ 1 }, prim_ptr(x, &s->out[k]), (int64_t[]){ 1 });
    }
}

const struct prim prim_scan = { .name = "scan", .plan = scan_plan, .unplan = scan_unplan,
                                .run = scan_run, .forward = scan_forward, .unkeep = scan_unkeep,
                                .vjp = scan_vjp, .batch = scan_batch };
