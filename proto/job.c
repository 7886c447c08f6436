#include "proto/job.h"

#include <string.h>

#include "job.h"
#include "job_spec.h"

const char *const list_text[] = { "list", NULL };

const char *const job_status_names[] = { "",       "queued",     "running",
                                         "paused", "cancelling", "succeeded",
                                         "failed", "cancelled",  NULL };

const char *const job_reason_names[] = { "",
#define REASON(name, text, sentence) text,
#include "proto/error.inc"
                                         NULL };

static const struct proto_field progress_fields[] = {
    { PROTO_AT(job_progress, step), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(job_progress, of), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(job_progress, epoch), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_progress, examples_per_s), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_progress, eta_s), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
};

static const struct proto_message progress_message = { .name = "JobProgress",
                                                       .size = sizeof(struct job_progress),
                                                       .fields = progress_fields,
                                                       .n_fields =
                                                           PROTO_COUNT(progress_fields) };

static const struct proto_field metrics_fields[] = {
    { PROTO_AT(job_metrics, step), .kind = PROTO_INT },
    { PROTO_AT(job_metrics, loss), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_metrics, clip_fraction), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_metrics, lr), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_metrics, eval_step), .kind = PROTO_INT },
    { PROTO_AT(job_metrics, eval_loss), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_metrics, eval_accuracy), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { .name = "private",
      .offset = offsetof(struct job_metrics, is_private),
      .kind = PROTO_BOOL,
      .flags = PROTO_OMIT_FALSE },
};

static const struct proto_message metrics_message = { .name = "JobMetrics",
                                                      .size = sizeof(struct job_metrics),
                                                      .fields = metrics_fields,
                                                      .n_fields =
                                                          PROTO_COUNT(metrics_fields) };

static const struct proto_field cost_fields[] = {
    { PROTO_AT(privacy_cost, epsilon), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_NULLABLE },
    { PROTO_AT(privacy_cost, delta), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(privacy_cost, accountant), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = accountant_names },
    { PROTO_AT(privacy_cost, noise_multiplier), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED },
    { PROTO_AT(privacy_cost, sample_rate), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(privacy_cost, steps), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(privacy_cost, poisson_sampling), .kind = PROTO_BOOL },
    { PROTO_AT(privacy_cost, epsilon_at_end), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
};

static const struct proto_message cost_message = { .name = "PrivacyCost",
                                                   .size = sizeof(struct privacy_cost),
                                                   .fields = cost_fields,
                                                   .n_fields = PROTO_COUNT(cost_fields) };

static const struct proto_field job_fields[] = {
    { PROTO_AT(job_view, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(job_view, name), .kind = PROTO_STRING },
    { PROTO_AT(job_view, owner), .kind = PROTO_STRING },
    { PROTO_AT(job_view, dataset), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(job_view, status), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = job_status_names },
    { PROTO_AT(job_view, reason), .kind = PROTO_ENUM, .names = job_reason_names },
    { PROTO_AT(job_view, detail), .kind = PROTO_STRING },
    { PROTO_AT(job_view, attempt), .kind = PROTO_INT },
    { PROTO_AT(job_view, queue_position), .kind = PROTO_INT },
    { PROTO_AT(job_view, created_at), .kind = PROTO_TIME },
    { PROTO_AT(job_view, status_since), .kind = PROTO_TIME },
    { PROTO_AT(job_view, started_at), .kind = PROTO_TIME },
    { PROTO_AT(job_view, finished_at), .kind = PROTO_TIME },
    { PROTO_AT(job_view, device), .kind = PROTO_CUSTOM, .custom = &device_custom },
    { PROTO_AT(job_view, grad_sample_mode), .kind = PROTO_ENUM,
      .names = grad_sample_mode_names },
    { PROTO_AT(job_view, progress), .kind = PROTO_OBJECT, .message = &progress_message },
    { PROTO_AT(job_view, metrics), .kind = PROTO_OBJECT, .message = &metrics_message },
    { PROTO_AT(job_view, privacy), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &cost_message },
    { PROTO_AT(job_view, spec), .kind = PROTO_OBJECT, .message = &job_spec_message },
};

const struct proto_message job_view_message = { .name = "Job",
                                                .size = sizeof(struct job_view),
                                                .fields = job_fields,
                                                .n_fields = PROTO_COUNT(job_fields) };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(job_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &job_view_message },
    { PROTO_AT(job_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message job_page_message = { .name = "JobPage",
                                                .size = sizeof(struct job_page),
                                                .fields = page_fields,
                                                .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_LENIENT(job_view, job_view_message)
PROTO_DEFINE_LENIENT(job_page, job_page_message)

void job_view_init(struct job_view *job)
{
    memset(job, 0, sizeof *job);
    proto_defaults(&job_view_message, job, 0);
}

void job_progress_init(struct job_progress *progress)
{
    memset(progress, 0, sizeof *progress);
    proto_defaults(&progress_message, progress, 0);
}

void job_metrics_init(struct job_metrics *metrics)
{
    memset(metrics, 0, sizeof *metrics);
    proto_defaults(&metrics_message, metrics, 0);
}

void privacy_cost_init(struct privacy_cost *cost)
{
    memset(cost, 0, sizeof *cost);
    proto_defaults(&cost_message, cost, 0);
}

const char *job_status_name(enum job_status status)
{
    return (unsigned)status < PROTO_COUNT(job_status_names) - 1 ? job_status_names[status]
                                                                : "";
}

enum job_status job_status_parse(const char *text)
{
    return (enum job_status)proto_enum_parse(job_status_names, text);
}

bool job_status_terminal(enum job_status status)
{
    return status >= JOB_STATUS_SUCCEEDED;
}

const char *job_reason_name(enum job_reason reason)
{
    return (unsigned)reason < JOB_REASON_N ? job_reason_names[reason] : "";
}

enum job_reason job_reason_parse(const char *text)
{
    return (enum job_reason)proto_enum_parse(job_reason_names, text);
}

const char *job_reason_sentence(enum job_reason reason)
{
    static const char *const sentences[] = {
        "",
#define REASON(name, text, sentence) sentence,
#include "proto/error.inc"
    };
    return (unsigned)reason < JOB_REASON_N ? sentences[reason] : "";
}
