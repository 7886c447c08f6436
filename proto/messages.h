/* Every message by the name of its schema: for the tests that hold for all of them. */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include "field.h"

/* NULL-terminated */
extern const struct proto_message *const proto_messages[];
const struct proto_message *proto_message_find(const char *name, size_t len);

#endif
