/* The part of a plan that privacy is made of: noise multiplier, schedules, cut batches, and what
 * all of it costs. */
#ifndef DAEMON_JOB_NOISE_H
#define DAEMON_JOB_NOISE_H

#include "job/plan.h"

/* Of noise that cuts batches, this share of delta is kept for what cutting them costs; a job may
 * cost the ledger's delta 2^-40 of it. */
#define NOISE_CUT_SHARE 0x1p-20

/* Fills what the plan says of noise, accountant, epsilon and cost; after sampling was planned.
 * delta: the dataset's, NAN if it has none. 0 or ERROR_REFUSED. */
int noise_plan(const struct job_spec *spec, const struct dataset_spec *dataset, double delta,
               struct plan *plan, struct problem *p);
/* Gives plan->options.max_grad_norm its schedule; its initial value is set. */
int noise_clip_schedule(const struct job_spec *spec, struct plan *plan, struct problem *p);
/* The largest noise multiplier of the plan's schedule. */
double noise_largest(const struct plan *plan);

#endif
