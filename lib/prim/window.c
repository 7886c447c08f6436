/* unfold and fold: windows over the last axes as axes of their own; each is the other's adjoint.
 * Leading axes are untouched, so batching adds one. */
#include "prim/prim.h"

#include <string.h>

/* ---- building ---- */

/* The geometry with every field of an unused axis zero, checked. */
static bool window_attr(struct psg_graph *g, const struct psg_window *w, double pad_value,
                        struct attr_window *a)
{
    memset(a, 0, sizeof *a);
    a->pad_value = pad_value;
    a->w.rank = w->rank;
    for (int i = 0; i < w->rank && i < 3; i++) {
        a->w.in[i] = w->in[i];
        a->w.kernel[i] = w->kernel[i];
        a->w.stride[i] = w->stride[i];
        a->w.dilation[i] = w->dilation[i];
        a->w.pad_lo[i] = w->pad_lo[i];
        a->w.pad_hi[i] = w->pad_hi[i];
    }
    struct psg_error err;
    if (psg_window_infer(&a->w, g->place, &err) < 0) {
        prim_fail(g, err.status, "%s", err.text);
        return false;
    }
    return true;
}

psg_value psg_g_unfold(struct psg_graph *g, psg_value x, const struct psg_window *w,
                       double pad_value)
{
    struct attr_window a;
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, &x, 1, "unfold") || !window_attr(g, w, pad_value, &a))
        return PSG_NONE;
    const struct psg_shape *s = prim_shape(g, x);
    int rank = a.w.rank, lead = s->rank - rank;
    bool fits = lead >= 0 && lead + 2 * rank <= PSG_MAX_RANK;
    for (int i = 0; fits && i < rank; i++)
        fits = s->dim[lead + i] == a.w.in[i];
    if (!fits) {
        char text[160];
        return prim_fail(g, PSG_E_SHAPE, "unfold: the last %d axes of %s are not the window's"
                         " input, or the result has more than %d axes", rank,
                         psg_shape_text(s, text, sizeof text), PSG_MAX_RANK);
    }
    type.shape.rank = lead + 2 * rank;
    for (int i = 0; i < lead; i++)
        type.shape.dim[i] = s->dim[i];
    for (int i = 0; i < rank; i++) {
        type.shape.dim[lead + i] = a.w.kernel[i];
        type.shape.dim[lead + rank + i] = a.w.out[i];
    }
    return prim_append(g, PRIM_UNFOLD, &x, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_fold(struct psg_graph *g, psg_value x, const struct psg_window *w)
{
    struct attr_window a;
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, &x, 1, "fold") || !window_attr(g, w, 0.0, &a))
        return PSG_NONE;
    const struct psg_shape *s = prim_shape(g, x);
    int rank = a.w.rank, lead = s->rank - 2 * rank;
    bool fits = lead >= 0;
    for (int i = 0; fits && i < rank; i++)
        fits = s->dim[lead + i] == a.w.kernel[i] && s->dim[lead + rank + i] == a.w.out[i];
    if (!fits) {
        char text[160];
        return prim_fail(g, PSG_E_SHAPE, "fold: the last %d axes of %s are not the window's"
                         " kernel and output", 2 * rank, psg_shape_text(s, text, sizeof text));
    }
    type.shape.rank = lead + rank;
    for (int i = 0; i < lead; i++)
        type.shape.dim[i] = s->dim[i];
    for (int i = 0; i < rank; i++)
        type.shape.dim[lead + i] = a.w.in[i];
    return prim_append(g, PRIM_FOLD, &x, 1, &a, sizeof a, &type, 1);
}

/* ---- execution ---- */

static int64_t outer_size(const struct psg_shape *s, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank - rank; i++)
        n *= s->dim[i];
    return n;
}

static void unfold_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_window *a = s->node->attr;
    x->be->unfold(&a->w, outer_size(&s->in[0].type->shape, a->w.rank), (psg_real)a->pad_value,
                  prim_ptr(x, &s->in[0]), prim_ptr(x, &s->out[0]));
}

static void fold_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_window *a = s->node->attr;
    x->be->fold(&a->w, outer_size(&s->out[0].type->shape, a->w.rank), prim_ptr(x, &s->in[0]),
                prim_ptr(x, &s->out[0]));
}

/* ---- reverse mode and batching ---- */

static void unfold_vjp(const struct prim_vjp *d)
{
    d->din[0] = psg_g_fold(d->g, d->ct[0], &((const struct attr_window *)d->node->attr)->w);
}

static void fold_vjp(const struct prim_vjp *d)
{
    d->din[0] = psg_g_unfold(d->g, d->ct[0], &((const struct attr_window *)d->node->attr)->w,
                             0.0);
}

static void unfold_batch(const struct prim_batch *b)
{
    const struct attr_window *a = b->node->attr;
    b->out[0] = psg_g_unfold(b->g, b->in[0], &a->w, a->pad_value);
}

static void fold_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_fold(b->g, b->in[0], &((const struct attr_window *)b->node->attr)->w);
}

const struct prim prim_unfold = { .name = "unfold", .run = unfold_run, .vjp = unfold_vjp,
                                  .batch = unfold_batch };
const struct prim prim_fold = { .name = "fold", .run = fold_run, .vjp = fold_vjp,
                                .batch = fold_batch };
