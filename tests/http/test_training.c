#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "http.h"
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

static void submit(const char *body, char *id, size_t size)
{
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(id, size, "%s", reply_text(&r, "id"));
    reply_free(&r);
}

static bool has_status(const char *id, const char *status)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    bool same = strcmp(reply_text(&r, "status"), status) == 0;
    ck_assert_msg(same || strcmp(reply_text(&r, "status"), "failed") != 0, "%s", r.body);
    reply_free(&r);
    return same;
}

static double member(const struct reply *r, const char *object, const char *name)
{
    return json_number_value(json_object_get(json_object_get(r->json, object), name));
}

/* Bytes of an answer to a request with these headers; the status must be as given. */
static struct reply fetch(const char *path, const char *header, long status)
{
    struct reply r = http(&f, "GET", path, NULL, header != NULL ? HEADERS(header) : NULL);
    ck_assert_msg(r.status == status, "%s %s: %ld", path, header != NULL ? header : "", r.status);
    return r;
}

static void check_download(const char *id)
{
    char path[160], etag[80], header[160];
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/model.safetensors", id);
    struct reply whole = fetch(path, NULL, 200);
    ck_assert_uint_gt(whole.n_body, 650 * 4); /* 64 x 10 weights, 10 biases */
    snprintf(etag, sizeof etag, "%.79s", reply_header(&whole, "ETag"));
    ck_assert_uint_eq(strlen(etag), 66);
    ck_assert_str_eq(reply_header(&whole, "Accept-Ranges"), "bytes");
    ck_assert_int_eq(strncmp(reply_header(&whole, "Repr-Digest"), "sha-256=:", 9), 0);

    struct reply r = fetch(path, "Range: bytes=8-107", 206);
    ck_assert_uint_eq(r.n_body, 100);
    ck_assert_mem_eq(r.body, whole.body + 8, 100);
    snprintf(header, sizeof header, "bytes 8-107/%zu", whole.n_body);
    ck_assert_str_eq(reply_header(&r, "Content-Range"), header);
    reply_free(&r);
    r = fetch(path, "Range: bytes=-10", 206);
    ck_assert_uint_eq(r.n_body, 10);
    ck_assert_mem_eq(r.body, whole.body + whole.n_body - 10, 10);
    reply_free(&r);
    r = fetch(path, "Range: bytes=100-", 206);
    ck_assert_uint_eq(r.n_body, whole.n_body - 100);
    reply_free(&r);
    static const char *const ignored[] = { "Range: bytes=5-3", "Range: bytes=1-2,4-5",
                                           "Range: lines=1-2", "Range: bytes=x-" };
    for (size_t i = 0; i < 4; i++) {
        r = fetch(path, ignored[i], 200);
        ck_assert_uint_eq(r.n_body, whole.n_body);
        reply_free(&r);
    }
    static const char *const outside[] = { "Range: bytes=99999999-", "Range: bytes=-0" };
    for (size_t i = 0; i < 2; i++) {
        r = fetch(path, outside[i], 416);
        snprintf(header, sizeof header, "bytes */%zu", whole.n_body);
        ck_assert_str_eq(reply_header(&r, "Content-Range"), header);
        reply_free(&r);
    }
    snprintf(header, sizeof header, "If-None-Match: %s", etag);
    r = fetch(path, header, 304);
    ck_assert_uint_eq(r.n_body, 0);
    reply_free(&r);
    r = http(&f, "GET", path, NULL, HEADERS("Range: bytes=0-9", "If-Range: \"other\""));
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    reply_free(&whole);
    static const char *const escapes[] = { "..", "..%2fjob.json", ".", "model.safetensors.tmp" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/jobs/%.63s/artifacts/%s", id, escapes[i]);
        r = http(&f, "GET", path, NULL, NULL);
        ck_assert(r.status == 400 || r.status == 404);
        reply_free(&r);
    }
}

START_TEST(a_job_trains_and_leaves_its_model)
{
    char id[64], path[512];
    snprintf(path, sizeof path, "%s/digits-linear.json", getenv("JOB_FILES"));
    char *body = read_file(path, NULL);
    submit(body, id, sizeof id);
    free(body);
    WAIT_UNTIL(has_status(id, "succeeded"));
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = fetch(path, NULL, 200);
    ck_assert_double_gt(member(&r, "metrics", "eval_accuracy"), 0.8);
    ck_assert_double_le(member(&r, "privacy", "epsilon"), 3);
    ck_assert_double_gt(member(&r, "privacy", "epsilon"), 2);
    reply_free(&r);
    snprintf(path, sizeof path, "/jobs/%.63s/events", id);
    r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream"));
    static const char *const events[] = { "event: status", "event: step", "event: eval",
                                          "event: artifact", "event: end" };
    for (size_t i = 0; i < 5; i++)
        ck_assert_msg(strstr(r.body, events[i]) != NULL, "no %s", events[i]);
    reply_free(&r);
    check_download(id);
}
END_TEST

static const char long_job[] =
    "{\"dataset\":\"digits\",\"model\":{\"layers\":[{\"op\":\"flatten\"},"
    "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
    "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01},\"privacy\":{\"noise_multiplier\":200,"
    "\"max_grad_norm\":1},\"train\":{\"batch_size\":32,\"steps\":2000000,"
    "\"checkpoint_every\":\"1s\"}}";

START_TEST(a_running_job_survives_sigterm_and_kill)
{
    static const int numbers[] = { SIGTERM, SIGKILL };
    char id[64], path[128];
    double last = 0;
    submit(long_job, id, sizeof id);
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    for (int i = 0; i < 2; i++) {
        WAIT_UNTIL(has_status(id, "running"));
        double step = 0;
        long until = now_ms() + 20000;
        while (step <= last + 500 && now_ms() < until) {
            sleep_ms(50);
            struct reply r = fetch(path, NULL, 200);
            step = member(&r, "progress", "step");
            reply_free(&r);
        }
        ck_assert_double_gt(step, last + 500);
        int status = fixture_end(&f, numbers[i]);
        ck_assert(i == 1 || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        fixture_run(&f, NULL);
        if (i == 0) /* the drain has made a checkpoint: nothing is done twice */
            last = step;
    }
    WAIT_UNTIL(has_status(id, "running"));
    struct reply r = fetch(path, NULL, 200);
    ck_assert_int_ge(json_integer_value(json_object_get(r.json, "attempt")), 2);
    reply_free(&r);
    strcat(path, "/cancel");
    http_expect(&f, "POST", path, NULL, 202);
    WAIT_UNTIL(has_status(id, "cancelled"));
    /* every event once, in order, over two restarts */
    int expected = 0;
    char next[256];
    snprintf(next, sizeof next, "/jobs/%.63s/events?limit=1000", id);
    while (next[0] != '\0') {
        r = fetch(next, NULL, 200);
        size_t i;
        json_t *event;
        json_array_foreach (json_object_get(r.json, "data"), i, event)
            ck_assert_int_eq(json_integer_value(json_object_get(event, "id")), ++expected);
        if (sscanf(reply_header(&r, "Link"), "<%255[^>]>", next) != 1)
            next[0] = '\0';
        reply_free(&r);
    }
    ck_assert_int_gt(expected, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_training");
    TCase *tc = tcase_create("training");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_job_trains_and_leaves_its_model);
    tcase_add_test(tc, a_running_job_survives_sigterm_and_kill);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
