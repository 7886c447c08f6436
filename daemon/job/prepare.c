/* The plan of a new job, on the loop or, when files must be read for it, beforehand on a thread. */
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "job/weights.h"

struct jobs_prepared {
    const struct job_spec *spec;
    struct dataset_record dataset;
    struct plan_limits limits;
    struct plan *plan;
    struct problem problem;
    int r; /* of plan_make */
};

void jobs_plan_limits(const struct jobs *jobs, struct plan_limits *limits)
{
    const struct jobs_config *config = &jobs->config;
    *limits = (struct plan_limits){ .n_threads = config->cores,
                                    .memory_bytes = config->memory_bytes,
                                    .registry = config->registry,
                                    .gpus = config->gpus,
                                    .env = jobs->env,
                                    .uploads = config->uploads ? uploads_dir(config->uploads) : -1 };
}

bool jobs_names_files(const struct job_spec *spec)
{
    return spec->model.torchscript != NULL;
}

/* The files are there, and the caller's. */
static int check_files(const struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                       struct problem *p)
{
    const char *digest = spec->model.torchscript;
    if (!digest || !jobs->config.uploads) /* without uploads the plan refuses it */
        return 0;
    return uploads_require(jobs->config.uploads, digest, viewer, "/model/torchscript", p);
}

static int find_dataset(struct jobs *jobs, const struct job_spec *spec, enum store_side side,
                        struct dataset_record *dataset, struct problem *p)
{
    int r = datasets_find(jobs->datasets, side, spec->dataset, dataset, p);
    if (r == ERROR_REFUSED && p->code == PROBLEM_NOT_FOUND) {
        problem_init(p);
        problem_invalid(p, "/dataset", ITEM_UNKNOWN_NAME, "no dataset has this name");
    }
    return r;
}

/* Start weights against the program that they are for. */
static int check_weights(const struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                         const struct plan *plan, struct problem *p)
{
    return weights_check(spec->model.start.weights, plan->program, jobs->config.uploads, jobs->env,
                         viewer, p);
}

static int plan_of(const struct job_spec *spec, const struct dataset_record *dataset,
                   const struct plan_limits *limits, struct plan **planp, struct problem *p)
{
    double delta = dataset->spec->budget ? dataset->spec->budget->delta : NAN;
    return plan_make(spec, dataset->spec, delta, limits, planp, p);
}

int jobs_prepare(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                 struct jobs_prepared **preparedp, struct problem *p)
{
    struct jobs_prepared *prepared = calloc(1, sizeof *prepared);
    if (!prepared)
        return error_nomem(p);
    prepared->spec = spec;
    problem_init(&prepared->problem);
    jobs_plan_limits(jobs, &prepared->limits);
    int r = check_files(jobs, spec, viewer, p);
    if (r == 0)
        r = find_dataset(jobs, spec, STORE_READER, &prepared->dataset, p);
    if (r) {
        jobs_prepared_free(prepared);
        return r;
    }
    *preparedp = prepared;
    return 0;
}

void jobs_prepared_run(struct jobs_prepared *prepared)
{
    prepared->r = plan_of(prepared->spec, &prepared->dataset, &prepared->limits, &prepared->plan,
                          &prepared->problem);
}

struct jobs_prepared *jobs_prepared_free(struct jobs_prepared *prepared)
{
    if (!prepared)
        return NULL;
    plan_free(prepared->plan);
    dataset_record_clear(&prepared->dataset);
    free(prepared);
    return NULL;
}

int jobs_plan(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
              enum store_side side, struct jobs_prepared *prepared,
              struct dataset_record *dataset, struct plan **planp, struct problem *p)
{
    struct plan_limits limits;
    int r = check_files(jobs, spec, viewer, p); /* again: an upload may be gone meanwhile */
    if (r)
        return r;
    if (prepared) {
        if (prepared->r) {
            *p = prepared->problem;
            return prepared->r;
        }
        *planp = steal(&prepared->plan);
        *dataset = prepared->dataset;
        prepared->dataset = (struct dataset_record){ 0 };
    } else {
        r = find_dataset(jobs, spec, side, dataset, p);
        if (r)
            return r;
        jobs_plan_limits(jobs, &limits);
        r = plan_of(spec, dataset, &limits, planp, p);
    }
    if (r == 0)
        r = check_weights(jobs, spec, viewer, *planp, p);
    if (r) {
        *planp = plan_free(*planp);
        dataset_record_clear(dataset);
    }
    return r;
}
