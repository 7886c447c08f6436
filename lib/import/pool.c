#include "import/pool.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 * 1024, ALIGN = 16 };

struct im_chunk {
    struct im_chunk *next;
    _Alignas(ALIGN) char bytes[];
};

void *im_pool_take(struct im_pool *p, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    size_t total;
    if (__builtin_add_overflow(p->total, size, &total) || total > p->limit)
        return NULL;
    if (!p->chunks || size > p->size - p->used) {
        size_t want = size > CHUNK ? size : CHUNK;
        struct im_chunk *c = calloc(1, sizeof *c + want);
        if (!c)
            return NULL;
        c->next = p->chunks;
        p->chunks = c;
        p->size = want;
        p->used = 0;
    }
    void *at = p->chunks->bytes + p->used;
    p->used += size;
    p->total = total;
    return at;
}

void *im_pool_array(struct im_pool *p, size_t n, size_t width)
{
    size_t size;
    return __builtin_mul_overflow(n, width, &size) ? NULL : im_pool_take(p, size);
}

char *im_pool_text(struct im_pool *p, const char *text, size_t n)
{
    char *copy = n < SIZE_MAX / 2 ? im_pool_take(p, n + 1) : NULL;
    if (copy && n > 0)
        memcpy(copy, text, n);
    return copy;
}

char *im_pool_printf(struct im_pool *p, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *text = n < 0 ? NULL : im_pool_take(p, (size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}

void *im_pool_grow(struct im_pool *p, void *listp, size_t n, size_t *roomp, size_t width)
{
    void **list = listp;
    if (n == *roomp) {
        size_t room = n ? 2 * n : 8;
        char *grown = im_pool_array(p, room, width);
        if (!grown)
            return NULL;
        if (n)
            memcpy(grown, *list, n * width);
        *list = grown;
        *roomp = room;
    }
    return (char *)*list + n * width;
}

void im_pool_free(struct im_pool *p)
{
    while (p->chunks) {
        struct im_chunk *next = p->chunks->next;
        free(p->chunks);
        p->chunks = next;
    }
    *p = (struct im_pool){ 0 };
}

int im_pool_fail(struct psg_error *err, const char *place)
{
    return psg_fail(err, PSG_E_NOMEM, place,
                    "the model needs more memory than an import may take");
}
