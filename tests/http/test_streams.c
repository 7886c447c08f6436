#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http.h"
#include "suite.h"

static struct fixture f;
static char buf[65536];

static void start(const char *config)
{
    char text[512];
    snprintf(text, sizeof text, "%s[Run]\nMaxRunning=0\n[Limits]\nRate=100000\nBurst=100000\n",
             config);
    fixture_start(&f, text);
}

static void setup(void)
{
    start("HeartbeatSeconds=1\n");
}

static void teardown(void)
{
    fixture_stop(&f);
}

static int open_stream(const char *id, const char *headers)
{
    char text[1024];
    int fd = raw_connect(&f);
    snprintf(text, sizeof text,
             "GET /jobs/%s/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
             "Accept: text/event-stream\r\n%s\r\n", id, f.token, headers);
    ck_assert(raw_puts(fd, text));
    return fd;
}

static void cancel(const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%s/cancel", id);
    http_expect(&f, "POST", path, NULL, 202);
}

/* Number of the last event of a job. */
static int last_event(const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%s/events?limit=1000", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    int n = (int)json_array_size(json_object_get(r.json, "data"));
    reply_free(&r);
    return n;
}

START_TEST(a_stream_from_the_start_to_the_end)
{
    char id[64];
    http_submit(&f, id, sizeof id);
    int fd = open_stream(id, "");
    raw_read(fd, buf, sizeof buf, "\n\n", 10000);
    raw_read(fd, buf + strlen(buf), sizeof buf - strlen(buf), "event: status", 10000);
    ck_assert_ptr_nonnull(strstr(buf, "HTTP/1.1 200"));
    ck_assert_ptr_nonnull(strstr(buf, "Content-Type: text/event-stream\r\n"));
    ck_assert_ptr_nonnull(strstr(buf, "retry: 3000\n\n"));
    ck_assert_ptr_nonnull(strstr(buf, "id: 1\nevent: status\ndata: {"));
    ck_assert_ptr_null(strstr(buf, "event: end"));
    cancel(id); /* what follows is live */
    size_t n = strlen(buf);
    raw_read(fd, buf + n, sizeof buf - n, "\r\n0\r\n", 10000);
    ck_assert_ptr_nonnull(strstr(buf, "event: end\ndata: {"));
    ck_assert_ptr_nonnull(strstr(buf, "\"cancelled\""));
    close(fd);

    char path[128], cursor[64];
    int last = last_event(id);
    ck_assert_int_ge(last, 3); /* queued, cancelled, end */
    snprintf(path, sizeof path, "/jobs/%s/events", id);
    snprintf(cursor, sizeof cursor, "Last-Event-ID: %d", last);
    struct reply r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream", cursor));
    ck_assert_int_eq(r.status, 204); /* EventSource gives up, as it should */
    reply_free(&r);
    snprintf(cursor, sizeof cursor, "Last-Event-ID: %d", last - 1);
    r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream", cursor));
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_null(strstr(r.body, "id: 1\n"));
    ck_assert_ptr_nonnull(strstr(r.body, "event: end"));
    reply_free(&r);
    snprintf(path, sizeof path, "/jobs/%s/events?after=1", id);
    r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream"));
    ck_assert_ptr_null(strstr(r.body, "id: 1\n"));
    ck_assert_ptr_nonnull(strstr(r.body, "id: 2\n"));
    reply_free(&r);
    snprintf(cursor, sizeof cursor, "Last-Event-ID: %d", last + 1);
    r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream", cursor));
    ck_assert_int_eq(r.status, 400); /* a number that has not been given out */
    reply_free(&r);
}
END_TEST

START_TEST(pages_of_events_go_on)
{
    char id[64], path[128], next[256];
    http_submit(&f, id, sizeof id);
    cancel(id);
    int last = last_event(id), seen = 0;
    snprintf(path, sizeof path, "/jobs/%s/events?limit=1", id);
    snprintf(next, sizeof next, "%s", path);
    while (next[0] != '\0') {
        struct reply r = http(&f, "GET", next, NULL, NULL);
        const json_t *event = json_array_get(json_object_get(r.json, "data"), 0);
        ck_assert_int_eq(json_integer_value(json_object_get(event, "id")), ++seen);
        if (sscanf(reply_header(&r, "Link"), "<%255[^>]>", next) != 1)
            next[0] = '\0';
        reply_free(&r);
    }
    ck_assert_int_eq(seen, last);
}
END_TEST

START_TEST(an_idle_stream_has_a_heartbeat)
{
    char id[64];
    http_submit(&f, id, sizeof id);
    int fd = open_stream(id, "");
    raw_read(fd, buf, sizeof buf, ":hb\n\n", 15000);
    ck_assert_ptr_nonnull(strstr(buf, ":hb\n\n"));
    raw_read(fd, buf, sizeof buf, ":hb\n\n", 15000); /* and again */
    ck_assert_ptr_nonnull(strstr(buf, ":hb\n\n"));
    close(fd);
}
END_TEST

START_TEST(who_left_leaves_nothing)
{
    enum { N = 60 };
    char id[64];
    int fds[N];
    http_submit(&f, id, sizeof id);
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == 0);
    int before = fixture_sockets(&f);
    for (int i = 0; i < N; i++)
        fds[i] = open_stream(id, "");
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == N);
    for (int i = 0; i < N; i++) {
        struct linger reset = { 1, 0 };
        if (i % 2 == 0) /* half of them without a good-bye */
            setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fds[i]);
    }
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == 0);
    WAIT_UNTIL(fixture_sockets(&f) <= before);
    cancel(id); /* nobody is there to be told */
    http_expect(&f, "GET", "/livez", NULL, 200);
}
END_TEST

START_TEST(every_watcher_gets_every_event)
{
    enum { N = 40 };
    char id[64];
    int fds[N];
    http_submit(&f, id, sizeof id);
    for (int i = 0; i < N; i++)
        fds[i] = open_stream(id, "");
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == N);
    cancel(id);
    for (int i = 0; i < N; i++) {
        raw_read(fds[i], buf, sizeof buf, "\r\n0\r\n", 10000);
        ck_assert_ptr_nonnull(strstr(buf, "id: 1\n"));
        ck_assert_ptr_nonnull(strstr(buf, "event: end\n"));
        close(fds[i]);
    }
}
END_TEST

/* 500 streams that wait must not be looked at: two seconds of them may cost 0.1 s of CPU (a busy
 * loop costs all of it). */
START_TEST(idle_streams_cost_nothing)
{
    enum { N = 500 };
    char id[64];
    static int fds[N];
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    fixture_stop(&f);
    start(""); /* heartbeat as it is by default */
    http_submit(&f, id, sizeof id);
    for (int i = 0; i < N; i++)
        fds[i] = open_stream(id, "");
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == N);
    for (int i = 0; i < N; i++)
        raw_read(fds[i], buf, sizeof buf, "event: status", 10000);
    double before = fixture_cpu_seconds(&f);
    sleep_ms(2000);
    double spent = fixture_cpu_seconds(&f) - before;
    ck_assert_msg(spent <= 0.1, "%.2f s of CPU in 2 s", spent);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    WAIT_UNTIL(http_metric(&f, "dpsgd_streams") == 0);
}
END_TEST

START_TEST(head_opens_no_stream)
{
    char id[64], path[128];
    http_submit(&f, id, sizeof id);
    snprintf(path, sizeof path, "/jobs/%s/events", id);
    struct reply r = http(&f, "HEAD", path, NULL, HEADERS("Accept: text/event-stream"));
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "text/event-stream");
    reply_free(&r);
    ck_assert_double_eq(http_metric(&f, "dpsgd_streams"), 0);
}
END_TEST

START_TEST(sigterm_ends_streams_with_a_hint)
{
    char id[64];
    http_submit(&f, id, sizeof id);
    int fd = open_stream(id, "");
    raw_read(fd, buf, sizeof buf, "event: status", 10000);
    int status = fixture_end(&f, SIGTERM);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    size_t n = strlen(buf);
    raw_read(fd, buf + n, sizeof buf - n, NULL, 10000);
    ck_assert_ptr_nonnull(strstr(buf, "retry: 5000\n\n"));
    ck_assert_ptr_null(strstr(buf, "event: end"));
    ck_assert_ptr_nonnull(strstr(buf, "\r\n0\r\n\r\n")); /* a whole answer */
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_streams");
    TCase *tc = tcase_create("streams");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_stream_from_the_start_to_the_end);
    tcase_add_test(tc, pages_of_events_go_on);
    tcase_add_test(tc, an_idle_stream_has_a_heartbeat);
    tcase_add_test(tc, who_left_leaves_nothing);
    tcase_add_test(tc, every_watcher_gets_every_event);
    tcase_add_test(tc, idle_streams_cost_nothing);
    tcase_add_test(tc, head_opens_no_stream);
    tcase_add_test(tc, sigterm_ends_streams_with_a_hint);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
