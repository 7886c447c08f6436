/* The daemon's durable state: one SQLite database in WAL mode with synchronous=FULL.
 *
 *   writes of one loop turn -> one transaction (the batch) -> commit + fsync -> callbacks
 *                                                              |
 *   reads through the reader connection  <---------------------+  only what is durable
 *
 * Rule for everybody: what a change answers may leave the daemon only from a callback given
 * to store_on_commit(). What is read through store_reader() may leave at once.
 *
 * Thread: the loop thread only. */
#ifndef DAEMON_STORE_STORE_H
#define DAEMON_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sqlite3.h>

#include "base/env.h"
#include "base/error.h"

struct store;

/* Opens or creates `path`, migrates its schema to this version. env must outlive the store.
 * 0, or a fatal error with a sentence in text[size]: a newer schema, a damaged file, no
 * permission, another daemon holding it. */
int store_open(struct store **storep, const struct env *env, const char *path, char *text,
               size_t size);
/* For programs that only look: no lock, no change of the file, reader statements only. Also while a
 * daemon holds it. A schema that is not this version's is refused. */
int store_open_reading(struct store **storep, const struct env *env, const char *path, char *text,
                       size_t size);
/* Commits nothing: an open batch is rolled back. Takes NULL, returns NULL. */
struct store *store_close(struct store *store);
void store_closep(struct store **storep);

const struct env *store_env(const struct store *store);

/* ---- the batch ---- */

/* Called with r = 0 after the commit that made everything so far durable; with ERROR_REFUSED
 * when the disk is full and all of the batch was rolled back (answer 507); with a fatal error
 * when it failed (then the process must end: answer nothing, or 500). */
typedef void (*store_commit_fn)(void *arg, int r);

/* Runs fn after the open batch is committed; at once, with r = 0, when there is none.
 * ERROR_REFUSED when out of memory: fn will not run. */
int store_on_commit(struct store *store, store_commit_fn fn, void *arg);

/* Runs fn(arg) whenever a first write opens a batch, so that the loop commits it when its
 * turn ends. store_attach() in store/loop.h does this for libuv; tests call store_commit().
 */
void store_on_dirty(struct store *store, void (*fn)(void *arg), void *arg);

/* Commits the open batch and runs the callbacks. 0, or a fatal error that sticks: from then
 * on every function of the store returns it. */
int store_commit(struct store *store);
bool store_is_dirty(const struct store *store);

/* The sticky fatal error, or 0. */
int store_failed(const struct store *store);

/* Totals since the start, for metrics: commits and the seconds spent in them. */
void store_stats(const struct store *store, uint64_t *commitsp, double *secondsp);

/* A change is a savepoint inside the batch: all of it or nothing of it.
 *
 *   r = store_begin(store, p);
 *   ...
 *   return store_end(store, r, p);    r != 0 rolls this change back and comes back
 * unchanged
 *
 * Changes nest. A change that is open when the batch is committed is a bug. */
int store_begin(struct store *store, struct problem *p);
int store_end(struct store *store, int r, struct problem *p);

/* ---- statements ---- */
enum store_side { STORE_WRITER, STORE_READER };

/* A prepared statement, cached by the address of its text (a string literal). NULL: see
 * store_prepare_error(). Give it back with store_done(), which resets it and clears its values. */
sqlite3_stmt *store_prepare(struct store *store, enum store_side side, const char *sql);
void store_done(sqlite3_stmt *stmt);
/* The class of what made the last store_prepare() answer NULL. */
int store_prepare_error(struct store *store, struct problem *p);
/* Runs a statement that answers no rows, then store_done(). NULL: store_prepare_error(). */
int store_run(struct store *store, sqlite3_stmt *stmt, struct problem *p);
/* The class of the last SQLite result: 0; refused with PROBLEM_DISK_FULL or OUT_OF_MEMORY;
 * or fatal (and sticky). rc is what sqlite3_step() or _prepare() answered. */
int store_result(struct store *store, int rc, struct problem *p);

#endif
