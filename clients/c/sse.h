/* Server-sent events (WHATWG HTML, 9.2): bytes in, events out. Pure: no I/O, no clock. */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SSE_DATA_MAX (1u << 20) /* bytes of one event's data */
#define SSE_LINE_MAX SSE_DATA_MAX

struct sse_text {
    char *text; /* NUL-terminated when not NULL */
    size_t len, cap;
};

struct sse_parser {
    struct sse_text line, data;
    char event[64]; /* name of the event that is being read; empty: "message" */
    char id[32];    /* of the latest event; kept from event to event */
    long retry_ms;  /* the server's wish; -1: none */
    bool skip_lf;   /* the line ended with CR */
    bool has_data;
    bool at_start; /* a byte order mark may come */
};

/* Return 0 to go on; any other value ends sse_feed, which returns it. */
typedef int (*sse_fn)(const char *event, const char *id, const char *data, size_t len,
                      void *user);

#define SSE_E_LIMIT (-1) /* a line or an event is too long, or memory ran out */

void sse_init(struct sse_parser *parser);
int sse_feed(struct sse_parser *parser, const char *bytes, size_t n, sse_fn fn, void *user);
void sse_free(struct sse_parser *parser);

#endif
