/* POST /jobs, GET /jobs */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "http/work.h"
#include "job/jobs.h"
#include "proto/job_spec.h"

/* A submission on its way: the plan of one that names files is made on a thread. */
struct submission {
    struct job_spec *spec;
    struct jobs_prepared *prepared; /* NULL: nothing was prepared */
    bool dry;
};

static enum MHD_Result submission_answer(struct request *req, void *arg)
{
    struct submission *s = arg;
    struct problem p;
    struct answer answer = { 0 };
    char location[64];
    problem_init(&p);
    if (s->dry) {
        int r = jobs_dry_run(req->services->jobs, s->spec, request_viewer(req), s->prepared,
                             &answer, &p);
        return reply_result(req, r, &answer, &p);
    }
    struct jobs_submit submit = { .owner = req->who.owner,
                                  .key = request_header(req, "Idempotency-Key"),
                                  .spec = s->spec,
                                  .viewer = request_viewer(req),
                                  .prepared = s->prepared };
    crypto_hash_sha256(submit.fingerprint, (const unsigned char *)req->body, req->n_body);
    int r = jobs_submit(req->services->jobs, &submit, &answer, &p);
    snprintf(location, sizeof location, "/jobs/%s", submit.id);
    req->replayed = submit.replayed;
    return reply_change(req, r, 201, &answer, location, &p);
}

static void submission_run(void *arg)
{
    struct submission *s = arg;
    jobs_prepared_run(s->prepared);
}

static void submission_free(void *arg)
{
    struct submission *s = arg;
    jobs_prepared_free(s->prepared);
    job_spec_free(s->spec);
    free(s);
}

/* Takes spec. What cannot be prepared is refused by the submission itself, unless it answers an
 * earlier one again. */
static enum MHD_Result submit(struct request *req, struct job_spec *spec, bool dry)
{
    static const struct work_kind kind = { submission_run, submission_answer, submission_free };
    struct problem p;
    struct submission *s = calloc(1, sizeof *s);
    problem_init(&p);
    if (s == NULL) {
        job_spec_free(spec);
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    }
    *s = (struct submission){ .spec = spec, .dry = dry };
    if (jobs_names_files(spec) && jobs_prepare(req->services->jobs, spec, request_viewer(req),
                                               &s->prepared, &p) == 0)
        return work_reply(req, &kind, s);
    enum MHD_Result r = submission_answer(req, s);
    submission_free(s);
    return r;
}

enum MHD_Result route_job_submit(struct request *req)
{
    struct problem p;
    bool dry = false;
    const char *key;
    struct job_spec *spec = NULL;
    problem_init(&p);
    if (!request_param_flag(req, "dry_run", &dry, &p))
        return reply_problem(req, &p, NULL);
    if (!request_key(req, &key, &p))
        return reply_problem(req, &p, NULL);
    if (job_spec_decode(&spec, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    return submit(req, spec, dry);
}

enum MHD_Result route_job_list(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    int64_t limit = 20;
    const char *viewer = request_viewer(req);
    struct jobs_filter filter = { .status = request_param(req, "status"),
                                  .dataset = request_param(req, "dataset"),
                                  .owner = request_param(req, "owner"),
                                  .after = request_param(req, "after") };
    problem_init(&p);
    if (!request_param_int(req, "limit", 1, 100, &limit, &p))
        return reply_problem(req, &p, NULL);
    if (filter.status != NULL && job_status_parse(filter.status) == 0)
        return reply_error(req, PROBLEM_BAD_REQUEST, "parameter status: no such status");
    if (viewer != NULL && filter.owner != NULL && strcmp(filter.owner, viewer) != 0)
        return reply_error(req, PROBLEM_FORBIDDEN, "a submitter lists its own jobs");
    if (viewer != NULL)
        filter.owner = viewer;
    filter.limit = (int)limit;
    int r = jobs_list(req->services->jobs, &filter, &answer, &p);
    return reply_page(req, r, &answer, "id", &p);
}
