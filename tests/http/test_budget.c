/* A custodian at work: spending elsewhere, caps, freezing; and dpsgctl ledger on a file that
 * somebody has changed. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http.h"
#include "psg/accountant.h"
#include "suite.h"

static struct fixture f;

static void setup(void)
{
    fixture_start(&f, "[Run]\nCores=1\n[Limits]\nRate=100000\nBurst=100000\n");
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* "dpsgctl arguments" with the admin's token; both outputs in text, the exit status */
static int dpsgctl(const char *arguments, char *text, size_t size)
{
    char command[2048];
    snprintf(command, sizeof command,
             "DPSGD_URL=http://127.0.0.1:%d DPSGD_TOKEN='%s' '%s' %s 2>&1", f.port, f.token,
             getenv("DPSGCTL"), arguments);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t n = fread(text, 1, size - 1, pipe);
    text[n] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char output[65536];

static void expect_dpsgctl(const char *arguments, int status, const char *words)
{
    int got = dpsgctl(arguments, output, sizeof output);
    ck_assert_msg(got == status && strstr(output, words), "%s: %d %s", arguments, got, output);
}

static double budget(const char *member)
{
    struct reply r = http(&f, "GET", "/datasets/digits/budget", NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    double value = json_number_value(json_object_get(r.json, member));
    reply_free(&r);
    return value;
}

static struct reply import(const char *body)
{
    return http(&f, "POST", "/datasets/digits/ledger", body, NULL);
}

/* epsilon at delta 1e-5 by the filter's rule, from single steps' divergences */
static double filter_epsilon_of(const struct psg_dp_event *event, size_t n)
{
    static const double orders[] = { 2, 3, 4, 6, 10, 20, 48, 128 };
    double best = INFINITY;
    for (int j = 0; j < 8; j++) {
        double total = 0, rdp = 0;
        for (size_t i = 0; i < n; i++) {
            ck_assert_int_eq(psg_rdp_step(event[i].sample_rate, event[i].noise_multiplier,
                                          orders[j], &rdp, NULL),
                             0);
            total += rdp * (double)event[i].steps;
        }
        best = fmin(best, total + log(8 / 1e-5) / (orders[j] - 1));
    }
    return best;
}

static json_t *last_row(struct reply *r)
{
    *r = http(&f, "GET", "/datasets/digits/ledger?limit=1000", NULL, NULL);
    json_t *data = json_object_get(r->json, "data");
    return json_array_get(data, json_array_size(data) - 1);
}

static void expect_row(const char *kind, const char *note)
{
    struct reply r;
    json_t *row = last_row(&r);
    ck_assert_str_eq(json_string_value(json_object_get(row, "kind")), kind);
    ck_assert_str_eq(json_string_value(json_object_get(row, "note")), note);
    ck_assert_ptr_nonnull(json_string_value(json_object_get(row, "actor"))); /* who */
    ck_assert_ptr_nonnull(json_string_value(json_object_get(row, "at")));    /* when */
    reply_free(&r);
}

START_TEST(what_was_released_elsewhere_counts)
{
    static const struct psg_dp_event events[] = { { 0.01, 1.1, 1000 }, { 0.05, 3, 200 } };
    struct reply r =
        import("{\"events\":[{\"sample_rate\":0.01,\"noise_multiplier\":1.1,\"steps\":1000},"
               "{\"sample_rate\":0.05,\"noise_multiplier\":3,\"steps\":200}],"
               "\"reason\":\"paper of 2024\"}");
    ck_assert_msg(r.status == 200, "%s", r.body);
    reply_free(&r);
    ck_assert_double_eq_tol(budget("spent"), filter_epsilon_of(events, 2), 1e-4);
    expect_row("import", "paper of 2024");
    /* over the cap: nothing is counted, and the answer says which cap would do */
    double spent = budget("spent"), cap = 0;
    r = import("{\"epsilon\":7,\"reason\":\"a survey\"}");
    ck_assert_int_eq(r.status, 409);
    ck_assert_str_eq(reply_text(&r, "type"), "/problems/budget-exceeded");
    const char *said = strstr(reply_text(&r, "detail"), "a cap of epsilon ");
    ck_assert_msg(said && sscanf(said, "a cap of epsilon %lf", &cap) == 1 && cap > 8, "%s", r.body);
    reply_free(&r);
    ck_assert(budget("spent") == spent);
    char command[128];
    snprintf(command, sizeof command,
             "ledger raise digits --epsilon %.6g --reason 'board of May 3'", cap);
    expect_dpsgctl(command, 0, "\"available\"");
    expect_row("raise_cap", "board of May 3");
    expect_dpsgctl("ledger import digits --epsilon 7 --reason 'a survey' --json", 0, "\"spent\"");
    ck_assert_double_le(budget("spent"), cap);
    ck_assert_double_ge(budget("spent"), cap * 0.999);
    r = http(&f, "PATCH", "/datasets/digits/budget", "{\"epsilon\":8,\"reason\":\"back\"}", NULL);
    ck_assert_int_eq(r.status, 409);
    reply_free(&r);
}
END_TEST

START_TEST(frozen_budgets_admit_nothing)
{
    char job[64];
    expect_dpsgctl("ledger freeze digits --reason 'audit week'", 0, "\"frozen\": true");
    expect_row("freeze", "audit week");
    char *body = read_file(getenv("JOB_FILE"), NULL);
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 409);
    reply_free(&r);
    free(body);
    expect_dpsgctl("ledger import digits --event 0.01,2,10 --reason late", 0, "\"frozen\": true");
    expect_dpsgctl("ledger unfreeze digits --reason done", 0, "\"frozen\": false");
    expect_row("thaw", "done");
    http_submit(&f, job, sizeof job);
    expect_dpsgctl("ledger show digits", 0, "\"kind\": \"reserve\"");
    expect_dpsgctl("budget show digits", 0, "\"reserved\"");
}
END_TEST

START_TEST(imports_have_places_for_their_mistakes)
{
    static const struct {
        const char *body, *pointer;
    } cases[] = {
        { "{\"reason\":\"x\"}", "" },
        { "{\"epsilon\":1}", "/reason" },
        { "{\"epsilon\":-1,\"reason\":\"x\"}", "/epsilon" },
        { "{\"events\":[{\"sample_rate\":1.5,\"noise_multiplier\":1,\"steps\":1}],"
          "\"reason\":\"x\"}", "/events/0/sample_rate" },
        { "{\"events\":[{\"sample_rate\":0.5,\"noise_multiplier\":0,\"steps\":1}],"
          "\"reason\":\"x\"}", "/events/0/noise_multiplier" },
        { "{\"events\":[{\"sample_rate\":0.5,\"noise_multiplier\":1}],\"reason\":\"x\"}",
          "/events/0/steps" },
        { "{\"epsilon\":1,\"delta\":0.1,\"reason\":\"x\"}", "/delta" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply r = import(cases[i].body);
        json_t *first = json_array_get(json_object_get(r.json, "errors"), 0);
        const char *at = json_string_value(json_object_get(first, "pointer"));
        ck_assert_msg(r.status / 100 == 4 && r.status != 409 && at && strcmp(at, cases[i].pointer) == 0, "%s: %s",
                      cases[i].body, r.body);
        reply_free(&r);
    }
    http_expect(&f, "POST", "/datasets/none/ledger", "{\"epsilon\":1,\"reason\":\"x\"}", 404);
    static const char *const roles[] = { "viewer", "submitter" };
    for (size_t i = 0; i < 2; i++) {
        char header[160];
        http_token(&f, "eve", roles[i], header, sizeof header);
        struct reply r = http(&f, "POST", "/datasets/digits/ledger",
                              "{\"epsilon\":1,\"reason\":\"x\"}", HEADERS(header));
        ck_assert_int_eq(r.status, 403);
        reply_free(&r);
        r = http(&f, "PATCH", "/datasets/digits/budget", "{\"epsilon\":9,\"reason\":\"x\"}",
                 HEADERS(header));
        ck_assert_int_eq(r.status, 403);
        reply_free(&r);
    }
    expect_dpsgctl("ledger import digits --event 0.1,2 --reason x", 64, "SAMPLE_RATE");
    expect_dpsgctl("ledger import digits --reason x", 64, "needs");
    expect_dpsgctl("ledger raise digits --epsilon 9", 64, "needs");
    expect_dpsgctl("ledger raise digits --epsilon 0.0001 --reason x --json", 0, "0.0001");
}
END_TEST

/* ---- while a job runs, and the file afterwards ---- */

static const char long_job[] =
    "{\"dataset\":\"digits\",\"model\":{\"layers\":[{\"op\":\"flatten\"},"
    "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
    "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01},\"privacy\":{\"noise_multiplier\":200,"
    "\"max_grad_norm\":1},\"train\":{\"batch_size\":32,\"steps\":2000000}}";

static double step_of(const char *path)
{
    struct reply r = http(&f, "GET", path, NULL, NULL);
    json_t *progress = json_object_get(r.json, "progress");
    double step = json_number_value(json_object_get(progress, "step"));
    reply_free(&r);
    return step;
}

/* A ledger of some rows: a job that runs and is cancelled, imports and freezes meanwhile. */
static void make_history(void)
{
    char path[128];
    struct reply r = http(&f, "POST", "/jobs", long_job, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(path, sizeof path, "/jobs/%.63s", reply_text(&r, "id"));
    reply_free(&r);
    WAIT_UNTIL(step_of(path) > 0);
    for (int i = 0; i < 10; i++) {
        r = import("{\"events\":[{\"sample_rate\":0.02,\"noise_multiplier\":4,\"steps\":3}],"
                   "\"reason\":\"elsewhere\"}");
        ck_assert_msg(r.status == 200, "%s", r.body);
        reply_free(&r);
        http_expect(&f, "PATCH", "/datasets/digits/budget",
                    i % 2 ? "{\"frozen\":false,\"reason\":\"go\"}"
                          : "{\"frozen\":true,\"reason\":\"stop\"}",
                    200);
        double before = step_of(path);
        WAIT_UNTIL(step_of(path) > before); /* leases go on */
    }
    strcat(path, "/cancel");
    http_expect(&f, "POST", path, NULL, 202);
    path[strlen(path) - strlen("/cancel")] = '\0';
    for (int done = 0; !done; sleep_ms(20)) {
        r = http(&f, "GET", path, NULL, NULL);
        done = strcmp(reply_text(&r, "status"), "cancelled") == 0;
        reply_free(&r);
    }
}

static void expect_verify(const char *path, int status, const char *words)
{
    char arguments[256];
    snprintf(arguments, sizeof arguments, "ledger verify '%s'", path);
    expect_dpsgctl(arguments, status, words);
}

static void copy_file(const char *from, const char *to)
{
    size_t n;
    char *bytes = read_file(from, &n);
    FILE *out = fopen(to, "w");
    ck_assert(out && fwrite(bytes, 1, n, out) == n && fclose(out) == 0);
    free(bytes);
}

/* One bit of the stored hash of row 5, in the file's own bytes. */
static void flip_byte(const char *path)
{
    unsigned char sha[32];
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT sha FROM ledger WHERE seq = 5", -1, &stmt,
                                        NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    memcpy(sha, sqlite3_column_blob(stmt, 0), sizeof sha);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    size_t n;
    char *bytes = read_file(path, &n);
    int found = 0;
    for (char *at = bytes; (at = memmem(at, n - (size_t)(at - bytes), sha, sizeof sha)); at++) {
        found++;
        at[7] ^= 1; /* also where the next row repeats it */
    }
    ck_assert_int_ge(found, 1);
    FILE *out = fopen(path, "w");
    ck_assert(out && fwrite(bytes, 1, n, out) == n && fclose(out) == 0);
    free(bytes);
}

static void attack(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db,
                                  "DROP TRIGGER ledger_is_append_only_1;"
                                  "DROP TRIGGER ledger_is_append_only_2",
                                  NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

START_TEST(a_changed_file_is_found_out)
{
    static const struct {
        const char *sql, *words;
    } cases[] = {
        { NULL, "ledger row 5: the hash chain is broken" },
        { "UPDATE ledger SET note = 'elsewhere.' WHERE seq = 4 OR seq = 7",
          "ledger row 4: the hash chain is broken" },
        { "DELETE FROM ledger WHERE seq = 6", "ledger row 7: rows before it are missing" },
        { "UPDATE ledger SET seq = -1 WHERE seq = 5; UPDATE ledger SET seq = 5 WHERE seq = 6;"
          "UPDATE ledger SET seq = 6 WHERE seq = -1",
          "ledger row 5: the hash chain is broken" },
        { "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)", "(last)" },
        { "UPDATE budgets SET epsilon = 100", "(last)" },
    };
    char path[160], copy[160], arguments[300], sha[65] = "";
    make_history();
    expect_dpsgctl("ledger verify /dev/null", 1, "dpsgd");
    expect_verify(f.state, 0, "rows hold"); /* while the daemon runs */
    fixture_end(&f, SIGTERM);
    snprintf(path, sizeof path, "%s/dpsgd.db", f.state);
    snprintf(copy, sizeof copy, "%s/copy.db", f.dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_file(path, copy);
        if (cases[i].sql)
            attack(copy, cases[i].sql);
        else
            flip_byte(copy);
        expect_verify(copy, 1, cases[i].words);
    }
    expect_verify(path, 0, "rows hold");
    ck_assert_int_eq(sscanf(strstr(output, "last one is "), "last one is %64s", sha), 1);
    snprintf(arguments, sizeof arguments, "ledger verify %s --holds %s --json", path, sha);
    expect_dpsgctl(arguments, 0, "\"ok\": true");
    snprintf(arguments, sizeof arguments, "ledger verify %s --holds %.63s0 --json", path, sha);
    expect_dpsgctl(arguments, sha[63] == '0' ? 0 : 1, "\"ok\"");
    ck_assert_int_eq(truncate(copy, 5000), 0);
    expect_verify(copy, 1, "dpsgctl ledger verify");
    snprintf(arguments, sizeof arguments, "ledger verify %s/none", f.dir);
    expect_dpsgctl(arguments, 1, "No such file");
}
END_TEST

/* ---- changes that are sent again ---- */

static struct reply send_keyed(const char *method, const char *rest, const char *key,
                               const char *body)
{
    char header[128], path[128];
    snprintf(header, sizeof header, "Idempotency-Key: %s", key);
    snprintf(path, sizeof path, "/datasets/digits/%s", rest);
    return http(&f, method, path, body, HEADERS(header));
}

static size_t count_rows(const char *kind)
{
    size_t i, n = 0;
    json_t *row;
    struct reply r = http(&f, "GET", "/datasets/digits/ledger?limit=1000", NULL, NULL);
    json_array_foreach (json_object_get(r.json, "data"), i, row)
        n += strcmp(json_string_value(json_object_get(row, "kind")), kind) == 0;
    reply_free(&r);
    return n;
}

#define KEYED_IMPORT "{\"epsilon\":0.1,\"reason\":\"a survey\"}"
#define KEYED_RAISE "{\"epsilon\":9,\"reason\":\"agreed\"}"

/* status and answer to a change, as text to compare; "again" stands behind a replayed one */
static void keyed(const char *method, const char *rest, const char *key, const char *body,
                  char text[8192])
{
    struct reply r = send_keyed(method, rest, key, body);
    bool again = strcmp(reply_header(&r, "Idempotency-Replayed"), "true") == 0;
    ck_assert_msg(r.status == 200, "%s", r.body);
    snprintf(text, 8192, "%s%s", r.body, again ? "again" : "");
    reply_free(&r);
}

START_TEST(a_change_with_a_key_is_made_once)
{
    static char first[2][8192], second[8192];
    keyed("POST", "ledger", "k1", KEYED_IMPORT, first[0]);
    keyed("PATCH", "budget", "k2", KEYED_RAISE, first[1]);
    for (int restart = 0; restart < 2; restart++) {
        double spent = budget("spent");
        keyed("POST", "ledger", "k1", KEYED_IMPORT, second);
        ck_assert_uint_eq(strlen(second), strlen(first[0]) + strlen("again"));
        ck_assert_int_eq(strncmp(second, first[0], strlen(first[0])), 0);
        keyed("PATCH", "budget", "k2", KEYED_RAISE, second);
        ck_assert_uint_eq(strlen(second), strlen(first[1]) + strlen("again"));
        ck_assert_int_eq(strncmp(second, first[1], strlen(first[1])), 0);
        ck_assert(budget("spent") == spent);
        ck_assert(count_rows("import") == 1 && count_rows("raise_cap") == 1);
        if (restart == 0) {
            ck_assert(WIFSIGNALED(fixture_end(&f, SIGKILL)));
            fixture_run(&f, NULL);
        }
    }
    /* another key is another change, and so is none */
    keyed("POST", "ledger", "k3", KEYED_IMPORT, second);
    struct reply r = import(KEYED_IMPORT);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert_uint_eq(count_rows("import"), 3);
    expect_dpsgctl("ledger import digits --epsilon 0.1 --reason paper --idempotency-key k4", 0,
                   "spent");
    expect_dpsgctl("ledger import digits --epsilon 0.1 --reason paper --idempotency-key k4", 0,
                   "spent");
    expect_dpsgctl("ledger raise digits --epsilon 10 --reason more --idempotency-key k5", 0,
                   "spent");
    expect_dpsgctl("ledger raise digits --epsilon 11 --reason more --idempotency-key k5", 1,
                   "Idempotency-Key");
    ck_assert(count_rows("import") == 4 && count_rows("raise_cap") == 2);
}
END_TEST

START_TEST(a_key_with_another_body_is_refused)
{
    static char text[8192];
    char huge[300];
    struct {
        const char *method, *rest, *key, *body;
        long status;
        const char *type;
    } cases[] = {
        { "POST", "ledger", "k", "{\"epsilon\":0.2,\"reason\":\"a survey\"}", 422,
          "/problems/idempotency-key-reused" },
        { "PATCH", "budget", "k", KEYED_RAISE, 422, "/problems/idempotency-key-reused" },
        { "POST", "ledger", "with space", KEYED_IMPORT, 400, "/problems/bad-request" },
        { "POST", "ledger", huge, KEYED_IMPORT, 400, "/problems/bad-request" },
        { "PATCH", "budget", huge, KEYED_RAISE, 400, "/problems/bad-request" },
    };
    memset(huge, 'x', sizeof huge - 1);
    huge[256] = '\0';
    keyed("POST", "ledger", "k", KEYED_IMPORT, text);
    double spent = budget("spent");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[512], path[64];
        snprintf(header, sizeof header, "Idempotency-Key: %s", cases[i].key);
        snprintf(path, sizeof path, "/datasets/digits/%s", cases[i].rest);
        struct reply r = http(&f, cases[i].method, path, cases[i].body, HEADERS(header));
        ck_assert_msg(r.status == cases[i].status, "%zu: %s", i, r.body);
        ck_assert_str_eq(reply_text(&r, "type"), cases[i].type);
        reply_free(&r);
    }
    ck_assert(budget("spent") == spent && budget("epsilon") == 8);
    /* what was refused is not remembered: it may be sent again when it fits */
    struct reply r = send_keyed("POST", "ledger", "later", "{\"epsilon\":8,\"reason\":\"x\"}");
    ck_assert_int_eq(r.status, 409);
    reply_free(&r);
    keyed("PATCH", "budget", "more", "{\"epsilon\":30,\"reason\":\"agreed\"}", text);
    keyed("POST", "ledger", "later", "{\"epsilon\":8,\"reason\":\"x\"}", text);
    ck_assert_ptr_null(strstr(text, "again"));
}
END_TEST

/* The daemon is killed about when the change is made; whether it was or not, one retry with the key
 * leaves it made once. */
START_TEST(a_kill_around_a_change_charges_once)
{
    static char text[8192];
    for (int i = 0; i < 8; i++) {
        char key[32], request[512];
        snprintf(key, sizeof key, "kill-%d", i);
        snprintf(request, sizeof request,
                 "POST /datasets/digits/ledger HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                 "Authorization: Bearer %s\r\nContent-Type: application/json\r\n"
                 "Idempotency-Key: %s\r\nContent-Length: %zu\r\n\r\n%s",
                 f.token, key, strlen(KEYED_IMPORT), KEYED_IMPORT);
        int fd = raw_connect(&f);
        ck_assert(raw_puts(fd, request));
        usleep((useconds_t)(i * 700)); /* from before to after the commit */
        ck_assert(WIFSIGNALED(fixture_end(&f, SIGKILL)));
        close(fd);
        fixture_run(&f, NULL);
        keyed("POST", "ledger", key, KEYED_IMPORT, text);
        ck_assert_uint_eq(count_rows("import"), (size_t)i + 1);
    }
    double once = budget("spent");
    keyed("POST", "ledger", "kill-3", KEYED_IMPORT, text);
    ck_assert_ptr_nonnull(strstr(text, "again"));
    ck_assert(budget("spent") == once);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_budget");
    TCase *tc = tcase_create("budget");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_was_released_elsewhere_counts);
    tcase_add_test(tc, frozen_budgets_admit_nothing);
    tcase_add_test(tc, imports_have_places_for_their_mistakes);
    tcase_add_test(tc, a_change_with_a_key_is_made_once);
    tcase_add_test(tc, a_key_with_another_body_is_refused);
    tcase_add_test(tc, a_kill_around_a_change_charges_once);
    tcase_add_test(tc, a_changed_file_is_found_out);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
