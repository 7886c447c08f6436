/* Renyi DP of the Poisson-subsampled Gaussian.
 *
 * With m(x) = (1-q) N(x; 0, s^2) + q N(x; 1, s^2) the divergence at order a is
 * log A / (a - 1), A = E over x ~ N(0, s^2) of (m(x) / N(x; 0, s^2))^a.
 * Mironov, Talwar, Zhang 2019, section 3.3 (arXiv 1908.10530). */
#include <float.h>
#include <math.h>

#include "accountant/check.h"
#include "accountant/rdp.h"
#include "accountant/special.h"

enum { TAIL_TERMS = 24, HEAD_MAX = 4096 };

/* A = sum_i C(a,i) (1-q)^(a-i) q^i exp((i^2-i)/(2s^2)). The weights sum to 1, so A - 1 is
 * the sum with exp replaced by expm1, all terms positive: no cancellation for tiny
 * divergences. */
static double log_a_integer(double q, double sigma, double order)
{
    double log_q = log(q), log_1mq = log1p(-q), half = 0.5 / (sigma * sigma);
    double log_binom = log(order), log_sum = -INFINITY;
    for (double i = 2; i <= order; i++) {
        log_binom += log((order - i + 1) / i);
        double term = log_binom + i * log_q + (order - i) * log_1mq +
                      special_log_expm1(i * (i - 1) * half);
        log_sum = special_log_add(log_sum, term);
    }
    return special_log1p_exp(log_sum);
}

struct frac_series {
    double log_q, log_1mq; /* log q, log(1-q) */
    double half;           /* 1 / (2 s^2) */
    double z0;             /* where both halves of the mixture are equal */
    double scale;          /* 1 / (sqrt(2) s) */
    double order;
};

/* log of |term i| of both halves of the fractional series, given log |C(a,i)|. */
static double frac_log_term(const struct frac_series *f, double i, double log_binom)
{
    double j = f->order - i;
    double s0 = log_binom + i * f->log_q + j * f->log_1mq + (i * i - i) * f->half +
                special_log_erfc((i - f->z0) * f->scale) - M_LN2;
    double s1 = log_binom + j * f->log_q + i * f->log_1mq + (j * j - j) * f->half +
                special_log_erfc((f->z0 - j) * f->scale) - M_LN2;
    return special_log_add(s0, s1);
}

/* sum of (-1)^k exp(log_term[k] - shift): Cohen, Rodriguez Villegas, Zagier 2000, algorithm
 * 1 */
static double alternating_sum(const double log_term[TAIL_TERMS], double shift)
{
    double d = pow(3 + sqrt(8), TAIL_TERMS), sum = 0;
    d = (d + 1 / d) / 2;
    double b = -1, c = -d;
    for (int k = 0; k < TAIL_TERMS; k++) {
        c = b - c;
        sum += c * exp(log_term[k] - shift);
        b *= (double)(k + TAIL_TERMS) * (k - TAIL_TERMS) / ((k + 0.5) * (k + 1));
    }
    return sum / d;
}

static double log_a_fractional(double q, double sigma, double order)
{
    struct frac_series f = { .log_q = log(q), .log_1mq = log1p(-q), .order = order };
    f.half = 0.5 / (sigma * sigma);
    f.z0 = sigma * sigma * (f.log_1mq - f.log_q) + 0.5;
    f.scale = M_SQRT1_2 / sigma;

    /* C(a,i) is positive up to i = ceil(a) and alternates from there on */
    double head = -INFINITY, log_binom = 0, i = 0, tail[TAIL_TERMS];
    for (; i < order + 1; i++) {
        head = special_log_add(head, frac_log_term(&f, i, log_binom));
        log_binom += log(fabs(order - i) / (i + 1));
    }
    for (int k = 0; k < TAIL_TERMS; k++, i++) {
        tail[k] = frac_log_term(&f, i, log_binom);
        log_binom += log(fabs(order - i) / (i + 1));
    }
    if (!(head < INFINITY))
        return INFINITY;
    return head + log1p(-alternating_sum(tail, head));
}

double accountant_rdp_step(double q, double sigma, double order)
{
    if (q == 0 || sigma == INFINITY)
        return 0;
    if (sigma == 0)
        return INFINITY;
    double whole_batch = order * 0.5 / sigma / sigma; /* q = 1; a bound for every q */
    /* squares of orders times 1/s^2 must stay finite, or differences of them become NaN */
    if (q == 1 || order > HEAD_MAX || !(whole_batch * order < DBL_MAX / 1024))
        return whole_batch;
    double log_a = order == floor(order) ? log_a_integer(q, sigma, order)
                                         : log_a_fractional(q, sigma, order);
    double rdp = log_a / (order - 1);
    if (!(rdp <= whole_batch)) /* rounding, or NaN */
        return whole_batch;
    return fmax(rdp, 0);
}

int psg_rdp_step(double sample_rate, double noise_multiplier, double order, double *rdpp,
                 struct psg_error *err)
{
    struct psg_dp_event event = { sample_rate, noise_multiplier, 1 };
    int r = accountant_check_event(&event, -1, err);
    if (r)
        return r;
    if (!(order > 1 && order < INFINITY))
        return psg_fail(err, PSG_E_RANGE, "order",
                        "order is %g, must be more than 1 and finite", order);
    *rdpp = accountant_rdp_step(sample_rate, noise_multiplier, order);
    return 0;
}

void psg_rdp_orders(double order[PSG_RDP_N_ORDERS])
{
    int n = 0;
    for (int x = 1; x < 100; x++)
        order[n++] = 1 + x / 10.0;
    for (int x = 12; x < 64; x++)
        order[n++] = x;
}

double psg_rdp_epsilon(size_t n, const double *order, const double *rdp, double delta,
                       double *orderp)
{
    double best = INFINITY, best_order = 0;
    bool free_of_cost = true;
    for (size_t i = 0; i < n; i++) {
        double a = order[i];
        double eps = rdp[i] + log1p(-1 / a) - (log(delta) + log(a)) / (a - 1);
        free_of_cost = free_of_cost && rdp[i] == 0;
        if (eps < best) {
            best = eps;
            best_order = a;
        }
    }
    if (orderp)
        *orderp = best_order;
    return free_of_cost || delta >= 1 ? 0 : fmax(best, 0);
}

double psg_rdp_delta(size_t n, const double *order, const double *rdp, double epsilon,
                     double *orderp)
{
    double best = 0, best_order = 0; /* log delta = 0: delta 1 always holds */
    bool free_of_cost = true;
    for (size_t i = 0; i < n; i++) {
        double a = order[i];
        double log_delta = (a - 1) * (rdp[i] - epsilon + log1p(-1 / a)) - log(a);
        free_of_cost = free_of_cost && rdp[i] == 0;
        if (log_delta < best) {
            best = log_delta;
            best_order = a;
        }
    }
    if (orderp)
        *orderp = best_order;
    return free_of_cost || epsilon == INFINITY ? 0 : exp(best);
}
