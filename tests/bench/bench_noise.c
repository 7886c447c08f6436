/* Nanoseconds per value and core of the random streams and of the noise, beside a generator that
 * is quick and no secret: one JSON line each. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "psg/dp.h"
#include "psg/rng.h"

enum { N = 1 << 20, ROUNDS = 15 };

struct work {
    struct psg_key key;
    uint64_t step;
    uint32_t *words;
    psg_real *reals;
};

static void run_words(struct work *w)
{
    psg_rng_fill_u32(&w->key, PSG_RNG_USER, w->step, 0, 0, N, w->words, NULL);
}

static void run_reals(struct work *w)
{
    psg_rng_fill_real(&w->key, PSG_RNG_DROPOUT, w->step, 0, 0, N, w->reals, NULL);
}

static void run_noise(struct work *w)
{
    psg_noise_fill(&w->key, w->step, 0, 0, N, 1.5, w->reals, NULL);
}

static void run_noise_add(struct work *w)
{
    psg_noise_add(&w->key, w->step, 0, 0, N, 1.5, w->reals, NULL);
}

static void run_secure_noise(struct work *w)
{
    struct psg_secure_noise plan;
    if (psg_secure_noise_plan(1, 1.1, N, 0, &plan, NULL) == 0)
        psg_secure_noise_add(&plan, &w->key, w->step, 0, 0, N, w->reals, NULL);
}

/* In pieces of 1000 values, as an optimizer pass over cache-sized chunks asks for them. */
static void run_noise_chunks(struct work *w)
{
    for (int64_t first = 0; first < N; first += 1000) {
        int64_t n = N - first < 1000 ? N - first : 1000;
        psg_noise_fill(&w->key, w->step, 0, first, n, 1.5, w->reals, NULL);
    }
}

/* What a library for statistics does, torch.normal among them: Mersenne-Twister-like words that an
 * attacker can predict (here xorshift128+ of Vigna 2016, cheaper still), Box and Muller on them. */
static void run_plain(struct work *w)
{
    uint64_t a = w->step + 1, b = 88172645463325252u;
    for (int i = 0; i < N; i += 2) {
        uint64_t x = a, y = b;
        a = y;
        x ^= x << 23;
        b = x ^ y ^ (x >> 18) ^ (y >> 5);
        uint64_t word = b + y;
        float u = ((float)(word >> 41) + 0.5f) * 0x1p-23f;
        float v = (float)(word & 0xffffff) * 0x1p-24f * 6.2831853f, r = sqrtf(-2 * logf(u));
        w->reals[i] = (psg_real)(1.5f * r * cosf(v));
        w->reals[i + 1] = (psg_real)(1.5f * r * sinf(v));
    }
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, void (*fn)(struct work *), struct work *w)
{
    double ns[ROUNDS];
    fn(w);
    for (int r = 0; r < ROUNDS; r++) {
        w->step++;
        double start = now_ns();
        fn(w);
        ns[r] = (now_ns() - start) / N;
    }
    qsort(ns, ROUNDS, sizeof ns[0], compare);
    printf("{\"bench\": \"%s\", \"values\": %d, \"ns_per_value_median\": %.3f, "
           "\"ns_per_value_min\": %.3f}\n",
           name, N, ns[ROUNDS / 2], ns[0]);
}

int main(void)
{
    struct work w = { .words = malloc(N * sizeof(uint32_t)),
                      .reals = calloc(N, sizeof(psg_real)) };
    if (!w.words || !w.reals)
        return EXIT_FAILURE;
    psg_key_from_seed(1, &w.key);
    measure("rng_u32", run_words, &w);
    measure("rng_real", run_reals, &w);
    measure("noise_fill", run_noise, &w);
    measure("noise_add", run_noise_add, &w);
    measure("noise_fill_by_1000", run_noise_chunks, &w);
    measure("secure_noise_add", run_secure_noise, &w);
    measure("plain_normal", run_plain, &w);
    free(w.words);
    free(w.reals);
    return EXIT_SUCCESS;
}
