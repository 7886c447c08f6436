/* Sorted scores and what is counted in them. */
#ifndef AUDIT_SCORES_H
#define AUDIT_SCORES_H

#include "psg/audit.h"

struct scores {
    double *in, *out; /* ascending */
    int64_t n_in, n_out;
};

/* What every bound asks of its arguments. PSG_E_RANGE. */
int audit_check(int64_t n_in, int64_t n_out, double delta, double confidence,
                struct psg_error *err);

/* The first n / share of each kind into *first, the others into *second; both are freed with
 * scores_free(), after an error too. PSG_E_NOMEM. */
int scores_split(const double *in, int64_t n_in, const double *out, int64_t n_out,
                 int share, struct scores *first, struct scores *second,
                 struct psg_error *err);
void scores_free(struct scores *s);

/* Counts the event of this threshold; epsilon is 0. */
void audit_count(const struct scores *s, double t, bool guess_in,
                 struct psg_audit_bound *b);

/* A lower bound of the rate of hits and an upper one of that of slips, right together. */
void audit_rates(const struct psg_audit_bound *b, double confidence, double *hit,
                 double *slip);

#endif
