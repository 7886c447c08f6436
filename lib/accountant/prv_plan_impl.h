/* What prv_plan.c builds and prv_ask.c asks. */
#ifndef ACCOUNTANT_PRV_PLAN_IMPL_H
#define ACCOUNTANT_PRV_PLAN_IMPL_H

#include "accountant/prv_plan.h"

static const double window_tail = 1e-13; /* tilted mass outside of the window, each side */

/* Losses of one step with their log masses under the direction's own measure. */
struct pmf {
    size_t n; /* without nodes that have no mass */
    double *loss, *log_mass;
};

struct prv_class {
    double q, sigma;
    int64_t steps_max;
    struct prv_loss loss;
    struct pmf pmf;
    double infinite;       /* mass of losses that are not on the grid, taken as infinite */
    double log_mgf, mean;  /* of the tilted grid: log E exp(lambda loss), and its mean */
    double offset;         /* loss of node 0 */
    long centre;           /* the node that stands at index 0 of the transform */
    double *log_abs, *arg; /* transform of the tilted masses: n/2 + 1 frequencies */
};

struct prv_plan {
    struct prv_plan_key key;
    size_t n_classes;
    struct prv_class class[PRV_CLASSES_MAX];
    double lambda, step, near;
    double blurred;      /* steps that the grid blurs */
    size_t n;            /* nodes of the window */
    double below, above; /* window around the tilted mean */
    double deviation;    /* standard deviation of the tilted composition at steps_max */
};

#endif
