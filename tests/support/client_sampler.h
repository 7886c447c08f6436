/* Grad samplers and a layer function as a client would write them: plain loops, nothing but the
 * public headers. The number behind `user` counts calls of grad_sample, norm_sample and
 * clipped_sum. */
#ifndef TESTS_CLIENT_SAMPLER_H
#define TESTS_CLIENT_SAMPLER_H

#include <stdatomic.h>

#include "psg/registry.h"

struct client_count {
    atomic_int grad, norm, sum;
};

/* of linear; g[N,O,I] = sum_t dy[N,t,O] x[N,t,I] */
void client_linear_grad(const struct psg_sampler_call *c);
void client_linear_norm(const struct psg_sampler_call *c);
void client_linear_sum(const struct psg_sampler_call *c);
/* of linear; the gradient of the bias lacks its last element */
void client_linear_wrong(const struct psg_sampler_call *c);

/* "client_square": y = x * weight^2, weight of the shape of x */
extern const struct psg_op client_square;

#endif
