/* One row of the ledger: its bytes, its place in the chain, its reading and writing. Used by
 * ledger.c and verify.c only. */
#ifndef DAEMON_LEDGER_ROW_H
#define DAEMON_LEDGER_ROW_H

#include "ledger/filter.h"
#include "proto/budget.h"
#include "store/store.h"

enum { ROW_SHA = 32 };

struct row {
    struct ledger_row pub;
    const double *orders; /* [FILTER_K], kind open only; otherwise NULL */
    uint8_t prev[ROW_SHA], sha[ROW_SHA];
    char prev_hex[2 * ROW_SHA + 1], sha_hex[2 * ROW_SHA + 1];
    int64_t rdp[FILTER_K];
    double orders_copy[FILTER_K];
};

/* An empty row of this kind. */
void row_init(struct row *row, enum ledger_kind kind, const char *dataset);

/* SHA-256 of everything in the row but its own hash: a version tag, then each member in the
 * order of struct ledger_row, texts with their length before them, numbers little-endian, what is
 * absent as a length of 2^32 - 1, then the orders, then prev. */
void row_hash(const struct row *row, uint8_t sha[ROW_SHA]);

/* Numbers, times, links and stores the row. */
int row_append(struct store *store, struct row *row, struct problem *p);

#define ROW_COLUMNS                                                                            \
    "seq, at, kind, dataset, job, attempt, step_from, step_to, sample_rate, "                  \
    "noise_multiplier, steps, epsilon, delta, orders, rdp, actor, note, prev, sha"
/* Reads a row selected with ROW_COLUMNS; texts live until the next step. False: a blob has not
 * the size it must have, or memory ran out. *row must not move afterwards. */
bool row_read(sqlite3_stmt *stmt, struct row *row);

#endif
