/* Events on their way from a worker to the log. One is let go only when it is durable: a batch
 * that found no room on the disk is told again, in the same order, and a worker far ahead of the
 * log waits meanwhile. */
#include "job/internal.h"

void jobs_hold_event(struct active *a, struct run_event *event)
{
    event->next = NULL;
    if (a->last_event)
        a->last_event->next = event;
    else
        a->first_event = event;
    a->last_event = event;
    if (!a->next_event)
        a->next_event = event;
}

/* Those before `end`; all for NULL. */
static void let_go(struct active *a, const struct run_event *end)
{
    while (a->first_event != end) {
        struct run_event *event = a->first_event;
        a->first_event = event->next;
        run_event_done(a->run, event);
    }
    if (!a->first_event)
        a->last_event = NULL;
}

void jobs_forget_events(struct active *a)
{
    let_go(a, NULL);
    a->next_event = NULL;
}

static void events_committed(void *arg, int r)
{
    struct active *a = arg;
    a->telling = false;
    if (r == 0)
        let_go(a, a->next_event);
    if (r <= 0)
        return;
    a->next_event = a->first_event;
    jobs_retry_later(a->jobs);
}

static int append(struct active *a, struct event *event, struct problem *p)
{
    int r = store_begin(a->jobs->store, p);
    if (r)
        return r;
    if (!a->telling) {
        r = store_on_commit(a->jobs->store, events_committed, a);
        a->telling = r == 0;
        r = r > 0 ? error_nomem(p) : r;
    }
    if (r == 0)
        r = stream_append(a->jobs->stream, a->row.id, event, p);
    if (r == 0 && event->type == EVENT_CHECKPOINT)
        r = jobs_clear_failures(a, p); /* a crash from here on goes on from a later step */
    return store_end(a->jobs->store, r, p);
}

bool jobs_tell_events(struct active *a)
{
    struct problem p;
    int r = 0;
    while (r == 0 && a->next_event) {
        r = append(a, &a->next_event->event, &p);
        if (r == 0)
            a->next_event = a->next_event->next;
    }
    if (r < 0)
        jobs_fail(a->jobs, r);
    else if (r > 0)
        jobs_retry_later(a->jobs);
    return r == 0;
}
