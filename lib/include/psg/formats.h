/* Files to and from arrays in memory: IDX, npy, CSV, safetensors.
 *
 * Every reader treats its bytes as untrusted: sizes are checked before memory is taken,
 * memory is bounded by a small multiple of the file, and an error names the file and the
 * place in it (byte or line). Plain files are mapped, not copied; they must not be
 * truncated while the result is alive. Numbers in memory are in native (little-endian)
 * order. */
#ifndef PSG_FORMATS_H
#define PSG_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "psg/shape.h"
#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- arrays ---- */

enum psg_array_dtype {
    PSG_ARRAY_BOOL, /* one byte, 0 or 1 */
    PSG_ARRAY_U8,
    PSG_ARRAY_I8,
    PSG_ARRAY_I16,
    PSG_ARRAY_I32,
    PSG_ARRAY_I64,
    PSG_ARRAY_F16,
    PSG_ARRAY_BF16,
    PSG_ARRAY_F32,
    PSG_ARRAY_F64
};

/* Dense and row-major. data may be unaligned (a view into a file): read it with the
 * functions below. owner is private: NULL for a view, which lives as long as what it was
 * taken from. */
struct psg_array {
    enum psg_array_dtype dtype;
    struct psg_shape shape;
    const void *data;
    struct psg_array_owner *owner;
};

/* "f32" and so on; never NULL. */
PSG_API const char *psg_array_dtype_name(enum psg_array_dtype dtype);
/* Bytes of one element. */
PSG_API size_t psg_array_dtype_size(enum psg_array_dtype dtype);
/* Frees what the array owns and zeroes it; a zeroed array and NULL are fine. */
PSG_API void psg_array_free(struct psg_array *array);
/* Number of rows: dimension 0, or 1 for rank 0. */
PSG_API int64_t psg_array_rows(const struct psg_array *array);
/* Elements of one row: the product of the dimensions after the first. */
PSG_API int64_t psg_array_row_size(const struct psg_array *array);
/* View of `n` rows from `first` on. PSG_E_RANGE outside. */
PSG_API int psg_array_slice(const struct psg_array *array, int64_t first, int64_t n,
                            struct psg_array *out, struct psg_error *err);
/* View of psg_real or int64_t memory of the caller's. */
PSG_API struct psg_array psg_array_of_real(const struct psg_shape *shape,
                                           const psg_real *data);
PSG_API struct psg_array psg_array_of_i64(const struct psg_shape *shape,
                                          const int64_t *data);

/* out[n * row_size] = rows [first, first + n) as psg_real; integers become the nearest
 * number. PSG_E_RANGE when rows are outside. */
PSG_API int psg_array_read_real(const struct psg_array *array, int64_t first, int64_t n,
                                psg_real *out, struct psg_error *err);
/* The same as int64_t. PSG_E_RANGE also for a floating number that is no whole number. */
PSG_API int psg_array_read_i64(const struct psg_array *array, int64_t first, int64_t n,
                               int64_t *out, struct psg_error *err);

/* ---- IDX (MNIST) and npy ---- */

/* Plain or gzip-compressed IDX, recognised by content. A compressed file whose header
 * claims more than its bytes can unpack to is refused before memory is taken. */
PSG_API int psg_idx_read(const char *path, struct psg_array *out, struct psg_error *err);
/* The same from memory, which must outlive *out. `place` stands in errors for the path. */
PSG_API int psg_idx_decode(const void *bytes, size_t size, const char *place,
                           struct psg_array *out, struct psg_error *err);

/* NumPy's .npy, versions 1 to 3: C order, little-endian, dtypes b1 u1 i1 i2 i4 i8 f2 f4 f8.
 */
PSG_API int psg_npy_read(const char *path, struct psg_array *out, struct psg_error *err);
PSG_API int psg_npy_decode(const void *bytes, size_t size, const char *place,
                           struct psg_array *out, struct psg_error *err);

/* ---- CSV ---- */

/* RFC 4180 with numbers in every selected field. Columns are selected by the name in the
 * header line or by number from 0 ("3"; names win). */
struct psg_csv_options {
    char delimiter;            /* 0: ',' */
    bool header;               /* the first line holds names */
    const char *const *column; /* feature columns in order; NULL: all but the label */
    size_t n_columns;
    const char *label; /* NULL: no label column */
};

/* features: f64 [records, columns]; label: f64 [records], zeroed when options name no
 * label. Missing, non-numeric and non-finite fields are errors with their line. */
PSG_API int psg_csv_read(const char *path, const struct psg_csv_options *options,
                         struct psg_array *features, struct psg_array *label,
                         struct psg_error *err);
PSG_API int psg_csv_decode(const void *bytes, size_t size, const char *place,
                           const struct psg_csv_options *options,
                           struct psg_array *features, struct psg_array *label,
                           struct psg_error *err);

/* ---- safetensors ---- */

/* An open file. Tensors are views into it. The header is checked as strictly as the
 * reference implementation does: every tensor inside the file, of the size its shape says,
 * data without holes and overlaps, no name twice. */
struct psg_safetensors;

struct psg_safetensors_item {
    const char *name; /* UTF-8 */
    struct psg_array array;
};

struct psg_safetensors_meta {
    const char *key, *value; /* UTF-8 */
};

PSG_API int psg_safetensors_open(const char *path, struct psg_safetensors **filep,
                                 struct psg_error *err);
/* The bytes must outlive the file. */
PSG_API int psg_safetensors_open_bytes(const void *bytes, size_t size, const char *place,
                                       struct psg_safetensors **filep,
                                       struct psg_error *err);
PSG_API struct psg_safetensors *psg_safetensors_close(struct psg_safetensors *file);
PSG_API size_t psg_safetensors_count(const struct psg_safetensors *file);
/* Tensors sorted by name; i < count. Valid until close. */
PSG_API const struct psg_safetensors_item *psg_safetensors_at(
    const struct psg_safetensors *file, size_t i);
/* NULL when there is none. */
PSG_API const struct psg_array *psg_safetensors_find(const struct psg_safetensors *file,
                                                     const char *name);
/* The entry of __metadata__, or NULL. */
PSG_API const char *psg_safetensors_metadata(const struct psg_safetensors *file,
                                             const char *key);

/* Writes a file that holds `item`s and `meta` data: first to a temporary file beside it,
 * which is synced and then renamed, so that `path` is at every moment the old file or the
 * new one. The bytes depend only on the arguments; tensors are laid out by element size,
 * then name. float32 throughout where psg_real is float. PSG_E_INVALID for a name that is
 * not UTF-8, occurs twice or is "__metadata__". */
PSG_API int psg_safetensors_write(const char *path, const struct psg_safetensors_item *item,
                                  size_t n_items, const struct psg_safetensors_meta *meta,
                                  size_t n_meta, struct psg_error *err);

/* The bytes of such a file in memory, malloc'ed, for callers that write files in their own way. */
PSG_API int psg_safetensors_pack(const struct psg_safetensors_item *item, size_t n_items,
                                 const struct psg_safetensors_meta *meta, size_t n_meta,
                                 void **bytesp, size_t *sizep, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
