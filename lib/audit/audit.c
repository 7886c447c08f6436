/* Lower bounds of epsilon from scores. See psg/audit.h. */
#include "psg/audit.h"

#include <math.h>
#include <stdlib.h>

#include "audit/scores.h"
#include "base/cleanup.h"

/* ---- Clopper and Pearson ---- */

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by
 * Lentz's method; converges within a few times sqrt(a + b) terms for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m <= 20000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + even * d;
        c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        d = 1 + odd * d;
        c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        if (fabs(d * c - 1) < 1e-14)
            break;
    }
    return f;
}

/* P(Beta(a, b) <= x) */
static double beta_below(double a, double b, double x)
{
    int sign;
    if (x <= 0 || x >= 1)
        return x >= 1;
    double front = exp(lgamma_r(a + b, &sign) - lgamma_r(a, &sign) - lgamma_r(b, &sign) +
                       a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* x with P(Beta(a, b) <= x) = p; bisection keeps to the side that `up` says */
static double beta_quantile(double a, double b, double p, bool up)
{
    double low = 0, high = 1;
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        double mid = (low + high) / 2;
        if (beta_below(a, b, mid) < p)
            low = mid;
        else
            high = mid;
    }
    return up ? high : low;
}

double psg_binomial_lower(int64_t hits, int64_t n, double confidence)
{
    if (hits <= 0)
        return 0;
    return beta_quantile((double)hits, (double)(n - hits) + 1, 1 - confidence, false);
}

double psg_binomial_upper(int64_t hits, int64_t n, double confidence)
{
    if (hits >= n)
        return 1;
    return beta_quantile((double)hits + 1, (double)(n - hits), confidence, true);
}

/* ---- scores ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *sorted(const double *score, int64_t n)
{
    double *copy = malloc((size_t)n * sizeof *copy);
    for (int64_t i = 0; copy && i < n; i++)
        copy[i] = isnan(score[i]) ? -INFINITY : score[i];
    if (copy)
        qsort(copy, (size_t)n, sizeof *copy, compare);
    return copy;
}

int audit_check(int64_t n_in, int64_t n_out, double delta, double confidence,
                struct psg_error *err)
{
    if (n_in < 8 || n_out < 8)
        return psg_fail(err, PSG_E_RANGE, "n_in", "needs at least 8 scores of each kind");
    if (!(delta >= 0 && delta < 1) || !(confidence > 0 && confidence < 1))
        return psg_fail(err, PSG_E_RANGE, delta >= 0 && delta < 1 ? "confidence" : "delta",
                        "is out of range");
    return 0;
}

int scores_split(const double *in, int64_t n_in, const double *out, int64_t n_out,
                 int share, struct scores *first, struct scores *second,
                 struct psg_error *err)
{
    int64_t i = n_in / share, o = n_out / share;
    *first = (struct scores){ sorted(in, i), sorted(out, o), i, o };
    *second = (struct scores){ sorted(in + i, n_in - i), sorted(out + o, n_out - o),
                               n_in - i, n_out - o };
    if (!first->in || !first->out || !second->in || !second->out)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    return 0;
}

void scores_free(struct scores *s)
{
    free(s->in);
    free(s->out);
}

/* how many of score[n], sorted, are below t */
static int64_t below(const double *score, int64_t n, double t)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (score[mid] < t)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void audit_count(const struct scores *s, double t, bool guess_in, struct psg_audit_bound *b)
{
    int64_t in = below(s->in, s->n_in, t), out = below(s->out, s->n_out, t);
    *b = (struct psg_audit_bound){ .threshold = t,
                                   .guess_in = guess_in,
                                   .hits = guess_in ? s->n_in - in : out,
                                   .n_hits = guess_in ? s->n_in : s->n_out,
                                   .slips = guess_in ? s->n_out - out : in,
                                   .n_slips = guess_in ? s->n_out : s->n_in };
}

void audit_rates(const struct psg_audit_bound *b, double confidence, double *hit,
                 double *slip)
{
    double each = 1 - (1 - confidence) / 2; /* two rates, each may be wrong */
    *hit = psg_binomial_lower(b->hits, b->n_hits, each);
    *slip = psg_binomial_upper(b->slips, b->n_slips, each);
}

/* ---- thresholds ---- */

/* A quick stand-in for the bound, to choose by: normal limits of a Poisson count. */
static double promise(const struct psg_audit_bound *b, double delta, double z)
{
    double k = (double)b->hits, m = (double)b->slips;
    double hit = k + z * z / 2 - z * sqrt(k + z * z / 4);
    double miss = (double)(b->n_hits - b->hits) / (double)b->n_hits;
    if (miss < 0.5) /* the count of misses is the smaller one */
        hit = (double)b->n_hits * (1 - miss) -
              z * sqrt((double)b->n_hits * miss + z * z / 4) - z * z / 2;
    double slip = m + z * z / 2 + z * sqrt(m + z * z / 4);
    double top = hit / (double)b->n_hits - delta;
    return top > 0 ? log(top / fmin(1, slip / (double)b->n_slips)) : -INFINITY;
}

static void consider(const struct scores *s, double t, double delta, double z,
                     struct psg_audit_bound *best, double *best_worth)
{
    for (int guess_in = 0; guess_in < 2; guess_in++) {
        struct psg_audit_bound b;
        audit_count(s, t, guess_in, &b);
        double worth = promise(&b, delta, z);
        if (worth > *best_worth) {
            *best_worth = worth;
            *best = b;
        }
    }
}

/* Candidates are scores themselves, few in the middle and all near the ends, where large ratios
 * are. */
static void choose(const struct scores *s, double delta, struct psg_audit_bound *best)
{
    double worth = -INFINITY;
    audit_count(s, s->out[s->n_out / 2], true, best);
    for (int side = 0; side < 2; side++) {
        const double *score = side ? s->in : s->out;
        int64_t n = side ? s->n_in : s->n_out;
        for (int64_t i = 0; i < n; i += 1 + (i < n / 2 ? i : n - i) / 20) {
            consider(s, score[i], delta, 2, best, &worth);
            consider(s, nextafter(score[i], INFINITY), delta, 2, best, &worth);
        }
    }
}

int psg_audit_bound(const double *in, int64_t n_in, const double *out, int64_t n_out,
                    double delta, double confidence, struct psg_audit_bound *bound,
                    struct psg_error *err)
{
    _cleanup_(scores_free) struct scores first = { 0 }, second = { 0 };
    int r = audit_check(n_in, n_out, delta, confidence, err);
    if (r == 0)
        r = scores_split(in, n_in, out, n_out, 2, &first, &second, err);
    if (r)
        return r;
    struct psg_audit_bound chosen;
    double hit, slip;
    choose(&first, delta, &chosen);
    audit_count(&second, chosen.threshold, chosen.guess_in, bound);
    audit_rates(bound, confidence, &hit, &slip);
    bound->epsilon = hit > delta ? fmax(0, log((hit - delta) / slip)) : 0;
    return 0;
}

double psg_audit_step_score(double sample_rate, double noise_multiplier, double x)
{
    double a = (2 * x - 1) / (2 * noise_multiplier * noise_multiplier);
    /* log((1 - q) + q e^a), without overflow */
    return a > 0 ? a + log(sample_rate + (1 - sample_rate) * exp(-a))
                 : log1p(sample_rate * expm1(a));
}
