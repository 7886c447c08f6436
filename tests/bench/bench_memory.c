/* bench_memory [--threads T] [--batch N,N,...] [--mode M,M,...] [MODEL...]
 *
 * Peak memory of a clipped sum, each configuration in a process of its own: one JSON line with
 * what the plan accounts for, the process' peak over the same process with the model and no
 * plan, and the [B, P] tensor of float32 that a peer would hold. The data are 64 records taken
 * again and again, so that they do not grow with the batch. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "models.h"
#include "psg/plan.h"
#include "psg/train.h"

enum { RECORDS = 64 };

static double status_mb(const char *name)
{
    char line[128];
    double mb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            mb = strtod(line + strlen(name), NULL) / 1024;
    if (f)
        fclose(f);
    return mb;
}

static void clip_to_one(const void *arg, int64_t n, int64_t stride, int n_groups,
                        const double *sq, psg_real *weight)
{
    (void)arg;
    for (int g = 0; g < n_groups; g++)
        psg_clip_factors(PSG_CLIP_FLAT, 1.0, n, sq + g * stride, weight + g * stride, NULL,
                         NULL);
}

/* 64 records of ids or of small numbers */
static void *make_data(const struct psg_program *p, struct psg_column *column)
{
    const struct psg_input_info *in = psg_program_input_info(p, 0);
    int64_t size = psg_shape_size(&in->type.shape);
    bool ids = in->type.dtype == PSG_I64;
    double *x = calloc((size_t)(RECORDS * size) + 1, sizeof *x);
    int64_t *id = (int64_t *)x;
    for (int64_t i = 0; x && i < RECORDS * size; i++)
        if (ids)
            id[i] = i * 7919 % in->hi;
        else
            x[i] = (double)(i % 17) / 17 - 0.5;
    *column = (struct psg_column){ .type = ids ? PSG_COL_I64 : PSG_COL_F64, .data = x,
                                   .stride = (size_t)size * 8 };
    return x;
}

static int measure(const struct model *m, enum psg_mode mode, int threads, int64_t batch,
                   struct psg_error *err)
{
    static const int64_t class_of[1] = { 0 };
    static const float probability[1] = { 0 };
    _cleanup_(psg_program_freep) struct psg_program *p = NULL;
    _cleanup_(psg_plan_freep) struct psg_plan *plan = NULL;
    int r = model_build(m, &p, err);
    if (r)
        return r;
    struct psg_column column[2];
    bool binary = psg_program_input_info(p, 1)->type.dtype == PSG_REAL;
    column[1] = (struct psg_column){ .type = binary ? PSG_COL_F32 : PSG_COL_I64,
                                     .data = binary ? (const void *)probability : class_of };
    size_t size = (size_t)psg_program_param_size(p);
    _cleanup_free_ void *x = make_data(p, column);
    _cleanup_free_ psg_real *params = calloc(size, sizeof *params),
                            *sum = calloc(size, sizeof *sum);
    _cleanup_free_ int64_t *record = calloc((size_t)batch, sizeof *record);
    if (!x || !params || !sum || !record)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    struct psg_key key;
    psg_key_from_seed(1, &key);
    psg_program_init_params(p, &key, params);
    memset(sum, 0, size * sizeof *sum);
    for (int64_t i = 0; i < batch; i++)
        record[i] = i % RECORDS;
    double before = status_mb("VmRSS:");
    struct psg_plan_options o = { .mode = mode, .n_threads = threads };
    struct psg_sum_options clip = { .weight = clip_to_one };
    struct psg_records records = { .n = batch, .record = record, .column = column, .key = &key };
    r = psg_plan_new(p, &o, &plan, err);
    if (r == 0)
        r = psg_clipped_sum(plan, params, &records, &clip, sum, NULL, err);
    if (r)
        return r;
    struct psg_plan_info info;
    psg_plan_info(plan, &info);
    printf("{\"model\": \"%s\", \"mode\": \"%s\", \"threads\": %d, \"batch\": %lld, "
           "\"tile\": %lld, \"plan_mb\": %.2f, \"added_mb\": %.2f, \"peak_mb\": %.2f, "
           "\"batch_by_params_mb\": %.1f}\n",
           m->name, psg_mode_name(mode), threads, (long long)batch, (long long)info.tile,
           (double)info.bytes / 1048576, status_mb("VmHWM:") - before, status_mb("VmHWM:"),
           (double)batch * (double)psg_program_trainable_size(p) * 4 / 1048576);
    return 0;
}

/* In a child, so that one configuration's peak is not the next one's. */
static int measure_apart(const struct model *m, enum psg_mode mode, int threads, int64_t batch)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct psg_error err = { 0 };
        int r = measure(m, mode, threads, batch, &err);
        if (r)
            fprintf(stderr, "bench_memory: %s: %s: %s\n", m->name, err.place, err.text);
        fflush(stdout);
        _exit(r != 0);
    }
    int status = 1;
    return child < 0 || waitpid(child, &status, 0) < 0 || status != 0;
}

static int measure_model(const struct model *m, char *modes, char *batches, int threads)
{
    int failed = 0;
    _cleanup_free_ char *mode_list = strdup(modes);
    char *mode_rest = mode_list;
    for (char *mode; mode_list && (mode = strsep(&mode_rest, ","));) {
        _cleanup_free_ char *batch_list = strdup(batches);
        char *batch_rest = batch_list;
        int number = psg_mode_find(mode);
        for (char *batch; number >= 0 && batch_list && (batch = strsep(&batch_rest, ","));)
            failed |= atoll(batch) < 1 ||
                      measure_apart(m, (enum psg_mode)number, threads, atoll(batch));
        failed |= number < 0;
    }
    return failed;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "threads", required_argument, NULL, 't' },
                                             { "batch", required_argument, NULL, 'b' },
                                             { "mode", required_argument, NULL, 'm' },
                                             { NULL, 0, NULL, 0 } };
    char all_batches[] = "64,1024", all_modes[] = "ghost,auto";
    char *batches = all_batches, *modes = all_modes;
    int threads = 2, failed = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't': threads = atoi(optarg); break;
        case 'b': batches = optarg; break;
        case 'm': modes = optarg; break;
        default: return 2;
        }
    }
    for (int i = optind; i < argc; i++) {
        const struct model *m = model_find(argv[i]);
        if (!m)
            fprintf(stderr, "bench_memory: no model %s\n", argv[i]);
        failed |= !m || measure_model(m, modes, batches, threads);
    }
    for (int i = 0; optind == argc && model_at(i); i++)
        failed |= measure_model(model_at(i), modes, batches, threads);
    return failed;
}
