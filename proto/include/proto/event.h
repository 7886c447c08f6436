/* One event of a job's stream. The same line is the data of a server-sent event (with the
 * event's name and id before it) and an entry of the JSON page. */
#ifndef PROTO_EVENT_H
#define PROTO_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/job.h"
#include "proto/problem.h"

enum event_type {
    EVENT_UNKNOWN = 0, /* decoded from a newer daemon */
    EVENT_STATUS,
    EVENT_STEP,
    EVENT_EVAL,
    EVENT_CHECKPOINT,
    EVENT_WARNING,
    EVENT_ARTIFACT,
    EVENT_END
};

enum warning_code {
    WARNING_NONE = 0,
#define WARNING(name, text, sentence) WARNING_##name,
#include "proto/error.inc"
    WARNING_N
};

struct event_status {
    enum job_status from; /* 0: the job was created */
    enum job_status to;
    enum job_reason reason;
    int64_t attempt;
};

/* thinned to about 5 a second; values that the telemetry policy keeps are NAN */
struct event_step {
    int64_t step;
    int64_t of;
    double epoch;
    double loss;
    double clip_fraction;
    double grad_norm_p10, grad_norm_p50, grad_norm_p90;
    double lr;
    double noise_multiplier;
    double epsilon; /* spent with this step */
    double delta;
    double expected_batch_size;
    double examples_per_s; /* expected examples, averaged */
    double eta_s;
    bool is_private; /* "private": exact values of private data (telemetry raw) */
};

struct event_eval {
    int64_t step;
    const char *split;
    double loss;
    double accuracy;
};

struct event_checkpoint {
    int64_t step;
    int64_t bytes;
    const char *sha256; /* 64 hex digits */
};

struct event_warning {
    enum warning_code code;
    const char *message; /* NULL: the catalogue's sentence */
};

struct event_artifact {
    const char *name;
    int64_t bytes;
    const char *sha256;
};

struct event_end {
    enum job_status status;
    enum job_reason reason;
};

struct event {
    int64_t id; /* from 1 within the job, no gaps; -1: not numbered yet, left out */
    int64_t at; /* milliseconds since 1970; -1: left out */
    enum event_type type;
    union {
        struct event_status status;
        struct event_step step;
        struct event_eval eval;
        struct event_checkpoint checkpoint;
        struct event_warning warning;
        struct event_artifact artifact;
        struct event_end end;
    };
};

struct event_page {
    size_t n_data;
    struct event *data;
    bool has_more;
};

/* An event of this type whose members are all absent. */
void event_init(struct event *event, enum event_type type);

int event_decode(struct event **p, const char *text, size_t len, struct problem *problem);
char *event_encode(const struct event *event, size_t *lenp); /* one line */
struct event *event_free(struct event *event);
void event_freep(struct event **p);

int event_page_decode(struct event_page **p, const char *text, size_t len,
                      struct problem *problem);
char *event_page_encode(const struct event_page *page, size_t *lenp);
struct event_page *event_page_free(struct event_page *page);
void event_page_freep(struct event_page **p);

const char *event_type_name(enum event_type type); /* "" for unknown */
enum event_type event_type_parse(const char *text);
const char *warning_code_name(enum warning_code code);
const char *warning_code_sentence(enum warning_code code);

#endif
