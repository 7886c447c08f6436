#include "ledger/ledger.h"

#include <math.h>
#include <string.h>

#include "ledger/row.h"

/* ---- totals ---- */

static bool blob_into(sqlite3_stmt *stmt, int i, void *out, size_t size)
{
    const void *blob = sqlite3_column_blob(stmt, i);
    if (!blob || (size_t)sqlite3_column_bytes(stmt, i) != size)
        return false;
    memcpy(out, blob, size);
    return true;
}

static int budget_load(struct store *store, enum store_side side, const char *dataset,
                       struct ledger_budget *b, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, side,
                      "SELECT epsilon, delta, frozen, orders, leased, committed FROM budgets"
                      " WHERE dataset = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, dataset, -1, SQLITE_STATIC);
    *b = (struct ledger_budget){ 0 };
    int rc = sqlite3_step(stmt);
    int r = rc == SQLITE_DONE ? LEDGER_E_UNKNOWN : store_result(store, rc, p);
    if (rc == SQLITE_ROW) {
        b->filter.epsilon = sqlite3_column_double(stmt, 0);
        b->filter.delta = sqlite3_column_double(stmt, 1);
        b->frozen = sqlite3_column_int(stmt, 2) != 0;
        if (!blob_into(stmt, 3, b->filter.order, sizeof b->filter.order) ||
            !blob_into(stmt, 4, &b->leased, sizeof b->leased) ||
            !blob_into(stmt, 5, &b->committed, sizeof b->committed) ||
            !filter_valid(b->filter.epsilon, b->filter.delta))
            r = ERROR_LEDGER;
        else
            filter_caps(&b->filter);
    }
    store_done(stmt);
    return r;
}

static int budget_save(struct store *store, const char *dataset, const struct ledger_budget *b,
                       struct problem *p)
{
    for (int j = 0; j < FILTER_K; j++)
        if (b->leased.at[j] < 0 || b->committed.at[j] < b->leased.at[j])
            return ERROR_LEDGER;
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "UPDATE budgets SET epsilon = ?2, delta = ?3, frozen = ?4, leased = ?5,"
                      " committed = ?6 WHERE dataset = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, dataset, -1, SQLITE_STATIC);
    sqlite3_bind_double(stmt, 2, b->filter.epsilon);
    sqlite3_bind_double(stmt, 3, b->filter.delta);
    sqlite3_bind_int(stmt, 4, b->frozen);
    sqlite3_bind_blob(stmt, 5, &b->leased, sizeof b->leased, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 6, &b->committed, sizeof b->committed, SQLITE_STATIC);
    return store_run(store, stmt, p);
}

struct account {
    struct ledger_account pub;
    char dataset[256];
};

static int account_load(struct store *store, enum store_side side, const char *job,
                        struct account *a, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(
        store, side,
        "SELECT dataset, attempt, steps, leased, settled, rdp FROM accounts WHERE job = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    *a = (struct account){ 0 };
    int rc = sqlite3_step(stmt);
    int r = rc == SQLITE_DONE ? LEDGER_E_UNKNOWN : store_result(store, rc, p);
    if (rc == SQLITE_ROW) {
        const char *dataset = (const char *)sqlite3_column_text(stmt, 0);
        a->pub.attempt = sqlite3_column_int64(stmt, 1);
        a->pub.steps = sqlite3_column_int64(stmt, 2);
        a->pub.leased = sqlite3_column_int64(stmt, 3);
        a->pub.settled = sqlite3_column_int(stmt, 4) != 0;
        if (!dataset)
            r = error_nomem(p);
        else if (strlen(dataset) >= sizeof a->dataset ||
                 !blob_into(stmt, 5, &a->pub.step, sizeof a->pub.step))
            r = ERROR_LEDGER;
        else
            strcpy(a->dataset, dataset);
    }
    store_done(stmt);
    return r;
}

static int account_save(struct store *store, const char *job, const struct account *a,
                        struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "UPDATE accounts SET attempt = ?2, leased = ?3, settled = ?4 WHERE job = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, a->pub.attempt);
    sqlite3_bind_int64(stmt, 3, a->pub.leased);
    sqlite3_bind_int(stmt, 4, a->pub.settled);
    return store_run(store, stmt, p);
}

/* ---- open ---- */

static int open_rows(struct store *store, const char *dataset, const struct filter *f,
                     const char *actor, struct problem *p)
{
    struct row row;
    row_init(&row, LEDGER_OPEN, dataset);
    row.pub.epsilon = f->epsilon;
    row.pub.delta = f->delta;
    row.pub.actor = actor;
    row.orders = f->order;
    int r = row_append(store, &row, p);
    if (r)
        return r;
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "INSERT INTO budgets(dataset, epsilon, delta, orders, leased, committed)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?5)");
    if (!stmt)
        return store_prepare_error(store, p);
    static const struct filter_rdp zero = { { 0 } };
    sqlite3_bind_text(stmt, 1, dataset, -1, SQLITE_STATIC);
    sqlite3_bind_double(stmt, 2, f->epsilon);
    sqlite3_bind_double(stmt, 3, f->delta);
    sqlite3_bind_blob(stmt, 4, f->order, sizeof f->order, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 5, &zero, sizeof zero, SQLITE_STATIC);
    return store_run(store, stmt, p);
}

int ledger_open(struct store *store, const char *dataset, double epsilon, double delta,
                const char *actor, struct problem *p)
{
    if (!filter_valid(epsilon, delta)) {
        problem_invalid(p, "/budget", ITEM_OUT_OF_RANGE,
                        "epsilon must lie in (0, %g], delta in (0, 1)", FILTER_EPSILON_MAX);
        return ERROR_REFUSED;
    }
    struct filter f;
    filter_init(&f, epsilon, delta);
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, open_rows(store, dataset, &f, actor, p), p);
}

/* ---- reserve ---- */

static int refuse_budget(const struct ledger_budget *b, const struct filter_rdp *step,
                         int64_t steps, struct problem *p)
{
    static const struct filter_rdp zero = { { 0 } };
    struct filter_rdp alone = filter_add(&zero, step, steps);
    double spent = filter_epsilon(&b->filter, &b->committed);
    int64_t fit = filter_fit(&b->filter, &b->committed, step, steps);
    error_refuse(p, PROBLEM_BUDGET_EXCEEDED,
                 "%lld steps were asked for, %lld would still fit at this noise multiplier and "
                 "sample rate",
                 (long long)steps, (long long)fit);
    if (p) {
        double asked = filter_epsilon(&b->filter, &alone);
        p->requested_epsilon = isfinite(asked) ? asked : NAN;
        p->available_epsilon = fmax(0, b->filter.epsilon - spent);
        p->max_steps_that_fit = fit;
    }
    return ERROR_REFUSED;
}

static int account_insert(struct store *store, const char *job, const char *dataset,
                          const struct filter_cost *cost, const struct filter_rdp *step,
                          struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "INSERT INTO accounts(job, dataset, attempt, sample_rate, noise_multiplier,"
                      " steps, leased, rdp) VALUES(?1, ?2, 0, ?3, ?4, ?5, 0, ?6)");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, dataset, -1, SQLITE_STATIC);
    sqlite3_bind_double(stmt, 3, cost->sample_rate);
    sqlite3_bind_double(stmt, 4, cost->noise_multiplier);
    sqlite3_bind_int64(stmt, 5, cost->steps);
    sqlite3_bind_blob(stmt, 6, step, sizeof *step, SQLITE_STATIC);
    return store_run(store, stmt, p);
}

static int reserve(struct store *store, const char *job, const char *dataset,
                   const struct filter_cost *cost, const char *actor, struct problem *p)
{
    struct ledger_budget b;
    struct filter_rdp step;
    struct psg_error err;
    int r = budget_load(store, STORE_WRITER, dataset, &b, p);
    if (r)
        return r;
    if (b.frozen)
        return error_refuse(p, PROBLEM_BUDGET_EXCEEDED, "the dataset's budget is frozen");
    if (cost->steps < 0 || filter_step(&b.filter, cost->sample_rate, cost->noise_multiplier,
                                       &step, &err) < 0)
        return ERROR_INTERNAL; /* the plan has checked these numbers */
    struct filter_rdp total = filter_add(&b.committed, &step, cost->steps);
    if (!filter_holds(&b.filter, &total))
        return refuse_budget(&b, &step, cost->steps, p);

    struct row row;
    row_init(&row, LEDGER_RESERVE, dataset);
    row.pub.job = job;
    row.pub.sample_rate = cost->sample_rate;
    row.pub.noise_multiplier = cost->noise_multiplier;
    row.pub.steps = cost->steps;
    row.pub.rdp = step.at;
    row.pub.n_rdp = FILTER_K;
    row.pub.actor = actor;
    b.committed = total;
    r = row_append(store, &row, p);
    if (r == 0)
        r = account_insert(store, job, dataset, cost, &step, p);
    return r ? r : budget_save(store, dataset, &b, p);
}

int ledger_reserve(struct store *store, const char *job, const char *dataset,
                   const struct filter_cost *cost, const char *actor, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, reserve(store, job, dataset, cost, actor, p), p);
}

/* ---- lease ---- */

int ledger_fence(struct store *store, const char *job, int64_t attempt, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "UPDATE accounts SET attempt = max(attempt, ?2) WHERE job = ?1");
    if (stmt) {
        sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 2, attempt);
    }
    return store_end(store, store_run(store, stmt, p), p);
}

static int lease(struct store *store, const char *job, int64_t attempt, int64_t from,
                 int64_t to, struct problem *p)
{
    struct account a;
    int r = account_load(store, STORE_WRITER, job, &a, p);
    if (r)
        return r;
    if (a.pub.settled || attempt < a.pub.attempt)
        return LEDGER_E_FENCED;
    if (from < 0 || from > a.pub.leased || to < from || to > a.pub.steps)
        return LEDGER_E_RANGE;
    int64_t first = a.pub.leased;
    a.pub.attempt = attempt;
    if (to <= first) /* replayed: the same release again */
        return account_save(store, job, &a, p);

    struct ledger_budget b;
    r = budget_load(store, STORE_WRITER, a.dataset, &b, p);
    if (r)
        return r == LEDGER_E_UNKNOWN ? ERROR_LEDGER : r;
    struct row row;
    row_init(&row, LEDGER_LEASE, a.dataset);
    row.pub.job = job;
    row.pub.attempt = attempt;
    row.pub.step_from = first;
    row.pub.step_to = to;
    a.pub.leased = to;
    b.leased = filter_add(&b.leased, &a.pub.step, to - first);
    r = row_append(store, &row, p);
    if (r == 0)
        r = account_save(store, job, &a, p);
    return r ? r : budget_save(store, a.dataset, &b, p);
}

int ledger_lease(struct store *store, const char *job, int64_t attempt, int64_t from,
                 int64_t to, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, lease(store, job, attempt, from, to, p), p);
}

/* ---- settle ---- */

static int settle_rows(struct store *store, const char *job, const struct account *a,
                       int64_t attempt, int64_t done, const char *actor, struct problem *p)
{
    struct row row;
    row_init(&row, LEDGER_SETTLE, a->dataset);
    row.pub.job = job;
    row.pub.attempt = attempt;
    row.pub.step_from = 0;
    row.pub.step_to = a->pub.leased;
    row.pub.steps = done;
    row.pub.actor = actor;
    int r = row_append(store, &row, p);
    if (r || a->pub.leased == a->pub.steps)
        return r;
    row_init(&row, LEDGER_RELEASE, a->dataset);
    row.pub.job = job;
    row.pub.attempt = attempt;
    row.pub.step_from = a->pub.leased;
    row.pub.step_to = a->pub.steps;
    row.pub.actor = actor;
    return row_append(store, &row, p);
}

static int settle(struct store *store, const char *job, int64_t attempt, int64_t done,
                  const char *actor, struct problem *p)
{
    struct account a;
    struct ledger_budget b;
    int r = account_load(store, STORE_WRITER, job, &a, p);
    if (r || a.pub.settled)
        return r;
    if (attempt < a.pub.attempt)
        return LEDGER_E_FENCED;
    r = budget_load(store, STORE_WRITER, a.dataset, &b, p);
    if (r)
        return r == LEDGER_E_UNKNOWN ? ERROR_LEDGER : r;
    r = settle_rows(store, job, &a, attempt, done, actor, p);
    if (r)
        return r;
    b.committed = filter_sub(&b.committed, &a.pub.step, a.pub.steps - a.pub.leased);
    a.pub.settled = true;
    r = account_save(store, job, &a, p);
    return r ? r : budget_save(store, a.dataset, &b, p);
}

int ledger_settle(struct store *store, const char *job, int64_t attempt, int64_t done,
                  const char *actor, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, settle(store, job, attempt, done, actor, p), p);
}

/* ---- the custodian's changes ---- */

static int change_row(struct store *store, const char *dataset, enum ledger_kind kind,
                      const struct ledger_budget *b, const char *actor, const char *note,
                      struct problem *p)
{
    struct row row;
    row_init(&row, kind, dataset);
    if (kind == LEDGER_RAISE_CAP) {
        row.pub.epsilon = b->filter.epsilon;
        row.pub.delta = b->filter.delta;
    }
    row.pub.actor = actor;
    row.pub.note = note;
    return row_append(store, &row, p);
}

static int change_budget(struct store *store, const char *dataset,
                         const struct budget_change *change, const char *actor,
                         struct problem *p)
{
    struct ledger_budget b;
    int r = budget_load(store, STORE_WRITER, dataset, &b, p);
    if (r)
        return r;
    if (!isnan(change->epsilon) && change->epsilon != b.filter.epsilon) {
        if (!filter_valid(change->epsilon, b.filter.delta)) {
            problem_invalid(p, "/epsilon", ITEM_OUT_OF_RANGE, "must lie in (0, %g]",
                            FILTER_EPSILON_MAX);
            return ERROR_REFUSED;
        }
        b.filter.epsilon = change->epsilon;
        filter_caps(&b.filter);
        if (!filter_holds(&b.filter, &b.committed))
            return error_refuse(p, PROBLEM_STATE_CONFLICT,
                                "the cap cannot be lower than what is spent and reserved");
        r = change_row(store, dataset, LEDGER_RAISE_CAP, &b, actor, change->reason, p);
    }
    if (r == 0 && change->frozen >= 0 && b.frozen != (change->frozen == 1)) {
        b.frozen = change->frozen == 1;
        r = change_row(store, dataset, b.frozen ? LEDGER_FREEZE : LEDGER_THAW, &b, actor,
                       change->reason, p);
    }
    return r ? r : budget_save(store, dataset, &b, p);
}

int ledger_change(struct store *store, const char *dataset, const struct budget_change *change,
                  const char *actor, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, change_budget(store, dataset, change, actor, p), p);
}

/* ---- what was released elsewhere ---- */

static int import_one(struct store *store, const char *dataset, struct ledger_budget *b,
                      struct row *row, struct filter_rdp *step, struct problem *p)
{
    row->pub.dataset = dataset;
    row->pub.rdp = step->at;
    row->pub.n_rdp = FILTER_K;
    b->leased = filter_add(&b->leased, step, row->pub.steps);
    b->committed = filter_add(&b->committed, step, row->pub.steps);
    return row_append(store, row, p);
}

static int import_all(struct store *store, const char *dataset,
                      const struct ledger_import *import, const char *actor,
                      struct ledger_budget *b, struct problem *p)
{
    struct filter_rdp step;
    struct psg_error err;
    int r = 0;
    for (size_t i = 0; i < import->n_events && r == 0; i++) {
        const struct ledger_event *e = &import->events[i];
        struct row row;
        row_init(&row, LEDGER_IMPORT, dataset);
        row.pub.sample_rate = e->sample_rate;
        row.pub.noise_multiplier = e->noise_multiplier;
        row.pub.steps = e->steps;
        row.pub.actor = actor;
        row.pub.note = import->reason;
        r = filter_step(&b->filter, e->sample_rate, e->noise_multiplier, &step, &err) < 0
                ? error_from_psg(p, "/events", &err)
                : import_one(store, dataset, b, &row, &step, p);
    }
    if (r || isnan(import->epsilon))
        return r;
    struct row row;
    row_init(&row, LEDGER_IMPORT, dataset);
    row.pub.epsilon = import->epsilon;
    row.pub.delta = 0;
    row.pub.steps = 1;
    row.pub.actor = actor;
    row.pub.note = import->reason;
    return filter_pure(&b->filter, import->epsilon, &step, &err) < 0
               ? error_from_psg(p, "/epsilon", &err)
               : import_one(store, dataset, b, &row, &step, p);
}

static int import_budget(struct store *store, const char *dataset,
                         const struct ledger_import *import, const char *actor,
                         struct problem *p)
{
    struct ledger_budget b;
    int r = budget_load(store, STORE_WRITER, dataset, &b, p);
    if (r)
        return r;
    double before = filter_epsilon(&b.filter, &b.committed);
    r = import_all(store, dataset, import, actor, &b, p);
    if (r)
        return r;
    if (filter_holds(&b.filter, &b.committed))
        return budget_save(store, dataset, &b, p);
    double needed = filter_epsilon(&b.filter, &b.committed);
    if (isfinite(needed))
        error_refuse(p, PROBLEM_BUDGET_EXCEEDED,
                     "with it, what is spent and reserved needs a cap of epsilon %.6g; raise the "
                     "cap first, so that it stays true",
                     needed * (1 + 1e-5));
    else
        error_refuse(p, PROBLEM_BUDGET_EXCEEDED, "no epsilon holds for it");
    if (p) {
        p->requested_epsilon = isfinite(needed) ? needed - before : NAN;
        p->available_epsilon = fmax(0, b.filter.epsilon - before);
    }
    return ERROR_REFUSED;
}

int ledger_import(struct store *store, const char *dataset, const struct ledger_import *import,
                  const char *actor, struct problem *p)
{
    int r = store_begin(store, p);
    if (r)
        return r;
    return store_end(store, import_budget(store, dataset, import, actor, p), p);
}

/* ---- reading ---- */

int ledger_budget(struct store *store, enum store_side side, const char *dataset,
                  struct ledger_budget *budget, struct problem *p)
{
    int r = budget_load(store, side, dataset, budget, p);
    if (r)
        return r;
    sqlite3_stmt *stmt =
        store_prepare(store, side, "SELECT count(*) FROM accounts WHERE dataset = ?1");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, dataset, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    budget->jobs = sqlite3_column_int64(stmt, 0);
    store_done(stmt);
    return store_result(store, rc, p);
}

int ledger_account(struct store *store, enum store_side side, const char *job,
                   struct ledger_account *account, struct problem *p)
{
    struct account a;
    int r = account_load(store, side, job, &a, p);
    *account = a.pub;
    return r;
}

int ledger_rows(struct store *store, const char *dataset, int64_t after, int limit,
                int (*cb)(void *arg, const struct ledger_row *row), void *arg, bool *morep,
                struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_READER,
                      "SELECT " ROW_COLUMNS " FROM ledger WHERE seq > ?2 AND"
                      " (?1 IS NULL OR dataset = ?1) ORDER BY seq LIMIT ?3");
    if (!stmt)
        return store_prepare_error(store, p);
    if (dataset)
        sqlite3_bind_text(stmt, 1, dataset, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, after);
    sqlite3_bind_int64(stmt, 3, (int64_t)limit + 1);
    int n = 0, r = 0, rc = SQLITE_DONE;
    *morep = false;
    while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct row row;
        if (n++ == limit) {
            *morep = true;
            break;
        }
        r = row_read(stmt, &row) ? cb(arg, &row.pub) : ERROR_LEDGER;
    }
    if (r == 0)
        r = store_result(store, rc, p);
    store_done(stmt);
    return r;
}
