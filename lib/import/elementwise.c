/* Operators element by element: broadcasting with the batch axis in its place, activations. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "import/run.h"

/* ---- broadcasting ---- */
/* Whether the numbers of a tensor without batch are the same all along an axis. */
static bool even_along(const struct im_tensor *t, int axis)
{
    if (t->same >> axis & 1)
        return true;
    if (t->source != IM_DATA)
        return false;
    struct psg_shape s = im_thin_shape(t);
    int64_t inner = 1, size = psg_shape_size(&s);
    if (!psg_shape_equal(&s, &t->stored))
        return false;
    for (int i = axis + 1; i < t->rank; i++)
        inner *= s.dim[i];
    for (int64_t i = 0; i < size; i++)
        if (i / inner % s.dim[axis] != 0 && t->data[i] != t->data[i - inner])
            return false;
    return true;
}

/* A tensor without batch meets the batch in its axis k: its length there must be 1, or the
 * number of the example's samples with equal numbers all along. */
static int meet_batch(struct im_run *r, struct im_tensor **tp, int k, int64_t share)
{
    struct im_tensor *t = *tp;
    if (t->dim[k] == 1)
        return 0;
    int64_t e = t->dim[k] % share == 0 ? t->dim[k] / share : 0;
    if (e == 0 || (r->batch != 0 && r->batch != e) || !even_along(t, k))
        return im_mixes(r,
                        "a tensor that differs along the batch axis: samples would be told "
                        "apart by their place in the batch");
    r->batch = e;
    struct im_tensor *y = NULL;
    int status = 0;
    if (t->same >> k & 1)
        y = im_tensor_copy(r, t);
    else
        status = im_slice(r, t, k, 0, 1, 1, &y);
    if (status || !y)
        return status ? status : im_no_memory(r);
    y->dim[k] = 1;
    y->same &= ~(1u << k);
    *tp = y;
    return 0;
}

int im_align(struct im_run *r, struct im_tensor *const *in, int n, struct im_tensor *out,
             struct psg_shape *shape)
{
    *out = (struct im_tensor){ .batch = -1, .inner = 1 };
    for (int i = 0; i < n; i++)
        out->rank = in[i]->rank > out->rank ? in[i]->rank : out->rank;
    for (int i = 0; i < n; i++) {
        const struct im_tensor *t = in[i];
        int at = t->batch + out->rank - t->rank;
        if (t->batch < 0)
            continue;
        if (out->batch >= 0 && (at != out->batch || t->dim[t->batch] != out->dim[at] ||
                                t->inner != out->inner))
            return im_mixes(r, "two tensors whose batch axes do not meet");
        out->batch = at;
        out->inner = t->inner;
        out->dim[at] = t->dim[t->batch];
    }
    unsigned stored = 0; /* axes that some operand really has */
    for (int i = 0; i < n; i++) {
        const struct im_tensor *t = in[i];
        for (int k = 0; k < t->rank; k++) {
            int at = k + out->rank - t->rank;
            if (at == out->batch && k != t->batch && t->dim[k] != 1)
                return im_fail(r, PSG_E_INVALID, "operand not prepared");
            if (at == out->batch)
                continue;
            if (out->dim[at] > 1 && t->dim[k] != 1 && t->dim[k] != out->dim[at])
                return im_fail(r, PSG_E_SHAPE, "sizes %lld and %lld do not broadcast",
                               (long long)out->dim[at], (long long)t->dim[k]);
            out->dim[at] = t->dim[k] > 1 || out->dim[at] == 0 ? t->dim[k] : out->dim[at];
            if (!(t->same >> k & 1) && t->dim[k] != 1)
                stored |= 1u << at;
        }
    }
    for (int k = 0; k < out->rank; k++)
        if (k != out->batch && out->dim[k] > 1 && !(stored >> k & 1))
            out->same |= 1u << k;
    for (int i = 0; i < n; i++) {
        const struct im_tensor *t = in[i];
        shape[i] = (struct psg_shape){ 0 };
        for (int at = 0; at < out->rank; at++) {
            int k = at - (out->rank - t->rank);
            bool gone = at == out->batch && out->dim[at] == 1;
            int64_t d = k < 0 || t->same >> k & 1 ? 1 : t->dim[k];
            if (gone || (shape[i].rank == 0 && d == 1))
                continue; /* a leading 1 */
            shape[i].dim[shape[i].rank++] = d;
        }
    }
    return 0;
}

/* im_align, after operands without batch have been made to fit. */
static int align(struct im_run *r, struct im_tensor **in, int n, struct im_tensor *out,
                 struct psg_shape *shape)
{
    const struct im_tensor *with = NULL;
    int rank = 0;
    for (int i = 0; i < n; i++) {
        rank = in[i]->rank > rank ? in[i]->rank : rank;
        with = in[i]->batch >= 0 ? in[i] : with;
    }
    for (int i = 0; with && i < n; i++) {
        int k = with->batch + in[i]->rank - with->rank;
        if (in[i]->batch < 0 && k >= 0) {
            int status = meet_batch(r, &in[i], k, with->dim[with->batch]);
            if (status)
                return status;
        }
    }
    return im_align(r, in, n, out, shape);
}

/* y takes its axes from `axes` and its numbers from `made`. */
static int result(struct im_run *r, const struct im_tensor *axes,
                  const struct im_tensor *made, enum im_type type, struct im_tensor **out)
{
    struct im_tensor *y = im_tensor_copy(r, axes);
    if (!y)
        return im_no_memory(r);
    y->source = made->source;
    y->v = made->v;
    y->data = made->data;
    y->stored = made->stored;
    y->changes = NULL;
    y->type = type;
    *out = y;
    return 0;
}

static bool ready(const struct im_run *r, const struct im_tensor *t,
                  const struct psg_shape *shape)
{
    return t->source == IM_VALUE && psg_shape_equal(&t->stored, shape) &&
           psg_program_type(r->program, t->v)->dtype == PSG_REAL;
}

/* add and add_param as layer functions, the rest as formulas */
static int emit_binary(struct im_run *r, enum psg_binary f, struct im_tensor **in,
                       const struct psg_shape *shape, struct im_tensor *made)
{
    static const char *const layer[] = {
        [PSG_ADD] = "add", [PSG_SUB] = "sub", [PSG_MUL] = "mul", [PSG_DIV] = "div"
    };
    static const char *const sign[] = {
        [PSG_ADD] = "+", [PSG_SUB] = "-",           [PSG_MUL] = "*",
        [PSG_DIV] = "/", [PSG_EQ] = "==",           [PSG_NE] = "!=",
        [PSG_LT] = "<",  [PSG_LE] = "<=",           [PSG_GT] = ">",
        [PSG_GE] = ">=", [PSG_BINARY_COUNT] = NULL,
    };
    if (f <= PSG_DIV && ready(r, in[0], &shape[0]) && ready(r, in[1], &shape[1]))
        return im_layer(r, im_node_new(r, layer[f]), in, 2, made);
    for (int k = 0; f == PSG_ADD && k < 2; k++) {
        const struct psg_shape *p = &shape[k];
        if (!im_is_param(in[k]) || !psg_shape_equal(p, &in[k]->stored) ||
            !ready(r, in[!k], &shape[!k]) || shape[!k].rank < p->rank || p->rank == 0)
            continue;
        bool fits = true;
        for (int i = 0; i < p->rank; i++)
            fits &=
                p->dim[i] == 1 || p->dim[i] == shape[!k].dim[shape[!k].rank - p->rank + i];
        struct im_node *n = fits ? im_node_new(r, "add_param") : NULL;
        if (!n)
            continue;
        im_attr_ints(n, "shape", p->dim, p->rank);
        int status = im_use(r, n, "value", in[k]);
        return status ? status : im_layer(r, n, &in[!k], 1, made);
    }
    const char *a = im_operand(r, in[0], 'a', &shape[0]);
    const char *b = im_operand(r, in[1], 'b', &shape[1]);
    if (!a || !b)
        return im_no_memory(r);
    if (sign[f])
        return im_formula(r, in, 2, made, "%s %s %s", a, sign[f], b);
    return im_formula(r, in, 2, made, "%s(%s, %s)",
                      f == PSG_POW   ? "pow"
                      : f == PSG_MAX ? "maximum"
                                     : "minimum",
                      a, b);
}

int im_binary(struct im_run *r, enum psg_binary f, struct im_tensor *a, struct im_tensor *b,
              struct im_tensor **out)
{
    struct im_tensor *in[] = { a, b }, axes, made;
    struct psg_shape shape[2];
    enum im_type type = a->type > b->type ? a->type : b->type;
    if (f >= PSG_EQ)
        type = IM_BOOLEAN;
    else if (f == PSG_DIV)
        type = IM_FLOAT;
    int status = align(r, in, 2, &axes, shape);
    if (status == 0)
        status = emit_binary(r, f, in, shape, &made);
    return status ? status : result(r, &axes, &made, type, out);
}

/* ---- arithmetic operators ---- */
static int arithmetic(struct im_run *r, enum psg_binary f, const struct im_value *x,
                      const struct im_value *y, struct im_value *out)
{
    struct im_tensor *a = NULL, *b = NULL, *t = NULL;
    if (x->kind != IM_TENSOR && y->kind != IM_TENSOR && x->kind != IM_STORED &&
        y->kind != IM_STORED)
        return im_scalar_binary(r, f, x, y, out);
    int status = im_arg_tensor(r, x, &a);
    if (!status)
        status = im_arg_tensor(r, y, &b);
    if (!status)
        status = im_binary(r, f, a, b, &t);
    return status ? status : im_set(r, t, out);
}

/* x + alpha y, x - alpha y */
static int with_alpha(struct im_run *r, enum psg_binary f, const struct im_value *x,
                      const struct im_value *y, const struct im_value *alpha,
                      struct im_value *out)
{
    struct im_value scaled = *y;
    double d;
    int status = 0;
    if (im_given(alpha) && im_arg_real(r, alpha, 1, &d) == 0 && d != 1)
        status = arithmetic(r, PSG_MUL, y, alpha, &scaled);
    return status ? status : arithmetic(r, f, x, &scaled, out);
}

static int op_add(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_alpha(r, PSG_ADD, &a[0], &a[1], &a[2], out);
}

static int op_sub(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_alpha(r, PSG_SUB, &a[0], &a[1], &a[2], out);
}

static int op_rsub(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_alpha(r, PSG_SUB, &a[1], &a[0], &a[2], out);
}

#define BINARY(NAME, F)                                                                    \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        return arithmetic(r, F, &a[0], &a[1], out);                                        \
    }
BINARY(mul, PSG_MUL)
BINARY(eq, PSG_EQ)
BINARY(ne, PSG_NE)
BINARY(lt, PSG_LT)
BINARY(le, PSG_LE)
BINARY(gt, PSG_GT)
BINARY(ge, PSG_GE)
BINARY(maximum, PSG_MAX)
BINARY(minimum, PSG_MIN)

static int formula1(struct im_run *r, struct im_tensor *x, const char *fmt,
                    struct im_tensor **out);

static int op_div(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    bool rounds = a[2].kind == IM_TEXT;
    if (a[0].kind != IM_TENSOR && a[1].kind != IM_TENSOR && a[0].kind != IM_STORED &&
        a[1].kind != IM_STORED && rounds)
        return im_scalar_floordiv(r, &a[0], &a[1], out);
    int status = arithmetic(r, PSG_DIV, &a[0], &a[1], out);
    if (status || !rounds)
        return status;
    struct im_tensor *y = NULL;
    status = formula1(
        r, out->tensor,
        im_text_is(&a[2], "floor") ? "floor(%s)" : "sign(%s) * floor(abs(%s))", &y);
    return status ? status : im_set(r, y, out);
}

static int op_pow(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double k;
    struct im_tensor *x = NULL, *y = NULL;
    if (!im_is_number(&a[1]) || im_is_number(&a[0]))
        return arithmetic(r, PSG_POW, &a[0], &a[1], out);
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_real(r, &a[1], 1, &k);
    if (status)
        return status;
    char text[64];
    snprintf(text, sizeof text, k < 0 ? "%%s ** (%.17g)" : "%%s ** %.17g", k);
    status = formula1(r, x, text, &y);
    return status ? status : im_set(r, y, out);
}

/* ---- functions of one tensor ---- */
/* %s in text is the operand */
static int formula1(struct im_run *r, struct im_tensor *x, const char *fmt,
                    struct im_tensor **out)
{
    struct im_tensor *copy = im_tensor_copy(r, x), made;
    struct psg_shape thin = im_thin_shape(x);
    bool keep = r->keep;
    if (!copy)
        return im_no_memory(r);
    r->keep = true; /* the operand by name, even a number */
    const char *a = im_operand(r, copy, 'a', &thin);
    r->keep = keep;
    char text[512];
    size_t n = 0;
    for (const char *p = fmt; a && *p && n + strlen(a) + 1 < sizeof text; p++) {
        if (p[0] == '%' && p[1] == 's') {
            n += (size_t)sprintf(text + n, "%s", a);
            p++;
        } else {
            text[n++] = *p;
        }
    }
    text[n] = '\0';
    if (!a)
        return im_no_memory(r);
    int status = im_formula(r, &copy, 1, &made, "%s", text);
    return status ? status : result(r, x, &made, IM_FLOAT, out);
}

static int unary(struct im_run *r, const struct im_value *v, const char *fmt,
                 struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    int status = im_arg_tensor(r, v, &x);
    if (!status)
        status = formula1(r, x, fmt, &y);
    return status ? status : im_set(r, y, out);
}

/* A layer function of any shape, as it is. */
static int layer1(struct im_run *r, struct im_node *n, struct im_tensor *x,
                  struct im_tensor **out)
{
    struct im_tensor *solid = NULL, made;
    if (!n)
        return im_no_memory(r);
    if (x->source == IM_DATA && !r->keep) {
        int status = im_layer(r, n, &x, 1, &made);
        struct im_tensor *full = im_tensor_copy(r, x);
        if (!full)
            return im_no_memory(r);
        full->same = 0;
        return status ? status : result(r, full, &made, IM_FLOAT, out);
    }
    int status = im_solid_tensor(r, x, &solid);
    if (!status)
        status = im_layer(r, n, &solid, 1, &made);
    return status ? status : result(r, solid, &made, IM_FLOAT, out);
}

int im_activation(struct im_run *r, const char *op, struct im_tensor *x,
                  struct im_tensor **out)
{
    return layer1(r, im_node_new(r, op), x, out);
}

static int plain(struct im_run *r, const struct im_value *v, struct im_node *n,
                 struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    int status = im_arg_tensor(r, v, &x);
    if (!status)
        status = layer1(r, n, x, &y);
    return status ? status : im_set(r, y, out);
}

#define ACT(NAME)                                                                          \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        return plain(r, &a[0], im_node_new(r, #NAME), out);                                \
    }
ACT(relu)
ACT(relu6)
ACT(tanh)
ACT(sigmoid)
ACT(silu)
ACT(hardswish)
ACT(hardsigmoid)
ACT(selu)
ACT(mish)
ACT(logsigmoid)

#define UNARY(NAME, TEXT)                                                                  \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        return unary(r, &a[0], TEXT, out);                                                 \
    }
UNARY(square, "%s * %s")
UNARY(erfc, "1 - erf(%s)")
UNARY(log2, "log(%s) / 0.69314718055994530942")
UNARY(log10, "log(%s) / 2.30258509299404568402")
UNARY(exp2, "exp(%s * 0.69314718055994530942)")
UNARY(logit, "log(%s / (1 - %s))")
UNARY(softsign, "%s / (1 + abs(%s))")
UNARY(tanhshrink, "%s - tanh(%s)")
UNARY(trunc, "sign(%s) * floor(abs(%s))")

/* Functions that formulas know by the same name. */
#define SAME(NAME) UNARY(NAME, #NAME "(%s)")
SAME(abs)
SAME(erf)
SAME(expm1)
SAME(log1p)
SAME(reciprocal)
SAME(rsqrt)
SAME(sign)
SAME(exp)

/* The same of numbers too. */
#define NUMERIC(NAME, C)                                                                   \
    static int op_##NAME(struct im_run *r, const struct im_value *a, struct im_value *out) \
    {                                                                                      \
        double d;                                                                          \
        int status;                                                                        \
        if (!im_is_number(&a[0]))                                                          \
            return unary(r, &a[0], #NAME "(%s)", out);                                     \
        status = im_arg_real(r, &a[0], 0, &d);                                             \
        *out = im_real(C(d));                                                              \
        return status;                                                                     \
    }
NUMERIC(sqrt, sqrt)
NUMERIC(log, log)
NUMERIC(sin, sin)
NUMERIC(cos, cos)

static int op_neg(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value minus = im_int(-1);
    if (im_is_number(&a[0]))
        return im_scalar_binary(r, PSG_MUL, &a[0], &minus, out);
    return unary(r, &a[0], "-%s", out);
}

static int op_gelu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_node *n = im_node_new(r, "gelu");
    if (n && im_text_is(&a[1], "tanh"))
        im_attr_text(n, "approximate", "tanh");
    return plain(r, &a[0], n, out);
}

/* One or two numbers as attributes. */
static int with_numbers(struct im_run *r, const struct im_value *a, const char *op,
                        const char *name0, double dflt0, const char *name1, double dflt1,
                        struct im_value *out)
{
    struct im_node *n = im_node_new(r, op);
    double p0, p1;
    int status = im_arg_real(r, &a[1], dflt0, &p0);
    if (!n)
        return im_no_memory(r);
    if (!status)
        im_attr_real(n, name0, p0);
    if (!status && name1 && (status = im_arg_real(r, &a[2], dflt1, &p1)) == 0)
        im_attr_real(n, name1, p1);
    return status ? status : plain(r, &a[0], n, out);
}

static int op_leaky_relu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "leaky_relu", "negative_slope", 0.01, NULL, 0, out);
}

static int op_softplus(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "softplus", "beta", 1, "threshold", 20, out);
}

static int op_hardtanh(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "hardtanh", "min_val", -1, "max_val", 1, out);
}

static int op_threshold(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "threshold", "threshold", 0, "value", 0, out);
}

static int op_hardshrink(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "hardshrink", "lambd", 0.5, NULL, 0, out);
}

static int op_softshrink(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "softshrink", "lambd", 0.5, NULL, 0, out);
}

static int op_celu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return with_numbers(r, a, "celu", "alpha", 1, NULL, 0, out);
}

/* elu(x, alpha, scale, input_scale) */
static int op_elu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double scale, input_scale;
    int status = im_arg_real(r, &a[2], 1, &scale);
    if (!status)
        status = im_arg_real(r, &a[3], 1, &input_scale);
    if (!status && (scale != 1 || input_scale != 1))
        return im_fail(r, PSG_E_UNSUPPORTED, "scale and input_scale other than 1");
    return status ? status : with_numbers(r, a, "elu", "alpha", 1, NULL, 0, out);
}

static int op_glu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *left = NULL, *right = NULL, *y = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_axis(r, &a[1], -1, x->rank, &axis);
    if (!status && x->dim[axis] % 2)
        return im_fail(r, PSG_E_SHAPE, "an odd number of channels");
    if (!status)
        status = im_slice(r, x, axis, 0, x->dim[axis] / 2, 1, &left);
    if (!status)
        status = im_slice(r, x, axis, x->dim[axis] / 2, x->dim[axis], 1, &right);
    if (!status)
        status = im_activation(r, "sigmoid", right, &right);
    if (!status)
        status = im_binary(r, PSG_MUL, left, right, &y);
    return status ? status : im_set(r, y, out);
}

/* clamp(x, min, max), numbers or tensors; None leaves a side out */
/* ---- masks ---- */
static int where(struct im_run *r, struct im_tensor *m, struct im_tensor *x,
                 struct im_tensor *y, struct im_tensor **out)
{
    struct im_tensor *in[] = { m, x, y }, axes, made;
    struct psg_shape shape[3];
    int status = align(r, in, 3, &axes, shape);
    if (status)
        return status;
    const char *text[3];
    bool keep = r->keep;
    for (int k = 0; k < 3; k++) {
        r->keep = k == 0 || keep;
        text[k] = im_operand(r, in[k], (char)('a' + k), &shape[k]);
        r->keep = keep;
        if (!text[k])
            return im_no_memory(r);
    }
    status = im_formula(r, in, 3, &made, "where(%s, %s, %s)", text[0], text[1], text[2]);
    return status ? status
                  : result(r, &axes, &made, x->type > y->type ? x->type : y->type, out);
}

static int op_where(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t[3], *y = NULL;
    int status = 0;
    for (int k = 0; k < 3 && !status; k++)
        status = im_arg_tensor(r, &a[k], &t[k]);
    if (!status)
        status = where(r, t[0], t[1], t[2], &y);
    return status ? status : im_set(r, y, out);
}

/* x, or the bound where x lies beyond it; at the bound the gradient is x's */
static int clamp_at(struct im_run *r, enum psg_binary beyond, const struct im_value *x,
                    const struct im_value *bound, struct im_value *out)
{
    struct im_value in[3] = { *x, *bound, *x };
    if (im_is_number(x))
        return arithmetic(r, beyond == PSG_LT ? PSG_MAX : PSG_MIN, x, bound, out);
    int status = arithmetic(r, beyond, x, bound, &in[0]);
    return status ? status : op_where(r, in, out);
}

static int op_clamp(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value v = a[0];
    int status = 0;
    if (im_given(&a[1]))
        status = clamp_at(r, PSG_LT, &v, &a[1], &v);
    if (!status && im_given(&a[2]))
        status = clamp_at(r, PSG_GT, &v, &a[2], &v);
    *out = v;
    return status;
}

static int op_clamp_min(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return clamp_at(r, PSG_LT, &a[0], &a[1], out);
}

static int op_clamp_max(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return clamp_at(r, PSG_GT, &a[0], &a[1], out);
}

static int op_masked_fill(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    const struct im_value in[] = { a[1], a[2], a[0] };
    return op_where(r, in, out);
}

static int op_logical_not(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value zero = im_int(0);
    return arithmetic(r, PSG_EQ, &a[0], &zero, out);
}

static int logical(struct im_run *r, const struct im_value *a, enum psg_binary f,
                   struct im_value *out)
{
    struct im_value zero = im_int(0), x, y;
    int status = arithmetic(r, PSG_NE, &a[0], &zero, &x);
    if (!status)
        status = arithmetic(r, PSG_NE, &a[1], &zero, &y);
    if (!status)
        status = arithmetic(r, f, &x, &y, out);
    if (!status && out->kind == IM_TENSOR)
        out->tensor->type = IM_BOOLEAN;
    return status;
}

static int op_logical_and(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return logical(r, a, PSG_MIN, out);
}

static int op_logical_or(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return logical(r, a, PSG_MAX, out);
}

int im_dropout(struct im_run *r, struct im_tensor *x, double p, bool training,
               struct im_tensor **out)
{
    *out = x;
    if (!training || p == 0)
        return 0;
    struct im_node *n = im_node_new(r, "dropout");
    if (n)
        im_attr_real(n, "p", p);
    return layer1(r, n, x, out);
}

/* clone(x): numbers of its own */
static int op_clone(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    struct im_tensor *y = status ? NULL : im_tensor_copy(r, x);
    if (!y)
        return status ? status : im_no_memory(r);
    y->changes = NULL;
    return im_set(r, y, out);
}

static int op_dropout(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    double p;
    bool training;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_real(r, &a[1], 0.5, &p);
    if (!status)
        status = im_arg_bool(r, &a[2], true, &training);
    if (!status && training && p == 0)
        return op_clone(r, a, out);
    if (!status)
        status = im_dropout(r, x, p, training, &y);
    return status ? status : im_set(r, y, out);
}

/* feature_dropout(x, p, train): whole channels of a sample; without training nothing */
static int op_feature_dropout(struct im_run *r, const struct im_value *a,
                              struct im_value *out)
{
    struct im_tensor *x = NULL, *mask = NULL, *y = NULL, made;
    double p;
    bool training;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_real(r, &a[1], 0.5, &p);
    if (!status)
        status = im_arg_bool(r, &a[2], true, &training);
    if (status || !training || p == 0)
        return status ? status : im_set(r, x, out);
    if (x->batch != 0 || !im_pure_batch(x) || x->rank < 3)
        return im_fail(r, PSG_E_UNSUPPORTED, "needs [batch, channels, ...]");
    mask = im_tensor_copy(r, x);
    if (!mask)
        return im_no_memory(r);
    for (int k = 2; k < x->rank; k++)
        mask->dim[k] = 1;
    struct psg_shape shape = im_sample_shape(mask);
    status = im_formula(r, NULL, 0, &made, "dropout(full(%s, 1), %.17g)",
                        im_shape_list(r, &shape), p);
    if (status)
        return status;
    mask->source = IM_VALUE;
    mask->v = made.v;
    mask->stored = made.stored;
    mask->same = 0;
    status = im_binary(r, PSG_MUL, x, mask, &y);
    return status ? status : im_set(r, y, out);
}

static int op_same(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    *out = a[0];
    return 0;
}

/* to(x, ...), float(x): the numbers stay; what counts as true becomes 1 */
static int op_float(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    struct im_tensor *y = status ? NULL : im_tensor_copy(r, x);
    if (!y)
        return status ? status : im_no_memory(r);
    y->type = IM_FLOAT;
    return im_set(r, y, out);
}

static int op_detach(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    if (status || x->source == IM_DATA)
        return status ? status : im_set(r, x, out);
    return unary(r, &a[0], "detach(%s)", out);
}

const struct im_op im_ops_elementwise[] = {
    { "add", "self other alpha", op_add },
    { "add_", "self other alpha", op_add },
    { "sub", "self other alpha", op_sub },
    { "sub_", "self other alpha", op_sub },
    { "subtract", "self other alpha", op_sub },
    { "rsub", "self other alpha", op_rsub },
    { "mul", "self other", op_mul },
    { "mul_", "self other", op_mul },
    { "multiply", "self other", op_mul },
    { "div", "self other rounding_mode", op_div },
    { "div_", "self other rounding_mode", op_div },
    { "true_divide", "self other", op_div },
    { "divide", "self other rounding_mode", op_div },
    { "pow", "self exponent", op_pow },
    { "pow_", "self exponent", op_pow },
    { "float_power", "self exponent", op_pow },
    { "eq", "self other", op_eq },
    { "ne", "self other", op_ne },
    { "lt", "self other", op_lt },
    { "le", "self other", op_le },
    { "gt", "self other", op_gt },
    { "ge", "self other", op_ge },
    { "maximum", "self other", op_maximum },
    { "minimum", "self other", op_minimum },
    { "relu", "self", op_relu },
    { "relu_", "self", op_relu },
    { "relu6", "self", op_relu6 },
    { "relu6_", "self", op_relu6 },
    { "tanh", "self", op_tanh },
    { "tanh_", "self", op_tanh },
    { "sigmoid", "self", op_sigmoid },
    { "sigmoid_", "self", op_sigmoid },
    { "silu", "self", op_silu },
    { "silu_", "self", op_silu },
    { "hardswish", "self", op_hardswish },
    { "hardswish_", "self", op_hardswish },
    { "hardsigmoid", "self", op_hardsigmoid },
    { "hardsigmoid_", "self", op_hardsigmoid },
    { "selu", "self", op_selu },
    { "selu_", "self", op_selu },
    { "mish", "self", op_mish },
    { "mish_", "self", op_mish },
    { "log_sigmoid", "self", op_logsigmoid },
    { "softsign", "self", op_softsign },
    { "tanhshrink", "self", op_tanhshrink },
    { "gelu", "self approximate", op_gelu },
    { "leaky_relu", "self negative_slope", op_leaky_relu },
    { "leaky_relu_", "self negative_slope", op_leaky_relu },
    { "softplus", "self beta threshold", op_softplus },
    { "hardtanh", "self min_val max_val", op_hardtanh },
    { "hardtanh_", "self min_val max_val", op_hardtanh },
    { "threshold", "self threshold value", op_threshold },
    { "threshold_", "self threshold value", op_threshold },
    { "hardshrink", "self lambd", op_hardshrink },
    { "softshrink", "self lambd", op_softshrink },
    { "elu", "self alpha scale input_scale", op_elu },
    { "elu_", "self alpha scale input_scale", op_elu },
    { "celu", "self alpha", op_celu },
    { "celu_", "self alpha", op_celu },
    { "glu", "self dim", op_glu },
    { "exp", "self", op_exp },
    { "exp_", "self", op_exp },
    { "exp2", "self", op_exp2 },
    { "expm1", "self", op_expm1 },
    { "log", "self", op_log },
    { "log2", "self", op_log2 },
    { "log10", "self", op_log10 },
    { "log1p", "self", op_log1p },
    { "logit", "self", op_logit },
    { "sqrt", "self", op_sqrt },
    { "rsqrt", "self", op_rsqrt },
    { "sin", "self", op_sin },
    { "cos", "self", op_cos },
    { "erf", "self", op_erf },
    { "erfc", "self", op_erfc },
    { "abs", "self", op_abs },
    { "sign", "self", op_sign },
    { "sgn", "self", op_sign },
    { "trunc", "self", op_trunc },
    { "neg", "self", op_neg },
    { "negative", "self", op_neg },
    { "reciprocal", "self", op_reciprocal },
    { "square", "self", op_square },
    { "clamp", "self min max", op_clamp },
    { "clamp_", "self min max", op_clamp },
    { "clip", "self min max", op_clamp },
    { "clamp_min", "self min", op_clamp_min },
    { "clamp_max", "self max", op_clamp_max },
    { "where", "condition self other", op_where },
    { "masked_fill", "self mask value", op_masked_fill },
    { "masked_fill_", "self mask value", op_masked_fill },
    { "logical_not", "self", op_logical_not },
    { "bitwise_not", "self", op_logical_not },
    { "logical_and", "self other", op_logical_and },
    { "logical_or", "self other", op_logical_or },
    { "bitwise_and", "self other", op_logical_and },
    { "bitwise_or", "self other", op_logical_or },
    { "__and__", "self other", op_logical_and },
    { "__or__", "self other", op_logical_or },
    { "dropout", "input p train", op_dropout },
    { "dropout_", "self p train", op_dropout },
    { "feature_dropout", "input p train", op_feature_dropout },
    { "detach", "self", op_detach },
    { "contiguous", "self memory_format", op_same },
    { "clone", "self memory_format", op_clone },
    { "alias", "self", op_same },
    { "lift_fresh", "self", op_same },
    { "lift_fresh_copy", "self", op_same },
    { "cpu", "self", op_same },
    { "double", "self", op_float },
    { "requires_grad_", "self requires_grad", op_same },
    { NULL, NULL, NULL },
};
