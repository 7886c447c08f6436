/* Execution of dot, called through its entry in the table of primitives. */
#ifndef PRIM_DOT_EXEC_H
#define PRIM_DOT_EXEC_H

#include "prim/prim.h"

int dot_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
             struct psg_error *err);
void dot_run(const struct prim_ctx *x, const struct prim_step *s);

#endif
