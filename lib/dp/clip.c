/* Clip factors from squared norms, and the bound that follows a quantile. See psg/dp.h. */
#include "psg/dp.h"

#include <math.h>

static const double FLAT_BIAS = 1e-6;
static const double AUTO_S_BIAS = 0.01;

/* The largest psg_real not above x; 0 for x above every finite psg_real. */
static psg_real real_below(double x)
{
    psg_real f = (psg_real)x;
    if (!isfinite(f))
        return 0;
#ifndef PSG_REAL_DOUBLE
    if ((double)f > x)
        f = nextafterf(f, 0);
#endif
    return f;
}

/* Norm and quotient are rounded: this much less keeps factor * norm within the bound. */
static const double ROUNDING = 1 - 0x1p-51;

static double flat_factor(double bound, double norm)
{
    double f = bound / (norm + FLAT_BIAS) * ROUNDING;
    return f < 1 ? f : 1;
}

/* What the whole-gradient kinds have in common: bias is that of the kind, limit the largest
 * factor. */
struct rule {
    double bound, bias, limit;
};

static struct rule rule_of(enum psg_clipping kind, double bound)
{
    switch (kind) {
    case PSG_CLIP_AUTO_S: return (struct rule){ bound, AUTO_S_BIAS, INFINITY };
    case PSG_CLIP_AUTO_V: return (struct rule){ bound, 0, INFINITY };
    case PSG_CLIP_FLAT:
    case PSG_CLIP_ADAPTIVE:
    case PSG_CLIP_PER_LAYER:
    case PSG_CLIP_PER_GROUP: break;
    }
    return (struct rule){ bound, FLAT_BIAS, 1 };
}

static double factor_of(const struct rule *rule, double norm)
{
    if (!(norm + rule->bias > 0))
        return 0;
    return fmin(rule->bound / (norm + rule->bias) * ROUNDING, rule->limit);
}

static bool bound_is_valid(double bound)
{
    return bound > 0 && isfinite(bound);
}

static bool norm_is_valid(double sq)
{
    return sq >= 0 && isfinite(sq);
}

static int factors(const struct rule *rule, int64_t n, const double *sq, psg_real *factor,
                   struct psg_clip_count *count, struct psg_error *err)
{
    struct psg_clip_count sum = { 0 };
    if (!bound_is_valid(rule->bound))
        return psg_fail(err, PSG_E_RANGE, "max_grad_norm", "must be positive and finite");
    for (int64_t i = 0; i < n; i++) {
        bool valid = norm_is_valid(sq[i]);
        double f = valid ? factor_of(rule, sqrt(sq[i])) : 0;
        factor[i] = real_below(f);
        sum.clipped += valid && f < 1;
        sum.not_finite += !valid;
    }
    if (count) {
        count->clipped += sum.clipped;
        count->not_finite += sum.not_finite;
    }
    return 0;
}

int psg_clip_factors(enum psg_clipping kind, double bound, int64_t n, const double *sq,
                     psg_real *factor, struct psg_clip_count *count, struct psg_error *err)
{
    struct rule rule = rule_of(kind, bound);
    if (kind == PSG_CLIP_PER_LAYER || kind == PSG_CLIP_PER_GROUP)
        return psg_fail(err, PSG_E_INVALID, "clipping", "needs a norm for each group");
    return factors(&rule, n, sq, factor, count, err);
}

int psg_clip_factors_auto_s(double bound, double gamma, int64_t n, const double *sq,
                            psg_real *factor, struct psg_clip_count *count,
                            struct psg_error *err)
{
    struct rule rule = { bound, gamma, INFINITY };
    if (!bound_is_valid(gamma))
        return psg_fail(err, PSG_E_RANGE, "gamma", "must be positive and finite");
    return factors(&rule, n, sq, factor, count, err);
}

int psg_clip_factors_grouped(int64_t n, int64_t n_groups, const double *bound,
                             const double *sq, psg_real *factor,
                             struct psg_clip_count *count, struct psg_error *err)
{
    struct psg_clip_count sum = { 0 };
    for (int64_t k = 0; k < n_groups; k++)
        if (!bound_is_valid(bound[k]))
            return psg_fail(err, PSG_E_RANGE, "max_grad_norm",
                            "bound %lld must be positive and finite", (long long)k);
    for (int64_t i = 0; i < n; i++) {
        const double *row = sq + i * n_groups;
        bool valid = true, clipped = false;
        for (int64_t k = 0; k < n_groups; k++)
            valid = valid && norm_is_valid(row[k]);
        for (int64_t k = 0; k < n_groups; k++) {
            double f = valid ? flat_factor(bound[k], sqrt(row[k])) : 0;
            factor[i * n_groups + k] = real_below(f);
            clipped = clipped || f < 1;
        }
        sum.clipped += valid && clipped;
        sum.not_finite += !valid;
    }
    if (count) {
        count->clipped += sum.clipped;
        count->not_finite += sum.not_finite;
    }
    return 0;
}

double psg_clip_total_bound(int64_t n_groups, const double *bound)
{
    double sum = 0;
    for (int64_t k = 0; k < n_groups; k++)
        sum += bound[k] * bound[k];
    return sqrt(sum);
}

int psg_adaptive_check(const struct psg_adaptive_clip *a, struct psg_error *err)
{
    if (!bound_is_valid(a->bound))
        return psg_fail(err, PSG_E_RANGE, "max_grad_norm", "must be positive and finite");
    if (!(a->quantile > 0 && a->quantile < 1))
        return psg_fail(err, PSG_E_RANGE, "target_quantile", "must be between 0 and 1");
    if (!bound_is_valid(a->learning_rate))
        return psg_fail(err, PSG_E_RANGE, "clipping_learning_rate",
                        "must be positive and finite");
    if (!bound_is_valid(a->count_stddev))
        return psg_fail(err, PSG_E_RANGE, "count_stddev", "must be positive and finite");
    if (!bound_is_valid(a->expected_batch_size))
        return psg_fail(err, PSG_E_RANGE, "expected_batch_size",
                        "must be positive and finite");
    if (!bound_is_valid(a->min_bound) || !bound_is_valid(a->max_bound) ||
        !(a->min_bound <= a->bound && a->bound <= a->max_bound))
        return psg_fail(err, PSG_E_RANGE, "max_grad_norm",
                        "must lie between its smallest and largest value");
    return 0;
}

int psg_adaptive_noise_multiplier(double s, double count_stddev, double *zp,
                                  struct psg_error *err)
{
    if (!bound_is_valid(s) || !bound_is_valid(count_stddev) || !(s < 2 * count_stddev))
        return psg_fail(err, PSG_E_RANGE, "count_stddev",
                        "must be above half of the noise multiplier");
    double ratio = s / (2 * count_stddev);
    /* (s^-2 - (2 b)^-2)^-1/2 = s / sqrt(1 - ratio^2), without the squares that overflow */
    double rest = (1 - ratio) * (1 + ratio);
    if (!(rest > 0))
        return psg_fail(err, PSG_E_RANGE, "count_stddev",
                        "leaves no noise budget for the gradient");
    *zp = s / sqrt(rest);
    return 0;
}

int64_t psg_adaptive_count(const struct psg_adaptive_clip *a, int64_t n, const double *sq)
{
    int64_t within = 0;
    for (int64_t i = 0; i < n; i++)
        within += norm_is_valid(sq[i]) && sqrt(sq[i]) <= a->bound;
    return within;
}

int psg_adaptive_update(struct psg_adaptive_clip *a, const struct psg_key *key,
                        uint64_t step, int64_t n, int64_t n_within, struct psg_error *err)
{
    float z;
    int r = psg_normal_fill(key, PSG_RNG_ADAPTIVE_CLIP, step, 0, 0, 1, &z, err);
    if (r)
        return r;
    double sum = (double)n_within - 0.5 * (double)n + a->count_stddev * (double)z;
    double fraction = sum / a->expected_batch_size + 0.5;
    double bound = a->bound * exp(-a->learning_rate * (fraction - a->quantile));
    a->bound = fmin(fmax(bound, a->min_bound), a->max_bound);
    return 0;
}
