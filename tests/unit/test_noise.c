/* Normal numbers: against Box-Muller in double from the same words, as a distribution, and
 * as a function of the address. The key is fixed, so every statistic is a fixed number. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "psg/dp.h"
#include "suite.h"

enum { N = 1 << 20 };

static struct psg_key test_key(void)
{
    struct psg_key key;
    psg_key_from_seed(20, &key);
    return key;
}

static float *draw(const struct psg_key *key, uint64_t step, uint32_t tensor, int64_t n)
{
    float *z = malloc((size_t)n * sizeof *z);
    ck_assert_ptr_nonnull(z);
    ck_assert_int_eq(psg_normal_fill(key, PSG_RNG_NOISE, step, tensor, 0, n, z, NULL), 0);
    return z;
}

START_TEST(values_are_box_muller_of_the_documented_words)
{
    struct psg_key key = test_key();
    float *z = draw(&key, 4, 9, N);
    uint32_t *w = malloc(N * sizeof *w), *tail = malloc(N / 2 * sizeof *tail);
    psg_rng_fill_u32(&key, PSG_RNG_NOISE, 4, 9, 0, N, w, NULL);
    psg_rng_fill_u32(&key, PSG_RNG_NOISE_TAIL, 4, 9, 0, N / 2, tail, NULL);
    int refined = 0;
    double worst = 0;
    for (int i = 0; i < N; i++) {
        int block = i / 16, j = i % 16 % 8;
        uint32_t rad = w[16 * block + j], ang = w[16 * block + j + 8];
        long double u = ((long double)(rad >> 1) + 0.5L) * 0x1p-31L;
        if (rad < 1u << 20) {
            u = ((long double)(rad >> 1) * 0x1p32L + tail[8 * block + j] + 0.5L) * 0x1p-63L;
            refined++;
        }
        long double t = 2 * M_PIl * ((long double)ang + 0.5L) * 0x1p-32L;
        long double r = sqrtl(-2 * logl(u));
        double exact = (double)(r * (i % 16 < 8 ? cosl(t) : sinl(t)));
        double off = fabs((double)z[i] - exact) / (double)r;
        worst = off > worst ? off : worst;
    }
    ck_assert_int_gt(refined, 100);
    ck_assert_double_lt(worst, 5e-7);
    free(z);
    free(w);
    free(tail);
}
END_TEST

START_TEST(first_values_never_change)
{
    /* The same bits on every machine: a change here breaks resumed jobs and other devices.
     */
    struct psg_key key = test_key();
    float z[16];
    psg_normal_fill(&key, PSG_RNG_NOISE, 1, 2, 0, 16, z, NULL);
    uint32_t bits[16];
    memcpy(bits, z, sizeof bits);
    static const uint32_t golden[16] = { 0xbf0a165f, 0xbf66a3fa, 0x3f023db4, 0x3ea056c0,
                                         0xbd9f0017, 0xbf1dea29, 0xbe8e69c8, 0x3fb973dc,
                                         0x3e2003b9, 0xc013587d, 0xbdfecda9, 0x3cfb32d1,
                                         0x3e0d85da, 0xbf4b08d5, 0xbfd41bc9, 0x3f0a1a65 };
    for (int i = 0; i < 16; i++)
        ck_assert_uint_eq(bits[i], golden[i]);
}
END_TEST

START_TEST(moments_are_those_of_a_standard_normal)
{
    struct psg_key key = test_key();
    float *z = draw(&key, 0, 0, N);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int i = 0; i < N; i++) {
        double x = (double)z[i];
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
    }
    /* variances of x, x^2, x^3, x^4: 1, 2, 15, 96 */
    double root = sqrt((double)N);
    ck_assert_double_lt(fabs(m1 / N) * root, 4);
    ck_assert_double_lt(fabs(m2 / N - 1) * root / sqrt(2.0), 4);
    ck_assert_double_lt(fabs(m3 / N) * root / sqrt(15.0), 4);
    ck_assert_double_lt(fabs(m4 / N - 3) * root / sqrt(96.0), 4);
    free(z);
}
END_TEST

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x / M_SQRT2);
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

START_TEST(kolmogorov_smirnov_finds_no_difference)
{
    struct psg_key key = test_key();
    for (uint64_t step = 0; step < 3; step++) {
        float *z = draw(&key, step, 7, N);
        qsort(z, N, sizeof *z, compare);
        double d = 0;
        for (int i = 0; i < N; i++) {
            double f = normal_cdf((double)z[i]);
            d = fmax(d, fmax(f - (double)i / N, (double)(i + 1) / N - f));
        }
        ck_assert_double_lt(d * sqrt((double)N), 1.95); /* level 0.001 */
        free(z);
    }
}
END_TEST

/* Counts beyond 2, 2.5, ... 4.5 on both sides, over 2^24 values. */
START_TEST(tails_hold_as_many_values_as_they_should)
{
    enum { CELLS = 6, ROUNDS = 16 };
    struct psg_key key = test_key();
    double count[2][CELLS] = { { 0 } };
    for (int round = 0; round < ROUNDS; round++) {
        float *z = draw(&key, 100, (uint32_t)round, N);
        for (int i = 0; i < N; i++) {
            int cell = (int)((fabsf(z[i]) - 2) * 2);
            if (fabsf(z[i]) >= 2)
                count[z[i] > 0][cell < CELLS ? cell : CELLS - 1]++;
        }
        free(z);
    }
    double chi2 = 0;
    for (int c = 0; c < CELLS; c++) {
        double lo = 2 + 0.5 * c, total = (double)ROUNDS * N;
        double expected =
            total * (normal_cdf(-lo) - (c == CELLS - 1 ? 0 : normal_cdf(-lo - 0.5)));
        for (int side = 0; side < 2; side++)
            chi2 += (count[side][c] - expected) * (count[side][c] - expected) / expected;
    }
    ck_assert_double_lt(chi2, 32.9); /* 12 degrees of freedom, level 0.001 */
}
END_TEST

static double correlation(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum / sqrt((double)n);
}

START_TEST(noise_of_different_addresses_is_independent)
{
    struct psg_key key = test_key();
    enum { M = 1 << 18 };
    float *z[5];
    z[0] = draw(&key, 5, 5, M + 16);
    z[1] = draw(&key, 6, 5, M);
    z[2] = draw(&key, 5, 6, M);
    z[3] = malloc(M * sizeof(float));
    z[4] = malloc(M * sizeof(float));
    psg_normal_fill(&key, PSG_RNG_TELEMETRY, 5, 5, 0, M, z[3], NULL);
    psg_normal_fill(&key, PSG_RNG_ADAPTIVE_CLIP, 5, 5, 0, M, z[4], NULL);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            ck_assert_double_lt(fabs(correlation(z[i], z[j], M)), 4);
    for (int lag = 1; lag <= 16; lag++) /* 8: the two values of a pair */
        ck_assert_double_lt(fabs(correlation(z[0], z[0] + lag, M)), 4);
    float *sq = malloc((M + 16) * sizeof *sq);
    for (int i = 0; i < M + 16; i++)
        sq[i] = z[0][i] * z[0][i] - 1;
    for (int lag = 1; lag <= 16; lag++)
        ck_assert_double_lt(fabs(correlation(sq, sq + lag, M)) / 2, 4);
    free(sq);
    for (int i = 0; i < 5; i++)
        free(z[i]);
}
END_TEST

START_TEST(any_range_equals_the_same_part_of_the_whole)
{
    struct psg_key key = test_key();
    enum { M = 5000 };
    static psg_real whole[M], part[M];
    ck_assert_int_eq(psg_noise_fill(&key, 8, 1, 0, M, 2.5, whole, NULL), 0);
    for (int64_t first = 0; first < M; first += 1 + first / 3)
        for (int64_t n = 0; n <= M - first; n = 2 * n + 1) {
            psg_noise_fill(&key, 8, 1, first, n, 2.5, part, NULL);
            ck_assert_int_eq(memcmp(part, whole + first, (size_t)n * sizeof *part), 0);
        }
    int64_t far = (INT64_C(1) << 36) - 10;
    ck_assert_int_eq(psg_noise_fill(&key, 8, 1, far, 10, 1, part, NULL), 0);
    ck_assert_int_eq(psg_noise_fill(&key, 8, 1, far + 5, 5, 1, whole, NULL), 0);
    ck_assert_mem_eq(part + 5, whole, 5 * sizeof *part);
}
END_TEST

START_TEST(add_adds_what_fill_writes)
{
    struct psg_key key = test_key();
    enum { M = 3000 };
    static psg_real noise[M], sum[M];
    for (int i = 0; i < M; i++)
        sum[i] = (psg_real)i;
    psg_noise_fill(&key, 3, 3, 100, M, 0.75, noise, NULL);
    ck_assert_int_eq(psg_noise_add(&key, 3, 3, 100, M, 0.75, sum, NULL), 0);
    for (int i = 0; i < M; i++)
        ck_assert(sum[i] == (psg_real)i + noise[i]);
    ck_assert_int_eq(psg_noise_fill(&key, 3, 3, 0, M, 0, noise, NULL), 0);
    for (int i = 0; i < M; i++)
        ck_assert(noise[i] == 0);
}
END_TEST

START_TEST(impossible_requests_are_refused)
{
    struct psg_key key = test_key();
    psg_real x = 3;
    float z;
    struct psg_error err;
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, 0, 1, -1, &x, &err), PSG_E_RANGE);
    ck_assert_str_eq(err.place, "stddev");
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, 0, 1, (double)NAN, &x, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, 0, 1, (double)INFINITY, &x, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, -1, 1, 1, &x, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, INT64_MAX, 1, 1, &x, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_noise_add(&key, 0, 0, 0, INT64_MAX, 1, &x, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_noise_add(&key, UINT64_MAX, 0, 0, 1, 1, &x, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_normal_fill(&key, PSG_RNG_INIT, 0, 0, 0, 1, &z, NULL),
                     PSG_E_INVALID);
    ck_assert(x == 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("noise");
    TCase *tc = tcase_create("noise");
    tcase_add_test(tc, values_are_box_muller_of_the_documented_words);
    tcase_add_test(tc, first_values_never_change);
    tcase_add_test(tc, moments_are_those_of_a_standard_normal);
    tcase_add_test(tc, kolmogorov_smirnov_finds_no_difference);
    tcase_add_test(tc, tails_hold_as_many_values_as_they_should);
    tcase_add_test(tc, noise_of_different_addresses_is_independent);
    tcase_add_test(tc, any_range_equals_the_same_part_of_the_whole);
    tcase_add_test(tc, add_adds_what_fill_writes);
    tcase_add_test(tc, impossible_requests_are_refused);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
