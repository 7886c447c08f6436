#include "http.h"

#include <arpa/inet.h>
#include <check.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT_S = 60 };

static size_t on_header(char *text, size_t size, size_t n, void *arg)
{
    struct reply *reply = arg;
    size_t at = strlen(reply->headers), len = size * n;
    ck_assert_uint_lt(at + len, sizeof reply->headers);
    memcpy(reply->headers + at, text, len);
    reply->headers[at + len] = '\0';
    return len;
}

static size_t on_body(char *text, size_t size, size_t n, void *arg)
{
    struct reply *reply = arg;
    size_t len = size * n;
    reply->body = realloc(reply->body, reply->n_body + len + 1);
    ck_assert_ptr_nonnull(reply->body);
    memcpy(reply->body + reply->n_body, text, len);
    reply->n_body += len;
    reply->body[reply->n_body] = '\0';
    return len;
}

static struct curl_slist *make_headers(const struct fixture *f, const char *body,
                                       const char *const *headers)
{
    char authorization[128];
    bool own = false, typed = body == NULL;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (; headers != NULL && *headers != NULL; headers++) {
        own |= strncasecmp(*headers, "Authorization:", 14) == 0;
        typed |= strncasecmp(*headers, "Content-Type:", 13) == 0;
        list = curl_slist_append(list, *headers);
    }
    if (!own && f->token[0] != '\0') {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", f->token);
        list = curl_slist_append(list, authorization);
    }
    if (!typed)
        list = curl_slist_append(list, "Content-Type: application/json");
    return list;
}

struct reply http(const struct fixture *f, const char *method, const char *path,
                  const char *body, const char *const *headers)
{
    return http_bytes(f, method, path, body, body == NULL ? 0 : strlen(body), headers);
}

struct reply http_bytes(const struct fixture *f, const char *method, const char *path,
                        const char *body, size_t n, const char *const *headers)
{
    struct reply reply = { .body = calloc(1, 1) };
    char url[8192];
    CURL *curl = curl_easy_init();
    ck_assert_ptr_nonnull(curl);
    struct curl_slist *list = make_headers(f, body, headers);
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", f->port, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &reply);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)n);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_slist_free_all(list);
    curl_easy_cleanup(curl);
    reply.json = json_loadb(reply.body, reply.n_body, 0, NULL);
    return reply;
}

void reply_free(struct reply *reply)
{
    json_decref(reply->json);
    free(reply->body);
    memset(reply, 0, sizeof *reply);
}

const char *reply_header(const struct reply *reply, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);
    for (const char *p = strstr(reply->headers, "\r\n"); p != NULL; p = strstr(p, "\r\n")) {
        p += 2;
        if (strncasecmp(p, name, n) != 0 || p[n] != ':')
            continue;
        p += n + 1;
        p += strspn(p, " ");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(p, "\r"), p);
        return value;
    }
    return "";
}

const char *reply_text(const struct reply *reply, const char *name)
{
    const char *text = json_string_value(json_object_get(reply->json, name));
    return text == NULL ? "" : text;
}

void http_expect(const struct fixture *f, const char *method, const char *path,
                 const char *body, long status)
{
    struct reply reply = http(f, method, path, body, NULL);
    ck_assert_msg(reply.status == status, "%s %s: %ld, not %ld: %s", method, path, reply.status,
                  status, reply.body);
    reply_free(&reply);
}

double http_metric(const struct fixture *f, const char *name)
{
    struct reply reply = http(f, "GET", "/metrics", NULL, NULL);
    double value = -1;
    size_t n = strlen(name);
    ck_assert_int_eq(reply.status, 200);
    for (const char *p = reply.body; p != NULL; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, name, n) == 0 && p[n] == ' ')
            value = strtod(p + n, NULL);
    }
    reply_free(&reply);
    return value;
}

void http_token(const struct fixture *f, const char *owner, const char *role, char *header,
                size_t size)
{
    char body[256];
    snprintf(body, sizeof body, "{\"owner\":\"%s\",\"role\":\"%s\"}", owner, role);
    struct reply reply = http(f, "POST", "/tokens", body, NULL);
    ck_assert_msg(reply.status == 201, "%s", reply.body);
    snprintf(header, size, "Authorization: Bearer %s", reply_text(&reply, "token"));
    reply_free(&reply);
}

char *read_file(const char *path, size_t *n)
{
    FILE *in = fopen(path, "r");
    ck_assert_msg(in != NULL, "%s: %s", path, strerror(errno));
    fseek(in, 0, SEEK_END);
    long size = ftell(in);
    rewind(in);
    char *text = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(text);
    size_t got = fread(text, 1, (size_t)size, in);
    fclose(in);
    text[got] = '\0';
    if (n != NULL)
        *n = got;
    return text;
}

void http_submit(const struct fixture *f, char *id, size_t size)
{
    char *body = read_file(getenv("JOB_FILE"), NULL);
    struct reply reply = http(f, "POST", "/jobs", body, NULL);
    ck_assert_msg(reply.status == 201, "%ld %s", reply.status, reply.body);
    snprintf(id, size, "%s", reply_text(&reply, "id"));
    reply_free(&reply);
    free(body);
}

/* ---- raw bytes ---- */

int raw_connect(const struct fixture *f)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)f->port) };
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

bool raw_send(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool raw_puts(int fd, const char *text)
{
    return raw_send(fd, text, strlen(text));
}

size_t raw_read(int fd, char *buf, size_t size, const char *until, long ms)
{
    size_t n = 0;
    long end = now_ms() + ms;
    buf[0] = '\0';
    while (n < size - 1 && (until == NULL || strstr(buf, until) == NULL)) {
        struct pollfd p = { fd, POLLIN, 0 };
        long left = end - now_ms();
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            break;
        ssize_t got = recv(fd, buf + n, size - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        buf[n] = '\0';
    }
    return n;
}

bool raw_closed(int fd, long ms)
{
    char buf[4096];
    long end = now_ms() + ms;
    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        long left = end - now_ms();
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return false;
        if (recv(fd, buf, sizeof buf, 0) <= 0)
            return true;
    }
}
