#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "job/noise.h"
#include "ledger/ledger.h"

enum { RETRY_MS = 1000 };

void jobs_fail(struct jobs *jobs, int r)
{
    if (jobs->failed)
        return;
    jobs->failed = true;
    log_event(jobs->log, LOG_LEVEL_ERROR, "fatal", LOG_TEXT("error", error_name(r)));
    if (jobs->on_fatal)
        jobs->on_fatal(jobs->fatal_arg, r);
}

/* ---- the list ---- */

struct active *jobs_find_active(const struct jobs *jobs, const char *id)
{
    struct active *a = jobs->active;
    while (a && strcmp(a->row.id, id) != 0)
        a = a->next;
    return a;
}

static void active_free(struct active *a)
{
    if (!a)
        return;
    if (a->run_spec.dir > 0)
        close(a->run_spec.dir);
    jobs_forget_events(a);
    plan_free(a->plan);
    job_spec_free(a->spec);
    dataset_record_clear(&a->dataset);
    job_row_clear(&a->row);
    free(a);
}

static void active_freep(struct active **ap)
{
    active_free(*ap);
}

void jobs_remove_active(struct active *a)
{
    struct jobs *jobs = a->jobs;
    struct active **at = &jobs->active;
    while (*at && *at != a)
        at = &(*at)->next;
    if (*at) {
        *at = a->next;
        jobs->n_active--;
    }
    active_free(a);
}

/* ---- files ---- */

static int open_job_dir(struct jobs *jobs, const char *id)
{
    return env_open_dir(jobs->env, jobs->dir, id);
}

static int count_artifacts(int dir)
{
    static const char *const names[] = { "audit.json", "model.safetensors",
                                         "adapter_model.safetensors", "metrics.csv",
                                         "privacy.json", "job.json" };
    int n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        n += faccessat(dir, names[i], F_OK, 0) == 0;
    return n;
}

/* ---- what the worker asks and tells; on the loop ---- */

static void lease_committed(void *arg, int r)
{
    struct active *a = arg;
    if (!a->run || r < 0)
        return; /* the process is ending: nothing more may be computed */
    run_grant(a->run, r == 0 ? RUN_LEASE_GRANTED : RUN_LEASE_LATER);
}

int jobs_clear_failures(struct active *a, struct problem *p)
{
    if (a->row.failures == 0)
        return 0;
    sqlite3_stmt *stmt = store_prepare(a->jobs->store, STORE_WRITER,
                                       "UPDATE jobs SET failures = 0 WHERE id = ?1");
    if (stmt)
        sqlite3_bind_text(stmt, 1, a->row.id, -1, SQLITE_STATIC);
    return store_run(a->jobs->store, stmt, p);
}

static int take_lease(struct active *a, int64_t from, int64_t to, struct problem *p)
{
    int r = store_begin(a->jobs->store, p);
    if (r)
        return r;
    r = ledger_lease(a->jobs->store, a->row.id, a->row.attempt, from, to, p);
    if (r == 0 && to > a->run_spec.leased)
        r = jobs_clear_failures(a, p);
    return store_end(a->jobs->store, r, p);
}

static void on_lease(void *arg, int64_t from, int64_t to)
{
    struct active *a = arg;
    struct problem p;
    problem_init(&p);
    if (!a->charged) {
        run_grant(a->run, RUN_LEASE_GRANTED);
        return;
    }
    int r = take_lease(a, from, to, &p);
    if (r == 0)
        r = store_on_commit(a->jobs->store, lease_committed, a);
    if (r == ERROR_REFUSED)
        run_grant(a->run, RUN_LEASE_LATER);
    else if (r > 0)
        run_grant(a->run, RUN_LEASE_FENCED);
    else if (r < 0)
        jobs_fail(a->jobs, r);
}

/* True when it is one more than any attempt has come to. */
static bool keep_artifact(struct active *a, const struct event_artifact *artifact)
{
    int i = 0;
    while (i < a->n_artifacts && strcmp(a->artifact_name[i], artifact->name) != 0)
        i++;
    if (i == (int)(sizeof a->artifact / sizeof *a->artifact))
        return false;
    snprintf(a->artifact_name[i], sizeof a->artifact_name[i], "%s", artifact->name);
    a->artifact[i] = (struct artifact_info){ .name = a->artifact_name[i],
                                             .bytes = artifact->bytes };
    snprintf(a->artifact[i].sha256, sizeof a->artifact[i].sha256, "%s", artifact->sha256);
    a->n_artifacts = i == a->n_artifacts ? i + 1 : a->n_artifacts;
    return a->n_artifacts > a->n_artifacts_before;
}

/* Room for this is not worth waiting for: without it one more crash counts. */
static void note_progress(struct active *a)
{
    struct problem p;
    int r = store_begin(a->jobs->store, &p);
    if (r == 0)
        r = store_end(a->jobs->store, jobs_clear_failures(a, &p), &p);
    if (r < 0)
        jobs_fail(a->jobs, r);
}

static void on_event(void *arg, struct run_event *told)
{
    struct active *a = arg;
    const struct event *event = &told->event;
    if (event->type == EVENT_ARTIFACT) { /* told together with the end */
        if (keep_artifact(a, &event->artifact) && a->row.failures > 0)
            note_progress(a);
        run_event_done(a->run, told);
        return;
    }
    if (event->type == EVENT_STEP) {
        a->jobs->n_steps++;
        a->last_step_ns = a->jobs->env->monotonic_ns(a->jobs->env);
    }
    jobs_hold_event(a, told);
    jobs_tell_events(a);
}

static void on_end(void *arg, const struct run_result *result)
{
    struct active *a = arg;
    a->run = NULL;
    a->ended = true;
    a->result = *result;
    jobs_try_end(a);
}

static const struct run_hooks hooks = { on_lease, on_event, on_end };

/* ---- starting ---- */

static int load_parts(struct active *a, struct problem *p)
{
    struct jobs *jobs = a->jobs;
    if (job_spec_decode(&a->spec, a->row.spec, strlen(a->row.spec), p))
        return p->code == PROBLEM_OUT_OF_MEMORY ? ERROR_REFUSED : ERROR_CORRUPT;
    int r = datasets_find(jobs->datasets, STORE_WRITER, a->row.dataset, &a->dataset, p);
    if (r)
        return r;
    /* what was reserved is what runs, whatever a newer calibration would answer */
    if (a->spec->privacy) {
        a->spec->privacy->target_epsilon = NAN;
        a->spec->privacy->noise_multiplier = a->row.noise_multiplier;
        a->spec->privacy->delta = a->row.delta;
    }
    int64_t share = jobs->n_active + jobs->n_waiting;
    share = share > jobs->config.max_running ? jobs->config.max_running : share;
    struct plan_limits limits;
    jobs_plan_limits(jobs, &limits);
    limits.memory_bytes = 0; /* it was accepted */
    if (share > 1)
        limits.n_threads = jobs->config.cores / (int)share;
    limits.n_threads = limits.n_threads < 1 ? 1 : limits.n_threads;
    r = plan_make(a->spec, a->dataset.spec, a->row.delta, &limits, &a->plan, p);
    if (r)
        return r;
    a->plan->compiled = psg_plan_free(a->plan->compiled); /* the attempt makes its own */
    a->charged = job_is_charged(a->plan, a->dataset.spec);
    return 0;
}

static int fill_run_spec(struct active *a, struct problem *p)
{
    struct jobs *jobs = a->jobs;
    struct ledger_account account = { .leased = 0 };
    int r = a->charged
                ? ledger_account(jobs->store, STORE_WRITER, a->row.id, &account, p)
                : 0;
    if (r)
        return r > ERROR_REFUSED ? ERROR_LEDGER : r;
    int dir = open_job_dir(jobs, a->row.id);
    if (dir < 0)
        return error_refuse(p, dir == -ENOSPC ? PROBLEM_DISK_FULL : PROBLEM_INTERNAL, NULL);
    a->n_artifacts_before = count_artifacts(dir);
    const struct plan *plan = a->plan;
    a->run_spec = (struct run_spec){
        .env = jobs->env,
        .id = a->row.id,
        .attempt = a->row.attempt,
        .dir = dir,
        .json = a->row.spec,
        .dataset = a->dataset.spec,
        .dataset_id = a->dataset.id,
        .dataset_sha256 = a->dataset.sha256,
        .data_root = datasets_root(jobs->datasets),
        .weights = a->spec->model.start.weights,
        .upload_dir = jobs->config.uploads ? uploads_dir(jobs->config.uploads) : -1,
        .program = plan->program,
        .options = plan->options,
        .steps = plan->steps,
        .steps_per_epoch = plan->steps_per_epoch,
        .leased = a->charged ? account.leased : a->row.attempt > 1 ? plan->steps : 0,
        .is_private = plan->is_private,
        .poisson_sampling = plan->options.poisson,
        .audit = a->spec->privacy && a->spec->privacy->audit,
        .unit = plan->unit,
        .has_seed = a->spec->seed >= 0,
        .seed = a->spec->seed >= 0 ? (uint64_t)a->spec->seed : 0,
        .sample_rate = plan->sample_rate,
        .noise_multiplier = plan->noise_multiplier,
        .delta = plan->delta,
        .accounting_delta =
            plan->delta * (plan->options.max_batch_size > 0 ? 1 - NOISE_CUT_SHARE : 1),
        .accountant = plan->accountant,
        .telemetry = plan->telemetry,
        .eval_every = a->spec->train.eval_every,
        .checkpoint_every_s = isnan(a->spec->train.checkpoint_every)
                                  ? jobs->config.checkpoint_every_s
                                  : a->spec->train.checkpoint_every,
        .step_events_per_s = jobs->config.step_events_per_s,
    };
    return 0;
}

/* The transition to `running`, with everything the attempt needs in memory. */
static int open_attempt(struct active *a, const char *id, struct problem *p)
{
    struct jobs *jobs = a->jobs;
    int r = job_row_find(jobs->store, STORE_WRITER, id, NULL, &a->row, p);
    if (r || a->row.status != JOB_STATUS_QUEUED)
        return r ? r : error_refuse(p, PROBLEM_STATE_CONFLICT, NULL);
    a->row.attempt++;
    r = load_parts(a, p);
    if (r == 0)
        r = fill_run_spec(a, p);
    if (r == 0 && a->charged)
        r = ledger_fence(jobs->store, id, a->row.attempt, p);
    if (r == 0)
        r = job_row_move(jobs->store, jobs->stream, &a->row, JOB_STATUS_RUNNING,
                         JOB_REASON_NONE, NULL, p);
    return r;
}

static void start_committed(void *arg, int r)
{
    struct active *a = arg;
    struct jobs *jobs = a->jobs;
    if (r < 0)
        return;
    if (r > 0) { /* still queued */
        if (!queue_add(jobs, &a->row))
            jobs_fail(jobs, ERROR_INTERNAL);
        jobs_remove_active(a);
        jobs_retry_later(jobs);
        return;
    }
    if (a->stop == RUN_GO)
        r = run_start(jobs->executor, &a->run_spec, &hooks, a, &a->run);
    if (r == 0 && a->run) {
        log_event(jobs->log, LOG_LEVEL_INFO, "job_start", LOG_TEXT("job", a->row.id),
                  LOG_INT("attempt", a->row.attempt));
        return;
    }
    a->ended = true;
    a->result = (struct run_result){
        .end = a->stop == RUN_STOP_CANCEL  ? RUN_CANCELLED
               : a->stop == RUN_STOP_DRAIN ? RUN_DRAINED
                                           : RUN_FAILED,
        .reason = a->stop == RUN_STOP_CANCEL  ? JOB_REASON_USER_CANCEL
                  : a->stop == RUN_STOP_DRAIN ? JOB_REASON_SERVER_RESTART
                                              : JOB_REASON_OOM,
        .may_retry = true,
    };
    jobs_try_end(a);
}

/* A queued job that can no longer be planned: its dataset or its model is not what it was. */
static int fail_queued(struct jobs *jobs, const char *id, const struct problem *why,
                       struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    struct ledger_account account;
    int r = job_row_find(jobs->store, STORE_WRITER, id, NULL, &row, p);
    if (r)
        return r;
    r = store_begin(jobs->store, p);
    if (r)
        return r;
    r = ledger_account(jobs->store, STORE_WRITER, id, &account, p);
    if (r == 0)
        r = ledger_settle(jobs->store, id, account.attempt, account.leased, NULL, p);
    r = r == LEDGER_E_UNKNOWN ? 0 : r;
    if (r == 0)
        r = job_row_move(jobs->store, jobs->stream, &row, JOB_STATUS_FAILED,
                         why->code == PROBLEM_NOT_FOUND ? JOB_REASON_DATASET_MISSING
                                                        : JOB_REASON_INTERNAL,
                         NULL, p);
    return store_end(jobs->store, r, p);
}

static bool is_passing(const struct problem *p)
{
    return p->code == PROBLEM_OUT_OF_MEMORY || p->code == PROBLEM_DISK_FULL ||
           p->code == PROBLEM_OVERLOADED;
}

/* false: nothing more can be started now */
static bool start_one(struct jobs *jobs, const char *id)
{
    struct problem p, q;
    problem_init(&p);
    _cleanup_(active_freep) struct active *a = calloc(1, sizeof *a);
    if (!a)
        return false;
    a->jobs = jobs;
    int r = store_begin(jobs->store, &p);
    if (r == 0)
        r = store_end(jobs->store, open_attempt(a, id, &p), &p);
    if (r == 0)
        r = store_on_commit(jobs->store, start_committed, a);
    if (r < 0) {
        jobs_fail(jobs, r);
        return false;
    }
    if (r > 0 && is_passing(&p)) {
        jobs_retry_later(jobs);
        return false;
    }
    if (r > 0 && p.code != PROBLEM_STATE_CONFLICT) {
        problem_init(&q);
        r = fail_queued(jobs, id, &p, &q);
        if (r < 0)
            jobs_fail(jobs, r);
        if (r > 0 && is_passing(&q)) {
            jobs_retry_later(jobs);
            return false;
        }
        jobs_wipe(jobs, id);
    }
    queue_remove(jobs, id);
    if (r != 0 || p.code != PROBLEM_NONE)
        return r == 0 || r == ERROR_REFUSED;
    a->next = jobs->active;
    jobs->active = steal(&a);
    jobs->n_active++;
    return true;
}

void jobs_schedule(struct jobs *jobs)
{
    while (jobs->executor && !jobs->draining && !jobs->failed &&
           jobs->n_active < jobs->config.max_running) {
        const struct waiting *w = queue_next(jobs);
        char id[JOBS_ID_SIZE];
        if (!w)
            return;
        memcpy(id, w->id, sizeof id);
        if (!start_one(jobs, id))
            return;
    }
}

void jobs_stop_active(struct jobs *jobs, const char *id)
{
    struct active *a = jobs_find_active(jobs, id);
    if (!a)
        return;
    a->stop = RUN_STOP_CANCEL;
    if (a->run)
        run_stop(a->run, RUN_STOP_CANCEL);
}

/* ---- what the disk had no room for ---- */

static void on_timer(uv_timer_t *timer)
{
    struct jobs *jobs = timer->data;
    for (struct active *a = jobs->active, *next; a; a = next) {
        next = a->next;
        if (a->ended)
            jobs_try_end(a);
        else
            jobs_tell_events(a);
    }
    jobs_schedule(jobs);
}

void jobs_retry_later(struct jobs *jobs)
{
    if (jobs->executor && !uv_is_active((uv_handle_t *)&jobs->timer))
        uv_timer_start(&jobs->timer, on_timer, RETRY_MS, 0);
}

void jobs_abort_all(struct jobs *jobs)
{
    while (jobs->active) {
        struct active *a = jobs->active;
        if (a->run)
            run_abort(a->run);
        a->run = NULL;
        jobs_remove_active(a);
    }
}
