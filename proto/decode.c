#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "field.h"
#include "proto/text.h"
#include "reader.h"

#define SUGGEST_DISTANCE 2

void proto_fail(struct proto_decoder *d, enum problem_item_code code, const char *fmt, ...)
{
    char pointer[PROBLEM_POINTER_MAX], what[PROBLEM_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    problem_add(d->problem, path_text(&d->path, pointer), code, "%s", what);
}

void proto_fail_member(struct proto_decoder *d, const char *member,
                       enum problem_item_code code, const char *fmt, ...)
{
    char what[PROBLEM_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    path_push_name(&d->path, member);
    proto_fail(d, code, "%s", what);
    path_pop(&d->path);
}

void *proto_alloc(struct proto_decoder *d, size_t n, size_t size)
{
    void *p = pool_alloc(d->pool, n, size);
    if (!p)
        d->nomem = true;
    return p;
}

const char *proto_copy_string(struct proto_decoder *d, const json_t *value)
{
    char *copy = pool_string(d->pool, json_string_value(value), json_string_length(value));
    if (!copy)
        d->nomem = true;
    return copy;
}

int proto_enum_parse(const char *const *names, const char *text)
{
    for (int i = 1; names[i]; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return 0;
}

bool proto_name_valid(const char *text)
{
    static const char inner[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t n = strlen(text);
    if (n == 0 || n > 64 || !strchr(inner, text[0]))
        return false;
    for (size_t i = 1; i < n; i++)
        if (!strchr(inner, text[i]) && !strchr("._-", text[i]))
            return false;
    return true;
}

static bool applies(const struct proto_field *field, int tag)
{
    return field->tags == 0 || (tag > 0 && (field->tags >> tag & 1));
}

static void field_default(const struct proto_field *f, void *value)
{
    unsigned char *at = (unsigned char *)value + f->offset;
    bool given = f->flags & PROTO_DEFAULT;
    switch (f->kind) {
    case PROTO_BOOL: *(bool *)at = given && f->def != 0; break;
    case PROTO_INT:
    case PROTO_TIME: *(int64_t *)at = given ? (int64_t)f->def : -1; break;
    case PROTO_REAL:
    case PROTO_DURATION: *(double *)at = given ? f->def : NAN; break;
    case PROTO_ENUM: memcpy(at, &(int){ given ? (int)f->def : 0 }, sizeof(int)); break;
    case PROTO_STRING: *(const char **)at = given ? f->def_text : NULL; break;
    case PROTO_EMBED: proto_defaults(f->message, at, 0); break;
    case PROTO_OBJECT:
    case PROTO_OBJECTS:
    case PROTO_STRINGS:
    case PROTO_INTS:
    case PROTO_REALS:
        *(void **)at = NULL;
        if (f->kind != PROTO_OBJECT)
            *(size_t *)((unsigned char *)value + f->count_offset) = 0;
        break;
    case PROTO_CUSTOM:
        if (f->custom->absent)
            f->custom->absent(at);
        break;
    case PROTO_CONST: break;
    }
}

void proto_defaults(const struct proto_message *message, void *value, int tag)
{
    for (size_t i = 0; i < message->n_fields; i++)
        if (applies(&message->fields[i], tag))
            field_default(&message->fields[i], value);
}

static const char *json_type_name(const json_t *value)
{
    static const char *const names[] = { "an object", "a list", "a string", "an integer",
                                         "a number",  "a bool", "a bool",   "null" };
    return names[json_typeof(value)];
}

static bool expect_type(struct proto_decoder *d, const json_t *value, bool ok,
                        const char *what)
{
    if (!ok)
        proto_fail(d, ITEM_WRONG_TYPE, "must be %s, is %s", what, json_type_name(value));
    return ok;
}

static bool expect_range(struct proto_decoder *d, const struct proto_field *f, double v,
                         double min, double max)
{
    if (min == 0 && max == 0)
        return true;
    bool low = f->flags & PROTO_ABOVE ? !(v > min) : v < min;
    bool high = f->flags & PROTO_BELOW ? !(v < max) : v > max;
    if (!low && !high)
        return true;
    char bound[PROTO_REAL_MAX];
    if (low)
        proto_fail(d, ITEM_OUT_OF_RANGE, "must be %s %s",
                   f->flags & PROTO_ABOVE ? "above" : "at least",
                   proto_real_text(min, bound));
    else
        proto_fail(d, ITEM_OUT_OF_RANGE, "must be %s %s",
                   f->flags & PROTO_BELOW ? "below" : "at most",
                   proto_real_text(max, bound));
    return false;
}

static void decode_int(struct proto_decoder *d, const struct proto_field *f,
                       const json_t *value, int64_t *out)
{
    if (!expect_type(d, value, json_is_integer(value), "an integer"))
        return;
    int64_t v = json_integer_value(value);
    bool ranged = f->min != 0 || f->max != 0;
    /* an integer without a range of its own is a count: -1 is kept for absent */
    if (expect_range(d, f, (double)v, f->min, ranged ? f->max : 9223372036854775807.0))
        *out = v;
}

static void decode_real(struct proto_decoder *d, const struct proto_field *f,
                        const json_t *value, double *out)
{
    if (!expect_type(d, value, json_is_number(value), "a number"))
        return;
    double v = json_number_value(value);
    if (expect_range(d, f, v, f->min, f->max))
        *out = v;
}

static void decode_duration(struct proto_decoder *d, const struct proto_field *f,
                            const json_t *value, double *out)
{
    double v;
    if (json_is_string(value)) {
        if (proto_duration_parse(json_string_value(value), &v)) {
            proto_fail(d, ITEM_INVALID_VALUE,
                       "must be seconds or a text like \"30s\" or \"5m\"");
            return;
        }
        if (expect_range(d, f, v, f->min, f->max))
            *out = v;
        return;
    }
    decode_real(d, f, value, out);
}

static bool string_fits(struct proto_decoder *d, const json_t *value, double min,
                        double max)
{
    double n = (double)json_string_length(value);
    if (max > 0 && n > max) {
        proto_fail(d, ITEM_TOO_LONG, "longer than %.0f bytes", max);
        return false;
    }
    if (n < min) {
        proto_fail(d, ITEM_INVALID_VALUE, "must not be empty");
        return false;
    }
    return true;
}

static void decode_string(struct proto_decoder *d, const struct proto_field *f,
                          const json_t *value, const char **out)
{
    if (!expect_type(d, value, json_is_string(value), "a string") ||
        !string_fits(d, value, f->min, f->max))
        return;
    if ((f->flags & PROTO_NAME) && !proto_name_valid(json_string_value(value))) {
        proto_fail(d, ITEM_INVALID_VALUE,
                   "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter "
                   "or digit");
        return;
    }
    *out = proto_copy_string(d, value);
}

static void names_text(const char *const *names, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 1; names[i] && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", i > 1 ? ", " : "", names[i]);
}

static int decode_enum(struct proto_decoder *d, const struct proto_field *f,
                       const json_t *value)
{
    if (!expect_type(d, value, json_is_string(value), "a string"))
        return 0;
    int v = proto_enum_parse(f->names, json_string_value(value));
    if (v == 0 && !d->lenient) {
        char list[PROBLEM_MESSAGE_MAX - 24];
        names_text(f->names, list, sizeof list);
        proto_fail(d, ITEM_INVALID_VALUE, "must be one of: %s", list);
    }
    return v;
}

static void decode_time(struct proto_decoder *d, const json_t *value, int64_t *out)
{
    if (!expect_type(d, value, json_is_string(value), "a string"))
        return;
    if (proto_time_parse(json_string_value(value), out))
        proto_fail(d, ITEM_INVALID_VALUE, "must be a time like 2024-02-29T12:00:00Z");
}

static bool list_fits(struct proto_decoder *d, const struct proto_field *f,
                      const json_t *value)
{
    if (!expect_type(d, value, json_is_array(value), "a list"))
        return false;
    double n = (double)json_array_size(value);
    if (f->max > 0 && n > f->max) {
        proto_fail(d, ITEM_TOO_MANY, "more than %.0f elements", f->max);
        return false;
    }
    if (n < f->min) {
        proto_fail(d, ITEM_TOO_FEW, "needs at least %.0f elements", f->min);
        return false;
    }
    return true;
}

static size_t element_size(const struct proto_field *f)
{
    if (f->kind == PROTO_OBJECTS)
        return f->message->size;
    return f->kind == PROTO_STRINGS ? sizeof(char *) : sizeof(int64_t);
}

static void decode_list(struct proto_decoder *d, const struct proto_field *f,
                        const json_t *value, void *message)
{
    if (!list_fits(d, f, value))
        return;
    size_t n = json_array_size(value), size = element_size(f);
    unsigned char *data = proto_alloc(d, n, size);
    if (!data)
        return;
    struct proto_field item = *f;
    item.min = f->item_min;
    item.max = f->item_max;
    for (size_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(value, i);
        void *at = data + i * size;
        path_push_index(&d->path, i);
        if (f->kind == PROTO_OBJECTS)
            proto_decode_object(d, f->message, element, at);
        else if (f->kind == PROTO_STRINGS)
            decode_string(d, &item, element, at);
        else if (f->kind == PROTO_INTS)
            decode_int(d, &item, element, at);
        else
            decode_real(d, &item, element, at);
        path_pop(&d->path);
    }
    unsigned char *base = message;
    *(void **)(base + f->offset) = data;
    *(size_t *)(base + f->count_offset) = n;
}

static void decode_value(struct proto_decoder *d, const struct proto_field *f,
                         const json_t *value, void *message)
{
    void *at = (unsigned char *)message + f->offset;
    if (json_is_null(value) && (f->flags & PROTO_NULLABLE))
        return;
    switch (f->kind) {
    case PROTO_BOOL:
        if (expect_type(d, value, json_is_boolean(value), "true or false"))
            *(bool *)at = json_is_true(value);
        break;
    case PROTO_INT: decode_int(d, f, value, at); break;
    case PROTO_REAL: decode_real(d, f, value, at); break;
    case PROTO_DURATION: decode_duration(d, f, value, at); break;
    case PROTO_STRING: decode_string(d, f, value, at); break;
    case PROTO_ENUM: memcpy(at, &(int){ decode_enum(d, f, value) }, sizeof(int)); break;
    case PROTO_TIME: decode_time(d, value, at); break;
    case PROTO_EMBED: proto_decode_object(d, f->message, value, at); break;
    case PROTO_OBJECT:
        *(void **)at = proto_alloc(d, 1, f->message->size);
        if (*(void **)at)
            proto_decode_object(d, f->message, value, *(void **)at);
        break;
    case PROTO_OBJECTS:
    case PROTO_STRINGS:
    case PROTO_INTS:
    case PROTO_REALS: decode_list(d, f, value, message); break;
    case PROTO_CONST:
        if (expect_type(d, value, json_is_string(value), "a string") &&
            strcmp(json_string_value(value), f->names[0]) != 0)
            proto_fail(d, ITEM_INVALID_VALUE, "must be \"%s\"", f->names[0]);
        break;
    case PROTO_CUSTOM: f->custom->decode(d, value, at); break;
    }
}

static const struct proto_field *field_find(const struct proto_message *message,
                                            const char *name, int tag)
{
    for (size_t i = 0; i < message->n_fields; i++)
        if (applies(&message->fields[i], tag) && strcmp(message->fields[i].name, name) == 0)
            return &message->fields[i];
    return NULL;
}

/* edits from a to b (insert, delete, replace), names of at most PROTO_NAME_MAX bytes */
static size_t name_distance(const char *a, const char *b)
{
    size_t row[PROTO_NAME_MAX + 1], n = strlen(b);
    if (n > PROTO_NAME_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static const char *name_suggest(const struct proto_message *message, const char *name,
                                int tag)
{
    const char *found = NULL;
    size_t best = SUGGEST_DISTANCE + 1;
    for (size_t i = 0; i < message->n_fields; i++) {
        size_t distance = name_distance(message->fields[i].name, name);
        if (applies(&message->fields[i], tag) && distance < best) {
            best = distance;
            found = message->fields[i].name;
        }
    }
    return found;
}

/* a name that no member of this tag has: foreign to the tag, or to the message */
static void report_unknown(struct proto_decoder *d, const struct proto_message *message,
                           const char *name, const char *tag_text, int tag)
{
    bool elsewhere = false;
    if (d->problem->n_errors == PROBLEM_ITEMS_MAX)
        return; /* nobody would see it, and looking for a suggestion costs */
    for (size_t i = 0; i < message->n_fields; i++)
        elsewhere |= strcmp(message->fields[i].name, name) == 0;
    if (elsewhere) {
        proto_fail_member(d, name, ITEM_NOT_APPLICABLE, "does not belong to %s %s",
                          message->tag, tag_text ? tag_text : "");
        return;
    }
    const char *suggestion = name_suggest(message, name, tag);
    if (suggestion)
        proto_fail_member(d, name, ITEM_UNKNOWN_MEMBER, "unknown member, did you mean %s?",
                          suggestion);
    else
        proto_fail_member(d, name, ITEM_UNKNOWN_MEMBER, "unknown member");
}

/* The tag decides which members there are, so it comes first. -1: no use to go on. */
static int decode_tag(struct proto_decoder *d, const struct proto_message *message,
                      const json_t *object, const char **textp)
{
    if (!message->tag)
        return 0;
    const struct proto_field *f = field_find(message, message->tag, 0);
    const json_t *value = json_object_get(object, message->tag);
    if (!value) {
        if (f->flags & PROTO_DEFAULT) {
            *textp = f->names[(int)f->def];
            return (int)f->def;
        }
        if (!d->lenient)
            proto_fail_member(d, message->tag, ITEM_MISSING_MEMBER, "is missing");
        return d->lenient ? 0 : -1;
    }
    *textp = json_string_value(value);
    path_push_name(&d->path, message->tag);
    int tag = decode_enum(d, f, value);
    path_pop(&d->path);
    return tag || d->lenient ? tag : -1;
}

void proto_decode_object(struct proto_decoder *d, const struct proto_message *message,
                         const json_t *object, void *value)
{
    const char *tag_text = NULL, *name;
    json_t *member;
    proto_defaults(message, value, 0);
    if (!expect_type(d, object, json_is_object(object), "an object"))
        return;
    size_t errors = d->problem->n_errors;
    int tag = decode_tag(d, message, object, &tag_text);
    if (tag < 0)
        return;
    proto_defaults(message, value, tag);
    json_object_foreach((json_t *)(uintptr_t)object, name, member)
    {
        const struct proto_field *f = field_find(message, name, tag);
        if (f) {
            path_push_name(&d->path, name);
            decode_value(d, f, member, value);
            path_pop(&d->path);
        } else if (!d->lenient) {
            report_unknown(d, message, name, tag_text, tag);
        }
    }
    for (size_t i = 0; i < message->n_fields; i++) {
        const struct proto_field *f = &message->fields[i];
        if ((f->flags & PROTO_REQUIRED) && applies(f, tag) &&
            !json_object_get(object, f->name))
            proto_fail_member(d, f->name, ITEM_MISSING_MEMBER, "is missing");
    }
    bool clean = d->problem->n_errors == errors && errors < PROBLEM_ITEMS_MAX && !d->nomem;
    if (message->check && clean)
        message->check(d, value);
}

static int decode_finish(struct proto_decoder *d)
{
    struct problem *p = d->problem;
    if (d->nomem) {
        problem_init(p);
        problem_set(p, PROBLEM_OUT_OF_MEMORY, NULL);
        return PROTO_E_NOMEM;
    }
    if (p->n_errors == 0)
        return 0;
    enum problem_type type = PROBLEM_VALIDATION_FAILED;
    for (size_t i = 0; i < p->n_errors; i++)
        if (strcmp(p->errors[i].code, problem_item_text(ITEM_UNKNOWN_MEMBER)) == 0)
            type = PROBLEM_UNKNOWN_MEMBER;
    problem_set(p, type, "%s: %s", p->errors[0].pointer, p->errors[0].message);
    return PROTO_E_INVALID;
}

int proto_decode(const struct proto_message *message, bool lenient, const char *text,
                 size_t len, void **messagep, struct problem *p)
{
    *messagep = NULL;
    problem_init(p);
    json_t *root;
    int r = proto_read(&root, text, len, p);
    if (r)
        return r;
    struct proto_decoder d = { .pool = pool_create(message->size),
                               .problem = p,
                               .lenient = lenient };
    if (d.pool)
        proto_decode_object(&d, message, root, pool_root(d.pool));
    else
        d.nomem = true;
    json_decref(root);
    r = decode_finish(&d);
    if (r) {
        if (d.pool)
            pool_free_root(pool_root(d.pool));
        return r;
    }
    *messagep = pool_root(d.pool);
    return 0;
}
