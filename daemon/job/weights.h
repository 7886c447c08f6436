/* Start weights of a job: an uploaded file against the model. */
#ifndef DAEMON_JOB_WEIGHTS_H
#define DAEMON_JOB_WEIGHTS_H

#include "proto/job_spec.h"
#include "psg/program.h"
#include "upload/upload.h"

/* Refuses with every mismatch of the file and the program ("/model/weights"), also when owner has
 * no such upload. Reads the file's header only; loop thread. weights NULL: 0. */
int weights_check(const struct weights_spec *weights, const struct psg_program *program,
                  const struct uploads *uploads, const struct env *env, const char *owner,
                  struct problem *p);

/* The findings about a file as a problem's items. */
int weights_compare(const struct weights_spec *weights, const struct psg_program *program,
                    const void *bytes, size_t size, psg_real *params, struct problem *p);

#endif
