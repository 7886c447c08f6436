/* What takes longer than a turn of the loop may: done on one of libuv's threads, while the
 * connection is parked.
 *
 *   handler -> work_reply -> run(arg) on a thread -> the loop -> answer(req, arg) -> reply
 *                 '-> 503 when WORK_MAX are under way
 *
 * A client that leaves while its work is under way is noticed when the connection is resumed: then
 * nothing is answered, and nothing changes. Thread: the loop's. */
#ifndef DAEMON_HTTP_WORK_H
#define DAEMON_HTTP_WORK_H

#include "http/request.h"

/* as many as libuv has threads, unless it was told otherwise; each may hold a whole dataset */
enum { WORK_MAX = 4 };

struct work_kind {
    void (*run)(void *arg); /* on a thread: touches nothing but arg */
    enum MHD_Result (*answer)(struct request *req, void *arg);
    void (*free)(void *arg);
};

/* The handler's answer: queues an answer now, or does the work and lets kind->answer give it. Takes
 * arg. */
enum MHD_Result work_reply(struct request *req, const struct work_kind *kind, void *arg);

/* The request has ended, answered or not. */
void work_detach(struct request *req);

/* Answers what is still under way with 503, so that its connections can be closed; it goes on by
 * itself. */
void work_abandon_all(struct http_server *server);

#endif
