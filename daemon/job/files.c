/* The folders of jobs: jobs/ID/ holds secret, checkpoints and artifacts. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"

static int open_folder(struct jobs *jobs, const char *id)
{
    return jobs->env->open(jobs->env, jobs->dir, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

void jobs_wipe(struct jobs *jobs, const char *id)
{
    int dir = open_folder(jobs, id);
    if (dir < 0)
        return; /* it never started */
    int r = run_wipe(jobs->env, dir);
    close(dir);
    if (r < 0)
        log_event(jobs->log, LOG_LEVEL_WARNING, "wipe_failed", LOG_TEXT("job", id),
                  LOG_TEXT("error", strerror(-r)));
}

/* What is called fn(arg, name) for each entry of the folder; dir stays the caller's. */
static int each_entry(int dir, void (*fn)(void *arg, const char *name), void *arg)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d) {
        int r = -errno;
        if (copy >= 0)
            close(copy);
        return r;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            fn(arg, e->d_name);
    closedir(d);
    return 0;
}

struct folder {
    const struct env *env;
    int dir;
};

static void remove_entry(void *arg, const char *name)
{
    const struct folder *folder = arg;
    folder->env->unlink(folder->env, folder->dir, name);
}

void jobs_remove_files(struct jobs *jobs, const char *id)
{
    struct folder folder = { jobs->env, open_folder(jobs, id) };
    if (folder.dir < 0)
        return;
    run_wipe(jobs->env, folder.dir);
    each_entry(folder.dir, remove_entry, &folder);
    close(folder.dir);
    unlinkat(jobs->dir, id, AT_REMOVEDIR);
}

/* ---- the sweep ---- */

static bool ends_in_tmp(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

static void find_left_over(void *arg, const char *name)
{
    bool *found = arg;
    *found |= strcmp(name, "secret") == 0 || strncmp(name, "checkpoint-", 11) == 0 ||
              ends_in_tmp(name);
}

static void remove_temporary(void *arg, const char *name)
{
    if (ends_in_tmp(name))
        remove_entry(arg, name);
}

/* A job that has ended keeps its artifacts and nothing else. */
static void sweep_ended(struct jobs *jobs, const char *id)
{
    struct folder folder = { jobs->env, open_folder(jobs, id) };
    bool found = false;
    if (folder.dir < 0)
        return;
    each_entry(folder.dir, find_left_over, &found);
    if (found) {
        jobs_wipe(jobs, id);
        each_entry(folder.dir, remove_temporary, &folder);
        log_event(jobs->log, LOG_LEVEL_NOTICE, "swept", LOG_TEXT("job", id));
    }
    close(folder.dir);
}

struct sweep {
    struct jobs *jobs;
    struct problem *p;
    int r;
};

static void sweep_one(void *arg, const char *id)
{
    struct sweep *sweep = arg;
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    if (sweep->r || strncmp(id, "job_", 4) != 0 || strlen(id) != JOBS_ID_SIZE - 1)
        return; /* not ours */
    sweep->r = job_row_find(sweep->jobs->store, STORE_READER, id, NULL, &row, sweep->p);
    if (sweep->r == 0 && job_status_terminal(row.status)) {
        sweep_ended(sweep->jobs, id);
    } else if (sweep->r == ERROR_REFUSED && sweep->p->code == PROBLEM_NOT_FOUND) {
        /* deleted, but the process ended before its files were */
        sweep->r = 0;
        jobs_remove_files(sweep->jobs, id);
        log_event(sweep->jobs->log, LOG_LEVEL_NOTICE, "swept", LOG_TEXT("job", id));
    }
}

int jobs_sweep(struct jobs *jobs, struct problem *p)
{
    struct sweep sweep = { jobs, p, 0 };
    int r = each_entry(jobs->dir, sweep_one, &sweep);
    if (r < 0)
        log_event(jobs->log, LOG_LEVEL_WARNING, "sweep_failed", LOG_TEXT("error", strerror(-r)));
    return sweep.r;
}

/* ---- uploads ---- */

bool jobs_need_upload(struct jobs *jobs, const char *digest)
{
    struct problem p;
    problem_init(&p);
    /* a digest is too long to stand in a spec by chance, and its text needs no escapes */
    sqlite3_stmt *stmt = store_prepare(jobs->store, STORE_WRITER,
                                       "SELECT 1 FROM jobs WHERE status BETWEEN ?2 AND ?3"
                                       " AND instr(spec, ?1) > 0 LIMIT 1");
    if (!stmt)
        return true;
    sqlite3_bind_text(stmt, 1, digest, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, JOB_STATUS_QUEUED);
    sqlite3_bind_int(stmt, 3, JOB_STATUS_CANCELLING);
    int rc = sqlite3_step(stmt);
    store_done(stmt);
    return rc != SQLITE_DONE;
}
