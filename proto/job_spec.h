/* Tables of the parts of a job spec. */
#ifndef PROTO_JOB_SPEC_FIELDS_H
#define PROTO_JOB_SPEC_FIELDS_H

#include "field.h"
#include "proto/job_spec.h"

extern const struct proto_message job_spec_message;
extern const struct proto_message privacy_message;
extern const struct proto_message optimizer_message;
extern const struct proto_message lr_schedule_message;

extern const char *const accountant_names[];
extern const char *const clipping_names[];
extern const char *const loss_reduction_names[];
extern const char *const optimizer_names[];
extern const char *const lr_schedule_names[];
extern const char *const grad_sample_mode_names[];
extern const char *const precision_names[];

#endif
