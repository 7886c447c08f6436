#include "job/noise.h"

#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"

enum { VALUES_MAX = 512, SEARCH_MAX = 60 };

static int invalid(struct problem *p, const char *pointer, enum problem_item_code code,
                   const char *text)
{
    problem_invalid(p, pointer, code, "%s", text);
    return ERROR_REFUSED;
}

/* ---- schedules: factors, constant over periods ---- */

static int schedule_of(const struct value_schedule *v, const struct plan *plan, double **listp,
                       struct psg_schedule *s, struct problem *p)
{
    s->kind = PSG_SCHEDULE_CONSTANT;
    s->period = (uint64_t)(v && v->step_size > 0 ? v->step_size : plan->steps_per_epoch);
    if (!v)
        return 0;
    if (v->type != VALUE_SCHEDULE_LIST) {
        s->kind = PSG_SCHEDULE_STEP;
        s->gamma = v->gamma;
        return 0;
    }
    *listp = calloc(v->n_values, sizeof **listp);
    if (!*listp)
        return error_nomem(p);
    for (size_t i = 0; i < v->n_values; i++)
        (*listp)[i] = s->initial * v->values[i];
    s->kind = PSG_SCHEDULE_LIST;
    s->list = *listp;
    s->n_list = (int64_t)v->n_values;
    return 0;
}

/* The values over all steps must stay numbers that noise and bounds can be. */
static int check_values(const struct plan *plan, const struct psg_schedule *s, double most,
                        const char *pointer, struct problem *p)
{
    double first = psg_schedule_value(s, 0);
    double last = psg_schedule_value(s, (uint64_t)(plan->steps - 1));
    bool fine = first >= 0 && last >= 0 && first <= most && last <= most &&
                (first == 0 || (first >= 1e-6 && last >= 1e-6));
    for (int64_t i = 0; s->kind == PSG_SCHEDULE_LIST && i < s->n_list; i++)
        fine &= s->list[i] <= most && (s->list[i] >= 1e-6 || first == 0);
    return fine ? 0 : invalid(p, pointer, ITEM_OUT_OF_RANGE,
                              "leads to values that are too large or too small");
}

int noise_clip_schedule(const struct job_spec *spec, struct plan *plan, struct problem *p)
{
    struct psg_schedule *s = &plan->options.max_grad_norm;
    int r = schedule_of(spec->privacy->max_grad_norm_schedule, plan, &plan->clip_list, s, p);
    return r ? r : check_values(plan, s, 1e12, "/privacy/max_grad_norm_schedule", p);
}

static int64_t n_periods(const struct plan *plan)
{
    const struct psg_schedule *s = &plan->options.noise_multiplier;
    if (s->kind == PSG_SCHEDULE_CONSTANT)
        return 1;
    int64_t period = (int64_t)s->period, n = (plan->steps - 1) / period + 1;
    return s->kind == PSG_SCHEDULE_LIST && n > s->n_list ? s->n_list : n;
}

double noise_largest(const struct plan *plan)
{
    const struct psg_schedule *s = &plan->options.noise_multiplier;
    double most = 0;
    for (int64_t k = 0; k < n_periods(plan); k++)
        most = fmax(most, psg_schedule_value(s, (uint64_t)k * s->period));
    return most;
}

/* ---- what the steps cost ---- */

/* The plan's steps as a history: one event for each period, event[n_periods]. */
static void history(const struct plan *plan, double q, struct psg_dp_event *event)
{
    const struct psg_schedule *s = &plan->options.noise_multiplier;
    int64_t n = n_periods(plan), period = (int64_t)s->period;
    for (int64_t k = 0; k < n; k++) {
        int64_t steps = k + 1 < n ? period : plan->steps - k * period;
        event[k] = (struct psg_dp_event){ q, psg_schedule_value(s, (uint64_t)(k * period)),
                                          n == 1 ? plan->steps : steps };
    }
}

/* Sets the noise multiplier before the schedule, and the schedule with it. */
static int set_noise(const struct job_spec *spec, struct plan *plan, double noise,
                     struct problem *p)
{
    struct psg_schedule *s = &plan->options.noise_multiplier;
    plan->noise_multiplier = noise;
    *s = (struct psg_schedule){ .initial = noise };
    free(plan->noise_list);
    plan->noise_list = NULL;
    int r = schedule_of(spec->privacy->noise_schedule, plan, &plan->noise_list, s, p);
    if (r == 0 && n_periods(plan) > VALUES_MAX)
        return invalid(p, "/privacy/noise_schedule", ITEM_TOO_MANY,
                       "takes more than 512 values; a larger step_size makes fewer");
    return r ? r : check_values(plan, s, 1e6, "/privacy/noise_schedule", p);
}

static int ask(const struct plan *plan, double q, double delta, double *epsilonp,
               struct problem *p)
{
    struct psg_dp_epsilon eps;
    struct psg_error err;
    size_t n = (size_t)n_periods(plan);
    _cleanup_free_ struct psg_dp_event *event = calloc(n, sizeof *event);
    if (!event)
        return error_nomem(p);
    history(plan, q, event);
    if (psg_dp_epsilon(plan->accountant, event, n, delta, &eps, &err) < 0)
        return error_from_psg(p, "/privacy", &err);
    *epsilonp = eps.epsilon;
    return 0;
}

/* Noise before a schedule for a target: the constant noise that would do is where to start, the
 * logarithm of epsilon falls about evenly with that of the noise. The answer never exceeds the
 * target and misses it by less than a part in ten thousand of the noise. */
static int search(const struct job_spec *spec, double q, double delta, double start,
                  struct plan *plan, struct problem *p)
{
    double target = spec->privacy->target_epsilon, low = 0, high = 0, at = start;
    for (int i = 0; i < SEARCH_MAX && !(low > 0 && high > 0 && high < low * 1.0001); i++) {
        double epsilon = INFINITY;
        int r = set_noise(spec, plan, at, p);
        if (r == 0)
            r = ask(plan, q, delta, &epsilon, p);
        if (r)
            return r;
        if (epsilon <= target)
            high = at;
        else
            low = at;
        at = low > 0 && high > 0 ? sqrt(low * high) : high > 0 ? high / 1.5 : low * 1.5;
    }
    if (!(high > 0))
        return invalid(p, "/privacy/target_epsilon", ITEM_OUT_OF_RANGE,
                       "no noise multiplier reaches it with this schedule");
    return set_noise(spec, plan, high, p);
}

static int calibrate(const struct job_spec *spec, double q, double delta, struct plan *plan,
                     struct problem *p)
{
    struct psg_error err;
    double noise = spec->privacy->noise_multiplier;
    if (isnan(spec->privacy->target_epsilon))
        return set_noise(spec, plan, noise, p);
    struct psg_dp_target target = { .kind = plan->accountant,
                                    .epsilon = spec->privacy->target_epsilon,
                                    .delta = delta };
    if (psg_dp_noise_multiplier(&target, q, plan->steps, &noise, NULL, &err) < 0)
        return error_from_psg(p, "/privacy/target_epsilon", &err);
    if (!spec->privacy->noise_schedule || noise == 0)
        return set_noise(spec, plan, noise, p);
    return search(spec, q, delta, noise, plan, p);
}

/* The ledger counts in steps of one noise multiplier. It is given the largest with which, at each
 * of its orders, the first n steps cost no less than they do by the schedule, for every n: exact
 * at the end where noise falls, more than exact where it rises. */
static double ledger_noise(const struct psg_dp_event *event, size_t n, double q)
{
    struct filter f;
    double least = INFINITY, most = 0;
    for (size_t k = 0; k < n; k++) {
        least = fmin(least, event[k].noise_multiplier);
        most = fmax(most, event[k].noise_multiplier);
    }
    if (n == 1 || least == most)
        return least;
    filter_init(&f, 1, 0.5);
    double answer = most;
    for (int j = 0; j < FILTER_K; j++) {
        double total = 0, steps = 0, mean = 0, rdp = INFINITY;
        for (size_t k = 0; k < n; k++) {
            (void)psg_rdp_step(q, event[k].noise_multiplier, f.order[j], &rdp, NULL);
            total += rdp * (double)event[k].steps;
            steps += (double)event[k].steps;
            mean = fmax(mean, total / steps);
        }
        double low = least, high = most; /* low is noisy enough to cost the mean */
        for (int i = 0; i < 50; i++) {
            double mid = sqrt(low * high);
            bool costs = psg_rdp_step(q, mid, f.order[j], &rdp, NULL) == 0 && rdp >= mean;
            low = costs ? mid : low;
            high = costs ? high : mid;
        }
        answer = fmin(answer, low);
    }
    return fmax(answer * (1 - 1e-8), least);
}

/* ---- batches that are cut ---- */

static int plan_cut(const struct job_spec *spec, const struct dataset_spec *dataset,
                    double dataset_delta, struct plan *plan, struct problem *p)
{
    struct psg_train_options *o = &plan->options;
    struct psg_error err;
    double delta = fmin(plan->delta, isnan(dataset_delta) ? 1 : dataset_delta), extra = 1;
    double epsilon = dataset->budget ? dataset->budget->epsilon : plan->epsilon;
    if (spec->privacy->max_batch_size < 1)
        return 0;
    o->max_batch_size = spec->privacy->max_batch_size;
    /* the true number of records is private: one that is a tenth larger is covered */
    o->max_records = llround(1.1 * (double)dataset->nominal_size) + 16;
    int64_t size = o->max_batch_size;
    for (;; size += 1 + size / 64) {
        if (psg_truncation_delta(o->max_records, plan->sample_rate, size, plan->steps, epsilon,
                                 &extra, &err) < 0)
            return error_from_psg(p, "/privacy/max_batch_size", &err);
        if (extra <= delta * 0x1p-40 || size > o->max_records)
            break;
    }
    if (size == o->max_batch_size)
        return 0;
    problem_invalid(p, "/privacy/max_batch_size", ITEM_OUT_OF_RANGE,
                    "is reached too often for delta; about %lld would do", (long long)size);
    return ERROR_REFUSED;
}

int noise_plan(const struct job_spec *spec, const struct dataset_spec *dataset, double delta,
               struct plan *plan, struct problem *p)
{
    const struct privacy_spec *privacy = spec->privacy;
    struct psg_error err;
    double q = privacy->poisson_sampling ? plan->sample_rate : 1;
    if (psg_accountant_kind_parse(accountant_kind_name(privacy->accountant), &plan->accountant,
                                  &err) < 0)
        return invalid(p, "/privacy/accountant", ITEM_UNSUPPORTED, err.text);
    plan->delta = isnan(privacy->delta) ? delta : privacy->delta;
    if (isnan(plan->delta))
        return invalid(p, "/privacy/delta", ITEM_MISSING_MEMBER,
                       "is needed, since the dataset has none");
    double left = plan->delta * (privacy->max_batch_size > 0 ? 1 - NOISE_CUT_SHARE : 1);
    int r = calibrate(spec, q, left, plan, p);
    if (r == 0)
        r = ask(plan, q, left, &plan->epsilon, p);
    if (r)
        return r;
    plan->epsilon = isfinite(plan->epsilon) ? plan->epsilon : NAN;
    size_t n = (size_t)n_periods(plan);
    _cleanup_free_ struct psg_dp_event *event = calloc(n, sizeof *event);
    if (!event)
        return error_nomem(p);
    history(plan, q, event);
    plan->cost = (struct filter_cost){ q, ledger_noise(event, n, q), plan->steps };
    return plan_cut(spec, dataset, delta, plan, p);
}
