#ifndef PROTO_TOKEN_FIELDS_H
#define PROTO_TOKEN_FIELDS_H

#include "field.h"

extern const struct proto_message token_spec_message;
extern const struct proto_message token_view_message;
extern const struct proto_message token_list_message;

#endif
