#include "reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "path.h"
#include "proto/text.h"
#include "utf8.h"

enum expect {
    EXPECT_VALUE,        /* after ':' , after ',' in an array, at the start */
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_NAME,         /* after ',' in an object */
    EXPECT_NAME_OR_END,  /* after '{' */
    EXPECT_COMMA_OR_END, /* after a value in a container */
    EXPECT_NOTHING       /* after the root value */
};

struct level {
    json_t *container; /* borrowed: its parent, or root, owns it */
    size_t count;
    char name[PROTO_NAME_MAX + 1];
};

struct reader {
    const char *text;
    size_t len, at;
    struct problem *problem;
    int status;
    json_t *root;
    char *scratch; /* one decoded string */
    size_t scratch_size;
    size_t depth;
    struct level levels[PROTO_DEPTH_MAX];
};

/* the place that is being read: name of the member or index of the element, per level */
static void reader_pointer(const struct reader *r, char buf[PROBLEM_POINTER_MAX])
{
    struct path path = { 0 };
    for (size_t i = 0; i < r->depth; i++) {
        const struct level *level = &r->levels[i];
        if (json_is_array(level->container))
            path_push_index(&path, level->count);
        else if (level->name[0])
            path_push_name(&path, level->name);
    }
    path_text(&path, buf);
}

static void reader_fail(struct reader *r, enum problem_item_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void reader_fail(struct reader *r, enum problem_item_code code, const char *fmt, ...)
{
    char what[PROBLEM_MESSAGE_MAX], pointer[PROBLEM_POINTER_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    size_t line = 1, column = 1;
    for (size_t i = 0; i < r->at && i < r->len; i++) {
        column = r->text[i] == '\n' ? 1 : column + 1;
        line += r->text[i] == '\n';
    }
    reader_pointer(r, pointer);
    problem_set(r->problem, PROBLEM_MALFORMED_JSON, NULL);
    problem_add(r->problem, pointer, code, "line %zu, byte %zu: %s", line, column, what);
    r->status = PROTO_E_INVALID;
}

static void reader_nomem(struct reader *r)
{
    problem_set(r->problem, PROBLEM_OUT_OF_MEMORY, NULL);
    r->status = PROTO_E_NOMEM;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->len && strchr(" \t\n\r", r->text[r->at]) && r->text[r->at])
        r->at++;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* four hex digits at r->at; -1 when they are not */
static int32_t take_hex(struct reader *r)
{
    int32_t code = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = r->at < r->len ? hex_value(r->text[r->at]) : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
        r->at++;
    }
    return code;
}

/* the part of an escape after "\u", into out; returns its length, 0 after a failure */
static size_t take_unicode(struct reader *r, char *out)
{
    int32_t code = take_hex(r);
    if (code >= 0xd800 && code <= 0xdbff) {
        int32_t low = -1;
        if (r->at + 1 < r->len && r->text[r->at] == '\\' && r->text[r->at + 1] == 'u') {
            r->at += 2;
            low = take_hex(r);
        }
        code = low >= 0xdc00 && low <= 0xdfff
                   ? 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00
                   : -1;
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        code = -1;
    }
    if (code <= 0) {
        reader_fail(r, ITEM_SYNTAX,
                    code ? "\\u needs four hex digits of a character" : "NUL in a string");
        return 0;
    }
    return utf8_write(out, (uint32_t)code);
}

static size_t take_escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->len ? r->text[r->at] : '\0';
    if (c == 'u') {
        r->at++;
        return take_unicode(r, out);
    }
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) {
        reader_fail(r, ITEM_SYNTAX, "unknown escape in a string");
        return 0;
    }
    r->at++;
    *out = to[found - from];
    return 1;
}

/* room in scratch for one string of at most PROTO_STRING_MAX bytes and one more character
 */
static int scratch_grow(struct reader *r, size_t used)
{
    if (r->scratch_size - used > 4)
        return 0;
    size_t size = r->scratch_size ? r->scratch_size * 2 : 256;
    json_malloc_t alloc;
    json_free_t release;
    json_get_alloc_funcs(&alloc, &release);
    char *scratch = alloc(size);
    if (!scratch) {
        reader_nomem(r);
        return -1;
    }
    if (used)
        memcpy(scratch, r->scratch, used);
    release(r->scratch);
    r->scratch = scratch;
    r->scratch_size = size;
    return 0;
}

/* the string whose opening quote is at r->at, decoded into scratch; -1 after a failure */
static int take_string(struct reader *r, size_t max, size_t *lenp)
{
    size_t n = 0;
    for (r->at++;;) {
        if (scratch_grow(r, n))
            return -1;
        if (n > max) {
            reader_fail(r, ITEM_TOO_LONG, "longer than %zu bytes", max);
            return -1;
        }
        if (r->at == r->len) {
            reader_fail(r, ITEM_SYNTAX, "a string has no end");
            return -1;
        }
        unsigned char c = (unsigned char)r->text[r->at];
        if (c == '"')
            break;
        if (c == '\\') {
            r->at++;
            size_t k = take_escape(r, r->scratch + n);
            if (k == 0)
                return -1;
            n += k;
            continue;
        }
        size_t k = utf8_length(r->text + r->at, r->len - r->at);
        if (k == 0 || c < 0x20) {
            reader_fail(r, k ? ITEM_SYNTAX : ITEM_INVALID_UTF8,
                        k ? "control character in a string" : "not UTF-8");
            return -1;
        }
        memcpy(r->scratch + n, r->text + r->at, k);
        n += k;
        r->at += k;
    }
    r->at++;
    r->scratch[n] = '\0';
    *lenp = n;
    return 0;
}

/* Attaches value to the present container, or as the root; takes the reference. */
static int attach(struct reader *r, json_t *value)
{
    if (!value) {
        reader_nomem(r);
        return -1;
    }
    if (r->depth == 0) {
        r->root = value;
        return 0;
    }
    struct level *level = &r->levels[r->depth - 1];
    int failed = json_is_array(level->container)
                     ? json_array_append_new(level->container, value)
                     : json_object_set_new_nocheck(level->container, level->name, value);
    if (failed)
        reader_nomem(r);
    return failed;
}

static void read_number(struct reader *r)
{
    size_t start = r->at;
    while (r->at < r->len && r->text[r->at] && strchr("+-.0123456789eE", r->text[r->at]))
        r->at++;
    size_t n = r->at - start;
    double real;
    if (proto_real_parse(r->text + start, n, &real)) {
        reader_fail(r, ITEM_SYNTAX, "not a finite number in JSON's grammar");
        return;
    }
    bool integer = true;
    for (size_t i = start; i < r->at; i++)
        integer &= strchr(".eE", r->text[i]) == NULL;
    if (!integer) {
        attach(r, json_real(real));
        return;
    }
    json_int_t value = 0;
    bool negative = r->text[start] == '-';
    for (size_t i = start + negative; i < r->at; i++) {
        json_int_t digit = r->text[i] - '0';
        if (__builtin_mul_overflow(value, (json_int_t)10, &value) ||
            __builtin_sub_overflow(value, digit, &value)) {
            reader_fail(r, ITEM_OUT_OF_RANGE, "an integer of more than 64 bits");
            return;
        }
    }
    if (!negative && __builtin_sub_overflow((json_int_t)0, value, &value)) {
        reader_fail(r, ITEM_OUT_OF_RANGE, "an integer of more than 64 bits");
        return;
    }
    attach(r, json_integer(value));
}

static void read_word(struct reader *r)
{
    static const char *const words[] = { "true", "false", "null" };
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (r->len - r->at >= n && memcmp(r->text + r->at, words[i], n) == 0) {
            r->at += n;
            attach(r, i == 0 ? json_true() : i == 1 ? json_false() : json_null());
            return;
        }
    }
    reader_fail(r, ITEM_SYNTAX, "a value was expected");
}

/* opens a container; returns what must follow */
static enum expect read_open(struct reader *r, char bracket)
{
    if (r->depth == PROTO_DEPTH_MAX) {
        reader_fail(r, ITEM_TOO_DEEP, "nested deeper than %d", PROTO_DEPTH_MAX);
        return EXPECT_NOTHING;
    }
    json_t *container = bracket == '{' ? json_object() : json_array();
    if (attach(r, container))
        return EXPECT_NOTHING;
    r->at++;
    struct level *level = &r->levels[r->depth++];
    level->container = container;
    level->count = 0;
    level->name[0] = '\0';
    return bracket == '{' ? EXPECT_NAME_OR_END : EXPECT_VALUE_OR_END;
}

static enum expect after_value(const struct reader *r)
{
    return r->depth ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static enum expect read_value(struct reader *r, char c)
{
    size_t n;
    if (c == '{' || c == '[')
        return read_open(r, c);
    if (c == '"') {
        if (take_string(r, PROTO_STRING_MAX, &n) == 0)
            attach(r, json_stringn_nocheck(r->scratch, n));
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        read_number(r);
    } else {
        read_word(r);
    }
    return after_value(r);
}

static enum expect read_name(struct reader *r, char c)
{
    struct level *level = &r->levels[r->depth - 1];
    size_t n;
    level->name[0] = '\0';
    if (c != '"') {
        reader_fail(r, ITEM_SYNTAX, "a member's name in quotes was expected");
        return EXPECT_NOTHING;
    }
    if (take_string(r, PROTO_NAME_MAX, &n))
        return EXPECT_NOTHING;
    memcpy(level->name, r->scratch, n + 1);
    if (json_object_get(level->container, level->name)) {
        reader_fail(r, ITEM_DUPLICATE_MEMBER, "the member appears twice");
        return EXPECT_NOTHING;
    }
    skip_space(r);
    if (r->at == r->len || r->text[r->at] != ':') {
        reader_fail(r, ITEM_SYNTAX, "':' was expected");
        return EXPECT_NOTHING;
    }
    r->at++;
    return EXPECT_VALUE;
}

static enum expect read_comma_or_end(struct reader *r, char c)
{
    struct level *level = &r->levels[r->depth - 1];
    bool array = json_is_array(level->container);
    if (c == (array ? ']' : '}')) {
        r->at++;
        r->depth--;
        return after_value(r);
    }
    if (c != ',') {
        reader_fail(r, ITEM_SYNTAX, "',' or '%c' was expected", array ? ']' : '}');
        return EXPECT_NOTHING;
    }
    r->at++;
    level->count++;
    return array ? EXPECT_VALUE : EXPECT_NAME;
}

static enum expect read_next(struct reader *r, enum expect expect, char c)
{
    switch (expect) {
    case EXPECT_VALUE_OR_END: return c == ']' ? read_comma_or_end(r, c) : read_value(r, c);
    case EXPECT_VALUE: return read_value(r, c);
    case EXPECT_NAME_OR_END: return c == '}' ? read_comma_or_end(r, c) : read_name(r, c);
    case EXPECT_NAME: return read_name(r, c);
    case EXPECT_COMMA_OR_END: return read_comma_or_end(r, c);
    case EXPECT_NOTHING: break;
    }
    reader_fail(r, ITEM_SYNTAX, "something follows the end of the value");
    return EXPECT_NOTHING;
}

int proto_read(json_t **rootp, const char *text, size_t len, struct problem *p)
{
    struct reader r;
    r.text = text;
    r.len = len;
    r.at = 0;
    r.problem = p;
    r.status = 0;
    r.root = NULL;
    r.scratch = NULL;
    r.scratch_size = 0;
    r.depth = 0;
    *rootp = NULL;
    if (len > PROTO_BODY_MAX) {
        problem_set(p, PROBLEM_BODY_TOO_LARGE, NULL);
        return PROTO_E_INVALID;
    }
    enum expect expect = EXPECT_VALUE;
    for (;;) {
        skip_space(&r);
        if (r.at == len) {
            if (expect != EXPECT_NOTHING)
                reader_fail(&r, ITEM_SYNTAX, "the text ends too early");
            break;
        }
        expect = read_next(&r, expect, text[r.at]);
        if (r.status)
            break;
    }
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(r.scratch);
    if (r.status) {
        json_decref(r.root);
        return r.status;
    }
    *rootp = r.root;
    return 0;
}
