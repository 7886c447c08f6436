/* bench_step --model NAME --batch N --mode M --threads T [--non-private] [--sum] [--steps K]
 *            [--json]
 *
 * Times whole training steps: Poisson sampling at expected batch N, forward, backward, norms,
 * clipping, sum, noise, SGD update; with --sum only the (clipped) sum of gradients of N records,
 * which is what a layer alone is measured by. One line per measurement; with --json an object. Before
 * it times anything it checks the configuration: the clipped sum of a few records must equal
 * the one that `ref` computes one sample at a time, in this same process. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/cleanup.h"
#include "floor.h"
#include "models.h"
#include "psg/device.h"
#include "psg/train.h"

enum { RECORDS = 16 }; /* in the data set, times the batch */

struct bench {
    const char *model, *mode, *backend;
    const struct psg_backend *be; /* of that name */
    int64_t batch, tile;
    int threads, steps, warmup;
    bool non_private, sum, json;
};

struct data {
    int64_t n;
    void *x, *target;
    struct psg_column column[2];
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* of all threads: on a shared machine steadier than the clock */
static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double rss_mb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

/* Random records of the program's types; ids stay in their ranges. */
static int data_make(const struct psg_program *p, int64_t n, struct data *d)
{
    struct psg_key key;
    psg_key_from_seed(3, &key);
    d->n = n;
    void **place[2] = { &d->x, &d->target };
    for (int i = 0; i < psg_program_n_inputs(p) && i < 2; i++) {
        const struct psg_input_info *in = psg_program_input_info(p, i);
        int64_t size = psg_shape_size(&in->type.shape), total = n * size;
        _cleanup_free_ double *u = calloc((size_t)total + 1, sizeof *u);
        *place[i] = calloc((size_t)total + 1, 8);
        if (!u || !*place[i] ||
            psg_rng_fill_uniform(&key, PSG_RNG_USER, 0, (uint32_t)i, 0, total, u, NULL))
            return PSG_E_NOMEM;
        bool ids = in->type.dtype == PSG_I64;
        for (int64_t k = 0; k < total; k++) {
            if (ids)
                ((int64_t *)*place[i])[k] = in->lo + (int64_t)(u[k] * (double)(in->hi - in->lo));
            else
                ((float *)*place[i])[k] = (float)(i == 1 ? u[k] > 0.5 : 2 * u[k] - 1);
        }
        d->column[i] = (struct psg_column){ .type = ids ? PSG_COL_I64 : PSG_COL_F32,
                                            .data = *place[i],
                                            .stride = (size_t)size * (ids ? 8 : 4) };
    }
    return 0;
}

static void clip_to_one(const void *arg, int64_t n, int64_t stride, int n_groups,
                        const double *sq, psg_real *weight)
{
    (void)arg;
    for (int g = 0; g < n_groups; g++)
        psg_clip_factors(PSG_CLIP_FLAT, 1.0, n, sq + g * stride, weight + g * stride, NULL,
                         NULL);
}

/* Largest difference between this configuration and the reference, relative to the largest
 * number of the reference. */
static int check(const struct psg_program *p, const struct psg_plan_options *o,
                 const struct data *d, double *worst, struct psg_error *err)
{
    struct psg_plan_options ref = { .mode = PSG_MODE_HOOKS, .backend = psg_backend_ref(),
                                    .tile = 1, .n_lanes = 1 };
    struct psg_sum_options clip = { .weight = clip_to_one };
    size_t size = (size_t)psg_program_trainable_size(p) + 1;
    struct psg_key key;
    psg_key_from_seed(5, &key);
    struct psg_records records = { .n = 3, .column = d->column, .key = &key };
    _cleanup_(psg_plan_freep) struct psg_plan *a = NULL, *b = NULL;
    _cleanup_free_ psg_real *params = calloc((size_t)psg_program_param_size(p) + 1,
                                             sizeof *params),
                            *x = calloc(size, sizeof *x), *y = calloc(size, sizeof *y);
    if (!params || !x || !y)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    psg_program_init_params(p, &key, params);
    int r = psg_plan_new(p, o, &a, err);
    if (r == 0)
        r = psg_plan_new(p, &ref, &b, err);
    if (r == 0)
        r = psg_clipped_sum(a, params, &records, &clip, x, NULL, err);
    if (r == 0)
        r = psg_clipped_sum(b, params, &records, &clip, y, NULL, err);
    double largest = 1e-30, difference = 0;
    for (size_t i = 0; r == 0 && i < size; i++) {
        largest = fmax(largest, fabs((double)y[i]));
        difference = fmax(difference, fabs((double)x[i] - (double)y[i]));
    }
    *worst = difference / largest;
    if (r == 0 && !(*worst <= 1e-4))
        r = psg_fail(err, PSG_E_INVALID, "check", "differs from the reference by %.2g", *worst);
    return r;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct measured {
    double *ms, *cpu; /* [steps] */
    double worst;     /* of the check */
    double rss_mb;    /* peak, before the machine is measured */
    struct psg_plan_info plan;
    struct work_count work;
    struct machine machine;
};

static void report(const struct bench *b, const struct measured *m)
{
    qsort(m->ms, (size_t)b->steps, sizeof *m->ms, compare_double);
    qsort(m->cpu, (size_t)b->steps, sizeof *m->cpu, compare_double);
    double median = m->ms[b->steps / 2], floor = floor_ms(&m->work, &m->machine, b->threads);
    double per_s = (double)b->batch / median * 1e3, gflops = m->work.flops / median * 1e-6;
    if (!b->json) {
        printf("%s batch %lld %s%s, %d threads: median %.3f ms (%.3f to %.3f), cpu %.3f ms "
               "(from %.3f), floor %.3f ms, %.1f GFLOP/s, %.0f samples/s, plan %.1f MB, "
               "tile %lld, differs from ref by %.2g\n",
               b->model, (long long)b->batch, b->mode, b->non_private ? " non-private" : "",
               b->threads, median, m->ms[0], m->ms[b->steps - 1], m->cpu[b->steps / 2],
               m->cpu[0], floor, gflops, per_s, (double)m->plan.bytes / 1e6,
               (long long)m->plan.tile, m->worst);
        return;
    }
    printf("{\"model\": \"%s\", \"batch\": %lld, \"mode\": \"%s\", \"threads\": %d, "
           "\"device\": \"%s\", \"private\": %s, \"what\": \"%s\", ",
           b->model, (long long)b->batch, b->mode, b->threads, b->backend,
           b->non_private ? "false" : "true", b->sum ? "sum" : "step");
    printf("\"ms_median\": %.4f, \"ms_min\": %.4f, \"ms_max\": %.4f, \"cpu_ms_median\": %.4f, "
           "\"cpu_ms_min\": %.4f, \"samples_per_s\": %.1f, \"peak_rss_mb\": %.1f, "
           "\"plan_bytes\": %zu, \"tile\": %lld, ",
           median, m->ms[0], m->ms[b->steps - 1], m->cpu[b->steps / 2], m->cpu[0], per_s,
           m->rss_mb, m->plan.bytes, (long long)m->plan.tile);
    printf("\"gflops\": %.2f, \"gemm_peak_gflops\": %.1f, \"gb_per_s\": %.1f, "
           "\"noise_ns\": %.2f, \"flops\": %.4g, \"bytes\": %.4g, \"floor_ms\": %.4f, "
           "\"check\": %.2g}\n",
           gflops, m->machine.gemm_gflops, m->machine.gb_per_s, m->machine.noise_ns,
           m->work.flops, m->work.bytes, floor, m->worst);
}

/* One step, or one sum of the first `batch` records. */
struct job {
    const struct bench *b;
    const struct psg_program *program;
    const struct data *data;
    struct psg_trainer *trainer;
    psg_real *sum;
};

static int run_once(const struct job *j, struct psg_error *err)
{
    struct psg_step_report step;
    if (!j->b->sum)
        return psg_trainer_step(j->trainer, &step, err);
    struct psg_key key;
    psg_key_from_seed(5, &key);
    struct psg_plan *plan = psg_trainer_plan(j->trainer);
    const psg_real *params = psg_trainer_params(j->trainer);
    struct psg_records records = { .n = j->b->batch, .column = j->data->column, .key = &key };
    struct psg_sum_options clip = { .weight = clip_to_one };
    return j->b->non_private
               ? psg_plain_sum(plan, params, &records, j->sum, NULL, err)
               : psg_clipped_sum(plan, params, &records, &clip, j->sum, NULL, err);
}

static int time_steps(const struct job *j, struct measured *m, struct psg_error *err)
{
    int r = 0;
    for (int i = -j->b->warmup; r == 0 && i < j->b->steps; i++) {
        double start = now_ms(), start_cpu = cpu_ms();
        r = run_once(j, err);
        if (i >= 0) {
            m->ms[i] = now_ms() - start;
            m->cpu[i] = cpu_ms() - start_cpu;
        }
    }
    return r;
}

static int measure(const struct bench *b, const struct psg_program *p, const struct data *d,
                   struct psg_error *err)
{
    struct psg_train_options o = {
        .plan = { .mode = psg_mode_find(b->mode), .backend = b->be,
                  .n_threads = b->threads, .tile = b->tile },
        .is_private = !b->non_private,
        .clipping = PSG_CLIP_FLAT,
        .max_grad_norm = { .initial = 1.0 },
        .noise_multiplier = { .initial = 1.1 },
        .poisson = true,
        .sample_rate = 1.0 / RECORDS,
        .expected_batch_size = (double)b->batch,
        .optimizer = psg_optimizer_defaults(PSG_SGD),
        .lr = { .initial = 1e-6 },
    };
    struct psg_key key;
    psg_key_from_seed(11, &key);
    struct measured m = { 0 };
    _cleanup_(psg_trainer_freep) struct psg_trainer *t = NULL;
    _cleanup_free_ double *ms = calloc((size_t)b->steps, sizeof *ms),
                          *cpu = calloc((size_t)b->steps, sizeof *cpu);
    _cleanup_free_ psg_real *sum = calloc((size_t)psg_program_trainable_size(p) + 1, sizeof *sum);
    if (!ms || !cpu || !sum)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    m.ms = ms;
    m.cpu = cpu;
    int r = check(p, &o.plan, d, &m.worst, err);
    if (r == 0)
        r = psg_trainer_new(p, &o, d->column, d->n, &key, &t, err);
    if (r == 0)
        r = time_steps(&(struct job){ b, p, d, t, sum }, &m, err);
    if (r)
        return r;
    m.rss_mb = rss_mb();
    psg_plan_info(psg_trainer_plan(t), &m.plan);
    work_of(p, b->batch, !b->non_private, !b->sum, &m.work);
    if (machine_measure(o.plan.backend, &m.machine))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    report(b, &m);
    return 0;
}

static int run(struct bench *b, struct psg_error *err)
{
    const struct model *m = model_find(b->model);
    _cleanup_(psg_program_freep) struct psg_program *p = NULL;
    if (strcmp(b->backend, "cuda") == 0 && psg_cuda_open(NULL, 0, &b->be, err))
        return err->status;
    if (!b->be)
        b->be = psg_backend_find(b->backend);
    if (!m || psg_mode_find(b->mode) < 0 || !b->be)
        return psg_fail(err, PSG_E_INVALID, NULL, "no such model, mode or device");
    struct data d = { 0 };
    int r = model_build(m, &p, err);
    if (r == 0 && data_make(p, (b->sum ? 1 : RECORDS) * b->batch, &d))
        r = psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    if (r == 0)
        r = measure(b, p, &d, err);
    free(d.x);
    free(d.target);
    return r;
}

int main(int argc, char **argv)
{
    struct bench b = { .model = "mnist_cnn", .mode = "hooks", .backend = "cpu", .batch = 64,
                       .threads = 2, .steps = 20, .warmup = 3 };
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },   { "batch", required_argument, NULL, 'b' },
        { "mode", required_argument, NULL, 'o' },    { "threads", required_argument, NULL, 't' },
        { "device", required_argument, NULL, 'd' },  { "steps", required_argument, NULL, 's' },
        { "tile", required_argument, NULL, 'i' },    { "non-private", no_argument, NULL, 'n' },
        { "sum", no_argument, NULL, 'u' },           { "json", no_argument, NULL, 'j' },
        { NULL, 0, NULL, 0 },
    };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'm': b.model = optarg; break;
        case 'b': b.batch = atoll(optarg); break;
        case 'o': b.mode = optarg; break;
        case 't': b.threads = atoi(optarg); break;
        case 'd': b.backend = optarg; break;
        case 's': b.steps = atoi(optarg); break;
        case 'i': b.tile = atoll(optarg); break;
        case 'n': b.non_private = true; break;
        case 'u': b.sum = true; break;
        case 'j': b.json = true; break;
        default: return 2;
        }
    }
    if (b.batch < 1 || b.steps < 1 || b.threads < 1) {
        fprintf(stderr, "bench_step: batch, steps and threads must be positive\n");
        return 2;
    }
    struct psg_error err = { 0 };
    if (run(&b, &err)) {
        fprintf(stderr, "bench_step: %s: %s\n", err.place, err.text);
        return 1;
    }
    return 0;
}
