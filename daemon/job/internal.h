/* What the files of this folder share. */
#ifndef DAEMON_JOB_INTERNAL_H
#define DAEMON_JOB_INTERNAL_H

#include "job/jobs.h"
#include "job/plan.h"
#include "job/row.h"
#include "run/artifact.h"
#include "run/run.h"

/* a queued job; the row in the store is what counts, this is its place in line */
struct waiting {
    struct waiting *next;
    int64_t num, priority, created_at;
    char id[JOBS_ID_SIZE];
    char owner[]; /* as long as it is */
};

/* an attempt, from the change that says so to the one that ends it */
struct active {
    struct active *next;
    struct jobs *jobs;
    struct job_row row;
    struct dataset_record dataset;
    struct job_spec *spec;
    struct plan *plan;
    struct run_spec run_spec;
    struct run *run; /* NULL: not started yet, or ended */
    bool charged;    /* the ledger has an account for it */
    enum run_stop stop;
    int64_t asked_to; /* end of the lease that is being committed */
    /* events that are not durable yet, oldest first; from next_event on not in the open batch */
    struct run_event *first_event, *last_event, *next_event;
    bool telling; /* events_committed() waits for the open batch */
    struct artifact_info artifact[8];
    char artifact_name[8][64];
    int n_artifacts, n_artifacts_before; /* before: that an earlier attempt has written */
    bool ended;
    struct run_result result;
    uint64_t last_step_ns;
};

struct jobs {
    struct store *store;
    struct stream *stream;
    struct datasets *datasets;
    const struct env *env;
    const struct log *log;
    struct jobs_config config;
    int dir; /* jobs/ in the state folder */
    struct waiting *waiting; /* in order of num */
    int64_t n_waiting;
    struct active *active;
    int n_active;
    struct run_executor *executor; /* NULL: not started */
    uv_timer_t timer;              /* tries again what the disk had no room for */
    void (*on_fatal)(void *arg, int r);
    void *fatal_arg;
    bool failed, draining;
    void (*drained)(void *arg);
    void *drained_arg;
    uint64_t n_steps;
};

/* ---- queue.c ---- */
/* Adds the job at its place in line; false: out of memory. */
bool queue_add(struct jobs *jobs, const struct job_row *row);
/* Takes the job out if it is there. */
void queue_remove(struct jobs *jobs, const char *id);
void queue_clear(struct jobs *jobs);
/* The next to start: highest priority, then the owner with the fewest running, then the oldest.
 * NULL: none. */
const struct waiting *queue_next(const struct jobs *jobs);
/* 1 for the first; -1: not in line. By priority and age alone. */
int64_t queue_position(const struct jobs *jobs, const char *id);
/* The line in that order; the caller frees the array, not the entries. NULL: out of memory. */
const struct waiting **queue_sorted(const struct jobs *jobs);

/* ---- prepare.c ---- */
/* The plan of a new job: the prepared one, which is emptied, or made now. */
int jobs_plan(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
              enum store_side side, struct jobs_prepared *prepared,
              struct dataset_record *dataset, struct plan **planp, struct problem *p);
void jobs_plan_limits(const struct jobs *jobs, struct plan_limits *limits);

/* ---- active.c ---- */
/* Starts what may start now. */
void jobs_schedule(struct jobs *jobs);
struct active *jobs_find_active(const struct jobs *jobs, const char *id);
/* After the commit of a cancellation. */
void jobs_stop_active(struct jobs *jobs, const char *id);
/* A fatal error, told once. */
void jobs_fail(struct jobs *jobs, int r);
/* Tries again in a second what the disk or memory had no room for. */
void jobs_retry_later(struct jobs *jobs);
void jobs_remove_active(struct active *a); /* frees it */
void jobs_abort_all(struct jobs *jobs);
/* New steps are progress: what failed before did not fail because of this job. */
int jobs_clear_failures(struct active *a, struct problem *p);

/* ---- tell.c ---- */
/* Takes the event, to be told after those it already holds. */
void jobs_hold_event(struct active *a, struct run_event *event);
/* Appends to the log, in order, what the open batch does not have. true: it has all. false: no
 * room, tried again later; or a fatal error, told. */
bool jobs_tell_events(struct active *a);
void jobs_forget_events(struct active *a);

/* ---- end.c ---- */
/* Writes down how an attempt has ended; tried again later when there is no room for it. */
void jobs_try_end(struct active *a);

/* ---- recover.c ---- */
/* Brings back what a crash interrupted, sweeps, fills the line. */
int jobs_recover(struct jobs *jobs, struct problem *p);

/* ---- files.c ---- */
/* Removes secret and checkpoints of a job that has ended. */
void jobs_wipe(struct jobs *jobs, const char *id);
/* Removes a deleted job's folder. */
void jobs_remove_files(struct jobs *jobs, const char *id);
/* Does both for what a crash has kept from being removed. 0 or an error of the store. */
int jobs_sweep(struct jobs *jobs, struct problem *p);

/* ---- view.c ---- */
int jobs_answer_row(struct jobs *jobs, enum store_side side, const struct job_row *row,
                    struct answer *answer, struct problem *p);
int jobs_answer_plan(struct jobs *jobs, const struct job_spec *spec,
                     const struct dataset_record *dataset, const struct plan *plan,
                     struct answer *answer, struct problem *p);

/* True when steps of this job are paid from a dataset's budget. */
static inline bool job_is_charged(const struct plan *plan, const struct dataset_spec *dataset)
{
    return plan->is_private && dataset->budget != NULL;
}

#endif
