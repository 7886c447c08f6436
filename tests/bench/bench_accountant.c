/* How long questions to the accountants take: one JSON line per measurement, milliseconds, the
 * median over rounds. Each question starts from nothing, as a new process would ask it; "stream"
 * asks after every one of many steps, as a run that tells epsilon live, and is per step. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "psg/accountant.h"

enum { ROUNDS_MAX = 99, SEGMENTS = 50, STREAM = 2000 };

static struct psg_dp_event segment[SEGMENTS];

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 50 events with noise that falls from 2 to 1 and sample rates around 0.01, 200 steps each: the
 * same list as in compare_accountant */
static void make_segments(void)
{
    for (int i = 0; i < SEGMENTS; i++)
        segment[i] = (struct psg_dp_event){ 0.008 + 0.0001 * (i % 40), 2 - 0.02 * i, 200 };
}

/* ---- questions: the number that came out, milliseconds in *msp ---- */

static double ask_epsilon(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                          size_t n, double *msp)
{
    struct psg_dp_epsilon out = { .epsilon = NAN };
    double start = now_ms();
    int r = psg_dp_epsilon(kind, event, n, 1e-5, &out, NULL);
    *msp = now_ms() - start;
    return r ? NAN : out.epsilon;
}

static double ask_noise(enum psg_accountant_kind kind, double *msp)
{
    struct psg_dp_target target = { .kind = kind, .epsilon = 3, .delta = 1e-5 };
    double noise = NAN, start = now_ms();
    int r = psg_dp_noise_multiplier(&target, 0.01, 10000, &noise, NULL, NULL);
    *msp = now_ms() - start;
    return r ? NAN : noise;
}

/* Epsilon after every step; milliseconds of one, and of the slowest one in *worstp. */
static double ask_stream(enum psg_accountant_kind kind, double *msp, double *worstp)
{
    struct psg_accountant *acc = NULL;
    const struct psg_dp_event one = { 0.01, 1.1, 1 };
    struct psg_dp_epsilon out = { .epsilon = NAN };
    int r = psg_accountant_new(kind, &acc, NULL);
    double first = now_ms(), before = first;
    *worstp = 0;
    for (int i = 0; i < STREAM && r == 0; i++) {
        r = psg_accountant_compose(acc, &one, NULL);
        if (r == 0)
            r = psg_accountant_epsilon_bound(acc, 1e-5, &out, NULL);
        double after = now_ms();
        *worstp = fmax(*worstp, after - before);
        before = after;
    }
    *msp = (before - first) / STREAM;
    psg_accountant_free(acc);
    return r ? NAN : out.epsilon;
}

/* The 50 events one after the other, expected, asked after every hundredth step; of one question. */
static double ask_stream_fifty(enum psg_accountant_kind kind, double *msp, double *worstp)
{
    struct psg_accountant *acc = NULL;
    struct psg_dp_epsilon out = { .epsilon = NAN };
    int r = psg_accountant_new(kind, &acc, NULL), n = 0;
    if (r == 0)
        r = psg_accountant_expect(acc, segment, SEGMENTS, NULL);
    double first = now_ms(), before = first;
    *worstp = 0;
    for (int i = 0; i < SEGMENTS * 2 && r == 0; i++, n++) {
        struct psg_dp_event part = segment[i / 2];
        part.steps = 100;
        r = psg_accountant_compose(acc, &part, NULL);
        if (r == 0)
            r = psg_accountant_epsilon_bound(acc, 1e-5, &out, NULL);
        double after = now_ms();
        *worstp = fmax(*worstp, after - before);
        before = after;
    }
    *msp = (before - first) / n;
    psg_accountant_free(acc);
    return r ? NAN : out.epsilon;
}

/* ---- the table ---- */

enum question { ONE_EVENT, FIFTY_EVENTS, CALIBRATION, STREAMED, STREAMED_FIFTY, N_QUESTIONS };
static const char *const question_name[] = { "epsilon_10000_steps", "epsilon_50_segments",
                                             "noise_multiplier", "stream",
                                             "stream_50_segments" };

static void measure(enum question question, enum psg_accountant_kind kind, int rounds)
{
    static const struct psg_dp_event event = { 0.01, 1.1, 10000 };
    double ms[ROUNDS_MAX], worst[ROUNDS_MAX] = { 0 }, answer = NAN;
    for (int i = 0; i < rounds; i++) {
        switch (question) {
        case ONE_EVENT: answer = ask_epsilon(kind, &event, 1, &ms[i]); break;
        case FIFTY_EVENTS: answer = ask_epsilon(kind, segment, SEGMENTS, &ms[i]); break;
        case CALIBRATION: answer = ask_noise(kind, &ms[i]); break;
        case STREAMED: answer = ask_stream(kind, &ms[i], &worst[i]); break;
        default: answer = ask_stream_fifty(kind, &ms[i], &worst[i]); break;
        }
    }
    qsort(ms, (size_t)rounds, sizeof *ms, compare);
    qsort(worst, (size_t)rounds, sizeof *worst, compare);
    printf("{\"bench\": \"%s\", \"accountant\": \"%s\", \"ms\": %.4f, \"ms_min\": %.4f",
           question_name[question], psg_accountant_kind_name(kind), ms[rounds / 2], ms[0]);
    if (question >= STREAMED)
        printf(", \"ms_slowest_step\": %.4f", worst[rounds / 2]);
    printf(", \"answer\": %.9g, \"rounds\": %d}\n", answer, rounds);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rounds = 5;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = atoi(argv[++i]);
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_accountant [--rounds 1..%d]\n", ROUNDS_MAX);
        return EXIT_FAILURE;
    }
    make_segments();
    for (int q = 0; q < N_QUESTIONS; q++)
        for (int k = PSG_ACCOUNTANT_RDP; k <= PSG_ACCOUNTANT_PRV; k++)
            measure((enum question)q, (enum psg_accountant_kind)k, rounds);
    return 0;
}
