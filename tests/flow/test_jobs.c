#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "ledger/ledger.h"
#include "suite.h"
#include "tmpdir.h"
#include "world.h"

/* every step is an event, a lease and a checkpoint: the clock of fault.h takes it for slow */
static const char spec[] =
    "{\"dataset\": \"d\", \"seed\": 7,"
    " \"model\": {\"layers\": [{\"op\": \"flatten\"},"
    "   {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
    " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"adam\", \"lr\": 0.05},"
    " \"privacy\": {\"noise_multiplier\": 2, \"max_grad_norm\": 1},"
    " \"train\": {\"batch_size\": 64, \"steps\": 12, \"eval_every\": 5,"
    "   \"checkpoint_every\": 1}}";

/* long enough to be interrupted */
static const char long_spec[] =
    "{\"dataset\": \"d\","
    " \"model\": {\"layers\": [{\"op\": \"flatten\"},"
    "   {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
    " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\", \"lr\": 0.1},"
    " \"privacy\": {\"noise_multiplier\": 50, \"max_grad_norm\": 1},"
    " \"train\": {\"batch_size\": 8, \"steps\": 20000}}";

static struct world w;
static struct problem p;
static char path[64], id[JOBS_ID_SIZE];

static void open_world(int max_running)
{
    ck_assert(world_open(&w, path, fault_env(), max_running));
}

static void fresh(int max_running)
{
    strcpy(path, tmpdir_new());
    open_world(max_running);
    ck_assert_int_eq(world_add_digits(&w, "d"), 0);
}

static void verify(void)
{
    char text[256];
    int r = ledger_verify(w.store, NULL, text, sizeof text);
    ck_assert_msg(r == 0, "%s", text);
}

static struct ledger_account account(void)
{
    struct ledger_account a;
    ck_assert_int_eq(ledger_account(w.store, STORE_READER, id, &a, &p), 0);
    return a;
}

static bool file_exists(const char *name)
{
    char file[256];
    snprintf(file, sizeof file, "%s/jobs/%s/%s", path, id, name);
    return access(file, F_OK) == 0;
}

static const char *const left_over[] = { "secret",           "secret.tmp",   "checkpoint-0",
                                         "checkpoint-1.tmp", "checkpoint-1", "metrics.csv.tmp" };

static void check_swept(void)
{
    for (size_t i = 0; i < sizeof left_over / sizeof *left_over; i++)
        ck_assert_msg(!file_exists(left_over[i]), "%s is still there", left_over[i]);
}

static void submit(const char *text)
{
    int r = world_submit(&w, text, NULL, id, &p);
    ck_assert_msg(r == 0, "%d %s %s %s", r, p.title, p.errors[0].pointer, p.errors[0].message);
}

/* ---- to the end ---- */

START_TEST(a_job_runs_to_its_artifacts)
{
    fresh(1);
    submit(spec);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_SUCCEEDED);
    /* queued, running, 12 steps, 3 evaluations, 12 checkpoints, 4 artifacts, status, end */
    ck_assert_int_eq(world_check_events(&w, id), 2 + 12 + 3 + 12 + 4 + 2);
    struct ledger_account a = account();
    ck_assert(a.leased == 12 && a.settled);
    static const char *const left[] = { "model.safetensors", "metrics.csv", "privacy.json",
                                        "job.json" };
    static const char *const gone[] = { "secret", "checkpoint-0", "checkpoint-1" };
    for (int i = 0; i < 4; i++)
        ck_assert(file_exists(left[i]));
    for (int i = 0; i < 3; i++)
        ck_assert(!file_exists(gone[i]));
    verify();
    world_close(&w);
}
END_TEST

START_TEST(events_tell_no_exact_number_of_private_data)
{
    fresh(1);
    submit(spec);
    ck_assert(world_run(&w, id));
    struct answer answer;
    struct job_view *view = NULL;
    ck_assert_int_eq(jobs_get(w.jobs, id, NULL, &answer, &p), 0);
    ck_assert_int_eq(job_view_decode(&view, answer.text, answer.size, &p), 0);
    /* the share of clipped records is a count by 64, unless it has noise of its own */
    double count = view->metrics->clip_fraction * 64;
    ck_assert(fabs(count - round(count)) > 1e-9);
    ck_assert(!view->metrics->is_private);
    ck_assert(view->privacy->steps == 12 && view->privacy->epsilon > 0 &&
              view->privacy->epsilon <= view->privacy->epsilon_at_end * (1 + 1e-12));
    job_view_free(view);
    answer_clear(&answer);
    world_close(&w);
}
END_TEST

/* ---- interrupted ---- */

static char *uninterrupted(size_t *np)
{
    fresh(1);
    submit(spec);
    ck_assert(world_run(&w, id));
    char *model = world_model(&w, id, np);
    world_close(&w);
    return model;
}

static void finish_and_compare(const char *want, size_t n)
{
    size_t got_n = 0;
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_SUCCEEDED);
    ck_assert_int_gt(world_check_events(&w, id), 0);
    struct ledger_account a = account();
    ck_assert(a.leased == 12 && a.settled); /* running steps again has cost nothing */
    char *got = world_model(&w, id, &got_n);
    ck_assert_uint_eq(got_n, n);
    ck_assert_mem_eq(got, want, n);
    free(got);
    verify();
}

START_TEST(a_drained_job_goes_on_bit_for_bit)
{
    size_t n;
    char *want = uninterrupted(&n);
    for (int64_t stop = 1; stop < 12; stop += 3) {
        fresh(1);
        submit(spec);
        ck_assert(world_run_steps(&w, id, stop));
        world_drain(&w);
        enum job_status status = world_status(&w, id);
        ck_assert(status == JOB_STATUS_QUEUED || status == JOB_STATUS_SUCCEEDED);
        char other[JOBS_ID_SIZE];
        ck_assert_int_eq(world_submit(&w, spec, NULL, other, &p), ERROR_REFUSED);
        ck_assert_int_eq(p.code, PROBLEM_DRAINING);
        world_close(&w);
        open_world(1);
        finish_and_compare(want, n);
        world_close(&w);
    }
    free(want);
}
END_TEST

/* The child works until the power goes; what its commits have let out goes to the parent. */
static void work_until_cut(int fd, uint64_t n, uint64_t seed)
{
    int64_t told = 0;
    open_world(1);
    fault_arm(FAULT_CUT, n, seed);
    if (world_submit(&w, spec, "key", id, &p))
        _exit(1);
    store_commit(w.store);
    if (write(fd, "s", 1) != 1)
        _exit(1);
    for (;;) {
        enum job_status status = world_status(&w, id);
        for (int64_t step = world_steps(&w, id); told < step; told++)
            if (write(fd, ".", 1) != 1)
                _exit(1);
        if (status && job_status_terminal(status))
            _exit(w.fatal ? 1 : 0);
        uv_run(&w.loop, UV_RUN_ONCE);
    }
}

static bool cut_at(uint64_t n, int *releasedp, bool *ackedp)
{
    fresh(0);
    world_close(&w);
    int fds[2], status = 0;
    ck_assert_int_eq(pipe(fds), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        work_until_cut(fds[1], n, 31 * n);
    close(fds[1]);
    *releasedp = 0;
    *ackedp = false;
    for (char c; read(fds[0], &c, 1) == 1;) {
        *ackedp |= c == 's';
        *releasedp += c == '.';
    }
    close(fds[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
    return WEXITSTATUS(status) == FAULT_EXIT;
}

START_TEST(a_power_cut_loses_nothing_that_was_promised)
{
    size_t n_model;
    char *want = uninterrupted(&n_model);
    bool cut = true, acked;
    int released, n_cuts = 0;
    for (uint64_t n = 1 + (uint64_t)_i; cut; n += 7) {
        cut = cut_at(n, &released, &acked);
        n_cuts += cut;
        open_world(0);
        verify();
        /* the same key again: the job that was acknowledged, or a first one */
        ck_assert_int_eq(world_submit(&w, spec, "key", id, &p), 0);
        ck_assert_int_eq(store_commit(w.store), 0);
        ck_assert_int_ge(account().leased, released);
        ck_assert_int_eq(account().steps, 12);
        world_close(&w);
        open_world(1);
        finish_and_compare(want, n_model);
        world_close(&w);
    }
    ck_assert_int_ge(n_cuts, 10);
    free(want);
}
END_TEST

/* ---- cancel, delete, idempotency ---- */

START_TEST(cancelling_a_queued_job_returns_all_of_its_budget)
{
    struct answer answer;
    struct ledger_budget b;
    fresh(0);
    submit(spec);
    ck_assert_int_eq(store_commit(w.store), 0);
    ck_assert_int_eq(jobs_delete(w.jobs, id, NULL, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_STATE_CONFLICT);
    ck_assert_int_eq(jobs_cancel(w.jobs, id, "eve", &answer, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_NOT_FOUND);
    ck_assert_int_eq(jobs_cancel(w.jobs, id, "ada", &answer, &p), 0);
    answer_clear(&answer);
    ck_assert_int_eq(store_commit(w.store), 0);
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_CANCELLED);
    ck_assert_int_eq(jobs_cancel(w.jobs, id, "ada", &answer, &p), 0); /* idempotent */
    answer_clear(&answer);
    ck_assert_int_eq(ledger_budget(w.store, STORE_READER, "d", &b, &p), 0);
    for (int j = 0; j < FILTER_K; j++)
        ck_assert_int_eq(b.committed.at[j], 0);
    verify();
    ck_assert_int_eq(jobs_delete(w.jobs, id, NULL, &p), 0);
    ck_assert_int_eq(store_commit(w.store), 0);
    ck_assert_int_eq(world_status(&w, id), 0);
    ck_assert_int_eq(world_check_events(&w, id), 0);
    verify(); /* the ledger keeps its rows */
    world_close(&w);
}
END_TEST

START_TEST(cancelling_a_running_job_keeps_what_was_leased)
{
    struct answer answer;
    fresh(1);
    submit(long_spec);
    ck_assert(world_run_steps(&w, id, 1));
    ck_assert_int_eq(jobs_cancel(w.jobs, id, "ada", &answer, &p), 0);
    answer_clear(&answer);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_CANCELLED);
    struct ledger_account a = account();
    ck_assert(a.settled && a.leased >= 1 && a.leased < a.steps);
    ck_assert(!file_exists("secret"));
    verify();
    world_close(&w);
}
END_TEST

START_TEST(an_idempotency_key_is_one_job)
{
    char again[JOBS_ID_SIZE];
    fresh(0);
    ck_assert_int_eq(world_submit(&w, spec, "k", id, &p), 0);
    ck_assert_int_eq(world_submit(&w, spec, "k", again, &p), 0);
    ck_assert_str_eq(id, again);
    ck_assert_int_eq(world_submit(&w, long_spec, "k", again, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_IDEMPOTENCY_KEY_REUSED);
    ck_assert_int_eq(world_submit(&w, spec, "other", again, &p), 0);
    ck_assert_str_ne(id, again);
    world_close(&w);
}
END_TEST

START_TEST(a_job_over_the_budget_is_refused_and_leaves_nothing)
{
    static const char greedy[] =
        "{\"dataset\": \"d\", \"model\": {\"layers\": [{\"op\": \"flatten\"},"
        " {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
        " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\"},"
        " \"privacy\": {\"noise_multiplier\": 0.5, \"max_grad_norm\": 1},"
        " \"train\": {\"batch_size\": 256, \"epochs\": 100}}";
    struct jobs_filter filter = { .limit = 10 };
    struct answer answer;
    fresh(0);
    ck_assert_int_eq(world_submit(&w, greedy, "k", id, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_BUDGET_EXCEEDED);
    ck_assert_int_ge(p.max_steps_that_fit, 0);
    ck_assert_int_eq(store_commit(w.store), 0);
    ck_assert_int_eq(jobs_list(w.jobs, &filter, &answer, &p), 0);
    ck_assert_ptr_nonnull(strstr(answer.text, "\"data\":[]"));
    answer_clear(&answer);
    verify();
    world_close(&w);
}
END_TEST

START_TEST(the_same_content_has_one_budget)
{
    fresh(0);
    ck_assert_int_eq(world_add_digits(&w, "d"), 0); /* nothing new */
    ck_assert_int_eq(world_add_digits(&w, "e"), ERROR_REFUSED);
    world_close(&w);
}
END_TEST

/* ---- failing files ---- */

START_TEST(a_failing_operation_ends_in_an_answer_or_a_fatal_error)
{
    bool hit = true;
    for (uint64_t n = 1; hit; n += 11) {
        fresh(1);
        fault_arm(FAULT_ONCE, n, n);
        bool submitted = world_submit(&w, spec, "k", id, &p) == 0;
        if (submitted)
            world_run(&w, id);
        hit = fault_hit();
        fault_arm(FAULT_NONE, 0, 0);
        world_close(&w);
        open_world(1);
        verify();
        ck_assert_int_eq(world_submit(&w, spec, "k", id, &p), 0);
        ck_assert(world_run(&w, id));
        enum job_status status = world_status(&w, id);
        ck_assert_msg(status == JOB_STATUS_SUCCEEDED || status == JOB_STATUS_FAILED, "%d %d",
                      (int)n, (int)status);
        verify();
        world_close(&w);
    }
}
END_TEST

/* Only files of the job: the database goes on. A checkpoint that fails is passed over, an artifact
 * that fails costs an attempt: the job ends as if nothing had happened. */
START_TEST(a_failing_file_costs_an_attempt_at_most)
{
    size_t n_model;
    char *want = uninterrupted(&n_model);
    const char *all = getenv("DPSGD_SWEEP_STRIDE");
    uint64_t stride = all ? strtoull(all, NULL, 10) : 3; /* a file is written in four operations */
    bool hit = true;
    int n_warned = 0, n_attempts = 0;
    fault_files_only(true);
    for (uint64_t n = 2; hit; n += stride) {
        fresh(1);
        fault_arm(FAULT_ONCE, n, n);
        submit(spec);
        finish_and_compare(want, n_model);
        hit = fault_hit();
        n_warned += world_count_events(&w, id, "checkpoint_failed");
        n_attempts += world_count_events(&w, id, "\"to\":\"running\"") - 1;
        /* what an artifact costs is not paid in steps: the last one is told again, none is run */
        ck_assert_int_le(world_count_events(&w, id, "\"event\":\"step\""), 12 + 1);
        fault_arm(FAULT_NONE, 0, 0);
        world_close(&w);
        open_world(1); /* what could not be removed then is removed now */
        check_swept();
        world_close(&w);
    }
    fault_files_only(false);
    /* write, sync, rename of 12 and of 4, and their folder's sync */
    ck_assert_int_ge(n_warned, 3 * 12 / (int)stride);
    ck_assert_int_ge(n_attempts, 3 * 4 / (int)stride);
    free(want);
}
END_TEST

START_TEST(a_job_without_a_folder_costs_nothing)
{
    fresh(1);
    fault_files_only(true);
    fault_arm(FAULT_ONCE, 1, 1);
    submit(spec);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_FAILED);
    struct ledger_account a = account();
    ck_assert(a.settled && a.leased == 0);
    verify();
    fault_files_only(false);
    world_close(&w);
}
END_TEST

START_TEST(a_full_disk_for_files_ends_the_job_with_that_reason)
{
    fresh(1);
    fault_files_only(true);
    fault_arm(FAULT_FULL, 1, 1);
    submit(spec);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_FAILED);
    ck_assert_int_ge(world_count_events(&w, id, "\"disk_full\""), 1);
    struct ledger_account a = account();
    ck_assert(a.settled && a.leased == 12); /* they were run, and may have left */
    ck_assert(!file_exists("model.safetensors"));
    verify();
    fault_arm(FAULT_NONE, 0, 0);
    fault_files_only(false);
    world_close(&w);
}
END_TEST

/* The worker is ahead of the log while the log cannot grow; then all is there, once, in order. */
START_TEST(a_full_disk_under_the_log_loses_no_event)
{
    fresh(1);
    fault_database_only(true);
    submit(spec);
    ck_assert(world_run_steps(&w, id, 3));
    int64_t steps = world_steps(&w, id);
    fault_arm(FAULT_FULL, 1, 1);
    while (fault_count() < 2 && !w.fatal) /* refused, and refused again */
        uv_run(&w.loop, UV_RUN_ONCE);
    ck_assert_int_eq(world_steps(&w, id), steps);
    fault_arm(FAULT_NONE, 0, 0);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_SUCCEEDED);
    /* as in a_job_runs_to_its_artifacts */
    ck_assert_int_eq(world_check_events(&w, id), 2 + 12 + 3 + 12 + 4 + 2);
    for (int step = 1; step <= 12; step++) {
        char part[64];
        snprintf(part, sizeof part, "\"step\":%d,\"of\":12", step);
        ck_assert_int_eq(world_count_events(&w, id, part), 1);
    }
    verify();
    fault_database_only(false);
    world_close(&w);
}
END_TEST

/* ---- left over ---- */

static void plant(const char *folder, const char *name)
{
    char file[256];
    snprintf(file, sizeof file, "%s/jobs/%s", path, folder);
    mkdir(file, 0700);
    snprintf(file, sizeof file, "%s/jobs/%s/%s", path, folder, name);
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fputs("left over", f);
    fclose(f);
}

START_TEST(what_a_crash_has_left_is_swept_at_the_next_start)
{
    static const char unknown[] = "job_00000000000000000000000000";
    char ended[JOBS_ID_SIZE], file[256];
    fresh(1);
    submit(spec);
    ck_assert(world_run(&w, id));
    memcpy(ended, id, sizeof ended);
    world_close(&w);
    open_world(0);
    submit(spec);
    ck_assert_int_eq(store_commit(w.store), 0);
    world_close(&w);
    for (size_t i = 0; i < sizeof left_over / sizeof *left_over; i++) {
        plant(ended, left_over[i]);
        plant(unknown, left_over[i]);
        plant(id, left_over[i]);
    }
    plant(unknown, "model.safetensors");
    plant("lost+found", "secret");
    open_world(0);
    ck_assert(file_exists("secret") && file_exists("checkpoint-0")); /* a waiting job's */
    memcpy(id, ended, sizeof id);
    check_swept();
    ck_assert(file_exists("model.safetensors"));
    snprintf(file, sizeof file, "%s/jobs/%s", path, unknown);
    ck_assert_int_ne(access(file, F_OK), 0);
    snprintf(file, sizeof file, "%s/jobs/lost+found/secret", path);
    ck_assert_int_eq(access(file, F_OK), 0);
    world_close(&w);
}
END_TEST

/* ---- events ---- */

START_TEST(a_slow_log_loses_no_step)
{
    enum { STEPS = 500 };
    static const char fast[] =
        "{\"dataset\": \"d\", \"seed\": 7, \"model\": {\"layers\": [{\"op\": \"flatten\"},"
        "   {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}]},"
        " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\"},"
        " \"privacy\": {\"noise_multiplier\": 50, \"max_grad_norm\": 1},"
        " \"train\": {\"batch_size\": 2, \"steps\": 500}}";
    strcpy(path, tmpdir_new());
    ck_assert(world_open(&w, path, env_system(), 1)); /* real clock: long leases */
    ck_assert_int_eq(world_add_digits(&w, "d"), 0);
    submit(fast);
    while (!job_status_terminal(world_status(&w, id))) {
        uv_run(&w.loop, UV_RUN_ONCE);
        usleep(5000); /* the worker runs ahead */
    }
    ck_assert_int_eq(world_count_events(&w, id, "\"event\":\"step\""), STEPS);
    world_close(&w);
}
END_TEST

START_TEST(a_private_test_split_is_not_looked_at)
{
    static const char dataset[] = "{\"name\": \"v\", \"format\": \"csv\","
                                  " \"files\": {\"train\": \"a.csv\", \"test\": \"b.csv\"},"
                                  " \"inputs\": {\"kind\": \"features\"}, \"classes\": 2,"
                                  " \"test_split\": \"private\","
                                  " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}";
    static const char job[] =
        "{\"dataset\": \"v\", \"model\": {\"layers\": ["
        "   {\"op\": \"linear\", \"in_features\": 2, \"out_features\": 2}]},"
        " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\"},"
        " \"privacy\": {\"noise_multiplier\": 4, \"max_grad_norm\": 1},"
        " \"train\": {\"batch_size\": 4, \"steps\": 4, \"eval_every\": 1}}";
    fresh(1);
    world_add_files(&w, dataset);
    submit(job);
    ck_assert(world_run(&w, id));
    ck_assert_int_eq(world_status(&w, id), JOB_STATUS_SUCCEEDED);
    ck_assert_int_eq(world_count_events(&w, id, "\"eval_skipped\""), 1);
    ck_assert_int_eq(world_count_events(&w, id, "\"event\":\"eval\""), 0);
    ck_assert_int_eq(account().leased, 4);
    verify();
    world_close(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jobs");
    TCase *tc = tcase_create("jobs"), *power = tcase_create("power");
    tcase_set_timeout(tc, 240);
    tcase_set_timeout(power, 240);
    tcase_add_test(tc, a_job_runs_to_its_artifacts);
    tcase_add_test(tc, events_tell_no_exact_number_of_private_data);
    tcase_add_test(tc, a_drained_job_goes_on_bit_for_bit);
    tcase_add_loop_test(power, a_power_cut_loses_nothing_that_was_promised, 0, 2);
    tcase_add_test(tc, cancelling_a_queued_job_returns_all_of_its_budget);
    tcase_add_test(tc, cancelling_a_running_job_keeps_what_was_leased);
    tcase_add_test(tc, an_idempotency_key_is_one_job);
    tcase_add_test(tc, a_job_over_the_budget_is_refused_and_leaves_nothing);
    tcase_add_test(tc, the_same_content_has_one_budget);
    tcase_add_test(tc, a_failing_operation_ends_in_an_answer_or_a_fatal_error);
    tcase_add_test(tc, a_failing_file_costs_an_attempt_at_most);
    tcase_add_test(tc, a_job_without_a_folder_costs_nothing);
    tcase_add_test(tc, a_full_disk_for_files_ends_the_job_with_that_reason);
    tcase_add_test(tc, a_full_disk_under_the_log_loses_no_event);
    tcase_add_test(tc, what_a_crash_has_left_is_swept_at_the_next_start);
    tcase_add_test(tc, a_slow_log_loses_no_step);
    tcase_add_test(tc, a_private_test_split_is_not_looked_at);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, power);
    return suite_run(suite);
}
