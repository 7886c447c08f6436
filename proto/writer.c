#include "writer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proto/text.h"
#include "utf8.h"

static void writer_fail(struct proto_writer *w)
{
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(w->text);
    *w = (struct proto_writer){ .failed = true };
}

/* room for n more bytes and the terminator */
static bool writer_reserve(struct proto_writer *w, size_t n)
{
    if (w->failed)
        return false;
    if (w->cap - w->len > n)
        return true;
    size_t cap = w->cap ? w->cap : 256;
    while (cap - w->len <= n) {
        if (__builtin_mul_overflow(cap, 2, &cap)) {
            writer_fail(w);
            return false;
        }
    }
    json_malloc_t alloc;
    json_free_t release;
    json_get_alloc_funcs(&alloc, &release);
    char *text = alloc(cap);
    if (!text) {
        writer_fail(w);
        return false;
    }
    if (w->len)
        memcpy(text, w->text, w->len);
    release(w->text);
    w->text = text;
    w->cap = cap;
    return true;
}

static void writer_bytes(struct proto_writer *w, const char *bytes, size_t n)
{
    if (!writer_reserve(w, n))
        return;
    memcpy(w->text + w->len, bytes, n);
    w->len += n;
}

static void writer_separate(struct proto_writer *w)
{
    if (w->comma)
        writer_bytes(w, ",", 1);
    w->comma = true;
}

static void writer_value(struct proto_writer *w, const char *text)
{
    writer_separate(w);
    writer_bytes(w, text, strlen(text));
}

static void writer_quoted(struct proto_writer *w, const char *text)
{
    size_t len = strlen(text);
    writer_bytes(w, "\"", 1);
    for (size_t i = 0; i < len && !w->failed;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = utf8_length(text + i, len - i);
        char escape[8];
        if (n == 0) {
            writer_bytes(w, "\xef\xbf\xbd", 3);
            n = 1;
        } else if (c == '"' || c == '\\') {
            snprintf(escape, sizeof escape, "\\%c", c);
            writer_bytes(w, escape, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
            writer_bytes(w, escape, 6);
        } else {
            writer_bytes(w, text + i, n);
        }
        i += n;
    }
    writer_bytes(w, "\"", 1);
}

void writer_open(struct proto_writer *w, char bracket)
{
    writer_separate(w);
    writer_bytes(w, &bracket, 1);
    w->comma = false;
}

void writer_close(struct proto_writer *w, char bracket)
{
    writer_bytes(w, &bracket, 1);
    w->comma = true;
}

void writer_key(struct proto_writer *w, const char *name)
{
    writer_separate(w);
    writer_quoted(w, name);
    writer_bytes(w, ":", 1);
    w->comma = false;
}

void writer_string(struct proto_writer *w, const char *text)
{
    writer_separate(w);
    writer_quoted(w, text);
}

void writer_int(struct proto_writer *w, int64_t value)
{
    char buf[32];
    snprintf(buf, sizeof buf, "%" PRId64, value);
    writer_value(w, buf);
}

void writer_real(struct proto_writer *w, double value)
{
    char buf[PROTO_REAL_MAX + 2];
    proto_real_text(value, buf);
    /* a real stays one for readers that tell 1.0 from 1 */
    if (buf[strspn(buf, "-0123456789")] == '\0')
        memcpy(buf + strlen(buf), ".0", 3);
    writer_value(w, buf);
}

void writer_bool(struct proto_writer *w, bool value)
{
    writer_value(w, value ? "true" : "false");
}

void writer_null(struct proto_writer *w)
{
    writer_value(w, "null");
}

char *writer_finish(struct proto_writer *w, size_t *lenp)
{
    if (!writer_reserve(w, 0))
        return NULL;
    w->text[w->len] = '\0';
    if (lenp)
        *lenp = w->len;
    char *text = w->text;
    *w = (struct proto_writer){ 0 };
    return text;
}
