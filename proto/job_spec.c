#include "job_spec.h"

#include <stdio.h>
#include <string.h>

#include "job.h"
#include "model.h"

#define STEPS_MAX 1e9

const char *const grad_sample_mode_names[] = { "",      "hooks", "functorch", "ew",
                                               "ghost", "auto",  NULL };

const char *const precision_names[] = { "", "float32", "bf16", NULL };

int device_spec_parse(struct device_spec *device, const char *text)
{
    struct device_spec parsed = { .index = -1 };
    if (strcmp(text, "auto") == 0) {
        parsed.kind = DEVICE_AUTO;
    } else if (strcmp(text, "cpu") == 0) {
        parsed.kind = DEVICE_CPU;
    } else if (strcmp(text, "cuda") == 0) {
        parsed.kind = DEVICE_CUDA;
    } else {
        const char *digits = text + 5;
        if (strncmp(text, "cuda:", 5) != 0 || !digits[0] || strlen(digits) > 3 ||
            strspn(digits, "0123456789") != strlen(digits) ||
            (digits[0] == '0' && digits[1]))
            return -1;
        parsed.kind = DEVICE_CUDA;
        parsed.index = 0;
        for (; *digits; digits++)
            parsed.index = parsed.index * 10 + (*digits - '0');
    }
    *device = parsed;
    return 0;
}

char *device_spec_text(const struct device_spec *device, char buf[16])
{
    static const char *const names[] = { "auto", "cpu", "cuda" };
    if (device->kind == DEVICE_CUDA && device->index >= 0)
        snprintf(buf, 16, "cuda:%d", device->index);
    else
        snprintf(buf, 16, "%s", names[device->kind]);
    return buf;
}

static void device_decode(struct proto_decoder *d, const json_t *value, void *member)
{
    if (!json_is_string(value))
        proto_fail(d, ITEM_WRONG_TYPE, "must be a string");
    else if (device_spec_parse(member, json_string_value(value)))
        proto_fail(d, ITEM_INVALID_VALUE, "must be auto, cpu, cuda or cuda:N");
}

static bool device_present(const void *member)
{
    (void)member;
    return true;
}

static void device_encode(struct proto_writer *w, const void *member)
{
    char buf[16];
    writer_string(w, device_spec_text(member, buf));
}

static void device_default(void *member)
{
    *(struct device_spec *)member = (struct device_spec){ .index = -1 };
}

const struct proto_custom device_custom = { device_decode, device_present, device_encode,
                                            device_default };

static const struct proto_field telemetry_fields[] = {
    { PROTO_AT(telemetry_spec, loss_bound), .kind = PROTO_REAL,
      .flags = PROTO_ABOVE | PROTO_NULLABLE, .max = 1e9 },
    { PROTO_AT(telemetry_spec, share), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .max = 0.5, .def = 0.02 },
};

static const struct proto_message telemetry_message = { .name = "Telemetry",
                                                        .size =
                                                            sizeof(struct telemetry_spec),
                                                        .fields = telemetry_fields,
                                                        .n_fields =
                                                            PROTO_COUNT(telemetry_fields) };

static const struct proto_field train_fields[] = {
    { PROTO_AT(train_spec, batch_size), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .min = 1, .max = 1 << 24 },
    { PROTO_AT(train_spec, epochs), .kind = PROTO_REAL, .flags = PROTO_ABOVE, .max = 1e6 },
    { PROTO_AT(train_spec, steps), .kind = PROTO_INT, .min = 1, .max = STEPS_MAX },
    { PROTO_AT(train_spec, eval_every), .kind = PROTO_INT, .flags = PROTO_DEFAULT,
      .max = STEPS_MAX },
    { PROTO_AT(train_spec, checkpoint_every), .kind = PROTO_DURATION, .min = 0.1,
      .max = 7 * 86400 },
};

static void train_check(struct proto_decoder *d, void *message)
{
    const struct train_spec *t = message;
    bool epochs = !isnan(t->epochs), steps = t->steps >= 0;
    if (epochs == steps)
        proto_fail(d, epochs ? ITEM_EXCLUSIVE_MEMBERS : ITEM_MISSING_MEMBER,
                   "needs exactly one of epochs and steps");
}

static const struct proto_message train_message = { .name = "Train",
                                                    .size = sizeof(struct train_spec),
                                                    .fields = train_fields,
                                                    .n_fields = PROTO_COUNT(train_fields),
                                                    .check = train_check };

static const struct proto_field job_spec_fields[] = {
    { PROTO_AT(job_spec, name), .kind = PROTO_STRING, .min = 1, .max = 128 },
    { PROTO_AT(job_spec, dataset), .kind = PROTO_STRING,
      .flags = PROTO_REQUIRED | PROTO_NAME },
    { PROTO_AT(job_spec, model), .kind = PROTO_CUSTOM, .flags = PROTO_REQUIRED,
      .custom = &model_custom },
    { PROTO_AT(job_spec, loss), .kind = PROTO_CUSTOM, .flags = PROTO_REQUIRED,
      .custom = &loss_custom },
    { PROTO_AT(job_spec, grad_sample_mode), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = GRAD_SAMPLE_AUTO, .names = grad_sample_mode_names },
    { PROTO_AT(job_spec, precision), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = PRECISION_FLOAT32, .names = precision_names },
    { PROTO_AT(job_spec, device), .kind = PROTO_CUSTOM, .custom = &device_custom },
    { PROTO_AT(job_spec, optimizer), .kind = PROTO_EMBED, .flags = PROTO_REQUIRED,
      .message = &optimizer_message },
    { PROTO_AT(job_spec, lr_schedule), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &lr_schedule_message },
    { PROTO_AT(job_spec, privacy), .kind = PROTO_OBJECT,
      .flags = PROTO_REQUIRED | PROTO_NULLABLE, .message = &privacy_message },
    { PROTO_AT(job_spec, telemetry), .kind = PROTO_EMBED, .message = &telemetry_message },
    { PROTO_AT(job_spec, train), .kind = PROTO_EMBED, .flags = PROTO_REQUIRED,
      .message = &train_message },
    { PROTO_AT(job_spec, seed), .kind = PROTO_INT, .flags = PROTO_NULLABLE },
    { PROTO_AT(job_spec, priority), .kind = PROTO_INT, .flags = PROTO_DEFAULT, .min = -1000,
      .max = 1000 },
    { PROTO_LIST(job_spec, tags), .kind = PROTO_STRINGS, .max = 16, .item_min = 1,
      .item_max = 64 },
    { PROTO_AT(job_spec, max_attempts), .kind = PROTO_INT, .flags = PROTO_DEFAULT, .min = 1,
      .max = 10, .def = 3 },
};

const struct proto_message job_spec_message = { .name = "JobSpec",
                                                .size = sizeof(struct job_spec),
                                                .fields = job_spec_fields,
                                                .n_fields = PROTO_COUNT(job_spec_fields) };

PROTO_DEFINE_STRICT(job_spec, job_spec_message)

static const char *name_at(const char *const *names, size_t n, int i)
{
    return i > 0 && (size_t)i < n ? names[i] : "";
}

const char *grad_sample_mode_name(enum grad_sample_mode mode)
{
    return name_at(grad_sample_mode_names, GRAD_SAMPLE_AUTO + 1, (int)mode);
}

const char *optimizer_type_name(enum optimizer_type type)
{
    return name_at(optimizer_names, OPTIMIZER_ADAGRAD + 1, (int)type);
}

const char *accountant_kind_name(enum accountant_kind kind)
{
    return name_at(accountant_names, ACCOUNTANT_PRV + 1, (int)kind);
}

const char *clipping_kind_name(enum clipping_kind kind)
{
    return name_at(clipping_names, CLIPPING_AUTOMATIC + 1, (int)kind);
}

const char *lr_schedule_type_name(enum lr_schedule_type type)
{
    return name_at(lr_schedule_names, LR_SCHEDULE_LINEAR + 1, (int)type);
}
