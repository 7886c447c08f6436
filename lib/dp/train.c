/* One run: the parts of a step in order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dp/trainer.h"

double psg_trainer_noise_multiplier(const struct psg_train_options *options, uint64_t step)
{
    return options->is_private ? psg_schedule_value(&options->noise_multiplier, step) : 0;
}

/* ---- the step ---- */

static int draw(struct psg_trainer *t, struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    if (!o->poisson)
        return psg_shuffle_draw(t->shuffle, t->step, &t->batch, err);
    int r = psg_poisson_draw(&t->poisson, t->step, &t->batch, err);
    return r || o->max_batch_size == 0
               ? r
               : psg_batch_truncate(&t->key, t->step, o->max_batch_size, &t->batch, err);
}

int psg_trainer_step(struct psg_trainer *t, struct psg_step_report *report,
                     struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    struct trainer_noise noise = { 0 };
    double s = psg_trainer_noise_multiplier(o, t->step);
    double c = o->is_private ? trainer_set_bounds(t) : 0;
    struct psg_step_report r = { .step = t->step,
                                 .lr = psg_schedule_value(&o->lr, t->step),
                                 .noise_multiplier = s,
                                 .max_grad_norm = c,
                                 .noisy_loss = NAN,
                                 .noisy_clip_fraction = NAN };
    int64_t n_within = 0;
    int status = o->is_private ? trainer_noise_of(o, t->n_trainable, s, c, &noise, err) : 0;
    if (status == 0)
        status = draw(t, err);
    if (status == 0)
        status = trainer_sum(t, &r, &n_within, err);
    if (status == 0 && o->is_private && o->telemetry_share > 0)
        status = trainer_telemetry(t, s, &r, err);
    if (status == 0 && o->is_private && o->clipping == PSG_CLIP_ADAPTIVE)
        status = psg_adaptive_update(&t->options.adaptive, &t->key, t->step, t->batch.n,
                                     n_within, err);
    if (status)
        return status;
    trainer_finish(t, &noise);
    t->step++;
    *report = r;
    return 0;
}

/* ---- making and ending ---- */

static int bad(struct psg_error *err, const char *place, const char *text)
{
    return psg_fail(err, PSG_E_RANGE, place, "%s", text);
}

/* Truncation and units go with Poisson sampling and shuffling as the header says. */
static int check_sampling(const struct psg_train_options *o, struct psg_error *err)
{
    if (o->max_batch_size < 0 || (o->max_batch_size > 0 && !o->poisson))
        return bad(err, "max_batch_size", "belongs to Poisson sampling, and is positive");
    if (o->units.n < 0 || (o->units.n > 0 && (!o->units.first || !o->units.record)))
        return bad(err, "units", "need the records of every unit");
    if (!(o->auto_gamma >= 0 && isfinite(o->auto_gamma)))
        return bad(err, "auto_gamma", "must be finite and not negative");
    return 0;
}

static int check_private(const struct psg_train_options *o, struct psg_error *err)
{
    if (!(o->telemetry_share >= 0 && o->telemetry_share < 1))
        return bad(err, "telemetry_share", "must be at least 0 and below 1");
    if (o->telemetry_share > 0 && !(o->loss_bound > 0 && isfinite(o->loss_bound)))
        return bad(err, "loss_bound", "telemetry needs a positive bound of the loss");
    if (!(psg_schedule_value(&o->noise_multiplier, 0) >= 0))
        return bad(err, "noise_multiplier", "must not be negative");
    int r = check_sampling(o, err);
    if (r == 0)
        r = psg_schedule_check(&o->noise_multiplier, err);
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

static int keep_groups(struct psg_trainer *t, struct psg_plan_options *plan)
{
    size_t n = (size_t)psg_program_n_params(t->program);
    t->group = calloc(n + 1, sizeof *t->group);
    if (!t->group)
        return PSG_E_NOMEM;
    memcpy(t->group, plan->group, n * sizeof *t->group);
    plan->group = t->group;
    return 0;
}

static int open_units(struct psg_trainer *t, struct psg_error *err)
{
    t->unit_sum = calloc((size_t)t->n_trainable + 1, sizeof *t->unit_sum);
    t->unit_sq = calloc((size_t)t->n_bounds, sizeof *t->unit_sq);
    t->unit_weight = calloc((size_t)t->n_bounds, sizeof *t->unit_weight);
    if (!t->unit_sum || !t->unit_sq || !t->unit_weight)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
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
    if (!o->is_private || !trainer_is_grouped(o->clipping))
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
    if (by_group && keep_groups(t, &plan))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = open_bounds(t, plan.group ? plan.n_groups : 1, err);
    if (r == 0)
        r = psg_plan_new(t->program, &plan, &t->plan, err);
    t->options.group_norm = NULL; /* copied */
    t->options.plan.group = NULL;
    return r;
}

static int open_sampler(struct psg_trainer *t, struct psg_error *err)
{
    const struct psg_train_options *o = &t->options;
    bool in_units = o->is_private && o->units.n > 0;
    int64_t n = in_units ? o->units.n : t->n_records;
    if (o->max_batch_size > 0 && o->max_records > 0 && n > o->max_records)
        return bad(err, "max_records", "there are more records than batches may be cut for");
    int r = in_units ? open_units(t, err) : 0;
    if (r == 0 && o->poisson)
        return psg_poisson_init(&t->poisson, &t->key, n, o->sample_rate, err);
    return r ? r : psg_shuffle_new(&t->key, n, o->batch_size, &t->shuffle, err);
}

/* What is refused here need not be refused in the middle of a run. */
static int open_noise(struct psg_trainer *t, struct psg_error *err)
{
    struct trainer_noise noise;
    if (!t->options.is_private)
        return 0;
    double s = psg_trainer_noise_multiplier(&t->options, 0);
    return trainer_noise_of(&t->options, t->n_trainable, s, trainer_set_bounds(t), &noise, err);
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
    if (t->options.start)
        memcpy(t->params, t->options.start,
               (size_t)psg_program_param_size(t->program) * sizeof *t->params);
    else
        psg_program_init_params(t->program, &t->key, t->params);
    t->options.start = NULL; /* borrowed for this call only */
    r = open_plan(t, err);
    if (r == 0)
        r = open_sampler(t, err);
    if (r == 0)
        r = open_noise(t, err);
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
    free(t->column);
    free(t->bound);
    free(t->bound0);
    free(t->group);
    free(t->params);
    free(t->sum);
    free(t->unit_sum);
    free(t->unit_sq);
    free(t->unit_weight);
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
