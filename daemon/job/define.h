/* The layers that a job defines for itself, as libpsg ops. */
#ifndef DAEMON_JOB_DEFINE_H
#define DAEMON_JOB_DEFINE_H

#include "proto/model.h"
#include "proto/problem.h"
#include "psg/program.h"

/* Makes op[n_defines], which live as long as the program. ERROR_REFUSED with the place of the
 * formula ("/model/define/swiglu/let/3"). */
int define_open(const struct model *model, struct psg_program *program,
                const struct psg_op **op, struct problem *p);

/* Number of the definition, or -1. */
int define_find(const struct model *model, const char *name);

/* Whether a mistake at err->place ("net.0.let/1", path "net.0") is one of the definition's formulas;
 * then its pointer. */
bool define_pointer(const struct model *model, int define, const char *path,
                    const struct psg_error *err, char *pointer, size_t size);

#endif
