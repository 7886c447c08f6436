/* Privacy accounting of DP-SGD: epsilon, delta, noise multipliers and steps that still fit.
 *
 * The mechanism is the Poisson-subsampled Gaussian of DP-SGD under add-or-remove-one
 * neighbours: every record joins a step with probability sample_rate, and the clipped sum
 * gets Gaussian noise of standard deviation noise_multiplier times the clip bound. All
 * functions are pure double maths. They never answer NaN or a negative epsilon, and answer
 * INFINITY where no finite epsilon holds. A fixed-size batch must be given as
 * sample_rate 1. */
#ifndef PSG_ACCOUNTANT_H
#define PSG_ACCOUNTANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `steps` compositions of one subsampled Gaussian. A history is an array of these in any
 * order. Valid: sample_rate in [0, 1], noise_multiplier in [0, INFINITY], steps >= 0. */
struct psg_dp_event {
    double sample_rate;
    double noise_multiplier;
    int64_t steps;
};

enum psg_accountant_kind {
    PSG_ACCOUNTANT_RDP, /* Renyi DP (Mironov 2017; Mironov, Talwar, Zhang 2019): upper bound
                         */
    PSG_ACCOUNTANT_GDP, /* central limit of Gaussian DP (Bu et al. 2020): approximation,
                         * which may under-estimate when steps are few */
    PSG_ACCOUNTANT_PRV  /* numerical composition of privacy loss variables (Gopi, Lee,
                         * Wutschitz 2021) with bounds on both sides: an upper bound, tight
                         */
};

/* "rdp", "gdp", "prv"; never NULL. */
PSG_API const char *psg_accountant_kind_name(enum psg_accountant_kind kind);
/* PSG_E_INVALID for an unknown name. */
PSG_API int psg_accountant_kind_parse(const char *name, enum psg_accountant_kind *kindp,
                                      struct psg_error *err);

struct psg_dp_epsilon {
    double epsilon; /* what to report; an upper bound with rdp and prv */
    double delta;
    /* Bounds on the true value of what was asked, epsilon or delta. prv: a lower bound, and
     * an estimate between it and the answer; rdp and gdp: 0 and the answer */
    double lower, estimate;
    double order; /* the Renyi order that won (rdp), else 0 */
    /* What answered. With prv it is rdp where the numbers are too extreme for a grid
     * (losses of thousands): still an upper bound, not a tight one. More than 64 different
     * events are first rounded to 48 worse ones: no lower bound is known then */
    enum psg_accountant_kind method;
};

/* ---- one-shot questions about a history ---- */

/* Smallest epsilon the accountant can vouch for at delta. delta in [0, 1]. */
PSG_API int psg_dp_epsilon(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                           size_t n_events, double delta, struct psg_dp_epsilon *out,
                           struct psg_error *err);
/* Smallest delta at epsilon >= 0; out->epsilon is the question, out->delta the answer in
 * [0, 1]. */
PSG_API int psg_dp_delta(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                         size_t n_events, double epsilon, struct psg_dp_epsilon *out,
                         struct psg_error *err);

struct psg_dp_target {
    enum psg_accountant_kind kind;
    double epsilon; /* > 0 */
    double delta;   /* in (0, 1) */
    const struct psg_dp_event *spent;
    size_t n_spent; /* history that is already there; may be 0 */
};

/* Smallest noise multiplier (to 1e-7 relative, rounded so that the target is never
 * exceeded) with which `steps` more steps at sample_rate stay within the target. 0 if no
 * noise is needed. out (may be NULL) receives the epsilon reached, history included.
 * PSG_E_RANGE when no noise multiplier reaches the target: Renyi orders up to 63 leave at
 * least 0.103 at delta 1e-5. */
PSG_API int psg_dp_noise_multiplier(const struct psg_dp_target *target, double sample_rate,
                                    int64_t steps, double *noise_multiplierp,
                                    struct psg_dp_epsilon *out, struct psg_error *err);
/* Largest number of further steps of (sample_rate, noise_multiplier) within the target, at
 * most max_steps; 0 when not even one fits. */
PSG_API int psg_dp_steps_that_fit(const struct psg_dp_target *target, double sample_rate,
                                  double noise_multiplier, int64_t max_steps,
                                  int64_t *stepsp, struct psg_error *err);

/* ---- Poisson batches that are cut to max_batch_size ---- */

/* What cutting adds to delta: with t = the chance that one of `steps` Binomial(n_records,
 * sample_rate) numbers exceeds max_batch_size, at most (1 + exp(epsilon)) t, since the cut run
 * differs from the uncut one by t in total variation under both neighbours (Chua et al. 2024,
 * "Scalable DP-SGD: shuffling vs. Poisson subsampling"). The chance is bounded by Chernoff's
 * inequality. n_records: a public bound on the number of records. In [0, 1]. */
PSG_API int psg_truncation_delta(int64_t n_records, double sample_rate, int64_t max_batch_size,
                                 int64_t steps, double epsilon, double *deltap,
                                 struct psg_error *err);

/* ---- the same, step by step ---- */

/* Remembers the history and what one step of each (sample_rate, noise_multiplier) costs, so
 * that asking after every step is cheap. Not thread-safe; different ones are independent.
 */
struct psg_accountant;

PSG_API int psg_accountant_new(enum psg_accountant_kind kind, struct psg_accountant **accp,
                               struct psg_error *err);
PSG_API struct psg_accountant *psg_accountant_free(struct psg_accountant *acc);
/* Adds to the history; on error the history is what it was. */
PSG_API int psg_accountant_compose(struct psg_accountant *acc,
                                   const struct psg_dp_event *event, struct psg_error *err);
PSG_API int psg_accountant_epsilon(struct psg_accountant *acc, double delta,
                                   struct psg_dp_epsilon *out, struct psg_error *err);
/* The same epsilon without lower bound and estimate, which stay at 0 and epsilon: for live numbers.
 * prv: half the time. */
PSG_API int psg_accountant_epsilon_bound(struct psg_accountant *acc, double delta,
                                         struct psg_dp_epsilon *out, struct psg_error *err);
/* What will have been composed at the end: psg_accountant_epsilon_bound() of prv then plans for that
 * once and answers along the way in milliseconds, also for many different events. An aid only: a
 * history that leaves it is answered as well. events: each (sample_rate, noise_multiplier) once. */
PSG_API int psg_accountant_expect(struct psg_accountant *acc, const struct psg_dp_event *event,
                                  size_t n_events, struct psg_error *err);
PSG_API int psg_accountant_delta(struct psg_accountant *acc, double epsilon,
                                 struct psg_dp_epsilon *out, struct psg_error *err);
/* The history with equal (sample_rate, noise_multiplier) merged, in order of first use.
 * Valid until the next compose or free. */
PSG_API const struct psg_dp_event *psg_accountant_history(const struct psg_accountant *acc,
                                                          size_t *n_eventsp);

/* ---- Renyi DP ---- */

/* The default orders: 1.1, 1.2, ..., 10.9, 12, 13, ..., 63 (those of Opacus). */
enum { PSG_RDP_N_ORDERS = 151 };
PSG_API void psg_rdp_orders(double order[PSG_RDP_N_ORDERS]);
/* Renyi divergence at `order` > 1 of one step; INFINITY without noise. An exact value to
 * about 1e-14 absolute or 1e-9 relative (integer orders: 1e-13 relative), not rounded up.
 * Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism",
 * 2019, section 3.3. */
PSG_API int psg_rdp_step(double sample_rate, double noise_multiplier, double order,
                         double *rdpp, struct psg_error *err);
/* min over orders of rdp + log((a-1)/a) - (log delta + log a)/(a-1), clamped at 0
 * (Balle et al. 2020, theorem 21). *orderp (may be NULL) receives the order that won. */
PSG_API double psg_rdp_epsilon(size_t n, const double *order, const double *rdp,
                               double delta, double *orderp);
/* The same read the other way: smallest delta at epsilon, in [0, 1]. */
PSG_API double psg_rdp_delta(size_t n, const double *order, const double *rdp,
                             double epsilon, double *orderp);

/* ---- Gaussian DP ---- */

/* mu of the central limit: sqrt(sum of steps q^2 (exp(1/s^2) - 1)) under Poisson sampling.
 */
PSG_API int psg_gdp_mu(const struct psg_dp_event *event, size_t n_events, double *mup,
                       struct psg_error *err);
/* The same under uniform sampling of fixed-size batches:
 * sqrt(2) q sqrt(steps (exp(1/s^2) Phi(1.5/s) + 3 Phi(-0.5/s) - 2)). */
PSG_API int psg_gdp_mu_uniform(const struct psg_dp_event *event, size_t n_events,
                               double *mup, struct psg_error *err);
/* Dual of mu-GDP (Dong, Roth, Su 2022, corollary 1). These two are exact for one Gaussian
 * mechanism with sensitivity over noise equal to mu. */
PSG_API double psg_gdp_epsilon(double mu, double delta);
PSG_API double psg_gdp_delta(double mu, double epsilon);

#ifdef __cplusplus
}
#endif
#endif
