/* Nothing leaves before its lease is durable. Whenever a step begins, an event reaches a
 * subscriber or a file appears in the job's folder, the database is looked at as a power cut in
 * that moment would leave it: the lease must be there. Then the same with the order planted wrong
 * (the linker sends the commit's callbacks and the reads here), which must be found. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "ledger/ledger.h"
#include "psg/train.h"
#include "suite.h"
#include "tmpdir.h"
#include "world.h"

enum { STEPS = 12 };

static const char spec[] =
    "{\"dataset\": \"d\", \"seed\": 7,"
    " \"model\": {\"layers\": [{\"op\": \"flatten\"},"
    "   {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
    " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"adam\", \"lr\": 0.05},"
    " \"privacy\": {\"noise_multiplier\": 2, \"max_grad_norm\": 1},"
    " \"train\": {\"batch_size\": 64, \"steps\": 12, \"eval_every\": 5,"
    "   \"checkpoint_every\": 1}}";

static enum {
    ORDER_RIGHT,
    GRANTED_BEFORE_COMMIT, /* callbacks come at once, the commit some turns later */
    READ_BEFORE_COMMIT     /* and subscribers see what is not committed */
} planted;

static struct world w;
static struct problem p;
static char path[64], id[JOBS_ID_SIZE];

/* what was seen, from two threads */
static struct {
    pthread_mutex_t lock;
    int64_t durable; /* leased, in the last picture that was taken */
    int steps, events, files, early_steps, early_events, early_files;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the database after a power cut now ---- */

static int64_t durable_lease(void)
{
    char name[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    int64_t leased = 0;
    snprintf(name, sizeof name, "%s/picture.db", path);
    fault_copy_durable("dpsgd.db", name);
    ck_assert_int_eq(sqlite3_open(name, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, "SELECT leased FROM accounts WHERE job = ?1", -1, &stmt, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
        if (sqlite3_step(stmt) == SQLITE_ROW)
            leased = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return leased;
}

/* Something of the first `steps` steps is about to leave. */
static void leaving(int64_t steps, int *n, int *early)
{
    pthread_mutex_lock(&seen.lock);
    if (seen.durable < steps) /* a lease never goes away, so an old picture may do */
        seen.durable = durable_lease();
    *n += 1;
    *early += seen.durable < steps;
    pthread_mutex_unlock(&seen.lock);
}

/* ---- where things leave ---- */

int __real_psg_trainer_step(struct psg_trainer *t, struct psg_step_report *report,
                            struct psg_error *err);
int __wrap_psg_trainer_step(struct psg_trainer *t, struct psg_step_report *report,
                            struct psg_error *err);
int __wrap_psg_trainer_step(struct psg_trainer *t, struct psg_step_report *report,
                            struct psg_error *err)
{
    leaving((int64_t)psg_trainer_step_number(t) + 1, &seen.steps, &seen.early_steps);
    return __real_psg_trainer_step(t, report, err);
}

static uint64_t cursor; /* of the subscriber */
static int64_t worker_done; /* steps of the newest checkpoint; only the worker writes files */

static int watched_rename(const struct env *env, int dir, const char *from, const char *to)
{
    bool is_checkpoint = strncmp(to, "checkpoint", 10) == 0;
    if (is_checkpoint)
        worker_done++; /* one after each step */
    if (is_checkpoint || strcmp(to, "secret") != 0)
        leaving(worker_done, &seen.files, &seen.early_files);
    return fault_env()->rename(env, dir, from, to);
}

static bool see_event(void *arg, const struct stream_event *e)
{
    struct event *event = NULL;
    ck_assert_int_eq(event_decode(&event, e->data, e->size, &p), 0);
    (void)arg;
    cursor = e->seq;
    if (event->type == EVENT_STEP)
        leaving(event->step.step, &seen.events, &seen.early_events);
    if (event->type == EVENT_EVAL)
        leaving(event->eval.step, &seen.events, &seen.early_events);
    event_free(event);
    return true;
}

static void on_wake(void *arg)
{
    (void)arg;
    stream_read(w.stream, id, cursor, 1000, see_event, NULL);
}

/* ---- the wrong orders ---- */

int __real_store_on_commit(struct store *store, store_commit_fn fn, void *arg);
int __wrap_store_on_commit(struct store *store, store_commit_fn fn, void *arg);
int __wrap_store_on_commit(struct store *store, store_commit_fn fn, void *arg)
{
    if (planted == ORDER_RIGHT || w.jobs == NULL)
        return __real_store_on_commit(store, fn, arg);
    fn(arg, 0);
    return 0;
}

sqlite3_stmt *__real_store_prepare(struct store *store, enum store_side side, const char *sql);
sqlite3_stmt *__wrap_store_prepare(struct store *store, enum store_side side, const char *sql);
sqlite3_stmt *__wrap_store_prepare(struct store *store, enum store_side side, const char *sql)
{
    if (planted == READ_BEFORE_COMMIT && strstr(sql, "FROM events"))
        side = STORE_WRITER;
    return __real_store_prepare(store, side, sql);
}

int __real_store_commit(struct store *store);
int __wrap_store_commit(struct store *store);
int __wrap_store_commit(struct store *store)
{
    static int n; /* turns of the loop: a batch stays open for 10 ms */
    if (planted != ORDER_RIGHT && w.jobs != NULL && ++n % 50 != 0) {
        usleep(200);
        return 0;
    }
    return __real_store_commit(store);
}

int __real_stream_append(struct stream *stream, const char *job, struct event *event,
                         struct problem *p);
int __wrap_stream_append(struct stream *stream, const char *job, struct event *event,
                         struct problem *p);
int __wrap_stream_append(struct stream *stream, const char *job, struct event *event,
                         struct problem *pp)
{
    int r = __real_stream_append(stream, job, event, pp);
    if (planted == READ_BEFORE_COMMIT)
        on_wake(NULL);
    return r;
}

/* ---- a run ---- */

static void run(void)
{
    static struct env env;
    env = *fault_env();
    env.rename = watched_rename;
    strcpy(path, tmpdir_new());
    ck_assert(world_open(&w, path, &env, 1));
    ck_assert_int_eq(world_add_digits(&w, "d"), 0);
    fault_arm(FAULT_CUT, UINT64_MAX, 1); /* never; but what is not synced is remembered */
    ck_assert_int_eq(world_submit(&w, spec, NULL, id, &p), 0);
    struct stream_sub *sub = stream_subscribe(w.stream, id, on_wake, NULL);
    ck_assert_ptr_nonnull(sub);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_SUCCEEDED);
    stream_unsubscribe(sub);
    world_close(&w);
    fault_arm(FAULT_NONE, 0, 0);
}

START_TEST(nothing_leaves_before_its_lease_is_durable)
{
    planted = ORDER_RIGHT;
    run();
    ck_assert_int_eq(seen.steps, STEPS);
    ck_assert_int_eq(seen.events, STEPS + 3);
    ck_assert_int_eq(seen.files, STEPS + 4); /* checkpoints and artifacts */
    ck_assert_int_eq(seen.early_steps, 0);
    ck_assert_int_eq(seen.early_events, 0);
    ck_assert_int_eq(seen.early_files, 0);
}
END_TEST

START_TEST(a_lease_that_is_granted_early_is_seen)
{
    planted = GRANTED_BEFORE_COMMIT;
    run();
    printf("# %d of %d steps, %d of %d files\n", seen.early_steps, seen.steps, seen.early_files,
           seen.files);
    ck_assert_int_gt(seen.early_steps, 0);
}
END_TEST

START_TEST(an_event_that_leaves_early_is_seen)
{
    planted = READ_BEFORE_COMMIT;
    run();
    printf("# %d of %d events\n", seen.early_events, seen.events);
    ck_assert_int_gt(seen.early_events, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order");
    TCase *tc = tcase_create("order");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, nothing_leaves_before_its_lease_is_durable);
    tcase_add_test(tc, a_lease_that_is_granted_early_is_seen);
    tcase_add_test(tc, an_event_that_leaves_early_is_seen);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
