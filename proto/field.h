/* A message is a C struct and a table of its members: one table decodes, encodes and
 * documents it. Members that are absent hold a value of their kind that says so. */
#ifndef PROTO_FIELD_H
#define PROTO_FIELD_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "path.h"
#include "pool.h"
#include "proto/problem.h"
#include "writer.h"

enum proto_kind {                 /* C type of the member         absent      JSON */
                  PROTO_BOOL,     /* bool                         false       true, false */
                  PROTO_INT,      /* int64_t                      -1          integer */
                  PROTO_REAL,     /* double                       NAN         number */
                  PROTO_STRING,   /* const char *                 NULL        string */
                  PROTO_ENUM,     /* enum, names[0] is "absent"   0           string */
                  PROTO_DURATION, /* double, seconds              NAN         number or
                                     "30s" */
                  PROTO_TIME, /* int64_t, ms since 1970       -1          RFC 3339 string */
                  PROTO_EMBED,   /* struct                       -           object */
                  PROTO_OBJECT,  /* struct pointer               NULL        object */
                  PROTO_OBJECTS, /* struct pointer and size_t    NULL, 0     list of objects
                                  */
                  PROTO_STRINGS, /* const char *const * , size_t NULL, 0     list of strings
                                  */
                  PROTO_INTS,  /* const int64_t * , size_t     NULL, 0     list of integers
                                */
                  PROTO_REALS, /* const double * , size_t      NULL, 0     list of numbers
                                */
                  PROTO_CONST, /* none                         -           the text in
                                  names[0] */
                  PROTO_CUSTOM /* as `custom` says             zeroed      as `custom` says
                                */
};

enum {
    PROTO_REQUIRED = 1,   /* must be there when decoding */
    PROTO_NULLABLE = 2,   /* null means absent; a required one is written as null */
    PROTO_DEFAULT = 4,    /* def, or def_text, is what it holds when left out */
    PROTO_ABOVE = 8,      /* min itself is not allowed */
    PROTO_BELOW = 16,     /* max itself is not allowed */
    PROTO_NAME = 32,      /* string of the kind that names datasets and jobs */
    PROTO_OMIT_FALSE = 64 /* a bool that is written only when true */
};

struct proto_decoder;
struct proto_message;

struct proto_custom {
    void (*decode)(struct proto_decoder *d, const json_t *value, void *member);
    bool (*present)(const void *member); /* false: not written */
    void (*encode)(struct proto_writer *w, const void *member);
    void (*absent)(void *member); /* NULL: zeroed memory */
};

struct proto_field {
    const char *name;
    enum proto_kind kind;
    unsigned flags;
    uint32_t tags; /* bit t: a member when the message's tag is t; 0: always */
    size_t offset, count_offset;
    double min, max; /* numbers: range. strings: bytes. lists: elements. 0, 0: kind's own */
    double item_min,
        item_max; /* elements of INTS, REALS, bytes of STRINGS; 0, 0: kind's own */
    double def;
    const char *def_text;
    const char *const *names; /* ENUM: NULL-terminated, the first is not a value */
    const struct proto_message *message;
    const struct proto_custom *custom;
};

struct proto_message {
    const char *name; /* of its schema in openapi.json */
    size_t size;
    const struct proto_field *fields;
    size_t n_fields;
    const char *tag; /* name of the ENUM that says which members there are, or NULL */
    /* rules over several members, after all of them were decoded without an error */
    void (*check)(struct proto_decoder *d, void *message);
};

struct proto_decoder {
    struct proto_pool *pool;
    struct problem *problem;
    bool lenient; /* unknown members are ignored, unknown enum texts are absent */
    bool nomem;
    struct path path;
};

/* One message from text into *messagep, freed with pool_free_root(). Returns 0 or enum
 * proto_status; *p is filled on failure, and empty on success. */
int proto_decode(const struct proto_message *message, bool lenient, const char *text,
                 size_t len, void **messagep, struct problem *p);

/* The message as one line, to be freed with free(); NULL when out of memory. */
char *proto_encode(const struct proto_message *message, const void *value, size_t *lenp);
void proto_encode_into(const struct proto_message *message, struct proto_writer *w,
                       const void *value);

/* Writes absent values and defaults of the members that belong to the given tag. */
void proto_defaults(const struct proto_message *message, void *value, int tag);

/* For custom decoders: report at the present path; decode an object at the present path. */
void proto_fail(struct proto_decoder *d, enum problem_item_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void proto_fail_member(struct proto_decoder *d, const char *member,
                       enum problem_item_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void proto_decode_object(struct proto_decoder *d, const struct proto_message *message,
                         const json_t *object, void *value);
void *proto_alloc(struct proto_decoder *d, size_t n, size_t size); /* NULL: nomem is set */
const char *proto_copy_string(struct proto_decoder *d, const json_t *value);
bool proto_name_valid(const char *text);

/* Index of text in a NULL-terminated list of names, 0 when it is not there. */
int proto_enum_parse(const char *const *names, const char *text);

/* NAME_decode, NAME_encode, NAME_free and NAME_freep of struct NAME */
#define PROTO_DEFINE(name, message, lenient)                                               \
    int name##_decode(struct name **p, const char *text, size_t len,                       \
                      struct problem *problem)                                             \
    {                                                                                      \
        void *root;                                                                        \
        int r = proto_decode(&message, lenient, text, len, &root, problem);                \
        *p = root;                                                                         \
        return r;                                                                          \
    }                                                                                      \
    char *name##_encode(const struct name *value, size_t *lenp)                            \
    {                                                                                      \
        return proto_encode(&message, value, lenp);                                        \
    }                                                                                      \
    struct name *name##_free(struct name *value)                                           \
    {                                                                                      \
        pool_free_root(value);                                                             \
        return NULL;                                                                       \
    }                                                                                      \
    void name##_freep(struct name **p)                                                     \
    {                                                                                      \
        *p = name##_free(*p);                                                              \
    }
#define PROTO_DEFINE_STRICT(name, message)  PROTO_DEFINE(name, message, false)
#define PROTO_DEFINE_LENIENT(name, message) PROTO_DEFINE(name, message, true)

#define PROTO_COUNT(a)         (sizeof(a) / sizeof *(a))
#define PROTO_AT(type, member) .name = #member, .offset = offsetof(struct type, member)
#define PROTO_LIST(type, member)                                                           \
    PROTO_AT(type, member), .count_offset = offsetof(struct type, n_##member)

#endif
