/* One request, from its first line to its answer. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "http/accept.h"
#include "http/guard.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "http/work.h"
#include "store/store.h"

enum {
    BODIES_MAX = 64, /* of the largest size, held by all requests together */
    PIECES_MAX = 8,  /* of uploads, likewise */
    AUTHORIZATION_MAX = 512
};

void *server_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *server = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *conn = info == NULL ? NULL : info->socket_context;
    struct request *req = conn == NULL ? NULL : calloc(1, sizeof *req);
    if (req == NULL)
        return NULL;
    unsigned char random[16];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(req->id, sizeof req->id, random, sizeof random);
    req->server = server;
    req->services = server->services;
    req->conn = conn;
    req->mhd = mhd;
    req->started_ns = uv_hrtime();
    req->target_fault = target_parse(&req->target, uri);
    if (conn->phase == CONN_IDLE)
        conn_set_phase(conn, CONN_HEADERS);
    return req;
}

/* Address that the connection came in on, for the Host check; "" when it cannot be told. */
static void bound_address(const struct conn *conn, char *buf, size_t size)
{
    struct sockaddr_storage addr = { .ss_family = AF_UNSPEC };
    socklen_t n = sizeof addr;
    buf[0] = '\0';
    getsockname(conn->fd, (struct sockaddr *)&addr, &n);
    if (addr.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&addr)->sin_addr, buf, (socklen_t)size);
    else if (addr.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&addr)->sin6_addr, buf, (socklen_t)size);
}

static void become(struct request *req, const char *owner, enum auth_role role)
{
    snprintf(req->who.owner, sizeof req->who.owner, "%s", owner);
    req->who.role = role;
}

/* Who is asking, and whether that one may. PROBLEM_NONE or what to answer. */
static enum problem_type authenticate(struct request *req, const char **why, unsigned *wait_s)
{
    const struct config *config = req->services->config;
    struct bucket *bucket = &req->server->anonymous;
    const char *header = request_header(req, "Authorization");
    uint64_t now = uv_now(req->server->loop);
    if (config->auth_mode == CONFIG_AUTH_NONE) {
        become(req, "anonymous", AUTH_ADMIN);
    } else if (header != NULL) {
        struct auth_token *token = NULL;
        if (strlen(header) < AUTHORIZATION_MAX && strncasecmp(header, "Bearer ", 7) == 0)
            token = auth_find(req->services->auth, header + 7 + strspn(header + 7, " "),
                              req->services->env->realtime_ms(req->services->env));
        if (token == NULL) {
            req->server->metrics.logins_failed++;
            *why = "the token is unknown or has expired";
            return PROBLEM_UNAUTHORIZED;
        }
        become(req, token->owner, token->role);
        snprintf(req->who.token_id, sizeof req->who.token_id, "%s", token->id);
        bucket = &token->bucket;
    } else if (req->conn->local && (req->conn->uid == 0 || req->conn->uid == geteuid())) {
        become(req, "local", AUTH_ADMIN);
    } else {
        *why = "send the header Authorization: Bearer TOKEN";
        return PROBLEM_UNAUTHORIZED;
    }
    if (!bucket_take(bucket, now, config->rate, config->burst, wait_s))
        return PROBLEM_TOO_MANY_REQUESTS;
    if ((req->who.role & req->route->roles) == 0) {
        *why = auth_role_name(req->who.role);
        return PROBLEM_FORBIDDEN;
    }
    return PROBLEM_NONE;
}

/* The largest body of a request for this route. */
static uint64_t body_limit(const struct request *req)
{
    const struct config *config = req->services->config;
    return req->route->body == BODY_BYTES ? config->max_piece : config->max_body;
}

static int choose_offer(const struct request *req)
{
    char copy[128], *rest = copy, *type;
    const char *offers[4];
    size_t n = 0;
    if (strcmp(req->route->offers, "*") == 0)
        return 0; /* the handler knows its media type */
    snprintf(copy, sizeof copy, "%s", req->route->offers);
    while (n < 4 && (type = strsep(&rest, " ")) != NULL)
        offers[n++] = type;
    return accept_best(request_header(req, "Accept"), offers, n);
}

/* What the table says of parameters, media types and the body. Returns true when it answered. */
static bool refuse_content(struct request *req, const struct guard_headers *h,
                           enum MHD_Result *r)
{
    const struct route *route = req->route;
    for (size_t i = 0; i < req->target.n_params; i++)
        if (!route_has_word(route->params, req->target.params[i].name)) {
            *r = reply_error(req, PROBLEM_BAD_REQUEST, "unknown parameter \"%.60s\"",
                             req->target.params[i].name);
            return true;
        }
    req->offer = choose_offer(req);
    if (req->offer < 0) {
        *r = reply_error(req, PROBLEM_NOT_ACCEPTABLE, "available: %s", route->offers);
        return true;
    }
    const char *type = route->body == BODY_BYTES ? "application/octet-stream" : "application/json";
    if (route->body == BODY_NONE && req->has_body)
        *r = reply_error(req, PROBLEM_BAD_REQUEST, "no body is expected here");
    else if (h->length > body_limit(req))
        *r = reply_error(req, PROBLEM_BODY_TOO_LARGE, "at most %llu bytes",
                         (unsigned long long)body_limit(req));
    else if (route->body != BODY_NONE &&
             !accept_content_type(request_header(req, "Content-Type"), type))
        *r = reply_error(req, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "send Content-Type: %s", type);
    else
        return false;
    return true;
}

/* The route and the caller. Returns true when it answered. */
static bool refuse_caller(struct request *req, int method, enum MHD_Result *r)
{
    unsigned allow = 0, wait_s = 0;
    char text[64];
    const char *why = NULL;
    struct problem p;
    problem_init(&p);
    req->route = route_find(&req->target, method, req->args, &allow);
    if (req->route == NULL && allow != 0) {
        route_allow_text(allow, text, sizeof text);
        problem_set(&p, PROBLEM_METHOD_NOT_ALLOWED, "allowed: %s", text);
        *r = reply_problem(req, &p, REPLY_HEADERS({ "Allow", text }));
        return true;
    }
    if (req->route == NULL) {
        *r = reply_error(req, PROBLEM_NOT_FOUND, NULL);
        return true;
    }
    if (req->conn->over && req->route->roles != AUTH_ANYBODY) {
        *r = reply_error(req, PROBLEM_OVERLOADED, "too many connections");
        return true;
    }
    enum problem_type type =
        req->route->roles == AUTH_ANYBODY ? PROBLEM_NONE : authenticate(req, &why, &wait_s);
    if (type == PROBLEM_TOO_MANY_REQUESTS) {
        snprintf(text, sizeof text, "%u", wait_s);
        problem_set(&p, type, "more than %llu requests a second",
                    (unsigned long long)req->services->config->rate);
        *r = reply_problem(req, &p, REPLY_HEADERS({ "Retry-After", text }));
    } else if (type == PROBLEM_FORBIDDEN) {
        *r = reply_error(req, type, "the role %s does not allow this", why);
    } else if (type != PROBLEM_NONE) {
        *r = reply_error(req, type, "%s", why);
    } else if (req->server->draining && req->route->method != METHOD_GET) {
        *r = reply_error(req, PROBLEM_DRAINING, NULL);
    } else {
        return false;
    }
    return true;
}

/* The first call, with the headers. With a body on its way, what must not go further is answered
 * here, before it is read; without one the checks wait for the second call, because
 * libmicrohttpd closes a connection that is answered in the first. */
static enum MHD_Result begin(struct request *req, const char *method, const char *version,
                             bool first)
{
    struct guard_headers h;
    char bound[64];
    const char *why = req->target_fault;
    enum MHD_Result r;
    guard_collect(req->mhd, &h);
    if (first) {
        req->method = method;
        req->has_body = h.n_transfer_encoding > 0 ||
                        (h.n_content_length > 0 && strcmp(h.content_length, "0") != 0);
        req->conn->linger = req->has_body; /* until the body has been read */
        if (!req->has_body)
            return MHD_YES;
    }
    req->checked = true;
    bound_address(req->conn, bound, sizeof bound);
    enum problem_type type = why != NULL ? PROBLEM_BAD_REQUEST
                                         : guard_check(&h, strcmp(version, "HTTP/1.0") == 0,
                                                       req->conn->local,
                                                       req->services->config->allowed_hosts,
                                                       bound, &why);
    if (type != PROBLEM_NONE) {
        struct problem p;
        problem_init(&p);
        problem_set(&p, type, "%s", why);
        /* where the next request starts is not certain any more */
        return reply_problem(req, &p, REPLY_HEADERS({ "Connection", "close" }));
    }
    int number = route_method_parse(method, &req->head);
    if (refuse_caller(req, number, &r) || refuse_content(req, &h, &r))
        return r;
    conn_set_phase(req->conn, req->has_body ? CONN_BODY : CONN_ANSWER);
    return MHD_YES;
}

/* What bodies of this kind take. */
static size_t *held_bytes(struct request *req)
{
    return req->route->body == BODY_BYTES ? &req->server->piece_bytes : &req->server->body_bytes;
}

/* A piece of the body. MHD_NO closes the connection. */
static enum MHD_Result collect(struct request *req, const char *piece, size_t n)
{
    size_t max = (size_t)body_limit(req), *held = held_bytes(req);
    size_t held_max = max * (req->route->body == BODY_BYTES ? PIECES_MAX : BODIES_MAX);
    if (req->too_large)
        return MHD_YES;
    if (n > max - req->n_body) {
        /* chunked, and longer than allowed: no reason to read on */
        req->too_large = true;
        return conn_refuse(req->conn, "413 Content Too Large", "body-too-large", 413) ? MHD_NO
                                                                                      : MHD_YES;
    }
    if (req->n_body + n > req->cap_body) {
        size_t cap = req->cap_body == 0 ? 4096 : req->cap_body * 2;
        while (cap < req->n_body + n)
            cap *= 2;
        char *body = *held + cap - req->cap_body > held_max
                         ? NULL
                         : realloc(req->body, cap);
        if (body == NULL) {
            req->too_large = true;
            return conn_refuse(req->conn, "503 Service Unavailable", "overloaded", 503)
                       ? MHD_NO
                       : MHD_YES;
        }
        *held += cap - req->cap_body;
        req->body = body;
        req->cap_body = cap;
    }
    memcpy(req->body + req->n_body, piece, n);
    req->n_body += n;
    return MHD_YES;
}

/* What was waited for has happened. */
static enum MHD_Result answer_commit(struct request *req)
{
    if (req->commit_result == ERROR_REFUSED)
        return reply_error(req, PROBLEM_DISK_FULL, NULL);
    if (req->commit_result != 0)
        return reply_error(req, PROBLEM_INTERNAL, NULL);
    return req->on_commit(req);
}

static enum MHD_Result run_handler(struct request *req)
{
    conn_set_phase(req->conn, CONN_ANSWER);
    req->conn->linger = false;
    if (req->too_large)
        return reply_error(req, PROBLEM_BODY_TOO_LARGE, NULL);
    return req->route->handler(req);
}

enum MHD_Result server_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *n_upload, void **context)
{
    struct request *req = *context;
    (void)cls, (void)mhd, (void)url;
    if (req == NULL)
        return MHD_NO;
    if (!req->begun) {
        req->begun = true;
        return begin(req, method, version, true);
    }
    if (*n_upload > 0) {
        size_t n = *n_upload;
        *n_upload = 0;
        return req->replied ? MHD_YES : collect(req, upload, n);
    }
    if (req->replied || req->waiting)
        return MHD_YES;
    if (!req->checked) {
        enum MHD_Result r = begin(req, method, version, false);
        if (r != MHD_YES || req->replied)
            return r;
    }
    return req->on_commit != NULL ? answer_commit(req) : run_handler(req);
}

enum MHD_Result server_park(struct request *req, enum MHD_Result (*fn)(struct request *))
{
    req->waiting = true;
    req->on_commit = fn;
    conn_set_phase(req->conn, CONN_STREAM); /* the wait is ours, not the client's */
    req->suspended = true;
    MHD_suspend_connection(req->mhd);
    return MHD_YES;
}

void server_continue(struct request *req, int r)
{
    req->commit_result = r;
    req->waiting = false;
    if (req->suspended) {
        req->suspended = false;
        MHD_resume_connection(req->mhd);
        server_wake(req->server);
    }
}

static void committed(void *arg, int r)
{
    server_continue(arg, r);
}

enum MHD_Result server_reply_on_commit(struct request *req,
                                       enum MHD_Result (*fn)(struct request *))
{
    req->waiting = true;
    req->on_commit = fn;
    int r = store_on_commit(req->services->store, committed, req);
    if (r == ERROR_REFUSED)
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    if (r != 0)
        committed(req, r);
    return req->waiting ? server_park(req, fn) : answer_commit(req);
}

static void log_request(const struct request *req, double seconds)
{
    const struct log *log = req->services->log;
    bool change = strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0;
    enum log_level level = req->status >= 500                                      ? LOG_LEVEL_WARNING
                           : change || req->status == 401 || req->status == 403 ? LOG_LEVEL_INFO
                                                                                : LOG_LEVEL_DEBUG;
    if ((int)level > log->level)
        return;
    char peer[64];
    conn_peer_text(req->conn, peer, sizeof peer);
    log_event(log, level, "request", LOG_TEXT("method", req->method),
              LOG_TEXT("route", req->route != NULL ? req->route->pattern : NULL),
              LOG_TEXT("arg", req->args[0]), LOG_INT("status", req->status),
              LOG_REAL("seconds", seconds),
              LOG_TEXT("owner", req->who.role != 0 ? req->who.owner : NULL),
              LOG_TEXT("peer", peer), LOG_TEXT("request_id", req->id));
}

void server_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct request *req = *context;
    struct http_server *server = cls;
    (void)mhd, (void)code;
    if (req == NULL)
        return;
    *context = NULL;
    if (req->begun) {
        double seconds = (double)(uv_hrtime() - req->started_ns) / 1e9;
        metrics_count(&server->metrics,
                      req->route != NULL ? (size_t)(req->route - routes) : METRICS_ROUTES_MAX,
                      req->replied ? req->status : 499, seconds, req->conn->phase == CONN_STREAM);
        log_request(req, seconds);
    }
    if (req->replied || !req->begun)
        conn_set_phase(req->conn, CONN_IDLE);
    work_detach(req);
    if (req->cap_body > 0)
        *held_bytes(req) -= req->cap_body;
    target_clear(&req->target);
    answer_clear(&req->answer);
    free(req->body);
    free(req);
}
