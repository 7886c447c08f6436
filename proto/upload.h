#ifndef PROTO_UPLOAD_FIELDS_H
#define PROTO_UPLOAD_FIELDS_H

#include "field.h"

extern const struct proto_message upload_spec_message;
extern const struct proto_message upload_view_message;
extern const struct proto_message upload_page_message;

#endif
