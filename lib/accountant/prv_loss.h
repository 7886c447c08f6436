/* Privacy loss of one step of the Poisson-subsampled Gaussian.
 *
 * A = N(0, s^2) and B = (1-q) N(0, s^2) + q N(1, s^2); y(x) = log(dB/dA) grows with x.
 * Removing a record compares B with A: its loss is y under B. Adding one compares A with B:
 * its loss is -y under A. Everything here is about intervals of x, which are the same for
 * both. */
#ifndef ACCOUNTANT_PRV_LOSS_H
#define ACCOUNTANT_PRV_LOSS_H

#include <stdbool.h>
#include <stddef.h>

#include "psg/status.h"

struct prv_loss {
    double q, sigma;
    double bottom; /* x below this is left to the caller: -INFINITY unless q is 1 */
    double top;    /* and above this */
};

/* y at x, and x at y (-INFINITY at or below the least loss, log(1-q)). */
double prv_loss_at(const struct prv_loss *l, double x);
double prv_loss_inverse(const struct prv_loss *l, double y);
/* Mass of (x0, x1) under A and under B. */
void prv_loss_mass(const struct prv_loss *l, double x0, double x1, double *a, double *b);

/* Masses on a grid: a[i] under A at y = offset + step * (first + i); under B it is a[i]
 * exp(y). */
struct prv_loss_grid {
    double step, offset;
    long first;
    size_t n;
    double *a;
};

/* Where little mass lies, few nodes do: beyond level[k] only every 2^(k+1)-th is used. */
enum { PRV_LEVELS = 16 };

enum prv_bound {
    PRV_UPPER, /* dominates the mechanism: mass between two nodes is split onto both,
                   keeping its mass under A and B ("connect the dots", Doroshenko et al.
                   2022) */
    PRV_LOWER  /* is dominated: neighbouring outputs are merged into bins whose loss is a
                   node,  which is post-processing; where no bin has the right loss, losses
                   are lowered  to a node; mass in the last, unfinished bin is dropped */
};

struct prv_loss_request {
    enum prv_bound bound;
    bool add; /* the direction that the bound is for */
    double step;
    double level[PRV_LEVELS]; /* growing; INFINITY: never */
    size_t n_max;
};

/* Covers [bottom, top]; grid->a is to be freed. PSG_E_UNSUPPORTED when more than n_max
 * nodes would be needed. */
int prv_loss_discretise(const struct prv_loss *l, const struct prv_loss_request *request,
                        struct prv_loss_grid *grid, struct psg_error *err);

#endif
