/* Statistical tests of the noise of DP-SGD steps, Gaussian and discrete Gaussian: its distribution
 * and its independence across coordinates, steps, tensors and keys. Keys are fixed, so every
 * statistic is a fixed number; a limit is what a true source exceeds about once in a million keys.
 * Then the test of the tests: sources with a planted fault, each of which must be found. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "psg/dp.h"
#include "suite.h"

enum { N = 1 << 18, BINS = 64, LIMIT = 5 };

enum source { GAUSSIAN, DISCRETE };

enum fault {
    NOTHING,
    STEP_IGNORED,       /* the counter is reused in every step */
    TENSOR_IGNORED,     /* and in every tensor */
    KEY_IGNORED,
    COUNTERS_OVERLAP,   /* a step begins 16 coordinates into the one before */
    STEP_NEGATED,       /* every second step is minus the one before */
    VARIANCE_HALVED,
    MEAN_SHIFTED,       /* by 0.02 */
    TAIL_CUT,           /* at 4 standard deviations */
    TAIL_HEAVY,         /* one value in 500 three times as large */
    UNIFORM_SUM,        /* twelve uniform numbers for a normal one: a near miss */
    PERIODIC,           /* after 4096 coordinates */
    PAIRS_EQUAL_SIZE,   /* neighbours differ in their sign only */
    FEW_VALUES,         /* rounded to eighths */
    SCALE_SHARED,       /* one size for 256 coordinates: uncorrelated but dependent */
    N_FAULTS
};

static const char *const fault_name[] = {
    "nothing",           "step ignored",    "tensor ignored",  "key ignored",
    "counters overlap",  "step negated",    "variance halved", "mean shifted",
    "tail cut",          "tail heavy",      "sum of uniforms", "periodic",
    "pairs of one size", "few values",      "scale shared",
};

struct address {
    int key;
    uint64_t step;
    uint32_t tensor;
};

/* ---- sources: n values of standard deviation 1 ---- */

static void plain(enum source source, struct address at, int64_t first, int64_t n, double *out)
{
    struct psg_key key;
    struct psg_secure_noise plan;
    psg_real *v = calloc((size_t)n, sizeof *v);
    psg_key_from_seed(4000 + (uint64_t)at.key, &key);
    if (source == GAUSSIAN) {
        ck_assert_int_eq(psg_noise_fill(&key, at.step, at.tensor, first, n, 1, v, NULL), 0);
    } else {
        ck_assert_int_eq(psg_secure_noise_plan(1, 1, 1 << 20, 0, &plan, NULL), 0);
        ck_assert_int_eq(psg_secure_noise_add(&plan, &key, at.step, at.tensor, first, n, v, NULL),
                         0);
    }
    double unit = source == GAUSSIAN ? 1 : (double)plan.sigma * plan.grid;
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)v[i] / unit;
    free(v);
}

static double uniform(uint64_t x)
{
    x = (x + UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((x ^ (x >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static void draw(enum source source, enum fault fault, struct address at, int64_t n, double *out)
{
    struct address from = at;
    int64_t first = 0;
    from.step = fault == STEP_IGNORED || fault == COUNTERS_OVERLAP ? 0 : at.step;
    from.step -= fault == STEP_NEGATED ? at.step % 2 : 0;
    from.tensor = fault == TENSOR_IGNORED ? 0 : at.tensor;
    from.key = fault == KEY_IGNORED ? 0 : at.key;
    first = fault == COUNTERS_OVERLAP ? 16 * (int64_t)at.step : 0;
    plain(source, from, first, n, out);
    for (int64_t i = 0; i < n; i++) {
        double sum = -6;
        switch (fault) {
        case STEP_NEGATED: out[i] *= at.step % 2 ? -1 : 1; break;
        case VARIANCE_HALVED: out[i] *= sqrt(0.5); break;
        case MEAN_SHIFTED: out[i] += 0.02; break;
        case TAIL_CUT: out[i] = fmax(-4, fmin(4, out[i])); break;
        case TAIL_HEAVY: out[i] *= i % 500 ? 1 : 3; break;
        case UNIFORM_SUM:
            for (uint64_t k = 0; k < 12; k++)
                sum += uniform((((uint64_t)at.key * 64 + at.step) * 64 + at.tensor) << 40 |
                               (uint64_t)i << 4 | k);
            out[i] = sum;
            break;
        case PERIODIC: out[i] = out[i % 4096]; break;
        case PAIRS_EQUAL_SIZE: out[i] = i % 2 ? copysign(out[i - 1], out[i]) : out[i]; break;
        case FEW_VALUES: out[i] = round(out[i] * 8) / 8; break;
        case SCALE_SHARED: out[i] *= i / 256 % 2 ? sqrt(1.5) : sqrt(0.5); break;
        default: break;
        }
    }
}

/* ---- statistics: about standard normal under a true source ---- */

static double phi(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* mean, variance, skewness, kurtosis: E z^k and its variance are those of a normal number */
static double moments(const double *z)
{
    static const double mean[] = { 0, 1, 0, 3 }, variance[] = { 1, 2, 15, 96 };
    double sum[4] = { 0 }, worst = 0;
    for (int i = 0; i < N; i++) {
        sum[0] += z[i];
        sum[1] += z[i] * z[i];
        sum[2] += z[i] * z[i] * z[i];
        sum[3] += z[i] * z[i] * z[i] * z[i];
    }
    for (int k = 0; k < 4; k++)
        worst = fmax(worst, fabs(sum[k] / N - mean[k]) / sqrt(variance[k] / N));
    return worst;
}

/* the largest distance of the distribution functions; 1.95 / sqrt(N) has p = 1e-3, 2.69 p = 1e-6 */
static double kolmogorov_smirnov(const double *z)
{
    double *sorted = malloc(N * sizeof *sorted), d = 0;
    memcpy(sorted, z, N * sizeof *sorted);
    qsort(sorted, N, sizeof *sorted, compare);
    for (int i = 0; i < N; i++) {
        double f = phi(sorted[i]);
        d = fmax(d, fmax(f - (double)i / N, (double)(i + 1) / N - f));
    }
    free(sorted);
    return d * sqrt(N) * LIMIT / 2.69;
}

/* chi-square of equally likely bins, as a normal number by Wilson and Hilferty */
static double chi_square(const double *z)
{
    int64_t count[BINS] = { 0 };
    double x = 0, expected = (double)N / BINS, k = BINS - 1;
    for (int i = 0; i < N; i++) {
        int bin = (int)(phi(z[i]) * BINS);
        count[bin < BINS ? bin : BINS - 1]++;
    }
    for (int i = 0; i < BINS; i++)
        x += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    return (cbrt(x / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
}

/* values beyond 3 and 3.7 on both sides; a cut tail ends there, a heavy one has more */
static double tails(const double *z)
{
    double worst = 0;
    for (int t = 0; t < 2; t++) {
        double at = t ? 3.7 : 3, expected = 2 * N * phi(-at), n = 0;
        for (int i = 0; i < N; i++)
            n += fabs(z[i]) > at;
        worst = fmax(worst, fabs(n - expected) / sqrt(expected));
    }
    double largest = 0; /* P(all |z| < a) = (1 - 2 phi(-a))^N: 4.05 has e^-13.4 */
    for (int i = 0; i < N; i++)
        largest = fmax(largest, fabs(z[i]));
    return largest < 4.05 ? fmax(worst, LIMIT + 1) : worst;
}

/* correlation of x[i] and y[i + lag], of the values and of their squares */
static double correlation(const double *x, const double *y, int lag)
{
    double plain_sum = 0, square_sum = 0, n = N - lag;
    for (int i = 0; i + lag < N; i++) {
        plain_sum += x[i] * y[i + lag];
        square_sum += (x[i] * x[i] - 1) * (y[i + lag] * y[i + lag] - 1);
    }
    return fmax(fabs(plain_sum) / sqrt(n), fabs(square_sum) / (2 * sqrt(n)));
}

static double correlations(const double *x, const double *y)
{
    double worst = x == y ? 0 : correlation(x, y, 0);
    for (int lag = 1; lag <= 64; lag++) {
        worst = fmax(worst, correlation(x, y, lag));
        worst = x == y ? worst : fmax(worst, correlation(y, x, lag));
    }
    for (int lag = 128; lag <= N / 2; lag *= 2)
        worst = fmax(worst, correlation(x, y, lag));
    return worst;
}

/* values that occur more often than a fine grid allows */
static double repeats(const double *z)
{
    double *sorted = malloc(N * sizeof *sorted), n = 0;
    memcpy(sorted, z, N * sizeof *sorted);
    qsort(sorted, N, sizeof *sorted, compare);
    for (int i = 1; i < N; i++)
        n += sorted[i] == sorted[i - 1];
    free(sorted);
    return LIMIT * n / (N / 50.0); /* 2^-24 of spacing: N / 100 or so is what floats make */
}

/* ---- the battery ---- */

struct finding {
    char text[64]; /* the first that failed; "" none */
    double worst;  /* of those that held */
};

static void note(struct finding *f, const char *test, double value)
{
    if (fabs(value) <= LIMIT)
        f->worst = fmax(f->worst, fabs(value));
    else if (!f->text[0])
        snprintf(f->text, sizeof f->text, "%s %.1f", test, value);
}

static void battery(enum source source, enum fault fault, struct finding *f)
{
    static const struct address at[] = { { 0, 0, 0 }, { 0, 1, 0 }, { 0, 2, 0 },
                                         { 0, 0, 1 }, { 1, 0, 0 }, { 0, 1ull << 33, 0 } };
    static const char *const other[] = { "", "step + 1", "step + 2", "tensor + 1", "other key",
                                         "step + 2^33" };
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    *f = (struct finding){ .worst = 0 };
    draw(source, fault, at[0], N, x);
    note(f, "moments", moments(x));
    note(f, "Kolmogorov-Smirnov", kolmogorov_smirnov(x));
    note(f, "chi-square", chi_square(x));
    note(f, "tails", tails(x));
    note(f, "repeats", repeats(x));
    note(f, "coordinates", correlations(x, x));
    for (size_t i = 1; i < sizeof at / sizeof at[0] && !f->text[0]; i++) {
        draw(source, fault, at[i], N, y);
        note(f, other[i], correlations(x, y));
    }
    free(x);
    free(y);
}

START_TEST(noise_passes_every_test)
{
    struct finding f;
    battery(_i ? DISCRETE : GAUSSIAN, NOTHING, &f);
    printf("# %s: largest statistic %.2f of %d\n", _i ? "discrete Gaussian" : "Gaussian", f.worst,
           LIMIT);
    ck_assert_msg(!f.text[0], "%s", f.text);
}
END_TEST

START_TEST(every_planted_fault_is_found)
{
    struct finding f;
    enum fault fault = (enum fault)(1 + _i);
    battery(GAUSSIAN, fault, &f);
    printf("# %s: %s\n", fault_name[fault], f.text[0] ? f.text : "not found");
    ck_assert_msg(f.text[0], "%s", fault_name[fault]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("noise_battery");
    TCase *tc = tcase_create("noise_battery");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, noise_passes_every_test, 0, 2);
    tcase_add_loop_test(tc, every_planted_fault_is_found, 0, N_FAULTS - 1);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
