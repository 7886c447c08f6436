/* The noise of a step, its two telemetry numbers, and the update. */
#include <float.h>
#include <math.h>

#include "dp/trainer.h"

/* Sums are taken in psg_real. secure_noise allows them a relative error of this much per
 * expected record, E C in all, beside the exact rounding to the grid. */
#ifdef PSG_REAL_DOUBLE
static const double SUM_EPSILON = DBL_EPSILON;
#else
static const double SUM_EPSILON = FLT_EPSILON;
#endif

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

int trainer_noise_of(const struct psg_train_options *o, int64_t n_trainable, double s, double c,
                     struct trainer_noise *noise, struct psg_error *err)
{
    double z = 0;
    *noise = (struct trainer_noise){ 0 };
    int r = gradient_multiplier(o, s, &z, err);
    if (r || !(z * c > 0))
        return r;
    noise->on = true;
    noise->stddev = z * c;
    noise->secure = o->secure_noise && n_trainable > 0;
    if (!noise->secure)
        return 0;
    double sum_error = SUM_EPSILON * c * o->expected_batch_size;
    r = psg_secure_noise_plan(c, z, n_trainable, sum_error, &noise->plan, err);
    noise->stddev = (double)noise->plan.sigma * noise->plan.grid;
    return r;
}

struct finish {
    struct psg_trainer *t;
    const struct trainer_noise *noise;
    double divide;
};

enum { RANGE = 16384 };

/* Adds noise to the part of one parameter that lies in [first, last). Addresses were checked
 * with the plan's sizes, so this cannot fail. */
static void add_noise(const struct finish *f, int i, int64_t first, int64_t last)
{
    const struct psg_param_info *p = psg_program_param(f->t->program, i);
    struct psg_trainer *t = f->t;
    int64_t from = p->offset > first ? p->offset : first;
    int64_t to = p->offset + p->size < last ? p->offset + p->size : last;
    if (!p->trainable || from >= to)
        return;
    if (f->noise->secure)
        psg_secure_noise_add(&f->noise->plan, &t->key, t->step, (uint32_t)i, from - p->offset,
                             to - from, t->sum + from, NULL);
    else
        psg_noise_add(&t->key, t->step, (uint32_t)i, from - p->offset, to - from,
                      f->noise->stddev, t->sum + from, NULL);
}

static void finish_ranges(void *arg, int thread, int n_threads)
{
    const struct finish *f = arg;
    struct psg_trainer *t = f->t;
    for (int64_t first = (int64_t)thread * RANGE; first < t->n_trainable;
         first += (int64_t)n_threads * RANGE) {
        int64_t last = first + RANGE < t->n_trainable ? first + RANGE : t->n_trainable;
        if (f->noise->on)
            for (int i = 0; i < psg_program_n_params(t->program); i++)
                add_noise(f, i, first, last);
        for (int64_t k = first; k < last; k++)
            t->sum[k] = (psg_real)((double)t->sum[k] / f->divide);
        psg_optimizer_update(t->optimizer, first, last - first, t->sum + first,
                             t->params + first);
    }
}

void trainer_finish(struct psg_trainer *t, const struct trainer_noise *noise)
{
    const struct psg_train_options *o = &t->options;
    struct finish f = { t, noise, o->sum_reduction ? 1 : o->expected_batch_size };
    psg_optimizer_begin(t->optimizer, psg_schedule_value(&o->lr, t->step),
                        pow(noise->stddev / f.divide, 2));
    psg_team_run(t->team, finish_ranges, &f);
}

int trainer_telemetry(const struct psg_trainer *t, double s, struct psg_step_report *r,
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
