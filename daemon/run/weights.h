/* Start weights of an attempt. */
#ifndef DAEMON_RUN_WEIGHTS_H
#define DAEMON_RUN_WEIGHTS_H

#include "proto/model.h"
#include "psg/weights.h"

/* psg_weights_load() of a file in memory as the job says. */
int run_weights_load(const struct weights_spec *weights, const struct psg_program *program,
                     const void *bytes, size_t size, psg_real *params, struct psg_findings *f,
                     struct psg_error *err);

#endif
