#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/accept.h"
#include "http/auth.h"
#include "http/guard.h"
#include "http/limit.h"
#include "http/target.h"
#include "suite.h"

/* ---- target ---- */

START_TEST(targets_are_taken_apart)
{
    struct target t;
    ck_assert_ptr_null(target_parse(&t, "/jobs/j%201/events?after=3&x=a+b%26c&flag"));
    ck_assert_uint_eq(t.n_segments, 3);
    ck_assert_str_eq(t.segments[1], "j 1");
    ck_assert_str_eq(target_param(&t, "after"), "3");
    ck_assert_str_eq(target_param(&t, "x"), "a b&c");
    ck_assert_str_eq(target_param(&t, "flag"), "");
    ck_assert_ptr_null(target_param(&t, "none"));
    target_clear(&t);
    ck_assert_ptr_null(target_parse(&t, "/"));
    ck_assert_uint_eq(t.n_segments, 0);
    target_clear(&t);
    ck_assert_ptr_null(target_parse(&t, "/jobs/"));
    ck_assert_uint_eq(t.n_segments, 2); /* the last one is empty: no route has it */
    target_clear(&t);
}
END_TEST

static const char *const bad_targets[] = {
    "", "jobs", "http://h/jobs", "*", "/a%", "/a%0", "/a%zz", "/a%00b", "/a%0ab", "/a%7f",
    "/a/../b", "/a/%2e%2E/b", "/./a", "/a%2fb", "/a%ff", "/a%c0%af", "/a%ed%a0%80",
    "/1/2/3/4/5/6/7/8/9", "/a?b=%00", "/a?x=1&x=2", "/a?b=%", "/a?b=%f8%88%80%80%80",
    "/a?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17",
};

START_TEST(bad_targets_are_refused)
{
    struct target t;
    ck_assert_ptr_nonnull(target_parse(&t, bad_targets[_i]));
    target_clear(&t);
}
END_TEST

START_TEST(long_targets_are_refused)
{
    static char text[TARGET_MAX + 2];
    struct target t;
    memset(text, 'a', sizeof text - 1);
    text[0] = '/';
    ck_assert_ptr_nonnull(target_parse(&t, text));
    target_clear(&t);
    text[TARGET_MAX] = '\0';
    ck_assert_ptr_null(target_parse(&t, text));
    target_clear(&t);
}
END_TEST

/* ---- accept ---- */

static const struct {
    const char *accept;
    int offer;
} accepts[] = {
    { NULL, 0 },
    { "", 0 },
    { "*/*", 0 },
    { "application/json", 0 },
    { "text/event-stream", 1 },
    { "TEXT/Event-Stream; charset=utf-8", 1 },
    { "text/*", 1 },
    { "text/html, text/event-stream;q=0.5, application/json;q=0.4", 1 },
    { "application/json;q=0, */*", 1 },
    { "application/json;q=0.1, text/event-stream;q=0.100", 0 },
    { "text/html", -1 },
    { "application/json;q=0", -1 },
    { "application/json;q=2", -1 },
    { "application/json;q=x", -1 },
    { ",,,", -1 },
    { "application", -1 },
    { "*/*;q=0.001", 0 },
};

START_TEST(accept_chooses)
{
    static const char *const offers[] = { "application/json", "text/event-stream" };
    ck_assert_int_eq(accept_best(accepts[_i].accept, offers, 2), accepts[_i].offer);
}
END_TEST

START_TEST(content_types_match)
{
    ck_assert(accept_content_type("application/json", "application/json"));
    ck_assert(accept_content_type("Application/JSON; charset=UTF-8", "application/json"));
    ck_assert(accept_content_type("application/json;charset=\"utf-8\"", "application/json"));
    ck_assert(!accept_content_type("application/json; charset=latin1", "application/json"));
    ck_assert(!accept_content_type("application/jsonx", "application/json"));
    ck_assert(!accept_content_type("text/json", "application/json"));
    ck_assert(!accept_content_type(NULL, "application/json"));
}
END_TEST

/* ---- guard ---- */

static const struct {
    unsigned n_length, n_te, n_host, n_origin;
    const char *length, *te, *host, *origin;
    enum problem_type type;
} guards[] = {
    { 0, 0, 1, 0, NULL, NULL, "localhost:80", NULL, PROBLEM_NONE },
    { 1, 0, 1, 0, "12", NULL, "127.0.0.1", NULL, PROBLEM_NONE },
    { 0, 1, 1, 0, NULL, "chunked", "[::1]:80", NULL, PROBLEM_NONE },
    { 1, 1, 1, 0, "12", "chunked", "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 2, 0, 1, 0, "12", NULL, "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 1, 0, 1, 0, "+12", NULL, "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 1, 0, 1, 0, "12, 12", NULL, "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 1, 0, 1, 0, "99999999999999999999", NULL, "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 0, 1, 1, 0, NULL, "gzip, chunked", "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 0, 2, 1, 0, NULL, "chunked", "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 0, 1, 1, 0, NULL, "identity", "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 0, 0, 0, 0, NULL, NULL, NULL, NULL, PROBLEM_BAD_REQUEST },
    { 0, 0, 2, 0, NULL, NULL, "localhost", NULL, PROBLEM_BAD_REQUEST },
    { 0, 0, 1, 0, NULL, NULL, "evil.example", NULL, PROBLEM_MISDIRECTED_REQUEST },
    { 0, 0, 1, 0, NULL, NULL, "localhost.evil.example", NULL, PROBLEM_MISDIRECTED_REQUEST },
    { 0, 0, 1, 0, NULL, NULL, "", NULL, PROBLEM_MISDIRECTED_REQUEST },
    { 0, 0, 1, 0, NULL, NULL, "[::1", NULL, PROBLEM_MISDIRECTED_REQUEST },
    { 0, 0, 1, 0, NULL, NULL, "lab.example:80", NULL, PROBLEM_NONE },
    { 0, 0, 1, 0, NULL, NULL, "10.0.0.7:80", NULL, PROBLEM_NONE },
    { 0, 0, 1, 1, NULL, NULL, "localhost:80", "http://localhost:80", PROBLEM_NONE },
    { 0, 0, 1, 1, NULL, NULL, "localhost:80", "http://localhost:3000", PROBLEM_FORBIDDEN },
    { 0, 0, 1, 1, NULL, NULL, "localhost:80", "null", PROBLEM_FORBIDDEN },
    { 0, 0, 1, 1, NULL, NULL, "localhost:80", "https://evil.example", PROBLEM_FORBIDDEN },
    { 0, 0, 1, 1, NULL, NULL, "localhost:80", "https://lab.example", PROBLEM_NONE },
    { 0, 0, 1, 2, NULL, NULL, "localhost:80", "http://localhost:80", PROBLEM_FORBIDDEN },
};

START_TEST(guard_knows_what_is_odd)
{
    struct guard_headers h = { .n_content_length = guards[_i].n_length,
                               .n_transfer_encoding = guards[_i].n_te,
                               .n_host = guards[_i].n_host,
                               .n_origin = guards[_i].n_origin,
                               .content_length = guards[_i].length,
                               .transfer_encoding = guards[_i].te,
                               .host = guards[_i].host,
                               .origin = guards[_i].origin };
    const char *why = NULL;
    ck_assert_int_eq(guard_check(&h, false, false, "x.example, lab.example", "10.0.0.7", &why),
                     guards[_i].type);
    if (guards[_i].type == PROBLEM_MISDIRECTED_REQUEST) /* the Unix socket has no names */
        ck_assert_int_eq(guard_check(&h, false, true, "", "", &why), PROBLEM_NONE);
}
END_TEST

/* ---- rate ---- */

START_TEST(bucket_gives_burst_then_rate)
{
    struct bucket bucket = { 0 };
    unsigned wait = 0;
    for (int i = 0; i < 5; i++)
        ck_assert(bucket_take(&bucket, 1000, 2, 5, &wait));
    ck_assert(!bucket_take(&bucket, 1000, 2, 5, &wait));
    ck_assert_uint_eq(wait, 1);
    ck_assert(!bucket_take(&bucket, 1499, 2, 5, &wait));
    ck_assert(bucket_take(&bucket, 1500, 2, 5, &wait));
    ck_assert(!bucket_take(&bucket, 1400, 2, 5, &wait)); /* a clock that steps back gives none */
    for (int i = 0; i < 5; i++)
        ck_assert(bucket_take(&bucket, 1000000, 2, 5, &wait));
    ck_assert(!bucket_take(&bucket, 1000000, 2, 5, &wait));
}
END_TEST

/* ---- tokens ---- */

static char dir[64];
static struct auth *auth;
static char why[256];

static void auth_setup(void)
{
    strcpy(dir, "/tmp/test_http_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_msg(auth_open(&auth, env_system(), dir, why, sizeof why) == 0, "%s", why);
}

static void auth_teardown(void)
{
    static const char *const names[] = { "tokens.json", "admin.token", "tokens.json.tmp" };
    char path[128];
    auth = auth_close(auth);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void read_state(const char *name, char *buf, size_t size)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    FILE *in = fopen(path, "r");
    ck_assert_ptr_nonnull(in);
    size_t n = fread(buf, 1, size - 1, in);
    buf[n] = '\0';
    fclose(in);
}

START_TEST(first_start_makes_an_admin_token)
{
    char text[128], again[128], table[4096];
    read_state("admin.token", text, sizeof text);
    text[strcspn(text, "\n")] = '\0';
    ck_assert_uint_eq(strlen(text), AUTH_TOKEN_TEXT - 1);
    struct auth_token *token = auth_find(auth, text, 1000);
    ck_assert_ptr_nonnull(token);
    ck_assert_int_eq(token->role, AUTH_ADMIN);
    read_state("tokens.json", table, sizeof table);
    ck_assert_ptr_null(strstr(table, text + 4)); /* only its hash */
    auth = auth_close(auth);
    ck_assert_int_eq(auth_open(&auth, env_system(), dir, why, sizeof why), 0);
    read_state("admin.token", again, sizeof again);
    ck_assert_int_eq(strncmp(text, again, strlen(text)), 0);
    ck_assert_ptr_nonnull(auth_find(auth, text, 1000));
    ck_assert_uint_eq(auth_count(auth), 1);
}
END_TEST

START_TEST(tokens_live_expire_and_go)
{
    char text[AUTH_TOKEN_TEXT], id[24];
    const struct auth_token *token;
    ck_assert_int_eq(auth_create(auth, "ada", AUTH_SUBMITTER, 1000, 2000, text, &token), 0);
    strcpy(id, token->id);
    ck_assert_ptr_nonnull(auth_find(auth, text, 1999));
    ck_assert_ptr_null(auth_find(auth, text, 2000));
    text[10] ^= 1;
    ck_assert_ptr_null(auth_find(auth, text, 1000));
    text[10] ^= 1;
    ck_assert_ptr_null(auth_find(auth, "", 1000));
    auth = auth_close(auth);
    ck_assert_int_eq(auth_open(&auth, env_system(), dir, why, sizeof why), 0);
    ck_assert_str_eq(auth_find(auth, text, 1000)->owner, "ada");
    ck_assert_int_eq(auth_remove(auth, id), 0);
    ck_assert_int_eq(auth_remove(auth, id), -ENOENT);
    ck_assert_ptr_null(auth_find(auth, text, 1000));
    ck_assert_int_eq(auth_remove(auth, auth_at(auth, 0)->id), -EBUSY);
}
END_TEST

START_TEST(a_damaged_table_does_not_open)
{
    static const char *const tables[] = {
        "", "{}", "[1]", "[{\"id\":\"x\"}]",
        "[{\"id\":\"x\",\"owner\":\"a b\",\"role\":\"admin\",\"sha256\":\"\",\"created_ms\":0,"
        "\"expires_ms\":0}]",
        "[{\"id\":\"x\",\"owner\":\"a\",\"role\":\"admin\",\"sha256\":\"00\",\"created_ms\":0,"
        "\"expires_ms\":0}]",
    };
    char path[128];
    auth = auth_close(auth);
    snprintf(path, sizeof path, "%s/tokens.json", dir);
    FILE *out = fopen(path, "w");
    fputs(tables[_i], out);
    fclose(out);
    ck_assert_int_eq(auth_open(&auth, env_system(), dir, why, sizeof why), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(why, "tokens.json"));
    auth = NULL;
}
END_TEST

START_TEST(the_table_is_bounded)
{
    char text[AUTH_TOKEN_TEXT];
    const struct auth_token *token;
    int r = 0;
    for (int i = 0; r == 0 && i < 40; i++)
        r = auth_create(auth, "ada", AUTH_VIEWER, 1000, 0, text, &token);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(auth_count(auth), 41);
    ck_assert(!auth_owner_valid(""));
    ck_assert(!auth_owner_valid("a b"));
    ck_assert(!auth_owner_valid("a\n"));
    ck_assert(auth_owner_valid("ada@lab.example"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tc = tcase_create("parts");
    tcase_add_test(tc, targets_are_taken_apart);
    tcase_add_loop_test(tc, bad_targets_are_refused, 0,
                        (int)(sizeof bad_targets / sizeof bad_targets[0]));
    tcase_add_test(tc, long_targets_are_refused);
    tcase_add_loop_test(tc, accept_chooses, 0, (int)(sizeof accepts / sizeof accepts[0]));
    tcase_add_test(tc, content_types_match);
    tcase_add_loop_test(tc, guard_knows_what_is_odd, 0, (int)(sizeof guards / sizeof guards[0]));
    tcase_add_test(tc, bucket_gives_burst_then_rate);
    suite_add_tcase(suite, tc);
    tc = tcase_create("tokens");
    tcase_add_checked_fixture(tc, auth_setup, auth_teardown);
    tcase_add_test(tc, first_start_makes_an_admin_token);
    tcase_add_test(tc, tokens_live_expire_and_go);
    tcase_add_loop_test(tc, a_damaged_table_does_not_open, 0, 6);
    tcase_add_test(tc, the_table_is_bounded);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
