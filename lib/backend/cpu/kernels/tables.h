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

#endif
