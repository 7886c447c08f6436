/* Gaussian DP: the central limit of many subsampled Gaussians is one Gaussian mechanism
 * with sensitivity over noise equal to mu. Bu, Dong, Long, Su, "Deep Learning with Gaussian
 * Differential Privacy", 2020, section 3; Dong, Roth, Su 2022 for the dual. */
#include <math.h>

#include "accountant/check.h"
#include "accountant/special.h"

int psg_gdp_mu(const struct psg_dp_event *event, size_t n_events, double *mup,
               struct psg_error *err)
{
    int r = accountant_check_events(event, n_events, err);
    if (r)
        return r;
    double sum = 0;
    for (size_t i = 0; i < n_events; i++) {
        const struct psg_dp_event *e = &event[i];
        if (accountant_event_is_free(e))
            continue;
        double s = e->noise_multiplier, q = e->sample_rate;
        sum += q * q * (double)e->steps * expm1(1 / (s * s));
    }
    *mup = sqrt(sum);
    return 0;
}

int psg_gdp_mu_uniform(const struct psg_dp_event *event, size_t n_events, double *mup,
                       struct psg_error *err)
{
    int r = accountant_check_events(event, n_events, err);
    if (r)
        return r;
    double sum = 0;
    for (size_t i = 0; i < n_events; i++) {
        const struct psg_dp_event *e = &event[i];
        if (accountant_event_is_free(e))
            continue;
        /* exp(t^2) Phi(1.5 t) + 3 Phi(-0.5 t) - 2 with t = 1/s, written as a sum of terms
         * that vanish with t, so that large s loses nothing: Phi(x) - 1/2 = erf(x / sqrt 2)
         * / 2 */
        double t = 1 / e->noise_multiplier, q = e->sample_rate;
        double grow = expm1(t * t) * 0.5 * erfc(-1.5 * t * M_SQRT1_2);
        double h = grow + 0.5 * erf(1.5 * t * M_SQRT1_2) - 1.5 * erf(0.5 * t * M_SQRT1_2);
        sum += 2 * q * q * (double)e->steps * fmax(h, 0);
    }
    *mup = sqrt(sum);
    return 0;
}

/* log of delta(epsilon) = Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu) */
static double gdp_log_delta(double mu, double epsilon)
{
    double a = special_log_ncdf(mu / 2 - epsilon / mu);
    double b = epsilon + special_log_ncdf(-mu / 2 - epsilon / mu);
    if (a == -INFINITY || !(b < a))
        return -INFINITY;
    return a + log(-expm1(b - a));
}

double psg_gdp_delta(double mu, double epsilon)
{
    if (mu == 0 || epsilon == INFINITY)
        return 0;
    if (mu == INFINITY)
        return 1;
    return exp(gdp_log_delta(mu, epsilon));
}

double psg_gdp_epsilon(double mu, double delta)
{
    if (mu == 0 || delta >= 1)
        return 0;
    if (mu == INFINITY || delta == 0)
        return INFINITY;
    double log_delta = log(delta);
    if (gdp_log_delta(mu, 0) <= log_delta)
        return 0;
    /* the tail bound of the Gaussian loss is above the answer */
    double lo = 0, hi = mu * (mu / 2 + sqrt(-2 * log_delta)) + 1e-300;
    if (hi == INFINITY)
        return INFINITY;
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (gdp_log_delta(mu, mid) > log_delta)
            lo = mid;
        else
            hi = mid;
    }
    return hi;
}
