/* The HTTP server: takes requests apart, refuses what is wrong, hands the rest to its route.
 *
 *   bytes -> libmicrohttpd -> server_on_uri, server_on_request
 *            guard -> route -> token -> rate -> parameters -> media types -> body -> handler
 *            '-- the first that does not fit answers, before any body is read
 *
 * Thread: the loop's. */
#ifndef DAEMON_HTTP_SERVER_H
#define DAEMON_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/config.h"
#include "base/env.h"
#include "base/log.h"
#include "http/auth.h"
#include "http/conn.h"
#include "http/endpoint.h"
#include "http/metrics.h"
#include "http/request.h"
#include "http/sse.h"
#include "psg/device.h"

struct jobs;
struct datasets;
struct uploads;
struct stream;
struct store;
struct ready_view;

/* What the routes may use; owned by the daemon, alive until http_server_free. */
struct http_services {
    const struct env *env;
    const struct config *config;
    const struct log *log;
    struct auth *auth;
    struct store *store;
    struct stream *stream;
    struct datasets *datasets;
    struct uploads *uploads;
    struct jobs *jobs;
    int64_t started_ms;
    const char *version;
    int cores; /* that training may use */
    const struct psg_devices *gpus; /* or NULL: not looked for */
};

struct http_server {
    uv_loop_t *loop;
    const struct http_services *services;
    struct conn_table conns;
    struct endpoint endpoints[2]; /* TCP, Unix socket */
    int n_endpoints;
    struct sse_table streams;
    struct work *works; /* see work.h */
    int n_works;
    struct metrics metrics;
    struct bucket anonymous; /* rate of callers without a token */
    size_t body_bytes;       /* held by all requests together */
    size_t piece_bytes;      /* the same of uploads, until they are written */
    uv_timer_t drain_timer;
    uint64_t drain_deadline;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
    uint16_t port;
    bool draining, stopping;
    char unix_socket[108];
};

/* Listens and serves as the configuration says. 0, or a negative errno with a sentence in why;
 * after a failure http_server_free is all that may be called, once the loop has run. */
int http_server_start(struct http_server **serverp, uv_loop_t *loop,
                      const struct http_services *services, char *why, size_t size);

/* Limits and timeouts of the configuration have changed. */
void http_server_reconfigure(struct http_server *server);

/* From now on: /readyz answers 503, changes are refused, event streams end with a retry hint. */
void http_server_drain(struct http_server *server);

/* Stops accepting, lets answers be read until the deadline, then closes everything and calls
 * done(arg) from the loop. After http_server_drain. */
void http_server_stop(struct http_server *server, uint64_t grace_ms, void (*done)(void *arg),
                      void *arg);

/* After done, or a failed start; the loop has closed the handles. */
struct http_server *http_server_free(struct http_server *server);

/* Whether a thread is still at work for a request that nobody waits for any more. */
bool http_server_busy(const struct http_server *server);

bool server_is_draining(const struct http_server *server);

/* The handler's answer has to wait until the open batch is durable: fn(req) is called to give
 * it, at once or from a later turn of the loop. When the commit fails the client gets a 500. */
enum MHD_Result server_reply_on_commit(struct request *req,
                                       enum MHD_Result (*fn)(struct request *));

/* Parks the connection until server_continue(); then fn gives the answer, or a 500 or 507 when r says
 * that a commit has failed. */
enum MHD_Result server_park(struct request *req, enum MHD_Result (*fn)(struct request *));
void server_continue(struct request *req, int r);

/* The endpoint that a connection belongs to has work. */
void server_wake(struct http_server *server);

/* For libmicrohttpd. */
void *server_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result server_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *n_upload, void **context);
void server_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code);

#endif
