/* JSON text on one line, written front to back into one growing buffer. After a failed
 * allocation everything is a no-op and writer_finish returns NULL. */
#ifndef PROTO_WRITER_H
#define PROTO_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proto_writer {
    char *text;
    size_t len, cap;
    bool failed;
    bool comma; /* a value was written in the present container */
};

void writer_open(struct proto_writer *w, char bracket);  /* '{' or '[' */
void writer_close(struct proto_writer *w, char bracket); /* '}' or ']' */
void writer_key(struct proto_writer *w, const char *name);
void writer_string(struct proto_writer *w, const char *text); /* bytes not UTF-8: U+FFFD */
void writer_int(struct proto_writer *w, int64_t value);
void writer_real(struct proto_writer *w, double value); /* null when not finite */
void writer_bool(struct proto_writer *w, bool value);
void writer_null(struct proto_writer *w);

/* The text, NUL-terminated, to be freed with free(); NULL when out of memory. */
char *writer_finish(struct proto_writer *w, size_t *lenp);

#endif
