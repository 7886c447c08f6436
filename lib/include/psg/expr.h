/* Layers of the user's own, written as formulas over the primitives of psg/graph.h.
 *
 *   e = psg_expr_new("swiglu")
 *   psg_expr_input(e, "x")                          what the layer is given, in this order
 *   psg_expr_attr(e, "hidden", ...)                 numbers, flags and lists of numbers of a use
 *   psg_expr_param(e, "w", {"hidden", "size(x, -1)"}, 2, init)
 *   psg_expr_buffer(e, "scale", shape, data)        constants
 *   psg_expr_let(e, "g = silu(x @ w.T)")            steps, each sees the ones before
 *   psg_expr_out(e, "g * (x @ v.T)")
 *   op = psg_expr_op(e)                             a layer like any other
 *
 * A formula describes ONE sample: there is no batch axis, axis 0 is the first axis of a sample.
 * Everything else (backward, per-sample gradients, batching) is derived from it.
 *
 * Formulas: numbers, names, lists [2, 3], parentheses, and by rising precedence
 *   == != < <= > >= (1 or 0)    + -    * / // @    - (sign)    **    .T (last two axes swapped)
 * Arithmetic broadcasts as NumPy's; int64 inputs become real numbers in it. What is known before
 * any sample is (attributes, size(x, axis), lists, and arithmetic on them) is a plain number: axes
 * and shapes are made of these. Constants: pi, inf, true, false. Functions, PyTorch's meaning:
 *   abs ceil cos erf exp expm1 floor gelu log log1p logsigmoid neg reciprocal relu rsqrt sigmoid
 *   sign silu sin softplus sqrt square tanh (x);  maximum minimum pow (a, b)
 *   clamp(x, lo, hi)  where(mask, a, b)  detach(x)  dropout(x, p)  float(ids)
 *   sum mean amax amin (x[, axes[, keepdim]])  logsumexp(x, axis[, keepdim])  argmax(x, axis)
 *   softmax log_softmax (x, axis)  matmul(a, b)  einsum('ti,oi->to', a[, b])
 *   reshape(x, shape)  flatten(x)  transpose(x, i, j)  permute(x, axes)  unsqueeze squeeze (x, axis)
 *   expand(x, shape)  concat(a, b, ..., axis)  slice(x, axis, start, stop[, step])
 *   select(x, axis, i)  pad(x, axis, before, after[, value])  flip(x, axes)
 *   unfold(x, kernel, stride, padding, dilation)     [..., in] -> [..., kernel, out]
 *   embedding(ids, table)  one_hot(ids, classes)
 *   size(x, axis)  arange(n)  zeros ones (shape)  full(shape, value)
 *
 * Errors: err->place is the part ("let/1", "params/w", "out"), in a use of the layer behind the
 * node's path ("block.0.let/1"); err->text begins with the column, from 1. */
#ifndef PSG_EXPR_H
#define PSG_EXPR_H

#include "psg/program.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PSG_EXPR_NAME_MAX = 47,   /* bytes of a name: a letter or _, then letters, digits, _ */
    PSG_EXPR_NAMES_MAX = 128, /* names of one layer, steps included */
    PSG_EXPR_TEXT_MAX = 2048, /* bytes of a formula */
    PSG_EXPR_STEPS_MAX = 1024 /* operators, calls and operands in all formulas */
};

struct psg_expr;

PSG_API struct psg_expr *psg_expr_new(const char *name); /* NULL: out of memory */
PSG_API struct psg_expr *psg_expr_free(struct psg_expr *e); /* takes NULL, returns NULL */
PSG_API void psg_expr_freep(struct psg_expr **ep);

PSG_API int psg_expr_input(struct psg_expr *e, const char *name, struct psg_error *err);
/* An attribute of a use: a number or flag (n = 1, list false) or a list of at most 12 numbers,
 * with this default; value NULL: every use must give it. */
PSG_API int psg_expr_attr(struct psg_expr *e, const char *name, const double *value, int n,
                          bool list, struct psg_error *err);

/* First values. scale (a formula of numbers) is the constant, the bound of the uniform
 * distribution, or the standard deviation. */
struct psg_expr_init {
    enum psg_init_kind kind;
    const char *scale;
};

/* shape: one formula of numbers for each axis. init NULL: as torch.nn.Linear does it, uniform
 * within 1 / sqrt(product of the axes but the first); zeros for a vector or number. */
PSG_API int psg_expr_param(struct psg_expr *e, const char *name, const char *const *shape,
                           int rank, const struct psg_expr_init *init, struct psg_error *err);
/* data [shape] is copied. */
PSG_API int psg_expr_buffer(struct psg_expr *e, const char *name,
                            const struct psg_shape *shape, const double *data,
                            struct psg_error *err);
/* "name = formula" */
PSG_API int psg_expr_let(struct psg_expr *e, const char *text, struct psg_error *err);
/* One result of the layer; at most 8. */
PSG_API int psg_expr_out(struct psg_expr *e, const char *text, struct psg_error *err);

/* The layer, for psg_program_add_op(); lives as long as e, which may not be changed any more.
 * NULL when there is no output or no memory. */
PSG_API const struct psg_op *psg_expr_op(struct psg_expr *e, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
