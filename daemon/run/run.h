/* One attempt of a job. */
#ifndef DAEMON_RUN_RUN_H
#define DAEMON_RUN_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/env.h"
#include "proto/dataset.h"
#include "proto/event.h"
#include "proto/model.h"
#include "psg/accountant.h"
#include "psg/train.h"

/* Everything an attempt needs. Borrowed by the run until its end was told. */
struct run_spec {
    const struct env *env;
    const char *id;
    int64_t attempt;
    int dir;          /* the job's own folder */
    const char *json; /* the job spec, written out as job.json */
    const struct dataset_spec *dataset;
    const char *dataset_id, *dataset_sha256;
    int data_root; /* -1: none */

    const struct weights_spec *weights; /* NULL: the program's own start */
    int upload_dir;                     /* where they are */

    const struct psg_program *program;
    struct psg_train_options options;
    int64_t steps, steps_per_epoch;
    int64_t leased; /* steps that earlier attempts may have released */
    bool is_private, poisson_sampling, audit;
    enum privacy_unit unit; /* what joins a batch */
    bool has_seed;
    uint64_t seed;                               /* public data only */
    double sample_rate, noise_multiplier, delta; /* of the statement */
    double accounting_delta; /* for the accountant: delta without what cut batches take */
    enum psg_accountant_kind accountant;
    enum telemetry_policy telemetry;
    int64_t eval_every; /* 0: at the end only */
    double checkpoint_every_s;
    double step_events_per_s; /* 0: every step */
};

enum run_end {
    RUN_DONE,      /* artifacts are written */
    RUN_CANCELLED, /* on request, between steps */
    RUN_DRAINED,   /* on request, with a checkpoint: to be continued */
    RUN_FENCED,    /* a newer attempt is at work */
    RUN_FAILED     /* see reason */
};

struct run_result {
    enum run_end end;
    enum job_reason reason;
    bool may_retry; /* another attempt could succeed */
    int64_t done;   /* steps whose results may have left */
};

enum run_lease { RUN_LEASE_GRANTED, RUN_LEASE_FENCED, RUN_LEASE_LATER };
enum run_stop { RUN_GO, RUN_STOP_DRAIN, RUN_STOP_CANCEL }; /* the larger one wins */

/* How an attempt talks to the daemon. Called from the worker only. */
struct run_port {
    /* Asks for steps [from, to) and waits until the lease is durable. LATER: no room on the
     * disk; ask again after a while. */
    enum run_lease (*lease)(struct run_port *port, int64_t from, int64_t to);
    /* Copies the event and sends it on; waits while many are on their way. */
    void (*event)(struct run_port *port, const struct event *event);
    enum run_stop (*stop)(struct run_port *port);
    /* Sleeps at most this long; returns early when asked to stop. */
    void (*wait)(struct run_port *port, int64_t ms);
};

/* Runs the attempt to its end on the calling thread. */
struct run_result attempt_run(const struct run_spec *spec, struct run_port *port);

/* ---- executors ---- */

enum { RUN_TEXT_SIZE = 160 };

/* An event on its way to the log. Its texts lie in `text`, cut to its size. */
struct run_event {
    struct run_event *next; /* for whoever holds it */
    struct event event;
    char text[2][RUN_TEXT_SIZE];
};

/* Called on the loop thread. */
struct run_hooks {
    /* Answer with run_grant(), now or later. */
    void (*lease)(void *arg, int64_t from, int64_t to);
    /* The event belongs to the owner until run_event_done(). */
    void (*event)(void *arg, struct run_event *event);
    /* The last call; the run is freed after it returns. */
    void (*end)(void *arg, const struct run_result *result);
};

struct run;

/* An executor starts runs somewhere and reports them on the loop thread. */
struct run_executor;

/* Worker threads of this process. NULL: out of memory. */
struct run_executor *run_thread_new(uv_loop_t *loop);
/* No run may be left. Its handle closes with the next turn of the loop. Takes NULL. */
void run_thread_free(struct run_executor *executor);

/* 0, or a negative errno; then there is no run and nothing is called. */
int run_start(struct run_executor *executor, const struct run_spec *spec,
              const struct run_hooks *hooks, void *arg, struct run **runp);
void run_grant(struct run *run, enum run_lease answer);
/* The event is durable, or nobody will ask for it; frees it. A worker waits while many are not
 * done. run: NULL after its end was told. */
void run_event_done(struct run *run, struct run_event *event);
/* Asks it to stop between steps. */
void run_stop(struct run *run, enum run_stop how);
/* For a process that ends after a fatal error: refuses every lease, waits for the worker and
 * forgets what it had to say. No hook is called. */
void run_abort(struct run *run);

/* ---- files of a job's folder ---- */

enum { RUN_SECRET_SIZE = 32 };
/* The job's key: read, or made when `create`. 0 or a negative errno (-ENOENT: it is gone). */
int run_secret(const struct env *env, int dir, bool create, struct psg_key *key);
/* Overwrites and removes the secret and the checkpoints; what is not there is fine. 0 or a
 * negative errno. */
int run_wipe(const struct env *env, int dir);

#endif
