/* What leaves under each telemetry policy, output by output, and what an audit says. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "http.h"
#include "suite.h"

enum { RECORDS = 60, STEPS = 5 };

static struct fixture f;

/* Every record has 31337 in it: no output may. */
static void put_data(const char *name, int first)
{
    char path[160];
    snprintf(path, sizeof path, "%s/data/%s.csv", f.dir, name);
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < RECORDS; i++)
        fprintf(out, "31337.%d,%d.25,%d\n", first + i, i % 7, i % 2);
    fclose(out);
}

static void setup(void)
{
    char config[256];
    fixture_prepare(&f, "");
    snprintf(config, sizeof config, "%s/data", f.dir);
    ck_assert_int_eq(mkdir(config, 0700), 0);
    snprintf(config, sizeof config,
             "[Run]\nCores=1\n[Limits]\nRate=100000\nBurst=100000\n[Datasets]\nRoot=%s/data\n",
             f.dir);
    fixture_configure(&f, config);
    fixture_run(&f, NULL);
}

static void teardown(void)
{
    fixture_stop(&f);
}

static struct reply add_dataset(const char *name, const char *policy)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"name\":\"%s\",\"format\":\"csv\",\"files\":{\"train\":\"%s.csv\"},"
             "\"inputs\":{\"kind\":\"features\"},\"classes\":2,\"telemetry\":\"%s\","
             "\"budget\":{\"epsilon\":1000,\"delta\":1e-5}}",
             name, name, policy);
    return http(&f, "POST", "/datasets", body, NULL);
}

static void submit(const char *dataset, const char *privacy, char *id, size_t size)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"dataset\":\"%s\",\"model\":{\"layers\":["
             "{\"op\":\"linear\",\"in_features\":2,\"out_features\":2}]},"
             "\"loss\":\"cross_entropy\",\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-9},"
             "\"privacy\":{%s},\"train\":{\"batch_size\":20,\"steps\":%d}}",
             dataset, privacy, STEPS);
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(id, size, "%.63s", reply_text(&r, "id"));
    reply_free(&r);
}

static struct reply get(const char *id, const char *what)
{
    char path[160];
    snprintf(path, sizeof path, "/jobs/%.63s%s", id, what);
    return http(&f, "GET", path, NULL, NULL);
}

static bool has_status(const char *id, const char *status)
{
    struct reply r = get(id, "");
    bool same = strcmp(reply_text(&r, "status"), status) == 0;
    ck_assert_msg(same || strcmp(reply_text(&r, "status"), "failed") != 0, "%s", r.body);
    reply_free(&r);
    return same;
}

/* ---- policies ---- */

/* Every gradient is longer than the bound: the exact share of clipped records is 1. */
static void check_numbers(const char *policy, const json_t *step, const char *where)
{
    const json_t *loss = json_object_get(step, "loss");
    const json_t *clipped = json_object_get(step, "clip_fraction");
    bool marked = json_is_true(json_object_get(step, "private"));
    if (strcmp(policy, "none") == 0)
        ck_assert_msg(!json_is_number(loss) && !json_is_number(clipped) && !marked, "%s", where);
    else
        ck_assert_msg(json_is_number(loss) && json_is_number(clipped), "%s", where);
    if (strcmp(policy, "raw") == 0)
        ck_assert_msg(json_number_value(clipped) == 1 && marked, "%s", where);
    if (strcmp(policy, "private") == 0)
        ck_assert_msg(json_number_value(clipped) != 1 && !marked, "%s", where);
}

static void check_events(const char *policy, const char *id)
{
    struct reply r = get(id, "/events?limit=1000");
    size_t i;
    int n = 0;
    json_t *event;
    json_array_foreach (json_object_get(r.json, "data"), i, event) {
        if (strcmp(json_string_value(json_object_get(event, "event")), "step") == 0) {
            check_numbers(policy, event, "event");
            n++;
        } else {
            ck_assert_ptr_null(json_object_get(event, "loss"));
            ck_assert_ptr_null(json_object_get(event, "clip_fraction"));
        }
    }
    ck_assert_int_gt(n, 0);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
}

static void check_stream(const char *policy, const char *id)
{
    char path[160];
    int n = 0;
    snprintf(path, sizeof path, "/jobs/%.63s/events", id);
    struct reply r = http(&f, "GET", path, NULL, HEADERS("Accept: text/event-stream"));
    for (char *at = strstr(r.body, "event: step\ndata: "); at;
         at = strstr(at + 1, "event: step\ndata: ")) {
        json_t *step = json_loads(strchr(at, '{'), JSON_DISABLE_EOF_CHECK, NULL);
        check_numbers(policy, step, "stream");
        json_decref(step);
        n++;
    }
    ck_assert_int_gt(n, 0);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
}

/* step,loss,clip_fraction,...: two fields are empty, exactly 1, or something else */
static void check_table(const char *policy, const char *id)
{
    struct reply r = get(id, "/artifacts/metrics.csv");
    int n = 0;
    ck_assert_int_eq(r.status, 200);
    for (char *line = strchr(r.body, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        char *loss = strchr(line + 1, ',') + 1, *clipped = strchr(loss, ',') + 1;
        bool none = strcmp(policy, "none") == 0, raw = strcmp(policy, "raw") == 0;
        ck_assert_msg((*loss == ',') == none && (*clipped == ',') == none, "%s", line);
        if (!none)
            ck_assert_msg((strtod(clipped, NULL) == 1) == raw, "%s", line);
        n++;
    }
    ck_assert_int_gt(n, 0);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
}

/* Texts that must have no number of the kind at all. */
static void check_silent(const char *id)
{
    static const char *const paths[] = { "/artifacts/privacy.json", "/artifacts/job.json",
                                         "/artifacts" };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct reply r = get(id, paths[i]);
        ck_assert_int_eq(r.status, 200);
        ck_assert_ptr_null(strstr(r.body, "31337"));
        ck_assert_ptr_null(strstr(r.body, "clip_fraction"));
        reply_free(&r);
    }
    struct reply r = http(&f, "GET", "/metrics", NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    ck_assert_ptr_null(strstr(r.body, "loss"));
    ck_assert_ptr_null(strstr(r.body, "clip"));
    reply_free(&r);
    ck_assert(!fixture_logged(&f, "31337"));
    ck_assert(!fixture_logged(&f, "loss"));
}

static const char *const policies[] = { "private", "raw", "none" };

START_TEST(every_output_keeps_to_the_policy)
{
    const char *policy = policies[_i];
    char id[64];
    put_data(policy, 100 * _i);
    struct reply r = add_dataset(policy, policy);
    ck_assert_msg(r.status == 201, "%s", r.body);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
    submit(policy, "\"noise_multiplier\":1,\"max_grad_norm\":1e-6", id, sizeof id);
    WAIT_UNTIL(has_status(id, "succeeded"));
    check_events(policy, id);
    check_stream(policy, id);
    check_table(policy, id);
    check_silent(id);
    r = get(id, "");
    check_numbers(policy, json_object_get(r.json, "metrics"), "job");
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
}
END_TEST

START_TEST(errors_quote_no_record)
{
    char id[64], path[160];
    put_data("gone", 700);
    struct reply r = add_dataset("gone", "raw");
    ck_assert_msg(r.status == 201, "%s", r.body);
    reply_free(&r);
    put_data("gone", 800); /* other records than were registered */
    submit("gone", "\"noise_multiplier\":1,\"max_grad_norm\":1", id, sizeof id);
    WAIT_UNTIL(has_status(id, "failed"));
    r = get(id, "");
    ck_assert_str_eq(reply_text(&r, "reason"), "dataset_missing");
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
    r = get(id, "/events?limit=1000");
    ck_assert_ptr_null(strstr(r.body, "31337"));
    reply_free(&r);
    /* a field that is no number: the place is told, not what stands there */
    snprintf(path, sizeof path, "%s/data/odd.csv", f.dir);
    FILE *out = fopen(path, "w");
    fputs("1,2,0\n31337.5,secretname,1\n", out);
    fclose(out);
    r = add_dataset("odd", "private");
    ck_assert_int_eq(r.status, 422);
    ck_assert_ptr_null(strstr(r.body, "31337"));
    ck_assert_ptr_null(strstr(r.body, "secretname"));
    reply_free(&r);
    ck_assert(!fixture_logged(&f, "31337"));
    ck_assert(!fixture_logged(&f, "secretname"));
}
END_TEST

/* ---- audits ---- */

static const char *const audited[] = {
    "\"noise_multiplier\":1,\"max_grad_norm\":1,\"audit\":true",
    "\"noise_multiplier\":2,\"max_grad_norm\":[0.5,2],\"clipping\":\"per_layer\",\"audit\":true,"
    "\"secure_noise\":true",
};

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

START_TEST(an_audit_shows_much_of_the_claim_and_costs_nothing)
{
    char id[2][64];
    put_data("seen", 500);
    struct reply r = add_dataset("seen", "private");
    ck_assert_msg(r.status == 201, "%s", r.body);
    reply_free(&r);
    submit("seen", "\"noise_multiplier\":3,\"max_grad_norm\":1", id[0], sizeof id[0]);
    submit("seen", audited[_i], id[1], sizeof id[1]);
    WAIT_UNTIL(has_status(id[0], "succeeded"));
    for (long until = now_ms() + 90000; !has_status(id[1], "succeeded") && now_ms() < until;)
        sleep_ms(100); /* a shadow takes seconds where it has to share the machine */
    ck_assert(has_status(id[1], "succeeded"));
    r = get(id[0], "/artifacts/audit.json");
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
    r = get(id[1], "/artifacts/audit.json");
    ck_assert_int_eq(r.status, 200);
    double claim = number(r.json, "epsilon_claimed"), shown = number(r.json, "epsilon_at_least");
    printf("# claimed %g, at least %g\n", claim, shown);
    ck_assert_str_eq(reply_text(&r, "verdict"), "holds");
    ck_assert(shown > claim / 4 && shown <= claim);
    ck_assert_double_eq(number(r.json, "steps"), STEPS);
    ck_assert_double_eq(number(r.json, "confidence"), 0.999);
    ck_assert_double_gt(number(json_object_get(r.json, "any_mechanism"), "guesses"), 1000);
    reply_free(&r);
    r = http(&f, "GET", "/datasets/seen/ledger?limit=100", NULL, NULL);
    size_t i;
    int64_t leased = 0;
    json_t *row;
    json_array_foreach (json_object_get(r.json, "data"), i, row)
        if (strcmp(json_string_value(json_object_get(row, "kind")), "lease") == 0)
            leased += json_integer_value(json_object_get(row, "step_to")) -
                      json_integer_value(json_object_get(row, "step_from"));
    ck_assert_int_eq(leased, 2 * STEPS); /* as much as any two jobs */
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_telemetry");
    TCase *tc = tcase_create("telemetry");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, every_output_keeps_to_the_policy, 0, 3);
    tcase_add_test(tc, errors_quote_no_record);
    tcase_add_loop_test(tc, an_audit_shows_much_of_the_claim_and_costs_nothing, 0, 2);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
