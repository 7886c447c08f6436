/* unary, binary, select. Operands of a node have equal shapes: builders insert broadcasts, which
 * cost nothing when they are read (exec.c).
 *
 * Conventions where a derivative is not unique: abs and sign have derivative 0 at 0, and so has
 * max(x, 0), as PyTorch's relu: at a tie of max or min the gradient goes to the SECOND operand.
 * pow: d/da a^b is 0 where b = 0, d/db a^b is 0 where a = 0 and b >= 0. */
#include "prim/prim.h"

#include <math.h>
#include <stdlib.h>

/* ---- building ---- */

psg_value psg_g_unary(struct psg_graph *g, enum psg_unary f, psg_value x)
{
    struct attr_fn a = { (int)f };
    if (!prim_reals_ok(g, &x, 1, "unary"))
        return PSG_NONE;
    if ((int)f < 0 || f >= PSG_UNARY_COUNT)
        return prim_fail(g, PSG_E_INVALID, "unary: no function number %d", (int)f);
    struct psg_type type = *prim_type(g, x);
    return prim_append(g, PRIM_UNARY, &x, 1, &a, sizeof a, &type, 1);
}

/* NumPy's rule: aligned at the last axis, lengths equal or 1. */
static bool common_shape(struct psg_graph *g, const psg_value *v, int n, const char *who,
                         struct psg_shape *out)
{
    *out = *prim_shape(g, v[0]);
    for (int i = 1; i < n; i++) {
        struct psg_shape a = *out, b = *prim_shape(g, v[i]);
        if (a.rank < b.rank) {
            struct psg_shape t = a;
            a = b;
            b = t;
        }
        *out = a;
        for (int k = 1; k <= b.rank; k++) {
            int64_t x = a.dim[a.rank - k], y = b.dim[b.rank - k];
            if (x != y && x != 1 && y != 1) {
                char sa[160], sb[160];
                prim_fail(g, PSG_E_SHAPE, "%s: shapes %s and %s do not broadcast", who,
                          psg_shape_text(&a, sa, sizeof sa), psg_shape_text(&b, sb, sizeof sb));
                return false;
            }
            out->dim[a.rank - k] = x == 1 ? y : x;
        }
    }
    return true;
}

psg_value psg_g_binary(struct psg_graph *g, enum psg_binary f, psg_value a, psg_value b)
{
    struct attr_fn attr = { (int)f };
    psg_value in[2] = { a, b };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, in, 2, "binary"))
        return PSG_NONE;
    if ((int)f < 0 || f >= PSG_BINARY_COUNT)
        return prim_fail(g, PSG_E_INVALID, "binary: no function number %d", (int)f);
    if (!common_shape(g, in, 2, "binary", &type.shape))
        return PSG_NONE;
    for (int i = 0; i < 2; i++)
        in[i] = psg_g_broadcast_to(g, in[i], &type.shape);
    if (g->err.status)
        return PSG_NONE;
    return prim_append(g, PRIM_BINARY, in, 2, &attr, sizeof attr, &type, 1);
}

psg_value psg_g_select(struct psg_graph *g, psg_value mask, psg_value a, psg_value b)
{
    psg_value in[3] = { mask, a, b };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_reals_ok(g, in, 3, "select") || !common_shape(g, in, 3, "select", &type.shape))
        return PSG_NONE;
    for (int i = 0; i < 3; i++)
        in[i] = psg_g_broadcast_to(g, in[i], &type.shape);
    if (g->err.status)
        return PSG_NONE;
    return prim_append(g, PRIM_SELECT, in, 3, NULL, 0, &type, 1);
}

/* ---- execution ---- */

static void unary_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_fn *a = s->node->attr;
    x->be->unary((enum psg_unary)a->f, prim_size(&s->out[0]), prim_ptr(x, &s->in[0]),
                 prim_ptr(x, &s->out[0]));
}

/* The loop nest of a binary, with axes merged where both operands allow it. */
struct binary_plan {
    struct psg_shape shape;
    int64_t a[PSG_MAX_RANK], b[PSG_MAX_RANK];
};

static int binary_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                       struct psg_error *err)
{
    struct binary_plan *p = calloc(1, sizeof *p);
    (void)be;
    (void)scratch;
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    p->shape = s->out[0].type->shape;
    for (int i = 0; i < p->shape.rank; i++) {
        p->a[i] = s->in[0].stride[i];
        p->b[i] = s->in[1].stride[i];
    }
    prim_merge_axes(&p->shape, (int64_t *const[]){ p->a, p->b }, 2);
    s->plan = p;
    s->plan_size = sizeof *p;
    return 0;
}

static void binary_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_fn *f = s->node->attr;
    const struct binary_plan *p = s->plan;
    x->be->binary((enum psg_binary)f->f, &p->shape, prim_ptr(x, &s->in[0]), p->a,
                  prim_ptr(x, &s->in[1]), p->b, prim_ptr(x, &s->out[0]));
}

static void select_run(const struct prim_ctx *x, const struct prim_step *s)
{
    x->be->select(prim_size(&s->out[0]), prim_ptr(x, &s->in[0]), prim_ptr(x, &s->in[1]),
                  prim_ptr(x, &s->in[2]), prim_ptr(x, &s->out[0]));
}

/* ---- reverse mode ---- */

static psg_value one_minus(struct psg_graph *g, psg_value v)
{
    return psg_g_sub(g, psg_g_scalar(g, 1.0), v);
}

static psg_value times(struct psg_graph *g, double c, psg_value v)
{
    return psg_g_mul(g, v, psg_g_scalar(g, c));
}

/* f'(x), from x or from y = f(x); PSG_NONE where it is zero. */
static psg_value unary_slope(struct psg_graph *g, enum psg_unary f, psg_value x, psg_value y)
{
    switch (f) {
    case PSG_NEG: return psg_g_scalar(g, -1.0);
    case PSG_EXP: return y;
    case PSG_LOG: return psg_g_unary(g, PSG_RECIP, x);
    case PSG_LOG1P: return psg_g_unary(g, PSG_RECIP, psg_g_add(g, x, psg_g_scalar(g, 1.0)));
    case PSG_EXPM1: return psg_g_add(g, y, psg_g_scalar(g, 1.0));
    case PSG_SQRT: return times(g, 0.5, psg_g_unary(g, PSG_RECIP, y));
    case PSG_RSQRT: return times(g, -0.5, psg_g_mul(g, y, psg_g_mul(g, y, y)));
    case PSG_TANH: return one_minus(g, psg_g_mul(g, y, y));
    case PSG_SIGMOID: return psg_g_mul(g, y, one_minus(g, y));
    case PSG_ERF:
        return times(g, 2.0 / sqrt(M_PI), psg_g_exp(g, psg_g_neg(g, psg_g_mul(g, x, x))));
    case PSG_ABS: return psg_g_unary(g, PSG_SIGN, x);
    case PSG_SIN: return psg_g_unary(g, PSG_COS, x);
    case PSG_COS: return psg_g_neg(g, psg_g_unary(g, PSG_SIN, x));
    case PSG_RECIP: return psg_g_neg(g, psg_g_mul(g, y, y));
    case PSG_SIGN:
    case PSG_FLOOR:
    case PSG_BF16:
    case PSG_UNARY_COUNT: break;
    }
    return PSG_NONE;
}

static void unary_vjp(const struct prim_vjp *d)
{
    enum psg_unary f = (enum psg_unary)((const struct attr_fn *)d->node->attr)->f;
    if (f == PSG_NEG) {
        d->din[0] = psg_g_neg(d->g, d->ct[0]);
        return;
    }
    if (f == PSG_BF16) {
        d->din[0] = d->ct[0];
        return;
    }
    psg_value slope = unary_slope(d->g, f, d->in[0], d->out[0]);
    if (slope != PSG_NONE)
        d->din[0] = psg_g_mul(d->g, d->ct[0], slope);
}

/* Selects keep infinities of the branch not taken out of the product, and the inner ones keep
 * them out of the derivative of the derivative. */
static void pow_vjp(const struct prim_vjp *d)
{
    struct psg_graph *g = d->g;
    psg_value a = d->in[0], b = d->in[1], ct = d->ct[0];
    psg_value zero = psg_g_scalar(g, 0.0), one = psg_g_scalar(g, 1.0);
    if (d->need[0]) {
        psg_value flat = psg_g_binary(g, PSG_EQ, b, zero);
        psg_value base = psg_g_select(g, flat, one, a);
        psg_value p = psg_g_mul(g, b, psg_g_binary(g, PSG_POW, base, psg_g_sub(g, b, one)));
        d->din[0] = psg_g_select(g, flat, zero, psg_g_mul(g, ct, p));
    }
    if (d->need[1]) {
        psg_value flat = psg_g_mul(g, psg_g_binary(g, PSG_EQ, a, zero),
                                   psg_g_binary(g, PSG_GE, b, zero));
        psg_value base = psg_g_select(g, flat, one, a);
        psg_value p = psg_g_mul(g, psg_g_binary(g, PSG_POW, base, b), psg_g_log(g, base));
        d->din[1] = psg_g_select(g, flat, zero, psg_g_mul(g, ct, p));
    }
}

/* The winner takes the gradient; equal operands take half each, as in PyTorch. */
static void extreme_vjp(const struct prim_vjp *d, enum psg_binary wins, enum psg_binary ties)
{
    struct psg_graph *g = d->g;
    psg_value first = psg_g_add(g, psg_g_binary(g, wins, d->in[0], d->in[1]),
                                psg_g_binary(g, ties, d->in[0], d->in[1]));
    first = psg_g_mul(g, first, psg_g_scalar(g, 0.5));
    if (d->need[0])
        d->din[0] = psg_g_mul(g, d->ct[0], first);
    if (d->need[1])
        d->din[1] = psg_g_mul(g, d->ct[0], one_minus(g, first));
}

static void binary_vjp(const struct prim_vjp *d)
{
    struct psg_graph *g = d->g;
    psg_value a = d->in[0], b = d->in[1], ct = d->ct[0], q;
    switch ((enum psg_binary)((const struct attr_fn *)d->node->attr)->f) {
    case PSG_ADD:
        d->din[0] = d->din[1] = ct;
        break;
    case PSG_SUB:
        d->din[0] = ct;
        if (d->need[1])
            d->din[1] = psg_g_neg(g, ct);
        break;
    case PSG_MUL:
        if (d->need[0])
            d->din[0] = psg_g_mul(g, ct, b);
        if (d->need[1])
            d->din[1] = psg_g_mul(g, ct, a);
        break;
    case PSG_DIV:
        q = psg_g_div(g, ct, b);
        if (d->need[0])
            d->din[0] = q;
        if (d->need[1])
            d->din[1] = psg_g_neg(g, psg_g_mul(g, q, d->out[0]));
        break;
    case PSG_POW:
        pow_vjp(d);
        break;
    case PSG_MAX:
        extreme_vjp(d, PSG_GT, PSG_GE);
        break;
    case PSG_MIN:
        extreme_vjp(d, PSG_LT, PSG_LE);
        break;
    default: /* comparisons are flat */
        break;
    }
}

static void select_vjp(const struct prim_vjp *d)
{
    psg_value zero = psg_g_scalar(d->g, 0.0);
    if (d->need[1])
        d->din[1] = psg_g_select(d->g, d->in[0], d->ct[0], zero);
    if (d->need[2])
        d->din[2] = psg_g_select(d->g, d->in[0], zero, d->ct[0]);
}

/* ---- batching: axis by axis nothing changes ---- */

static void unary_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_unary(b->g, (enum psg_unary)((const struct attr_fn *)b->node->attr)->f,
                            b->in[0]);
}

static void binary_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_binary(b->g,
                             (enum psg_binary)((const struct attr_fn *)b->node->attr)->f,
                             prim_batch_arg(b, 0), prim_batch_arg(b, 1));
}

static void select_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_select(b->g, prim_batch_arg(b, 0), prim_batch_arg(b, 1),
                             prim_batch_arg(b, 2));
}

const struct prim prim_unary = { .name = "unary", .inplace = true, .run = unary_run,
                                 .vjp = unary_vjp, .batch = unary_batch };
const struct prim prim_binary = { .name = "binary", .strided = true, .inplace = true,
                                  .plan = binary_plan, .run = binary_run, .vjp = binary_vjp,
                                  .batch = binary_batch };
const struct prim prim_select = { .name = "select", .inplace = true, .run = select_run,
                                  .vjp = select_vjp, .batch = select_batch };
