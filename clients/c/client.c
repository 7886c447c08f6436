/* The handle, its errors, and the requests whose answers are handed out as they came. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "internal.h"
#include "proto/problem.h"

int client_fail(struct dpc_error *err, enum dpc_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    va_list args;
    *err = (struct dpc_error){ .status = status,
                               .requested_epsilon = NAN,
                               .available_epsilon = NAN,
                               .max_steps_that_fit = -1 };
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return status;
}

int client_refused(struct dpc_error *err, const struct http_answer *answer)
{
    struct problem p;
    int r =
        problem_decode(&p, answer->body.text ? answer->body.text : "", answer->body.len);
    client_fail(err, DPC_E_REFUSED, "HTTP status %ld", answer->status);
    if (!err)
        return DPC_E_REFUSED;
    err->http_status = (int)answer->status;
    if (r)
        return DPC_E_REFUSED;
    const char *title = p.title[0] ? p.title : problem_title(p.code);
    if (title[0] || p.detail[0])
        snprintf(err->text, sizeof err->text, "%s%s%s", title,
                 title[0] && p.detail[0] ? ": " : "", p.detail);
    snprintf(err->type, sizeof err->type, "%s", p.type);
    snprintf(err->request_id, sizeof err->request_id, "%s", p.request_id);
    err->requested_epsilon = p.requested_epsilon;
    err->available_epsilon = p.available_epsilon;
    err->max_steps_that_fit = p.max_steps_that_fit;
    for (; err->n_details < p.n_errors && err->n_details < DPC_DETAILS_MAX;
         err->n_details++) {
        const struct problem_item *item = &p.errors[err->n_details];
        struct dpc_detail *detail = &err->details[err->n_details];
        snprintf(detail->pointer, sizeof detail->pointer, "%s", item->pointer);
        snprintf(detail->code, sizeof detail->code, "%s", item->code);
        snprintf(detail->message, sizeof detail->message, "%s", item->message);
    }
    return DPC_E_REFUSED;
}

const char *dpc_status_name(enum dpc_status status)
{
    static const char *const names[] = { "DPC_OK",        "DPC_E_NOMEM",    "DPC_E_INVALID",
                                         "DPC_E_CONNECT", "DPC_E_PROTOCOL", "DPC_E_REFUSED",
                                         "DPC_E_LOST",    "DPC_E_STOPPED",  "DPC_E_FILE" };
    size_t i = (size_t) - (int)status;
    return i < sizeof names / sizeof *names ? names[i] : "DPC_E_UNKNOWN";
}

static long or_default(long value, long otherwise)
{
    return value > 0 ? value : otherwise;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* copies of the texts; -1 when out of memory */
static int options_take(dpc_client *client, const struct dpc_options *o)
{
    client->url = strdup(o->url ? o->url : "http://127.0.0.1:8477");
    if (o->unix_socket)
        client->unix_socket = strdup(o->unix_socket);
    if (o->ca_file)
        client->ca_file = strdup(o->ca_file);
    if (o->token &&
        asprintf(&client->authorization, "Authorization: Bearer %s", o->token) < 0)
        client->authorization = NULL;
    if (!client->url || (o->unix_socket && !client->unix_socket) ||
        (o->ca_file && !client->ca_file) || (o->token && !client->authorization))
        return -1;
    for (size_t n = strlen(client->url); n && client->url[n - 1] == '/'; n--)
        client->url[n - 1] = '\0';
    return 0;
}

int dpc_open(dpc_client **clientp, const struct dpc_options *options, struct dpc_error *err)
{
    static const struct dpc_options none;
    const struct dpc_options *o = options ? options : &none;
    *clientp = NULL;
    if (o->url && strncmp(o->url, "http://", 7) != 0 && strncmp(o->url, "https://", 8) != 0)
        return client_fail(err, DPC_E_INVALID,
                           "the URL must start with http:// or https://");
    if (o->token && has_control(o->token))
        return client_fail(err, DPC_E_INVALID, "the token has control characters");
    dpc_client *client = calloc(1, sizeof *client);
    if (client)
        client->curl = curl_easy_init();
    if (!client || !client->curl || options_take(client, o)) {
        dpc_close(client);
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    }
    client->connect_timeout_ms = or_default(o->connect_timeout_ms, 10000);
    client->timeout_ms = or_default(o->timeout_ms, 60000);
    client->heartbeat_ms = or_default(o->heartbeat_ms, 45000);
    client->lost_after_ms = or_default(o->lost_after_ms, 120000);
    client->retries = o->retries < 0 ? 0 : o->retries ? o->retries : 2;
    if (getrandom(&client->random, sizeof client->random, 0) != sizeof client->random)
        client->random = (uint64_t)clock_ms();
    *clientp = client;
    return DPC_OK;
}

void dpc_close(dpc_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->unix_socket);
    free(client->authorization);
    free(client->ca_file);
    free(client);
}

void dpc_text_free(struct dpc_text *text)
{
    free(text->text);
    *text = (struct dpc_text){ 0 };
}

/* runs the request and hands out the body, which is never NULL on success */
static int request_text(dpc_client *client, const struct http_request *request,
                        struct dpc_text *out, struct dpc_error *err)
{
    struct http_answer answer;
    *out = (struct dpc_text){ 0 };
    int r = http_expect_ok(client, request, &answer, err);
    if (r)
        return r;
    if (!answer.body.text && buffer_append(&answer.body, "", 0, 0))
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    out->text = answer.body.text;
    out->len = answer.body.len;
    return DPC_OK;
}

int dpc_request(dpc_client *client, const char *method, const char *path, const char *body,
                size_t len, struct dpc_text *answer, struct dpc_error *err)
{
    if (path[0] != '/' || has_control(path))
        return client_fail(err, DPC_E_INVALID, "a path starts with /");
    bool again = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    struct http_request request = {
        .method = method, .path = path, .body = body, .len = len, .again = again
    };
    return request_text(client, &request, answer, err);
}

int dpc_dry_run(dpc_client *client, const char *spec, size_t len, struct dpc_text *plan,
                struct dpc_error *err)
{
    struct http_request request = { .method = "POST",
                                    .path = "/jobs?dry_run=true",
                                    .body = spec,
                                    .len = len,
                                    .again = true };
    return request_text(client, &request, plan, err);
}

/* GET prefix id rest */
static int get_text(dpc_client *client, const char *prefix, const char *id,
                    const char *rest, struct dpc_text *answer, struct dpc_error *err)
{
    *answer = (struct dpc_text){ 0 };
    char *path = path_of(err, prefix, id, rest);
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    int r = dpc_request(client, "GET", path, NULL, 0, answer, err);
    free(path);
    return r;
}

int dpc_artifacts(dpc_client *client, const char *id, struct dpc_text *list,
                  struct dpc_error *err)
{
    return get_text(client, "/jobs/", id, "/artifacts", list, err);
}

int dpc_dataset_add(dpc_client *client, const char *spec, size_t len,
                    struct dpc_text *dataset, struct dpc_error *err)
{
    return dpc_request(client, "POST", "/datasets", spec, len, dataset, err);
}

int dpc_dataset_list(dpc_client *client, const char *after, struct dpc_text *page,
                     struct dpc_error *err)
{
    if (after)
        return get_text(client, "/datasets?after=", after, "", page, err);
    return dpc_request(client, "GET", "/datasets", NULL, 0, page, err);
}

int dpc_dataset_get(dpc_client *client, const char *dataset, struct dpc_text *answer,
                    struct dpc_error *err)
{
    return get_text(client, "/datasets/", dataset, "", answer, err);
}

int dpc_budget(dpc_client *client, const char *dataset, struct dpc_text *budget,
               struct dpc_error *err)
{
    return get_text(client, "/datasets/", dataset, "/budget", budget, err);
}

/* a body to /datasets/NAME rest */
static int send_to_dataset(dpc_client *client, const char *method, const char *dataset,
                           const char *rest, const char *body, size_t len,
                           struct dpc_text *answer, struct dpc_error *err)
{
    *answer = (struct dpc_text){ 0 };
    char *path = path_of(err, "/datasets/", dataset, rest);
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    int r = dpc_request(client, method, path, body, len, answer, err);
    free(path);
    return r;
}

/* the same with an Idempotency-Key, so that it may be sent again */
static int send_once(dpc_client *client, const char *method, const char *dataset, const char *rest,
                     const char *body, size_t len, const char *key, struct dpc_text *answer,
                     struct dpc_error *err)
{
    char header[KEY_HEADER];
    *answer = (struct dpc_text){ 0 };
    int r = key_header(key, header, err);
    if (r)
        return r;
    char *path = path_of(err, "/datasets/", dataset, rest);
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    struct http_request request = { .method = method,
                                    .path = path,
                                    .body = body,
                                    .len = len,
                                    .headers = { header },
                                    .again = true };
    r = request_text(client, &request, answer, err);
    free(path);
    return r;
}

int dpc_budget_change(dpc_client *client, const char *dataset, const char *change, size_t len,
                      const char *idempotency_key, struct dpc_text *budget,
                      struct dpc_error *err)
{
    return send_once(client, "PATCH", dataset, "/budget", change, len, idempotency_key, budget,
                     err);
}

int dpc_ledger_import(dpc_client *client, const char *dataset, const char *import, size_t len,
                      const char *idempotency_key, struct dpc_text *budget,
                      struct dpc_error *err)
{
    return send_once(client, "POST", dataset, "/ledger", import, len, idempotency_key, budget,
                     err);
}

int dpc_ledger(dpc_client *client, const char *dataset, int64_t after, struct dpc_text *page,
               struct dpc_error *err)
{
    char rest[64];
    snprintf(rest, sizeof rest, "/ledger?limit=100&after=%lld", (long long)after);
    return send_to_dataset(client, "GET", dataset, rest, NULL, 0, page, err);
}

int dpc_delete(dpc_client *client, const char *id, struct dpc_error *err)
{
    char *path = path_of(err, "/jobs/", id, "");
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    struct dpc_text answer;
    int r = dpc_request(client, "DELETE", path, NULL, 0, &answer, err);
    free(path);
    dpc_text_free(&answer);
    return r;
}
