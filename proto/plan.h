#ifndef PROTO_PLAN_FIELDS_H
#define PROTO_PLAN_FIELDS_H

#include "field.h"

extern const struct proto_message plan_view_message;

#endif
