#include "pool.h"

#include <jansson.h>
#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_MIN 2048

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

struct proto_pool {
    struct block *blocks;
    alignas(max_align_t) unsigned char root[];
};

static void *pool_malloc(size_t size)
{
    json_malloc_t alloc;
    json_get_alloc_funcs(&alloc, NULL);
    return alloc(size);
}

static void pool_release(void *p)
{
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(p);
}

struct proto_pool *pool_create(size_t size)
{
    struct proto_pool *pool = pool_malloc(sizeof *pool + size);
    if (!pool)
        return NULL;
    memset(pool, 0, sizeof *pool + size);
    return pool;
}

void *pool_root(struct proto_pool *pool)
{
    return pool->root;
}

void *pool_alloc(struct proto_pool *pool, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n ? n : 1, size, &bytes) || bytes > SIZE_MAX / 4)
        return NULL;
    size_t align = alignof(max_align_t);
    bytes = (bytes + align - 1) / align * align;
    struct block *block = pool->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t room = bytes > BLOCK_MIN ? bytes : BLOCK_MIN;
        block = pool_malloc(sizeof *block + room);
        if (!block)
            return NULL;
        *block = (struct block){ .next = pool->blocks, .size = room };
        pool->blocks = block;
    }
    void *p = block->data + block->used;
    block->used += bytes;
    return memset(p, 0, bytes);
}

char *pool_string(struct proto_pool *pool, const char *text, size_t len)
{
    char *copy = pool_alloc(pool, len + 1, 1);
    if (copy)
        memcpy(copy, text, len);
    return copy;
}

void pool_free_root(void *root)
{
    if (!root)
        return;
    void *start = (unsigned char *)root - offsetof(struct proto_pool, root);
    struct proto_pool *pool = start;
    for (struct block *b = pool->blocks, *next; b; b = next) {
        next = b->next;
        pool_release(b);
    }
    pool_release(pool);
}
