/* The product that gemm and conv are made of: TILE_MR rows by TILE_NV vectors, in
 * registers.
 *
 *   out[i][j] = sum over l < k: rows[i][at(l)] * b[l * ldb + j]
 *
 * at(l) is l * step, or off[l]: with a table of offsets the left matrix is never laid out
 * in memory, which is how a convolution reads its patches from the padded input. */
#ifndef CPU_KERNELS_TILE_H
#define CPU_KERNELS_TILE_H

#include "backend/cpu/kernels/vec.h"

/* rows * vectors + vectors + 1 registers: of 32 with AVX-512 and NEON, of 16 elsewhere */
#if CPU_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { TILE_MR = 8, TILE_NV = 3 };
#else
enum { TILE_MR = 4, TILE_NV = 3 };
#endif
enum { TILE_NR = TILE_NV * VEC_LEN };

typedef void tile_fn(int64_t k, const psg_real *const *rows, int64_t step,
                     const int32_t *off, const psg_real *b, int64_t ldb, psg_real *out,
                     int64_t ldo);

CPU_INLINE void tile_sum(int mr, int nv, bool table, int64_t k, const psg_real *const *rows,
                         int64_t step, const int32_t *off, const psg_real *b, int64_t ldb,
                         psg_real *out, int64_t ldo)
{
    vec acc[TILE_MR][TILE_NV];
    const psg_real *row[TILE_MR];
    CPU_UNROLL
    for (int i = 0; i < mr; i++) {
        row[i] = rows[i];
        CPU_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = (vec){ 0 };
    }
    for (int64_t l = 0; l < k; l++) {
        int64_t at = table ? off[l] : l * step;
        vec right[TILE_NV];
        CPU_UNROLL
        for (int j = 0; j < nv; j++)
            right[j] = vec_load(b + l * ldb + j * VEC_LEN);
        CPU_UNROLL
        for (int i = 0; i < mr; i++) {
            CPU_UNROLL
            for (int j = 0; j < nv; j++)
                acc[i][j] += row[i][at] * right[j];
        }
    }
    CPU_UNROLL
    for (int i = 0; i < mr; i++) {
        CPU_UNROLL
        for (int j = 0; j < nv; j++)
            vec_store(out + i * ldo + j * VEC_LEN, acc[i][j]);
    }
}

#define TILE(mr, nv)                                                                       \
    static void tile_step_##mr##x##nv(int64_t k, const psg_real *const *rows,              \
                                      int64_t step, const int32_t *off, const psg_real *b, \
                                      int64_t ldb, psg_real *out, int64_t ldo)             \
    {                                                                                      \
        tile_sum(mr, nv, false, k, rows, step, off, b, ldb, out, ldo);                     \
    }                                                                                      \
    static void tile_off_##mr##x##nv(int64_t k, const psg_real *const *rows, int64_t step, \
                                     const int32_t *off, const psg_real *b, int64_t ldb,   \
                                     psg_real *out, int64_t ldo)                           \
    {                                                                                      \
        tile_sum(mr, nv, true, k, rows, step, off, b, ldb, out, ldo);                      \
    }
#define TILE_ROW(mr) TILE(mr, 1) TILE(mr, 2) TILE(mr, 3)
TILE_ROW(1)
TILE_ROW(2)
TILE_ROW(4)
#if CPU_VECTOR_BYTES == 64 || defined(__aarch64__)
TILE_ROW(8)
#endif

#define TILE_NAMES(kind, mr)                                                               \
    {                                                                                      \
        tile_##kind##_##mr##x1, tile_##kind##_##mr##x2, tile_##kind##_##mr##x3             \
    }
/* [log2 of rows][vectors - 1] */
static tile_fn *const tile_step[][TILE_NV] = {
    TILE_NAMES(step, 1),
    TILE_NAMES(step, 2),
    TILE_NAMES(step, 4),
#if CPU_VECTOR_BYTES == 64 || defined(__aarch64__)
    TILE_NAMES(step, 8),
#endif
};
static tile_fn *const tile_off[][TILE_NV] = {
    TILE_NAMES(off, 1),
    TILE_NAMES(off, 2),
    TILE_NAMES(off, 4),
#if CPU_VECTOR_BYTES == 64 || defined(__aarch64__)
    TILE_NAMES(off, 8),
#endif
};

/* how many of the rows that are left the next tile takes: a power of two */
CPU_INLINE int tile_rows(int64_t left)
{
    return left >= TILE_MR ? TILE_MR : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

CPU_INLINE int tile_class(int mr)
{
    return mr == 8 ? 3 : mr == 4 ? 2 : mr == 2 ? 1 : 0;
}

/* vectors of the next panel when `left` columns are left: panels of even width */
CPU_INLINE int tile_vectors(int64_t left)
{
    int64_t vectors = (left + VEC_LEN - 1) / VEC_LEN;
    int64_t panels = (vectors + TILE_NV - 1) / TILE_NV;
    return (int)((vectors + panels - 1) / panels);
}

/* columns that a packed right matrix of n columns takes */
CPU_INLINE int64_t tile_padded(int64_t n)
{
    return (n + VEC_LEN - 1) / VEC_LEN * VEC_LEN;
}

/* VEC_LEN rows of from, the first n of them there, into columns of to; the first `height`
 * rows of the result are stored */
CPU_INLINE void tile_pack_square(int64_t n, int64_t height, int64_t width,
                                 const psg_real *from, int64_t step, psg_real *to)
{
    vec v[VEC_LEN];
    CPU_UNROLL
    for (int i = 0; i < VEC_LEN; i++)
        v[i] = i < n ? vec_load(from + i * step) : (vec){ 0 };
    vec_transpose(VEC_LEN, v);
    CPU_UNROLL
    for (int i = 0; i < VEC_LEN; i++)
        if (i < height)
            vec_store(to + i * width, v[i]);
}

/* to[l * width + j] = from[j * step + l] for j < n, zero for n <= j < width: a right matrix
 * from the rows of its transpose. width is n rounded up to whole vectors. Memory up to end
 * may be read, so that the last columns of a row are loaded with what follows them. */
static void tile_pack_transposed(int64_t k, int64_t n, int64_t width, const psg_real *from,
                                 int64_t step, const psg_real *end, psg_real *to)
{
    for (int64_t j = 0; j < width; j += VEC_LEN) {
        int64_t left = n - j < VEC_LEN ? n - j : VEC_LEN, l = 0;
        const psg_real *rows = from + j * step;
        if (left == VEC_LEN)
            for (; l + VEC_LEN <= k; l += VEC_LEN)
                tile_pack_square(VEC_LEN, VEC_LEN, width, rows + l, step,
                                 to + l * width + j);
        else
            for (; l + VEC_LEN <= k; l += VEC_LEN)
                tile_pack_square(left, VEC_LEN, width, rows + l, step, to + l * width + j);
        if (l < k && end - rows >= l + (left - 1) * step + VEC_LEN) {
            tile_pack_square(left, k - l, width, rows + l, step, to + l * width + j);
            continue;
        }
        for (; l < k; l++)
            for (int64_t i = 0; i < VEC_LEN; i++)
                to[l * width + j + i] = i < left ? rows[i * step + l] : 0;
    }
}

/* n whole vectors of columns, mr a power of two up to VEC_LEN */
CPU_INLINE void tile_store_columns(int mr, int64_t n, int64_t width, const psg_real *tile,
                                   const psg_real *bias, psg_real *out, int64_t ldo)
{
    for (int64_t j = 0; j < n; j += VEC_LEN) {
        vec v[TILE_MR], add = bias ? vec_load(bias + j) : (vec){ 0 };
        CPU_UNROLL
        for (int i = 0; i < mr; i++)
            v[i] = vec_load(tile + i * width + j) + add;
        vec_transpose(mr, v);
        CPU_UNROLL
        for (int i = 0; i < VEC_LEN;
             i++) { /* column i is a part of vector i * mr / VEC_LEN */
            const psg_real *part = (const psg_real *)&v[i * mr / VEC_LEN];
            memcpy(out + (j + i) * ldo, part + i * mr % VEC_LEN, (size_t)mr * sizeof *out);
        }
    }
}

/* out[j * ldo + i] = tile[i * width + j] + bias[j] (bias NULL: 0), i < mr, j < n */
static void tile_store_transposed(int mr, int64_t n, int64_t width, const psg_real *tile,
                                  const psg_real *bias, psg_real *out, int64_t ldo)
{
    int64_t whole = n / VEC_LEN * VEC_LEN;
    if (mr == TILE_MR && (int)TILE_MR <= (int)VEC_LEN)
        tile_store_columns(TILE_MR, whole, width, tile, bias, out, ldo);
    else if (mr == 4 && VEC_LEN >= 4)
        tile_store_columns(4, whole, width, tile, bias, out, ldo);
    else
        whole = 0;
    for (int64_t j = whole; j < n; j++) {
        psg_real add = bias ? bias[j] : 0;
        for (int i = 0; i < mr; i++)
            out[j * ldo + i] = tile[i * width + j] + add;
    }
}

#endif
