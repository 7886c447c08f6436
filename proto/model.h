/* Custom members of the job spec: model and loss. */
#ifndef PROTO_MODEL_FIELDS_H
#define PROTO_MODEL_FIELDS_H

#include "field.h"

extern const struct proto_custom model_custom; /* struct model */
extern const struct proto_custom loss_custom;  /* struct loss */

#endif
