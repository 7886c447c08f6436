/* Event streams: server-sent events (WHATWG HTML, section 9.2) from a job's durable log.
 *
 *   stream_read(after cursor) -> text buffer -> libmicrohttpd
 *        nothing more, not ended -> park: connection suspended, socket watched for a hang-up
 *        new events / heartbeat due / draining -> resume
 *
 * A parked stream costs no CPU. libmicrohttpd does not look at a suspended connection, so the
 * watch on the socket is what notices that the client has left; the heartbeat comment is for
 * networks that lose the news. Streams are parked in order of time: one timer serves all.
 * Thread: the loop's. */
#ifndef DAEMON_HTTP_SSE_H
#define DAEMON_HTTP_SSE_H

#include <stdint.h>
#include <uv.h>

#include "http/request.h"

struct sse;

struct sse_table {
    struct http_server *server;
    uv_timer_t timer; /* heartbeat of the stream that has been parked longest */
    struct sse *parked_head, *parked_tail;
    struct sse *all; /* list of every stream */
    size_t n;
    size_t n_max;
    uint64_t n_opened, n_events, n_vanished;
    bool ending; /* draining: streams end when they have told so */
};

void sse_table_init(struct sse_table *table, struct http_server *server, size_t n_max);
void sse_table_close(struct sse_table *table);

/* Answers req with the stream of a job from after the cursor on. */
enum MHD_Result sse_reply(struct request *req, const char *job, uint64_t after);

/* Ends every stream: a retry hint, then the end. */
void sse_end_all(struct sse_table *table);

#endif
