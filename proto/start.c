/* How a model starts, and what of it is trained: members of a model beside its layers. */
#include <string.h>

#include "model.h"

enum { NAMES_MAX = 256, NAME_LENGTH_MAX = 256, RENAMES_MAX = 256 };

static const char *const init_names[] = { "", "kaiming", "gaussian", NULL };

static const struct proto_field rename_fields[] = {
    { PROTO_AT(weights_rename, from), .kind = PROTO_STRING, .flags = PROTO_REQUIRED,
      .max = NAME_LENGTH_MAX },
    { PROTO_AT(weights_rename, to), .kind = PROTO_STRING, .flags = PROTO_REQUIRED,
      .max = NAME_LENGTH_MAX },
};

static const struct proto_message rename_message = { .name = "WeightsRename",
                                                     .size = sizeof(struct weights_rename),
                                                     .fields = rename_fields,
                                                     .n_fields = PROTO_COUNT(rename_fields) };

static const struct proto_field weights_fields[] = {
    { PROTO_AT(weights_spec, digest), .kind = PROTO_STRING, .flags = PROTO_REQUIRED, .min = 71,
      .max = 71 },
    { PROTO_AT(weights_spec, strict), .kind = PROTO_BOOL, .flags = PROTO_DEFAULT, .def = 1 },
    { PROTO_LIST(weights_spec, rename), .kind = PROTO_OBJECTS, .max = RENAMES_MAX,
      .message = &rename_message },
};

static void weights_check(struct proto_decoder *d, void *message)
{
    const struct weights_spec *w = message;
    if (strncmp(w->digest, "sha256:", 7) != 0 ||
        strspn(w->digest + 7, "0123456789abcdef") != 64)
        proto_fail_member(d, "digest", ITEM_INVALID_VALUE,
                          "must be sha256: and 64 lower-case hex digits");
}

static const struct proto_message weights_message = { .name = "Weights",
                                                      .size = sizeof(struct weights_spec),
                                                      .fields = weights_fields,
                                                      .n_fields = PROTO_COUNT(weights_fields),
                                                      .check = weights_check };

static const struct proto_field lora_fields[] = {
    { PROTO_LIST(lora_spec, target_modules), .kind = PROTO_STRINGS, .flags = PROTO_REQUIRED,
      .min = 1, .max = NAMES_MAX, .item_min = 1, .item_max = NAME_LENGTH_MAX },
    { PROTO_AT(lora_spec, r), .kind = PROTO_INT, .flags = PROTO_DEFAULT, .min = 1, .max = 65536,
      .def = 8 },
    { PROTO_AT(lora_spec, lora_alpha), .kind = PROTO_REAL, .flags = PROTO_DEFAULT | PROTO_ABOVE,
      .max = 1e6, .def = 8 },
    { PROTO_AT(lora_spec, lora_dropout), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_BELOW, .max = 1 },
    { PROTO_AT(lora_spec, init), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = LORA_INIT_KAIMING, .names = init_names },
};

static const struct proto_message lora_message = { .name = "Lora",
                                                   .size = sizeof(struct lora_spec),
                                                   .fields = lora_fields,
                                                   .n_fields = PROTO_COUNT(lora_fields) };

static const struct proto_field start_fields[] = {
    { PROTO_AT(model_start, weights), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &weights_message },
    { PROTO_AT(model_start, lora), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &lora_message },
    { PROTO_LIST(model_start, trainable), .kind = PROTO_STRINGS, .max = NAMES_MAX,
      .item_min = 1, .item_max = NAME_LENGTH_MAX },
    { PROTO_LIST(model_start, freeze), .kind = PROTO_STRINGS, .max = NAMES_MAX, .item_min = 1,
      .item_max = NAME_LENGTH_MAX },
};

const struct proto_message model_start_message = { .name = "ModelStart",
                                                   .size = sizeof(struct model_start),
                                                   .fields = start_fields,
                                                   .n_fields = PROTO_COUNT(start_fields) };

bool start_has_member(const char *name)
{
    for (size_t i = 0; i < PROTO_COUNT(start_fields); i++)
        if (strcmp(start_fields[i].name, name) == 0)
            return true;
    return false;
}

/* The table sees an object of its own members; the others are the model's. */
void start_decode(struct proto_decoder *d, const json_t *object, struct model_start *start)
{
    json_t *part = json_object();
    for (size_t i = 0; part && i < PROTO_COUNT(start_fields); i++) {
        json_t *value = json_object_get(object, start_fields[i].name);
        if (value && json_object_set(part, start_fields[i].name, value)) {
            json_decref(part);
            part = NULL;
        }
    }
    if (part)
        proto_decode_object(d, &model_start_message, part, start);
    else
        d->nomem = true;
    json_decref(part);
}

static void put_names(struct proto_writer *w, const char *key, const char *const *name, size_t n)
{
    if (!n)
        return;
    writer_key(w, key);
    writer_open(w, '[');
    for (size_t i = 0; i < n; i++)
        writer_string(w, name[i]);
    writer_close(w, ']');
}

void start_encode(struct proto_writer *w, const struct model_start *start)
{
    if (start->weights) {
        writer_key(w, "weights");
        proto_encode_into(&weights_message, w, start->weights);
    }
    if (start->lora) {
        writer_key(w, "lora");
        proto_encode_into(&lora_message, w, start->lora);
    }
    put_names(w, "trainable", start->trainable, start->n_trainable);
    put_names(w, "freeze", start->freeze, start->n_freeze);
}
