/* bf16 in every backend and every version of its kernels, bit for bit against arithmetic on
 * numbers: all 65,536 bf16 values, what lies around the middle between two of them, and random
 * bit patterns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "buffers.h"
#include "psg/backend.h"
#include "suite.h"

enum { VALUES = 1 << 16, NEAR = 7, RANDOM = 1 << 18 };

static const struct psg_backend *backend_at(int i)
{
    return i == 0 ? psg_backend_ref() : cpu_backend_version(i - 1);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* sign, exponent and fraction taken apart */
static double number_of(uint16_t h)
{
    int exponent = h >> 7 & 0xff, fraction = h & 0x7f;
    double m = exponent == 0 ? ldexp(fraction, -133) : ldexp(128 + fraction, exponent - 134);
    if (exponent == 0xff)
        m = fraction ? (double)NAN : (double)INFINITY;
    return h & 0x8000 ? -m : m;
}

/* The nearest multiple of the spacing of bf16 numbers at x; nearbyint takes even at ties. */
static double nearest(float x)
{
    int e;
    if (x == 0 || !isfinite(x))
        return (double)x;
    frexp((double)x, &e);
    double step = ldexp(1, (e < -125 ? -125 : e) - 8), r = nearbyint((double)x / step) * step;
    return fabs(r) >= ldexp(1, 128) ? copysign((double)INFINITY, r) : r;
}

static void check(const struct psg_backend *be, int64_t n, const float *from)
{
    psg_real *x = calloc((size_t)n, sizeof *x), *back = calloc((size_t)n, sizeof *back);
    uint16_t *h = calloc((size_t)n + 2, sizeof *h);
    ck_assert(x && back && h);
    for (int64_t i = 0; i < n; i++)
        x[i] = (psg_real)from[i];
    h[0] = h[n + 1] = 0xc5c5;
    be->narrow(n, x, h + 1);
    ck_assert(h[0] == 0xc5c5 && h[n + 1] == 0xc5c5);
    be->widen(n, h + 1, back);
    be->unary(PSG_BF16, n, x, x);
    for (int64_t i = 0; i < n; i++) {
        double want = nearest(from[i]);
        bool same = isnan(want) ? isnan(back[i]) && isnan(x[i])
                                : (double)back[i] == want && (double)x[i] == want;
        ck_assert_msg(same && !signbit(back[i]) == !signbit(from[i]),
                      "%s: %a became %a, %a in place, instead of %a", be->name,
                      (double)from[i], (double)back[i], (double)x[i], want);
    }
    free(x);
    free(back);
    free(h);
}

START_TEST(every_bf16_comes_back)
{
    const struct psg_backend *be = backend_at(_i);
    uint16_t *h = calloc(VALUES, sizeof *h), *again = calloc(VALUES, sizeof *again);
    psg_real *x = calloc(VALUES, sizeof *x);
    ck_assert(h && again && x);
    for (int i = 0; i < VALUES; i++)
        h[i] = (uint16_t)i;
    be->widen(VALUES, h, x);
    be->narrow(VALUES, x, again);
    for (int i = 0; i < VALUES; i++) {
        double want = number_of(h[i]);
        ck_assert_msg(isnan(want) ? isnan(x[i]) : (double)x[i] == want, "%04x is %a", i,
                      (double)x[i]);
        ck_assert_msg(again[i] == (isnan(want) ? h[i] | 0x40 : h[i]), "%04x became %04x", i,
                      again[i]);
    }
    free(h);
    free(again);
    free(x);
}
END_TEST

START_TEST(all_neighbours_round_to_nearest_even)
{
    static const uint32_t low[NEAR] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff };
    float *x = calloc((size_t)VALUES * NEAR, sizeof *x);
    ck_assert(x);
    for (uint32_t i = 0; i < VALUES; i++)
        for (uint32_t k = 0; k < NEAR; k++)
            x[i * NEAR + k] = float_of(i << 16 | low[k]);
    check(backend_at(_i), (int64_t)VALUES * NEAR, x);
    free(x);
}
END_TEST

START_TEST(any_bits_and_any_length)
{
    struct seed s = { 17 };
    float *x = calloc(RANDOM, sizeof *x);
    ck_assert(x);
    for (int i = 0; i < RANDOM; i++)
        x[i] = float_of((uint32_t)seed_next(&s));
    check(backend_at(_i), RANDOM, x);
    for (int64_t n = 0; n < 70; n++)
        check(backend_at(_i), n, x + n);
    free(x);
}
END_TEST

int main(void)
{
    int n = 1;
    while (cpu_backend_version(n - 1))
        n++;
    Suite *suite = suite_create("bf16");
    TCase *tc = tcase_create("bf16");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, every_bf16_comes_back, 0, n);
    tcase_add_loop_test(tc, all_neighbours_round_to_nearest_even, 0, n);
    tcase_add_loop_test(tc, any_bits_and_any_length, 0, n);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
