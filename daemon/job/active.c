#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "ledger/ledger.h"

/* Restarts without progress after which a job is held to be what brings the daemon down. */
enum { CRASHES_MAX = 30, RETRY_MS = 1000 };

static void try_end(struct active *a);

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

static void active_remove(struct active *a)
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

static void retry_later(struct jobs *jobs);

/* ---- files ---- */

static int open_job_dir(struct jobs *jobs, const char *id)
{
    return env_open_dir(jobs->env, jobs->dir, id);
}

void jobs_wipe(struct jobs *jobs, const char *id)
{
    int dir = jobs->env->open(jobs->env, jobs->dir, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (dir < 0)
        return; /* it never started */
    int r = run_wipe(jobs->env, dir);
    close(dir);
    if (r < 0)
        log_event(jobs->log, LOG_LEVEL_WARNING, "wipe_failed", LOG_TEXT("job", id),
                  LOG_TEXT("error", strerror(-r)));
}

/* ---- what the worker asks and tells; on the loop ---- */

static void lease_committed(void *arg, int r)
{
    struct active *a = arg;
    if (!a->run || r < 0)
        return; /* the process is ending: nothing more may be computed */
    run_grant(a->run, r == 0 ? RUN_LEASE_GRANTED : RUN_LEASE_LATER);
}

/* New steps are progress: what failed before did not fail because of this job. */
static int clear_failures(struct active *a, struct problem *p)
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
        r = clear_failures(a, p);
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

static void keep_artifact(struct active *a, const struct event_artifact *artifact)
{
    int i = 0;
    while (i < a->n_artifacts && strcmp(a->artifact_name[i], artifact->name) != 0)
        i++;
    if (i == (int)(sizeof a->artifact / sizeof *a->artifact))
        return;
    snprintf(a->artifact_name[i], sizeof a->artifact_name[i], "%s", artifact->name);
    a->artifact[i] = (struct artifact_info){ .name = a->artifact_name[i],
                                             .bytes = artifact->bytes };
    snprintf(a->artifact[i].sha256, sizeof a->artifact[i].sha256, "%s", artifact->sha256);
    a->n_artifacts = i == a->n_artifacts ? i + 1 : a->n_artifacts;
}

static void on_event(void *arg, struct event *event)
{
    struct active *a = arg;
    struct problem p;
    if (event->type == EVENT_ARTIFACT) {
        keep_artifact(a, &event->artifact); /* told together with the end */
        return;
    }
    if (event->type == EVENT_STEP) {
        a->jobs->n_steps++;
        a->last_step_ns = a->jobs->env->monotonic_ns(a->jobs->env);
    }
    int r = stream_append(a->jobs->stream, a->row.id, event, &p);
    if (r < 0)
        jobs_fail(a->jobs, r); /* refused: no room on the disk; the event is lost, no number is */
}

static void on_end(void *arg, const struct run_result *result)
{
    struct active *a = arg;
    a->run = NULL;
    a->ended = true;
    a->result = *result;
    try_end(a);
}

static const struct run_hooks hooks = { on_lease, on_event, on_end };

/* ---- the end of an attempt ---- */

static int add_artifact(struct active *a, const struct artifact_info *info, struct problem *p)
{
    static const struct {
        const char *suffix, *type;
    } types[] = { { ".json", "application/json" },
                  { ".csv", "text/csv" },
                  { ".safetensors", "application/octet-stream" } };
    const char *type = "application/octet-stream", *dot = strrchr(info->name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcmp(dot, types[i].suffix) == 0)
            type = types[i].type;
    sqlite3_stmt *stmt = store_prepare(
        a->jobs->store, STORE_WRITER,
        "INSERT OR REPLACE INTO artifacts(job, name, bytes, sha256, media_type, created_at)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
    if (stmt) {
        sqlite3_bind_text(stmt, 1, a->row.id, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, info->name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 3, info->bytes);
        sqlite3_bind_text(stmt, 4, info->sha256, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 5, type, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 6, a->jobs->env->realtime_ms(a->jobs->env));
    }
    int r = store_run(a->jobs->store, stmt, p);
    struct event event;
    event_init(&event, EVENT_ARTIFACT);
    event.artifact = (struct event_artifact){ info->name, info->bytes, info->sha256 };
    return r ? r : stream_append(a->jobs->stream, a->row.id, &event, p);
}

static enum job_status status_after(struct active *a)
{
    const struct run_result *result = &a->result;
    bool cancelling = a->row.status == JOB_STATUS_CANCELLING;
    switch (result->end) {
    case RUN_DONE: return JOB_STATUS_SUCCEEDED;
    case RUN_CANCELLED: return JOB_STATUS_CANCELLED;
    case RUN_DRAINED: return cancelling ? JOB_STATUS_CANCELLED : JOB_STATUS_QUEUED;
    case RUN_FENCED: return JOB_STATUS_FAILED;
    case RUN_FAILED: break;
    }
    if (cancelling)
        return JOB_STATUS_CANCELLED;
    a->row.failures++;
    bool again = result->may_retry && a->row.failures < a->spec->max_attempts;
    return again ? JOB_STATUS_QUEUED : JOB_STATUS_FAILED;
}

static enum job_reason reason_after(const struct active *a, enum job_status to)
{
    if (to == JOB_STATUS_CANCELLED)
        return JOB_REASON_USER_CANCEL;
    return a->result.reason ? a->result.reason : JOB_REASON_INTERNAL;
}

static int record_end(struct active *a, struct problem *p)
{
    struct jobs *jobs = a->jobs;
    enum job_status to = status_after(a);
    int r = 0;
    /* a cancelled attempt may have drained: running is left through cancelling */
    if (to == JOB_STATUS_CANCELLED && a->row.status == JOB_STATUS_RUNNING)
        r = job_row_move(jobs->store, jobs->stream, &a->row, JOB_STATUS_CANCELLING,
                         JOB_REASON_USER_CANCEL, NULL, p);
    for (int i = 0; i < a->n_artifacts && to == JOB_STATUS_SUCCEEDED && r == 0; i++)
        r = add_artifact(a, &a->artifact[i], p);
    if (r == 0 && a->charged && job_status_terminal(to))
        r = ledger_settle(jobs->store, a->row.id, a->row.attempt, a->result.done, NULL, p);
    if (r > ERROR_REFUSED)
        r = ERROR_LEDGER; /* the account of a running job cannot be missing or another's */
    if (r == 0)
        r = job_row_move(jobs->store, jobs->stream, &a->row, to, reason_after(a, to), NULL, p);
    return r;
}

static void end_committed(void *arg, int r)
{
    struct active *a = arg;
    struct jobs *jobs = a->jobs;
    if (r < 0)
        return;
    if (r > 0) {
        retry_later(jobs);
        return;
    }
    if (job_status_terminal(a->row.status))
        jobs_wipe(jobs, a->row.id);
    else if (!queue_add(jobs, &a->row))
        jobs_fail(jobs, ERROR_INTERNAL); /* recovery at the next start brings it back */
    log_event(jobs->log, LOG_LEVEL_INFO, "job_end", LOG_TEXT("job", a->row.id),
              LOG_TEXT("status", job_status_name(a->row.status)),
              LOG_TEXT("reason", job_reason_name(a->row.reason)));
    active_remove(a);
    jobs_schedule(jobs);
    if (jobs->draining && !jobs->active && jobs->drained) {
        void (*drained)(void *arg) = steal(&jobs->drained);
        drained(jobs->drained_arg);
    }
}

/* The row as the store has it: what a failed change has left in memory is forgotten. */
static int reload(struct active *a, struct problem *p)
{
    struct job_row row;
    int r = job_row_find(a->jobs->store, STORE_WRITER, a->row.id, NULL, &row, p);
    if (r)
        return r;
    job_row_clear(&a->row);
    a->row = row;
    return 0;
}

static void try_end(struct active *a)
{
    struct problem p;
    problem_init(&p);
    int r = reload(a, &p);
    if (r == 0)
        r = store_begin(a->jobs->store, &p);
    if (r == 0)
        r = store_end(a->jobs->store, record_end(a, &p), &p);
    if (r == 0)
        r = store_on_commit(a->jobs->store, end_committed, a);
    if (r < 0)
        jobs_fail(a->jobs, r);
    else if (r > 0)
        retry_later(a->jobs);
}

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
    struct plan_limits limits = {
        .n_threads = share > 1 ? jobs->config.cores / (int)share : jobs->config.cores
    };
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
        .program = plan->program,
        .options = plan->options,
        .steps = plan->steps,
        .steps_per_epoch = plan->steps_per_epoch,
        .leased = a->charged ? account.leased : a->row.attempt > 1 ? plan->steps : 0,
        .is_private = plan->is_private,
        .poisson_sampling = plan->options.poisson,
        .has_seed = a->spec->seed >= 0,
        .seed = a->spec->seed >= 0 ? (uint64_t)a->spec->seed : 0,
        .sample_rate = plan->sample_rate,
        .noise_multiplier = plan->noise_multiplier,
        .delta = plan->delta,
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
        active_remove(a);
        retry_later(jobs);
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
    try_end(a);
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
        retry_later(jobs);
        return false;
    }
    if (r > 0 && p.code != PROBLEM_STATE_CONFLICT) {
        problem_init(&q);
        r = fail_queued(jobs, id, &p, &q);
        if (r < 0)
            jobs_fail(jobs, r);
        if (r > 0 && is_passing(&q)) {
            retry_later(jobs);
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
            try_end(a);
    }
    jobs_schedule(jobs);
}

static void retry_later(struct jobs *jobs)
{
    if (jobs->executor && !uv_is_active((uv_handle_t *)&jobs->timer))
        uv_timer_start(&jobs->timer, on_timer, RETRY_MS, 0);
}

/* ---- recovery ---- */

static int recover_one(struct jobs *jobs, struct job_row *row, struct problem *p)
{
    struct ledger_account account;
    bool crashes = ++row->failures > CRASHES_MAX;
    bool ends = row->status == JOB_STATUS_CANCELLING || crashes;
    int r = 0;
    if (ends) {
        r = ledger_account(jobs->store, STORE_WRITER, row->id, &account, p);
        if (r == 0)
            r = ledger_settle(jobs->store, row->id, account.attempt, account.leased, NULL, p);
        r = r == LEDGER_E_UNKNOWN ? 0 : r;
    }
    if (r)
        return r > ERROR_REFUSED ? ERROR_LEDGER : r;
    enum job_status to = row->status == JOB_STATUS_CANCELLING ? JOB_STATUS_CANCELLED
                         : crashes                            ? JOB_STATUS_FAILED
                                                              : JOB_STATUS_QUEUED;
    enum job_reason reason = to == JOB_STATUS_CANCELLED ? JOB_REASON_USER_CANCEL
                             : to == JOB_STATUS_FAILED  ? JOB_REASON_WORKER_CRASH
                                                        : JOB_REASON_SERVER_RESTART;
    return job_row_move(jobs->store, jobs->stream, row, to, reason, NULL, p);
}

/* One row with this status after num, if there is one. */
static int next_with_status(struct jobs *jobs, enum job_status status, int64_t num,
                            struct job_row *row, bool *foundp, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(
        jobs->store, STORE_WRITER,
        "SELECT " JOB_COLUMNS " FROM jobs WHERE status = ?1 AND num > ?2 ORDER BY num LIMIT 1");
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_int(stmt, 1, (int)status);
    sqlite3_bind_int64(stmt, 2, num);
    int rc = sqlite3_step(stmt);
    *foundp = rc == SQLITE_ROW;
    int r = *foundp ? job_row_read(stmt, row, p) : store_result(jobs->store, rc, p);
    store_done(stmt);
    return r;
}

static int recover_status(struct jobs *jobs, enum job_status status, struct problem *p)
{
    bool found = true;
    int r = 0;
    for (int64_t num = 0; r == 0 && found;) {
        _cleanup_(job_row_clear) struct job_row row = { 0 };
        r = next_with_status(jobs, status, num, &row, &found, p);
        if (r || !found)
            break;
        num = row.num;
        r = store_begin(jobs->store, p);
        if (r == 0)
            r = store_end(jobs->store, recover_one(jobs, &row, p), p);
        if (r == 0 && job_status_terminal(row.status))
            jobs_wipe(jobs, row.id);
    }
    return r;
}

static int fill_queue(struct jobs *jobs, struct problem *p)
{
    bool found = true;
    int r = 0;
    for (int64_t num = 0; r == 0 && found;) {
        _cleanup_(job_row_clear) struct job_row row = { 0 };
        r = next_with_status(jobs, JOB_STATUS_QUEUED, num, &row, &found, p);
        if (r == 0 && found && !queue_add(jobs, &row))
            r = error_nomem(p);
        num = row.num;
    }
    return r;
}

int jobs_recover(struct jobs *jobs, struct problem *p)
{
    int r = recover_status(jobs, JOB_STATUS_RUNNING, p);
    if (r == 0)
        r = recover_status(jobs, JOB_STATUS_CANCELLING, p);
    if (r == 0)
        r = store_commit(jobs->store);
    return r ? r : fill_queue(jobs, p);
}

void jobs_abort_all(struct jobs *jobs)
{
    while (jobs->active) {
        struct active *a = jobs->active;
        if (a->run)
            run_abort(a->run);
        active_remove(a);
    }
}
