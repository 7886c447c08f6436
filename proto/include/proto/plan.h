/* The answer of POST /jobs?dry_run=true: what the job would be, take and cost. */
#ifndef PROTO_PLAN_H
#define PROTO_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/event.h"
#include "proto/job_spec.h"
#include "proto/problem.h"

/* one line of the plan's table, in the order of execution */
struct plan_layer {
    const char *path; /* "layers.3" or the layer's name */
    const char *op;
    size_t n_shape;
    const int64_t *shape; /* of the output for one record */
    int64_t params;       /* trainable parameters */
    const char *route;    /* how its per-sample gradients are obtained; NULL: it has none */
};

struct plan_warning {
    enum warning_code code;
    const char *message; /* NULL: the catalogue's sentence */
};

struct plan_view {
    const char *dataset;
    int64_t parameters;
    int64_t trainable_parameters;
    int64_t memory_bytes; /* that training adds, whatever the batch turns out to be */
    int64_t steps;
    double sample_rate;
    double expected_batch_size;
    enum privacy_unit unit;  /* 0: a job without privacy */
    double noise_multiplier; /* NAN: a job without privacy */
    double epsilon;          /* of all steps at delta; NAN: without privacy, or no bound */
    double delta;
    enum accountant_kind accountant;
    double available_epsilon;   /* what the dataset has left; NAN: it has no budget */
    bool fits;                  /* the budget allows all steps */
    int64_t max_steps_that_fit; /* -1: not told */
    struct device_spec device;
    enum grad_sample_mode grad_sample_mode;
    size_t n_layers;
    struct plan_layer *layers;
    size_t n_warnings;
    struct plan_warning *warnings;
    struct job_spec *spec; /* with defaults written out; NULL: left out */
};

void plan_view_init(struct plan_view *plan);
int plan_view_decode(struct plan_view **p, const char *text, size_t len,
                     struct problem *problem);
char *plan_view_encode(const struct plan_view *plan, size_t *lenp);
struct plan_view *plan_view_free(struct plan_view *plan);
void plan_view_freep(struct plan_view **p);

#endif
