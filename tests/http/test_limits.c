#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "suite.h"

static struct fixture f;
static char buf[65536];

static void setup(void)
{
    fixture_start(&f, "HeaderTimeout=700ms\nBodyTimeout=900ms\nIdleTimeout=800ms\n"
                      "RequestTimeout=2s\nAllowedHosts=lab.example\n"
                      "[Run]\nMaxRunning=0\n[Limits]\nRate=100000\nBurst=100000\n");
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* Sends one request's head with the token and these lines. */
static int begin(const char *line, const char *headers)
{
    char text[2048];
    int fd = raw_connect(&f);
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nAuthorization: Bearer %s\r\n%s\r\n", line,
             f.token, headers);
    ck_assert(raw_puts(fd, text));
    return fd;
}

/* The answer must have this status and then the connection must close. */
static void expect_refusal(int fd, const char *status)
{
    raw_read(fd, buf, sizeof buf, "}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 ", 9) == 0 && strncmp(buf + 9, status, 3) == 0,
                  "not %s: %.300s", status, buf);
    ck_assert_ptr_nonnull(strstr(buf, "X-Request-Id: "));
    ck_assert(raw_closed(fd, 10000));
    close(fd);
}

START_TEST(ten_mebibytes_are_refused)
{
    size_t n = 10 << 20;
    char *body = malloc(n + 1);
    memset(body, ' ', n);
    body[n] = '\0';
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 413);
    ck_assert_str_eq(reply_text(&r, "type"), "/problems/body-too-large");
    reply_free(&r);
    r = http(&f, "POST", "/jobs", body, HEADERS("Transfer-Encoding: chunked"));
    ck_assert_int_eq(r.status, 413);
    reply_free(&r);
    /* without a token the body is not read either */
    r = http(&f, "POST", "/jobs", body, HEADERS("Authorization: Bearer no"));
    ck_assert_int_eq(r.status, 401);
    reply_free(&r);
    free(body);
    ck_assert_double_eq(http_metric(&f, "dpsgd_http_body_bytes"), 0);
}
END_TEST

START_TEST(refused_from_the_headers_alone)
{
    expect_refusal(begin("POST /jobs", "Host: localhost\r\nContent-Type: application/json\r\n"
                                       "Content-Length: 10485760\r\n"), "413");
    expect_refusal(begin("POST /jobs", "Host: localhost\r\nContent-Type: text/csv\r\n"
                                       "Content-Length: 10\r\n"), "415");
    expect_refusal(begin("PATCH /datasets/digits/budget",
                         "Host: localhost\r\nContent-Type: application/json\r\n"
                         "Content-Length: 10485760\r\n"), "413");
    expect_refusal(begin("DELETE /jobs/x", "Host: localhost\r\nContent-Length: 5\r\n"), "400");
}
END_TEST

START_TEST(deep_nesting_is_refused)
{
    enum { DEPTH = 200000 };
    char *body = malloc(2 * DEPTH + 1);
    memset(body, '[', DEPTH);
    memset(body + DEPTH, ']', DEPTH);
    body[2 * DEPTH] = '\0';
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_int_eq(r.status, 400);
    ck_assert_ptr_nonnull(strstr(r.body, "too_deep"));
    reply_free(&r);
    r = http(&f, "POST", "/datasets", body, NULL);
    ck_assert_int_eq(r.status, 400);
    reply_free(&r);
    r = http(&f, "POST", "/tokens", body, NULL);
    ck_assert_int_eq(r.status, 400);
    reply_free(&r);
    free(body);
}
END_TEST

static const struct {
    const char *headers, *status;
} smuggled[] = {
    { "Host: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", "400" },
    { "Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", "400" },
    { "Host: localhost\r\nContent-Length: 4\r\nContent-Length: 4\r\n", "400" },
    { "Host: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n", "400" },
    { "Host: localhost\r\nContent-Length: 4, 4\r\n", "400" },
    { "Host: localhost\r\nContent-Length: -4\r\n", "400" },
    { "Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", "400" },
    { "Host: localhost\r\nTransfer-Encoding: chunked, identity\r\n", "400" },
    { "Host: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400" },
    { "Host: localhost\r\nTransfer-Encoding: \x0b" "chunked\r\n", "400" },
    { "Host: localhost\r\nX-Odd: a\x01" "b\r\nContent-Length: 4\r\n", "400" },
    { "Host: localhost\r\nHost: localhost\r\nContent-Length: 4\r\n", "400" },
    { "Content-Length: 4\r\n", "400" },
    { "Host: evil.example\r\nContent-Length: 4\r\n", "421" },
    { "Host: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 4\r\n", "403" },
    { "Host: localhost\r\nAuthorization: Bearer x\r\nContent-Length: 4\r\n", "400" },
};

START_TEST(odd_framing_is_refused_and_closes)
{
    int fd = begin("POST /jobs", smuggled[_i].headers);
    /* what follows must never be taken for a request of its own */
    raw_puts(fd, "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw_read(fd, buf, sizeof buf, NULL, 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 ", 9) == 0 &&
                      strncmp(buf + 9, smuggled[_i].status, 3) == 0,
                  "%.300s", buf);
    /* libmicrohttpd 0.9.75 sends the head of its own refusals twice, so no count of answers */
    ck_assert_ptr_null(strstr(buf, "HTTP/1.1 404"));
    ck_assert_ptr_null(strstr(buf, "smuggled"));
    ck_assert(raw_closed(fd, 10000));
    close(fd);
}
END_TEST

START_TEST(hosts_and_origins)
{
    static const struct {
        const char *header;
        long status;
    } cases[] = {
        { "Host: localhost", 200 },          { "Host: LOCALHOST:99", 200 },
        { "Host: lab.example", 200 },        { "Host: lab.example.evil", 421 },
        { "Host: 10.1.2.3", 421 },           { "Host: [::1]:1", 200 },
        { "Origin: https://lab.example", 200 }, { "Origin: null", 403 },
        { "Origin: http://127.0.0.1:1", 403 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reply r = http(&f, "GET", "/livez", NULL, HEADERS(cases[i].header));
        ck_assert_msg(r.status == cases[i].status, "%s: %ld", cases[i].header, r.status);
        reply_free(&r);
    }
}
END_TEST

START_TEST(slow_headers_get_408)
{
    int fd = raw_connect(&f);
    long start = now_ms();
    ck_assert(raw_puts(fd, "GET /livez HTTP/1.1\r\n"));
    /* a byte now and then is activity, and does not help */
    for (int i = 0; i < 100 && raw_puts(fd, "X"); i++) {
        if (raw_read(fd, buf, sizeof buf, "}", 100) > 0)
            break;
    }
    ck_assert_msg(strncmp(buf, "HTTP/1.1 408", 12) == 0, "%.200s", buf);
    ck_assert(raw_closed(fd, 10000));
    ck_assert_int_ge(now_ms() - start, 600);
    close(fd);
}
END_TEST

START_TEST(slow_bodies_get_408)
{
    int fd = begin("POST /jobs", "Host: localhost\r\nContent-Type: application/json\r\n"
                                 "Content-Length: 1000\r\n");
    buf[0] = '\0';
    for (int i = 0; i < 100 && raw_puts(fd, " "); i++)
        if (raw_read(fd, buf, sizeof buf, "}", 100) > 0)
            break;
    ck_assert_msg(strncmp(buf, "HTTP/1.1 408", 12) == 0, "%.200s", buf);
    ck_assert(raw_closed(fd, 10000));
    close(fd);
}
END_TEST

START_TEST(silence_is_closed)
{
    int fd = raw_connect(&f), idle;
    raw_read(fd, buf, sizeof buf, "}", 10000); /* not a byte sent */
    ck_assert_msg(strncmp(buf, "HTTP/1.1 408", 12) == 0, "%.200s", buf);
    close(fd);
    idle = begin("GET /livez", "Host: localhost\r\n");
    raw_read(idle, buf, sizeof buf, "ok\"}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 200", 12) == 0, "%.200s", buf);
    ck_assert(raw_closed(idle, 10000)); /* kept for a while, then closed without a word */
    close(idle);
}
END_TEST

START_TEST(a_connection_serves_many_requests)
{
    char text[512];
    int fd = raw_connect(&f);
    snprintf(text, sizeof text,
             "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
             "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
             "GET /whoami HTTP/1.1\r\nHost: localhost\r\n\r\n"
             "GET /version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n",
             f.token);
    ck_assert(raw_puts(fd, text)); /* all at once */
    raw_read(fd, buf, sizeof buf, "\"name\":\"dpsgd\"", 10000);
    ck_assert_ptr_nonnull(strstr(buf, "HTTP/1.1 200"));
    ck_assert_ptr_nonnull(strstr(buf, "HTTP/1.1 404"));
    ck_assert_ptr_nonnull(strstr(buf, "HTTP/1.1 401"));
    ck_assert_ptr_nonnull(strstr(buf, "\"name\":\"dpsgd\""));
    close(fd);
}
END_TEST

START_TEST(big_headers_get_431)
{
    char *text = malloc(100000);
    strcpy(text, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Big: ");
    size_t n = strlen(text);
    memset(text + n, 'x', 64000);
    strcpy(text + n + 64000, "\r\n\r\n");
    int fd = raw_connect(&f);
    raw_puts(fd, text);
    raw_read(fd, buf, sizeof buf, "\r\n", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 431", 12) == 0, "%.200s", buf);
    close(fd);
    free(text);
}
END_TEST

START_TEST(noise_does_no_harm)
{
    unsigned seed = 12345;
    for (int i = 0; i < 200; i++) {
        unsigned char noise[512];
        size_t n = 1 + (unsigned)rand_r(&seed) % sizeof noise;
        for (size_t k = 0; k < n; k++)
            noise[k] = (unsigned char)rand_r(&seed);
        if (i % 2 == 0)
            memcpy(noise, "GET /", n < 5 ? n : 5);
        int fd = raw_connect(&f);
        raw_send(fd, noise, n);
        if (i % 3 == 0)
            raw_puts(fd, "\r\n\r\n");
        close(fd);
    }
    http_expect(&f, "GET", "/livez", NULL, 200);
}
END_TEST

START_TEST(many_chunks_are_one_body)
{
    int fd = begin("POST /jobs", "Host: localhost\r\nContent-Type: application/json\r\n"
                                 "Transfer-Encoding: chunked\r\n");
    for (int i = 0; i < 2000; i++)
        ck_assert(raw_puts(fd, i == 0 ? "1\r\n{\r\n" : "1\r\n \r\n"));
    ck_assert(raw_puts(fd, "1\r\n}\r\n0\r\n\r\n"));
    raw_read(fd, buf, sizeof buf, "missing_member", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 422", 12) == 0, "%.300s", buf);
    ck_assert_ptr_nonnull(strstr(buf, "/dataset"));
    close(fd);
}
END_TEST

START_TEST(rate_per_token)
{
    struct fixture own;
    char other[128];
    fixture_start(&own, "[Run]\nMaxRunning=0\n[Limits]\nRate=1\nBurst=5\n");
    http_token(&own, "ada", "viewer", other, sizeof other);
    int refused = 0;
    for (int i = 0; i < 8; i++) {
        struct reply r = http(&own, "GET", "/whoami", NULL, NULL);
        if (r.status == 429) {
            refused++;
            ck_assert_int_ge(atoi(reply_header(&r, "Retry-After")), 1);
            ck_assert_str_eq(reply_text(&r, "type"), "/problems/too-many-requests");
        }
        reply_free(&r);
    }
    ck_assert_int_ge(refused, 1);
    struct reply r = http(&own, "GET", "/whoami", NULL, HEADERS(other));
    ck_assert_int_eq(r.status, 200); /* somebody else's rate */
    reply_free(&r);
    http_expect(&own, "GET", "/livez", NULL, 200);
    fixture_stop(&own);
}
END_TEST

START_TEST(connections_per_address)
{
    struct fixture own;
    int fds[8];
    fixture_start(&own, "MaxConnectionsPerAddress=8\n[Run]\nMaxRunning=0\n");
    for (int i = 0; i < 8; i++) {
        fds[i] = raw_connect(&own);
        raw_puts(fds[i], "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        raw_read(fds[i], buf, sizeof buf, "ok\"}", 10000);
        ck_assert_msg(strncmp(buf, "HTTP/1.1 200", 12) == 0, "%.200s", buf);
    }
    int fd = raw_connect(&own);
    raw_read(fd, buf, sizeof buf, "}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 429", 12) == 0, "%.200s", buf);
    ck_assert_ptr_nonnull(strstr(buf, "X-Request-Id: "));
    close(fd);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    long status = 0;
    for (int i = 0; i < 500 && status != 200; i++) {
        struct reply r = http(&own, "GET", "/livez", NULL, NULL);
        status = r.status;
        reply_free(&r);
    }
    ck_assert_int_eq(status, 200); /* there is room again */
    fixture_stop(&own);
}
END_TEST

START_TEST(connections_in_all)
{
    struct fixture own;
    enum { MAX = 200 };
    int fds[MAX];
    fixture_start(&own, "MaxConnections=200\n[Run]\nMaxRunning=0\n");
    for (int i = 0; i < MAX; i++)
        fds[i] = raw_connect(&own);
    int fd = raw_connect(&own);
    raw_read(fd, buf, sizeof buf, "}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 503", 12) == 0, "%.200s", buf); /* told, not silent */
    close(fd);
    /* the last ones are for probes */
    raw_puts(fds[MAX - 1], "GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw_read(fds[MAX - 1], buf, sizeof buf, "}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 503", 12) == 0, "%.200s", buf);
    raw_puts(fds[MAX - 2], "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw_read(fds[MAX - 2], buf, sizeof buf, "}", 10000);
    ck_assert_msg(strncmp(buf, "HTTP/1.1 200", 12) == 0, "%.200s", buf);
    for (int i = 0; i < MAX; i++)
        close(fds[i]);
    fixture_stop(&own);
}
END_TEST

START_TEST(bodies_held_together_are_bounded)
{
    struct fixture own;
    enum { N = 200 };
    int fds[N], overloaded = 0;
    char head[512], *body = malloc(20000);
    memset(body, ' ', 20000);
    fixture_start(&own, "MaxBody=32K\nBodyTimeout=60s\n[Run]\nMaxRunning=0\n");
    snprintf(head, sizeof head, "POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
             "%s\r\nContent-Type: application/json\r\nContent-Length: 20001\r\n\r\n", own.token);
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(&own);
        raw_puts(fds[i], head);
        raw_send(fds[i], body, 20000); /* and never the last byte */
    }
    WAIT_UNTIL(http_metric(&own, "dpsgd_http_body_bytes") >= 60 * 32768);
    ck_assert_double_le(http_metric(&own, "dpsgd_http_body_bytes"), 64 * 32768);
    for (int i = 0; i < N; i++) {
        raw_read(fds[i], buf, sizeof buf, "}", i < N - 1 ? 10 : 2000);
        overloaded += strncmp(buf, "HTTP/1.1 503", 12) == 0;
        close(fds[i]);
    }
    ck_assert_int_ge(overloaded, N - 64);
    WAIT_UNTIL(http_metric(&own, "dpsgd_http_body_bytes") == 0);
    free(body);
    fixture_stop(&own);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_limits");
    TCase *tc = tcase_create("limits");
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_test(tc, ten_mebibytes_are_refused);
    tcase_add_test(tc, refused_from_the_headers_alone);
    tcase_add_test(tc, deep_nesting_is_refused);
    tcase_add_loop_test(tc, odd_framing_is_refused_and_closes, 0,
                        (int)(sizeof smuggled / sizeof smuggled[0]));
    tcase_add_test(tc, hosts_and_origins);
    tcase_add_test(tc, slow_headers_get_408);
    tcase_add_test(tc, slow_bodies_get_408);
    tcase_add_test(tc, silence_is_closed);
    tcase_add_test(tc, a_connection_serves_many_requests);
    tcase_add_test(tc, big_headers_get_431);
    tcase_add_test(tc, noise_does_no_harm);
    tcase_add_test(tc, many_chunks_are_one_body);
    suite_add_tcase(suite, tc);
    tc = tcase_create("own daemons");
    tcase_add_test(tc, rate_per_token);
    tcase_add_test(tc, connections_per_address);
    tcase_add_test(tc, connections_in_all);
    tcase_add_test(tc, bodies_held_together_are_bounded);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
