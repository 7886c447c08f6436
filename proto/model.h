/* Custom members of the job spec: model and loss. */
#ifndef PROTO_MODEL_FIELDS_H
#define PROTO_MODEL_FIELDS_H

#include "field.h"
#include "proto/model.h"

extern const struct proto_custom model_custom; /* struct model */
extern const struct proto_custom loss_custom;  /* struct loss */

/* One attribute, at its place: number, text, bool, list of numbers. */
void model_attr_decode(struct proto_decoder *d, const char *name, const json_t *value,
                       struct attr *attr);
void model_attr_encode(struct proto_writer *w, const struct attr *attr);

/* define.c: the member "define" of a model, at its place; object may be NULL. */
void defines_decode(struct proto_decoder *d, const json_t *object, struct model *model);
void defines_encode(struct proto_writer *w, const struct model *model);

/* start.c: the members of struct model_start, which stand beside the layers. */
bool start_has_member(const char *name);
void start_decode(struct proto_decoder *d, const json_t *object, struct model_start *start);
void start_encode(struct proto_writer *w, const struct model_start *start);

#endif
