/* An example plugin: a grad sampler for `linear`, and a layer of its own.
 *
 *   cc -O2 -shared -fPIC $(pkg-config --cflags psg) -o sampler.so sampler.c
 *
 * The administrator names the file in dpsgd.conf:
 *
 *   [Plugins]
 *   Load=/usr/local/lib/dpsgd/sampler.so
 *
 * Built with -DWRONG the gradient of the bias misses an element; the daemon then refuses every
 * private job with a linear layer, and says by how much the gradient differs. */
#include <psg/plugin.h>

/* ---- linear: y[N,t,O] = x[N,t,I] weight[O,I]^T + bias[O] ---- */

/* g[n,o,i] = sum_t dy[n,t,o] x[n,t,i], bias g[n,o] = sum_t dy[n,t,o] */
static void linear_grad_sample(const struct psg_sampler_call *c)
{
    const struct psg_call *b = c->call;
    int64_t n_out = c->param[0].dim[0], n_in = c->param[0].dim[1];
    int64_t n_pos = n_out > 0 ? psg_shape_size(&c->out[0].shape) / n_out : 0;
    for (int64_t n = 0; n < b->n; n++) {
        const psg_real *x = (const psg_real *)b->in[0] + n * n_pos * n_in;
        const psg_real *dy = b->dout[0] + n * n_pos * n_out;
        for (int64_t o = 0; b->grad[0] && o < n_out; o++)
            for (int64_t i = 0; i < n_in; i++) {
                double sum = 0;
                for (int64_t t = 0; t < n_pos; t++)
                    sum += (double)dy[t * n_out + o] * (double)x[t * n_in + i];
                b->grad[0][n * b->grad_stride + o * n_in + i] = (psg_real)sum;
            }
        for (int64_t o = 0; c->n_param > 1 && b->grad[1] && o < n_out; o++) {
            double sum = 0;
            for (int64_t t = 0; t < n_pos; t++)
                sum += (double)dy[t * n_out + o];
#ifdef WRONG
            sum = o == n_out - 1 ? 0 : sum;
#endif
            b->grad[1][n * b->grad_stride + o] = (psg_real)sum;
        }
    }
}

static const struct psg_grad_sampler samplers[] = {
    { .op = "linear", .grad_sample = linear_grad_sample },
};

/* ---- gain: y = x * exp(log_gain), log_gain of the shape of x ---- */

static int gain_infer(struct psg_infer *c)
{
    struct psg_init zero = { .kind = PSG_INIT_CONSTANT, .value = 0 };
    if (c->in[0].dtype != PSG_REAL)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the input must be real");
    psg_infer_param(c, "log_gain", &c->in[0].shape, zero);
    psg_infer_out(c, PSG_REAL, &c->in[0].shape);
    return psg_infer_status(c);
}

/* forward, backward and the per-sample gradients are derived from this */
static void gain_lower(struct psg_lower *l)
{
    l->out[0] = psg_g_mul(l->g, l->in[0], psg_g_unary(l->g, PSG_EXP, l->param[0]));
}

static const struct psg_op gain = {
    .name = "gain", .n_in_min = 1, .n_in_max = 1, .infer = gain_infer, .lower = gain_lower
};
static const struct psg_op *const ops[] = { &gain };

extern const struct psg_plugin psg_plugin;
PSG_API const struct psg_plugin psg_plugin = {
    PSG_PLUGIN_HEADER,
    .name = "example",
    .samplers = samplers,
    .n_samplers = 1,
    .ops = ops,
    .n_ops = 1,
};
