#include "http/sse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/server.h"
#include "stream/stream.h"

enum {
    READ_MAX = 64,       /* events fetched at a time */
    BUFFER_MAX = 65536,  /* stops fetching beyond it */
    BLOCK = 1024,        /* what libmicrohttpd asks for at most */
    RETRY_MS = 3000,     /* told at the start */
    RETRY_DRAIN_MS = 5000
};

struct sse {
    struct sse *prev, *next;               /* all streams */
    struct sse *parked_prev, *parked_next; /* parked ones */
    struct sse_table *table;
    struct conn *conn;
    struct MHD_Connection *mhd;
    struct stream_sub *sub;
    uv_poll_t *watch; /* closes by itself, so it has a life of its own */
    char *buffer;     /* text not yet handed to libmicrohttpd; NULL while there is none */
    size_t at, n, cap;
    uint64_t cursor;
    uint64_t heartbeat_at;
    bool parked, ended, told_end, gone, beat;
    char job[64];
};

static void park(struct sse *sse);

/* ---- text ---- */

static bool put(struct sse *sse, const char *text, size_t n)
{
    if (n > sse->cap - sse->n) {
        size_t cap = sse->n + n + 512;
        char *buffer = realloc(sse->buffer, cap);
        if (buffer == NULL)
            return false;
        sse->buffer = buffer;
        sse->cap = cap;
    }
    memcpy(sse->buffer + sse->n, text, n);
    sse->n += n;
    return true;
}

static bool put_event(void *arg, const struct stream_event *event)
{
    struct sse *sse = arg;
    char head[96];
    if (sse->n > BUFFER_MAX)
        return false;
    size_t before = sse->n;
    int n = snprintf(head, sizeof head, "id: %" PRIu64 "\nevent: %.40s\ndata: ", event->seq,
                     event->type);
    if (!put(sse, head, (size_t)n) || !put(sse, event->data, event->size) ||
        !put(sse, "\n\n", 2)) {
        sse->n = before; /* out of memory: the client comes back for it */
        sse->gone = true;
        return false;
    }
    sse->cursor = event->seq;
    sse->ended = strcmp(event->type, "end") == 0;
    sse->table->n_events++;
    return true;
}

/* Fills the buffer with what there is to say; leaves it empty when that is nothing. */
static void fetch(struct sse *sse)
{
    char hint[48];
    sse->at = sse->n = 0;
    if (stream_read(sse->table->server->services->stream, sse->job, sse->cursor, READ_MAX,
                    put_event, sse) < 0)
        sse->gone = true; /* the store has failed, and the daemon is about to say so */
    if (sse->n == 0 && sse->table->ending && !sse->ended && !sse->told_end) {
        int n = snprintf(hint, sizeof hint, "retry: %d\n\n", RETRY_DRAIN_MS);
        put(sse, hint, (size_t)n);
        sse->told_end = true;
    }
    if (sse->n == 0 && sse->beat)
        put(sse, ":hb\n\n", 5);
    sse->beat = false;
}

/* libmicrohttpd has room: up to max bytes to buf. */
static ssize_t on_read(void *cls, uint64_t position, char *buf, size_t max)
{
    struct sse *sse = cls;
    (void)position;
    if (sse->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (sse->at == sse->n)
        fetch(sse);
    if (sse->at == sse->n) {
        free(sse->buffer);
        sse->buffer = NULL;
        sse->at = sse->n = sse->cap = 0;
        if (sse->gone)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (sse->ended || sse->told_end)
            return MHD_CONTENT_READER_END_OF_STREAM;
        park(sse);
        return 0;
    }
    size_t n = sse->n - sse->at < max ? sse->n - sse->at : max;
    memcpy(buf, sse->buffer + sse->at, n);
    sse->at += n;
    return (ssize_t)n;
}

/* ---- parking ---- */

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle);
}

static void unpark(struct sse *sse)
{
    struct sse_table *table = sse->table;
    if (!sse->parked)
        return;
    sse->parked = false;
    *(sse->parked_prev != NULL ? &sse->parked_prev->parked_next : &table->parked_head) =
        sse->parked_next;
    *(sse->parked_next != NULL ? &sse->parked_next->parked_prev : &table->parked_tail) =
        sse->parked_prev;
    sse->parked_prev = sse->parked_next = NULL;
    /* before libmicrohttpd may close the descriptor, whose number is then used again */
    if (sse->watch != NULL)
        uv_poll_stop(sse->watch);
    MHD_resume_connection(sse->mhd);
    server_wake(table->server);
}

static void on_hangup(uv_poll_t *watch, int status, int events)
{
    struct sse *sse = watch->data;
    (void)status, (void)events;
    sse->table->n_vanished++;
    sse->gone = true;
    unpark(sse);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct sse_table *table)
{
    uint64_t now = uv_now(table->server->loop);
    if (table->parked_head == NULL)
        uv_timer_stop(&table->timer);
    else
        uv_timer_start(&table->timer, on_timer,
                       table->parked_head->heartbeat_at > now
                           ? table->parked_head->heartbeat_at - now
                           : 0,
                       0);
}

static void on_timer(uv_timer_t *timer)
{
    struct sse_table *table = timer->data;
    uint64_t now = uv_now(table->server->loop);
    while (table->parked_head != NULL && table->parked_head->heartbeat_at <= now) {
        table->parked_head->beat = true;
        unpark(table->parked_head);
    }
    arm(table);
}

static void park(struct sse *sse)
{
    struct sse_table *table = sse->table;
    if (sse->watch == NULL) {
        sse->watch = malloc(sizeof *sse->watch);
        if (sse->watch != NULL &&
            uv_poll_init(table->server->loop, sse->watch, sse->conn->fd) != 0) {
            free(sse->watch);
            sse->watch = NULL; /* the heartbeat is left to notice a hang-up */
        }
    }
    if (sse->watch != NULL) {
        sse->watch->data = sse;
        uv_poll_start(sse->watch, UV_DISCONNECT, on_hangup);
    }
    MHD_suspend_connection(sse->mhd);
    sse->parked = true;
    sse->heartbeat_at = uv_now(table->server->loop) +
                        table->server->services->config->heartbeat_seconds * 1000;
    sse->parked_prev = table->parked_tail;
    *(table->parked_tail != NULL ? &table->parked_tail->parked_next : &table->parked_head) = sse;
    table->parked_tail = sse;
    if (table->parked_head == sse)
        arm(table);
}

static void on_events(void *arg)
{
    unpark(arg);
}

/* ---- beginning and end ---- */

static void on_free(void *cls)
{
    struct sse *sse = cls;
    struct sse_table *table = sse->table;
    stream_unsubscribe(sse->sub);
    if (sse->watch != NULL)
        uv_close((uv_handle_t *)sse->watch, on_watch_closed);
    *(sse->prev != NULL ? &sse->prev->next : &table->all) = sse->next;
    if (sse->next != NULL)
        sse->next->prev = sse->prev;
    table->n--;
    free(sse->buffer);
    free(sse);
}

static struct sse *make(struct request *req, const char *job, uint64_t after)
{
    struct sse_table *table = &req->server->streams;
    struct sse *sse = calloc(1, sizeof *sse);
    if (sse == NULL)
        return NULL;
    snprintf(sse->job, sizeof sse->job, "%s", job);
    sse->table = table;
    sse->conn = req->conn;
    sse->mhd = req->mhd;
    sse->cursor = after;
    sse->sub = stream_subscribe(req->services->stream, job, on_events, sse);
    char hint[48];
    int n = snprintf(hint, sizeof hint, "retry: %d\n\n", RETRY_MS);
    if (sse->sub == NULL || !put(sse, hint, (size_t)n)) {
        stream_unsubscribe(sse->sub);
        free(sse);
        return NULL;
    }
    sse->next = table->all;
    if (table->all != NULL)
        table->all->prev = sse;
    table->all = sse;
    table->n++;
    table->n_opened++;
    return sse;
}

enum MHD_Result sse_reply(struct request *req, const char *job, uint64_t after)
{
    struct sse_table *table = &req->server->streams;
    const struct reply_header *headers = REPLY_HEADERS({ "X-Accel-Buffering", "no" });
    if (req->head)
        return reply_static(req, 200, "text/event-stream", "", 0, headers);
    if (table->ending)
        return reply_error(req, PROBLEM_DRAINING, NULL);
    if (table->n >= table->n_max)
        return reply_error(req, PROBLEM_OVERLOADED, "%zu event streams are open, the most that "
                           "the limits allow", table->n);
    struct sse *sse = make(req, job, after);
    if (sse == NULL)
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, sse, on_free);
    if (response == NULL) {
        on_free(sse);
        return MHD_NO;
    }
    enum MHD_Result r = reply_response(req, 200, response, "text/event-stream", headers);
    conn_set_phase(req->conn, CONN_STREAM);
    return r;
}

void sse_table_init(struct sse_table *table, struct http_server *server, size_t n_max)
{
    *table = (struct sse_table){ .server = server, .n_max = n_max };
    uv_timer_init(server->loop, &table->timer);
    table->timer.data = table;
}

void sse_table_close(struct sse_table *table)
{
    uv_close((uv_handle_t *)&table->timer, NULL);
}

void sse_end_all(struct sse_table *table)
{
    table->ending = true;
    while (table->parked_head != NULL)
        unpark(table->parked_head);
    arm(table);
}
