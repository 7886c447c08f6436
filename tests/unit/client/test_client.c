/* libdpsgd-client against scripted answers. */
#include <math.h>
#include <sys/stat.h>

#include "dpsgd/client.h"
#include "fake_server.h"
#include "jobs.h"
#include "proto/job.h"
#include "suite.h"

#define HEAD(status, type)                                                                 \
    "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Type: " type "\r\n\r\n"
#define JSON(status, body)         HEAD(status, "application/json") body
#define PROBLEM_JSON(status, body) HEAD(status, "application/problem+json") body
#define STREAM(body)               HEAD("200 OK", "text/event-stream") body
#define JOB(status) \
    "{\"id\":\"job_1\",\"dataset\":\"digits\",\"status\":\"" status "\"}"

static struct fake_server server;
static struct dpc_error err;

static dpc_client *start(const char *const *answers)
{
    dpc_client *client;
    fake_server_start(&server, answers);
    struct dpc_options options = {
        .url = server.url, .token = "secret", .lost_after_ms = 3000, .retries = 1
    };
    ck_assert_int_eq(dpc_open(&client, &options, &err), DPC_OK);
    return client;
}

static void stop(dpc_client *client)
{
    dpc_close(client);
    fake_server_stop(&server);
}

START_TEST(submit_sends_key_and_token_and_reads_the_job)
{
    static const char *const answers[] = { JSON("201 Created", JOB("queued")), NULL };
    dpc_client *client = start(answers);
    struct dpc_job *job;
    ck_assert_int_eq(dpc_submit(client, "{\"a\":1}", 7, NULL, &job, &err), DPC_OK);
    ck_assert_str_eq(job->id, "job_1");
    ck_assert_int_eq(job->status, DPC_JOB_QUEUED);
    ck_assert_str_eq(job->status_text, "queued");
    ck_assert_str_eq(job->json, JOB("queued"));
    ck_assert(isnan(job->epsilon));
    ck_assert_int_eq(job->step, -1);
    dpc_job_free(job);
    stop(client);
    const char *r = server.requests[0];
    ck_assert(strncmp(r, "POST /jobs HTTP/1.1\r\n", 21) == 0);
    ck_assert_ptr_nonnull(strstr(r, "\r\nAuthorization: Bearer secret\r\n"));
    ck_assert_ptr_nonnull(strstr(r, "\r\nContent-Type: application/json\r\n"));
    const char *key = strstr(r, "\r\nIdempotency-Key: ");
    ck_assert_ptr_nonnull(key);
    ck_assert_uint_eq(strspn(key + 19, "0123456789abcdef"), 32);
    ck_assert_str_eq(strstr(r, "\r\n\r\n") + 4, "{\"a\":1}");
    fake_server_free(&server);
}
END_TEST

START_TEST(broken_submit_is_sent_again_with_the_same_key)
{
    static const char *const answers[] = { "", JSON("201 Created", JOB("queued")), NULL };
    dpc_client *client = start(answers);
    struct dpc_job *job;
    ck_assert_int_eq(dpc_submit(client, "{}", 2, NULL, &job, &err), DPC_OK);
    dpc_job_free(job);
    stop(client);
    ck_assert_uint_eq(server.n_requests, 2);
    ck_assert_str_eq(strstr(server.requests[0], "Idempotency-Key"),
                     strstr(server.requests[1], "Idempotency-Key"));
    fake_server_free(&server);
}
END_TEST

START_TEST(refusal_carries_its_places)
{
    static const char *const answers[] = {
        PROBLEM_JSON(
            "422 Unprocessable Content",
            "{\"type\":\"/problems/validation-failed\",\"title\":\"Wrong\",\"status\":422,"
            "\"detail\":\"see errors\",\"request_id\":\"r7\",\"errors\":[{\"pointer\":"
            "\"/train/epochs\",\"code\":\"out_of_range\",\"message\":\"too small\"}]}"),
        PROBLEM_JSON("409 Conflict",
                     "{\"type\":\"/problems/budget-exceeded\",\"status\":409,"
                     "\"available_epsilon\":0.5,\"max_steps_that_fit\":311}"),
        HEAD("502 Bad Gateway", "text/html") "<html>oops</html>", NULL
    };
    dpc_client *client = start(answers);
    struct dpc_job *job;
    ck_assert_int_eq(dpc_submit(client, "{}", 2, "k", &job, &err), DPC_E_REFUSED);
    ck_assert_ptr_null(job);
    ck_assert_int_eq(err.status, DPC_E_REFUSED);
    ck_assert_int_eq(err.http_status, 422);
    ck_assert_str_eq(err.text, "Wrong: see errors");
    ck_assert_str_eq(err.request_id, "r7");
    ck_assert_uint_eq(err.n_details, 1);
    ck_assert_str_eq(err.details[0].pointer, "/train/epochs");
    ck_assert_str_eq(err.details[0].message, "too small");
    ck_assert_int_eq(dpc_submit(client, "{}", 2, "k", &job, &err), DPC_E_REFUSED);
    ck_assert_str_eq(err.type, "/problems/budget-exceeded");
    ck_assert_double_eq(err.available_epsilon, 0.5);
    ck_assert_int_eq(err.max_steps_that_fit, 311);
    ck_assert_int_eq(dpc_submit(client, "{}", 2, "k", &job, &err), DPC_E_REFUSED);
    ck_assert_str_eq(err.text, "HTTP status 502");
    stop(client);
    fake_server_free(&server);
}
END_TEST

START_TEST(list_builds_its_query_and_reads_the_page)
{
    static const char *const answers[] = {
        JSON("200 OK", "{\"object\":\"list\",\"data\":[" JOB("running") "," JOB(
                           "failed") "],"
                                     "\"has_more\":true}"),
        NULL
    };
    dpc_client *client = start(answers);
    struct dpc_filter filter = { .status = "running", .dataset = "a b&c", .limit = 5 };
    struct dpc_jobs *jobs;
    ck_assert_int_eq(dpc_list(client, &filter, &jobs, &err), DPC_OK);
    ck_assert_uint_eq(jobs->n, 2);
    ck_assert_int_eq(jobs->jobs[1].status, DPC_JOB_FAILED);
    ck_assert(jobs->has_more);
    dpc_jobs_free(jobs);
    stop(client);
    ck_assert(strncmp(server.requests[0],
                      "GET /jobs?status=running&dataset=a%20b%26c&limit=5 HTTP", 50) == 0);
    fake_server_free(&server);
}
END_TEST

START_TEST(ids_cannot_leave_their_path)
{
    static const char *const answers[] = { JSON("202 Accepted", JOB("cancelling")), NULL };
    dpc_client *client = start(answers);
    struct dpc_job *job;
    ck_assert_int_eq(dpc_get(client, "..", &job, &err), DPC_E_INVALID);
    ck_assert_int_eq(dpc_get(client, "", &job, &err), DPC_E_INVALID);
    ck_assert_int_eq(dpc_cancel(client, "../x y?z", &job, &err), DPC_OK);
    ck_assert_int_eq(job->status, DPC_JOB_CANCELLING);
    dpc_job_free(job);
    stop(client);
    ck_assert(strncmp(server.requests[0], "POST /jobs/..%2Fx%20y%3Fz/cancel HTTP", 37) ==
              0);
    fake_server_free(&server);
}
END_TEST

struct seen {
    size_t n;
    int64_t ids[32];
    char types[32][16];
    double loss;
    int64_t stop_at;
};

static int note(const struct dpc_event *event, void *user)
{
    struct seen *seen = user;
    ck_assert_uint_lt(seen->n, 32);
    seen->ids[seen->n] = event->id;
    snprintf(seen->types[seen->n++], sizeof seen->types[0], "%s", event->type);
    if (!isnan(event->loss))
        seen->loss = event->loss;
    ck_assert_ptr_nonnull(event->json);
    return event->id == seen->stop_at;
}

#define STEP(id, loss)                                                                     \
    "id: " id "\nevent: step\ndata: {\"event\":\"step\",\"step\":" id                      \
    ",\"of\":9,\"loss\":" loss "}\n\n"
#define END_EVENT(id, status)                                                              \
    "id: " id "\nevent: end\ndata: {\"event\":\"end\",\"status\":\"" status "\"}\n\n"

START_TEST(follow_reconnects_and_delivers_each_event_once)
{
    static const char *const answers[] = {
        STREAM("retry: 10\n\n:hb\n\n" STEP("1", "0.9") STEP("2", "0.8") "id: 3\nevent: st"),
        "", /* nobody there for a moment */
        HEAD("503 Service Unavailable", "application/problem+json") "{}",
        STREAM(STEP("2", "0.8") STEP("3", "0.7") ":hb\n\n"), /* repeats one */
        STREAM("id: 4\nevent: sparkle\ndata: {\"event\":\"sparkle\"}\n\n" STEP("5", "null")
                   END_EVENT("6", "succeeded")),
        NULL
    };
    dpc_client *client = start(answers);
    struct seen seen = { .stop_at = -1 };
    enum dpc_job_status status;
    int r = dpc_follow(client, "job_1", 0, note, &seen, &status, &err);
    ck_assert_msg(r == DPC_OK, "%s", err.text);
    ck_assert_int_eq(status, DPC_JOB_SUCCEEDED);
    ck_assert_uint_eq(seen.n, 6);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(seen.ids[i], (int64_t)i + 1);
    ck_assert_str_eq(seen.types[3], "sparkle");
    ck_assert_str_eq(seen.types[5], "end");
    ck_assert_double_eq(seen.loss, 0.7);
    stop(client);
    ck_assert_ptr_null(strstr(server.requests[0], "Last-Event-ID"));
    ck_assert_ptr_nonnull(strstr(server.requests[0], "Accept: text/event-stream\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[1], "Last-Event-ID: 2\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[4], "Last-Event-ID: 3\r\n"));
    fake_server_free(&server);
}
END_TEST

START_TEST(follow_after_the_end_asks_for_the_status)
{
    static const char *const answers[] = {
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        JSON("200 OK", JOB("cancelled")), NULL
    };
    dpc_client *client = start(answers);
    struct seen seen = { .stop_at = -1 };
    enum dpc_job_status status;
    ck_assert_int_eq(dpc_follow(client, "job_1", 6, note, &seen, &status, &err), DPC_OK);
    ck_assert_int_eq(status, DPC_JOB_CANCELLED);
    ck_assert_uint_eq(seen.n, 0);
    stop(client);
    ck_assert_ptr_nonnull(strstr(server.requests[0], "Last-Event-ID: 6\r\n"));
    fake_server_free(&server);
}
END_TEST

START_TEST(follow_can_be_stopped_refused_confused_and_lost)
{
    static const char *const answers[] = {
        STREAM(STEP("1", "1") STEP("2", "1")),
        PROBLEM_JSON("404 Not Found", "{\"type\":\"/problems/not-found\",\"status\":404}"),
        STREAM("id: 1\ndata: not json\n\n"), NULL
    };
    dpc_client *client = start(answers);
    struct seen seen = { .stop_at = 1 };
    enum dpc_job_status status;
    ck_assert_int_eq(dpc_follow(client, "j", 0, note, &seen, &status, &err), DPC_E_STOPPED);
    ck_assert_uint_eq(seen.n, 1);
    ck_assert_int_eq(dpc_follow(client, "j", 0, note, &seen, &status, &err), DPC_E_REFUSED);
    ck_assert_int_eq(err.http_status, 404);
    ck_assert_int_eq(status, DPC_JOB_UNKNOWN);
    ck_assert_int_eq(dpc_follow(client, "j", 0, note, &seen, &status, &err),
                     DPC_E_PROTOCOL);
    fake_server_stop(&server);
    ck_assert_int_eq(dpc_follow(client, "j", 0, note, &seen, &status, &err), DPC_E_LOST);
    dpc_close(client);
    fake_server_free(&server);
}
END_TEST

START_TEST(download_appears_whole_or_not_at_all)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\nhel", /* breaks
                                                                                    off */
        PROBLEM_JSON("404 Not Found",
                     "{\"type\":\"/problems/not-found\",\"title\":\"None\"}"),
        NULL
    };
    char dir[] = "/tmp/dpsgd-client-XXXXXX", path[64], text[16] = "";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/weights", dir);
    dpc_client *client = start(answers);
    ck_assert_int_eq(dpc_download(client, "job_1", "model.safetensors", path, &err),
                     DPC_OK);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(text, 1, sizeof text, file), 5);
    fclose(file);
    ck_assert_str_eq(text, "hello");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(dpc_download(client, "job_1", "x", path, &err), DPC_E_CONNECT);
    ck_assert_int_eq(dpc_download(client, "job_1", "x", path, &err), DPC_E_REFUSED);
    ck_assert_str_eq(err.text, "None");
    ck_assert_int_eq(dpc_download(client, "job_1", "x", "/nonexistent/y", &err),
                     DPC_E_FILE);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing is left behind */
    stop(client);
    ck_assert(strncmp(server.requests[0], "GET /jobs/job_1/artifacts/model.safetensors ",
                      44) == 0);
    fake_server_free(&server);
}
END_TEST

START_TEST(options_are_checked)
{
    dpc_client *client;
    struct dpc_options options = { .url = "file:///etc/passwd" };
    ck_assert_int_eq(dpc_open(&client, &options, &err), DPC_E_INVALID);
    ck_assert_ptr_null(client);
    options = (struct dpc_options){ .token = "a\r\nX: y" };
    ck_assert_int_eq(dpc_open(&client, &options, NULL), DPC_E_INVALID);
    ck_assert_int_eq(dpc_open(&client, NULL, &err), DPC_OK);
    dpc_close(client);
    dpc_close(NULL);
    dpc_job_free(NULL);
    dpc_jobs_free(NULL);
    ck_assert_str_eq(dpc_status_name(DPC_E_FILE), "DPC_E_FILE");
    ck_assert_str_eq(dpc_status_name((enum dpc_status)77), "DPC_E_UNKNOWN");
}
END_TEST

START_TEST(status_numbers_are_those_of_proto)
{
    static const struct {
        int proto, public;
    } pairs[] = { { JOB_STATUS_QUEUED, DPC_JOB_QUEUED },
                  { JOB_STATUS_RUNNING, DPC_JOB_RUNNING },
                  { JOB_STATUS_PAUSED, DPC_JOB_PAUSED },
                  { JOB_STATUS_CANCELLING, DPC_JOB_CANCELLING },
                  { JOB_STATUS_SUCCEEDED, DPC_JOB_SUCCEEDED },
                  { JOB_STATUS_FAILED, DPC_JOB_FAILED },
                  { JOB_STATUS_CANCELLED, DPC_JOB_CANCELLED },
                  { 0, DPC_JOB_UNKNOWN },
                  { 99, DPC_JOB_UNKNOWN } };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        ck_assert_int_eq(job_status_public(pairs[i].proto), pairs[i].public);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *tc = tcase_create("client");
    tcase_add_test(tc, submit_sends_key_and_token_and_reads_the_job);
    tcase_add_test(tc, broken_submit_is_sent_again_with_the_same_key);
    tcase_add_test(tc, refusal_carries_its_places);
    tcase_add_test(tc, list_builds_its_query_and_reads_the_page);
    tcase_add_test(tc, ids_cannot_leave_their_path);
    tcase_add_test(tc, follow_reconnects_and_delivers_each_event_once);
    tcase_add_test(tc, follow_after_the_end_asks_for_the_status);
    tcase_add_test(tc, follow_can_be_stopped_refused_confused_and_lost);
    tcase_add_test(tc, download_appears_whole_or_not_at_all);
    tcase_add_test(tc, options_are_checked);
    tcase_add_test(tc, status_numbers_are_those_of_proto);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
