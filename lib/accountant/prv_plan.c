#include "accountant/prv_plan_impl.h"

#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum {
    COARSE_MAX = 2048,
    GRID_MAX = 1 << 20,   /* nodes of one step */
    WINDOW_MAX = 1 << 21, /* nodes of the composition */
};

static const double lost_tail = 1e-6; /* of delta: mass beyond the truncation of x */

/* Planning in FFTW is not thread-safe; running a plan is. */
static pthread_mutex_t fftw_planner = PTHREAD_MUTEX_INITIALIZER;

static void pmf_fini(struct pmf *pmf)
{
    free(pmf->loss);
    free(pmf->log_mass);
    *pmf = (struct pmf){ 0 };
}

static int pmf_init(struct pmf *pmf, size_t n, struct psg_error *err)
{
    pmf->n = n;
    pmf->loss = malloc(n * sizeof pmf->loss[0]);
    pmf->log_mass = malloc(n * sizeof pmf->log_mass[0]);
    if (!pmf->loss || !pmf->log_mass)
        return psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
    return 0;
}

/* log E exp(t loss) */
static double pmf_log_mgf(const struct pmf *pmf, double t)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < pmf->n; i++)
        most = fmax(most, pmf->log_mass[i] + t * pmf->loss[i]);
    for (size_t i = 0; i < pmf->n; i++) {
        double part = pmf->log_mass[i] + t * pmf->loss[i] - most;
        if (part > -60)
            sum += exp(part);
    }
    return most + log(sum);
}

static void pmf_moments(const struct pmf *pmf, double t, double log_mgf, double *mean,
                        double *variance)
{
    double m1 = 0, m2 = 0;
    for (size_t i = 0; i < pmf->n; i++)
        m1 += exp(pmf->log_mass[i] + t * pmf->loss[i] - log_mgf) * pmf->loss[i];
    for (size_t i = 0; i < pmf->n; i++) {
        double d = pmf->loss[i] - m1;
        m2 += exp(pmf->log_mass[i] + t * pmf->loss[i] - log_mgf) * d * d;
    }
    *mean = m1;
    *variance = m2;
}

/* sum of steps log E exp(t loss) */
static double plan_log_mgf(const struct prv_plan *p, double t)
{
    double sum = 0;
    for (size_t k = 0; k < p->n_classes; k++)
        sum += (double)p->class[k].steps_max * pmf_log_mgf(&p->class[k].pmf, t);
    return sum;
}

/* x with standard normal mass p above it, by bisection of the tail. */
static double normal_upper(double p)
{
    double lo = 0, hi = 40;
    for (int i = 0; i < 60; i++) {
        double mid = (lo + hi) / 2;
        if (0.5 * erfc(mid * M_SQRT1_2) > p)
            lo = mid;
        else
            hi = mid;
    }
    return hi;
}

/* Bins of equal width in x: merged outputs, good enough to choose tilt, step and window. */
static int coarse_pmf(struct prv_class *c, bool add, struct psg_error *err)
{
    double bottom = fmax(c->loss.bottom, -9 * c->sigma), width = c->sigma / 16;
    width = fmax(width, (c->loss.top - bottom) / (COARSE_MAX - 8));
    int r = pmf_init(&c->pmf, COARSE_MAX, err);
    if (r)
        return r;
    size_t n = 0;
    double x0 = c->loss.bottom;
    for (double x1 = bottom; x0 < c->loss.top && n < COARSE_MAX; x1 += width) {
        double a, b, end = fmin(x1, c->loss.top);
        prv_loss_mass(&c->loss, x0, end, &a, &b);
        if (a > 0 && b > 0) {
            c->pmf.loss[n] = add ? -log(b / a) : log(b / a);
            c->pmf.log_mass[n++] = add ? log(a) : log(b);
        }
        x0 = end;
    }
    c->pmf.n = n;
    return n ? 0 : psg_fail(err, PSG_E_UNSUPPORTED, "prv", "no mass to place on a grid");
}

/* Chernoff bound that the tilt minimises: log delta at an epsilon, or epsilon at a delta.
 */
static double chernoff(const struct prv_plan *p, double lambda)
{
    double log_best = lambda * log(lambda) - (1 + lambda) * log1p(lambda);
    double log_mgf = plan_log_mgf(p, lambda);
    if (p->key.by_epsilon)
        return log_mgf - lambda * p->key.goal + log_best;
    return (log_mgf - log(p->key.goal) + log_best) / lambda;
}

/* Golden section over log t of a function with one valley. */
static double minimise(double (*f)(const struct prv_plan *, double),
                       const struct prv_plan *p, double lo, double hi)
{
    const double g = 0.6180339887498949;
    double a = log(lo), b = log(hi), u = b - g * (b - a), v = a + g * (b - a);
    double fu = f(p, exp(u)), fv = f(p, exp(v));
    while (b - a > 0.02) {
        if (fu < fv) {
            b = v, v = u, fv = fu;
            u = b - g * (b - a);
            fu = f(p, exp(u));
        } else {
            a = u, u = v, fu = fv;
            v = a + g * (b - a);
            fv = f(p, exp(v));
        }
    }
    return exp((a + b) / 2);
}

/* Chernoff widths of the tilted composition: mass window_tail lies further out. */
static double tail_above(const struct prv_plan *p, double theta)
{
    double grow = plan_log_mgf(p, p->lambda + theta) - plan_log_mgf(p, p->lambda);
    return (grow - log(window_tail)) / theta;
}

static double tail_below(const struct prv_plan *p, double theta)
{
    double grow = plan_log_mgf(p, p->lambda - theta) - plan_log_mgf(p, p->lambda);
    return (grow - log(window_tail)) / theta;
}

/* Adding a record has losses far below all that matters once tilted: a grid that reached
 * them would be almost all of the work. What lies below the new end counts as lying at it.
 */
static void trim_low_losses(struct prv_class *c, double lambda)
{
    double log_mgf = pmf_log_mgf(&c->pmf, lambda), mass = 0;
    double small = log_mgf + log(window_tail) - 12 - log((double)c->steps_max);
    size_t n = c->pmf.n;
    while (n > 1) {
        mass += exp(c->pmf.log_mass[n - 1]);
        if (log(mass) + lambda * c->pmf.loss[n - 2] > small)
            break;
        n--;
    }
    if (n < c->pmf.n)
        c->loss.top = fmin(c->loss.top, prv_loss_inverse(&c->loss, -c->pmf.loss[n - 1]));
    c->pmf.n = n;
}

/* Sum over the steps of how much of a node's spacing a tilted loss is away from the spike
 * at the end of the grid, where a node stands: the steps that the grid blurs. */
static double blurred_steps(const struct prv_plan *p, double step)
{
    double sum = 0;
    for (size_t k = 0; k < p->n_classes; k++) {
        const struct pmf *pmf = &p->class[k].pmf;
        double log_mgf = pmf_log_mgf(pmf, p->lambda), part = 0;
        for (size_t i = 0; i < pmf->n; i++) {
            double away = (pmf->loss[i] - pmf->loss[0]) / step;
            part += exp(pmf->log_mass[i] + p->lambda * pmf->loss[i] - log_mgf) *
                    fmin(1, away * away);
        }
        sum += (double)p->class[k].steps_max * part;
    }
    return sum;
}

/* Splitting mass onto nodes `step` apart adds at most (lambda + 1) step^2 / 8 to epsilon
 * per blurred step, usually 2/3 of that. */
static double choose_step(struct prv_plan *p, double range)
{
    double allowed = fmin(1e-4 * p->near, 1e-3), steps = 0;
    for (size_t k = 0; k < p->n_classes; k++)
        steps += (double)p->class[k].steps_max;
    double step = sqrt(12 * allowed / (steps * (p->lambda + 1)));
    for (int i = 0; i < 4; i++) {
        p->blurred = blurred_steps(p, step);
        step = sqrt(12 * allowed / (p->blurred * (p->lambda + 1)));
    }
    return fmin(step, range / 16);
}

/* The window that leaves out window_tail on each side, of the masses that are there. */
static void plan_window(struct prv_plan *p, double mean)
{
    double theta = fmin(1e3 / p->deviation, 0.5 / p->step);
    p->below = mean + tail_below(p, minimise(tail_below, p, 1e-6 * theta, theta));
    p->above = tail_above(p, minimise(tail_above, p, 1e-6 * theta, theta)) - mean;
}

static double window_size(const struct prv_plan *p)
{
    return p->below + p->above + 8 * p->step;
}

/* Tilt and step from the coarse bins. */
static int plan_scale(struct prv_plan *p, struct psg_error *err)
{
    p->lambda = minimise(chernoff, p, 1e-4, 1e9);
    double variance = 0, range = 0, mean = 0;
    for (size_t k = 0; k < p->n_classes; k++) {
        struct prv_class *c = &p->class[k];
        if (p->key.add && c->q < 1)
            trim_low_losses(c, p->lambda);
        double m, v;
        pmf_moments(&c->pmf, p->lambda, pmf_log_mgf(&c->pmf, p->lambda), &m, &v);
        mean += (double)c->steps_max * m;
        variance += (double)c->steps_max * v;
        range = fmax(range, fabs(c->pmf.loss[c->pmf.n - 1] - c->pmf.loss[0]));
    }
    /* relative error of delta is lambda times that of epsilon: a finer grid for it */
    double near = p->key.by_epsilon ? mean / 16 : chernoff(p, p->lambda);
    p->deviation = sqrt(variance);
    if (!(p->deviation > 0 && isfinite(p->deviation) && isfinite(near)))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "losses too extreme for a grid");
    p->near = p->key.near > 0 ? p->key.near : fmax(near, p->deviation / 16);
    double wanted = choose_step(p, range);
    p->step = fmax(wanted, range / (GRID_MAX / 4));
    plan_window(p, mean);
    p->step = fmax(p->step, window_size(p) / (WINDOW_MAX / 2));
    if (!(p->step < 16 * wanted))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv",
                        "the history needs too large a grid");
    return 0;
}

/* Where the grid may get sparse: so far up that steps with such losses, weighted with the
 * square of the spacing, are a small part of those that the grid blurs anyway. */
static void choose_levels(const struct prv_class *c, const struct prv_plan *p,
                          double *level)
{
    double log_mgf = pmf_log_mgf(&c->pmf, p->lambda), beyond = 0;
    double worth = p->blurred / 64 / (double)c->steps_max / (double)p->n_classes;
    int k = PRV_LEVELS;
    for (size_t i = c->pmf.n; i-- > 0 && k > 0;) {
        beyond += exp(c->pmf.log_mass[i] + p->lambda * c->pmf.loss[i] - log_mgf);
        while (k > 0 && beyond * ldexp(1, 2 * k) > worth)
            level[--k] = i + 1 < c->pmf.n ? fabs(c->pmf.loss[i + 1]) : INFINITY;
    }
    while (k > 0)
        level[--k] = fabs(c->pmf.loss[0]);
}

/* The class on the plan's grid, in the plan's direction. */
static int class_discretise(struct prv_class *c, const struct prv_plan *p,
                            struct psg_error *err)
{
    struct prv_loss_grid g = { 0 };
    bool add = p->key.add, upper = p->key.bound == PRV_UPPER;
    struct prv_loss_request request = {
        .bound = p->key.bound, .add = add, .step = p->step, .n_max = GRID_MAX
    };
    choose_levels(c, p, request.level);
    int r = prv_loss_discretise(&c->loss, &request, &g, err);
    if (r)
        return r;
    _cleanup_free_ double *a = g.a;
    pmf_fini(&c->pmf);
    r = pmf_init(&c->pmf, g.n, err);
    if (r)
        return r;
    double a_low, b_low, a_high, b_high;
    prv_loss_mass(&c->loss, -INFINITY, c->loss.bottom, &a_low, &b_low);
    prv_loss_mass(&c->loss, c->loss.top, INFINITY, &a_high, &b_high);
    c->infinite = upper ? (add ? a_low : b_high) : 0;
    c->offset = add ? -g.offset - g.step * (double)(g.first + (long)g.n - 1)
                    : g.offset + g.step * (double)g.first;
    /* losses below the grid are raised to its lowest node */
    double low = upper ? (add ? a_high : b_low) : 0;
    size_t n = 0;
    for (size_t i = 0; i < g.n; i++) {
        size_t from = add ? g.n - 1 - i : i;
        double y = g.offset + g.step * (double)(g.first + (long)from);
        double raised = i == 0 ? low * exp(add ? 0 : -y) : 0;
        if (!(a[from] + raised > 0))
            continue;
        c->pmf.loss[n] = add ? -y : y;
        c->pmf.log_mass[n++] = log(a[from] + raised) + (add ? 0 : y);
    }
    c->pmf.n = n;
    double variance;
    c->log_mgf = pmf_log_mgf(&c->pmf, p->lambda);
    if (!isfinite(c->log_mgf))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "losses too extreme for a grid");
    pmf_moments(&c->pmf, p->lambda, c->log_mgf, &c->mean, &variance);
    c->centre = lround((c->mean - c->offset) / p->step);
    return 0;
}

/* log_abs and arg of the transform of the tilted masses. */
static int class_transform(struct prv_class *c, const struct prv_plan *p,
                           struct psg_error *err)
{
    size_t n = p->n, half = n / 2 + 1;
    double *in = fftw_malloc(n * sizeof in[0]);
    fftw_complex *out = fftw_malloc(half * sizeof out[0]);
    fftw_plan fft = NULL;
    c->log_abs = malloc(half * sizeof c->log_abs[0]);
    c->arg = malloc(half * sizeof c->arg[0]);
    if (in && out && c->log_abs && c->arg) {
        pthread_mutex_lock(&fftw_planner);
        fft = fftw_plan_dft_r2c_1d((int)n, in, out, FFTW_ESTIMATE);
        pthread_mutex_unlock(&fftw_planner);
    }
    if (fft) {
        memset(in, 0, n * sizeof in[0]);
        for (size_t i = 0; i < c->pmf.n; i++) {
            long at = lround((c->pmf.loss[i] - c->offset) / p->step);
            at = (at - c->centre) % (long)n;
            in[at < 0 ? at + (long)n : at] +=
                exp(c->pmf.log_mass[i] + p->lambda * c->pmf.loss[i] - c->log_mgf);
        }
        fftw_execute(fft);
        for (size_t i = 0; i < half; i++) {
            double re = out[i][0], im = out[i][1];
            c->log_abs[i] = 0.5 * log(re * re + im * im);
            c->arg[i] = atan2(im, re);
        }
        pthread_mutex_lock(&fftw_planner);
        fftw_destroy_plan(fft);
        pthread_mutex_unlock(&fftw_planner);
    }
    fftw_free(in);
    fftw_free(out);
    return fft ? 0 : psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
}

static void prv_plan_freep(struct prv_plan **planp)
{
    prv_plan_free(*planp);
}

struct prv_plan *prv_plan_free(struct prv_plan *plan)
{
    for (size_t k = 0; plan && k < plan->n_classes; k++) {
        pmf_fini(&plan->class[k].pmf);
        free(plan->class[k].log_abs);
        free(plan->class[k].arg);
    }
    free(plan);
    return NULL;
}

static int plan_classes(struct prv_plan *p, const struct psg_dp_event *event,
                        struct psg_error *err)
{
    /* mass beyond the truncation is taken as infinite loss. For a question by epsilon a
     * fixed tail far below any delta of use */
    double tail = p->key.by_epsilon ? 1e-18 : fmax(p->key.goal * lost_tail, 1e-250);
    for (size_t k = 0; k < p->n_classes; k++) {
        struct prv_class *c = &p->class[k];
        c->q = event[k].sample_rate;
        c->sigma = event[k].noise_multiplier;
        c->steps_max = event[k].steps;
        double z = normal_upper(tail / (double)p->n_classes / (double)c->steps_max);
        c->loss = (struct prv_loss){ c->q, c->sigma, -INFINITY, 1 + z * c->sigma };
        if (c->q == 1)
            c->loss.bottom = -z * c->sigma;
        int r = coarse_pmf(c, p->key.add, err);
        if (r)
            return r;
    }
    return 0;
}

int prv_plan_new(const struct prv_plan_key *key, const struct psg_dp_event *event,
                 size_t n_events, struct prv_plan **planp, struct psg_error *err)
{
    if (n_events > PRV_CLASSES_MAX)
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "more than %d different events",
                        PRV_CLASSES_MAX);
    _cleanup_(prv_plan_freep) struct prv_plan *p = calloc(1, sizeof *p);
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
    p->key = *key;
    p->n_classes = n_events;
    int r = plan_classes(p, event, err);
    if (!r)
        r = plan_scale(p, err);
    for (size_t k = 0; !r && k < n_events; k++)
        r = class_discretise(&p->class[k], p, err);
    if (r)
        return r;
    /* The window from the fine grid. A composition of fewer steps leaves out less: its
     * Chernoff exponent is the same sum with fewer terms */
    double mean = 0;
    for (size_t k = 0; k < n_events; k++)
        mean += (double)p->class[k].steps_max * p->class[k].mean;
    plan_window(p, mean);
    double need = window_size(p) / p->step;
    if (!(need < WINDOW_MAX))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv",
                        "the history needs too large a grid");
    p->n = 64;
    while ((double)p->n < need)
        p->n = p->n % 3 == 0 ? p->n / 3 * 4 : p->n / 2 * 3;
    /* what the rounding of n gives beyond the need goes to both sides */
    double spare = (double)p->n * p->step - (p->below + p->above);
    p->below += spare / 2;
    p->above += spare / 2;
    for (size_t k = 0; !r && k < n_events; k++)
        r = class_transform(&p->class[k], p, err);
    if (r)
        return r;
    *planp = steal(&p);
    return 0;
}

double prv_plan_near(const struct prv_plan *p)
{
    return p->near;
}

bool prv_plan_fits(const struct prv_plan *p, const struct prv_plan_key *key,
                   const struct psg_dp_event *event, size_t n_events)
{
    if (!p || p->n_classes != n_events || p->key.add != key->add ||
        p->key.bound != key->bound || p->key.by_epsilon != key->by_epsilon ||
        p->key.goal != key->goal)
        return false;
    for (size_t k = 0; k < n_events; k++) {
        const struct prv_class *c = &p->class[k];
        if (c->q != event[k].sample_rate || c->sigma != event[k].noise_multiplier ||
            event[k].steps > c->steps_max || event[k].steps < c->steps_max / 2)
            return false;
    }
    return true;
}
