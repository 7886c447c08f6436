/* Link-time seams: this program is linked with --wrap for each function below, so the trainer's
 * calls come here first. The product has no such seam. */
#include "planted.h"

#include <math.h>

#include "dp/trainer.h"

static enum planted now;
static double batch = 1;
static bool drawn_empty;

void planted_set(enum planted bug, double expected_batch_size)
{
    now = bug;
    batch = expected_batch_size;
    drawn_empty = false;
}

enum planted planted_now(void)
{
    return now;
}

/* ---- noise ---- */

int __real_psg_noise_add(const struct psg_key *key, uint64_t step, uint32_t tensor, int64_t first,
                         int64_t n, double stddev, psg_real *out, struct psg_error *err);

int __wrap_psg_noise_add(const struct psg_key *key, uint64_t step, uint32_t tensor, int64_t first,
                         int64_t n, double stddev, psg_real *out, struct psg_error *err)
{
    if (now == NOISE_LEFT_OUT || (now == NOISE_NOT_ON_EMPTY && drawn_empty))
        return 0;
    if (now == NOISE_BY_SQRT_BATCH)
        stddev /= sqrt(batch);
    if (now == NOISE_PER_REPLICA)
        stddev /= M_SQRT2;
    if (now == NOISE_PER_MICROBATCH)
        stddev /= 2;
    return __real_psg_noise_add(key, now == NOISE_REUSED ? 0 : step, tensor, first, n, stddev, out,
                                err);
}

int __real_psg_secure_noise_add(const struct psg_secure_noise *plan, const struct psg_key *key,
                                uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                                psg_real *sum, struct psg_error *err);

int __wrap_psg_secure_noise_add(const struct psg_secure_noise *plan, const struct psg_key *key,
                                uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                                psg_real *sum, struct psg_error *err)
{
    struct psg_secure_noise p = *plan;
    if (now == SECURE_HALVED)
        p.sigma /= 2;
    return __real_psg_secure_noise_add(&p, key, now == SECURE_REUSED ? 0 : step, tensor, first, n,
                                       sum, err);
}

int __real_psg_adaptive_noise_multiplier(double s, double count_stddev, double *zp,
                                         struct psg_error *err);

int __wrap_psg_adaptive_noise_multiplier(double s, double count_stddev, double *zp,
                                         struct psg_error *err)
{
    int r = __real_psg_adaptive_noise_multiplier(s, count_stddev, zp, err);
    if (now == ADAPTIVE_UNPAID)
        *zp = s;
    return r;
}

int __real_trainer_noise_of(const struct psg_train_options *o, int64_t n_trainable, double s,
                            double c, struct trainer_noise *noise, struct psg_error *err);

int __wrap_trainer_noise_of(const struct psg_train_options *o, int64_t n_trainable, double s,
                            double c, struct trainer_noise *noise, struct psg_error *err)
{
    struct psg_train_options copy = *o;
    if (now == TELEMETRY_UNPAID)
        copy.telemetry_share = 0;
    if (now == SCHEDULE_HALF_DONE)
        c = psg_schedule_value(&o->max_grad_norm, 0);
    return __real_trainer_noise_of(&copy, n_trainable, s, c, noise, err);
}

/* ---- clipping ---- */

int __real_psg_clip_factors(enum psg_clipping kind, double bound, int64_t n, const double *sq,
                            psg_real *factor, struct psg_clip_count *counts,
                            struct psg_error *err);

int __wrap_psg_clip_factors(enum psg_clipping kind, double bound, int64_t n, const double *sq,
                            psg_real *factor, struct psg_clip_count *counts, struct psg_error *err)
{
    int r = __real_psg_clip_factors(kind, bound, n, sq, factor, counts, err);
    for (int64_t i = 0; i < n && now == CLIP_SKIPPED; i++)
        factor[i] = 1;
    for (int64_t i = 0; i < n && now == CLIP_INVERTED; i++)
        factor[i] = (psg_real)fmin(1, sqrt(sq[i]) / bound);
    return r;
}

int __real_trainer_sum(struct psg_trainer *t, struct psg_step_report *r, int64_t *n_within,
                       struct psg_error *err);

int __wrap_trainer_sum(struct psg_trainer *t, struct psg_step_report *r, int64_t *n_within,
                       struct psg_error *err)
{
    if (now != CLIP_PER_BATCH)
        return __real_trainer_sum(t, r, n_within, err);
    struct psg_records records = { .n = t->batch.n,
                                   .record = t->batch.record,
                                   .column = t->column };
    double squares = 0, mean = t->options.expected_batch_size;
    int status = psg_plain_sum(t->plan, t->params, &records, t->sum, NULL, err);
    for (int64_t k = 0; k < t->n_trainable; k++)
        squares += pow((double)t->sum[k] / mean, 2);
    double factor = squares > 0 ? fmin(1, t->bound[0] / sqrt(squares)) : 1;
    for (int64_t k = 0; k < t->n_trainable; k++)
        t->sum[k] = (psg_real)((double)t->sum[k] * factor);
    return status;
}

/* ---- sampling ---- */

int __real_psg_poisson_init(struct psg_poisson *p, const struct psg_key *key, int64_t n_records,
                            double sample_rate, struct psg_error *err);

int __wrap_psg_poisson_init(struct psg_poisson *p, const struct psg_key *key, int64_t n_records,
                            double sample_rate, struct psg_error *err)
{
    return __real_psg_poisson_init(p, key, n_records,
                                   now == RATE_DOUBLED ? 2 * sample_rate : sample_rate, err);
}

int __real_psg_poisson_draw(const struct psg_poisson *p, uint64_t step, struct psg_batch *drawn,
                            struct psg_error *err);

int __wrap_psg_poisson_draw(const struct psg_poisson *p, uint64_t step, struct psg_batch *drawn,
                            struct psg_error *err)
{
    int r = __real_psg_poisson_draw(p, step, drawn, err);
    drawn_empty = r == 0 && drawn->n == 0;
    return r;
}
