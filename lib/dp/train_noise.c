/* The noise of a step, its two telemetry numbers, and the update. */
#include <float.h>
#include <math.h>
#include <stdatomic.h>

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
    atomic_llong next; /* range that nobody has taken */
};

/* A range stays in a core's cache while noise, division and update pass over it. Waking a
 * thread is worth a few of them. */
enum { RANGE = 16384, SHARED_RANGES = 3 };

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

/* A float that is divided by a float in double and rounded has the bits of the float division. */
static void divide_range(psg_real *x, int64_t n, double by)
{
    psg_real b = (psg_real)by;
    if ((double)b < by || (double)b > by) {
        for (int64_t k = 0; k < n; k++)
            x[k] = (psg_real)((double)x[k] / by);
        return;
    }
    for (int64_t k = 0; k < n; k++)
        x[k] /= b;
}

static void finish_range(const struct finish *f, int64_t first, int64_t n)
{
    struct psg_trainer *t = f->t;
    if (f->noise->on)
        for (int i = 0; i < psg_program_n_params(t->program); i++)
            add_noise(f, i, first, first + n);
    divide_range(t->sum + first, n, f->divide);
    psg_optimizer_update(t->optimizer, first, n, t->sum + first, t->params + first);
}

static void finish_ranges(void *arg, int thread, int n_threads)
{
    (void)thread;
    (void)n_threads;
    struct finish *f = arg;
    int64_t n = f->t->n_trainable;
    for (;;) {
        int64_t first = atomic_fetch_add(&f->next, 1) * RANGE;
        if (first >= n)
            return;
        finish_range(f, first, n - first < RANGE ? n - first : RANGE);
    }
}

void trainer_finish(struct psg_trainer *t, const struct trainer_noise *noise)
{
    const struct psg_train_options *o = &t->options;
    struct finish f = { .t = t,
                        .noise = noise,
                        .divide = o->sum_reduction ? 1 : o->expected_batch_size };
    psg_optimizer_begin(t->optimizer, psg_schedule_value(&o->lr, t->step),
                        pow(noise->stddev / f.divide, 2));
    if (t->n_trainable < SHARED_RANGES * RANGE)
        finish_ranges(&f, 0, 1);
    else
        psg_team_share(psg_plan_team(t->plan), finish_ranges, &f);
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
