#include "client_sampler.h"

static int64_t in_features(const struct psg_sampler_call *c)
{
    return c->param[0].dim[1];
}

static int64_t positions(const struct psg_sampler_call *c)
{
    return in_features(c) > 0 ? psg_shape_size(&c->in[0].shape) / in_features(c) : 0;
}

/* element [o, i] of the weight's gradient of sample n, and [o] of the bias */
static psg_real weight_at(const struct psg_sampler_call *c, int64_t n, int64_t o, int64_t i)
{
    int64_t t = positions(c), n_in = in_features(c), n_out = c->param[0].dim[0];
    const psg_real *x = (const psg_real *)c->call->in[0] + n * t * n_in;
    const psg_real *dy = c->call->dout[0] + n * t * n_out;
    double sum = 0;
    for (int64_t k = 0; k < t; k++)
        sum += (double)(dy[k * n_out + o] * x[k * n_in + i]);
    return (psg_real)sum;
}

static psg_real bias_at(const struct psg_sampler_call *c, int64_t n, int64_t o)
{
    int64_t t = positions(c), n_out = c->param[0].dim[0];
    const psg_real *dy = c->call->dout[0] + n * t * n_out;
    double sum = 0;
    for (int64_t k = 0; k < t; k++)
        sum += (double)dy[k * n_out + o];
    return (psg_real)sum;
}

void client_linear_grad(const struct psg_sampler_call *c)
{
    int64_t n_in = in_features(c), n_out = c->param[0].dim[0];
    atomic_fetch_add(&((struct client_count *)c->user)->grad, 1);
    for (int64_t n = 0; n < c->call->n; n++) {
        for (int64_t o = 0; c->call->grad[0] && o < n_out; o++)
            for (int64_t i = 0; i < n_in; i++)
                c->call->grad[0][n * c->call->grad_stride + o * n_in + i] =
                    weight_at(c, n, o, i);
        for (int64_t o = 0; c->n_param > 1 && c->call->grad[1] && o < n_out; o++)
            c->call->grad[1][n * c->call->grad_stride + o] = bias_at(c, n, o);
    }
}

void client_linear_wrong(const struct psg_sampler_call *c)
{
    int64_t n_out = c->param[0].dim[0];
    client_linear_grad(c);
    for (int64_t n = 0; n < c->call->n; n++)
        if (c->n_param > 1 && c->call->grad[1] && n_out > 0)
            c->call->grad[1][n * c->call->grad_stride + n_out - 1] = 0;
}

void client_linear_norm(const struct psg_sampler_call *c)
{
    int64_t n_in = in_features(c), n_out = c->param[0].dim[0];
    atomic_fetch_add(&((struct client_count *)c->user)->norm, 1);
    for (int64_t n = 0; n < c->call->n; n++)
        for (int64_t o = 0; o < n_out; o++) {
            for (int64_t i = 0; c->call->use[0] && i < n_in; i++)
                c->call->sq[n] += (double)weight_at(c, n, o, i) * (double)weight_at(c, n, o, i);
            if (c->n_param > 1 && c->call->use[1])
                c->call->sq[n] += (double)bias_at(c, n, o) * (double)bias_at(c, n, o);
        }
}

void client_linear_sum(const struct psg_sampler_call *c)
{
    int64_t n_in = in_features(c), n_out = c->param[0].dim[0];
    atomic_fetch_add(&((struct client_count *)c->user)->sum, 1);
    for (int64_t n = 0; n < c->call->n; n++) {
        psg_real w = c->call->weight[n];
        for (int64_t o = 0; w != 0 && o < n_out; o++) {
            for (int64_t i = 0; c->call->sum[0] && i < n_in; i++)
                c->call->sum[0][o * n_in + i] += w * weight_at(c, n, o, i);
            if (c->n_param > 1 && c->call->sum[1])
                c->call->sum[1][o] += w * bias_at(c, n, o);
        }
    }
}

/* ---- an op ---- */

static int square_infer(struct psg_infer *c)
{
    psg_infer_param(c, "weight", &c->in[0].shape,
                    (struct psg_init){ .kind = PSG_INIT_CONSTANT, .value = 1 });
    psg_infer_out(c, PSG_REAL, &c->in[0].shape);
    *(int64_t *)c->geom = psg_shape_size(&c->in[0].shape);
    return psg_infer_status(c);
}

static void square_forward(const struct psg_call *c)
{
    int64_t size = *(const int64_t *)c->geom;
    const psg_real *x = c->in[0], *w = c->param[0];
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t i = 0; i < size; i++)
            c->out[0][n * size + i] = x[n * size + i] * w[i] * w[i];
}

static void square_backward(const struct psg_call *c)
{
    int64_t size = *(const int64_t *)c->geom;
    const psg_real *w = c->param[0];
    for (int64_t n = 0; c->din[0] && n < c->n; n++)
        for (int64_t i = 0; i < size; i++)
            c->din[0][n * size + i] = c->dout[0][n * size + i] * w[i] * w[i];
}

static void square_grad(const struct psg_call *c)
{
    int64_t size = *(const int64_t *)c->geom;
    const psg_real *x = c->in[0], *w = c->param[0];
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t i = 0; i < size; i++)
            c->grad[0][n * c->grad_stride + i] =
                2 * c->dout[0][n * size + i] * x[n * size + i] * w[i];
}

static void square_lower(struct psg_lower *l)
{
    psg_value w = psg_g_mul(l->g, l->param[0], l->param[0]);
    l->out[0] = psg_g_mul(l->g, l->in[0], w);
}

const struct psg_op client_square = {
    .name = "client_square",
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(int64_t),
    .infer = square_infer,
    .forward = square_forward,
    .backward = square_backward,
    .grad_sample = square_grad,
    .lower = square_lower,
};
