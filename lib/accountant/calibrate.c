/* Searches over an accountant: epsilon falls with the noise multiplier and grows with
 * steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accountant/accountant.h"
#include "accountant/check.h"
#include "base/cleanup.h"

enum { SIGMA_MAX_LOG2 = 40, SIGMA_MIN_LOG2 = -40, MAX_ROUNDS = 200 };
static const double sigma_precision = 1e-7; /* relative */

/* The spent history with one more event at the end. */
struct question {
    const struct psg_dp_target *target;
    struct psg_dp_event *event;
    size_t n_events;
};

static int question_init(struct question *qn, const struct psg_dp_target *target,
                         struct psg_error *err)
{
    if (!(target->epsilon > 0))
        return psg_fail(err, PSG_E_RANGE, "target.epsilon",
                        "the target epsilon is %g, must be more than 0", target->epsilon);
    if (!(target->delta > 0 && target->delta < 1))
        return psg_fail(err, PSG_E_RANGE, "target.delta",
                        "the target delta is %g, must be between 0 and 1", target->delta);
    int r = accountant_check_events(target->spent, target->n_spent, err);
    if (r)
        return r;
    qn->target = target;
    qn->n_events = target->n_spent + 1;
    qn->event = calloc(qn->n_events, sizeof qn->event[0]);
    if (!qn->event)
        return psg_fail(err, PSG_E_NOMEM, "calibrate", "out of memory");
    if (target->n_spent)
        memcpy(qn->event, target->spent, target->n_spent * sizeof qn->event[0]);
    return 0;
}

static void question_fini(struct question *qn)
{
    free(qn->event);
}

static int question_ask(struct question *qn, const struct psg_dp_event *event,
                        struct psg_dp_epsilon *out, struct psg_error *err)
{
    qn->event[qn->n_events - 1] = *event;
    return accountant_ask(qn->target->kind, qn->event, qn->n_events, qn->target->delta,
                          false, out, err);
}

/* A pair of powers of two around the answer: epsilon(*lo) > target >= epsilon(*hi). */
static int sigma_bracket(struct question *qn, struct psg_dp_event event, double *lo,
                         double *hi, double *eps_lo, struct psg_dp_epsilon *at_hi,
                         struct psg_error *err)
{
    double goal = qn->target->epsilon;
    struct psg_dp_epsilon at;
    *lo = 0;
    *eps_lo = INFINITY;
    for (int k = 0; k <= SIGMA_MAX_LOG2; k++) {
        event.noise_multiplier = ldexp(1, k);
        int r = question_ask(qn, &event, &at, err);
        if (r)
            return r;
        if (at.epsilon <= goal)
            break;
        *lo = event.noise_multiplier;
        *eps_lo = at.epsilon;
    }
    if (at.epsilon > goal)
        return psg_fail(err, PSG_E_RANGE, "target.epsilon",
                        "no noise multiplier reaches epsilon %g at delta %g with the %s "
                        "accountant: %g is the least it can certify",
                        goal, qn->target->delta, psg_accountant_kind_name(qn->target->kind),
                        at.epsilon);
    *hi = event.noise_multiplier;
    *at_hi = at;
    for (int k = -1; *lo == 0 && k >= SIGMA_MIN_LOG2; k--) {
        event.noise_multiplier = ldexp(1, k);
        int r = question_ask(qn, &event, &at, err);
        if (r)
            return r;
        if (at.epsilon > goal) {
            *lo = event.noise_multiplier;
            *eps_lo = at.epsilon;
        } else {
            *hi = event.noise_multiplier;
            *at_hi = at;
        }
    }
    return 0;
}

/* Next point between lo and hi: log epsilon is close to a straight line in log sigma. Kept
 * away from the ends, and every third round is a plain bisection, so that the bracket must
 * shrink. */
static double sigma_next(double lo, double hi, double eps_lo, double eps_hi, double goal,
                         int round)
{
    double part = 0.5;
    if (round % 3 != 2 && eps_lo < INFINITY && eps_hi > 0)
        part = log(eps_lo / goal) / log(eps_lo / eps_hi);
    /* aim a little past the crossing, alternately on either side of it */
    double nudge = round % 2 ? 2e-8 : -2e-8;
    double width = log(hi / lo);
    part += nudge / width;
    part = fmin(fmax(part, 0.01), 0.99);
    return lo * exp(part * width);
}

int psg_dp_noise_multiplier(const struct psg_dp_target *target, double sample_rate,
                            int64_t steps, double *noise_multiplierp,
                            struct psg_dp_epsilon *out, struct psg_error *err)
{
    struct psg_dp_event event = { sample_rate, 0, steps };
    int r = accountant_check_event(&event, -1, err);
    if (r)
        return r;
    _cleanup_(question_fini) struct question qn = { 0 };
    r = question_init(&qn, target, err);
    if (r)
        return r;
    struct psg_dp_epsilon at, at_hi;
    r = question_ask(&qn, &event, &at_hi, err);
    if (r)
        return r;
    double lo = 0, hi = 0, eps_lo = INFINITY;
    if (at_hi.epsilon > target->epsilon) {
        r = sigma_bracket(&qn, event, &lo, &hi, &eps_lo, &at_hi, err);
        if (r)
            return r;
    }
    for (int i = 0; i < MAX_ROUNDS && lo > 0 && hi - lo > sigma_precision * hi; i++) {
        event.noise_multiplier =
            sigma_next(lo, hi, eps_lo, at_hi.epsilon, target->epsilon, i);
        r = question_ask(&qn, &event, &at, err);
        if (r)
            return r;
        if (at.epsilon > target->epsilon) {
            lo = event.noise_multiplier;
            eps_lo = at.epsilon;
        } else {
            hi = event.noise_multiplier;
            at_hi = at;
        }
    }
    *noise_multiplierp = hi;
    if (!out)
        return 0;
    qn.event[qn.n_events - 1].noise_multiplier = hi;
    r = psg_dp_epsilon(target->kind, qn.event, qn.n_events, target->delta, out, err);
    out->epsilon = fmin(out->epsilon, at_hi.epsilon); /* both are bounds */
    return r;
}

int psg_dp_steps_that_fit(const struct psg_dp_target *target, double sample_rate,
                          double noise_multiplier, int64_t max_steps, int64_t *stepsp,
                          struct psg_error *err)
{
    struct psg_dp_event event = { sample_rate, noise_multiplier, max_steps };
    int r = accountant_check_event(&event, -1, err);
    if (r)
        return r;
    _cleanup_(question_fini) struct question qn = { 0 };
    r = question_init(&qn, target, err);
    if (r)
        return r;
    struct psg_dp_epsilon at;
    r = question_ask(&qn, &event, &at, err);
    if (r)
        return r;
    int64_t fits = max_steps, too_many = max_steps;
    if (at.epsilon > target->epsilon) {
        /* from one step upwards, doubling: small answers are the common ones */
        fits = 0;
        for (int64_t n = 1; n<too_many; n = n> too_many / 2 ? too_many : n * 2) {
            event.steps = n;
            r = question_ask(&qn, &event, &at, err);
            if (r)
                return r;
            if (at.epsilon > target->epsilon)
                too_many = n;
            else
                fits = n;
        }
    }
    while (too_many - fits > 1) {
        event.steps = fits + (too_many - fits) / 2;
        r = question_ask(&qn, &event, &at, err);
        if (r)
            return r;
        if (at.epsilon > target->epsilon)
            too_many = event.steps;
        else
            fits = event.steps;
    }
    *stepsp = fits;
    return 0;
}
