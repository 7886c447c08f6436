/* reduce, argmax.
 *
 * The gradient of a max or min goes to the first extreme position in row-major order, as in
 * PyTorch's max_pool: argmax, compared with iota. */
#include "prim/prim.h"

#include <stdlib.h>

/* ---- building ---- */

psg_value psg_g_reduce(struct psg_graph *g, enum psg_reduce f, psg_value x, unsigned axes)
{
    struct attr_reduce a = { (int)f, axes };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, &x, 1, "reduce"))
        return PSG_NONE;
    const struct psg_shape *s = prim_shape(g, x);
    if ((int)f < 0 || f >= PSG_REDUCE_COUNT)
        return prim_fail(g, PSG_E_INVALID, "reduce: no function number %d", (int)f);
    if (axes >> s->rank)
        return prim_fail(g, PSG_E_SHAPE, "reduce: axes 0x%x of rank %d", axes, s->rank);
    if (!axes)
        return x;
    for (int i = 0; i < s->rank; i++)
        if (!(axes >> i & 1))
            type.shape.dim[type.shape.rank++] = s->dim[i];
    return prim_append(g, PRIM_REDUCE, &x, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_argmax(struct psg_graph *g, psg_value x, int axis)
{
    struct attr_axis a = { axis };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, &x, 1, "argmax"))
        return PSG_NONE;
    const struct psg_shape *s = prim_shape(g, x);
    if (axis < 0 || axis >= s->rank || s->dim[axis] < 1)
        return prim_fail(g, PSG_E_SHAPE, "argmax: axis %d of rank %d is missing or empty", axis,
                         s->rank);
    for (int i = 0; i < s->rank; i++)
        if (i != axis)
            type.shape.dim[type.shape.rank++] = s->dim[i];
    return prim_append(g, PRIM_ARGMAX, &x, 1, &a, sizeof a, &type, 1);
}

/* ---- execution ---- */

/* Shape and mask with neighbouring axes merged where both stay or both vanish. */
struct reduce_plan {
    struct psg_shape shape;
    unsigned mask;
};

static int reduce_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                       struct psg_error *err)
{
    const struct attr_reduce *a = s->node->attr;
    const struct psg_shape *x = &s->in[0].type->shape;
    struct reduce_plan *p = calloc(1, sizeof *p);
    (void)be;
    (void)scratch;
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    bool last = false;
    for (int i = 0; i < x->rank; i++) {
        bool gone = a->axes >> i & 1;
        int r = p->shape.rank;
        if (r > 0 && gone == last) {
            p->shape.dim[r - 1] *= x->dim[i];
        } else {
            p->mask |= (unsigned)gone << r;
            p->shape.dim[p->shape.rank++] = x->dim[i];
        }
        last = gone;
    }
    s->plan = p;
    s->plan_size = sizeof *p;
    return 0;
}

static void reduce_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_reduce *a = s->node->attr;
    const struct reduce_plan *p = s->plan;
    x->be->reduce((enum psg_reduce)a->f, &p->shape, p->mask, prim_ptr(x, &s->in[0]),
                  prim_ptr(x, &s->out[0]));
}

static void argmax_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct psg_shape *in = &s->in[0].type->shape;
    int axis = ((const struct attr_axis *)s->node->attr)->axis;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= in->dim[i];
    for (int i = axis + 1; i < in->rank; i++)
        inner *= in->dim[i];
    if (outer * inner > 0)
        x->be->argmax(outer, in->dim[axis], inner, prim_ptr(x, &s->in[0]),
                      prim_ptr(x, &s->out[0]));
}

/* ---- reverse mode ---- */

/* ct [kept...] -> [shape of x], repeated over the reduced axes */
static psg_value spread(struct psg_graph *g, psg_value ct, const struct psg_shape *shape,
                        unsigned axes)
{
    int map[PSG_MAX_RANK], n = 0;
    for (int i = 0; i < shape->rank; i++)
        if (!(axes >> i & 1))
            map[n++] = i;
    return psg_g_broadcast(g, ct, shape, map);
}

/* x [..., reduced, ...] with the reduced axes as one: [before, reduced, after] where they are
 * neighbours; else they are moved to the end first. perm undoes nothing when `moved` is false. */
struct folded {
    bool moved;
    int perm[PSG_MAX_RANK], back[PSG_MAX_RANK];
    struct psg_shape whole; /* shape after perm */
    struct psg_shape three; /* [before, reduced, after] */
};

static void fold_axes(const struct psg_shape *s, unsigned axes, struct folded *f)
{
    int first = __builtin_ctz(axes), n_axes = __builtin_popcount(axes), at = 0;
    *f = (struct folded){ .moved = axes >> first != (1u << n_axes) - 1, .three = { 3 } };
    f->three.dim[0] = f->three.dim[1] = f->three.dim[2] = 1;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->rank; i++)
            if (!f->moved ? pass == 0 : (int)(axes >> i & 1) == pass)
                f->perm[at++] = i;
    bool seen = false;
    for (int i = 0; i < s->rank; i++) {
        int from = f->perm[i];
        bool gone = axes >> from & 1;
        f->back[from] = i;
        f->whole.dim[f->whole.rank++] = s->dim[from];
        seen |= gone;
        f->three.dim[gone ? 1 : seen ? 2 : 0] *= s->dim[from];
    }
}

static void extreme_vjp(const struct prim_vjp *d, bool min)
{
    const struct attr_reduce *a = d->node->attr;
    struct psg_graph *g = d->g;
    struct psg_shape shape = *prim_shape(g, d->in[0]);
    struct folded f;
    if (psg_shape_size(&shape) == 0) {
        d->din[0] = psg_g_full(g, &shape, 0.0);
        return;
    }
    fold_axes(&shape, a->axes, &f);
    psg_value x = f.moved ? psg_g_transpose(g, d->in[0], f.perm) : d->in[0];
    x = psg_g_reshape(g, x, &f.three);
    psg_value at = psg_g_argmax(g, min ? psg_g_neg(g, x) : x, 1);
    int outer[2] = { 0, 2 };
    struct psg_shape kept = PSG_SHAPE(f.three.dim[0], f.three.dim[2]);
    psg_value first = psg_g_binary(g, PSG_EQ, psg_g_iota(g, &f.three, 1),
                                   psg_g_broadcast(g, at, &f.three, outer));
    psg_value ct = psg_g_broadcast(g, psg_g_reshape(g, d->ct[0], &kept), &f.three, outer);
    psg_value dx = psg_g_reshape(g, psg_g_mul(g, first, ct), &f.whole);
    d->din[0] = f.moved ? psg_g_transpose(g, dx, f.back) : dx;
}

static void reduce_vjp(const struct prim_vjp *d)
{
    const struct attr_reduce *a = d->node->attr;
    if (a->f == PSG_REDUCE_SUM) {
        struct psg_shape shape = *prim_shape(d->g, d->in[0]);
        d->din[0] = spread(d->g, d->ct[0], &shape, a->axes);
    } else {
        extreme_vjp(d, a->f == PSG_REDUCE_MIN);
    }
}

/* ---- batching ---- */

static void reduce_batch(const struct prim_batch *b)
{
    const struct attr_reduce *a = b->node->attr;
    b->out[0] = psg_g_reduce(b->g, (enum psg_reduce)a->f, b->in[0], a->axes << 1);
}

static void argmax_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_argmax(b->g, b->in[0], 1 + ((const struct attr_axis *)b->node->attr)->axis);
}

const struct prim prim_reduce = { .name = "reduce", .plan = reduce_plan,
                                  .run = reduce_run,
                                  .vjp = reduce_vjp, .batch = reduce_batch };
const struct prim prim_argmax = { .name = "argmax", .run = argmax_run, .batch = argmax_batch };
