/* Convolution (cross-correlation), directly from its definition. With Cg = Ci/G, Og = Co/G
 * and co in group g: y[n, co, o]   = bias[co] + sum over ci < Cg, k: x[n, g*Cg + ci,
 * cell(o, k)] * w[co, ci, k] dx[n, i]      : the adjoint over x dw[n, co, ci, k] = sum over
 * o: dy[n, co, o] * x[n, g*Cg + ci, cell(o, k)] */
#include "ref.h"

#include "backend/window.h"

int64_t ref_conv_scratch(const struct psg_conv *c)
{
    (void)c;
    return 0;
}

/* sum over ci, k for one output value; x is the first channel of the group */
static double conv_at(const struct window3 *v, int64_t channels, int64_t o,
                      const psg_real *x, const psg_real *w)
{
    int64_t start[3];
    window3_start(v, o, start);
    double sum = 0;
    for (int64_t k = 0; k < v->n_kernel; k++) {
        int64_t i = window3_cell(v, start, k);
        for (int64_t ci = 0; i >= 0 && ci < channels; ci++)
            sum += (double)x[ci * v->n_in + i] * (double)w[ci * v->n_kernel + k];
    }
    return sum;
}

void ref_conv(const struct psg_conv *c, int64_t n, const psg_real *x, const psg_real *w,
              const psg_real *bias, psg_real *y, psg_real *scratch)
{
    (void)scratch;
    struct window3 v = window3_make(&c->win);
    int64_t cg = c->in_channels / c->groups, og = c->out_channels / c->groups;
    for (int64_t s = 0; s < n; s++) {
        for (int64_t co = 0; co < c->out_channels; co++) {
            const psg_real *xg = x + (s * c->in_channels + co / og * cg) * v.n_in;
            const psg_real *wc = w + co * cg * v.n_kernel;
            psg_real *yc = y + (s * c->out_channels + co) * v.n_out;
            for (int64_t o = 0; o < v.n_out; o++)
                yc[o] =
                    (psg_real)(conv_at(&v, cg, o, xg, wc) + (bias ? (double)bias[co] : 0));
        }
    }
}

/* sum over co of the group and k for one input value; dy and w are the group's */
static double conv_bwd_at(const struct window3 *v, int64_t og, int64_t w_step, int64_t i,
                          const psg_real *dy, const psg_real *w)
{
    double sum = 0;
    for (int64_t k = 0; k < v->n_kernel; k++) {
        int64_t o = window3_position(v, i, k);
        for (int64_t co = 0; o >= 0 && co < og; co++)
            sum += (double)dy[co * v->n_out + o] * (double)w[co * w_step + k];
    }
    return sum;
}

void ref_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                       const psg_real *w, psg_real *dx, psg_real *scratch)
{
    (void)scratch;
    struct window3 v = window3_make(&c->win);
    int64_t cg = c->in_channels / c->groups, og = c->out_channels / c->groups;
    for (int64_t s = 0; s < n; s++) {
        for (int64_t ci = 0; ci < c->in_channels; ci++) {
            int64_t first = ci / cg * og; /* output channels of ci's group start here */
            const psg_real *dyg = dy + (s * c->out_channels + first) * v.n_out;
            const psg_real *wg = w + (first * cg + ci % cg) * v.n_kernel;
            psg_real *dxc = dx + (s * c->in_channels + ci) * v.n_in;
            for (int64_t i = 0; i < v.n_in; i++)
                dxc[i] = (psg_real)conv_bwd_at(&v, og, cg * v.n_kernel, i, dyg, wg);
        }
    }
}

/* sum over o for one weight; x and dy are one channel each */
static double conv_weight_at(const struct window3 *v, int64_t k, const psg_real *x,
                             const psg_real *dy)
{
    double sum = 0;
    for (int64_t o = 0; o < v->n_out; o++) {
        int64_t start[3];
        window3_start(v, o, start);
        int64_t i = window3_cell(v, start, k);
        if (i >= 0)
            sum += (double)dy[o] * (double)x[i];
    }
    return sum;
}

void ref_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                         const psg_real *dy, psg_real *dw, int64_t stride,
                         psg_real *scratch)
{
    (void)scratch;
    struct window3 v = window3_make(&c->win);
    int64_t cg = c->in_channels / c->groups, og = c->out_channels / c->groups;
    for (int64_t s = 0; s < n; s++) {
        for (int64_t co = 0; co < c->out_channels; co++) {
            const psg_real *dyc = dy + (s * c->out_channels + co) * v.n_out;
            for (int64_t ci = 0; ci < cg; ci++) {
                const psg_real *xc = x + (s * c->in_channels + co / og * cg + ci) * v.n_in;
                psg_real *row = dw + s * stride + (co * cg + ci) * v.n_kernel;
                for (int64_t k = 0; k < v.n_kernel; k++)
                    row[k] = (psg_real)conv_weight_at(&v, k, xc, dyc);
            }
        }
    }
}
