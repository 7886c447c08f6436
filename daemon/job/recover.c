/* What the last run of the daemon has left: interrupted jobs, and files that should be gone. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "ledger/ledger.h"

/* Restarts without progress after which a job is held to be what brings the daemon down. */
enum { CRASHES_MAX = 30 };

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
    if (r == 0)
        r = jobs_sweep(jobs, p);
    return r ? r : fill_queue(jobs, p);
}
