/* Clip factors, the adaptive bound, schedules. */
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "psg/dp.h"
#include "suite.h"

START_TEST(flat_factors_follow_the_formula)
{
    const double sq[5] = { 0, 0.25, 1, 4, 1e20 };
    psg_real f[5];
    struct psg_clip_count count = { 0 };
    ck_assert_int_eq(psg_clip_factors(PSG_CLIP_FLAT, 1, 5, sq, f, &count, NULL), 0);
    ck_assert(f[0] == 1 && f[1] == 1);
    ck_assert_double_eq_tol((double)f[2], 1 / (1 + 1e-6), 1e-7);
    ck_assert_double_eq_tol((double)f[3], 1 / (2 + 1e-6), 1e-7);
    ck_assert_double_eq_tol((double)f[4] * 1e10, 1, 1e-6);
    ck_assert_int_eq(count.clipped, 3);
    ck_assert_int_eq(count.not_finite, 0);
}
END_TEST

START_TEST(automatic_factors_follow_the_formula)
{
    const double sq[3] = { 0, 1e-4, 4 };
    psg_real f[3];
    ck_assert_int_eq(psg_clip_factors(PSG_CLIP_AUTO_S, 3, 3, sq, f, NULL, NULL), 0);
    ck_assert_double_eq_tol((double)f[0], 300, 1e-4);
    ck_assert_double_eq_tol((double)f[1], 150, 1e-4);
    ck_assert_double_eq_tol((double)f[2], 3 / 2.01, 1e-6);
    ck_assert_int_eq(psg_clip_factors_auto_s(3, 0.5, 3, sq, f, NULL, NULL), 0);
    ck_assert_double_eq_tol((double)f[0], 6, 1e-5);
    ck_assert_double_eq_tol((double)f[1], 3 / 0.51, 1e-5);
    ck_assert_double_eq_tol((double)f[2], 1.2, 1e-6);
    ck_assert_int_eq(psg_clip_factors_auto_s(3, 0, 3, sq, f, NULL, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_clip_factors(PSG_CLIP_AUTO_V, 3, 3, sq, f, NULL, NULL), 0);
    ck_assert(f[0] == 0);
    ck_assert_double_eq_tol((double)f[1], 300, 1e-4);
    ck_assert_double_eq_tol((double)f[2], 1.5, 1e-6);
}
END_TEST

START_TEST(no_record_ever_exceeds_the_bound)
{
    static const enum psg_clipping kinds[] = { PSG_CLIP_FLAT, PSG_CLIP_ADAPTIVE,
                                               PSG_CLIP_AUTO_S, PSG_CLIP_AUTO_V };
    struct psg_key key;
    psg_key_from_seed(1, &key);
    enum { N = 4000 };
    static double u[N], sq[N];
    static psg_real f[N];
    psg_rng_fill_uniform(&key, PSG_RNG_USER, 0, 0, 0, N, u, NULL);
    for (int i = 0; i < N; i++)
        sq[i] = exp(1400 * (u[i] - 0.5));
    sq[0] = DBL_MAX;
    sq[1] = DBL_MIN;
    sq[2] = 0x1p-1074;
    for (double bound = 1e-3; bound < 1e4; bound *= 3.7) {
        psg_clip_factors(kinds[_i], bound, N, sq, f, NULL, NULL);
        for (int i = 0; i < N; i++) {
            ck_assert(isfinite(f[i]) && f[i] >= 0);
            ck_assert((long double)f[i] * sqrtl((long double)sq[i]) <= (long double)bound);
        }
    }
}
END_TEST

START_TEST(norms_that_are_not_finite_contribute_nothing_and_are_counted)
{
    const double sq[4] = { (double)INFINITY, (double)NAN, -1, 9 };
    psg_real f[4];
    for (int kind = PSG_CLIP_FLAT; kind <= PSG_CLIP_AUTO_V; kind++) {
        if (kind == PSG_CLIP_PER_LAYER || kind == PSG_CLIP_PER_GROUP)
            continue;
        struct psg_clip_count count = { .clipped = 10, .not_finite = 20 };
        psg_clip_factors((enum psg_clipping)kind, 1, 4, sq, f, &count, NULL);
        ck_assert(f[0] == 0 && f[1] == 0 && f[2] == 0 && f[3] > 0);
        ck_assert_int_eq(count.clipped, 11);
        ck_assert_int_eq(count.not_finite, 23);
    }
}
END_TEST

START_TEST(groups_are_clipped_apart)
{
    const double bound[2] = { 1, 2 };
    const double sq[8] = { 4, 1, 0.25, 16, 0.25, 1, (double)NAN, 1 };
    psg_real f[8];
    struct psg_clip_count count = { 0 };
    ck_assert_int_eq(psg_clip_factors_grouped(4, 2, bound, sq, f, &count, NULL), 0);
    ck_assert_double_eq_tol((double)f[0], 1 / (2 + 1e-6), 1e-7);
    ck_assert(f[1] == 1 && f[2] == 1);
    ck_assert_double_eq_tol((double)f[3], 2 / (4 + 1e-6), 1e-7);
    ck_assert(f[4] == 1 && f[5] == 1);
    ck_assert(f[6] == 0 && f[7] == 0);
    ck_assert_int_eq(count.clipped, 2);
    ck_assert_int_eq(count.not_finite, 1);
    ck_assert_double_eq_tol(psg_clip_total_bound(2, bound), sqrt(5), 1e-15);
}
END_TEST

START_TEST(bounds_that_are_no_bounds_are_refused)
{
    const double bad[] = { 0, -1, (double)NAN, (double)INFINITY }, sq = 1;
    psg_real f;
    for (int i = 0; i < 4; i++) {
        double pair[2] = { 1, bad[i] }, two[2] = { 1, 1 };
        psg_real g[2];
        ck_assert_int_eq(psg_clip_factors(PSG_CLIP_FLAT, bad[i], 1, &sq, &f, NULL, NULL),
                         PSG_E_RANGE);
        ck_assert_int_eq(psg_clip_factors_grouped(1, 2, pair, two, g, NULL, NULL),
                         PSG_E_RANGE);
    }
    ck_assert_int_eq(psg_clip_factors(PSG_CLIP_PER_LAYER, 1, 1, &sq, &f, NULL, NULL),
                     PSG_E_INVALID);
}
END_TEST

START_TEST(split_of_noise_keeps_the_whole_multiplier)
{
    double z;
    ck_assert_int_eq(psg_adaptive_noise_multiplier(1.1, 10, &z, NULL), 0);
    ck_assert_double_eq_tol(1 / (z * z) + 1 / (20.0 * 20), 1 / (1.1 * 1.1), 1e-14);
    ck_assert_double_eq_tol(z, 1.101667534173, 1e-9);
    ck_assert_int_eq(psg_adaptive_noise_multiplier(2, 1, &z, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_adaptive_noise_multiplier(3, 1, &z, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_adaptive_noise_multiplier(0, 1, &z, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_adaptive_noise_multiplier((double)NAN, 1, &z, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_adaptive_noise_multiplier(1e-300, 1e300, &z, NULL), 0);
    ck_assert(z == 1e-300);
}
END_TEST

static struct psg_adaptive_clip adaptive(void)
{
    return (struct psg_adaptive_clip){ .bound = 2,
                                       .quantile = 0.5,
                                       .learning_rate = 0.2,
                                       .count_stddev = 1e-9,
                                       .expected_batch_size = 100,
                                       .min_bound = 1e-3,
                                       .max_bound = 1e3 };
}

START_TEST(adaptive_bound_moves_by_the_formula)
{
    struct psg_key key;
    psg_key_from_seed(4, &key);
    struct psg_adaptive_clip a = adaptive();
    const double sq[4] = { 1, 4, 4.1, (double)NAN };
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), 0);
    ck_assert_int_eq(psg_adaptive_count(&a, 4, sq), 2);
    /* 90 records drawn, 80 within: sum of +-1/2 is 35, fraction 0.35 + 0.5 */
    ck_assert_int_eq(psg_adaptive_update(&a, &key, 0, 90, 80, NULL), 0);
    ck_assert_double_eq_tol(a.bound, 2 * exp(-0.2 * 0.35), 1e-9);
    /* an empty batch: fraction 1/2, no movement but noise */
    double before = a.bound;
    psg_adaptive_update(&a, &key, 1, 0, 0, NULL);
    ck_assert_double_eq_tol(a.bound, before, 1e-9);
    /* with noise: the documented normal number */
    a = adaptive();
    a.count_stddev = 20;
    float z;
    psg_normal_fill(&key, PSG_RNG_ADAPTIVE_CLIP, 2, 0, 0, 1, &z, NULL);
    psg_adaptive_update(&a, &key, 2, 0, 0, NULL);
    ck_assert_double_eq_tol(a.bound, 2 * exp(-0.2 * 0.2 * (double)z), 1e-12);
}
END_TEST

START_TEST(adaptive_bound_finds_the_quantile_and_keeps_its_limits)
{
    struct psg_key key;
    psg_key_from_seed(4, &key);
    struct psg_adaptive_clip a = adaptive();
    a.count_stddev = 5;
    a.quantile = 0.7;
    double sq[100];
    for (int i = 0; i < 100; i++)
        sq[i] = (i + 1) * (i + 1); /* norms 1 ... 100 */
    for (uint64_t step = 0; step < 300; step++)
        psg_adaptive_update(&a, &key, step, 100, psg_adaptive_count(&a, 100, sq), NULL);
    ck_assert_double_gt(a.bound, 62);
    ck_assert_double_lt(a.bound, 79);
    a.learning_rate = 1e6;
    psg_adaptive_update(&a, &key, 1, 100, 100, NULL);
    ck_assert(a.bound == a.min_bound);
    psg_adaptive_update(&a, &key, 1, 100, 0, NULL);
    ck_assert(a.bound == a.max_bound);
}
END_TEST

START_TEST(adaptive_settings_are_checked)
{
    struct psg_adaptive_clip a = adaptive();
    a.quantile = 1;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
    a = adaptive();
    a.bound = 0;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
    a = adaptive();
    a.learning_rate = (double)NAN;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
    a = adaptive();
    a.count_stddev = -1;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
    a = adaptive();
    a.expected_batch_size = 0;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
    a = adaptive();
    a.max_bound = 1;
    ck_assert_int_eq(psg_adaptive_check(&a, NULL), PSG_E_RANGE);
}
END_TEST

START_TEST(schedules_give_pytorchs_values)
{
    struct psg_schedule s = { .kind = PSG_SCHEDULE_CONSTANT, .initial = 0.5 };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), 0);
    ck_assert(psg_schedule_value(&s, 12345) == 0.5);
    s = (struct psg_schedule){
        .kind = PSG_SCHEDULE_STEP, .initial = 1, .gamma = 0.5, .period = 3
    };
    ck_assert(psg_schedule_value(&s, 2) == 1 && psg_schedule_value(&s, 3) == 0.5);
    ck_assert(psg_schedule_value(&s, 8) == 0.25);
    s.kind = PSG_SCHEDULE_EXPONENTIAL;
    ck_assert_double_eq_tol(psg_schedule_value(&s, 3), 0.5, 1e-15);
    ck_assert_double_eq_tol(psg_schedule_value(&s, 1), cbrt(0.5), 1e-15);
    s = (struct psg_schedule){
        .kind = PSG_SCHEDULE_COSINE, .initial = 1, .final = 0.2, .period = 10
    };
    ck_assert(psg_schedule_value(&s, 0) == 1);
    ck_assert_double_eq_tol(psg_schedule_value(&s, 5), 0.6, 1e-15);
    ck_assert_double_eq_tol(psg_schedule_value(&s, 10), 0.2, 1e-15);
    ck_assert_double_eq_tol(psg_schedule_value(&s, 1000), 0.2, 1e-15);
    const double list[] = { 3, 2, 1 };
    s = (struct psg_schedule){
        .kind = PSG_SCHEDULE_LIST, .list = list, .n_list = 3, .period = 2, .warmup = 4
    };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), 0);
    const double expected[] = { 0.75, 1.5, 1.5, 2, 1, 1, 1 };
    for (uint64_t step = 0; step < 7; step++)
        ck_assert(psg_schedule_value(&s, step) == expected[step]);
    ck_assert(psg_schedule_value(&s, UINT64_MAX) == 1);
}
END_TEST

START_TEST(schedules_are_checked)
{
    struct psg_error err;
    struct psg_schedule s = { .kind = PSG_SCHEDULE_STEP, .initial = 1, .gamma = 0.5 };
    ck_assert_int_eq(psg_schedule_check(&s, &err), PSG_E_RANGE);
    ck_assert_str_eq(err.place, "period");
    s.period = 1;
    ck_assert_int_eq(psg_schedule_check(&s, NULL), 0);
    s.gamma = -1;
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_RANGE);
    s = (struct psg_schedule){ .kind = PSG_SCHEDULE_CONSTANT, .initial = (double)NAN };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_RANGE);
    s = (struct psg_schedule){ .kind = PSG_SCHEDULE_LIST, .period = 1 };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_RANGE);
    const double list[] = { 1, -1 };
    s.list = list;
    s.n_list = 2;
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_RANGE);
    s = (struct psg_schedule){ .kind = PSG_SCHEDULE_COSINE, .period = 1, .final = -1 };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_RANGE);
    s = (struct psg_schedule){ .kind = (enum psg_schedule_kind)77 };
    ck_assert_int_eq(psg_schedule_check(&s, NULL), PSG_E_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clip");
    TCase *tc = tcase_create("factors");
    tcase_add_test(tc, flat_factors_follow_the_formula);
    tcase_add_test(tc, automatic_factors_follow_the_formula);
    tcase_add_loop_test(tc, no_record_ever_exceeds_the_bound, 0, 4);
    tcase_add_test(tc, norms_that_are_not_finite_contribute_nothing_and_are_counted);
    tcase_add_test(tc, groups_are_clipped_apart);
    tcase_add_test(tc, bounds_that_are_no_bounds_are_refused);
    suite_add_tcase(suite, tc);
    TCase *adaptive_case = tcase_create("adaptive");
    tcase_add_test(adaptive_case, split_of_noise_keeps_the_whole_multiplier);
    tcase_add_test(adaptive_case, adaptive_bound_moves_by_the_formula);
    tcase_add_test(adaptive_case, adaptive_bound_finds_the_quantile_and_keeps_its_limits);
    tcase_add_test(adaptive_case, adaptive_settings_are_checked);
    suite_add_tcase(suite, adaptive_case);
    TCase *schedule_case = tcase_create("schedule");
    tcase_add_test(schedule_case, schedules_give_pytorchs_values);
    tcase_add_test(schedule_case, schedules_are_checked);
    suite_add_tcase(suite, schedule_case);
    return suite_run(suite);
}
