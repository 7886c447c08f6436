#include "job/row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "job/state.h"

/* ---- reading ---- */

static char *column_copy(sqlite3_stmt *stmt, int i)
{
    const char *text = (const char *)sqlite3_column_text(stmt, i);
    return text ? strdup(text) : NULL;
}

static double column_real(sqlite3_stmt *stmt, int i)
{
    return sqlite3_column_type(stmt, i) == SQLITE_NULL ? NAN : sqlite3_column_double(stmt, i);
}

static int64_t column_time(sqlite3_stmt *stmt, int i)
{
    return sqlite3_column_type(stmt, i) == SQLITE_NULL ? -1 : sqlite3_column_int64(stmt, i);
}

void job_row_clear(struct job_row *row)
{
    free(row->id);
    free(row->owner);
    free(row->dataset);
    free(row->spec);
    free(row->name);
    *row = (struct job_row){ 0 };
}

int job_row_read(sqlite3_stmt *stmt, struct job_row *row, struct problem *p)
{
    *row = (struct job_row){
        .num = sqlite3_column_int64(stmt, 0),
        .id = column_copy(stmt, 1),
        .owner = column_copy(stmt, 2),
        .name = column_copy(stmt, 3),
        .dataset = column_copy(stmt, 4),
        .spec = column_copy(stmt, 5),
        .status = (enum job_status)sqlite3_column_int(stmt, 6),
        .reason = (enum job_reason)sqlite3_column_int(stmt, 7),
        .attempt = sqlite3_column_int64(stmt, 8),
        .failures = sqlite3_column_int64(stmt, 9),
        .priority = sqlite3_column_int64(stmt, 10),
        .steps = sqlite3_column_int64(stmt, 11),
        .sample_rate = sqlite3_column_double(stmt, 12),
        .noise_multiplier = column_real(stmt, 13),
        .delta = column_real(stmt, 14),
        .epsilon_at_end = column_real(stmt, 15),
        .created_at = sqlite3_column_int64(stmt, 16),
        .status_since = sqlite3_column_int64(stmt, 17),
        .started_at = column_time(stmt, 18),
        .finished_at = column_time(stmt, 19),
    };
    bool name = sqlite3_column_type(stmt, 3) != SQLITE_NULL;
    if (row->id && row->owner && row->dataset && row->spec && (row->name || !name))
        return 0;
    job_row_clear(row);
    return error_nomem(p);
}

int job_row_find(struct store *store, enum store_side side, const char *id, const char *viewer,
                 struct job_row *row, struct problem *p)
{
    *row = (struct job_row){ 0 };
    sqlite3_stmt *stmt =
        store_prepare(store, side,
                      "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?1"
                      " AND (?2 IS NULL OR owner = ?2)");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    if (viewer)
        sqlite3_bind_text(stmt, 2, viewer, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    int r = rc == SQLITE_ROW    ? job_row_read(stmt, row, p)
            : rc == SQLITE_DONE ? error_refuse(p, PROBLEM_NOT_FOUND, "no job has this id")
                                : store_result(store, rc, p);
    store_done(stmt);
    return r;
}

/* ---- writing ---- */

static int64_t now_ms(struct store *store)
{
    return store_env(store)->realtime_ms(store_env(store));
}

static int add_transition(struct store *store, struct stream *stream, const struct job_row *row,
                          enum job_status from, const char *actor, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "INSERT INTO transitions(job, from_status, to_status, reason, attempt, actor, at)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, (int)from);
    sqlite3_bind_int(stmt, 3, (int)row->status);
    sqlite3_bind_int(stmt, 4, (int)row->reason);
    sqlite3_bind_int64(stmt, 5, row->attempt);
    if (actor)
        sqlite3_bind_text(stmt, 6, actor, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 7, row->status_since);
    int r = store_run(store, stmt, p);
    struct event event;
    event_init(&event, EVENT_STATUS);
    event.status = (struct event_status){ from, row->status, row->reason, row->attempt };
    if (r == 0)
        r = stream_append(stream, row->id, &event, p);
    if (r || !job_status_terminal(row->status))
        return r;
    event_init(&event, EVENT_END);
    event.end = (struct event_end){ row->status, row->reason };
    return stream_append(stream, row->id, &event, p);
}

static int insert_row(struct store *store, const struct job_row *row, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "INSERT INTO jobs(id, owner, name, dataset, spec, status, priority, steps,"
                      " sample_rate, noise_multiplier, delta, epsilon_at_end, created_at,"
                      " status_since) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,"
                      " ?13, ?13)");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, row->owner, -1, SQLITE_STATIC);
    if (row->name)
        sqlite3_bind_text(stmt, 3, row->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 4, row->dataset, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 5, row->spec, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 6, (int)row->status);
    sqlite3_bind_int64(stmt, 7, row->priority);
    sqlite3_bind_int64(stmt, 8, row->steps);
    sqlite3_bind_double(stmt, 9, row->sample_rate);
    sqlite3_bind_double(stmt, 10, row->noise_multiplier); /* SQLite stores NaN as NULL */
    sqlite3_bind_double(stmt, 11, row->delta);
    sqlite3_bind_double(stmt, 12, row->epsilon_at_end);
    sqlite3_bind_int64(stmt, 13, row->created_at);
    return store_run(store, stmt, p);
}

int job_row_insert(struct store *store, struct stream *stream, struct job_row *row,
                   struct problem *p)
{
    row->status = JOB_STATUS_QUEUED;
    row->created_at = row->status_since = now_ms(store);
    row->started_at = row->finished_at = -1;
    int r = store_begin(store, p);
    if (r)
        return r;
    sqlite3_stmt *last = NULL;
    r = insert_row(store, row, p);
    if (r == 0 && !(last = store_prepare(store, STORE_WRITER, "SELECT last_insert_rowid()")))
        r = store_prepare_error(store, p);
    if (r == 0) {
        r = store_result(store, sqlite3_step(last), p);
        row->num = sqlite3_column_int64(last, 0);
        store_done(last);
    }
    if (r == 0)
        r = add_transition(store, stream, row, 0, row->owner, p);
    return store_end(store, r, p);
}

static int update_row(struct store *store, const struct job_row *row, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "UPDATE jobs SET status = ?2, reason = ?3, attempt = ?4, failures = ?5,"
                      " status_since = ?6, started_at = ?7, finished_at = ?8 WHERE id = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, (int)row->status);
    sqlite3_bind_int(stmt, 3, (int)row->reason);
    sqlite3_bind_int64(stmt, 4, row->attempt);
    sqlite3_bind_int64(stmt, 5, row->failures);
    sqlite3_bind_int64(stmt, 6, row->status_since);
    if (row->started_at >= 0)
        sqlite3_bind_int64(stmt, 7, row->started_at);
    if (row->finished_at >= 0)
        sqlite3_bind_int64(stmt, 8, row->finished_at);
    return store_run(store, stmt, p);
}

int job_row_move(struct store *store, struct stream *stream, struct job_row *row,
                 enum job_status to, enum job_reason reason, const char *actor,
                 struct problem *p)
{
    enum job_status from = row->status;
    if (!state_may_follow(from, to))
        return ERROR_INTERNAL;
    row->status = to;
    row->reason = reason;
    row->status_since = now_ms(store);
    if (to == JOB_STATUS_RUNNING && row->started_at < 0)
        row->started_at = row->status_since;
    if (job_status_terminal(to))
        row->finished_at = row->status_since;
    int r = store_begin(store, p);
    if (r)
        return r;
    r = update_row(store, row, p);
    if (r == 0)
        r = add_transition(store, stream, row, from, actor, p);
    return store_end(store, r, p);
}
