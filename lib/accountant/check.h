/* Validation that all accountants share. */
#ifndef ACCOUNTANT_CHECK_H
#define ACCOUNTANT_CHECK_H

#include "psg/accountant.h"

/* `i` names the event in the error: "events[i].sample_rate"; negative: no index. */
int accountant_check_event(const struct psg_dp_event *event, long long i,
                           struct psg_error *err);
int accountant_check_events(const struct psg_dp_event *event, size_t n_events,
                            struct psg_error *err);
int accountant_check_delta(double delta, struct psg_error *err);
int accountant_check_epsilon(double epsilon, struct psg_error *err);

/* An event that no output depends on. */
static inline bool accountant_event_is_free(const struct psg_dp_event *e)
{
    return e->steps == 0 || e->sample_rate == 0 || e->noise_multiplier == __builtin_inf();
}

#endif
