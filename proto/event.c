#include "proto/event.h"

#include <string.h>

#include "event.h"
#include "job.h"

#define E(type) (1u << EVENT_##type)

static const char *const event_names[] = { "",         "status",     "step",
                                           "eval",     "checkpoint", "warning",
                                           "artifact", "end",        NULL };

const char *const warning_code_names[] = { "",
#define WARNING(name, text, sentence) text,
#include "proto/error.inc"
                                           NULL };

#define AT(member, text) .name = text, .offset = offsetof(struct event, member)

static const struct proto_field event_fields[] = {
    { AT(id, "id"), .kind = PROTO_INT },
    { AT(type, "event"), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = event_names },
    { AT(at, "at"), .kind = PROTO_TIME },

    { AT(status.from, "from"), .kind = PROTO_ENUM, .tags = E(STATUS),
      .names = job_status_names },
    { AT(status.to, "to"), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED, .tags = E(STATUS),
      .names = job_status_names },
    { AT(status.reason, "reason"), .kind = PROTO_ENUM, .tags = E(STATUS),
      .names = job_reason_names },
    { AT(status.attempt, "attempt"), .kind = PROTO_INT, .tags = E(STATUS) },

    { AT(step.step, "step"), .kind = PROTO_INT, .flags = PROTO_REQUIRED, .tags = E(STEP) },
    { AT(step.of, "of"), .kind = PROTO_INT, .flags = PROTO_REQUIRED, .tags = E(STEP) },
    { AT(step.epoch, "epoch"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.loss, "loss"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE, .tags = E(STEP) },
    { AT(step.clip_fraction, "clip_fraction"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.grad_norm_p10, "grad_norm_p10"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.grad_norm_p50, "grad_norm_p50"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.grad_norm_p90, "grad_norm_p90"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.lr, "lr"), .kind = PROTO_REAL, .tags = E(STEP) },
    { AT(step.noise_multiplier, "noise_multiplier"), .kind = PROTO_REAL, .tags = E(STEP) },
    { AT(step.epsilon, "epsilon"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.delta, "delta"), .kind = PROTO_REAL, .tags = E(STEP) },
    { AT(step.expected_batch_size, "expected_batch_size"), .kind = PROTO_REAL,
      .tags = E(STEP) },
    { AT(step.examples_per_s, "examples_per_s"), .kind = PROTO_REAL,
      .flags = PROTO_NULLABLE, .tags = E(STEP) },
    { AT(step.eta_s, "eta_s"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(STEP) },
    { AT(step.is_private, "private"), .kind = PROTO_BOOL, .flags = PROTO_OMIT_FALSE,
      .tags = E(STEP) },

    { AT(eval.step, "step"), .kind = PROTO_INT, .flags = PROTO_REQUIRED, .tags = E(EVAL) },
    { AT(eval.split, "split"), .kind = PROTO_STRING, .tags = E(EVAL) },
    { AT(eval.loss, "loss"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE, .tags = E(EVAL) },
    { AT(eval.accuracy, "accuracy"), .kind = PROTO_REAL, .flags = PROTO_NULLABLE,
      .tags = E(EVAL) },

    { AT(checkpoint.step, "step"), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .tags = E(CHECKPOINT) },
    { AT(checkpoint.bytes, "bytes"), .kind = PROTO_INT, .tags = E(CHECKPOINT) },
    { AT(checkpoint.sha256, "sha256"), .kind = PROTO_STRING, .tags = E(CHECKPOINT) },

    { AT(warning.code, "code"), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .tags = E(WARNING), .names = warning_code_names },
    { AT(warning.message, "message"), .kind = PROTO_STRING, .tags = E(WARNING) },

    { AT(artifact.name, "name"), .kind = PROTO_STRING, .flags = PROTO_REQUIRED,
      .tags = E(ARTIFACT) },
    { AT(artifact.bytes, "bytes"), .kind = PROTO_INT, .tags = E(ARTIFACT) },
    { AT(artifact.sha256, "sha256"), .kind = PROTO_STRING, .tags = E(ARTIFACT) },

    { AT(end.status, "status"), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED, .tags = E(END),
      .names = job_status_names },
    { AT(end.reason, "reason"), .kind = PROTO_ENUM, .tags = E(END),
      .names = job_reason_names },
};

const struct proto_message event_message = { .name = "Event",
                                             .size = sizeof(struct event),
                                             .fields = event_fields,
                                             .n_fields = PROTO_COUNT(event_fields),
                                             .tag = "event" };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(event_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &event_message },
    { PROTO_AT(event_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message event_page_message = { .name = "EventPage",
                                                  .size = sizeof(struct event_page),
                                                  .fields = page_fields,
                                                  .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_LENIENT(event_page, event_page_message)
PROTO_DEFINE_LENIENT(event, event_message)

void event_init(struct event *event, enum event_type type)
{
    memset(event, 0, sizeof *event);
    proto_defaults(&event_message, event, 0);
    proto_defaults(&event_message, event, (int)type);
    event->type = type;
}

const char *event_type_name(enum event_type type)
{
    return (unsigned)type < PROTO_COUNT(event_names) - 1 ? event_names[type] : "";
}

enum event_type event_type_parse(const char *text)
{
    return (enum event_type)proto_enum_parse(event_names, text);
}

const char *warning_code_name(enum warning_code code)
{
    return (unsigned)code < WARNING_N ? warning_code_names[code] : "";
}

const char *warning_code_sentence(enum warning_code code)
{
    static const char *const sentences[] = {
        "",
#define WARNING(name, text, sentence) sentence,
#include "proto/error.inc"
    };
    return (unsigned)code < WARNING_N ? sentences[code] : "";
}
