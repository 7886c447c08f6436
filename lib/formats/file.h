/* Bytes of a file, mapped or read, and arrays that own memory. */
#ifndef FORMATS_FILE_H
#define FORMATS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "psg/formats.h"

struct psg_array_owner {
    void *memory;
    size_t mapped; /* bytes to unmap; 0: memory is from malloc */
};

/* The bytes of a regular file. *ownerp keeps them alive until format_owner_free. An empty
 * file has size 0 and data that must not be read. */
int format_file_open(const char *path, const uint8_t **datap, size_t *sizep,
                     struct psg_array_owner **ownerp, struct psg_error *err);
struct psg_array_owner *format_owner_free(struct psg_array_owner *owner);

static inline void format_owner_freep(struct psg_array_owner **p)
{
    format_owner_free(*p);
}

/* An array of its own memory for this dtype and shape, to be filled by the caller through
 * *memoryp. PSG_E_RANGE when the size does not fit. */
int format_array_alloc(enum psg_array_dtype dtype, const struct psg_shape *shape,
                       const char *place, struct psg_array *out, void **memoryp,
                       struct psg_error *err);
/* Bytes of such an array, or -1 when they do not fit. */
int64_t format_array_bytes(enum psg_array_dtype dtype, const struct psg_shape *shape);

#endif
