/* The discrete Gaussian: exact coins, its distribution against the exact probabilities, and
 * the grid with its raised sensitivity. The key is fixed, so every statistic is a fixed
 * number. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dp/chance.h"
#include "psg/dp.h"
#include "suite.h"

typedef unsigned __int128 u128;

static struct psg_key test_key(void)
{
    struct psg_key key;
    psg_key_from_seed(77, &key);
    return key;
}

/* Around the boundary the quick answer in double must give way to the exact one. */
START_TEST(coins_compare_exactly_at_the_boundary)
{
    static const uint64_t ratio[][2] = { { 1, 3 },
                                         { 2, 3 },
                                         { 1, 7 },
                                         { 123456789, 987654321 },
                                         { (1ull << 49) - 1, 1ull << 49 },
                                         { 1, (1ull << 51) + 1 },
                                         { (1ull << 62) - 57, (1ull << 63) - 25 } };
    for (size_t i = 0; i < sizeof ratio / sizeof ratio[0]; i++) {
        uint64_t n = ratio[i][0], d = ratio[i][1], rest = 0;
        uint64_t q = (uint64_t)(((u128)n << 64) / d), r = (uint64_t)(((u128)n << 64) % d);
        for (uint64_t off = 1; off < 1u << 20; off = 3 * off + 1) {
            if (q >= off)
                ck_assert_int_eq(chance_compare(q - off, n, d, &rest), 1);
            if (q <= UINT64_MAX - off)
                ck_assert_int_eq(chance_compare(q + off, n, d, &rest), 0);
        }
        ck_assert_int_eq(chance_compare(q, n, d, &rest), r ? -1 : 0);
        ck_assert_uint_eq(rest, r);
    }
    uint64_t rest;
    ck_assert_int_eq(chance_compare(0, 0, 5, &rest), 0);
    ck_assert_int_eq(chance_compare(UINT64_MAX, 5, 5, &rest), 1);
    ck_assert_int_eq(chance_compare(0, 5, 5, &rest), 1);
    ck_assert_int_eq(chance_compare((1ull << 63) - 1, 1, 2, &rest), 1);
    ck_assert_int_eq(chance_compare(1ull << 63, 1, 2, &rest), 0);
}
END_TEST

/* chi-square of the counts of every integer against exp(-z^2 / (2 sigma^2)) / normaliser */
START_TEST(small_sigmas_have_the_exact_probabilities)
{
    enum { N = 200000, FAR = 80 };
    static const int64_t sigmas[] = { 1, 2, 5, 13 };
    int64_t sigma = sigmas[_i];
    struct psg_key key = test_key();
    int64_t *z = malloc(N * sizeof *z);
    ck_assert_int_eq(
        psg_discrete_gaussian_fill(&key, 1, (uint32_t)_i, 0, N, sigma, z, NULL), 0);
    double count[2 * FAR + 1] = { 0 }, sum = 0, chi2 = 0, expected_left = N,
                           counted_left = N;
    for (int i = 0; i < N; i++) {
        ck_assert_int_le(llabs(z[i]), FAR);
        count[z[i] + FAR]++;
    }
    for (int k = -10 * FAR; k <= 10 * FAR; k++)
        sum += exp(-0.5 * k * k / (double)(sigma * sigma));
    int cells = 0;
    for (int k = -FAR; k <= FAR; k++) {
        double expected = N * exp(-0.5 * k * k / (double)(sigma * sigma)) / sum;
        if (expected < 20)
            continue;
        double off = count[k + FAR] - expected;
        chi2 += off * off / expected;
        expected_left -= expected;
        counted_left -= count[k + FAR];
        cells++;
    }
    ck_assert_double_lt(fabs(counted_left - expected_left), 5 * sqrt(expected_left) + 1);
    ck_assert_double_lt((chi2 - cells) / sqrt(2.0 * cells), 4);
    free(z);
}
END_TEST

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x / M_SQRT2);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

START_TEST(large_sigmas_look_like_the_gaussian)
{
    enum { N = 300000 };
    int64_t sigma = _i ? (INT64_C(1) << 25) : (INT64_C(1) << 23) + 12345;
    struct psg_key key = test_key();
    int64_t *z = malloc(N * sizeof *z);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, 9, 9, 0, N, sigma, z, NULL), 0);
    double m1 = 0, m2 = 0, m4 = 0, lag = 0, d = 0;
    long odd = 0;
    for (int i = 0; i < N; i++) {
        double x = (double)z[i] / (double)sigma;
        m1 += x;
        m2 += x * x;
        m4 += x * x * x * x;
        lag += i ? x * (double)z[i - 1] / (double)sigma : 0;
        odd += z[i] & 1;
    }
    double root = sqrt((double)N);
    ck_assert_double_lt(fabs(m1 / root), 4);
    ck_assert_double_lt(fabs(lag / root), 4);
    ck_assert_double_lt(fabs(m2 / N - 1) * root / sqrt(2.0), 4);
    ck_assert_double_lt(fabs(m4 / N - 3) * root / sqrt(96.0), 4);
    ck_assert_double_lt(fabs((double)odd - N / 2.0) / (root / 2), 4);
    qsort(z, N, sizeof *z, compare);
    for (int i = 0; i < N; i++) {
        double f = normal_cdf((double)z[i] / (double)sigma);
        d = fmax(d, fmax(f - (double)i / N, (double)(i + 1) / N - f));
    }
    ck_assert_double_lt(d * root, 1.95); /* Kolmogorov-Smirnov, level 0.001 */
    free(z);
}
END_TEST

START_TEST(any_range_equals_the_same_part_of_the_whole)
{
    enum { N = 700 };
    struct psg_key key = test_key();
    int64_t whole[N], part[N];
    psg_discrete_gaussian_fill(&key, 2, 3, 0, N, 1000, whole, NULL);
    for (int64_t first = 0; first < N; first += 1 + first / 2)
        for (int64_t n = 0; n <= N - first; n = 2 * n + 1) {
            psg_discrete_gaussian_fill(&key, 2, 3, first, n, 1000, part, NULL);
            ck_assert_int_eq(memcmp(part, whole + first, (size_t)n * sizeof *part), 0);
        }
    psg_discrete_gaussian_fill(&key, 2, 4, 0, N, 1000, part, NULL);
    ck_assert_mem_ne(part, whole, sizeof whole);
    psg_discrete_gaussian_fill(&key, 3, 3, 0, N, 1000, part, NULL);
    ck_assert_mem_ne(part, whole, sizeof whole);
}
END_TEST

START_TEST(the_plan_covers_rounding_and_keeps_the_multiplier)
{
    static const double c[] = { 1, 0.1, 3.7, 1e-6, 1e5 }, s[] = { 0.3, 1, 1.1, 50 };
    static const int64_t p[] = { 1, 26010, 605226, 100000000 };
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 4; k++) {
                struct psg_secure_noise plan;
                double err = k == 1 ? 0.01 * c[i] : 0;
                ck_assert_int_eq(psg_secure_noise_plan(c[i], s[j], p[k], err, &plan, NULL),
                                 0);
                int e;
                ck_assert(frexp(plan.grid, &e) == 0.5);
                long double raised = (long double)c[i] + 2.0L * (long double)err +
                                     (long double)plan.grid * sqrtl((long double)p[k]);
                ck_assert((long double)plan.sensitivity >= raised);
                ck_assert((long double)plan.sigma * (long double)plan.grid >=
                          (long double)s[j] * raised);
                ck_assert((long double)plan.sigma * (long double)plan.grid <=
                          (long double)s[j] * raised * 1.0000003L);
                ck_assert_int_ge(plan.sigma, 1 << 23);
                ck_assert_double_le(plan.sensitivity / (c[i] + 2 * err),
                                    1 + 1.01 * s[j] * sqrt((double)p[k]) * 0x1p-23);
            }
}
END_TEST

START_TEST(sums_come_back_on_the_grid_with_the_documented_noise)
{
    enum { N = 3000 };
    struct psg_key key = test_key();
    struct psg_secure_noise plan;
    ck_assert_int_eq(psg_secure_noise_plan(1, 1.1, N, 0, &plan, NULL), 0);
    static psg_real sum[N], before[N], part[N];
    static int64_t z[N];
    for (int i = 0; i < N; i++)
        sum[i] = before[i] = (psg_real)(3 * sin(i));
    sum[5] = (psg_real)NAN;
    sum[6] = (psg_real)INFINITY;
    memcpy(part, sum, sizeof sum);
    ck_assert_int_eq(psg_secure_noise_add(&plan, &key, 4, 1, 0, N, sum, NULL), 0);
    psg_discrete_gaussian_fill(&key, 4, 1, 0, N, plan.sigma, z, NULL);
    before[5] = 0;
    for (int i = 0; i < N; i++) {
        if (i == 6)
            continue;
        double exact = rint((double)before[i] / plan.grid) + (double)z[i];
        ck_assert(sum[i] == (psg_real)(exact * plan.grid));
    }
    ck_assert(isfinite(sum[6]) && sum[6] > 0);
    ck_assert_int_eq(psg_secure_noise_add(&plan, &key, 4, 1, 0, 1111, part, NULL), 0);
    ck_assert_int_eq(
        psg_secure_noise_add(&plan, &key, 4, 1, 1111, N - 1111, part + 1111, NULL), 0);
    ck_assert_mem_eq(part, sum, sizeof sum);
}
END_TEST

START_TEST(impossible_requests_are_refused)
{
    struct psg_key key = test_key();
    struct psg_secure_noise plan;
    int64_t z;
    ck_assert_int_eq(psg_secure_noise_plan(0, 1, 1, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1, 0, 1, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1, (double)NAN, 1, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1, 1, 0, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1, 1, 1, -1, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1e-305, 1e-3, 1, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_secure_noise_plan(1, 1e8, INT64_MAX, 0, &plan, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, 0, 0, 0, 1, 0, &z, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, 0, 0, 0, 1, 1 << 26, &z, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, 0, 0, -1, 1, 1, &z, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, 0, 0, 0, INT64_MAX, 1, &z, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_discrete_gaussian_fill(&key, UINT64_MAX, 0, 0, 1, 1, &z, NULL),
                     PSG_E_RANGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("secure_noise");
    TCase *tc = tcase_create("secure_noise");
    tcase_add_test(tc, coins_compare_exactly_at_the_boundary);
    tcase_add_loop_test(tc, small_sigmas_have_the_exact_probabilities, 0, 4);
    tcase_add_loop_test(tc, large_sigmas_look_like_the_gaussian, 0, 2);
    tcase_add_test(tc, any_range_equals_the_same_part_of_the_whole);
    tcase_add_test(tc, the_plan_covers_rounding_and_keeps_the_multiplier);
    tcase_add_test(tc, sums_come_back_on_the_grid_with_the_documented_noise);
    tcase_add_test(tc, impossible_requests_are_refused);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
