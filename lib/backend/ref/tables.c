/* Rows of tables by id. */
#include "ref.h"

void ref_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                const psg_real *table, int64_t table_stride, const int64_t *id, psg_real *y)
{
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t i = 0; i < count; i++) {
            int64_t row = id[b * count + i];
            bool inside = row >= 0 && row < rows;
            for (int64_t d = 0; d < dim; d++)
                y[(b * count + i) * dim + d] =
                    inside ? table[b * table_stride + row * dim + d] : 0;
        }
    }
}

/* a plain running sum: the order of i is part of the contract */
void ref_scatter_add(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                     const int64_t *id, const psg_real *x, psg_real *table,
                     int64_t table_stride)
{
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t i = 0; i < count; i++) {
            int64_t row = id[b * count + i];
            if (row < 0 || row >= rows)
                continue;
            for (int64_t d = 0; d < dim; d++)
                table[b * table_stride + row * dim + d] += x[(b * count + i) * dim + d];
        }
    }
}

void ref_merge_ids(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                   const int64_t *id, int64_t *slot)
{
    for (int64_t b = 0; b < batch; b++) {
        const int64_t *row = id + b * count;
        for (int64_t i = 0; i < count; i++) {
            int64_t j = 0;
            while (row[j] != row[i])
                j++;
            bool counts = row[i] >= 0 && row[i] < rows && row[i] != skip;
            slot[b * count + i] = counts ? j : -1;
        }
    }
}

void ref_convert(int64_t n, const int64_t *id, psg_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (psg_real)id[i];
}
