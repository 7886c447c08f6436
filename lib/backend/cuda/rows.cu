/* Functions of whole rows x[r, 0..dim): one block for each row, sums in double. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"

/* part[t] = what thread t has of the sum of a[d] * b[d]; b NULL: of a[d] */
DEVICE void product_parts(int64_t dim, const psg_real *a, const psg_real *b, double *part)
{
    THREADS
    {
        double sum = 0;
        for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
            sum += b ? (double)a[d] * (double)b[d] : (double)a[d];
        part[threadIdx.x] = sum;
    }
    block_sum(part);
}

KERNEL normalize_kernel(int64_t dim, double eps, bool centre, const psg_real *x,
                        psg_real *xhat, psg_real *rstd)
{
    SHARED double sums[CUDA_THREADS], squares[CUDA_THREADS];
    int64_t r = blockIdx.x;
    const psg_real *row = x + r * dim;
    psg_real *out = xhat + r * dim;
    double n = dim > 0 ? (double)dim : 1;
    product_parts(centre ? dim : 0, row, NULL, sums);
    double mean = sums[0] / n;
    THREADS
    {
        double sum = 0;
        for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
            sum += ((double)row[d] - mean) * ((double)row[d] - mean);
        squares[threadIdx.x] = sum;
    }
    block_sum(squares);
    double scale = 1 / sqrt(squares[0] / n + eps);
    THREADS
    {
        for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
            out[d] = (psg_real)(((double)row[d] - mean) * scale);
        if (threadIdx.x == 0)
            rstd[r] = (psg_real)scale;
    }
}

void cuda_normalize(int64_t rows, int64_t dim, double eps, bool centre, const psg_real *x,
                    psg_real *xhat, psg_real *rstd)
{
    LAUNCH(normalize_kernel, rows, cuda_row_threads(dim), dim, eps, centre, x, xhat, rstd);
}

/* dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)); no mean(dxhat) if not
 * centred */
KERNEL normalize_bwd_kernel(int64_t dim, bool centre, const psg_real *xhat,
                            const psg_real *rstd, const psg_real *dxhat, psg_real *dx)
{
    SHARED double sums[CUDA_THREADS], products[CUDA_THREADS];
    int64_t r = blockIdx.x;
    const psg_real *h = xhat + r * dim, *dh = dxhat + r * dim;
    double n = dim > 0 ? (double)dim : 1;
    product_parts(centre ? dim : 0, dh, NULL, sums);
    product_parts(dim, dh, h, products);
    double m1 = sums[0] / n, m2 = products[0] / n, scale = (double)rstd[r];
    THREADS for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
        dx[r * dim + d] = (psg_real)(scale * ((double)dh[d] - m1 - (double)h[d] * m2));
}

void cuda_normalize_bwd(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                        const psg_real *rstd, const psg_real *dxhat, psg_real *dx)
{
    LAUNCH(normalize_bwd_kernel, rows, cuda_row_threads(dim), dim, centre, xhat, rstd, dxhat,
           dx);
}

/* the larger; NaN is largest */
DEVICE double top_of(double a, double b)
{
    return isnan(a) || isnan(b) ? a + b : a > b ? a : b;
}

KERNEL softmax_kernel(int64_t dim, bool log_space, const psg_real *x, psg_real *y)
{
    SHARED double tops[CUDA_THREADS], sums[CUDA_THREADS];
    const psg_real *row = x + (int64_t)blockIdx.x * dim;
    psg_real *out = y + (int64_t)blockIdx.x * dim;
    THREADS
    {
        double top = -INFINITY;
        for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
            top = top_of(top, (double)row[d]);
        tops[threadIdx.x] = top;
    }
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2)
        THREADS if (threadIdx.x < half)
            tops[threadIdx.x] = top_of(tops[threadIdx.x], tops[threadIdx.x + half]);
    double top = tops[0];
    bool empty = top == -INFINITY; /* exp would see inf - inf */
    THREADS
    {
        double sum = 0;
        for (int64_t d = threadIdx.x; !empty && d < dim; d += blockDim.x)
            sum += exp((double)row[d] - top);
        sums[threadIdx.x] = sum;
    }
    block_sum(sums);
    double total = sums[0], shift = log_space ? log(total) : 0;
    THREADS for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
    {
        double v = (double)row[d] - top;
        if (empty)
            out[d] = log_space ? (psg_real)-INFINITY : 0;
        else
            out[d] = (psg_real)(log_space ? v - shift : exp(v) / total);
    }
}

void cuda_softmax(int64_t rows, int64_t dim, bool log_space, const psg_real *x, psg_real *y)
{
    if (dim > 0)
        LAUNCH(softmax_kernel, rows, cuda_row_threads(dim), dim, log_space, x, y);
}

/* softmax: dx = y * (dy - sum(dy * y)); log_softmax: dx = dy - exp(y) * sum(dy) */
KERNEL softmax_bwd_kernel(int64_t dim, bool log_space, const psg_real *y, const psg_real *dy,
                          psg_real *dx)
{
    SHARED double sums[CUDA_THREADS];
    int64_t r = blockIdx.x;
    const psg_real *yr = y + r * dim, *dyr = dy + r * dim;
    product_parts(dim, dyr, log_space ? NULL : yr, sums);
    double sum = sums[0];
    THREADS for (int64_t d = threadIdx.x; d < dim; d += blockDim.x)
        dx[r * dim + d] = (psg_real)(log_space ? (double)dyr[d] - exp((double)yr[d]) * sum
                                               : (double)yr[d] * ((double)dyr[d] - sum));
}

void cuda_softmax_bwd(int64_t rows, int64_t dim, bool log_space, const psg_real *y,
                      const psg_real *dy, psg_real *dx)
{
    if (dim > 0)
        LAUNCH(softmax_bwd_kernel, rows, cuda_row_threads(dim), dim, log_space, y, dy, dx);
}

KERNEL add_bias_kernel(int64_t n, int64_t dim, const psg_real *x, const psg_real *b,
                       psg_real *y)
{
    THREADS EACH_OF_GRID(i, n)
        y[i] = x[i] + (b ? b[i % dim] : 0);
}

void cuda_add_bias(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                   psg_real *y)
{
    LAUNCH_EACH(add_bias_kernel, rows * dim, rows * dim, dim, x, b, y);
}

KERNEL sum_rows_kernel(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                       int64_t stride_y)
{
    THREADS EACH_OF_GRID(e, n)
    {
        int64_t s = e / d, j = e % d;
        double sum = 0;
        for (int64_t i = 0; i < t; i++)
            sum += (double)x[(s * t + i) * d + j];
        y[s * stride_y + j] = (psg_real)sum;
    }
}

void cuda_sum_rows(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                   int64_t stride_y)
{
    LAUNCH_EACH(sum_rows_kernel, n * d, n * d, t, d, x, y, stride_y);
}
