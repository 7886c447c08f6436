#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "run/run.h"

enum { EVENTS_WAITING_MAX = 64, NOMEM_MS = 100 };

enum message_kind { MESSAGE_LEASE, MESSAGE_EVENT, MESSAGE_END };

/* From a worker to the loop. */
struct message {
    struct message *next;
    struct run *run;
    enum message_kind kind;
    int64_t from, to;
    struct run_event *event;
    struct run_result result;
};

struct run_executor {
    uv_async_t async;
    pthread_mutex_t lock; /* of the queue and of every run's answers */
    struct message *first, **last;
};

struct run {
    struct run_port port; /* first: the port is the run */
    struct run_executor *executor;
    const struct run_spec *spec;
    struct run_hooks hooks;
    void *arg;
    pthread_t thread;
    pthread_cond_t cond;
    /* under the executor's lock */
    bool answered, aborted;
    enum run_lease answer;
    enum run_stop stop;
    int events_waiting; /* that are not done */
    struct message end; /* its room is there whatever happens to memory */
    struct message lease;
};

/* ---- the worker's side ---- */

static void push(struct run *run, struct message *message)
{
    struct run_executor *ex = run->executor;
    message->run = run;
    message->next = NULL;
    *ex->last = message;
    ex->last = &message->next;
}

static enum run_lease port_lease(struct run_port *port, int64_t from, int64_t to)
{
    struct run *run = (struct run *)port;
    pthread_mutex_lock(&run->executor->lock);
    run->answered = false;
    run->lease = (struct message){ .kind = MESSAGE_LEASE, .from = from, .to = to };
    push(run, &run->lease);
    uv_async_send(&run->executor->async);
    while (!run->answered && !run->aborted)
        pthread_cond_wait(&run->cond, &run->executor->lock);
    enum run_lease answer = run->aborted ? RUN_LEASE_FENCED : run->answer;
    pthread_mutex_unlock(&run->executor->lock);
    return answer;
}

static void keep(const char **text, char room[RUN_TEXT_SIZE])
{
    if (!*text)
        return;
    size_t n = strnlen(*text, RUN_TEXT_SIZE - 1);
    memcpy(room, *text, n);
    room[n] = '\0';
    *text = room;
}

/* Events borrow their texts: here they are copied. */
static void copy_event(struct run_event *to, const struct event *from)
{
    to->event = *from;
    switch (from->type) {
    case EVENT_EVAL: keep(&to->event.eval.split, to->text[0]); break;
    case EVENT_CHECKPOINT: keep(&to->event.checkpoint.sha256, to->text[0]); break;
    case EVENT_WARNING: keep(&to->event.warning.message, to->text[0]); break;
    case EVENT_ARTIFACT:
        keep(&to->event.artifact.name, to->text[0]);
        keep(&to->event.artifact.sha256, to->text[1]);
        break;
    default: break;
    }
}

static struct timespec deadline(int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += (time_t)(ms / 1000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return until;
}

static struct message *message_free(struct message *m)
{
    if (m)
        free(m->event);
    free(m);
    return NULL;
}

static struct message *message_new(void)
{
    struct message *m = calloc(1, sizeof *m);
    if (m)
        m->event = calloc(1, sizeof *m->event);
    return m && m->event ? m : message_free(m);
}

/* A message for an event; waits for memory. NULL: the run is being aborted. With the lock. */
static struct message *message_wait(struct run *run)
{
    struct message *m;
    while (!(m = message_new()) && !run->aborted) {
        struct timespec until = deadline(NOMEM_MS);
        pthread_cond_timedwait(&run->cond, &run->executor->lock, &until);
    }
    return m;
}

/* No event is lost: a worker that is faster than the log waits for it, and one that finds no
 * memory waits for that. Only a process that ends in failure forgets them, with the run. */
static void port_event(struct run_port *port, const struct event *event)
{
    struct run *run = (struct run *)port;
    pthread_mutex_lock(&run->executor->lock);
    struct message *m = message_wait(run);
    while (run->events_waiting >= EVENTS_WAITING_MAX && !run->aborted)
        pthread_cond_wait(&run->cond, &run->executor->lock);
    if (run->aborted)
        m = message_free(m);
    if (m) {
        m->kind = MESSAGE_EVENT;
        copy_event(m->event, event);
        run->events_waiting++;
        push(run, m);
        uv_async_send(&run->executor->async);
    }
    pthread_mutex_unlock(&run->executor->lock);
}

static enum run_stop port_stop(struct run_port *port)
{
    struct run *run = (struct run *)port;
    pthread_mutex_lock(&run->executor->lock);
    enum run_stop stop = run->stop;
    pthread_mutex_unlock(&run->executor->lock);
    return stop;
}

static void port_wait(struct run_port *port, int64_t ms)
{
    struct run *run = (struct run *)port;
    struct timespec until = deadline(ms);
    pthread_mutex_lock(&run->executor->lock);
    while (run->stop == RUN_GO &&
           pthread_cond_timedwait(&run->cond, &run->executor->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&run->executor->lock);
}

static void *work(void *arg)
{
    struct run *run = arg;
    struct run_result result = attempt_run(run->spec, &run->port);
    pthread_mutex_lock(&run->executor->lock);
    run->end = (struct message){ .kind = MESSAGE_END, .result = result };
    push(run, &run->end);
    uv_async_send(&run->executor->async);
    pthread_mutex_unlock(&run->executor->lock);
    return NULL;
}

/* ---- the loop's side ---- */

static void deliver(struct message *m)
{
    struct run *run = m->run;
    switch (m->kind) {
    case MESSAGE_LEASE: run->hooks.lease(run->arg, m->from, m->to); return;
    case MESSAGE_EVENT:
        run->hooks.event(run->arg, steal(&m->event));
        message_free(m);
        return;
    case MESSAGE_END:
        pthread_join(run->thread, NULL);
        run->hooks.end(run->arg, &m->result);
        pthread_cond_destroy(&run->cond);
        free(run); /* m lies inside */
        return;
    }
}

static void receive(uv_async_t *async)
{
    struct run_executor *ex = async->data;
    pthread_mutex_lock(&ex->lock);
    struct message *m = steal(&ex->first);
    ex->last = &ex->first;
    pthread_mutex_unlock(&ex->lock);
    while (m) {
        struct message *next = m->next;
        deliver(m);
        m = next;
    }
}

struct run_executor *run_thread_new(uv_loop_t *loop)
{
    struct run_executor *ex = calloc(1, sizeof *ex);
    if (!ex)
        return NULL;
    ex->last = &ex->first;
    pthread_mutex_init(&ex->lock, NULL);
    if (uv_async_init(loop, &ex->async, receive) != 0) {
        free(ex);
        return NULL;
    }
    ex->async.data = ex;
    return ex;
}

static void closed(uv_handle_t *handle)
{
    struct run_executor *ex = handle->data;
    pthread_mutex_destroy(&ex->lock);
    free(ex);
}

void run_thread_free(struct run_executor *executor)
{
    if (executor)
        uv_close((uv_handle_t *)&executor->async, closed);
}

/* Signals are the loop's: a worker takes none. */
static int start_thread(struct run *run)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&run->thread, NULL, work, run);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

int run_start(struct run_executor *executor, const struct run_spec *spec,
              const struct run_hooks *hooks, void *arg, struct run **runp)
{
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return -ENOMEM;
    run->port = (struct run_port){ port_lease, port_event, port_stop, port_wait };
    run->executor = executor;
    run->spec = spec;
    run->hooks = *hooks;
    run->arg = arg;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&run->cond, &attr);
    pthread_condattr_destroy(&attr);
    *runp = run; /* the worker may end before pthread_create returns here */
    int r = start_thread(run);
    if (r < 0) {
        pthread_cond_destroy(&run->cond);
        free(run);
        *runp = NULL;
    }
    return r;
}

void run_grant(struct run *run, enum run_lease answer)
{
    pthread_mutex_lock(&run->executor->lock);
    run->answer = answer;
    run->answered = true;
    pthread_cond_broadcast(&run->cond);
    pthread_mutex_unlock(&run->executor->lock);
}

void run_event_done(struct run *run, struct run_event *event)
{
    free(event);
    if (!run)
        return;
    pthread_mutex_lock(&run->executor->lock);
    if (run->events_waiting-- == EVENTS_WAITING_MAX)
        pthread_cond_broadcast(&run->cond);
    pthread_mutex_unlock(&run->executor->lock);
}

void run_stop(struct run *run, enum run_stop how)
{
    pthread_mutex_lock(&run->executor->lock);
    if (how > run->stop)
        run->stop = how;
    pthread_cond_broadcast(&run->cond);
    pthread_mutex_unlock(&run->executor->lock);
}

static void forget_messages(struct run *run)
{
    struct run_executor *ex = run->executor;
    for (struct message **at = &ex->first; *at;) {
        struct message *m = *at;
        if (m->run != run) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        if (m->kind == MESSAGE_EVENT)
            message_free(m);
    }
    ex->last = &ex->first;
    while (*ex->last)
        ex->last = &(*ex->last)->next;
}

void run_abort(struct run *run)
{
    struct run_executor *ex = run->executor;
    pthread_mutex_lock(&ex->lock);
    run->aborted = true;
    run->stop = RUN_STOP_CANCEL;
    pthread_cond_broadcast(&run->cond);
    pthread_mutex_unlock(&ex->lock);
    pthread_join(run->thread, NULL);
    pthread_mutex_lock(&ex->lock);
    forget_messages(run);
    pthread_mutex_unlock(&ex->lock);
    pthread_cond_destroy(&run->cond);
    free(run);
}
