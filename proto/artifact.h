#ifndef PROTO_ARTIFACT_FIELDS_H
#define PROTO_ARTIFACT_FIELDS_H

#include "field.h"

extern const struct proto_message artifact_view_message;
extern const struct proto_message artifact_page_message;

#endif
