/* The built-in layer functions, one constant each, named after ops.inc. */
#ifndef OP_OPS_H
#define OP_OPS_H

#include "psg/op.h"

#define OP(name) extern const struct psg_op layer_##name;
#include "op/ops.inc"
#undef OP

#endif
