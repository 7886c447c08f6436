/* Plugins: what the daemon loads, what it does with them, and what it refuses. The plugin is
 * deploy/examples/plugin, built by the line of its README. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http.h"
#include "suite.h"

static struct fixture f;

static const char job_text[] =
    "{\"dataset\": \"digits\", \"model\": {\"layers\": [{\"op\": \"flatten\"},"
    " {\"op\": \"gain\", \"name\": \"g\"},"
    " {\"op\": \"linear\", \"name\": \"fc\", \"out_features\": 10}]},"
    " \"loss\": \"cross_entropy\", \"grad_sample_mode\": \"%s\","
    " \"optimizer\": {\"type\": \"sgd\", \"lr\": 0.1},"
    " \"privacy\": {\"noise_multiplier\": 8, \"max_grad_norm\": 1},"
    " \"train\": {\"batch_size\": 20, \"steps\": 2}}";

/* A copy of the plugin in the fixture's folder, with these permissions. */
static void copy_plugin(const char *variable, mode_t mode, char *path, size_t size)
{
    size_t n;
    char *bytes = read_file(getenv(variable), &n);
    snprintf(path, size, "%s/plugin.so", f.dir);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
    free(bytes);
}

static void configure(const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "[Run]\nCores=1\n[Plugins]\nLoad=%s\n", path);
    fixture_configure(&f, text);
}

START_TEST(a_plugin_serves_jobs_in_every_mode)
{
    static const char *const modes[] = { "hooks", "ghost", "functorch", "ew", "auto" };
    char path[128], body[1024], id[64];
    fixture_prepare(&f, "");
    copy_plugin("PLUGIN_RIGHT", 0644, path, sizeof path);
    configure(path);
    fixture_run(&f, NULL);
    ck_assert(fixture_logged(&f, "plugin_loaded"));
    for (int i = 0; i < 5; i++) {
        snprintf(body, sizeof body, job_text, modes[i]);
        struct reply r = http(&f, "POST", "/jobs", body, NULL);
        ck_assert_msg(r.status == 201, "%s", r.body);
        snprintf(id, sizeof id, "/jobs/%.50s", reply_text(&r, "id"));
        reply_free(&r);
        char status[32] = "";
        for (long until = now_ms() + 20000; now_ms() < until; sleep_ms(20)) {
            r = http(&f, "GET", id, NULL, NULL);
            snprintf(status, sizeof status, "%s", reply_text(&r, "status"));
            reply_free(&r);
            if (strcmp(status, "queued") != 0 && strcmp(status, "running") != 0)
                break;
        }
        ck_assert_str_eq(status, "succeeded");
    }
    fixture_stop(&f);
}
END_TEST

START_TEST(a_wrong_gradient_is_refused_with_the_numbers)
{
    char path[128], body[1024];
    fixture_prepare(&f, "");
    copy_plugin("PLUGIN_WRONG", 0644, path, sizeof path);
    configure(path);
    fixture_run(&f, NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof body, job_text, i ? "ghost" : "hooks");
        struct reply r = http(&f, "POST", "/jobs", body, NULL);
        ck_assert_int_eq(r.status, 422);
        ck_assert_msg(strstr(r.body, "plugin example") != NULL &&
                          strstr(r.body, "fc.bias") != NULL &&
                          strstr(r.body, "largest difference") != NULL,
                      "%s", r.body);
        reply_free(&r);
    }
    /* a mode of its own route is not touched by it */
    snprintf(body, sizeof body, job_text, "functorch");
    http_expect(&f, "POST", "/jobs", body, 201);
    fixture_stop(&f);
}
END_TEST

static void start_refused(const char *load, const char *part)
{
    char config[96], text[4096];
    configure(load);
    snprintf(config, sizeof config, "%s/dpsgd.conf", f.dir);
    const char *const args[] = { "--config", config, "--state-dir", f.state, NULL };
    ck_assert_int_ne(fixture_exec(args, text, sizeof text), 0);
    ck_assert_msg(strstr(text, part) != NULL, "%s", text);
    ck_assert_msg(strstr(text, load) != NULL, "%s", text);
}

START_TEST(what_is_not_a_safe_plugin_stops_the_start)
{
    char path[128], other[128];
    fixture_prepare(&f, "");
    copy_plugin("PLUGIN_RIGHT", 0646, path, sizeof path);
    start_refused(path, "everybody may write the file");
    ck_assert_int_eq(chmod(path, 0644), 0);
    ck_assert_int_eq(chmod(f.dir, 0777), 0);
    start_refused(path, "everybody may write the folder");
    ck_assert_int_eq(chmod(f.dir, 0700), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(path, 1, 1), 0);
        start_refused(path, "belongs to user 1");
    }
    start_refused("plugin.so", "must be absolute");
    snprintf(other, sizeof other, "%s/none.so", f.dir);
    start_refused(other, "No such file");
    snprintf(other, sizeof other, "%s/link.so", f.dir);
    ck_assert_int_eq(symlink(path, other), 0);
    start_refused(other, "regular file");
    snprintf(other, sizeof other, "%s/dpsgd.conf", f.dir);
    start_refused(other, "cannot be loaded");
    copy_plugin("PLUGIN_OLD", 0644, path, sizeof path);
    start_refused(path, "plugin ABI 0");
    copy_plugin("PLUGIN_NONE", 0644, path, sizeof path);
    start_refused(path, "no symbol psg_plugin");
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plugin");
    TCase *tc = tcase_create("plugin");
    tcase_add_test(tc, a_plugin_serves_jobs_in_every_mode);
    tcase_add_test(tc, a_wrong_gradient_is_refused_with_the_numbers);
    tcase_add_test(tc, what_is_not_a_safe_plugin_stops_the_start);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
