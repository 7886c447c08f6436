/* Uploads over HTTP, and what a job makes of a model file. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "http.h"
#include "psg/formats.h"
#include "suite.h"

static struct fixture f;

static const char config[] = "[Run]\nCores=1\n[Limits]\nRate=100000\nBurst=100000\n"
                             "[Uploads]\nMaxBytes=200K\nPerOwner=400K\nMaxPiece=150K\n";
static const char waiting[] = "[Run]\nCores=1\nMaxRunning=0\n[Limits]\nRate=100000\nBurst=100000\n";

static void setup(void)
{
    fixture_start(&f, config);
}

static void setup_waiting(void)
{
    fixture_start(&f, waiting);
}

static void teardown(void)
{
    fixture_stop(&f);
}

static void digest_of(const char *data, size_t n, char digest[72])
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(sum, (const unsigned char *)data, n);
    strcpy(digest, "sha256:");
    sodium_bin2hex(digest + 7, 65, sum, sizeof sum);
}

/* POST /uploads; the status. path: of the upload. */
static long begin(const char *digest, size_t n, const char *who, char path[64])
{
    char body[200];
    snprintf(body, sizeof body, "{\"digest\":\"%s\",\"bytes\":%zu}", digest, n);
    struct reply r = http(&f, "POST", "/uploads", body, who ? HEADERS(who) : NULL);
    long status = r.status;
    snprintf(path, 64, "/uploads/%.50s", reply_text(&r, "id"));
    if (status < 300)
        ck_assert_str_eq(reply_header(&r, "Location"), path);
    reply_free(&r);
    return status;
}

static struct reply piece(const char *path, long offset, const char *data, size_t n,
                          const char *who)
{
    char header[64];
    snprintf(header, sizeof header, "Upload-Offset: %ld", offset);
    return http_bytes(&f, "PATCH", path, data, n,
                      HEADERS("Content-Type: application/octet-stream", header, who));
}

static void expect_piece(const char *path, long offset, const char *data, size_t n, long status)
{
    struct reply r = piece(path, offset, data, n, NULL);
    ck_assert_msg(r.status == status, "%s at %ld: %ld %s", path, offset, r.status, r.body);
    reply_free(&r);
}

static long offset_of(const char *path)
{
    struct reply r = http(&f, "HEAD", path, NULL, NULL);
    long offset = r.status == 200 ? strtol(reply_header(&r, "Upload-Offset"), NULL, 10) : -1;
    ck_assert_uint_eq(r.n_body, 0);
    reply_free(&r);
    return offset;
}

/* A whole file, at once; its digest. */
static void send_file(const char *name, char digest[72])
{
    char path[512], upload[64];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", getenv("MODELS"), name);
    char *data = read_file(path, &n);
    digest_of(data, n, digest);
    if (begin(digest, n, NULL, upload) == 201)
        expect_piece(upload, 0, data, n, 200);
    ck_assert_int_eq(offset_of(upload), (long)n);
    free(data);
}

static char *noise(size_t n, unsigned seed)
{
    char *data = malloc(n);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
    return data;
}

START_TEST(a_file_in_three_pieces)
{
    char digest[72], path[64], again[64], query[128];
    char *data = noise(100000, 1);
    digest_of(data, 100000, digest);
    ck_assert_int_eq(begin(digest, 100000, NULL, path), 201);
    ck_assert_int_eq(offset_of(path), 0);
    expect_piece(path, 0, data, 40000, 200);
    ck_assert_int_eq(offset_of(path), 40000);
    ck_assert_int_eq(begin(digest, 100000, NULL, again), 200); /* the way to find it again */
    ck_assert_str_eq(again, path);
    expect_piece(path, 40000, data + 40000, 1, 200);
    struct reply r = piece(path, 40001, data + 40001, 59999, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert(json_is_true(json_object_get(r.json, "complete")));
    ck_assert_str_eq(reply_text(&r, "digest"), digest);
    ck_assert_str_eq(reply_header(&r, "Upload-Offset"), "100000");
    ck_assert_str_eq(reply_header(&r, "Upload-Length"), "100000");
    reply_free(&r);
    expect_piece(path, 100000, data, 1, 409);
    snprintf(query, sizeof query, "/uploads?digest=%s", digest);
    r = http(&f, "GET", query, NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 1);
    reply_free(&r);
    http_expect(&f, "DELETE", path, NULL, 204);
    http_expect(&f, "GET", path, NULL, 404);
    r = http(&f, "GET", query, NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 0);
    reply_free(&r);
    free(data);
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    char digest[72], path[64], other[64];
    char *data = noise(200000, 2);
    digest_of(data, 5000, digest);
    ck_assert_int_eq(begin(digest, 5000, NULL, path), 201);
    struct reply r = piece(path, 1, data, 10, NULL);
    ck_assert_int_eq(r.status, 409);
    ck_assert_str_eq(reply_header(&r, "Upload-Offset"), "0"); /* where to go on */
    reply_free(&r);
    expect_piece(path, -1, data, 10, 400);
    expect_piece(path, 0, data, 0, 400);
    expect_piece(path, 0, data, 5001, 413);
    expect_piece(path, 0, data, 160000, 413); /* more than one piece may have */
    r = http_bytes(&f, "PATCH", path, data, 10,
                   HEADERS("Content-Type: application/octet-stream"));
    ck_assert_int_eq(r.status, 400);
    reply_free(&r);
    r = http_bytes(&f, "PATCH", path, data, 10, HEADERS("Upload-Offset: 0"));
    ck_assert_int_eq(r.status, 415);
    reply_free(&r);
    ck_assert_int_eq(offset_of(path), 0);
    ck_assert_int_eq(begin(digest, 5001, NULL, other), 422);
    digest_of(data, 6000, digest);
    ck_assert_int_eq(begin(digest, 300000, NULL, other), 413);
    ck_assert_int_eq(begin(digest, 200000, NULL, other), 201);
    digest_of(data, 7000, digest);
    ck_assert_int_eq(begin(digest, 204800, NULL, other), 409); /* the owner's room */
    data[0] = (char)(data[0] + 1);
    r = piece(path, 0, data, 5000, NULL);
    ck_assert_int_eq(r.status, 422);
    ck_assert_ptr_nonnull(strstr(r.body, "digest"));
    reply_free(&r);
    ck_assert_int_eq(offset_of(path), 0);
    data[0] = (char)(data[0] - 1);
    expect_piece(path, 0, data, 5000, 200);
    free(data);
}
END_TEST

START_TEST(owners_are_apart)
{
    char digest[72], mine[64], bobs[64], ada[128], bob[128], viewer[128];
    http_token(&f, "ada", "submitter", ada, sizeof ada);
    http_token(&f, "bob", "submitter", bob, sizeof bob);
    http_token(&f, "eve", "viewer", viewer, sizeof viewer);
    char *data = noise(3000, 3);
    digest_of(data, 3000, digest);
    ck_assert_int_eq(begin(digest, 3000, ada, mine), 201);
    struct reply r = piece(mine, 0, data, 3000, bob);
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
    r = piece(mine, 0, data, 3000, viewer);
    ck_assert_int_eq(r.status, 403);
    reply_free(&r);
    r = piece(mine, 0, data, 3000, ada);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    static const char *const methods[] = { "GET", "DELETE" };
    for (int i = 0; i < 2; i++) {
        r = http(&f, methods[i], mine, NULL, HEADERS(bob));
        ck_assert_int_eq(r.status, 404);
        reply_free(&r);
    }
    r = http(&f, "GET", "/uploads", NULL, HEADERS(bob));
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 0);
    reply_free(&r);
    ck_assert_int_eq(begin(digest, 3000, bob, bobs), 201); /* who has the digest has not the file */
    ck_assert_str_ne(mine, bobs);
    http_expect(&f, "DELETE", bobs, NULL, 204);
    r = http(&f, "GET", mine, NULL, HEADERS(ada));
    ck_assert(json_is_true(json_object_get(r.json, "complete")));
    reply_free(&r);
    free(data);
}
END_TEST

START_TEST(names_lead_nowhere_else)
{
    static const char *const paths[] = { "/uploads/..%2f..%2fadmin.token", "/uploads/%2e%2e",
                                         "/uploads/up_..%2fx", "/uploads/dpsgd.db",
                                         "/uploads/up_0000000000000000" };
    static const char *const digests[] = { "sha256:../../admin.token", "../../../etc/passwd", "" };
    char path[64];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct reply r = http(&f, "GET", paths[i], NULL, NULL);
        ck_assert_msg(r.status == 404 || r.status == 400, "%s: %ld", paths[i], r.status);
        reply_free(&r);
        r = piece(paths[i], 0, "x", 1, NULL);
        ck_assert_msg(r.status == 404 || r.status == 400, "%s: %ld", paths[i], r.status);
        reply_free(&r);
    }
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
        ck_assert_int_eq(begin(digests[i], 10, NULL, path), 422);
    struct reply r = http(&f, "POST", "/uploads",
                          "{\"digest\":\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"
                          "d15d6c15b0f00a08\",\"bytes\":4,\"name\":\"../../../etc/passwd\"}",
                          NULL);
    ck_assert_int_eq(r.status, 201); /* a label, and nothing more */
    reply_free(&r);
}
END_TEST

struct racer {
    const char *path, *data;
    long offset;
    long status;
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct reply r = piece(racer->path, racer->offset, racer->data, 1000, NULL);
    racer->status = r.status;
    reply_free(&r);
    return NULL;
}

START_TEST(of_two_pieces_at_once_one_is_taken)
{
    char digest[72], path[64];
    char *data = noise(10000, 4);
    digest_of(data, 10000, digest);
    ck_assert_int_eq(begin(digest, 10000, NULL, path), 201);
    for (int i = 0; i < 10; i++) {
        struct racer racers[3];
        pthread_t threads[3];
        int taken = 0;
        for (int k = 0; k < 3; k++) {
            racers[k] = (struct racer){ path, data + 1000 * i, 1000 * i, 0 };
            ck_assert_int_eq(pthread_create(&threads[k], NULL, race, &racers[k]), 0);
        }
        for (int k = 0; k < 3; k++) {
            pthread_join(threads[k], NULL);
            ck_assert(racers[k].status == 200 || racers[k].status == 409);
            taken += racers[k].status == 200;
        }
        ck_assert_int_eq(taken, 1);
        ck_assert_int_eq(offset_of(path), 1000 * (i + 1));
    }
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert(json_is_true(json_object_get(r.json, "complete")));
    reply_free(&r);
    free(data);
}
END_TEST

/* What was acknowledged is there after kill -9, and the rest is sent from there. */
START_TEST(an_upload_survives_kill_9)
{
    char digest[72], path[64], head[512];
    char *data = noise(90000, 5);
    digest_of(data, 90000, digest);
    ck_assert_int_eq(begin(digest, 90000, NULL, path), 201);
    for (long at = 0; at < 90000; at += 30000) {
        expect_piece(path, at, data + at, 20000, 200);
        /* a piece that is on its way when the daemon dies */
        int fd = raw_connect(&f);
        snprintf(head, sizeof head,
                 "PATCH %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                 "Content-Type: application/octet-stream\r\nUpload-Offset: %ld\r\n"
                 "Content-Length: 10000\r\n\r\n", path, f.token, at + 20000);
        ck_assert(raw_puts(fd, head));
        ck_assert(raw_send(fd, data + at + 20000, 5000));
        fixture_end(&f, SIGKILL);
        close(fd);
        fixture_run(&f, NULL);
        long offset = offset_of(path);
        ck_assert_int_eq(offset, at + 20000);
        expect_piece(path, offset, data + offset, 10000, 200);
    }
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert(json_is_true(json_object_get(r.json, "complete")));
    reply_free(&r);
    free(data);
}
END_TEST

/* ---- jobs ---- */

static void job_text(char *text, size_t size, const char *digest, const char *train)
{
    snprintf(text, size,
             "{\"dataset\":\"digits\",\"model\":{\"torchscript\":\"%s\"},"
             "\"loss\":\"cross_entropy\",\"optimizer\":{\"type\":\"sgd\",\"lr\":2},"
             "\"privacy\":{\"noise_multiplier\":4,\"delta\":1e-5,\"max_grad_norm\":1},"
             "\"train\":{\"batch_size\":512,%s}}", digest, train);
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

/* state_dict() of the example, as make_models.py prints it */
static const struct {
    const char *name;
    int rank;
    int64_t dim[4];
} state_dict[] = {
    { "gain", 3, { 16, 1, 1 } },          { "conv.weight", 4, { 16, 1, 3, 3 } },
    { "conv.bias", 1, { 16 } },           { "norm.weight", 1, { 16 } },
    { "norm.bias", 1, { 16 } },           { "head.1.weight", 2, { 12, 256 } },
    { "head.1.bias", 1, { 12 } },         { "head.3.weight", 2, { 10, 12 } },
    { "head.3.bias", 1, { 10 } },
};
enum { N_TENSORS = sizeof state_dict / sizeof *state_dict };

static void check_model(const char *id)
{
    char path[160];
    struct psg_safetensors *file = NULL;
    struct psg_error err;
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/model.safetensors", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_msg(psg_safetensors_open_bytes(r.body, r.n_body, "model", &file, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(psg_safetensors_count(file), N_TENSORS);
    for (size_t i = 0; i < N_TENSORS; i++) {
        const struct psg_array *array = psg_safetensors_find(file, state_dict[i].name);
        ck_assert_msg(array != NULL, "no %s", state_dict[i].name);
        ck_assert_int_eq(array->shape.rank, state_dict[i].rank);
        for (int k = 0; k < state_dict[i].rank; k++)
            ck_assert_int_eq(array->shape.dim[k], state_dict[i].dim[k]);
    }
    psg_safetensors_close(file);
    reply_free(&r);
}

static const char *const models[] = { "digits.script.pt", "digits.trace.pt" };

START_TEST(a_file_is_trained_and_its_weights_come_back)
{
    char digest[72], body[600], id[64], path[160];
    send_file(models[_i], digest);
    job_text(body, sizeof body, digest, "\"steps\":60");
    struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
    ck_assert_msg(r.status == 200, "%s", r.body);
    ck_assert_int_eq(json_integer_value(json_object_get(r.json, "parameters")), 3422);
    reply_free(&r);
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    check_model(id);
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    r = http(&f, "GET", path, NULL, NULL);
    const json_t *metrics = json_object_get(r.json, "metrics");
    ck_assert_double_gt(json_number_value(json_object_get(metrics, "eval_accuracy")), 0.5);
    reply_free(&r);
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/job.json", id);
    r = http(&f, "GET", path, NULL, NULL);
    ck_assert_ptr_nonnull(strstr(r.body, digest));
    reply_free(&r);
}
END_TEST

/* The file's own weights are where training begins: with a learning rate of zero nothing moves. */
START_TEST(training_begins_with_the_files_weights)
{
    char digest[72], body[600], id[64], path[160], spec[700];
    send_file(models[0], digest);
    job_text(body, sizeof body, digest, "\"steps\":2");
    char *rate = strstr(body, "\"lr\":2");
    snprintf(spec, sizeof spec, "%.*s\"lr\":1e-30%s", (int)(rate - body), body, rate + 6);
    submit(spec, id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/model.safetensors", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    struct psg_safetensors *file = NULL;
    struct psg_error err;
    ck_assert_int_eq(psg_safetensors_open_bytes(r.body, r.n_body, "model", &file, &err), 0);
    const struct psg_array *gain = psg_safetensors_find(file, "gain");
    ck_assert_ptr_nonnull(gain);
    psg_real value[16] = { 0 };
    ck_assert_int_eq(psg_array_read_real(gain, 0, 16, value, &err), 0);
    for (int i = 0; i < 16; i++)
        ck_assert_double_eq(value[i], 1); /* torch.ones in make_models.py */
    psg_safetensors_close(file);
    reply_free(&r);
}
END_TEST

START_TEST(a_job_with_a_file_goes_on_after_kill_9)
{
    char digest[72], body[600], id[64], path[128];
    send_file(models[0], digest);
    job_text(body, sizeof body, digest, "\"steps\":150,\"checkpoint_every\":\"100ms\"");
    submit(body, id, sizeof id);
    WAIT_UNTIL(has_status(id, "running") || has_status(id, "succeeded"));
    fixture_end(&f, SIGKILL);
    fixture_run(&f, NULL);
    WAIT_UNTIL(has_status(id, "succeeded"));
    check_model(id);
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    http_expect(&f, "DELETE", path, NULL, 204);
}
END_TEST

START_TEST(a_file_that_a_job_needs_stays)
{
    char digest[72], body[600], id[64], path[160], upload[64], bob[128];
    http_token(&f, "bob", "submitter", bob, sizeof bob);
    send_file(models[0], digest);
    job_text(body, sizeof body, digest, "\"steps\":2");
    struct reply r = http(&f, "POST", "/jobs", body, HEADERS(bob));
    ck_assert_int_eq(r.status, 422); /* it is not bob's */
    ck_assert_ptr_nonnull(strstr(r.body, "/model/torchscript"));
    reply_free(&r);
    submit(body, id, sizeof id);
    snprintf(path, sizeof path, "/uploads?digest=%s", digest);
    r = http(&f, "GET", path, NULL, NULL);
    const json_t *first = json_array_get(json_object_get(r.json, "data"), 0);
    snprintf(upload, sizeof upload, "/uploads/%s",
             json_string_value(json_object_get(first, "id")));
    reply_free(&r);
    http_expect(&f, "DELETE", upload, NULL, 409);
    snprintf(path, sizeof path, "/jobs/%.63s/cancel", id);
    http_expect(&f, "POST", path, NULL, 202);
    http_expect(&f, "DELETE", upload, NULL, 204);
    r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 422);
    reply_free(&r);
}
END_TEST

/* What the importer says stands at the file's place in the job. */
static void refused(const char *data, size_t n, const char *name)
{
    char digest[72], upload[64], body[600];
    digest_of(data, n, digest);
    if (begin(digest, n, NULL, upload) == 201)
        expect_piece(upload, 0, data, n, 200);
    job_text(body, sizeof body, digest, "\"steps\":2");
    struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
    ck_assert_msg(r.status == 422, "%s: %ld %s", name, r.status, r.body);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/problem+json");
    const json_t *first = json_array_get(json_object_get(r.json, "errors"), 0);
    const char *at = json_string_value(json_object_get(first, "pointer"));
    ck_assert_msg(at && strncmp(at, "/model", 6) == 0, "%s: %s", name, r.body);
    ck_assert_uint_gt(strlen(json_string_value(json_object_get(first, "message"))), 10);
    reply_free(&r);
}

START_TEST(hostile_archives_are_refused)
{
    char path[512];
    int n_files = 0;
    size_t n;
    DIR *d = opendir(getenv("CORPUS"));
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", getenv("CORPUS"), e->d_name);
        char *data = read_file(path, &n);
        refused(data, n, e->d_name);
        free(data);
        n_files++;
    }
    closedir(d);
    ck_assert_int_ge(n_files, 5);
    snprintf(path, sizeof path, "%s/%s", getenv("MODELS"), models[0]);
    char *data = read_file(path, &n);
    for (size_t cut = 1; cut < n; cut = 3 * cut + 1)
        refused(data, cut, "cut off");
    for (int i = 0; i < 20; i++) { /* a byte of the code or the pickles changed: the CRC tells */
        size_t at = (size_t)(i + 1) * n / 23;
        data[at] = (char)(data[at] ^ 0x55);
        char digest[72], upload[64], body[600];
        digest_of(data, n, digest);
        ck_assert_int_eq(begin(digest, n, NULL, upload), 201);
        expect_piece(upload, 0, data, n, 200);
        job_text(body, sizeof body, digest, "\"steps\":2");
        struct reply r = http(&f, "POST", "/jobs?dry_run=true", body, NULL);
        ck_assert_msg(r.status == 200 || r.status == 422, "%ld %s", r.status, r.body);
        reply_free(&r);
        http_expect(&f, "DELETE", upload, NULL, 204);
        data[at] = (char)(data[at] ^ 0x55);
    }
    http_expect(&f, "GET", "/readyz", NULL, 200);
    free(data);
}
END_TEST

static int dpsgctl(const char *arguments, char *text, size_t size)
{
    char command[2048];
    snprintf(command, sizeof command, "DPSGD_TOKEN=%s '%s' %s 2>&1", f.token, getenv("DPSGCTL"),
             arguments);
    FILE *out = popen(command, "r");
    ck_assert_ptr_nonnull(out);
    text[fread(text, 1, size - 1, out)] = '\0';
    return WEXITSTATUS(pclose(out));
}

/* dpsgctl goes on with what an interrupted upload has left, and sends nothing twice. */
START_TEST(dpsgctl_sends_what_is_missing)
{
    char digest[72], upload[64], path[512], arguments[1024], text[8192];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", getenv("MODELS"), models[0]);
    char *data = read_file(path, &n);
    digest_of(data, n, digest);
    ck_assert_int_eq(begin(digest, n, NULL, upload), 201);
    expect_piece(upload, 0, data, 10000, 200);
    snprintf(arguments, sizeof arguments,
             "submit --url http://127.0.0.1:%d --model '%s' --set privacy.target_epsilon=0.5 "
             "--set train.epochs=1 --follow '%s/digits.json'", f.port, path, getenv("MODELS"));
    ck_assert_msg(dpsgctl(arguments, text, sizeof text) == 0, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "succeeded"));
    ck_assert_int_eq(offset_of(upload), (long)n);
    struct reply r = http(&f, "GET", "/uploads", NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), 1);
    reply_free(&r);
    ck_assert_msg(dpsgctl(arguments, text, sizeof text) == 0, "%s", text);
    snprintf(arguments, sizeof arguments,
             "submit --url http://127.0.0.1:%d --model '%s/make_models.py' '%s/digits.json'", f.port,
             getenv("MODELS"), getenv("MODELS"));
    ck_assert_int_eq(dpsgctl(arguments, text, sizeof text), 1);
    ck_assert_msg(strstr(text, "/model/torchscript") != NULL, "%s", text);
    snprintf(arguments, sizeof arguments,
             "submit --url http://127.0.0.1:%d --model /nowhere.pt '%s/digits.json'", f.port,
             getenv("MODELS"));
    ck_assert_int_eq(dpsgctl(arguments, text, sizeof text), 1);
    ck_assert_msg(strstr(text, "/nowhere.pt") != NULL, "%s", text);
    free(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uploads");
    TCase *tc = tcase_create("uploads");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_file_in_three_pieces);
    tcase_add_test(tc, what_is_wrong_is_refused);
    tcase_add_test(tc, owners_are_apart);
    tcase_add_test(tc, names_lead_nowhere_else);
    tcase_add_test(tc, of_two_pieces_at_once_one_is_taken);
    tcase_add_test(tc, an_upload_survives_kill_9);
    tcase_add_loop_test(tc, a_file_is_trained_and_its_weights_come_back, 0, 2);
    tcase_add_test(tc, training_begins_with_the_files_weights);
    tcase_add_test(tc, a_job_with_a_file_goes_on_after_kill_9);
    tcase_add_test(tc, dpsgctl_sends_what_is_missing);
    TCase *queue = tcase_create("queue");
    tcase_add_checked_fixture(queue, setup_waiting, teardown);
    tcase_add_test(queue, a_file_that_a_job_needs_stays);
    tcase_add_test(queue, hostile_archives_are_refused);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, queue);
    return suite_run(suite);
}
