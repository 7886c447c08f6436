#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http.h"
#include "suite.h"

static struct fixture f;

static void teardown(void)
{
    fixture_stop(&f);
}

START_TEST(kill_9_loses_no_job)
{
    enum { N = 30 };
    static char ids[N][64];
    char path[128];
    fixture_start(&f, "[Run]\nMaxRunning=0\n");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N / 3; i++)
            http_submit(&f, ids[round * N / 3 + i], sizeof ids[0]);
        int status = fixture_end(&f, SIGKILL);
        ck_assert(WIFSIGNALED(status));
        fixture_run(&f, NULL);
    }
    for (int i = 0; i < N; i++) {
        snprintf(path, sizeof path, "/jobs/%.63s", ids[i]);
        struct reply r = http(&f, "GET", path, NULL, NULL);
        ck_assert_msg(r.status == 200, "job %d: %ld", i, r.status);
        ck_assert_str_eq(reply_text(&r, "status"), "queued");
        reply_free(&r);
    }
    struct reply r = http(&f, "GET", "/jobs?limit=100", NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(r.json, "data")), N);
    reply_free(&r);
}
END_TEST

START_TEST(sigterm_drains_and_exits_0)
{
    static const int numbers[] = { SIGTERM, SIGINT };
    for (int i = 0; i < 2; i++) {
        fixture_start(&f, "[Run]\nMaxRunning=0\n");
        int idle = raw_connect(&f); /* must not hold it up */
        http_expect(&f, "GET", "/livez", NULL, 200);
        int status = fixture_end(&f, numbers[i]);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        ck_assert(fixture_logged(&f, "event=stopped"));
        close(idle);
        fixture_stop(&f);
    }
}
END_TEST

START_TEST(a_state_folder_has_one_daemon)
{
    char config[128], text[4096];
    fixture_start(&f, "[Run]\nMaxRunning=0\n");
    snprintf(config, sizeof config, "%s/dpsgd.conf", f.dir);
    const char *const args[] = { "--config", config, "--state-dir", f.state, NULL };
    ck_assert_int_eq(fixture_exec(args, text, sizeof text), 1);
    ck_assert_ptr_nonnull(strstr(text, "event=start_failed"));
    http_expect(&f, "GET", "/livez", NULL, 200);
}
END_TEST

START_TEST(the_state_folder_is_private)
{
    struct stat st;
    char path[256];
    static const char *const names[] = { "", "/admin.token", "/tokens.json", "/dpsgd.db" };
    fixture_start(&f, "[Run]\nMaxRunning=0\n");
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", f.state, names[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 077, 0);
    }
}
END_TEST

static const struct {
    const char *config;
    int status;
    const char *part;
} configs[] = {
    { "", 0, "good" },
    { "MaxBody=2M\n[Log]\nLevel=debug\n", 0, "good" },
    { "MaxBdy=2M\n", 1, "dpsgd.conf:3: unknown key MaxBdy=" },
    { "[Nope]\n", 1, "dpsgd.conf:3: unknown section" },
    { "MaxBody=lots\n", 1, "dpsgd.conf:3: MaxBody=lots" },
    { "TLSKey=/x\n", 1, "come together" },
};

START_TEST(check_config_tells_line_and_reason)
{
    char path[128], text[4096];
    fixture_prepare(&f, configs[_i].config);
    snprintf(path, sizeof path, "%s/dpsgd.conf", f.dir);
    const char *const args[] = { "--config", path, "--check-config", NULL };
    ck_assert_int_eq(fixture_exec(args, text, sizeof text), configs[_i].status);
    ck_assert_msg(strstr(text, configs[_i].part) != NULL, "%s", text);
}
END_TEST

START_TEST(open_doors_do_not_start)
{
    static const char *const listens[] = { "0.0.0.0:0", "[::]:0", "10.0.0.1:80" };
    char path[128], text[4096];
    fixture_prepare(&f, "");
    snprintf(path, sizeof path, "%s/dpsgd.conf", f.dir);
    for (size_t i = 0; i < 3; i++) {
        const char *const args[] = { "--config", path, "--state-dir", f.state, "--listen",
                                     listens[i], NULL };
        ck_assert_int_eq(fixture_exec(args, text, sizeof text), 1);
        ck_assert_msg(strstr(text, "TLSCertificate") != NULL, "%s", text);
    }
    const char *const args[] = { "--nonsense", NULL };
    ck_assert_int_eq(fixture_exec(args, text, sizeof text), 2);
    const char *const version[] = { "--version", NULL };
    ck_assert_int_eq(fixture_exec(version, text, sizeof text), 0);
    ck_assert_int_eq(strncmp(text, "dpsgd ", 6), 0);
}
END_TEST

START_TEST(print_config_shows_values_and_origins)
{
    char path[128], text[16384];
    fixture_prepare(&f, "HeartbeatSeconds=7\n");
    snprintf(path, sizeof path, "%s/dpsgd.conf", f.dir);
    const char *const args[] = { "--config", path, "--state-dir", "/x", "--print-config", NULL };
    ck_assert_int_eq(fixture_exec(args, text, sizeof text), 0);
    ck_assert_ptr_nonnull(strstr(text, "HeartbeatSeconds=7\n"));
    ck_assert_ptr_nonnull(strstr(text, "dpsgd.conf:3"));
    ck_assert_ptr_nonnull(strstr(text, "Dir=/x\n"));
    ck_assert_ptr_nonnull(strstr(text, "--state-dir"));
    ck_assert_ptr_nonnull(strstr(text, "Mode=token\n"));
}
END_TEST

/* Without the "#" before its keys, the sample is what --print-config prints: all of the keys,
 * with their defaults. */
START_TEST(the_sample_configuration_has_every_key)
{
    char path[128], line[512], text[32768];
    int n = 0, printed = 0;
    fixture_prepare(&f, "");
    snprintf(path, sizeof path, "%s/dpsgd.conf", f.dir);
    FILE *in = fopen(getenv("SAMPLE_CONFIG"), "r"), *out = fopen(path, "w");
    ck_assert(in != NULL && out != NULL);
    while (fgets(line, sizeof line, in) != NULL) {
        bool key = line[0] == '#' && line[1] != ' ' && strchr(line, '=') != NULL;
        fputs(line + key, out);
        n += key;
    }
    fclose(in);
    fclose(out);
    const char *const check[] = { "--config", path, "--print-config", NULL };
    const char *const defaults[] = { "--print-config", NULL };
    static char own[32768];
    ck_assert_msg(fixture_exec(check, text, sizeof text) == 0, "%s", text);
    ck_assert_int_eq(fixture_exec(defaults, own, sizeof own), 0);
    char *save = NULL;
    for (char *key = strtok_r(own, "\n", &save); key != NULL; key = strtok_r(NULL, "\n", &save)) {
        if (key[0] == '#' || key[0] == '[')
            continue;
        printed++;
        ck_assert_msg(strstr(text, key) != NULL, "the sample has another %s", key);
    }
    ck_assert_int_eq(n, printed);
}
END_TEST

START_TEST(mode_none_asks_for_nothing)
{
    fixture_start(&f, "[Auth]\nMode=none\n[Run]\nMaxRunning=0\n");
    struct reply r = http(&f, "GET", "/whoami", NULL, HEADERS("Authorization:"));
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_text(&r, "via"), "none");
    reply_free(&r);
    /* a page of another site still may not */
    r = http(&f, "GET", "/whoami", NULL, HEADERS("Origin: https://evil.example"));
    ck_assert_int_eq(r.status, 403);
    reply_free(&r);
    r = http(&f, "GET", "/whoami", NULL, HEADERS("Host: evil.example"));
    ck_assert_int_eq(r.status, 421);
    reply_free(&r);
}
END_TEST

START_TEST(sighup_reloads_limits)
{
    fixture_start(&f, "MaxBody=1K\n[Run]\nMaxRunning=0\n");
    char body[3000];
    memset(body, ' ', sizeof body - 1);
    body[sizeof body - 1] = '\0';
    http_expect(&f, "POST", "/jobs", body, 413);
    fixture_configure(&f, "MaxBody=4K\nHeartbeatSeconds=9\n[Run]\nMaxRunning=0\n");
    kill(f.pid, SIGHUP);
    WAIT_UNTIL(fixture_logged(&f, "event=reloaded"));
    http_expect(&f, "POST", "/jobs", body, 400);
    fixture_configure(&f, "MaxBody=nonsense\n");
    kill(f.pid, SIGHUP);
    WAIT_UNTIL(fixture_logged(&f, "event=reload_refused"));
    http_expect(&f, "POST", "/jobs", body, 400); /* the old one stays */
}
END_TEST

/* ---- the service manager ---- */

static int notify_socket(char *path, size_t size)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    snprintf(path, size, "%s/notify", f.dir);
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

/* Reads messages until one has this text. */
static void expect_message(int fd, const char *text)
{
    char message[1024];
    long until = now_ms() + 20000;
    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        long left = until - now_ms();
        ck_assert_msg(left > 0 && poll(&p, 1, (int)left) > 0, "no message %s", text);
        ssize_t n = recv(fd, message, sizeof message - 1, 0);
        ck_assert_int_ge(n, 0);
        message[n] = '\0';
        if (strstr(message, text) != NULL)
            return;
    }
}

START_TEST(the_service_manager_is_kept_informed)
{
    char path[96], environment[128];
    fixture_prepare(&f, "[Run]\nMaxRunning=0\n");
    int fd = notify_socket(path, sizeof path);
    snprintf(environment, sizeof environment, "NOTIFY_SOCKET=%s", path);
    setenv("WATCHDOG_USEC", "600000", 1);
    fixture_run(&f, environment);
    unsetenv("WATCHDOG_USEC");
    expect_message(fd, "READY=1");
    expect_message(fd, "WATCHDOG=1");
    expect_message(fd, "WATCHDOG=1"); /* it goes on */
    expect_message(fd, "STATUS=0 running");
    kill(f.pid, SIGHUP);
    expect_message(fd, "RELOADING=1");
    expect_message(fd, "READY=1");
    int status = fixture_end(&f, SIGTERM);
    expect_message(fd, "STOPPING=1");
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    close(fd);
}
END_TEST

static size_t drop(char *text, size_t size, size_t n, void *arg)
{
    char *body = arg;
    strncat(body, text, size * n < 1000 - strlen(body) ? size * n : 0);
    return size * n;
}

START_TEST(the_unix_socket_knows_its_owner)
{
    char config[256], path[96], body[1024] = "";
    struct stat st;
    long status = 0;
    fixture_prepare(&f, "");
    snprintf(path, sizeof path, "%s/api.sock", f.dir);
    snprintf(config, sizeof config, "UnixSocket=%s\n[Run]\nMaxRunning=0\n", path);
    fixture_configure(&f, config);
    fixture_run(&f, NULL);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 077, 0);
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
    curl_easy_setopt(curl, CURLOPT_URL, "http://any.name/whoami");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    ck_assert_int_eq(status, 200);
    ck_assert_ptr_nonnull(strstr(body, "\"via\":\"socket\""));
    ck_assert_ptr_nonnull(strstr(body, "\"role\":\"admin\""));
    fixture_end(&f, SIGKILL);
    fixture_run(&f, NULL); /* the socket that was left behind is no obstacle */
    fixture_end(&f, SIGTERM);
    ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_process");
    TCase *tc = tcase_create("process");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, kill_9_loses_no_job);
    tcase_add_test(tc, sigterm_drains_and_exits_0);
    tcase_add_test(tc, a_state_folder_has_one_daemon);
    tcase_add_test(tc, the_state_folder_is_private);
    tcase_add_loop_test(tc, check_config_tells_line_and_reason, 0,
                        (int)(sizeof configs / sizeof configs[0]));
    tcase_add_test(tc, open_doors_do_not_start);
    tcase_add_test(tc, print_config_shows_values_and_origins);
    tcase_add_test(tc, the_sample_configuration_has_every_key);
    tcase_add_test(tc, mode_none_asks_for_nothing);
    tcase_add_test(tc, sighup_reloads_limits);
    tcase_add_test(tc, the_service_manager_is_kept_informed);
    tcase_add_test(tc, the_unix_socket_knows_its_owner);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
