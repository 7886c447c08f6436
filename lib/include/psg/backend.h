/* A backend is one table of kernels over dense tensors. Ops and primitives are formulas over
 * this table, so whatever runs on `ref` runs on every other backend.
 *
 *   ref   plain loops, sums in double, no threads: the specification
 *   cpu   OpenBLAS (one thread inside) and vectorised loops
 *
 * Letters: N samples, C channels, T positions, R rows, D row length. Sizes may be 0. No kernel
 * allocates. Input and output ranges do not overlap unless a comment says that they may be the
 * same pointer. `const` inputs are never written. Kernels trust their arguments: callers check
 * shapes first. Calls from several threads are safe. */
#ifndef PSG_BACKEND_H
#define PSG_BACKEND_H

#include "psg/shape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = f(x), elementwise. Derivatives are written as programs of these (psg/graph.h).
 * SIGN of 0 and of NaN is 0; elsewhere NaN gives NaN. */
enum psg_unary {
    PSG_NEG, PSG_EXP, PSG_LOG, PSG_LOG1P, PSG_EXPM1, PSG_SQRT, PSG_RSQRT, PSG_TANH,
    PSG_SIGMOID, PSG_ERF, PSG_ABS, PSG_SIGN, PSG_FLOOR, PSG_SIN, PSG_COS, PSG_RECIP,
    PSG_BF16, /* nearest bf16; as a function to be differentiated it is the identity */
    PSG_UNARY_COUNT
};

/* y = f(a, b). Comparisons give 1 or 0; any comparison with NaN but != gives 0. MAX and MIN with
 * a NaN are NaN. */
enum psg_binary {
    PSG_ADD, PSG_SUB, PSG_MUL, PSG_DIV, PSG_POW, PSG_MAX, PSG_MIN,
    PSG_EQ, PSG_NE, PSG_LT, PSG_LE, PSG_GT, PSG_GE,
    PSG_BINARY_COUNT
};

enum psg_reduce { PSG_REDUCE_SUM, PSG_REDUCE_MAX, PSG_REDUCE_MIN, PSG_REDUCE_COUNT };

/* Activations with a derivative of their own, for hand-written rules. p[0], p[1] are the
 * parameters named here (PyTorch's names and formulas); p may be NULL where none is named. NaN
 * gives NaN. */
enum psg_act {
    PSG_ACT_RELU, PSG_ACT_TANH, PSG_ACT_SIGMOID,
    PSG_ACT_GELU,       /* x * Phi(x) */
    PSG_ACT_GELU_TANH,  /* its tanh approximation */
    PSG_ACT_SILU, PSG_ACT_EXP,
    PSG_ACT_SOFTPLUS,   /* p[0] beta, p[1] threshold */
    PSG_ACT_ELU,        /* p[0] alpha */
    PSG_ACT_LEAKY_RELU, /* p[0] negative_slope */
    PSG_ACT_HARDSWISH, PSG_ACT_HARDSIGMOID,
    PSG_ACT_HARDTANH,   /* p[0] min_val, p[1] max_val; relu6 is hardtanh(0, 6) */
    PSG_ACT_SELU,
    PSG_ACT_CELU,       /* p[0] alpha */
    PSG_ACT_SOFTSIGN, PSG_ACT_TANHSHRINK, PSG_ACT_LOGSIGMOID,
    PSG_ACT_HARDSHRINK, /* p[0] lambda */
    PSG_ACT_SOFTSHRINK, /* p[0] lambda */
    PSG_ACT_MISH,
    PSG_ACT_THRESHOLD,  /* p[0] threshold, p[1] value */
    PSG_ACT_COUNT
};

/* Window geometry over 1 to 3 spatial axes: conv, pooling, unfold. Position o of axis i looks
 * at in = o * stride - pad_lo + k * dilation; outside of [0, in) is padding. */
struct psg_window {
    int rank; /* spatial axes, 1..3 */
    int64_t in[3], kernel[3], out[3];
    int64_t stride[3], dilation[3], pad_lo[3], pad_hi[3];
};

/* out = floor((in + pad_lo + pad_hi - dilation*(kernel-1) - 1) / stride) + 1 for each axis;
 * PSG_E_SHAPE where that is below 1 or a field is out of range (in, kernel, stride, dilation
 * from 1, padding from 0, all up to 2^40). Kernels take any `out`, so that a pooling with
 * ceil_mode sets its own. */
PSG_API int psg_window_infer(struct psg_window *w, const char *place, struct psg_error *err);

struct psg_conv {
    struct psg_window win;
    int64_t in_channels, out_channels, groups;
};

enum psg_pool { PSG_POOL_MAX, PSG_POOL_AVG };

/* One matrix product. op(A) is m x k, op(B) k x n, C m x n, all row-major:
 * C = alpha * op(A) op(B) + beta * C; beta = 0 means that C is only written. */
struct psg_gemm {
    bool trans_a, trans_b;
    int64_t m, n, k;
    int64_t lda, ldb, ldc; /* distance between stored rows */
    psg_real alpha, beta;
};

/* Cells of recurrent layers; gates per unit: 1, 1, 3 (r, z, n), 4 (i, f, g, o). */
enum psg_cell_kind {
    PSG_CELL_RNN_TANH, PSG_CELL_RNN_RELU, PSG_CELL_GRU, PSG_CELL_LSTM, PSG_CELL_COUNT
};

/* One time step of a recurrent layer for n samples; row i of operand x is x + i * ld_x. Where
 * mask is there and mask[i * ld_mask] is 0, the step of sample i does not happen: its state
 * goes on as it is.
 *
 *   rnn   h = f(a)
 *   gru   r = s(a_r + b_r), z = s(a_z + b_z), n = tanh(a_n + r b_n), h = (1 - z) n + z h_prev
 *   lstm  c = s(f) c_prev + s(i) tanh(g), h = s(o) tanh(c)
 *
 * a is `gates`, b `from_h` (gru only: the part that comes from h_prev). cell replaces gates by
 * the gates' values; cell_bwd finds those, dh (the gradient of h) and dc (of c, lstm) and leaves
 * in gates and from_h the gradients of a and b, in dh the part of the gradient of h_prev that
 * does not pass through the gates, in dc that of c_prev. */
struct psg_cell {
    enum psg_cell_kind kind;
    int64_t n, hidden;
    int64_t ld_mask, ld_gates /* of from_h too */, ld_h_prev, ld_h, ld_c /* of c_prev too */,
        ld_dy;
    const psg_real *mask; /* or NULL */
    psg_real *gates, *from_h;
    const psg_real *h_prev; /* NULL: zeros */
    const psg_real *c_prev;
    psg_real *h, *c;
    const psg_real *dy; /* cell_bwd: added to dh where the step happens; may be NULL */
    psg_real *dh, *dc;  /* [n, hidden] */
};

struct psg_backend {
    const char *name;
    bool device_memory; /* pointers are not readable by the host */

    /* ---- memory; all NULL without device_memory: then any memory of the host does ---- */
    /* zeroed, aligned to 256 bytes; NULL when there is none left */
    void *(*alloc)(size_t bytes);
    void (*release)(void *memory); /* NULL: nothing */
    /* Kernels may be queued and run later, but everything happens in the order of the calls.
     * When these two return, the host's side of the copy may be used again. */
    void (*upload)(size_t bytes, const void *host, void *memory);
    void (*download)(size_t bytes, const void *memory, void *host);
    /* Waits for everything queued. PSG_E_IO if any of it failed since the last time. */
    int (*wait)(struct psg_error *err);

    /* ---- matrix products ---- */
    void (*gemm)(const struct psg_gemm *g, const psg_real *a, const psg_real *b, psg_real *c);
    /* count products, operands stride_* elements apart (0: shared) */
    void (*gemm_batched)(const struct psg_gemm *g, int64_t count, const psg_real *a,
                         int64_t stride_a, const psg_real *b, int64_t stride_b, psg_real *c,
                         int64_t stride_c);

    /* ---- elementwise; y may be one of the inputs ---- */
    void (*fill)(int64_t n, psg_real value, psg_real *y);
    void (*unary)(enum psg_unary f, int64_t n, const psg_real *x, psg_real *y);
    /* y[shape] (contiguous) = f(a, b), operands read through strides (0 = broadcast) */
    void (*binary)(enum psg_binary f, const struct psg_shape *shape, const psg_real *a,
                   const int64_t *stride_a, const psg_real *b, const int64_t *stride_b,
                   psg_real *y);
    /* y[i] = mask[i] != 0 ? a[i] : b[i] */
    void (*select)(int64_t n, const psg_real *mask, const psg_real *a, const psg_real *b,
                   psg_real *y);
    void (*act)(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x, psg_real *y);
    /* dx = dy * f'(x); y = f(x) is given for rules that are cheaper from it. dx may be dy */
    void (*act_bwd)(enum psg_act f, const psg_real *p, int64_t n, const psg_real *x,
                    const psg_real *y, const psg_real *dy, psg_real *dx);
    /* x to bf16 (nearest, ties to even, NaN kept) and back */
    void (*narrow)(int64_t n, const psg_real *x, uint16_t *y);
    void (*widen)(int64_t n, const uint16_t *x, psg_real *y);
    /* y += alpha * x */
    void (*axpy)(int64_t n, psg_real alpha, const psg_real *x, psg_real *y);

    /* ---- shape ---- */
    /* dst[shape] = src[shape], both through strides in elements (negative allowed); the element
     * has `size` bytes. Transposes, slices, broadcasts, reversals and pads are calls of this */
    void (*copy)(const struct psg_shape *shape, size_t size, const void *src,
                 const int64_t *stride_src, void *dst, const int64_t *stride_dst);
    /* y = x reduced over the axes whose bit is set in mask; the axes vanish. Empty sums are 0,
     * an empty MAX is -inf, an empty MIN inf; MAX and MIN over a NaN are NaN */
    void (*reduce)(enum psg_reduce f, const struct psg_shape *shape, unsigned mask,
                   const psg_real *x, psg_real *y);
    /* index (as psg_real) of the first largest along an axis; NaN counts as largest.
     * x is [outer, axis, inner], y [outer, inner] */
    void (*argmax)(int64_t outer, int64_t axis, int64_t inner, const psg_real *x, psg_real *y);

    /* ---- tables: ids outside of [0, rows) read as zero rows and are skipped when adding ---- */
    /* y[b, i, :] = table[b, id[b, i], :]; table_stride = 0 shares one table over b */
    void (*gather)(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                   const psg_real *table, int64_t table_stride, const int64_t *id, psg_real *y);
    /* table[b, id[b, i], :] += x[b, i, :]; repeated ids add up in order of i */
    void (*scatter_add)(int64_t batch, int64_t count, int64_t rows, int64_t dim,
                        const int64_t *id, const psg_real *x, psg_real *table,
                        int64_t table_stride);
    /* slot[b, i] = smallest j with id[b, j] == id[b, i]; -1 where the id is `skip` or lies outside
     * of [0, rows). Adding rows at slots merges equal ids without a table of all rows */
    void (*merge_ids)(int64_t batch, int64_t count, int64_t rows, int64_t skip,
                      const int64_t *id, int64_t *slot);
    /* y = the ids as real numbers */
    void (*convert)(int64_t n, const int64_t *id, psg_real *y);

    /* ---- windows; x [outer, in...], patches [outer, kernel..., out...] ---- */
    void (*unfold)(const struct psg_window *w, int64_t outer, psg_real pad_value,
                   const psg_real *x, psg_real *patches);
    /* adjoint of unfold: overlapping patches add up; overwrites x. */
    void (*fold)(const struct psg_window *w, int64_t outer, const psg_real *patches,
                 psg_real *x);

    /* ---- convolution; x [N, Ci, in...], w [Co, Ci/G, kernel...], y [N, Co, out...] ---- */
    /* scratch needed per call by the three below, in psg_real (not per sample); may be 0, and
     * the scratch pointer then NULL */
    int64_t (*conv_scratch)(const struct psg_conv *c);
    void (*conv)(const struct psg_conv *c, int64_t n, const psg_real *x, const psg_real *w,
                 const psg_real *bias /* [Co] or NULL */, psg_real *y, psg_real *scratch);
    void (*conv_bwd_data)(const struct psg_conv *c, int64_t n, const psg_real *dy,
                          const psg_real *w, psg_real *dx, psg_real *scratch);
    /* per-sample weight gradients: row n at dw + n * stride holds [Co, Ci/G, kernel...] */
    void (*conv_bwd_weight)(const struct psg_conv *c, int64_t n, const psg_real *x,
                            const psg_real *dy, psg_real *dw, int64_t stride,
                            psg_real *scratch);

    /* ---- pooling; x [outer, in...], y [outer, out...] ---- */
    /* max: arg [outer, out...] gets the flat position in `in` of the first maximum (row-major
     * window order, NaN is largest); where the whole window is padding y is -inf and arg -1,
     * which max_pool_bwd skips. avg: divisor 0 divides by the window's cells that lie in the
     * padded input, or by those inside of the input when count_include_pad is false; a window
     * without any gives 0 */
    void (*max_pool)(const struct psg_window *w, int64_t outer, const psg_real *x, psg_real *y,
                     int64_t *arg);
    void (*max_pool_bwd)(const struct psg_window *w, int64_t outer, const psg_real *dy,
                         const int64_t *arg, psg_real *dx);
    void (*avg_pool)(const struct psg_window *w, int64_t outer, bool count_include_pad,
                     int64_t divisor, const psg_real *x, psg_real *y);
    void (*avg_pool_bwd)(const struct psg_window *w, int64_t outer, bool count_include_pad,
                         int64_t divisor, const psg_real *dy, psg_real *dx);

    /* ---- rows ---- */
    /* xhat[r, :] = (x[r, :] - mean_r) * rstd_r, biased variance; rstd [R]. With centre = false
     * mean_r is 0 and the variance is the mean square (rms_norm) */
    void (*normalize)(int64_t rows, int64_t dim, double eps, bool centre, const psg_real *x,
                      psg_real *xhat, psg_real *rstd);
    /* dx from dxhat */
    void (*normalize_bwd)(int64_t rows, int64_t dim, bool centre, const psg_real *xhat,
                          const psg_real *rstd, const psg_real *dxhat, psg_real *dx);
    /* y[r, :] = softmax or log_softmax of x[r, :]; a row of all -inf gives zeros (softmax) or
     * stays -inf (log_softmax). y may be x */
    void (*softmax)(int64_t rows, int64_t dim, bool log, const psg_real *x, psg_real *y);
    /* dx from y and dy; dx may be dy */
    void (*softmax_bwd)(int64_t rows, int64_t dim, bool log, const psg_real *y,
                        const psg_real *dy, psg_real *dx);
    /* y[r, :] = x[r, :] + b[:] (b NULL: copy). y may be x */
    void (*add_bias)(int64_t rows, int64_t dim, const psg_real *x, const psg_real *b,
                     psg_real *y);
    /* y[n * stride_y + d] = sum over t of x[n, t, d] */
    void (*sum_rows)(int64_t n, int64_t t, int64_t d, const psg_real *x, psg_real *y,
                     int64_t stride_y);

    /* ---- recurrence ---- */
    void (*cell)(const struct psg_cell *c);
    void (*cell_bwd)(const struct psg_cell *c);

    /* ---- per-sample gradients; rows g[n * stride + p], p < P ---- */
    /* sq[n] += sum_p g[n, p]^2, in double */
    void (*add_sqnorm)(int64_t n, int64_t p, const psg_real *g, int64_t stride, double *sq);
    /* sum[p] += sum_n c[n] * g[n, p]; a row with c[n] == 0 is not read into the sum, so that a
     * non-finite row contributes nothing */
    void (*add_weighted)(int64_t n, int64_t p, const psg_real *c, const psg_real *g,
                         int64_t stride, psg_real *sum);
};

PSG_API const struct psg_backend *psg_backend_ref(void);
PSG_API const struct psg_backend *psg_backend_cpu(void);
/* "ref", "cpu"; NULL when there is no backend of that name. */
PSG_API const struct psg_backend *psg_backend_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
