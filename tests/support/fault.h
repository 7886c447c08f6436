/* A world that fails on demand: a SQLite file layer and a struct env that count every operation
 * which changes a file, and at the n-th one fail, or cut the power.
 *
 * A power cut keeps, of every file, what was synced, and of the writes since then a random
 * selection, some of them torn at a 512-byte boundary (of files that are not SQLite's, the
 * beginning of what was added); then the process ends with FAULT_EXIT. So run what is to be cut in
 * a child process. Threads may share the world. */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"

enum { FAULT_EXIT = 42 };

enum fault_mode {
    FAULT_NONE, /* count only */
    FAULT_ONCE, /* the n-th operation fails */
    FAULT_FROM, /* the n-th and all later ones fail */
    FAULT_FULL, /* from the n-th on, writes fail for lack of space; everything else works */
    FAULT_CUT,  /* the power goes off at the n-th operation */
    FAULT_CRASH /* the same, but the process goes on with files that fail, to close and reopen */
};

/* The environment. Its calendar stands still until fault_clock() moves it; its monotonic clock
 * goes on by a second each time it is asked. */
const struct env *fault_env(void);

/* Starts counting at 1 again; seed selects what a power cut keeps. */
void fault_arm(enum fault_mode mode, uint64_t n, uint64_t seed);
uint64_t fault_count(void); /* operations since fault_arm() */
bool fault_hit(void);       /* the n-th was reached */

/* From now on only the environment's operations count and fail, not SQLite's; or the other way
 * round. */
void fault_files_only(bool yes);
void fault_database_only(bool yes);

void fault_clock(int64_t add_ms);

/* Copies the database whose path ends in `from`, and its log, to `to` and `to`-wal, as they would lie
 * there if the power went off now and kept nothing that is not synced. Only with FAULT_CUT armed. */
void fault_copy_durable(const char *from, const char *to);

#endif
