/* A job as a row of the store, and its transitions. */
#ifndef DAEMON_JOB_ROW_H
#define DAEMON_JOB_ROW_H

#include "proto/job.h"
#include "store/store.h"
#include "stream/stream.h"

struct job_row {
    int64_t num; /* order of submission */
    char *id, *owner, *dataset, *spec;
    char *name; /* NULL: none */
    enum job_status status;
    enum job_reason reason;
    int64_t attempt;
    int64_t failures; /* attempts that failed since the last progress */
    int64_t priority, steps;
    double sample_rate, noise_multiplier, delta, epsilon_at_end; /* NAN: none */
    int64_t created_at, status_since, started_at, finished_at;   /* -1: not yet */
};

#define JOB_COLUMNS                                                                            \
    "num, id, owner, name, dataset, spec, status, reason, attempt, failures, priority, "       \
    "steps, sample_rate, noise_multiplier, delta, epsilon_at_end, created_at, "                \
    "status_since, started_at, finished_at"

/* From a statement that selects JOB_COLUMNS. */
int job_row_read(sqlite3_stmt *stmt, struct job_row *row, struct problem *p);
void job_row_clear(struct job_row *row);

/* ERROR_REFUSED with PROBLEM_NOT_FOUND when there is none, or when it is not viewer's (NULL:
 * anybody's). */
int job_row_find(struct store *store, enum store_side side, const char *id, const char *viewer,
                 struct job_row *row, struct problem *p);
/* A new row in status `queued`, its transition and first event; sets num and times. */
int job_row_insert(struct store *store, struct stream *stream, struct job_row *row,
                   struct problem *p);
/* Moves the job along the table of state.h: row, transition, event, and the end event when `to`
 * is terminal. attempt and failures are stored as they stand in *row. ERROR_INTERNAL for a move
 * that the table forbids. */
int job_row_move(struct store *store, struct stream *stream, struct job_row *row,
                 enum job_status to, enum job_reason reason, const char *actor,
                 struct problem *p);

#endif
