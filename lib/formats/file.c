#include "formats/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
    MAP_FROM = 64 * 1024
}; /* smaller files are read: a mapping costs more than a copy */

static int io_fail(const char *path, const char *what, struct psg_error *err)
{
    int saved = errno;
    return psg_fail(err, PSG_E_IO, path, "cannot %s: %s", what, strerror(saved));
}

static void close_fd(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

struct psg_array_owner *format_owner_free(struct psg_array_owner *owner)
{
    if (owner) {
        if (owner->mapped)
            munmap(owner->memory, owner->mapped);
        else
            free(owner->memory);
        free(owner);
    }
    return NULL;
}

static int read_all(int fd, uint8_t *out, size_t size, const char *path,
                    struct psg_error *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, out + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_fail(path, "read", err);
        if (n == 0)
            return psg_fail(err, PSG_E_IO, path,
                            "the file became shorter while it was read");
        at += (size_t)n;
    }
    return 0;
}

int format_file_open(const char *path, const uint8_t **datap, size_t *sizep,
                     struct psg_array_owner **ownerp, struct psg_error *err)
{
    /* O_NONBLOCK: opening a pipe must not hang before we can see that it is one */
    _cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0)
        return io_fail(path, "open", err);
    if (fstat(fd, &st) < 0)
        return io_fail(path, "stat", err);
    if (!S_ISREG(st.st_mode))
        return psg_fail(err, PSG_E_IO, path, "not a regular file");
    size_t size = (size_t)st.st_size;

    _cleanup_(format_owner_freep) struct psg_array_owner *owner = calloc(1, sizeof *owner);
    if (!owner)
        return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
    if (size >= MAP_FROM) {
        void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            return io_fail(path, "map", err);
        owner->memory = map;
        owner->mapped = size;
    } else {
        owner->memory = malloc(size + 1);
        if (!owner->memory)
            return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
        int r = read_all(fd, owner->memory, size, path, err);
        if (r)
            return r;
    }
    *datap = owner->memory;
    *sizep = size;
    *ownerp = steal(&owner);
    return 0;
}

int64_t format_array_bytes(enum psg_array_dtype dtype, const struct psg_shape *shape)
{
    int64_t size = psg_shape_size(shape);
    if (size < 0 ||
        __builtin_mul_overflow(size, (int64_t)psg_array_dtype_size(dtype), &size))
        return -1;
    return size;
}

int format_array_alloc(enum psg_array_dtype dtype, const struct psg_shape *shape,
                       const char *place, struct psg_array *out, void **memoryp,
                       struct psg_error *err)
{
    int64_t bytes = format_array_bytes(dtype, shape);
    if (bytes < 0)
        return psg_fail(err, PSG_E_RANGE, place, "the array does not fit in memory");
    _cleanup_(format_owner_freep) struct psg_array_owner *owner = calloc(1, sizeof *owner);
    if (owner)
        owner->memory = malloc(bytes ? (size_t)bytes : 1);
    if (!owner || !owner->memory)
        return psg_fail(err, PSG_E_NOMEM, place, "out of memory for %lld bytes",
                        (long long)bytes);
    *memoryp = owner->memory;
    *out = (struct psg_array){ .dtype = dtype, .shape = *shape, .data = owner->memory };
    out->owner = steal(&owner);
    return 0;
}
