/* Convolution as matrix products whose operands are read through the window. With Cg = Ci/G,
 * Og = Co/G, K kernel cells, T output positions:
 *
 *   conv             y   [Og, N T]    = w [Og, Cg K]  times  patches [Cg K, N T]  for each group
 *   conv_bwd_data    dx  [Cg, N in]   = w'[Cg, Og K]  times  dy at positions      for each group
 *   conv_bwd_weight  dw_n[Og, Cg K]   = dy_n [Og, T]  times  patches_n [T, Cg K]  for each
 *                                                                    sample and group */
#include "backend/cuda/cuda.h"
#include "backend/cuda/product.h"
#include "backend/window.h"

struct conv_sizes {
    struct window3 v;
    int64_t ci, co, cg, og;
};

static struct conv_sizes sizes_of(const struct psg_conv *c)
{
    struct conv_sizes s = {};
    s.v = window3_make(&c->win);
    s.ci = c->in_channels, s.co = c->out_channels;
    s.cg = s.ci / c->groups, s.og = s.co / c->groups;
    return s;
}

/* x of a channel at cell k of the window at o, 0 in the padding */
DEVICE psg_real cell_value(const struct window3 &v, const psg_real *channel, int64_t o,
                           int64_t k)
{
    int64_t start[3];
    window3_start(&v, o, start);
    int64_t i = window3_cell(&v, start, k);
    return i < 0 ? 0 : channel[i];
}

/* what all three have, and what product.h asks for */
struct conv_product : conv_sizes {
    int64_t m, n, k, count;
    bool a_along_l, b_along_l;
};

struct forward_product : conv_product {
    const psg_real *x, *w, *bias;
    psg_real *y;

    METHOD psg_real a(int64_t g, int64_t i, int64_t l) const
    {
        return w[(g * og + i) * k + l];
    }
    METHOD psg_real b(int64_t g, int64_t l, int64_t j) const
    {
        int64_t sample = j / v.n_out, channel = g * cg + l / v.n_kernel;
        return cell_value(v, x + (sample * ci + channel) * v.n_in, j % v.n_out,
                          l % v.n_kernel);
    }
    METHOD void store(int64_t g, int64_t i, int64_t j, psg_real sum) const
    {
        int64_t sample = j / v.n_out, channel = g * og + i;
        y[(sample * co + channel) * v.n_out + j % v.n_out] =
            sum + (bias ? bias[channel] : 0);
    }
};

struct data_product : conv_product {
    const psg_real *dy, *w;
    psg_real *dx;

    METHOD psg_real a(int64_t g, int64_t i, int64_t l) const
    {
        int64_t channel = g * og + l / v.n_kernel;
        return w[(channel * cg + i) * v.n_kernel + l % v.n_kernel];
    }
    METHOD psg_real b(int64_t g, int64_t l, int64_t j) const
    {
        int64_t sample = j / v.n_in, channel = g * og + l / v.n_kernel;
        int64_t o = window3_position(&v, j % v.n_in, l % v.n_kernel);
        return o < 0 ? 0 : dy[(sample * co + channel) * v.n_out + o];
    }
    METHOD void store(int64_t g, int64_t i, int64_t j, psg_real sum) const
    {
        int64_t sample = j / v.n_in;
        dx[(sample * ci + g * cg + i) * v.n_in + j % v.n_in] = sum;
    }
};

/* the batch number is sample * groups + group */
struct weight_product : conv_product {
    const psg_real *x, *dy;
    psg_real *dw;
    int64_t groups, stride;

    METHOD psg_real a(int64_t batch, int64_t i, int64_t l) const
    {
        return dy[(batch * og + i) * v.n_out + l]; /* sample * Co + group * Og is batch * Og */
    }
    METHOD psg_real b(int64_t batch, int64_t l, int64_t j) const
    {
        return cell_value(v, x + (batch * cg + j / v.n_kernel) * v.n_in, l, j % v.n_kernel);
    }
    METHOD void store(int64_t batch, int64_t i, int64_t j, psg_real sum) const
    {
        int64_t row = batch % groups * og + i;
        dw[batch / groups * stride + row * n + j] = sum;
    }
};

int64_t cuda_conv_scratch(const struct psg_conv *c)
{
    (void)c;
    return 0;
}

void cuda_conv(const struct psg_conv *c, int64_t n, const psg_real *x, const psg_real *w,
               const psg_real *bias, psg_real *y, psg_real *scratch)
{
    (void)scratch;
    struct forward_product p = {};
    (struct conv_sizes &)p = sizes_of(c);
    p.m = p.og, p.n = n * p.v.n_out, p.k = p.cg * p.v.n_kernel, p.count = c->groups;
    p.a_along_l = true;
    p.x = x, p.w = w, p.bias = bias, p.y = y;
    product_launch(p);
}

void cuda_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                        const psg_real *w, psg_real *dx, psg_real *scratch)
{
    (void)scratch;
    struct data_product p = {};
    (struct conv_sizes &)p = sizes_of(c);
    p.m = p.cg, p.n = n * p.v.n_in, p.k = p.og * p.v.n_kernel, p.count = c->groups;
    p.a_along_l = true;
    p.dy = dy, p.w = w, p.dx = dx;
    product_launch(p);
}

void cuda_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                          const psg_real *dy, psg_real *dw, int64_t stride,
                          psg_real *scratch)
{
    (void)scratch;
    struct weight_product p = {};
    (struct conv_sizes &)p = sizes_of(c);
    p.m = p.og, p.n = p.cg * p.v.n_kernel, p.k = p.v.n_out, p.count = n * c->groups;
    p.a_along_l = p.b_along_l = true;
    p.x = x, p.dy = dy, p.dw = dw, p.groups = c->groups, p.stride = stride;
    product_launch(p);
}
