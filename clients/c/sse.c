#include "sse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sse_init(struct sse_parser *parser)
{
    *parser = (struct sse_parser){ .retry_ms = -1, .at_start = true };
}

void sse_free(struct sse_parser *parser)
{
    free(parser->line.text);
    free(parser->data.text);
    sse_init(parser);
}

static int text_append(struct sse_text *t, const char *bytes, size_t n)
{
    if (n > SSE_DATA_MAX || t->len + n > SSE_DATA_MAX)
        return SSE_E_LIMIT;
    if (t->cap - t->len <= n) {
        size_t cap = t->cap ? t->cap : 256;
        while (cap - t->len <= n)
            cap *= 2;
        char *text = realloc(t->text, cap);
        if (!text)
            return SSE_E_LIMIT;
        t->text = text;
        t->cap = cap;
    }
    memcpy(t->text + t->len, bytes, n);
    t->len += n;
    t->text[t->len] = '\0';
    return 0;
}

static int dispatch(struct sse_parser *p, sse_fn fn, void *user)
{
    int r = 0;
    if (p->has_data) {
        r = text_append(&p->data, "", 0);
        if (r == 0)
            r = fn(p->event[0] ? p->event : "message", p->id, p->data.text, p->data.len,
                   user);
    }
    p->event[0] = '\0';
    p->data.len = 0;
    p->has_data = false;
    return r;
}

/* digits only; anything else leaves the wish as it is */
static void take_retry(struct sse_parser *p, const char *value)
{
    size_t n = strlen(value);
    if (n == 0 || n > 8 || strspn(value, "0123456789") != n)
        return;
    p->retry_ms = strtol(value, NULL, 10);
}

static int take_field(struct sse_parser *p, const char *name, const char *value, size_t len)
{
    if (strcmp(name, "data") == 0) {
        if (p->has_data && text_append(&p->data, "\n", 1))
            return SSE_E_LIMIT;
        p->has_data = true;
        return text_append(&p->data, value, len);
    }
    if (strcmp(name, "event") == 0)
        snprintf(p->event, sizeof p->event, "%s", value);
    else if (strcmp(name, "id") == 0 && strlen(value) == len)
        snprintf(p->id, sizeof p->id, "%s", value);
    else if (strcmp(name, "retry") == 0)
        take_retry(p, value);
    return 0;
}

/* one line without its end */
static int take_line(struct sse_parser *p, sse_fn fn, void *user)
{
    char *line = p->line.text;
    size_t len = p->line.len;
    p->line.len = 0;
    if (p->at_start && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        len -= 3;
    }
    p->at_start = false;
    if (len == 0)
        return dispatch(p, fn, user);
    if (line[0] == ':')
        return 0;
    char *colon = memchr(line, ':', len);
    if (!colon)
        return take_field(p, line, "", 0);
    *colon = '\0';
    char *value = colon + 1;
    size_t n = len - (size_t)(value - line);
    if (n && value[0] == ' ') {
        value++;
        n--;
    }
    return take_field(p, line, value, n);
}

int sse_feed(struct sse_parser *p, const char *bytes, size_t n, sse_fn fn, void *user)
{
    for (size_t i = 0; i < n;) {
        if (p->skip_lf) {
            p->skip_lf = false;
            if (bytes[i] == '\n') {
                i++;
                continue;
            }
        }
        size_t k = 0;
        while (i + k < n && bytes[i + k] != '\n' && bytes[i + k] != '\r')
            k++;
        if (text_append(&p->line, bytes + i, k))
            return SSE_E_LIMIT;
        i += k;
        if (i == n)
            break;
        p->skip_lf = bytes[i++] == '\r';
        int r = take_line(p, fn, user);
        if (r)
            return r;
    }
    return 0;
}
