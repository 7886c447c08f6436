/* What was released elsewhere: its price, its place in the ledger, failing disks, random histories. */
#include <math.h>
#include <string.h>

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

static void setup(void)
{
    snprintf(db_path, sizeof db_path, "%s/state.db", tmpdir_new());
    open_store();
    ck_assert_int_eq(store_begin(store, &p), 0);
    sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER,
                                       "INSERT INTO datasets(id, sha256, spec, n_train, n_test,"
                                       " created_at) VALUES('d', 'x', '{}', 1, 1, 0)");
    int r = store_run(store, stmt, &p);
    if (r == 0)
        r = ledger_open(store, "d", 8, 1e-5, "root", &p);
    ck_assert_int_eq(store_end(store, r, &p), 0);
    ck_assert_int_eq(store_commit(store), 0);
}

static void teardown(void)
{
    fault_arm(FAULT_NONE, 0, 0);
    store = store_close(store);
}

static struct ledger_budget budget(void)
{
    struct ledger_budget b;
    ck_assert_int_eq(ledger_budget(store, STORE_WRITER, "d", &b, &p), 0);
    return b;
}

static int64_t verify(void)
{
    char text[256];
    int64_t n_rows = 0;
    ck_assert_int_eq(store_commit(store), 0);
    int r = ledger_verify(store, &n_rows, text, sizeof text);
    ck_assert_msg(r == 0, "%d: %s", r, text);
    return n_rows;
}

static int import(double q, double s, int64_t steps, double epsilon)
{
    struct ledger_event event = { q, s, steps };
    struct ledger_import import = { .n_events = steps > 0,
                                    .events = &event,
                                    .epsilon = epsilon,
                                    .reason = "elsewhere" };
    return ledger_import(store, "d", &import, "ada", &p);
}

static int reserve(const char *job, double q, double s, int64_t steps)
{
    struct filter_cost cost = { q, s, steps };
    return ledger_reserve(store, job, "d", &cost, "ada", &p);
}

/* Randomized response with bias e^eps / (1 + e^eps) is the worst epsilon-private release. */
static double response_rdp(double epsilon, double a)
{
    double hi = 1 / (1 + exp(-epsilon)), lo = 1 / (1 + exp(epsilon));
    return log(pow(hi, a) * pow(lo, 1 - a) + pow(lo, a) * pow(hi, 1 - a)) / (a - 1);
}

START_TEST(pure_releases_cost_at_least_what_they_do)
{
    struct filter f;
    filter_init(&f, 8, 1e-5);
    for (double epsilon = 1e-4; epsilon < 5; epsilon *= 3) {
        struct filter_rdp step;
        ck_assert_int_eq(filter_pure(&f, epsilon, &step, NULL), 0);
        for (int j = 0; j < FILTER_K; j++) {
            double bound = fmin(epsilon, f.order[j] * epsilon * epsilon / 2) * FILTER_UNIT;
            ck_assert_double_ge((double)step.at[j],
                                response_rdp(epsilon, f.order[j]) * FILTER_UNIT - 1);
            ck_assert_double_ge((double)step.at[j], bound);
            ck_assert_double_le((double)step.at[j], bound * (1 + 1e-8) + 2);
        }
    }
    struct filter_rdp step;
    ck_assert_int_eq(filter_pure(&f, 1e5, &step, NULL), 0);
    ck_assert(step.at[0] == FILTER_INF);
    ck_assert_int_lt(filter_pure(&f, 0, &step, NULL), 0);
    ck_assert_int_lt(filter_pure(&f, NAN, &step, NULL), 0);
}
END_TEST

START_TEST(imports_are_spent_at_once_and_stay)
{
    struct filter_rdp step;
    ck_assert_int_eq(reserve("j", 0.05, 1.5, 100), 0);
    struct ledger_budget before = budget(), after;
    ck_assert_int_eq(import(0.01, 1.1, 500, NAN), 0);
    after = budget();
    filter_step(&before.filter, 0.01, 1.1, &step, NULL);
    before.leased = filter_add(&before.leased, &step, 500);
    before.committed = filter_add(&before.committed, &step, 500);
    ck_assert(filter_equal(&after.leased, &before.leased));
    ck_assert(filter_equal(&after.committed, &before.committed));
    /* the job goes on, and its end does not give the import back */
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, 30, &p), 0);
    ck_assert_int_eq(ledger_settle(store, "j", 1, 30, "ada", &p), 0);
    after = budget();
    ck_assert(filter_equal(&after.leased, &after.committed));
    verify();
}
END_TEST

START_TEST(what_does_not_fit_changes_nothing)
{
    ck_assert_int_eq(import(0.01, 1.1, 500, NAN), 0);
    struct ledger_budget before = budget(), after;
    int64_t rows = verify();
    /* the event would fit, the two together do not: neither is counted */
    ck_assert_int_eq(import(0.01, 1.1, 500, 7), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_BUDGET_EXCEEDED);
    ck_assert_double_gt(p.requested_epsilon, p.available_epsilon);
    ck_assert_int_eq(import(1, 1e-6, 1000000000, NAN), ERROR_REFUSED);
    ck_assert(isnan(p.requested_epsilon)); /* no cap would do */
    after = budget();
    ck_assert(filter_equal(&after.committed, &before.committed));
    ck_assert_int_eq(verify(), rows);
    ck_assert_int_eq(ledger_import(store, "none",
                                   &(struct ledger_import){ .epsilon = 1, .reason = "x" }, "ada",
                                   &p),
                     LEDGER_E_UNKNOWN);
}
END_TEST

/* Jobs, imports, caps and freezes in any order: what the rows say is always what the totals say,
 * and the cap holds. */
START_TEST(histories_with_imports_verify)
{
    uint64_t seed = (uint64_t)_i * 7919 + 1;
    char job[16];
    int n_jobs = 0, imported = 0;
    for (int i = 0; i < 120; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int what = (int)(seed >> 33) % 6, arg = (int)(seed >> 40) % 50 + 1;
        snprintf(job, sizeof job, "j%d", n_jobs ? arg % n_jobs : 0);
        struct budget_change change = { .epsilon = NAN, .frozen = -1, .reason = "r" };
        switch (what) {
        case 0:
            snprintf(job, sizeof job, "j%d", n_jobs);
            n_jobs += reserve(job, 0.01 * arg, 2, arg) == 0;
            break;
        case 1: imported += import(0.002 * arg, 1.5, 10 * arg, NAN) == 0; break;
        case 2: imported += import(0, 0, 0, 0.01 * arg) == 0; break;
        case 3: (void)ledger_lease(store, job, 1, 0, arg, &p); break;
        case 4: (void)ledger_settle(store, job, 1, 0, "ada", &p); break;
        default:
            change.epsilon = 8 + arg % 4;
            change.frozen = arg % 3 == 0;
            (void)ledger_change(store, "d", &change, "ada", &p);
        }
        struct ledger_budget b = budget();
        ck_assert(filter_holds(&b.filter, &b.committed));
    }
    ck_assert_int_gt(imported, 5);
    ck_assert_int_gt(verify(), 20);
}
END_TEST

START_TEST(a_failing_operation_never_leaves_half_an_import)
{
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        teardown();
        setup();
        fault_arm(_i ? FAULT_FULL : FAULT_ONCE, n, n);
        bool told = import(0.01, 1.1, 500, 0.5) == 0 && store_commit(store) == 0;
        hit = fault_hit();
        fault_arm(FAULT_NONE, 0, 0);
        store = store_close(store);
        open_store();
        struct ledger_budget b = budget();
        double spent = filter_epsilon(&b.filter, &b.leased);
        int64_t rows = verify();
        ck_assert(rows == 1 || rows == 3); /* both or none of its two rows */
        ck_assert((spent > 0) == (rows == 3));
        ck_assert(!told || hit || rows == 3);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger_import");
    TCase *tc = tcase_create("import");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, pure_releases_cost_at_least_what_they_do);
    tcase_add_test(tc, imports_are_spent_at_once_and_stay);
    tcase_add_test(tc, what_does_not_fit_changes_nothing);
    tcase_add_loop_test(tc, histories_with_imports_verify, 0, 10);
    tcase_add_loop_test(tc, a_failing_operation_never_leaves_half_an_import, 0, 2);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
