/* The end of an attempt: one change that settles, tells of the artifacts and moves the job on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "ledger/ledger.h"

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
        jobs_retry_later(jobs);
        return;
    }
    if (job_status_terminal(a->row.status))
        jobs_wipe(jobs, a->row.id);
    else if (!queue_add(jobs, &a->row))
        jobs_fail(jobs, ERROR_INTERNAL); /* recovery at the next start brings it back */
    log_event(jobs->log, LOG_LEVEL_INFO, "job_end", LOG_TEXT("job", a->row.id),
              LOG_TEXT("status", job_status_name(a->row.status)),
              LOG_TEXT("reason", job_reason_name(a->row.reason)));
    jobs_remove_active(a);
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

void jobs_try_end(struct active *a)
{
    struct problem p;
    problem_init(&p);
    if (!jobs_tell_events(a))
        return;
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
        jobs_retry_later(a->jobs);
}
