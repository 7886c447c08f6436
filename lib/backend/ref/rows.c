/* Functions of whole rows x[r, 0..dim). */
#include "ref.h"

#include <math.h>

static double row_mean(int64_t dim, const psg_real *x)
{
    double sum = 0;
    for (int64_t d = 0; d < dim; d++)
        sum += (double)x[d];
    return dim == 0 ? 0 : sum / (double)dim;
}

static double row_mean_product(int64_t dim, const psg_real *a, const psg_real *b)
{
    double sum = 0;
    for (int64_t d = 0; d < dim; d++)
        sum += (double)a[d] * (double)b[d];
    return dim == 0 ? 0 : sum / (double)dim;
}

void ref_normalize(int64_t rows, int64_t dim, double eps, bool centre, const psg_real *x,
                   psg_real *xhat, psg_real *rstd)
{
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *row = x + r * dim;
        double mean = centre ? row_mean(dim, row) : 0, sum = 0;
        for (int64_t d = 0; d < dim; d++)
            sum += ((double)row[d] - mean) * ((double)row[d] - mean);
        double scale = 1 / sqrt((dim == 0 ? 0 : sum / (double)dim) + eps);
        for (int64_t d = 0; d < dim; d++)
            xhat[r * dim + d] = (psg_real)(((double)row[d] - mean) * scale);
        rstd[r] = (psg_real)scale;
    }
}

/* dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)); no mean(dxhat) if not
 * centred */
void ref_normalize_bwd(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                       const psg_real *rstd, const psg_real *dxhat, psg_real *dx)
{
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *h = xhat + r * dim, *dh = dxhat + r * dim;
        double m1 = centre ? row_mean(dim, dh) : 0, m2 = row_mean_product(dim, dh, h);
        for (int64_t d = 0; d < dim; d++)
            dx[r * dim + d] =
                (psg_real)((double)rstd[r] * ((double)dh[d] - m1 - (double)h[d] * m2));
    }
}

/* NaN if any entry is: nothing compares greater than NaN afterwards */
static double row_max(int64_t dim, const psg_real *x)
{
    double top = -INFINITY;
    for (int64_t d = 0; d < dim; d++)
        if (isnan(x[d]) || (double)x[d] > top)
            top = (double)x[d];
    return top;
}

void ref_softmax(int64_t rows, int64_t dim, bool log_space, const psg_real *x, psg_real *y)
{
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *row = x + r * dim;
        double top = row_max(dim, row), sum = 0;
        if (top == -INFINITY) {
            ref_fill(dim, log_space ? (psg_real)-INFINITY : 0, y + r * dim);
            continue;
        }
        for (int64_t d = 0; d < dim; d++)
            sum += exp((double)row[d] - top);
        for (int64_t d = 0; d < dim; d++) {
            double v = (double)row[d] - top;
            y[r * dim + d] = (psg_real)(log_space ? v - log(sum) : exp(v) / sum);
        }
    }
}

/* softmax: dx = y * (dy - sum(dy * y)); log_softmax: dx = dy - exp(y) * sum(dy) */
void ref_softmax_bwd(int64_t rows, int64_t dim, bool log_space, const psg_real *y,
                     const psg_real *dy, psg_real *dx)
{
    for (int64_t r = 0; r < rows; r++) {
        const psg_real *yr = y + r * dim, *dyr = dy + r * dim;
        double sum = 0;
        for (int64_t d = 0; d < dim; d++)
            sum += (double)dyr[d] * (log_space ? 1 : (double)yr[d]);
        for (int64_t d = 0; d < dim; d++)
            dx[r * dim + d] =
                (psg_real)(log_space ? (double)dyr[d] - exp((double)yr[d]) * sum
                                     : (double)yr[d] * ((double)dyr[d] - sum));
    }
}

void ref_add_bias(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                  psg_real *y)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < dim; d++)
            y[r * dim + d] = x[r * dim + d] + (b ? b[d] : 0);
}

void ref_sum_rows(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                  int64_t stride_y)
{
    for (int64_t s = 0; s < n; s++) {
        for (int64_t j = 0; j < d; j++) {
            double sum = 0;
            for (int64_t i = 0; i < t; i++)
                sum += (double)x[(s * t + i) * d + j];
            y[s * stride_y + j] = (psg_real)sum;
        }
    }
}
