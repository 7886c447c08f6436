/* Every allocation fails in turn, ours and SQLite's, while the store, the ledger, the streams, the
 * registry and the jobs do what they do. What was acknowledged is there after the next start, what
 * was refused is not, the ledger verifies, and the same request then succeeds. */
#include <fcntl.h>
#include <string.h>

#include "fault.h"
#include "heap.h"
#include "job/jobs.h"
#include "ledger/ledger.h"
#include "suite.h"
#include "tmpdir.h"

enum { STEPS = 10, LEASED = 4, AFTERWARDS = 100 };

/* What the database holds before an operation. */
enum before {
    NOTHING, /* no file */
    EMPTY,   /* the schema */
    AT_WORK  /* the digits as "d", job "j" with STEPS steps reserved and LEASED leased */
};

static char folder[64];
static struct problem p;
static struct store *store;
static struct stream *stream;
static struct datasets *datasets;
static struct jobs *jobs;
static int state_dir = -1;
static bool broken; /* a rule that was broken while Check could not have said so for lack of memory */

static int open_store(char *text, size_t size)
{
    char path[96];
    snprintf(path, sizeof path, "%s/state.db", folder);
    return store_open(&store, fault_env(), path, text, size);
}

static int open_modules(char *text, size_t size)
{
    struct datasets_config data = { .root_dir = -1 };
    struct jobs_config config = { .cores = 1 };
    stream = stream_new(store);
    if (!stream)
        return ERROR_REFUSED;
    int r = datasets_open(&datasets, store, &data, text, size);
    return r ? r : jobs_open(&jobs, store, stream, datasets, state_dir, &config, NULL, text, size);
}

static void open_all(void)
{
    char text[256] = "";
    state_dir = open(folder, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(state_dir, 0);
    int r = open_store(text, sizeof text);
    ck_assert_msg(r == 0, "%d: %s", r, text);
    ck_assert_int_eq(open_modules(text, sizeof text), 0);
}

static void close_all(void)
{
    jobs = jobs_close(jobs);
    datasets = datasets_close(datasets);
    stream = stream_free(stream);
    store = store_close(store);
    if (state_dir >= 0)
        close(state_dir);
    state_dir = -1;
}

/* ---- the operations: 0, ERROR_REFUSED with p filled, or a fatal error ---- */

static int create_or_open(void)
{
    char text[256] = "";
    store = store_close(store);
    int r = open_store(text, sizeof text);
    broken |= r != 0 && !text[0]; /* it says why */
    return r ? error_refuse(&p, PROBLEM_OUT_OF_MEMORY, NULL) : 0;
}

static bool is_open(void)
{
    return store != NULL;
}

static int register_digits(void)
{
    static const char text[] = "{\"name\": \"d\", \"format\": \"embedded\","
                               " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}";
    struct dataset_spec *spec = NULL;
    struct answer answer = { 0 };
    bool created;
    int r = dataset_spec_decode(&spec, text, sizeof text - 1, &p);
    if (r == 0)
        r = datasets_register(datasets, spec, "root", &answer, &created, &p);
    else
        r = r == PROTO_E_NOMEM ? ERROR_REFUSED : ERROR_INTERNAL;
    broken |= (r == 0) != (answer.text != NULL);
    answer_clear(&answer);
    dataset_spec_free(spec);
    return r;
}

static bool is_registered(void)
{
    struct dataset_record record;
    int r = datasets_find(datasets, STORE_WRITER, "d", &record, &p);
    dataset_record_clear(&record);
    return r == 0;
}

static const struct filter_cost cost = { 0.01, 2, STEPS };

static int reserve(void)
{
    return ledger_reserve(store, "k", "d", &cost, "ada", &p);
}

static int64_t account(const char *job, struct ledger_account *a)
{
    return ledger_account(store, STORE_WRITER, job, a, &p);
}

static bool is_reserved(void)
{
    struct ledger_account a;
    return account("k", &a) == 0 && a.steps == STEPS;
}

static int lease(void)
{
    return ledger_lease(store, "j", 1, LEASED, 7, &p);
}

static bool is_leased(void)
{
    struct ledger_account a;
    ck_assert_int_eq(account("j", &a), 0);
    ck_assert(a.leased == LEASED || a.leased == 7);
    return a.leased == 7;
}

static int fence(void)
{
    return ledger_fence(store, "j", 2, &p);
}

static bool is_fenced(void)
{
    struct ledger_account a;
    ck_assert_int_eq(account("j", &a), 0);
    return a.attempt == 2;
}

static int settle(void)
{
    return ledger_settle(store, "j", 1, LEASED, "ada", &p);
}

static bool is_settled(void)
{
    struct ledger_account a;
    ck_assert_int_eq(account("j", &a), 0);
    ck_assert_int_eq(a.leased, LEASED); /* what may have left stays paid */
    return a.settled;
}

static int raise_cap(void)
{
    struct budget_change change = { .epsilon = 9, .frozen = -1, .reason = "asked" };
    return ledger_change(store, "d", &change, "root", &p);
}

static bool is_raised(void)
{
    struct ledger_budget b;
    ck_assert_int_eq(ledger_budget(store, STORE_WRITER, "d", &b, &p), 0);
    return b.filter.epsilon == 9;
}

static int append(void)
{
    struct event event;
    event_init(&event, EVENT_WARNING);
    event.warning.code = WARNING_RESUMED;
    return stream_append(stream, "j", &event, &p);
}

static bool is_appended(void)
{
    uint64_t seq;
    bool ended;
    ck_assert_int_eq(stream_last(stream, "j", &seq, &ended), 0);
    ck_assert_uint_le(seq, 1);
    return seq == 1;
}

static const char job[] = "{\"dataset\": \"d\", \"model\": {\"layers\": [{\"op\": \"flatten\"},"
                          " {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
                          " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\"},"
                          " \"privacy\": {\"noise_multiplier\": 2, \"max_grad_norm\": 1},"
                          " \"train\": {\"batch_size\": 16, \"steps\": 10}}";

static int submit(void)
{
    struct job_spec *spec = NULL;
    struct answer answer = { 0 };
    struct jobs_submit request = { .owner = "ada", .key = "once" };
    int r = job_spec_decode(&spec, job, sizeof job - 1, &p);
    request.spec = spec;
    if (r == 0)
        r = jobs_submit(jobs, &request, &answer, &p);
    else
        r = p.code == PROBLEM_OUT_OF_MEMORY ? ERROR_REFUSED : ERROR_INTERNAL;
    broken |= (r == 0) != (answer.text != NULL);
    answer_clear(&answer);
    job_spec_free(spec);
    return r;
}

/* the row, its reservation, its first event and its key: all or nothing */
static bool is_submitted(void)
{
    static const char *const counts[] = { "SELECT count(*) FROM jobs",
                                          "SELECT count(*) - 1 FROM accounts",
                                          "SELECT count(*) FROM events",
                                          "SELECT count(*) FROM idempotency" };
    int n[4];
    for (int i = 0; i < 4; i++) {
        sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER, counts[i]);
        ck_assert_ptr_nonnull(stmt);
        ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
        n[i] = sqlite3_column_int(stmt, 0);
        store_done(stmt);
        ck_assert_int_eq(n[i], n[0]);
    }
    ck_assert_int_le(n[0], 1);
    return n[0] == 1;
}

static int verify(void)
{
    char text[256];
    int r = ledger_verify(store, NULL, text, sizeof text);
    return r == ERROR_REFUSED ? error_nomem(&p) : r;
}

static int keep_answer(int r, struct answer *answer)
{
    broken |= (r == 0) != (answer->text != NULL);
    answer_clear(answer);
    return r;
}

static int read_all(void)
{
    struct answer answer = { 0 };
    struct jobs_filter filter = { .limit = 10 };
    int r = keep_answer(datasets_list(datasets, NULL, 10, &answer, &p), &answer);
    if (r == 0)
        r = keep_answer(datasets_budget(datasets, "d", &answer, &p), &answer);
    if (r == 0)
        r = keep_answer(datasets_ledger(datasets, "d", 0, 10, &answer, &p), &answer);
    if (r == 0)
        r = keep_answer(jobs_list(jobs, &filter, &answer, &p), &answer);
    return r;
}

static bool nothing_to_see(void)
{
    return true;
}

static const struct op {
    const char *name;
    enum before before;
    int (*run)(void);
    bool (*done)(void);
    bool reads;
} ops[] = {
    { "create", NOTHING, create_or_open, is_open, true },
    { "open", AT_WORK, create_or_open, is_open, true },
    { "register", EMPTY, register_digits, is_registered, false },
    { "reserve", AT_WORK, reserve, is_reserved, false },
    { "fence", AT_WORK, fence, is_fenced, false },
    { "lease", AT_WORK, lease, is_leased, false },
    { "settle", AT_WORK, settle, is_settled, false },
    { "raise the cap", AT_WORK, raise_cap, is_raised, false },
    { "append", AT_WORK, append, is_appended, false },
    { "submit", AT_WORK, submit, is_submitted, false },
    { "verify", AT_WORK, verify, nothing_to_see, true },
    { "read", AT_WORK, read_all, nothing_to_see, true },
};
enum { N_OPS = sizeof ops / sizeof *ops };

/* ---- the sweep ---- */

static char *image[3]; /* of the database, by enum before */
static size_t image_size[3];

static void database_path(char path[96])
{
    snprintf(path, 96, "%s/state.db", folder);
}

static void take_image(enum before before)
{
    char path[96];
    close_all();
    database_path(path);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    image[before] = malloc(1 << 20);
    image_size[before] = fread(image[before], 1, 1 << 20, f);
    ck_assert_uint_lt(image_size[before], 1 << 20);
    fclose(f);
}

static void put_image(enum before before)
{
    char path[128];
    strcpy(folder, tmpdir_new());
    snprintf(path, sizeof path, "%s/state.db", folder);
    if (before == NOTHING)
        return;
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(image[before], 1, image_size[before], f), image_size[before]);
    fclose(f);
}

static void make_images(void)
{
    strcpy(folder, tmpdir_new());
    open_all();
    take_image(EMPTY);
    open_all();
    ck_assert_int_eq(register_digits(), 0);
    ck_assert_int_eq(ledger_reserve(store, "j", "d", &cost, "ada", &p), 0);
    ck_assert_int_eq(ledger_lease(store, "j", 1, 0, LEASED, &p), 0);
    ck_assert_int_eq(store_commit(store), 0);
    take_image(AT_WORK);
}

static void note(void *arg, int r)
{
    *(int *)arg = r;
}

/* Runs the operation and its commit. 0: acknowledged; ERROR_REFUSED: it must not have happened;
 * AFTERWARDS or fatal: it may have. */
static int run_and_commit(const struct op *op)
{
    int told = 99;
    problem_init(&p);
    int r = op->run();
    if (r > 0 && !op->reads)
        store_commit(store); /* what others have put into the batch would go on */
    if (r || op->reads)
        return r;
    r = store_on_commit(store, note, &told);
    int failed = store_commit(store);
    if (r > 0)
        return AFTERWARDS; /* nobody hears of the commit, which may be good */
    broken |= told == 99 || (failed && told != failed);
    return told > 0 ? error_nomem(&p) : told;
}

/* P1 and P2, and the chain, for whatever is on disk. */
static void check_ledger(void)
{
    char text[256];
    struct ledger_budget b;
    struct ledger_account a;
    int r = ledger_verify(store, NULL, text, sizeof text);
    ck_assert_msg(r == 0, "%d: %s", r, text);
    r = ledger_budget(store, STORE_READER, "d", &b, &p);
    if (r == LEDGER_E_UNKNOWN)
        return;
    ck_assert_int_eq(r, 0);
    ck_assert(filter_holds(&b.filter, &b.committed));
    if (account("j", &a) == 0)
        ck_assert_int_ge(a.leased, LEASED);
}

static void check_after(const struct op *op, int r, long n)
{
    close_all();
    open_all();
    check_ledger();
    bool done = op->done();
    ck_assert_msg(r || done, "%s, allocation %ld: acknowledged and lost", op->name, n);
    ck_assert_msg(r <= 0 || r == AFTERWARDS || op->reads || !done, "%s, allocation %ld: refused and done", op->name,
                  n);
    if (done && !op->reads)
        return;
    r = run_and_commit(op);
    ck_assert_msg(r == 0, "%s, allocation %ld: %d at the second try", op->name, n, r);
    ck_assert(op->done());
    check_ledger();
}

static long sweep(const struct op *op, enum heap_mode mode)
{
    long stride = getenv("DPSGD_SWEEP_STRIDE") ? atol(getenv("DPSGD_SWEEP_STRIDE")) : 1;
    long n = 1, failures = 0;
    for (bool hit = true; hit; n += stride) {
        put_image(op->before);
        open_all();
        heap_arm(mode, n);
        int r = run_and_commit(op);
        hit = heap_disarm();
        ck_assert_msg(!broken, "%s, allocation %ld: answered and refused", op->name, n);
        if (r > 0 && r != AFTERWARDS)
            ck_assert_msg(p.code == PROBLEM_OUT_OF_MEMORY, "%s, allocation %ld: %s",
                          op->name, n, p.title);
        ck_assert_msg(r >= 0 || mode == HEAP_FROM, "%s, allocation %ld: fatal (%s)", op->name, n,
                      error_name(r));
        failures += r != 0;
        check_after(op, r, n);
        close_all();
    }
    return failures;
}

START_TEST(one_allocation_fails)
{
    make_images();
    ck_assert_int_gt(sweep(&ops[_i], HEAP_ONCE), 0);
}
END_TEST

START_TEST(memory_runs_out_and_stays_out)
{
    make_images();
    ck_assert_int_gt(sweep(&ops[_i], HEAP_FROM), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nomem");
    TCase *tc = tcase_create("nomem");
    heap_init();
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, one_allocation_fails, 0, N_OPS);
    tcase_add_loop_test(tc, memory_runs_out_and_stays_out, 0, N_OPS);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
