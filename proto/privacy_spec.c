/* "privacy" of a job spec */
#include <string.h>

#include "dataset.h"
#include "job_spec.h"

#define T(kind)    (1u << CLIPPING_##kind)
#define GROUPS_MAX 256
#define NORMS_MAX  4096

const char *const accountant_names[] = { "", "rdp", "gdp", "prv", NULL };
const char *const clipping_names[] = { "",         "flat",      "per_layer", "per_group",
                                       "adaptive", "automatic", NULL };
static const char *const variant_names[] = { "", "auto_s", "auto_v", NULL };
const char *const loss_reduction_names[] = { "", "mean", "sum", NULL };

/* a bound, or a list of them */
static void norms_decode(struct proto_decoder *d, const json_t *value, void *member)
{
    struct real_list *norms = member;
    bool list = json_is_array(value);
    size_t n = list ? json_array_size(value) : 1;
    if (n == 0 || n > NORMS_MAX) {
        proto_fail(d, n ? ITEM_TOO_MANY : ITEM_TOO_FEW, "needs 1 to %d numbers", NORMS_MAX);
        return;
    }
    double *data = proto_alloc(d, n, sizeof *data);
    for (size_t i = 0; data && i < n; i++) {
        const json_t *element = list ? json_array_get(value, i) : value;
        data[i] = json_number_value(element);
        if (list)
            path_push_index(&d->path, i);
        if (!json_is_number(element))
            proto_fail(d, ITEM_WRONG_TYPE,
                       list ? "must be a number" : "must be a number or a list of numbers");
        else if (!(data[i] > 0) || data[i] > 1e9)
            proto_fail(d, ITEM_OUT_OF_RANGE, "must be above 0 and at most 1e9");
        if (list)
            path_pop(&d->path);
    }
    *norms = (struct real_list){ .n = data ? n : 0, .data = data };
}

static bool norms_present(const void *member)
{
    return ((const struct real_list *)member)->n > 0;
}

static void norms_encode(struct proto_writer *w, const void *member)
{
    const struct real_list *norms = member;
    if (norms->n == 1) {
        writer_real(w, norms->data[0]);
        return;
    }
    writer_open(w, '[');
    for (size_t i = 0; i < norms->n; i++)
        writer_real(w, norms->data[i]);
    writer_close(w, ']');
}

static const struct proto_custom norms_custom = { norms_decode, norms_present,
                                                  norms_encode };

static const struct proto_field group_fields[] = {
    { PROTO_LIST(clipping_group, params), .kind = PROTO_STRINGS, .flags = PROTO_REQUIRED,
      .min = 1, .max = 4096, .item_min = 1, .item_max = 256 },
    { PROTO_AT(clipping_group, max_grad_norm), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE, .max = 1e9 },
};

static const struct proto_message group_message = { .name = "ClippingGroup",
                                                    .size = sizeof(struct clipping_group),
                                                    .fields = group_fields,
                                                    .n_fields = PROTO_COUNT(group_fields) };

#define V(kind) (1u << VALUE_SCHEDULE_##kind)

static const char *const value_schedule_names[] = { "", "exponential", "step", "list", NULL };

static const struct proto_field value_schedule_fields[] = {
    { PROTO_AT(value_schedule, type), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = value_schedule_names },
    { PROTO_AT(value_schedule, gamma), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE, .tags = V(EXPONENTIAL) | V(STEP), .max = 1e3 },
    { PROTO_AT(value_schedule, step_size), .kind = PROTO_INT, .tags = V(EXPONENTIAL) | V(LIST),
      .min = 1, .max = 1e9 },
    { PROTO_AT(value_schedule, step_size), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .tags = V(STEP), .min = 1, .max = 1e9 },
    { PROTO_LIST(value_schedule, values), .kind = PROTO_REALS, .flags = PROTO_REQUIRED,
      .tags = V(LIST), .min = 1, .max = 512, .item_min = 1e-6, .item_max = 1e6 },
};

static const struct proto_message value_schedule_message = {
    .name = "ValueSchedule",
    .size = sizeof(struct value_schedule),
    .fields = value_schedule_fields,
    .n_fields = PROTO_COUNT(value_schedule_fields),
    .tag = "type"
};

static const struct proto_field privacy_fields[] = {
    { PROTO_AT(privacy_spec, unit), .kind = PROTO_ENUM, .names = unit_names },
    { PROTO_AT(privacy_spec, noise_multiplier), .kind = PROTO_REAL, .max = 1e6 },
    { PROTO_AT(privacy_spec, target_epsilon), .kind = PROTO_REAL, .flags = PROTO_ABOVE,
      .max = 1e6 },
    { PROTO_AT(privacy_spec, delta), .kind = PROTO_REAL,
      .flags = PROTO_ABOVE | PROTO_BELOW | PROTO_NULLABLE, .max = 1 },
    { PROTO_AT(privacy_spec, accountant), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = ACCOUNTANT_RDP, .names = accountant_names },
    { PROTO_AT(privacy_spec, clipping), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = CLIPPING_FLAT, .names = clipping_names },
    { PROTO_AT(privacy_spec, max_grad_norm), .kind = PROTO_CUSTOM, .flags = PROTO_REQUIRED,
      .tags = T(FLAT) | T(PER_LAYER) | T(ADAPTIVE) | T(AUTOMATIC),
      .custom = &norms_custom },
    { PROTO_LIST(privacy_spec, groups), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .tags = T(PER_GROUP), .min = 1, .max = GROUPS_MAX, .message = &group_message },
    { PROTO_AT(privacy_spec, target_unclipped_quantile), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT, .tags = T(ADAPTIVE), .max = 1, .def = 0.5 },
    { PROTO_AT(privacy_spec, clipbound_learning_rate), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .tags = T(ADAPTIVE), .max = 10, .def = 0.2 },
    { PROTO_AT(privacy_spec, unclipped_num_std), .kind = PROTO_REAL, .flags = PROTO_ABOVE,
      .tags = T(ADAPTIVE), .max = 1e9 },
    { PROTO_AT(privacy_spec, min_clipbound), .kind = PROTO_REAL, .flags = PROTO_ABOVE,
      .tags = T(ADAPTIVE), .max = 1e9 },
    { PROTO_AT(privacy_spec, max_clipbound), .kind = PROTO_REAL, .flags = PROTO_ABOVE,
      .tags = T(ADAPTIVE), .max = 1e9 },
    { PROTO_AT(privacy_spec, variant), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .tags = T(AUTOMATIC), .def = AUTOMATIC_AUTO_S, .names = variant_names },
    { PROTO_AT(privacy_spec, gamma), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .tags = T(AUTOMATIC), .max = 1e3, .def = 0.01 },
    { PROTO_AT(privacy_spec, noise_schedule), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &value_schedule_message },
    { PROTO_AT(privacy_spec, max_grad_norm_schedule), .kind = PROTO_OBJECT,
      .flags = PROTO_NULLABLE, .tags = T(FLAT) | T(PER_LAYER) | T(PER_GROUP) | T(AUTOMATIC),
      .message = &value_schedule_message },
    { PROTO_AT(privacy_spec, max_batch_size), .kind = PROTO_INT, .min = 1, .max = 16777216 },
    { PROTO_AT(privacy_spec, poisson_sampling), .kind = PROTO_BOOL, .flags = PROTO_DEFAULT,
      .def = true },
    { PROTO_AT(privacy_spec, secure_noise), .kind = PROTO_BOOL },
    { PROTO_AT(privacy_spec, loss_reduction), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = LOSS_REDUCTION_MEAN, .names = loss_reduction_names },
    { PROTO_AT(privacy_spec, audit), .kind = PROTO_BOOL },
};

static void privacy_check(struct proto_decoder *d, void *message)
{
    const struct privacy_spec *p = message;
    bool noise = !isnan(p->noise_multiplier), target = !isnan(p->target_epsilon);
    if (noise == target)
        proto_fail(d, noise ? ITEM_EXCLUSIVE_MEMBERS : ITEM_MISSING_MEMBER,
                   "needs exactly one of noise_multiplier and target_epsilon");
    if (p->max_grad_norm.n > 1 && p->clipping != CLIPPING_PER_LAYER)
        proto_fail_member(d, "max_grad_norm", ITEM_NOT_APPLICABLE,
                          "several bounds belong to clipping per_layer");
    if (p->max_batch_size > 0 && !p->poisson_sampling)
        proto_fail_member(d, "max_batch_size", ITEM_NOT_APPLICABLE,
                          "belongs to Poisson sampling: shuffled batches have a fixed size");
    if (p->min_clipbound > p->max_clipbound)
        proto_fail_member(d, "min_clipbound", ITEM_INVALID_VALUE, "is above max_clipbound");
}

const struct proto_message privacy_message = { .name = "Privacy",
                                               .size = sizeof(struct privacy_spec),
                                               .fields = privacy_fields,
                                               .n_fields = PROTO_COUNT(privacy_fields),
                                               .tag = "clipping",
                                               .check = privacy_check };
