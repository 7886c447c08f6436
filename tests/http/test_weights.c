/* Fine-tuning: a job's artifact is uploaded and starts the next job. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "suite.h"

static struct fixture f;

static void setup(void)
{
    fixture_start(&f, "[Run]\nCores=1\nCheckpointEvery=1h\n[Limits]\nRate=100000\nBurst=100000\n");
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* body: linear 64 -> 16, head: linear 16 -> 10 */
static void job(char *to, size_t size, const char *start, int width, int steps)
{
    snprintf(to, size,
             "{\"dataset\": \"digits\", \"model\": {%s \"layers\": [{\"op\": \"flatten\"},"
             " {\"op\": \"linear\", \"name\": \"body\", \"out_features\": %d}, {\"op\": \"relu\"},"
             " {\"op\": \"linear\", \"name\": \"head\", \"out_features\": 10}]},"
             " \"loss\": \"cross_entropy\", \"optimizer\": {\"type\": \"sgd\", \"lr\": 1},"
             " \"privacy\": {\"noise_multiplier\": 4, \"max_grad_norm\": 1, \"delta\": 1e-5},"
             " \"train\": {\"batch_size\": 64, \"steps\": %d}}",
             start, width, steps);
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

static struct reply artifact(const char *id, const char *name)
{
    char path[192];
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/%s", id, name);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert_msg(r.status == 200, "%s: %ld", path, r.status);
    return r;
}

static void digest_of(const char *id, const char *name, char digest[80])
{
    char path[128];
    size_t i;
    json_t *one;
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    digest[0] = '\0';
    json_array_foreach(json_object_get(r.json, "data"), i, one)
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
            snprintf(digest, 80, "sha256:%.64s",
                     json_string_value(json_object_get(one, "sha256")));
    ck_assert_uint_eq(strlen(digest), 71);
    reply_free(&r);
}

static void upload(const char *digest, const void *bytes, size_t n)
{
    char text[512], answer[4096];
    snprintf(text, sizeof text, "{\"digest\": \"%s\", \"bytes\": %zu}", digest, n);
    struct reply r = http(&f, "POST", "/uploads", text, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    int fd = raw_connect(&f);
    snprintf(text, sizeof text,
             "PATCH /uploads/%.40s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "Authorization: Bearer %s\r\nContent-Type: application/octet-stream\r\n"
             "Upload-Offset: 0\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             reply_text(&r, "id"), f.port, f.token, n);
    ck_assert(raw_puts(fd, text) && raw_send(fd, bytes, n));
    raw_read(fd, answer, sizeof answer, "\"complete\":true", 10000);
    ck_assert_msg(strstr(answer, "\"complete\":true"), "%s", answer);
    raw_closed(fd, 2000);
    reply_free(&r);
}

/* The bytes of a tensor in a safetensors file. */
static const char *tensor(const struct reply *file, const char *name, size_t *n)
{
    uint64_t length;
    memcpy(&length, file->body, 8);
    ck_assert_uint_lt(length, file->n_body);
    json_t *header = json_loadb(file->body + 8, length, 0, NULL);
    const json_t *at = json_object_get(json_object_get(header, name), "data_offsets");
    size_t from = (size_t)json_integer_value(json_array_get(at, 0));
    size_t to = (size_t)json_integer_value(json_array_get(at, 1));
    bool found = at != NULL;
    json_decref(header);
    *n = to - from;
    return found ? file->body + 8 + length + from : NULL;
}

static bool same_tensor(const struct reply *a, const struct reply *b, const char *name)
{
    size_t n, m;
    const char *x = tensor(a, name, &n), *y = tensor(b, name, &m);
    ck_assert_msg(x && y && n == m && n > 0, "%s", name);
    return memcmp(x, y, n) == 0;
}

/* A trained model, uploaded. */
static struct reply first_model(char digest[80])
{
    char body[2048], id[64];
    job(body, sizeof body, "", 16, 20);
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    struct reply model = artifact(id, "model.safetensors");
    digest_of(id, "model.safetensors", digest);
    upload(digest, model.body, model.n_body);
    return model;
}

/* Killed before any checkpoint: the next attempt starts from the same weights. */
START_TEST(only_the_head_is_trained)
{
    char digest[80], start[256], body[2048], id[64];
    struct reply before = first_model(digest);
    snprintf(start, sizeof start, "\"weights\": {\"digest\": \"%s\"}, \"trainable\": [\"head.*\"],",
             digest);
    job(body, sizeof body, start, 16, _i ? 3000 : 30);
    submit(body, id, sizeof id);
    if (_i) {
        WAIT_UNTIL(has_status(id, "running"));
        fixture_end(&f, SIGKILL);
        fixture_run(&f, NULL);
    }
    WAIT_UNTIL(has_status(id, "succeeded"));
    struct reply after = artifact(id, "model.safetensors");
    ck_assert(same_tensor(&before, &after, "body.weight"));
    ck_assert(same_tensor(&before, &after, "body.bias"));
    ck_assert(!same_tensor(&before, &after, "head.weight"));
    ck_assert(!same_tensor(&before, &after, "head.bias"));
    reply_free(&before);
    reply_free(&after);
}
END_TEST

START_TEST(adapters_are_written_apart_and_merged)
{
    char digest[80], start[512], body[2048], id[64];
    size_t n;
    struct reply before = first_model(digest);
    snprintf(start, sizeof start,
             "\"weights\": {\"digest\": \"%s\"}, \"lora\": {\"target_modules\": [\"body\"], \"r\": 2},",
             digest);
    job(body, sizeof body, start, 16, 20);
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    struct reply after = artifact(id, "model.safetensors");
    ck_assert(same_tensor(&before, &after, "body.bias"));
    ck_assert(same_tensor(&before, &after, "head.weight"));
    ck_assert(!same_tensor(&before, &after, "body.weight"));
    ck_assert_ptr_null(tensor(&after, "body.lora_A", &n));
    struct reply apart = artifact(id, "adapter_model.safetensors");
    const char *a = tensor(&apart, "base_model.model.body.lora_A.weight", &n);
    ck_assert_uint_eq(n, 2 * 64 * 4);
    const char *b = tensor(&apart, "base_model.model.body.lora_B.weight", &n);
    ck_assert_uint_eq(n, 16 * 2 * 4);
    float was, is, b0[2], a0, a1; /* entry [0, 0]; the scale is 8 / 2 */
    memcpy(&was, tensor(&before, "body.weight", &n), 4);
    memcpy(&is, tensor(&after, "body.weight", &n), 4);
    memcpy(b0, b, 8);
    memcpy(&a0, a, 4);
    memcpy(&a1, a + 64 * 4, 4);
    ck_assert_float_eq_tol(is, was + 4 * (b0[0] * a0 + b0[1] * a1), 1e-5f);
    reply_free(&before);
    reply_free(&after);
    reply_free(&apart);
}
END_TEST

START_TEST(mismatches_are_told_before_anything_runs)
{
    char digest[80], start[512], body[2048];
    struct reply model = first_model(digest);
    reply_free(&model);
    snprintf(start, sizeof start, "\"weights\": {\"digest\": \"%s\"},", digest);
    job(body, sizeof body, start, 12, 5);
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 422);
    const json_t *errors = json_object_get(r.json, "errors");
    ck_assert_uint_eq(json_array_size(errors), 3); /* both of body, and head's columns */
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(errors, 0), "pointer")),
                     "/model/weights");
    ck_assert_ptr_nonnull(strstr(r.body, "body.weight"));
    ck_assert_ptr_nonnull(strstr(r.body, "head.weight"));
    reply_free(&r);
    digest[70] = digest[70] == '0' ? '1' : '0'; /* nobody has sent this one */
    snprintf(start, sizeof start, "\"weights\": {\"digest\": \"%s\"},", digest);
    job(body, sizeof body, start, 16, 5);
    r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
    ck_assert_int_eq(r.status, 422);
    ck_assert_ptr_nonnull(strstr(r.body, "/model/weights/digest"));
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("weights");
    TCase *t = tcase_create("weights");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, only_the_head_is_trained, 0, 2);
    tcase_add_test(t, adapters_are_written_apart_and_merged);
    tcase_add_test(t, mismatches_are_told_before_anything_runs);
    suite_add_tcase(s, t);
    return suite_run(s);
}
