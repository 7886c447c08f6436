/* Optimizers on a flat vector of parameters, in PyTorch's order of operations. See
 * psg/dp.h. Each parameter's new value depends on nothing but its own state, gradient and
 * the numbers of begin(), in operations rounded one by one, so it is the same for any
 * cutting into ranges. */
#include "base/exact_float.h"

#include "psg/dp.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"

#ifdef PSG_REAL_DOUBLE
#define real_sqrt sqrt
#else
#define real_sqrt sqrtf
#endif

enum { MAX_STATES = 3 };

struct psg_optimizer {
    struct psg_optimizer_config config;
    int64_t n_params;
    struct psg_optimizer_counters counters;
    int n_states;
    const char *name[MAX_STATES];
    psg_real *state[MAX_STATES]; /* [P] each */
    /* of the step that runs */
    double learning_rate, bias1, bias2_sqrt, noise_bias;
};

struct psg_optimizer_config psg_optimizer_defaults(enum psg_optimizer_kind kind)
{
    struct psg_optimizer_config c = { .kind = kind,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = 1e-8,
                                      .alpha = 0.99,
                                      .dp_bias_floor = 5e-8 };
    if (kind == PSG_ADAMW)
        c.weight_decay = 1e-2;
    if (kind == PSG_ADAGRAD)
        c.eps = 1e-10;
    return c;
}

static bool is_adam(const struct psg_optimizer_config *c)
{
    return c->kind == PSG_ADAM || c->kind == PSG_ADAMW;
}

static bool not_negative(double x)
{
    return x >= 0 && isfinite(x);
}

static int check_number(const char *name, double value, bool below_one,
                        struct psg_error *err)
{
    if (!not_negative(value))
        return psg_fail(err, PSG_E_RANGE, name, "must be finite and not negative");
    if (below_one && value >= 1)
        return psg_fail(err, PSG_E_RANGE, name, "must be below 1");
    return 0;
}

int psg_optimizer_check(const struct psg_optimizer_config *c, struct psg_error *err)
{
    const struct {
        const char *name;
        double value;
        bool below_one;
    } numbers[] = {
        { "weight_decay", c->weight_decay, false },
        { "momentum", c->momentum, false },
        { "beta1", c->beta1, true },
        { "beta2", c->beta2, true },
        { "eps", c->eps, false },
        { "alpha", c->alpha, false },
        { "lr_decay", c->lr_decay, false },
        { "initial_accumulator_value", c->initial_accumulator_value, false },
    };
    if (c->kind < PSG_SGD || c->kind > PSG_ADAGRAD)
        return psg_fail(err, PSG_E_INVALID, "optimizer", "unknown kind %d", (int)c->kind);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int r = check_number(numbers[i].name, numbers[i].value, numbers[i].below_one, err);
        if (r)
            return r;
    }
    if (!isfinite(c->dampening))
        return psg_fail(err, PSG_E_RANGE, "dampening", "must be finite");
    if (c->kind == PSG_SGD && c->nesterov && (c->momentum <= 0 || c->dampening != 0))
        return psg_fail(err, PSG_E_INVALID, "nesterov",
                        "needs a positive momentum and no dampening");
    if (c->dp_bias_correction && !is_adam(c))
        return psg_fail(err, PSG_E_INVALID, "dp_bias_correction", "is for adam and adamw");
    if (c->dp_bias_correction && c->amsgrad)
        return psg_fail(err, PSG_E_INVALID, "dp_bias_correction", "excludes amsgrad");
    if (c->dp_bias_correction && !(c->dp_bias_floor > 0 && isfinite(c->dp_bias_floor)))
        return psg_fail(err, PSG_E_RANGE, "dp_bias_floor", "must be positive and finite");
    return 0;
}

static void plan_states(struct psg_optimizer *opt)
{
    const struct psg_optimizer_config *c = &opt->config;
    switch (c->kind) {
    case PSG_SGD:
        if (c->momentum > 0)
            opt->name[opt->n_states++] = "momentum_buffer";
        break;
    case PSG_ADAM:
    case PSG_ADAMW:
        opt->name[opt->n_states++] = "exp_avg";
        opt->name[opt->n_states++] = "exp_avg_sq";
        if (c->amsgrad)
            opt->name[opt->n_states++] = "max_exp_avg_sq";
        break;
    case PSG_RMSPROP:
        opt->name[opt->n_states++] = "square_avg";
        if (c->momentum > 0)
            opt->name[opt->n_states++] = "momentum_buffer";
        if (c->centered)
            opt->name[opt->n_states++] = "grad_avg";
        break;
    case PSG_ADAGRAD:
        opt->name[opt->n_states++] = "sum";
        break;
    }
}

static void optimizer_freep(struct psg_optimizer **optp)
{
    psg_optimizer_free(*optp);
}

int psg_optimizer_new(const struct psg_optimizer_config *config, int64_t n_params,
                      struct psg_optimizer **optp, struct psg_error *err)
{
    int r = psg_optimizer_check(config, err);
    if (r)
        return r;
    if (n_params < 0)
        return psg_fail(err, PSG_E_RANGE, "n_params", "must not be negative");
    _cleanup_(optimizer_freep) struct psg_optimizer *opt = calloc(1, sizeof *opt);
    if (!opt)
        return psg_fail(err, PSG_E_NOMEM, "optimizer", "no memory for its state");
    opt->config = *config;
    opt->n_params = n_params;
    plan_states(opt);
    for (int i = 0; i < opt->n_states; i++) {
        opt->state[i] = calloc(n_params ? (size_t)n_params : 1, sizeof *opt->state[i]);
        if (!opt->state[i])
            return psg_fail(err, PSG_E_NOMEM, "optimizer",
                            "no memory for %lld values of %s", (long long)n_params,
                            opt->name[i]);
    }
    if (config->kind == PSG_ADAGRAD)
        for (int64_t i = 0; i < n_params; i++)
            opt->state[0][i] = (psg_real)config->initial_accumulator_value;
    *optp = steal(&opt);
    return 0;
}

struct psg_optimizer *psg_optimizer_free(struct psg_optimizer *opt)
{
    if (!opt)
        return NULL;
    for (int i = 0; i < opt->n_states; i++)
        free(opt->state[i]);
    free(opt);
    return NULL;
}

void psg_optimizer_begin(struct psg_optimizer *opt, double learning_rate,
                         double noise_variance)
{
    const struct psg_optimizer_config *c = &opt->config;
    double t = (double)++opt->counters.step;
    opt->learning_rate = learning_rate;
    if (c->kind == PSG_ADAGRAD)
        opt->learning_rate = learning_rate / (1 + (t - 1) * c->lr_decay);
    if (!is_adam(c))
        return;
    double bias2 = 1 - pow(c->beta2, t);
    opt->bias1 = 1 - pow(c->beta1, t);
    opt->bias2_sqrt = sqrt(bias2);
    opt->counters.noise_second_moment =
        c->beta2 * opt->counters.noise_second_moment + (1 - c->beta2) * noise_variance;
    opt->noise_bias = opt->counters.noise_second_moment / bias2;
}

static void update_sgd(const struct psg_optimizer *opt, int64_t first, int64_t n,
                       const psg_real *restrict grad, psg_real *restrict param)
{
    const struct psg_optimizer_config *c = &opt->config;
    psg_real lr = (psg_real)opt->learning_rate, decay = (psg_real)c->weight_decay;
    if (c->momentum <= 0) {
        for (int64_t i = 0; i < n; i++)
            param[i] -= lr * (grad[i] + decay * param[i]);
        return;
    }
    psg_real *restrict buffer = opt->state[0] + first;
    bool is_first = opt->counters.step == 1; /* the buffer starts as the gradient itself */
    psg_real keep = is_first ? 0 : (psg_real)c->momentum;
    psg_real take = is_first ? 1 : (psg_real)(1 - c->dampening);
    psg_real momentum = (psg_real)c->momentum;
    bool nesterov = c->nesterov;
    for (int64_t i = 0; i < n; i++) {
        psg_real g = grad[i] + decay * param[i];
        psg_real b = keep * buffer[i] + take * g;
        buffer[i] = b;
        param[i] -= lr * (nesterov ? g + momentum * b : b);
    }
}

static inline psg_real real_max(psg_real a, psg_real b)
{
    return a > b ? a : b;
}

/* Adam with weight decay in the gradient (decay) or on the parameter (shrink = 1 - lr
 * decay). */
static void update_adam(const struct psg_optimizer *opt, int64_t first, int64_t n,
                        const psg_real *restrict grad, psg_real *restrict param)
{
    const struct psg_optimizer_config *c = &opt->config;
    bool decoupled = c->kind == PSG_ADAMW;
    psg_real decay = decoupled ? 0 : (psg_real)c->weight_decay;
    psg_real shrink = decoupled ? (psg_real)(1 - opt->learning_rate * c->weight_decay) : 1;
    psg_real beta1 = (psg_real)c->beta1, rest1 = (psg_real)(1 - c->beta1);
    psg_real beta2 = (psg_real)c->beta2, rest2 = (psg_real)(1 - c->beta2);
    psg_real size = (psg_real)(opt->learning_rate / opt->bias1), eps = (psg_real)c->eps;
    psg_real root = (psg_real)opt->bias2_sqrt;
    psg_real root_sq = (psg_real)(opt->bias2_sqrt * opt->bias2_sqrt);
    psg_real noise = (psg_real)opt->noise_bias, floor = (psg_real)c->dp_bias_floor;
    bool correct = c->dp_bias_correction;
    psg_real *restrict m = opt->state[0] + first, *restrict v = opt->state[1] + first;
    psg_real *restrict most = c->amsgrad ? opt->state[2] + first : NULL;
    for (int64_t i = 0; i < n; i++) {
        psg_real p = param[i] * shrink, g = grad[i] + decay * p;
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
    }
    if (most)
        for (int64_t i = 0; i < n; i++)
            most[i] = real_max(most[i], v[i]);
    const psg_real *restrict second = most ? most : v;
    for (int64_t i = 0; i < n; i++) {
        psg_real plain = real_sqrt(second[i]) / root + eps;
        psg_real corrected = real_sqrt(real_max(second[i] / root_sq - noise, floor));
        param[i] = param[i] * shrink - size * (m[i] / (correct ? corrected : plain));
    }
}

static void update_rmsprop(const struct psg_optimizer *opt, int64_t first, int64_t n,
                           const psg_real *restrict grad, psg_real *restrict param)
{
    const struct psg_optimizer_config *c = &opt->config;
    psg_real lr = (psg_real)opt->learning_rate, decay = (psg_real)c->weight_decay;
    psg_real alpha = (psg_real)c->alpha, rest = (psg_real)(1 - c->alpha);
    psg_real momentum = (psg_real)c->momentum, eps = (psg_real)c->eps;
    psg_real *restrict square = opt->state[0] + first;
    psg_real *restrict buffer = c->momentum > 0 ? opt->state[1] + first : NULL;
    psg_real *restrict mean = c->centered ? opt->state[opt->n_states - 1] + first : NULL;
    for (int64_t i = 0; i < n; i++) {
        psg_real g = grad[i] + decay * param[i];
        square[i] = alpha * square[i] + rest * g * g;
        psg_real second = square[i];
        if (mean) {
            mean[i] = alpha * mean[i] + rest * g;
            second = real_max(second - mean[i] * mean[i], 0); /* rounding may go below 0 */
        }
        psg_real move = g / (real_sqrt(second) + eps);
        if (buffer) {
            buffer[i] = momentum * buffer[i] + move;
            move = buffer[i];
        }
        param[i] -= lr * move;
    }
}

static void update_adagrad(const struct psg_optimizer *opt, int64_t first, int64_t n,
                           const psg_real *restrict grad, psg_real *restrict param)
{
    psg_real lr = (psg_real)opt->learning_rate, eps = (psg_real)opt->config.eps;
    psg_real decay = (psg_real)opt->config.weight_decay;
    psg_real *restrict sum = opt->state[0] + first;
    for (int64_t i = 0; i < n; i++) {
        psg_real g = grad[i] + decay * param[i];
        sum[i] += g * g;
        param[i] -= lr * (g / (real_sqrt(sum[i]) + eps));
    }
}

void psg_optimizer_update(struct psg_optimizer *opt, int64_t first, int64_t n,
                          const psg_real *grad, psg_real *param)
{
    assert(first >= 0 && n >= 0 && first <= opt->n_params && n <= opt->n_params - first);
    switch (opt->config.kind) {
    case PSG_SGD:
        update_sgd(opt, first, n, grad, param);
        break;
    case PSG_ADAM:
    case PSG_ADAMW:
        update_adam(opt, first, n, grad, param);
        break;
    case PSG_RMSPROP:
        update_rmsprop(opt, first, n, grad, param);
        break;
    case PSG_ADAGRAD:
        update_adagrad(opt, first, n, grad, param);
        break;
    }
}

bool psg_optimizer_state(struct psg_optimizer *opt, int i, const char **namep,
                         psg_real **datap)
{
    if (i < 0 || i >= opt->n_states)
        return false;
    *namep = opt->name[i];
    *datap = opt->state[i];
    return true;
}

struct psg_optimizer_counters psg_optimizer_counters(const struct psg_optimizer *opt)
{
    return opt->counters;
}

void psg_optimizer_set_counters(struct psg_optimizer *opt,
                                const struct psg_optimizer_counters *counters)
{
    opt->counters = *counters;
}
