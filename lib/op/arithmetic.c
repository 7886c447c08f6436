/* add, sub, mul, div: y = f(a, b), element by element; shapes of one sample broadcast as
 * NumPy's.
 *
 *   add: da = dy, db = dy            sub: da = dy, db = -dy
 *   mul: da = dy b, db = dy a        div: da = dy / b, db = -dy y / b
 * each summed over the axes along which the operand was repeated. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    enum psg_binary f;
    struct psg_shape out; /* of one sample */
    int64_t size, in_size[2];
    int64_t stride[2][PSG_MAX_RANK]; /* of one sample's operand through `out`; 0: repeats */
    unsigned repeated[2];            /* axes of [N, out] to sum over */
};

/* out axis i of operand k, counted from the end */
static int64_t dim_of(const struct psg_shape *s, int out_rank, int i)
{
    int at = i - (out_rank - s->rank);
    return at < 0 ? 1 : s->dim[at];
}

static int broadcast_shapes(struct psg_infer *c, struct geom *g)
{
    const struct psg_shape *a = &c->in[0].shape, *b = &c->in[1].shape;
    char ta[120], tb[120];
    g->out.rank = a->rank > b->rank ? a->rank : b->rank;
    if (g->out.rank == PSG_MAX_RANK)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "too many axes");
    for (int i = 0; i < g->out.rank; i++) {
        int64_t x = dim_of(a, g->out.rank, i), y = dim_of(b, g->out.rank, i);
        if (x != y && x != 1 && y != 1)
            return psg_infer_fail(c, PSG_E_SHAPE, NULL, "%s and %s do not broadcast",
                                  psg_shape_text(a, ta, sizeof ta),
                                  psg_shape_text(b, tb, sizeof tb));
        g->out.dim[i] = x == 1 ? y : x;
    }
    return 0;
}

static void read_operand(struct geom *g, int k, const struct psg_shape *s)
{
    int64_t step = 1;
    g->in_size[k] = psg_shape_size(s);
    for (int i = g->out.rank - 1; i >= 0; i--) {
        int64_t d = dim_of(s, g->out.rank, i);
        bool repeats = d == 1 && g->out.dim[i] != 1;
        g->stride[k][i] = repeats ? 0 : step;
        g->repeated[k] |= repeats ? 1u << (i + 1) : 0;
        step *= d;
    }
}

static int arithmetic_infer(struct psg_infer *c, enum psg_binary f)
{
    struct geom *g = c->geom;
    op_need_dtype(c, 0, PSG_REAL, "a");
    op_need_dtype(c, 1, PSG_REAL, "b");
    if (psg_infer_status(c) || broadcast_shapes(c, g))
        return psg_infer_status(c);
    g->f = f;
    op_out(c, g->out);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    g->size = psg_shape_size(&g->out);
    for (int k = 0; k < 2; k++)
        read_operand(g, k, &c->in[k].shape);
    psg_infer_scratch(c, 0, g->size);
    psg_infer_unread(c, f == PSG_ADD || f == PSG_SUB, f != PSG_DIV);
    return psg_infer_status(c);
}

/* y [N, out] = f(x [N, out], operand k) */
static void with_operand(const struct psg_call *c, enum psg_binary f, const psg_real *x,
                         int k, psg_real *y)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->out.rank + 1, .dim = { c->n } };
    int64_t sx[PSG_MAX_RANK], sk[PSG_MAX_RANK] = { g->in_size[k] };
    for (int i = 0; i < g->out.rank; i++) {
        shape.dim[i + 1] = g->out.dim[i];
        sk[i + 1] = g->stride[k][i];
    }
    psg_shape_strides(&shape, sx);
    c->be->binary(f, &shape, x, sx, op_in(c, k), sk, y);
}

/* operand k, repeated to [N, out] */
static void expand(const struct psg_call *c, int k, psg_real *y)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->out.rank + 1, .dim = { c->n } };
    int64_t sy[PSG_MAX_RANK], sk[PSG_MAX_RANK] = { g->in_size[k] };
    for (int i = 0; i < g->out.rank; i++) {
        shape.dim[i + 1] = g->out.dim[i];
        sk[i + 1] = g->stride[k][i];
    }
    psg_shape_strides(&shape, sy);
    c->be->copy(&shape, sizeof(psg_real), op_in(c, k), sk, y, sy);
}

static void arithmetic_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const psg_real *a = op_in(c, 0);
    if (g->repeated[0]) {
        expand(c, 0, c->scratch);
        a = c->scratch;
    }
    with_operand(c, g->f, a, 1, c->out[0]);
}

/* din[k] = dy [N, out], summed over what was repeated */
static void sum_to_operand(const struct psg_call *c, int k, const psg_real *dy)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->out.rank + 1, .dim = { c->n } };
    for (int i = 0; i < g->out.rank; i++)
        shape.dim[i + 1] = g->out.dim[i];
    if (g->repeated[k])
        c->be->reduce(PSG_REDUCE_SUM, &shape, g->repeated[k], dy, c->din[k]);
    else
        op_copy(c->be, c->n * g->size, dy, c->din[k]);
}

static void arithmetic_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t n = c->n * g->size;
    psg_real *tmp = c->scratch;
    const psg_real *dy = c->dout[0];
    if (op_wants_din(c, 0)) {
        if (g->f == PSG_MUL || g->f == PSG_DIV)
            with_operand(c, g->f, dy, 1, tmp);
        sum_to_operand(c, 0, g->f == PSG_MUL || g->f == PSG_DIV ? tmp : dy);
    }
    if (!op_wants_din(c, 1))
        return;
    if (g->f == PSG_MUL) {
        with_operand(c, PSG_MUL, dy, 0, tmp);
    } else if (g->f == PSG_DIV) {
        op_binary(c->be, PSG_MUL, n, dy, c->out[0], tmp);
        with_operand(c, PSG_DIV, tmp, 1, tmp);
        c->be->unary(PSG_NEG, n, tmp, tmp);
    } else if (g->f == PSG_SUB) {
        c->be->unary(PSG_NEG, n, dy, tmp);
    }
    sum_to_operand(c, 1, g->f == PSG_ADD ? dy : tmp);
}

static void arithmetic_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = psg_g_binary(l->g, g->f, l->in[0], l->in[1]);
}

static int add_infer(struct psg_infer *c)
{
    return arithmetic_infer(c, PSG_ADD);
}

static int sub_infer(struct psg_infer *c)
{
    return arithmetic_infer(c, PSG_SUB);
}

static int mul_infer(struct psg_infer *c)
{
    return arithmetic_infer(c, PSG_MUL);
}

static int div_infer(struct psg_infer *c)
{
    return arithmetic_infer(c, PSG_DIV);
}

static const struct psg_op_case cases[] = {
    { "", "3x4 +3x4" }, { "", "3x4 +4" },   { "", "5 +2x3x1" },
    { "", "- +2x2" },   { "", "2x1 +1x3" }, { NULL, NULL },
};

static const char *const inputs[] = { "a", "b", NULL };

#define ARITHMETIC_OP(NAME)                                                                \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .inputs = inputs,                                                                  \
        .n_in_min = 2,                                                                     \
        .n_in_max = 2,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = arithmetic_forward,                                                     \
        .backward = arithmetic_backward,                                                   \
        .lower = arithmetic_lower,                                                         \
        .cases = cases,                                                                    \
    }

ARITHMETIC_OP(add);
ARITHMETIC_OP(sub);
ARITHMETIC_OP(mul);
ARITHMETIC_OP(div);
