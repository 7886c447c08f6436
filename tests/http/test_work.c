/* Registrations that take as long as the test wants (hold.c): the daemon answers others meanwhile,
 * takes a few at a time, and gets over clients that leave and over its own end. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http.h"
#include "suite.h"

enum { WORK_MAX = 4 };

static struct fixture f;
static int fifo[2] = { -1, -1 }; /* begun, go */
static char buf[4096];

static void start(const char *config)
{
    char path[128], environment[128];
    static const char *const suffix[] = { ".begun", ".go" };
    fixture_prepare(&f, config);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/hold%s", f.dir, suffix[i]);
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        fifo[i] = open(path, O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fifo[i], 0);
    }
    snprintf(environment, sizeof environment, "DPSGD_HOLD=%s/hold", f.dir);
    fixture_run(&f, environment);
}

static void setup(void)
{
    start("[Run]\nMaxRunning=0\n[Datasets]\nEmbedded=no\n");
}

static void teardown(void)
{
    fixture_stop(&f);
    for (int i = 0; i < 2; i++)
        close(fifo[i]);
}

/* Waits until a thread reads, which then waits for us. */
static void wait_begun(void)
{
    char byte;
    ck_assert_int_eq(read(fifo[0], &byte, 1), 1);
}

static void let_go(void)
{
    ck_assert_int_eq(write(fifo[1], ".", 1), 1);
}

static int post(const char *name)
{
    char body[256], text[1024];
    int fd = raw_connect(&f);
    int n = snprintf(body, sizeof body,
                     "{\"name\":\"%s\",\"format\":\"embedded\",\"public\":true}", name);
    snprintf(text, sizeof text,
             "POST /datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
             "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", f.token, n, body);
    ck_assert(raw_puts(fd, text));
    return fd;
}

static void expect(int fd, const char *status, const char *part)
{
    raw_read(fd, buf, sizeof buf, "\r\n\r\n{", 20000);
    ck_assert_msg(strncmp(buf, status, strlen(status)) == 0, "%s", buf);
    ck_assert_msg(strstr(buf, part) != NULL, "%s", buf);
    close(fd);
}

START_TEST(others_are_answered_while_data_are_read)
{
    int fd = post("held");
    wait_begun();
    http_expect(&f, "GET", "/livez", NULL, 200);
    http_expect(&f, "GET", "/datasets/held", NULL, 404);
    let_go();
    expect(fd, "HTTP/1.1 201", "Location: /datasets/held\r\n");
    http_expect(&f, "GET", "/datasets/held", NULL, 200);
    fd = post("held");
    wait_begun();
    let_go();
    expect(fd, "HTTP/1.1 200", "X-Request-Id"); /* it is there already */
}
END_TEST

START_TEST(a_few_at_a_time)
{
    int fd[WORK_MAX];
    for (int i = 0; i < WORK_MAX; i++) {
        fd[i] = post(i == 0 ? "held" : "held2");
        wait_begun();
    }
    expect(post("held3"), "HTTP/1.1 503", "Retry-After: ");
    /* one of the names is first: the same data under the other one are refused */
    for (int i = 0; i < WORK_MAX; i++)
        let_go();
    int created = 0;
    for (int i = 0; i < WORK_MAX; i++) {
        raw_read(fd[i], buf, sizeof buf, "\r\n\r\n{", 20000);
        created += strncmp(buf, "HTTP/1.1 201", 12) == 0;
        ck_assert_msg(strncmp(buf, "HTTP/1.1 2", 10) == 0 || strncmp(buf, "HTTP/1.1 409", 12) == 0,
                      "%s", buf);
        close(fd[i]);
    }
    ck_assert_int_eq(created, 1);
    fd[0] = post("held4"); /* there is room again */
    wait_begun();
    let_go();
    expect(fd[0], "HTTP/1.1 409", "problem+json");
}
END_TEST

START_TEST(a_client_that_leaves_is_no_matter)
{
    struct linger reset = { 1, 0 };
    int fd = post("held");
    wait_begun();
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    http_expect(&f, "GET", "/livez", NULL, 200);
    let_go();
    fd = post("held"); /* the same again, whatever became of the first */
    wait_begun();
    let_go();
    expect(fd, "HTTP/1.1 20", "/datasets/held");
    int status = fixture_end(&f, SIGTERM);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(what_is_under_way_is_finished_in_a_drain)
{
    int fd = post("held");
    wait_begun();
    kill(f.pid, SIGTERM);
    WAIT_UNTIL(fixture_logged(&f, "event=draining"));
    let_go();
    expect(fd, "HTTP/1.1 201", "Location: /datasets/held\r\n");
    int status = fixture_end(&f, 0); /* it was told already; a second signal may come too late */
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(what_never_ends_does_not_hold_up_the_end)
{
    fixture_end(&f, SIGTERM);
    fixture_stop(&f);
    start("DrainTimeout=1s\n[Run]\nMaxRunning=0\n[Datasets]\nEmbedded=no\n");
    int fd = post("held");
    wait_begun();
    int status = fixture_end(&f, SIGTERM);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(fixture_logged(&f, "event=stopped"));
    ck_assert(raw_closed(fd, 1000));
    close(fd);
}
END_TEST

/* A running job that has not come to a place where it can stop. */
START_TEST(a_drain_is_alive_and_not_ready)
{
    static const char job[] =
        "{\"dataset\":\"held\",\"model\":{\"layers\":[{\"op\":\"flatten\"},"
        "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
        "\"optimizer\":{\"type\":\"sgd\"},\"privacy\":null,"
        "\"train\":{\"batch_size\":32,\"steps\":10}}";
    fixture_end(&f, SIGTERM);
    fixture_stop(&f);
    start("[Datasets]\nEmbedded=no\n");
    let_go(); /* the registration need not wait */
    expect(post("held"), "HTTP/1.1 201", "Location: /datasets/held\r\n");
    wait_begun();
    http_expect(&f, "POST", "/jobs", job, 201);
    wait_begun(); /* the job reads its data */
    http_expect(&f, "GET", "/readyz", NULL, 200);
    kill(f.pid, SIGTERM);
    WAIT_UNTIL(fixture_logged(&f, "event=draining"));
    http_expect(&f, "GET", "/livez", NULL, 200);
    http_expect(&f, "GET", "/readyz", NULL, 503);
    http_expect(&f, "POST", "/jobs", job, 503);
    let_go();
    int status = fixture_end(&f, SIGTERM);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_work");
    TCase *tc = tcase_create("work");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, others_are_answered_while_data_are_read);
    tcase_add_test(tc, a_few_at_a_time);
    tcase_add_test(tc, a_client_that_leaves_is_no_matter);
    tcase_add_test(tc, what_is_under_way_is_finished_in_a_drain);
    tcase_add_test(tc, what_never_ends_does_not_hold_up_the_end);
    tcase_add_test(tc, a_drain_is_alive_and_not_ready);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
