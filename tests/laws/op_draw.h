/* Cases drawn at random from templates: "{2;4;6}" picks one of a list, "{1..4}" a number of
 * a range. A case that infer refuses is drawn again; one that breaks a law is made smaller,
 * choice by choice, as long as it still breaks one. */
#ifndef LAWS_OP_DRAW_H
#define LAWS_OP_DRAW_H

#include "op_laws.h"

/* Draws the cases of op's templates (none: true). why names the smallest failing case and
 * the seed. OPS_SEED in the environment replaces the seed, OPS_DRAWS the number of draws.
 */
bool op_drawn_laws_hold(const struct psg_op *op, const struct psg_backend *be, char *why);

#endif
