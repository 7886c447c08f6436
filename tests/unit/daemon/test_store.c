#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "fault.h"
#include "store/loop.h"
#include "store/store.h"
#include "suite.h"
#include "tmpdir.h"

static char db_path[128];

static struct store *open_store(const struct env *env)
{
    struct store *store = NULL;
    char text[256] = "";
    int r = store_open(&store, env, db_path, text, sizeof text);
    ck_assert_msg(r == 0, "%d: %s", r, text);
    return store;
}

static void fresh(void)
{
    snprintf(db_path, sizeof db_path, "%s/state.db", tmpdir_new());
}

/* one row per call in a table that tests may use: idempotency has no foreign keys */
static int put(struct store *store, const char *key, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "INSERT INTO idempotency(owner, key, fingerprint, job, created_at)"
                      " VALUES('t', ?1, x'00', 'j', 0)");
    if (stmt)
        sqlite3_bind_text(stmt, 1, key, -1, SQLITE_TRANSIENT);
    return store_run(store, stmt, p);
}

static int count(struct store *store, enum store_side side)
{
    sqlite3_stmt *stmt = store_prepare(store, side, "SELECT count(*) FROM idempotency");
    ck_assert_ptr_nonnull(stmt);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    int n = sqlite3_column_int(stmt, 0);
    store_done(stmt);
    return n;
}

static void note(void *arg, int r)
{
    *(int *)arg = r;
}

START_TEST(readers_see_a_batch_after_its_commit_only)
{
    fresh();
    struct store *store = open_store(env_system());
    struct problem p;
    int told = 99;
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "a", &p), &p), 0);
    ck_assert(store_is_dirty(store));
    ck_assert_int_eq(store_on_commit(store, note, &told), 0);
    ck_assert_int_eq(count(store, STORE_WRITER), 1);
    ck_assert_int_eq(count(store, STORE_READER), 0);
    ck_assert_int_eq(told, 99);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(told, 0);
    ck_assert_int_eq(count(store, STORE_READER), 1);
    store_close(store);
}
END_TEST

START_TEST(a_refused_change_leaves_the_others_of_its_batch)
{
    fresh();
    struct store *store = open_store(env_system());
    struct problem p;
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "a", &p), &p), 0);
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(put(store, "b", &p), 0);
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "c", &p), &p), 0);
    ck_assert_int_eq(store_end(store, 7, &p), 7);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(count(store, STORE_READER), 1);
    store_close(store);
}
END_TEST

START_TEST(closing_rolls_an_open_batch_back)
{
    fresh();
    struct store *store = open_store(env_system());
    struct problem p;
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "a", &p), &p), 0);
    store_close(store);
    store = open_store(env_system());
    ck_assert_int_eq(count(store, STORE_READER), 0);
    store_close(store);
}
END_TEST

START_TEST(a_second_daemon_is_refused)
{
    fresh();
    struct store *store = open_store(env_system()), *other = NULL;
    char text[256];
    ck_assert_int_eq(store_open(&other, env_system(), db_path, text, sizeof text), ERROR_STORE);
    ck_assert_ptr_nonnull(strstr(text, "another daemon"));
    store_close(store);
}
END_TEST

START_TEST(a_newer_schema_and_a_damaged_file_are_refused)
{
    fresh();
    store_close(open_store(env_system()));
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(db_path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version=9999", 0, 0, 0), SQLITE_OK);
    sqlite3_close(db);
    struct store *store = NULL;
    char text[256];
    ck_assert_int_eq(store_open(&store, env_system(), db_path, text, sizeof text), ERROR_STORE);
    ck_assert_ptr_nonnull(strstr(text, "newer version"));
    FILE *f = fopen(db_path, "w");
    for (int i = 0; i < 9000; i++)
        fputc('x', f);
    fclose(f);
    ck_assert_int_eq(store_open(&store, env_system(), db_path, text, sizeof text),
                     ERROR_CORRUPT);
}
END_TEST

START_TEST(a_database_of_the_first_version_gets_what_it_lacks)
{
    fresh();
    store_close(open_store(env_system()));
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(db_path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "DROP TABLE budget_keys; PRAGMA user_version=1", 0, 0, 0),
                     SQLITE_OK);
    sqlite3_close(db);
    /* its ledger can be read as it is */
    struct store *store = NULL;
    char text[256];
    ck_assert_int_eq(store_open_reading(&store, env_system(), db_path, text, sizeof text), 0);
    store_close(store);
    store = open_store(env_system());
    ck_assert_ptr_nonnull(store_prepare(store, STORE_WRITER, "SELECT key FROM budget_keys"));
    store_close(store);
}
END_TEST

START_TEST(a_full_disk_refuses_the_batch_and_no_more)
{
    fresh();
    struct store *store = open_store(fault_env());
    struct problem p;
    int told = 99;
    fault_arm(FAULT_FULL, 1, 1);
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "a", &p), &p), 0);
    ck_assert_int_eq(store_on_commit(store, note, &told), 0);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(told, ERROR_REFUSED);
    ck_assert_int_eq(count(store, STORE_READER), 0);
    ck_assert_int_eq(count(store, STORE_WRITER), 0);
    fault_arm(FAULT_NONE, 0, 0);
    ck_assert_int_eq(store_begin(store, &p), 0);
    ck_assert_int_eq(store_end(store, put(store, "b", &p), &p), 0);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(count(store, STORE_READER), 1);
    store_close(store);
}
END_TEST

/* Every single operation fails once: the answer is never "committed" when it is not, and after a
 * fatal error nothing is tried again. */
START_TEST(a_failed_write_or_sync_is_fatal_and_sticks)
{
    bool reached = true;
    int n_fatal = 0;
    for (uint64_t n = 1; reached; n++) {
        fresh();
        struct store *store = open_store(fault_env());
        struct problem p;
        int told = 99, acked = 0;
        fault_arm(FAULT_ONCE, n, n);
        for (int i = 0; i < 3 && !store_failed(store); i++) {
            char key[8];
            snprintf(key, sizeof key, "%d", i);
            if (store_begin(store, &p) == 0 && store_end(store, put(store, key, &p), &p) == 0) {
                store_on_commit(store, note, &told);
                store_commit(store);
                acked += told == 0;
            }
        }
        reached = fault_hit();
        if (store_failed(store)) {
            n_fatal++;
            ck_assert_int_eq(store_failed(store), ERROR_STORE);
            ck_assert_int_eq(store_begin(store, &p), ERROR_STORE);
            ck_assert_int_eq(store_on_commit(store, note, &told), ERROR_STORE);
        }
        fault_arm(FAULT_NONE, 0, 0);
        store_close(store);
        store = open_store(env_system());
        ck_assert_int_ge(count(store, STORE_READER), acked);
        store_close(store);
    }
    ck_assert_int_ge(n_fatal, 3);
}
END_TEST

static void write_until_cut(int fd, uint64_t n, uint64_t seed)
{
    struct store *store = open_store(fault_env());
    struct problem p;
    fault_arm(FAULT_CUT, n, seed);
    for (int i = 0; i < 12; i++) {
        char key[8];
        int told = 99;
        snprintf(key, sizeof key, "%d", i);
        if (store_begin(store, &p) || store_end(store, put(store, key, &p), &p) ||
            store_on_commit(store, note, &told) || store_commit(store) || told)
            _exit(1);
        if (write(fd, "x", 1) != 1)
            _exit(1);
    }
    _exit(0);
}

START_TEST(what_was_acknowledged_survives_a_power_cut_at_every_write)
{
    bool cut = true;
    int n_cuts = 0;
    for (uint64_t n = 1; cut; n++) {
        fresh();
        store_close(open_store(fault_env()));
        int fds[2];
        ck_assert_int_eq(pipe(fds), 0);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            write_until_cut(fds[1], n, 77 * n + (uint64_t)_i);
        close(fds[1]);
        int acked = 0, status = 0;
        for (char c; read(fds[0], &c, 1) == 1;)
            acked++;
        close(fds[0]);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        cut = WEXITSTATUS(status) == FAULT_EXIT;
        ck_assert(cut || WEXITSTATUS(status) == 0);
        n_cuts += cut;
        struct store *store = open_store(env_system());
        int n_rows = count(store, STORE_READER);
        ck_assert_msg(n_rows == acked || n_rows == acked + 1, "cut %d: %d rows, %d acknowledged",
                      (int)n, n_rows, acked);
        store_close(store);
    }
    ck_assert_int_ge(n_cuts, 24);
}
END_TEST

/* ---- the loop ---- */

struct turn {
    struct store *store;
    int told[3];
    int n_fatal;
};

static void fatal(void *arg, int r)
{
    struct turn *turn = arg;
    (void)r;
    turn->n_fatal++;
}

static void three_changes(uv_timer_t *timer)
{
    struct turn *turn = timer->data;
    struct problem p;
    static const char *const keys[] = { "a", "b", "c" };
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(store_begin(turn->store, &p), 0);
        ck_assert_int_eq(store_end(turn->store, put(turn->store, keys[i], &p), &p), 0);
        ck_assert_int_eq(store_on_commit(turn->store, note, &turn->told[i]), 0);
    }
    uv_close((uv_handle_t *)timer, NULL);
}

START_TEST(changes_of_one_turn_share_one_commit)
{
    fresh();
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct turn turn = { .store = open_store(fault_env()), .told = { 9, 9, 9 } };
    struct store_loop *sl = store_attach(turn.store, &loop, fatal, &turn);
    uint64_t before, after;
    double seconds;
    store_stats(turn.store, &before, &seconds);
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    timer.data = &turn;
    uv_timer_start(&timer, three_changes, 0, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    store_stats(turn.store, &after, &seconds);
    ck_assert_uint_eq(after - before, 1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(turn.told[i], 0);
    ck_assert_int_eq(turn.n_fatal, 0);
    store_detach(sl);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    store_close(turn.store);
}
END_TEST

START_TEST(a_failed_commit_is_told_to_the_loop)
{
    fresh();
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct turn turn = { .store = open_store(fault_env()), .told = { 9, 9, 9 } };
    struct store_loop *sl = store_attach(turn.store, &loop, fatal, &turn);
    fault_arm(FAULT_FROM, 1, 1);
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    timer.data = &turn;
    uv_timer_start(&timer, three_changes, 0, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(turn.n_fatal, 1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(turn.told[i], ERROR_STORE);
    store_detach(sl);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    fault_arm(FAULT_NONE, 0, 0);
    store_close(turn.store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tc = tcase_create("store");
    tcase_add_test(tc, readers_see_a_batch_after_its_commit_only);
    tcase_add_test(tc, a_refused_change_leaves_the_others_of_its_batch);
    tcase_add_test(tc, closing_rolls_an_open_batch_back);
    tcase_add_test(tc, a_second_daemon_is_refused);
    tcase_add_test(tc, a_database_of_the_first_version_gets_what_it_lacks);
    tcase_add_test(tc, a_newer_schema_and_a_damaged_file_are_refused);
    tcase_add_test(tc, a_full_disk_refuses_the_batch_and_no_more);
    tcase_add_test(tc, a_failed_write_or_sync_is_fatal_and_sticks);
    tcase_add_loop_test(tc, what_was_acknowledged_survives_a_power_cut_at_every_write, 0, 3);
    tcase_add_test(tc, changes_of_one_turn_share_one_commit);
    tcase_add_test(tc, a_failed_commit_is_told_to_the_loop);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
