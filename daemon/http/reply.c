#include "http/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "http/server.h"

static void add_headers(struct MHD_Response *response, const struct reply_header *headers)
{
    for (; headers != NULL && headers->name != NULL; headers++)
        if (headers->value != NULL)
            MHD_add_response_header(response, headers->name, headers->value);
}

static bool has_header(const struct reply_header *headers, const char *name)
{
    for (; headers != NULL && headers->name != NULL; headers++)
        if (headers->value != NULL && strcmp(headers->name, name) == 0)
            return true;
    return false;
}

enum MHD_Result reply_response(struct request *req, unsigned status,
                               struct MHD_Response *response, const char *type,
                               const struct reply_header *headers)
{
    if (response == NULL)
        return MHD_NO; /* out of memory: all that is left is to close the connection */
    if (type != NULL)
        MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Request-Id", req->id);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (!has_header(headers, "Cache-Control"))
        MHD_add_response_header(response, "Cache-Control", "no-store");
    add_headers(response, headers);
    if (server_is_draining(req->server) || req->conn->over)
        MHD_add_response_header(response, "Connection", "close");
    req->replied = true;
    req->status = status;
    conn_set_phase(req->conn, CONN_ANSWER);
    enum MHD_Result r = MHD_queue_response(req->mhd, status, response);
    MHD_destroy_response(response);
    return r;
}

enum MHD_Result reply_text(struct request *req, unsigned status, const char *type, char *text,
                           size_t n, const struct reply_header *headers)
{
    if (text == NULL)
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        free(text);
    return reply_response(req, status, response, type, headers);
}

enum MHD_Result reply_json(struct request *req, unsigned status, json_t *body,
                           const struct reply_header *headers)
{
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(body);
    return reply_text(req, status, "application/json", text, text == NULL ? 0 : strlen(text),
                      headers);
}

enum MHD_Result reply_static(struct request *req, unsigned status, const char *type,
                             const char *text, size_t n, const struct reply_header *headers)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        n, (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
    return reply_response(req, status, response, type, headers);
}

enum MHD_Result reply_empty(struct request *req, unsigned status,
                            const struct reply_header *headers)
{
    return reply_static(req, status, NULL, "", 0, headers);
}

enum MHD_Result reply_problem(struct request *req, struct problem *p,
                              const struct reply_header *headers)
{
    size_t n = 0;
    snprintf(p->request_id, sizeof p->request_id, "%s", req->id);
    if (req->target.text != NULL && req->target_fault == NULL) {
        /* the path was split in place: put its parts together again */
        size_t at = 0;
        for (size_t i = 0; i < req->target.n_segments && at < sizeof p->instance; i++)
            at += (size_t)snprintf(p->instance + at, sizeof p->instance - at, "/%s",
                                   req->target.segments[i]);
    }
    char *text = problem_encode(p, &n);
    unsigned status = (unsigned)p->status;
    struct MHD_Response *response =
        text != NULL ? MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE)
                     : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    if (status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer realm=\"dpsgd\"");
    if ((status == 429 || status == 503) && !has_header(headers, "Retry-After"))
        MHD_add_response_header(response, "Retry-After", "5");
    return reply_response(req, status, response, "application/problem+json", headers);
}

enum MHD_Result reply_error(struct request *req, enum problem_type type, const char *fmt, ...)
{
    struct problem p;
    char detail[sizeof p.detail];
    problem_init(&p);
    if (fmt != NULL) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(detail, sizeof detail, fmt, args);
        va_end(args);
        problem_set(&p, type, "%s", detail);
    } else {
        problem_set(&p, type, NULL);
    }
    return reply_problem(req, &p, NULL);
}

static enum MHD_Result reply_failure(struct request *req, int r, struct problem *p)
{
    if (r == ERROR_REFUSED)
        return reply_problem(req, p, NULL);
    log_error(req->services->log, "request_failed", LOG_TEXT("class", error_name(r)),
              LOG_TEXT("request_id", req->id));
    return reply_error(req, PROBLEM_INTERNAL, NULL);
}

enum MHD_Result reply_result(struct request *req, int r, struct answer *answer,
                             struct problem *p)
{
    if (r != 0)
        return reply_failure(req, r, p);
    char *text = answer->text;
    answer->text = NULL;
    return reply_text(req, 200, "application/json", text, answer->size, NULL);
}

static enum MHD_Result send_change(struct request *req)
{
    const struct reply_header *headers =
        REPLY_HEADERS({ "Location", req->location[0] != '\0' ? req->location : NULL },
                      { "Idempotency-Replayed", req->replayed ? "true" : NULL });
    char *text = req->answer.text;
    if (text == NULL)
        return reply_empty(req, req->answer_status, headers);
    req->answer.text = NULL;
    return reply_text(req, req->answer_status, "application/json", text, req->answer.size,
                      headers);
}

enum MHD_Result reply_change(struct request *req, int r, unsigned status,
                             struct answer *answer, const char *location, struct problem *p)
{
    if (r != 0)
        return reply_failure(req, r, p);
    if (answer != NULL) {
        req->answer = *answer;
        *answer = (struct answer){ 0 };
    }
    req->answer_status = status;
    snprintf(req->location, sizeof req->location, "%s", location != NULL ? location : "");
    return server_reply_on_commit(req, send_change);
}

/* Appends name=value to a query, percent-encoded. */
static void put_param(char *buf, size_t size, const char *name, const char *value)
{
    size_t n = strlen(buf);
    n += (size_t)snprintf(buf + n, size - n, "%c%s=", strchr(buf, '?') == NULL ? '?' : '&', name);
    for (; *value != '\0' && n + 4 < size; value++) {
        unsigned char c = (unsigned char)*value;
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     c == '-' || c == '_' || c == '.';
        n += (size_t)snprintf(buf + n, size - n, plain ? "%c" : "%%%02X", c);
    }
}

static void put_link(const struct request *req, const char *cursor, char *buf, size_t size)
{
    size_t n = 0;
    buf[n++] = '<';
    buf[n] = '\0';
    for (size_t i = 0; i < req->target.n_segments && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "/%s", req->target.segments[i]);
    for (size_t i = 0; i < req->target.n_params; i++)
        if (strcmp(req->target.params[i].name, "after") != 0)
            put_param(buf, size - 16, req->target.params[i].name, req->target.params[i].value);
    put_param(buf, size - 16, "after", cursor);
    n = strlen(buf);
    snprintf(buf + n, size - n, ">; rel=\"next\"");
}

enum MHD_Result reply_page(struct request *req, int r, struct answer *answer, const char *key,
                           struct problem *p)
{
    char link[1024] = "", number[24];
    if (r != 0)
        return reply_failure(req, r, p);
    json_t *page = json_loadb(answer->text, answer->size, 0, NULL);
    const json_t *data = json_object_get(page, "data");
    size_t n = json_array_size(data);
    const json_t *cursor = n == 0 ? NULL : json_object_get(json_array_get(data, n - 1), key);
    if (json_is_integer(cursor))
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(cursor));
    if (json_is_true(json_object_get(page, "has_more")) && cursor != NULL)
        put_link(req, json_is_integer(cursor) ? number : json_string_value(cursor), link,
                 sizeof link);
    json_decref(page);
    char *text = answer->text;
    answer->text = NULL;
    return reply_text(req, 200, "application/json", text, answer->size,
                      REPLY_HEADERS({ "Link", link[0] != '\0' ? link : NULL }));
}
