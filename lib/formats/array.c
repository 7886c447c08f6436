#include <math.h>
#include <string.h>

#include "formats/file.h"

static const struct {
    const char *name;
    size_t size;
} dtype_table[] = {
    [PSG_ARRAY_BOOL] = { "bool", 1 }, [PSG_ARRAY_U8] = { "u8", 1 },
    [PSG_ARRAY_I8] = { "i8", 1 },     [PSG_ARRAY_I16] = { "i16", 2 },
    [PSG_ARRAY_I32] = { "i32", 4 },   [PSG_ARRAY_I64] = { "i64", 8 },
    [PSG_ARRAY_F16] = { "f16", 2 },   [PSG_ARRAY_BF16] = { "bf16", 2 },
    [PSG_ARRAY_F32] = { "f32", 4 },   [PSG_ARRAY_F64] = { "f64", 8 },
};

const char *psg_array_dtype_name(enum psg_array_dtype dtype)
{
    return (unsigned)dtype <= PSG_ARRAY_F64 ? dtype_table[dtype].name : "unknown";
}

size_t psg_array_dtype_size(enum psg_array_dtype dtype)
{
    return dtype_table[dtype].size;
}

void psg_array_free(struct psg_array *array)
{
    if (!array)
        return;
    format_owner_free(array->owner);
    memset(array, 0, sizeof *array);
}

int64_t psg_array_rows(const struct psg_array *array)
{
    return array->shape.rank > 0 ? array->shape.dim[0] : 1;
}

int64_t psg_array_row_size(const struct psg_array *array)
{
    struct psg_shape row = { 0 };
    for (int i = 1; i < array->shape.rank; i++)
        row.dim[row.rank++] = array->shape.dim[i];
    int64_t size = psg_shape_size(&row);
    return size < 0 ? 0
                    : size; /* only an array without rows can have rows that do not fit */
}

struct psg_array psg_array_of_real(const struct psg_shape *shape, const psg_real *data)
{
    return (struct psg_array){
        .dtype = sizeof(psg_real) == 4 ? PSG_ARRAY_F32 : PSG_ARRAY_F64,
        .shape = *shape,
        .data = data,
    };
}

struct psg_array psg_array_of_i64(const struct psg_shape *shape, const int64_t *data)
{
    return (struct psg_array){ .dtype = PSG_ARRAY_I64, .shape = *shape, .data = data };
}

static int check_rows(const struct psg_array *array, int64_t first, int64_t n,
                      struct psg_error *err)
{
    int64_t rows = psg_array_rows(array);
    if (first < 0 || n < 0 || first > rows || n > rows - first)
        return psg_fail(err, PSG_E_RANGE, "rows", "rows %lld to %lld of an array with %lld",
                        (long long)first, (long long)first + n, (long long)rows);
    return 0;
}

int psg_array_slice(const struct psg_array *array, int64_t first, int64_t n,
                    struct psg_array *out, struct psg_error *err)
{
    int r = check_rows(array, first, n, err);
    if (r)
        return r;
    size_t row = (size_t)psg_array_row_size(array) * psg_array_dtype_size(array->dtype);
    *out = *array;
    out->owner = NULL;
    out->data = (const char *)array->data + (size_t)first * row;
    if (out->shape.rank > 0)
        out->shape.dim[0] = n;
    return 0;
}

/* IEEE 754 binary16. */
static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    double fraction = bits & 1023, value;
    if (exponent == 0)
        value = ldexp(fraction, -24);
    else if (exponent == 31)
        value = fraction != 0 ? NAN : INFINITY;
    else
        value = ldexp(fraction + 1024, exponent - 25);
    return bits >> 15 ? -value : value;
}

static double bfloat_value(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* for each element: v = the element as C type T, possibly unaligned in memory */
#define EACH(T, conversion)                                                                \
    for (size_t i = 0; i < count; i++) {                                                   \
        T v;                                                                               \
        memcpy(&v, p + i * sizeof v, sizeof v);                                            \
        out[i] = conversion;                                                               \
    }

int psg_array_read_real(const struct psg_array *array, int64_t first, int64_t n,
                        psg_real *out, struct psg_error *err)
{
    struct psg_array part;
    int r = psg_array_slice(array, first, n, &part, err);
    if (r)
        return r;
    const char *p = part.data;
    size_t count = (size_t)(n * psg_array_row_size(&part));
    switch (array->dtype) {
    case PSG_ARRAY_BOOL:
    case PSG_ARRAY_U8: EACH(uint8_t, (psg_real)v) break;
    case PSG_ARRAY_I8: EACH(int8_t, (psg_real)v) break;
    case PSG_ARRAY_I16: EACH(int16_t, (psg_real)v) break;
    case PSG_ARRAY_I32: EACH(int32_t, (psg_real)v) break;
    case PSG_ARRAY_I64: EACH(int64_t, (psg_real)v) break;
    case PSG_ARRAY_F16: EACH(uint16_t, (psg_real)half_value(v)) break;
    case PSG_ARRAY_BF16: EACH(uint16_t, (psg_real)bfloat_value(v)) break;
    case PSG_ARRAY_F32: EACH(float, (psg_real)v) break;
    case PSG_ARRAY_F64: EACH(double, (psg_real)v) break;
    default: return psg_fail(err, PSG_E_INVALID, "array", "unknown dtype");
    }
    return 0;
}

static double float_at(enum psg_array_dtype dtype, const char *p)
{
    uint16_t half;
    float single;
    double value;
    switch (dtype) {
    case PSG_ARRAY_F32: memcpy(&single, p, sizeof single); return single;
    case PSG_ARRAY_F64: memcpy(&value, p, sizeof value); return value;
    default:
        memcpy(&half, p, sizeof half);
        return dtype == PSG_ARRAY_F16 ? half_value(half) : bfloat_value(half);
    }
}

static int read_whole_numbers(const struct psg_array *part, int64_t first, size_t count,
                              int64_t *out, struct psg_error *err)
{
    size_t size = psg_array_dtype_size(part->dtype);
    for (size_t i = 0; i < count; i++) {
        double v = float_at(part->dtype, (const char *)part->data + i * size);
        if (!(v >= -0x1p63 && v < 0x1p63) || v != floor(v)) {
            int64_t row = first + (int64_t)i / psg_array_row_size(part);
            return psg_fail(err, PSG_E_RANGE, "array",
                            "row %lld holds %g, not a whole number", (long long)row, v);
        }
        out[i] = (int64_t)v;
    }
    return 0;
}

int psg_array_read_i64(const struct psg_array *array, int64_t first, int64_t n,
                       int64_t *out, struct psg_error *err)
{
    struct psg_array part;
    int r = psg_array_slice(array, first, n, &part, err);
    if (r)
        return r;
    const char *p = part.data;
    size_t count = (size_t)(n * psg_array_row_size(&part));
    switch (array->dtype) {
    case PSG_ARRAY_BOOL:
    case PSG_ARRAY_U8: EACH(uint8_t, v) break;
    case PSG_ARRAY_I8: EACH(int8_t, v) break;
    case PSG_ARRAY_I16: EACH(int16_t, v) break;
    case PSG_ARRAY_I32: EACH(int32_t, v) break;
    case PSG_ARRAY_I64: EACH(int64_t, v) break;
    case PSG_ARRAY_F16:
    case PSG_ARRAY_BF16:
    case PSG_ARRAY_F32:
    case PSG_ARRAY_F64: return read_whole_numbers(&part, first, count, out, err);
    default: return psg_fail(err, PSG_E_INVALID, "array", "unknown dtype");
    }
    return 0;
}
