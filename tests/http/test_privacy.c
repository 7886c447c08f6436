/* What a job protects, end to end: units, statements against histories composed by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>

#include "http.h"
#include "psg/accountant.h"
#include "suite.h"

enum { USERS = 60 };

static struct fixture f;

static void put_text(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/data/%s", f.dir, name);
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    fclose(out);
}

/* visits.csv: a number, whose it is, a class; user u has 1 + u % 4 records, in no order */
static void put_visits(void)
{
    static char text[16384];
    size_t at = 0;
    int n = 0;
    for (int round = 0; round < 4; round++)
        for (int u = 0; u < USERS; u++)
            if (u % 4 >= round)
                at += (size_t)snprintf(text + at, sizeof text - at, "%d.5,%d,%d\n", n++ % 7 - 3,
                                       1000 - u, (u + round) % 2);
    put_text("visits.csv", text);
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
    put_visits();
    fixture_run(&f, NULL);
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* ---- requests ---- */

#define COLUMNS "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[1]}]"

static struct reply add_dataset(const char *name, const char *members)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"name\":\"%s\",\"format\":\"csv\",\"files\":{\"train\":\"visits.csv\"},"
             "\"classes\":2,%s}",
             name, members);
    return http(&f, "POST", "/datasets", body, NULL);
}

static void job_body(char *text, size_t size, const char *dataset, const char *privacy,
                     const char *train)
{
    snprintf(text, size,
             "{\"dataset\":\"%s\",\"model\":{\"layers\":[{\"op\":\"flatten\"},"
             "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
             "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1,\"momentum\":0.5},\"privacy\":%s,"
             "\"train\":%s}",
             dataset, privacy, train);
}

static struct reply submit(const char *dataset, const char *privacy, const char *train)
{
    char body[2048];
    job_body(body, sizeof body, dataset, privacy, train);
    return http(&f, "POST", "/jobs", body, NULL);
}

static bool has_ended(const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    bool same = strcmp(reply_text(&r, "status"), "succeeded") == 0;
    ck_assert_msg(same || strcmp(reply_text(&r, "status"), "failed") != 0, "%s", r.body);
    reply_free(&r);
    return same;
}

static struct reply artifact(const char *id, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/%s", id, name);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    return r;
}

/* privacy.json of a job that is run to its end */
static struct reply statement_of(const char *dataset, const char *privacy, const char *train)
{
    char id[64];
    struct reply r = submit(dataset, privacy, train);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(id, sizeof id, "%.63s", reply_text(&r, "id"));
    reply_free(&r);
    WAIT_UNTIL(has_ended(id));
    return artifact(id, "privacy.json");
}

static double number(const struct reply *r, const char *name)
{
    return json_number_value(json_object_get(r->json, name));
}

/* The answer must refuse the body at this place. */
static void expect_invalid(struct reply r, const char *pointer)
{
    json_t *first = json_array_get(json_object_get(r.json, "errors"), 0);
    const char *at = json_string_value(json_object_get(first, "pointer"));
    ck_assert_msg(r.status == 422 && at && strcmp(at, pointer) == 0, "wanted %s: %s", pointer,
                  r.body);
    reply_free(&r);
}

static bool assumes(const struct reply *r, const char *words)
{
    size_t i;
    json_t *one;
    json_array_foreach (json_object_get(r->json, "assumptions"), i, one)
        if (strstr(json_string_value(one), words))
            return true;
    return false;
}

/* ---- units ---- */

START_TEST(a_dataset_of_users_trains_by_user)
{
    struct reply r = add_dataset(
        "visits", COLUMNS ",\"unit\":\"user\",\"budget\":{\"epsilon\":8,\"delta\":1e-4}");
    ck_assert_msg(r.status == 201, "%s", r.body);
    ck_assert_str_eq(reply_text(&r, "unit"), "user");
    ck_assert(number(&r, "nominal_size") == USERS); /* users, not records */
    reply_free(&r);

    const char *privacy = "{\"noise_multiplier\":2,\"max_grad_norm\":1,\"max_batch_size\":60}";
    r = statement_of("visits", privacy, "{\"batch_size\":12,\"steps\":30}");
    ck_assert_str_eq(reply_text(&r, "unit"), "user");
    ck_assert_str_eq(reply_text(&r, "neighbouring"), "add_or_remove_one");
    ck_assert(number(&r, "sample_rate") == 0.2);
    ck_assert(assumes(&r, "one user"));
    ck_assert(assumes(&r, "mean over all the records"));
    ck_assert(assumes(&r, "82 users")); /* the bound that cut batches were computed for */
    struct psg_dp_event event = { 0.2, 2, 30 };
    struct psg_dp_epsilon want;
    psg_dp_epsilon(PSG_ACCOUNTANT_RDP, &event, 1, 1e-4 * (1 - 0x1p-20), &want, NULL);
    ck_assert_double_eq_tol(number(&r, "epsilon"), want.epsilon, 1e-9);
    reply_free(&r);

    expect_invalid(submit("visits", "{\"noise_multiplier\":2,\"max_grad_norm\":1,"
                                    "\"unit\":\"record\"}",
                          "{\"batch_size\":12,\"steps\":3}"),
                   "/privacy/unit");
    expect_invalid(submit("visits", "{\"noise_multiplier\":2,\"max_grad_norm\":1,"
                                    "\"unit\":\"house\"}",
                          "{\"batch_size\":12,\"steps\":3}"),
                   "/privacy/unit");
    /* 61 users do not fit into a nominal size of 60 */
    expect_invalid(submit("visits", privacy, "{\"batch_size\":61,\"steps\":3}"),
                   "/train/batch_size");
    r = submit("visits", "{\"noise_multiplier\":2,\"max_grad_norm\":1,\"unit\":\"user\"}",
               "{\"batch_size\":12,\"steps\":3}");
    ck_assert_int_eq(r.status, 201);
    reply_free(&r);
}
END_TEST

/* The id of a user says who somebody is: no model may read it. */
START_TEST(ids_are_no_inputs)
{
    struct reply r = add_dataset("visits", COLUMNS ",\"public\":true");
    ck_assert_msg(r.status == 201, "%s", r.body);
    ck_assert(number(&r, "nominal_size") == 150);
    reply_free(&r);
    expect_invalid(http(&f, "POST", "/jobs?dry_run=true",
                        "{\"dataset\":\"visits\",\"model\":{\"layers\":[{\"op\":\"linear\","
                        "\"out_features\":2,\"in\":[\"who\"]}]},\"loss\":\"cross_entropy\","
                        "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1},\"privacy\":null,"
                        "\"train\":{\"batch_size\":12,\"steps\":3}}",
                        NULL),
                   "/model/layers/0/in/0");
    /* without a budget the job chooses; with one of records it does not */
    r = statement_of("visits", "{\"noise_multiplier\":2,\"max_grad_norm\":1,\"delta\":1e-5,"
                               "\"unit\":\"user\",\"loss_reduction\":\"sum\"}",
                     "{\"batch_size\":15,\"steps\":3}");
    ck_assert_str_eq(reply_text(&r, "unit"), "user");
    ck_assert(assumes(&r, "sum over all the records"));
    reply_free(&r);
    expect_invalid(submit("digits", "{\"noise_multiplier\":2,\"max_grad_norm\":1,"
                                    "\"unit\":\"user\"}",
                          "{\"batch_size\":12,\"steps\":3}"),
                   "/privacy/unit");
}
END_TEST

START_TEST(datasets_without_whole_ids_are_refused)
{
    static const struct {
        const char *members, *pointer;
    } cases[] = {
        { "\"unit\":\"user\",\"public\":true", "/columns" },
        { "\"columns\":[{\"name\":\"who\",\"columns\":[1]}],\"unit\":\"user\",\"public\":true",
          "/columns" },
        { "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[1]},"
          "{\"name\":\"who2\",\"kind\":\"user\",\"columns\":[1]}],\"public\":true",
          "/columns/1/kind" },
        { "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[0,1]}],\"public\":true",
          "/columns/0/columns" },
        { "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[7]}],\"public\":true",
          "/columns/0/columns" },
        { "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[0]}],\"public\":true",
          "/columns/0/columns" }, /* numbers like 2.5 are no ids */
        { "\"columns\":[{\"name\":\"who\",\"kind\":\"user\",\"columns\":[1],\"shape\":[1]}],"
          "\"public\":true", "/columns/0/shape" },
        { COLUMNS ",\"unit\":\"person\",\"public\":true", "/unit" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_invalid(add_dataset("bad", cases[i].members), cases[i].pointer);
    expect_invalid(http(&f, "POST", "/datasets",
                        "{\"name\":\"e\",\"format\":\"embedded\",\"public\":true,"
                        "\"unit\":\"user\"}",
                        NULL),
                   "/columns");
}
END_TEST

static double step_of(const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    json_t *progress = json_object_get(r.json, "progress");
    double step = json_number_value(json_object_get(progress, "step"));
    reply_free(&r);
    return step;
}

/* Weights of a job of users with a seed; the daemon is ended and started again on the way. */
static struct reply weights_of(const char *body, bool restarted)
{
    char id[64];
    struct reply r = http(&f, "POST", "/jobs", body, NULL);
    ck_assert_msg(r.status == 201, "%s", r.body);
    snprintf(id, sizeof id, "%.63s", reply_text(&r, "id"));
    reply_free(&r);
    if (restarted) {
        WAIT_UNTIL(step_of(id) >= 50);
        fixture_end(&f, SIGTERM);
        fixture_run(&f, NULL);
    }
    WAIT_UNTIL(has_ended(id));
    return artifact(id, "model.safetensors");
}

START_TEST(a_resumed_job_of_users_ends_with_the_same_bytes)
{
    char body[2048];
    struct reply r = add_dataset("visits", COLUMNS ",\"unit\":\"user\",\"public\":true");
    ck_assert_msg(r.status == 201, "%s", r.body);
    reply_free(&r);
    job_body(body, sizeof body, "visits",
             "{\"noise_multiplier\":1,\"max_grad_norm\":1,\"delta\":1e-5},\"seed\":7",
             "{\"batch_size\":20,\"steps\":8000}");
    struct reply whole = weights_of(body, false), parts = weights_of(body, true);
    ck_assert_uint_eq(whole.n_body, parts.n_body);
    uint64_t header; /* names the job */
    memcpy(&header, whole.body, sizeof header);
    ck_assert_uint_lt(8 + header, whole.n_body);
    ck_assert_mem_eq(whole.body + 8 + header, parts.body + 8 + header, whole.n_body - 8 - header);
    reply_free(&whole);
    reply_free(&parts);
}
END_TEST

/* ---- statements against histories composed by hand ---- */

/* epsilon of steps with noise s[n] at rate q, by the formulas of the two simple accountants */
static double rdp_of(double q, const double *s, int n, double delta)
{
    double best = INFINITY;
    for (int k = 0; k < 99 + 52; k++) {
        double a = k < 99 ? 1.1 + 0.1 * k : k - 99 + 12, total = 0, rdp;
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(psg_rdp_step(q, s[i], a, &rdp, NULL), 0);
            total += rdp;
        }
        best = fmin(best, total + log((a - 1) / a) - (log(delta) + log(a)) / (a - 1));
    }
    return best;
}

static double gdp_of(double q, const double *s, int n, double delta)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += expm1(1 / (s[i] * s[i]));
    return psg_gdp_epsilon(q * sqrt(sum), delta);
}

static double epsilon_by(const struct reply *r, const char *accountant, const char *member)
{
    json_t *all = json_object_get(r->json, "accountants");
    return json_number_value(json_object_get(json_object_get(all, accountant), member));
}

/* What the statement says is what n steps with noise s[n] at rate q cost, one by one. */
static void check_statement(const struct reply *r, double q, const double *s, int n)
{
    static struct psg_dp_event event[256];
    struct psg_dp_epsilon prv;
    double delta = number(r, "delta"), steps = 0;
    for (int i = 0; i < n; i++)
        event[i] = (struct psg_dp_event){ q, s[i], 1 };
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, event, (size_t)n, delta, &prv, NULL), 0);
    double rdp = rdp_of(q, s, n, delta), gdp = gdp_of(q, s, n, delta);
    ck_assert_double_eq_tol(epsilon_by(r, "rdp", "epsilon"), rdp, 1e-9 * rdp);
    ck_assert_double_eq_tol(epsilon_by(r, "gdp", "epsilon"), gdp, 1e-9 * gdp);
    ck_assert_double_eq_tol(epsilon_by(r, "prv", "epsilon"), prv.epsilon, 1e-6);
    ck_assert_double_le(epsilon_by(r, "prv", "lower"), epsilon_by(r, "prv", "estimate"));
    ck_assert_double_le(epsilon_by(r, "prv", "estimate"), epsilon_by(r, "prv", "epsilon"));
    ck_assert_double_eq_tol(number(r, "epsilon"), epsilon_by(r, reply_text(r, "accountant"), "epsilon"),
                            1e-4);
    json_t *one;
    size_t i;
    json_array_foreach (json_object_get(r->json, "events"), i, one) {
        ck_assert(json_number_value(json_object_get(one, "sample_rate")) == q);
        steps += json_number_value(json_object_get(one, "steps"));
    }
    ck_assert(steps == n && number(r, "steps") == n);
}

enum { STEPS = 60, EPOCH = 22 }; /* 1400 / 64 */

static const struct schedule_case {
    const char *noise, *clip, *accountant;
    double gamma;
    int period;
    double list[4];
    int n_list;
} schedules[] = {
    { "{\"type\":\"exponential\",\"gamma\":0.8}", "null", "rdp", 0.8, EPOCH, { 0 }, 0 },
    { "{\"type\":\"exponential\",\"gamma\":1.01,\"step_size\":1}", "null", "gdp", 1.01, 1, { 0 }, 0 },
    { "{\"type\":\"step\",\"gamma\":0.5,\"step_size\":40}",
      "{\"type\":\"exponential\",\"gamma\":0.9}", "prv", 0.5, 40, { 0 }, 0 },
    { "{\"type\":\"list\",\"values\":[1,0.7,1.3],\"step_size\":15}",
      "{\"type\":\"list\",\"values\":[1,0.5]}", "prv", 1, 15, { 1, 0.7, 1.3 }, 3 },
    { "null", "{\"type\":\"step\",\"gamma\":0.5,\"step_size\":7}", "rdp", 1, 1, { 0 }, 0 },
};

START_TEST(schedules_are_accounted_step_by_step)
{
    const struct schedule_case *c = &schedules[_i];
    char privacy[512];
    double s[STEPS];
    for (int t = 0; t < STEPS; t++) {
        int period = t / c->period, last = c->n_list - 1;
        s[t] = 6 * (c->n_list ? c->list[period < last ? period : last] : pow(c->gamma, period));
    }
    snprintf(privacy, sizeof privacy,
             "{\"noise_multiplier\":6,\"max_grad_norm\":1,\"accountant\":\"%s\","
             "\"noise_schedule\":%s,\"max_grad_norm_schedule\":%s}",
             c->accountant, c->noise, c->clip);
    struct reply r = statement_of("digits", privacy, "{\"batch_size\":64,\"steps\":60}");
    check_statement(&r, 64.0 / 1400, s, STEPS);
    ck_assert_str_eq(reply_text(&r, "accountant"), c->accountant);
    ck_assert(strcmp(c->clip, "null") == 0 || assumes(&r, "the clip bound changes"));
    ck_assert(assumes(&r, "one record"));
    ck_assert(assumes(&r, "independently with probability"));
    ck_assert(assumes(&r, "one Gaussian mechanism")); /* telemetry is part of the step */
    reply_free(&r);
}
END_TEST

START_TEST(shuffled_batches_are_not_amplified)
{
    double s[20];
    for (int t = 0; t < 20; t++)
        s[t] = 40;
    struct reply r = statement_of("digits", "{\"noise_multiplier\":40,\"max_grad_norm\":1,"
                                            "\"poisson_sampling\":false}",
                                  "{\"batch_size\":64,\"steps\":20}");
    check_statement(&r, 1, s, 20);
    ck_assert_str_eq(reply_text(&r, "sampling"), "shuffled");
    ck_assert_str_eq(reply_text(&r, "neighbouring"), "zero_out_one");
    ck_assert(json_is_false(json_object_get(r.json, "amplification")));
    ck_assert(assumes(&r, "no amplification"));
    ck_assert(assumes(&r, "gradients are zero"));
    reply_free(&r);
}
END_TEST

/* An adaptive bound spends a part of the step's noise on its count: the whole has the stated s. */
START_TEST(adaptive_clipping_is_part_of_the_step)
{
    double s[20];
    for (int t = 0; t < 20; t++)
        s[t] = 5;
    struct reply r = statement_of("digits", "{\"noise_multiplier\":5,\"max_grad_norm\":1,"
                                            "\"clipping\":\"adaptive\"}",
                                  "{\"batch_size\":64,\"steps\":20}");
    check_statement(&r, 64.0 / 1400, s, 20);
    ck_assert(assumes(&r, "the count behind the adaptive bound"));
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_privacy");
    TCase *tc = tcase_create("privacy");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_dataset_of_users_trains_by_user);
    tcase_add_test(tc, ids_are_no_inputs);
    tcase_add_test(tc, datasets_without_whole_ids_are_refused);
    tcase_add_test(tc, a_resumed_job_of_users_ends_with_the_same_bytes);
    tcase_add_loop_test(tc, schedules_are_accounted_step_by_step, 0,
                        sizeof schedules / sizeof *schedules);
    tcase_add_test(tc, shuffled_batches_are_not_amplified);
    tcase_add_test(tc, adaptive_clipping_is_part_of_the_step);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
