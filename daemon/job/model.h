/* A job's layers in JSON as a libpsg program. */
#ifndef DAEMON_JOB_MODEL_H
#define DAEMON_JOB_MODEL_H

#include "proto/dataset.h"
#include "proto/job_spec.h"
#include "psg/program.h"
#include "psg/registry.h"

/* What the dataset gives to the model. */
struct model_data {
    struct psg_type input; /* of one record */
    int64_t classes;       /* -1: real targets */
    size_t n_columns;      /* further inputs, by name */
    const struct dataset_column *columns;
    const struct psg_registry *registry; /* layers of plugins, or NULL */
};

/* A checked program with the inputs "input", "target" and those further columns of the dataset that
 * a layer or the loss names. Layers follow one another unless they say `in`; `sequential` and
 * `residual` contain others; an op is libpsg's or one of the model's own. ERROR_REFUSED with JSON
 * pointers into the spec ("/model/layers/3/kernel_size"). */
int model_build(const struct job_spec *spec, const struct model_data *data,
                struct psg_program **programp, struct problem *p);

/* Whether the loss compares class numbers with one logit for each. */
bool model_loss_wants_class(const struct loss *loss);

#endif
