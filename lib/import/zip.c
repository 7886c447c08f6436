#include "import/zip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"

enum {
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    CENTRAL_SIZE = 46,
    LOCAL_SIZE = 30
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

static int broken(const struct zip *z, const char *name, const char *what,
                  struct psg_error *err)
{
    if (name)
        return psg_fail(err, PSG_E_FORMAT, z->place, "zip entry %.120s: %s", name, what);
    return psg_fail(err, PSG_E_FORMAT, z->place, "zip: %s", what);
}

struct directory {
    uint64_t at, size, n;
    uint64_t end; /* where the records after it begin */
};

/* The 64-bit end record, where the 32-bit one says that it does not suffice. */
static int read_end64(const struct zip *z, size_t end, struct directory *d,
                      struct psg_error *err)
{
    const uint8_t *loc = z->bytes + end - LOCATOR_SIZE;
    if (end < LOCATOR_SIZE || get32(loc) != 0x07064b50)
        return broken(z, NULL, "sizes are missing", err);
    uint64_t at = get64(loc + 8);
    if (at > end - LOCATOR_SIZE || end - LOCATOR_SIZE - at < END64_SIZE ||
        get32(z->bytes + at) != 0x06064b50)
        return broken(z, NULL, "the 64-bit end record is not where it should be", err);
    const uint8_t *p = z->bytes + at;
    if (get32(p + 16) != 0 || get32(p + 20) != 0 || get64(p + 24) != get64(p + 32))
        return broken(z, NULL, "archives in several parts are not read", err);
    *d = (struct directory){
        .n = get64(p + 32), .size = get64(p + 40), .at = get64(p + 48), .end = at
    };
    return 0;
}

static int read_end(const struct zip *z, struct directory *d, struct psg_error *err)
{
    if (z->size < END_SIZE)
        return broken(z, NULL, "too short for an archive", err);
    size_t lowest = z->size > END_SIZE + 65535 ? z->size - END_SIZE - 65535 : 0;
    size_t end = z->size - END_SIZE;
    while (get32(z->bytes + end) != 0x06054b50 ||
           get16(z->bytes + end + 20) != z->size - end - END_SIZE) {
        if (end == lowest)
            return broken(z, NULL, "no end record: not an archive, or cut off", err);
        end--;
    }
    const uint8_t *p = z->bytes + end;
    *d = (struct directory){
        .n = get16(p + 10), .size = get32(p + 12), .at = get32(p + 16), .end = end
    };
    if (get16(p + 4) != 0 || get16(p + 6) != 0 || get16(p + 8) != get16(p + 10))
        return broken(z, NULL, "archives in several parts are not read", err);
    if (d->n == 0xffff || d->size == 0xffffffff || d->at == 0xffffffff) {
        int r = read_end64(z, end, d, err);
        if (r)
            return r;
    }
    if (d->at > d->end || d->size > d->end - d->at)
        return broken(z, NULL, "the directory lies outside of the file", err);
    if (d->n > ZIP_ENTRIES_MAX || d->n > d->size / CENTRAL_SIZE)
        return broken(z, NULL, "more entries than an archive may have", err);
    return 0;
}

/* 64-bit sizes of an entry, in the order of those that do not fit. */
static bool read_extra64(const uint8_t *p, size_t n, struct zip_entry *e)
{
    while (n >= 4) {
        size_t len = get16(p + 2);
        if (len > n - 4)
            return false;
        if (get16(p) == 1) {
            uint64_t *want[] = { &e->size, &e->packed, &e->at };
            const uint8_t *q = p + 4;
            for (int i = 0; i < 3; i++) {
                if (*want[i] != 0xffffffff)
                    continue;
                if (len < 8)
                    return false;
                *want[i] = get64(q);
                q += 8;
                len -= 8;
            }
            return true;
        }
        p += 4 + len;
        n -= 4 + len;
    }
    return true;
}

/* One record of the directory; *pp moves behind it. */
static int read_central(struct zip *z, const uint8_t **pp, const uint8_t *end,
                        struct zip_entry *e, struct psg_error *err)
{
    const uint8_t *p = *pp;
    if (end - p < CENTRAL_SIZE || get32(p) != 0x02014b50)
        return broken(z, NULL, "the directory is damaged", err);
    size_t n_name = get16(p + 28), n_extra = get16(p + 30), n_note = get16(p + 32);
    if ((size_t)(end - p) - CENTRAL_SIZE < n_name + n_extra + n_note)
        return broken(z, NULL, "the directory is cut off", err);
    const uint8_t *name = p + CENTRAL_SIZE;
    if (n_name == 0 || n_name > ZIP_NAME_MAX || memchr(name, 0, n_name))
        return broken(z, NULL, "an entry has no proper name", err);
    *e = (struct zip_entry){ .name = im_pool_text(z->pool, (const char *)name, n_name),
                             .method = get16(p + 10),
                             .crc = get32(p + 16),
                             .packed = get32(p + 20),
                             .size = get32(p + 24),
                             .at = get32(p + 42) };
    if (!e->name)
        return im_pool_fail(err, z->place);
    if (get16(p + 8) & 1)
        return broken(z, e->name, "is encrypted", err);
    if (e->method != 0 && e->method != 8)
        return broken(z, e->name, "is packed by a method other than deflate", err);
    if (!read_extra64(name + n_name, n_extra, e))
        return broken(z, e->name, "has damaged sizes", err);
    if (e->method == 0 && e->packed != e->size)
        return broken(z, e->name, "is stored with two different sizes", err);
    *pp = name + n_name + n_extra + n_note;
    return 0;
}

/* Where an entry's bytes begin; its local header must agree with the directory. */
static int locate(const struct zip *z, const struct zip_entry *e, uint64_t limit,
                  uint64_t *fromp, struct psg_error *err)
{
    if (e->at > limit || limit - e->at < LOCAL_SIZE ||
        get32(z->bytes + e->at) != 0x04034b50)
        return broken(z, e->name, "its header is not where the directory says", err);
    const uint8_t *p = z->bytes + e->at;
    uint64_t n_name = get16(p + 26), skip = LOCAL_SIZE + n_name + get16(p + 28);
    if (limit - e->at < skip || limit - e->at - skip < e->packed)
        return broken(z, e->name, "reaches past the end of its room", err);
    if (get16(p + 8) != e->method || n_name != strlen(e->name) ||
        memcmp(p + LOCAL_SIZE, e->name, n_name) != 0)
        return broken(z, e->name, "its header and the directory disagree", err);
    *fromp = e->at + skip;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int by_name(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Entries lie behind each other in front of the directory, and have names of their own. */
static int check_entries(struct zip *z, uint64_t directory, struct psg_error *err)
{
    qsort(z->entry, z->n_entries, sizeof *z->entry, by_place);
    for (size_t i = 0; i < z->n_entries; i++) {
        struct zip_entry *e = &z->entry[i];
        uint64_t from = 0, limit = i + 1 < z->n_entries ? z->entry[i + 1].at : directory;
        int r = locate(z, e, limit < directory ? limit : directory, &from, err);
        if (r)
            return r;
        if (e->size > ZIP_INFLATED_MAX && e->method != 0)
            return broken(z, e->name, "is larger than a packed entry may be", err);
        if (e->method != 0 && e->size > ZIP_RATIO_FREE &&
            e->size / ZIP_RATIO_MAX > e->packed)
            return broken(z, e->name, "claims to unpack to far more than its size", err);
    }
    qsort(z->entry, z->n_entries, sizeof *z->entry, by_name);
    for (size_t i = 0; i + 1 < z->n_entries; i++)
        if (strcmp(z->entry[i].name, z->entry[i + 1].name) == 0)
            return broken(z, z->entry[i].name, "is there twice", err);
    return 0;
}

int zip_open(struct zip *z, const uint8_t *bytes, size_t size, const char *place,
             struct im_pool *pool, struct psg_error *err)
{
    struct directory d = { 0 };
    *z = (struct zip){ .place = place, .bytes = bytes, .size = size, .pool = pool };
    int r = read_end(z, &d, err);
    if (r)
        return r;
    z->n_entries = (size_t)d.n;
    z->entry = im_pool_array(pool, z->n_entries + 1, sizeof *z->entry);
    if (!z->entry)
        return im_pool_fail(err, place);
    const uint8_t *p = bytes + d.at;
    for (size_t i = 0; i < z->n_entries && r == 0; i++)
        r = read_central(z, &p, bytes + d.at + d.size, &z->entry[i], err);
    return r ? r : check_entries(z, d.at, err);
}

struct zip_entry *zip_find(const struct zip *z, const char *name)
{
    struct zip_entry want = { .name = name };
    return z->n_entries ? bsearch(&want, z->entry, z->n_entries, sizeof want, by_name)
                        : NULL;
}

/* crc32 and inflate take 32-bit lengths. */
static uint32_t crc_of(const uint8_t *data, uint64_t n)
{
    uLong crc = crc32(0, NULL, 0);
    for (uint64_t at = 0; at < n;) {
        uint64_t step = n - at < 1 << 30 ? n - at : 1 << 30;
        crc = crc32(crc, data + at, (uInt)step);
        at += step;
    }
    return (uint32_t)crc;
}

static int inflate_entry(struct zip *z, struct zip_entry *e, const uint8_t *from,
                         struct psg_error *err)
{
    if (e->size > ZIP_INFLATED_MAX - z->inflated)
        return broken(z, e->name, "the archive unpacks to more than an import may take",
                      err);
    z->inflated += e->size;
    uint8_t *to = im_pool_take(z->pool, (size_t)e->size + 1);
    if (!to)
        return im_pool_fail(err, z->place);
    if (e->packed > UINT32_MAX)
        return broken(z, e->name, "is larger than a packed entry may be", err);
    z_stream s = { .next_in = (Bytef *)(uintptr_t)from,
                   .avail_in = (uInt)e->packed,
                   .next_out = to,
                   .avail_out = (uInt)e->size };
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return im_pool_fail(err, z->place);
    int done = inflate(&s, Z_FINISH);
    /* an entry of no bytes is an end-of-block code that needs no room */
    bool whole = done == Z_STREAM_END && s.total_out == e->size && s.avail_in == 0;
    inflateEnd(&s);
    if (!whole)
        return broken(z, e->name, "does not unpack to what the directory says", err);
    e->data = to;
    return 0;
}

int zip_read(struct zip *z, struct zip_entry *e, struct psg_error *err)
{
    uint64_t from = 0;
    if (e->data)
        return 0;
    int r = locate(z, e, z->size, &from, err);
    if (r)
        return r;
    if (e->method == 0)
        e->data = z->bytes + from;
    else
        r = inflate_entry(z, e, z->bytes + from, err);
    if (r)
        return r;
    if (crc_of(e->data, e->size) != e->crc) {
        e->data = NULL;
        return broken(z, e->name, "its checksum is wrong", err);
    }
    return 0;
}
