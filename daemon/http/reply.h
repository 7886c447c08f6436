/* Answers. Each queues one complete answer for req and returns what the handler must return.
 * Every answer carries X-Request-Id, Cache-Control and X-Content-Type-Options. */
#ifndef DAEMON_HTTP_REPLY_H
#define DAEMON_HTTP_REPLY_H

#include "http/request.h"

struct reply_header {
    const char *name, *value; /* name NULL ends a list; value NULL skips the entry */
};

#define REPLY_HEADERS(...) ((const struct reply_header[]){ __VA_ARGS__, { NULL, NULL } })

/* A body that the caller allocated with malloc and gives away; NULL text: 503 out of memory. */
enum MHD_Result reply_text(struct request *req, unsigned status, const char *type, char *text,
                           size_t n, const struct reply_header *headers);

/* As reply_text, from jansson; takes the reference. */
enum MHD_Result reply_json(struct request *req, unsigned status, json_t *body,
                           const struct reply_header *headers);

/* As reply_text, for bytes that live as long as the process. */
enum MHD_Result reply_static(struct request *req, unsigned status, const char *type,
                             const char *text, size_t n, const struct reply_header *headers);

/* 204, or 202 and the like without a body. */
enum MHD_Result reply_empty(struct request *req, unsigned status,
                            const struct reply_header *headers);

/* Completes *p (instance, request_id) and sends it; adds WWW-Authenticate to 401 and, when
 * there is none in headers, Retry-After to 429 and 503. */
enum MHD_Result reply_problem(struct request *req, struct problem *p,
                              const struct reply_header *headers);

/* The catalogue's problem with a sentence of detail (NULL: none). */
enum MHD_Result reply_error(struct request *req, enum problem_type type, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Any response that the caller made; adds the common headers, queues and destroys it. */
enum MHD_Result reply_response(struct request *req, unsigned status,
                               struct MHD_Response *response, const char *type,
                               const struct reply_header *headers);

/* What a function of jobs or datasets returned: 0 sends the answer, ERROR_REFUSED the problem,
 * fatal a 500 without details. Takes the answer's text. */
enum MHD_Result reply_result(struct request *req, int r, struct answer *answer,
                             struct problem *p);

/* As reply_result after a change: waits until it is durable. location may be NULL; an answer
 * without text is sent as an empty body. */
enum MHD_Result reply_change(struct request *req, int r, unsigned status,
                             struct answer *answer, const char *location, struct problem *p);

/* A page: as reply_result, with a Link to the next page when it has one. The page's cursor is
 * member `key` of its last entry. */
enum MHD_Result reply_page(struct request *req, int r, struct answer *answer, const char *key,
                           struct problem *p);

#endif
