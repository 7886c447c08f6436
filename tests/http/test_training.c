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

/* A net on the digits whose activations are of this precision. */
static void digits_net(char *text, size_t size, const char *precision)
{
    snprintf(text, size,
             "{\"dataset\":\"digits\",\"precision\":\"%s\",\"model\":{\"layers\":["
             "{\"op\":\"conv2d\",\"out_channels\":16,\"kernel_size\":3,\"padding\":1},"
             "{\"op\":\"relu\"},{\"op\":\"avg_pool2d\",\"kernel_size\":2},"
             "{\"op\":\"conv2d\",\"out_channels\":32,\"kernel_size\":3,\"padding\":1},"
             "{\"op\":\"gelu\"},{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":10}]},"
             "\"loss\":\"cross_entropy\",\"optimizer\":{\"type\":\"sgd\",\"lr\":2},"
             "\"privacy\":{\"target_epsilon\":3,\"delta\":1e-5,\"max_grad_norm\":1},"
             "\"train\":{\"batch_size\":512,\"epochs\":40}}",
             precision);
}

static double planned_bytes(const char *precision)
{
    char body[1024];
    digits_net(body, sizeof body, precision);
    struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
    ck_assert_msg(r.status == 200, "%s", r.body);
    double bytes = json_number_value(json_object_get(r.json, "memory_bytes"));
    reply_free(&r);
    return bytes;
}

START_TEST(a_job_trains_with_bf16_activations)
{
    char body[1024], id[64], path[160];
    ck_assert_double_lt(planned_bytes("bf16"), planned_bytes("float32"));
    digits_net(body, sizeof body, "bf16");
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = fetch(path, NULL, 200);
    json_t *precision = json_object_get(json_object_get(r.json, "spec"), "precision");
    ck_assert_str_eq(json_string_value(precision), "bf16");
    ck_assert_double_gt(member(&r, "metrics", "eval_accuracy"), 0.7);
    reply_free(&r);
    digits_net(body, sizeof body, "float16");
    r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 422);
    ck_assert_ptr_nonnull(strstr(r.body, "\"/precision\""));
    reply_free(&r);
}
END_TEST

/* The body of a job on the digits with these privacy settings, 40 steps. */
static void digits_job(char *text, size_t size, const char *privacy)
{
    snprintf(text, size,
             "{\"dataset\":\"digits\",\"model\":{\"layers\":[{\"op\":\"flatten\"},"
             "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
             "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1},\"privacy\":%s,"
             "\"train\":{\"batch_size\":64,\"steps\":40}}",
             privacy);
}

static struct reply statement_of(const char *privacy)
{
    char body[1024], id[64], path[160];
    digits_job(body, sizeof body, privacy);
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/privacy.json", id);
    return fetch(path, NULL, 200);
}

static double epsilon_by(const struct reply *r, const char *accountant)
{
    json_t *all = json_object_get(r->json, "accountants");
    return json_number_value(json_object_get(json_object_get(all, accountant), "epsilon"));
}

static const char *text_member(const struct reply *r, const char *name)
{
    const char *text = json_string_value(json_object_get(r->json, name));
    return text ? text : "";
}

/* A job with every option that changes the mechanism, and what its statement says. */
START_TEST(the_statement_tells_what_ran_and_what_it_rests_on)
{
    struct reply r = statement_of(
        "{\"noise_multiplier\":4,\"accountant\":\"prv\",\"secure_noise\":true,"
        "\"clipping\":\"automatic\",\"gamma\":0.1,\"max_grad_norm\":1,"
        "\"max_batch_size\":200,"
        "\"noise_schedule\":{\"type\":\"step\",\"step_size\":20,\"gamma\":0.5}}");
    double rdp = epsilon_by(&r, "rdp"), gdp = epsilon_by(&r, "gdp"), prv = epsilon_by(&r, "prv");
    ck_assert(prv > 0 && gdp > 0 && rdp > prv);
    ck_assert_double_eq_tol(json_number_value(json_object_get(r.json, "epsilon")), prv, 1e-3);
    ck_assert_str_eq(text_member(&r, "noise"), "discrete_gaussian");
    ck_assert_str_eq(text_member(&r, "sampling"), "truncated_poisson");
    ck_assert_str_eq(text_member(&r, "unit"), "record");
    ck_assert_str_eq(text_member(&r, "neighbouring"), "add_or_remove_one");
    ck_assert_uint_ge(json_array_size(json_object_get(r.json, "assumptions")), 5);
    json_t *events = json_object_get(r.json, "events"), *second = json_array_get(events, 1);
    ck_assert_uint_eq(json_array_size(events), 2);
    ck_assert(json_number_value(json_object_get(second, "noise_multiplier")) == 2);
    ck_assert_int_eq(json_integer_value(json_object_get(second, "steps")), 20);
    reply_free(&r);
    r = statement_of("{\"noise_multiplier\":40,\"accountant\":\"gdp\",\"max_grad_norm\":1,"
                     "\"poisson_sampling\":false}");
    ck_assert_double_eq_tol(json_number_value(json_object_get(r.json, "epsilon")),
                            epsilon_by(&r, "gdp"), 1e-9);
    ck_assert_str_eq(text_member(&r, "sampling"), "shuffled");
    ck_assert(json_is_false(json_object_get(r.json, "amplification")));
    ck_assert_str_eq(text_member(&r, "noise"), "gaussian");
    reply_free(&r);
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
    tcase_add_test(tc, a_job_trains_with_bf16_activations);
    tcase_add_test(tc, the_statement_tells_what_ran_and_what_it_rests_on);
    tcase_add_test(tc, a_running_job_survives_sigterm_and_kill);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
