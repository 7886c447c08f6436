/* What somebody does who wants more than the budget: cancels at random steps and comes back, sends
 * eight jobs at once for the last percent, registers the same data under another name, lets a stale
 * worker go on, turns the clock back and forth, has the daemon restarted meanwhile. After every
 * move the ledger verifies, and the sum of what was leased and what may still be, by a formula of
 * this file's, stays within the cap. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "ledger/ledger.h"
#include "suite.h"
#include "tmpdir.h"
#include "world.h"

enum { JOBS_MAX = 400, RECORDS = 1400 };

struct sent {
    char id[JOBS_ID_SIZE];
    double q, s;
};

static struct world w;
static struct problem p;
static char path[64];
static struct sent sent[JOBS_MAX];
static int n_sent, n_refused, n_cancelled;
static uint64_t seed = 5;

static int64_t draw(int64_t n)
{
    uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)n);
}

/* ---- the sum ---- */

/* Renyi divergence of the sampled Gaussian at an integer order (Mironov, Talwar, Zhang 2019). */
static double rdp_integer(double q, double s, int a)
{
    double max = -INFINITY, term[256], sum = 0;
    for (int k = 0; k <= a; k++) {
        term[k] = lgamma(a + 1) - lgamma(k + 1) - lgamma(a - k + 1) + (a - k) * log1p(-q) +
                  k * log(q) + k * (k - 1.0) / (2 * s * s);
        max = fmax(max, term[k]);
    }
    for (int k = 0; k <= a; k++)
        sum += exp(term[k] - max);
    return (max + log(sum)) / (a - 1);
}

static void look(void)
{
    struct ledger_budget b;
    char text[256];
    double best = -INFINITY;
    ck_assert_int_eq(w.fatal, 0);
    ck_assert_int_eq(store_commit(w.store), 0);
    ck_assert_msg(ledger_verify(w.store, NULL, text, sizeof text) == 0, "%s", text);
    ck_assert_int_eq(ledger_budget(w.store, STORE_READER, "d", &b, &p), 0);
    for (int j = 0; j < FILTER_K; j++) {
        double sum = 0;
        for (int i = 0; i < n_sent; i++) {
            struct ledger_account a;
            ck_assert_int_eq(ledger_account(w.store, STORE_READER, sent[i].id, &a, &p), 0);
            sum += (double)(a.settled ? a.leased : a.steps) *
                   rdp_integer(sent[i].q, sent[i].s, (int)b.filter.order[j]);
        }
        best = fmax(best, 8 - log(FILTER_K / 1e-5) / (b.filter.order[j] - 1) - sum);
    }
    ck_assert_msg(best > -1e-9, "over the cap by %g after %d jobs", -best, n_sent);
}

/* ---- moves ---- */

/* True when it was admitted. */
static bool post(int batch, double s, int steps)
{
    static const char format[] =
        "{\"dataset\": \"d\", \"model\": {\"layers\": [{\"op\": \"flatten\"},"
        " {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
        " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\"},"
        " \"privacy\": {\"noise_multiplier\": %.17g, \"max_grad_norm\": 1},"
        " \"train\": {\"batch_size\": %d, \"steps\": %d}}";
    char text[512];
    struct sent *one = &sent[n_sent];
    ck_assert_int_lt(n_sent, JOBS_MAX);
    snprintf(text, sizeof text, format, s, batch, steps);
    int r = world_submit(&w, text, NULL, one->id, &p);
    ck_assert_msg(r == 0 || (r == ERROR_REFUSED && p.code == PROBLEM_BUDGET_EXCEEDED), "%d %s", r,
                  p.title);
    one->q = (double)batch / RECORDS;
    one->s = s;
    n_sent += r == 0;
    n_refused += r != 0;
    return r == 0;
}

static void cancel(const char *id)
{
    struct answer answer = { 0 };
    int r = jobs_cancel(w.jobs, id, "ada", &answer, &p);
    ck_assert(r == 0 || p.code == PROBLEM_STATE_CONFLICT);
    answer_clear(&answer);
    n_cancelled += r == 0;
}

static void restart(void)
{
    world_close(&w);
    ck_assert(world_open(&w, path, fault_env(), 1));
}

/* A worker of an attempt before the job's, or of a job that has ended, asks for more. */
static void go_on_stale(const char *id)
{
    struct ledger_account before, after;
    ck_assert_int_eq(ledger_account(w.store, STORE_WRITER, id, &before, &p), 0);
    int r = ledger_lease(w.store, id, before.attempt - 1, before.leased, before.steps, &p);
    ck_assert_int_eq(r, LEDGER_E_FENCED);
    r = ledger_settle(w.store, id, before.attempt - 1, 0, "eve", &p);
    ck_assert(r == LEDGER_E_FENCED || before.settled);
    ck_assert_int_eq(ledger_account(w.store, STORE_WRITER, id, &after, &p), 0);
    ck_assert_int_eq(after.leased, before.leased);
}

static void turn_the_clock(void)
{
    static const int64_t days[] = { 1, -2, 4000, -8000 };
    fault_clock(days[draw(4)] * 86400000);
}

/* ---- the script ---- */

START_TEST(nobody_gets_more_than_the_budget)
{
    strcpy(path, tmpdir_new());
    ck_assert(world_open(&w, path, fault_env(), 1));
    ck_assert_int_eq(world_add_digits(&w, "d"), 0);
    /* cancelled at a random step, and sent again, until a small one no longer fits */
    for (int round = 0; round < 60; round++) {
        const char *id = sent[n_sent].id;
        if (!post(64 + (int)draw(200), 1.5 + 0.25 * (double)draw(8), 30))
            continue;
        ck_assert(world_run_steps(&w, id, 1 + draw(25)));
        if (draw(3) == 0)
            restart();
        if (draw(2) == 0)
            turn_the_clock();
        go_on_stale(id);
        if (draw(4) != 0)
            cancel(id);
        ck_assert(world_run(&w, id));
        go_on_stale(id);
        look();
    }
    ck_assert_int_gt(n_cancelled, 3);
    /* what is left is taken but for a percent or so: what fits is told by a refusal */
    while (!post(128, 4, 100000)) {
        int64_t fit = p.max_steps_that_fit;
        if (fit < 2 || !post(128, 4, (int)(fit - fit / 100)))
            break;
        cancel(sent[n_sent - 1].id);
        look();
        ck_assert(world_run(&w, sent[n_sent - 1].id));
        if (draw(3) == 0) {
            ck_assert(post(128, 4, (int)(fit - fit / 100)));
            break;
        }
    }
    /* eight at once for it, in one turn of the loop; each would fit alone */
    int before = n_sent, before_refused = n_refused;
    int64_t last = post(16, 50, 50000000) ? 0 : p.max_steps_that_fit;
    ck_assert_int_gt(last, 0);
    for (int i = 0; i < 8; i++)
        post(16, 50, (int)last);
    look();
    ck_assert_int_eq(n_sent, before + 1);
    ck_assert_int_eq(n_refused, before_refused + 8);
    /* the same records under another name, before and after a restart and on another day */
    ck_assert_int_eq(world_add_digits(&w, "e"), ERROR_REFUSED);
    restart();
    turn_the_clock();
    ck_assert_int_eq(world_add_digits(&w, "e"), ERROR_REFUSED);
    ck_assert(!post(16, 50, 1 + (int)last));
    look();
    printf("# %d jobs, %d refused, %d cancelled\n", n_sent, n_refused, n_cancelled);
    world_close(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack");
    TCase *tc = tcase_create("attack");
    tcase_set_timeout(tc, 240);
    tcase_add_test(tc, nobody_gets_more_than_the_budget);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
