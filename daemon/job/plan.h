/* What a job would be, take and cost: a pure function of the spec, the files that it names by their
 * digests, the dataset's public description and the limits. The dry run and the real run use the
 * same plan. */
#ifndef DAEMON_JOB_PLAN_H
#define DAEMON_JOB_PLAN_H

#include <stdbool.h>

#include "ledger/filter.h"
#include "proto/dataset.h"
#include "proto/job_spec.h"
#include "proto/plan.h"
#include "psg/accountant.h"
#include "psg/device.h"
#include "psg/train.h"

struct plan_limits {
    int n_threads;
    uint64_t memory_bytes; /* 0: none */
    const struct psg_registry *registry; /* of plugins, or NULL; outlives the plan */
    const struct psg_devices *gpus; /* what was found at the start, or NULL: not looked for */
    const struct env *env; /* for files of `uploads`, a folder, or -1: no uploads */
    int uploads;
};

struct plan {
    struct psg_program *program;
    struct psg_train_options options; /* point into the plan */
    psg_real *start;                  /* what training begins with; NULL: drawn */
    struct psg_plan *compiled;        /* buffers and routes; for the dry run's table */
    int *group;                       /* owned, as the next four */
    double *group_norm;
    double *lr_list, *noise_list, *clip_list;

    bool is_private;
    enum psg_accountant_kind accountant;
    int64_t steps, steps_per_epoch;
    double sample_rate;
    double noise_multiplier; /* before its schedule; 0 without privacy */
    double delta;            /* NAN without privacy */
    double epsilon;          /* of all steps; NAN: none holds */
    struct filter_cost cost; /* what the ledger reserves */
    int64_t memory_bytes;
    bool not_amplified; /* poisson_sampling is off */
    enum privacy_unit unit;
    enum telemetry_policy telemetry;
    double loss_bound;
};

/* dataset: complete (datasets_find). 0 or ERROR_REFUSED. Free with plan_free(). Thread: any; reading
 * and importing a file may take seconds. */
int plan_make(const struct job_spec *spec, const struct dataset_spec *dataset, double delta,
              const struct plan_limits *limits, struct plan **planp, struct problem *p);
struct plan *plan_free(struct plan *plan);
void plan_freep(struct plan **planp);

#endif
