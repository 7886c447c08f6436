/* DP-SGD trajectories: five steps with given batches and given noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "grads.h"
#include "psg/dp.h"

struct run {
    struct fixture f;
    const json_t *dp;
    int n_bounds;
    double *bound;          /* [n_bounds] C, or C_p */
    struct psg_optimizer *opt;
    psg_real *sum, *grad;
};

struct clip_arg {
    const double *bound;
};

static void weigh(const void *arg, int64_t n, int64_t stride, int n_groups, const double *sq,
                  psg_real *weight)
{
    const struct clip_arg *c = arg;
    for (int g = 0; g < n_groups; g++)
        psg_clip_factors(PSG_CLIP_FLAT, c->bound[g], n, sq + g * stride, weight + g * stride,
                         NULL, NULL);
}

/* Group of each parameter for per-layer clipping: its place in param_order. NULL: flat. */
static int *make_groups(const struct golden_case *c, int *n_groups, struct outcome *out)
{
    const json_t *dp = json_object_get(c->info, "dp");
    const json_t *order = json_object_get(c->info, "param_order");
    struct psg_program *p = NULL;
    struct psg_error err;
    *n_groups = 1;
    if (strcmp(case_text(dp, "clipping", "flat"), "per_layer") != 0)
        return NULL;
    if (case_program(c, &p, &err)) {
        snprintf(out->why, sizeof out->why, "%s: %s", err.place, err.text);
        return NULL;
    }
    *n_groups = (int)json_array_size(order);
    int *group = calloc((size_t)psg_program_n_params(p) + 1, sizeof *group);
    for (int i = 0; group && i < psg_program_n_params(p); i++)
        for (int k = 0; k < *n_groups; k++)
            if (strcmp(json_string_value(json_array_get(order, (size_t)k)),
                       psg_program_param(p, i)->name) == 0)
                group[i] = k;
    psg_program_free(p);
    return group;
}

static bool read_bounds(struct run *r, int n_groups)
{
    const json_t *by_name = json_object_get(r->dp, "max_grad_norm_per_layer");
    const json_t *order = json_object_get(r->f.c->info, "param_order");
    r->n_bounds = n_groups;
    r->bound = calloc((size_t)n_groups, sizeof *r->bound);
    for (int g = 0; r->bound && g < n_groups; g++)
        r->bound[g] =
            n_groups > 1
                ? case_real(by_name, json_string_value(json_array_get(order, (size_t)g)), 0)
                : case_real(r->dp, "max_grad_norm", 1);
    return r->bound != NULL;
}

static bool open_optimizer(struct run *r, double *lr)
{
    const json_t *o = json_object_get(r->dp, "optimizer");
    const json_t *betas = json_object_get(o, "betas");
    const char *kind = case_text(o, "kind", "sgd");
    struct psg_optimizer_config options =
        psg_optimizer_defaults(strcmp(kind, "adam") == 0    ? PSG_ADAM
                               : strcmp(kind, "adamw") == 0 ? PSG_ADAMW
                                                            : PSG_SGD);
    *lr = case_real(o, "lr", 0);
    options.momentum = case_real(o, "momentum", 0);
    options.nesterov = case_flag(o, "nesterov");
    options.weight_decay = case_real(o, "weight_decay", options.weight_decay);
    if (betas) {
        options.beta1 = json_number_value(json_array_get(betas, 0));
        options.beta2 = json_number_value(json_array_get(betas, 1));
    }
    options.eps = case_real(o, "eps", options.eps);
    struct psg_error err;
    if (psg_optimizer_new(&options, psg_program_trainable_size(r->f.program), &r->opt, &err)) {
        fixture_fail(&r->f, "optimizer: %s: %s", err.place, err.text);
        return false;
    }
    return true;
}

/* gradient = (sum + s C z) / E */
static void make_gradient(struct run *r, int step)
{
    double total = 0, s = case_real(r->dp, "noise_multiplier", 0);
    double e = case_real(r->dp, "expected_batch_size", 1);
    if (strcmp(case_text(r->dp, "loss_reduction", "mean"), "mean") != 0)
        e = 1;
    for (int g = 0; g < r->n_bounds; g++)
        total += r->bound[g] * r->bound[g];
    for (int i = 0; i < psg_program_n_params(r->f.program); i++) {
        const struct psg_param_info *p = psg_program_param(r->f.program, i);
        const struct tensor *z = case_tensor(r->f.c, "noise.%s", p->name);
        for (int64_t k = 0; p->trainable && k < p->size; k++) {
            double g = (double)r->sum[p->offset + k];
            if (z && s > 0)
                g += s * sqrt(total) * tensor_at(z, step * p->size + k);
            r->grad[p->offset + k] = (psg_real)(g / e);
        }
    }
}

static bool excluded(const struct golden_case *c, const char *name, int64_t i)
{
    const json_t *all = json_object_get(c->info, "exclude_flat_ranges");
    const json_t *ranges = json_object_get(all, name);
    for (size_t k = 0; k < json_array_size(ranges); k++) {
        const json_t *pair = json_array_get(ranges, k);
        if (i >= json_integer_value(json_array_get(pair, 0)) &&
            i < json_integer_value(json_array_get(pair, 1)))
            return true;
    }
    return false;
}

static void compare_after(struct run *r, int step)
{
    const json_t *errors = json_object_get(r->f.c->info, "float32_error_abs");
    double tolerance = r->f.out->tolerance_after;
    if (!(tolerance > 0))
        tolerance = fmax(10 * case_real(errors, "after5", 0), 2e-6);
    for (int i = 0; i < psg_program_n_params(r->f.program); i++) {
        const struct psg_param_info *p = psg_program_param(r->f.program, i);
        const struct tensor *want = case_tensor(r->f.c, "after%d.%s", step + 1, p->name);
        for (int64_t k = 0; want && k < p->size; k++) {
            double got = (double)r->f.params[p->offset + k];
            if (!excluded(r->f.c, p->name, k))
                fixture_compare(&r->f, want->name, &got, want, k, 1, tolerance, 1);
        }
    }
}

static void compare_logged(struct run *r, int step, int64_t n, const struct psg_sum_stats *s)
{
    const double d = n > 0 ? (double)n : 1;
    double fraction = (double)s->n_clipped / d, norm = s->norm_sum / d, loss = s->loss_sum / d;
    const struct tensor *t = case_tensor(r->f.c, "clipped_fraction");
    if (t)
        fixture_compare(&r->f, "clipped_fraction", &fraction, t, step, 1, 1e-12, 1);
    t = case_tensor(r->f.c, "mean_norm");
    if (t)
        fixture_compare(&r->f, "mean_norm", &norm, t, step, 1, 2e-5,
                        tensor_largest(t, 0, t->size));
    t = case_tensor(r->f.c, "mean_loss");
    if (t)
        fixture_compare(&r->f, "mean_loss", &loss, t, step, 1, 2e-5,
                        tensor_largest(t, 0, t->size));
}

static void run_steps(struct run *r, double lr)
{
    const json_t *sizes = json_object_get(r->dp, "batch_sizes");
    int64_t first = 0, size = psg_program_trainable_size(r->f.program);
    struct psg_key key;
    struct psg_error err;
    psg_key_from_seed(1, &key);
    struct clip_arg arg = { r->bound };
    struct psg_sum_options options = { .weight = weigh, .weight_arg = &arg };
    for (int step = 0; step < (int)json_array_size(sizes); step++) {
        int64_t n = json_integer_value(json_array_get(sizes, (size_t)step)), record[4096];
        for (int64_t i = 0; i < n && i < 4096; i++)
            record[i] = first + i;
        struct psg_records records = { .n = n, .record = record, .column = r->f.column,
                                       .key = &key, .step = (uint64_t)step };
        struct psg_sum_stats stats;
        if (psg_clipped_sum(r->f.plan, r->f.params, &records, &options, r->sum, &stats, &err)) {
            fixture_fail(&r->f, "%s: %s", err.place, err.text);
            return;
        }
        make_gradient(r, step);
        psg_optimizer_begin(r->opt, lr, 0);
        psg_optimizer_update(r->opt, 0, size, r->grad, r->f.params);
        compare_logged(r, step, n, &stats);
        compare_after(r, step);
        first += n;
    }
}

void trajectory_check(const struct golden_case *c, enum psg_mode mode,
                      const struct psg_backend *backend, struct outcome *out)
{
    struct run r = { .dp = json_object_get(c->info, "dp") };
    int n_groups;
    double lr;
    _cleanup_free_ int *group = make_groups(c, &n_groups, out);
    if (out->why[0])
        return;
    if (fixture_open(&r.f, c, mode, backend, group, n_groups, false, out) &&
        read_bounds(&r, n_groups) && open_optimizer(&r, &lr)) {
        size_t size = (size_t)psg_program_trainable_size(r.f.program) + 1;
        r.sum = calloc(size, sizeof *r.sum);
        r.grad = calloc(size, sizeof *r.grad);
        if (r.sum && r.grad)
            run_steps(&r, lr);
        else
            fixture_fail(&r.f, "out of memory");
    }
    psg_optimizer_free(r.opt);
    free(r.sum);
    free(r.grad);
    free(r.bound);
    fixture_close(&r.f);
}
