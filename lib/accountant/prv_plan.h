/* One direction and one bound of a composed privacy loss, ready to be asked.
 *
 * With S the sum of the steps' losses, delta(epsilon) = E (1 - exp(epsilon - S))+. The
 * losses are put on a grid, tilted by exp(lambda S) so that the mass lies where epsilon
 * does, and composed as powers of their Fourier transforms; delta is then a sum over those
 * frequencies that the composition leaves alive. */
#ifndef ACCOUNTANT_PRV_PLAN_H
#define ACCOUNTANT_PRV_PLAN_H

#include <stdbool.h>

#include "accountant/prv_loss.h"
#include "psg/accountant.h"

enum { PRV_CLASSES_MAX = 64 };

struct prv_plan_key {
    bool add; /* adding a record; else removing one */
    enum prv_bound bound;
    bool by_epsilon; /* goal is an epsilon; else a delta */
    double goal;
    double near; /* about what epsilon will be, to choose the grid by; 0: unknown */
};

struct prv_plan;

/* Grids for a history of up to event[i].steps of each event; events are merged (no event
 * twice) and at most one has sample_rate 1. */
int prv_plan_new(const struct prv_plan_key *key, const struct psg_dp_event *event,
                 size_t n_events, struct prv_plan **planp, struct psg_error *err);
struct prv_plan *prv_plan_free(struct prv_plan *plan);
/* Whether the plan can answer for this history: the same events, and not more steps. */
bool prv_plan_fits(const struct prv_plan *plan, const struct prv_plan_key *key,
                   const struct psg_dp_event *event, size_t n_events);
/* The epsilon that the grid was chosen for. */
double prv_plan_near(const struct prv_plan *plan);
/* The bound on epsilon at delta, or on delta at epsilon, whichever the key asks for. */
double prv_plan_answer(struct prv_plan *plan, const struct psg_dp_event *event);

#endif
