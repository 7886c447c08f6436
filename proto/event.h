#ifndef PROTO_EVENT_FIELDS_H
#define PROTO_EVENT_FIELDS_H

#include "field.h"

extern const char *const warning_code_names[];
extern const struct proto_message event_message;
extern const struct proto_message event_page_message;

#endif
