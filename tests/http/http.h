/* Requests to a daemon under test. */
#ifndef TESTS_HTTP_HTTP_H
#define TESTS_HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "fixture.h"

struct reply {
    long status; /* 0: the connection broke */
    char headers[4096]; /* as they came, from the status line on */
    char *body;         /* NUL-terminated, never NULL */
    size_t n_body;
    json_t *json; /* NULL: not JSON */
};

/* One request with the admin's token; body NULL sends none, otherwise as application/json.
 * headers: more of them, ended by NULL; "Authorization:" leaves the token out. */
struct reply http(const struct fixture *f, const char *method, const char *path,
                  const char *body, const char *const *headers);
#define HEADERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* The same with a body of n bytes. */
struct reply http_bytes(const struct fixture *f, const char *method, const char *path,
                        const char *body, size_t n, const char *const *headers);

void reply_free(struct reply *reply);

/* Value of a header, "" when absent; valid until the next call. */
const char *reply_header(const struct reply *reply, const char *name);

/* Text member of the JSON body, "" when absent. */
const char *reply_text(const struct reply *reply, const char *name);

/* http() whose status must be this one; the body is forgotten. */
void http_expect(const struct fixture *f, const char *method, const char *path,
                 const char *body, long status);

/* A value of GET /metrics; -1 when it is not there. */
double http_metric(const struct fixture *f, const char *name);

/* A token of this role for this owner. */
void http_token(const struct fixture *f, const char *owner, const char *role, char *header,
                size_t size);

/* Whole file; freed by the caller. */
char *read_file(const char *path, size_t *n);

/* Submits job.json, which costs next to nothing; its id. */
void http_submit(const struct fixture *f, char *id, size_t size);

/* ---- raw bytes ---- */
int raw_connect(const struct fixture *f);
/* False when the other side has closed. */
bool raw_send(int fd, const void *data, size_t n);
bool raw_puts(int fd, const char *text);
/* Reads until the text appears or the other side closes or ms have passed; what came, as text. */
size_t raw_read(int fd, char *buf, size_t size, const char *until, long ms);
/* Whether the other side closes within ms; what still comes is dropped. */
bool raw_closed(int fd, long ms);

#endif
