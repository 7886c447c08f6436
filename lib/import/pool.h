/* Memory of one import: many small pieces, freed together, with a limit on the sum. */
#ifndef IMPORT_POOL_H
#define IMPORT_POOL_H

#include <stddef.h>

#include "psg/status.h"

struct im_pool {
    struct im_chunk *chunks;
    size_t used, size; /* of the newest chunk */
    size_t total;      /* bytes handed out */
    size_t limit;
};

/* size zeroed bytes, aligned for anything; NULL past the limit or out of memory. */
void *im_pool_take(struct im_pool *p, size_t size);
/* n elements of `width`; NULL on overflow too. */
void *im_pool_array(struct im_pool *p, size_t n, size_t width);
/* A copy of n characters, with a final zero. */
char *im_pool_text(struct im_pool *p, const char *text, size_t n);
char *im_pool_printf(struct im_pool *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void im_pool_free(struct im_pool *p);

/* Room for one more element in a list that lives in the pool: doubles when it is full. *listp,
 * n used, *roomp elements. Returns the place of element n, or NULL. */
void *im_pool_grow(struct im_pool *p, void *listp, size_t n, size_t *roomp, size_t width);

/* "the model needs more memory than its import may take" */
int im_pool_fail(struct psg_error *err, const char *place);

#endif
