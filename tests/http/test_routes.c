#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"
#include "suite.h"

/* one daemon for all cases; jobs stay queued */
static struct fixture f;

static void setup(void)
{
    fixture_start(&f, "[Run]\nMaxRunning=0\n[Limits]\nRate=100000\nBurst=100000\n");
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* Every line of routes.inc: method, a path with something at "{}", roles. */
struct line {
    char method[16], path[128], roles[32], offers[64];
    bool body;
};

static size_t read_routes(struct line *lines, size_t max)
{
    char text[512], pattern[128], handler[64], body[32];
    size_t n = 0;
    FILE *in = fopen(getenv("ROUTES_INC"), "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(text, sizeof text, in) != NULL) {
        struct line *l = &lines[n];
        if (sscanf(text, "ROUTE(%15[A-Z], \"%127[^\"]\", %63[a-z_], %31[A-Z_], %31[A-Z_],",
                   l->method, pattern, handler, l->roles, body) != 5)
            continue;
        ck_assert_uint_lt(++n, max);
        l->body = strcmp(body, "BODY_JSON") == 0;
        l->path[0] = '\0';
        for (const char *p = pattern; *p != '\0'; p++) {
            size_t at = strlen(l->path);
            if (p[0] == '{')
                strcpy(l->path + at, "none"), p++;
            else
                l->path[at] = *p, l->path[at + 1] = '\0';
        }
    }
    fclose(in);
    ck_assert_uint_ge(n, 20);
    return n;
}

START_TEST(probes_answer_anybody)
{
    const char *const *nobody = HEADERS("Authorization:");
    struct reply r = http(&f, "GET", "/livez", NULL, nobody);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_text(&r, "status"), "ok");
    reply_free(&r);
    r = http(&f, "GET", "/readyz", NULL, nobody);
    ck_assert_int_eq(r.status, 200);
    ck_assert(json_is_true(json_object_get(r.json, "ready")));
    reply_free(&r);
    r = http(&f, "HEAD", "/livez", NULL, nobody);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Length"), "15");
    ck_assert_uint_eq(r.n_body, 0);
    reply_free(&r);
}
END_TEST

START_TEST(every_answer_has_its_headers)
{
    static const char *const paths[] = { "/livez", "/none", "/jobs", "/metrics" };
    char last[64] = "";
    for (size_t i = 0; i < 4; i++) {
        struct reply r = http(&f, "GET", paths[i], NULL, NULL);
        ck_assert_uint_eq(strlen(reply_header(&r, "X-Request-Id")), 32);
        ck_assert_str_ne(reply_header(&r, "X-Request-Id"), last);
        strcpy(last, reply_header(&r, "X-Request-Id"));
        ck_assert_str_eq(reply_header(&r, "X-Content-Type-Options"), "nosniff");
        ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-store");
        if (r.status == 404)
            ck_assert_str_eq(reply_text(&r, "request_id"), last);
        reply_free(&r);
    }
}
END_TEST

START_TEST(every_other_route_needs_a_token)
{
    static struct line lines[64];
    size_t n = read_routes(lines, 64);
    static const char *const tokens[] = { "Authorization:", "Authorization: Bearer x",
                                          "Authorization: Bearer ", "Authorization: Basic eDp5" };
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < 4; t++) {
            struct reply r = http(&f, lines[i].method, lines[i].path,
                                  lines[i].body ? "{}" : NULL, HEADERS(tokens[t]));
            if (strcmp(lines[i].roles, "AUTH_ANYBODY") == 0) {
                ck_assert_int_eq(r.status, 200);
            } else {
                ck_assert_msg(r.status == 401, "%s %s: %ld", lines[i].method, lines[i].path,
                              r.status);
                ck_assert_ptr_nonnull(strstr(reply_header(&r, "WWW-Authenticate"), "Bearer"));
                ck_assert_str_eq(reply_text(&r, "type"), "/problems/unauthorized");
            }
            reply_free(&r);
        }
}
END_TEST

/* Which sets of roles a role is in, as auth.h says in words. */
static bool expected(const char *role, const char *set)
{
    bool admin = strcmp(role, "admin") == 0, metrics = strcmp(role, "metrics") == 0;
    if (strcmp(set, "AUTH_READ") == 0)
        return !metrics;
    if (strcmp(set, "AUTH_SUBMIT") == 0)
        return admin || strcmp(role, "submitter") == 0;
    if (strcmp(set, "AUTH_CUSTODY") == 0)
        return admin || strcmp(role, "custodian") == 0;
    if (strcmp(set, "AUTH_ADMINISTER") == 0)
        return admin;
    if (strcmp(set, "AUTH_SCRAPE") == 0)
        return admin || metrics;
    return true;
}

START_TEST(roles_open_what_they_should)
{
    static const char *const roles[] = { "viewer", "submitter", "custodian", "admin", "metrics" };
    static struct line lines[64];
    size_t n = read_routes(lines, 64);
    for (size_t role = 0; role < 5; role++) {
        char header[128];
        http_token(&f, "someone", roles[role], header, sizeof header);
        for (size_t i = 0; i < n; i++) {
            struct reply r = http(&f, lines[i].method, lines[i].path,
                                  lines[i].body ? "{}" : NULL, HEADERS(header));
            ck_assert_msg((r.status != 403) == expected(roles[role], lines[i].roles) &&
                              r.status != 401 && r.status < 500 && r.status != 0,
                          "%s: %s %s: %ld", roles[role], lines[i].method, lines[i].path,
                          r.status);
            reply_free(&r);
        }
    }
}
END_TEST

static const struct {
    const char *method, *path, *header, *body;
    long status;
    const char *part; /* of the headers or the body */
} odd[] = {
    { "GET", "/", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/none", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/jobs/", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "//jobs", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/jobs/a/b/c/d/e/f/g/h", NULL, NULL, 400, "too many parts" },
    { "GET", "/jobs/%00", NULL, NULL, 400, "/problems/bad-request" },
    { "GET", "/jobs/..%2f..%2fetc", NULL, NULL, 400, "/problems/bad-request" },
    { "GET", "/jobs/../livez", NULL, NULL, 400, "/problems/bad-request" },
    { "GET", "/jobs/%ff", NULL, NULL, 400, "/problems/bad-request" },
    { "PUT", "/jobs", NULL, NULL, 405, "Allow: GET, HEAD, POST" },
    { "DELETE", "/livez", NULL, NULL, 405, "Allow: GET, HEAD\r\n" },
    { "GET", "/jobs/x/cancel", NULL, NULL, 405, "Allow: POST" },
    { "OPTIONS", "/jobs", NULL, NULL, 405, "Allow: GET, HEAD, POST" },
    { "TRACE", "/livez", NULL, NULL, 405, "Allow" },
    { "GET", "/jobs", "Accept: text/html", NULL, 406, "application/json" },
    { "GET", "/metrics", "Accept: application/json", NULL, 406, "text/plain" },
    { "POST", "/jobs", "Content-Type: text/plain", "{}", 415, "application/json" },
    { "GET", "/jobs?limt=3", NULL, NULL, 400, "limt" },
    { "GET", "/jobs?limit=0", NULL, NULL, 400, "limit" },
    { "GET", "/jobs?limit=101", NULL, NULL, 400, "limit" },
    { "GET", "/jobs?limit=3&limit=4", NULL, NULL, 400, "twice" },
    { "GET", "/jobs?limit=-1", NULL, NULL, 400, "limit" },
    { "GET", "/jobs?limit=1e1", NULL, NULL, 400, "limit" },
    { "GET", "/jobs?status=odd", NULL, NULL, 400, "status" },
    { "POST", "/jobs?dry_run=maybe", NULL, "{}", 400, "dry_run" },
    { "GET", "/jobs", NULL, "{}", 400, "no body" },
    { "POST", "/jobs", "Idempotency-Key: two words", "{}", 400, "Idempotency-Key" },
    { "POST", "/jobs", NULL, "", 400, "/problems/malformed-json" },
    { "POST", "/jobs", NULL, "[]", 422, "\"errors\"" },
    { "POST", "/jobs", NULL, "{} {}", 400, "/problems/malformed-json" },
    { "GET", "/jobs/none", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/jobs/none/events", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/jobs/none/events", "Last-Event-ID: x", NULL, 400, "Last-Event-ID" },
    { "GET", "/jobs/none/artifacts", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/jobs/none/artifacts/model.safetensors", NULL, NULL, 404, "/problems/not-found" },
    { "POST", "/jobs/none/cancel", NULL, NULL, 404, "/problems/not-found" },
    { "DELETE", "/jobs/none", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/datasets/none", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/datasets/none/budget", NULL, NULL, 404, "/problems/not-found" },
    { "GET", "/datasets/none/ledger", NULL, NULL, 404, "/problems/not-found" },
    { "PATCH", "/datasets/digits/budget", NULL, "{\"epsilon\":9}", 422, "/reason" },
    { "POST", "/datasets", NULL, "{}", 422, "missing_member" },
    { "POST", "/tokens", NULL, "{\"owner\":\"a\",\"role\":\"king\"}", 422, "/role" },
    { "POST", "/tokens", NULL, "{\"owner\":\"a b\",\"role\":\"viewer\"}", 422, "/owner" },
    { "POST", "/tokens", NULL, "{\"owner\":\"a\",\"role\":\"viewer\",\"x\":1}", 400, "/x" },
    { "DELETE", "/tokens/none", NULL, NULL, 404, "/problems/not-found" },
};

START_TEST(odd_requests_get_their_problem)
{
    struct reply r = http(&f, odd[_i].method, odd[_i].path, odd[_i].body,
                          odd[_i].header != NULL ? HEADERS(odd[_i].header) : NULL);
    ck_assert_msg(r.status == odd[_i].status, "%s %s: %ld %s", odd[_i].method, odd[_i].path,
                  r.status, r.body);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/problem+json");
    ck_assert_msg(strstr(r.headers, odd[_i].part) != NULL || strstr(r.body, odd[_i].part) != NULL,
                  "%s %s", r.headers, r.body);
    ck_assert_int_eq(json_integer_value(json_object_get(r.json, "status")), odd[_i].status);
    reply_free(&r);
}
END_TEST

/* "file pointer code" of proto/examples/bad/EXPECTED, the first line of each file. */
static int check_bad(const char *file, const char *pointer, const char *code)
{
    char path[512];
    size_t n;
    snprintf(path, sizeof path, "%s/bad/%s", getenv("PROTO_EXAMPLES"), file);
    char *body = read_file(path, &n);
    if (strlen(body) != n) { /* NUL bytes do not travel as text; the unit tests have them */
        free(body);
        return 0;
    }
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    const json_t *first = json_array_get(json_object_get(r.json, "errors"), 0);
    ck_assert_msg(r.status == 400 || r.status == 422, "%s: %ld %s", file, r.status, r.body);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/problem+json");
    if (strcmp(pointer, "\"\"") == 0)
        pointer = "";
    const char *got = json_string_value(json_object_get(first, "pointer"));
    ck_assert_msg(got != NULL && strcmp(got, pointer) == 0, "%s: %s", file, r.body);
    ck_assert_str_eq(json_string_value(json_object_get(first, "code")), code);
    ck_assert_uint_gt(strlen(json_string_value(json_object_get(first, "message"))), 0);
    reply_free(&r);
    free(body);
    return 1;
}

START_TEST(bad_submissions_are_told_where)
{
    char path[512], line[1024], last[128] = "", file[128], pointer[512], code[64];
    int n = 0;
    snprintf(path, sizeof path, "%s/bad/EXPECTED", getenv("PROTO_EXAMPLES"));
    FILE *in = fopen(path, "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in) != NULL) {
        if (strncmp(line, "JobSpec.", 8) != 0 ||
            sscanf(line, "%127s %511s %63s", file, pointer, code) != 3 || strcmp(file, last) == 0)
            continue;
        strcpy(last, file);
        n += check_bad(file, pointer, code);
    }
    fclose(in);
    ck_assert_int_ge(n, 45);
}
END_TEST

static char *example(void)
{
    return read_file(getenv("JOB_FILE"), NULL);
}

START_TEST(a_job_from_submission_to_deletion)
{
    char path[128], id[64];
    char *body = example();
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(id, sizeof id, "%s", reply_text(&r, "id"));
    snprintf(path, sizeof path, "/jobs/%s", id);
    ck_assert_str_eq(reply_header(&r, "Location"), path);
    ck_assert_str_eq(reply_text(&r, "status"), "queued");
    ck_assert_str_eq(reply_text(&r, "owner"), "admin");
    reply_free(&r);

    r = http(&f, "GET", path, NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_text(&r, "id"), id);
    ck_assert_str_eq(reply_text(&r, "dataset"), "digits");
    reply_free(&r);
    http_expect(&f, "DELETE", path, NULL, 409);
    r = http(&f, "GET", "/queue", NULL, NULL);
    ck_assert_ptr_nonnull(strstr(r.body, id));
    reply_free(&r);

    strcat(path, "/events");
    r = http(&f, "GET", path, NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    const json_t *event = json_array_get(json_object_get(r.json, "data"), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(event, "id")), 1);
    ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "status");
    reply_free(&r);

    snprintf(path, sizeof path, "/jobs/%s/cancel", id);
    http_expect(&f, "POST", path, NULL, 202);
    http_expect(&f, "POST", path, NULL, 202); /* once more changes nothing */
    snprintf(path, sizeof path, "/jobs/%s", id);
    r = http(&f, "GET", path, NULL, NULL);
    ck_assert_str_eq(reply_text(&r, "status"), "cancelled");
    ck_assert_str_eq(reply_text(&r, "reason"), "user_cancel");
    reply_free(&r);
    snprintf(path, sizeof path, "/jobs/%s/artifacts", id);
    http_expect(&f, "GET", path, NULL, 200);
    snprintf(path, sizeof path, "/jobs/%s", id);
    http_expect(&f, "DELETE", path, NULL, 204);
    http_expect(&f, "GET", path, NULL, 404);
    http_expect(&f, "DELETE", path, NULL, 404);
    free(body);
}
END_TEST

START_TEST(a_dry_run_reserves_nothing)
{
    char *body = example();
    struct reply before = http(&f, "GET", "/datasets/digits/budget", NULL, NULL);
    struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
    ck_assert_msg(r.status == 200, "%s", r.body);
    ck_assert_str_eq(reply_header(&r, "Location"), "");
    ck_assert(json_is_true(json_object_get(r.json, "fits")));
    ck_assert_double_gt(json_number_value(json_object_get(r.json, "noise_multiplier")), 0.1);
    struct reply after = http(&f, "GET", "/datasets/digits/budget", NULL, NULL);
    ck_assert_int_eq(after.status, 200);
    ck_assert_str_eq(before.body, after.body);
    reply_free(&before);
    reply_free(&after);
    reply_free(&r);
    free(body);
}
END_TEST

START_TEST(the_examples_would_run)
{
    static const char *const names[] = { "digits-linear", "digits-cnn" };
    char path[512];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s.json", getenv("JOB_FILES"), names[i]);
        char *body = read_file(path, NULL);
        struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
        ck_assert_msg(r.status == 200, "%s: %s", names[i], r.body);
        ck_assert(json_is_true(json_object_get(r.json, "fits")));
        ck_assert_double_le(json_number_value(json_object_get(r.json, "epsilon")), 3);
        reply_free(&r);
        free(body);
    }
}
END_TEST

START_TEST(an_idempotency_key_submits_once)
{
    char id[64], *body = example();
    struct reply r = http(&f, "POST", "/jobs", body, HEADERS("Idempotency-Key: k-1"));
    ck_assert_int_eq(r.status, 201);
    snprintf(id, sizeof id, "%s", reply_text(&r, "id"));
    ck_assert_str_eq(reply_header(&r, "Idempotency-Replayed"), "");
    reply_free(&r);
    r = http(&f, "POST", "/jobs", body, HEADERS("Idempotency-Key: k-1"));
    ck_assert_int_eq(r.status, 201);
    ck_assert_str_eq(reply_text(&r, "id"), id);
    ck_assert_str_eq(reply_header(&r, "Idempotency-Replayed"), "true");
    reply_free(&r);
    *strrchr(body, '\n') = ' '; /* other bytes, the same meaning: another body all the same */
    *strchr(body, ' ') = '\t';
    r = http(&f, "POST", "/jobs", body, HEADERS("Idempotency-Key: k-1"));
    ck_assert_int_eq(r.status, 422);
    ck_assert_str_eq(reply_text(&r, "type"), "/problems/idempotency-key-reused");
    reply_free(&r);
    free(body);
}
END_TEST

START_TEST(lists_have_pages)
{
    char id[3][64], next[256], header[128], path[256];
    http_token(&f, "pager", "submitter", header, sizeof header);
    char *body = example();
    for (int i = 0; i < 3; i++) {
        struct reply r = http(&f, "POST", "/jobs", body, HEADERS(header));
        ck_assert_msg(r.status == 201, "%s", r.body);
        snprintf(id[i], sizeof id[i], "%s", reply_text(&r, "id"));
        reply_free(&r);
    }
    struct reply r = http(&f, "GET", "/jobs?owner=pager&limit=2", NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 2);
    ck_assert(json_is_true(json_object_get(r.json, "has_more")));
    ck_assert_ptr_nonnull(strstr(r.body, id[2])); /* the newest first */
    ck_assert_int_eq(sscanf(reply_header(&r, "Link"), "<%255[^>]>; rel=\"next\"", next), 1);
    reply_free(&r);
    r = http(&f, "GET", next, NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 1);
    ck_assert(json_is_false(json_object_get(r.json, "has_more")));
    ck_assert_ptr_nonnull(strstr(r.body, id[0]));
    ck_assert_str_eq(reply_header(&r, "Link"), "");
    reply_free(&r);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/jobs/%.63s/cancel", id[i]);
        http_expect(&f, "POST", path, NULL, 202);
    }
    r = http(&f, "GET", "/jobs?owner=pager&status=queued", NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 0);
    reply_free(&r);
    free(body);
}
END_TEST

START_TEST(a_submitter_sees_its_own_jobs_only)
{
    char mine[64], other[128], path[256], viewer[128];
    http_submit(&f, mine, sizeof mine);
    http_token(&f, "mallory", "submitter", other, sizeof other);
    http_token(&f, "victor", "viewer", viewer, sizeof viewer);
    static const char *const forms[] = { "/jobs/%s", "/jobs/%s/events", "/jobs/%s/artifacts",
                                         "/jobs/%s/artifacts/model.safetensors" };
    for (size_t i = 0; i < 4; i++) {
        char form[128];
        strcpy(form, forms[i]);
        char *place = strstr(form, "%s");
        snprintf(path, sizeof path, "%.*s%.63s%.63s", (int)(place - form), form, mine,
                 place + 2);
        struct reply r = http(&f, "GET", path, NULL, HEADERS(other));
        ck_assert_int_eq(r.status, 404);
        reply_free(&r);
        r = http(&f, "GET", path, NULL, HEADERS(viewer));
        ck_assert_int_eq(r.status, i == 3 ? 404 : 200); /* there is no model yet */
        reply_free(&r);
    }
    snprintf(path, sizeof path, "/jobs/%s/cancel", mine);
    struct reply r = http(&f, "POST", path, NULL, HEADERS(other));
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
    r = http(&f, "GET", "/jobs", NULL, HEADERS(other));
    ck_assert_ptr_null(strstr(r.body, mine));
    reply_free(&r);
    r = http(&f, "GET", "/queue", NULL, HEADERS(other));
    ck_assert_ptr_null(strstr(r.body, "\"owner\":\"admin\""));
    reply_free(&r);
    r = http(&f, "GET", "/jobs?owner=admin", NULL, HEADERS(other));
    ck_assert_int_eq(r.status, 403);
    reply_free(&r);
}
END_TEST

START_TEST(the_custodian_changes_budgets_and_reads_the_ledger)
{
    char header[128];
    http_token(&f, "carol", "custodian", header, sizeof header);
    struct reply r = http(&f, "GET", "/datasets", NULL, HEADERS(header));
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(r.body, "\"digits\""));
    reply_free(&r);
    r = http(&f, "GET", "/datasets/digits", NULL, HEADERS(header));
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_text(&r, "name"), "digits");
    ck_assert_str_eq(reply_text(&r, "telemetry"), "private");
    reply_free(&r);
    r = http(&f, "GET", "/datasets/digits/budget", NULL, HEADERS(header));
    double epsilon = json_number_value(json_object_get(r.json, "epsilon"));
    ck_assert_double_ge(epsilon, 8);
    reply_free(&r);
    r = http(&f, "PATCH", "/datasets/digits/budget",
             "{\"epsilon\":1000,\"reason\":\"more is known\"}", HEADERS(header));
    ck_assert_msg(r.status == 200, "%s", r.body);
    ck_assert_double_eq(json_number_value(json_object_get(r.json, "epsilon")), 1000);
    reply_free(&r);
    r = http(&f, "GET", "/datasets/digits/ledger?limit=1", NULL, HEADERS(header));
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 1);
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Link"), "rel=\"next\""));
    reply_free(&r);
    r = http(&f, "GET", "/datasets/digits/ledger?limit=1000", NULL, HEADERS(header));
    ck_assert_ptr_nonnull(strstr(r.body, "\"actor\":\"carol\""));
    ck_assert_ptr_nonnull(strstr(r.body, "more is known"));
    reply_free(&r);
}
END_TEST

START_TEST(tokens_are_made_listed_and_removed)
{
    char header[128], path[64];
    struct reply r = http(&f, "POST", "/tokens",
                          "{\"owner\":\"temp\",\"role\":\"viewer\",\"expires_in\":\"1h\"}", NULL);
    ck_assert_int_eq(r.status, 201);
    ck_assert_uint_gt(strlen(reply_text(&r, "expires_at")), 0);
    snprintf(header, sizeof header, "Authorization: Bearer %s", reply_text(&r, "token"));
    snprintf(path, sizeof path, "/tokens/%s", reply_text(&r, "id"));
    reply_free(&r);
    r = http(&f, "GET", "/whoami", NULL, HEADERS(header));
    ck_assert_str_eq(reply_text(&r, "owner"), "temp");
    ck_assert_str_eq(reply_text(&r, "role"), "viewer");
    ck_assert_str_eq(reply_text(&r, "via"), "token");
    reply_free(&r);
    r = http(&f, "GET", "/tokens", NULL, NULL);
    ck_assert_ptr_nonnull(strstr(r.body, "\"temp\""));
    ck_assert_ptr_null(strstr(r.body, "dpt_"));
    reply_free(&r);
    http_expect(&f, "DELETE", path, NULL, 204);
    r = http(&f, "GET", "/whoami", NULL, HEADERS(header));
    ck_assert_int_eq(r.status, 401);
    reply_free(&r);
    ck_assert(!fixture_logged(&f, "dpt_"));
}
END_TEST

START_TEST(the_description_has_every_route)
{
    static struct line lines[64];
    size_t n = read_routes(lines, 64);
    struct reply r = http(&f, "GET", "/openapi.json", NULL, HEADERS("Authorization:"));
    size_t n_file;
    char *file = read_file(getenv("PROTO_OPENAPI"), &n_file);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(r.n_body, n_file);
    ck_assert_mem_eq(r.body, file, n_file);
    free(file);
    const json_t *paths = json_object_get(r.json, "paths");
    const char *path;
    json_t *item;
    size_t found = 0, described = 0;
    json_object_foreach ((json_t *)(uintptr_t)paths, path, item) {
        static const char *const methods[] = { "get", "post", "patch", "delete", "put" };
        for (size_t m = 0; m < 5; m++) {
            if (json_object_get(item, methods[m]) == NULL)
                continue;
            described++;
            char plain[128] = "";
            for (const char *p = path; *p != '\0'; p++) {
                size_t at = strlen(plain);
                if (*p == '{')
                    strcpy(plain + at, "none"), p = strchr(p, '}');
                else
                    plain[at] = *p, plain[at + 1] = '\0';
            }
            size_t before = found;
            for (size_t i = 0; i < n; i++)
                found += strcasecmp(lines[i].method, methods[m]) == 0 &&
                         strcmp(lines[i].path, plain) == 0;
            ck_assert_msg(found == before + 1, "%s %s is described and does not exist",
                          methods[m], path);
        }
    }
    ck_assert_uint_eq(described, n); /* and every route is described */
    reply_free(&r);
}
END_TEST

/* One line of the Prometheus text format. */
static void check_metric(const char *line)
{
    size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    ck_assert_msg(n > 0, "%s", line);
    const char *value = line + n;
    if (*value == '{') {
        value = strrchr(value, '}'); /* a label may hold one */
        ck_assert_msg(value != NULL, "%s", line);
        value++;
    }
    ck_assert_msg(*value == ' ', "%s", line);
    char *end;
    strtod(value + 1, &end);
    ck_assert_msg(end != value + 1 && *end == '\0', "%s", line);
}

START_TEST(metrics_are_prometheus_text)
{
    struct reply r = http(&f, "GET", "/metrics", NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    int n = 0;
    for (char *line = strtok(r.body, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0)
            continue;
        check_metric(line);
        n++;
    }
    ck_assert_int_gt(n, 30);
    reply_free(&r);
    double before = http_metric(&f, "dpsgd_http_requests_total{route=\"/livez\",method=\"GET\","
                                    "code=\"200\"}");
    http_expect(&f, "GET", "/livez", NULL, 200);
    double after = http_metric(&f, "dpsgd_http_requests_total{route=\"/livez\",method=\"GET\","
                                   "code=\"200\"}");
    ck_assert_double_eq(after, (before < 0 ? 0 : before) + 1);
}
END_TEST

START_TEST(the_daemon_says_what_it_is)
{
    struct reply r = http(&f, "GET", "/version", NULL, NULL);
    ck_assert_str_eq(reply_text(&r, "name"), "dpsgd");
    reply_free(&r);
    r = http(&f, "GET", "/devices", NULL, NULL);
    const json_t *cpu = json_array_get(json_object_get(r.json, "data"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(cpu, "id")), "cpu");
    ck_assert_int_gt(json_integer_value(json_object_get(cpu, "cores")), 0);
    const json_t *gpu = json_array_get(json_object_get(r.json, "data"), 1);
    ck_assert_int_eq(strncmp(json_string_value(json_object_get(gpu, "id")), "cuda", 4), 0);
    ck_assert_str_ne(json_string_value(json_object_get(gpu, "detail")), "");
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_routes");
    TCase *tc = tcase_create("routes");
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_test(tc, probes_answer_anybody);
    tcase_add_test(tc, every_answer_has_its_headers);
    tcase_add_test(tc, every_other_route_needs_a_token);
    tcase_add_test(tc, roles_open_what_they_should);
    tcase_add_loop_test(tc, odd_requests_get_their_problem, 0,
                        (int)(sizeof odd / sizeof odd[0]));
    tcase_add_test(tc, bad_submissions_are_told_where);
    tcase_add_test(tc, a_job_from_submission_to_deletion);
    tcase_add_test(tc, a_dry_run_reserves_nothing);
    tcase_add_test(tc, the_examples_would_run);
    tcase_add_test(tc, an_idempotency_key_submits_once);
    tcase_add_test(tc, lists_have_pages);
    tcase_add_test(tc, a_submitter_sees_its_own_jobs_only);
    tcase_add_test(tc, the_custodian_changes_budgets_and_reads_the_ledger);
    tcase_add_test(tc, tokens_are_made_listed_and_removed);
    tcase_add_test(tc, the_description_has_every_route);
    tcase_add_test(tc, metrics_are_prometheus_text);
    tcase_add_test(tc, the_daemon_says_what_it_is);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
