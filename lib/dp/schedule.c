/* Values that follow the step number: learning rate, noise multiplier, clip bound. */
#include "psg/dp.h"

#include <math.h>

int psg_schedule_check(const struct psg_schedule *s, struct psg_error *err)
{
    bool uses_gamma = s->kind == PSG_SCHEDULE_EXPONENTIAL || s->kind == PSG_SCHEDULE_STEP;
    if (s->kind < PSG_SCHEDULE_CONSTANT || s->kind > PSG_SCHEDULE_LIST)
        return psg_fail(err, PSG_E_INVALID, "schedule", "unknown kind %d", (int)s->kind);
    if (s->kind != PSG_SCHEDULE_CONSTANT && s->period < 1)
        return psg_fail(err, PSG_E_RANGE, "period", "must be at least 1 step");
    if (s->kind != PSG_SCHEDULE_LIST && !(s->initial >= 0 && isfinite(s->initial)))
        return psg_fail(err, PSG_E_RANGE, "initial", "must be finite and not negative");
    if (uses_gamma && !(s->gamma > 0 && isfinite(s->gamma)))
        return psg_fail(err, PSG_E_RANGE, "gamma", "must be positive and finite");
    if (s->kind == PSG_SCHEDULE_COSINE && !(s->final >= 0 && isfinite(s->final)))
        return psg_fail(err, PSG_E_RANGE, "final", "must be finite and not negative");
    if (s->kind == PSG_SCHEDULE_LIST && s->n_list < 1)
        return psg_fail(err, PSG_E_RANGE, "list", "must hold at least one value");
    for (int64_t i = 0; s->kind == PSG_SCHEDULE_LIST && i < s->n_list; i++)
        if (!(s->list[i] >= 0 && isfinite(s->list[i])))
            return psg_fail(err, PSG_E_RANGE, "list",
                            "value %lld must be finite and not negative", (long long)i);
    return 0;
}

static double base_value(const struct psg_schedule *s, uint64_t step)
{
    switch (s->kind) {
    case PSG_SCHEDULE_CONSTANT:
        break;
    case PSG_SCHEDULE_EXPONENTIAL:
        return s->initial * pow(s->gamma, (double)step / (double)s->period);
    case PSG_SCHEDULE_STEP:
        return s->initial * pow(s->gamma, (double)(step / s->period));
    case PSG_SCHEDULE_COSINE: {
        double t = step < s->period ? (double)step / (double)s->period : 1;
        return s->final + 0.5 * (s->initial - s->final) * (1 + cos(M_PI * t));
    }
    case PSG_SCHEDULE_LIST: {
        uint64_t i = step / s->period, last = (uint64_t)s->n_list - 1;
        return s->list[i < last ? i : last];
    }
    }
    return s->initial;
}

double psg_schedule_value(const struct psg_schedule *s, uint64_t step)
{
    double value = base_value(s, step);
    if (step < s->warmup)
        value *= ((double)step + 1) / (double)s->warmup;
    return value;
}
