#include "accountant/prv_loss.h"

#include <math.h>
#include <stdlib.h>

double prv_loss_at(const struct prv_loss *l, double x)
{
    double t = (2 * x - 1) / (2 * l->sigma * l->sigma);
    if (l->q == 1)
        return t;
    if (t < 30)
        return log1p(l->q * expm1(t));
    return t + log(l->q) + log1p((1 - l->q) / l->q * exp(-t));
}

double prv_loss_inverse(const struct prv_loss *l, double y)
{
    double var = l->sigma * l->sigma;
    if (l->q == 1)
        return var * y + 0.5;
    double u = y < 50 ? (expm1(y) + l->q) / l->q : INFINITY;
    if (u <= 0)
        return -INFINITY;
    return var * (u < INFINITY ? log(u) : y - log(l->q)) + 0.5;
}

/* Standard normal mass of (u0, u1), from whichever tail is smaller. */
static double normal_mass(double u0, double u1)
{
    double v0 = u0 * M_SQRT1_2, v1 = u1 * M_SQRT1_2;
    if (v0 > 0)
        return 0.5 * (erfc(v0) - erfc(v1));
    if (v1 < 0)
        return 0.5 * (erfc(-v1) - erfc(-v0));
    return 0.5 * (erf(v1) - erf(v0));
}

void prv_loss_mass(const struct prv_loss *l, double x0, double x1, double *a, double *b)
{
    double shifted = normal_mass((x0 - 1) / l->sigma, (x1 - 1) / l->sigma);
    *a = normal_mass(x0 / l->sigma, x1 / l->sigma);
    *b = (1 - l->q) * *a + l->q * shifted;
}

/* How much y lies above the loss of the bin from bottom up to y. */
static double above_first_bin(const struct prv_loss *l, double y)
{
    double a, b;
    prv_loss_mass(l, l->bottom, prv_loss_inverse(l, y), &a, &b);
    return a > 0 && b > 0 ? y - log(b / a) : 0;
}

/* Where the nodes sit: for small noise most of the mass is a spike at log(1-q), narrower
 * than a step, and a node in its middle is what keeps both bounds tight. The first bin ends
 * half a step above its own loss, which becomes a node. */
static double grid_offset(const struct prv_loss *l, double step)
{
    double least = l->bottom == -INFINITY ? log1p(-l->q) : prv_loss_at(l, l->bottom);
    double lo = least, hi = least + step;
    for (int i = 0; i < 60 && above_first_bin(l, hi) < step / 2; i++)
        hi += hi - least;
    for (int i = 0; i < 60; i++) {
        double mid = lo + (hi - lo) / 2;
        if (above_first_bin(l, mid) < step / 2)
            lo = mid;
        else
            hi = mid;
    }
    return hi - step / 2;
}

static double node(const struct prv_loss_grid *g, long i)
{
    return g->offset + g->step * (double)(g->first + i);
}

/* Distance in nodes to the next one that is used from y on. */
static size_t stride_at(const struct prv_loss_request *r, double y)
{
    int k = 0;
    while (k < PRV_LEVELS && y >= r->level[k])
        k++;
    return (size_t)1 << k;
}

static void fill_upper(const struct prv_loss *l, const struct prv_loss_request *r,
                       struct prv_loss_grid *g)
{
    double x0 = l->bottom, y0 = node(g, 0);
    for (size_t i = 0, next; i + 1 < g->n; i = next) {
        next = i + stride_at(r, y0);
        if (next >= g->n)
            next = g->n - 1;
        double y1 = node(g, (long)next);
        double x1 = fmin(prv_loss_inverse(l, y1), l->top);
        if (x1 > x0) {
            double a, b;
            prv_loss_mass(l, x0, x1, &a, &b);
            double part = (b * exp(-y0) - a) / expm1(y1 - y0);
            part = fmin(fmax(part, 0), a);
            g->a[i] += a - part;
            g->a[next] += part;
            x0 = x1;
        }
        y0 = y1;
    }
}

/* End of the bin that starts at (x0, y0) and has loss y: B(bin) = exp(y) A(bin). Returns
 * INFINITY when it would be beyond y_most or top. */
static double bin_end(const struct prv_loss *l, double x0, double y0, double y,
                      double y_most, double *massp)
{
    double lo = y, hi = fmax(2 * y - y0, y), width = hi - lo, a = 0, b = 0, x1;
    double y_top = fmin(prv_loss_at(l, l->top), y_most);
    double x_top = fmin(prv_loss_inverse(l, y_top), l->top);
    /* find an end that is too far, from the end of a bin of constant density */
    for (;;) {
        x1 = hi < y_top ? prv_loss_inverse(l, hi) : x_top;
        prv_loss_mass(l, x0, x1, &a, &b);
        if (b * exp(-y) >= a)
            break;
        if (hi >= y_top)
            return INFINITY;
        lo = hi;
        hi += 0.05 * width;
        width *= 2;
    }
    hi = fmin(hi, y_top);
    double f_hi = b * exp(-y) - a, f_lo = NAN;
    for (int i = 0; i < 60 && hi - lo > 1e-9 * (hi - y); i++) {
        /* false position once both ends are known, kept inside; else halve */
        double part = f_lo < 0 && i % 3 != 2 ? -f_lo / (f_hi - f_lo) : 0.5;
        if (isnan(f_lo))
            part = 0.9;
        double mid = lo + (hi - lo) * fmin(fmax(part, 1e-3), 0.999);
        double x = prv_loss_inverse(l, mid);
        prv_loss_mass(l, x0, x, &a, &b);
        double f = b * exp(-y) - a;
        if (f >= 0) {
            hi = mid;
            f_hi = f;
            x1 = x;
            *massp = a;
            if (f == 0)
                break;
        } else {
            lo = mid;
            f_lo = f;
        }
    }
    prv_loss_mass(l, x0, x1, &a, &b);
    /* the bin found lies a hair above y: keep the smaller of both masses */
    *massp = fmin(a, b * exp(-y));
    return x1;
}

/* Where the density falls too fast for a bin with the loss of node i: ends the bin half a
 * step past it and lowers its loss to a node. That is y of the node before when removing,
 * and, as the loss of adding is -y, node i when adding. */
static double bin_lowered(const struct prv_loss *l, const struct prv_loss_request *r,
                          struct prv_loss_grid *g, double x0, size_t i)
{
    double a, b, y = node(g, (long)i);
    double x1 = fmin(prv_loss_inverse(l, y + g->step / 2), l->top);
    prv_loss_mass(l, x0, x1, &a, &b);
    if (r->add)
        g->a[i] += a;
    else if (i > 0)
        g->a[i - 1] += b * exp(-node(g, (long)i - 1));
    return x1;
}

static void fill_lower(const struct prv_loss *l, const struct prv_loss_request *r,
                       struct prv_loss_grid *g)
{
    double x0 = l->bottom, y0 = node(g, 0) + g->step / 2, a, b;
    if (l->q < 1) {
        /* the first bin of grid_offset */
        double y = g->offset;
        y0 = y + g->step / 2;
        x0 = fmin(prv_loss_inverse(l, y0), l->top);
        prv_loss_mass(l, l->bottom, x0, &a, &b);
        g->a[-g->first] = fmin(a, b * exp(-y));
    } else {
        x0 = fmax(prv_loss_inverse(l, y0), l->bottom);
    }
    for (size_t i = 0, least = 0; x0 < l->top; least = i + 1) {
        size_t stride = stride_at(r, y0);
        double reach = y0 + g->step * (double)(stride - 1) / 2;
        double first_above = floor((reach - node(g, 0)) / g->step) + 1;
        i = first_above > (double)least ? (size_t)first_above : least;
        if (i < g->n && node(g, (long)i) <= y0)
            i++;
        if (i >= g->n)
            return;
        double y = node(g, (long)i), mass = 0;
        double x1 = bin_end(l, x0, y0, y, y + 8 * (double)stride * g->step, &mass);
        if (x1 < INFINITY)
            g->a[i] += mass;
        else if (prv_loss_at(l, l->top) > y + g->step)
            x1 = bin_lowered(l, r, g, x0, i);
        else
            return;
        /* at the least loss of q near 1 rounding can keep x where it is */
        if (x1 > x0)
            x0 = x1;
        y0 = prv_loss_at(l, x0);
    }
}

int prv_loss_discretise(const struct prv_loss *l, const struct prv_loss_request *r,
                        struct prv_loss_grid *g, struct psg_error *err)
{
    double step = r->step;
    double least = l->bottom == -INFINITY ? log1p(-l->q) : prv_loss_at(l, l->bottom);
    double most = prv_loss_at(l, l->top);
    double nodes = (most - least) / step;
    if (!(nodes + 8 < (double)r->n_max))
        return psg_fail(err, PSG_E_UNSUPPORTED, "prv", "a grid of %g nodes is too large",
                        nodes);
    g->step = step;
    g->offset = grid_offset(l, step);
    g->first = (long)floor((least - g->offset) / step) - 1;
    g->n = (size_t)((long)ceil((most - g->offset) / step) + 2 - g->first);
    g->a = calloc(g->n, sizeof g->a[0]);
    if (!g->a)
        return psg_fail(err, PSG_E_NOMEM, "prv", "out of memory");
    if (r->bound == PRV_UPPER)
        fill_upper(l, r, g);
    else
        fill_lower(l, r, g);
    return 0;
}
