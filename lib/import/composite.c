/* Operators that are a few others in a row. */
#include "run.h"

/* The operator with two operands, nothing else given. */
static int apply(struct im_run *r, const char *op, struct im_value a, struct im_value b,
                 struct im_value *out)
{
    struct im_value slot[IM_ARGS];
    for (int i = 0; i < IM_ARGS; i++)
        slot[i] = im_none();
    slot[0] = a;
    slot[1] = b;
    return im_find_op(op)->fn(r, slot, out);
}

static int apply1(struct im_run *r, const char *op, struct im_value *v)
{
    return apply(r, op, *v, im_none(), v);
}

/* self + value * (a f b) */
static int add_scaled(struct im_run *r, const struct im_value *a, const char *f,
                      struct im_value *out)
{
    struct im_value v, one = im_real(1);
    int status = apply(r, f, a[1], a[2], &v);
    if (!status)
        status = apply(r, "torch.mul", v, im_given(&a[3]) ? a[3] : one, &v);
    return status ? status : apply(r, "torch.add", a[0], v, out);
}

static int op_addcmul(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return add_scaled(r, a, "torch.mul", out);
}

static int op_addcdiv(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return add_scaled(r, a, "torch.div", out);
}

/* lerp(self, end, weight) */
static int op_lerp(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value v;
    int status = apply(r, "torch.sub", a[1], a[0], &v);
    if (!status)
        status = apply(r, "torch.mul", v, a[2], &v);
    return status ? status : apply(r, "torch.add", a[0], v, out);
}

/* hypot(a, b) */
static int op_hypot(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value x = a[0], y = a[1];
    int status = apply1(r, "torch.square", &x);
    if (!status)
        status = apply1(r, "torch.square", &y);
    if (!status)
        status = apply(r, "torch.add", x, y, out);
    return status ? status : apply1(r, "torch.sqrt", out);
}

/* logaddexp(a, b) = max + log1p(exp(-|a - b|)) */
static int op_logaddexp(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value d, most;
    int status = apply(r, "torch.maximum", a[0], a[1], &most);
    if (!status)
        status = apply(r, "torch.sub", a[0], a[1], &d);
    static const char *const rest[] = { "torch.abs", "torch.neg", "torch.exp", "torch.log1p" };
    for (int i = 0; i < 4 && !status; i++)
        status = apply1(r, rest[i], &d);
    return status ? status : apply(r, "torch.add", most, d, out);
}

/* tan(x) = sin / cos */
static int op_tan(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value s = a[0], c = a[0];
    int status = apply1(r, "torch.sin", &s);
    if (!status)
        status = apply1(r, "torch.cos", &c);
    return status ? status : apply(r, "torch.div", s, c, out);
}

/* (exp(x) + sign exp(-x)) / 2 */
static int hyperbolic(struct im_run *r, const struct im_value *x, const char *f,
                      struct im_value *out)
{
    struct im_value up = *x, down = *x, v;
    int status = apply1(r, "torch.exp", &up);
    if (!status)
        status = apply1(r, "torch.neg", &down);
    if (!status)
        status = apply1(r, "torch.exp", &down);
    if (!status)
        status = apply(r, f, up, down, &v);
    return status ? status : apply(r, "torch.mul", v, im_real(0.5), out);
}

static int op_sinh(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return hyperbolic(r, &a[0], "torch.sub", out);
}

static int op_cosh(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return hyperbolic(r, &a[0], "torch.add", out);
}

/* cosine_similarity(x1, x2, dim, eps): each norm is at least eps */
static int op_cosine_similarity(struct im_run *r, const struct im_value *a,
                                struct im_value *out)
{
    struct im_value v, unit[2];
    struct im_value dim = im_given(&a[2]) ? a[2] : im_int(1);
    struct im_value eps = im_given(&a[3]) ? a[3] : im_real(1e-8);
    int status = 0;
    for (int i = 0; i < 2 && !status; i++) {
        struct im_value norm[IM_ARGS];
        for (int k = 0; k < IM_ARGS; k++)
            norm[k] = im_none();
        norm[0] = a[i];
        norm[2] = dim;
        norm[3] = im_bool(true);
        status = im_find_op("torch.norm")->fn(r, norm, &v);
        if (!status)
            status = apply(r, "torch.maximum", v, eps, &v);
        if (!status)
            status = apply(r, "torch.div", a[i], v, &unit[i]);
    }
    if (!status)
        status = apply(r, "torch.mul", unit[0], unit[1], &v);
    return status ? status : apply(r, "torch.sum", v, dim, out);
}

const struct im_op im_ops_composite[] = {
    { "addcmul", "self tensor1 tensor2 value", op_addcmul },
    { "addcdiv", "self tensor1 tensor2 value", op_addcdiv },
    { "lerp", "self end weight", op_lerp },
    { "hypot", "self other", op_hypot },
    { "logaddexp", "self other", op_logaddexp },
    { "tan", "self", op_tan },
    { "sinh", "self", op_sinh },
    { "cosh", "self", op_cosh },
    { "cosine_similarity", "x1 x2 dim eps", op_cosine_similarity },
    { NULL, NULL, NULL },
};
