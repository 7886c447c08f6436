/* What a researcher asks for: the body of POST /jobs. Names and defaults are PyTorch's and
 * Opacus'. Decoding is strict: unknown members, and members that do not belong to the
 * chosen type, are refused with their place. All values lie in the ranges given here. */
#ifndef PROTO_JOB_SPEC_H
#define PROTO_JOB_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/dataset.h"
#include "proto/model.h"
#include "proto/problem.h"

enum grad_sample_mode {
    GRAD_SAMPLE_HOOKS = 1,
    GRAD_SAMPLE_FUNCTORCH,
    GRAD_SAMPLE_EW,
    GRAD_SAMPLE_GHOST,
    GRAD_SAMPLE_AUTO
};

/* of the activations while training; all else is float32 */
enum precision { PRECISION_FLOAT32 = 1, PRECISION_BF16 };

enum device_kind { DEVICE_AUTO = 0, DEVICE_CPU, DEVICE_CUDA };

struct device_spec {
    enum device_kind kind;
    int index; /* "cuda:N"; -1: any */
};

enum optimizer_type {
    OPTIMIZER_SGD = 1,
    OPTIMIZER_ADAM,
    OPTIMIZER_ADAMW,
    OPTIMIZER_RMSPROP,
    OPTIMIZER_ADAGRAD
};

/* members that do not belong to the type are zero */
struct optimizer_spec {
    enum optimizer_type type;
    double lr;                        /* sgd, adam, adamw 1e-3; rmsprop, adagrad 1e-2 */
    double weight_decay;              /* 0; adamw 1e-2 */
    double momentum;                  /* sgd, rmsprop: 0 */
    double dampening;                 /* sgd: 0 */
    bool nesterov;                    /* sgd */
    double betas[2];                  /* adam, adamw: 0.9, 0.999 */
    double eps;                       /* 1e-8; adagrad 1e-10 */
    double alpha;                     /* rmsprop: 0.99 */
    bool centered;                    /* rmsprop */
    double lr_decay;                  /* adagrad: 0 */
    double initial_accumulator_value; /* adagrad: 0 */
    bool dp_bias_correction; /* adam, adamw: subtract the noise's variance from the second
                                moment */
};

enum lr_schedule_type {
    LR_SCHEDULE_CONSTANT = 1,
    LR_SCHEDULE_STEP,
    LR_SCHEDULE_MULTI_STEP,
    LR_SCHEDULE_EXPONENTIAL,
    LR_SCHEDULE_COSINE,
    LR_SCHEDULE_LINEAR
};

/* units are optimizer steps; names as torch.optim.lr_scheduler */
struct lr_schedule {
    enum lr_schedule_type type;
    int64_t warmup_steps;      /* all: lr rises linearly to its value, default 0 */
    int64_t step_size;         /* step */
    size_t n_milestones;       /* multi_step */
    const int64_t *milestones; /* ascending */
    double gamma;              /* step, multi_step: 0.1; exponential: required */
    int64_t t_max;             /* cosine; -1: all steps of the job */
    double eta_min;            /* cosine: 0 */
    double start_factor;       /* linear: 1/3 */
    double end_factor;         /* linear: 1 */
    int64_t total_iters;       /* linear: 5 */
};

enum accountant_kind { ACCOUNTANT_RDP = 1, ACCOUNTANT_GDP, ACCOUNTANT_PRV };

enum clipping_kind {
    CLIPPING_FLAT = 1,
    CLIPPING_PER_LAYER,
    CLIPPING_PER_GROUP,
    CLIPPING_ADAPTIVE,
    CLIPPING_AUTOMATIC
};

enum automatic_variant { AUTOMATIC_AUTO_S = 1, AUTOMATIC_AUTO_V };

struct real_list {
    size_t n;
    const double *data;
};

/* "params" are names of parameters or of layers; each may stand in one group only */
struct clipping_group {
    size_t n_params;
    const char *const *params;
    double max_grad_norm;
};

enum value_schedule_type {
    VALUE_SCHEDULE_EXPONENTIAL = 1, /* times gamma after every period */
    VALUE_SCHEDULE_STEP,            /* the same, with the period in steps */
    VALUE_SCHEDULE_LIST             /* times values[k] in period k, the last one for ever */
};

/* of the noise multiplier and of the clip bounds; Opacus' ExponentialNoise, StepNoise and
 * LambdaNoise, and those of its clipping */
struct value_schedule {
    enum value_schedule_type type;
    double gamma;      /* exponential, step */
    int64_t step_size; /* steps of a period; -1: an epoch's (step: required) */
    size_t n_values;   /* list: factors above 0 */
    const double *values;
};

struct privacy_spec {
    enum privacy_unit unit; /* 0: the dataset's */
    double noise_multiplier; /* exactly one of these two; the other is NAN */
    double target_epsilon;
    double delta;                    /* in (0, 1); NAN: the dataset's */
    enum accountant_kind accountant; /* rdp */
    enum clipping_kind clipping;     /* flat */
    /* one bound; per_layer: one, or one for each trainable parameter; per_group: none */
    struct real_list max_grad_norm;
    size_t n_groups; /* per_group */
    const struct clipping_group *groups;
    /* adaptive, names and defaults of Opacus' AdaClip */
    double target_unclipped_quantile;    /* 0.5 */
    double clipbound_learning_rate;      /* 0.2 */
    double unclipped_num_std;            /* NAN: a twentieth of the expected batch size */
    double min_clipbound, max_clipbound; /* NAN: no limit */
    /* automatic */
    enum automatic_variant variant;     /* auto_s */
    double gamma;                       /* 0.01 */
    struct value_schedule *noise_schedule;         /* NULL: constant */
    struct value_schedule *max_grad_norm_schedule; /* NULL: constant; not with adaptive */
    bool poisson_sampling;                         /* true */
    int64_t max_batch_size; /* larger Poisson batches are cut to it; -1: none is */
    bool secure_noise;                  /* false */
    enum loss_reduction loss_reduction; /* mean: divide by the expected batch size */
    bool audit;
};

/* what of the steps' statistics is released, within the dataset's policy */
struct telemetry_spec {
    double loss_bound; /* losses are clipped to [0, loss_bound]; NAN: the dataset's */
    double share;      /* of the budget 1/s^2 that goes to telemetry, in (0, 0.5]; 0.02 */
};

struct train_spec {
    int64_t batch_size;      /* expected, 1 to 2^24 */
    double epochs;           /* exactly one of these two; the other is NAN */
    int64_t steps;           /* or -1 */
    int64_t eval_every;      /* steps; 0: at the end only (default) */
    double checkpoint_every; /* seconds; NAN: as the daemon is configured */
};

struct job_spec {
    const char *name;    /* up to 128 bytes; NULL: none */
    const char *dataset; /* name of a registered dataset */
    struct model model;
    struct loss loss;
    enum grad_sample_mode grad_sample_mode; /* auto */
    enum precision precision;               /* float32 */
    struct device_spec device;              /* auto */
    struct optimizer_spec optimizer;
    struct lr_schedule *lr_schedule; /* NULL: constant */
    struct privacy_spec *privacy;    /* NULL: "privacy": null, public data only */
    struct telemetry_spec telemetry;
    struct train_spec train;
    int64_t seed;     /* public data only; -1: none */
    int64_t priority; /* -1000 to 1000, higher first, default 0 */
    size_t n_tags;
    const char *const *tags; /* at most 16 of at most 64 bytes */
    int64_t max_attempts;    /* 1 to 10, default 3 */
};

/* 0, or enum proto_status with *p filled. Free with job_spec_free(). */
int job_spec_decode(struct job_spec **specp, const char *text, size_t len,
                    struct problem *p);

/* One line with all defaults written out, to be freed with free(); NULL when out of memory.
 */
char *job_spec_encode(const struct job_spec *spec, size_t *lenp);

/* Takes NULL, returns NULL. */
struct job_spec *job_spec_free(struct job_spec *spec);
void job_spec_freep(struct job_spec **specp);

const char *grad_sample_mode_name(enum grad_sample_mode mode);
const char *optimizer_type_name(enum optimizer_type type);
const char *accountant_kind_name(enum accountant_kind kind);
const char *clipping_kind_name(enum clipping_kind kind);
const char *lr_schedule_type_name(enum lr_schedule_type type);

/* "auto", "cpu", "cuda" or "cuda:N" */
int device_spec_parse(struct device_spec *device, const char *text);
char *device_spec_text(const struct device_spec *device, char buf[16]);

#endif
