/* "define": layers of the user's own, as formulas. What a formula means is libpsg's business; here
 * stand the members, their types and how many there may be. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

static const char *const init_names[] = { "", "constant", "uniform", "normal", NULL };

static bool is_identifier(const char *text)
{
    size_t n = strlen(text);
    bool ok = n > 0 && n <= DEFINE_NAME_MAX && !isdigit((unsigned char)text[0]);
    for (size_t i = 0; i < n; i++)
        ok &= isalnum((unsigned char)text[i]) || text[i] == '_';
    return ok;
}

/* ---- decode ---- */

static const char *copy_name(struct proto_decoder *d, const char *name)
{
    char *copy = pool_string(d->pool, name, strlen(name));
    d->nomem |= !copy;
    if (!is_identifier(name))
        proto_fail(d, ITEM_INVALID_VALUE,
                   "a name is a letter or _, then letters, digits and _, at most %d",
                   DEFINE_NAME_MAX);
    return copy;
}

static const char *take_text(struct proto_decoder *d, const json_t *value, size_t max)
{
    size_t n = json_string_length(value);
    if (!json_is_string(value)) {
        proto_fail(d, ITEM_WRONG_TYPE, "must be a string");
        return NULL;
    }
    if (n == 0 || n > max) {
        proto_fail(d, n ? ITEM_TOO_LONG : ITEM_INVALID_VALUE,
                   n ? "longer than %zu bytes" : "must not be empty", max);
        return NULL;
    }
    return proto_copy_string(d, value);
}

/* a formula, or a plain number in its place */
static const char *take_formula(struct proto_decoder *d, const json_t *value)
{
    char text[32];
    if (!json_is_number(value))
        return take_text(d, value, DEFINE_TEXT_MAX);
    int n = json_is_integer(value)
                ? snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value))
                : snprintf(text, sizeof text, "%.17g", json_real_value(value));
    char *copy = pool_string(d->pool, text, (size_t)n);
    d->nomem |= !copy;
    return copy;
}

static bool is_list(struct proto_decoder *d, const json_t *list, size_t most)
{
    if (!json_is_array(list))
        proto_fail(d, ITEM_WRONG_TYPE, "must be a list");
    else if (json_array_size(list) > most)
        proto_fail(d, ITEM_TOO_MANY, "more than %zu elements", most);
    else
        return true;
    return false;
}

/* Texts of a list; one: a single text stands for a list of it. Pushes name. */
static const char *const *take_texts(struct proto_decoder *d, const json_t *value,
                                     const char *name, size_t most, bool one, bool names,
                                     size_t *np)
{
    const char **to = NULL;
    *np = 0;
    if (!value)
        return NULL;
    path_push_name(&d->path, name);
    bool single = one && json_is_string(value);
    if (single || is_list(d, value, most)) {
        size_t n = single ? 1 : json_array_size(value);
        to = proto_alloc(d, n, sizeof *to);
        for (size_t i = 0; to && i < n; i++) {
            if (!single)
                path_push_index(&d->path, i);
            const json_t *element = single ? value : json_array_get(value, i);
            to[i] = names ? take_text(d, element, DEFINE_NAME_MAX) : take_formula(d, element);
            if (names && to[i])
                copy_name(d, to[i]);
            if (!single)
                path_pop(&d->path);
        }
        *np = to ? n : 0;
    }
    path_pop(&d->path);
    return to;
}

/* An object of at most `most` members, or NULL with the reason reported. */
static const json_t *take_object(struct proto_decoder *d, const json_t *value, size_t most)
{
    if (!json_is_object(value))
        proto_fail(d, ITEM_WRONG_TYPE, "must be an object");
    else if (json_object_size(value) > most)
        proto_fail(d, ITEM_TOO_MANY, "more than %zu members", most);
    else
        return value;
    return NULL;
}

static void refuse_unknown(struct proto_decoder *d, const json_t *object,
                           const char *const *known)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        bool found = d->lenient;
        for (size_t i = 0; known[i]; i++)
            found |= strcmp(known[i], name) == 0;
        if (!found)
            proto_fail_member(d, name, ITEM_UNKNOWN_MEMBER, "unknown member");
    }
}

static void decode_init(struct proto_decoder *d, const json_t *value, struct define_param *p)
{
    const char *kind;
    json_t *scale;
    if (!value)
        return;
    path_push_name(&d->path, "init");
    if (!json_is_object(value) || json_object_size(value) != 1) {
        proto_fail(d, ITEM_WRONG_TYPE,
                   "must be one of {\"constant\": c}, {\"uniform\": bound}, {\"normal\": std}");
    } else {
        json_object_foreach((json_t *)(uintptr_t)value, kind, scale)
        {
            p->init = (enum define_init)proto_enum_parse(init_names, kind);
            path_push_name(&d->path, kind);
            if (!p->init)
                proto_fail(d, ITEM_UNKNOWN_MEMBER, "must be one of: constant, uniform, normal");
            p->scale = take_formula(d, scale);
            path_pop(&d->path);
        }
    }
    path_pop(&d->path);
}

static void decode_param(struct proto_decoder *d, const json_t *value, struct define_param *p)
{
    static const char *const known[] = { "shape", "init", NULL };
    if (!take_object(d, value, 8))
        return;
    refuse_unknown(d, value, known);
    if (!json_object_get(value, "shape"))
        proto_fail_member(d, "shape", ITEM_MISSING_MEMBER, "is missing");
    p->shape = take_texts(d, json_object_get(value, "shape"), "shape", DEFINE_AXES_MAX, false,
                          false, &p->n_shape);
    decode_init(d, json_object_get(value, "init"), p);
}

/* A list of numbers, or one number. */
static const double *take_numbers(struct proto_decoder *d, const json_t *value, size_t *np)
{
    bool single = json_is_number(value);
    *np = 0;
    if (!single && !is_list(d, value, MODEL_LIST_MAX))
        return NULL;
    size_t n = single ? 1 : json_array_size(value);
    double *to = proto_alloc(d, n, sizeof *to);
    for (size_t i = 0; to && i < n; i++) {
        const json_t *element = single ? value : json_array_get(value, i);
        to[i] = json_number_value(element);
        if (json_is_number(element))
            continue;
        path_push_index(&d->path, i);
        proto_fail(d, ITEM_WRONG_TYPE, "must be a number");
        path_pop(&d->path);
        break;
    }
    *np = to ? n : 0;
    return to;
}

static void check_size(struct proto_decoder *d, const struct define_buffer *b)
{
    size_t size = 1;
    for (size_t i = 0; i < b->n_shape; i++) {
        if (b->shape[i] < 1 || b->shape[i] > MODEL_LIST_MAX) {
            proto_fail_member(d, "shape", ITEM_OUT_OF_RANGE, "axes are from 1 to %d",
                              MODEL_LIST_MAX);
            return;
        }
        size *= (size_t)b->shape[i];
        size = size > MODEL_LIST_MAX ? MODEL_LIST_MAX + 1 : size;
    }
    if (size != b->n_data)
        proto_fail_member(d, "data", ITEM_SHAPE_MISMATCH,
                          "has %zu numbers, which are not those of the shape", b->n_data);
}

static void decode_buffer(struct proto_decoder *d, const json_t *value,
                          struct define_buffer *b)
{
    static const char *const known[] = { "shape", "data", NULL };
    if (!take_object(d, value, 8))
        return;
    refuse_unknown(d, value, known);
    const json_t *shape = json_object_get(value, "shape"), *data = json_object_get(value, "data");
    if (!data) {
        proto_fail_member(d, "data", ITEM_MISSING_MEMBER, "is missing");
        return;
    }
    path_push_name(&d->path, "data");
    b->data = take_numbers(d, data, &b->n_data);
    path_pop(&d->path);
    path_push_name(&d->path, "shape");
    bool listed = shape && is_list(d, shape, DEFINE_AXES_MAX);
    size_t n = listed ? json_array_size(shape) : 0;
    int64_t *to = proto_alloc(d, n, sizeof *to);
    for (size_t i = 0; to && i < n; i++)
        to[i] = json_integer_value(json_array_get(shape, i)); /* anything else reads as 0 */
    path_pop(&d->path);
    b->shape = to;
    b->n_shape = to ? n : 0;
    if (!shape && json_is_array(data)) { /* a vector */
        b->shape = to = proto_alloc(d, 1, sizeof *to);
        b->n_shape = to ? 1 : 0;
        if (to)
            to[0] = (int64_t)b->n_data;
    }
    if (b->data && (!shape || listed))
        check_size(d, b);
}

static void decode_attrs(struct proto_decoder *d, const json_t *object, struct define *def)
{
    static const char *const taken[] = { "op", "name", "in", "params", "trainable", "layers",
                                         NULL };
    const char *name;
    json_t *value;
    if (!object || !take_object(d, object, MODEL_ATTRS_MAX))
        return;
    struct define_attr *to = proto_alloc(d, json_object_size(object), sizeof *to);
    def->attrs = to;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!to)
            return;
        struct define_attr *a = &to[def->n_attrs++];
        path_push_name(&d->path, name);
        if (proto_enum_parse(taken, name) || strcmp(name, taken[0]) == 0)
            proto_fail(d, ITEM_INVALID_VALUE, "this name has a meaning of its own in a layer");
        a->attr.name = copy_name(d, name);
        a->required = json_is_null(value);
        if (json_is_number(value) || json_is_boolean(value) || json_is_array(value))
            model_attr_decode(d, name, value, &a->attr);
        else if (!a->required)
            proto_fail(d, ITEM_WRONG_TYPE,
                       "must be the default: a number, a bool, a list of numbers; or null");
        path_pop(&d->path);
    }
}

static void decode_params(struct proto_decoder *d, const json_t *object, struct define *def)
{
    const char *name;
    json_t *value;
    if (!object || !take_object(d, object, MODEL_ATTRS_MAX))
        return;
    struct define_param *to = proto_alloc(d, json_object_size(object), sizeof *to);
    def->params = to;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!to)
            return;
        struct define_param *p = &to[def->n_params++];
        path_push_name(&d->path, name);
        p->name = copy_name(d, name);
        decode_param(d, value, p);
        path_pop(&d->path);
    }
}

static void decode_buffers(struct proto_decoder *d, const json_t *object, struct define *def)
{
    const char *name;
    json_t *value;
    if (!object || !take_object(d, object, MODEL_ATTRS_MAX))
        return;
    struct define_buffer *to = proto_alloc(d, json_object_size(object), sizeof *to);
    def->buffers = to;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!to)
            return;
        struct define_buffer *b = &to[def->n_buffers++];
        path_push_name(&d->path, name);
        b->name = copy_name(d, name);
        decode_buffer(d, value, b);
        path_pop(&d->path);
    }
}

static void decode_define(struct proto_decoder *d, const json_t *object, struct define *def)
{
    static const char *const known[] = { "inputs", "attributes", "params", "buffers", "let",
                                         "out",    NULL };
    if (!take_object(d, object, 64))
        return;
    refuse_unknown(d, object, known);
    if (!json_object_get(object, "out"))
        proto_fail_member(d, "out", ITEM_MISSING_MEMBER, "is missing");
    if (!json_object_get(object, "inputs"))
        proto_fail_member(d, "inputs", ITEM_MISSING_MEMBER, "is missing");
    def->inputs = take_texts(d, json_object_get(object, "inputs"), "inputs", MODEL_ATTRS_MAX,
                             true, true, &def->n_inputs);
    path_push_name(&d->path, "attributes");
    decode_attrs(d, json_object_get(object, "attributes"), def);
    path_pop(&d->path);
    path_push_name(&d->path, "params");
    decode_params(d, json_object_get(object, "params"), def);
    path_pop(&d->path);
    path_push_name(&d->path, "buffers");
    decode_buffers(d, json_object_get(object, "buffers"), def);
    path_pop(&d->path);
    def->let = take_texts(d, json_object_get(object, "let"), "let", DEFINE_STEPS_MAX, true,
                          false, &def->n_let);
    def->out = take_texts(d, json_object_get(object, "out"), "out", DEFINE_OUTS_MAX, true,
                          false, &def->n_out);
}

void defines_decode(struct proto_decoder *d, const json_t *object, struct model *model)
{
    const char *name;
    json_t *value;
    if (!object || !take_object(d, object, MODEL_DEFINES_MAX))
        return;
    struct define *to = proto_alloc(d, json_object_size(object), sizeof *to);
    model->defines = to;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!to)
            return;
        struct define *def = &to[model->n_defines++];
        path_push_name(&d->path, name);
        def->name = copy_name(d, name);
        decode_define(d, value, def);
        path_pop(&d->path);
    }
}

/* ---- encode ---- */

static void put_texts(struct proto_writer *w, const char *name, const char *const *text,
                      size_t n)
{
    writer_key(w, name);
    writer_open(w, '[');
    for (size_t i = 0; i < n; i++)
        writer_string(w, text[i]);
    writer_close(w, ']');
}

static void encode_attrs(struct proto_writer *w, const struct define *def)
{
    if (!def->n_attrs)
        return;
    writer_key(w, "attributes");
    writer_open(w, '{');
    for (size_t i = 0; i < def->n_attrs; i++) {
        if (def->attrs[i].required) {
            writer_key(w, def->attrs[i].attr.name);
            writer_null(w);
        } else {
            model_attr_encode(w, &def->attrs[i].attr);
        }
    }
    writer_close(w, '}');
}

static void encode_params(struct proto_writer *w, const struct define *def)
{
    if (!def->n_params)
        return;
    writer_key(w, "params");
    writer_open(w, '{');
    for (size_t i = 0; i < def->n_params; i++) {
        const struct define_param *p = &def->params[i];
        writer_key(w, p->name);
        writer_open(w, '{');
        put_texts(w, "shape", p->shape, p->n_shape);
        if (p->init) {
            writer_key(w, "init");
            writer_open(w, '{');
            writer_key(w, init_names[p->init]);
            writer_string(w, p->scale);
            writer_close(w, '}');
        }
        writer_close(w, '}');
    }
    writer_close(w, '}');
}

static void encode_buffers(struct proto_writer *w, const struct define *def)
{
    if (!def->n_buffers)
        return;
    writer_key(w, "buffers");
    writer_open(w, '{');
    for (size_t i = 0; i < def->n_buffers; i++) {
        const struct define_buffer *b = &def->buffers[i];
        writer_key(w, b->name);
        writer_open(w, '{');
        writer_key(w, "shape");
        writer_open(w, '[');
        for (size_t k = 0; k < b->n_shape; k++)
            writer_int(w, b->shape[k]);
        writer_close(w, ']');
        writer_key(w, "data");
        writer_open(w, '[');
        for (size_t k = 0; k < b->n_data; k++)
            writer_real(w, b->data[k]);
        writer_close(w, ']');
        writer_close(w, '}');
    }
    writer_close(w, '}');
}

void defines_encode(struct proto_writer *w, const struct model *model)
{
    if (!model->n_defines)
        return;
    writer_key(w, "define");
    writer_open(w, '{');
    for (size_t i = 0; i < model->n_defines; i++) {
        const struct define *def = &model->defines[i];
        writer_key(w, def->name);
        writer_open(w, '{');
        put_texts(w, "inputs", def->inputs, def->n_inputs);
        encode_attrs(w, def);
        encode_params(w, def);
        encode_buffers(w, def);
        if (def->n_let)
            put_texts(w, "let", def->let, def->n_let);
        put_texts(w, "out", def->out, def->n_out);
        writer_close(w, '}');
    }
    writer_close(w, '}');
}
