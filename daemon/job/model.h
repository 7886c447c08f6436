/* A job's layers in JSON as a libpsg program. */
#ifndef DAEMON_JOB_MODEL_H
#define DAEMON_JOB_MODEL_H

#include "proto/job_spec.h"
#include "psg/program.h"

/* What the dataset gives to the model. */
struct model_data {
    struct psg_type input; /* of one record */
    int64_t classes;       /* -1: real targets */
};

/* A checked program with inputs (input, target) in this order. Layers follow one another unless
 * they say `in`; `sequential` and `residual` contain others. ERROR_REFUSED with JSON pointers
 * into the spec ("/model/layers/3/kernel_size"). */
int model_build(const struct job_spec *spec, const struct model_data *data,
                struct psg_program **programp, struct problem *p);

#endif
