/* dpsgctl privacy: every subcommand with every accountant, from everyday numbers to the ends of
 * their ranges. What comes out is what the library says, or an error; never "nan" or "inf". */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "psg/accountant.h"
#include "suite.h"

static char output[1 << 16];

/* "dpsgctl privacy arguments": standard output in `output`, the exit status */
static int dpsgctl(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "timeout 60 '%s' privacy %s 2>/dev/null", getenv("DPSGCTL"),
             arguments);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The answer, of which no text may be a number that JSON has not. */
static json_t *answer_of(const char *arguments)
{
    int status = dpsgctl(arguments);
    json_t *json = json_loads(output, 0, NULL);
    ck_assert_msg(status == 0 && json, "%s: %d %s", arguments, status, output);
    ck_assert(!strstr(output, "nan") && !strstr(output, "inf"));
    return json;
}

/* null stands for infinity */
static double number(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    ck_assert_msg(json_is_number(value) || json_is_null(value), "no %s", name);
    return json_is_null(value) ? INFINITY : json_number_value(value);
}

static const char *const accountants[] = { "rdp", "gdp", "prv" };

static const struct psg_dp_event ends[] = {
    { 0.01, 1.1, 1000 }, { 0, 1, 100 },       { 1, 1, 100 },      { 0.01, 1e-9, 10 },
    { 0.01, 1e9, 10 },   { 0.01, 0, 10 },     { 0.01, 1, 0 },     { 0.001, 1, 10000000 },
    { 1, 0.001, 1 },     { 0.5, 0.001, 100 }, { 1e-12, 1, 10 },   { 1, 0, 0 },
};
static const double deltas[] = { 1e-5, 1e-15, 0, 1 };

static bool same(double got, double want)
{
    return got == want || fabs(got - want) <= 1e-9 * fabs(want);
}

START_TEST(epsilon_and_delta_hold_at_the_ends)
{
    const struct psg_dp_event *e = &ends[_i];
    char arguments[256];
    struct psg_dp_epsilon want;
    for (int k = 0; k < 3; k++) {
        size_t n = e->steps < 1000000 ? sizeof deltas / sizeof *deltas : 2; /* those take long */
        for (size_t d = 0; d < n; d++) {
            snprintf(arguments, sizeof arguments,
                     "epsilon --accountant %s --delta %.17g --event %.17g,%.17g,%" PRId64,
                     accountants[k], deltas[d], e->sample_rate, e->noise_multiplier, e->steps);
            json_t *got = answer_of(arguments);
            ck_assert_int_eq(psg_dp_epsilon((enum psg_accountant_kind)k, e, 1, deltas[d], &want,
                                            NULL),
                             0);
            ck_assert_msg(same(number(got, "epsilon"), want.epsilon), "%s: %s", arguments, output);
            ck_assert(number(got, "epsilon") >= 0);
            json_decref(got);
        }
        snprintf(arguments, sizeof arguments,
                 "delta --accountant %s --epsilon 2 --event %.17g,%.17g,%" PRId64, accountants[k],
                 e->sample_rate, e->noise_multiplier, e->steps);
        json_t *got = answer_of(arguments);
        ck_assert_int_eq(psg_dp_delta((enum psg_accountant_kind)k, e, 1, 2, &want, NULL), 0);
        ck_assert(same(number(got, "delta"), want.delta));
        ck_assert(number(got, "delta") >= 0 && number(got, "delta") <= 1);
        json_decref(got);
    }
}
END_TEST

/* Several kinds of steps are one history; their order does not matter. */
START_TEST(events_compose)
{
    static const struct psg_dp_event events[] = { { 0.01, 1.1, 1000 }, { 0.05, 2, 100 }, { 1, 30, 5 } };
    char arguments[256];
    struct psg_dp_epsilon want;
    for (int k = 0; k < 3; k++) {
        psg_dp_epsilon((enum psg_accountant_kind)k, events, 3, 1e-6, &want, NULL);
        snprintf(arguments, sizeof arguments,
                 "epsilon --accountant %s --delta 1e-6 --event 1,30,5 --event 0.01,1.1,400 "
                 "--event 0.05,2,100 --event 0.01,1.1,600",
                 accountants[k]);
        json_t *got = answer_of(arguments);
        ck_assert_double_eq_tol(number(got, "epsilon"), want.epsilon, 1e-9 * want.epsilon);
        if (k == PSG_ACCOUNTANT_PRV) {
            ck_assert(number(got, "lower") <= number(got, "estimate"));
            ck_assert(number(got, "estimate") <= number(got, "epsilon"));
        }
        json_decref(got);
    }
}
END_TEST

/* The noise that comes out reaches the target, and a thousandth less does not; the steps that fit
 * do, and one more does not. */
START_TEST(searches_end_where_they_should)
{
    char arguments[256];
    struct psg_dp_epsilon at;
    enum psg_accountant_kind kind = (enum psg_accountant_kind)_i;
    const struct psg_dp_event spent = { 0.02, 2, 300 };
    snprintf(arguments, sizeof arguments,
             "noise-multiplier --accountant %s --target-epsilon 3 --delta 1e-5 --sample-rate 0.01 "
             "--steps 2000 --event 0.02,2,300",
             accountants[_i]);
    json_t *got = answer_of(arguments);
    struct psg_dp_event all[2] = { spent, { 0.01, number(got, "noise_multiplier"), 2000 } };
    json_decref(got);
    psg_dp_epsilon(kind, all, 2, 1e-5, &at, NULL);
    ck_assert_double_le(at.epsilon, 3);
    all[1].noise_multiplier *= 0.999;
    psg_dp_epsilon(kind, all, 2, 1e-5, &at, NULL);
    ck_assert_double_gt(at.epsilon, 3);
    snprintf(arguments, sizeof arguments,
             "steps --accountant %s --target-epsilon 3 --delta 1e-5 --sample-rate 0.01 "
             "--noise-multiplier 1.5 --event 0.02,2,300",
             accountants[_i]);
    got = answer_of(arguments);
    all[1] = (struct psg_dp_event){ 0.01, 1.5, (int64_t)number(got, "steps") };
    json_decref(got);
    psg_dp_epsilon(kind, all, 2, 1e-5, &at, NULL);
    ck_assert_double_le(at.epsilon, 3);
    all[1].steps++;
    psg_dp_epsilon(kind, all, 2, 1e-5, &at, NULL);
    ck_assert_double_gt(at.epsilon, 3);
}
END_TEST

START_TEST(searches_hold_at_the_ends)
{
    static const struct {
        const char *arguments, *member;
        double want[3]; /* NaN: an error; by accountant */
    } cases[] = {
        { "noise-multiplier --target-epsilon 1 --delta 1e-5 --sample-rate 0 --steps 100",
          "noise_multiplier", { 0, 0, 0 } },
        { "noise-multiplier --target-epsilon 1 --delta 1e-5 --sample-rate 0.01 --steps 0",
          "noise_multiplier", { 0, 0, 0 } },
        { "noise-multiplier --target-epsilon 1 --delta 1e-5 --sample-rate 1 --steps 10000000",
          "noise_multiplier", { 12792.632, 11797.2934, 11797.2934 } },
        { "noise-multiplier --target-epsilon 0 --delta 1e-5 --sample-rate 0.01 --steps 10",
          "noise_multiplier", { NAN, NAN, NAN } },
        { "noise-multiplier --target-epsilon 1 --delta 1e-5 --sample-rate 0.01 --steps 10 "
          "--event 1,0.1,1", "noise_multiplier", { NAN, NAN, NAN } },
        { "steps --target-epsilon 1 --delta 1e-5 --sample-rate 0 --noise-multiplier 1", "steps",
          { 1e9, 1e9, 1e9 } },
        { "steps --target-epsilon 1 --delta 1e-5 --sample-rate 0.01 --noise-multiplier 0", "steps",
          { 0, 0, 0 } },
        { "steps --target-epsilon 1 --delta 1e-5 --sample-rate 0.01 --noise-multiplier 1e9",
          "steps", { 1e9, 1e9, 1e9 } },
        { "steps --target-epsilon 1 --delta 1 --sample-rate 0.01 --noise-multiplier 1", "steps",
          { NAN, NAN, NAN } },
    };
    char arguments[256];
    for (int k = 0; k < 3; k++) {
        snprintf(arguments, sizeof arguments, "%s --accountant %s", cases[_i].arguments,
                 accountants[k]);
        if (isnan(cases[_i].want[k])) {
            ck_assert_int_eq(dpsgctl(arguments), 1);
            ck_assert_str_eq(output, "");
            continue;
        }
        json_t *got = answer_of(arguments);
        ck_assert_double_eq_tol(number(got, cases[_i].member), cases[_i].want[k],
                                1e-6 * cases[_i].want[k] + 1e-12);
        json_decref(got);
    }
}
END_TEST

START_TEST(curves_grow_to_the_answer_for_all_steps)
{
    char arguments[256];
    struct psg_dp_epsilon want;
    const struct psg_dp_event events[] = { { 0.01, 1.1, 500 }, { 0.02, 1.5, 300 } };
    psg_dp_epsilon((enum psg_accountant_kind)_i, events, 2, 1e-5, &want, NULL);
    snprintf(arguments, sizeof arguments,
             "curve --json --accountant %s --delta 1e-5 --points 9 --event 0.01,1.1,500 "
             "--event 0.02,1.5,300", accountants[_i]);
    json_t *got = answer_of(arguments), *points = json_object_get(got, "points");
    ck_assert_uint_eq(json_array_size(points), 9);
    double before = 0;
    for (size_t i = 0; i < 9; i++) {
        json_t *point = json_array_get(points, i);
        ck_assert(number(point, "steps") == 100.0 * (double)i);
        ck_assert_double_ge(number(point, "epsilon"), before);
        before = number(point, "epsilon");
    }
    ck_assert_double_eq_tol(before, want.epsilon, 1e-4);
    json_decref(got);

    snprintf(arguments, sizeof arguments,
             "curve --json --against delta --accountant %s --delta-min 1e-9 --delta-max 1e-5 "
             "--points 5 --event 0.01,1.1,500 --event 0.02,1.5,300", accountants[_i]);
    got = answer_of(arguments);
    points = json_object_get(got, "points");
    json_t *last = json_array_get(points, 4);
    ck_assert(number(last, "delta") == 1e-5);
    ck_assert_double_eq_tol(number(last, "epsilon"), want.epsilon, 1e-4);
    ck_assert_double_gt(number(json_array_get(points, 0), "epsilon"), want.epsilon);
    json_decref(got);

    snprintf(arguments, sizeof arguments,
             "curve --csv --accountant %s --delta 1e-5 --points 3 --event 0.01,0,10",
             accountants[_i]);
    ck_assert_int_eq(dpsgctl(arguments), 0);
    ck_assert_str_eq(output, "steps,epsilon\n0,0\n5,inf\n10,inf\n"); /* CSV's readers know inf */
}
END_TEST

START_TEST(a_curve_is_drawn)
{
    ck_assert_int_eq(dpsgctl("curve --delta 1e-5 --event 0.01,1.1,1000"), 0);
    ck_assert_ptr_nonnull(strstr(output, "epsilon (rdp, delta 1e-05)\n"));
    ck_assert_ptr_nonnull(strstr(output, "1000  steps\n"));
    ck_assert_ptr_nonnull(strchr(output, '*'));
    ck_assert_int_eq(dpsgctl("curve --delta 1e-5 --event 0.01,0,5"), 0);
    ck_assert_ptr_nonnull(strstr(output, "no finite epsilon holds at 5 of 6 points\n"));
    ck_assert_int_eq(dpsgctl("curve --delta 1e-5 --event 0,1,0"), 0);
    static const char *const wrong[] = {
        "curve --delta 1e-5", "curve --event 0.01,1,1", "curve --delta 1e-5 --event 0.01,1",
        "curve --delta 1e-5 --event 0.01,1,1 --points 1", "epsilon --delta 1e-5 --event 0.1,nan,1",
        "epsilon --delta 1e-5 --event 0.1,1e999,1", "epsilon --delta 1e-5 --event 0.1,1,-1",
        "curve --event 0.01,1,1 --against delta --delta-min 0.1 --delta-max 0.01",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_msg(dpsgctl(wrong[i]) == 64, "%s", wrong[i]);
        ck_assert_str_eq(output, "");
    }
    ck_assert_int_eq(dpsgctl("curve --delta 1e-5 --event 2,1,1"), 1);
    ck_assert_int_eq(dpsgctl("curve --delta 7 --event 0.1,1,1"), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("privacy_cli");
    TCase *tc = tcase_create("privacy");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, epsilon_and_delta_hold_at_the_ends, 0, sizeof ends / sizeof *ends);
    tcase_add_test(tc, events_compose);
    tcase_add_loop_test(tc, searches_end_where_they_should, 0, 3);
    tcase_add_loop_test(tc, searches_hold_at_the_ends, 0, 9);
    tcase_add_loop_test(tc, curves_grow_to_the_answer_for_all_steps, 0, 3);
    tcase_add_test(tc, a_curve_is_drawn);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
