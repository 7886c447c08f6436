#include <string.h>

#include "field.h"
#include "proto/text.h"

static int read_enum(const void *at)
{
    int v;
    memcpy(&v, at, sizeof v);
    return v;
}

static bool field_present(const struct proto_field *f, const unsigned char *at)
{
    switch (f->kind) {
    case PROTO_BOOL: return *(const bool *)at || !(f->flags & PROTO_OMIT_FALSE);
    case PROTO_INT: return *(const int64_t *)at != -1 || f->min < 0;
    case PROTO_TIME: return *(const int64_t *)at >= 0;
    case PROTO_REAL:
    case PROTO_DURATION: return !isnan(*(const double *)at);
    case PROTO_ENUM: return read_enum(at) != 0;
    case PROTO_STRING:
    case PROTO_OBJECT: return *(const void *const *)at != NULL;
    case PROTO_OBJECTS:
    case PROTO_STRINGS:
    case PROTO_INTS:
    case PROTO_REALS:
        return *(const void *const *)at != NULL || (f->flags & PROTO_REQUIRED);
    case PROTO_CUSTOM: return f->custom->present(at);
    case PROTO_EMBED:
    case PROTO_CONST: break;
    }
    return true;
}

static void encode_list(const struct proto_field *f, struct proto_writer *w,
                        const unsigned char *data, size_t n)
{
    writer_open(w, '[');
    for (size_t i = 0; i < n; i++) {
        if (f->kind == PROTO_OBJECTS)
            proto_encode_into(f->message, w, data + i * f->message->size);
        else if (f->kind == PROTO_STRINGS)
            writer_string(w, ((const char *const *)(const void *)data)[i]);
        else if (f->kind == PROTO_INTS)
            writer_int(w, ((const int64_t *)(const void *)data)[i]);
        else
            writer_real(w, ((const double *)(const void *)data)[i]);
    }
    writer_close(w, ']');
}

static void encode_value(const struct proto_field *f, struct proto_writer *w,
                         const unsigned char *message)
{
    const unsigned char *at = message + f->offset;
    char buf[PROTO_TIME_MAX > PROTO_REAL_MAX ? PROTO_TIME_MAX : PROTO_REAL_MAX];
    switch (f->kind) {
    case PROTO_BOOL: writer_bool(w, *(const bool *)at); break;
    case PROTO_INT: writer_int(w, *(const int64_t *)at); break;
    case PROTO_REAL: writer_real(w, *(const double *)at); break;
    case PROTO_DURATION:
        writer_string(w, proto_duration_text(*(const double *)at, buf));
        break;
    case PROTO_TIME: writer_string(w, proto_time_text(*(const int64_t *)at, buf)); break;
    case PROTO_ENUM: writer_string(w, f->names[read_enum(at)]); break;
    case PROTO_STRING: writer_string(w, *(const char *const *)at); break;
    case PROTO_EMBED: proto_encode_into(f->message, w, at); break;
    case PROTO_OBJECT: proto_encode_into(f->message, w, *(const void *const *)at); break;
    case PROTO_OBJECTS:
    case PROTO_STRINGS:
    case PROTO_INTS:
    case PROTO_REALS:
        encode_list(f, w, *(const void *const *)at,
                    *(const size_t *)(message + f->count_offset));
        break;
    case PROTO_CONST: writer_string(w, f->names[0]); break;
    case PROTO_CUSTOM: f->custom->encode(w, at); break;
    }
}

static int message_tag(const struct proto_message *message, const unsigned char *value)
{
    for (size_t i = 0; message->tag && i < message->n_fields; i++)
        if (strcmp(message->fields[i].name, message->tag) == 0)
            return read_enum(value + message->fields[i].offset);
    return 0;
}

void proto_encode_into(const struct proto_message *message, struct proto_writer *w,
                       const void *value)
{
    int tag = message_tag(message, value);
    writer_open(w, '{');
    for (size_t i = 0; i < message->n_fields; i++) {
        const struct proto_field *f = &message->fields[i];
        if (f->tags && !(tag > 0 && (f->tags >> tag & 1)))
            continue;
        bool present = field_present(f, (const unsigned char *)value + f->offset);
        bool as_null = (f->flags & PROTO_NULLABLE) && (f->flags & PROTO_REQUIRED);
        if (!present && !as_null)
            continue;
        writer_key(w, f->name);
        if (present)
            encode_value(f, w, value);
        else
            writer_null(w);
    }
    writer_close(w, '}');
}

char *proto_encode(const struct proto_message *message, const void *value, size_t *lenp)
{
    struct proto_writer w = { 0 };
    proto_encode_into(message, &w, value);
    return writer_finish(&w, lenp);
}
