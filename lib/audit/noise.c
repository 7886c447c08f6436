/* The noise of a sampled Gaussian from above. See psg/audit.h. */
#include <math.h>

#include "audit/scores.h"
#include "base/cleanup.h"
#include "psg/accountant.h"

/* A mechanism of which only the noise is unknown, and bounds of two rates that it has shown. */
struct shown {
    double sample_rate;
    int64_t steps;
    double hit, slip;
};

#define NOISE_MIN 0.02
#define NOISE_MAX 1000.0

/* Whether noise s allows the rates: hit <= e^eps slip + delta(eps) for every eps. Each eps is a
 * test of its own, so a few suffice, up to the log of the rates' ratio. Roughly: by the central
 * limit, to choose with; else by an upper bound of delta. */
static int allowed(const struct shown *shown, double s, bool rough, bool *yesp,
                   struct psg_error *err)
{
    enum { N_EPS = 16 };
    struct psg_dp_event event = { shown->sample_rate, s, shown->steps };
    struct psg_accountant *accountant = NULL;
    double top = log(shown->hit / shown->slip), mu = sqrt((double)shown->steps) / s;
    bool gaussian = rough || shown->sample_rate == 1;
    int r = 0;
    *yesp = true;
    if (!(top > 0))
        return 0;
    if (shown->sample_rate < 1)
        r = rough ? psg_gdp_mu(&event, 1, &mu, err)
                  : psg_accountant_new(PSG_ACCOUNTANT_PRV, &accountant, err);
    if (r == 0 && accountant)
        r = psg_accountant_compose(accountant, &event, err);
    for (int i = 0; i < N_EPS && r == 0 && *yesp; i++) {
        struct psg_dp_epsilon at = { .delta = 0 };
        double eps = top * i / N_EPS;
        if (gaussian)
            at.delta = psg_gdp_delta(mu, eps);
        else
            r = psg_accountant_delta(accountant, eps, &at, err);
        *yesp = shown->hit <= exp(eps) * shown->slip + at.delta;
    }
    psg_accountant_free(accountant);
    return r;
}

/* Lowers *most to a noise multiplier that the rates refute, near the smallest there is; leaves it
 * when they do not refute *most itself. */
static int lower(const struct shown *shown, bool rough, double *most, struct psg_error *err)
{
    bool yes = true;
    int r = allowed(shown, *most, rough, &yes, err);
    double low = log(NOISE_MIN), high = log(*most);
    for (int i = 0; i < 14 && r == 0 && !yes && high - low > 1e-3; i++) {
        double mid = (low + high) / 2;
        bool is_low = false;
        r = allowed(shown, exp(mid), rough, &is_low, err);
        *(is_low ? &low : &high) = mid;
    }
    *most = exp(high);
    return r;
}

/* The threshold by which the first scores refute the most. */
static int choose(const struct scores *s, struct shown *shown, double confidence,
                  struct psg_audit_bound *best, struct psg_error *err)
{
    static const double tail[] = { 0.5, 0.3, 0.15, 0.07, 0.03, 0.015 };
    double most = NOISE_MAX;
    int r = 0;
    audit_count(s, s->out[s->n_out / 2], true, best);
    for (int i = 0; i < 12 && r == 0; i++) {
        bool guess_in = i % 2 == 0;
        const double *slips = guess_in ? s->out : s->in;
        int64_t n = guess_in ? s->n_out : s->n_in;
        int64_t at = (int64_t)((guess_in ? 1 - tail[i / 2] : tail[i / 2]) * (double)n);
        struct psg_audit_bound b;
        double before = most;
        audit_count(s, slips[at], guess_in, &b);
        audit_rates(&b, confidence, &shown->hit, &shown->slip);
        r = lower(shown, true, &most, err);
        if (most < before)
            *best = b;
    }
    return r;
}

int psg_audit_noise(const double *in, int64_t n_in, const double *out, int64_t n_out,
                    const struct psg_dp_event *claim, double delta, double confidence,
                    struct psg_audit_noise *answer, struct psg_error *err)
{
    _cleanup_(scores_free) struct scores first = { 0 }, second = { 0 };
    struct shown shown = { .sample_rate = claim->sample_rate, .steps = claim->steps };
    struct psg_audit_bound chosen;
    if (!(shown.sample_rate > 0 && shown.sample_rate <= 1) || shown.steps < 1)
        return psg_fail(err, PSG_E_RANGE, "claim", "is not a mechanism");
    int r = audit_check(n_in, n_out, delta, confidence, err);
    if (r == 0)
        r = scores_split(in, n_in, out, n_out, 4, &first, &second, err);
    if (r == 0)
        r = choose(&first, &shown, confidence, &chosen, err);
    if (r)
        return r;
    audit_count(&second, chosen.threshold, chosen.guess_in, &answer->bound);
    audit_rates(&answer->bound, confidence, &shown.hit, &shown.slip);
    double most = NOISE_MAX;
    r = lower(&shown, false, &most, err);
    answer->noise_multiplier = most < NOISE_MAX ? most : INFINITY;
    struct psg_dp_event event = { shown.sample_rate, most, shown.steps };
    struct psg_dp_epsilon at = { .epsilon = 0 };
    if (r == 0 && most < NOISE_MAX)
        r = psg_dp_epsilon(PSG_ACCOUNTANT_PRV, &event, 1, delta, &at, err);
    answer->bound.epsilon = at.method == PSG_ACCOUNTANT_PRV ? at.lower : 0;
    return r;
}
