/* The random streams: same bytes as RFC 8439, addresses, sub-ranges, limits, uniformity. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "psg/rng.h"
#include "suite.h"

enum { N = 4096 };

static struct psg_key test_key(void)
{
    struct psg_key key;
    psg_key_from_seed(7, &key);
    return key;
}

/* RFC 8439, appendix A.1, test vector 1 and 2: zero key and nonce, blocks 0 and 1. */
START_TEST(bytes_are_chacha20_of_rfc_8439)
{
    static const uint32_t block0[16] = { 0xade0b876, 0x903df1a0, 0xe56a5d40, 0x28bd8653,
                                         0xb819d2bd, 0x1aed8da0, 0xccef36a8, 0xc70d778b,
                                         0x7c5941da, 0x8d485751, 0x3fe02477, 0x374ad8b8,
                                         0xf4b8436a, 0x1ca11815, 0x69b687c3, 0x8665eeb2 };
    static const uint32_t block1[2] = { 0xbee7079f, 0x7a385155 };
    struct psg_key zero = { { 0 } };
    uint32_t out[32];
    ck_assert_int_eq(
        psg_rng_fill_u32(&zero, (enum psg_rng_purpose)0, 0, 0, 0, 32, out, NULL), 0);
    ck_assert_mem_eq(out, block0, sizeof block0);
    ck_assert_mem_eq(out + 16, block1, sizeof block1);
}
END_TEST

/* RFC 8439, section 2.3.2: key 00..1f, nonce 00 00 00 09 00 00 00 4a 00 00 00 00,
 * counter 1. */
START_TEST(address_is_written_into_the_nonce_as_documented)
{
    struct psg_key key;
    for (int i = 0; i < 32; i++)
        key.bytes[i] = (uint8_t)i;
    /* purpose = bytes 0-1, tensor = bytes 2-5, step = bytes 6-11, little-endian */
    uint32_t tensor = 0x00000900;
    uint64_t step = UINT64_C(0x4a) << 8;
    uint32_t out[2];
    ck_assert_int_eq(
        psg_rng_fill_u32(&key, (enum psg_rng_purpose)0, step, tensor, 16, 2, out, NULL), 0);
    ck_assert_uint_eq(out[0], 0xe4e7f110);
    ck_assert_uint_eq(out[1], 0x15593bd1);
}
END_TEST

START_TEST(any_sub_range_equals_the_whole)
{
    struct psg_key key = test_key();
    static uint32_t whole[N], part[N];
    static uint64_t whole64[N], part64[N];
    static double u[N], v[N];
    ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_DROPOUT, 3, 2, 0, N, whole, NULL), 0);
    ck_assert_int_eq(psg_rng_fill_u64(&key, PSG_RNG_DROPOUT, 3, 2, 0, N, whole64, NULL), 0);
    ck_assert_int_eq(psg_rng_fill_uniform(&key, PSG_RNG_DROPOUT, 3, 2, 0, N, u, NULL), 0);
    static const int64_t range[][2] = { { 0, 1 },    { 15, 2 },     { 16, 16 },
                                        { 1, 4095 }, { 7, 1000 },   { 4095, 1 },
                                        { 100, 0 },  { 33, 31 },    { 8, 8 },
                                        { 3, 2048 }, { 2047, 2049 } };
    for (size_t r = 0; r < sizeof range / sizeof range[0]; r++) {
        int64_t first = range[r][0], n = range[r][1];
        psg_rng_fill_u32(&key, PSG_RNG_DROPOUT, 3, 2, first, n, part, NULL);
        ck_assert_int_eq(memcmp(part, whole + first, (size_t)n * 4), 0);
        psg_rng_fill_u64(&key, PSG_RNG_DROPOUT, 3, 2, first, n, part64, NULL);
        ck_assert_int_eq(memcmp(part64, whole64 + first, (size_t)n * 8), 0);
        psg_rng_fill_uniform(&key, PSG_RNG_DROPOUT, 3, 2, first, n, v, NULL);
        ck_assert_int_eq(memcmp(v, u + first, (size_t)n * 8), 0);
    }
}
END_TEST

START_TEST(u64_is_two_u32_of_the_same_stream)
{
    struct psg_key key = test_key();
    uint32_t narrow[8];
    uint64_t wide[4];
    psg_rng_fill_u32(&key, PSG_RNG_INIT, 1, 1, 10, 8, narrow, NULL);
    psg_rng_fill_u64(&key, PSG_RNG_INIT, 1, 1, 5, 4, wide, NULL);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(wide[i], narrow[2 * i] | (uint64_t)narrow[2 * i + 1] << 32);
}
END_TEST

/* Fraction of equal bits of two arrays, as a z-score against one half. */
static double agreement(const uint32_t *a, const uint32_t *b)
{
    long same = 0;
    for (int i = 0; i < N; i++)
        same += __builtin_popcount(~(a[i] ^ b[i]));
    double bits = 32.0 * N;
    return ((double)same - bits / 2) / sqrt(bits / 4);
}

START_TEST(streams_of_different_addresses_are_unrelated)
{
    struct psg_key key = test_key(), other;
    psg_key_from_seed(8, &other);
    static uint32_t s[6][N];
    psg_rng_fill_u32(&key, PSG_RNG_NOISE, 1, 1, 0, N, s[0], NULL);
    psg_rng_fill_u32(&key, PSG_RNG_TELEMETRY, 1, 1, 0, N, s[1], NULL);
    psg_rng_fill_u32(&key, PSG_RNG_NOISE, 2, 1, 0, N, s[2], NULL);
    psg_rng_fill_u32(&key, PSG_RNG_NOISE, 1, 2, 0, N, s[3], NULL);
    psg_rng_fill_u32(&other, PSG_RNG_NOISE, 1, 1, 0, N, s[4], NULL);
    psg_rng_fill_u32(&key, PSG_RNG_NOISE, UINT64_C(1) << 40, 1, 0, N, s[5], NULL);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++)
            ck_assert_double_lt(fabs(agreement(s[i], s[j])), 4.5);
}
END_TEST

START_TEST(addresses_outside_of_the_layout_are_refused)
{
    struct psg_key key = test_key();
    struct psg_error err;
    uint32_t out[2] = { 5, 5 };
    uint64_t wide;
    double u;
    int64_t end32 = INT64_C(1) << 36, end64 = INT64_C(1) << 35;
    ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 0, 0, end32 - 1, 1, out, &err),
                     0);
    out[0] = 5;
    ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 0, 0, end32 - 1, 2, out, &err),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 0, 0, -1, 1, out, &err),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 0, 0, 0, -1, out, &err),
                     PSG_E_RANGE);
    ck_assert_int_eq(
        psg_rng_fill_u32(&key, PSG_RNG_USER, PSG_RNG_MAX_STEP + 1, 0, 0, 1, out, &err),
        PSG_E_RANGE);
    ck_assert_int_eq(psg_rng_fill_u64(&key, PSG_RNG_USER, 0, 0, end64, 1, &wide, &err),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_rng_fill_u64(&key, PSG_RNG_USER, 0, 0, 1, INT64_MAX, &wide, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_rng_fill_uniform(&key, PSG_RNG_USER, 0, 0, end64, 1, &u, NULL),
                     PSG_E_RANGE);
    ck_assert_uint_eq(out[0], 5);
}
END_TEST

START_TEST(uniforms_fill_the_open_interval_evenly)
{
    struct psg_key key = test_key();
    enum { CELLS = 64, DRAWS = 1 << 18 };
    static double u[DRAWS];
    static long count[CELLS];
    psg_rng_fill_uniform(&key, PSG_RNG_USER, 0, 0, 0, DRAWS, u, NULL);
    double sum = 0;
    for (int i = 0; i < DRAWS; i++) {
        ck_assert(u[i] > 0 && u[i] < 1);
        sum += u[i];
        count[(int)(u[i] * CELLS)]++;
    }
    double chi2 = 0, expected = (double)DRAWS / CELLS;
    for (int c = 0; c < CELLS; c++)
        chi2 += ((double)count[c] - expected) * ((double)count[c] - expected) / expected;
    /* 63 degrees of freedom: mean 63, standard deviation 11.2 */
    ck_assert_double_lt(fabs(chi2 - 63), 4.5 * 11.3);
    ck_assert_double_lt(fabs(sum / DRAWS - 0.5) * sqrt(12.0 * DRAWS), 4.5);
}
END_TEST

START_TEST(reals_are_exact_multiples_inside_the_open_interval)
{
    struct psg_key key = test_key();
    static psg_real u[N];
    static uint32_t bits[N];
    ck_assert_int_eq(psg_rng_fill_real(&key, PSG_RNG_DROPOUT, 5, 1, 3, N, u, NULL), 0);
    psg_rng_fill_u32(&key, PSG_RNG_DROPOUT, 5, 1, 3, N, bits, NULL);
    for (int i = 0; i < N; i++) {
        ck_assert(u[i] > 0 && u[i] < 1);
        ck_assert(ldexp((double)u[i], 24) == 2 * (double)(bits[i] >> 9) + 1);
    }
}
END_TEST

START_TEST(keys_differ_repeat_and_can_be_wiped)
{
    struct psg_key a, b, c, zero = { { 0 } };
    ck_assert_int_eq(psg_key_random(&a, NULL), 0);
    ck_assert_int_eq(psg_key_random(&b, NULL), 0);
    ck_assert_mem_ne(&a, &b, sizeof a);
    psg_key_from_seed(1, &b);
    psg_key_from_seed(1, &c);
    ck_assert_mem_eq(&b, &c, sizeof b);
    psg_key_from_seed(2, &c);
    ck_assert_mem_ne(&b, &c, sizeof b);
    psg_key_wipe(&a);
    ck_assert_mem_eq(&a, &zero, sizeof a);
    psg_key_wipe(NULL);
}
END_TEST

/* long runs come from other code than short ones */
START_TEST(long_and_short_draws_agree)
{
    enum { LONG = 16 * 16 * 5 + 7, SHORT = 100 };
    struct psg_key key;
    uint32_t all[LONG], part[SHORT];
    psg_key_from_seed(21, &key);
    const int64_t starts[] = { 0, 5, 16, INT64_C(1) << 20, (INT64_C(1) << 36) - LONG };
    for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++) {
        ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 77, 3, starts[k], LONG, all, NULL), 0);
        for (int64_t at = 0; at < LONG; at += SHORT) {
            int64_t n = LONG - at < SHORT ? LONG - at : SHORT;
            ck_assert_int_eq(psg_rng_fill_u32(&key, PSG_RNG_USER, 77, 3, starts[k] + at, n, part,
                                              NULL),
                             0);
            ck_assert_mem_eq(part, all + at, (size_t)n * sizeof *part);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rng");
    TCase *tc = tcase_create("rng");
    tcase_add_test(tc, long_and_short_draws_agree);
    tcase_add_test(tc, bytes_are_chacha20_of_rfc_8439);
    tcase_add_test(tc, address_is_written_into_the_nonce_as_documented);
    tcase_add_test(tc, any_sub_range_equals_the_whole);
    tcase_add_test(tc, u64_is_two_u32_of_the_same_stream);
    tcase_add_test(tc, streams_of_different_addresses_are_unrelated);
    tcase_add_test(tc, addresses_outside_of_the_layout_are_refused);
    tcase_add_test(tc, uniforms_fill_the_open_interval_evenly);
    tcase_add_test(tc, reals_are_exact_multiples_inside_the_open_interval);
    tcase_add_test(tc, keys_differ_repeat_and_can_be_wiped);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
