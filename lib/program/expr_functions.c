/* The functions that formulas may call, and their operators. */
#include <math.h>
#include <string.h>

#include "program/expr.h"

#define RUN(NAME) static EXPR_RUN(run_##NAME)
#define TENSOR(a) ((a)->kind == VALUE_TENSOR)

/* ---- element by element ---- */

static double unary_number(enum psg_unary f, double v)
{
    switch (f) {
    case PSG_NEG: return -v;
    case PSG_EXP: return exp(v);
    case PSG_LOG: return log(v);
    case PSG_LOG1P: return log1p(v);
    case PSG_EXPM1: return expm1(v);
    case PSG_SQRT: return sqrt(v);
    case PSG_RSQRT: return 1 / sqrt(v);
    case PSG_TANH: return tanh(v);
    case PSG_SIGMOID: return 1 / (1 + exp(-v));
    case PSG_ERF: return erf(v);
    case PSG_ABS: return fabs(v);
    case PSG_SIGN: return (v > 0) - (v < 0);
    case PSG_FLOOR: return floor(v);
    case PSG_SIN: return sin(v);
    case PSG_COS: return cos(v);
    case PSG_RECIP: return 1 / v;
    case PSG_BF16:
    case PSG_UNARY_COUNT: break;
    }
    return NAN;
}

RUN(unary)
{
    (void)n;
    if (a->kind == VALUE_NUMBER)
        expr_number(out, unary_number((enum psg_unary)f->f, a->number[0]));
    else
        expr_tensor(out, psg_g_unary(x->g, (enum psg_unary)f->f, expr_real(x, a)));
    return x->status;
}

static double binary_number(enum psg_binary f, double a, double b)
{
    switch (f) {
    case PSG_ADD: return a + b;
    case PSG_SUB: return a - b;
    case PSG_MUL: return a * b;
    case PSG_DIV: return a / b;
    case PSG_POW: return pow(a, b);
    case PSG_MAX: return fmax(a, b);
    case PSG_MIN: return fmin(a, b);
    case PSG_EQ: return a == b;
    case PSG_NE: return a != b;
    case PSG_LT: return a < b;
    case PSG_LE: return a <= b;
    case PSG_GT: return a > b;
    case PSG_GE: return a >= b;
    case PSG_BINARY_COUNT: break;
    }
    return NAN;
}

static psg_value power(struct expr_eval *x, psg_value base, const struct expr_value *exponent)
{
    /* whole powers as products: right for every sign of the base, and cheap */
    double k = exponent->kind == VALUE_NUMBER ? exponent->number[0] : NAN;
    if (k == 1)
        return base;
    if (k == 2)
        return psg_g_mul(x->g, base, base);
    if (k == 3)
        return psg_g_mul(x->g, base, psg_g_mul(x->g, base, base));
    if (k == 0.5)
        return psg_g_unary(x->g, PSG_SQRT, base);
    return psg_g_binary(x->g, PSG_POW, base, expr_real(x, exponent));
}

RUN(binary)
{
    enum psg_binary op = (enum psg_binary)f->f;
    (void)n;
    if (a[0].kind == VALUE_NUMBER && a[1].kind == VALUE_NUMBER) {
        expr_number(out, binary_number(op, a[0].number[0], a[1].number[0]));
        return 0;
    }
    psg_value left = expr_real(x, &a[0]);
    if (op == PSG_POW)
        expr_tensor(out, power(x, left, &a[1]));
    else
        expr_tensor(out, psg_g_binary(x->g, op, left, expr_real(x, &a[1])));
    return x->status;
}

RUN(floor_divide)
{
    (void)f, (void)n;
    if (a[0].kind == VALUE_NUMBER && a[1].kind == VALUE_NUMBER) {
        expr_number(out, floor(a[0].number[0] / a[1].number[0]));
        return 0;
    }
    psg_value ratio = psg_g_div(x->g, expr_real(x, &a[0]), expr_real(x, &a[1]));
    expr_tensor(out, psg_g_unary(x->g, PSG_FLOOR, ratio));
    return x->status;
}

RUN(ceil)
{
    (void)f, (void)n;
    if (a->kind == VALUE_NUMBER) {
        expr_number(out, ceil(a->number[0]));
        return 0;
    }
    psg_value below = psg_g_unary(x->g, PSG_FLOOR, psg_g_neg(x->g, expr_real(x, a)));
    expr_tensor(out, psg_g_neg(x->g, below));
    return x->status;
}

enum act { ACT_RELU, ACT_SILU, ACT_GELU, ACT_SOFTPLUS, ACT_LOGSIGMOID, ACT_SQUARE };

/* max(v, 0) + log1p(exp(-|v|)); both parts take the branch v <= 0 at 0, so that their derivatives
 * add up to 1/2 there */
static psg_value softplus(struct psg_graph *g, psg_value v)
{
    psg_value zero = psg_g_scalar(g, 0), above = psg_g_binary(g, PSG_GT, v, zero);
    psg_value tail = psg_g_exp(g, psg_g_select(g, above, psg_g_neg(g, v), v));
    return psg_g_add(g, psg_g_select(g, above, v, zero), psg_g_unary(g, PSG_LOG1P, tail));
}

RUN(activation)
{
    struct psg_graph *g = x->g;
    psg_value v = expr_real(x, a), y = PSG_NONE;
    (void)n;
    switch ((enum act)f->f) {
    case ACT_RELU:
        y = psg_g_scalar(g, 0);
        y = psg_g_select(g, psg_g_binary(g, PSG_LE, v, y), y, v);
        break;
    case ACT_SILU: y = psg_g_mul(g, v, psg_g_sigmoid(g, v)); break;
    case ACT_GELU:
        y = psg_g_unary(g, PSG_ERF, psg_g_mul(g, v, psg_g_scalar(g, M_SQRT1_2)));
        y = psg_g_mul(g, psg_g_mul(g, v, psg_g_scalar(g, 0.5)),
                      psg_g_add(g, y, psg_g_scalar(g, 1)));
        break;
    case ACT_SOFTPLUS: y = softplus(g, v); break;
    case ACT_LOGSIGMOID: y = psg_g_neg(g, softplus(g, psg_g_neg(g, v))); break;
    case ACT_SQUARE: y = psg_g_mul(g, v, v); break;
    }
    expr_tensor(out, y);
    return x->status;
}

/* where x is a bound itself, the gradient is x's */
RUN(clamp)
{
    (void)f, (void)n;
    struct psg_graph *g = x->g;
    psg_value v = expr_real(x, &a[0]), lo = expr_real(x, &a[1]), hi = expr_real(x, &a[2]);
    v = psg_g_select(g, psg_g_binary(g, PSG_LT, v, lo), lo, v);
    expr_tensor(out, psg_g_select(g, psg_g_binary(g, PSG_GT, v, hi), hi, v));
    return x->status;
}

RUN(where)
{
    (void)f, (void)n;
    psg_value mask = expr_real(x, &a[0]), yes = expr_real(x, &a[1]), no = expr_real(x, &a[2]);
    expr_tensor(out, psg_g_select(x->g, mask, yes, no));
    return x->status;
}

RUN(detach)
{
    (void)f, (void)n;
    expr_tensor(out, psg_g_detach(x->g, expr_real(x, a)));
    return x->status;
}

RUN(real)
{
    (void)f, (void)n;
    expr_tensor(out, expr_real(x, a));
    return x->status;
}

/* The mask comes from the node's own uniform numbers, as in the layer `dropout`. */
RUN(dropout)
{
    struct psg_graph *g = x->g;
    psg_value v = expr_real(x, &a[0]), u;
    double p = a[1].number[0];
    (void)f, (void)n;
    if (a[1].kind != VALUE_NUMBER || !(p >= 0 && p <= 1))
        return expr_fail(x, PSG_E_RANGE, "p must be a number from 0 to 1");
    struct psg_shape shape = expr_shape_of(x, v);
    int64_t size = psg_shape_size(&shape);
    expr_tensor(out, v);
    if (x->status || v == PSG_NONE || p == 0 || size < 0)
        return x->status;
    int64_t from = x->n_random, limit = from + size, one = 1;
    if (limit > EXPR_ELEMENTS_MAX)
        return expr_fail(x, PSG_E_SHAPE, "draws too many random numbers");
    x->n_random = limit;
    if (!x->training)
        return 0;
    if (x->random == PSG_NONE)
        u = psg_g_full(g, &PSG_SHAPE(size), 0.5);
    else
        u = psg_g_slice(g, x->random, &from, &limit, &one);
    psg_value keep = psg_g_binary(g, PSG_GE, u, psg_g_scalar(g, p));
    v = psg_g_mul(g, v, psg_g_scalar(g, p < 1 ? 1 / (1 - p) : 0));
    expr_tensor(out, psg_g_mul(g, v, psg_g_reshape(g, keep, &shape)));
    return x->status;
}

/* ---- over axes ---- */

/* v without the axes, with them as length 1 when keep */
static psg_value keep_axes(struct expr_eval *x, psg_value v, struct psg_shape from,
                           unsigned axes, bool keep)
{
    struct psg_shape shape = { 0 };
    if (v == PSG_NONE || !keep)
        return v;
    for (int i = 0; i < from.rank; i++)
        shape.dim[shape.rank++] = axes >> i & 1 ? 1 : from.dim[i];
    return psg_g_reshape(x->g, v, &shape);
}

struct over {
    psg_value v;
    struct psg_shape shape;
    unsigned axes;
    bool keep;
    int64_t count; /* cells that meet in one */
};

/* x[, axes[, keepdim]] */
static int read_over(struct expr_eval *x, const struct expr_value *a, int n, struct over *o)
{
    *o = (struct over){ .v = expr_real(x, &a[0]), .count = 1 };
    o->shape = expr_shape_of(x, o->v);
    o->axes = (1u << o->shape.rank) - 1;
    if (n > 1 && expr_axes(x, &a[1], o->shape.rank, &o->axes))
        return x->status;
    if (n > 2 && a[2].kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "keepdim must be true or false");
    o->keep = n > 2 && a[2].number[0] != 0;
    for (int i = 0; i < o->shape.rank; i++)
        o->count *= o->axes >> i & 1 ? o->shape.dim[i] : 1;
    return x->status;
}

enum { OVER_MEAN = PSG_REDUCE_COUNT };

RUN(over)
{
    struct over o;
    if (read_over(x, a, n, &o))
        return x->status;
    bool mean = f->f == OVER_MEAN;
    if (f->f != PSG_REDUCE_SUM && o.count == 0)
        return expr_fail(x, PSG_E_SHAPE, "there is nothing to take the %s of", f->name);
    psg_value v = psg_g_reduce(x->g, mean ? PSG_REDUCE_SUM : (enum psg_reduce)f->f, o.v, o.axes);
    if (mean)
        v = psg_g_mul(x->g, v, psg_g_scalar(x->g, 1 / (double)o.count));
    expr_tensor(out, keep_axes(x, v, o.shape, o.axes, o.keep));
    return x->status;
}

/* v minus its largest over axes, which no gradient needs; *largest keeps the axes */
static psg_value centre(struct expr_eval *x, const struct over *o, psg_value *largest)
{
    psg_value m = psg_g_reduce(x->g, PSG_REDUCE_MAX, psg_g_detach(x->g, o->v), o->axes);
    *largest = keep_axes(x, m, o->shape, o->axes, true);
    return psg_g_sub(x->g, o->v, *largest);
}

RUN(softmax)
{
    struct psg_graph *g = x->g;
    struct over o;
    psg_value largest;
    if (read_over(x, a, n, &o))
        return x->status;
    if (o.count == 0)
        return expr_fail(x, PSG_E_SHAPE, "the axis is empty");
    psg_value v = centre(x, &o, &largest), e = psg_g_exp(g, v);
    psg_value sum = keep_axes(x, psg_g_sum(g, e, o.axes), o.shape, o.axes, true);
    expr_tensor(out, f->f ? psg_g_sub(g, v, psg_g_log(g, sum)) : psg_g_div(g, e, sum));
    return x->status;
}

RUN(logsumexp)
{
    struct psg_graph *g = x->g;
    struct over o;
    psg_value largest;
    (void)f;
    if (read_over(x, a, n, &o))
        return x->status;
    if (o.count == 0)
        return expr_fail(x, PSG_E_SHAPE, "the axis is empty");
    psg_value sum = psg_g_sum(g, psg_g_exp(g, centre(x, &o, &largest)), o.axes);
    psg_value kept = keep_axes(x, psg_g_log(g, sum), o.shape, o.axes, true);
    kept = psg_g_add(g, kept, largest);
    if (!o.keep && kept != PSG_NONE) {
        struct psg_shape shape = expr_shape_of(x, sum);
        kept = psg_g_reshape(g, kept, &shape);
    }
    expr_tensor(out, kept);
    return x->status;
}

RUN(argmax)
{
    psg_value v = expr_real(x, &a[0]);
    int axis = 0;
    (void)f, (void)n;
    if (expr_axis(x, &a[1], expr_shape_of(x, v).rank, &axis))
        return x->status;
    expr_tensor(out, psg_g_argmax(x->g, v, axis));
    return x->status;
}

/* ---- tables ---- */

static psg_value need_ids(struct expr_eval *x, const struct expr_value *a)
{
    if (TENSOR(a) && a->v != PSG_NONE && psg_graph_type(x->g, a->v)->dtype == PSG_I64)
        return a->v;
    expr_fail(x, PSG_E_INVALID, "ids must be an integer input");
    return PSG_NONE;
}

RUN(embedding)
{
    (void)f, (void)n;
    psg_value ids = need_ids(x, &a[0]), table = expr_real(x, &a[1]);
    expr_tensor(out, psg_g_gather(x->g, table, ids, 0));
    return x->status;
}

RUN(one_hot)
{
    int64_t depth = 0;
    psg_value ids = need_ids(x, &a[0]);
    (void)f, (void)n;
    if (expr_int(x, &a[1], "the number of classes", 1, EXPR_ELEMENTS_MAX, &depth))
        return x->status;
    expr_tensor(out, psg_g_onehot(x->g, ids, depth));
    return x->status;
}

/* ---- the list ---- */

static const struct expr_function functions[] = {
    { "+", 2, 2, run_binary, PSG_ADD },
    { "-", 2, 2, run_binary, PSG_SUB },
    { "*", 2, 2, run_binary, PSG_MUL },
    { "/", 2, 2, run_binary, PSG_DIV },
    { "**", 2, 2, run_binary, PSG_POW },
    { "==", 2, 2, run_binary, PSG_EQ },
    { "!=", 2, 2, run_binary, PSG_NE },
    { "<", 2, 2, run_binary, PSG_LT },
    { "<=", 2, 2, run_binary, PSG_LE },
    { ">", 2, 2, run_binary, PSG_GT },
    { ">=", 2, 2, run_binary, PSG_GE },
    { "//", 2, 2, run_floor_divide, 0 },
    { "@", 2, 2, expr_run_matmul, 0 },
    { "T", 1, 1, expr_run_swap, 0 },
    { "abs", 1, 1, run_unary, PSG_ABS },
    { "amax", 1, 3, run_over, PSG_REDUCE_MAX },
    { "amin", 1, 3, run_over, PSG_REDUCE_MIN },
    { "arange", 1, 1, expr_run_arange, 0 },
    { "argmax", 2, 2, run_argmax, 0 },
    { "ceil", 1, 1, run_ceil, 0 },
    { "clamp", 3, 3, run_clamp, 0 },
    { "concat", 2, EXPR_ARGS_MAX, expr_run_concat, 0 },
    { "cos", 1, 1, run_unary, PSG_COS },
    { "detach", 1, 1, run_detach, 0 },
    { "dropout", 2, 2, run_dropout, 0 },
    { "einsum", 2, 3, expr_run_einsum, 0 },
    { "embedding", 2, 2, run_embedding, 0 },
    { "erf", 1, 1, run_unary, PSG_ERF },
    { "exp", 1, 1, run_unary, PSG_EXP },
    { "expand", 2, 2, expr_run_expand, 0 },
    { "expm1", 1, 1, run_unary, PSG_EXPM1 },
    { "flatten", 1, 1, expr_run_flatten, 0 },
    { "flip", 2, 2, expr_run_flip, 0 },
    { "float", 1, 1, run_real, 0 },
    { "floor", 1, 1, run_unary, PSG_FLOOR },
    { "full", 2, 2, expr_run_full, 2 },
    { "gelu", 1, 1, run_activation, ACT_GELU },
    { "log", 1, 1, run_unary, PSG_LOG },
    { "log1p", 1, 1, run_unary, PSG_LOG1P },
    { "log_softmax", 2, 2, run_softmax, 1 },
    { "logsigmoid", 1, 1, run_activation, ACT_LOGSIGMOID },
    { "logsumexp", 2, 3, run_logsumexp, 0 },
    { "matmul", 2, 2, expr_run_matmul, 0 },
    { "maximum", 2, 2, run_binary, PSG_MAX },
    { "mean", 1, 3, run_over, OVER_MEAN },
    { "minimum", 2, 2, run_binary, PSG_MIN },
    { "neg", 1, 1, run_unary, PSG_NEG },
    { "one_hot", 2, 2, run_one_hot, 0 },
    { "ones", 1, 1, expr_run_full, 1 },
    { "pad", 4, 5, expr_run_pad, 0 },
    { "permute", 2, 2, expr_run_permute, 0 },
    { "pow", 2, 2, run_binary, PSG_POW },
    { "reciprocal", 1, 1, run_unary, PSG_RECIP },
    { "relu", 1, 1, run_activation, ACT_RELU },
    { "reshape", 2, 2, expr_run_reshape, 0 },
    { "rsqrt", 1, 1, run_unary, PSG_RSQRT },
    { "select", 3, 3, expr_run_select, 0 },
    { "sigmoid", 1, 1, run_unary, PSG_SIGMOID },
    { "sign", 1, 1, run_unary, PSG_SIGN },
    { "silu", 1, 1, run_activation, ACT_SILU },
    { "sin", 1, 1, run_unary, PSG_SIN },
    { "size", 2, 2, expr_run_size, 0 },
    { "slice", 4, 5, expr_run_slice, 0 },
    { "softmax", 2, 2, run_softmax, 0 },
    { "softplus", 1, 1, run_activation, ACT_SOFTPLUS },
    { "sqrt", 1, 1, run_unary, PSG_SQRT },
    { "square", 1, 1, run_activation, ACT_SQUARE },
    { "squeeze", 2, 2, expr_run_squeeze, 0 },
    { "sum", 1, 3, run_over, PSG_REDUCE_SUM },
    { "tanh", 1, 1, run_unary, PSG_TANH },
    { "transpose", 3, 3, expr_run_transpose, 0 },
    { "unfold", 5, 5, expr_run_unfold, 0 },
    { "unsqueeze", 2, 2, expr_run_unsqueeze, 0 },
    { "where", 3, 3, run_where, 0 },
    { "zeros", 1, 1, expr_run_full, 0 },
};

int expr_find_function(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strlen(functions[i].name) == len && memcmp(functions[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

const struct expr_function *expr_function_at(int i)
{
    return &functions[i];
}
