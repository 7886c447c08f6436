#include "stream/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { STREAM_BUCKETS = 1024 };

/* a job that somebody listens to */
struct topic {
    struct topic *next;         /* in its bucket */
    struct topic *next_touched; /* of this batch */
    struct stream_sub *subs;
    bool touched;
    char job[];
};

struct stream_sub {
    struct stream *stream;
    struct topic *topic;
    struct stream_sub *prev, *next;
    void (*cb)(void *arg);
    void *arg;
};

struct stream {
    struct store *store;
    struct topic *buckets[STREAM_BUCKETS];
    struct topic *touched; /* topics with new events in the open batch */
    bool waiting;          /* for the commit of the open batch */
    struct topic *walking; /* whose subscribers are being called */
    struct stream_sub *walk_next;
    uint64_t n_subs, n_events;
};

static size_t bucket_of(const char *job)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *job; job++)
        h = (h ^ (unsigned char)*job) * UINT64_C(0x100000001b3);
    return h % STREAM_BUCKETS;
}

static struct topic *topic_find(struct stream *stream, const char *job)
{
    struct topic *topic = stream->buckets[bucket_of(job)];
    while (topic && strcmp(topic->job, job) != 0)
        topic = topic->next;
    return topic;
}

/* A topic nobody listens to goes, unless the walk or the open batch still points at it. */
static void topic_drop(struct stream *stream, struct topic *topic)
{
    if (topic->subs || topic->touched || stream->walking == topic)
        return;
    struct topic **at = &stream->buckets[bucket_of(topic->job)];
    while (*at != topic)
        at = &(*at)->next;
    *at = topic->next;
    free(topic);
}

struct stream *stream_new(struct store *store)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream)
        stream->store = store;
    return stream;
}

struct stream *stream_free(struct stream *stream)
{
    if (!stream)
        return NULL;
    for (int i = 0; i < STREAM_BUCKETS; i++)
        while (stream->buckets[i]) {
            struct topic *topic = stream->buckets[i];
            stream->buckets[i] = topic->next;
            while (topic->subs) {
                struct stream_sub *sub = topic->subs;
                topic->subs = sub->next;
                free(sub);
            }
            free(topic);
        }
    free(stream);
    return NULL;
}

void stream_freep(struct stream **streamp)
{
    *streamp = stream_free(*streamp);
}

/* ---- append ---- */

static void wake(struct stream *stream, struct topic *topic)
{
    stream->walking = topic;
    for (struct stream_sub *sub = topic->subs; sub; sub = stream->walk_next) {
        stream->walk_next = sub->next;
        sub->cb(sub->arg);
    }
    stream->walking = NULL;
}

static void committed(void *arg, int r)
{
    struct stream *stream = arg;
    stream->waiting = false;
    struct topic *topic = steal(&stream->touched);
    while (topic) {
        struct topic *next = topic->next_touched;
        topic->touched = false;
        if (r == 0)
            wake(stream, topic);
        topic_drop(stream, topic);
        topic = next;
    }
}

/* Subscribers are woken once per batch, however many events it holds. */
static int touch(struct stream *stream, const char *job, struct problem *p)
{
    struct topic *topic = topic_find(stream, job);
    if (!topic || topic->touched)
        return 0;
    if (!stream->waiting) {
        int r = store_on_commit(stream->store, committed, stream);
        if (r)
            return r < 0 ? r : error_nomem(p);
        stream->waiting = true;
    }
    topic->touched = true;
    topic->next_touched = stream->touched;
    stream->touched = topic;
    return 0;
}

static int next_seq(struct stream *stream, const char *job, int64_t *seqp, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(stream->store, STORE_WRITER,
                      "SELECT coalesce(max(seq), 0) + 1 FROM events WHERE job = ?1");
    if (!stmt)
        return store_prepare_error(stream->store, p);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    *seqp = sqlite3_column_int64(stmt, 0);
    store_done(stmt);
    return store_result(stream->store, rc, p);
}

static int insert(struct stream *stream, const char *job, struct event *event,
                  struct problem *p)
{
    int r = next_seq(stream, job, &event->id, p);
    if (r)
        return r;
    const struct env *env = store_env(stream->store);
    event->at = env->realtime_ms(env);
    size_t size = 0;
    _cleanup_free_ char *data = event_encode(event, &size);
    if (!data)
        return error_nomem(p);
    if (size > STREAM_DATA_MAX)
        return ERROR_INTERNAL;
    sqlite3_stmt *stmt = store_prepare(
        stream->store, STORE_WRITER,
        "INSERT INTO events(job, seq, type, data) VALUES(?1, ?2, ?3, ?4)");
    if (stmt) {
        sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 2, event->id);
        sqlite3_bind_int(stmt, 3, (int)event->type);
        sqlite3_bind_text(stmt, 4, data, (int)size, SQLITE_STATIC);
    }
    return store_run(stream->store, stmt, p);
}

int stream_append(struct stream *stream, const char *job, struct event *event,
                  struct problem *p)
{
    int r = store_begin(stream->store, p);
    if (r)
        return r;
    r = insert(stream, job, event, p);
    if (r == 0)
        r = touch(stream, job, p);
    r = store_end(stream->store, r, p);
    if (r == 0)
        stream->n_events++;
    return r;
}

/* ---- read ---- */

int stream_read(struct stream *stream, const char *job, uint64_t after, int max,
                bool (*cb)(void *arg, const struct stream_event *event), void *arg)
{
    if (after > INT64_MAX)
        return 0;
    sqlite3_stmt *stmt = store_prepare(stream->store, STORE_READER,
                                       "SELECT seq, type, data FROM events"
                                       " WHERE job = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    if (!stmt)
        return store_prepare_error(stream->store, NULL);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, (int64_t)after);
    sqlite3_bind_int(stmt, 3, max);
    int n = 0, rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *data = (const char *)sqlite3_column_text(stmt, 2);
        if (!data) {
            rc = SQLITE_NOMEM;
            break;
        }
        struct stream_event event = {
            .seq = (uint64_t)sqlite3_column_int64(stmt, 0),
            .type = event_type_name((enum event_type)sqlite3_column_int(stmt, 1)),
            .data = data,
            .size = (size_t)sqlite3_column_bytes(stmt, 2),
        };
        if (!cb(arg, &event))
            break;
        n++;
    }
    store_done(stmt);
    int r = store_result(stream->store, rc, NULL);
    return r < 0 ? r : n; /* out of memory: what was read counts, the rest comes next time */
}

int stream_last(struct stream *stream, const char *job, uint64_t *seqp, bool *endedp)
{
    sqlite3_stmt *stmt = store_prepare(
        stream->store, STORE_READER,
        "SELECT seq, type FROM events WHERE job = ?1 ORDER BY seq DESC LIMIT 1");
    if (!stmt)
        return store_prepare_error(stream->store, NULL);
    sqlite3_bind_text(stmt, 1, job, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    *seqp = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    *endedp = rc == SQLITE_ROW && sqlite3_column_int(stmt, 1) == EVENT_END;
    store_done(stmt);
    return store_result(stream->store, rc, NULL);
}

/* ---- subscribers ---- */

static struct topic *topic_new(struct stream *stream, const char *job)
{
    size_t n = strlen(job) + 1;
    struct topic *topic = calloc(1, sizeof *topic + n);
    if (!topic)
        return NULL;
    memcpy(topic->job, job, n);
    size_t b = bucket_of(job);
    topic->next = stream->buckets[b];
    stream->buckets[b] = topic;
    return topic;
}

struct stream_sub *stream_subscribe(struct stream *stream, const char *job,
                                    void (*cb)(void *arg), void *arg)
{
    struct stream_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return NULL;
    struct topic *topic = topic_find(stream, job);
    if (!topic)
        topic = topic_new(stream, job);
    if (!topic) {
        free(sub);
        return NULL;
    }
    *sub = (struct stream_sub){
        .stream = stream, .topic = topic, .next = topic->subs, .cb = cb, .arg = arg
    };
    if (sub->next)
        sub->next->prev = sub;
    topic->subs = sub;
    stream->n_subs++;
    return sub;
}

void stream_unsubscribe(struct stream_sub *sub)
{
    if (!sub)
        return;
    struct stream *stream = sub->stream;
    if (stream->walk_next == sub)
        stream->walk_next = sub->next;
    if (sub->next)
        sub->next->prev = sub->prev;
    if (sub->prev)
        sub->prev->next = sub->next;
    else
        sub->topic->subs = sub->next;
    struct topic *topic = sub->topic;
    free(sub);
    stream->n_subs--;
    topic_drop(stream, topic);
}

void stream_stats(const struct stream *stream, uint64_t *n_subsp, uint64_t *n_eventsp)
{
    *n_subsp = stream->n_subs;
    *n_eventsp = stream->n_events;
}
