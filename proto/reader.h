/* Bytes to jansson values, strictly: RFC 8259, UTF-8, no duplicate members, no NUL
 * characters, numbers that fit, bounded depth, names and strings.
 *
 * Why not json_loadb: its lexer ignores failed allocations while it collects a token and
 * then reads past the end of what it has (2.14, strbuffer_append_byte in lex_save), it
 * reports duplicates without a place, and it descends recursively. */
#ifndef PROTO_READER_H
#define PROTO_READER_H

#include <jansson.h>

#include "proto/problem.h"

#define PROTO_DEPTH_MAX  32          /* nested arrays and objects */
#define PROTO_NAME_MAX   128         /* bytes of a member's name */
#define PROTO_STRING_MAX (64 * 1024) /* bytes of a string */
#define PROTO_BODY_MAX   (16u << 20) /* bytes of a message; callers set tighter caps */

/* The value in *rootp (new reference), or enum proto_status with *p filled. */
int proto_read(json_t **rootp, const char *text, size_t len, struct problem *p);

#endif
