/* The clipped sum of a step: bounds, weights, and records that come in units. */
#include <math.h>
#include <stdatomic.h>

#include "dp/trainer.h"

bool trainer_is_grouped(enum psg_clipping kind)
{
    return kind == PSG_CLIP_PER_LAYER || kind == PSG_CLIP_PER_GROUP;
}

double trainer_set_bounds(struct psg_trainer *t)
{
    const struct psg_train_options *o = &t->options;
    if (o->clipping == PSG_CLIP_ADAPTIVE) {
        t->bound[0] = o->adaptive.bound;
        return t->bound[0];
    }
    double now = psg_schedule_value(&o->max_grad_norm, t->step);
    if (!trainer_is_grouped(o->clipping)) {
        t->bound[0] = now;
        return now;
    }
    double ratio = now / psg_schedule_value(&o->max_grad_norm, 0);
    for (int g = 0; g < t->n_bounds; g++)
        t->bound[g] = t->bound0[g] * ratio;
    return psg_clip_total_bound(t->n_bounds, t->bound);
}

struct weigh_arg {
    const struct psg_trainer *trainer;
    atomic_llong *n_within; /* adaptive: records within the bound */
};

static void weigh(const void *arg, int64_t n, int64_t stride, int n_groups, const double *sq,
                  psg_real *weight)
{
    const struct weigh_arg *w = arg;
    const struct psg_trainer *t = w->trainer;
    const struct psg_train_options *o = &t->options;
    enum psg_clipping kind = o->clipping;
    for (int g = 0; g < n_groups; g++) {
        const double *sq_g = sq + g * stride;
        psg_real *weight_g = weight + g * stride;
        if (kind == PSG_CLIP_AUTO_S && o->auto_gamma > 0)
            psg_clip_factors_auto_s(t->bound[g], o->auto_gamma, n, sq_g, weight_g, NULL, NULL);
        else
            psg_clip_factors(trainer_is_grouped(kind) ? PSG_CLIP_FLAT : kind, t->bound[g], n,
                             sq_g, weight_g, NULL, NULL);
    }
    if (kind == PSG_CLIP_ADAPTIVE)
        atomic_fetch_add(w->n_within, psg_adaptive_count(&o->adaptive, n, sq));
}

/* ---- units: one gradient of all records of a user ---- */

/* sq[n_bounds] of t->unit_sum * scale */
static void unit_norms(const struct psg_trainer *t, double scale, double *sq)
{
    for (int g = 0; g < t->n_bounds; g++)
        sq[g] = 0;
    for (int i = 0; i < psg_program_n_params(t->program); i++) {
        const struct psg_param_info *p = psg_program_param(t->program, i);
        if (!p->trainable)
            continue;
        double total = 0;
        for (int64_t k = p->offset; k < p->offset + p->size; k++)
            total += (double)t->unit_sum[k] * (double)t->unit_sum[k];
        sq[t->group ? t->group[i] : 0] += total * scale * scale;
    }
}

/* t->sum += weight[group] * scale * t->unit_sum */
static void unit_add(struct psg_trainer *t, double scale, const psg_real *weight)
{
    for (int i = 0; i < psg_program_n_params(t->program); i++) {
        const struct psg_param_info *p = psg_program_param(t->program, i);
        double w = (double)weight[t->group ? t->group[i] : 0] * scale;
        for (int64_t k = p->offset; p->trainable && k < p->offset + p->size; k++)
            t->sum[k] = (psg_real)((double)t->sum[k] + w * (double)t->unit_sum[k]);
    }
}

static void unit_count(const struct psg_trainer *t, double loss, bool finite,
                       const psg_real *weight, struct psg_sum_stats *s)
{
    double limit = t->options.loss_bound > 0 ? t->options.loss_bound : INFINITY;
    bool clipped = false;
    for (int g = 0; g < t->n_bounds; g++)
        clipped |= weight[g] < 1;
    s->n++;
    s->n_nonfinite += !finite;
    s->n_clipped += clipped;
    s->loss_sum += isfinite(loss) ? loss : 0;
    s->loss_bounded_sum += isfinite(loss) ? fmin(fmax(loss, 0), limit)
                           : isfinite(limit) ? limit : 0;
}

static int unit_into_sum(struct psg_trainer *t, int64_t unit, const struct weigh_arg *arg,
                         double *sq, psg_real *weight, struct psg_sum_stats *stats,
                         struct psg_error *err)
{
    const struct psg_units *u = &t->options.units;
    int64_t n = u->first[unit + 1] - u->first[unit];
    struct psg_records records = { .n = n,
                                   .record = u->record + u->first[unit],
                                   .column = t->column,
                                   .key = &t->key,
                                   .step = t->step };
    double loss = 0, scale = u->sum || n == 0 ? 1 : 1 / (double)n, total = 0;
    int r = psg_plain_sum(t->plan, t->params, &records, t->unit_sum, &loss, err);
    if (r)
        return r;
    unit_norms(t, scale, sq);
    for (int g = 0; g < t->n_bounds; g++)
        total += sq[g];
    weigh(arg, 1, 1, t->n_bounds, sq, weight);
    for (int g = 0; g < t->n_bounds && !isfinite(total); g++)
        weight[g] = 0; /* a unit whose gradient is not finite is left out, not multiplied */
    unit_count(t, loss * scale, isfinite(total), weight, stats);
    stats->norm_sum += isfinite(total) ? sqrt(total) : 0;
    if (isfinite(total))
        unit_add(t, scale, weight);
    return 0;
}

static int sum_of_units(struct psg_trainer *t, const struct weigh_arg *arg,
                        struct psg_sum_stats *stats, struct psg_error *err)
{
    double *sq = t->unit_sq;
    psg_real *weight = t->unit_weight;
    for (int64_t k = 0; k < t->n_trainable; k++)
        t->sum[k] = 0;
    for (int64_t i = 0; i < t->batch.n; i++) {
        int r = unit_into_sum(t, t->batch.record[i], arg, sq, weight, stats, err);
        if (r)
            return r;
    }
    return 0;
}

int trainer_sum(struct psg_trainer *t, struct psg_step_report *r, int64_t *n_within,
                struct psg_error *err)
{
    atomic_llong within = 0;
    struct weigh_arg arg = { t, &within };
    struct psg_records records = { .n = t->batch.n,
                                   .record = t->batch.record,
                                   .column = t->column,
                                   .key = &t->key,
                                   .step = t->step };
    int status;
    if (!t->options.is_private) {
        double loss = 0;
        status = psg_plain_sum(t->plan, t->params, &records, t->sum, &loss, err);
        r->exact = (struct psg_sum_stats){ .n = t->batch.n, .loss_sum = loss };
        return status;
    }
    if (t->options.units.n > 0) {
        status = sum_of_units(t, &arg, &r->exact, err);
    } else {
        struct psg_sum_options options = { .weight = weigh,
                                           .weight_arg = &arg,
                                           .loss_bound = t->options.loss_bound };
        status = psg_clipped_sum(t->plan, t->params, &records, &options, t->sum, &r->exact, err);
    }
    *n_within = atomic_load(&within);
    return status;
}
