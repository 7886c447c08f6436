/* A job as clients see it: answer of POST /jobs and GET /jobs/{id}, and the page of GET
 * /jobs. Decoding ignores members that are not known, so that older clients read newer
 * daemons. */
#ifndef PROTO_JOB_H
#define PROTO_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/job_spec.h"
#include "proto/problem.h"

/*  queued -> running <-> paused,  running -> cancelling,
 *  and from any of them to succeeded | failed | cancelled */
enum job_status {
    JOB_STATUS_QUEUED = 1,
    JOB_STATUS_RUNNING,
    JOB_STATUS_PAUSED,
    JOB_STATUS_CANCELLING,
    JOB_STATUS_SUCCEEDED,
    JOB_STATUS_FAILED,
    JOB_STATUS_CANCELLED
};

enum job_reason {
    JOB_REASON_NONE = 0,
#define REASON(name, text, sentence) JOB_REASON_##name,
#include "proto/error.inc"
    JOB_REASON_N
};

struct job_progress {
    int64_t step;          /* steps done */
    int64_t of;            /* steps in all */
    double epoch;          /* NAN: not known */
    double examples_per_s; /* NAN: not known */
    double eta_s;          /* seconds that are left; NAN: not known */
};

/* latest values; those that the dataset's telemetry policy keeps are NAN */
struct job_metrics {
    int64_t step;
    double loss;
    double clip_fraction;
    double lr;
    int64_t eval_step; /* -1: never evaluated */
    double eval_loss;
    double eval_accuracy;
    bool is_private; /* "private": exact values of private data */
};

struct privacy_cost {
    double epsilon; /* spent so far; NAN is written as null: no bound */
    double delta;
    enum accountant_kind accountant;
    double noise_multiplier;
    double sample_rate;
    int64_t steps;         /* that epsilon accounts for */
    bool poisson_sampling; /* false: accounted without amplification */
    double epsilon_at_end; /* when all steps have run; NAN: not known */
};

struct job_view {
    const char *id;
    const char *name;  /* NULL: none */
    const char *owner; /* NULL: not known */
    const char *dataset;
    enum job_status status;
    enum job_reason reason; /* why it is in this status; 0: none */
    const char
        *detail;     /* a sentence for a failed job, never quoting a record; NULL: none */
    int64_t attempt; /* from 1; 0 before the first */
    int64_t queue_position; /* 1: next; -1: not queued */
    int64_t created_at;     /* milliseconds since 1970; all times */
    int64_t status_since;
    int64_t started_at;        /* -1: not yet */
    int64_t finished_at;       /* -1: not yet */
    struct device_spec device; /* that it runs on */
    enum grad_sample_mode grad_sample_mode;
    struct job_progress *progress; /* NULL: not started */
    struct job_metrics *metrics;   /* NULL: none yet */
    struct privacy_cost *privacy;  /* NULL: a job without privacy */
    struct job_spec *spec;         /* with defaults written out; NULL in pages */
};

struct job_page {
    size_t n_data;
    struct job_view *data;
    bool has_more;
};

/* Absent values everywhere; n bytes of struct job_view are overwritten. */
void job_view_init(struct job_view *job);
void job_progress_init(struct job_progress *progress);
void job_metrics_init(struct job_metrics *metrics);
void privacy_cost_init(struct privacy_cost *cost);

int job_view_decode(struct job_view **p, const char *text, size_t len,
                    struct problem *problem);
char *job_view_encode(const struct job_view *job, size_t *lenp);
struct job_view *job_view_free(struct job_view *job);
void job_view_freep(struct job_view **p);

int job_page_decode(struct job_page **p, const char *text, size_t len,
                    struct problem *problem);
char *job_page_encode(const struct job_page *page, size_t *lenp);
struct job_page *job_page_free(struct job_page *page);
void job_page_freep(struct job_page **p);

/* "" for a value outside of the list; parsing returns 0 for a text outside of it */
const char *job_status_name(enum job_status status);
enum job_status job_status_parse(const char *text);
bool job_status_terminal(enum job_status status);
const char *job_reason_name(enum job_reason reason);
enum job_reason job_reason_parse(const char *text);
const char *job_reason_sentence(enum job_reason reason);

#endif
