#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "ledger/ledger.h"
#include "suite.h"
#include "tmpdir.h"

static char db_path[128];
static struct store *store;
static struct problem p;

static void open_store(void)
{
    char text[256] = "";
    ck_assert_msg(store_open(&store, fault_env(), db_path, text, sizeof text) == 0, "%s", text);
}

/* the ledger refers to datasets; what they are does not matter here */
static int add_dataset(const char *id, double epsilon, double delta)
{
    static int serial;
    char sha[65];
    snprintf(sha, sizeof sha, "%064d", ++serial);
    sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER,
                                       "INSERT INTO datasets(id, sha256, spec, n_train, n_test,"
                                       " created_at) VALUES(?1, ?2, '{}', 1, 1, 0)");
    int r = store_begin(store, &p);
    if (r)
        return r;
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, 2, sha, -1, SQLITE_TRANSIENT);
    r = store_run(store, stmt, &p);
    if (r == 0)
        r = ledger_open(store, id, epsilon, delta, "root", &p);
    return store_end(store, r, &p);
}

static void setup(void)
{
    snprintf(db_path, sizeof db_path, "%s/state.db", tmpdir_new());
    open_store();
    ck_assert_int_eq(add_dataset("d", 8, 1e-5), 0);
}

static void teardown(void)
{
    fault_arm(FAULT_NONE, 0, 0);
    store = store_close(store);
}

static int reserve(const char *job, double q, double s, int64_t steps)
{
    struct filter_cost cost = { q, s, steps };
    return ledger_reserve(store, job, "d", &cost, "ada", &p);
}

static struct ledger_budget budget(void)
{
    struct ledger_budget b;
    ck_assert_int_eq(ledger_budget(store, STORE_WRITER, "d", &b, &p), 0);
    return b;
}

static void verify(void)
{
    char text[256];
    ck_assert_int_eq(store_commit(store), 0);
    int r = ledger_verify(store, NULL, text, sizeof text);
    ck_assert_msg(r == 0, "%d: %s", r, text);
}

/* ---- the filter ---- */

/* Renyi divergence of the subsampled Gaussian at an integer order, summed as Mironov, Talwar,
 * Zhang (2019) write it, without anything of the library's. */
static double rdp_integer(double q, double s, int a)
{
    double max = -INFINITY, term[256], sum = 0;
    if (q == 1)
        return a / (2 * s * s);
    for (int k = 0; k <= a; k++) {
        term[k] = lgamma(a + 1) - lgamma(k + 1) - lgamma(a - k + 1) + (a - k) * log1p(-q) +
                  k * log(q) + k * (k - 1.0) / (2 * s * s);
        max = fmax(max, term[k]);
    }
    for (int k = 0; k <= a; k++)
        sum += exp(term[k] - max);
    return (max + log(sum)) / (a - 1);
}

START_TEST(costs_are_rounded_up_and_caps_down)
{
    struct filter f;
    filter_init(&f, 8, 1e-5);
    static const double qs[] = { 0.001, 0.01, 0.1, 1 }, ss[] = { 0.6, 1.1, 4, 30 };
    for (int i = 0; i < 16; i++) {
        struct filter_rdp step;
        ck_assert_int_eq(filter_step(&f, qs[i / 4], ss[i % 4], &step, NULL), 0);
        for (int j = 0; j < FILTER_K; j++) {
            double exact = rdp_integer(qs[i / 4], ss[i % 4], (int)f.order[j]) * FILTER_UNIT;
            ck_assert_double_ge((double)step.at[j], exact * (1 - 1e-11));
            ck_assert_double_le((double)step.at[j], exact * (1 + 1e-8) + 2);
        }
    }
    for (int j = 0; j < FILTER_K; j++) {
        double cap = (8 - log(8 / 1e-5) / (f.order[j] - 1)) * FILTER_UNIT;
        ck_assert_double_le((double)f.cap[j], cap);
        /* 2^-20 of delta is kept for batches that are cut */
        ck_assert_double_ge((double)f.cap[j],
                            cap - (1e-10 + 0x1.00001p-20 / (f.order[j] - 1)) * FILTER_UNIT);
    }
}
END_TEST

START_TEST(costs_that_cannot_be_counted_are_infinite_for_ever)
{
    struct filter f;
    struct filter_rdp step, zero = { { 0 } };
    filter_init(&f, 1e6, 1e-5);
    ck_assert_int_eq(filter_step(&f, 0.5, 0, &step, NULL), 0);
    for (int j = 0; j < FILTER_K; j++)
        ck_assert(step.at[j] == FILTER_INF);
    struct filter_rdp sum = filter_add(&zero, &step, 3);
    ck_assert(!filter_holds(&f, &sum));
    ck_assert(isinf(filter_epsilon(&f, &sum)));
    sum = filter_sub(&sum, &step, 3);
    ck_assert(sum.at[0] == FILTER_INF);
    ck_assert_int_eq(filter_fit(&f, &zero, &step, 100), 0);
    struct filter_rdp none = filter_add(&zero, &step, 0);
    ck_assert(filter_equal(&none, &zero) && filter_holds(&f, &none));
    ck_assert(filter_epsilon(&f, &none) == 0);
    ck_assert_int_eq(filter_step(&f, 0.5, 1, &step, NULL), 0);
    sum = filter_add(&zero, &step, INT64_MAX);
    ck_assert(sum.at[0] == FILTER_INF);
    ck_assert_int_lt(filter_step(&f, 1.5, 1, &step, NULL), 0);
    ck_assert_int_lt(filter_step(&f, 0.5, NAN, &step, NULL), 0);
    ck_assert_int_eq(filter_step(&f, 0, 1, &step, NULL), 0);
    ck_assert(filter_equal(&step, &zero));
}
END_TEST

/* ---- the operations ---- */

START_TEST(a_refusal_says_how_many_steps_would_fit)
{
    ck_assert_int_eq(reserve("big", 0.05, 1.1, 100000), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_BUDGET_EXCEEDED);
    ck_assert_int_eq(p.status, 409);
    int64_t fit = p.max_steps_that_fit;
    ck_assert_int_gt(fit, 0);
    ck_assert(p.available_epsilon == 8 && p.requested_epsilon > 8);
    ck_assert_int_eq(reserve("one_more", 0.05, 1.1, fit + 1), ERROR_REFUSED);
    ck_assert_int_eq(reserve("fits", 0.05, 1.1, fit), 0);
    ck_assert_int_eq(reserve("late", 0.05, 1.1, 1), ERROR_REFUSED);
    ck_assert_int_eq(p.max_steps_that_fit, 0);
    verify();
}
END_TEST

START_TEST(steps_never_leased_come_back_and_leased_ones_do_not)
{
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 100), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, 30, &p), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 30, 40, &p), 0);
    struct ledger_account a;
    ck_assert_int_eq(ledger_account(store, STORE_WRITER, "j", &a, &p), 0);
    ck_assert(a.leased == 40 && a.steps == 100 && !a.settled && a.attempt == 1);
    ck_assert_int_eq(ledger_settle(store, "j", 1, 35, "ada", &p), 0);
    struct ledger_budget b = budget();
    struct filter_rdp zero = { { 0 } }, want = filter_add(&zero, &a.step, 40);
    ck_assert(filter_equal(&b.leased, &want) && filter_equal(&b.committed, &want));
    ck_assert_int_eq(ledger_settle(store, "j", 1, 35, "ada", &p), 0);
    b = budget();
    ck_assert(filter_equal(&b.committed, &want));
    ck_assert_int_eq(ledger_lease(store, "j", 1, 40, 50, &p), LEDGER_E_FENCED);
    verify();
}
END_TEST

START_TEST(stale_attempts_and_odd_ranges_get_no_lease)
{
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 100), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, 30, &p), 0);
    ck_assert_int_eq(ledger_fence(store, "j", 2, &p), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 30, 40, &p), LEDGER_E_FENCED);
    ck_assert_int_eq(ledger_settle(store, "j", 1, 30, "x", &p), LEDGER_E_FENCED);
    struct ledger_budget before = budget();
    /* the second attempt runs steps again that were leased: free */
    ck_assert_int_eq(ledger_lease(store, "j", 2, 10, 30, &p), 0);
    struct ledger_budget after = budget();
    ck_assert(filter_equal(&before.leased, &after.leased));
    ck_assert_int_eq(ledger_lease(store, "j", 2, 31, 40, &p), LEDGER_E_RANGE);
    ck_assert_int_eq(ledger_lease(store, "j", 2, 30, 101, &p), LEDGER_E_RANGE);
    ck_assert_int_eq(ledger_lease(store, "j", 2, -1, 5, &p), LEDGER_E_RANGE);
    ck_assert_int_eq(ledger_lease(store, "j", 2, 20, 10, &p), LEDGER_E_RANGE);
    ck_assert_int_eq(ledger_lease(store, "nobody", 2, 0, 1, &p), LEDGER_E_UNKNOWN);
    ck_assert_int_eq(ledger_lease(store, "j", 2, 25, 100, &p), 0);
    verify();
}
END_TEST

START_TEST(caps_rise_freeze_and_never_fall_below_what_is_committed)
{
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 300), 0);
    struct budget_change c = { .epsilon = 3, .frozen = -1, .reason = "less" };
    ck_assert_int_eq(ledger_change(store, "d", &c, "root", &p), ERROR_REFUSED);
    ck_assert_int_eq(p.status, 409);
    c = (struct budget_change){ .epsilon = 12, .frozen = 1, .reason = "agreed" };
    ck_assert_int_eq(ledger_change(store, "d", &c, "root", &p), 0);
    ck_assert_int_eq(reserve("k", 0.05, 1.1, 10), ERROR_REFUSED);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, 10, &p), 0);
    c = (struct budget_change){ .epsilon = NAN, .frozen = 0, .reason = "thaw" };
    ck_assert_int_eq(ledger_change(store, "d", &c, "root", &p), 0);
    ck_assert_int_eq(reserve("k", 0.05, 1.1, 10), 0);
    c = (struct budget_change){ .epsilon = 1e9, .frozen = -1, .reason = "typo" };
    ck_assert_int_eq(ledger_change(store, "d", &c, "root", &p), ERROR_REFUSED);
    ck_assert_int_eq(ledger_change(store, "nobody", &c, "root", &p), LEDGER_E_UNKNOWN);
    ck_assert(budget().filter.epsilon == 12);
    ck_assert_int_eq(budget().jobs, 2);
    verify();
}
END_TEST

START_TEST(a_second_reservation_of_a_job_is_a_bug)
{
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 10), 0);
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 10), ERROR_INTERNAL);
}
END_TEST

static int collect(void *arg, const struct ledger_row *row)
{
    int64_t *n = arg;
    ck_assert_int_gt(row->seq, *n);
    ck_assert_uint_eq(strlen(row->sha256), 64);
    *n = row->seq;
    return 0;
}

START_TEST(rows_come_in_pages)
{
    ck_assert_int_eq(add_dataset("other", 1, 1e-6), 0);
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 100), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ledger_lease(store, "j", 1, 10 * i, 10 * i + 10, &p), 0);
    ck_assert_int_eq(store_commit(store), 0);
    int64_t last = 0;
    bool more;
    ck_assert_int_eq(ledger_rows(store, "d", 0, 3, collect, &last, &more, &p), 0);
    ck_assert(more);
    ck_assert_int_eq(ledger_rows(store, "d", last, 4, collect, &last, &more, &p), 0);
    ck_assert(!more);
    ck_assert_int_eq(last, 8);
    last = 0;
    ck_assert_int_eq(ledger_rows(store, "other", 0, 3, collect, &last, &more, &p), 0);
    ck_assert_int_eq(last, 2);
}
END_TEST

/* ---- tampering ---- */

START_TEST(verify_finds_every_change_of_the_file)
{
    static const char *const attacks[] = {
        "UPDATE ledger SET noise_multiplier = 1.2 WHERE kind = 2",
        "UPDATE ledger SET step_to = 5 WHERE kind = 3",
        "UPDATE ledger SET dataset = 'e' WHERE seq = 2",
        "UPDATE ledger SET at = at + 1 WHERE seq = 2",
        "UPDATE ledger SET actor = 'eve' WHERE seq = 2",
        "DELETE FROM ledger WHERE seq = 3",
        "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)",
        "UPDATE ledger SET rdp = zeroblob(64) WHERE kind = 2",
        "UPDATE ledger SET sha = zeroblob(32) WHERE seq = 2",
        "UPDATE ledger SET orders = zeroblob(64) WHERE seq = 1",
        "UPDATE budgets SET leased = zeroblob(64)",
        "UPDATE budgets SET committed = zeroblob(64), leased = zeroblob(64)",
        "UPDATE budgets SET epsilon = 100",
        "UPDATE accounts SET leased = 0",
        "UPDATE accounts SET steps = 9999",
        "UPDATE accounts SET settled = 0",
        "DELETE FROM accounts",
    };
    ck_assert_int_eq(reserve("j", 0.05, 1.1, 100), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, 30, &p), 0);
    ck_assert_int_eq(ledger_settle(store, "j", 1, 30, "ada", &p), 0);
    verify();
    store = store_close(store);
    sqlite3 *db = NULL;
    char *why = NULL;
    ck_assert_int_eq(sqlite3_open(db_path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, attacks[_i], 0, 0, &why) == SQLITE_OK,
                     strstr(attacks[_i], "ledger") == NULL); /* the table itself refuses */
    sqlite3_free(why);
    sqlite3_exec(db, "DROP TRIGGER ledger_is_append_only_1;DROP TRIGGER ledger_is_append_only_2",
                 0, 0, 0);
    ck_assert_int_eq(sqlite3_exec(db, attacks[_i], 0, 0, 0), SQLITE_OK);
    ck_assert_int_gt(sqlite3_total_changes(db), 0);
    sqlite3_close(db);
    open_store();
    char text[256];
    ck_assert_msg(ledger_verify(store, NULL, text, sizeof text) == ERROR_LEDGER, "%s",
                  attacks[_i]);
    ck_assert_str_ne(text, "");
}
END_TEST

/* ---- random histories against a small model ---- */

enum { JOBS = 24 };

struct model_job {
    double q, s;
    int64_t steps, leased, attempt;
    bool open, settled;
};

struct model {
    double epsilon;
    struct model_job job[JOBS];
};

/* exact sum at one order of what is leased, or of the worst case */
static double model_total(const struct model *m, int order, bool worst)
{
    double sum = 0;
    for (int i = 0; i < JOBS; i++) {
        const struct model_job *j = &m->job[i];
        bool all = worst && j->open && !j->settled;
        if (j->open)
            sum += (double)(all ? j->steps : j->leased) * rdp_integer(j->q, j->s, order);
    }
    return sum;
}

/* how far the best order is within the budget; negative: over it */
static double model_slack(const struct model *m, const double *order)
{
    double best = -INFINITY;
    for (int j = 0; j < FILTER_K; j++)
        best = fmax(best, m->epsilon - log(FILTER_K / 1e-5) / (order[j] - 1) -
                              model_total(m, (int)order[j], true));
    return best;
}

static uint64_t rng_state;

static uint64_t rng(void)
{
    rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return rng_state >> 33;
}

static void try_reserve(struct model *m, int i, const double *order)
{
    static const double qs[] = { 0.01, 0.05, 0.2, 1 }, ss[] = { 0.8, 1.1, 2, 10 };
    struct model_job *j = &m->job[i];
    char name[16];
    snprintf(name, sizeof name, "job_%d", i);
    *j = (struct model_job){ .q = qs[rng() % 4], .s = ss[rng() % 4], .open = true,
                             .steps = 1 + (int64_t)(rng() % 300) };
    double slack = model_slack(m, order);
    int r = reserve(name, j->q, j->s, j->steps);
    ck_assert(r == 0 || r == ERROR_REFUSED);
    if (r == 0)
        ck_assert_double_ge(slack, -1e-9); /* never over */
    else
        ck_assert_double_le(slack, 1e-6); /* and not refused for nothing */
    if (r)
        j->open = false;
    if (r && p.max_steps_that_fit > 0) {
        j->open = true;
        j->steps = p.max_steps_that_fit;
        ck_assert_int_eq(reserve(name, j->q, j->s, j->steps), 0);
        ck_assert_double_ge(model_slack(m, order), -1e-9);
    }
}

static void try_lease(struct model *m, int i)
{
    struct model_job *j = &m->job[i];
    char name[16];
    snprintf(name, sizeof name, "job_%d", i);
    int64_t from = j->leased ? (int64_t)(rng() % (uint64_t)(j->leased + 1)) : 0;
    int64_t to = from + (int64_t)(rng() % 60), attempt = j->attempt - 1 + (int64_t)(rng() % 3);
    int r = ledger_lease(store, name, attempt, from, to, &p);
    if (j->settled || attempt < j->attempt) {
        ck_assert_int_eq(r, LEDGER_E_FENCED);
        return;
    }
    ck_assert_int_eq(r, to > j->steps ? LEDGER_E_RANGE : 0);
    if (r == 0) {
        j->attempt = attempt;
        j->leased = to > j->leased ? to : j->leased;
    }
}

static void check_totals(const struct model *m)
{
    struct ledger_budget b = budget();
    for (int j = 0; j < FILTER_K; j++) {
        int order = (int)b.filter.order[j];
        double leased = model_total(m, order, false), worst = model_total(m, order, true);
        ck_assert_double_ge((double)b.leased.at[j] / FILTER_UNIT, leased * (1 - 1e-11));
        ck_assert_double_le((double)b.leased.at[j] / FILTER_UNIT, leased * (1 + 1e-7) + 1e-7);
        ck_assert_double_ge((double)b.committed.at[j] / FILTER_UNIT, worst * (1 - 1e-11));
        ck_assert_double_le((double)b.committed.at[j] / FILTER_UNIT, worst * (1 + 1e-7) + 1e-7);
    }
}

static void history_step(struct model *m, const double *order)
{
    int i = (int)(rng() % JOBS);
    char name[16];
    snprintf(name, sizeof name, "job_%d", i);
    struct model_job *j = &m->job[i];
    switch (rng() % 8) {
    case 0:
        if (j->open) {
            ck_assert_int_eq(ledger_settle(store, name, j->attempt, j->leased, "x", &p), 0);
            j->settled = true;
        }
        break;
    case 1:
        if (j->open && !j->settled) {
            j->attempt++;
            ck_assert_int_eq(ledger_fence(store, name, j->attempt, &p), 0);
        }
        break;
    case 2:
        if (rng() % 8 == 0) {
            m->epsilon += 0.5;
            struct budget_change c = { .epsilon = m->epsilon, .frozen = -1, .reason = "more" };
            ck_assert_int_eq(ledger_change(store, "d", &c, "root", &p), 0);
        }
        break;
    default:
        if (j->open)
            try_lease(m, i);
        else
            try_reserve(m, i, order);
    }
}

START_TEST(random_histories_agree_with_a_small_model)
{
    rng_state = 1000 + (uint64_t)_i;
    struct model m = { .epsilon = 8 };
    double order[FILTER_K];
    memcpy(order, budget().filter.order, sizeof order);
    for (int i = 0; i < 400; i++) {
        history_step(&m, order);
        if (i % 20 == 0)
            check_totals(&m);
        if (rng() % 10 == 0)
            ck_assert_int_eq(store_commit(store), 0);
    }
    check_totals(&m);
    verify();
}
END_TEST

/* ---- crashes ---- */

/* Leases in steps, telling the parent only what a commit has covered: what the worker would then
 * have let out. */
static void work_until_cut(int fd, uint64_t n, uint64_t seed)
{
    open_store();
    fault_arm(FAULT_CUT, n, seed);
    static const struct filter_cost cost = { 0.05, 1.1, 40 };
    if (ledger_reserve(store, "j", "d", &cost, "ada", &p) || store_commit(store))
        _exit(1);
    for (int64_t k = 0; k < 40; k += 5) {
        if (ledger_lease(store, "j", 1, k, k + 5, &p) || store_commit(store))
            _exit(1);
        if (write(fd, "01234", 5) != 5)
            _exit(1);
    }
    if (ledger_settle(store, "j", 1, 40, "ada", &p) || store_commit(store))
        _exit(1);
    _exit(0);
}

START_TEST(spent_covers_what_left_after_a_power_cut_at_every_write)
{
    bool cut = true;
    for (uint64_t n = 1; cut; n++) {
        teardown();
        setup();
        ck_assert_int_eq(store_commit(store), 0);
        store = store_close(store);
        int fds[2];
        ck_assert_int_eq(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0)
            work_until_cut(fds[1], n, 3 * n + (uint64_t)_i);
        close(fds[1]);
        int released = 0, status = 0;
        for (char c; read(fds[0], &c, 1) == 1;)
            released++;
        close(fds[0]);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        cut = WIFEXITED(status) && WEXITSTATUS(status) == FAULT_EXIT;
        ck_assert(cut || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        open_store();
        struct ledger_account a = { 0 };
        int r = ledger_account(store, STORE_READER, "j", &a, &p);
        ck_assert(r == 0 || (r == LEDGER_E_UNKNOWN && released == 0));
        ck_assert_int_ge(a.leased, released);
        ck_assert_int_le(a.leased, released + 5);
        verify();
    }
}
END_TEST

START_TEST(a_failing_operation_never_leaves_half_a_lease)
{
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        teardown();
        setup();
        ck_assert_int_eq(reserve("j", 0.05, 1.1, 40), 0);
        ck_assert_int_eq(store_commit(store), 0);
        fault_arm(_i ? FAULT_FULL : FAULT_ONCE, n, n);
        int granted = 0;
        for (int k = 0; k < 4 && !store_failed(store); k++)
            if (ledger_lease(store, "j", 1, granted, granted + 10, &p) == 0) {
                store_commit(store);
                struct ledger_account a;
                if (!store_failed(store) &&
                    ledger_account(store, STORE_READER, "j", &a, &p) == 0)
                    granted = (int)a.leased;
            }
        hit = fault_hit();
        fault_arm(FAULT_NONE, 0, 0);
        store = store_close(store);
        open_store();
        struct ledger_account a;
        ck_assert_int_eq(ledger_account(store, STORE_READER, "j", &a, &p), 0);
        ck_assert_int_ge(a.leased, granted);
        verify();
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger");
    TCase *tc = tcase_create("ledger");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, costs_are_rounded_up_and_caps_down);
    tcase_add_test(tc, costs_that_cannot_be_counted_are_infinite_for_ever);
    tcase_add_test(tc, a_refusal_says_how_many_steps_would_fit);
    tcase_add_test(tc, steps_never_leased_come_back_and_leased_ones_do_not);
    tcase_add_test(tc, stale_attempts_and_odd_ranges_get_no_lease);
    tcase_add_test(tc, caps_rise_freeze_and_never_fall_below_what_is_committed);
    tcase_add_test(tc, a_second_reservation_of_a_job_is_a_bug);
    tcase_add_test(tc, rows_come_in_pages);
    tcase_add_loop_test(tc, verify_finds_every_change_of_the_file, 0, 17);
    tcase_add_loop_test(tc, random_histories_agree_with_a_small_model, 0, 20);
    tcase_add_loop_test(tc, spent_covers_what_left_after_a_power_cut_at_every_write, 0, 3);
    tcase_add_loop_test(tc, a_failing_operation_never_leaves_half_a_lease, 0, 2);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
