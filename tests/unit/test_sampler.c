/* Sampling of batches: exact thresholds, inclusion counts, independence, shuffles. The key
 * is fixed, so every statistic is a fixed number. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dp/chance.h"
#include "psg/dp.h"
#include "suite.h"

static struct psg_key test_key(void)
{
    struct psg_key key;
    psg_key_from_seed(31, &key);
    return key;
}

static long double chance_value(const struct psg_chance *c)
{
    return c->certain
               ? 1
               : ldexpl((long double)c->high, -32) + ldexpl((long double)c->low, -96);
}

START_TEST(a_double_becomes_an_exact_threshold)
{
    static const double p[] = { 0,    0.5,   0.25,    0.1,        1.0 / 3,
                                0.01, 1e-12, 0x1p-43, 1 - 0x1p-53 };
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        struct psg_chance c = chance_of_double(p[i]);
        ck_assert(!c.certain);
        ck_assert((double)chance_value(&c) == p[i]);
    }
    struct psg_chance half = chance_of_double(0.5), one = chance_of_double(1);
    ck_assert_uint_eq(half.high, 0x80000000u);
    ck_assert_uint_eq(half.low, 0);
    ck_assert(one.certain);
    struct psg_chance tiny = chance_of_double(0x1p-96), less = chance_of_double(0x1p-97);
    ck_assert_uint_eq(tiny.low, 1);
    ck_assert(less.high == 0 && less.low == 0 && !less.certain);
}
END_TEST

START_TEST(gap_digits_have_the_documented_chances)
{
    static const double q[] = { 0.03, 0.01, 1e-3, 1e-5, 1e-9, 1e-14, 0 };
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        struct psg_chance digit[32], beyond;
        chance_of_gap_digits(q[i], digit, &beyond);
        long double log_r = log1pl(-(long double)q[i]), none = 1 - chance_value(&beyond);
        for (int j = 0; j < 32; j++) {
            long double power = expl(ldexpl(log_r, j));
            long double expected = power / (1 + power), got = chance_value(&digit[j]);
            ck_assert(fabsl(got - expected) < 1e-18L);
            none *= 1 - got;
        }
        ck_assert(fabsl(chance_value(&beyond) - expl(ldexpl(log_r, 32))) < 1e-18L);
        /* the digits together: the gap is 0 with probability q */
        ck_assert(fabsl(none - (long double)q[i]) < 1e-18L);
    }
}
END_TEST

/* Counts of every record over many steps, against the binomial distribution. */
static void check_inclusion(int64_t n, double q, int steps)
{
    struct psg_key key = test_key();
    struct psg_poisson p;
    struct psg_batch batch = { 0 };
    ck_assert_int_eq(psg_poisson_init(&p, &key, n, q, NULL), 0);
    double *count = calloc((size_t)n, sizeof *count), total = 0, squares = 0;
    for (int step = 0; step < steps; step++) {
        ck_assert_int_eq(psg_poisson_draw(&p, (uint64_t)step, &batch, NULL), 0);
        for (int64_t i = 0; i < batch.n; i++) {
            ck_assert(batch.record[i] >= 0 && batch.record[i] < n);
            ck_assert(i == 0 || batch.record[i] > batch.record[i - 1]);
            count[batch.record[i]]++;
        }
        double size = (double)batch.n;
        total += size;
        squares += (size - (double)n * q) * (size - (double)n * q);
    }
    double coins = (double)n * steps, var = q * (1 - q);
    ck_assert_double_lt(fabs(total - coins * q) / sqrt(coins * var), 4);
    /* batch sizes are binomial: their variance is n q (1 - q) */
    double variance = squares / steps / ((double)n * var);
    ck_assert_double_lt(fabs(variance - 1) * sqrt(steps / 2.0), 4.5);
    /* and so are the counts of the records over the steps */
    double chi2 = 0;
    for (int64_t i = 0; i < n; i++)
        chi2 += (count[i] - steps * q) * (count[i] - steps * q) / (steps * var);
    ck_assert_double_lt(fabs(chi2 / (double)n - 1) * sqrt((double)n / 2), 4.5);
    free(count);
    psg_batch_free(&batch);
}

START_TEST(every_record_joins_with_probability_q)
{
    static const double q[] = { 0.5, 0.1, 0.0320, 0.0312, 0.01, 0.002 };
    check_inclusion(500, q[_i], 4000);
}
END_TEST

START_TEST(records_join_independently_of_each_other)
{
    /* Pairs at a distance: joint counts of (i, i + d) against q^2. */
    struct psg_key key = test_key();
    struct psg_poisson p;
    struct psg_batch batch = { 0 };
    enum { RECORDS = 20000, STEPS = 200, FAR = 64 };
    double q = _i ? 0.2 : 0.03, joint[FAR + 1] = { 0 };
    psg_poisson_init(&p, &key, RECORDS, q, NULL);
    for (int step = 0; step < STEPS; step++) {
        psg_poisson_draw(&p, (uint64_t)step, &batch, NULL);
        for (int64_t i = 0; i < batch.n; i++)
            for (int64_t j = i + 1; j < batch.n; j++) {
                int64_t d = batch.record[j] - batch.record[i];
                if (d > FAR)
                    break;
                joint[d]++;
            }
    }
    for (int d = 1; d <= FAR; d++) {
        double pairs = (double)STEPS * (RECORDS - d), expected = pairs * q * q;
        /* overlapping pairs raise the variance: 1 - q^2 + 2 (q - q^2) times expected */
        double sd = sqrt(expected * (1 - q * q + 2 * (q - q * q)));
        ck_assert_double_lt(fabs(joint[d] - expected) / sd, 4);
    }
    psg_batch_free(&batch);
}
END_TEST

START_TEST(steps_are_independent_and_repeat_under_the_same_key)
{
    struct psg_key key = test_key(), other;
    psg_key_from_seed(32, &other);
    struct psg_poisson p, p2;
    struct psg_batch a = { 0 }, b = { 0 };
    enum { RECORDS = 100000 };
    double q = _i ? 0.1 : 0.02;
    psg_poisson_init(&p, &key, RECORDS, q, NULL);
    psg_poisson_init(&p2, &other, RECORDS, q, NULL);
    psg_poisson_draw(&p, 5, &a, NULL);
    for (int round = 0; round < 3; round++) {
        psg_poisson_draw(round == 2 ? &p2 : &p, round == 1 ? 6 : 5, &b, NULL);
        if (round == 0) {
            ck_assert_int_eq(a.n, b.n);
            ck_assert_mem_eq(a.record, b.record, (size_t)a.n * sizeof *a.record);
            continue;
        }
        int64_t common = 0;
        for (int64_t i = 0, j = 0; i < a.n && j < b.n;) {
            common += a.record[i] == b.record[j];
            bool less = a.record[i] <= b.record[j];
            i += less;
            j += !less;
        }
        double expected = RECORDS * q * q;
        ck_assert_double_lt(fabs((double)common - expected) / sqrt(expected), 4);
    }
    psg_batch_free(&a);
    psg_batch_free(&b);
}
END_TEST

START_TEST(records_that_follow_change_nothing)
{
    struct psg_key key = test_key();
    struct psg_poisson few, many;
    struct psg_batch a = { 0 }, b = { 0 };
    double q = _i ? 0.3 : 0.005;
    psg_poisson_init(&few, &key, 3001, q, NULL);
    psg_poisson_init(&many, &key, 50000, q, NULL);
    psg_poisson_draw(&few, 9, &a, NULL);
    psg_poisson_draw(&many, 9, &b, NULL);
    ck_assert_int_gt(a.n, 0);
    ck_assert_int_gt(b.n, a.n);
    ck_assert_mem_eq(a.record, b.record, (size_t)a.n * sizeof *a.record);
    ck_assert_int_ge(b.record[a.n], 3001);
    psg_batch_free(&a);
    psg_batch_free(&b);
}
END_TEST

START_TEST(empty_batches_are_steps_too)
{
    struct psg_key key = test_key();
    struct psg_poisson p;
    struct psg_batch batch = { 0 };
    int empty = 0, steps = 20000;
    psg_poisson_init(&p, &key, 100, 0.01, NULL);
    for (int step = 0; step < steps; step++) {
        ck_assert_int_eq(psg_poisson_draw(&p, (uint64_t)step, &batch, NULL), 0);
        empty += batch.n == 0;
    }
    double expected = pow(0.99, 100);
    ck_assert_double_lt(
        fabs(empty - steps * expected) / sqrt(steps * expected * (1 - expected)), 4);
    psg_batch_free(&batch);
}
END_TEST

START_TEST(extreme_rates_and_sizes_are_true)
{
    struct psg_key key = test_key();
    struct psg_poisson p;
    struct psg_batch batch = { 0 };
    ck_assert_int_eq(psg_poisson_init(&p, &key, 2500, 1, NULL), 0);
    ck_assert_int_eq(psg_poisson_draw(&p, 0, &batch, NULL), 0);
    ck_assert_int_eq(batch.n, 2500);
    for (int64_t i = 0; i < 2500; i++)
        ck_assert_int_eq(batch.record[i], i);
    psg_poisson_init(&p, &key, INT64_C(1) << 32, 0, NULL);
    ck_assert_int_eq(psg_poisson_draw(&p, 0, &batch, NULL), 0);
    ck_assert_int_eq(batch.n, 0);
    psg_poisson_init(&p, &key, 0, 0.5, NULL);
    psg_poisson_draw(&p, 0, &batch, NULL);
    ck_assert_int_eq(batch.n, 0);
    psg_poisson_init(&p, &key, INT64_C(1) << 32, 1e-6, NULL);
    psg_poisson_draw(&p, 0, &batch, NULL);
    ck_assert_double_lt(fabs((double)batch.n - 4294.97) / 65.5, 4);
    ck_assert_int_eq(psg_poisson_init(&p, &key, 10, -0.1, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_poisson_init(&p, &key, 10, 1.1, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_poisson_init(&p, &key, 10, (double)NAN, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_poisson_init(&p, &key, -1, 0.1, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_poisson_init(&p, &key, (INT64_C(1) << 32) + 1, 0.1, NULL),
                     PSG_E_RANGE);
    ck_assert_int_eq(psg_poisson_draw(&p, UINT64_MAX, &batch, NULL), PSG_E_RANGE);
    psg_batch_free(&batch);
}
END_TEST

/* A threshold whose upper half equals the drawn word is decided by the lower half. */
START_TEST(ties_are_decided_by_further_bits)
{
    struct psg_key key = test_key();
    struct psg_poisson p;
    struct psg_batch batch = { 0 };
    uint32_t word;
    uint64_t low;
    psg_poisson_init(&p, &key, 1, 0.5, NULL);
    psg_rng_fill_u32(&key, PSG_RNG_SAMPLING, 3, 0, 0, 1, &word, NULL);
    psg_rng_fill_u64(&key, PSG_RNG_SAMPLING, 3, 1, 0, 1, &low, NULL);
    p.join = (struct psg_chance){ .high = word, .low = low };
    psg_poisson_draw(&p, 3, &batch, NULL);
    ck_assert_int_eq(batch.n, 0);
    p.join.low = low + 1;
    psg_poisson_draw(&p, 3, &batch, NULL);
    ck_assert_int_eq(batch.n, 1);
    p.join = (struct psg_chance){ .high = word + 1, .low = 0 };
    psg_poisson_draw(&p, 3, &batch, NULL);
    ck_assert_int_eq(batch.n, 1);
    p.join = (struct psg_chance){ .high = word - 1, .low = UINT64_MAX };
    psg_poisson_draw(&p, 3, &batch, NULL);
    ck_assert_int_eq(batch.n, 0);
    psg_batch_free(&batch);
}
END_TEST

START_TEST(an_epoch_of_shuffled_batches_holds_every_record_once)
{
    struct psg_key key = test_key();
    struct psg_shuffle *s;
    struct psg_batch batch = { 0 };
    ck_assert_int_eq(psg_shuffle_new(&key, 1003, 100, &s, NULL), 0);
    ck_assert_int_eq(psg_shuffle_steps_per_epoch(s), 11);
    bool seen[1003] = { false };
    for (uint64_t step = 22; step < 33; step++) {
        ck_assert_int_eq(psg_shuffle_draw(s, step, &batch, NULL), 0);
        ck_assert_int_eq(batch.n, step == 32 ? 3 : 100);
        for (int64_t i = 0; i < batch.n; i++) {
            ck_assert(!seen[batch.record[i]]);
            seen[batch.record[i]] = true;
        }
    }
    /* any step in any order, also from a fresh object */
    int64_t last[3];
    memcpy(last, batch.record, sizeof last);
    psg_shuffle_draw(s, 10, &batch, NULL);
    ck_assert_mem_ne(last, batch.record, sizeof last);
    s = psg_shuffle_free(s);
    ck_assert_int_eq(psg_shuffle_new(&key, 1003, 100, &s, NULL), 0);
    psg_shuffle_draw(s, 32, &batch, NULL);
    ck_assert_mem_eq(last, batch.record, sizeof last);
    s = psg_shuffle_free(s);
    psg_batch_free(&batch);
}
END_TEST

START_TEST(all_permutations_are_equally_likely)
{
    struct psg_key key = test_key();
    struct psg_shuffle *s;
    struct psg_batch batch = { 0 };
    enum { EPOCHS = 24000 };
    long count[256] = { 0 };
    ck_assert_int_eq(psg_shuffle_new(&key, 4, 4, &s, NULL), 0);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        psg_shuffle_draw(s, epoch, &batch, NULL);
        int code = 0;
        for (int i = 0; i < 4; i++)
            code = 4 * code + (int)batch.record[i];
        count[code]++;
    }
    double chi2 = 0;
    int kinds = 0;
    for (int c = 0; c < 256; c++)
        if (count[c]) {
            kinds++;
            chi2 += ((double)count[c] - 1000) * ((double)count[c] - 1000) / 1000;
        }
    ck_assert_int_eq(kinds, 24);
    ck_assert_double_lt(chi2, 49.7); /* 23 degrees of freedom, level 0.001 */
    s = psg_shuffle_free(s);
    psg_batch_free(&batch);
}
END_TEST

START_TEST(shuffles_of_odd_sizes)
{
    struct psg_key key = test_key();
    struct psg_shuffle *s = NULL;
    struct psg_batch batch = { 0 };
    ck_assert_int_eq(psg_shuffle_new(&key, 0, 8, &s, NULL), 0);
    ck_assert_int_eq(psg_shuffle_draw(s, 3, &batch, NULL), 0);
    ck_assert_int_eq(batch.n, 0);
    s = psg_shuffle_free(s);
    ck_assert_int_eq(psg_shuffle_new(&key, 5, INT64_MAX, &s, NULL), 0);
    ck_assert_int_eq(psg_shuffle_draw(s, 7, &batch, NULL), 0);
    ck_assert_int_eq(batch.n, 5);
    s = psg_shuffle_free(s);
    ck_assert_int_eq(psg_shuffle_new(&key, 5, 0, &s, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_shuffle_new(&key, -5, 1, &s, NULL), PSG_E_RANGE);
    ck_assert_ptr_null(psg_shuffle_free(NULL));
    psg_batch_free(&batch);
}
END_TEST

/* 20 records cut to 5, ten thousand times: each stays in a quarter of them, within 5 sigma, and
 * pairs stay together as often as without replacement. */
START_TEST(a_cut_batch_is_a_uniform_subset)
{
    struct psg_key key = test_key();
    struct psg_batch batch = { 0 };
    int count[20] = { 0 }, pairs = 0;
    enum { ROUNDS = 10000 };
    batch.record = calloc(20, sizeof *batch.record);
    batch.capacity = 20;
    for (uint64_t step = 0; step < ROUNDS; step++) {
        bool both[2] = { false };
        batch.n = 20;
        for (int i = 0; i < 20; i++)
            batch.record[i] = i;
        ck_assert_int_eq(psg_batch_truncate(&key, step, 5, &batch, NULL), 0);
        ck_assert_int_eq(batch.n, 5);
        for (int i = 0; i < 5; i++) {
            ck_assert(i == 0 || batch.record[i] > batch.record[i - 1]);
            count[batch.record[i]]++;
            both[0] |= batch.record[i] == 2;
            both[1] |= batch.record[i] == 3;
        }
        pairs += both[0] && both[1];
    }
    for (int i = 0; i < 20; i++)
        ck_assert_int_le(abs(count[i] - ROUNDS / 4), 5 * 44);
    ck_assert_int_le(abs(pairs - ROUNDS / 19), 5 * 23);
    ck_assert_int_eq(psg_batch_truncate(&key, 0, 5, &batch, NULL), 0);
    ck_assert_int_eq(batch.n, 5);
    ck_assert_int_eq(psg_batch_truncate(&key, 0, 0, &batch, NULL), PSG_E_RANGE);
    psg_batch_free(&batch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tc = tcase_create("sampler");
    tcase_add_test(tc, a_double_becomes_an_exact_threshold);
    tcase_add_test(tc, gap_digits_have_the_documented_chances);
    tcase_add_loop_test(tc, every_record_joins_with_probability_q, 0, 6);
    tcase_add_loop_test(tc, records_join_independently_of_each_other, 0, 2);
    tcase_add_loop_test(tc, steps_are_independent_and_repeat_under_the_same_key, 0, 2);
    tcase_add_loop_test(tc, records_that_follow_change_nothing, 0, 2);
    tcase_add_test(tc, empty_batches_are_steps_too);
    tcase_add_test(tc, extreme_rates_and_sizes_are_true);
    tcase_add_test(tc, ties_are_decided_by_further_bits);
    tcase_add_test(tc, an_epoch_of_shuffled_batches_holds_every_record_once);
    tcase_add_test(tc, all_permutations_are_equally_likely);
    tcase_add_test(tc, shuffles_of_odd_sizes);
    tcase_add_test(tc, a_cut_batch_is_a_uniform_subset);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
