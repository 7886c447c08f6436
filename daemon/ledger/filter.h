/* The Renyi filter of a dataset, as pure arithmetic: k fixed orders, each with delta / k.
 *
 * Divergences are integers in units of 2^-40, rounded up when they are costs and down when they
 * are caps, so that sums are exact and never under-report. FILTER_INF stands for "more than can
 * be counted": once in a sum, always in it. Proof that the filter is valid: README.md. */
#ifndef DAEMON_LEDGER_FILTER_H
#define DAEMON_LEDGER_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "psg/status.h"

enum { FILTER_K = 8 };
#define FILTER_UNIT 1099511627776.0 /* 2^40 */
#define FILTER_INF  INT64_MAX
#define FILTER_EPSILON_MAX 1e6 /* of a dataset's cap */

/* one number per order */
struct filter_rdp {
    int64_t at[FILTER_K];
};

struct filter {
    double epsilon, delta;
    double order[FILTER_K];
    int64_t cap[FILTER_K]; /* B_j = epsilon - log(k / delta) / (order_j - 1); may be negative */
};

/* What one job does to the dataset: `steps` subsampled Gaussians. poisson false: a record may
 * take part in every step, so it is accounted as sample_rate 1, without amplification. */
struct filter_cost {
    double sample_rate, noise_multiplier;
    int64_t steps;
};

/* The orders of new datasets, with caps for (epsilon, delta). */
void filter_init(struct filter *f, double epsilon, double delta);
/* Recomputes the caps after epsilon, delta or the orders changed. */
void filter_caps(struct filter *f);
/* True for 0 < epsilon <= FILTER_EPSILON_MAX and 0 < delta < 1. */
bool filter_valid(double epsilon, double delta);

/* Cost of one step. PSG_E_RANGE for numbers that are no mechanism. */
int filter_step(const struct filter *f, double sample_rate, double noise_multiplier,
                struct filter_rdp *step, struct psg_error *err);

/* Cost of a release that is purely epsilon-private: at order a at most a epsilon^2 / 2 (Bun and
 * Steinke 2016, proposition 3.3) and at most epsilon. PSG_E_RANGE unless 0 < epsilon < infinity. */
int filter_pure(const struct filter *f, double epsilon, struct filter_rdp *step,
                struct psg_error *err);

/* total + n * step, each saturating at FILTER_INF; n >= 0. */
struct filter_rdp filter_add(const struct filter_rdp *total, const struct filter_rdp *step,
                             int64_t n);
/* total - n * step for what was added before; FILTER_INF stays. */
struct filter_rdp filter_sub(const struct filter_rdp *total, const struct filter_rdp *step,
                             int64_t n);
bool filter_equal(const struct filter_rdp *a, const struct filter_rdp *b);
/* At least one order's total is within its cap. */
bool filter_holds(const struct filter *f, const struct filter_rdp *total);
/* Largest n <= max with filter_holds(total + n * step); 0 when none. */
int64_t filter_fit(const struct filter *f, const struct filter_rdp *total,
                   const struct filter_rdp *step, int64_t max);
/* Smallest epsilon for which these totals hold at f->delta: 0 for no cost at all, INFINITY when
 * no order is finite. */
double filter_epsilon(const struct filter *f, const struct filter_rdp *total);

#endif
