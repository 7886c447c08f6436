/* Helpers that the op files share: sizes in infer, small formulas over the backend table.
 */
#ifndef OP_COMMON_H
#define OP_COMMON_H

#include "psg/op.h"

/* Longest list of numbers that an attribute may hold (class weights). */
enum { OP_LIST_MAX = 4096 };
/* Most parameters of a layer whose rules go through op_rows_*. */
enum { OP_FEW = 2 };

/* ---- infer ---- */
/* Product of n numbers >= 0; on overflow the infer context fails and 0 comes back. */
int64_t op_prod(struct psg_infer *c, int n, const int64_t *v);
#define OP_PROD(c, ...)                                                                    \
    op_prod(c, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),                \
            (const int64_t[]){ __VA_ARGS__ })
/* Product of the dimensions [from, to) of a shape whose size is known to fit. */
int64_t op_span(const struct psg_shape *s, int from, int to);
/* Fails unless input i has that dtype; name is for the message. */
bool op_need_dtype(struct psg_infer *c, int i, enum psg_dtype dtype, const char *name);
/* An axis that counts the batch dimension as PyTorch's does (1 is the first sample axis,
 * negative counts from the end of the rank + 1 axes) as an axis of one sample. */
int op_axis(struct psg_infer *c, const char *attr, int64_t value, int rank);
/* A flag that says whether an input is there: nothing but a check. */
void op_check_input_flag(struct psg_infer *c, const char *name, bool is_there);
/* U(-b, b) with b = 1 / sqrt(fan_in), PyTorch's default for linear and convolution. */
struct psg_init op_init_fan_in(int64_t fan_in);
struct psg_init op_init_constant(double value);
/* psg_infer_param and psg_infer_out with the shape by value (PSG_SHAPE(...)). */
int op_param(struct psg_infer *c, const char *role, struct psg_shape shape,
             struct psg_init init);
int op_out(struct psg_infer *c, struct psg_shape shape);
/* Scratch of the convolution kernels, whatever backend will run them. */
int64_t op_conv_scratch(const struct psg_conv *conv);

/* ---- call ---- */
static inline const psg_real *op_in(const struct psg_call *c, int i)
{
    return c->in[i];
}

static inline const int64_t *op_ids(const struct psg_call *c, int i)
{
    return c->in[i];
}

static inline bool op_wants_din(const struct psg_call *c, int i)
{
    return c->din && c->din[i];
}

static inline bool op_wants_grad(const struct psg_call *c, int r)
{
    return c->grad && c->grad[r];
}

/* y[n] = f(a[n], b[n]); y may be a or b */
void op_binary(const struct psg_backend *be, enum psg_binary f, int64_t n,
               const psg_real *a, const psg_real *b, psg_real *y);
/* y[n] = f(a[n], s[0]) */
void op_binary_scalar(const struct psg_backend *be, enum psg_binary f, int64_t n,
                      const psg_real *a, const psg_real *s, psg_real *y);
/* y[r, d] = f(a[r, d], v[r]) */
void op_binary_rows(const struct psg_backend *be, enum psg_binary f, int64_t rows,
                    int64_t dim, const psg_real *a, const psg_real *v, psg_real *y);
/* y[r, d] = f(a[r, d], v[d]) */
void op_binary_cols(const struct psg_backend *be, enum psg_binary f, int64_t rows,
                    int64_t dim, const psg_real *a, const psg_real *v, psg_real *y);
/* y[n, c, s] = f(a[n, c, s], v[c]) */
void op_binary_channels(const struct psg_backend *be, enum psg_binary f, int64_t n,
                        int64_t c, int64_t s, const psg_real *a, const psg_real *v,
                        psg_real *y);
/* y[n] = alpha * x[n]; y is not x */
void op_scale(const struct psg_backend *be, int64_t n, double alpha, const psg_real *x,
              psg_real *y);
/* y = value list of the host, runs of equal numbers filled together */
void op_fill_list(const struct psg_backend *be, int64_t n, const double *value,
                  psg_real *y);
/* y = 0, 1, 2, ..., n - 1; number is room for 1 */
void op_iota(const struct psg_backend *be, int64_t n, psg_real *y, psg_real *number);
void op_copy(const struct psg_backend *be, int64_t n, const psg_real *x, psg_real *y);
/* dst rows of d numbers, dst_stride apart, from rows src_stride apart */
void op_copy_rows(const struct psg_backend *be, int64_t n, int64_t d, const psg_real *src,
                  int64_t src_stride, psg_real *dst, int64_t dst_stride);
/* y [A, C, B] = x [A, B, C] */
void op_swap(const struct psg_backend *be, int64_t a, int64_t b, int64_t c,
             const psg_real *x, psg_real *y);
/* y[n, p] = w[n] * x[n, p]; a row with w[n] == 0 becomes zero whatever x holds */
void op_scale_rows(const struct psg_backend *be, int64_t n, int64_t p, const psg_real *w,
                   const psg_real *x, psg_real *y);
/* y[n, p] = x[n, p], or zero in rows with w[n] == 0; mask is room for n numbers */
void op_keep_rows(const struct psg_backend *be, int64_t n, int64_t p, const psg_real *w,
                  const psg_real *x, psg_real *mask, psg_real *y);
/* row n of dst (stride apart) = sum over s of x[n, c, s], for each c; tmp [n * c] */
void op_sum_space(const struct psg_backend *be, int64_t n, int64_t c, int64_t s,
                  const psg_real *x, psg_real *dst, int64_t stride, psg_real *tmp);

/* norm_sample and clipped_sum of layers with few parameters: their rows, one parameter at a
 * time, in room for [N, largest size] behind what grad_sample uses of scratch. */
void op_rows_norm_sample(const struct psg_call *c,
                         void (*grad_sample)(const struct psg_call *), int n_params,
                         const int64_t *size, psg_real *room);
void op_rows_clipped_sum(const struct psg_call *c,
                         void (*grad_sample)(const struct psg_call *), int n_params,
                         const int64_t *size, psg_real *room);

/* ---- lower ---- */
struct psg_shape op_graph_shape(const struct psg_lower *l, psg_value v);
psg_value op_reshape(struct psg_lower *l, psg_value v, int rank, const int64_t *dim);
#define OP_RESHAPE(l, v, ...)                                                              \
    op_reshape(l, v, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),          \
               (const int64_t[]){ __VA_ARGS__ })
psg_value op_g_full(struct psg_lower *l, int rank, const int64_t *dim, double value);
/* v [a, b] -> [b, a] */
psg_value op_g_t(struct psg_lower *l, psg_value v);
/* A constant vector, n <= OP_LIST_MAX. */
psg_value op_g_list(struct psg_lower *l, int64_t n, const double *value);
/* mask of the first largest along axis: 1 there, 0 elsewhere, in the shape of v */
psg_value op_g_first_max(struct psg_lower *l, psg_value v, int axis);
/* largest along axis with the gradient sent to the first largest; the axis vanishes */
psg_value op_g_max_first(struct psg_lower *l, psg_value v, int axis);
/* softmax or log_softmax over one axis */
psg_value op_g_softmax(struct psg_lower *l, psg_value v, int axis, bool log);
/* v with a new axis of length 1 */
psg_value op_g_unsqueeze(struct psg_lower *l, psg_value v, int axis);

#endif
