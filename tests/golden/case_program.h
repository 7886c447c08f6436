#ifndef GOLDEN_CASE_PROGRAM_H
#define GOLDEN_CASE_PROGRAM_H

#include "case.h"
#include "psg/program.h"

/* The program of a case: its inputs in order, then "target". Reference cases have a batch axis
 * in every tensor; it is followed from node to node and taken out. Returns a status; what the
 * library cannot express is PSG_E_UNSUPPORTED or the builder's own error. */
int case_program(const struct golden_case *c, struct psg_program **pp, struct psg_error *err);

/* Position of the batch axis of input i (0 for the target, which follows the inputs). */
int case_batch_axis(const struct golden_case *c, int input);

#endif
