#include "ledger/filter.h"

#include <math.h>
#include <string.h>

#include "psg/accountant.h"

/* From low orders, which hold for much cost, to high ones, which hold for little: about evenly
 * spaced in the logarithm of order - 1. */
static const double default_orders[FILTER_K] = { 2, 3, 4, 6, 10, 20, 48, 128 };

/* psg_rdp_step is exact to 1e-9 relative or 1e-14 absolute and not rounded up; this much more
 * than covers it */
#define MARGIN_RELATIVE 4e-9
#define MARGIN_ABSOLUTE 4e-14

/* a step that costs more than this is not counted but infinite: 1024 */
#define STEP_MAX (INT64_C(1) << 50)
/* and so is a total: 2^22 */
#define TOTAL_MAX (INT64_C(1) << 62)

/* of delta, for jobs whose batches are cut: each may cost 2^-40 of it beside its steps */
#define CUT_SHARE 0x1p-20

static double penalty(const struct filter *f, int j)
{
    return log(FILTER_K / (f->delta * (1 - CUT_SHARE))) / (f->order[j] - 1);
}

bool filter_valid(double epsilon, double delta)
{
    return epsilon > 0 && epsilon <= FILTER_EPSILON_MAX && delta > 0 && delta < 1;
}

void filter_caps(struct filter *f)
{
    for (int j = 0; j < FILTER_K; j++) {
        /* the logarithm and the difference round: give away a part in 10^12 */
        double cap = f->epsilon - penalty(f, j);
        cap -= 1e-12 * (f->epsilon + penalty(f, j));
        f->cap[j] = (int64_t)floor(fmax(cap, -TOTAL_MAX / FILTER_UNIT) * FILTER_UNIT);
    }
}

void filter_init(struct filter *f, double epsilon, double delta)
{
    *f = (struct filter){ .epsilon = epsilon, .delta = delta };
    memcpy(f->order, default_orders, sizeof f->order);
    filter_caps(f);
}

int filter_step(const struct filter *f, double sample_rate, double noise_multiplier,
                struct filter_rdp *step, struct psg_error *err)
{
    for (int j = 0; j < FILTER_K; j++) {
        double rdp = INFINITY;
        int r = psg_rdp_step(sample_rate, noise_multiplier, f->order[j], &rdp, err);
        if (r < 0)
            return r;
        double units = ceil((rdp * (1 + MARGIN_RELATIVE) + MARGIN_ABSOLUTE) * FILTER_UNIT);
        if (sample_rate == 0)
            units = 0;
        step->at[j] = units >= 0 && units <= (double)STEP_MAX ? (int64_t)units : FILTER_INF;
    }
    return 0;
}

int filter_pure(const struct filter *f, double epsilon, struct filter_rdp *step,
                struct psg_error *err)
{
    if (!(epsilon > 0 && isfinite(epsilon)))
        return psg_fail(err, PSG_E_RANGE, "epsilon", "must be positive and finite");
    for (int j = 0; j < FILTER_K; j++) {
        double rdp = fmin(epsilon, f->order[j] * epsilon * epsilon / 2);
        double units = ceil((rdp * (1 + MARGIN_RELATIVE) + MARGIN_ABSOLUTE) * FILTER_UNIT);
        step->at[j] = units <= (double)STEP_MAX ? (int64_t)units : FILTER_INF;
    }
    return 0;
}

static int64_t times(int64_t step, int64_t n)
{
    int64_t product;
    if (n == 0 || step == 0)
        return 0;
    if (step == FILTER_INF || __builtin_mul_overflow(step, n, &product) || product > TOTAL_MAX)
        return FILTER_INF;
    return product;
}

struct filter_rdp filter_add(const struct filter_rdp *total, const struct filter_rdp *step,
                             int64_t n)
{
    struct filter_rdp sum;
    for (int j = 0; j < FILTER_K; j++) {
        int64_t more = times(step->at[j], n);
        bool inf = total->at[j] == FILTER_INF || more == FILTER_INF ||
                   total->at[j] > TOTAL_MAX - more;
        sum.at[j] = inf ? FILTER_INF : total->at[j] + more;
    }
    return sum;
}

struct filter_rdp filter_sub(const struct filter_rdp *total, const struct filter_rdp *step,
                             int64_t n)
{
    struct filter_rdp rest;
    for (int j = 0; j < FILTER_K; j++) {
        int64_t less = times(step->at[j], n);
        bool inf = total->at[j] == FILTER_INF || less == FILTER_INF;
        rest.at[j] = inf ? FILTER_INF : total->at[j] - less;
    }
    return rest;
}

bool filter_equal(const struct filter_rdp *a, const struct filter_rdp *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

bool filter_holds(const struct filter *f, const struct filter_rdp *total)
{
    bool zero = true, within = false;
    for (int j = 0; j < FILTER_K; j++) {
        zero &= total->at[j] == 0;
        within |= total->at[j] != FILTER_INF && total->at[j] <= f->cap[j];
    }
    return zero || within; /* nothing released is private at any epsilon */
}

int64_t filter_fit(const struct filter *f, const struct filter_rdp *total,
                   const struct filter_rdp *step, int64_t max)
{
    int64_t best = 0;
    for (int j = 0; j < FILTER_K; j++) {
        if (total->at[j] == FILTER_INF || total->at[j] > f->cap[j])
            continue;
        int64_t n = step->at[j] == 0 ? max : (f->cap[j] - total->at[j]) / step->at[j];
        best = n > best ? n : best;
    }
    return best < max ? best : max;
}

double filter_epsilon(const struct filter *f, const struct filter_rdp *total)
{
    double best = INFINITY;
    bool zero = true;
    for (int j = 0; j < FILTER_K; j++) {
        zero &= total->at[j] == 0;
        if (total->at[j] != FILTER_INF)
            best = fmin(best, (double)total->at[j] / FILTER_UNIT + penalty(f, j));
    }
    return zero ? 0 : best;
}
