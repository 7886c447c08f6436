#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "formats/file.h"
#include "formats/safetensors.h"
#include "formats/utf8.h"

/* A text that grows; an allocation that fails is remembered and asked for once at the end.
 */
struct text {
    char *p;
    size_t size, capacity;
    bool failed;
};

static void text_fini(struct text *t)
{
    free(t->p);
}

static void text_add(struct text *t, const char *bytes, size_t n)
{
    if (t->failed)
        return;
    if (n > t->capacity - t->size) {
        size_t capacity = (t->capacity + n) * 2;
        char *p = realloc(t->p, capacity);
        if (!p) {
            t->failed = true;
            return;
        }
        t->p = p;
        t->capacity = capacity;
    }
    memcpy(t->p + t->size, bytes, n);
    t->size += n;
}

static void text_number(struct text *t, int64_t value)
{
    char buf[24];
    int n = snprintf(buf, sizeof buf, "%lld", (long long)value);
    text_add(t, buf, (size_t)n);
}

static void text_string(struct text *t, const char *s)
{
    text_add(t, "\"", 1);
    for (; *s; s++) {
        char escape[8];
        if (*s == '"' || *s == '\\')
            text_add(t, "\\", 1);
        if ((unsigned char)*s < 0x20) {
            int n = snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)*s);
            text_add(t, escape, (size_t)n);
        } else {
            text_add(t, s, 1);
        }
    }
    text_add(t, "\"", 1);
}

/* Large elements first: with an 8-byte aligned header every tensor is aligned to its
 * element. */
static int by_layout(const void *a, const void *b)
{
    const struct psg_safetensors_item *const *x = a, *const *y = b;
    size_t sx = psg_array_dtype_size((*x)->array.dtype);
    size_t sy = psg_array_dtype_size((*y)->array.dtype);
    if (sx != sy)
        return sx > sy ? -1 : 1;
    return strcmp((*x)->name, (*y)->name);
}

static int by_key(const void *a, const void *b)
{
    const struct psg_safetensors_meta *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static int check_names(const char *path, const char **name, size_t n, struct psg_error *err)
{
    if (n)
        qsort(name, n, sizeof name[0], by_name);
    for (size_t i = 0; i < n; i++) {
        if (!format_utf8_valid(name[i], strlen(name[i])))
            return psg_fail(err, PSG_E_INVALID, path, "a name is not UTF-8");
        if (i && strcmp(name[i - 1], name[i]) == 0)
            return psg_fail(err, PSG_E_INVALID, path, "the name '%.80s' comes twice",
                            name[i]);
    }
    return 0;
}

static int check_items(const char *path, const struct psg_safetensors_item *item,
                       size_t n_items, const struct psg_safetensors_meta *meta,
                       size_t n_meta, struct psg_error *err)
{
    _cleanup_free_ const char **name = calloc(n_items + n_meta + 1, sizeof name[0]);
    if (!name)
        return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
    for (size_t i = 0; i < n_items; i++) {
        name[i] = item[i].name;
        if (strcmp(name[i], "__metadata__") == 0)
            return psg_fail(err, PSG_E_INVALID, path,
                            "no tensor can be called __metadata__");
        if (!safetensors_dtype_name(item[i].array.dtype) ||
            format_array_bytes(item[i].array.dtype, &item[i].array.shape) < 0)
            return psg_fail(err, PSG_E_INVALID, path,
                            "tensor '%.80s' has a bad dtype or shape", name[i]);
    }
    int r = check_names(path, name, n_items, err);
    if (r)
        return r;
    for (size_t i = 0; i < n_meta; i++) {
        name[i] = meta[i].key;
        if (!format_utf8_valid(meta[i].value, strlen(meta[i].value)))
            return psg_fail(err, PSG_E_INVALID, path, "metadata '%.80s' is not UTF-8",
                            meta[i].key);
    }
    return check_names(path, name, n_meta, err);
}

static void header_meta(struct text *t, const struct psg_safetensors_meta **meta, size_t n)
{
    text_add(t, "\"__metadata__\":{", 16);
    for (size_t i = 0; i < n; i++) {
        if (i)
            text_add(t, ",", 1);
        text_string(t, meta[i]->key);
        text_add(t, ":", 1);
        text_string(t, meta[i]->value);
    }
    text_add(t, "}", 1);
}

static void header_item(struct text *t, const struct psg_safetensors_item *item,
                        int64_t begin, int64_t end)
{
    const struct psg_shape *shape = &item->array.shape;
    const char *dtype = safetensors_dtype_name(item->array.dtype);
    text_string(t, item->name);
    text_add(t, ":{\"dtype\":\"", 11);
    text_add(t, dtype, strlen(dtype));
    text_add(t, "\",\"shape\":[", 11);
    for (int i = 0; i < shape->rank; i++) {
        text_add(t, ",", i > 0);
        text_number(t, shape->dim[i]);
    }
    text_add(t, "],\"data_offsets\":[", 18);
    text_number(t, begin);
    text_add(t, ",", 1);
    text_number(t, end);
    text_add(t, "]}", 2);
}

/* Length, header and padding: everything before the data. */
static int header_make(struct text *t, const char *path,
                       const struct psg_safetensors_item **item, size_t n_items,
                       const struct psg_safetensors_meta **meta, size_t n_meta,
                       struct psg_error *err)
{
    int64_t at = 0;
    text_add(t, "\0\0\0\0\0\0\0\0{", 9);
    if (n_meta)
        header_meta(t, meta, n_meta);
    for (size_t i = 0; i < n_items; i++) {
        int64_t begin = at;
        if (__builtin_add_overflow(
                at, format_array_bytes(item[i]->array.dtype, &item[i]->array.shape), &at))
            return psg_fail(err, PSG_E_RANGE, path,
                            "the tensors are too large for one file");
        if (i || n_meta)
            text_add(t, ",", 1);
        header_item(t, item[i], begin, at);
    }
    text_add(t, "}", 1);
    text_add(t, "       ", (8 - t->size % 8) % 8);
    if (t->failed)
        return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
    for (int i = 0; i < 8; i++)
        t->p[i] = (char)((uint64_t)(t->size - 8) >> 8 * i);
    return 0;
}

static int write_all(int fd, const char *p, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, p, size < 1u << 30 ? size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int write_data(int fd, const struct text *header,
                      const struct psg_safetensors_item **item, size_t n_items)
{
    int r = write_all(fd, header->p, header->size);
    for (size_t i = 0; !r && i < n_items; i++)
        r = write_all(
            fd, item[i]->array.data,
            (size_t)format_array_bytes(item[i]->array.dtype, &item[i]->array.shape));
    return r ? r : fsync(fd);
}

/* Makes the rename itself durable. */
static int sync_folder(const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int r = fsync(fd);
    close(fd);
    return r;
}

static int write_file(const char *path, const struct text *header,
                      const struct psg_safetensors_item **item, size_t n_items,
                      struct psg_error *err)
{
    _cleanup_free_ char *temporary = NULL;
    /* named after the thread: two writers of one path do not meet, and what a crash left
     * behind is overwritten in time */
    if (asprintf(&temporary, "%s.%ld.tmp", path, (long)gettid()) < 0) {
        temporary = NULL;
        return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return psg_fail(err, PSG_E_IO, path, "cannot create a file: %s", strerror(errno));
    int r = write_data(fd, header, item, n_items);
    if (close(fd) < 0)
        r = -1;
    if (!r)
        r = rename(temporary, path);
    if (r) {
        int saved = errno;
        unlink(temporary);
        return psg_fail(err, PSG_E_IO, path, "cannot write: %s", strerror(saved));
    }
    if (sync_folder(path))
        return psg_fail(err, PSG_E_IO, path, "cannot sync its folder: %s", strerror(errno));
    return 0;
}

/* What a file is made of, in its order. */
struct layout {
    const struct psg_safetensors_item **items;
    const struct psg_safetensors_meta **metas;
    struct text header;
};

static void layout_fini(struct layout *l)
{
    free(l->items);
    free(l->metas);
    text_fini(&l->header);
}

static int layout_make(struct layout *l, const char *path,
                       const struct psg_safetensors_item *item, size_t n_items,
                       const struct psg_safetensors_meta *meta, size_t n_meta,
                       struct psg_error *err)
{
    int r = check_items(path, item, n_items, meta, n_meta, err);
    if (r)
        return r;
    l->items = calloc(n_items + 1, sizeof l->items[0]);
    l->metas = calloc(n_meta + 1, sizeof l->metas[0]);
    if (!l->items || !l->metas)
        return psg_fail(err, PSG_E_NOMEM, path, "out of memory");
    for (size_t i = 0; i < n_items; i++)
        l->items[i] = &item[i];
    for (size_t i = 0; i < n_meta; i++)
        l->metas[i] = &meta[i];
    qsort(l->items, n_items, sizeof l->items[0], by_layout);
    qsort(l->metas, n_meta, sizeof l->metas[0], by_key);
    return header_make(&l->header, path, l->items, n_items, l->metas, n_meta, err);
}

int psg_safetensors_write(const char *path, const struct psg_safetensors_item *item,
                          size_t n_items, const struct psg_safetensors_meta *meta,
                          size_t n_meta, struct psg_error *err)
{
    _cleanup_(layout_fini) struct layout l = { 0 };
    int r = layout_make(&l, path, item, n_items, meta, n_meta, err);
    return r ? r : write_file(path, &l.header, l.items, n_items, err);
}

int psg_safetensors_pack(const struct psg_safetensors_item *item, size_t n_items,
                         const struct psg_safetensors_meta *meta, size_t n_meta,
                         void **bytesp, size_t *sizep, struct psg_error *err)
{
    _cleanup_(layout_fini) struct layout l = { 0 };
    int r = layout_make(&l, "safetensors", item, n_items, meta, n_meta, err);
    if (r)
        return r;
    size_t size = l.header.size; /* header_make has checked that the sum fits */
    for (size_t i = 0; i < n_items; i++)
        size += (size_t)format_array_bytes(item[i].array.dtype, &item[i].array.shape);
    char *at = malloc(size);
    if (!at)
        return psg_fail(err, PSG_E_NOMEM, "safetensors", "out of memory");
    *bytesp = at;
    *sizep = size;
    memcpy(at, l.header.p, l.header.size);
    at += l.header.size;
    for (size_t i = 0; i < n_items; i++) {
        const struct psg_array *array = &l.items[i]->array;
        size_t n = (size_t)format_array_bytes(array->dtype, &array->shape);
        if (n > 0)
            memcpy(at, array->data, n);
        at += n;
    }
    return 0;
}
