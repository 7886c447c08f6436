/* Memory of one decoded message: everything is freed with its root. */
#ifndef PROTO_POOL_H
#define PROTO_POOL_H

#include <stddef.h>

struct proto_pool;

/* A pool whose first allocation is a zeroed root of `size` bytes; NULL when out of memory.
 * Uses the allocator that jansson was given, so that one switch makes all of it fail. */
struct proto_pool *pool_create(size_t size);
void *pool_root(struct proto_pool *pool);

/* n zeroed elements of `size` bytes, at least one; NULL when out of memory or too large. */
void *pool_alloc(struct proto_pool *pool, size_t n, size_t size);
char *pool_string(struct proto_pool *pool, const char *text, size_t len);

/* Frees everything, given the root. NULL is allowed. */
void pool_free_root(void *root);

#endif
