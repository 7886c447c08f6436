/* Numerical composition of privacy losses, with bounds on both sides. */
#ifndef ACCOUNTANT_PRV_H
#define ACCOUNTANT_PRV_H

#include <stdbool.h>
#include <stddef.h>

#include "psg/accountant.h"

struct prv_answer {
    double lower, estimate, upper;
};

/* Keeps grids and their transforms between questions about a history that only grows. */
struct prv_cache;
struct prv_cache *prv_cache_new(void);
struct prv_cache *prv_cache_free(struct prv_cache *cache);

/* Epsilon at delta, or delta at epsilon, of valid events. with_lower: false leaves lower
 * and estimate at the trivial 0 and the upper bound, for a fraction of the time.
 * PSG_E_UNSUPPORTED when no grid of a bearable size holds the answer. */
int prv_epsilon(struct prv_cache *cache, const struct psg_dp_event *event, size_t n_events,
                double delta, bool with_lower, struct prv_answer *out,
                struct psg_error *err);
/* Upper bound of epsilon along the way to an expected history, from one plan for all of it: now[i] has
 * expected[i]'s rate and noise and at most its steps. PSG_E_UNSUPPORTED also where prv_epsilon() is
 * the better one to ask: few different events, the first sixteenth of the steps. */
int prv_epsilon_along(struct prv_cache *cache, const struct psg_dp_event *expected,
                      const struct psg_dp_event *now, size_t n_events, double delta,
                      double *upperp, struct psg_error *err);
int prv_delta(struct prv_cache *cache, const struct psg_dp_event *event, size_t n_events,
              double epsilon, struct prv_answer *out, struct psg_error *err);

#endif
