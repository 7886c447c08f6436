/* What went wrong, as RFC 9457 application/problem+json, with a list of places for invalid
 * requests. Fixed size, so that reporting a failure never needs memory. */
#ifndef PROTO_PROBLEM_H
#define PROTO_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum proto_status {
    PROTO_OK = 0,
    PROTO_E_INVALID =
        -1,            /* the bytes are not the message they should be; see the problem */
    PROTO_E_NOMEM = -2 /* an allocation failed; the problem is PROBLEM_OUT_OF_MEMORY */
};

enum problem_type {
    PROBLEM_NONE = 0,
#define PROBLEM(name, slug, status, title) PROBLEM_##name,
#include "proto/error.inc"
    PROBLEM_N
};

enum problem_item_code {
    ITEM_NONE = 0,
#define ITEM(name, text) ITEM_##name,
#include "proto/error.inc"
    ITEM_N
};

#define PROBLEM_ITEMS_MAX   32
#define PROBLEM_POINTER_MAX 256
#define PROBLEM_MESSAGE_MAX 384

struct problem_item {
    char pointer[PROBLEM_POINTER_MAX]; /* RFC 6901 JSON pointer into the request body */
    char code[32];                     /* text of an enum problem_item_code */
    char message[PROBLEM_MESSAGE_MAX]; /* a sentence without a final full stop */
};

struct problem {
    enum problem_type code; /* PROBLEM_NONE: no problem, or a type that is not ours */
    int status;             /* HTTP status */
    char type[64];          /* "/problems/..." */
    char title[128];
    char detail[320];
    char instance[128];
    char request_id[64];
    /* of a budget that is exceeded; absent: NAN and -1 */
    double requested_epsilon;
    double available_epsilon;
    int64_t max_steps_that_fit;
    size_t n_errors;
    struct problem_item errors[PROBLEM_ITEMS_MAX];
};

/* Empties *p. Every decode function does so first. */
void problem_init(struct problem *p);

/* Sets type, status and title from the catalogue and detail from fmt (NULL: none); keeps
 * errors[]. Returns the HTTP status. */
int problem_set(struct problem *p, enum problem_type type, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends an entry to errors[]; what does not fit is dropped or truncated at a character.
 */
void problem_add(struct problem *p, const char *pointer, enum problem_item_code code,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* As problem_set(PROBLEM_VALIDATION_FAILED) with one entry: for checks after decoding. */
int problem_invalid(struct problem *p, const char *pointer, enum problem_item_code code,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

const char *problem_item_text(enum problem_item_code code);
const char *problem_slug(enum problem_type type);
const char *problem_title(enum problem_type type);
int problem_http_status(enum problem_type type);

/* JSON text on one line, to be freed by the caller; NULL when out of memory. */
char *problem_encode(const struct problem *p, size_t *lenp);

/* Reads what problem_encode, or any other RFC 9457 service, wrote. 0 or enum proto_status.
 */
int problem_decode(struct problem *p, const char *text, size_t len);

#endif
