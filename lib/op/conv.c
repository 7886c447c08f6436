/* conv1d, conv2d, conv3d: cross-correlation over S spatial axes, in G groups.
 *
 *   y[n, o, p] = bias[o] + sum_{c, k} weight[o, c, k] * xp[n, g(o) * Ci/G + c,
 *                                                         p * stride + k * dilation]
 *   x [N, Ci, in...], weight [Co, Ci/G, kernel...], y [N, Co, out...]; xp is x padded:
 *   zeros, reflect, replicate or circular. padding "same" (stride 1): d * (k - 1) cells in
 *   total, the smaller half in front.
 *
 *   dweight[n, o, c, k] = sum_p dy[n, o, p] * xp[n, ...]
 *   dbias[n, o] = sum_p dy[n, o, p]
 *   |dweight[n]|^2 = sum_g <P_g^T P_g, D_g^T D_g>, P the patches [Ci/G * K, out], D = dy
 * Padding other than zeros makes xp explicit; gradients then see what the forward pass saw.
 */
#include <string.h>

#include "op/dense.h"
#include "op/ops.h"
#include "op/pad.h"

struct geom {
    struct psg_conv conv; /* over xp where the padding is explicit */
    struct pad_geom pad;  /* mode PAD_ZEROS: the window pads by itself */
    bool bias;
    int64_t n_in, n_padded, n_out, n_kernel; /* cells of one channel */
    int64_t n_weight;
    int64_t conv_scratch;
    bool gram;
};

static const struct psg_attr_spec attrs[] = {
    { "in_channels", PSG_ATTR_INT, "checked against the input's first axis when given" },
    { "out_channels", PSG_ATTR_INT, "required" },
    { "kernel_size", PSG_ATTR_INT | PSG_ATTR_INTS, "required; one number or one per axis" },
    { "stride", PSG_ATTR_INT | PSG_ATTR_INTS, "1" },
    { "padding", PSG_ATTR_INT | PSG_ATTR_INTS | PSG_ATTR_STRING,
      "0; numbers, \"same\" or \"valid\"" },
    { "dilation", PSG_ATTR_INT | PSG_ATTR_INTS, "1" },
    { "groups", PSG_ATTR_INT, "1" },
    { "bias", PSG_ATTR_BOOL, "true" },
    { "padding_mode", PSG_ATTR_STRING, "zeros; or reflect, replicate, circular" },
    { NULL, 0, NULL },
};

static const int64_t ones[3] = { 1, 1, 1 }, zeros[3] = { 0, 0, 0 };

/* lo and hi of every axis from the attribute padding */
static void read_padding(struct psg_infer *c, struct psg_window *w)
{
    if (psg_infer_kind(c, "padding") != PSG_ATTR_STRING) {
        psg_infer_ints(c, "padding", w->rank, zeros, 0, INT32_MAX, w->pad_lo);
        memcpy(w->pad_hi, w->pad_lo, sizeof w->pad_hi);
        return;
    }
    if (psg_infer_choice(c, "padding", "valid", "valid|same") == 0)
        return;
    for (int i = 0; i < w->rank; i++) {
        if (w->stride[i] != 1)
            psg_infer_fail(c, PSG_E_INVALID, "padding", "\"same\" needs stride 1");
        int64_t total = w->dilation[i] * (w->kernel[i] - 1);
        w->pad_lo[i] = total / 2;
        w->pad_hi[i] = total - total / 2;
    }
}

static int read_channels(struct psg_infer *c, struct geom *g, const struct psg_shape *shape)
{
    struct psg_conv *v = &g->conv;
    v->in_channels = shape->dim[0];
    int64_t in = psg_infer_int(c, "in_channels", v->in_channels, 0, INT64_MAX);
    v->out_channels = psg_infer_int_required(c, "out_channels", 1, INT32_MAX);
    v->groups = psg_infer_int(c, "groups", 1, 1, INT32_MAX);
    g->bias = psg_infer_bool(c, "bias", true);
    if (in != v->in_channels)
        return psg_infer_fail(c, PSG_E_SHAPE, "in_channels",
                              "in_channels is %lld, the input has %lld", (long long)in,
                              (long long)v->in_channels);
    if (v->in_channels < 1 || v->in_channels % v->groups || v->out_channels % v->groups)
        return psg_infer_fail(
            c, PSG_E_INVALID, "groups", "%lld groups do not divide %lld and %lld channels",
            (long long)v->groups, (long long)v->in_channels, (long long)v->out_channels);
    return psg_infer_status(c);
}

/* The window over x, made one over xp where the padding is not zeros. */
static int read_window(struct psg_infer *c, struct geom *g, const struct psg_shape *shape)
{
    struct psg_window *w = &g->conv.win;
    w->rank = shape->rank - 1;
    memcpy(w->in, shape->dim + 1, (size_t)w->rank * sizeof *w->in);
    psg_infer_ints(c, "kernel_size", w->rank, NULL, 1, INT32_MAX, w->kernel);
    psg_infer_ints(c, "stride", w->rank, ones, 1, INT32_MAX, w->stride);
    psg_infer_ints(c, "dilation", w->rank, ones, 1, INT32_MAX, w->dilation);
    read_padding(c, w);
    g->pad.mode = (enum pad_mode)psg_infer_choice(c, "padding_mode", "zeros", PAD_MODES);
    g->n_in = op_span(shape, 1, shape->rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    if (g->pad.mode != PAD_ZEROS) {
        g->pad.rank = w->rank;
        for (int i = 0; i < w->rank; i++) {
            g->pad.in[i] = w->in[i];
            g->pad.lo[i] = w->pad_lo[i];
            g->pad.hi[i] = w->pad_hi[i];
            w->in[i] += w->pad_lo[i] + w->pad_hi[i];
            w->pad_lo[i] = w->pad_hi[i] = 0;
        }
        if (!pad_check(c, &g->pad))
            return psg_infer_status(c);
    }
    struct psg_error err;
    if (psg_window_infer(w, "", &err))
        return psg_infer_fail(c, err.status, NULL, "%s", err.text);
    g->n_padded = op_prod(c, w->rank, w->in);
    g->n_out = op_prod(c, w->rank, w->out);
    g->n_kernel = op_prod(c, w->rank, w->kernel);
    return psg_infer_status(c);
}

static int64_t patch_size(const struct geom *g)
{
    return g->conv.in_channels / g->conv.groups * g->n_kernel;
}

/* A call of conv lays its weights out once for all samples: few positions do not pay for that. */
static void ask_for_samples(struct psg_infer *c, const struct geom *g)
{
    enum { MANY_WEIGHTS = 8192, FEW_POSITIONS = 256, SAMPLES = 3 };
    if (g->n_weight >= MANY_WEIGHTS && g->n_out <= FEW_POSITIONS)
        psg_infer_tile(c, SAMPLES);
}

static void declare_room(struct psg_infer *c, struct geom *g)
{
    const struct psg_conv *v = &g->conv;
    int64_t xp = OP_PROD(c, v->in_channels, g->n_padded);
    int64_t per_group = v->out_channels / v->groups;
    g->n_weight = OP_PROD(c, v->out_channels, patch_size(g));
    int64_t patches = OP_PROD(c, patch_size(g), g->n_out);
    OP_PROD(c, v->out_channels, g->n_out);
    g->gram = (double)g->n_out * ((double)patch_size(g) + (double)per_group) <
              (double)patch_size(g) * (double)per_group;
    int64_t square = g->gram ? OP_PROD(c, g->n_out, g->n_out) : 0;
    if (psg_infer_status(c))
        return;
    ask_for_samples(c, g);
    g->conv_scratch = op_conv_scratch(v);
    bool padded = g->pad.mode != PAD_ZEROS;
    psg_infer_save(c, padded ? xp : 0, 0);
    psg_infer_scratch(c, g->conv_scratch, padded ? 2 * xp : 0);
    psg_infer_scratch(c, g->conv_scratch + g->n_weight, v->out_channels);
    if (g->gram)
        psg_infer_scratch(c, patches + 2 * square + 1, 0);
}

static int conv_infer(struct psg_infer *c, int rank)
{
    struct geom *g = c->geom;
    struct psg_shape shape = c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (shape.rank != rank + 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must have %d axes (channels first), not %d",
                              rank + 1, shape.rank);
    if (read_channels(c, g, &shape) || read_window(c, g, &shape))
        return psg_infer_status(c);
    const struct psg_conv *v = &g->conv;
    struct psg_shape weight = { .rank = rank + 2,
                                .dim = { v->out_channels, v->in_channels / v->groups } };
    shape.dim[0] = v->out_channels;
    for (int i = 0; i < rank; i++) {
        weight.dim[i + 2] = v->win.kernel[i];
        shape.dim[i + 1] = v->win.out[i];
    }
    op_param(c, "weight", weight, op_init_fan_in(patch_size(g)));
    if (g->bias)
        op_param(c, "bias", PSG_SHAPE(v->out_channels), op_init_fan_in(patch_size(g)));
    op_out(c, shape);
    declare_room(c, g);
    psg_infer_unread(c, g->pad.mode != PAD_ZEROS, true);
    return psg_infer_status(c);
}

static int conv1d_infer(struct psg_infer *c)
{
    return conv_infer(c, 1);
}

static int conv2d_infer(struct psg_infer *c)
{
    return conv_infer(c, 2);
}

static int conv3d_infer(struct psg_infer *c)
{
    return conv_infer(c, 3);
}

/* what the window runs over: x, or the padded copy that forward left */
static const psg_real *window_input(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    return g->pad.mode == PAD_ZEROS ? op_in(c, 0) : c->saved;
}

static void conv_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (g->pad.mode != PAD_ZEROS)
        pad_forward(c->be, &g->pad, c->n * g->conv.in_channels, op_in(c, 0), c->saved);
    c->be->conv(&g->conv, c->n, window_input(c), c->param[0], g->bias ? c->param[1] : NULL,
                c->out[0], c->scratch);
}

static void conv_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (!op_wants_din(c, 0))
        return;
    if (g->pad.mode == PAD_ZEROS) {
        c->be->conv_bwd_data(&g->conv, c->n, c->dout[0], c->param[0], c->din[0],
                             c->scratch);
        return;
    }
    int64_t outer = c->n * g->conv.in_channels;
    psg_real *dxp = c->scratch + g->conv_scratch, *tmp = dxp + outer * g->n_padded;
    c->be->conv_bwd_data(&g->conv, c->n, c->dout[0], c->param[0], dxp, c->scratch);
    pad_backward(c->be, &g->pad, outer, dxp, tmp, c->din[0]);
}

static void conv_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (c->grad[0])
        c->be->conv_bwd_weight(&g->conv, c->n, window_input(c), c->dout[0], c->grad[0],
                               c->grad_stride, c->scratch);
    if (g->bias && c->grad[1])
        op_sum_space(c->be, c->n, g->conv.out_channels, g->n_out, c->dout[0], c->grad[1],
                     c->grad_stride, c->scratch);
}

/* y [cols, cols] = x^T x, x [rows, cols] */
static void gram_of_columns(const struct psg_backend *be, int64_t rows, int64_t cols,
                            const psg_real *x, psg_real *y)
{
    struct psg_gemm m = { .trans_a = true,
                          .m = cols,
                          .n = cols,
                          .k = rows,
                          .lda = cols,
                          .ldb = cols,
                          .ldc = cols,
                          .alpha = 1 };
    be->gemm(&m, x, x, y);
}

static void norm_by_gram(const struct psg_call *c, const psg_real *x, const psg_real *dy,
                         double *sq)
{
    const struct geom *g = c->geom;
    const struct psg_conv *v = &g->conv;
    int64_t s = g->n_out, ci = v->in_channels / v->groups, co = v->out_channels / v->groups;
    psg_real *patches = c->scratch, *a = patches + patch_size(g) * s, *b = a + s * s;
    for (int64_t group = 0; group < v->groups; group++) {
        c->be->unfold(&v->win, ci, 0, x + group * ci * g->n_padded, patches);
        gram_of_columns(c->be, patch_size(g), s, patches, a);
        gram_of_columns(c->be, co, s, dy + group * co * s, b);
        gram_norm(c->be, 1, s * s, a, b, b + s * s, sq);
    }
}

static void weight_norm(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t x_size = g->conv.in_channels * g->n_padded;
    int64_t y_size = g->conv.out_channels * g->n_out;
    psg_real *row = c->scratch + g->conv_scratch;
    for (int64_t n = 0; n < c->n; n++) {
        const psg_real *x = window_input(c) + n * x_size, *dy = c->dout[0] + n * y_size;
        if (g->gram) {
            norm_by_gram(c, x, dy, c->sq + n);
            continue;
        }
        c->be->conv_bwd_weight(&g->conv, 1, x, dy, row, g->n_weight, c->scratch);
        c->be->add_sqnorm(1, g->n_weight, row, g->n_weight, c->sq + n);
    }
}

static void conv_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t co = g->conv.out_channels;
    if (c->use[0])
        weight_norm(c);
    if (g->bias && c->use[1]) {
        c->be->sum_rows(c->n * co, g->n_out, 1, c->dout[0], c->scratch, 1);
        c->be->add_sqnorm(c->n, co, c->scratch, co, c->sq);
    }
}

/* One weight gradient at a time, added while it is still in cache. */
static void conv_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t co = g->conv.out_channels, x_size = g->conv.in_channels * g->n_padded;
    psg_real *row = c->scratch + g->conv_scratch;
    for (int64_t n = 0; n < c->n && c->sum[0]; n++) {
        c->be->conv_bwd_weight(&g->conv, 1, window_input(c) + n * x_size,
                               c->dout[0] + n * co * g->n_out, row, g->n_weight,
                               c->scratch);
        c->be->add_weighted(1, g->n_weight, c->weight + n, row, g->n_weight, c->sum[0]);
    }
    if (g->bias && c->sum[1]) {
        c->be->sum_rows(c->n * co, g->n_out, 1, c->dout[0], c->scratch, 1);
        c->be->add_weighted(c->n, co, c->weight, c->scratch, co, c->sum[1]);
    }
}

/* pad, unfold, one product per group */
static void conv_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    const struct psg_conv *v = &g->conv;
    int64_t groups = v->groups;
    psg_value x = l->in[0];
    if (g->pad.mode != PAD_ZEROS)
        x = pad_lower(l, &g->pad, x);
    psg_value patches =
        OP_RESHAPE(l, psg_g_unfold(l->g, x, &v->win, 0), groups, patch_size(g), g->n_out);
    psg_value w =
        OP_RESHAPE(l, l->param[0], groups, v->out_channels / groups, patch_size(g));
    psg_value y = OP_RESHAPE(l, psg_g_matmul(l->g, w, patches), v->out_channels, g->n_out);
    if (g->bias)
        y = psg_g_add(l->g, y, OP_RESHAPE(l, l->param[1], v->out_channels, 1));
    struct psg_shape shape = { .rank = v->win.rank + 1, .dim = { v->out_channels } };
    memcpy(shape.dim + 1, v->win.out, (size_t)v->win.rank * sizeof *v->win.out);
    l->out[0] = psg_g_reshape(l->g, y, &shape);
}

static const struct psg_op_case cases1[] = {
    { "in_channels=3 out_channels=4 kernel_size=3", "3x7" },
    { "out_channels=4 kernel_size=2 stride=2 bias=false", "2x9" },
    { "out_channels=4 kernel_size=4 padding=same groups=2", "2x7" },
    { "out_channels=3 kernel_size=3 padding=same dilation=2 padding_mode=reflect", "2x6" },
    { "out_channels=2 kernel_size=4 padding=same padding_mode=circular", "2x5" },
    { "out_channels=2 kernel_size=3 padding=3 stride=2 padding_mode=replicate", "3x4" },
    { "out_channels=6 kernel_size=3 padding=1 groups=3", "3x5" },
    { "out_channels=8 kernel_size=5 padding=valid", "6x6" },
    { NULL, NULL },
};

static const struct psg_op_case cases2[] = {
    { "in_channels=2 out_channels=3 kernel_size=3,2", "2x6x5" },
    { "out_channels=3 kernel_size=3 stride=2,1 padding=1,0 bias=false", "2x7x4" },
    { "out_channels=4 kernel_size=2,4 padding=same", "1x5x6" },
    { "out_channels=4 kernel_size=3 padding=same dilation=1,2 groups=2", "2x4x5" },
    { "out_channels=4 kernel_size=3 padding=1,2 padding_mode=reflect groups=4", "4x4x3" },
    { "out_channels=2 kernel_size=2,3 padding=same padding_mode=circular", "2x3x4" },
    { "out_channels=2 kernel_size=3 padding=2,1 stride=2 padding_mode=replicate", "2x3x4" },
    { "out_channels=12 kernel_size=3 groups=2", "8x3x4" },
    { "out_channels=5 kernel_size=1", "3x2x3" },
    { NULL, NULL },
};

static const struct psg_op_case cases3[] = {
    { "in_channels=2 out_channels=3 kernel_size=2,3,2", "2x3x4x3" },
    { "out_channels=2 kernel_size=3 padding=same groups=2", "2x2x3x2" },
    { "out_channels=2 kernel_size=2 stride=2 padding=1,0,1 bias=false dilation=1,2,1",
      "1x3x4x3" },
    { "out_channels=2 kernel_size=2 padding=same padding_mode=circular", "1x2x3x2" },
    { "out_channels=1 kernel_size=3 padding=1 padding_mode=reflect", "2x2x3x2" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define CONV_OP(D)                                                                         \
    const struct psg_op layer_conv##D##d = {                                               \
        .name = "conv" #D "d",                                                             \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = conv##D##d_infer,                                                         \
        .forward = conv_forward,                                                           \
        .backward = conv_backward,                                                         \
        .grad_sample = conv_grad_sample,                                                   \
        .norm_sample = conv_norm_sample,                                                   \
        .clipped_sum = conv_clipped_sum,                                                   \
        .lower = conv_lower,                                                               \
        .cases = cases##D,                                                                 \
    }

CONV_OP(1);
CONV_OP(2);
CONV_OP(3);
