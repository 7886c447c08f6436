/* Delta and epsilon of a plan that is built: sums over the frequencies of the composition.
 */
#include <math.h>
#include <stdlib.h>

#include "accountant/prv_plan_impl.h"
#include "base/cleanup.h"

static const double dead_log = -42; /* log of what a frequency must keep to count */

/* The composition of the steps asked about. */
struct composed {
    const struct prv_plan *p;
    size_t n_alive;
    size_t *alive;        /* frequencies that keep more than exp(dead_log) */
    double *re, *im;      /* their values */
    double log_mgf;       /* of all steps */
    double base;          /* loss of cyclic index 0 */
    long first;           /* lowest index of the window */
    double infinite_part; /* probability of an infinite loss */
    double noise;         /* bound on rounding, relative to the tilted mass */
};

static void composed_fini(struct composed *c)
{
    free(c->alive);
    free(c->re);
    free(c->im);
}

static int composed_init(struct composed *c, const struct prv_plan *p,
                         const struct psg_dp_event *event)
{
    size_t half = p->n / 2 + 1;
    c->p = p;
    c->alive = malloc(half * sizeof c->alive[0]);
    c->re = malloc(half * sizeof c->re[0]);
    c->im = malloc(half * sizeof c->im[0]);
    if (!c->alive || !c->re || !c->im)
        return PSG_E_NOMEM;
    double mean = 0, steps = 0, log_finite = 0;
    for (size_t k = 0; k < p->n_classes; k++) {
        const struct prv_class *s = &p->class[k];
        double t = (double)event[k].steps;
        mean += t * s->mean;
        steps += t;
        c->log_mgf += t * s->log_mgf;
        c->base += t * (s->offset + p->step * (double)s->centre);
        log_finite += t * log1p(-s->infinite);
    }
    c->infinite_part = -expm1(log_finite);
    c->noise = 1e-13 + steps * 1e-15;
    c->first = (long)floor((mean - p->below - c->base) / p->step);
    for (size_t i = 0; i < half; i++) {
        double log_abs = 0, arg = 0;
        for (size_t k = 0; k < p->n_classes; k++) {
            if (event[k].steps == 0)
                continue; /* a frequency that is not there, to the power of 0, is 1 */
            log_abs += (double)event[k].steps * p->class[k].log_abs[i];
            arg += (double)event[k].steps * p->class[k].arg[i];
        }
        if (!(log_abs > dead_log))
            continue;
        c->alive[c->n_alive] = i;
        c->re[c->n_alive] = exp(log_abs) * cos(arg);
        c->im[c->n_alive++] = exp(log_abs) * sin(arg);
    }
    return 0;
}

/* sum over k < n of r^k with r = exp(-decay + i angle), where r^n has the angle `angle_n`
 */
static void geometric(double decay, double angle, double n, double angle_n, double *re,
                      double *im)
{
    /* 1 - r without cancellation near 1 */
    double half = sin(angle / 2), shrink = exp(-decay);
    double dr = -expm1(-decay) + 2 * shrink * half * half, di = -shrink * sin(angle);
    double end = exp(-decay * n), nr = 1 - end * cos(angle_n), ni = -end * sin(angle_n);
    double norm = dr * dr + di * di;
    *re = (nr * dr + ni * di) / norm;
    *im = (ni * dr - nr * di) / norm;
}

/* log of the bound on delta at epsilon, and its derivative in epsilon. */
static double composed_log_delta(const struct composed *c, double epsilon, double *slopep)
{
    const struct prv_plan *p = c->p;
    long n = (long)p->n, first = (long)floor((epsilon - c->base) / p->step) + 1;
    if (first < c->first)
        first = c->first;
    double count = fmax((double)(c->first + n - first), 0);
    double s = c->base + p->step * (double)first, gap = exp(epsilon - s);
    long first_mod = (first % n + n) % n, count_mod = (long)count % n;
    double sum = 0, minus = 0;
    for (size_t k = 0; k < c->n_alive && count > 0; k++) {
        long m = (long)c->alive[k];
        double turn = 2 * M_PI / (double)n, angle = turn * (double)m;
        double angle_n = turn * (double)((long)((__int128)m * count_mod % n));
        double start = turn * (double)((long)((__int128)m * first_mod % n));
        double gr, gi, hr, hi;
        geometric(p->lambda * p->step, angle, count, angle_n, &gr, &gi);
        geometric((p->lambda + 1) * p->step, angle, count, angle_n, &hr, &hi);
        double fr = c->re[k] * cos(start) - c->im[k] * sin(start);
        double fi = c->re[k] * sin(start) + c->im[k] * cos(start);
        /* real input: the other half of the spectrum is the conjugate of this one */
        double weight = m == 0 || 2 * m == n ? 1 : 2;
        sum += weight * (fr * gr - fi * gi);
        minus += weight * (fr * hr - fi * hi);
    }
    sum = fmax(sum / (double)n, 0);
    minus = fmax(gap * minus / (double)n, 0);
    /* tilted mass outside of the window lies above epsilon at worst */
    double scale = c->log_mgf - p->lambda * s, tail = window_tail;
    double slack = (c->noise + 2 * tail) * exp(p->lambda * (s - epsilon)),
           part = sum - minus;
    if (p->key.bound == PRV_UPPER)
        part = fmax(part, 0) + slack;
    else
        part = fmax(part - slack, 0);
    double log_delta = scale + log(part);
    if (p->key.bound == PRV_UPPER && c->infinite_part > 0)
        log_delta = fmax(log_delta, log(c->infinite_part)) +
                    log1p(exp(-fabs(log_delta - log(c->infinite_part))));
    if (slopep)
        *slopep = part > 0 ? -minus / part : 0;
    return log_delta;
}

/* Newton on log delta within a bracket. Far below the root the slack outweighs what is
 * summed, so only a bound that was seen to hold counts: the trivial one else. */
static double solve_epsilon(const struct composed *c, double log_goal)
{
    const struct prv_plan *p = c->p;
    bool upper = p->key.bound == PRV_UPPER, seen = false;
    double bottom = c->base + p->step * (double)c->first, slope;
    double lo = fmax(0, bottom), hi = bottom + p->step * (double)p->n;
    if (hi <= 0)
        return 0;
    if (upper && composed_log_delta(c, lo, NULL) <= log_goal)
        return lo;
    double at = fmin(fmax(bottom + p->below, lo), hi);
    for (int i = 0; i < 100 && hi - lo > 1e-9 * hi + 1e-14; i++) {
        double value = composed_log_delta(c, at, &slope);
        bool over = value > log_goal;
        seen = seen || over != upper;
        if (over)
            lo = at;
        else
            hi = at;
        /* a little past the root, so that both ends close in */
        double next = at - (value - log_goal) / slope;
        next += (over ? 0.4 : -0.4) * 1e-9 * fabs(next);
        at = next > lo && next < hi && i % 8 != 7 ? next : (lo + hi) / 2;
    }
    if (!seen)
        return upper ? INFINITY : 0;
    return upper ? hi : lo;
}

double prv_plan_answer(struct prv_plan *p, const struct psg_dp_event *event)
{
    _cleanup_(composed_fini) struct composed c = { 0 };
    bool upper = p->key.bound == PRV_UPPER;
    if (composed_init(&c, p, event)) /* no memory: the trivial bound is still true */
        return upper ? (p->key.by_epsilon ? 1 : INFINITY) : 0;
    if (p->key.by_epsilon)
        return fmin(exp(composed_log_delta(&c, p->key.goal, NULL)), 1);
    return solve_epsilon(&c, log(p->key.goal));
}
