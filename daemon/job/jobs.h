/* Jobs as the HTTP layer sees them. jobs.c owns the queue, starts attempts through run/ and
 * keeps the state machine of state.h.
 *
 *   spec -> plan (pure) -> reserve + job row (one change) -> queued -> running -> terminal
 *
 * Functions return 0, ERROR_REFUSED with *p filled, or a fatal error. What a client is to
 * be told comes as a struct answer: proto's message, encoded already. After a change
 * (submit, cancel, delete) send it from store_on_commit() only.
 *
 * Owners: a principal's name. `viewer` arguments restrict what can be seen: NULL sees all;
 * otherwise jobs of other owners answer PROBLEM_NOT_FOUND.
 *
 * Thread: the loop thread only. */
#ifndef DAEMON_JOB_JOBS_H
#define DAEMON_JOB_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/answer.h"
#include "base/log.h"
#include "data/datasets.h"
#include "proto/job.h"
#include "store/store.h"
#include "stream/stream.h"
#include "upload/upload.h"

struct jobs;

/* "job_" and a ULID, with its NUL */
enum { JOBS_ID_SIZE = 31 };

struct jobs_config {
    struct uploads *uploads; /* files that jobs may name; outlives jobs; NULL: none */
    int cores;       /* threads for training, shared by the running jobs; >= 1 */
    int max_running; /* jobs at once; 0: none is started */
    uint64_t max_queued_per_owner; /* not yet terminal; 0: no limit */
    uint64_t memory_bytes;         /* one plan's limit; 0: no limit */
    double step_events_per_s;      /* 0: every step */
    double checkpoint_every_s;     /* for jobs that do not say; 0: after every step */
    const struct psg_registry *registry; /* of plugins, or NULL */
    const struct psg_devices *gpus;      /* or NULL; outlives jobs */
    int64_t idempotency_ms;        /* how long a key is remembered; 0: 24 hours */
};

/* state_dir holds jobs/ID/ with checkpoints, secret and artifacts. on_fatal(arg, r) runs at
 * most once, from the loop. */
int jobs_open(struct jobs **jobsp, struct store *store, struct stream *stream,
              struct datasets *datasets, int state_dir, const struct jobs_config *config,
              const struct log *log, char *text, size_t size);
/* Brings back what a crash interrupted, then starts the queue on loop. */
int jobs_start(struct jobs *jobs, uv_loop_t *loop, void (*on_fatal)(void *arg, int r),
               void *arg);
/* Takes NULL, returns NULL. After jobs_drain() has called back, or with no jobs_start(). */
struct jobs *jobs_close(struct jobs *jobs);
/* Changed limits take effect for what is started next. */
void jobs_reconfigure(struct jobs *jobs, const struct jobs_config *config);

/* ---- changes ---- */

/* key NULL: no Idempotency-Key. The same owner, key and fingerprint (of the body) answers
 * the first job again with replayed = true; another fingerprint is refused. */
struct jobs_submit {
    const char *owner;
    const char *key;
    uint8_t fingerprint[32];
    const struct job_spec *spec;
    const char *viewer;             /* whose uploads it may name; NULL: all */
    struct jobs_prepared *prepared; /* made of this spec, or NULL */
    char id[JOBS_ID_SIZE]; /* out: of the job, for Location */
    bool replayed;         /* out */
};

/* Planning a job that names files reads and examines them. That can be done beforehand on a thread:
 *
 *   jobs_prepare (loop) -> jobs_prepared_run (any thread) -> jobs_submit, jobs_dry_run (loop)
 *
 * spec must outlive *preparedp. What the plan refuses is told by jobs_submit. */
struct jobs_prepared;
bool jobs_names_files(const struct job_spec *spec);
int jobs_prepare(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                 struct jobs_prepared **preparedp, struct problem *p);
void jobs_prepared_run(struct jobs_prepared *prepared);
struct jobs_prepared *jobs_prepared_free(struct jobs_prepared *prepared); /* takes NULL */

int jobs_submit(struct jobs *jobs, struct jobs_submit *submit, struct answer *answer,
                struct problem *p);
/* Idempotent: a terminal job answers itself. */
int jobs_cancel(struct jobs *jobs, const char *id, const char *viewer,
                struct answer *answer, struct problem *p);
/* Terminal jobs only: row, events, files. Ledger rows stay. */
int jobs_delete(struct jobs *jobs, const char *id, const char *viewer, struct problem *p);

/* ---- reads ---- */

/* plan_view: what submit would do and cost; nothing is reserved. A budget that does not
 * suffice is part of the answer, not a refusal. prepared: made of this spec, or NULL. */
int jobs_dry_run(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                 struct jobs_prepared *prepared, struct answer *answer, struct problem *p);
/* job_view */
int jobs_get(struct jobs *jobs, const char *id, const char *viewer, struct answer *answer,
             struct problem *p);

struct jobs_filter {
    const char *status; /* "running"; NULL: any. Likewise: */
    const char *dataset, *owner;
    const char *after; /* id of the last job of the page before; NULL: the newest first */
    int limit;         /* 1 to 100 */
};

/* job_page */
int jobs_list(struct jobs *jobs, const struct jobs_filter *filter, struct answer *answer,
              struct problem *p);

/* queue_view: running jobs, then the waiting ones in the order in which they would start
 * now. Other owners are left out when viewer is not NULL. */
int jobs_queue(struct jobs *jobs, const char *viewer, int limit, struct answer *answer,
               struct problem *p);

struct jobs_counts {
    uint64_t by_status[JOB_STATUS_CANCELLED + 1];
    uint64_t steps;           /* since the daemon started */
    double oldest_step_age_s; /* of the running jobs; 0: none */
};
void jobs_count(struct jobs *jobs, struct jobs_counts *counts);

/* Whether a job that has not ended names this digest. True, too, when it cannot be told. */
bool jobs_need_upload(struct jobs *jobs, const char *digest);

/* ---- artifacts ---- */
/* artifact_page */
int jobs_artifacts(struct jobs *jobs, const char *id, const char *viewer,
                   struct answer *answer, struct problem *p);

struct jobs_file {
    int fd; /* the caller's to close */
    uint64_t size;
    char sha256[65];
    const char *media_type;
};
int jobs_artifact_open(struct jobs *jobs, const char *id, const char *viewer,
                       const char *name, struct jobs_file *file, struct problem *p);

/* ---- the end ---- */

/* Refuses new jobs from now on, stops the running ones between steps with a checkpoint
 * (they go back to `queued`), and calls done(arg) when no worker is left. */
void jobs_drain(struct jobs *jobs, void (*done)(void *arg), void *arg);

#endif
