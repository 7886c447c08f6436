/* One HTTP request on the handle's connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "internal.h"

int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(long ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    nanosleep(&left, NULL);
}

long backoff_ms(dpc_client *client, unsigned tries, long base_ms, long max_ms)
{
    long wait = base_ms;
    for (; tries && wait < max_ms; tries--)
        wait *= 2;
    if (wait > max_ms)
        wait = max_ms;
    client->random = client->random * 6364136223846793005u + 1442695040888963407u;
    double share = 0.75 + 0.5 * (double)(client->random >> 40) / (double)(1 << 24);
    return (long)((double)wait * share);
}

int buffer_append(struct buffer *buffer, const char *bytes, size_t n, size_t max)
{
    size_t len;
    if (__builtin_add_overflow(buffer->len, n, &len) || len > max)
        return -1;
    /* doubles whenever the length passes a power of two */
    size_t had = buffer->text ? (size_t)256 : 0, need = 256;
    while (had && had <= buffer->len)
        had *= 2;
    while (need <= len)
        need *= 2;
    if (need > had) {
        char *text = realloc(buffer->text, need);
        if (!text)
            return -1;
        buffer->text = text;
    }
    memcpy(buffer->text + buffer->len, bytes, n);
    buffer->len = len;
    buffer->text[len] = '\0';
    return 0;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->text);
    *buffer = (struct buffer){ 0 };
}

void answer_free(struct http_answer *answer)
{
    buffer_free(&answer->body);
}

char *path_of(struct dpc_error *err, const char *prefix, const char *id, const char *rest)
{
    if (!id || !id[0] || strcmp(id, ".") == 0 || strcmp(id, "..") == 0) {
        client_fail(err, DPC_E_INVALID, "an id is missing");
        return NULL;
    }
    char *escaped = curl_easy_escape(NULL, id, 0), *path = NULL;
    if (!escaped || asprintf(&path, "%s%s%s", prefix, escaped, rest) < 0) {
        path = NULL;
        client_fail(err, DPC_E_NOMEM, "out of memory");
    }
    curl_free(escaped);
    return path;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
    struct http_answer *answer = user;
    return buffer_append(&answer->body, bytes, size * n, ANSWER_MAX) ? 0 : size * n;
}

static int append_header(struct curl_slist **headers, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*headers, line);
    if (!longer)
        return -1;
    *headers = longer;
    return 0;
}

int http_prepare(dpc_client *client, const struct http_request *request,
                 struct curl_slist **headersp, struct dpc_error *err)
{
    CURL *curl = client->curl;
    struct curl_slist *headers = NULL;
    char *url;
    int failed = 0;
    *headersp = NULL;
    curl_easy_reset(curl);
    if (asprintf(&url, "%s%s", client->url, request->path) < 0)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    for (size_t i = 0; i < sizeof request->headers / sizeof *request->headers; i++)
        if (request->headers[i])
            failed |= append_header(&headers, request->headers[i]);
    if (client->authorization)
        failed |= append_header(&headers, client->authorization);
    if (request->body) {
        char type[80];
        snprintf(type, sizeof type, "Content-Type: %s",
                 request->type ? request->type : "application/json");
        failed |= append_header(&headers, type);
        failed |= append_header(&headers, "Expect:");
        failed |= curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body) != CURLE_OK;
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->len);
    } else if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
    }
    failed |= curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK;
    free(url);
    if (strcmp(request->method, "GET") != 0)
        failed |=
            curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method) != CURLE_OK;
    if (client->unix_socket)
        failed |= curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->unix_socket) !=
                  CURLE_OK;
    if (client->ca_file)
        failed |= curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file) != CURLE_OK;
    failed |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "libdpsgd-client/0.1");
    if (failed) {
        curl_slist_free_all(headers);
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    }
    *headersp = headers;
    return 0;
}

static void answer_describe(CURL *curl, struct http_answer *answer)
{
    char *type = NULL;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after);
    answer->retry_after_s = retry_after > 0 ? (double)retry_after : 0;
    answer->json = type && (strncasecmp(type, "application/json", 16) == 0 ||
                            strncasecmp(type, "application/problem+json", 24) == 0);
}

static int perform_once(dpc_client *client, const struct http_request *request,
                        struct http_answer *answer, struct dpc_error *err)
{
    struct curl_slist *headers;
    *answer = (struct http_answer){ 0 };
    int r = http_prepare(client, request, &headers, err);
    if (r)
        return r;
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, client->timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, answer);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (code == CURLE_OK) {
        answer_describe(client->curl, answer);
        return 0;
    }
    answer_free(answer);
    if (code == CURLE_OUT_OF_MEMORY)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    if (code == CURLE_WRITE_ERROR)
        return client_fail(err, DPC_E_PROTOCOL, "the answer is too large");
    return client_fail(err, DPC_E_CONNECT, "%s: %s", client->url, curl_easy_strerror(code));
}

int http_perform(dpc_client *client, const struct http_request *request,
                 struct http_answer *answer, struct dpc_error *err)
{
    for (int tries = 0;; tries++) {
        int r = perform_once(client, request, answer, err);
        if (r != DPC_E_CONNECT || !request->again || tries >= client->retries)
            return r;
        sleep_ms(backoff_ms(client, (unsigned)tries, 250, 4000));
    }
}

int http_expect_ok(dpc_client *client, const struct http_request *request,
                   struct http_answer *answer, struct dpc_error *err)
{
    int r = http_perform(client, request, answer, err);
    if (r)
        return r;
    if (answer->status >= 200 && answer->status < 300)
        return 0;
    r = client_refused(err, answer);
    answer_free(answer);
    return r;
}
