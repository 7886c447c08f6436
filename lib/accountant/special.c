#include "accountant/special.h"

#include <math.h>

double special_log_erfc(double x)
{
    if (x < 10)
        return log(erfc(x));
    /* erfc(x) = exp(-x^2) / (x sqrt(pi)) (1 - 1/(2x^2) + 3/(4x^4) - ...); eight terms leave
     * less than 1e-15 from x = 10 on (Abramowitz and Stegun 7.1.23) */
    double y = 1 / (2 * x * x), term = 1, sum = 1;
    for (int k = 1; k <= 8; k++) {
        term *= -(2 * k - 1) * y;
        sum += term;
    }
    return log(sum) - x * x - log(x) - 0.5 * log(M_PI);
}

double special_log_ncdf(double x)
{
    if (x > 5)
        return log1p(-0.5 * erfc(x * M_SQRT1_2));
    return special_log_erfc(-x * M_SQRT1_2) - M_LN2;
}

double special_log_add(double a, double b)
{
    double hi = fmax(a, b), lo = fmin(a, b);
    if (lo == -INFINITY || hi == INFINITY)
        return hi;
    return hi + log1p(exp(lo - hi));
}

double special_log_expm1(double x)
{
    return x > 30 ? x + log1p(-exp(-x)) : log(expm1(x));
}

double special_log1p_exp(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
