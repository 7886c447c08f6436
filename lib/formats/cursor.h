/* Walks over text that may end anywhere and need not end in a zero byte. */
#ifndef FORMATS_CURSOR_H
#define FORMATS_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const char *start, *at, *end;
};

static inline struct cursor cursor_of(const void *bytes, size_t size)
{
    const char *p = bytes;
    return (struct cursor){ p, p, p + size };
}

static inline size_t cursor_offset(const struct cursor *c)
{
    return (size_t)(c->at - c->start);
}

static inline void cursor_skip_space(struct cursor *c)
{
    while (c->at < c->end &&
           (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

/* After optional space: takes `ch` when it is next. */
static inline bool cursor_take(struct cursor *c, char ch)
{
    cursor_skip_space(c);
    if (c->at == c->end || *c->at != ch)
        return false;
    c->at++;
    return true;
}

/* After optional space: takes exactly this text when it is next. */
static inline bool cursor_take_text(struct cursor *c, const char *text)
{
    cursor_skip_space(c);
    const char *p = c->at;
    for (; *text; text++, p++)
        if (p == c->end || *p != *text)
            return false;
    c->at = p;
    return true;
}

/* After optional space: a whole number from 0 to INT64_MAX without leading zeros. */
static inline bool cursor_take_number(struct cursor *c, int64_t *valuep)
{
    cursor_skip_space(c);
    const char *first = c->at;
    int64_t value = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *c->at - '0', &value))
            return false;
    if (c->at == first || (*first == '0' && c->at - first > 1))
        return false;
    *valuep = value;
    return true;
}

#endif
