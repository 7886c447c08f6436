/* dpsgctl: assignments, progress lines, and the program itself against scripted answers. */
#include <math.h>
#include <sys/wait.h>

#include "dpsgd/client.h"
#include "fake_server.h"
#include "progress.h"
#include "set.h"
#include "suite.h"

static void expect_set(const char *document, const char *assignment, const char *result)
{
    char text[256] = "";
    json_t *root = json_loads(document, 0, NULL);
    int r = set_apply(root, assignment, text, sizeof text);
    ck_assert_int_eq(r, result ? 0 : -1);
    ck_assert_int_eq(text[0] != '\0', result == NULL);
    char *got = json_dumps(root, JSON_COMPACT);
    if (result)
        ck_assert_str_eq(got, result);
    free(got);
    json_decref(root);
}

START_TEST(set_changes_one_place)
{
    expect_set("{\"a\":{\"b\":1}}", "a.b=2.5", "{\"a\":{\"b\":2.5}}");
    expect_set("{\"a\":[{\"b\":1},{\"b\":2}]}", "a.1.b=null",
               "{\"a\":[{\"b\":1},{\"b\":null}]}");
    expect_set("{}", "a.b.c=text", "{\"a\":{\"b\":{\"c\":\"text\"}}}");
    expect_set("{}", "a=[1, 2]", "{\"a\":[1,2]}");
    expect_set("{}", "a=x=y", "{\"a\":\"x=y\"}");
    expect_set("{\"privacy\":null}", "privacy.noise_multiplier=1",
               "{\"privacy\":{\"noise_multiplier\":1}}");
    expect_set("{\"a\":[1]}", "a.0=7", "{\"a\":[7]}");
    expect_set("{\"a\":[1]}", "a.1=7", NULL);
    expect_set("{\"a\":[1]}", "a.x.y=7", NULL);
    expect_set("{\"a\":3}", "a.b=7", NULL);
    expect_set("{}", "a", NULL);
    expect_set("{}", "=1", NULL);
}
END_TEST

static struct dpc_event step_event(int64_t step, double loss)
{
    return (struct dpc_event){ .type = "step",
                               .json = "{}",
                               .step = step,
                               .of = 400,
                               .loss = loss,
                               .clip_fraction = 0.82,
                               .epsilon = 1.27,
                               .eta_s = 63,
                               .examples_per_s = NAN,
                               .accuracy = NAN };
}

static char *shown(bool terminal, bool json)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    struct progress p;
    progress_init(&p, out, terminal, 120, json);
    struct dpc_event e = step_event(100, 2.0);
    progress_event(&p, &e, 0);
    e = step_event(101, 1.0);
    progress_event(&p, &e, 50); /* too soon to be shown */
    e = step_event(120, 1.0);
    progress_event(&p, &e, 5000);
    e = (struct dpc_event){
        .type = "warning", .json = "{}", .message = "a\033b", .code = "c", .loss = NAN
    };
    progress_event(&p, &e, 5001);
    e = (struct dpc_event){ .type = "eval",
                            .json = "{}",
                            .step = 120,
                            .split = "test",
                            .loss = NAN,
                            .accuracy = 0.5 };
    progress_event(&p, &e, 5002);
    progress_end(&p);
    fclose(out);
    return text;
}

START_TEST(plain_lines_are_few_and_safe)
{
    char *text = shown(false, false);
    ck_assert_str_eq(text, "step 100/400  loss 2  clipped 82%  epsilon 1.27  eta 1:03\n"
                           "step 120/400  loss 1.81  clipped 82%  epsilon 1.27  eta 1:03\n"
                           "warning: a?b (c)\n"
                           "eval at step 120 on test: accuracy 0.5000\n");
    free(text);
}
END_TEST

START_TEST(bar_redraws_its_line)
{
    char *text = shown(true, false);
    ck_assert_ptr_nonnull(
        strstr(text, "\r[#######.................] step 120/400  loss 1.81  clipped 82%"));
    ck_assert_ptr_nonnull(strstr(text, "\033[K\nwarning: a?b (c)\n"));
    ck_assert_ptr_null(strstr(text, "a\033b"));
    free(text);
    text = shown(true, true);
    ck_assert_str_eq(text, "{}\n{}\n{}\n{}\n{}\n");
    free(text);
}
END_TEST

START_TEST(policies_leave_gaps_not_nan)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    struct progress p;
    progress_init(&p, out, false, 0, false);
    struct dpc_event e = step_event(1, NAN);
    e.clip_fraction = NAN;
    e.eta_s = NAN;
    progress_event(&p, &e, 0);
    fclose(out);
    ck_assert_str_eq(text, "step 1/400  epsilon 1.27\n");
    free(text);
}
END_TEST

#define HEAD(status, type)                                                                 \
    "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Type: " type "\r\n\r\n"
#define JSON(status, body) HEAD(status, "application/json") body
#define STREAM(body)       HEAD("200 OK", "text/event-stream") body
#define JOB                "{\"id\":\"job_1\",\"dataset\":\"d\",\"status\":\"queued\"}"
#define END_EVENT(status)                                                                  \
    "id: 1\nevent: end\ndata: {\"event\":\"end\",\"status\":\"" status                     \
    "\",\"reason\":\"ok\"}\n\n"

static struct fake_server server;

/* runs "dpsgctl --url ... arguments", output of both kinds into text; the exit status */
static int dpsgctl(const char *arguments, char *text, size_t size)
{
    char command[2048];
    snprintf(command, sizeof command, "DPSGD_URL='%s' DPSGD_TOKEN=t '%s' %s 2>&1",
             server.url, getenv("DPSGCTL"), arguments);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t n = fread(text, 1, size - 1, pipe);
    text[n] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char output[65536];

START_TEST(exit_status_is_that_of_the_job)
{
    static const struct {
        const char *stream;
        int status;
    } cases[] = { { STREAM(END_EVENT("succeeded")), 0 },
                  { STREAM(END_EVENT("failed")), 1 },
                  { STREAM(END_EVENT("cancelled")), 2 } };
    char path[] = "/tmp/dpsgctl-XXXXXX", command[128];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "{\"x\":1}", 7), 7);
    close(fd);
    snprintf(command, sizeof command, "submit --follow --set a.b=3 %s", path);
    for (size_t i = 0; i < 3; i++) {
        const char *const answers[] = { JSON("201 Created", JOB), cases[i].stream, NULL };
        fake_server_start(&server, answers);
        ck_assert_int_eq(dpsgctl(command, output, sizeof output), cases[i].status);
        ck_assert_ptr_nonnull(strstr(output, "job_1 queued\nend: "));
        fake_server_stop(&server);
        ck_assert_str_eq(strstr(server.requests[0], "\r\n\r\n") + 4,
                         "{\"x\":1,\"a\":{\"b\":3}}");
        ck_assert_ptr_nonnull(strstr(server.requests[0], "Authorization: Bearer t\r\n"));
        fake_server_free(&server);
    }
    unlink(path);
}
END_TEST

START_TEST(refusals_name_their_places)
{
    static const char *const answers[] = {
        HEAD("422 Unprocessable Content",
             "application/problem+json") "{\"title\":\"Wrong\",\"errors\":[{\"pointer\":\"/"
                                         "privacy/x\",\"code\":"
                                         "\"unknown_member\",\"message\":\"unknown "
                                         "\\u001b[2Jmember\"}]}",
        NULL
    };
    fake_server_start(&server, answers);
    ck_assert_int_eq(dpsgctl("submit /dev/null", output, sizeof output), 1);
    ck_assert_str_eq(output,
                     "dpsgctl: Wrong\n  /privacy/x: unknown ?[2Jmember [unknown_member]\n");
    fake_server_stop(&server);
    fake_server_free(&server);
    ck_assert_int_eq(dpsgctl("show job_1", output, sizeof output), 3); /* nobody is there */
}
END_TEST

START_TEST(json_is_passed_through)
{
    static const char *const answers[] = {
        JSON("200 OK", JOB),
        JSON("200 OK", "{\"object\":\"list\",\"data\":[" JOB "],\"has_more\":false}"),
        JSON("200 OK", "{\"epsilon\":8.0,\"delta\":1e-05,\"spent\":0.1}"), NULL
    };
    fake_server_start(&server, answers);
    ck_assert_int_eq(dpsgctl("show job_1 --json", output, sizeof output), 0);
    ck_assert_str_eq(output, JOB "\n");
    ck_assert_int_eq(dpsgctl("list --limit=3", output, sizeof output), 0);
    ck_assert(strncmp(output, "job_1 ", 6) == 0);
    ck_assert_int_eq(dpsgctl("budget show digits --json", output, sizeof output), 0);
    ck_assert_str_eq(output, "{\"epsilon\":8.0,\"delta\":1e-05,\"spent\":0.1}\n");
    fake_server_stop(&server);
    ck_assert(strncmp(server.requests[2], "GET /datasets/digits/budget ", 28) == 0);
    fake_server_free(&server);
}
END_TEST

START_TEST(wrong_usage_is_told)
{
    static const char *const wrong[] = { "",
                                         "nothing",
                                         "submit",
                                         "submit a b",
                                         "show --frob x",
                                         "follow x --after",
                                         "follow x --after y",
                                         "list -x",
                                         "list --json=1",
                                         "privacy epsilon --delta 1e-5",
                                         "privacy epsilon --delta 1e-5 --event 0.1,1",
                                         "privacy epsilon --delta 1e-5 --event 0.1,1,-3",
                                         "privacy epsilon --delta nan --event 0.1,1,3" };
    snprintf(server.url, sizeof server.url, "http://127.0.0.1:1");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_msg(dpsgctl(wrong[i], output, sizeof output) == 64, "%s: %s", wrong[i],
                      output);
        ck_assert_msg(strstr(output, "--help") != NULL, "%s: %s", wrong[i], output);
    }
    static const char *const helped[] = { "--help", "submit --help", "dataset add -h",
                                          "privacy steps --help" };
    for (size_t i = 0; i < sizeof helped / sizeof *helped; i++) {
        ck_assert_int_eq(dpsgctl(helped[i], output, sizeof output), 0);
        ck_assert_ptr_nonnull(strstr(output, "usage: dpsgctl "));
    }
}
END_TEST

static double member(const char *text, const char *name)
{
    json_t *root = json_loads(text, 0, NULL);
    ck_assert_msg(root != NULL, "%s", text);
    double value = json_number_value(json_object_get(root, name));
    json_decref(root);
    return value;
}

START_TEST(privacy_answers_agree_with_each_other)
{
    ck_assert_int_eq(dpsgctl("privacy noise-multiplier --accountant rdp --target-epsilon 3 "
                             "--delta 1e-5 --sample-rate 0.01 --steps 1000",
                             output, sizeof output),
                     0);
    double noise = member(output, "noise_multiplier"), epsilon = member(output, "epsilon");
    ck_assert(epsilon <= 3 && epsilon > 2.999);
    char command[256];
    snprintf(command, sizeof command,
             "privacy epsilon --accountant rdp --delta 1e-5 --event 0.01,%.17g,400 "
             "--event 0.01,%.17g,600",
             noise, noise);
    ck_assert_int_eq(dpsgctl(command, output, sizeof output), 0);
    ck_assert_double_eq_tol(member(output, "epsilon"), epsilon, 1e-9);
    ck_assert_double_eq(member(output, "delta"), 1e-5);
    ck_assert_ptr_nonnull(strstr(output, "\"accountant\": \"rdp\""));
    snprintf(command, sizeof command,
             "privacy steps --target-epsilon 3 --delta 1e-5 --sample-rate 0.01 "
             "--noise-multiplier %.17g",
             noise);
    ck_assert_int_eq(dpsgctl(command, output, sizeof output), 0);
    ck_assert_double_eq(member(output, "steps"), 1000);
    snprintf(command, sizeof command,
             "privacy delta --epsilon %.17g --event 0.01,%.17g,1000", epsilon, noise);
    ck_assert_int_eq(dpsgctl(command, output, sizeof output), 0);
    ck_assert_double_eq_tol(member(output, "delta"), 1e-5, 1e-10);
    ck_assert_int_eq(
        dpsgctl("privacy epsilon --delta 1e-5 --event 0.5,0,10", output, sizeof output), 0);
    ck_assert_str_eq(output,
                     "{\"epsilon\": null, \"note\": \"no finite epsilon holds\", "
                     "\"accountant\": \"rdp\", \"delta\": 1e-05}\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *tc = tcase_create("cli");
    tcase_add_test(tc, set_changes_one_place);
    tcase_add_test(tc, plain_lines_are_few_and_safe);
    tcase_add_test(tc, bar_redraws_its_line);
    tcase_add_test(tc, policies_leave_gaps_not_nan);
    tcase_add_test(tc, exit_status_is_that_of_the_job);
    tcase_add_test(tc, refusals_name_their_places);
    tcase_add_test(tc, json_is_passed_through);
    tcase_add_test(tc, wrong_usage_is_told);
    tcase_add_test(tc, privacy_answers_agree_with_each_other);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
