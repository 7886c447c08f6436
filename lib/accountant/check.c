#include "accountant/check.h"

#include <inttypes.h>
#include <stdio.h>

static int event_fail(long long i, const char *field, double value, const char *want,
                      struct psg_error *err)
{
    char place[64];
    if (i >= 0)
        snprintf(place, sizeof place, "events[%lld].%s", i, field);
    else
        snprintf(place, sizeof place, "%s", field);
    return psg_fail(err, PSG_E_RANGE, place, "%s is %g, must be %s", field, value, want);
}

int accountant_check_event(const struct psg_dp_event *e, long long i, struct psg_error *err)
{
    /* comparisons are written so that NaN fails them */
    if (!(e->sample_rate >= 0 && e->sample_rate <= 1))
        return event_fail(i, "sample_rate", e->sample_rate, "from 0 to 1", err);
    if (!(e->noise_multiplier >= 0))
        return event_fail(i, "noise_multiplier", e->noise_multiplier, "0 or more", err);
    if (e->steps < 0)
        return event_fail(i, "steps", (double)e->steps, "0 or more", err);
    return 0;
}

int accountant_check_events(const struct psg_dp_event *event, size_t n_events,
                            struct psg_error *err)
{
    for (size_t i = 0; i < n_events; i++) {
        int r = accountant_check_event(&event[i], (long long)i, err);
        if (r)
            return r;
    }
    return 0;
}

int accountant_check_delta(double delta, struct psg_error *err)
{
    if (!(delta >= 0 && delta <= 1))
        return psg_fail(err, PSG_E_RANGE, "delta", "delta is %g, must be from 0 to 1",
                        delta);
    return 0;
}

int accountant_check_epsilon(double epsilon, struct psg_error *err)
{
    if (!(epsilon >= 0))
        return psg_fail(err, PSG_E_RANGE, "epsilon", "epsilon is %g, must be 0 or more",
                        epsilon);
    return 0;
}
