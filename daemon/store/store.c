#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/schema.h"

enum { STORE_STMTS = 256, STORE_DEPTH = 6 };

struct waiter {
    store_commit_fn fn;
    void *arg;
};

struct cached {
    const char *sql;
    sqlite3_stmt *stmt;
};

struct store {
    const struct env *env;
    int lock_fd;
    sqlite3 *db[2];                      /* by enum store_side */
    struct cached stmts[2][STORE_STMTS]; /* open addressing by the text's address */
    int n_stmts[2];
    int last_rc; /* of the last store_prepare that answered NULL */

    bool dirty; /* a batch is open */
    bool lost;  /* SQLite rolled the batch back by itself */
    int depth;  /* open changes */
    int failed; /* sticky fatal error */
    struct waiter *waiters;
    size_t n_waiters, cap_waiters;
    void (*on_dirty)(void *arg);
    void *on_dirty_arg;
    uint64_t n_commits, commit_ns;
};

/* ---- classes of errors ---- */

static int fail(struct store *store, int r)
{
    if (!store->failed)
        store->failed = r;
    return store->failed;
}

int store_result(struct store *store, int rc, struct problem *p)
{
    if (store->failed)
        return store->failed;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_NOMEM: return error_nomem(p);
    case SQLITE_FULL: return error_refuse(p, PROBLEM_DISK_FULL, NULL);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return error_refuse(p, PROBLEM_OVERLOADED, NULL);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return fail(store, ERROR_CORRUPT);
    case SQLITE_IOERR:
        return rc == SQLITE_IOERR_NOMEM ? error_nomem(p) : fail(store, ERROR_STORE);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY: return fail(store, ERROR_STORE);
    }
    return fail(store, ERROR_INTERNAL);
}

int store_failed(const struct store *store)
{
    return store->failed;
}

/* ---- open and close ---- */

static int explain(char *text, size_t size, int r, const char *path, const char *why)
{
    snprintf(text, size, "%s: %s", path, why);
    return r;
}

/* One daemon per state folder: two writers would each believe that they know the budget. */
static int lock_database(struct store *store, const char *path, char *text, size_t size)
{
    char name[PATH_MAX];
    int n = snprintf(name, sizeof name, "%s.lock", path);
    if (n < 0 || (size_t)n >= sizeof name)
        return explain(text, size, ERROR_STORE, path, "the path is too long");
    store->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return explain(text, size, ERROR_STORE, name, strerror(errno));
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return explain(text, size, ERROR_STORE, path,
                       errno == EWOULDBLOCK ? "another daemon holds it" : strerror(errno));
    return 0;
}

static int open_side(struct store *store, enum store_side side, const char *path)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (side == STORE_WRITER)
        flags |= SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(path, &store->db[side], flags, store->env->vfs);
    if (rc != SQLITE_OK)
        return rc;
    static const char *const pragmas[2] = {
        [STORE_WRITER] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                         "PRAGMA foreign_keys=ON; PRAGMA cache_spill=OFF;"
                         "PRAGMA trusted_schema=OFF;",
        [STORE_READER] = "PRAGMA query_only=ON; PRAGMA trusted_schema=OFF;",
    };
    return sqlite3_exec(store->db[side], pragmas[side], NULL, NULL, NULL);
}

/* the file's own name must survive a power cut too */
static int sync_parent(const struct env *env, const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    int dir = env->open(env, AT_FDCWD, dirname(copy), O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return dir;
    int r = env->fsync(env, dir);
    close(dir);
    return r;
}

static int open_all(struct store *store, const char *path, char *text, size_t size)
{
    int r = lock_database(store, path, text, size);
    if (r)
        return r;
    int rc = open_side(store, STORE_WRITER, path);
    if (rc == SQLITE_OK)
        rc = schema_migrate(store->db[STORE_WRITER]);
    if (rc == SQLITE_OK)
        rc = open_side(store, STORE_READER, path);
    if (rc != SQLITE_OK)
        return explain(text, size, rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? ERROR_CORRUPT
                                                                               : ERROR_STORE,
                       path,
                       rc == SQLITE_SCHEMA ? "written by a newer version of this program"
                                           : sqlite3_errstr(rc));
    r = sync_parent(store->env, path);
    if (r < 0)
        return explain(text, size, ERROR_STORE, path, strerror(-r));
    return 0;
}

int store_open(struct store **storep, const struct env *env, const char *path, char *text,
               size_t size)
{
    _cleanup_(store_closep) struct store *store = calloc(1, sizeof *store);
    if (!store)
        return explain(text, size, ERROR_STORE, path, "out of memory");
    store->env = env;
    store->lock_fd = -1;
    int r = open_all(store, path, text, size);
    if (r)
        return r;
    *storep = steal(&store);
    return 0;
}

int store_open_reading(struct store **storep, const struct env *env, const char *path, char *text,
                       size_t size)
{
    _cleanup_(store_closep) struct store *store = calloc(1, sizeof *store);
    if (!store)
        return explain(text, size, ERROR_REFUSED, path, "out of memory");
    store->env = env;
    store->lock_fd = -1;
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &store->db[STORE_READER], flags, env->vfs);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(store->db[STORE_READER], "PRAGMA trusted_schema=OFF;", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = schema_check(store->db[STORE_READER]);
    if (rc != SQLITE_OK)
        return explain(text, size, rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? ERROR_CORRUPT
                                                                               : ERROR_STORE,
                       path,
                       rc == SQLITE_SCHEMA ? "is of another version, or no database of dpsgd"
                                           : sqlite3_errstr(rc));
    *storep = steal(&store);
    return 0;
}

struct store *store_close(struct store *store)
{
    if (!store)
        return NULL;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < STORE_STMTS; i++)
            sqlite3_finalize(store->stmts[side][i].stmt);
    sqlite3_close(store->db[STORE_READER]);
    sqlite3_close(store->db[STORE_WRITER]);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store->waiters);
    free(store);
    return NULL;
}

void store_closep(struct store **storep)
{
    *storep = store_close(*storep);
}

const struct env *store_env(const struct store *store)
{
    return store->env;
}

/* ---- statements ---- */

sqlite3_stmt *store_prepare(struct store *store, enum store_side side, const char *sql)
{
    struct cached *table = store->stmts[side];
    size_t at = ((uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15)) >> 56;
    while (table[at].sql && table[at].sql != sql)
        at = (at + 1) % STORE_STMTS;
    if (table[at].stmt)
        return table[at].stmt;
    if (store->n_stmts[side] >= STORE_STMTS - 1) {
        store->last_rc = SQLITE_TOOBIG; /* more texts than the table: a bug */
        return NULL;
    }
    int rc = sqlite3_prepare_v3(store->db[side], sql, -1, SQLITE_PREPARE_PERSISTENT,
                                &table[at].stmt, NULL);
    if (rc != SQLITE_OK) {
        store->last_rc = rc;
        return NULL;
    }
    table[at].sql = sql;
    store->n_stmts[side]++;
    return table[at].stmt;
}

void store_done(sqlite3_stmt *stmt)
{
    if (!stmt)
        return;
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

int store_prepare_error(struct store *store, struct problem *p)
{
    return store_result(store, store->last_rc, p);
}

int store_run(struct store *store, sqlite3_stmt *stmt, struct problem *p)
{
    if (!stmt)
        return store_prepare_error(store, p);
    int rc = sqlite3_step(stmt);
    store_done(stmt);
    return store_result(store, rc, p);
}

static int run_text(struct store *store, const char *sql, struct problem *p)
{
    return store_run(store, store_prepare(store, STORE_WRITER, sql), p);
}

/* ---- changes ---- */

static const char *const savepoint_sql[STORE_DEPTH] = {
    "SAVEPOINT c0", "SAVEPOINT c1", "SAVEPOINT c2", "SAVEPOINT c3", "SAVEPOINT c4", "SAVEPOINT c5",
};
static const char *const release_sql[STORE_DEPTH] = {
    "RELEASE c0", "RELEASE c1", "RELEASE c2", "RELEASE c3", "RELEASE c4", "RELEASE c5",
};
static const char *const rollback_sql[STORE_DEPTH] = {
    "ROLLBACK TO c0", "ROLLBACK TO c1", "ROLLBACK TO c2",
    "ROLLBACK TO c3", "ROLLBACK TO c4", "ROLLBACK TO c5",
};

static int open_batch(struct store *store, struct problem *p)
{
    int r = run_text(store, "BEGIN IMMEDIATE", p);
    if (r)
        return r;
    store->dirty = true;
    if (store->on_dirty)
        store->on_dirty(store->on_dirty_arg);
    return 0;
}

int store_begin(struct store *store, struct problem *p)
{
    if (store->failed)
        return store->failed;
    if (store->lost)
        return error_refuse(p, PROBLEM_DISK_FULL, NULL);
    if (store->depth == STORE_DEPTH)
        return fail(store, ERROR_INTERNAL);
    int r = store->dirty ? 0 : open_batch(store, p);
    if (r == 0)
        r = run_text(store, savepoint_sql[store->depth], p);
    if (r)
        return r;
    store->depth++;
    return 0;
}

/* SQLite ends the transaction by itself after some errors; then nothing of the batch is left */
static bool batch_is_lost(struct store *store)
{
    if (store->dirty && sqlite3_get_autocommit(store->db[STORE_WRITER]))
        store->lost = true;
    return store->lost;
}

int store_end(struct store *store, int r, struct problem *p)
{
    store->depth--;
    if (store->failed)
        return store->failed;
    if (batch_is_lost(store))
        return r ? r : error_refuse(p, PROBLEM_DISK_FULL, NULL);
    if (r) {
        int undo = run_text(store, rollback_sql[store->depth], NULL);
        if (undo == 0)
            undo = run_text(store, release_sql[store->depth], NULL);
        /* half a change cannot be allowed into the commit */
        return undo ? fail(store, ERROR_STORE) : r;
    }
    r = run_text(store, release_sql[store->depth], p);
    if (r > 0) {
        store->lost = true;
        run_text(store, "ROLLBACK", NULL);
    }
    return r;
}

/* ---- commit ---- */

int store_on_commit(struct store *store, store_commit_fn fn, void *arg)
{
    if (store->failed)
        return store->failed;
    if (!store->dirty) {
        fn(arg, 0);
        return 0;
    }
    if (store->n_waiters == store->cap_waiters) {
        size_t cap = store->cap_waiters ? 2 * store->cap_waiters : 16;
        struct waiter *more = reallocarray(store->waiters, cap, sizeof *more);
        if (!more)
            return ERROR_REFUSED;
        store->waiters = more;
        store->cap_waiters = cap;
    }
    store->waiters[store->n_waiters++] = (struct waiter){ fn, arg };
    return 0;
}

void store_on_dirty(struct store *store, void (*fn)(void *arg), void *arg)
{
    store->on_dirty = fn;
    store->on_dirty_arg = arg;
}

bool store_is_dirty(const struct store *store)
{
    return store->dirty;
}

static int commit_batch(struct store *store)
{
    if (store->failed)
        return store->failed;
    if (store->depth != 0)
        return fail(store, ERROR_INTERNAL);
    if (batch_is_lost(store))
        return ERROR_REFUSED;
    uint64_t start = store->env->monotonic_ns(store->env);
    int r = run_text(store, "COMMIT", NULL);
    store->commit_ns += store->env->monotonic_ns(store->env) - start;
    store->n_commits++;
    if (r <= 0)
        return r;
    /* No room on the disk, or no memory: nothing was committed. Anything else has failed. */
    if (!sqlite3_get_autocommit(store->db[STORE_WRITER]) && run_text(store, "ROLLBACK", NULL))
        return fail(store, ERROR_STORE);
    return r;
}

int store_commit(struct store *store)
{
    if (!store->dirty)
        return store->failed;
    int r = commit_batch(store);
    store->dirty = false;
    store->lost = false;
    /* a callback may open the next batch and wait for it */
    struct waiter *waiters = steal(&store->waiters);
    size_t n = store->n_waiters;
    store->n_waiters = store->cap_waiters = 0;
    for (size_t i = 0; i < n; i++)
        waiters[i].fn(waiters[i].arg, r);
    free(waiters);
    return store->failed;
}

void store_stats(const struct store *store, uint64_t *commitsp, double *secondsp)
{
    *commitsp = store->n_commits;
    *secondsp = (double)store->commit_ns * 1e-9;
}
