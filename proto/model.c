#include "proto/model.h"

#include <stdio.h>
#include <string.h>

#include "model.h"
#include "proto/text.h"
#include "proto/upload.h"

#define ATTR_STRING_MAX 256
#define LAYER_NAME_MAX  256

static const char *const reduction_names[] = { "", "mean", "sum", NULL };

const struct attr *attr_find(const struct attr *attrs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(attrs[i].name, name) == 0)
            return &attrs[i];
    return NULL;
}

char *layer_pointer(const struct model *model, size_t i, const char *attr, char *buf,
                    size_t size)
{
    size_t positions[MODEL_LAYER_DEPTH_MAX + 1], depth = 0, n;
    for (ptrdiff_t at = (ptrdiff_t)i; at >= 0 && depth <= MODEL_LAYER_DEPTH_MAX;
         at = model->layers[at].parent)
        positions[depth++] = model->layers[at].position;
    n = (size_t)snprintf(buf, size, "/model");
    while (depth-- && n < size)
        n += (size_t)snprintf(buf + n, size - n, "/layers/%zu", positions[depth]);
    if (attr && n < size)
        snprintf(buf + n, size - n, "/%s", attr);
    return buf;
}

/* ---- decode ---- */

static const char *take_short_string(struct proto_decoder *d, const json_t *value,
                                     size_t max)
{
    if (!json_is_string(value)) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be a string");
        return NULL;
    }
    size_t n = json_string_length(value);
    if (n == 0 || n > max) {
        proto_fail(d, n ? ITEM_TOO_LONG : ITEM_INVALID_VALUE,
                   n ? "longer than %zu bytes" : "must not be empty", max);
        return NULL;
    }
    return proto_copy_string(d, value);
}

static const char *take_member_string(struct proto_decoder *d, const json_t *object,
                                      const char *name, bool required)
{
    const json_t *value = json_object_get(object, name);
    if (!value) {
        if (required)
            proto_fail_member(d, name, ITEM_MISSING_MEMBER, "is missing");
        return NULL;
    }
    path_push_name(&d->path, name);
    const char *text = take_short_string(d, value, LAYER_NAME_MAX);
    path_pop(&d->path);
    return text;
}

static bool list_is_numbers(struct proto_decoder *d, const json_t *list, bool *integersp)
{
    *integersp = true;
    if (json_array_size(list) > MODEL_LIST_MAX) {
        proto_fail(d, ITEM_TOO_MANY, "more than %d elements", MODEL_LIST_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *element = json_array_get(list, i);
        *integersp &= json_is_integer(element);
        if (!json_is_number(element)) {
            path_push_index(&d->path, i);
            proto_fail(d, ITEM_WRONG_TYPE, "must be a number");
            path_pop(&d->path);
            return false;
        }
    }
    return true;
}

static void decode_attr_list(struct proto_decoder *d, const json_t *list, struct attr *attr)
{
    bool integers;
    if (!list_is_numbers(d, list, &integers))
        return;
    attr->n = json_array_size(list);
    if (integers) {
        int64_t *data = proto_alloc(d, attr->n, sizeof *data);
        for (size_t i = 0; data && i < attr->n; i++)
            data[i] = json_integer_value(json_array_get(list, i));
        attr->kind = ATTR_INTS;
        attr->integers = data;
    } else {
        double *data = proto_alloc(d, attr->n, sizeof *data);
        for (size_t i = 0; data && i < attr->n; i++)
            data[i] = json_number_value(json_array_get(list, i));
        attr->kind = ATTR_REALS;
        attr->reals = data;
    }
}

/* at the attribute's place */
void model_attr_decode(struct proto_decoder *d, const char *name, const json_t *value,
                       struct attr *attr)
{
    char *copy = pool_string(d->pool, name, strlen(name));
    if (!copy)
        d->nomem = true;
    attr->name = copy;
    if (json_is_integer(value)) {
        attr->kind = ATTR_INT;
        attr->integer = json_integer_value(value);
    } else if (json_is_real(value)) {
        attr->kind = ATTR_REAL;
        attr->real = json_real_value(value);
    } else if (json_is_boolean(value)) {
        attr->kind = ATTR_BOOL;
        attr->boolean = json_is_true(value);
    } else if (json_is_string(value)) {
        attr->kind = ATTR_STRING;
        attr->string = take_short_string(d, value, ATTR_STRING_MAX);
    } else if (json_is_array(value)) {
        decode_attr_list(d, value, attr);
    } else {
        proto_fail(
            d, ITEM_WRONG_TYPE,
            "must be a number, a string, a bool or a list of numbers; leave it out for "
            "its default");
    }
}

static bool is_reserved(const char *const *reserved, const char *name)
{
    for (size_t i = 0; reserved[i]; i++)
        if (strcmp(reserved[i], name) == 0)
            return true;
    return false;
}

/* every member that is not reserved is an attribute */
static const struct attr *decode_attrs(struct proto_decoder *d, const json_t *object,
                                       const char *const *reserved, size_t *np)
{
    const char *name;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) n +=
        !is_reserved(reserved, name);
    *np = 0;
    if (n > MODEL_ATTRS_MAX) {
        proto_fail(d, ITEM_TOO_MANY, "more than %d attributes", MODEL_ATTRS_MAX);
        return NULL;
    }
    struct attr *attrs = proto_alloc(d, n, sizeof *attrs);
    if (!attrs)
        return NULL;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (is_reserved(reserved, name))
            continue;
        path_push_name(&d->path, name);
        model_attr_decode(d, name, value, &attrs[(*np)++]);
        path_pop(&d->path);
    }
    return attrs;
}

static void decode_in(struct proto_decoder *d, const json_t *list, const char *const **inp,
                      size_t *np)
{
    if (!list)
        return;
    path_push_name(&d->path, "in");
    size_t n = json_array_size(list);
    if (!json_is_array(list))
        proto_fail(d, ITEM_WRONG_TYPE, "must be a list of names");
    else if (n == 0 || n > MODEL_ATTRS_MAX)
        proto_fail(d, n ? ITEM_TOO_MANY : ITEM_TOO_FEW, "needs 1 to %d names",
                   MODEL_ATTRS_MAX);
    else {
        const char **in = proto_alloc(d, n, sizeof *in);
        for (size_t i = 0; in && i < n; i++) {
            path_push_index(&d->path, i);
            in[i] = take_short_string(d, json_array_get(list, i), LAYER_NAME_MAX);
            path_pop(&d->path);
        }
        *inp = in;
        *np = in ? n : 0;
    }
    path_pop(&d->path);
}

static void decode_params(struct proto_decoder *d, const json_t *object,
                          struct layer *layer)
{
    const char *role;
    json_t *name;
    if (!object)
        return;
    path_push_name(&d->path, "params");
    size_t n = json_object_size(object);
    if (!json_is_object(object))
        proto_fail(d, ITEM_WRONG_TYPE, "must be an object of role: parameter name");
    else if (n == 0 || n > MODEL_ATTRS_MAX)
        proto_fail(d, n ? ITEM_TOO_MANY : ITEM_TOO_FEW, "needs 1 to %d roles",
                   MODEL_ATTRS_MAX);
    else {
        struct layer_param *params = proto_alloc(d, n, sizeof *params), *p = params;
        json_object_foreach((json_t *)(uintptr_t)object, role, name)
        {
            if (!params)
                break;
            path_push_name(&d->path, role);
            p->role = pool_string(d->pool, role, strlen(role));
            p->name = take_short_string(d, name, LAYER_NAME_MAX);
            d->nomem |= !p->role;
            p++;
            path_pop(&d->path);
        }
        layer->params = params;
        layer->n_params = params ? n : 0;
    }
    path_pop(&d->path);
}

static void decode_trainable(struct proto_decoder *d, const json_t *value,
                             struct layer *layer)
{
    layer->trainable = !json_is_false(value);
    if (value && !json_is_boolean(value))
        proto_fail_member(d, "trainable", ITEM_WRONG_TYPE, "must be true or false");
}

/* one layer without the layers inside of it */
static void decode_layer(struct proto_decoder *d, const json_t *object, struct layer *layer)
{
    static const char *const reserved[] = { "op",        "name",   "in", "params",
                                            "trainable", "layers", NULL };
    if (!json_is_object(object)) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be an object with the member op");
        return;
    }
    layer->op = take_member_string(d, object, "op", true);
    layer->name = take_member_string(d, object, "name", false);
    decode_in(d, json_object_get(object, "in"), &layer->in, &layer->n_in);
    decode_params(d, json_object_get(object, "params"), layer);
    decode_trainable(d, json_object_get(object, "trainable"), layer);
    layer->attrs = decode_attrs(d, object, reserved, &layer->n_attrs);
}

struct frame {
    const json_t *list;
    size_t next;
    ptrdiff_t parent;
};

/* opens the list of layers at the present path; false when it is not one */
static bool open_list(struct proto_decoder *d, const json_t *list, bool top)
{
    if (!json_is_array(list)) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be a list of layers");
        return false;
    }
    if (top && json_array_size(list) == 0) {
        proto_fail(d, ITEM_TOO_FEW, "needs at least one layer");
        return false;
    }
    return true;
}

/* Adds up the lists with the stack that decode_layers uses; stops at MODEL_LAYERS_MAX + 1.
 */
static size_t count_layers(const json_t *top)
{
    struct frame stack[MODEL_LAYER_DEPTH_MAX] = { { .list = top } };
    size_t depth = 1, n = 0;
    while (depth && n <= MODEL_LAYERS_MAX) {
        struct frame *f = &stack[depth - 1];
        if (f->next == json_array_size(f->list)) {
            depth--;
            continue;
        }
        const json_t *inner = json_object_get(json_array_get(f->list, f->next++), "layers");
        n++;
        if (inner && depth < MODEL_LAYER_DEPTH_MAX)
            stack[depth++] = (struct frame){ .list = inner };
    }
    return n;
}

static void decode_layers(struct proto_decoder *d, const json_t *top, struct layer *layers)
{
    struct frame stack[MODEL_LAYER_DEPTH_MAX] = { { .list = top, .parent = -1 } };
    size_t depth = 1, n = 0;
    while (depth && !d->nomem) {
        struct frame *f = &stack[depth - 1];
        if (f->next == json_array_size(f->list)) {
            if (f->parent >= 0) {
                layers[f->parent].end = n;
                path_pop(&d->path); /* "layers" */
                path_pop(&d->path); /* the parent's index */
            }
            depth--;
            continue;
        }
        const json_t *object = json_array_get(f->list, f->next);
        struct layer *layer = &layers[n];
        layer->position = f->next;
        layer->parent = f->parent;
        path_push_index(&d->path, f->next++);
        decode_layer(d, object, layer);
        layer->end = ++n;
        const json_t *inner = json_object_get(object, "layers");
        if (!inner) {
            path_pop(&d->path);
            continue;
        }
        layer->nested = true;
        path_push_name(&d->path, "layers");
        bool deep = depth == MODEL_LAYER_DEPTH_MAX;
        if (deep)
            proto_fail(d, ITEM_TOO_DEEP, "layers nested deeper than %d",
                       MODEL_LAYER_DEPTH_MAX);
        if (!deep && open_list(d, inner, false)) {
            stack[depth++] = (struct frame){ .list = inner, .parent = (ptrdiff_t)n - 1 };
            continue;
        }
        path_pop(&d->path);
        path_pop(&d->path);
    }
}

/* ---- models that are files ---- */

static bool known_member(const char *name)
{
    static const char *const names[] = { "layers", "define", "torchscript", "inputs",
                                         "example_batch" };
    for (size_t i = 0; i < PROTO_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void decode_input_names(struct proto_decoder *d, const json_t *list, struct model *model)
{
    path_push_name(&d->path, "inputs");
    size_t n = json_array_size(list);
    const char **names = NULL;
    if (!json_is_array(list))
        proto_fail(d, ITEM_WRONG_TYPE, "must be a list of names");
    else if (n < 1 || n > MODEL_FILE_INPUTS_MAX)
        proto_fail(d, n ? ITEM_TOO_MANY : ITEM_TOO_FEW, "must have 1 to %d names",
                   MODEL_FILE_INPUTS_MAX);
    else
        names = proto_alloc(d, n, sizeof *names);
    for (size_t i = 0; names && i < n; i++) {
        path_push_index(&d->path, i);
        names[i] = take_short_string(d, json_array_get(list, i), LAYER_NAME_MAX);
        for (size_t k = 0; names[i] && k < i; k++)
            if (names[k] && strcmp(names[k], names[i]) == 0)
                proto_fail(d, ITEM_DUPLICATE_NAME, "is there twice");
        path_pop(&d->path);
    }
    model->inputs = names;
    model->n_inputs = names ? n : 0;
    path_pop(&d->path);
}

static void decode_file(struct proto_decoder *d, const json_t *object, struct model *model)
{
    const json_t *inputs = json_object_get(object, "inputs");
    const json_t *batch = json_object_get(object, "example_batch");
    model->torchscript = take_member_string(d, object, "torchscript", true);
    if (model->torchscript && !upload_digest_valid(model->torchscript))
        proto_fail_member(d, "torchscript", ITEM_INVALID_VALUE,
                          "must be the digest of an upload: sha256: and 64 hex digits");
    if (json_object_get(object, "layers"))
        proto_fail_member(d, "layers", ITEM_EXCLUSIVE_MEMBERS,
                          "a model is either layers or a file");
    if (model->start.lora)
        proto_fail_member(d, "lora", ITEM_NOT_APPLICABLE, "is for models of layers only");
    if (inputs)
        decode_input_names(d, inputs, model);
    if (batch && !json_is_integer(batch))
        proto_fail_member(d, "example_batch", ITEM_WRONG_TYPE, "must be an integer");
    else if (batch && (json_integer_value(batch) < 1 || json_integer_value(batch) > 1 << 24))
        proto_fail_member(d, "example_batch", ITEM_OUT_OF_RANGE, "must be 1 to %d", 1 << 24);
    else if (batch)
        model->example_batch = json_integer_value(batch);
}

static void refuse_file_members(struct proto_decoder *d, const json_t *object)
{
    static const char *const names[] = { "inputs", "example_batch" };
    for (size_t i = 0; i < PROTO_COUNT(names) && !d->lenient; i++)
        if (json_object_get(object, names[i]))
            proto_fail_member(d, names[i], ITEM_NOT_APPLICABLE, "is for torchscript only");
}

static void decode_model(struct proto_decoder *d, const json_t *object, void *member)
{
    struct model *model = member;
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be an object with the member layers or torchscript");
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)object, name,
                        value) if (!known_member(name) && !start_has_member(name) && !d->lenient)
        proto_fail_member(d, name, ITEM_UNKNOWN_MEMBER, "unknown member");
    start_decode(d, object, &model->start);
    path_push_name(&d->path, "define");
    defines_decode(d, json_object_get(object, "define"), model);
    path_pop(&d->path);
    model->example_batch = -1;
    if (json_object_get(object, "torchscript")) {
        decode_file(d, object, model);
        return;
    }
    refuse_file_members(d, object);
    const json_t *list = json_object_get(object, "layers");
    if (!list) {
        proto_fail_member(d, "layers", ITEM_MISSING_MEMBER, "is missing");
        return;
    }
    path_push_name(&d->path, "layers");
    if (open_list(d, list, true)) {
        size_t n = count_layers(list);
        struct layer *layers = NULL;
        if (n > MODEL_LAYERS_MAX)
            proto_fail(d, ITEM_TOO_MANY, "more than %d layers", MODEL_LAYERS_MAX);
        else
            layers = proto_alloc(d, n, sizeof *layers);
        if (layers) {
            decode_layers(d, list, layers);
            model->n_layers = n;
            model->layers = layers;
        }
    }
    path_pop(&d->path);
}

static void decode_loss(struct proto_decoder *d, const json_t *value, void *member)
{
    static const char *const reserved[] = { "type", "reduction", "in", "sample_weight", NULL };
    struct loss *loss = member;
    loss->reduction = LOSS_REDUCTION_MEAN;
    if (json_is_string(value)) {
        loss->type = take_short_string(d, value, LAYER_NAME_MAX);
        return;
    }
    if (!json_is_object(value)) {
        proto_fail(d, ITEM_WRONG_TYPE,
                   "must be the name of a loss, or an object with its type");
        return;
    }
    loss->type = take_member_string(d, value, "type", true);
    const json_t *reduction = json_object_get(value, "reduction");
    if (reduction) {
        const char *text = json_string_value(reduction);
        loss->reduction =
            (enum loss_reduction)(text ? proto_enum_parse(reduction_names, text) : 0);
        if (!loss->reduction)
            proto_fail_member(d, "reduction", ITEM_INVALID_VALUE,
                              "must be one of: mean, sum");
    }
    loss->reduction_given = reduction != NULL;
    decode_in(d, json_object_get(value, "in"), &loss->in, &loss->n_in);
    loss->sample_weight = take_member_string(d, value, "sample_weight", false);
    loss->attrs = decode_attrs(d, value, reserved, &loss->n_attrs);
}

/* ---- encode ---- */

void model_attr_encode(struct proto_writer *w, const struct attr *attr)
{
    writer_key(w, attr->name);
    switch (attr->kind) {
    case ATTR_INT: writer_int(w, attr->integer); return;
    case ATTR_REAL: writer_real(w, attr->real); return;
    case ATTR_BOOL: writer_bool(w, attr->boolean); return;
    case ATTR_STRING: writer_string(w, attr->string); return;
    case ATTR_INTS:
    case ATTR_REALS:
        writer_open(w, '[');
        for (size_t i = 0; i < attr->n; i++) {
            if (attr->kind == ATTR_INTS)
                writer_int(w, attr->integers[i]);
            else
                writer_real(w, attr->reals[i]);
        }
        writer_close(w, ']');
    }
}

static void encode_in(struct proto_writer *w, const char *const *in, size_t n)
{
    if (!n)
        return;
    writer_key(w, "in");
    writer_open(w, '[');
    for (size_t i = 0; i < n; i++)
        writer_string(w, in[i]);
    writer_close(w, ']');
}

static void encode_layer_members(struct proto_writer *w, const struct layer *layer)
{
    writer_key(w, "op");
    writer_string(w, layer->op);
    if (layer->name) {
        writer_key(w, "name");
        writer_string(w, layer->name);
    }
    encode_in(w, layer->in, layer->n_in);
    if (layer->n_params) {
        writer_key(w, "params");
        writer_open(w, '{');
        for (size_t i = 0; i < layer->n_params; i++) {
            writer_key(w, layer->params[i].role);
            writer_string(w, layer->params[i].name);
        }
        writer_close(w, '}');
    }
    if (!layer->trainable) {
        writer_key(w, "trainable");
        writer_bool(w, false);
    }
    for (size_t i = 0; i < layer->n_attrs; i++)
        model_attr_encode(w, &layer->attrs[i]);
}

static void encode_file(struct proto_writer *w, const struct model *model)
{
    writer_key(w, "torchscript");
    writer_string(w, model->torchscript);
    if (model->n_inputs) {
        writer_key(w, "inputs");
        writer_open(w, '[');
        for (size_t i = 0; i < model->n_inputs; i++)
            writer_string(w, model->inputs[i]);
        writer_close(w, ']');
    }
    if (model->example_batch > 0) {
        writer_key(w, "example_batch");
        writer_int(w, model->example_batch);
    }
}

static void encode_model(struct proto_writer *w, const void *member)
{
    const struct model *model = member;
    size_t ends[MODEL_LAYER_DEPTH_MAX], depth = 0;
    writer_open(w, '{');
    start_encode(w, &model->start);
    defines_encode(w, model);
    if (model->torchscript) {
        encode_file(w, model);
        writer_close(w, '}');
        return;
    }
    writer_key(w, "layers");
    writer_open(w, '[');
    for (size_t i = 0; i < model->n_layers; i++) {
        const struct layer *layer = &model->layers[i];
        writer_open(w, '{');
        encode_layer_members(w, layer);
        if (layer->nested && depth < MODEL_LAYER_DEPTH_MAX) {
            writer_key(w, "layers");
            writer_open(w, '[');
            ends[depth++] = layer->end;
        } else {
            writer_close(w, '}');
        }
        for (; depth && ends[depth - 1] == i + 1; depth--) {
            writer_close(w, ']');
            writer_close(w, '}');
        }
    }
    writer_close(w, ']');
    writer_close(w, '}');
}

static void encode_loss(struct proto_writer *w, const void *member)
{
    const struct loss *loss = member;
    if (!loss->n_attrs && !loss->reduction_given && !loss->n_in && !loss->sample_weight) {
        writer_string(w, loss->type);
        return;
    }
    writer_open(w, '{');
    writer_key(w, "type");
    writer_string(w, loss->type);
    if (loss->reduction_given) {
        writer_key(w, "reduction");
        writer_string(w, reduction_names[loss->reduction]);
    }
    encode_in(w, loss->in, loss->n_in);
    if (loss->sample_weight) {
        writer_key(w, "sample_weight");
        writer_string(w, loss->sample_weight);
    }
    for (size_t i = 0; i < loss->n_attrs; i++)
        model_attr_encode(w, &loss->attrs[i]);
    writer_close(w, '}');
}

static bool model_present(const void *member)
{
    const struct model *model = member;
    return model->n_layers > 0 || model->torchscript;
}

static bool loss_present(const void *member)
{
    return ((const struct loss *)member)->type != NULL;
}

const struct proto_custom model_custom = { decode_model, model_present, encode_model };
const struct proto_custom loss_custom = { decode_loss, loss_present, encode_loss };
