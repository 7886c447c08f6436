/* Following a job: one stream after another until the job has ended. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "jobs.h"
#include "proto/event.h"
#include "sse.h"

#define BACKOFF_BASE_MS 250
#define BACKOFF_MAX_MS  15000
#define REFUSAL_MAX     (64u << 10) /* bytes of a refusal that are kept */

struct follow {
    dpc_client *client;
    const char *path; /* /jobs/ID/events */
    dpc_event_fn fn;
    void *user;
    int64_t last;   /* number of the last event that was delivered */
    bool delivered; /* this stream brought something new */
    bool ended;     /* the end event was seen */
    bool stopped;   /* by the callback */
    bool broken;    /* an event is not understood */
    enum dpc_job_status final_status;
    struct sse_parser parser;
    struct buffer refusal; /* body of an answer that is not a stream */
};

static void event_blank(struct dpc_event *out)
{
    *out = (struct dpc_event){ .at = -1,
                               .attempt = -1,
                               .step = -1,
                               .of = -1,
                               .epoch = NAN,
                               .loss = NAN,
                               .clip_fraction = NAN,
                               .lr = NAN,
                               .noise_multiplier = NAN,
                               .epsilon = NAN,
                               .delta = NAN,
                               .examples_per_s = NAN,
                               .eta_s = NAN,
                               .accuracy = NAN,
                               .bytes = -1 };
}

static void step_fill(struct dpc_event *out, const struct event_step *step)
{
    out->step = step->step;
    out->of = step->of;
    out->epoch = step->epoch;
    out->loss = step->loss;
    out->clip_fraction = step->clip_fraction;
    out->lr = step->lr;
    out->noise_multiplier = step->noise_multiplier;
    out->epsilon = step->epsilon;
    out->delta = step->delta;
    out->examples_per_s = step->examples_per_s;
    out->eta_s = step->eta_s;
    out->is_private = step->is_private;
}

static void event_fill(struct dpc_event *out, const struct event *event)
{
    out->at = event->at;
    switch (event->type) {
    case EVENT_STATUS:
        out->from = job_status_name(event->status.from);
        out->to = job_status_name(event->status.to);
        out->reason = job_reason_name(event->status.reason);
        out->attempt = event->status.attempt;
        break;
    case EVENT_STEP: step_fill(out, &event->step); break;
    case EVENT_EVAL:
        out->step = event->eval.step;
        out->split = event->eval.split;
        out->loss = event->eval.loss;
        out->accuracy = event->eval.accuracy;
        break;
    case EVENT_CHECKPOINT:
        out->step = event->checkpoint.step;
        out->bytes = event->checkpoint.bytes;
        out->sha256 = event->checkpoint.sha256;
        break;
    case EVENT_WARNING:
        out->code = warning_code_name(event->warning.code);
        out->message = event->warning.message ? event->warning.message
                                              : warning_code_sentence(event->warning.code);
        break;
    case EVENT_ARTIFACT:
        out->name = event->artifact.name;
        out->bytes = event->artifact.bytes;
        out->sha256 = event->artifact.sha256;
        break;
    case EVENT_END:
        out->to = job_status_name(event->end.status);
        out->reason = job_reason_name(event->end.reason);
        break;
    case EVENT_UNKNOWN: break;
    }
}

/* an id of the stream: decimal, from 1; 0 when it is something else */
static int64_t id_parse(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return 0;
    return strtoll(text, NULL, 10);
}

static int on_event(const char *name, const char *id_text, const char *data, size_t len,
                    void *user)
{
    struct follow *f = user;
    struct dpc_event out;
    struct event *event;
    struct problem problem;
    int64_t id = id_parse(id_text);
    if (id <= f->last) /* the server began before our cursor */
        return 0;
    int r = event_decode(&event, data, len, &problem);
    if (r) {
        f->broken = r == PROTO_E_INVALID;
        return 1;
    }
    event_blank(&out);
    out.id = id;
    out.type = name;
    out.json = data;
    event_fill(&out, event);
    if (event->type == EVENT_END) {
        f->ended = true;
        f->final_status = job_status_public((int)event->end.status);
    }
    f->last = id;
    f->delivered = true;
    f->stopped = f->fn(&out, f->user) != 0;
    event_free(event);
    return f->stopped || f->ended;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    struct follow *f = user;
    long status = 0;
    curl_easy_getinfo(f->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        return sse_feed(&f->parser, bytes, size * n, on_event, f) ? 0 : size * n;
    return buffer_append(&f->refusal, bytes, size * n, REFUSAL_MAX) ? 0 : size * n;
}

/* One stream until it ends. 0 and *statusp, or DPC_E_NOMEM, or DPC_E_CONNECT with err
 * filled. */
static int stream_once(struct follow *f, long *statusp, double *retry_after_sp,
                       struct dpc_error *err)
{
    dpc_client *client = f->client;
    struct curl_slist *headers;
    char cursor[64];
    curl_off_t retry_after = 0;
    snprintf(cursor, sizeof cursor, "Last-Event-ID: %" PRId64, f->last);
    struct http_request request = { .method = "GET",
                                    .path = f->path,
                                    .headers = { "Accept: text/event-stream",
                                                 "Cache-Control: no-store",
                                                 f->last > 0 ? cursor : NULL } };
    int r = http_prepare(client, &request, &headers, err);
    if (r)
        return r;
    sse_free(&f->parser);
    buffer_free(&f->refusal);
    f->delivered = false;
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, f);
    /* the server sends a comment every 15 s: silence means that the connection is gone */
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME,
                     (client->heartbeat_ms + 999) / 1000);
    curl_easy_setopt(client->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    *statusp = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, statusp);
    curl_easy_getinfo(client->curl, CURLINFO_RETRY_AFTER, &retry_after);
    *retry_after_sp = retry_after > 0 ? (double)retry_after : 0;
    if (f->ended || f->stopped || f->broken)
        return 0;
    if (code == CURLE_OUT_OF_MEMORY)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    if (code != CURLE_OK && *statusp < 400)
        return client_fail(err, DPC_E_CONNECT, "%s: %s", client->url,
                           curl_easy_strerror(code));
    return 0;
}

/* after 204, or when a stream that never told the end stays closed */
static int ask_final_status(struct follow *f, const char *id, struct dpc_error *err)
{
    struct dpc_job *job;
    int r = dpc_get(f->client, id, &job, err);
    if (r)
        return r;
    f->final_status = job->status;
    f->ended = job->status >= DPC_JOB_SUCCEEDED;
    dpc_job_free(job);
    return 0;
}

static bool worth_retrying(long status)
{
    return status < 400 || status == 408 || status == 429 || status >= 500;
}

/* Streams until the job has ended; err tells of the last failure. */
static int follow_loop(struct follow *f, const char *id, struct dpc_error *err)
{
    int64_t last_heard = clock_ms();
    for (unsigned tries = 0;; tries++) {
        long status = 0;
        double retry_after_s = 0;
        int r = stream_once(f, &status, &retry_after_s, err);
        if (r && r != DPC_E_CONNECT)
            return r;
        if (f->stopped)
            return client_fail(err, DPC_E_STOPPED, "stopped by the callback");
        if (f->broken)
            return client_fail(err, DPC_E_PROTOCOL, "an event is not understood");
        if (r == 0 && !f->ended && status == 204) {
            r = ask_final_status(f, id, err);
            if (r && r != DPC_E_CONNECT)
                return r;
        }
        if (f->ended)
            return DPC_OK;
        if (!worth_retrying(status)) {
            struct http_answer answer = { .status = status, .body = f->refusal };
            return client_refused(err, &answer);
        }
        if (f->delivered || (r == 0 && status == 200)) {
            last_heard = clock_ms();
            tries = 0;
        }
        int64_t silent = clock_ms() - last_heard;
        if (silent >= f->client->lost_after_ms)
            return client_fail(err, DPC_E_LOST, "no daemon at %s for %" PRId64 " s",
                               f->client->url, silent / 1000);
        long base = f->parser.retry_ms > 0 && f->parser.retry_ms < BACKOFF_MAX_MS
                        ? f->parser.retry_ms
                        : BACKOFF_BASE_MS;
        long wait = backoff_ms(f->client, tries, base, BACKOFF_MAX_MS);
        if (retry_after_s > 0 && retry_after_s * 1000 < (double)f->client->lost_after_ms)
            wait = (long)(retry_after_s * 1000);
        sleep_ms(wait < f->client->lost_after_ms - silent
                     ? wait
                     : f->client->lost_after_ms - silent);
    }
}

int dpc_follow(dpc_client *client, const char *id, int64_t after, dpc_event_fn fn,
               void *user, enum dpc_job_status *final_statusp, struct dpc_error *err)
{
    char *path = path_of(err, "/jobs/", id, "/events");
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    struct follow f = { .client = client,
                        .path = path,
                        .fn = fn,
                        .user = user,
                        .last = after > 0 ? after : 0 };
    sse_init(&f.parser);
    int r = follow_loop(&f, id, err);
    sse_free(&f.parser);
    buffer_free(&f.refusal);
    free(path);
    if (final_statusp)
        *final_statusp = r == DPC_OK ? f.final_status : DPC_JOB_UNKNOWN;
    return r;
}
