#include "job/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"
#include "job/model.h"
#include "job/noise.h"

enum { STEPS_MAX = 100000000, LR_LIST_MAX = 1000000 };

struct plan *plan_free(struct plan *plan)
{
    if (!plan)
        return NULL;
    psg_plan_free(plan->compiled);
    psg_program_free(plan->program);
    free(plan->start);
    free(plan->group);
    free(plan->group_norm);
    free(plan->lr_list);
    free(plan->noise_list);
    free(plan->clip_list);
    free(plan);
    return NULL;
}

void plan_freep(struct plan **planp)
{
    *planp = plan_free(*planp);
}

static int invalid(struct problem *p, const char *pointer, enum problem_item_code code,
                   const char *text)
{
    problem_invalid(p, pointer, code, "%s", text);
    return ERROR_REFUSED;
}

/* ---- steps and sampling ---- */

static int plan_sampling(const struct job_spec *spec, const struct dataset_spec *dataset,
                         struct plan *plan, struct problem *p)
{
    const struct train_spec *train = &spec->train;
    double nominal = (double)dataset->nominal_size;
    plan->sample_rate = (double)train->batch_size / nominal;
    if (plan->sample_rate > 1) {
        problem_invalid(p, "/train/batch_size", ITEM_OUT_OF_RANGE,
                        "is larger than the dataset's nominal size, %lld",
                        (long long)dataset->nominal_size);
        return ERROR_REFUSED;
    }
    plan->steps_per_epoch = llround(fmax(1, nominal / (double)train->batch_size));
    double steps = train->steps >= 0 ? (double)train->steps
                                     : train->epochs * (double)plan->steps_per_epoch;
    if (!(steps <= STEPS_MAX))
        return invalid(p, train->steps >= 0 ? "/train/steps" : "/train/epochs",
                       ITEM_OUT_OF_RANGE, "is more than 100 million steps");
    plan->steps = llround(fmax(1, steps));
    plan->options.sample_rate = plan->sample_rate;
    plan->options.batch_size = train->batch_size;
    plan->options.expected_batch_size = (double)train->batch_size;
    plan->options.poisson = plan->is_private && spec->privacy->poisson_sampling;
    plan->not_amplified = plan->is_private && !spec->privacy->poisson_sampling;
    return 0;
}

/* ---- clipping ---- */

static int group_of(const struct privacy_spec *privacy, const char *param)
{
    for (size_t g = 0; g < privacy->n_groups; g++)
        for (size_t k = 0; k < privacy->groups[g].n_params; k++) {
            const char *name = privacy->groups[g].params[k];
            size_t n = strlen(name);
            if (strncmp(param, name, n) == 0 && (param[n] == '\0' || param[n] == '.'))
                return (int)g;
        }
    return -1;
}

static int plan_groups(const struct privacy_spec *privacy, struct plan *plan, struct problem *p)
{
    int n = psg_program_n_params(plan->program);
    plan->group = calloc((size_t)n + 1, sizeof *plan->group);
    plan->group_norm = calloc(privacy->n_groups + 1, sizeof *plan->group_norm);
    if (!plan->group || !plan->group_norm)
        return error_nomem(p);
    for (int i = 0; i < n; i++) {
        const struct psg_param_info *info = psg_program_param(plan->program, i);
        int g = group_of(privacy, info->name);
        if (g < 0 && info->trainable) {
            problem_invalid(p, "/privacy/groups", ITEM_MISSING_MEMBER,
                            "parameter %.100s is in no group", info->name);
            return ERROR_REFUSED;
        }
        plan->group[i] = g < 0 ? 0 : g;
    }
    for (size_t g = 0; g < privacy->n_groups; g++)
        plan->group_norm[g] = privacy->groups[g].max_grad_norm;
    plan->options.plan.group = plan->group;
    plan->options.plan.n_groups = (int)privacy->n_groups;
    plan->options.group_norm = plan->group_norm;
    plan->options.n_group_norm = (int)privacy->n_groups;
    return 0;
}

static int n_trainable(const struct psg_program *program)
{
    int n = 0;
    for (int i = 0; i < psg_program_n_params(program); i++)
        n += psg_program_param(program, i)->trainable;
    return n;
}

static int plan_layers(const struct privacy_spec *privacy, struct plan *plan, struct problem *p)
{
    size_t n = privacy->max_grad_norm.n;
    if (n != 1 && n != (size_t)n_trainable(plan->program)) {
        problem_invalid(p, "/privacy/max_grad_norm", ITEM_SHAPE_MISMATCH,
                        "needs one number, or one for each of the %d trainable parameters",
                        n_trainable(plan->program));
        return ERROR_REFUSED;
    }
    plan->group_norm = calloc(n, sizeof *plan->group_norm);
    if (!plan->group_norm)
        return error_nomem(p);
    memcpy(plan->group_norm, privacy->max_grad_norm.data, n * sizeof *plan->group_norm);
    plan->options.group_norm = plan->group_norm;
    plan->options.n_group_norm = (int)n;
    return 0;
}

static int plan_adaptive(const struct privacy_spec *privacy, double batch, struct plan *plan,
                         struct problem *p)
{
    struct psg_adaptive_clip a = {
        .bound = privacy->max_grad_norm.data[0],
        .quantile = privacy->target_unclipped_quantile,
        .learning_rate = privacy->clipbound_learning_rate,
        .count_stddev = isnan(privacy->unclipped_num_std) ? batch / 20
                                                           : privacy->unclipped_num_std,
        .expected_batch_size = batch,
        .min_bound = isnan(privacy->min_clipbound) ? 1e-12 : privacy->min_clipbound,
        .max_bound = isnan(privacy->max_clipbound) ? 1e12 : privacy->max_clipbound,
    };
    struct psg_error err;
    double z, s = noise_largest(plan) / sqrt(1 - plan->options.telemetry_share);
    plan->options.adaptive = a;
    if (psg_adaptive_check(&a, &err) < 0)
        return error_from_psg(p, "/privacy", &err);
    if (s > 0 && psg_adaptive_noise_multiplier(s, a.count_stddev, &z, &err) < 0)
        return error_from_psg(p, "/privacy/unclipped_num_std", &err);
    return 0;
}

static int plan_clipping(const struct job_spec *spec, struct plan *plan, struct problem *p)
{
    const struct privacy_spec *privacy = spec->privacy;
    struct psg_train_options *o = &plan->options;
    o->max_grad_norm = (struct psg_schedule){ .kind = PSG_SCHEDULE_CONSTANT,
                                              .initial = 1,
                                              .period = 1 };
    if (privacy->max_grad_norm.n > 0 && privacy->clipping != CLIPPING_PER_LAYER)
        o->max_grad_norm.initial = privacy->max_grad_norm.data[0];
    int r = noise_clip_schedule(spec, plan, p);
    if (r)
        return r;
    switch (privacy->clipping) {
    case CLIPPING_FLAT: o->clipping = PSG_CLIP_FLAT; return 0;
    case CLIPPING_PER_LAYER: o->clipping = PSG_CLIP_PER_LAYER; return plan_layers(privacy, plan, p);
    case CLIPPING_PER_GROUP: o->clipping = PSG_CLIP_PER_GROUP; return plan_groups(privacy, plan, p);
    case CLIPPING_ADAPTIVE:
        o->clipping = PSG_CLIP_ADAPTIVE;
        return plan_adaptive(privacy, (double)spec->train.batch_size, plan, p);
    case CLIPPING_AUTOMATIC:
        o->clipping = privacy->variant == AUTOMATIC_AUTO_V ? PSG_CLIP_AUTO_V : PSG_CLIP_AUTO_S;
        o->auto_gamma = privacy->gamma;
        return 0;
    }
    return ERROR_INTERNAL;
}

/* ---- what is released beside the model ---- */

static void plan_telemetry(const struct job_spec *spec, const struct dataset_spec *dataset,
                           struct plan *plan)
{
    plan->telemetry = dataset->is_public && !plan->is_private ? TELEMETRY_RAW
                                                               : dataset->telemetry;
    plan->loss_bound = isnan(spec->telemetry.loss_bound) ? dataset->loss_bound
                                                         : spec->telemetry.loss_bound;
    plan->options.loss_bound = plan->loss_bound;
    if (plan->is_private && plan->telemetry == TELEMETRY_PRIVATE)
        plan->options.telemetry_share = spec->telemetry.share;
}

/* ---- optimizer and learning rate ---- */

static int plan_optimizer(const struct job_spec *spec, struct plan *plan, struct problem *p)
{
    static const enum psg_optimizer_kind kinds[] = {
        [OPTIMIZER_SGD] = PSG_SGD,         [OPTIMIZER_ADAM] = PSG_ADAM,
        [OPTIMIZER_ADAMW] = PSG_ADAMW,     [OPTIMIZER_RMSPROP] = PSG_RMSPROP,
        [OPTIMIZER_ADAGRAD] = PSG_ADAGRAD,
    };
    const struct optimizer_spec *o = &spec->optimizer;
    struct psg_optimizer_config config = psg_optimizer_defaults(kinds[o->type]);
    config.weight_decay = o->weight_decay;
    config.momentum = o->momentum;
    config.dampening = o->dampening;
    config.nesterov = o->nesterov;
    config.beta1 = o->betas[0];
    config.beta2 = o->betas[1];
    config.eps = o->eps;
    config.alpha = o->alpha;
    config.centered = o->centered;
    config.lr_decay = o->lr_decay;
    config.initial_accumulator_value = o->initial_accumulator_value;
    config.dp_bias_correction = o->dp_bias_correction;
    plan->options.optimizer = config;
    struct psg_error err;
    if (psg_optimizer_check(&config, &err) < 0)
        return error_from_psg(p, "/optimizer", &err);
    return 0;
}

/* torch.optim.lr_scheduler's MultiStepLR and LinearLR, written out step by step */
static double listed_rate(const struct lr_schedule *s, double lr, int64_t step)
{
    if (s->type == LR_SCHEDULE_MULTI_STEP) {
        for (size_t k = 0; k < s->n_milestones && s->milestones[k] <= step; k++)
            lr *= s->gamma;
        return lr;
    }
    double at = fmin(1, (double)step / (double)s->total_iters);
    return lr * (s->start_factor + (s->end_factor - s->start_factor) * at);
}

static int plan_rate_list(const struct lr_schedule *s, double lr, struct plan *plan,
                          struct problem *p)
{
    int64_t last = s->type == LR_SCHEDULE_LINEAR  ? s->total_iters
                   : s->n_milestones ? s->milestones[s->n_milestones - 1]
                                                  : 0;
    last = last < plan->steps ? last : plan->steps;
    if (last > LR_LIST_MAX)
        return invalid(p, "/lr_schedule", ITEM_OUT_OF_RANGE,
                       "changes later than a million steps are not possible");
    plan->lr_list = calloc((size_t)last + 1, sizeof *plan->lr_list);
    if (!plan->lr_list)
        return error_nomem(p);
    for (int64_t k = 0; k <= last; k++)
        plan->lr_list[k] = listed_rate(s, lr, k);
    plan->options.lr.kind = PSG_SCHEDULE_LIST;
    plan->options.lr.list = plan->lr_list;
    plan->options.lr.n_list = last + 1;
    return 0;
}

static int plan_rate(const struct job_spec *spec, struct plan *plan, struct problem *p)
{
    const struct lr_schedule *s = spec->lr_schedule;
    struct psg_schedule *lr = &plan->options.lr;
    *lr = (struct psg_schedule){ .kind = PSG_SCHEDULE_CONSTANT,
                                 .initial = spec->optimizer.lr,
                                 .period = 1 };
    if (!s)
        return 0;
    lr->warmup = (uint64_t)s->warmup_steps;
    switch (s->type) {
    case LR_SCHEDULE_CONSTANT: break;
    case LR_SCHEDULE_STEP:
        lr->kind = PSG_SCHEDULE_STEP;
        lr->gamma = s->gamma;
        lr->period = (uint64_t)s->step_size;
        break;
    case LR_SCHEDULE_EXPONENTIAL:
        lr->kind = PSG_SCHEDULE_EXPONENTIAL;
        lr->gamma = s->gamma;
        break;
    case LR_SCHEDULE_COSINE:
        lr->kind = PSG_SCHEDULE_COSINE;
        lr->final = s->eta_min;
        lr->period = (uint64_t)(s->t_max > 0 ? s->t_max : plan->steps);
        break;
    case LR_SCHEDULE_MULTI_STEP:
    case LR_SCHEDULE_LINEAR: {
        int r = plan_rate_list(s, spec->optimizer.lr, plan, p);
        if (r)
            return r;
    }
    }
    struct psg_error err;
    return psg_schedule_check(lr, &err) < 0 ? error_from_psg(p, "/lr_schedule", &err) : 0;
}

/* ---- compile ---- */

/* Why a job cannot have the GPU that it asks for. */
static int refuse_gpu(const struct plan_limits *limits, struct problem *p)
{
    const struct psg_devices *gpus = limits->gpus;
    if (!gpus || gpus->n == 0)
        problem_invalid(p, "/device", ITEM_UNSUPPORTED, "no GPU is available here: %s",
                        gpus ? gpus->why : "none was looked for");
    else
        problem_invalid(p, "/device", ITEM_UNSUPPORTED, "jobs train on the CPU only");
    return ERROR_REFUSED;
}

static int check_scope(const struct job_spec *spec, const struct dataset_spec *dataset,
                       const struct plan_limits *limits, struct problem *p)
{
    if (!spec->privacy && !dataset->is_public)
        return invalid(p, "/privacy", ITEM_NOT_PUBLIC,
                       "only data marked public may be used without privacy");
    if (spec->seed >= 0 && !dataset->is_public)
        return invalid(p, "/seed", ITEM_NOT_PUBLIC,
                       "a seed makes the noise predictable: only for data marked public");
    if (spec->device.kind == DEVICE_CUDA)
        return refuse_gpu(limits, p);
    return 0;
}

static int plan_compile(const struct job_spec *spec, const struct plan_limits *limits,
                        struct plan *plan, struct problem *p)
{
    struct psg_plan_options options = plan->options.plan;
    struct psg_plan_info info;
    struct psg_error err;
    int64_t size = psg_program_param_size(plan->program);
    /* parameters, sum, two optimizer moments, and a copy for the checkpoint */
    int64_t vectors = 8 * size * (int64_t)sizeof(psg_real);
    if (limits->memory_bytes && (uint64_t)vectors > limits->memory_bytes)
        return invalid(p, "/model", ITEM_DOES_NOT_FIT, "needs more memory than a job may have");
    int r = psg_plan_new(plan->program, &options, &plan->compiled, &err);
    if (r == PSG_E_INVALID) { /* a rule of a plugin; place is the parameter */
        problem_invalid(p, "/model", ITEM_INVALID_VALUE, "%s: %s", err.place, err.text);
        return ERROR_REFUSED;
    }
    if (r < 0)
        return error_from_psg(p, spec->grad_sample_mode == GRAD_SAMPLE_AUTO ? "/model"
                                                                            : "/grad_sample_mode",
                              &err);
    psg_plan_info(plan->compiled, &info);
    plan->memory_bytes = vectors + (int64_t)info.bytes;
    if (limits->memory_bytes && (uint64_t)plan->memory_bytes > limits->memory_bytes)
        return invalid(p, "/model", ITEM_DOES_NOT_FIT, "needs more memory than a job may have");
    return 0;
}

/* A budget is about one kind of neighbours. Neither unit's bound implies the other's: a record more
 * or less changes a user's clipped sum by up to 2 C, a user more or less any number of records. */
static int plan_unit(const struct job_spec *spec, const struct dataset_spec *dataset,
                     struct plan *plan, struct problem *p)
{
    plan->unit = spec->privacy->unit ? spec->privacy->unit : dataset->unit;
    if (plan->unit != dataset->unit && dataset->budget) {
        problem_invalid(p, "/privacy/unit", ITEM_INVALID_VALUE,
                        "the dataset's budget is one of unit %s",
                        dataset_unit_name(dataset->unit));
        return ERROR_REFUSED;
    }
    if (plan->unit == PRIVACY_UNIT_USER &&
        dataset_user_column(dataset->n_columns, dataset->columns) == dataset->n_columns)
        return invalid(p, "/privacy/unit", ITEM_UNSUPPORTED,
                       "the dataset has no column of kind user");
    return 0;
}

static int plan_privacy(const struct job_spec *spec, const struct dataset_spec *dataset,
                        double delta, struct plan *plan, struct problem *p)
{
    plan->delta = plan->epsilon = NAN;
    if (!spec->privacy)
        return 0;
    int r = plan_unit(spec, dataset, plan, p);
    if (r)
        return r;
    plan->options.is_private = true;
    plan->options.sum_reduction = spec->privacy->loss_reduction == LOSS_REDUCTION_SUM;
    plan->options.secure_noise = spec->privacy->secure_noise;
    r = noise_plan(spec, dataset, delta, plan, p);
    return r ? r : plan_clipping(spec, plan, p);
}

int plan_make(const struct job_spec *spec, const struct dataset_spec *dataset, double delta,
              const struct plan_limits *limits, struct plan **planp, struct problem *p)
{
    _cleanup_(plan_freep) struct plan *plan = calloc(1, sizeof *plan);
    struct model_data data = { data_input_type(dataset), dataset->classes, dataset->n_columns,
                               dataset->columns, limits->registry, limits->env, limits->uploads };
    if (!plan)
        return error_nomem(p);
    plan->is_private = spec->privacy != NULL;
    plan->options.plan.mode = (enum psg_mode)psg_mode_find(
        grad_sample_mode_name(spec->grad_sample_mode));
    plan->options.plan.precision = spec->precision == PRECISION_BF16 ? PSG_PRECISION_BF16
                                                                     : PSG_PRECISION_F32;
    plan->options.plan.n_threads = limits->n_threads;
    plan->options.plan.registry = limits->registry;
    int r = check_scope(spec, dataset, limits, p);
    if (r == 0)
        r = plan_sampling(spec, dataset, plan, p);
    if (r == 0)
        r = model_build(spec, &data, &plan->program, &plan->start, p);
    plan->options.start = plan->start;
    if (r == 0) {
        plan_telemetry(spec, dataset, plan);
        r = plan_privacy(spec, dataset, delta, plan, p);
    }
    if (r == 0)
        r = plan_optimizer(spec, plan, p);
    if (r == 0)
        r = plan_rate(spec, plan, p);
    if (r == 0)
        r = plan_compile(spec, limits, plan, p);
    if (r == 0)
        *planp = steal(&plan);
    return r;
}
