#include "http/work.h"

#include <stdlib.h>

#include "http/reply.h"
#include "http/server.h"

struct work {
    uv_work_t uv;
    struct work *prev, *next; /* of the server's list, while the thread is at work */
    struct http_server *server;
    struct request *req; /* NULL: nobody waits any more */
    const struct work_kind *kind;
    void *arg;
    bool finished;
};

static void work_free(struct work *work)
{
    work->kind->free(work->arg);
    free(work);
}

static void run(uv_work_t *uv)
{
    struct work *work = uv->data;
    work->kind->run(work->arg);
}

static void list_remove(struct work *work)
{
    *(work->prev != NULL ? &work->prev->next : &work->server->works) = work->next;
    if (work->next != NULL)
        work->next->prev = work->prev;
    work->server->n_works--;
}

static void after(uv_work_t *uv, int status)
{
    struct work *work = uv->data;
    (void)status; /* nobody cancels */
    list_remove(work);
    work->finished = true;
    if (work->req == NULL)
        work_free(work);
    else
        server_continue(work->req, 0);
}

static enum MHD_Result give_answer(struct request *req)
{
    return req->work->kind->answer(req, req->work->arg);
}

static enum MHD_Result give_up(struct request *req)
{
    return reply_error(req, PROBLEM_DRAINING, NULL);
}

enum MHD_Result work_reply(struct request *req, const struct work_kind *kind, void *arg)
{
    struct http_server *server = req->server;
    bool full = server->n_works >= WORK_MAX;
    struct work *work = full ? NULL : calloc(1, sizeof *work);
    if (work == NULL) {
        kind->free(arg);
        return reply_error(req, full ? PROBLEM_OVERLOADED : PROBLEM_OUT_OF_MEMORY,
                           full ? "%d such requests are under way" : NULL, WORK_MAX);
    }
    *work = (struct work){ .server = server,
                           .req = req,
                           .kind = kind,
                           .arg = arg,
                           .next = server->works };
    work->uv.data = work;
    if (work->next != NULL)
        work->next->prev = work;
    server->works = work;
    server->n_works++;
    req->work = work;
    uv_queue_work(server->loop, &work->uv, run, after); /* fails only without a function */
    return server_park(req, give_answer);
}

void work_detach(struct request *req)
{
    struct work *work = req->work;
    req->work = NULL;
    if (work == NULL)
        return;
    work->req = NULL;
    if (work->finished)
        work_free(work);
}

void work_abandon_all(struct http_server *server)
{
    for (struct work *work = server->works; work != NULL; work = work->next) {
        struct request *req = work->req;
        if (req == NULL)
            continue;
        work_detach(req);
        req->on_commit = give_up;
        server_continue(req, 0);
    }
}
