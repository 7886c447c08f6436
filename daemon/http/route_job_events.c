/* GET /jobs/{id}/events: a stream for who accepts text/event-stream, a JSON page otherwise. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "http/sse.h"
#include "job/jobs.h"
#include "stream/stream.h"

enum { OFFER_STREAM = 1, PAGE_BYTES_MAX = 4 << 20 };

/* A page under construction. */
struct page {
    char *text;
    size_t n, cap;
    int count;
    bool failed;
};

static void page_put(struct page *page, const char *text, size_t n)
{
    if (n > page->cap - page->n) {
        size_t cap = 2 * (page->n + n) + 256;
        char *grown = realloc(page->text, cap);
        page->failed |= grown == NULL;
        if (page->failed)
            return;
        page->text = grown;
        page->cap = cap;
    }
    memcpy(page->text + page->n, text, n);
    page->n += n;
}

static bool on_event(void *arg, const struct stream_event *event)
{
    struct page *page = arg;
    if (page->n > PAGE_BYTES_MAX)
        return false;
    if (page->count++ > 0)
        page_put(page, ",", 1);
    page_put(page, event->data, event->size);
    return !page->failed;
}

static enum MHD_Result reply_events(struct request *req, uint64_t after, uint64_t last,
                                    int limit)
{
    static const char head[] = "{\"object\":\"list\",\"data\":[";
    struct page page = { 0 };
    struct answer answer = { 0 };
    page_put(&page, head, sizeof head - 1);
    int n = stream_read(req->services->stream, req->args[0], after, limit, on_event, &page);
    bool more = n > 0 && after + (uint64_t)n < last;
    const char *tail = more ? "],\"has_more\":true}" : "],\"has_more\":false}";
    page_put(&page, tail, strlen(tail));
    if (n < 0 || page.failed) {
        free(page.text);
        return reply_error(req, n < 0 ? PROBLEM_INTERNAL : PROBLEM_OUT_OF_MEMORY, NULL);
    }
    answer.text = page.text;
    answer.size = page.n;
    return reply_page(req, 0, &answer, "id", NULL);
}

/* The cursor: Last-Event-ID wins, because a browser repeats the URL when it reconnects. */
static bool read_cursor(const struct request *req, int64_t *after, struct problem *p)
{
    const char *text = request_header(req, "Last-Event-ID");
    if (text == NULL || *text == '\0')
        return request_param_int(req, "after", 0, INT64_MAX, after, p);
    char *end;
    errno = 0;
    *after = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && errno == 0)
        return true;
    problem_set(p, PROBLEM_BAD_REQUEST, "Last-Event-ID: expected the number of an event");
    return false;
}

enum MHD_Result route_job_events(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    int64_t after = 0, limit = 100;
    uint64_t last = 0;
    bool ended = false;
    problem_init(&p);
    if (!read_cursor(req, &after, &p) || !request_param_int(req, "limit", 1, 1000, &limit, &p))
        return reply_problem(req, &p, NULL);
    /* whether there is such a job, and whether the caller may see it */
    int r = jobs_get(req->services->jobs, req->args[0], request_viewer(req), &answer, &p);
    answer_clear(&answer);
    if (r == 0)
        r = stream_last(req->services->stream, req->args[0], &last, &ended);
    if (r != 0)
        return reply_result(req, r, &answer, &p);
    if ((uint64_t)after > last)
        return reply_error(req, PROBLEM_BAD_REQUEST, "the last event is %llu",
                           (unsigned long long)last);
    if (req->offer != OFFER_STREAM)
        return reply_events(req, (uint64_t)after, last, (int)limit);
    if (ended && (uint64_t)after == last)
        return reply_empty(req, 204, NULL);
    return sse_reply(req, req->args[0], (uint64_t)after);
}
