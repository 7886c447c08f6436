/* Memory that the kernels of a backend work in, and the way there and back. For backends that
 * work in the host's memory the copies are none where both sides are one place. */
#ifndef BACKEND_MEMORY_H
#define BACKEND_MEMORY_H

#include <stdlib.h>
#include <string.h>

#include "psg/backend.h"

/* Zeroed, aligned to 64 bytes at least; NULL when out of memory. */
static inline void *memory_new(const struct psg_backend *be, size_t bytes)
{
    if (bytes > SIZE_MAX - 128)
        return NULL;
    bytes = (bytes + 64) / 64 * 64;
    void *memory = be->device_memory ? be->alloc(bytes) : aligned_alloc(64, bytes);
    if (memory && !be->device_memory)
        memset(memory, 0, bytes);
    return memory;
}

static inline void memory_free(const struct psg_backend *be, void *memory)
{
    if (be->device_memory)
        be->release(memory);
    else
        free(memory);
}

static inline void memory_upload(const struct psg_backend *be, size_t bytes, const void *host,
                                 void *memory)
{
    if (bytes > 0 && be->device_memory)
        be->upload(bytes, host, memory);
    else if (bytes > 0 && host != memory)
        memcpy(memory, host, bytes);
}

static inline void memory_download(const struct psg_backend *be, size_t bytes,
                                   const void *memory, void *host)
{
    if (bytes > 0 && be->device_memory)
        be->download(bytes, memory, host);
    else if (bytes > 0 && host != memory)
        memcpy(host, memory, bytes);
}

/* Doubles to 0; kernels know only psg_real, whose zeros are the same bits. */
static inline void memory_zero_doubles(const struct psg_backend *be, int64_t n, double *x)
{
    if (be->device_memory)
        be->fill(n * (int64_t)(sizeof *x / sizeof(psg_real)), 0, (psg_real *)(void *)x);
    else
        memset(x, 0, (size_t)n * sizeof *x);
}

#endif
