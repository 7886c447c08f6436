/* Poisson batches that are cut. See psg/accountant.h. */
#include <math.h>

#include "psg/accountant.h"

/* log of a bound on P(Binomial(n, q) >= k): -n KL(k / n, q) for k > n q, and 0 below */
static double log_tail(double n, double q, double k)
{
    if (k > n || q == 0)
        return -INFINITY;
    if (k <= n * q)
        return 0;
    double rest = n - k;
    double inner = k * log(k / (n * q));
    return -(inner + (rest > 0 ? rest * log(rest / (n * (1 - q))) : 0));
}

int psg_truncation_delta(int64_t n_records, double sample_rate, int64_t max_batch_size,
                         int64_t steps, double epsilon, double *deltap, struct psg_error *err)
{
    if (n_records < 0 || steps < 0)
        return psg_fail(err, PSG_E_RANGE, n_records < 0 ? "n_records" : "steps",
                        "must not be negative");
    if (!(sample_rate >= 0 && sample_rate <= 1))
        return psg_fail(err, PSG_E_RANGE, "sample_rate", "must be between 0 and 1");
    if (max_batch_size < 1)
        return psg_fail(err, PSG_E_RANGE, "max_batch_size", "must be at least 1");
    if (!(epsilon >= 0))
        return psg_fail(err, PSG_E_RANGE, "epsilon", "must not be negative");
    double tail = log_tail((double)n_records, sample_rate, (double)max_batch_size + 1);
    double total = tail + log((double)steps) + log1p(exp(epsilon));
    if (epsilon > 700)
        total = tail + log((double)steps) + epsilon;
    if (tail == -INFINITY || steps == 0)
        total = -INFINITY;
    *deltap = fmin(1, exp(total) * (1 + 1e-9));
    return 0;
}
