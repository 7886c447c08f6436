/* GET /jobs/{id}, DELETE /jobs/{id}, POST /jobs/{id}/cancel */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "job/jobs.h"

enum MHD_Result route_job_get(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = jobs_get(req->services->jobs, req->args[0], request_viewer(req), &answer, &p);
    return reply_result(req, r, &answer, &p);
}

enum MHD_Result route_job_cancel(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = jobs_cancel(req->services->jobs, req->args[0], request_viewer(req), &answer, &p);
    return reply_change(req, r, 202, &answer, NULL, &p);
}

enum MHD_Result route_job_delete(struct request *req)
{
    struct problem p;
    problem_init(&p);
    int r = jobs_delete(req->services->jobs, req->args[0], request_viewer(req), &p);
    return reply_change(req, r, 204, NULL, NULL, &p);
}
