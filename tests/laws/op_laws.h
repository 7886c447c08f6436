/* The laws that every layer function keeps, for one case on one backend:
 *
 *   1 what forward and the rules write fits their buffers and fills them
 *   2 the backend gives what ref gives
 *   3 backward equals central differences of ref (in the float64 build)
 *   4 sample n of a batch gives what it gives alone; so row n of grad_sample is the
 *   gradient of
 *     the batch {n}
 *   5 norm_sample[n] is the squared norm of row n, clipped_sum(c) the sum of c[n] row n,
 *   and a
 *     sample of weight 0 contributes nothing even if it is not finite
 *   6 forward and rules equal the lowering and its transforms, vmap(vjp(lower))
 *   7 all of it for N = 0, 1, 2, 7 */
#ifndef LAWS_OP_LAWS_H
#define LAWS_OP_LAWS_H

#include "op_run.h"

enum { WHY_SIZE = 600 };

/* true, or false with the broken law in why. A case that infer refuses is false too, and
 * *statusp then holds the status of infer (else 0). */
bool op_laws_hold(const struct psg_op *op, const char *attrs, const char *inputs,
                  const struct psg_backend *be, uint64_t seed, int *statusp, char *why);

#endif
