#include "accountant/prv.h"

#include <math.h>
#include <stdlib.h>

#include "accountant/check.h"
#include "accountant/prv_loss.h"
#include "accountant/prv_plan.h"
#include "base/cleanup.h"

enum { N_PLANS = 4, FEW_EVENTS = 4 };

struct prv_cache {
    struct prv_plan *plan[N_PLANS]; /* remove and add, upper and lower */
    struct prv_plan *along[2];      /* remove and add, upper, of an expected history */
    double along_delta;
    bool asked;
};

struct prv_cache *prv_cache_new(void)
{
    return calloc(1, sizeof(struct prv_cache));
}

struct prv_cache *prv_cache_free(struct prv_cache *cache)
{
    for (int i = 0; cache && i < N_PLANS; i++)
        prv_plan_free(cache->plan[i]);
    for (int i = 0; cache && i < 2; i++)
        prv_plan_free(cache->along[i]);
    free(cache);
    return NULL;
}

/* The history as grids want it: events that cost something, all Gaussians without sampling
 * merged into one (their losses are normal, and sums of normals are). */
struct merged {
    struct psg_dp_event *event;
    size_t n;
    bool only_gaussian, no_noise, is_coarse;
    double distance; /* bound on the total variation distance of the composition */
};

static void merged_fini(struct merged *m)
{
    free(m->event);
}

/* More different events than a grid takes: rounded to at most COARSE worse ones, with the
 * smallest noise and the largest rate among those whose noise is about the same. What is
 * dominated step by step is dominated in composition, so the upper bound stays one; a lower
 * bound is no longer known. */
enum { COARSE = 48 };

static void coarsen(struct merged *m, size_t n)
{
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, m->event[i].noise_multiplier);
        high = fmax(high, m->event[i].noise_multiplier);
    }
    struct psg_dp_event bin[COARSE] = { { 0 } };
    double width = log(high / low) / COARSE;
    for (size_t i = 0; i < n; i++) {
        const struct psg_dp_event *e = &m->event[i];
        double at = width > 0 ? log(e->noise_multiplier / low) / width : 0;
        struct psg_dp_event *b = &bin[(int)fmin(fmax(at, 0), COARSE - 1)];
        b->noise_multiplier = b->steps ? fmin(b->noise_multiplier, e->noise_multiplier)
                                       : e->noise_multiplier;
        b->sample_rate = fmax(b->sample_rate, e->sample_rate);
        if (__builtin_add_overflow(b->steps, e->steps, &b->steps))
            b->steps = INT64_MAX;
    }
    m->n = 0;
    for (int i = 0; i < COARSE; i++)
        if (bin[i].steps)
            m->event[m->n++] = bin[i];
    m->is_coarse = true;
}

static int merge(const struct psg_dp_event *event, size_t n_events, struct merged *m,
                 struct psg_error *err)
{
    double precision = 0; /* of the merged Gaussian: 1 / sigma^2 */
    m->event = calloc(n_events + 1, sizeof m->event[0]);
    if (!m->event)
        return psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
    for (size_t i = 0; i < n_events; i++) {
        const struct psg_dp_event *e = &event[i];
        if (accountant_event_is_free(e))
            continue;
        double s = e->noise_multiplier;
        m->distance += (double)e->steps * e->sample_rate * erf(M_SQRT1_2 / 2 / s);
        if (s == 0)
            m->no_noise = true;
        else if (e->sample_rate == 1)
            precision += (double)e->steps / s / s;
        else
            m->event[m->n++] = *e;
    }
    m->only_gaussian = m->n == 0;
    if (m->n + (precision > 0) > PRV_CLASSES_MAX)
        coarsen(m, m->n);
    if (precision > 0)
        m->event[m->n++] = (struct psg_dp_event){ 1, 1 / sqrt(precision), 1 };
    return 0;
}

static int build(struct prv_cache *cache, const struct merged *m,
                 const struct prv_plan_key *key, struct prv_plan **planp,
                 struct psg_error *err)
{
    *planp = prv_plan_free(*planp);
    _cleanup_free_ struct psg_dp_event *room = calloc(m->n, sizeof room[0]);
    if (!room)
        return psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
    for (size_t i = 0; i < m->n; i++) {
        room[i] = m->event[i];
        /* who asks again is likely to have composed more steps */
        if (cache->asked && room[i].sample_rate < 1 && room[i].steps < INT64_MAX / 2)
            room[i].steps += room[i].steps / 4;
    }
    return prv_plan_new(key, room, m->n, planp, err);
}

static int ask(struct prv_cache *cache, const struct merged *m, struct prv_plan_key key,
               double *answerp, struct psg_error *err)
{
    struct prv_plan **planp = &cache->plan[2 * key.add + (key.bound == PRV_LOWER)];
    int r = 0;
    if (!prv_plan_fits(*planp, &key, m->event, m->n))
        r = build(cache, m, &key, planp, err);
    if (r)
        return r;
    *answerp = prv_plan_answer(*planp, m->event);
    /* the grid was chosen by a bound on epsilon; once more when that was far too large */
    for (int i = 0;
         i < 3 && !key.by_epsilon && *answerp > 0 && prv_plan_near(*planp) > 4 * *answerp;
         i++) {
        key.near = *answerp;
        r = build(cache, m, &key, planp, err);
        if (r)
            return r;
        *answerp = prv_plan_answer(*planp, m->event);
    }
    return 0;
}

/* The largest loss that adding a record can have: log 1/(1-q) per step. */
static double largest_add_loss(const struct psg_dp_event *event, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum -= (double)event[i].steps * log1p(-event[i].sample_rate);
    return sum;
}

/* The larger of both directions, for one bound. */
static int ask_both(struct prv_cache *cache, const struct merged *m,
                    struct prv_plan_key key, double *answerp, struct psg_error *err)
{
    double add = 0;
    key.add = false;
    int r = ask(cache, m, key, answerp, err);
    /* the other direction cannot be the larger one when its losses do not reach so far */
    if (r || largest_add_loss(m->event, m->n) <= (key.by_epsilon ? key.goal : *answerp))
        return r;
    key.add = true;
    r = ask(cache, m, key, &add, err);
    *answerp = fmax(*answerp, add);
    return r;
}

static int ask_bounds(struct prv_cache *cache, const struct merged *m,
                      struct prv_plan_key key, bool with_lower, struct prv_answer *out,
                      struct psg_error *err)
{
    key.bound = PRV_UPPER;
    int r = ask_both(cache, m, key, &out->upper, err);
    out->lower = 0;
    out->estimate = out->upper;
    for (int round = 0; !r && with_lower; round++) {
        if (!key.by_epsilon && key.near == 0)
            key.near = out->upper; /* the grid that the upper bound came to */
        key.bound = PRV_LOWER;
        r = ask_both(cache, m, key, &out->lower, err);
        out->lower = fmin(out->lower, out->upper);
        out->estimate = (out->lower + out->upper) / 2;
        double gap = out->upper - out->lower;
        if (key.by_epsilon || round == 2 || gap < 1.5e-3 * out->upper || gap < 1e-7)
            break;
        /* error falls with the square of the step, and the grid's square with near */
        for (int i = 0; i < N_PLANS; i++)
            cache->plan[i] = prv_plan_free(cache->plan[i]);
        key.near /= 8;
        key.bound = PRV_UPPER;
        double upper = out->upper;
        if (!r)
            r = ask_both(cache, m, key, &upper, err);
        out->upper = fmin(out->upper, upper);
    }
    cache->asked = true;
    return r;
}

/* Exact delta of a single step: both directions are integrals of two normal densities over
 * a half-line. */
static double one_step_delta(const struct psg_dp_event *e, double epsilon)
{
    struct prv_loss l = { e->sample_rate, e->noise_multiplier, -INFINITY, INFINITY };
    double a, b, remove, add = 0;
    prv_loss_mass(&l, prv_loss_inverse(&l, epsilon), INFINITY, &a, &b);
    remove = b - exp(epsilon) * a;
    double x = prv_loss_inverse(&l, -epsilon);
    if (x > -INFINITY) {
        prv_loss_mass(&l, -INFINITY, x, &a, &b);
        add = a - exp(epsilon) * b;
    }
    return fmin(fmax(fmax(remove, add), 0), 1);
}

static double one_step_epsilon(const struct psg_dp_event *e, double delta)
{
    double lo = 0, hi = 1;
    while (one_step_delta(e, hi) > delta) {
        lo = hi;
        hi *= 2;
    }
    if (one_step_delta(e, 0) <= delta)
        return 0;
    for (int i = 0; i < 100 && hi - lo > 1e-12 * hi; i++) {
        double mid = (lo + hi) / 2;
        if (one_step_delta(e, mid) > delta)
            lo = mid;
        else
            hi = mid;
    }
    return hi;
}

/* Whether prv_loss_mass is accurate there: its masses must not underflow where delta
 * matters.
 */
static bool is_one_step(const struct merged *m)
{
    return m->n == 1 && m->event[0].steps == 1 && m->event[0].sample_rate < 1 &&
           m->event[0].noise_multiplier > 0.1;
}

int prv_epsilon(struct prv_cache *cache, const struct psg_dp_event *event, size_t n_events,
                double delta, bool with_lower, struct prv_answer *out,
                struct psg_error *err)
{
    _cleanup_(merged_fini) struct merged m = { 0 };
    int r = merge(event, n_events, &m, err);
    if (r)
        return r;
    *out = (struct prv_answer){ 0 };
    if (m.distance <= delta || (m.n == 0 && !m.no_noise)) /* also an empty history */
        return 0;
    if (delta == 0) { /* Gaussian losses have no bound */
        *out = (struct prv_answer){ INFINITY, INFINITY, INFINITY };
        return 0;
    }
    if (m.no_noise)
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "steps without noise");
    if (m.only_gaussian) {
        double exact = psg_gdp_epsilon(1 / m.event[0].noise_multiplier, delta);
        *out = (struct prv_answer){ exact, exact, exact };
        return 0;
    }
    if (is_one_step(&m) && delta > 1e-250) {
        double exact = one_step_epsilon(&m.event[0], delta);
        *out = (struct prv_answer){ exact, exact, exact };
        return 0;
    }
    struct prv_plan_key key = { .goal = delta };
    return ask_bounds(cache, &m, key, with_lower && !m.is_coarse, out, err);
}

/* A plan of the whole expected history, its grid chosen by the epsilon that comes out. */
static int plan_all(struct prv_plan **planp, const struct psg_dp_event *expected, size_t n,
                    bool add, double delta, struct psg_error *err)
{
    struct prv_plan_key key = { .goal = delta, .add = add, .bound = PRV_UPPER };
    int r = prv_plan_new(&key, expected, n, planp, err);
    for (int i = 0; i < 3 && r == 0; i++) {
        double epsilon = prv_plan_answer(*planp, expected);
        if (!(epsilon > 0 && prv_plan_near(*planp) > 4 * epsilon))
            break;
        key.near = epsilon;
        *planp = prv_plan_free(*planp);
        r = prv_plan_new(&key, expected, n, planp, err);
    }
    return r;
}

/* In (0, 1), with noise, in a number that a plan takes; enough steps for the plan's window. */
static bool suits_along(const struct psg_dp_event *expected, const struct psg_dp_event *now,
                        size_t n)
{
    double steps = 0, done = 0;
    for (size_t i = 0; i < n; i++) {
        const struct psg_dp_event *e = &expected[i];
        if (!(e->sample_rate > 0 && e->sample_rate < 1 && e->noise_multiplier > 0 &&
              isfinite(e->noise_multiplier) && e->steps > 0))
            return false;
        steps += (double)e->steps;
        done += (double)now[i].steps;
    }
    return n > FEW_EVENTS && n <= PRV_CLASSES_MAX && done >= steps / 16;
}

int prv_epsilon_along(struct prv_cache *cache, const struct psg_dp_event *expected,
                      const struct psg_dp_event *now, size_t n_events, double delta,
                      double *upperp, struct psg_error *err)
{
    if (!suits_along(expected, now, n_events))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "no history to plan for");
    for (int i = 0; i < 2 && cache->along_delta != delta; i++)
        cache->along[i] = prv_plan_free(cache->along[i]);
    cache->along_delta = delta;
    *upperp = 0;
    for (int add = 0; add < 2; add++) {
        /* as in ask_both: adding cannot be the worse one when its losses do not reach so far */
        if (add && largest_add_loss(now, n_events) <= *upperp)
            break;
        int r = cache->along[add] ? 0 : plan_all(&cache->along[add], expected, n_events, add,
                                                 delta, err);
        if (r)
            return r;
        *upperp = fmax(*upperp, prv_plan_answer(cache->along[add], now));
    }
    return 0;
}

int prv_delta(struct prv_cache *cache, const struct psg_dp_event *event, size_t n_events,
              double epsilon, struct prv_answer *out, struct psg_error *err)
{
    _cleanup_(merged_fini) struct merged m = { 0 };
    int r = merge(event, n_events, &m, err);
    if (r)
        return r;
    *out = (struct prv_answer){ 0 };
    if (m.distance == 0 || (m.n == 0 && !m.no_noise))
        return 0;
    if (m.no_noise || epsilon == INFINITY)
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv",
                        "steps without noise, or no epsilon");
    if (m.only_gaussian) {
        double exact = psg_gdp_delta(1 / m.event[0].noise_multiplier, epsilon);
        *out = (struct prv_answer){ exact, exact, exact };
        return 0;
    }
    if (is_one_step(&m) && epsilon < 500) {
        double exact = one_step_delta(&m.event[0], epsilon);
        *out = (struct prv_answer){ exact, exact, exact };
        return 0;
    }
    struct prv_plan_key key = { .goal = epsilon, .by_epsilon = true };
    r = ask_bounds(cache, &m, key, !m.is_coarse, out, err);
    out->upper = fmin(out->upper, fmin(m.distance, 1));
    out->lower = fmin(out->lower, out->upper);
    return r;
}
