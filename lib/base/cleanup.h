/* Cleanup locals: acquire into a cleanup local, publish last with steal(). */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Takes the value out of *p and leaves NULL, so that the cleanup frees nothing. */
#define steal(p)                                                                               \
    ({                                                                                         \
        __typeof__(*(p)) stolen_ = *(p);                                                       \
        *(p) = NULL;                                                                           \
        stolen_;                                                                               \
    })

static inline void base_freep(void *p)
{
    free(*(void **)p);
}

#define _cleanup_free_ _cleanup_(base_freep)

#endif
