/* Random histories of the ledger against a small model: reservations side by side, leases, stale
 * workers, cancellations, raised caps, crashes at any write, attempts that go on afterwards. At
 * every prefix of every history:
 *
 *   P1  leased covers what left, and costs at least what the model says
 *   P2  the worst case of what was admitted stays within the cap, by the model's own arithmetic
 *   P4  a job has one account: what comes back is what was never leased, once
 *
 * and after a crash the state is that before or that after a batch, never one before a commit that
 * was told. DPSGD_HISTORIES: how many (2000). DPSGD_HISTORY: the
 * first one's number (1). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "ledger/ledger.h"
#include "suite.h"
#include "tmpdir.h"

enum { JOBS = 6, KINDS = 16, EVENTS = 24, PER_FILE = 500 };

static const double rates[] = { 0.01, 0.05, 0.2, 1 }, noises[] = { 0.8, 1.1, 2, 10 };

struct model_job {
    bool open, settled;
    int kind;
    int64_t steps, leased, attempt;
};

struct model {
    double epsilon;
    struct model_job job[JOBS];
};

/* what is planted into the ledger, or into what is done with its answers */
static enum {
    PLANTED_NOTHING,
    PLANTED_ADMIT_ALL,
    PLANTED_REFUND_TWICE,
    PLANTED_COST_DROPPED,   /* leases are not added to the total */
    PLANTED_RELEASE_EARLY,  /* results leave before their lease is durable */
    PLANTED_FENCE_FORGOTTEN /* a stale worker goes on */
} planted;

static char db_path[128];
static struct store *store;
static struct problem p;
static double order[FILTER_K], cost[KINDS][FILTER_K];

/* ---- the history at hand ---- */
static int serial; /* of the dataset */
static struct model batch, durable;
static int64_t released[JOBS]; /* steps whose results have left */
/* Batches that a crash has lost since the last commit. One may come back, as a whole: of its pages
 * in SQLite's log the first was lost and the others kept; the next batch begins with the same page
 * (the first of the file, when both make it longer), and loses its others in a crash again. Nothing
 * of it was told, so it may be there as well as not. */
enum { LOST = 4 };
static struct model lost[LOST];
static int n_lost;
static int n_crashes, n_refused, n_fenced;

static uint64_t rng_state;

static int64_t rng(int64_t n)
{
    uint64_t z = (rng_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)n);
}

/* ---- the planted faults: the linker sends the ledger's calls here ---- */

bool __real_filter_holds(const struct filter *f, const struct filter_rdp *total);
bool __wrap_filter_holds(const struct filter *f, const struct filter_rdp *total);
bool __wrap_filter_holds(const struct filter *f, const struct filter_rdp *total)
{
    return planted == PLANTED_ADMIT_ALL || __real_filter_holds(f, total);
}

struct filter_rdp __real_filter_sub(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n);
struct filter_rdp __wrap_filter_sub(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n);
struct filter_rdp __wrap_filter_sub(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n)
{
    struct filter_rdp less = __real_filter_sub(total, step, n);
    return planted == PLANTED_REFUND_TWICE ? __real_filter_sub(&less, step, n) : less;
}

struct filter_rdp __real_filter_add(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n);
struct filter_rdp __wrap_filter_add(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n);
struct filter_rdp __wrap_filter_add(const struct filter_rdp *total, const struct filter_rdp *step,
                                    int64_t n)
{
    return planted == PLANTED_COST_DROPPED ? *total : __real_filter_add(total, step, n);
}

/* ---- the model's arithmetic ---- */

/* Renyi divergence of the sampled Gaussian at an integer order (Mironov, Talwar, Zhang 2019). */
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

static double total(const struct model *m, int j, bool worst)
{
    double sum = 0;
    for (int i = 0; i < JOBS; i++) {
        const struct model_job *job = &m->job[i];
        if (job->open)
            sum += cost[job->kind][j] *
                   (double)(worst && !job->settled ? job->steps : job->leased);
    }
    return sum;
}

/* how far the best order is within the cap; negative: over it */
static double slack(const struct model *m)
{
    double best = -INFINITY;
    for (int j = 0; j < FILTER_K; j++)
        best = fmax(best, m->epsilon - log(FILTER_K / 1e-5) / (order[j] - 1) - total(m, j, true));
    return best;
}

/* ---- names ---- */

static const char *dataset_name(void)
{
    static char name[32];
    snprintf(name, sizeof name, "d%d", serial);
    return name;
}

static const char *job_name(int i)
{
    static char name[32];
    snprintf(name, sizeof name, "d%d_%d", serial, i);
    return name;
}

/* ---- what must hold at every prefix; NULL, or what does not ---- */

static const char *check_accounts(const struct model *m, enum store_side side)
{
    for (int i = 0; i < JOBS; i++) {
        const struct model_job *job = &m->job[i];
        struct ledger_account a;
        int r = ledger_account(store, side, job_name(i), &a, &p);
        if (r != (job->open ? 0 : LEDGER_E_UNKNOWN))
            return job->open ? "an account is missing" : "an account came from nowhere";
        if (job->open && (a.steps != job->steps || a.leased != job->leased ||
                          a.settled != job->settled || a.attempt != job->attempt))
            return "an account is not what was done to it";
    }
    return NULL;
}

static const char *check_totals(const struct model *m, enum store_side side)
{
    struct ledger_budget b;
    if (ledger_budget(store, side, dataset_name(), &b, &p))
        return "no budget";
    if (b.filter.epsilon != m->epsilon)
        return "the cap is another";
    for (int j = 0; j < FILTER_K; j++) {
        double leased = total(m, j, false), worst = total(m, j, true);
        double has = (double)b.leased.at[j] / FILTER_UNIT;
        double may = (double)b.committed.at[j] / FILTER_UNIT;
        if (has < leased * (1 - 1e-11) || may < worst * (1 - 1e-11))
            return "P1: less is counted than was leased";
        if (has > leased * (1 + 1e-7) + 1e-7 || may > worst * (1 + 1e-7) + 1e-7)
            return "P4: more is counted than was leased and reserved";
    }
    return slack(m) < -1e-9 ? "P2: more was admitted than the cap holds" : NULL;
}

static const char *check(void)
{
    const char *wrong = check_accounts(&batch, STORE_WRITER);
    if (!wrong)
        wrong = check_accounts(&durable, STORE_READER);
    if (!wrong)
        wrong = check_totals(&batch, STORE_WRITER);
    if (!wrong)
        wrong = check_totals(&durable, STORE_READER);
    for (int i = 0; i < JOBS && !wrong; i++)
        if (durable.job[i].leased < released[i])
            wrong = "P1: results left whose lease is not durable";
    return wrong;
}

/* ---- events ---- */

static void commit_told(void)
{
    n_lost = memcmp(&durable, &batch, sizeof batch) == 0 ? n_lost : 0; /* nothing was written */
    durable = batch;
    for (int i = 0; i < JOBS; i++)
        released[i] = durable.job[i].leased;
}

static const char *reserve(int i)
{
    struct model_job *job = &batch.job[i], before = *job;
    *job = (struct model_job){ .open = true, .kind = (int)rng(KINDS), .steps = 1 + rng(300) };
    struct filter_cost asked = { rates[job->kind / 4], noises[job->kind % 4], job->steps };
    double left = slack(&batch);
    int r = ledger_reserve(store, job_name(i), dataset_name(), &asked, "ada", &p);
    if (r < 0 && fault_hit())
        return NULL;
    if (r == 0)
        return left < -1e-9 ? "P2: a job was admitted over the cap" : NULL;
    *job = before;
    n_refused++;
    return r == ERROR_REFUSED && left < 1e-6 ? NULL : "a job that fits was refused";
}

static const char *lease(int i)
{
    struct model_job *job = &batch.job[i];
    int64_t from = rng(job->leased + 1), to = from + rng(60);
    int64_t attempt = job->attempt - 1 + rng(3);
    bool stale = job->settled || attempt < job->attempt;
    int r = ledger_lease(store, job_name(i), attempt, from, to, &p);
    if (r < 0 && fault_hit())
        return NULL;
    if (stale) {
        n_fenced++;
        if (r == LEDGER_E_FENCED && planted == PLANTED_FENCE_FORGOTTEN)
            released[i] = job->leased + 1;
        return r == LEDGER_E_FENCED ? NULL : "a stale worker got a lease";
    }
    if (r != (to > job->steps ? LEDGER_E_RANGE : 0))
        return "a lease was refused, or reached too far";
    if (r == 0) {
        job->attempt = attempt;
        job->leased = to > job->leased ? to : job->leased;
        if (planted == PLANTED_RELEASE_EARLY)
            released[i] = job->leased;
    }
    return NULL;
}

/* the end of a job, or its cancellation; sometimes by a worker of an older attempt, or once more */
static const char *settle(int i)
{
    struct model_job *job = &batch.job[i];
    int64_t attempt = job->attempt - (rng(4) == 0);
    int r = ledger_settle(store, job_name(i), attempt, job->leased, "x", &p);
    if (r < 0 && fault_hit())
        return NULL;
    if (!job->settled && attempt < job->attempt)
        return r == LEDGER_E_FENCED ? NULL : "a stale worker has settled";
    job->settled = true;
    return r == 0 ? NULL : "a job could not be settled";
}

static const char *fence(int i)
{
    int r = ledger_fence(store, job_name(i), ++batch.job[i].attempt, &p);
    return r == 0 || fault_hit() ? NULL : "an attempt could not start";
}

static const char *raise_cap(void)
{
    struct budget_change c = { .epsilon = batch.epsilon + 0.25, .frozen = -1, .reason = "more" };
    int r = ledger_change(store, dataset_name(), &c, "root", &p);
    batch.epsilon += 0.25;
    return r == 0 || fault_hit() ? NULL : "a cap could not be raised";
}

static const char *event(void)
{
    int i = (int)rng(JOBS);
    struct model_job *job = &batch.job[i];
    if (rng(30) == 0)
        return raise_cap();
    if (!job->open)
        return reserve(i);
    switch (rng(8)) {
    case 0: return settle(i);
    case 1: return job->settled ? NULL : fence(i);
    default: return lease(i);
    }
}

/* ---- crashes ---- */

static bool open_store(void)
{
    char text[256];
    return store_open(&store, fault_env(), db_path, text, sizeof text) == 0;
}

static bool is_there(const struct model *m)
{
    return check_accounts(m, STORE_READER) == NULL && check_totals(m, STORE_READER) == NULL;
}

/* told: the commit was, before the lights went out */
static const char *recover(bool told)
{
    store = store_close(store);
    fault_arm(FAULT_NONE, 0, 0);
    if (!open_store())
        return "the store did not open after a crash";
    n_crashes++;
    if (is_there(&batch)) {
        commit_told();
    } else if (told) {
        return "what was told is gone";
    } else if (is_there(&durable)) {
        lost[n_lost++ % LOST] = batch;
        batch = durable;
    } else {
        for (int i = 0; i < n_lost && i < LOST; i++)
            if (is_there(&lost[i])) {
                batch = lost[i];
                commit_told();
                return NULL;
            }
        return "what is there after a crash was never written";
    }
    return NULL;
}

static const char *crash(void)
{
    const char *wrong = NULL;
    fault_arm(FAULT_CRASH, (uint64_t)(1 + rng(14)), rng_state);
    for (int64_t n = rng(4); n > 0 && !wrong && !fault_hit(); n--)
        wrong = event();
    bool told = !wrong && !fault_hit() && store_commit(store) == 0 && !store_failed(store);
    if (told)
        commit_told();
    return wrong ? wrong : recover(told);
}

/* ---- histories ---- */

static void open_dataset(void)
{
    char sha[65];
    serial++;
    snprintf(sha, sizeof sha, "%064d", serial);
    sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER,
                                       "INSERT INTO datasets(id, sha256, spec, n_train, n_test,"
                                       " created_at) VALUES(?1, ?2, '{}', 1, 1, 0)");
    ck_assert_int_eq(store_begin(store, &p), 0);
    sqlite3_bind_text(stmt, 1, dataset_name(), -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, 2, sha, -1, SQLITE_TRANSIENT);
    int r = store_run(store, stmt, &p);
    if (r == 0)
        r = ledger_open(store, dataset_name(), 4, 1e-5, "root", &p);
    ck_assert_int_eq(store_end(store, r, &p), 0);
    ck_assert_int_eq(store_commit(store), 0);
    batch = (struct model){ .epsilon = 4 };
    memset(released, 0, sizeof released);
    n_lost = 0;
    durable = batch;
}

/* One history; what went wrong, or NULL. */
static const char *history(uint64_t seed)
{
    rng_state = seed;
    open_dataset();
    const char *wrong = NULL;
    for (int i = 0; i < EVENTS && !wrong; i++) {
        switch (rng(12)) {
        case 0:
        case 1:
        case 2:
            wrong = store_commit(store) == 0 ? NULL : "a commit failed";
            commit_told();
            break;
        case 3: wrong = rng(3) == 0 ? crash() : event(); break;
        default: wrong = event();
        }
        if (!wrong)
            wrong = check();
    }
    if (!wrong && store_commit(store) != 0)
        wrong = "a commit failed";
    return wrong;
}

static void open_file(void)
{
    struct filter f;
    store = store_close(store);
    snprintf(db_path, sizeof db_path, "%s/state.db", tmpdir_new());
    ck_assert(open_store());
    filter_init(&f, 4, 1e-5);
    for (int j = 0; j < FILTER_K; j++) {
        order[j] = f.order[j];
        for (int k = 0; k < KINDS; k++)
            cost[k][j] = rdp_integer(rates[k / 4], noises[k % 4], (int)order[j]);
    }
}

static void setup(void)
{
    planted = PLANTED_NOTHING;
    open_file();
}

static void teardown(void)
{
    fault_arm(FAULT_NONE, 0, 0);
    store = store_close(store);
}

static void verify(void)
{
    char text[256];
    int r = ledger_verify(store, NULL, text, sizeof text);
    ck_assert_msg(r == 0, "%s", text);
}

START_TEST(histories_keep_what_is_promised_at_every_prefix)
{
    const char *many = getenv("DPSGD_HISTORIES"), *from = getenv("DPSGD_HISTORY");
    long first = from ? atol(from) : 1, n = many ? atol(many) : 2000;
    serial = (int)first - 1; /* names are as long as they were */
    for (long i = first; i < first + n; i++) {
        const char *wrong = history((uint64_t)i);
        ck_assert_msg(!wrong, "history %ld: %s", i, wrong);
        if (i % PER_FILE == 0 || i == first + n - 1) {
            verify();
            open_file();
        }
    }
    printf("# %ld histories, %d crashes, %d refusals, %d stale leases\n", n, n_crashes, n_refused,
           n_fenced);
    ck_assert_int_gt(n_crashes, n / 4);
    ck_assert_int_gt(n_refused, n / 4);
    ck_assert_int_gt(n_fenced, n / 4);
}
END_TEST

/* The test of the test: with a fault in the ledger some of the first histories go wrong. */
START_TEST(a_planted_fault_is_found)
{
    const char *wrong = NULL;
    planted = (int)PLANTED_NOTHING + 1 + _i;
    for (uint64_t i = 1; i <= 200 && !wrong; i++)
        wrong = history(i);
    printf("# planted %d: %s\n", _i + 1, wrong ? wrong : "not found");
    ck_assert_ptr_nonnull(wrong);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histories");
    TCase *tc = tcase_create("histories");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 1800);
    tcase_add_test(tc, histories_keep_what_is_promised_at_every_prefix);
    tcase_add_loop_test(tc, a_planted_fault_is_found, 0, PLANTED_FENCE_FORGOTTEN);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
