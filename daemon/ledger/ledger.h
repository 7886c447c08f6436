/* The privacy ledger: what has been reserved, leased and spent of every dataset's budget.
 *
 *   submit   reserve T steps  (worst case; in the change that creates the job)
 *   work     lease [a, b)     (durable before anything computed in it may leave)
 *   end      settle           (steps never leased are released; leased ones stay spent)
 *   outside  import           (spent from the start)
 *
 * Every function runs inside the caller's batch (store/store.h): it is durable once
 * store_on_commit() says so. Rows are append-only and hash-chained; budgets and accounts are
 * totals of them, and ledger_verify() derives them again.
 *
 * Functions return 0, ERROR_REFUSED with *p filled, one of enum ledger_error, or a fatal error.
 * Thread: the loop thread only. */
#ifndef DAEMON_LEDGER_LEDGER_H
#define DAEMON_LEDGER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/filter.h"
#include "proto/budget.h"
#include "store/store.h"

enum ledger_error {
    LEDGER_E_FENCED = 2,  /* a newer attempt of this job holds the leases, or it is settled */
    LEDGER_E_UNKNOWN = 3, /* no such budget or account */
    LEDGER_E_RANGE = 4    /* steps outside of the reservation, or a gap before them */
};

/* A new dataset's budget. ERROR_REFUSED with a validation problem when it is out of range. */
int ledger_open(struct store *store, const char *dataset, double epsilon, double delta,
                const char *actor, struct problem *p);

/* Reserves cost->steps steps for job. Over the budget: ERROR_REFUSED with PROBLEM_BUDGET_EXCEEDED
 * that says how many steps would still fit. A second reservation of a job is ERROR_INTERNAL. */
int ledger_reserve(struct store *store, const char *job, const char *dataset,
                   const struct filter_cost *cost, const char *actor, struct problem *p);

/* From now on leases of attempts below this one are refused. */
int ledger_fence(struct store *store, const char *job, int64_t attempt, struct problem *p);

/* Covers steps [from, to) of job. Steps that were leased before cost nothing again: they are run
 * again with the same noise and samples. from may not lie beyond what is leased. */
int ledger_lease(struct store *store, const char *job, int64_t attempt, int64_t from,
                 int64_t to, struct problem *p);

/* Ends the account: releases what was never leased. Idempotent. done: steps that were run. */
int ledger_settle(struct store *store, const char *job, int64_t attempt, int64_t done,
                  const char *actor, struct problem *p);

/* Raises the cap (never below what is committed), freezes or thaws; as asked in *change. */
int ledger_change(struct store *store, const char *dataset, const struct budget_change *change,
                  const char *actor, struct problem *p);

/* Counts what was released elsewhere as spent. Over the budget: ERROR_REFUSED with
 * PROBLEM_BUDGET_EXCEEDED that names the cap that would do; nothing is counted then, since the cap is
 * a promise about everything released: the custodian raises it first. Works while frozen. */
int ledger_import(struct store *store, const char *dataset, const struct ledger_import *import,
                  const char *actor, struct problem *p);

/* ---- reading ---- */
struct ledger_budget {
    struct filter filter;
    bool frozen;
    struct filter_rdp leased;    /* may have been released */
    struct filter_rdp committed; /* leased, and what open reservations may still lease */
    int64_t jobs;
};
int ledger_budget(struct store *store, enum store_side side, const char *dataset,
                  struct ledger_budget *budget, struct problem *p);

struct ledger_account {
    int64_t attempt, steps, leased;
    bool settled;
    struct filter_rdp step; /* cost of one */
};
int ledger_account(struct store *store, enum store_side side, const char *job,
                   struct ledger_account *account, struct problem *p);

/* Calls cb for the dataset's rows (NULL: all) with seq > after, at most limit of them; strings
 * live during the call. *morep: there are more. */
int ledger_rows(struct store *store, const char *dataset, int64_t after, int limit,
                int (*cb)(void *arg, const struct ledger_row *row), void *arg, bool *morep,
                struct problem *p);

/* Walks the chain from its first row: hashes, order of events, and every total derived again
 * from (sample_rate, noise_multiplier, steps) alone. ERROR_LEDGER with a sentence in
 * text[size] when something does not hold; ERROR_REFUSED when out of memory. *n_rowsp (may be
 * NULL) is the number of rows seen. */
int ledger_verify(struct store *store, int64_t *n_rowsp, char *text, size_t size);

#endif
