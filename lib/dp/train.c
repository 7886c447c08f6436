/* One run: the parts of a step in order. */
#include "psg/train.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct psg_trainer {
    const struct psg_program *program;
    struct psg_train_options options;
    struct psg_plan *plan;
    struct psg_team *team;
    struct psg_optimizer *optimizer;
    struct psg_key key;
    struct psg_poisson poisson;
    struct psg_shuffle *shuffle;
    struct psg_batch batch;
    struct psg_column *column;
    int64_t n_records, n_trainable;
    int n_bounds;
    double *bound0, *bound; /* [n_bounds] at step 0, and of this step */
    int *group;             /* [n_params] for PER_LAYER */
    psg_real *params, *sum;
    uint64_t step;
};

static bool grouped(enum psg_clipping kind)
{
    return kind == PSG_CLIP_PER_LAYER || kind == PSG_CLIP_PER_GROUP;
}

double psg_trainer_noise_multiplier(const struct psg_train_options *options, uint64_t step)
{
    return options->is_private ? psg_schedule_value(&options->noise_multiplier, step) : 0;
}

/* ---- clipping ---- */

struct weigh_arg {
    const struct psg_trainer *trainer;
    atomic_llong *n_within; /* adaptive: records within the bound */
};

static void weigh(const void *arg, int64_t n, int64_t stride, int n_groups, const double *sq,
                  psg_real *weight)
{
    const struct weigh_arg *w = arg;
    const struct psg_trainer *t = w->trainer;
    enum psg_clipping kind = t->options.clipping;
    for (int g = 0; g < n_groups; g++)
        psg_clip_factors(grouped(kind) ? PSG_CLIP_FLAT : kind, t->bound[g], n, sq + g * stride,
                         weight + g * stride, NULL, NULL);
    if (kind == PSG_CLIP_ADAPTIVE)
        atomic_fetch_add(w->n_within, psg_adaptive_count(&t->options.adaptive, n, sq));
}

/* The bounds of this step; returns C, the L2 bound of one record's whole contribution. */
static double set_bounds(struct psg_trainer *t)
{
    const struct psg_train_options *o = &t->options;
    if (o->clipping == PSG_CLIP_ADAPTIVE) {
        t->bound[0] = o->adaptive.bound;
        return t->bound[0];
    }
    double now = psg_schedule_value(&o->max_grad_norm, t->step);
    if (!grouped(o->clipping)) {
        t->bound[0] = now;
        return now;
    }
    double ratio = now / psg_schedule_value(&o->max_grad_norm, 0);
    for (int g = 0; g < t->n_bounds; g++)
        t->bound[g] = t->bound0[g] * ratio;
    return psg_clip_total_bound(t->n_bounds, t->bound);
}

/* Noise multiplier of the gradient alone, when parts of the step's budget go to telemetry and
 * to the count behind an adaptive bound. */
static int gradient_multiplier(const struct psg_train_options *o, double s, double *zp,
                               struct psg_error *err)
{
    double z = s / sqrt(1 - o->telemetry_share);
    if (o->clipping == PSG_CLIP_ADAPTIVE && z > 0)
        return psg_adaptive_noise_multiplier(z, o->adaptive.count_stddev, zp, err);
    *zp = z;
    return 0;
}

/* ---- noise and update, over ranges of the flat vector ---- */

struct finish {
    struct psg_trainer *t;
    double stddev, divide;
};

enum { RANGE = 16384 };

/* Adds noise to the part of one parameter that lies in [first, last). */
static void add_noise(const struct finish *f, int i, int64_t first, int64_t last)
{
    const struct psg_param_info *p = psg_program_param(f->t->program, i);
    int64_t from = p->offset > first ? p->offset : first;
    int64_t to = p->offset + p->size < last ? p->offset + p->size : last;
    if (p->trainable && from < to)
        psg_noise_add(&f->t->key, f->t->step, (uint32_t)i, from - p->offset, to - from,
                      f->stddev, f->t->sum + from, NULL);
}

static void finish_ranges(void *arg, int thread, int n_threads)
{
    const struct finish *f = arg;
    struct psg_trainer *t = f->t;
    for (int64_t first = (int64_t)thread * RANGE; first < t->n_trainable;
         first += (int64_t)n_threads * RANGE) {
        int64_t last = first + RANGE < t->n_trainable ? first + RANGE : t->n_trainable;
        if (f->stddev > 0)
            for (int i = 0; i < psg_program_n_params(t->program); i++)
                add_noise(f, i, first, last);
        for (int64_t k = first; k < last; k++)
            t->sum[k] = (psg_real)((double)t->sum[k] / f->divide);
        psg_optimizer_update(t->optimizer, first, last - first, t->sum + first,
                             t->params + first);
    }
}

/* ---- telemetry ---- */

/* The two noised numbers of privacy.md, "The stream is a release too". */
static int add_telemetry(const struct psg_trainer *t, double s, struct psg_step_report *r,
                         struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    float z[2];
    double share = o->telemetry_share, e = o->expected_batch_size;
    int status = psg_normal_fill(&t->key, PSG_RNG_TELEMETRY, t->step, 0, 0, 2, z, err);
    if (status)
        return status;
    double spread = s / sqrt(share / 2);
    r->noisy_loss = (r->exact.loss_bounded_sum + o->loss_bound * spread * (double)z[0]) / e;
    r->noisy_clip_fraction = ((double)r->exact.n_clipped + spread * (double)z[1]) / e;
    return 0;
}

/* ---- the step ---- */

static int draw(struct psg_trainer *t, struct psg_error *err)
{
    if (t->options.poisson)
        return psg_poisson_draw(&t->poisson, t->step, &t->batch, err);
    return psg_shuffle_draw(t->shuffle, t->step, &t->batch, err);
}

static int make_sum(struct psg_trainer *t, struct psg_step_report *r, int64_t *n_within,
                    struct psg_error *err)
{
    atomic_llong within = 0;
    struct weigh_arg arg = { t, &within };
    struct psg_records records = { .n = t->batch.n,
                                   .record = t->batch.record,
                                   .column = t->column,
                                   .key = &t->key,
                                   .step = t->step };
    if (!t->options.is_private) {
        double loss = 0;
        int status = psg_plain_sum(t->plan, t->params, &records, t->sum, &loss, err);
        r->exact = (struct psg_sum_stats){ .n = t->batch.n, .loss_sum = loss };
        return status;
    }
    struct psg_sum_options options = { .weight = weigh,
                                       .weight_arg = &arg,
                                       .loss_bound = t->options.loss_bound };
    int status = psg_clipped_sum(t->plan, t->params, &records, &options, t->sum, &r->exact, err);
    *n_within = atomic_load(&within);
    return status;
}

int psg_trainer_step(struct psg_trainer *t, struct psg_step_report *report,
                     struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    double s = psg_trainer_noise_multiplier(o, t->step), z = 0;
    double c = o->is_private ? set_bounds(t) : 0;
    struct psg_step_report r = { .step = t->step,
                                 .lr = psg_schedule_value(&o->lr, t->step),
                                 .noise_multiplier = s,
                                 .max_grad_norm = c,
                                 .noisy_loss = NAN,
                                 .noisy_clip_fraction = NAN };
    int64_t n_within = 0;
    int status = gradient_multiplier(o, s, &z, err);
    if (status == 0)
        status = draw(t, err);
    if (status == 0)
        status = make_sum(t, &r, &n_within, err);
    if (status == 0 && o->is_private && o->telemetry_share > 0)
        status = add_telemetry(t, s, &r, err);
    if (status == 0 && o->is_private && o->clipping == PSG_CLIP_ADAPTIVE)
        status = psg_adaptive_update(&t->options.adaptive, &t->key, t->step, t->batch.n,
                                     n_within, err);
    if (status)
        return status;
    struct finish f = { .t = t,
                        .stddev = z * c,
                        .divide = o->sum_reduction ? 1 : o->expected_batch_size };
    psg_optimizer_begin(t->optimizer, r.lr, pow(f.stddev / f.divide, 2));
    psg_team_run(t->team, finish_ranges, &f);
    t->step++;
    *report = r;
    return 0;
}

/* ---- making and ending ---- */

static int bad(struct psg_error *err, const char *place, const char *text)
{
    return psg_fail(err, PSG_E_RANGE, place, "%s", text);
}

static int check_private(const struct psg_train_options *o, struct psg_error *err)
{
    if (!(o->telemetry_share >= 0 && o->telemetry_share < 1))
        return bad(err, "telemetry_share", "must be at least 0 and below 1");
    if (o->telemetry_share > 0 && !(o->loss_bound > 0 && isfinite(o->loss_bound)))
        return bad(err, "loss_bound", "telemetry needs a positive bound of the loss");
    if (!(psg_schedule_value(&o->noise_multiplier, 0) >= 0))
        return bad(err, "noise_multiplier", "must not be negative");
    int r = psg_schedule_check(&o->noise_multiplier, err);
    if (r == 0 && o->clipping == PSG_CLIP_ADAPTIVE)
        return psg_adaptive_check(&o->adaptive, err);
    if (r == 0)
        r = psg_schedule_check(&o->max_grad_norm, err);
    if (r == 0 && !(psg_schedule_value(&o->max_grad_norm, 0) > 0))
        return bad(err, "max_grad_norm", "must be positive");
    return r;
}

static int check_options(const struct psg_train_options *o, struct psg_error *err)
{
    if (!(o->expected_batch_size > 0 && isfinite(o->expected_batch_size)))
        return bad(err, "expected_batch_size", "must be positive");
    int r = psg_schedule_check(&o->lr, err);
    return r == 0 && o->is_private ? check_private(o, err) : r;
}

/* Every trainable parameter is a group of its own, in order. */
static int layer_groups(struct psg_trainer *t, struct psg_plan_options *plan)
{
    int n = psg_program_n_params(t->program);
    t->group = calloc((size_t)n + 1, sizeof *t->group);
    if (!t->group)
        return PSG_E_NOMEM;
    for (int i = 0; i < n; i++)
        if (psg_program_param(t->program, i)->trainable)
            t->group[i] = plan->n_groups++;
    plan->group = t->group;
    return 0;
}

static int open_bounds(struct psg_trainer *t, int n, struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    t->n_bounds = n;
    t->bound = calloc((size_t)n, sizeof *t->bound);
    t->bound0 = calloc((size_t)n, sizeof *t->bound0);
    if (!t->bound || !t->bound0)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    if (!o->is_private || !grouped(o->clipping))
        return 0;
    if (!o->group_norm || (o->n_group_norm != 1 && o->n_group_norm != n))
        return psg_fail(err, PSG_E_INVALID, "max_grad_norm",
                        "has %d numbers; there are %d layers or groups", o->n_group_norm, n);
    for (int g = 0; g < n; g++) {
        t->bound0[g] = o->group_norm[o->n_group_norm == 1 ? 0 : g];
        if (!(t->bound0[g] > 0 && isfinite(t->bound0[g])))
            return bad(err, "max_grad_norm", "every bound must be positive");
    }
    return 0;
}

static int open_plan(struct psg_trainer *t, struct psg_error *err)
{
    struct psg_plan_options plan = t->options.plan;
    bool by_group = t->options.is_private && t->options.clipping == PSG_CLIP_PER_GROUP;
    if (!by_group) {
        plan.group = NULL;
        plan.n_groups = 0;
    }
    if (t->options.is_private && t->options.clipping == PSG_CLIP_PER_LAYER &&
        layer_groups(t, &plan))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = open_bounds(t, plan.group ? plan.n_groups : 1, err);
    if (r == 0)
        r = psg_plan_new(t->program, &plan, &t->plan, err);
    if (r == 0)
        r = psg_team_new(plan.n_threads > 0 ? plan.n_threads : 1, &t->team, err);
    t->options.group_norm = NULL; /* copied */
    t->options.plan.group = NULL;
    return r;
}

static int open_sampler(struct psg_trainer *t, struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    if (o->poisson)
        return psg_poisson_init(&t->poisson, &t->key, t->n_records, o->sample_rate, err);
    return psg_shuffle_new(&t->key, t->n_records, o->batch_size, &t->shuffle, err);
}

static int trainer_open(struct psg_trainer *t, const struct psg_column *column,
                        struct psg_error *err)
{
    int n_inputs = psg_program_n_inputs(t->program);
    int r = check_options(&t->options, err);
    if (r)
        return r;
    t->n_trainable = psg_program_trainable_size(t->program);
    t->column = calloc((size_t)n_inputs + 1, sizeof *t->column);
    t->params = calloc((size_t)psg_program_param_size(t->program) + 1, sizeof *t->params);
    t->sum = calloc((size_t)t->n_trainable + 1, sizeof *t->sum);
    if (!t->column || !t->params || !t->sum)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    memcpy(t->column, column, (size_t)n_inputs * sizeof *column);
    psg_program_init_params(t->program, &t->key, t->params);
    r = open_plan(t, err);
    if (r == 0)
        r = open_sampler(t, err);
    if (r == 0)
        r = psg_optimizer_new(&t->options.optimizer, t->n_trainable, &t->optimizer, err);
    return r;
}

int psg_trainer_new(const struct psg_program *program, const struct psg_train_options *options,
                    const struct psg_column *column, int64_t n_records,
                    const struct psg_key *key, struct psg_trainer **trainerp,
                    struct psg_error *err)
{
    _cleanup_(psg_trainer_freep) struct psg_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    t->program = program;
    t->options = *options;
    t->n_records = n_records;
    t->key = *key;
    int r = trainer_open(t, column, err);
    if (r == 0)
        *trainerp = steal(&t);
    return r;
}

struct psg_trainer *psg_trainer_free(struct psg_trainer *t)
{
    if (!t)
        return NULL;
    psg_key_wipe(&t->key);
    psg_key_wipe(&t->poisson.key);
    psg_shuffle_free(t->shuffle);
    psg_batch_free(&t->batch);
    psg_optimizer_free(t->optimizer);
    psg_plan_free(t->plan);
    psg_team_free(t->team);
    free(t->column);
    free(t->bound);
    free(t->bound0);
    free(t->group);
    free(t->params);
    free(t->sum);
    free(t);
    return NULL;
}

void psg_trainer_freep(struct psg_trainer **trainerp)
{
    *trainerp = psg_trainer_free(*trainerp);
}

uint64_t psg_trainer_step_number(const struct psg_trainer *t)
{
    return t->step;
}

const psg_real *psg_trainer_params(const struct psg_trainer *t)
{
    return t->params;
}

struct psg_plan *psg_trainer_plan(struct psg_trainer *t)
{
    return t->plan;
}

bool psg_trainer_tensor(struct psg_trainer *t, int i, struct psg_state_tensor *tensor)
{
    if (i == 0) {
        *tensor = (struct psg_state_tensor){ .name = "params",
                                             .data = t->params,
                                             .n = psg_program_param_size(t->program) };
        return true;
    }
    const char *name;
    psg_real *data;
    if (!psg_optimizer_state(t->optimizer, i - 1, &name, &data))
        return false;
    *tensor = (struct psg_state_tensor){ .data = data, .n = t->n_trainable };
    snprintf(tensor->name, sizeof tensor->name, "optimizer.%s", name);
    return true;
}

struct psg_trainer_state psg_trainer_state(const struct psg_trainer *t)
{
    return (struct psg_trainer_state){ .step = t->step,
                                       .adaptive_bound = t->options.adaptive.bound,
                                       .optimizer = psg_optimizer_counters(t->optimizer) };
}

void psg_trainer_set_state(struct psg_trainer *t, const struct psg_trainer_state *state)
{
    t->step = state->step;
    t->options.adaptive.bound = state->adaptive_bound;
    psg_optimizer_set_counters(t->optimizer, &state->optimizer);
}
