/* conv_transpose1d, 2d, 3d: the adjoint of a convolution in its input.
 *
 *   y[n, o, p] = bias[o] + sum_{c, k, q} x[n, c, q] weight[c, o', k],
 *                the q with q * stride - padding + k * dilation = p
 *   x [N, Ci, in...], weight [Ci, Co/G, kernel...], y [N, Co, out...],
 *   out = (in - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1
 *
 * With V the convolution from y's space to x's: y = V^T x, dx = V dy, and dweight is V's
 * weight gradient with dy as its input and x as its backprop. */
#include <string.h>

#include "op/common.h"
#include "op/ops.h"

struct geom {
    struct psg_conv conv; /* V: from y's channels and cells to x's */
    int64_t output_padding[3];
    bool bias;
    int64_t n_x, n_y, n_kernel; /* cells of one channel */
    int64_t n_weight, conv_scratch;
};

static const struct psg_attr_spec attrs[] = {
    { "in_channels", PSG_ATTR_INT, "checked against the input's first axis when given" },
    { "out_channels", PSG_ATTR_INT, "required" },
    { "kernel_size", PSG_ATTR_INT | PSG_ATTR_INTS, "required; one number or one per axis" },
    { "stride", PSG_ATTR_INT | PSG_ATTR_INTS, "1" },
    { "padding", PSG_ATTR_INT | PSG_ATTR_INTS, "0" },
    { "output_padding", PSG_ATTR_INT | PSG_ATTR_INTS, "0; below stride or dilation" },
    { "groups", PSG_ATTR_INT, "1" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { "dilation", PSG_ATTR_INT | PSG_ATTR_INTS, "1" },
    { "padding_mode", PSG_ATTR_STRING, "zeros" },
    { NULL, 0, NULL },
};

static const int64_t ones[3] = { 1, 1, 1 }, zeros[3] = { 0, 0, 0 };

static int read_window(struct psg_infer *c, struct geom *g)
{
    struct psg_window *w = &g->conv.win;
    psg_infer_ints(c, "kernel_size", w->rank, NULL, 1, INT32_MAX, w->kernel);
    psg_infer_ints(c, "stride", w->rank, ones, 1, INT32_MAX, w->stride);
    psg_infer_ints(c, "dilation", w->rank, ones, 1, INT32_MAX, w->dilation);
    psg_infer_ints(c, "padding", w->rank, zeros, 0, INT32_MAX, w->pad_lo);
    psg_infer_ints(c, "output_padding", w->rank, zeros, 0, INT32_MAX, g->output_padding);
    psg_infer_choice(c, "padding_mode", "zeros", "zeros");
    memcpy(w->pad_hi, w->pad_lo, sizeof w->pad_hi);
    for (int i = 0; i < w->rank && !psg_infer_status(c); i++) {
        int64_t out = OP_PROD(c, w->out[i] - 1, w->stride[i]) - 2 * w->pad_lo[i] +
                      w->dilation[i] * (w->kernel[i] - 1) + g->output_padding[i] + 1;
        w->in[i] = out;
        if (w->out[i] < 1 || out < 1)
            psg_infer_fail(c, PSG_E_SHAPE, "padding", "the output would be empty");
        if (g->output_padding[i] >= w->stride[i] && g->output_padding[i] >= w->dilation[i])
            psg_infer_fail(c, PSG_E_RANGE, "output_padding",
                           "output_padding must be below stride or dilation");
    }
    return psg_infer_status(c);
}

static int read_channels(struct psg_infer *c, struct geom *g, int64_t channels)
{
    struct psg_conv *v = &g->conv;
    v->out_channels = channels;
    v->in_channels = psg_infer_int_required(c, "out_channels", 1, INT32_MAX);
    v->groups = psg_infer_int(c, "groups", 1, 1, INT32_MAX);
    g->bias = psg_infer_bool(c, "bias", true);
    int64_t in = psg_infer_int(c, "in_channels", channels, 0, INT64_MAX);
    if (in != channels)
        psg_infer_fail(c, PSG_E_SHAPE, "in_channels",
                       "in_channels is %lld, the input has %lld", (long long)in,
                       (long long)channels);
    if (channels < 1 || channels % v->groups || v->in_channels % v->groups)
        psg_infer_fail(c, PSG_E_INVALID, "groups",
                       "%lld groups do not divide %lld and %lld "
                       "channels",
                       (long long)v->groups, (long long)channels,
                       (long long)v->in_channels);
    return psg_infer_status(c);
}

static int conv_transpose_infer(struct psg_infer *c, int rank)
{
    struct geom *g = c->geom;
    struct psg_conv *v = &g->conv;
    struct psg_shape shape = c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (shape.rank != rank + 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must have %d axes (channels first), not %d",
                              rank + 1, shape.rank);
    v->win.rank = rank;
    memcpy(v->win.out, shape.dim + 1, (size_t)rank * sizeof *v->win.out);
    if (read_channels(c, g, shape.dim[0]) || read_window(c, g))
        return psg_infer_status(c);
    struct psg_shape weight = { .rank = rank + 2,
                                .dim = { v->out_channels, v->in_channels / v->groups } };
    shape.dim[0] = v->in_channels;
    for (int i = 0; i < rank; i++) {
        weight.dim[i + 2] = v->win.kernel[i];
        shape.dim[i + 1] = v->win.in[i];
    }
    g->n_x = op_prod(c, rank, v->win.out);
    g->n_y = op_prod(c, rank, v->win.in);
    g->n_kernel = op_prod(c, rank, v->win.kernel);
    g->n_weight = op_prod(c, weight.rank, weight.dim);
    struct psg_init init = op_init_fan_in(g->n_weight / v->out_channels);
    op_param(c, "weight", weight, init);
    if (g->bias)
        op_param(c, "bias", PSG_SHAPE(v->in_channels), init);
    op_out(c, shape);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    g->conv_scratch = op_conv_scratch(v);
    psg_infer_scratch(c, g->conv_scratch + g->n_weight, v->in_channels);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static int conv_transpose1d_infer(struct psg_infer *c)
{
    return conv_transpose_infer(c, 1);
}

static int conv_transpose2d_infer(struct psg_infer *c)
{
    return conv_transpose_infer(c, 2);
}

static int conv_transpose3d_infer(struct psg_infer *c)
{
    return conv_transpose_infer(c, 3);
}

static void conv_transpose_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    c->be->conv_bwd_data(&g->conv, c->n, op_in(c, 0), c->param[0], c->out[0], c->scratch);
    if (g->bias)
        op_binary_channels(c->be, PSG_ADD, c->n, g->conv.in_channels, g->n_y, c->out[0],
                           c->param[1], c->out[0]);
}

static void conv_transpose_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (op_wants_din(c, 0))
        c->be->conv(&g->conv, c->n, c->dout[0], c->param[0], NULL, c->din[0], c->scratch);
}

static void conv_transpose_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->grad[0])
        c->be->conv_bwd_weight(&g->conv, c->n, c->dout[0], op_in(c, 0), c->grad[0],
                               c->grad_stride, c->scratch);
    if (g->bias && c->grad[1])
        op_sum_space(c->be, c->n, g->conv.in_channels, g->n_y, c->dout[0], c->grad[1],
                     c->grad_stride, c->scratch);
}

/* weight gradient of sample n alone, in scratch */
static psg_real *one_row(const struct psg_call *c, int64_t n)
{
    const struct geom *g = c->geom;
    psg_real *row = c->scratch + g->conv_scratch;
    c->be->conv_bwd_weight(&g->conv, 1, c->dout[0] + n * g->conv.in_channels * g->n_y,
                           op_in(c, 0) + n * g->conv.out_channels * g->n_x, row,
                           g->n_weight, c->scratch);
    return row;
}

static void conv_transpose_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t co = g->conv.in_channels;
    for (int64_t n = 0; n < c->n && c->use[0]; n++)
        c->be->add_sqnorm(1, g->n_weight, one_row(c, n), g->n_weight, c->sq + n);
    if (g->bias && c->use[1]) {
        c->be->sum_rows(c->n * co, g->n_y, 1, c->dout[0], c->scratch, 1);
        c->be->add_sqnorm(c->n, co, c->scratch, co, c->sq);
    }
}

static void conv_transpose_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t co = g->conv.in_channels;
    for (int64_t n = 0; n < c->n && c->sum[0]; n++)
        c->be->add_weighted(1, g->n_weight, c->weight + n, one_row(c, n), g->n_weight,
                            c->sum[0]);
    if (g->bias && c->sum[1]) {
        c->be->sum_rows(c->n * co, g->n_y, 1, c->dout[0], c->scratch, 1);
        c->be->add_weighted(c->n, co, c->weight, c->scratch, co, c->sum[1]);
    }
}

/* x with stride - 1 zeros between its cells and enough of them around it (or cut off where
 * the padding takes more away than the kernel brings) */
static psg_value spread(struct psg_lower *l, const struct geom *g, psg_value x)
{
    const struct psg_window *w = &g->conv.win;
    int64_t lo[4] = { 0 }, hi[4] = { 0 }, interior[4] = { 0 };
    int64_t start[4] = { 0 }, limit[4] = { g->conv.out_channels }, step[4] = { 1, 1, 1, 1 };
    bool cut = false;
    for (int i = 0; i < w->rank; i++) {
        int64_t reach = w->dilation[i] * (w->kernel[i] - 1);
        int64_t front = reach - w->pad_lo[i], back = front + g->output_padding[i];
        lo[i + 1] = front > 0 ? front : 0;
        hi[i + 1] = back > 0 ? back : 0;
        interior[i + 1] = w->stride[i] - 1;
        start[i + 1] = front < 0 ? -front : 0;
        limit[i + 1] = w->in[i] + reach + start[i + 1];
        cut = cut || front < 0 || back < 0;
    }
    psg_value v = psg_g_pad(l->g, x, lo, hi, interior, 0);
    return cut ? psg_g_slice(l->g, v, start, limit, step) : v;
}

/* a convolution of stride 1 with the kernel turned around */
static void conv_transpose_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    const struct psg_conv *v = &g->conv;
    int64_t groups = v->groups, ci = v->out_channels / groups, co = v->in_channels / groups;
    struct psg_window w = v->win;
    for (int i = 0; i < w.rank; i++) {
        w.in[i] = v->win.in[i] + w.dilation[i] * (w.kernel[i] - 1);
        w.out[i] = v->win.in[i];
        w.stride[i] = 1;
        w.pad_lo[i] = w.pad_hi[i] = 0;
    }
    psg_value patches = psg_g_unfold(l->g, spread(l, g, l->in[0]), &w, 0);
    patches = OP_RESHAPE(l, patches, groups, ci * g->n_kernel, g->n_y);
    psg_value weight = OP_RESHAPE(l, l->param[0], groups, ci, co, g->n_kernel);
    weight =
        psg_g_transpose(l->g, psg_g_reverse(l->g, weight, 8u), (const int[]){ 0, 2, 1, 3 });
    weight = OP_RESHAPE(l, weight, groups, co, ci * g->n_kernel);
    psg_value y =
        OP_RESHAPE(l, psg_g_matmul(l->g, weight, patches), v->in_channels, g->n_y);
    if (g->bias)
        y = psg_g_add(l->g, y, OP_RESHAPE(l, l->param[1], v->in_channels, 1));
    struct psg_shape shape = { .rank = w.rank + 1, .dim = { v->in_channels } };
    memcpy(shape.dim + 1, v->win.in, (size_t)w.rank * sizeof *w.in);
    l->out[0] = psg_g_reshape(l->g, y, &shape);
}

static const struct psg_op_case cases1[] = {
    { "out_channels=3 kernel_size=3", "2x4" },
    { "in_channels=4 out_channels=6 kernel_size=4 stride=3 padding=2 output_padding=2 "
      "groups=2",
      "4x3" },
    { "out_channels=2 kernel_size=3 stride=2 dilation=2 bias=false padding=1", "3x4" },
    { "out_channels=2 kernel_size=2 padding=2", "2x6" },
    { "out_channels=2 kernel_size=2 dilation=3 output_padding=2", "2x4" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "out_channels=3 kernel_size=3,2 stride=2,1 padding=1,0", "2x3x4" },
    { "out_channels=4 kernel_size=3 dilation=1,2 groups=2", "2x3x2" },
    { "out_channels=2 kernel_size=1", "3x2x3" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "out_channels=2 kernel_size=2,1,3 stride=2 output_padding=1,0,1", "2x2x3x2" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define CONV_TRANSPOSE_OP(D)                                                               \
    const struct psg_op layer_conv_transpose##D##d = {                                     \
        .name = "conv_transpose" #D "d",                                                   \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = conv_transpose##D##d_infer,                                               \
        .forward = conv_transpose_forward,                                                 \
        .backward = conv_transpose_backward,                                               \
        .grad_sample = conv_transpose_grad_sample,                                         \
        .norm_sample = conv_transpose_norm_sample,                                         \
        .clipped_sum = conv_transpose_clipped_sum,                                         \
        .lower = conv_transpose_lower,                                                     \
        .cases = cases##D,                                                                 \
    }

CONV_TRANSPOSE_OP(1);
CONV_TRANSPOSE_OP(2);
CONV_TRANSPOSE_OP(3);
