/* "optimizer" and "lr_schedule" of a job spec */
#include "job_spec.h"

#define O(kind)   (1u << OPTIMIZER_##kind)
#define S(kind)   (1u << LR_SCHEDULE_##kind)
#define STEPS_MAX 1e9

const char *const optimizer_names[] = { "",        "sgd",     "adam", "adamw",
                                        "rmsprop", "adagrad", NULL };
const char *const lr_schedule_names[] = { "",           "constant",    "step",
                                          "multi_step", "exponential", "cosine",
                                          "linear",     NULL };

static void betas_decode(struct proto_decoder *d, const json_t *value, void *member)
{
    double *betas = member;
    if (!json_is_array(value) || json_array_size(value) != 2) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be a list of two numbers");
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *element = json_array_get(value, i);
        betas[i] = json_number_value(element);
        path_push_index(&d->path, i);
        if (!json_is_number(element))
            proto_fail(d, ITEM_WRONG_TYPE, "must be a number");
        else if (!(betas[i] >= 0 && betas[i] < 1))
            proto_fail(d, ITEM_OUT_OF_RANGE, "must be at least 0 and below 1");
        path_pop(&d->path);
    }
}

static bool betas_present(const void *member)
{
    (void)member;
    return true; /* the tag decides */
}

static void betas_encode(struct proto_writer *w, const void *member)
{
    const double *betas = member;
    writer_open(w, '[');
    writer_real(w, betas[0]);
    writer_real(w, betas[1]);
    writer_close(w, ']');
}

static void betas_default(void *member)
{
    double *betas = member;
    betas[0] = 0.9;
    betas[1] = 0.999;
}

static const struct proto_custom betas_custom = { betas_decode, betas_present, betas_encode,
                                                  betas_default };

static const struct proto_field optimizer_fields[] = {
    { PROTO_AT(optimizer_spec, type), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = optimizer_names },
    { PROTO_AT(optimizer_spec, lr), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(SGD) | O(ADAM) | O(ADAMW), .max = 1e6, .def = 1e-3 },
    { PROTO_AT(optimizer_spec, lr), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(RMSPROP) | O(ADAGRAD), .max = 1e6, .def = 1e-2 },
    { PROTO_AT(optimizer_spec, weight_decay), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(SGD) | O(ADAM) | O(RMSPROP) | O(ADAGRAD), .max = 1e6, .def = 0 },
    { PROTO_AT(optimizer_spec, weight_decay), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(ADAMW), .max = 1e6, .def = 1e-2 },
    { PROTO_AT(optimizer_spec, momentum), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_BELOW, .tags = O(SGD) | O(RMSPROP), .max = 1,
      .def = 0 },
    { PROTO_AT(optimizer_spec, dampening), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(SGD), .max = 1, .def = 0 },
    { PROTO_AT(optimizer_spec, nesterov), .kind = PROTO_BOOL, .tags = O(SGD) },
    { PROTO_AT(optimizer_spec, betas), .kind = PROTO_CUSTOM, .tags = O(ADAM) | O(ADAMW),
      .custom = &betas_custom },
    { PROTO_AT(optimizer_spec, eps), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(ADAM) | O(ADAMW) | O(RMSPROP), .max = 1, .def = 1e-8 },
    { PROTO_AT(optimizer_spec, eps), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(ADAGRAD), .max = 1, .def = 1e-10 },
    { PROTO_AT(optimizer_spec, alpha), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_BELOW, .tags = O(RMSPROP), .max = 1, .def = 0.99 },
    { PROTO_AT(optimizer_spec, centered), .kind = PROTO_BOOL, .tags = O(RMSPROP) },
    { PROTO_AT(optimizer_spec, lr_decay), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = O(ADAGRAD), .max = 1e6, .def = 0 },
    { PROTO_AT(optimizer_spec, initial_accumulator_value), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT, .tags = O(ADAGRAD), .max = 1e6, .def = 0 },
    { PROTO_AT(optimizer_spec, dp_bias_correction), .kind = PROTO_BOOL,
      .tags = O(ADAM) | O(ADAMW) },
};

static void optimizer_check(struct proto_decoder *d, void *message)
{
    const struct optimizer_spec *o = message;
    if (o->nesterov && (!(o->momentum > 0) || o->dampening != 0))
        proto_fail_member(d, "nesterov", ITEM_INVALID_VALUE,
                          "needs a momentum above 0 and no dampening");
}

const struct proto_message optimizer_message = { .name = "Optimizer",
                                                 .size = sizeof(struct optimizer_spec),
                                                 .fields = optimizer_fields,
                                                 .n_fields = PROTO_COUNT(optimizer_fields),
                                                 .tag = "type",
                                                 .check = optimizer_check };

static const struct proto_field schedule_fields[] = {
    { PROTO_AT(lr_schedule, type), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = lr_schedule_names },
    { PROTO_AT(lr_schedule, warmup_steps), .kind = PROTO_INT, .flags = PROTO_DEFAULT,
      .max = STEPS_MAX },
    { PROTO_AT(lr_schedule, step_size), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .tags = S(STEP), .min = 1, .max = STEPS_MAX },
    { PROTO_LIST(lr_schedule, milestones), .kind = PROTO_INTS, .flags = PROTO_REQUIRED,
      .tags = S(MULTI_STEP), .min = 1, .max = 1024, .item_min = 1, .item_max = STEPS_MAX },
    { PROTO_AT(lr_schedule, gamma), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = S(STEP) | S(MULTI_STEP), .max = 1e3, .def = 0.1 },
    { PROTO_AT(lr_schedule, gamma), .kind = PROTO_REAL, .flags = PROTO_REQUIRED,
      .tags = S(EXPONENTIAL), .max = 1e3 },
    { PROTO_AT(lr_schedule, t_max), .kind = PROTO_INT, .tags = S(COSINE), .min = 1,
      .max = STEPS_MAX },
    { PROTO_AT(lr_schedule, eta_min), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = S(COSINE), .max = 1e6, .def = 0 },
    { PROTO_AT(lr_schedule, start_factor), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .tags = S(LINEAR), .max = 1, .def = 1.0 / 3 },
    { PROTO_AT(lr_schedule, end_factor), .kind = PROTO_REAL, .flags = PROTO_DEFAULT,
      .tags = S(LINEAR), .max = 1, .def = 1 },
    { PROTO_AT(lr_schedule, total_iters), .kind = PROTO_INT, .flags = PROTO_DEFAULT,
      .tags = S(LINEAR), .min = 1, .max = STEPS_MAX, .def = 5 },
};

static void schedule_check(struct proto_decoder *d, void *message)
{
    const struct lr_schedule *s = message;
    for (size_t i = 1; i < s->n_milestones; i++) {
        if (s->milestones[i] <= s->milestones[i - 1]) {
            proto_fail_member(d, "milestones", ITEM_INVALID_VALUE, "must ascend");
            return;
        }
    }
}

const struct proto_message lr_schedule_message = { .name = "LrSchedule",
                                                   .size = sizeof(struct lr_schedule),
                                                   .fields = schedule_fields,
                                                   .n_fields = PROTO_COUNT(schedule_fields),
                                                   .tag = "type",
                                                   .check = schedule_check };
