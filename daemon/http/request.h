/* One request, from its first line to the end of its answer. */
#ifndef DAEMON_HTTP_REQUEST_H
#define DAEMON_HTTP_REQUEST_H

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "http/auth.h"
#include "http/conn.h"
#include "http/target.h"
#include "proto/problem.h"

struct http_server;
struct http_services;
struct request;

enum method { METHOD_GET, METHOD_POST, METHOD_PATCH, METHOD_DELETE, N_METHODS };

enum body { BODY_NONE, BODY_JSON, BODY_BYTES };

/* A line of routes.inc. The handler has everything checked that the table can say, and must
 * queue exactly one answer with reply.h before it returns. */
struct route {
    enum method method;
    const char *pattern; /* "{}" stands for one path segment */
    enum MHD_Result (*handler)(struct request *);
    unsigned roles; /* AUTH_... set; 0: anybody */
    enum body body;
    const char *params; /* allowed query parameters, separated by spaces */
    const char *offers; /* media types, separated by spaces, the first one is the default */
};

struct principal {
    char owner[AUTH_OWNER_MAX + 1];
    char token_id[24];
    enum auth_role role;
};

struct request {
    struct http_server *server;
    const struct http_services *services;
    struct conn *conn;
    struct MHD_Connection *mhd;
    const struct route *route; /* NULL: none found */
    struct principal who;
    struct target target;
    const char *target_fault;
    const char *args[2]; /* the path segments at "{}" */
    char id[33];         /* X-Request-Id */
    const char *method;  /* as the client wrote it */
    int offer;           /* index of the chosen media type */
    bool head;
    bool begun;   /* the first handler call has been made */
    bool checked; /* it has passed the checks, or was answered by them */
    bool too_large;
    bool replied;
    bool has_body;
    unsigned status; /* of the answer */
    bool waiting;   /* for a commit or for work, then on_commit answers */
    bool suspended; /* inside libmicrohttpd */
    int commit_result;
    struct work *work; /* see work.h */
    enum MHD_Result (*on_commit)(struct request *);
    struct answer answer; /* to be sent on commit, with this status and these headers */
    unsigned answer_status;
    bool replayed;
    char location[96];
    uint64_t started_ns;
    char *body;
    size_t n_body, cap_body;
};

/* Value of a header, NULL when absent. */
const char *request_header(const struct request *req, const char *name);
/* The Idempotency-Key, NULL without one; false with *p filled when it is not well formed. */
bool request_key(const struct request *req, const char **keyp, struct problem *p);

/* Value of a query parameter, NULL when absent. */
const char *request_param(const struct request *req, const char *name);

/* Whole number parameter within [low, high]. Absent: *valuep stays. False: p is filled. */
bool request_param_int(const struct request *req, const char *name, int64_t low, int64_t high,
                       int64_t *valuep, struct problem *p);

/* "true", "1" or an empty value; "false" or "0". Absent: false. False return: p is filled. */
bool request_param_flag(const struct request *req, const char *name, bool *valuep,
                        struct problem *p);

/* Whether the caller's role is in the set. */
bool request_may(const struct request *req, unsigned roles);

/* The owner whose jobs the caller is restricted to, NULL for all: a submitter to its own, others
 * but admin have no changes at all. */
const char *request_viewer(const struct request *req);

#endif
