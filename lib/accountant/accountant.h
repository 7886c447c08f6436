/* Epsilon without the lower bound, for searches that ask many times. */
#ifndef ACCOUNTANT_ACCOUNTANT_H
#define ACCOUNTANT_ACCOUNTANT_H

#include "psg/accountant.h"

int accountant_epsilon(struct psg_accountant *acc, double delta, bool with_lower,
                       struct psg_dp_epsilon *out, struct psg_error *err);
int accountant_ask(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                   size_t n_events, double delta, bool with_lower,
                   struct psg_dp_epsilon *out, struct psg_error *err);

#endif
