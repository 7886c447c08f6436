/* --set PATH=VALUE: changes a JSON document before it is sent. */
#ifndef CLI_SET_H
#define CLI_SET_H

#include <jansson.h>
#include <stddef.h>

/* PATH has members and list indices with dots between ("model.layers.0.out_channels"),
 * objects on the way are made; VALUE is JSON, or a string when it is not. 0, or -1 with a
 * sentence. */
int set_apply(json_t *root, const char *assignment, char *text, size_t size);

#endif
