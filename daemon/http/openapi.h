/* proto/openapi.json as bytes; made by embed.sh when the daemon is built. */
#ifndef DAEMON_HTTP_OPENAPI_H
#define DAEMON_HTTP_OPENAPI_H

#include <stddef.h>

extern const unsigned char openapi_json[];
extern const size_t openapi_json_size;

#endif
