#include "case.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(char *why, size_t size, const char *text)
{
    snprintf(why, size, "%s", text);
    return -1;
}

static int map_file(struct golden_case *c, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    bool ok = fstat(fd, &st) == 0 && st.st_size > 8;
    if (ok) {
        c->map_size = (size_t)st.st_size;
        c->map = mmap(NULL, c->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        ok = c->map != MAP_FAILED;
    }
    close(fd);
    if (!ok)
        c->map = NULL;
    return ok ? 0 : -1;
}

static size_t dtype_size(const char *dtype)
{
    if (strcmp(dtype, "F64") == 0 || strcmp(dtype, "I64") == 0)
        return 8;
    if (strcmp(dtype, "F32") == 0 || strcmp(dtype, "I32") == 0)
        return 4;
    return strcmp(dtype, "U8") == 0 || strcmp(dtype, "BOOL") == 0 ? 1 : 0;
}

static int read_tensor(struct tensor *t, const char *name, const json_t *entry,
                       const char *data, size_t data_size)
{
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    t->name = name;
    snprintf(t->dtype, sizeof t->dtype, "%s", case_text(entry, "dtype", ""));
    t->rank = (int)json_array_size(shape);
    if (t->rank > 8 || json_array_size(offsets) != 2)
        return -1;
    t->size = 1;
    for (int i = 0; i < t->rank; i++) {
        t->dim[i] = json_integer_value(json_array_get(shape, (size_t)i));
        t->size *= t->dim[i];
    }
    int64_t from = json_integer_value(json_array_get(offsets, 0));
    int64_t to = json_integer_value(json_array_get(offsets, 1));
    size_t bytes = (size_t)t->size * dtype_size(t->dtype);
    if (from < 0 || to < from || (size_t)to > data_size || (size_t)(to - from) != bytes)
        return -1;
    t->data = data + from;
    return 0;
}

int case_open(struct golden_case *c, const char *path, char *why, size_t why_size)
{
    *c = (struct golden_case){ 0 };
    snprintf(c->path, sizeof c->path, "%s", path);
    if (map_file(c, path))
        return fail(why, why_size, "cannot map the file");
    uint64_t n;
    memcpy(&n, c->map, 8);
    if (n > c->map_size - 8)
        return fail(why, why_size, "the header is longer than the file");
    const char *text = (const char *)c->map + 8;
    c->header = json_loadb(text, n, 0, NULL);
    const json_t *meta = json_object_get(c->header, "__metadata__");
    const char *info = case_text(meta, "case", NULL);
    if (info)
        c->info = json_loads(info, 0, NULL);
    if (!c->info)
        return fail(why, why_size, "no case description in the header");
    c->tensors = calloc(json_object_size(c->header) + 1, sizeof *c->tensors);
    const char *key;
    json_t *entry;
    json_object_foreach(c->header, key, entry)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        if (read_tensor(&c->tensors[c->n_tensors++], key, entry, text + n, c->map_size - 8 - n))
            return fail(why, why_size, "a tensor's entry does not fit the file");
    }
    return 0;
}

void case_close(struct golden_case *c)
{
    json_decref(c->header);
    json_decref(c->info);
    free(c->tensors);
    if (c->map)
        munmap(c->map, c->map_size);
    *c = (struct golden_case){ 0 };
}

const struct tensor *case_tensor(const struct golden_case *c, const char *fmt, ...)
{
    char name[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (int i = 0; i < c->n_tensors; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return &c->tensors[i];
    return NULL;
}

double tensor_at(const struct tensor *t, int64_t i)
{
    if (strcmp(t->dtype, "F64") == 0)
        return ((const double *)t->data)[i];
    if (strcmp(t->dtype, "F32") == 0)
        return (double)((const float *)t->data)[i];
    if (strcmp(t->dtype, "I64") == 0)
        return (double)((const int64_t *)t->data)[i];
    if (strcmp(t->dtype, "I32") == 0)
        return (double)((const int32_t *)t->data)[i];
    return (double)((const uint8_t *)t->data)[i];
}

const char *case_text(const json_t *o, const char *key, const char *dflt)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : dflt;
}

double case_real(const json_t *o, const char *key, double dflt)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : dflt;
}

bool case_flag(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}
