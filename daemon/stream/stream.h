/* The durable event log of every job: numbered from 1 without gaps, and subscribers that
 * are woken when there is more to read.
 *
 *   append (in the open batch) -> commit -> subscribers of the job -> stream_read(after
 * cursor)
 *
 * stream_read() sees committed events only, so that nothing leaves the daemon that a crash
 * could take back. A slow reader costs its cursor and nothing else.
 *
 * Thread: the loop thread only. */
#ifndef DAEMON_STREAM_STREAM_H
#define DAEMON_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/event.h"
#include "store/store.h"

enum { STREAM_DATA_MAX = 16 * 1024 };

struct stream;
struct stream_sub;

struct stream *stream_new(struct store *store); /* NULL: out of memory */
struct stream *stream_free(struct stream *stream);
void stream_freep(struct stream **streamp);

struct stream_event {
    uint64_t seq;     /* from 1 */
    const char *type; /* "status" "step" "eval" "checkpoint" "warning" "artifact" "end" */
    const char *data; /* event_encode()'s line, its id included; NUL-terminated */
    size_t size;      /* bytes of data, <= STREAM_DATA_MAX */
};

/* Appends to the log of job (its id) within the caller's change; sets event->id to its
 * number and event->at to now. */
int stream_append(struct stream *stream, const char *job, struct event *event,
                  struct problem *p);

/* Calls cb for committed events with seq > after, in order, at most max of them; strings
 * are valid during the call only. cb returns false to stop early (the event counts as not
 * read). Returns the number read, or a fatal error. An unknown job has no events. */
int stream_read(struct stream *stream, const char *job, uint64_t after, int max,
                bool (*cb)(void *arg, const struct stream_event *event), void *arg);

/* Number of the last committed event (0: none), and whether it is "end": after it nothing
 * will follow, so that a stream may be closed, and a reconnect with it as cursor gets 204.
 */
int stream_last(struct stream *stream, const char *job, uint64_t *seqp, bool *endedp);

/* cb(arg) after every commit that added events to the job. It may subscribe, unsubscribe
 * and read, but not append. NULL: out of memory. */
struct stream_sub *stream_subscribe(struct stream *stream, const char *job,
                                    void (*cb)(void *arg), void *arg);
void stream_unsubscribe(struct stream_sub *sub); /* takes NULL */

/* Subscribers now and events appended since the start, for metrics. */
void stream_stats(const struct stream *stream, uint64_t *n_subsp, uint64_t *n_eventsp);

#endif
