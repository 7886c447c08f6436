/* NumPy's npy: magic, version, header length, a Python dict literal, raw data.
 * numpy/lib/format.py documents it ("Format Version 1.0" to "3.0"). */
#include <string.h>

#include "base/cleanup.h"
#include "formats/cursor.h"
#include "formats/file.h"

enum { DICT_MAX = 64 * 1024 };

struct npy_head {
    enum psg_array_dtype dtype;
    bool fortran_order;
    struct psg_shape shape;
    bool has_descr, has_order, has_shape;
};

static const struct {
    char code[3];
    enum psg_array_dtype dtype;
} npy_dtype[] = {
    { "b1", PSG_ARRAY_BOOL }, { "u1", PSG_ARRAY_U8 },  { "i1", PSG_ARRAY_I8 },
    { "i2", PSG_ARRAY_I16 },  { "i4", PSG_ARRAY_I32 }, { "i8", PSG_ARRAY_I64 },
    { "f2", PSG_ARRAY_F16 },  { "f4", PSG_ARRAY_F32 }, { "f8", PSG_ARRAY_F64 },
};

static int dict_fail(const struct cursor *c, const char *place, const char *what,
                     struct psg_error *err)
{
    return psg_fail(err, PSG_E_FORMAT, place, "npy header, character %zu: %s",
                    cursor_offset(c), what);
}

/* A quoted string without escapes, of at most size - 1 characters. */
static bool dict_string(struct cursor *c, char *out, size_t size)
{
    cursor_skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    size_t n = 0;
    for (; c->at < c->end && *c->at != quote; c->at++) {
        if (*c->at == '\\' || *c->at == '\0' || n + 1 >= size)
            return false;
        out[n++] = *c->at;
    }
    out[n] = '\0';
    if (c->at == c->end)
        return false;
    c->at++;
    return true;
}

static int dict_descr(struct cursor *c, const char *place, struct npy_head *head,
                      struct psg_error *err)
{
    char descr[16];
    if (!dict_string(c, descr, sizeof descr))
        return psg_fail(err, PSG_E_UNSUPPORTED, place,
                        "the dtype is not one plain number type (records are not read)");
    for (size_t i = 0; i < sizeof npy_dtype / sizeof npy_dtype[0]; i++) {
        if (strcmp(descr + (descr[0] != '\0'), npy_dtype[i].code) != 0)
            continue;
        bool one_byte = psg_array_dtype_size(npy_dtype[i].dtype) == 1;
        if (descr[0] == '<' || (descr[0] == '|' && one_byte)) {
            head->dtype = npy_dtype[i].dtype;
            return 0;
        }
        if (descr[0] == '>')
            return psg_fail(err, PSG_E_UNSUPPORTED, place,
                            "dtype '%s' is big-endian; save it with .astype('<%s')", descr,
                            npy_dtype[i].code);
    }
    return psg_fail(err, PSG_E_UNSUPPORTED, place,
                    "dtype '%s' is not one of b1 u1 i1 i2 i4 i8 f2 f4 f8", descr);
}

static int dict_shape(struct cursor *c, const char *place, struct npy_head *head,
                      struct psg_error *err)
{
    memset(&head->shape, 0, sizeof head->shape);
    if (!cursor_take(c, '('))
        return dict_fail(c, place, "a shape must start with '('", err);
    while (!cursor_take(c, ')')) {
        if (head->shape.rank == PSG_MAX_RANK)
            return dict_fail(c, place, "too many dimensions", err);
        if (!cursor_take_number(c, &head->shape.dim[head->shape.rank++]))
            return dict_fail(c, place, "not a dimension", err);
        if (!cursor_take(c, ',')) {
            /* (3) is a number in Python, not a shape */
            if (head->shape.rank == 1 || !cursor_take(c, ')'))
                return dict_fail(c, place, "a ',' is missing", err);
            break;
        }
    }
    return 0;
}

static int dict_entry(struct cursor *c, const char *place, struct npy_head *head,
                      struct psg_error *err)
{
    char key[16];
    if (!dict_string(c, key, sizeof key) || !cursor_take(c, ':'))
        return dict_fail(c, place, "not a key", err);
    bool *seen = strcmp(key, "descr") == 0           ? &head->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &head->has_order
                 : strcmp(key, "shape") == 0         ? &head->has_shape
                                                     : NULL;
    if (!seen || *seen)
        return dict_fail(c, place, "an unknown key, or one that comes twice", err);
    *seen = true;
    if (seen == &head->has_descr)
        return dict_descr(c, place, head, err);
    if (seen == &head->has_shape)
        return dict_shape(c, place, head, err);
    head->fortran_order = cursor_take_text(c, "True");
    if (!head->fortran_order && !cursor_take_text(c, "False"))
        return dict_fail(c, place, "fortran_order is neither True nor False", err);
    return 0;
}

static int npy_dict(const void *text, size_t size, const char *place, struct npy_head *head,
                    struct psg_error *err)
{
    struct cursor c = cursor_of(text, size);
    if (!cursor_take(&c, '{'))
        return dict_fail(&c, place, "a '{' is missing", err);
    while (!cursor_take(&c, '}')) {
        int r = dict_entry(&c, place, head, err);
        if (r)
            return r;
        if (!cursor_take(&c, ',')) {
            if (!cursor_take(&c, '}'))
                return dict_fail(&c, place, "a ',' or '}' is missing", err);
            break;
        }
    }
    cursor_skip_space(&c);
    if (c.at != c.end)
        return dict_fail(&c, place, "text after the header", err);
    if (!head->has_descr || !head->has_order || !head->has_shape)
        return dict_fail(&c, place, "descr, fortran_order or shape is missing", err);
    return 0;
}

int psg_npy_decode(const void *bytes, size_t size, const char *place, struct psg_array *out,
                   struct psg_error *err)
{
    const uint8_t *p = bytes;
    if (size < 10 || memcmp(p, "\x93NUMPY", 6) != 0)
        return psg_fail(err, PSG_E_FORMAT, place, "not an npy file");
    if (p[6] < 1 || p[6] > 3)
        return psg_fail(err, PSG_E_UNSUPPORTED, place, "npy version %d.%d is unknown", p[6],
                        p[7]);
    size_t dict_at = p[6] == 1 ? 10 : 12;
    if (size < dict_at)
        return psg_fail(err, PSG_E_FORMAT, place, "the file ends inside its npy header");
    size_t dict = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1)
        dict |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (dict > DICT_MAX || dict > size - dict_at)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "an npy header of %zu bytes in a file of %zu", dict, size);
    struct npy_head head = { 0 };
    int r = npy_dict(p + dict_at, dict, place, &head, err);
    if (r)
        return r;
    if (head.fortran_order && head.shape.rank > 1)
        return psg_fail(
            err, PSG_E_UNSUPPORTED, place,
            "the array is in Fortran order; save numpy.ascontiguousarray(array)");
    int64_t want = format_array_bytes(head.dtype, &head.shape);
    size_t have = size - dict_at - dict;
    if (want < 0 || (uint64_t)want != have)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "the header promises %lld bytes of data, the file has %zu",
                        (long long)want, have);
    *out = (struct psg_array){ .dtype = head.dtype,
                               .shape = head.shape,
                               .data = p + dict_at + dict };
    return 0;
}

int psg_npy_read(const char *path, struct psg_array *out, struct psg_error *err)
{
    const uint8_t *data;
    size_t size;
    _cleanup_(format_owner_freep) struct psg_array_owner *owner = NULL;
    int r = format_file_open(path, &data, &size, &owner, err);
    if (!r)
        r = psg_npy_decode(data, size, path, out, err);
    if (!r)
        out->owner = steal(&owner);
    return r;
}
