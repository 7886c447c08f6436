#include "heap.h"

#include <jansson.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *text);

static struct {
    bool on;
    enum heap_mode mode;
    long count, n;
    sqlite3_mem_methods sqlite;
} heap;

static bool fails(void)
{
    if (!heap.on)
        return false;
    heap.count++;
    return heap.mode == HEAP_ONCE ? heap.count == heap.n
                                  : heap.mode == HEAP_FROM && heap.count >= heap.n;
}

void heap_arm(enum heap_mode mode, long n)
{
    heap.mode = mode;
    heap.n = n;
    heap.count = 0;
    heap.on = true;
}

bool heap_disarm(void)
{
    heap.on = false;
    return heap.mode != HEAP_COUNT && heap.count >= heap.n;
}

/* ---- ours ---- */

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(align, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* ---- SQLite's ---- */

static void *sqlite_malloc(int n)
{
    return fails() ? NULL : heap.sqlite.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return fails() ? NULL : heap.sqlite.xRealloc(p, n);
}

void heap_init(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &heap.sqlite);
    sqlite3_mem_methods methods = heap.sqlite;
    methods.xMalloc = sqlite_malloc;
    methods.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    /* small ones go to the allocator like all others */
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
    json_set_alloc_funcs(__wrap_malloc, free);
}
