#ifndef PROGRAM_LOWER_H
#define PROGRAM_LOWER_H

#include "program/program.h"

/* Appends one node's primitives to g, for one sample. in, param: graph values; random: [k] or
 * PSG_NONE. out[n_out] is checked against the types that infer promised: PSG_E_SHAPE. */
int node_lower(const struct psg_program *p, const struct node *node, struct psg_graph *g,
               const psg_value *in, const psg_value *param, psg_value random, bool training,
               psg_value *out);

/* psg_program_lower(), with the real outputs of nodes with round[i] rounded to bf16; round may be
 * NULL. */
struct psg_graph *program_lower(const struct psg_program *p, bool training, const bool *round,
                                struct psg_error *err);

#endif
