/* Special functions in log space. */
#ifndef ACCOUNTANT_SPECIAL_H
#define ACCOUNTANT_SPECIAL_H

/* log(erfc(x)), also where erfc underflows. */
double special_log_erfc(double x);
/* log of the standard normal distribution function. */
double special_log_ncdf(double x);
/* log(exp(a) + exp(b)); -INFINITY is log 0. */
double special_log_add(double a, double b);
/* log(exp(x) - 1), x >= 0. */
double special_log_expm1(double x);
/* log(1 + exp(x)). */
double special_log1p_exp(double x);

#endif
