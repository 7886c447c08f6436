/* Normalisation. Statistics over the batch are refused. */
#include <math.h>

#include "import/run.h"

static int result(struct im_run *r, const struct im_tensor *axes,
                  const struct im_tensor *made, struct im_tensor **out)
{
    struct im_tensor *y = im_tensor_copy(r, axes);
    if (!y)
        return im_no_memory(r);
    y->source = made->source;
    y->v = made->v;
    y->data = made->data;
    y->stored = made->stored;
    y->changes = NULL;
    y->type = IM_FLOAT;
    *out = y;
    return 0;
}

/* y w + b with w, b in the trailing axes, or for each channel of axis 1 */
static int scale_shift(struct im_run *r, struct im_tensor *y, struct im_tensor *w,
                       struct im_tensor *b, int trailing, struct im_tensor **out)
{
    struct im_tensor *part[] = { w, b };
    int status = 0;
    for (int i = 0; i < 2 && !status; i++) {
        if (!part[i])
            continue;
        struct im_tensor *p = im_tensor_copy(r, part[i]);
        if (!p)
            return im_no_memory(r);
        for (int k = 0; k < trailing; k++)
            im_add_axis(p, p->rank);
        status = im_binary(r, i ? PSG_ADD : PSG_MUL, y, p, &y);
    }
    *out = y;
    return status;
}

int im_layer_norm(struct im_run *r, struct im_tensor *x, int n_axes, struct im_tensor *w,
                  struct im_tensor *b, double eps, struct im_tensor **out)
{
    struct im_tensor *t = NULL, *y = NULL, made;
    if (n_axes < 1 || n_axes > x->rank)
        return im_fail(r, PSG_E_SHAPE, "a normalized shape with more axes than the input");
    if (x->batch >= x->rank - n_axes)
        return im_mixes(r, "normalises over the batch axis");
    int status = im_solid_tensor(r, x, &t);
    struct im_node *n = im_node_new(r, "layer_norm");
    if (status || !n)
        return status ? status : im_no_memory(r);
    bool own = w && im_is_param(w) && w->rank == n_axes && (!b || im_is_param(b));
    im_attr_ints(n, "normalized_shape", t->dim + t->rank - n_axes, n_axes);
    im_attr_real(n, "eps", eps);
    im_attr_bool(n, "elementwise_affine", own);
    im_attr_bool(n, "bias", own && b);
    if (own &&
        ((status = im_use(r, n, "weight", w)) || (b && (status = im_use(r, n, "bias", b)))))
        return status;
    if ((status = im_layer(r, n, &t, 1, &made)) || (status = result(r, t, &made, &y)))
        return status;
    if (!own)
        return scale_shift(r, y, w, b, 0, out);
    *out = y;
    return 0;
}

/* w, b: parameters or NULL */
static int read_affine(struct im_run *r, const struct im_value *w, const struct im_value *b,
                       struct im_tensor **wp, struct im_tensor **bp)
{
    int status = 0;
    *wp = *bp = NULL;
    if (im_given(w))
        status = im_arg_tensor(r, w, wp);
    if (!status && im_given(b))
        status = im_arg_tensor(r, b, bp);
    return status;
}

/* layer_norm(input, normalized_shape, weight, bias, eps) */
static int op_layer_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL, *y = NULL;
    int64_t shape[PSG_MAX_RANK];
    double eps;
    int n, status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_ints(r, &a[1], 0, shape, &n);
    if (!status)
        status = read_affine(r, &a[2], &a[3], &w, &b);
    if (!status)
        status = im_arg_real(r, &a[4], 1e-5, &eps);
    if (!status)
        status = im_layer_norm(r, x, n, w, b, eps, &y);
    return status ? status : im_set(r, y, out);
}

/* rms_norm(input, normalized_shape, weight, eps) */
static int op_rms_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL, *t = NULL, *y = NULL, made;
    struct im_value none = im_none();
    int64_t shape[PSG_MAX_RANK];
    double eps;
    int n, status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_ints(r, &a[1], 0, shape, &n);
    if (!status)
        status = read_affine(r, &a[2], &none, &w, &b);
    if (!status)
        status = im_arg_real(r, &a[3], 1.1920928955078125e-07, &eps);
    if (status)
        return status;
    if (n < 1 || n > x->rank)
        return im_fail(r, PSG_E_SHAPE, "a normalized shape with more axes than the input");
    if (x->batch >= x->rank - n)
        return im_mixes(r, "normalises over the batch axis");
    struct im_node *node = im_node_new(r, "rms_norm");
    if ((status = im_solid_tensor(r, x, &t)) || !node)
        return status ? status : im_no_memory(r);
    bool own = w && im_is_param(w);
    im_attr_ints(node, "normalized_shape", t->dim + t->rank - n, n);
    im_attr_real(node, "eps", eps);
    im_attr_bool(node, "elementwise_affine", own);
    if (own && (status = im_use(r, node, "weight", w)))
        return status;
    if ((status = im_layer(r, node, &t, 1, &made)) || (status = result(r, t, &made, &y)))
        return status;
    if (!own && w)
        status = im_binary(r, PSG_MUL, y, w, &y);
    return status ? status : im_set(r, y, out);
}

static int channels_first(struct im_run *r, const struct im_tensor *x)
{
    if (x->rank < 2)
        return im_fail(r, PSG_E_SHAPE, "needs [batch, channels, ...]");
    if (x->batch != 0 || !im_pure_batch(x))
        return im_mixes(r, "the batch is not its first axis");
    return 0;
}

/* groups of channels, each normalised by itself */
static int group_norm(struct im_run *r, struct im_tensor *x, int64_t groups,
                      struct im_tensor *w, struct im_tensor *b, double eps,
                      struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL, made;
    int status = channels_first(r, x);
    struct im_node *n = im_node_new(r, "group_norm");
    if (!status)
        status = im_solid_tensor(r, x, &t);
    if (status || !n)
        return status ? status : im_no_memory(r);
    bool own = w && b && im_is_param(w) && im_is_param(b);
    im_attr_int(n, "num_groups", groups);
    im_attr_real(n, "eps", eps);
    im_attr_bool(n, "affine", own);
    if (own && ((status = im_use(r, n, "weight", w)) || (status = im_use(r, n, "bias", b))))
        return status;
    if ((status = im_layer(r, n, &t, 1, &made)) || (status = result(r, t, &made, &y)))
        return status;
    if (!own)
        status = scale_shift(r, y, w, b, x->rank - 2, &y);
    return status ? status : im_set(r, y, out);
}

/* group_norm(input, num_groups, weight, bias, eps) */
static int op_group_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL;
    int64_t groups;
    double eps;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_int(r, &a[1], 1, &groups);
    if (!status)
        status = read_affine(r, &a[2], &a[3], &w, &b);
    if (!status)
        status = im_arg_real(r, &a[4], 1e-5, &eps);
    return status ? status : group_norm(r, x, groups, w, b, eps, out);
}

/* (x - mean) / sqrt(var + eps) w + b with statistics that are held fixed */
static int fixed_norm(struct im_run *r, struct im_tensor *x, const struct im_value *stats,
                      struct im_tensor *w, struct im_tensor *b, double eps,
                      struct im_value *out)
{
    struct im_tensor *mean = NULL, *var = NULL, *f = NULL, *y = NULL;
    int status = channels_first(r, x);
    if (!status)
        status = im_arg_tensor(r, &stats[0], &mean);
    if (!status)
        status = im_arg_tensor(r, &stats[1], &var);
    struct im_tensor *e = im_tensor_number(r, IM_FLOAT, eps);
    if (status || !e)
        return status ? status : im_no_memory(r);
    struct im_value v;
    if ((status = im_binary(r, PSG_ADD, var, e, &f)))
        return status;
    v = im_tensor_value(f);
    if ((status = im_find_op("torch.rsqrt")->fn(r, &v, &v)))
        return status;
    mean = im_tensor_copy(r, mean);
    f = im_tensor_copy(r, v.tensor);
    if (!mean || !f)
        return im_no_memory(r);
    for (int k = 2; k < x->rank; k++) {
        im_add_axis(mean, mean->rank);
        im_add_axis(f, f->rank);
    }
    status = im_binary(r, PSG_SUB, x, mean, &y);
    if (!status)
        status = im_binary(r, PSG_MUL, y, f, &y);
    if (!status)
        status = scale_shift(r, y, w, b, x->rank - 2, &y);
    return status ? status : im_set(r, y, out);
}

static int replace_batch_norm(struct im_run *r, struct im_tensor *x, struct im_tensor *w,
                              struct im_tensor *b, double eps, struct im_value *out)
{
    int status = im_replaces(r, "statistics over the batch",
                             "use GroupNorm instead; dpsgctl model fix does");
    if (status)
        return status;
    int64_t channels = x->rank > 1 ? x->dim[1] : 1;
    int64_t groups = psg_group_norm_groups(channels, im_size_of(x) > channels);
    return group_norm(r, x, groups, w, b, eps, out);
}

/* batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps) */
static int op_batch_norm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL;
    bool training;
    double eps;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = read_affine(r, &a[1], &a[2], &w, &b);
    if (!status)
        status = im_arg_bool(r, &a[5], true, &training);
    if (!status)
        status = im_arg_real(r, &a[7], 1e-5, &eps);
    if (status)
        return status;
    if (training || !im_given(&a[3]) || !im_given(&a[4]))
        return replace_batch_norm(r, x, w, b, eps, out);
    return fixed_norm(r, x, &a[3], w, b, eps, out);
}

/* instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps) */
static int op_instance_norm(struct im_run *r, const struct im_value *a,
                            struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL;
    bool own;
    double eps;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = read_affine(r, &a[1], &a[2], &w, &b);
    if (!status)
        status = im_arg_bool(r, &a[5], true, &own);
    if (!status)
        status = im_arg_real(r, &a[7], 1e-5, &eps);
    if (status)
        return status;
    if (own && im_given(&a[3]) &&
        (status = im_replaces(r, "running statistics are averages over the batch",
                              "set track_running_stats=False; dpsgctl model fix does")))
        return status;
    if (!own)
        return fixed_norm(r, x, &a[3], w, b, eps, out);
    return group_norm(r, x, x->rank > 1 ? x->dim[1] : 1, w, b, eps, out);
}

/* prelu(x, weight) */
static int op_prelu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *t = NULL, *y = NULL, made;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_tensor(r, &a[1], &w);
    if (!status)
        status = im_solid_tensor(r, x, &t);
    if (status)
        return status;
    if (w->rank > 1 || (im_size_of(w) > 1 && (status = channels_first(r, x))))
        return status ? status : im_fail(r, PSG_E_SHAPE, "slopes have one axis");
    struct im_node *n = im_node_new(r, "prelu");
    if (!n)
        return im_no_memory(r);
    im_attr_int(n, "num_parameters", im_size_of(w));
    if ((status = im_use(r, n, "weight", w)) || (status = im_layer(r, n, &t, 1, &made)) ||
        (status = result(r, t, &made, &y)))
        return status;
    return im_set(r, y, out);
}

const struct im_op im_ops_norm[] = {
    { "layer_norm", "input normalized_shape weight bias eps cudnn_enable", op_layer_norm },
    { "rms_norm", "input normalized_shape weight eps", op_rms_norm },
    { "group_norm", "input num_groups weight bias eps cudnn_enabled", op_group_norm },
    { "batch_norm",
      "input weight bias running_mean running_var training momentum eps cudnn_enabled",
      op_batch_norm },
    { "instance_norm",
      "input weight bias running_mean running_var use_input_stats momentum eps "
      "cudnn_enabled",
      op_instance_norm },
    { "prelu", "self weight", op_prelu },
    { NULL, NULL, NULL },
};
