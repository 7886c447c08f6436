#ifndef PROTO_SERVER_FIELDS_H
#define PROTO_SERVER_FIELDS_H

#include "field.h"

extern const char *const user_role_names[];
extern const struct proto_message version_view_message;
extern const struct proto_message whoami_view_message;
extern const struct proto_message queue_view_message;
extern const struct proto_message device_list_message;
extern const struct proto_message ready_view_message;

#endif
