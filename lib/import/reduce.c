/* Sums, means, maxima and softmax over axes that are not the batch. */
#include <math.h>
#include <stdio.h>

#include "import/run.h"

/* The axes of an argument as bits; none given: all. */
static int read_axes(struct im_run *r, const struct im_tensor *t, const struct im_value *v,
                     unsigned *axes)
{
    int64_t dims[PSG_MAX_RANK];
    int n = 0, status = im_given(v) ? im_arg_ints(r, v, 0, dims, &n) : 0;
    *axes = 0;
    for (int i = 0; i < n && !status; i++) {
        struct im_value d = im_int(dims[i]);
        int axis;
        status = im_arg_axis(r, &d, 0, t->rank, &axis);
        *axes |= status ? 0 : 1u << axis;
    }
    if (n == 0)
        *axes = (1u << t->rank) - 1;
    return status;
}

/* how: a formula's function with (x, axes, keepdim), or "mean" and "sum", the layer functions. */
int im_reduce(struct im_run *r, struct im_tensor *x, const char *how, unsigned axes,
              bool keepdim, struct im_tensor **out)
{
    struct im_tensor *t = NULL, *y = NULL, made;
    struct psg_shape list = { 0 };
    if (x->batch >= 0 && axes >> x->batch & 1)
        return im_mixes(r, "reduces over the batch axis");
    int status = im_solid_tensor(r, x, &t);
    if (status)
        return status;
    for (int k = 0; k < t->rank; k++)
        if (axes >> k & 1)
            list.dim[list.rank++] = im_axis(t, k);
    if (list.rank == 0) {
        *out = x;
        return 0;
    }
    if (how[0] == 'm' || how[0] == 's') {
        struct im_node *n = im_node_new(r, how);
        if (!n)
            return im_no_memory(r);
        for (int i = 0; i < list.rank; i++)
            list.dim[i]++;
        im_attr_ints(n, "dim", list.dim, list.rank);
        status = im_layer(r, n, &t, 1, &made);
    } else {
        status = im_formula(r, &t, 1, &made, "%s(a, %s)", how, im_shape_list(r, &list));
    }
    if (status)
        return status;
    y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    y->source = made.source;
    y->v = made.v;
    y->data = made.data;
    y->stored = made.stored;
    y->type = how[0] == 'm' ? IM_FLOAT : x->type == IM_BOOLEAN ? IM_LONG : x->type;
    y->changes = NULL;
    for (int k = t->rank - 1; k >= 0; k--) {
        if (!(axes >> k & 1))
            continue;
        y->dim[k] = 1;
        if (!keepdim)
            im_drop_axis(y, k);
    }
    *out = y;
    return 0;
}

static int reduce_op(struct im_run *r, const struct im_value *a, const char *how,
                     struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    unsigned axes;
    bool keepdim;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = read_axes(r, x, &a[1], &axes);
    if (!status)
        status = im_arg_bool(r, &a[2], false, &keepdim);
    if (!status)
        status = im_reduce(r, x, how, axes, keepdim, &y);
    return status ? status : im_set(r, y, out);
}

static int op_mean(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return reduce_op(r, a, "mean", out);
}

/* sum of a Python list too */
static int op_sum(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return reduce_op(r, a, "sum", out);
}

static int op_amax(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return reduce_op(r, a, "amax", out);
}

static int op_amin(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return reduce_op(r, a, "amin", out);
}

/* x^(1/p) for x >= 0, whose gradient at 0 is 0, as PyTorch has it for norms and deviations */
static int take_root(struct im_run *r, struct im_tensor *x, double p, struct im_value *out)
{
    struct im_value v = im_tensor_value(x), zero = im_real(0), one = im_real(1), mask;
    struct im_value compare[] = { v, zero }, power[] = { zero, im_real(1 / p) };
    int status = im_find_op("torch.gt")->fn(r, compare, &mask);
    struct im_value safe[] = { mask, v, one }, masked[] = { mask, zero, zero };
    if (!status)
        status = im_find_op("torch.where")->fn(r, safe, &power[0]);
    if (!status && p == 2)
        status = im_find_op("torch.sqrt")->fn(r, power, &masked[1]);
    else if (!status)
        status = im_find_op("torch.pow")->fn(r, power, &masked[1]);
    return status ? status : im_find_op("torch.where")->fn(r, masked, out);
}

/* variance over axes; correction 1 divides by n - 1 */
static int variance(struct im_run *r, struct im_tensor *x, unsigned axes, double correction,
                    bool keepdim, struct im_tensor **meanp, struct im_tensor **out)
{
    struct im_tensor *mean = NULL, *d = NULL, *y = NULL, *scale = NULL;
    double n = 1;
    for (int k = 0; k < x->rank; k++)
        n *= axes >> k & 1 ? (double)x->dim[k] : 1;
    int status = im_reduce(r, x, "mean", axes, true, &mean);
    if (!status)
        status = im_binary(r, PSG_SUB, x, mean, &d);
    if (!status)
        status = im_binary(r, PSG_MUL, d, d, &y);
    if (!status)
        status = im_reduce(r, y, "sum", axes, keepdim, &y);
    scale = im_tensor_number(r, IM_FLOAT, 1 / (n - correction));
    if (!status && !scale)
        return im_no_memory(r);
    if (!status)
        status = im_binary(r, PSG_MUL, y, scale, out);
    if (!status && meanp)
        status = im_reduce(r, x, "mean", axes, keepdim, meanp);
    return status;
}

/* var(x, unbiased), var(x, dim, unbiased, keepdim), var(x, dim, correction=, keepdim=) */
static int spread(struct im_run *r, const struct im_value *a, bool root, bool mean,
                  struct im_value *out)
{
    struct im_tensor *x = NULL, *m = NULL, *y = NULL;
    unsigned axes;
    bool unbiased, keepdim;
    double correction;
    struct im_value none = im_none();
    bool flag = a[1].kind == IM_BOOL;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = read_axes(r, x, flag ? &none : &a[1], &axes);
    if (!status)
        status = im_arg_bool(r, flag ? &a[1] : &a[2], true, &unbiased);
    if (!status)
        status = im_arg_bool(r, &a[3], false, &keepdim);
    if (!status)
        status = im_arg_real(r, &a[4], unbiased ? 1 : 0, &correction);
    if (!status)
        status = variance(r, x, axes, correction, keepdim, mean ? &m : NULL, &y);
    if (status)
        return status;
    struct im_value v = im_tensor_value(y);
    if (root && (status = take_root(r, y, 2, &v)))
        return status;
    if (!mean) {
        *out = v;
        return 0;
    }
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, v) ||
        im_list_push(r->pool, out->list, im_tensor_value(m)))
        return im_no_memory(r);
    return 0;
}

static int op_var(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return spread(r, a, false, false, out);
}

static int op_std(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return spread(r, a, true, false, out);
}

static int op_var_mean(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return spread(r, a, false, true, out);
}

static int op_std_mean(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return spread(r, a, true, true, out);
}

/* Largest along one axis, with the gradient sent to the first: adaptive_max_pool1d over it. */
static int max_along(struct im_run *r, struct im_tensor *x, int axis, bool keepdim,
                     struct im_tensor **out)
{
    struct im_tensor *t = NULL, *y = NULL, *flat = NULL, made;
    int perm[PSG_MAX_RANK], n = 0, status;
    if (axis == x->batch)
        return im_mixes(r, "reduces over the batch axis");
    for (int k = 0; k < x->rank; k++)
        if (k != axis)
            perm[n++] = k;
    perm[n] = axis;
    if ((status = im_permute(r, x, perm, &t)) || (status = im_solid_tensor(r, t, &t)))
        return status;
    flat = im_tensor_copy(r, t);
    struct im_node *node = im_node_new(r, "adaptive_max_pool1d");
    if (!flat || !node)
        return im_no_memory(r);
    flat->rank = 2;
    flat->batch = -1;
    flat->dim[0] = im_size_of(t) / x->dim[axis];
    flat->dim[1] = x->dim[axis];
    im_attr_int(node, "output_size", 1);
    if ((status = im_layer(r, node, &flat, 1, &made)))
        return status;
    y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    y->source = made.source;
    y->v = made.v;
    y->data = made.data;
    y->stored = made.stored;
    y->changes = NULL;
    im_drop_axis(y, y->rank - 1);
    if (keepdim)
        im_add_axis(y, axis);
    *out = y;
    return 0;
}

/* max(x), max(x, y), max(x, dim, keepdim): values and positions */
static int extreme(struct im_run *r, const struct im_value *a, bool max,
                   struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    bool keepdim;
    int axis, status = im_arg_tensor(r, &a[0], &x);
    if (status)
        return status;
    if (a[1].kind == IM_TENSOR || a[1].kind == IM_STORED)
        return im_find_op(max ? "torch.maximum" : "torch.minimum")->fn(r, a, out);
    if (!im_given(&a[1])) {
        const struct im_value all[3] = { a[0], im_none(), im_none() };
        return reduce_op(r, all, max ? "amax" : "amin", out);
    }
    status = im_arg_axis(r, &a[1], 0, x->rank, &axis);
    if (!status)
        status = im_arg_bool(r, &a[2], false, &keepdim);
    if (!status && max)
        status = max_along(r, x, axis, keepdim, &y);
    else if (!status)
        status = im_fail(r, PSG_E_UNSUPPORTED, "positions of minima");
    if (status)
        return status;
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, im_tensor_value(y)) ||
        im_list_push(r->pool, out->list, (struct im_value){ .kind = IM_UNKNOWN }))
        return im_no_memory(r);
    return 0;
}

static int op_max(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return extreme(r, a, true, out);
}

static int op_min(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return extreme(r, a, false, out);
}

static int op_logsumexp(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *top = NULL, *y = NULL;
    unsigned axes;
    bool keepdim;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = read_axes(r, x, &a[1], &axes);
    if (!status)
        status = im_arg_bool(r, &a[2], false, &keepdim);
    if (status)
        return status;
    /* log(sum(exp(x - m))) + m with m held fixed */
    struct im_value v;
    if ((status = im_reduce(r, x, "amax", axes, true, &top)))
        return status;
    struct im_value m = im_tensor_value(top);
    if ((status = im_find_op("torch.detach")->fn(r, &m, &m)) ||
        (status = im_binary(r, PSG_SUB, x, m.tensor, &y)))
        return status;
    v = im_tensor_value(y);
    if ((status = im_find_op("torch.exp")->fn(r, &v, &v)) ||
        (status = im_reduce(r, v.tensor, "sum", axes, true, &y)))
        return status;
    v = im_tensor_value(y);
    if ((status = im_find_op("torch.log")->fn(r, &v, &v)) ||
        (status = im_binary(r, PSG_ADD, v.tensor, m.tensor, &y)))
        return status;
    struct im_tensor *z = im_tensor_copy(r, y);
    if (!z)
        return im_no_memory(r);
    for (int k = z->rank - 1; k >= 0 && !keepdim; k--)
        if (axes >> k & 1)
            im_drop_axis(z, k);
    return im_set(r, z, out);
}

/* sum(|x|^p)^(1/p); for p = inf the largest |x| */
static int norm(struct im_run *r, const struct im_value *x, double p, unsigned axes,
                bool keepdim, struct im_value *out)
{
    const struct im_op *power = im_find_op("torch.pow");
    struct im_value v = *x, both[] = { im_none(), im_real(p) };
    struct im_tensor *y = NULL;
    int status = 0;
    if (p != 2)
        status = im_find_op("torch.abs")->fn(r, &v, &v);
    both[0] = v;
    if (!status && p == 2)
        status = im_find_op("torch.square")->fn(r, &v, &v);
    else if (!status && p != 1 && !isinf(p))
        status = power->fn(r, both, &v);
    if (!status)
        status = im_arg_tensor(r, &v, &y);
    if (!status)
        status = im_reduce(r, y, isinf(p) ? "amax" : "sum", axes, keepdim, &y);
    if (status)
        return status;
    if (p == 1 || isinf(p))
        return im_set(r, y, out);
    return take_root(r, y, p, out);
}

/* norm(x, p, dim, keepdim), linalg_vector_norm(x, ord, dim, keepdim) */
static int op_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL;
    unsigned axes;
    double p;
    bool keepdim;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_real(r, &a[1], 2, &p);
    if (!status)
        status = read_axes(r, x, &a[2], &axes);
    if (!status)
        status = im_arg_bool(r, &a[3], false, &keepdim);
    if (status)
        return status;
    if (!(p > 0))
        return im_fail(r, PSG_E_UNSUPPORTED, "a norm of order %g", p);
    struct im_value v = im_tensor_value(x);
    return norm(r, &v, p, axes, keepdim, out);
}

/* frobenius_norm(x, dim, keepdim) */
static int op_frobenius_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    const struct im_value given[] = { a[0], im_real(2), a[1], a[2] };
    return op_norm(r, given, out);
}

/* x times the lower triangle of ones */
static int op_cumsum(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL, *m = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, x->rank, &axis);
    if (status)
        return status;
    int64_t n = x->dim[axis];
    if (axis == x->batch)
        return im_mixes(r, "adds up along the batch axis");
    double *ones = n > 2048 ? NULL : im_pool_array(r->pool, (size_t)(n * n), sizeof *ones);
    if (!ones)
        return im_fail(r, PSG_E_UNSUPPORTED, "a cumulative sum of %lld numbers",
                       (long long)n);
    for (int64_t i = 0; i < n * n; i++)
        ones[i] = i % n >= i / n;
    m = im_tensor_data(r, IM_FLOAT, &PSG_SHAPE(n, n), ones);
    if (!m)
        return im_no_memory(r);
    status = im_swap_axes(r, x, axis, x->rank - 1, &y);
    if (!status)
        status = im_matmul(r, y, m, &y);
    if (!status)
        status = im_swap_axes(r, y, axis, x->rank - 1, &y);
    return status ? status : im_set(r, y, out);
}

int im_softmax(struct im_run *r, struct im_tensor *x, int axis, bool log,
               struct im_tensor **out)
{
    struct im_tensor *t = NULL, *y = NULL, made;
    if (axis == x->batch)
        return im_mixes(r, "a softmax over the batch axis");
    int status = im_solid_tensor(r, x, &t);
    struct im_node *n = im_node_new(r, log ? "log_softmax" : "softmax");
    if (status || !n)
        return status ? status : im_no_memory(r);
    im_attr_int(n, "dim", im_axis(t, axis) + 1);
    if ((status = im_layer(r, n, &t, 1, &made)))
        return status;
    y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    y->v = made.v;
    y->stored = made.stored;
    y->changes = NULL;
    y->type = IM_FLOAT;
    *out = y;
    return 0;
}

static int softmax_op(struct im_run *r, const struct im_value *a, bool log, bool negative,
                      struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    struct im_value v = a[0];
    int axis, status = negative ? im_find_op("torch.neg")->fn(r, a, &v) : 0;
    if (!status)
        status = im_arg_tensor(r, &v, &x);
    if (!status)
        status = im_arg_axis(r, &a[1], -1, x->rank, &axis);
    if (!status)
        status = im_softmax(r, x, axis, log, &y);
    return status ? status : im_set(r, y, out);
}

static int op_softmax(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return softmax_op(r, a, false, false, out);
}

static int op_log_softmax(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return softmax_op(r, a, true, false, out);
}

static int op_softmin(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return softmax_op(r, a, false, true, out);
}

const struct im_op im_ops_reduce[] = {
    { "mean", "self dim keepdim", op_mean },
    { "sum", "self dim keepdim", op_sum },
    { "amax", "self dim keepdim", op_amax },
    { "amin", "self dim keepdim", op_amin },
    { "max", "self dim keepdim", op_max },
    { "min", "self dim keepdim", op_min },
    { "var", "self dim unbiased keepdim correction", op_var },
    { "std", "self dim unbiased keepdim correction", op_std },
    { "var_mean", "self dim unbiased keepdim correction", op_var_mean },
    { "std_mean", "self dim unbiased keepdim correction", op_std_mean },
    { "logsumexp", "self dim keepdim", op_logsumexp },
    { "norm", "self p dim keepdim", op_norm },
    { "linalg_vector_norm", "self ord dim keepdim", op_norm },
    { "frobenius_norm", "self dim keepdim", op_frobenius_norm },
    { "cumsum", "self dim", op_cumsum },
    { "softmax", "self dim dtype", op_softmax },
    { "_softmax", "self dim half", op_softmax },
    { "log_softmax", "self dim dtype", op_log_softmax },
    { "_log_softmax", "self dim half", op_log_softmax },
    { "softmin", "self dim dtype", op_softmin },
    { NULL, NULL, NULL },
};
