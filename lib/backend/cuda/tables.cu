/* Rows of tables by id. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"

KERNEL gather_kernel(int64_t n, int64_t count, int64_t rows, int64_t dim,
                     const psg_real *table, int64_t table_stride, const int64_t *id,
                     psg_real *y)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t at = e / dim, row = id[at];
        bool is_row = row >= 0 && row < rows;
        y[e] = is_row ? table[at / count * table_stride + row * dim + e % dim] : 0;
    }
}

void cuda_gather(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                 const psg_real *table, int64_t table_stride, const int64_t *id, psg_real *y)
{
    int64_t n = batch * count * dim;
    LAUNCH_EACH(gather_kernel, n, n, count, rows, dim, table, table_stride, id, y);
}

/* Among `count` ids the first of its kind adds its fellows up, in order: no two threads write
 * one number, and the sum is the plain running one. One block for each id. */
KERNEL add_by_id_kernel(int64_t count, int64_t rows, int64_t dim, const int64_t *id,
                        const psg_real *x, psg_real *table, int64_t table_stride)
{
    int64_t b = blockIdx.x / count, first = blockIdx.x % count;
    const int64_t *ids = id + b * count;
    const psg_real *from = x + b * count * dim;
    int64_t row = ids[first];
    psg_real *to = table + b * table_stride + row * dim;
    SHARED bool seen[CUDA_THREADS];
    THREADS
    {
        bool mine = row < 0 || row >= rows; /* nothing to do, as if done before */
        for (int64_t j = threadIdx.x; !mine && j < first; j += blockDim.x)
            mine = ids[j] == row;
        seen[threadIdx.x] = mine;
    }
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2)
        THREADS if (threadIdx.x < half)
            seen[threadIdx.x] = seen[threadIdx.x] || seen[threadIdx.x + half];
    THREADS for (int64_t d = threadIdx.x; !seen[0] && d < dim; d += blockDim.x)
    {
        psg_real sum = to[d];
        for (int64_t j = first; j < count; j++)
            if (ids[j] == row)
                sum += from[j * dim + d];
        to[d] = sum;
    }
}

/* The same by a thread for each number of a table, where ids are more than rows. */
KERNEL add_by_row_kernel(int64_t n, int64_t count, int64_t rows, int64_t dim,
                         const int64_t *id, const psg_real *x, psg_real *table,
                         int64_t table_stride)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t b = e / (rows * dim), at = e % (rows * dim), row = at / dim, d = at % dim;
        const psg_real *from = x + b * count * dim + d;
        psg_real sum = table[b * table_stride + at];
        for (int64_t j = 0; j < count; j++)
            if (id[b * count + j] == row)
                sum += from[j * dim];
        table[b * table_stride + at] = sum;
    }
}

void cuda_scatter_add(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                      const int64_t *id, const psg_real *x, psg_real *table,
                      int64_t table_stride)
{
    if (table_stride == 0) /* one table for all: one list of ids */
        count *= batch, batch = count > 0;
    if (count == 0 || rows == 0 || dim == 0)
        return;
    if (rows < count)
        LAUNCH_EACH(add_by_row_kernel, batch * rows * dim, batch * rows * dim, count, rows,
                    dim, id, x, table, table_stride);
    else
        LAUNCH(add_by_id_kernel, batch * count, cuda_row_threads(dim), count, rows, dim, id,
               x, table, table_stride);
}

KERNEL merge_ids_kernel(int64_t n, int64_t count, int64_t rows, int64_t skip,
                        const int64_t *id, int64_t *slot)
{
    THREADS EACH_OF_GRID(e, n)
    {
        const int64_t *ids = id + e / count * count;
        int64_t own = id[e], j = 0;
        while (ids[j] != own)
            j++;
        slot[e] = own >= 0 && own < rows && own != skip ? j : -1;
    }
}

void cuda_merge_ids(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                    const int64_t *id, int64_t *slot)
{
    LAUNCH_EACH(merge_ids_kernel, batch * count, batch * count, count, rows, skip, id, slot);
}

KERNEL convert_kernel(int64_t n, const int64_t *id, psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = (psg_real)id[i];
}

void cuda_convert(int64_t n, const int64_t *id, psg_real *y)
{
    LAUNCH_EACH(convert_kernel, n, n, id, y);
}
