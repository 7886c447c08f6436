/* Jobs: requests whose answers are handed out as structs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "internal.h"
#include "jobs.h"
#include "proto/job.h"

/* a job and everything that it points to */
struct job_box {
    struct dpc_job job; /* first: dpc_job_free finds the box */
    struct job_view *view;
    char *json;
};

struct jobs_box {
    struct dpc_jobs jobs; /* first */
    struct dpc_job *data;
    struct job_page *page;
    char *json;
};

enum dpc_job_status job_status_public(int status)
{
    /* the two lists have the same order; checked by the tests */
    return status >= JOB_STATUS_QUEUED && status <= JOB_STATUS_CANCELLED
               ? (enum dpc_job_status)status
               : DPC_JOB_UNKNOWN;
}

static void job_fill(struct dpc_job *job, const struct job_view *view)
{
    *job = (struct dpc_job){ .id = view->id,
                             .name = view->name,
                             .owner = view->owner,
                             .dataset = view->dataset,
                             .detail = view->detail,
                             .status = job_status_public((int)view->status),
                             .status_text = job_status_name(view->status),
                             .reason = job_reason_name(view->reason),
                             .attempt = view->attempt,
                             .queue_position = view->queue_position,
                             .created_at = view->created_at,
                             .started_at = view->started_at,
                             .finished_at = view->finished_at,
                             .step = -1,
                             .of = -1,
                             .loss = NAN,
                             .clip_fraction = NAN,
                             .eval_loss = NAN,
                             .eval_accuracy = NAN,
                             .epsilon = NAN,
                             .delta = NAN,
                             .noise_multiplier = NAN,
                             .sample_rate = NAN };
    if (view->progress) {
        job->step = view->progress->step;
        job->of = view->progress->of;
    }
    if (view->metrics) {
        job->loss = view->metrics->loss;
        job->clip_fraction = view->metrics->clip_fraction;
        job->eval_loss = view->metrics->eval_loss;
        job->eval_accuracy = view->metrics->eval_accuracy;
    }
    if (view->privacy) {
        job->epsilon = view->privacy->epsilon;
        job->delta = view->privacy->delta;
        job->noise_multiplier = view->privacy->noise_multiplier;
        job->sample_rate = view->privacy->sample_rate;
    }
}

static int decode_failed(struct dpc_error *err, int r, const struct problem *problem)
{
    if (r == PROTO_E_NOMEM)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    return client_fail(err, DPC_E_PROTOCOL, "the answer is not understood: %s",
                       problem->detail);
}

/* takes the answer's body */
static int job_open(struct http_answer *answer, struct dpc_job **jobp,
                    struct dpc_error *err)
{
    struct problem problem;
    struct job_box *box = calloc(1, sizeof *box);
    int r = box ? job_view_decode(&box->view, answer->body.text ? answer->body.text : "",
                                  answer->body.len, &problem)
                : PROTO_E_NOMEM;
    if (r) {
        free(box);
        answer_free(answer);
        return decode_failed(err, r, &problem);
    }
    box->json = answer->body.text;
    job_fill(&box->job, box->view);
    box->job.json = box->json;
    *jobp = &box->job;
    return DPC_OK;
}

void dpc_job_free(struct dpc_job *job)
{
    if (!job)
        return;
    struct job_box *box = (struct job_box *)job;
    job_view_free(box->view);
    free(box->json);
    free(box);
}

void dpc_jobs_free(struct dpc_jobs *jobs)
{
    if (!jobs)
        return;
    struct jobs_box *box = (struct jobs_box *)jobs;
    job_page_free(box->page);
    free(box->data);
    free(box->json);
    free(box);
}

/* runs the request, hands out the job in its answer; jobp may be NULL */
static int request_job(dpc_client *client, const struct http_request *request,
                       struct dpc_job **jobp, struct dpc_error *err)
{
    struct http_answer answer;
    struct dpc_job *job;
    if (jobp)
        *jobp = NULL;
    int r = http_expect_ok(client, request, &answer, err);
    if (r)
        return r;
    r = job_open(&answer, &job, err);
    if (r == DPC_OK && jobp)
        *jobp = job;
    else if (r == DPC_OK)
        dpc_job_free(job);
    return r;
}

static int make_key(char key[33])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return -1;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(key + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

int key_header(const char *key, char header[KEY_HEADER], struct dpc_error *err)
{
    char made[33];
    if (!key && make_key(made))
        return client_fail(err, DPC_E_INVALID, "no random numbers for an Idempotency-Key");
    key = key ? key : made;
    if (!key[0] || strlen(key) > 255 || key[strcspn(key, "\r\n")])
        return client_fail(err, DPC_E_INVALID,
                           "an Idempotency-Key has 1 to 255 characters");
    snprintf(header, KEY_HEADER, "Idempotency-Key: %s", key);
    return 0;
}

int dpc_submit(dpc_client *client, const char *spec, size_t len,
               const char *idempotency_key, struct dpc_job **jobp, struct dpc_error *err)
{
    char header[KEY_HEADER];
    *jobp = NULL;
    int r = key_header(idempotency_key, header, err);
    if (r)
        return r;
    struct http_request request = { .method = "POST",
                                    .path = "/jobs",
                                    .body = spec,
                                    .len = len,
                                    .headers = { header },
                                    .again = true };
    return request_job(client, &request, jobp, err);
}

/* METHOD /jobs/id rest; both methods are idempotent here */
static int job_call(dpc_client *client, const char *method, const char *id,
                    const char *rest, struct dpc_job **jobp, struct dpc_error *err)
{
    if (jobp)
        *jobp = NULL;
    char *path = path_of(err, "/jobs/", id, rest);
    if (!path)
        return err ? err->status : DPC_E_INVALID;
    struct http_request request = { .method = method, .path = path, .again = true };
    int r = request_job(client, &request, jobp, err);
    free(path);
    return r;
}

int dpc_get(dpc_client *client, const char *id, struct dpc_job **jobp,
            struct dpc_error *err)
{
    return job_call(client, "GET", id, "", jobp, err);
}

int dpc_cancel(dpc_client *client, const char *id, struct dpc_job **jobp,
               struct dpc_error *err)
{
    return job_call(client, "POST", id, "/cancel", jobp, err);
}

/* "?name=value" or "&name=value" with the value escaped; does nothing for NULL */
static int query_add(struct buffer *path, const char *name, const char *value)
{
    if (!value)
        return 0;
    char *escaped = curl_easy_escape(NULL, value, 0);
    bool first = strchr(path->text, '?') == NULL;
    int failed = !escaped || buffer_append(path, first ? "?" : "&", 1, ANSWER_MAX) ||
                 buffer_append(path, name, strlen(name), ANSWER_MAX) ||
                 buffer_append(path, "=", 1, ANSWER_MAX) ||
                 buffer_append(path, escaped, strlen(escaped), ANSWER_MAX);
    curl_free(escaped);
    return failed ? -1 : 0;
}

static int list_path(struct buffer *path, const struct dpc_filter *f)
{
    char limit[16];
    if (buffer_append(path, "/jobs", 5, ANSWER_MAX))
        return -1;
    if (!f)
        return 0;
    snprintf(limit, sizeof limit, "%d", f->limit);
    return query_add(path, "status", f->status) || query_add(path, "dataset", f->dataset) ||
           query_add(path, "owner", f->owner) || query_add(path, "after", f->after) ||
           query_add(path, "limit", f->limit > 0 ? limit : NULL);
}

/* takes the answer's body */
static int jobs_open(struct http_answer *answer, struct dpc_jobs **jobsp,
                     struct dpc_error *err)
{
    struct problem problem;
    struct jobs_box *box = calloc(1, sizeof *box);
    int r = box ? job_page_decode(&box->page, answer->body.text ? answer->body.text : "",
                                  answer->body.len, &problem)
                : PROTO_E_NOMEM;
    if (r == 0) {
        size_t n = box->page->n_data;
        box->data = calloc(n ? n : 1, sizeof *box->data);
        r = box->data ? 0 : PROTO_E_NOMEM;
    }
    if (r) {
        if (box)
            job_page_free(box->page);
        free(box);
        answer_free(answer);
        return decode_failed(err, r, &problem);
    }
    for (size_t i = 0; i < box->page->n_data; i++)
        job_fill(&box->data[i], &box->page->data[i]);
    box->json = answer->body.text;
    box->jobs = (struct dpc_jobs){ .n = box->page->n_data,
                                   .jobs = box->data,
                                   .has_more = box->page->has_more,
                                   .json = box->json };
    *jobsp = &box->jobs;
    return DPC_OK;
}

int dpc_list(dpc_client *client, const struct dpc_filter *filter, struct dpc_jobs **jobsp,
             struct dpc_error *err)
{
    struct buffer path = { 0 };
    struct http_answer answer;
    *jobsp = NULL;
    if (list_path(&path, filter)) {
        buffer_free(&path);
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    }
    struct http_request request = { .method = "GET", .path = path.text, .again = true };
    int r = http_expect_ok(client, &request, &answer, err);
    buffer_free(&path);
    return r ? r : jobs_open(&answer, jobsp, err);
}
