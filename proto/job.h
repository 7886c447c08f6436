#ifndef PROTO_JOB_FIELDS_H
#define PROTO_JOB_FIELDS_H

#include "field.h"

extern const struct proto_message job_view_message;
extern const struct proto_message job_page_message;
extern const char *const job_status_names[];
extern const char *const job_reason_names[];
extern const struct proto_custom device_custom; /* struct device_spec */
extern const char *const list_text[];           /* of PROTO_CONST "object": "list" */

#endif
