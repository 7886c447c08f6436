/* safetensors: 8 bytes little-endian header length, a JSON header, raw little-endian data.
 * https://github.com/huggingface/safetensors (README, "Format"). The header is
 *   {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
 *    "__metadata__": {"KEY": "VALUE", ...}}
 * with offsets from the end of the header, and possibly spaces after it. */
#include "formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "formats/cursor.h"
#include "formats/file.h"
#include "formats/utf8.h"

enum { HEADER_MAX = 32 << 20, TENSORS_MAX = 1 << 18, METADATA_MAX = 1 << 16 };

struct entry {
    struct psg_safetensors_item item; /* first: what callers see */
    int64_t begin, end;
};

struct psg_safetensors {
    struct psg_array_owner *owner;
    struct entry *entry;
    size_t n_entries, entry_capacity;
    struct psg_safetensors_meta *meta;
    size_t n_meta, meta_capacity;
    char *text; /* names, keys and values, decoded; never longer than the header */
    size_t text_used;
};

struct parser {
    struct cursor c;
    const char *place;
    struct psg_safetensors *file;
    struct psg_error *err;
};

static int parse_fail(struct parser *p, const char *what)
{
    return psg_fail(p->err, PSG_E_FORMAT, p->place, "safetensors header, byte %zu: %s",
                    8 + cursor_offset(&p->c), what);
}

static bool take_hex4(struct cursor *c, uint32_t *valuep)
{
    if (c->end - c->at < 4)
        return false;
    *valuep = 0;
    for (int i = 0; i < 4; i++) {
        char ch = *c->at++;
        int digit = ch >= '0' && ch <= '9'   ? ch - '0'
                    : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
                    : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                             : -1;
        if (digit < 0)
            return false;
        *valuep = *valuep << 4 | (uint32_t)digit;
    }
    return true;
}

/* After "\u": one code point, of two escapes when the first is half of a surrogate pair. */
static bool take_unicode(struct cursor *c, uint32_t *codep)
{
    uint32_t low;
    if (!take_hex4(c, codep) || (*codep >= 0xdc00 && *codep <= 0xdfff))
        return false;
    if (*codep < 0xd800 || *codep > 0xdbff)
        return *codep != 0; /* names are C strings */
    if (c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
        return false;
    c->at += 2;
    if (!take_hex4(c, &low) || low < 0xdc00 || low > 0xdfff)
        return false;
    *codep = 0x10000 + ((*codep - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* The character after a backslash. */
static bool take_escape(struct cursor *c, uint32_t *codep)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (c->at == c->end)
        return false;
    char ch = *c->at++;
    if (ch == 'u')
        return take_unicode(c, codep);
    const char *hit = ch ? strchr(from, ch) : NULL;
    *codep = hit ? (uint32_t)to[hit - from] : 0;
    return hit != NULL;
}

/* A JSON string, decoded into the file's text. An escape is never shorter than its
 * character, and the two quotes leave room for the final zero, so the text cannot overrun
 * the header. */
static int parse_string(struct parser *p, const char **textp)
{
    struct cursor *c = &p->c;
    if (!cursor_take(c, '"'))
        return parse_fail(p, "a string is missing");
    char *out = p->file->text + p->file->text_used;
    size_t n = 0;
    while (c->at < c->end && *c->at != '"') {
        if ((unsigned char)*c->at < 0x20)
            return parse_fail(p, "a control character in a string");
        if (*c->at != '\\') {
            out[n++] = *c->at++;
            continue;
        }
        uint32_t code;
        c->at++;
        if (!take_escape(c, &code))
            return parse_fail(p, "a bad escape in a string");
        n += format_utf8_encode(code, out + n);
    }
    if (c->at == c->end)
        return parse_fail(p, "a string does not end");
    c->at++;
    out[n] = '\0';
    if (!format_utf8_valid(out, n))
        return parse_fail(p, "a string is not UTF-8");
    p->file->text_used += n + 1;
    *textp = out;
    return 0;
}

static const struct {
    const char *name;
    enum psg_array_dtype dtype;
} dtype_table[] = {
    { "BOOL", PSG_ARRAY_BOOL }, { "U8", PSG_ARRAY_U8 },     { "I8", PSG_ARRAY_I8 },
    { "I16", PSG_ARRAY_I16 },   { "I32", PSG_ARRAY_I32 },   { "I64", PSG_ARRAY_I64 },
    { "F16", PSG_ARRAY_F16 },   { "BF16", PSG_ARRAY_BF16 }, { "F32", PSG_ARRAY_F32 },
    { "F64", PSG_ARRAY_F64 },
};

const char *safetensors_dtype_name(enum psg_array_dtype dtype)
{
    for (size_t i = 0; i < sizeof dtype_table / sizeof dtype_table[0]; i++)
        if (dtype_table[i].dtype == dtype)
            return dtype_table[i].name;
    return NULL;
}

static int parse_dtype(struct parser *p, struct entry *e)
{
    const char *text;
    int r = parse_string(p, &text);
    if (r)
        return r;
    for (size_t i = 0; i < sizeof dtype_table / sizeof dtype_table[0]; i++) {
        if (strcmp(text, dtype_table[i].name) == 0) {
            e->item.array.dtype = dtype_table[i].dtype;
            return 0;
        }
    }
    return psg_fail(p->err, PSG_E_UNSUPPORTED, p->place, "tensor '%.80s' has dtype '%.16s'",
                    e->item.name, text);
}

static int parse_numbers(struct parser *p, int64_t *out, int most, int *np)
{
    *np = 0;
    if (!cursor_take(&p->c, '['))
        return parse_fail(p, "a '[' is missing");
    if (cursor_take(&p->c, ']'))
        return 0;
    do {
        if (*np == most)
            return parse_fail(p, "too many numbers in a list");
        if (!cursor_take_number(&p->c, &out[(*np)++]))
            return parse_fail(p, "not a whole number from 0 to 2^63 - 1");
    } while (cursor_take(&p->c, ','));
    return cursor_take(&p->c, ']') ? 0 : parse_fail(p, "a ',' or ']' is missing");
}

static int parse_field(struct parser *p, struct entry *e, unsigned *seen)
{
    static const char *const key_name[] = { "dtype", "shape", "data_offsets" };
    const char *key;
    size_t text_used = p->file->text_used;
    int r = parse_string(p, &key), n;
    if (r)
        return r;
    unsigned k = 0;
    while (k < 3 && strcmp(key, key_name[k]) != 0)
        k++;
    p->file->text_used = text_used; /* the key is not kept */
    if (k == 3 || *seen & 1u << k)
        return parse_fail(p, "an unknown key, or one that comes twice");
    *seen |= 1u << k;
    if (!cursor_take(&p->c, ':'))
        return parse_fail(p, "a ':' is missing");
    if (k == 0)
        return parse_dtype(p, e);
    if (k == 1)
        return parse_numbers(p, e->item.array.shape.dim, PSG_MAX_RANK,
                             &e->item.array.shape.rank);
    int64_t offsets[2];
    r = parse_numbers(p, offsets, 2, &n);
    if (!r && n != 2)
        r = parse_fail(p, "data_offsets are not two numbers");
    if (!r) {
        e->begin = offsets[0];
        e->end = offsets[1];
    }
    return r;
}

static int parse_tensor(struct parser *p, const char *name)
{
    struct psg_safetensors *f = p->file;
    if (f->n_entries == f->entry_capacity) {
        size_t capacity = f->entry_capacity ? f->entry_capacity * 2 : 16;
        void *grown = f->n_entries < TENSORS_MAX
                          ? reallocarray(f->entry, capacity, sizeof f->entry[0])
                          : NULL;
        if (f->n_entries >= TENSORS_MAX)
            return parse_fail(p, "too many tensors");
        if (!grown)
            return psg_fail(p->err, PSG_E_NOMEM, p->place, "out of memory");
        f->entry = grown;
        f->entry_capacity = capacity;
    }
    struct entry *e = &f->entry[f->n_entries];
    memset(e, 0, sizeof *e);
    e->item.name = name;
    unsigned seen = 0;
    if (!cursor_take(&p->c, '{'))
        return parse_fail(p, "a '{' is missing");
    do {
        int r = parse_field(p, e, &seen);
        if (r)
            return r;
    } while (cursor_take(&p->c, ','));
    if (!cursor_take(&p->c, '}'))
        return parse_fail(p, "a ',' or '}' is missing");
    if (seen != 7)
        return parse_fail(p, "a tensor lacks dtype, shape or data_offsets");
    int64_t bytes = format_array_bytes(e->item.array.dtype, &e->item.array.shape);
    if (bytes < 0 || e->end < e->begin || e->end - e->begin != bytes)
        return psg_fail(
            p->err, PSG_E_FORMAT, p->place,
            "tensor '%.80s' has data_offsets [%lld, %lld], its shape needs %lld "
            "bytes",
            name, (long long)e->begin, (long long)e->end, (long long)bytes);
    f->n_entries++;
    return 0;
}

static int parse_metadata(struct parser *p)
{
    struct psg_safetensors *f = p->file;
    if (f->meta)
        return parse_fail(p, "__metadata__ comes twice");
    if (!cursor_take(&p->c, '{'))
        return parse_fail(p, "a '{' is missing");
    f->meta_capacity = 16;
    f->meta = calloc(f->meta_capacity, sizeof f->meta[0]);
    if (!f->meta)
        return psg_fail(p->err, PSG_E_NOMEM, p->place, "out of memory");
    if (cursor_take(&p->c, '}'))
        return 0;
    do {
        if (f->n_meta == METADATA_MAX)
            return parse_fail(p, "too many entries in __metadata__");
        if (f->n_meta == f->meta_capacity) {
            void *grown = reallocarray(f->meta, f->meta_capacity * 2, sizeof f->meta[0]);
            if (!grown)
                return psg_fail(p->err, PSG_E_NOMEM, p->place, "out of memory");
            f->meta = grown;
            f->meta_capacity *= 2;
        }
        struct psg_safetensors_meta *m = &f->meta[f->n_meta];
        int r = parse_string(p, &m->key);
        if (!r && !cursor_take(&p->c, ':'))
            r = parse_fail(p, "a ':' is missing");
        if (!r)
            r = parse_string(p, &m->value);
        if (r)
            return r;
        f->n_meta++;
    } while (cursor_take(&p->c, ','));
    return cursor_take(&p->c, '}') ? 0 : parse_fail(p, "a ',' or '}' is missing");
}

static int parse_header(struct parser *p)
{
    if (p->c.at == p->c.end || *p->c.at != '{')
        return parse_fail(p, "a '{' is missing");
    p->c.at++;
    if (!cursor_take(&p->c, '}')) {
        do {
            const char *name;
            int r = parse_string(p, &name);
            if (!r && !cursor_take(&p->c, ':'))
                r = parse_fail(p, "a ':' is missing");
            if (!r)
                r = strcmp(name, "__metadata__") == 0 ? parse_metadata(p)
                                                      : parse_tensor(p, name);
            if (r)
                return r;
        } while (cursor_take(&p->c, ','));
        if (!cursor_take(&p->c, '}'))
            return parse_fail(p, "a ',' or '}' is missing");
    }
    while (p->c.at < p->c.end && *p->c.at == ' ')
        p->c.at++;
    return p->c.at == p->c.end ? 0 : parse_fail(p, "text after the header");
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return strcmp(x->item.name, y->item.name);
}

static int by_key(const void *a, const void *b)
{
    const struct psg_safetensors_meta *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* Data must cover the rest of the file without holes or overlaps; names must be unique. */
static int check_layout(struct psg_safetensors *f, size_t data_size, const char *place,
                        struct psg_error *err)
{
    int64_t at = 0;
    if (f->n_entries)
        qsort(f->entry, f->n_entries, sizeof f->entry[0], by_offset);
    for (size_t i = 0; i < f->n_entries; i++) {
        const struct entry *e = &f->entry[i];
        if (e->begin != at)
            return psg_fail(err, PSG_E_FORMAT, place,
                            "tensor '%.80s' starts at offset %lld, %s %lld", e->item.name,
                            (long long)e->begin,
                            e->begin < at ? "inside of data that ends at" : "a hole after",
                            (long long)at);
        at = e->end;
    }
    if ((uint64_t)at != data_size)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "the tensors take %lld bytes, the file has %zu after its header",
                        (long long)at, data_size);
    if (f->n_entries)
        qsort(f->entry, f->n_entries, sizeof f->entry[0], by_name);
    for (size_t i = 1; i < f->n_entries; i++)
        if (strcmp(f->entry[i - 1].item.name, f->entry[i].item.name) == 0)
            return psg_fail(err, PSG_E_FORMAT, place, "tensor '%.80s' comes twice",
                            f->entry[i].item.name);
    if (f->n_meta)
        qsort(f->meta, f->n_meta, sizeof f->meta[0], by_key);
    for (size_t i = 1; i < f->n_meta; i++)
        if (strcmp(f->meta[i - 1].key, f->meta[i].key) == 0)
            return psg_fail(err, PSG_E_FORMAT, place, "metadata '%.80s' comes twice",
                            f->meta[i].key);
    return 0;
}

static void close_p(struct psg_safetensors **filep)
{
    psg_safetensors_close(*filep);
}

int psg_safetensors_open_bytes(const void *bytes, size_t size, const char *place,
                               struct psg_safetensors **filep, struct psg_error *err)
{
    const uint8_t *data = bytes;
    uint64_t header = 0;
    if (size < 8)
        return psg_fail(err, PSG_E_FORMAT, place, "%zu bytes are too short for safetensors",
                        size);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | data[i];
    if (header > HEADER_MAX || header > size - 8)
        return psg_fail(err, PSG_E_FORMAT, place,
                        "a safetensors header of %llu bytes in a file of %zu (at most %d)",
                        (unsigned long long)header, size, HEADER_MAX);
    _cleanup_(close_p) struct psg_safetensors *file = calloc(1, sizeof *file);
    if (file)
        file->text = malloc((size_t)header + 1);
    if (!file || !file->text)
        return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
    struct parser p = { cursor_of(data + 8, (size_t)header), place, file, err };
    int r = parse_header(&p);
    if (!r)
        r = check_layout(file, size - 8 - (size_t)header, place, err);
    if (r)
        return r;
    for (size_t i = 0; i < file->n_entries; i++)
        file->entry[i].item.array.data = data + 8 + header + file->entry[i].begin;
    *filep = steal(&file);
    return 0;
}

int psg_safetensors_open(const char *path, struct psg_safetensors **filep,
                         struct psg_error *err)
{
    const uint8_t *data;
    size_t size;
    _cleanup_(format_owner_freep) struct psg_array_owner *owner = NULL;
    int r = format_file_open(path, &data, &size, &owner, err);
    if (!r)
        r = psg_safetensors_open_bytes(data, size, path, filep, err);
    if (!r)
        (*filep)->owner = steal(&owner);
    return r;
}

struct psg_safetensors *psg_safetensors_close(struct psg_safetensors *file)
{
    if (file) {
        free(file->entry);
        free(file->meta);
        free(file->text);
        format_owner_free(file->owner);
        free(file);
    }
    return NULL;
}

size_t psg_safetensors_count(const struct psg_safetensors *file)
{
    return file->n_entries;
}

const struct psg_safetensors_item *psg_safetensors_at(const struct psg_safetensors *file,
                                                      size_t i)
{
    return &file->entry[i].item;
}

const struct psg_array *psg_safetensors_find(const struct psg_safetensors *file,
                                             const char *name)
{
    struct entry key = { .item.name = name };
    const struct entry *e = file->n_entries ? bsearch(&key, file->entry, file->n_entries,
                                                      sizeof file->entry[0], by_name)
                                            : NULL;
    return e ? &e->item.array : NULL;
}

const char *psg_safetensors_metadata(const struct psg_safetensors *file, const char *key)
{
    struct psg_safetensors_meta wanted = { .key = key };
    const struct psg_safetensors_meta *m =
        file->n_meta
            ? bsearch(&wanted, file->meta, file->n_meta, sizeof file->meta[0], by_key)
            : NULL;
    return m ? m->value : NULL;
}
