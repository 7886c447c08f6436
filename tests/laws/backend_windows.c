/* Cases of law 2: unfold, convolution and pooling. */
#include "backend_cases.h"

static const struct psg_backend *ref(void)
{
    return psg_backend_ref();
}

static int64_t product(int rank, const int64_t *dim)
{
    int64_t size = 1;
    for (int i = 0; i < rank; i++)
        size *= dim[i];
    return size;
}

/* any valid window; ceil adds a partial window at the end of an axis as ceil_mode does */
static struct psg_window draw_window(struct seed *s, bool ceil)
{
    for (;;) {
        struct psg_window w = { .rank = (int)seed_int(s, 1, 3) };
        for (int i = 0; i < w.rank; i++) {
            w.in[i] = seed_int(s, 1, w.rank == 1 ? 60 : w.rank == 2 ? 17 : 6);
            w.kernel[i] = seed_int(s, 1, w.rank == 3 ? 3 : 5);
            w.stride[i] = seed_int(s, 1, 3);
            w.dilation[i] = seed_int(s, 0, 2) ? 1 : seed_int(s, 1, 3);
            w.pad_lo[i] = seed_int(s, 0, 1) ? 0 : seed_int(s, 0, 4);
            w.pad_hi[i] = seed_int(s, 0, 1) ? w.pad_lo[i] : seed_int(s, 0, 4);
        }
        if (psg_window_infer(&w, "window", NULL))
            continue;
        for (int i = 0; ceil && i < w.rank; i++)
            w.out[i] += w.out[i] * w.stride[i] < w.in[i] + w.pad_lo[i];
        return w;
    }
}

static void unfold_case(const struct psg_backend *be, struct seed *s)
{
    struct psg_window w = draw_window(s, false);
    int64_t outer = seed_int(s, 0, 4), n_in = outer * product(w.rank, w.in);
    int64_t cells = product(w.rank, w.kernel);
    int64_t n_out = outer * cells * product(w.rank, w.out);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n_in, -1, 1);
    _cleanup_buffer_ struct buffer p = buffer_make(n_out), p0 = buffer_make(n_out);
    be->unfold(&w, outer, (psg_real)-7, x.at, p.at);
    ref()->unfold(&w, outer, (psg_real)-7, x.at, p0.at);
    buffer_close("unfold", &p, &p0, NULL, 0, 0);
    _cleanup_buffer_ struct buffer y = buffer_make(n_in), y0 = buffer_make(n_in);
    _cleanup_buffer_ struct buffer scale = buffer_make(n_in), ap = buffer_abs(&p0);
    be->fold(&w, outer, p0.at, y.at);
    ref()->fold(&w, outer, p0.at, y0.at);
    ref()->fold(&w, outer, ap.at, scale.at);
    buffer_close("fold", &y, &y0, &scale, (double)cells, 0);
}

static struct psg_conv draw_conv(struct seed *s)
{
    struct psg_conv c = { .win = draw_window(s, false) };
    if (seed_int(s, 0, 5) == 0) /* pointwise */
        for (int i = 0; i < c.win.rank; i++) {
            c.win.kernel[i] = c.win.stride[i] = c.win.dilation[i] = 1;
            c.win.pad_lo[i] = c.win.pad_hi[i] = 0;
            c.win.out[i] = c.win.in[i];
        }
    c.groups = seed_int(s, 0, 2) ? 1 : seed_int(s, 1, 5);
    c.in_channels = c.groups * seed_int(s, 1, seed_int(s, 0, 1) ? 3 : 20);
    c.out_channels = c.groups * seed_int(s, 1, seed_int(s, 0, 1) ? 3 : 20);
    if (c.groups > 1 && seed_int(s, 0, 1)) /* depthwise */
        c.in_channels = c.out_channels = c.groups;
    return c;
}

static void conv_products(const struct psg_backend *be, struct seed *s, const struct psg_conv *conv)
{
    struct psg_conv c = *conv;
    int64_t n = seed_int(s, 0, 5), cells = product(c.win.rank, c.win.kernel);
    int64_t t = product(c.win.rank, c.win.out), n_x = n * c.in_channels;
    int64_t n_w = c.out_channels * (c.in_channels / c.groups) * cells;
    n_x *= product(c.win.rank, c.win.in);
    int64_t n_y = n * c.out_channels * t, stride = n_w + seed_int(s, 0, 3);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n_x, -1, 1), ax = buffer_abs(&x);
    _cleanup_buffer_ struct buffer w = buffer_random(s, n_w, -1, 1), aw = buffer_abs(&w);
    _cleanup_buffer_ struct buffer dy = buffer_random(s, n_y, -1, 1), ady = buffer_abs(&dy);
    _cleanup_buffer_ struct buffer bias = buffer_random(s, c.out_channels, 0, 1);
    _cleanup_buffer_ struct buffer scratch = buffer_make(be->conv_scratch(&c));
    const psg_real *b = seed_int(s, 0, 1) ? bias.at : NULL;

    _cleanup_buffer_ struct buffer y = buffer_make(n_y), y0 = buffer_make(n_y);
    _cleanup_buffer_ struct buffer ys = buffer_make(n_y);
    be->conv(&c, n, x.at, w.at, b, y.at, scratch.at);
    ref()->conv(&c, n, x.at, w.at, b, y0.at, NULL);
    ref()->conv(&c, n, ax.at, aw.at, b, ys.at, NULL);
    double k = (double)(c.in_channels / c.groups * cells);
    buffer_close("conv", &y, &y0, &ys, k + 2, 0);

    _cleanup_buffer_ struct buffer dx = buffer_make(n_x), dx0 = buffer_make(n_x);
    _cleanup_buffer_ struct buffer dxs = buffer_make(n_x);
    be->conv_bwd_data(&c, n, dy.at, w.at, dx.at, scratch.at);
    ref()->conv_bwd_data(&c, n, dy.at, w.at, dx0.at, NULL);
    ref()->conv_bwd_data(&c, n, ady.at, aw.at, dxs.at, NULL);
    k = (double)(c.out_channels / c.groups * cells);
    buffer_close("conv_bwd_data", &dx, &dx0, &dxs, k + 2, 0);

    _cleanup_buffer_ struct buffer dw = buffer_random(s, n * stride, 2, 3);
    _cleanup_buffer_ struct buffer dw0 = buffer_clone(&dw), dws = buffer_clone(&dw);
    be->conv_bwd_weight(&c, n, x.at, dy.at, dw.at, stride, scratch.at);
    ref()->conv_bwd_weight(&c, n, x.at, dy.at, dw0.at, stride, NULL);
    ref()->conv_bwd_weight(&c, n, ax.at, ady.at, dws.at, stride, NULL);
    buffer_close("conv_bwd_weight", &dw, &dw0, &dws, (double)t + 2, 0);
    buffer_close("scratch guards", &scratch, &scratch, NULL, 0, 0);
}

static void conv_case(const struct psg_backend *be, struct seed *s)
{
    struct psg_conv c = draw_conv(s);
    conv_products(be, s, &c);
}

/* one layer of a real model: input channels, output channels, input size, kernel, stride,
 * padding, groups */
static void model_conv_layer(const struct psg_backend *be, struct seed *s,
                             const int64_t d[7])
{
    struct psg_conv c = { { 2,
                            { d[2], d[2] },
                            { d[3], d[3] },
                            { 0 },
                            { d[4], d[4] },
                            { 1, 1 },
                            { d[5], d[5] },
                            { d[5], d[5] } },
                          d[0],
                          d[1],
                          d[6] };
    ck_assert_int_eq(psg_window_infer(&c.win, "conv", NULL), 0);
    int64_t n = seed_int(s, 1, 2), n_w = d[1] * d[0] / d[6] * d[3] * d[3];
    int64_t n_x = n * d[0] * d[2] * d[2], t = c.win.out[0] * c.win.out[1];
    _cleanup_buffer_ struct buffer x = buffer_random(s, n_x, -1, 1), dx = buffer_make(n_x);
    _cleanup_buffer_ struct buffer w = buffer_random(s, n_w, -1, 1),
                                   dw = buffer_make(n * n_w);
    _cleanup_buffer_ struct buffer y = buffer_make(n * d[1] * t), dx0 = buffer_make(n_x);
    _cleanup_buffer_ struct buffer dw0 = buffer_make(n * n_w), y0 = buffer_make(y.n);
    _cleanup_buffer_ struct buffer dy = buffer_random(s, y.n, -1, 1);
    _cleanup_buffer_ struct buffer scratch = buffer_make(be->conv_scratch(&c));
    be->conv(&c, n, x.at, w.at, NULL, y.at, scratch.at);
    ref()->conv(&c, n, x.at, w.at, NULL, y0.at, NULL);
    /* sums of K terms in (-1, 1): 8 sqrt(K) eps is far above rounding, far below one term
     */
    double cells = (double)(d[3] * d[3]);
    buffer_close("conv", &y, &y0, NULL, 8 * sqrt((double)(d[0] / d[6]) * cells), 1);
    be->conv_bwd_data(&c, n, dy.at, w.at, dx.at, scratch.at);
    ref()->conv_bwd_data(&c, n, dy.at, w.at, dx0.at, NULL);
    buffer_close("conv_bwd_data", &dx, &dx0, NULL, 8 * sqrt((double)(d[1] / d[6]) * cells),
                 1);
    be->conv_bwd_weight(&c, n, x.at, dy.at, dw.at, n_w, scratch.at);
    ref()->conv_bwd_weight(&c, n, x.at, dy.at, dw0.at, n_w, NULL);
    buffer_close("conv_bwd_weight", &dw, &dw0, NULL, 8 * sqrt((double)t), 1);
    buffer_close("scratch guards", &scratch, &scratch, NULL, 0, 0);
}

/* where fast paths and the edges of panels of their size are taken */
static void model_conv_case(const struct psg_backend *be, struct seed *s)
{
    static const int64_t layer[][7] = {
        { 1, 16, 28, 8, 2, 3, 1 },  { 16, 32, 13, 4, 2, 0, 1 }, { 3, 32, 32, 3, 1, 1, 1 },
        { 32, 64, 16, 3, 1, 1, 1 }, { 128, 64, 4, 3, 1, 1, 1 }, { 64, 10, 4, 3, 1, 1, 1 },
        { 16, 32, 16, 1, 2, 0, 1 }, { 24, 24, 9, 3, 1, 1, 24 }, { 32, 32, 8, 3, 2, 1, 4 },
    };
    for (size_t i = 0; i < sizeof layer / sizeof *layer; i++)
        model_conv_layer(be, s, layer[i]);
}

/* 3 x 3 with many channels has code of its own, whose rounding follows the largest numbers of a
 * tile instead of each result's terms: inputs are all of one size */
static void many_channels_case(const struct psg_backend *be, struct seed *s)
{
    struct psg_conv c = { .win = { .rank = 2 }, .groups = 1 };
    for (int i = 0; i < 2; i++) {
        struct psg_window *w = &c.win;
        w->in[i] = seed_int(s, 4, 17);
        w->kernel[i] = 3;
        w->stride[i] = w->dilation[i] = 1;
        w->pad_lo[i] = seed_int(s, 0, 2);
        w->pad_hi[i] = seed_int(s, 0, 2);
    }
    ck_assert_int_eq(psg_window_infer(&c.win, "conv", NULL), 0);
    c.in_channels = seed_int(s, 16, 34);
    c.out_channels = seed_int(s, 16, 34);
    conv_products(be, s, &c);
}

/* 2 x 2 at every position has code of its own */
static struct psg_window draw_sliding_window(struct seed *s)
{
    struct psg_window w = { .rank = 2 };
    for (int i = 0; i < 2; i++) {
        w.in[i] = seed_int(s, 2, 140);
        w.kernel[i] = 2;
        w.stride[i] = w.dilation[i] = 1;
    }
    ck_assert_int_eq(psg_window_infer(&w, "window", NULL), 0);
    return w;
}

static void max_pool_case(const struct psg_backend *be, struct seed *s)
{
    bool sliding = seed_int(s, 0, 2) == 0;
    struct psg_window w = sliding ? draw_sliding_window(s) : draw_window(s, seed_int(s, 0, 1));
    int64_t outer = seed_int(s, 0, 5), n_in = outer * product(w.rank, w.in);
    int64_t n_out = outer * product(w.rank, w.out);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n_in, -4, 4);
    for (int64_t i = 0; i < n_in; i++)
        x.at[i] = (psg_real)floor((double)x.at[i]); /* ties */
    if (n_in > 0 && seed_int(s, 0, 1))
        x.at[seed_int(s, 0, n_in - 1)] = (psg_real)NAN;
    _cleanup_buffer_ struct buffer y = buffer_make(n_out), y0 = buffer_make(n_out);
    int64_t *arg = shared_zeros(2 * n_out + 1, sizeof *arg);
    int64_t *arg0 = arg + n_out + 1;
    arg[n_out] = 77;
    be->max_pool(&w, outer, x.at, y.at, arg);
    ref()->max_pool(&w, outer, x.at, y0.at, arg0);
    buffer_close("max_pool", &y, &y0, NULL, 0, 0);
    ck_assert_mem_eq(arg, arg0, (size_t)n_out * sizeof *arg);
    ck_assert_int_eq(arg[n_out], 77);
    _cleanup_buffer_ struct buffer dy = buffer_random(s, n_out, -1, 1);
    _cleanup_buffer_ struct buffer dx = buffer_make(n_in), dx0 = buffer_make(n_in);
    be->max_pool_bwd(&w, outer, dy.at, arg0, dx.at);
    ref()->max_pool_bwd(&w, outer, dy.at, arg0, dx0.at);
    shared_free(arg);
    buffer_close("max_pool_bwd", &dx, &dx0, NULL, 0, 0);
}

static void avg_pool_case(const struct psg_backend *be, struct seed *s)
{
    struct psg_window w = draw_window(s, seed_int(s, 0, 1));
    bool include = seed_int(s, 0, 1);
    int64_t divisor = seed_int(s, 0, 1) ? 0 : seed_int(s, 1, 5);
    int64_t outer = seed_int(s, 0, 5), n_in = outer * product(w.rank, w.in);
    int64_t n_out = outer * product(w.rank, w.out);
    double cells = (double)product(w.rank, w.kernel);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n_in, -1, 1);
    _cleanup_buffer_ struct buffer y = buffer_make(n_out), y0 = buffer_make(n_out);
    be->avg_pool(&w, outer, include, divisor, x.at, y.at);
    ref()->avg_pool(&w, outer, include, divisor, x.at, y0.at);
    buffer_close("avg_pool", &y, &y0, NULL, cells + 2, cells);
    _cleanup_buffer_ struct buffer dy = buffer_random(s, n_out, -1, 1);
    _cleanup_buffer_ struct buffer dx = buffer_make(n_in), dx0 = buffer_make(n_in);
    be->avg_pool_bwd(&w, outer, include, divisor, dy.at, dx.at);
    ref()->avg_pool_bwd(&w, outer, include, divisor, dy.at, dx0.at);
    buffer_close("avg_pool_bwd", &dx, &dx0, NULL, cells + 2, 1);
}

const struct backend_case backend_window_cases[] = {
    { "unfold", 40, unfold_case },        { "conv", 40, conv_case },
    { "many_channels", 10, many_channels_case },
    { "model_conv", 1, model_conv_case }, { "max_pool", 40, max_pool_case },
    { "avg_pool", 40, avg_pool_case },    { NULL, 0, NULL },
};
