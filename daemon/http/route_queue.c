/* GET /queue: the running jobs, then the waiting ones in their order. */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "job/jobs.h"

enum { QUEUE_MAX = 100 };

enum MHD_Result route_queue(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = jobs_queue(req->services->jobs, request_viewer(req), QUEUE_MAX, &answer, &p);
    return reply_result(req, r, &answer, &p);
}
