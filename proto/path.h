/* Where a decoder is, and its text as an RFC 6901 JSON pointer. */
#ifndef PROTO_PATH_H
#define PROTO_PATH_H

#include <stddef.h>

#include "proto/problem.h"

#define PATH_MAX_SEGMENTS 40

struct path {
    size_t n;
    struct {
        const char *name; /* borrowed; NULL: an index */
        size_t index;
    } segments[PATH_MAX_SEGMENTS];
};

void path_push_name(struct path *path, const char *name);
void path_push_index(struct path *path, size_t index);
void path_pop(struct path *path);

/* Truncated after a whole segment when it does not fit. */
char *path_text(const struct path *path, char buf[PROBLEM_POINTER_MAX]);

#endif
