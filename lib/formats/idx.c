/* IDX, the format of MNIST: 0 0 type rank, rank big-endian 32-bit dimensions, big-endian
 * data. http://yann.lecun.com/exdb/mnist (section "THE IDX FILE FORMAT"). gzip around it is
 * usual. */
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "formats/file.h"

enum { HEAD_MAX = 4 + 4 * PSG_MAX_RANK };

/* deflate cannot do better than 1032 to 1 (zlib technical details) */
static const int64_t inflate_ratio = 1032;

struct idx_head {
    enum psg_array_dtype dtype;
    struct psg_shape shape;
    size_t size;   /* bytes of the header */
    int64_t bytes; /* bytes of the data */
};

static bool idx_dtype(uint8_t code, enum psg_array_dtype *dtypep)
{
    switch (code) {
    case 0x08: *dtypep = PSG_ARRAY_U8; return true;
    case 0x09: *dtypep = PSG_ARRAY_I8; return true;
    case 0x0b: *dtypep = PSG_ARRAY_I16; return true;
    case 0x0c: *dtypep = PSG_ARRAY_I32; return true;
    case 0x0d: *dtypep = PSG_ARRAY_F32; return true;
    case 0x0e: *dtypep = PSG_ARRAY_F64; return true;
    default: return false;
    }
}

static int idx_head(const uint8_t *p, size_t size, const char *place, struct idx_head *head,
                    struct psg_error *err)
{
    if (size < 4)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "%zu bytes are too short for an IDX header", size);
    if (p[0] || p[1] || !idx_dtype(p[2], &head->dtype))
        return psg_fail(err, PSG_E_FORMAT, place,
                        "not an IDX file: it starts with %02x%02x%02x", p[0], p[1], p[2]);
    if (p[3] > PSG_MAX_RANK)
        return psg_fail(err, PSG_E_FORMAT, place, "byte 3: rank %d is above %d", p[3],
                        PSG_MAX_RANK);
    head->size = 4 + 4 * (size_t)p[3];
    if (size < head->size)
        return psg_fail(err, PSG_E_FORMAT, place, "the file ends inside its IDX header");
    memset(&head->shape, 0, sizeof head->shape);
    head->shape.rank = p[3];
    for (int i = 0; i < head->shape.rank; i++) {
        const uint8_t *d = p + 4 + 4 * i;
        head->shape.dim[i] = (int64_t)d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
    }
    head->bytes = format_array_bytes(head->dtype, &head->shape);
    if (head->bytes < 0)
        return psg_fail(err, PSG_E_FORMAT, place, "the dimensions in the header overflow");
    return 0;
}

static void swap_bytes(uint8_t *to, const uint8_t *from, size_t bytes, size_t size)
{
    for (size_t i = 0; i < bytes; i += size)
        for (size_t k = 0; k < size; k++)
            to[i + k] = from[i + size - 1 - k];
}

static int idx_plain(const uint8_t *p, size_t size, const char *place,
                     struct psg_array *out, struct psg_error *err)
{
    struct idx_head head;
    int r = idx_head(p, size, place, &head, err);
    if (r)
        return r;
    if ((uint64_t)head.bytes != size - head.size)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "the header promises %lld bytes of data, the file has %zu",
                        (long long)head.bytes, size - head.size);
    size_t element = psg_array_dtype_size(head.dtype);
    if (element == 1) {
        *out = (struct psg_array){ .dtype = head.dtype,
                                   .shape = head.shape,
                                   .data = p + head.size };
        return 0;
    }
    void *memory;
    r = format_array_alloc(head.dtype, &head.shape, place, out, &memory, err);
    if (!r)
        swap_bytes(memory, p + head.size, (size_t)head.bytes, element);
    return r;
}

struct unpack {
    z_stream z;
    const uint8_t *in;
    size_t in_left;
    const char *place;
    bool ended;
};

static void unpack_fini(struct unpack *u)
{
    inflateEnd(&u->z);
}

/* Unpacks exactly `size` bytes, or fewer when the stream ends before; *gotp says how many.
 */
static int unpack_some(struct unpack *u, uint8_t *out, size_t size, size_t *gotp,
                       struct psg_error *err)
{
    const size_t piece = 1u << 30; /* zlib counts in 32 bits */
    size_t got = 0;
    while (got < size && !u->ended) {
        size_t want = size - got < piece ? size - got : piece;
        size_t feed = u->in_left < piece ? u->in_left : piece;
        /* zlib only reads through next_in, but old headers lack the const */
        u->z.next_in = (z_const Bytef *)(uintptr_t)u->in;
        u->z.avail_in = (uInt)feed;
        u->z.next_out = out + got;
        u->z.avail_out = (uInt)want;
        int r = inflate(&u->z, Z_NO_FLUSH);
        u->in += feed - u->z.avail_in;
        u->in_left -= feed - u->z.avail_in;
        got += want - u->z.avail_out;
        if (r == Z_STREAM_END)
            u->ended = true;
        else if (r == Z_MEM_ERROR)
            return psg_fail(err, PSG_E_NOMEM, u->place, "out of memory");
        else if (r != Z_OK)
            return psg_fail(err, PSG_E_FORMAT, u->place, "the gzip data is %s",
                            u->in_left ? "damaged" : "cut off");
    }
    *gotp = got;
    return 0;
}

/* The stream must end here, its checksum right, with nothing after it. */
static int unpack_end(struct unpack *u, struct psg_error *err)
{
    uint8_t more;
    size_t got = 0;
    int r = u->ended ? 0 : unpack_some(u, &more, 1, &got, err);
    if (r)
        return r;
    if (got || u->in_left)
        return psg_fail(err, PSG_E_FORMAT, u->place,
                        "there is data after the end of the array");
    return 0;
}

static int idx_gzip(const uint8_t *p, size_t size, const char *place, struct psg_array *out,
                    struct psg_error *err)
{
    _cleanup_(unpack_fini) struct unpack u = { .in = p, .in_left = size, .place = place };
    if (inflateInit2(&u.z, 15 + 16) != Z_OK)
        return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
    uint8_t first[HEAD_MAX];
    size_t got, more = 0;
    int r = unpack_some(&u, first, 4, &got, err);
    if (!r && got == 4 && first[3] <= PSG_MAX_RANK)
        r = unpack_some(&u, first + 4, 4 * (size_t)first[3], &more, err);
    struct idx_head head;
    if (!r)
        r = idx_head(first, got + more, place, &head, err);
    if (r)
        return r;
    if (head.bytes / inflate_ratio > (int64_t)size)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "the header promises %lld bytes, more than %zu bytes can unpack to",
                        (long long)head.bytes, size);
    _cleanup_(psg_array_free) struct psg_array array = { 0 };
    void *memory;
    r = format_array_alloc(head.dtype, &head.shape, place, &array, &memory, err);
    if (!r)
        r = unpack_some(&u, memory, (size_t)head.bytes, &got, err);
    if (!r && got < (size_t)head.bytes)
        r = psg_fail(err, PSG_E_FORMAT, place,
                     "the header promises %lld bytes, there are %zu", (long long)head.bytes,
                     got);
    if (!r)
        r = unpack_end(&u, err);
    if (r)
        return r;
    size_t element = psg_array_dtype_size(head.dtype);
    for (size_t i = 0; element > 1 && i < (size_t)head.bytes; i += element) {
        uint8_t swapped[8];
        swap_bytes(swapped, (uint8_t *)memory + i, element, element);
        memcpy((uint8_t *)memory + i, swapped, element);
    }
    *out = array;
    array.owner = NULL;
    return 0;
}

int psg_idx_decode(const void *bytes, size_t size, const char *place, struct psg_array *out,
                   struct psg_error *err)
{
    const uint8_t *p = bytes;
    if (size >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return idx_gzip(p, size, place, out, err);
    return idx_plain(p, size, place, out, err);
}

int psg_idx_read(const char *path, struct psg_array *out, struct psg_error *err)
{
    const uint8_t *data;
    size_t size;
    _cleanup_(format_owner_freep) struct psg_array_owner *owner = NULL;
    int r = format_file_open(path, &data, &size, &owner, err);
    if (!r)
        r = psg_idx_decode(data, size, path, out, err);
    if (!r && !out->owner)
        out->owner = steal(&owner);
    return r;
}
