/* A dataset's privacy budget, its change by the custodian, and the rows of its ledger. */
#ifndef PROTO_BUDGET_H
#define PROTO_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/problem.h"

/* Renyi totals of one order of the filter, as real numbers for people */
struct budget_order {
    double order;
    double cap; /* epsilon - log(k / delta) / (order - 1) */
    double spent;
    double leased;
    double reserved;
};

struct budget_view {
    const char *dataset; /* name; NULL inside a dataset */
    double epsilon;      /* the cap */
    double delta;
    double spent;     /* epsilon at delta of all settled and leased steps */
    double reserved;  /* epsilon that open reservations would add */
    double available; /* epsilon that is left */
    bool frozen;
    int64_t jobs; /* that have a reservation or a cost; -1: not told */
    size_t n_orders;
    struct budget_order *orders; /* NULL: not told */
};

/* PATCH /datasets/{id}/budget, strict */
struct budget_change {
    double epsilon;     /* new cap, never below what is spent; NAN: as it is */
    int64_t frozen;     /* 0 thaw, 1 freeze; -1: as it is */
    const char *reason; /* required, kept in the ledger */
};

/* steps of one subsampled Gaussian */
struct ledger_event {
    double sample_rate;
    double noise_multiplier;
    int64_t steps;
};

/* POST /datasets/{id}/ledger, strict: what was released of these data elsewhere */
struct ledger_import {
    size_t n_events;
    const struct ledger_event *events;
    double epsilon; /* of releases that are purely epsilon-private (delta 0); NAN: none */
    const char *reason; /* required, kept in the ledger */
};

enum ledger_kind {
    LEDGER_OPEN = 1,
    LEDGER_RESERVE,
    LEDGER_LEASE,
    LEDGER_SETTLE,
    LEDGER_RELEASE,
    LEDGER_RAISE_CAP,
    LEDGER_IMPORT,
    LEDGER_FREEZE,
    LEDGER_THAW
};

struct ledger_row {
    int64_t seq;
    int64_t at;
    const char *dataset;
    const char *job; /* NULL: none */
    int64_t attempt; /* -1: none */
    enum ledger_kind kind;
    int64_t step_from, step_to; /* -1: none */
    double sample_rate;         /* NAN: none; all numbers of the mechanism */
    double noise_multiplier;
    int64_t steps;
    double epsilon, delta; /* open, raise_cap, import */
    size_t n_rdp;
    const int64_t *rdp; /* by order of the filter, in units of 2^-40, rounded up */
    const char *actor;
    const char *note;
    const char *prev_sha256;
    const char *sha256;
};

struct ledger_page {
    size_t n_data;
    struct ledger_row *data;
    bool has_more;
};

void budget_view_init(struct budget_view *view);
int budget_view_decode(struct budget_view **p, const char *text, size_t len,
                       struct problem *problem);
char *budget_view_encode(const struct budget_view *view, size_t *lenp);
struct budget_view *budget_view_free(struct budget_view *view);
void budget_view_freep(struct budget_view **p);

int budget_change_decode(struct budget_change **p, const char *text, size_t len,
                         struct problem *problem);
char *budget_change_encode(const struct budget_change *change, size_t *lenp);
struct budget_change *budget_change_free(struct budget_change *change);
void budget_change_freep(struct budget_change **p);

int ledger_import_decode(struct ledger_import **p, const char *text, size_t len,
                         struct problem *problem);
char *ledger_import_encode(const struct ledger_import *import, size_t *lenp);
struct ledger_import *ledger_import_free(struct ledger_import *import);
void ledger_import_freep(struct ledger_import **p);

void ledger_row_init(struct ledger_row *row);
int ledger_page_decode(struct ledger_page **p, const char *text, size_t len,
                       struct problem *problem);
char *ledger_page_encode(const struct ledger_page *page, size_t *lenp);
struct ledger_page *ledger_page_free(struct ledger_page *page);
void ledger_page_freep(struct ledger_page **p);
char *ledger_row_encode(const struct ledger_row *row, size_t *lenp); /* one line */

const char *ledger_kind_name(enum ledger_kind kind);

#endif
