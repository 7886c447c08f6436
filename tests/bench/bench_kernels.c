/* Times the kernels of a backend on the layer shapes of the benchmark models.
 *
 *   bench_kernels [--version I] [--only TEXT] [--samples N]
 *
 * One JSON line per kernel and shape: kernel, shape, samples, ns (CPU time of one call, the
 * smallest of many), gflops, share (of the sgemm peak measured first; 0 where the kernel is
 * not made of multiply-adds), and for matrix products blas_ns, the time of OpenBLAS alone.
 * Version 0 is the best one of this machine. */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "base/cleanup.h"
#include "psg/blas.h"

#ifdef PSG_REAL_DOUBLE
#define blas_gemm cblas_dgemm
#else
#define blas_gemm cblas_sgemm
#endif

enum {
    REPEATS = 15,
    ARENA = 8 << 20,
    FRESH = 1 << 20,
    N = 16384 /* numbers of the small kernels */
};

struct bench {
    const struct psg_backend *be;
    const char *only;
    int64_t samples;
    double peak; /* multiply-adds count as two operations; operations per ns */
    psg_real *x, *y, *w, *scratch;
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

typedef void call_fn(const struct bench *b, const void *arg);

/* smallest CPU time of one call; a repeat runs for about 2 ms */
static double time_call(call_fn *fn, const struct bench *b, const void *arg)
{
    double start = now_ns();
    fn(b, arg);
    double once = now_ns() - start + 1;
    int calls = once > 2e6 ? 1 : (int)(2e6 / once) + 1;
    double best = 1e30;
    for (int r = 0; r < REPEATS; r++) {
        start = now_ns();
        for (int i = 0; i < calls; i++)
            fn(b, arg);
        double ns = (now_ns() - start) / calls;
        best = ns < best ? ns : best;
    }
    return best;
}

static void report(const struct bench *b, const char *kernel, const char *shape, double ns,
                   double operations, double blas_ns)
{
    printf("{\"kernel\":\"%s\",\"shape\":\"%s\",\"samples\":%lld,\"ns\":%.0f", kernel,
           shape, (long long)b->samples, ns);
    if (operations > 0)
        printf(",\"gflops\":%.1f,\"share\":%.2f", operations / ns,
               operations / ns / b->peak);
    if (blas_ns > 0)
        printf(",\"blas_ns\":%.0f", blas_ns);
    printf("}\n");
}

static bool wanted(const struct bench *b, const char *kernel, const char *shape)
{
    return !b->only || strstr(kernel, b->only) || strstr(shape, b->only);
}

static void fill(psg_real *x, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (psg_real)((double)state / 4294967296.0 - 0.5);
    }
}

/* kernels feed on each other's results: fresh numbers, and ids where a kernel wants them */
static void refresh(const struct bench *b)
{
    fill(b->x, FRESH);
    fill(b->y, FRESH);
    fill(b->w, FRESH);
    int64_t *id = (int64_t *)(void *)b->scratch;
    for (int64_t i = 0; i < N; i++)
        id[i] = i * 7919 % 10007;
}

/* ---- matrix products ---- */

static void call_gemm(const struct bench *b, const void *arg)
{
    b->be->gemm(arg, b->x, b->w, b->y);
}

static void call_blas(const struct bench *b, const void *arg)
{
    const struct psg_gemm *g = arg;
    blas_gemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans,
              g->trans_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k, 1,
              b->x, (int)g->lda, b->w, (int)g->ldb, 0, b->y, (int)g->ldc);
}

static struct psg_gemm gemm_of(const char *form, int64_t m, int64_t n, int64_t k)
{
    struct psg_gemm g = { form[0] == 'T', form[1] == 'T', m, n, k, k, n, n, 1, 0 };
    g.lda = g.trans_a ? m : k;
    g.ldb = g.trans_b ? k : n;
    return g;
}

static void bench_gemm(const struct bench *b)
{
    static const struct {
        const char *what, *form;
        int64_t m, n, k;
    } row[] = {
        { "logreg forward", "NT", 8, 1, 104 },
        { "ffnn forward", "NT", 8, 50, 104 },
        { "ffnn dw", "TN", 50, 104, 1 },
        { "mnist fc1 forward", "NT", 8, 32, 512 },
        { "mnist fc1 dx", "NN", 8, 512, 32 },
        { "mnist fc1 dw", "TN", 32, 512, 1 },
        { "mnist fc2 forward", "NT", 8, 10, 32 },
        { "lstm input projection", "NT", 256, 400, 100 },
        { "lstm step 4", "NT", 4, 400, 100 },
        { "lstm step 8", "NT", 8, 400, 100 },
        { "lstm step 16", "NT", 16, 400, 100 },
        { "lstm step 8, packed", "NN", 8, 400, 100 },
        { "lstm dh 8", "NN", 8, 100, 400 },
        { "lstm dw", "TN", 400, 100, 256 },
        { "transformer qkv", "NT", 64, 384, 128 },
        { "transformer qkv dx", "NN", 64, 128, 384 },
        { "transformer qkv dw", "TN", 384, 128, 64 },
        { "transformer qkv 4", "NT", 256, 384, 128 },
        { "transformer scores", "NT", 64, 64, 32 },
        { "transformer values", "NN", 64, 32, 64 },
        { "transformer ff dw", "TN", 512, 128, 64 },
        { "linear 512", "NT", 16, 512, 512 },
        { "linear 512 dw", "TN", 512, 512, 1 },
        { "gram 64", "NT", 64, 64, 128 },
        { "square 32", "NN", 32, 32, 32 },
        { "square 64", "NN", 64, 64, 64 },
        { "square 96", "NN", 96, 96, 96 },
        { "square 128", "NN", 128, 128, 128 },
        { "square 256", "NN", 256, 256, 256 },
        { "square 256", "NT", 256, 256, 256 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char shape[96];
        struct psg_gemm g = gemm_of(row[i].form, row[i].m, row[i].n, row[i].k);
        snprintf(shape, sizeof shape, "%s %s %lldx%lldx%lld", row[i].what, row[i].form,
                 (long long)g.m, (long long)g.n, (long long)g.k);
        if (!wanted(b, "gemm", shape))
            continue;
        refresh(b);
        double ns = time_call(call_gemm, b, &g), blas = time_call(call_blas, b, &g);
        report(b, "gemm", shape, ns, 2.0 * (double)g.m * (double)g.n * (double)g.k, blas);
    }
}

/* ---- convolutions ---- */

struct conv_call {
    struct psg_conv c;
    int64_t n, n_w;
};

static void call_conv(const struct bench *b, const void *arg)
{
    const struct conv_call *a = arg;
    b->be->conv(&a->c, a->n, b->x, b->w, b->w, b->y, b->scratch);
}

static void call_conv_data(const struct bench *b, const void *arg)
{
    const struct conv_call *a = arg;
    b->be->conv_bwd_data(&a->c, a->n, b->y, b->w, b->x, b->scratch);
}

static void call_conv_weight(const struct bench *b, const void *arg)
{
    const struct conv_call *a = arg;
    b->be->conv_bwd_weight(&a->c, a->n, b->x, b->y, b->w, a->n_w, b->scratch);
}

static void bench_conv(const struct bench *b)
{
    static const struct {
        const char *what;
        int64_t ci, co, in, kernel, stride, pad, groups;
    } row[] = {
        { "mnist 1", 1, 16, 28, 8, 2, 3, 1 },
        { "mnist 2", 16, 32, 13, 4, 2, 0, 1 },
        { "cifar 1", 3, 32, 32, 3, 1, 1, 1 },
        { "cifar 2", 32, 32, 32, 3, 1, 1, 1 },
        { "cifar 3", 32, 64, 16, 3, 1, 1, 1 },
        { "cifar 4", 64, 64, 16, 3, 1, 1, 1 },
        { "cifar 5", 64, 128, 8, 3, 1, 1, 1 },
        { "cifar 6", 128, 128, 8, 3, 1, 1, 1 },
        { "cifar 7", 128, 256, 4, 3, 1, 1, 1 },
        { "cifar 8", 256, 10, 4, 3, 1, 1, 1 },
        { "resnet 16", 16, 16, 32, 3, 1, 1, 1 },
        { "resnet 32", 32, 32, 16, 3, 1, 1, 1 },
        { "resnet down", 16, 32, 32, 3, 2, 1, 1 },
        { "resnet skip", 16, 32, 32, 1, 2, 0, 1 },
        { "pointwise", 64, 64, 16, 1, 1, 0, 1 },
        { "depthwise", 64, 64, 16, 3, 1, 1, 64 },
        { "groups of 4", 64, 64, 16, 3, 1, 1, 16 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        int64_t in = row[i].in, k = row[i].kernel, s = row[i].stride, p = row[i].pad;
        struct conv_call a = { .c = { .win = { 2,
                                               { in, in },
                                               { k, k },
                                               { 0 },
                                               { s, s },
                                               { 1, 1 },
                                               { p, p },
                                               { p, p } },
                                      .in_channels = row[i].ci,
                                      .out_channels = row[i].co,
                                      .groups = row[i].groups },
                               .n = b->samples,
                               .n_w = row[i].co * row[i].ci / row[i].groups * k * k };
        if (psg_window_infer(&a.c.win, row[i].what, NULL) ||
            b->be->conv_scratch(&a.c) > ARENA)
            continue;
        double operations =
            2.0 * (double)(a.n * a.n_w) * (double)(a.c.win.out[0] * a.c.win.out[1]);
        refresh(b);
        if (wanted(b, "conv", row[i].what))
            report(b, "conv", row[i].what, time_call(call_conv, b, &a), operations, 0);
        if (wanted(b, "conv_bwd_data", row[i].what))
            report(b, "conv_bwd_data", row[i].what, time_call(call_conv_data, b, &a),
                   operations, 0);
        if (wanted(b, "conv_bwd_weight", row[i].what))
            report(b, "conv_bwd_weight", row[i].what, time_call(call_conv_weight, b, &a),
                   operations, 0);
    }
}

/* ---- the rest: one size each, in cache ---- */

static void call_act(const struct bench *b, const void *arg)
{
    b->be->act(*(const enum psg_act *)arg, b->w, N, b->x, b->y);
}

static void call_act_bwd(const struct bench *b, const void *arg)
{
    b->be->act_bwd(*(const enum psg_act *)arg, b->w, N, b->x, b->x + N, b->w, b->y);
}

static void call_softmax(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->softmax(N / 64, 64, false, b->x, b->y);
}

static void call_normalize(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->normalize(N / 128, 128, 1e-5, true, b->x, b->y, b->w);
}

static void call_normalize_bwd(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->normalize_bwd(N / 128, 128, true, b->x, b->w, b->x + N, b->y);
}

static void call_max_pool(const struct bench *b, const void *arg)
{
    (void)arg;
    const struct psg_window w = { 2,        { 14, 14 }, { 2, 2 }, { 13, 13 },
                                  { 1, 1 }, { 1, 1 },   { 0 },    { 0 } };
    b->be->max_pool(&w, 128, b->x, b->y, (int64_t *)(void *)b->scratch);
}

static void call_max_pool_bwd(const struct bench *b, const void *arg)
{
    (void)arg;
    const struct psg_window w = { 2,        { 14, 14 }, { 2, 2 }, { 13, 13 },
                                  { 1, 1 }, { 1, 1 },   { 0 },    { 0 } };
    b->be->max_pool_bwd(&w, 128, b->x, (const int64_t *)(void *)b->scratch, b->y);
}

static void call_avg_pool(const struct bench *b, const void *arg)
{
    (void)arg;
    const struct psg_window w = { 2,        { 32, 32 }, { 2, 2 }, { 16, 16 },
                                  { 2, 2 }, { 1, 1 },   { 0 },    { 0 } };
    b->be->avg_pool(&w, 32, true, 0, b->x, b->y);
}

static void call_avg_pool_bwd(const struct bench *b, const void *arg)
{
    (void)arg;
    const struct psg_window w = { 2,        { 32, 32 }, { 2, 2 }, { 16, 16 },
                                  { 2, 2 }, { 1, 1 },   { 0 },    { 0 } };
    b->be->avg_pool_bwd(&w, 32, true, 0, b->y, b->x);
}

static void call_sqnorm(const struct bench *b, const void *arg)
{
    (void)arg;
    double sq[1] = { 0 };
    b->be->add_sqnorm(1, N, b->x, N, sq);
}

static void call_weighted(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->add_weighted(8, N / 8, b->w, b->x, N / 8, b->y);
}

static void call_sum_rows(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->sum_rows(1, N / 128, 128, b->x, b->y, 128);
}

static void call_transpose(const struct bench *b, const void *arg)
{
    (void)arg;
    b->be->copy(&PSG_SHAPE(128, N / 128), sizeof(psg_real), b->x,
                (const int64_t[]){ 1, 128 }, b->y, (const int64_t[]){ N / 128, 1 });
}

static void call_add(const struct bench *b, const void *arg)
{
    (void)arg;
    static const int64_t dense[2] = { 128, 1 }, row[2] = { 0, 1 };
    b->be->binary(PSG_ADD, &PSG_SHAPE(N / 128, 128), b->x, dense, b->w, row, b->y);
}

static void call_merge(const struct bench *b, const void *arg)
{
    (void)arg;
    int64_t *id = (int64_t *)(void *)b->scratch;
    b->be->merge_ids(N / 256, 256, 10004, -1, id, id + N);
}

static void bench_rest(const struct bench *b)
{
    static const struct {
        const char *name;
        enum psg_act f;
    } act[] = { { "relu", PSG_ACT_RELU },       { "tanh", PSG_ACT_TANH },
                { "sigmoid", PSG_ACT_SIGMOID }, { "gelu", PSG_ACT_GELU },
                { "silu", PSG_ACT_SILU },       { "exp", PSG_ACT_EXP } };
    static const struct {
        const char *kernel;
        call_fn *fn;
    } row[] = { { "softmax 64", call_softmax },
                { "normalize 128", call_normalize },
                { "normalize_bwd 128", call_normalize_bwd },
                { "max_pool 2x2 stride 1", call_max_pool },
                { "max_pool_bwd 2x2 stride 1", call_max_pool_bwd },
                { "avg_pool 2x2", call_avg_pool },
                { "avg_pool_bwd 2x2", call_avg_pool_bwd },
                { "add_sqnorm", call_sqnorm },
                { "add_weighted 8", call_weighted },
                { "sum_rows 128", call_sum_rows },
                { "copy transpose", call_transpose },
                { "binary add row", call_add },
                { "merge_ids 256", call_merge } };
    char shape[32];
    snprintf(shape, sizeof shape, "%d", N);
    for (size_t i = 0; i < sizeof act / sizeof *act; i++) {
        if (!wanted(b, "act", act[i].name))
            continue;
        refresh(b);
        report(b, "act", act[i].name, time_call(call_act, b, &act[i].f), 0, 0);
        report(b, "act_bwd", act[i].name, time_call(call_act_bwd, b, &act[i].f), 0, 0);
    }
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (!wanted(b, row[i].kernel, shape))
            continue;
        refresh(b);
        report(b, row[i].kernel, shape, time_call(row[i].fn, b, NULL), 0, 0);
    }
}

int main(int argc, char **argv)
{
    struct bench b = { .samples = 8 };
    int version = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--version") == 0)
            version = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--only") == 0)
            b.only = argv[i + 1];
        else if (strcmp(argv[i], "--samples") == 0)
            b.samples = atoi(argv[i + 1]);
    }
    b.be = cpu_backend_version(version);
    _cleanup_free_ psg_real *x = calloc(ARENA, sizeof *x), *y = calloc(ARENA, sizeof *y);
    _cleanup_free_ psg_real *w = calloc(ARENA, sizeof *w);
    _cleanup_free_ psg_real *scratch = calloc(ARENA, sizeof *scratch);
    if (!b.be || b.samples < 1 || b.samples > 16 || !x || !y || !w || !scratch) {
        fprintf(stderr, "bench_kernels: no such version, or samples not in 1..16\n");
        return 1;
    }
    b.x = x;
    b.y = y;
    b.w = w;
    b.scratch = scratch;
    if (psg_blas_check(1, NULL))
        return 1;
    refresh(&b);
    const struct psg_gemm large = gemm_of("NN", 1024, 1024, 1024);
    b.peak = 2.0 * 1024 * 1024 * 1024 / time_call(call_blas, &b, &large);
    printf("{\"peak_gflops\":%.1f,\"version\":%d}\n", b.peak, version);
    bench_gemm(&b);
    bench_conv(&b);
    bench_rest(&b);
    return 0;
}
