/* Inside of libdpsgd-client: the handle, one HTTP request, errors. */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include <curl/curl.h>
#include <stdbool.h>

#include "dpsgd/client.h"

#define ANSWER_MAX (16u << 20) /* bytes of an answer that is kept in memory */

struct dpc_client {
    CURL *curl;
    char *url; /* without a slash at the end */
    char *unix_socket;
    char *authorization; /* whole header line, or NULL */
    char *ca_file;
    long connect_timeout_ms, timeout_ms, heartbeat_ms, lost_after_ms;
    int retries;
    uint64_t random; /* state of the back-off's jitter */
};

struct buffer {
    char *text; /* NUL-terminated when not NULL */
    size_t len;
};

struct http_request {
    const char *method;
    const char *path; /* from "/", with query */
    const char *body; /* NULL: none */
    size_t len;
    const char *type;       /* of the body; NULL: application/json */
    const char *headers[4]; /* whole lines, NULL: unused */
    bool again;             /* may be sent again when no answer came */
};

struct http_answer {
    long status;
    bool json;            /* application/json or application/problem+json */
    double retry_after_s; /* 0: not given */
    struct buffer body;
};

/* Fills err (may be NULL) and returns status. */
int client_fail(struct dpc_error *err, enum dpc_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A request that was refused: reads the problem in the answer. Returns DPC_E_REFUSED. */
int client_refused(struct dpc_error *err, const struct http_answer *answer);

/* Sets everything that all requests share on the handle; headers are to be freed after use.
 */
int http_prepare(dpc_client *client, const struct http_request *request,
                 struct curl_slist **headersp, struct dpc_error *err);

/* One request, answer in memory: any HTTP status is success here. */
int http_perform(dpc_client *client, const struct http_request *request,
                 struct http_answer *answer, struct dpc_error *err);

/* As http_perform, and a status outside of 2xx is DPC_E_REFUSED. */
int http_expect_ok(dpc_client *client, const struct http_request *request,
                   struct http_answer *answer, struct dpc_error *err);
void answer_free(struct http_answer *answer);

/* Appends; -1 when out of memory or longer than max. */
int buffer_append(struct buffer *buffer, const char *bytes, size_t n, size_t max);
void buffer_free(struct buffer *buffer);

/* "/jobs/" id rest, with id escaped; NULL with err filled. To be freed. */
char *path_of(struct dpc_error *err, const char *prefix, const char *id, const char *rest);

enum { KEY_HEADER = 320 };
/* The line of an Idempotency-Key; key NULL: one is made. */
int key_header(const char *key, char header[KEY_HEADER], struct dpc_error *err);

/* Milliseconds of a clock that only goes forward. */
int64_t clock_ms(void);
/* base, doubled `tries` times, at most max, give or take a quarter */
long backoff_ms(dpc_client *client, unsigned tries, long base_ms, long max_ms);
void sleep_ms(long ms);

#endif
