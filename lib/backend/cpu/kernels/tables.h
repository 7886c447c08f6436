/* Adding rows into tables by id. */
#ifndef CPU_KERNELS_TABLES_H
#define CPU_KERNELS_TABLES_H

#include "backend/cpu/kernels/vec.h"

static void cpu_scatter_add(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                            const int64_t *id, const psg_real *x, psg_real *table,
                            int64_t table_stride)
{
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t i = 0; i < count; i++) {
            int64_t row = id[b * count + i];
            if (row < 0 || row >= rows)
                continue;
            psg_real *to = table + b * table_stride + row * dim;
            const psg_real *from = x + (b * count + i) * dim;
            for (int64_t d = 0; d < dim; d++)
                to[d] += from[d];
        }
    }
}

/* Multiplicative hashing (Knuth, The Art of Computer Programming 3, section 6.4) of up to
 * MERGE_COUNT ids into a table on the stack with linear probing; longer rows are compared.
 */
enum { MERGE_COUNT = 1024, MERGE_BITS = 12 };

static void merge_row(int64_t count, int64_t rows, int64_t skip, const int64_t *id,
                      int64_t *slot)
{
    int16_t first[1 << MERGE_BITS];
    int bits = 4;
    while (bits < MERGE_BITS && (INT64_C(1) << bits) < 4 * count)
        bits++;
    memset(first, 0xff, sizeof *first << bits);
    for (int64_t i = 0; i < count; i++) {
        if (id[i] < 0 || id[i] >= rows || id[i] == skip) {
            slot[i] = -1;
            continue;
        }
        uint64_t at = (uint64_t)id[i] * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits);
        while (first[at] >= 0 && id[first[at]] != id[i])
            at = (at + 1) & ((UINT64_C(1) << bits) - 1);
        if (first[at] < 0)
            first[at] = (int16_t)i;
        slot[i] = first[at];
    }
}

static void cpu_merge_ids(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                          const int64_t *id, int64_t *slot)
{
    if (count > MERGE_COUNT) {
        ref_merge_ids(batch, count, rows, skip, id, slot);
        return;
    }
    for (int64_t b = 0; b < batch; b++)
        merge_row(count, rows, skip, id + b * count, slot + b * count);
}

#endif
