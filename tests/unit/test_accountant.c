#include <math.h>
#include <stdint.h>
#include <string.h>

#include "psg/accountant.h"
#include "suite.h"

static double epsilon(enum psg_accountant_kind kind, double q, double s, int64_t steps,
                      double delta)
{
    struct psg_dp_event e = { q, s, steps };
    struct psg_dp_epsilon out;
    ck_assert_int_eq(psg_dp_epsilon(kind, &e, 1, delta, &out, NULL), 0);
    return out.epsilon;
}

static double sigma(enum psg_accountant_kind kind, double eps, double q, int64_t steps)
{
    struct psg_dp_target t = { .kind = kind, .epsilon = eps, .delta = 1e-5 };
    struct psg_dp_epsilon at;
    double s = NAN;
    ck_assert_int_eq(psg_dp_noise_multiplier(&t, q, steps, &s, &at, NULL), 0);
    ck_assert_double_le(at.epsilon, eps);
    return s;
}

START_TEST(rdp_equals_published_numbers)
{
    /* the test suite of Opacus, and the numbers in its tutorials */
    ck_assert_double_eq_tol(epsilon(PSG_ACCOUNTANT_RDP, 0.04, 1.5, 2250, 1e-5),
                            7.32911117143, 1e-9);
    ck_assert_double_eq_tol(sigma(PSG_ACCOUNTANT_RDP, 8, 0.04, 2250), 1.416, 5e-3);
    ck_assert_double_eq_tol(sigma(PSG_ACCOUNTANT_RDP, 8, 0.04, 2000), 1.3562, 5e-3);
    /* 1.1 to 3, 40-digit quadrature of the definition */
    double rdp;
    ck_assert_int_eq(psg_rdp_step(0.0001, 0.3, 1.1, &rdp, NULL), 0);
    ck_assert_double_eq_tol(rdp, 2.7315724e-05, 1e-11);
    ck_assert_int_eq(psg_rdp_step(0.0001, 0.3, 2.5, &rdp, NULL), 0);
    ck_assert_double_eq_tol(rdp, 0.0706163648, 1e-9);
}
END_TEST

START_TEST(gdp_equals_published_numbers)
{
    double eps = epsilon(PSG_ACCOUNTANT_GDP, 0.04, 1.5, 2249, 1e-5);
    ck_assert_double_gt(eps, 6.59);
    ck_assert_double_lt(eps, 6.60);
    ck_assert_double_eq_tol(sigma(PSG_ACCOUNTANT_GDP, 8, 0.04, 2250), 1.3232421875, 2e-3);
    ck_assert_double_eq_tol(psg_gdp_epsilon(1, psg_gdp_delta(1, 3)), 3, 1e-10);
}
END_TEST

START_TEST(whole_batch_is_the_plain_gaussian)
{
    double rdp;
    ck_assert_int_eq(psg_rdp_step(1, 2, 10, &rdp, NULL), 0);
    ck_assert_double_eq(rdp, 10 / 8.0);
}
END_TEST

START_TEST(integer_and_fractional_orders_meet)
{
    static const double q[] = { 1e-6, 1e-3, 0.1, 0.7, 0.999 }, s[] = { 0.2, 0.6, 1, 5, 50 };
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 5; j++) {
            for (double a = 2; a < 11; a++) {
                double at, below, above;
                ck_assert_int_eq(psg_rdp_step(q[i], s[j], a, &at, NULL), 0);
                ck_assert_int_eq(psg_rdp_step(q[i], s[j], a - 1e-5, &below, NULL), 0);
                ck_assert_int_eq(psg_rdp_step(q[i], s[j], a + 1e-5, &above, NULL), 0);
                ck_assert_double_le(below, at + 1e-13);
                ck_assert_double_le(at, above + 1e-13);
                ck_assert_double_eq_tol((below + above) / 2, at, 1e-6 * at + 1e-13);
            }
        }
    }
}
END_TEST

START_TEST(extremes_answer_something_true)
{
    for (int k = PSG_ACCOUNTANT_RDP; k <= PSG_ACCOUNTANT_GDP; k++) {
        ck_assert_double_eq(epsilon(k, 0.01, 1, 0, 1e-5), 0);
        ck_assert_double_eq(epsilon(k, 0, 1, 1000, 1e-5), 0);
        ck_assert_double_eq(epsilon(k, 0, 0, 1000, 1e-5), 0);
        ck_assert_double_eq(epsilon(k, 0.01, INFINITY, 1000, 1e-5), 0);
        ck_assert(isinf(epsilon(k, 0.01, 0, 1, 1e-5)));
        ck_assert(isinf(epsilon(k, 0.01, 1, 1, 0)));
        ck_assert_double_eq(epsilon(k, 1, 0.5, 1, 1), 0);
        ck_assert_double_eq(epsilon(k, 0.001, 50, 1, 0.9), 0);
        ck_assert_double_gt(epsilon(k, 1, 0.5, 1000, 1e-5), 100);
        ck_assert(isfinite(epsilon(k, 1, 0.5, 1000, 1e-5)));
    }
    ck_assert_double_eq_tol(psg_gdp_epsilon(200, 1e-5), 20000 + 200 * 4.26, 10);
}
END_TEST

START_TEST(never_nan_never_negative)
{
    static const double q[] = { 0, 5e-324, 1e-300, 1e-9, 0.3, 0.9999999999999999, 1 };
    static const double s[] = {
        0, 5e-324, 1e-200, 1e-8, 0.01, 0.5, 3, 1e6, 1e200, INFINITY
    };
    static const int64_t steps[] = { 0, 1, 1000, INT64_MAX };
    static const double delta[] = { 0, 5e-324, 1e-30, 1e-5, 0.5, 1 };
    for (int i = 0; i < 7 * 10 * 4 * 6; i++) {
        double qi = q[i % 7], si = s[i / 7 % 10], d = delta[i / 280];
        for (int k = PSG_ACCOUNTANT_RDP; k <= PSG_ACCOUNTANT_GDP; k++) {
            struct psg_dp_event e = { qi, si, steps[i / 70 % 4] };
            double eps = epsilon(k, qi, si, e.steps, d);
            ck_assert_msg(eps >= 0, "%d: q %g s %g steps %lld delta %g: %g", k, qi, si,
                          (long long)e.steps, d, eps);
            struct psg_dp_epsilon out;
            ck_assert_int_eq(psg_dp_delta(k, &e, 1, d * 10, &out, NULL), 0);
            ck_assert_msg(out.delta >= 0 && out.delta <= 1, "%d: q %g s %g steps %lld: %g",
                          k, qi, si, (long long)e.steps, out.delta);
        }
    }
}
END_TEST

START_TEST(invalid_input_names_its_place)
{
    struct psg_dp_event e[2] = { { 0.1, 1, 1 }, { 1.5, 1, 1 } };
    struct psg_dp_epsilon out;
    struct psg_error err;
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_RDP, e, 2, 1e-5, &out, &err),
                     PSG_E_RANGE);
    ck_assert_str_eq(err.place, "events[1].sample_rate");
    e[1] = (struct psg_dp_event){ 0.1, NAN, 1 };
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_RDP, e, 2, 1e-5, &out, &err),
                     PSG_E_RANGE);
    ck_assert_str_eq(err.place, "events[1].noise_multiplier");
    e[1] = (struct psg_dp_event){ 0.1, 1, -1 };
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_RDP, e, 2, 1e-5, &out, &err),
                     PSG_E_RANGE);
    ck_assert_str_eq(err.place, "events[1].steps");
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_RDP, e, 1, NAN, &out, &err),
                     PSG_E_RANGE);
    ck_assert_str_eq(err.place, "delta");
    ck_assert_int_eq(psg_dp_delta(PSG_ACCOUNTANT_RDP, e, 1, -1, &out, &err), PSG_E_RANGE);
    ck_assert_str_eq(err.place, "epsilon");
    enum psg_accountant_kind kind;
    ck_assert_int_eq(psg_accountant_kind_parse("moments", &kind, &err), PSG_E_INVALID);
    struct psg_dp_target target = { .kind = PSG_ACCOUNTANT_RDP,
                                    .epsilon = 0,
                                    .delta = 1e-5 };
    double s;
    ck_assert_int_eq(psg_dp_noise_multiplier(&target, 0.1, 10, &s, NULL, &err),
                     PSG_E_RANGE);
    ck_assert_str_eq(err.place, "target.epsilon");
    double rdp;
    ck_assert_int_eq(psg_rdp_step(0.1, 1, 1, &rdp, &err), PSG_E_RANGE);
}
END_TEST

START_TEST(steps_one_by_one_equal_one_question)
{
    for (int k = PSG_ACCOUNTANT_RDP; k <= PSG_ACCOUNTANT_GDP; k++) {
        struct psg_accountant *acc;
        ck_assert_int_eq(psg_accountant_new(k, &acc, NULL), 0);
        struct psg_dp_event a = { 0.01, 1.1, 1 }, b = { 0.2, 4, 1 };
        struct psg_dp_epsilon got, want;
        double last = 0;
        for (int i = 0; i < 600; i++) {
            ck_assert_int_eq(psg_accountant_compose(acc, i % 3 ? &a : &b, NULL), 0);
            ck_assert_int_eq(psg_accountant_epsilon(acc, 1e-5, &got, NULL), 0);
            ck_assert_double_ge(got.epsilon, last);
            last = got.epsilon;
        }
        struct psg_dp_event all[2] = { { 0.01, 1.1, 400 }, { 0.2, 4, 200 } };
        ck_assert_int_eq(psg_dp_epsilon(k, all, 2, 1e-5, &want, NULL), 0);
        ck_assert_double_eq_tol(got.epsilon, want.epsilon, 1e-11 * want.epsilon);
        size_t n;
        const struct psg_dp_event *history = psg_accountant_history(acc, &n);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(history[0].steps, 200);
        ck_assert_int_eq(history[1].steps, 400);
        psg_accountant_free(acc);
    }
}
END_TEST

START_TEST(step_counts_that_overflow_are_refused)
{
    struct psg_accountant *acc;
    ck_assert_int_eq(psg_accountant_new(PSG_ACCOUNTANT_RDP, &acc, NULL), 0);
    struct psg_dp_event e = { 0.1, 1, INT64_MAX };
    ck_assert_int_eq(psg_accountant_compose(acc, &e, NULL), 0);
    e.steps = 1;
    struct psg_error err;
    ck_assert_int_eq(psg_accountant_compose(acc, &e, &err), PSG_E_RANGE);
    size_t n;
    ck_assert_int_eq(psg_accountant_history(acc, &n)[0].steps, INT64_MAX);
    psg_accountant_free(acc);
}
END_TEST

START_TEST(delta_inverts_epsilon)
{
    for (int k = PSG_ACCOUNTANT_RDP; k <= PSG_ACCOUNTANT_GDP; k++) {
        struct psg_dp_event e = { 0.02, 0.9, 3000 };
        struct psg_dp_epsilon at, back;
        ck_assert_int_eq(psg_dp_epsilon(k, &e, 1, 1e-6, &at, NULL), 0);
        ck_assert_int_eq(psg_dp_delta(k, &e, 1, at.epsilon, &back, NULL), 0);
        ck_assert_double_eq_tol(back.delta, 1e-6, 1e-14);
    }
}
END_TEST

START_TEST(steps_that_fit_is_the_last_that_fits)
{
    struct psg_dp_event spent = { 0.05, 2, 100 };
    struct psg_dp_target t = { .kind = PSG_ACCOUNTANT_RDP,
                               .epsilon = 4,
                               .delta = 1e-5,
                               .spent = &spent,
                               .n_spent = 1 };
    int64_t n;
    ck_assert_int_eq(psg_dp_steps_that_fit(&t, 0.02, 1, 1000000, &n, NULL), 0);
    ck_assert_int_gt(n, 0);
    struct psg_dp_event all[2] = { spent, { 0.02, 1, n } };
    struct psg_dp_epsilon at;
    ck_assert_int_eq(psg_dp_epsilon(t.kind, all, 2, t.delta, &at, NULL), 0);
    ck_assert_double_le(at.epsilon, 4);
    all[1].steps++;
    ck_assert_int_eq(psg_dp_epsilon(t.kind, all, 2, t.delta, &at, NULL), 0);
    ck_assert_double_gt(at.epsilon, 4);
    ck_assert_int_eq(psg_dp_steps_that_fit(&t, 0.02, 1, 7, &n, NULL), 0);
    ck_assert_int_eq(n, 7);
    ck_assert_int_eq(psg_dp_steps_that_fit(&t, 1, 0.3, 7, &n, NULL), 0);
    ck_assert_int_eq(n, 0);
    ck_assert_int_eq(psg_dp_steps_that_fit(&t, 0, 0.3, INT64_MAX, &n, NULL), 0);
    ck_assert_int_eq(n, INT64_MAX);
}
END_TEST

START_TEST(calibration_knows_its_limits)
{
    struct psg_dp_target t = { .kind = PSG_ACCOUNTANT_RDP, .epsilon = 0.05, .delta = 1e-5 };
    double s = -1;
    struct psg_error err;
    ck_assert_int_eq(psg_dp_noise_multiplier(&t, 0.01, 1000, &s, NULL, &err), PSG_E_RANGE);
    ck_assert(strstr(err.text, "0.05") != NULL);
    ck_assert_int_eq(psg_dp_noise_multiplier(&t, 0, 1000, &s, NULL, &err), 0);
    ck_assert_double_eq(s, 0);
    ck_assert_int_eq(psg_dp_noise_multiplier(&t, 0.01, 0, &s, NULL, &err), 0);
    ck_assert_double_eq(s, 0);
    t.epsilon = 1e6;
    ck_assert_int_eq(psg_dp_noise_multiplier(&t, 1, 1, &s, NULL, &err), 0);
    ck_assert_double_eq_tol(s, sqrt(1.1 / 2e6), 1e-7); /* the smallest order wins */
}
END_TEST

START_TEST(prv_equals_published_numbers)
{
    static const struct {
        double s, q;
        int64_t steps;
        double delta, want;
    } cases[] = {
        /* upper bounds of the reference implementation with an error of 0.01 in epsilon */
        { 0.8, 0.001, 100, 1e-6, 0.2704 },   { 1.5, 0.05, 100, 1e-6, 1.9539 },
        { 2, 0.05, 1000, 1e-6, 4.1728 },     { 3, 0.2, 100, 1e-6, 3.3812 },
        { 1.5, 0.05, 20000, 1e-6, 38.3066 }, { 3, 0.05, 50000, 1e-6, 24.9420 },
        { 1.5, 0.04, 2249, 1e-5, 6.777395 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct psg_dp_event e = { cases[i].q, cases[i].s, cases[i].steps };
        struct psg_dp_epsilon at;
        ck_assert_int_eq(
            psg_dp_epsilon(PSG_ACCOUNTANT_PRV, &e, 1, cases[i].delta, &at, NULL), 0);
        ck_assert_int_eq(at.method, PSG_ACCOUNTANT_PRV);
        ck_assert_double_le(at.lower, at.estimate);
        ck_assert_double_le(at.estimate, at.epsilon);
        ck_assert_double_le(at.epsilon - at.lower, 2e-3 * at.epsilon);
        ck_assert_double_eq_tol(at.estimate, cases[i].want - 0.01, 1e-3);
    }
    ck_assert_double_eq_tol(sigma(PSG_ACCOUNTANT_PRV, 8, 0.04, 2250), 1.3476, 2e-3);
    ck_assert_double_eq_tol(sigma(PSG_ACCOUNTANT_PRV, 8, 0.04, 2000), 1.2915, 2e-3);
}
END_TEST

START_TEST(prv_extremes_answer_something_true)
{
    const enum psg_accountant_kind k = PSG_ACCOUNTANT_PRV;
    ck_assert_double_eq(epsilon(k, 0.01, 1, 0, 1e-5), 0);
    ck_assert_double_eq(epsilon(k, 0, 0, 1000, 1e-5), 0);
    ck_assert_double_eq(epsilon(k, 0.01, INFINITY, 1000, 1e-5), 0);
    ck_assert(isinf(epsilon(k, 0.01, 0, 1, 1e-5)));
    ck_assert(isinf(epsilon(k, 0.01, 1, 1, 0)));
    ck_assert_double_eq(epsilon(k, 0.01, 1, 100, 1), 0);
    /* drawn at all with less than delta: nothing can be learnt beyond delta */
    ck_assert_double_eq(epsilon(k, 1e-9, 0.05, 1000, 1e-5), 0);
    ck_assert_double_eq_tol(epsilon(k, 1, 2, 9, 1e-6), psg_gdp_epsilon(1.5, 1e-6), 1e-9);
    double big = epsilon(k, 0.5, 0.5, 2000, 1e-6);
    ck_assert_double_gt(big, 500);
    ck_assert_double_le(big, epsilon(PSG_ACCOUNTANT_RDP, 0.5, 0.5, 2000, 1e-6));
    /* far more steps and far less noise than a grid bears: the Renyi bound, and it says so
     */
    struct psg_dp_event e = { 0.5, 1e-4, 1000 };
    struct psg_dp_epsilon at;
    ck_assert_int_eq(psg_dp_epsilon(k, &e, 1, 1e-6, &at, NULL), 0);
    ck_assert_int_eq(at.method, PSG_ACCOUNTANT_RDP);
    ck_assert_double_eq(at.epsilon, epsilon(PSG_ACCOUNTANT_RDP, 0.5, 1e-4, 1000, 1e-6));
}
END_TEST

START_TEST(prv_never_nan_never_above_rdp)
{
    static const double q[] = { 5e-324, 1e-6, 0.3, 0.9999999999999999, 1 };
    static const double s[] = { 5e-324, 1e-3, 0.3, 3, 1e6, 1e200 };
    static const int64_t steps[] = { 1, 1000, INT64_MAX };
    static const double delta[] = { 5e-324, 1e-30, 1e-5, 0.5 };
    for (int i = 0; i < 5 * 6 * 3 * 4; i++) {
        struct psg_dp_event e = { q[i % 5], s[i / 5 % 6], steps[i / 30 % 3] };
        double d = delta[i / 90];
        struct psg_dp_epsilon at;
        ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, &e, 1, d, &at, NULL), 0);
        double rdp =
            epsilon(PSG_ACCOUNTANT_RDP, e.sample_rate, e.noise_multiplier, e.steps, d);
        ck_assert_msg(at.epsilon >= 0 && at.lower >= 0 && at.lower <= at.epsilon &&
                          at.estimate >= at.lower && at.estimate <= at.epsilon &&
                          at.epsilon <= rdp,
                      "q %g s %g steps %lld delta %g: %g in [%g, %g], rdp %g",
                      e.sample_rate, e.noise_multiplier, (long long)e.steps, d, at.estimate,
                      at.lower, at.epsilon, rdp);
        ck_assert_int_eq(psg_dp_delta(PSG_ACCOUNTANT_PRV, &e, 1, 0.5, &at, NULL), 0);
        ck_assert_msg(at.delta >= 0 && at.delta <= 1 && at.lower <= at.delta,
                      "q %g s %g steps %lld: %g >= %g", e.sample_rate, e.noise_multiplier,
                      (long long)e.steps, at.delta, at.lower);
    }
}
END_TEST

START_TEST(prv_step_by_step_stays_within_its_bounds)
{
    struct psg_accountant *acc;
    ck_assert_int_eq(psg_accountant_new(PSG_ACCOUNTANT_PRV, &acc, NULL), 0);
    struct psg_dp_event a = { 0.02, 1.1, 1 }, b = { 1, 9, 1 };
    struct psg_dp_epsilon got, want;
    for (int i = 0; i < 300; i++) {
        ck_assert_int_eq(psg_accountant_compose(acc, i == 50 ? &b : &a, NULL), 0);
        ck_assert_int_eq(psg_accountant_epsilon(acc, 1e-5, &got, NULL), 0);
        if (i % 50 != 49)
            continue;
        struct psg_dp_event all[2] = { a, b };
        all[0].steps = i + 1 - (i > 50);
        ck_assert_int_eq(
            psg_dp_epsilon(PSG_ACCOUNTANT_PRV, all, i > 50 ? 2 : 1, 1e-5, &want, NULL), 0);
        ck_assert_double_le(want.lower, got.epsilon);
        ck_assert_double_le(got.lower, want.epsilon);
        ck_assert_double_eq_tol(got.estimate, want.estimate, 1e-3 * want.estimate);
    }
    struct psg_dp_epsilon back;
    ck_assert_int_eq(psg_accountant_delta(acc, got.estimate, &back, NULL), 0);
    ck_assert_double_eq_tol(back.estimate, 1e-5, 2e-8);
    ck_assert_int_eq(back.method, PSG_ACCOUNTANT_PRV);
    psg_accountant_free(acc);
}
END_TEST

/* A schedule with 600 different noise multipliers: its answer lies between those of 50 better and
 * of 50 worse ones, and close to both. */
START_TEST(prv_many_different_events_are_rounded_to_worse_ones)
{
    enum { MANY = 600, FEW = 50 };
    struct psg_dp_event e[MANY], better[FEW], worse[FEW];
    for (int i = 0; i < MANY; i++)
        e[i] = (struct psg_dp_event){ 0.01, 2 * exp(-i * 0.001), 3 };
    for (int i = 0; i < FEW; i++) {
        better[i] = (struct psg_dp_event){ 0.01, e[12 * i].noise_multiplier, 36 };
        worse[i] = (struct psg_dp_event){ 0.01, e[12 * i + 11].noise_multiplier, 36 };
    }
    struct psg_dp_epsilon at, below, above, rdp;
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, e, MANY, 1e-5, &at, NULL), 0);
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, better, FEW, 1e-5, &below, NULL), 0);
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, worse, FEW, 1e-5, &above, NULL), 0);
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_RDP, e, MANY, 1e-5, &rdp, NULL), 0);
    ck_assert_int_eq(at.method, PSG_ACCOUNTANT_PRV);
    ck_assert_double_ge(at.epsilon, below.lower);
    ck_assert_double_le(at.epsilon, above.epsilon * 1.005);
    ck_assert_double_lt(at.epsilon, rdp.epsilon);
    ck_assert_double_lt(above.epsilon / below.epsilon, 1.03);
}
END_TEST

/* Against the exact binomial tail, summed term by term */
START_TEST(cutting_batches_costs_at_least_the_exact_tail)
{
    double delta, exact = 0, term = 1;
    for (int k = 0; k < 1000; k++) { /* term = binom(1000, k) 0.05^k 0.95^(1000 - k) */
        term = exp(lgamma(1001) - lgamma(k + 1) - lgamma(1001 - k) + k * log(0.05) +
                   (1000 - k) * log(0.95));
        exact += k >= 81 ? term : 0;
    }
    ck_assert_int_eq(psg_truncation_delta(1000, 0.05, 80, 10, 2, &delta, NULL), 0);
    ck_assert_double_ge(delta, 10 * (1 + exp(2)) * exact);
    ck_assert_double_le(delta, 30 * 10 * (1 + exp(2)) * exact);
    ck_assert_int_eq(psg_truncation_delta(1000, 0.05, 1000, 10, 2, &delta, NULL), 0);
    ck_assert(delta == 0);
    ck_assert_int_eq(psg_truncation_delta(1000, 0.05, 40, 10, 0, &delta, NULL), 0);
    ck_assert(delta == 1);
    ck_assert_int_eq(psg_truncation_delta(1000, 0, 1, 10, 0, &delta, NULL), 0);
    ck_assert(delta == 0);
    ck_assert_int_eq(psg_truncation_delta(1000, 1, 999, 1, 900, &delta, NULL), 0);
    ck_assert(delta == 1);
    ck_assert_int_eq(psg_truncation_delta(1000, 0.5, 0, 1, 1, &delta, NULL), PSG_E_RANGE);
}
END_TEST

/* Live answers of a history that was told in advance: never below the true value, and close. */
START_TEST(an_expected_history_is_answered_along_the_way)
{
    enum { N = 12, STEPS = 60 };
    struct psg_dp_event all[N];
    struct psg_accountant *acc = NULL;
    struct psg_dp_epsilon live, want;
    for (int i = 0; i < N; i++)
        all[i] = (struct psg_dp_event){ 0.02, 2 - 0.07 * i, STEPS };
    ck_assert_int_eq(psg_accountant_new(PSG_ACCOUNTANT_PRV, &acc, NULL), 0);
    ck_assert_int_eq(psg_accountant_expect(acc, all, N, NULL), 0);
    double before = 0;
    for (int i = 0; i < N * STEPS; i += 20) {
        struct psg_dp_event part = all[i / STEPS];
        part.steps = 20;
        ck_assert_int_eq(psg_accountant_compose(acc, &part, NULL), 0);
        ck_assert_int_eq(psg_accountant_epsilon_bound(acc, 1e-5, &live, NULL), 0);
        ck_assert_double_ge(live.epsilon, before * (1 - 1e-3));
        before = live.epsilon;
        if (i % 140)
            continue;
        size_t n;
        const struct psg_dp_event *event = psg_accountant_history(acc, &n);
        ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, event, n, 1e-5, &want, NULL), 0);
        ck_assert_double_ge(live.epsilon, want.lower);
        ck_assert_double_le(live.epsilon, want.epsilon * 1.002);
    }
    /* more than was expected: asked as ever */
    ck_assert_int_eq(psg_accountant_compose(acc, &all[0], NULL), 0);
    ck_assert_int_eq(psg_accountant_epsilon_bound(acc, 1e-5, &live, NULL), 0);
    ck_assert_double_gt(live.epsilon, before);
    psg_accountant_free(acc);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("accountant");
    TCase *tc = tcase_create("rdp and gdp");
    tcase_add_test(tc, rdp_equals_published_numbers);
    tcase_add_test(tc, gdp_equals_published_numbers);
    tcase_add_test(tc, whole_batch_is_the_plain_gaussian);
    tcase_add_test(tc, integer_and_fractional_orders_meet);
    tcase_add_test(tc, extremes_answer_something_true);
    tcase_add_test(tc, never_nan_never_negative);
    tcase_add_test(tc, invalid_input_names_its_place);
    tcase_add_test(tc, steps_one_by_one_equal_one_question);
    tcase_add_test(tc, step_counts_that_overflow_are_refused);
    tcase_add_test(tc, delta_inverts_epsilon);
    tcase_add_test(tc, steps_that_fit_is_the_last_that_fits);
    tcase_add_test(tc, calibration_knows_its_limits);
    suite_add_tcase(suite, tc);
    tc = tcase_create("prv");
    tcase_add_test(tc, prv_equals_published_numbers);
    tcase_add_test(tc, prv_extremes_answer_something_true);
    tcase_add_test(tc, prv_never_nan_never_above_rdp);
    tcase_add_test(tc, prv_step_by_step_stays_within_its_bounds);
    tcase_add_test(tc, prv_many_different_events_are_rounded_to_worse_ones);
    tcase_add_test(tc, cutting_batches_costs_at_least_the_exact_tail);
    tcase_add_test(tc, an_expected_history_is_answered_along_the_way);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
