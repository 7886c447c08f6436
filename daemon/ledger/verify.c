#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ledger/ledger.h"
#include "ledger/row.h"

/* What the rows so far amount to, derived without looking at budgets or accounts. */
struct vbudget {
    struct filter filter;
    bool frozen;
    struct filter_rdp leased, committed;
};

struct vaccount {
    const char *dataset; /* the name of its vbudget */
    int64_t attempt, steps, leased;
    bool settled, released;
    struct filter_rdp step;
};

/* name -> what, open addressing */
struct ventry {
    char *name; /* NULL: free */
    void *what; /* malloc'ed */
};

struct vmap {
    struct ventry *entries;
    size_t n, cap; /* cap is a power of two */
};

struct verifier {
    struct store *store;
    struct vmap budgets, accounts;
    uint8_t tip[ROW_SHA];
    int64_t seq;
    char *text;
    size_t size;
};

static int complain(struct verifier *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int complain(struct verifier *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = snprintf(v->text, v->size, "ledger row %lld: ", (long long)v->seq);
    if (n > 0 && (size_t)n < v->size)
        vsnprintf(v->text + n, v->size - (size_t)n, fmt, args);
    va_end(args);
    return ERROR_LEDGER;
}

/* ---- the map ---- */

static size_t vmap_slot(const struct ventry *entries, size_t cap, const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    size_t at = h & (cap - 1);
    while (entries[at].name && strcmp(entries[at].name, name) != 0)
        at = (at + 1) & (cap - 1);
    return at;
}

static void *vmap_get(const struct vmap *map, const char *name)
{
    return map->cap ? map->entries[vmap_slot(map->entries, map->cap, name)].what : NULL;
}

static bool vmap_grow(struct vmap *map)
{
    size_t cap = map->cap ? 2 * map->cap : 64;
    struct ventry *entries = calloc(cap, sizeof *entries);
    if (!entries)
        return false;
    for (size_t i = 0; i < map->cap; i++)
        if (map->entries[i].name)
            entries[vmap_slot(entries, cap, map->entries[i].name)] = map->entries[i];
    free(map->entries);
    map->entries = entries;
    map->cap = cap;
    return true;
}

/* A new zeroed value of `size` bytes; NULL: out of memory. name must not be in the map. */
static void *vmap_put(struct vmap *map, const char *name, size_t size)
{
    if (4 * (map->n + 1) > 3 * map->cap && !vmap_grow(map))
        return NULL;
    char *copy = strdup(name);
    void *what = calloc(1, size);
    if (!copy || !what) {
        free(copy);
        free(what);
        return NULL;
    }
    map->entries[vmap_slot(map->entries, map->cap, name)] = (struct ventry){ copy, what };
    map->n++;
    return what;
}

static void vmap_clear(struct vmap *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        free(map->entries[i].name);
        free(map->entries[i].what);
    }
    free(map->entries);
}

/* ---- one row ---- */

static int check_open(struct verifier *v, const struct row *row)
{
    if (vmap_get(&v->budgets, row->pub.dataset))
        return complain(v, "dataset opened twice");
    if (!row->orders || !filter_valid(row->pub.epsilon, row->pub.delta))
        return complain(v, "budget out of range");
    struct vbudget *b = vmap_put(&v->budgets, row->pub.dataset, sizeof *b);
    if (!b)
        return ERROR_REFUSED;
    b->filter.epsilon = row->pub.epsilon;
    b->filter.delta = row->pub.delta;
    memcpy(b->filter.order, row->orders, sizeof b->filter.order);
    for (int j = 0; j < FILTER_K; j++)
        if (!(b->filter.order[j] > 1))
            return complain(v, "order out of range");
    filter_caps(&b->filter);
    return 0;
}

/* The recorded cost is what the mechanism costs, but for the last bits of another machine's
 * mathematical library. */
static bool same_cost(const struct filter_rdp *got, const struct filter_rdp *want)
{
    for (int j = 0; j < FILTER_K; j++) {
        if (got->at[j] == FILTER_INF || want->at[j] == FILTER_INF) {
            if (got->at[j] != want->at[j])
                return false;
            continue;
        }
        double diff = fabs((double)got->at[j] - (double)want->at[j]);
        if (diff > 2 + 1e-9 * (double)want->at[j])
            return false;
    }
    return true;
}

static int check_reserve(struct verifier *v, const struct row *row, struct vbudget *b)
{
    struct filter_rdp want;
    const struct ledger_row *pub = &row->pub;
    if (!pub->job || vmap_get(&v->accounts, pub->job))
        return complain(v, "reservation without a job, or its second one");
    if (b->frozen)
        return complain(v, "reservation while the budget was frozen");
    if (pub->steps < 0 || !pub->rdp ||
        filter_step(&b->filter, pub->sample_rate, pub->noise_multiplier, &want, NULL) < 0)
        return complain(v, "mechanism out of range");
    struct vaccount *a = vmap_put(&v->accounts, pub->job, sizeof *a);
    if (!a)
        return ERROR_REFUSED;
    memcpy(&a->step, pub->rdp, sizeof a->step);
    if (!same_cost(&a->step, &want))
        return complain(v, "the cost is not that of the mechanism");
    size_t at = vmap_slot(v->budgets.entries, v->budgets.cap, pub->dataset);
    a->dataset = v->budgets.entries[at].name;
    a->steps = pub->steps;
    b->committed = filter_add(&b->committed, &a->step, a->steps);
    if (!filter_holds(&b->filter, &b->committed))
        return complain(v, "admitted over the budget");
    return 0;
}

static int check_import(struct verifier *v, const struct row *row, struct vbudget *b)
{
    struct filter_rdp got, want;
    const struct ledger_row *pub = &row->pub;
    if (pub->steps < 0 || !pub->rdp ||
        (isnan(pub->epsilon)
             ? filter_step(&b->filter, pub->sample_rate, pub->noise_multiplier, &want, NULL)
             : filter_pure(&b->filter, pub->epsilon, &want, NULL)) < 0)
        return complain(v, "mechanism out of range");
    memcpy(&got, pub->rdp, sizeof got);
    if (!same_cost(&got, &want))
        return complain(v, "the cost is not that of the mechanism");
    b->leased = filter_add(&b->leased, &got, pub->steps);
    b->committed = filter_add(&b->committed, &got, pub->steps);
    if (!filter_holds(&b->filter, &b->committed))
        return complain(v, "imported over the budget");
    return 0;
}

static int check_lease(struct verifier *v, const struct row *row, struct vbudget *b,
                       struct vaccount *a)
{
    const struct ledger_row *pub = &row->pub;
    if (a->settled || pub->attempt < a->attempt)
        return complain(v, "lease of a settled job or of a stale attempt");
    if (pub->step_from != a->leased || pub->step_to <= pub->step_from ||
        pub->step_to > a->steps)
        return complain(v, "lease outside of the reservation");
    a->attempt = pub->attempt;
    b->leased = filter_add(&b->leased, &a->step, pub->step_to - pub->step_from);
    a->leased = pub->step_to;
    return 0;
}

static int check_end(struct verifier *v, const struct row *row, struct vbudget *b,
                     struct vaccount *a)
{
    const struct ledger_row *pub = &row->pub;
    if (pub->kind == LEDGER_SETTLE) {
        if (a->settled || pub->step_to != a->leased)
            return complain(v, "settled twice, or not what was leased");
        a->settled = true;
        return 0;
    }
    if (!a->settled || a->released || pub->step_from != a->leased || pub->step_to != a->steps)
        return complain(v, "release of steps that were leased, or its second one");
    a->released = true;
    b->committed = filter_sub(&b->committed, &a->step, a->steps - a->leased);
    return 0;
}

static int check_change(struct verifier *v, const struct row *row, struct vbudget *b)
{
    switch (row->pub.kind) {
    case LEDGER_FREEZE: b->frozen = true; return 0;
    case LEDGER_THAW: b->frozen = false; return 0;
    default: break;
    }
    if (!filter_valid(row->pub.epsilon, b->filter.delta) || row->pub.delta != b->filter.delta)
        return complain(v, "cap out of range");
    b->filter.epsilon = row->pub.epsilon;
    filter_caps(&b->filter);
    if (!filter_holds(&b->filter, &b->committed))
        return complain(v, "cap below what is committed");
    return 0;
}

static int check_kind(struct verifier *v, const struct row *row)
{
    if (row->pub.kind == LEDGER_OPEN)
        return check_open(v, row);
    struct vbudget *b = vmap_get(&v->budgets, row->pub.dataset);
    if (!b)
        return complain(v, "dataset was never opened");
    switch (row->pub.kind) {
    case LEDGER_RESERVE: return check_reserve(v, row, b);
    case LEDGER_IMPORT: return check_import(v, row, b);
    case LEDGER_RAISE_CAP:
    case LEDGER_FREEZE:
    case LEDGER_THAW: return check_change(v, row, b);
    default: break;
    }
    struct vaccount *a = row->pub.job ? vmap_get(&v->accounts, row->pub.job) : NULL;
    if (!a || strcmp(a->dataset, row->pub.dataset) != 0)
        return complain(v, "job has no reservation of this dataset");
    switch (row->pub.kind) {
    case LEDGER_LEASE: return check_lease(v, row, b, a);
    case LEDGER_SETTLE:
    case LEDGER_RELEASE: return check_end(v, row, b, a);
    default: return complain(v, "unknown kind");
    }
}

static int check_row(struct verifier *v, sqlite3_stmt *stmt)
{
    struct row row;
    uint8_t sha[ROW_SHA];
    int64_t before = v->seq;
    v->seq = sqlite3_column_int64(stmt, 0);
    if (!row_read(stmt, &row))
        return complain(v, "cannot be read");
    if (v->seq != before + 1)
        return complain(v, "rows before it are missing");
    row_hash(&row, sha);
    if (memcmp(row.prev, v->tip, ROW_SHA) != 0 || memcmp(row.sha, sha, ROW_SHA) != 0)
        return complain(v, "the hash chain is broken");
    memcpy(v->tip, sha, ROW_SHA);
    return check_kind(v, &row);
}

/* ---- the tables of totals ---- */

static int check_budgets(struct verifier *v, sqlite3_stmt *stmt, size_t *np)
{
    int rc;
    for (*np = 0; (rc = sqlite3_step(stmt)) == SQLITE_ROW; (*np)++) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        const struct vbudget *b = name ? vmap_get(&v->budgets, name) : NULL;
        const void *leased = sqlite3_column_blob(stmt, 4);
        const void *committed = sqlite3_column_blob(stmt, 5);
        if (!b || b->filter.epsilon != sqlite3_column_double(stmt, 1) ||
            b->filter.delta != sqlite3_column_double(stmt, 2) ||
            b->frozen != (sqlite3_column_int(stmt, 3) != 0) || !leased || !committed ||
            sqlite3_column_bytes(stmt, 4) != (int)sizeof b->leased ||
            sqlite3_column_bytes(stmt, 5) != (int)sizeof b->committed ||
            memcmp(leased, &b->leased, sizeof b->leased) != 0 ||
            memcmp(committed, &b->committed, sizeof b->committed) != 0)
            return complain(v, "(last) the totals of a dataset are not those of its rows");
    }
    return store_result(v->store, rc, NULL);
}

static int check_accounts(struct verifier *v, sqlite3_stmt *stmt, size_t *np)
{
    int rc;
    for (*np = 0; (rc = sqlite3_step(stmt)) == SQLITE_ROW; (*np)++) {
        const char *job = (const char *)sqlite3_column_text(stmt, 0);
        const struct vaccount *a = job ? vmap_get(&v->accounts, job) : NULL;
        if (!a || a->steps != sqlite3_column_int64(stmt, 1) ||
            a->leased != sqlite3_column_int64(stmt, 2) ||
            a->settled != (sqlite3_column_int(stmt, 3) != 0) ||
            a->released != (a->settled && a->leased < a->steps))
            return complain(v, "(last) the account of a job is not that of its rows");
    }
    return store_result(v->store, rc, NULL);
}

static int check_tables(struct verifier *v)
{
    size_t n_budgets = 0, n_accounts = 0;
    sqlite3_stmt *stmt = store_prepare(
        v->store, STORE_READER,
        "SELECT dataset, epsilon, delta, frozen, leased, committed FROM budgets");
    int r = stmt ? check_budgets(v, stmt, &n_budgets) : store_prepare_error(v->store, NULL);
    store_done(stmt);
    if (r)
        return r;
    stmt = store_prepare(v->store, STORE_READER,
                         "SELECT job, steps, leased, settled FROM accounts");
    r = stmt ? check_accounts(v, stmt, &n_accounts) : store_prepare_error(v->store, NULL);
    store_done(stmt);
    if (r == 0 && (n_budgets != v->budgets.n || n_accounts != v->accounts.n))
        return complain(v, "(last) a dataset or a job is missing from the totals");
    return r;
}

static int check_rows(struct verifier *v)
{
    sqlite3_stmt *stmt = store_prepare(v->store, STORE_READER,
                                       "SELECT " ROW_COLUMNS " FROM ledger ORDER BY seq");
    if (!stmt)
        return store_prepare_error(v->store, NULL);
    int r = 0, rc = SQLITE_DONE;
    while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
        r = check_row(v, stmt);
    store_done(stmt);
    return r ? r : store_result(v->store, rc, NULL);
}

int ledger_verify(struct store *store, int64_t *n_rowsp, char *text, size_t size)
{
    struct verifier v = { .store = store, .text = text, .size = size };
    if (size)
        text[0] = '\0';
    /* one snapshot for rows and totals */
    int r = store_run(store, store_prepare(store, STORE_READER, "BEGIN"), NULL);
    if (r == 0) {
        r = check_rows(&v);
        if (r == 0)
            r = check_tables(&v);
        int end = store_run(store, store_prepare(store, STORE_READER, "COMMIT"), NULL);
        r = r ? r : end;
    }
    if (n_rowsp)
        *n_rowsp = v.seq;
    vmap_clear(&v.budgets);
    vmap_clear(&v.accounts);
    return r;
}
