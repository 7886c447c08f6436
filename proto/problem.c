#include "proto/problem.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"
#include "utf8.h"
#include "writer.h"

static const struct {
    const char *slug;
    int status;
    const char *title;
} problems[PROBLEM_N] = {
#define PROBLEM(name, slug, status, title) [PROBLEM_##name] = { slug, status, title },
#include "proto/error.inc"
};

static const char *const items[ITEM_N] = {
#define ITEM(name, text) [ITEM_##name] = text,
#include "proto/error.inc"
};

#define TYPE_PREFIX "/problems/"

void problem_init(struct problem *p)
{
    *p = (struct problem){ .requested_epsilon = NAN,
                           .available_epsilon = NAN,
                           .max_steps_that_fit = -1 };
}

const char *problem_item_text(enum problem_item_code code)
{
    return code > ITEM_NONE && code < ITEM_N ? items[code] : "";
}

const char *problem_slug(enum problem_type type)
{
    return type > PROBLEM_NONE && type < PROBLEM_N ? problems[type].slug : "";
}

const char *problem_title(enum problem_type type)
{
    return type > PROBLEM_NONE && type < PROBLEM_N ? problems[type].title : "";
}

int problem_http_status(enum problem_type type)
{
    return type > PROBLEM_NONE && type < PROBLEM_N ? problems[type].status : 0;
}

/* vsnprintf that never leaves half a character at the end */
static void text_format(char *buf, size_t size, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void text_format(char *buf, size_t size, const char *fmt, va_list args)
{
    int n = vsnprintf(buf, size, fmt, args);
    if (n < 0) {
        buf[0] = '\0';
        return;
    }
    if ((size_t)n < size)
        return;
    size_t end = size - 1;
    while (end && ((unsigned char)buf[end - 1] & 0xc0) == 0x80)
        end--;
    if (end && (unsigned char)buf[end - 1] >= 0xc0) {
        if (utf8_length(buf + end - 1, size - end) == 0)
            buf[end - 1] = '\0';
    }
}

static void text_copy(char *buf, size_t size, const char *text)
{
    snprintf(buf, size, "%s", text ? text : "");
}

int problem_set(struct problem *p, enum problem_type type, const char *fmt, ...)
{
    p->code = type;
    p->status = problem_http_status(type);
    snprintf(p->type, sizeof p->type, TYPE_PREFIX "%s", problem_slug(type));
    text_copy(p->title, sizeof p->title, problem_title(type));
    p->detail[0] = '\0';
    if (fmt) {
        va_list args;
        va_start(args, fmt);
        text_format(p->detail, sizeof p->detail, fmt, args);
        va_end(args);
    }
    return p->status;
}

static void item_add(struct problem *p, const char *pointer, enum problem_item_code code,
                     const char *fmt, va_list args) __attribute__((format(printf, 4, 0)));

static void item_add(struct problem *p, const char *pointer, enum problem_item_code code,
                     const char *fmt, va_list args)
{
    if (p->n_errors == PROBLEM_ITEMS_MAX)
        return;
    struct problem_item *item = &p->errors[p->n_errors++];
    text_copy(item->pointer, sizeof item->pointer, pointer);
    text_copy(item->code, sizeof item->code, problem_item_text(code));
    text_format(item->message, sizeof item->message, fmt, args);
}

void problem_add(struct problem *p, const char *pointer, enum problem_item_code code,
                 const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    item_add(p, pointer, code, fmt, args);
    va_end(args);
}

int problem_invalid(struct problem *p, const char *pointer, enum problem_item_code code,
                    const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    item_add(p, pointer, code, fmt, args);
    va_end(args);
    return problem_set(p, PROBLEM_VALIDATION_FAILED, NULL);
}

static void member_text(struct proto_writer *w, const char *name, const char *text)
{
    if (!text[0])
        return;
    writer_key(w, name);
    writer_string(w, text);
}

char *problem_encode(const struct problem *p, size_t *lenp)
{
    struct proto_writer w = { 0 };
    writer_open(&w, '{');
    member_text(&w, "type", p->type);
    member_text(&w, "title", p->title);
    writer_key(&w, "status");
    writer_int(&w, p->status);
    member_text(&w, "detail", p->detail);
    member_text(&w, "instance", p->instance);
    member_text(&w, "request_id", p->request_id);
    if (!isnan(p->requested_epsilon)) {
        writer_key(&w, "requested_epsilon");
        writer_real(&w, p->requested_epsilon);
    }
    if (!isnan(p->available_epsilon)) {
        writer_key(&w, "available_epsilon");
        writer_real(&w, p->available_epsilon);
    }
    if (p->max_steps_that_fit >= 0) {
        writer_key(&w, "max_steps_that_fit");
        writer_int(&w, p->max_steps_that_fit);
    }
    if (p->n_errors) {
        writer_key(&w, "errors");
        writer_open(&w, '[');
        for (size_t i = 0; i < p->n_errors; i++) {
            writer_open(&w, '{');
            writer_key(&w, "pointer");
            writer_string(&w, p->errors[i].pointer);
            member_text(&w, "code", p->errors[i].code);
            member_text(&w, "message", p->errors[i].message);
            writer_close(&w, '}');
        }
        writer_close(&w, ']');
    }
    writer_close(&w, '}');
    return writer_finish(&w, lenp);
}

static void take_text(const json_t *object, const char *name, char *buf, size_t size)
{
    text_copy(buf, size, json_string_value(json_object_get(object, name)));
}

static double take_real(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void take_items(struct problem *p, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list) && i < PROBLEM_ITEMS_MAX; i++) {
        const json_t *entry = json_array_get(list, i);
        struct problem_item *item = &p->errors[p->n_errors++];
        take_text(entry, "pointer", item->pointer, sizeof item->pointer);
        take_text(entry, "code", item->code, sizeof item->code);
        take_text(entry, "message", item->message, sizeof item->message);
    }
}

int problem_decode(struct problem *p, const char *text, size_t len)
{
    json_t *root;
    problem_init(p);
    int r = proto_read(&root, text, len, p);
    if (r)
        return r;
    if (!json_is_object(root)) {
        json_decref(root);
        problem_invalid(p, "", ITEM_WRONG_TYPE, "must be an object");
        return PROTO_E_INVALID;
    }
    take_text(root, "type", p->type, sizeof p->type);
    take_text(root, "title", p->title, sizeof p->title);
    take_text(root, "detail", p->detail, sizeof p->detail);
    take_text(root, "instance", p->instance, sizeof p->instance);
    take_text(root, "request_id", p->request_id, sizeof p->request_id);
    json_int_t status = json_integer_value(json_object_get(root, "status"));
    p->status = status >= 100 && status <= 599 ? (int)status : 0;
    p->requested_epsilon = take_real(root, "requested_epsilon");
    p->available_epsilon = take_real(root, "available_epsilon");
    const json_t *steps = json_object_get(root, "max_steps_that_fit");
    p->max_steps_that_fit = json_is_integer(steps) && json_integer_value(steps) >= 0
                                ? json_integer_value(steps)
                                : -1;
    take_items(p, json_object_get(root, "errors"));
    for (int type = 1; type < PROBLEM_N; type++)
        if (strncmp(p->type, TYPE_PREFIX, strlen(TYPE_PREFIX)) == 0 &&
            strcmp(p->type + strlen(TYPE_PREFIX), problems[type].slug) == 0)
            p->code = (enum problem_type)type;
    json_decref(root);
    return 0;
}
