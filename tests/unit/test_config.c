#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "suite.h"

static struct config *config;
static struct config_error err;

static void setup(void)
{
    config = config_alloc();
    ck_assert_ptr_nonnull(config);
    memset(&err, 0, sizeof err);
}

static void teardown(void)
{
    config = config_free(config);
}

static int parse(const char *text)
{
    return config_parse(config, text, strlen(text), "t.conf", &err);
}

START_TEST(values_have_units_and_comments_are_skipped)
{
    ck_assert_int_eq(parse("# comment\n; comment\r\n\n[Server]\nMaxBody = 2M\r\n"
                           "HeaderTimeout=1500ms\nBodyTimeout=2min\nAllowedHosts=a.lab b.lab\n"
                           "[Auth]\nMode=none\n[Datasets]\nEmbedded=no"),
                     0);
    ck_assert_uint_eq(config->max_body, 2 << 20);
    ck_assert_uint_eq(config->header_timeout, 1500);
    ck_assert_uint_eq(config->body_timeout, 120000);
    ck_assert_str_eq(config->allowed_hosts, "a.lab b.lab");
    ck_assert_uint_eq(config->auth_mode, CONFIG_AUTH_NONE);
    ck_assert_uint_eq(config->embedded, 0);
    ck_assert_str_eq(config->origin[CONFIG_KEY_max_body], "t.conf:5");
    ck_assert_ptr_null(config->origin[CONFIG_KEY_listen]);
}
END_TEST

static const struct {
    const char *text, *place, *part;
} bad[] = {
    { "[Server]\nMaxBdy=1M\n", "t.conf:2", "unknown key MaxBdy= in [Server]" },
    { "\n[Sever]\n", "t.conf:2", "unknown section [Sever]" },
    { "MaxBody=1M\n", "t.conf:1", "before the first [Section]" },
    { "[Server]\nMaxBody=1M\n\nMaxBody=2M\n", "t.conf:4", "already in line 2" },
    { "[Server]\nMaxBody=1X\n", "t.conf:2", "a size such as" },
    { "[Server]\nMaxBody=\n", "t.conf:2", "a size such as" },
    { "[Server]\nMaxBody=-1\n", "t.conf:2", "a size such as" },
    { "[Server]\nMaxBody=99999999999999999999999\n", "t.conf:2", "a size such as" },
    { "[Server]\nMaxBody=18446744073709551615T\n", "t.conf:2", "a size such as" },
    { "[Server]\nMaxBody=1\n", "t.conf:2", "allowed are" },
    { "[Server]\nHeaderTimeout=soon\n", "t.conf:2", "a time such as" },
    { "[Run]\nCores=2K\n", "t.conf:2", "a whole number" },
    { "[Auth]\nMode=off\n", "t.conf:2", "one of: token none" },
    { "[Auth]\nMode=token none\n", "t.conf:2", "one of: token none" },
    { "[Datasets]\nEmbedded=1\n", "t.conf:2", "yes or no" },
    { "[Server\n", "t.conf:1", "[Name]" },
    { "[Server]\nnonsense\n", "t.conf:2", "expected Key=Value" },
    { "[Server]\nListen=\x01\n", "t.conf:2", "control character" },
};

START_TEST(a_bad_line_is_named_with_its_number)
{
    ck_assert_int_eq(parse(bad[_i].text), -EINVAL);
    ck_assert_str_eq(err.place, bad[_i].place);
    ck_assert_msg(strstr(err.text, bad[_i].part) != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_line_too_long_is_refused)
{
    static char text[9000];
    memset(text, 'x', sizeof text - 1);
    ck_assert_int_eq(parse(text), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "longer"));
}
END_TEST

static const struct {
    const char *text, *part; /* part NULL: fine */
} rules[] = {
    { "", NULL },
    { "[Server]\nListen=[::1]:0\n", NULL },
    { "[Server]\nListen=localhost:80\n[Auth]\nMode=none\n", NULL },
    { "[Server]\nListen=0.0.0.0:80\n", "needs TLSCertificate" },
    { "[Server]\nListen=[::]:80\n", "needs TLSCertificate" },
    { "[Server]\nListen=0.0.0.0:80\nTLSCertificate=a\nTLSKey=b\n", NULL },
    { "[Server]\nListen=0.0.0.0:80\nTLSCertificate=a\nTLSKey=b\n[Auth]\nMode=none\n",
      "loopback only" },
    { "[Server]\nTLSCertificate=a\n", "come together" },
    { "[Server]\nListen=127.0.0.1\n", "expected ADDRESS:PORT" },
    { "[Server]\nListen=127.0.0.1:65536\n", "expected ADDRESS:PORT" },
    { "[Server]\nListen=::1:80\n", "expected ADDRESS:PORT" },
    { "[Server]\nListen=lab.example:80\n", "numeric" },
};

START_TEST(open_doors_are_refused)
{
    ck_assert_int_eq(parse(rules[_i].text), 0);
    int r = config_check(config, &err);
    if (rules[_i].part == NULL) {
        ck_assert_msg(r == 0, "%s", err.text);
    } else {
        ck_assert_int_eq(r, -EINVAL);
        ck_assert_msg(strstr(err.text, rules[_i].part) != NULL, "%s", err.text);
    }
}
END_TEST

START_TEST(print_parses_back_to_the_same)
{
    ck_assert_int_eq(parse("[Server]\nMaxBody=3000\nHeaderTimeout=61s\n[Log]\nLevel=debug\n"), 0);
    char *text = NULL, *again = NULL;
    size_t n = 0, n_again = 0;
    FILE *out = open_memstream(&text, &n);
    config_print(config, out);
    fclose(out);
    struct config *copy = config_alloc();
    ck_assert_msg(config_parse(copy, text, n, "t.conf", &err) == 0, "%s %s", err.place, err.text);
    ck_assert_uint_eq(copy->max_body, 3000);
    ck_assert_uint_eq(copy->header_timeout, 61000);
    ck_assert_uint_eq(copy->log_level, config->log_level);
    const char *pending;
    ck_assert_int_eq(config_reload(config, copy, &pending), 0);
    ck_assert_ptr_null(pending);
    out = open_memstream(&again, &n_again);
    config_print(config, out);
    fclose(out);
    ck_assert_str_eq(text, again);
    free(text);
    free(again);
    config_free(copy);
}
END_TEST

START_TEST(reload_changes_limits_and_names_what_needs_a_restart)
{
    struct config *next = config_alloc();
    const char *text = "[Server]\nMaxBody=2M\nListen=127.0.0.1:1\nAllowedHosts=x.lab\n";
    ck_assert_int_eq(config_parse(next, text, strlen(text), "n", &err), 0);
    const char *pending;
    ck_assert_int_eq(config_reload(config, next, &pending), 0);
    ck_assert_uint_eq(config->max_body, 2 << 20);
    ck_assert_str_eq(config->allowed_hosts, "x.lab");
    ck_assert_str_eq(pending, "Listen");
    ck_assert_str_ne(config->listen, "127.0.0.1:1");
    config_free(next);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    fclose(out);
}

START_TEST(dropins_come_in_order_and_win)
{
    char dir[] = "/tmp/test_config_XXXXXX", path[128];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/d.conf.d", dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/d.conf.d/20-b.conf", dir);
    write_file(path, "[Run]\nCores=3\n");
    snprintf(path, sizeof path, "%s/d.conf.d/10-a.conf", dir);
    write_file(path, "[Run]\nCores=2\nMaxRunning=2\n");
    snprintf(path, sizeof path, "%s/d.conf.d/README", dir);
    write_file(path, "not a drop-in");
    snprintf(path, sizeof path, "%s/d.conf", dir);
    write_file(path, "[Run]\nCores=1\n");
    ck_assert_msg(config_load(config, path, &err) == 0, "%s %s", err.place, err.text);
    ck_assert_uint_eq(config->cores, 3);
    ck_assert_uint_eq(config->max_running, 2);
    ck_assert_ptr_nonnull(strstr(config->origin[CONFIG_KEY_cores], "20-b.conf:2"));
    for (const char *const *p = (const char *const[]){ "d.conf.d/20-b.conf", "d.conf.d/10-a.conf",
                                                       "d.conf.d/README", "d.conf", NULL };
         *p != NULL; p++) {
        snprintf(path, sizeof path, "%s/%s", dir, *p);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/d.conf.d", dir);
    rmdir(path);
    rmdir(dir);
    ck_assert_int_eq(config_load(config, "/nonexistent/dpsgd.conf", &err), -ENOENT);
    ck_assert_int_eq(config_load(config, NULL, &err), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, values_have_units_and_comments_are_skipped);
    tcase_add_loop_test(tc, a_bad_line_is_named_with_its_number, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(tc, a_line_too_long_is_refused);
    tcase_add_loop_test(tc, open_doors_are_refused, 0, (int)(sizeof rules / sizeof rules[0]));
    tcase_add_test(tc, print_parses_back_to_the_same);
    tcase_add_test(tc, reload_changes_limits_and_names_what_needs_a_restart);
    tcase_add_test(tc, dropins_come_in_order_and_win);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
