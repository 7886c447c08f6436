#include "job/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "ledger/ledger.h"

static const int64_t a_day_ms = 86400000;

/* ---- open, start, close ---- */

static void jobs_closep(struct jobs **jobsp)
{
    *jobsp = jobs_close(*jobsp);
}

int jobs_open(struct jobs **jobsp, struct store *store, struct stream *stream,
              struct datasets *datasets, int state_dir, const struct jobs_config *config,
              const struct log *log, char *text, size_t size)
{
    _cleanup_(jobs_closep) struct jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs) {
        snprintf(text, size, "out of memory");
        return ERROR_REFUSED;
    }
    jobs->store = store;
    jobs->stream = stream;
    jobs->datasets = datasets;
    jobs->env = store_env(store);
    jobs->log = log;
    jobs->dir = env_open_dir(jobs->env, state_dir, "jobs");
    if (jobs->dir < 0) {
        snprintf(text, size, "jobs: %s", strerror(-jobs->dir));
        return ERROR_STORE;
    }
    jobs_reconfigure(jobs, config);
    *jobsp = steal(&jobs);
    return 0;
}

void jobs_reconfigure(struct jobs *jobs, const struct jobs_config *config)
{
    jobs->config = *config;
    if (jobs->config.cores < 1)
        jobs->config.cores = 1;
    if (jobs->config.max_running < 0)
        jobs->config.max_running = 0;
    if (jobs->config.idempotency_ms <= 0)
        jobs->config.idempotency_ms = a_day_ms;
    jobs_schedule(jobs);
}

int jobs_start(struct jobs *jobs, uv_loop_t *loop, void (*on_fatal)(void *arg, int r), void *arg)
{
    struct problem p;
    problem_init(&p);
    jobs->on_fatal = on_fatal;
    jobs->fatal_arg = arg;
    int r = jobs_recover(jobs, &p);
    if (r)
        return r;
    jobs->executor = run_thread_new(loop);
    if (!jobs->executor)
        return ERROR_REFUSED;
    uv_timer_init(loop, &jobs->timer);
    jobs->timer.data = jobs;
    jobs_schedule(jobs);
    return jobs->failed ? ERROR_STORE : 0;
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle->data); /* the timer lies in struct jobs */
}

struct jobs *jobs_close(struct jobs *jobs)
{
    if (!jobs)
        return NULL;
    jobs_abort_all(jobs);
    queue_clear(jobs);
    if (jobs->dir > 0)
        close(jobs->dir);
    if (!jobs->executor) {
        free(jobs);
        return NULL;
    }
    run_thread_free(jobs->executor);
    uv_close((uv_handle_t *)&jobs->timer, timer_closed);
    return NULL;
}

void jobs_drain(struct jobs *jobs, void (*done)(void *arg), void *arg)
{
    jobs->draining = true;
    for (struct active *a = jobs->active; a; a = a->next) {
        if (a->stop < RUN_STOP_DRAIN)
            a->stop = RUN_STOP_DRAIN;
        if (a->run)
            run_stop(a->run, a->stop);
    }
    if (!jobs->active) {
        done(arg);
        return;
    }
    jobs->drained = done;
    jobs->drained_arg = arg;
}

/* ---- submit ---- */

/* "job_" and 48 bits of time, 80 random bits in Crockford's alphabet: sorts by time, and tells
 * nothing about how many there are. */
static int make_id(struct jobs *jobs, char id[JOBS_ID_SIZE])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint8_t bytes[16];
    int64_t ms = jobs->env->realtime_ms(jobs->env);
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    int r = jobs->env->random(jobs->env, bytes + 6, sizeof bytes - 6);
    if (r < 0)
        return r;
    unsigned __int128 value = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        value = value << 8 | bytes[i];
    memcpy(id, "job_", 4);
    for (int i = 25; i >= 0; i--, value >>= 5)
        id[4 + i] = digits[value & 31];
    id[30] = '\0';
    return 0;
}

struct known {
    bool found;
    char id[JOBS_ID_SIZE];
    bool same;
};

static int find_key(struct jobs *jobs, const struct jobs_submit *submit, struct known *known,
                    struct problem *p)
{
    *known = (struct known){ .found = false };
    if (!submit->key)
        return 0;
    sqlite3_stmt *stmt = store_prepare(jobs->store, STORE_WRITER,
                                       "DELETE FROM idempotency WHERE created_at < ?1");
    if (stmt)
        sqlite3_bind_int64(stmt, 1, jobs->env->realtime_ms(jobs->env) -
                                        jobs->config.idempotency_ms);
    int r = store_run(jobs->store, stmt, p);
    if (r)
        return r;
    stmt = store_prepare(jobs->store, STORE_WRITER,
                         "SELECT job, fingerprint FROM idempotency WHERE owner = ?1 AND key = ?2");
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_text(stmt, 1, submit->owner, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, submit->key, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(stmt, 0);
        known->found = true;
        known->same = sqlite3_column_bytes(stmt, 1) == (int)sizeof submit->fingerprint &&
                      memcmp(sqlite3_column_blob(stmt, 1), submit->fingerprint,
                             sizeof submit->fingerprint) == 0;
        snprintf(known->id, sizeof known->id, "%s", id ? id : "");
    }
    store_done(stmt);
    return store_result(jobs->store, rc, p);
}

static int remember_key(struct jobs *jobs, const struct jobs_submit *submit, struct problem *p)
{
    if (!submit->key)
        return 0;
    sqlite3_stmt *stmt = store_prepare(
        jobs->store, STORE_WRITER,
        "INSERT INTO idempotency(owner, key, fingerprint, job, created_at)"
        " VALUES(?1, ?2, ?3, ?4, ?5)");
    if (stmt) {
        sqlite3_bind_text(stmt, 1, submit->owner, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, submit->key, -1, SQLITE_STATIC);
        sqlite3_bind_blob(stmt, 3, submit->fingerprint, sizeof submit->fingerprint,
                          SQLITE_STATIC);
        sqlite3_bind_text(stmt, 4, submit->id, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 5, jobs->env->realtime_ms(jobs->env));
    }
    return store_run(jobs->store, stmt, p);
}

static int answer_again(struct jobs *jobs, struct jobs_submit *submit, const struct known *known,
                        struct answer *answer, struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    if (!known->same)
        return error_refuse(p, PROBLEM_IDEMPOTENCY_KEY_REUSED, NULL);
    memcpy(submit->id, known->id, sizeof submit->id);
    submit->replayed = true;
    int r = job_row_find(jobs->store, STORE_WRITER, known->id, NULL, &row, p);
    if (r == ERROR_REFUSED && p->code == PROBLEM_NOT_FOUND)
        return error_refuse(p, PROBLEM_GONE, "the job of this Idempotency-Key was deleted");
    return r ? r : jobs_answer_row(jobs, STORE_WRITER, &row, answer, p);
}

static int check_owner(struct jobs *jobs, const char *owner, struct problem *p)
{
    if (jobs->config.max_queued_per_owner == 0)
        return 0;
    uint64_t n = 0;
    for (const struct waiting *w = jobs->waiting; w; w = w->next)
        n += strcmp(w->owner, owner) == 0;
    for (const struct active *a = jobs->active; a; a = a->next)
        n += strcmp(a->row.owner, owner) == 0;
    if (n < jobs->config.max_queued_per_owner)
        return 0;
    return error_refuse(p, PROBLEM_TOO_MANY_REQUESTS, "%llu jobs of this owner are not finished",
                        (unsigned long long)n);
}

static int insert_job(struct jobs *jobs, struct jobs_submit *submit, const struct plan *plan,
                      const struct dataset_record *dataset, struct job_row *row,
                      struct problem *p)
{
    size_t size = 0;
    const struct job_spec *spec = submit->spec;
    *row = (struct job_row){
        .id = strdup(submit->id),
        .owner = strdup(submit->owner),
        .name = spec->name ? strdup(spec->name) : NULL,
        .dataset = strdup(dataset->id),
        .spec = job_spec_encode(spec, &size),
        .priority = spec->priority,
        .steps = plan->steps,
        .sample_rate = plan->sample_rate,
        .noise_multiplier = plan->is_private ? plan->noise_multiplier : NAN,
        .delta = plan->delta,
        .epsilon_at_end = plan->epsilon,
    };
    if (!row->id || !row->owner || !row->dataset || !row->spec || (spec->name && !row->name))
        return error_nomem(p);
    int r = job_row_insert(jobs->store, jobs->stream, row, p);
    if (r == 0 && job_is_charged(plan, dataset->spec))
        r = ledger_reserve(jobs->store, row->id, dataset->id, &plan->cost, submit->owner, p);
    if (r == 0)
        r = remember_key(jobs, submit, p);
    return r;
}

static void submitted(void *arg, int r)
{
    struct jobs *jobs = arg;
    if (r == 0)
        jobs_schedule(jobs);
}

/* The line, the answer and the wake-up come with the row; what of them fails undoes it. */
static int enter(struct jobs *jobs, struct jobs_submit *submit, const struct plan *plan,
                 const struct dataset_record *dataset, struct answer *answer, struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    int r = store_begin(jobs->store, p);
    if (r)
        return r;
    bool in_line = false;
    r = insert_job(jobs, submit, plan, dataset, &row, p);
    if (r == 0) {
        in_line = queue_add(jobs, &row);
        r = in_line ? jobs_answer_row(jobs, STORE_WRITER, &row, answer, p) : error_nomem(p);
    }
    if (r == 0)
        r = store_on_commit(jobs->store, submitted, jobs) == 0 ? 0 : error_nomem(p);
    r = store_end(jobs->store, r, p);
    if (r && in_line)
        queue_remove(jobs, row.id);
    return r;
}

int jobs_submit(struct jobs *jobs, struct jobs_submit *submit, struct answer *answer,
                struct problem *p)
{
    _cleanup_(dataset_record_clear) struct dataset_record dataset = { 0 };
    _cleanup_(plan_freep) struct plan *plan = NULL;
    struct known known;
    *answer = (struct answer){ 0 };
    submit->replayed = false;
    int r = store_begin(jobs->store, p);
    if (r == 0)
        r = store_end(jobs->store, find_key(jobs, submit, &known, p), p);
    if (r)
        return r;
    if (known.found)
        return answer_again(jobs, submit, &known, answer, p);
    if (jobs->draining)
        return error_refuse(p, PROBLEM_DRAINING, NULL);
    r = check_owner(jobs, submit->owner, p);
    if (r == 0)
        r = jobs_plan(jobs, submit->spec, submit->viewer, STORE_WRITER, submit->prepared, &dataset,
                      &plan, p);
    if (r)
        return r;
    if (make_id(jobs, submit->id) < 0)
        return ERROR_INTERNAL;
    r = enter(jobs, submit, plan, &dataset, answer, p);
    if (r)
        answer_clear(answer);
    return r;
}

int jobs_dry_run(struct jobs *jobs, const struct job_spec *spec, const char *viewer,
                 struct jobs_prepared *prepared, struct answer *answer, struct problem *p)
{
    _cleanup_(dataset_record_clear) struct dataset_record dataset = { 0 };
    _cleanup_(plan_freep) struct plan *plan = NULL;
    *answer = (struct answer){ 0 };
    int r = jobs_plan(jobs, spec, viewer, STORE_READER, prepared, &dataset, &plan, p);
    return r ? r : jobs_answer_plan(jobs, spec, &dataset, plan, answer, p);
}

/* ---- cancel ---- */

struct stopping {
    struct jobs *jobs;
    char id[JOBS_ID_SIZE];
    bool was_queued;
};

static void cancel_committed(void *arg, int r)
{
    struct stopping *s = arg;
    if (r == 0 && s->was_queued) {
        queue_remove(s->jobs, s->id);
        jobs_wipe(s->jobs, s->id);
    } else if (r == 0) {
        jobs_stop_active(s->jobs, s->id);
    }
    free(s);
}

static int cancel_queued(struct jobs *jobs, struct job_row *row, struct problem *p)
{
    struct ledger_account account;
    int r = ledger_account(jobs->store, STORE_WRITER, row->id, &account, p);
    if (r == 0)
        r = ledger_settle(jobs->store, row->id, account.attempt, account.leased, NULL, p);
    if (r && r != LEDGER_E_UNKNOWN)
        return r > ERROR_REFUSED ? ERROR_LEDGER : r;
    return job_row_move(jobs->store, jobs->stream, row, JOB_STATUS_CANCELLED,
                        JOB_REASON_USER_CANCEL, NULL, p);
}

static int cancel_row(struct jobs *jobs, struct job_row *row, struct answer *answer,
                      struct problem *p)
{
    struct stopping *s = calloc(1, sizeof *s);
    if (!s)
        return error_nomem(p);
    s->jobs = jobs;
    s->was_queued = row->status != JOB_STATUS_RUNNING;
    snprintf(s->id, sizeof s->id, "%s", row->id);
    int r = s->was_queued ? cancel_queued(jobs, row, p)
                          : job_row_move(jobs->store, jobs->stream, row, JOB_STATUS_CANCELLING,
                                         JOB_REASON_USER_CANCEL, NULL, p);
    if (r == 0)
        r = jobs_answer_row(jobs, STORE_WRITER, row, answer, p);
    if (r == 0)
        r = store_on_commit(jobs->store, cancel_committed, s) == 0 ? 0 : error_nomem(p);
    if (r)
        free(s);
    return r;
}

int jobs_cancel(struct jobs *jobs, const char *id, const char *viewer, struct answer *answer,
                struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    *answer = (struct answer){ 0 };
    int r = job_row_find(jobs->store, STORE_WRITER, id, viewer, &row, p);
    if (r)
        return r;
    if (job_status_terminal(row.status) || row.status == JOB_STATUS_CANCELLING)
        return jobs_answer_row(jobs, STORE_WRITER, &row, answer, p);
    r = store_begin(jobs->store, p);
    if (r == 0)
        r = store_end(jobs->store, cancel_row(jobs, &row, answer, p), p);
    if (r)
        answer_clear(answer);
    return r;
}

/* ---- delete ---- */

static void delete_committed(void *arg, int r)
{
    struct stopping *s = arg;
    if (r == 0)
        jobs_remove_files(s->jobs, s->id);
    free(s);
}

static int delete_rows(struct jobs *jobs, const char *id, struct problem *p)
{
    static const char *const texts[] = { "DELETE FROM events WHERE job = ?1",
                                         "DELETE FROM artifacts WHERE job = ?1",
                                         "DELETE FROM transitions WHERE job = ?1",
                                         "DELETE FROM jobs WHERE id = ?1" };
    int r = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && r == 0; i++) {
        sqlite3_stmt *stmt = store_prepare(jobs->store, STORE_WRITER, texts[i]);
        if (stmt)
            sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
        r = store_run(jobs->store, stmt, p);
    }
    return r;
}

int jobs_delete(struct jobs *jobs, const char *id, const char *viewer, struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    int r = job_row_find(jobs->store, STORE_WRITER, id, viewer, &row, p);
    if (r)
        return r;
    if (!job_status_terminal(row.status))
        return error_refuse(p, PROBLEM_STATE_CONFLICT, "the job is %s: cancel it first",
                            job_status_name(row.status));
    struct stopping *s = calloc(1, sizeof *s);
    if (!s)
        return error_nomem(p);
    s->jobs = jobs;
    snprintf(s->id, sizeof s->id, "%s", id);
    r = store_begin(jobs->store, p);
    if (r == 0) {
        r = delete_rows(jobs, id, p);
        if (r == 0)
            r = store_on_commit(jobs->store, delete_committed, s) == 0 ? 0 : error_nomem(p);
        bool waits = r == 0;
        r = store_end(jobs->store, r, p);
        if (waits)
            return r;
    }
    free(s);
    return r;
}
