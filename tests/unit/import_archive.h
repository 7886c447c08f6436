/* Archives for tests: a module without tensors, and code that is given as text. */
#ifndef TESTS_IMPORT_ARCHIVE_H
#define TESTS_IMPORT_ARCHIVE_H

#include <stdint.h>
#include <string.h>
#include <zlib.h>

struct archive {
    uint8_t bytes[1 << 16];
    size_t n;
    uint8_t directory[4096];
    size_t n_directory, entries;
};

static inline void archive_put(uint8_t *p, size_t *n, uint64_t v, int width)
{
    for (int i = 0; i < width; i++)
        p[(*n)++] = (uint8_t)(v >> 8 * i);
}

/* The fields that a local header and the directory have in common. */
static inline void archive_common(uint8_t *p, size_t *n, uint32_t crc, size_t size,
                                  size_t name)
{
    archive_put(p, n, 0, 2);
    archive_put(p, n, 0, 2);
    archive_put(p, n, 0, 4);
    archive_put(p, n, crc, 4);
    archive_put(p, n, size, 4);
    archive_put(p, n, size, 4);
    archive_put(p, n, name, 2);
    archive_put(p, n, 0, 2);
}

static inline void archive_add(struct archive *a, const char *name, const void *data,
                               size_t size)
{
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), data, (uInt)size);
    size_t at = a->n, len = strlen(name);
    archive_put(a->bytes, &a->n, 0x04034b50, 4);
    archive_put(a->bytes, &a->n, 20, 2);
    archive_common(a->bytes, &a->n, crc, size, len);
    memcpy(a->bytes + a->n, name, len);
    memcpy(a->bytes + a->n + len, data, size);
    a->n += len + size;
    archive_put(a->directory, &a->n_directory, 0x02014b50, 4);
    archive_put(a->directory, &a->n_directory, 20, 2);
    archive_put(a->directory, &a->n_directory, 20, 2);
    archive_common(a->directory, &a->n_directory, crc, size, len);
    archive_put(a->directory, &a->n_directory, 0, 8);
    archive_put(a->directory, &a->n_directory, 0, 2);
    archive_put(a->directory, &a->n_directory, at, 4);
    memcpy(a->directory + a->n_directory, name, len);
    a->n_directory += len;
    a->entries++;
}

static inline void archive_close(struct archive *a)
{
    size_t at = a->n;
    memcpy(a->bytes + a->n, a->directory, a->n_directory);
    a->n += a->n_directory;
    archive_put(a->bytes, &a->n, 0x06054b50, 4);
    archive_put(a->bytes, &a->n, 0, 4);
    archive_put(a->bytes, &a->n, a->entries, 2);
    archive_put(a->bytes, &a->n, a->entries, 2);
    archive_put(a->bytes, &a->n, a->n_directory, 4);
    archive_put(a->bytes, &a->n, at, 4);
    archive_put(a->bytes, &a->n, 0, 2);
}

/* class M with one parameter w [4, 8] of the numbers 0, 1, 2 ... and this code. */
static inline void archive_module(struct archive *a, const char *code)
{
    static const char pickle[] =
        "\x80\x02"
        "c__torch__\nM\n)\x81}(X\x08\0\0\0training\x88X\x01\0\0\0wctorch._utils\n"
        "_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
        "0X\x03\0\0\0"
        "cpuK tQK\0K\x04K\x08\x86K\x08K\x01\x86\x88"
        "ccollections\nOrderedDict\n)RtRub.";
    float w[32];
    for (int i = 0; i < 32; i++)
        w[i] = (float)i;
    memset(a, 0, sizeof *a);
    archive_add(a, "m/data.pkl", pickle, sizeof pickle - 1);
    archive_add(a, "m/code/__torch__.py", code, strlen(code));
    archive_add(a, "m/data/0", w, sizeof w);
    archive_close(a);
}

#endif
