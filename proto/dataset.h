#ifndef PROTO_DATASET_FIELDS_H
#define PROTO_DATASET_FIELDS_H

#include "field.h"

extern const struct proto_message dataset_spec_message;
extern const struct proto_message dataset_view_message;
extern const struct proto_message dataset_page_message;

extern const char *const unit_names[];

#endif
