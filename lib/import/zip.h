/* Zip archives in memory: stored and deflated entries, ZIP64 sizes. Every number in the file is
 * checked before it is used; entries may not overlap, an entry's CRC is checked when it is read,
 * and what inflating may make is bounded. */
#ifndef IMPORT_ZIP_H
#define IMPORT_ZIP_H

#include <stdint.h>

#include "import/pool.h"

enum {
    ZIP_ENTRIES_MAX = 65535,
    ZIP_NAME_MAX = 1024,
    ZIP_RATIO_MAX = 256,         /* inflated bytes for each stored one ... */
    ZIP_RATIO_FREE = 1 << 20,    /* ... past the first MiB of an entry */
    ZIP_INFLATED_MAX = 512 << 20 /* of all entries together */
};

struct zip_entry {
    const char *name;
    uint64_t at;           /* of the local header */
    uint64_t packed, size; /* bytes in the file, bytes of content */
    uint32_t crc;
    uint16_t method;     /* 0 stored, 8 deflated */
    const uint8_t *data; /* after zip_read */
};

struct zip {
    const char *place; /* the file's name, for messages */
    const uint8_t *bytes;
    size_t size;
    struct im_pool *pool;
    struct zip_entry *entry; /* sorted by name */
    size_t n_entries;
    uint64_t inflated; /* bytes so far */
};

/* bytes must outlive the zip. PSG_E_FORMAT for anything that is not a plain archive. */
int zip_open(struct zip *z, const uint8_t *bytes, size_t size, const char *place,
             struct im_pool *pool, struct psg_error *err);
/* NULL when there is none. */
struct zip_entry *zip_find(const struct zip *z, const char *name);
/* Makes e->data [e->size]: a place in the file or inflated memory of the pool. */
int zip_read(struct zip *z, struct zip_entry *e, struct psg_error *err);

#endif
