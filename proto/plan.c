#include "proto/plan.h"

#include <string.h>

#include "dataset.h"
#include "event.h"
#include "job.h"
#include "job_spec.h"
#include "plan.h"

static const struct proto_field layer_fields[] = {
    { PROTO_AT(plan_layer, path), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(plan_layer, op), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_LIST(plan_layer, shape), .kind = PROTO_INTS },
    { PROTO_AT(plan_layer, params), .kind = PROTO_INT },
    { PROTO_AT(plan_layer, route), .kind = PROTO_STRING },
};

static const struct proto_message layer_message = { .name = "PlanLayer",
                                                    .size = sizeof(struct plan_layer),
                                                    .fields = layer_fields,
                                                    .n_fields = PROTO_COUNT(layer_fields) };

static const struct proto_field warning_fields[] = {
    { PROTO_AT(plan_warning, code), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = warning_code_names },
    { PROTO_AT(plan_warning, message), .kind = PROTO_STRING },
};

static const struct proto_message warning_message = { .name = "PlanWarning",
                                                      .size = sizeof(struct plan_warning),
                                                      .fields = warning_fields,
                                                      .n_fields =
                                                          PROTO_COUNT(warning_fields) };

static const char *const plan_text[] = { "plan", NULL };

static const struct proto_field plan_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = plan_text },
    { PROTO_AT(plan_view, dataset), .kind = PROTO_STRING },
    { PROTO_AT(plan_view, parameters), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(plan_view, trainable_parameters), .kind = PROTO_INT },
    { PROTO_AT(plan_view, memory_bytes), .kind = PROTO_INT },
    { PROTO_AT(plan_view, steps), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(plan_view, sample_rate), .kind = PROTO_REAL },
    { PROTO_AT(plan_view, expected_batch_size), .kind = PROTO_REAL },
    { PROTO_AT(plan_view, unit), .kind = PROTO_ENUM, .names = unit_names },
    { PROTO_AT(plan_view, noise_multiplier), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(plan_view, epsilon), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(plan_view, delta), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(plan_view, accountant), .kind = PROTO_ENUM, .names = accountant_names },
    { PROTO_AT(plan_view, available_epsilon), .kind = PROTO_REAL, .flags = PROTO_NULLABLE },
    { PROTO_AT(plan_view, fits), .kind = PROTO_BOOL },
    { PROTO_AT(plan_view, max_steps_that_fit), .kind = PROTO_INT },
    { PROTO_AT(plan_view, device), .kind = PROTO_CUSTOM, .custom = &device_custom },
    { PROTO_AT(plan_view, grad_sample_mode), .kind = PROTO_ENUM,
      .names = grad_sample_mode_names },
    { PROTO_LIST(plan_view, layers), .kind = PROTO_OBJECTS, .message = &layer_message },
    { PROTO_LIST(plan_view, warnings), .kind = PROTO_OBJECTS, .message = &warning_message },
    { PROTO_AT(plan_view, spec), .kind = PROTO_OBJECT, .message = &job_spec_message },
};

const struct proto_message plan_view_message = { .name = "Plan",
                                                 .size = sizeof(struct plan_view),
                                                 .fields = plan_fields,
                                                 .n_fields = PROTO_COUNT(plan_fields) };

PROTO_DEFINE_LENIENT(plan_view, plan_view_message)

void plan_view_init(struct plan_view *plan)
{
    memset(plan, 0, sizeof *plan);
    proto_defaults(&plan_view_message, plan, 0);
}
