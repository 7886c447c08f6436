/* Graphs of primitives and their transforms: grad, vmap, simplify. Graphs to graphs.
 *
 * A graph is a pure function in single-assignment form: inputs -> outputs. Values are dense
 * tensors with a static shape, psg_real or int64. Masks are psg_real 0 or 1. There is no hidden
 * batch axis: `psg_graph_vmap` makes one where it is wanted, and transforms nest
 * (vmap(vmap), grad(grad)).
 *
 * Building: each psg_g_* call appends one node and returns its value. An error (shapes that do
 * not fit, out of memory) is kept in the graph, the call returns PSG_NONE, calls on PSG_NONE
 * return PSG_NONE, and psg_graph_check() reports the first error; so that a formula reads as one
 * expression. A graph belongs to one thread while it is being built and is immutable after
 * psg_graph_check(). */
#ifndef PSG_GRAPH_H
#define PSG_GRAPH_H

#include "psg/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t psg_value;
#define PSG_NONE ((psg_value)-1)

struct psg_graph;

PSG_API struct psg_graph *psg_graph_new(void); /* NULL: out of memory */
PSG_API struct psg_graph *psg_graph_free(struct psg_graph *g); /* takes NULL, returns NULL */
PSG_API void psg_graph_freep(struct psg_graph **gp);

PSG_API psg_value psg_graph_input(struct psg_graph *g, enum psg_dtype dtype,
                                  const struct psg_shape *shape);
PSG_API void psg_graph_output(struct psg_graph *g, psg_value v);
/* 0, or the first error of building. */
PSG_API int psg_graph_check(const struct psg_graph *g, struct psg_error *err);
/* Sets the place that errors of later psg_g_* calls name (a node's path). */
PSG_API void psg_graph_set_place(struct psg_graph *g, const char *place);

PSG_API int psg_graph_n_inputs(const struct psg_graph *g);
PSG_API int psg_graph_n_outputs(const struct psg_graph *g);
PSG_API int psg_graph_n_nodes(const struct psg_graph *g);
PSG_API psg_value psg_graph_input_at(const struct psg_graph *g, int i);
PSG_API psg_value psg_graph_output_at(const struct psg_graph *g, int i);
PSG_API const struct psg_type *psg_graph_type(const struct psg_graph *g, psg_value v);
/* Text of the whole graph, one node a line ("%3 = dot %1 %2 : f[4, 5]"); malloc'ed, or NULL. */
PSG_API char *psg_graph_print(const struct psg_graph *g);

/* ---- primitives ---- */
PSG_API psg_value psg_g_full(struct psg_graph *g, const struct psg_shape *shape, double value);
/* 0, 1, 2, ... along an axis, as psg_real. */
PSG_API psg_value psg_g_iota(struct psg_graph *g, const struct psg_shape *shape, int axis);
/* Copies data (host memory) of that type into the graph. */
PSG_API psg_value psg_g_constant(struct psg_graph *g, const struct psg_type *type,
                                 const void *data);
PSG_API psg_value psg_g_unary(struct psg_graph *g, enum psg_unary f, psg_value x);
/* Operands broadcast as NumPy does. */
PSG_API psg_value psg_g_binary(struct psg_graph *g, enum psg_binary f, psg_value a,
                               psg_value b);
/* mask != 0 ? a : b; operands broadcast as NumPy does. */
PSG_API psg_value psg_g_select(struct psg_graph *g, psg_value mask, psg_value a, psg_value b);
/* Reduces the axes whose bits are set; they vanish. */
PSG_API psg_value psg_g_reduce(struct psg_graph *g, enum psg_reduce f, psg_value x,
                               unsigned axes);
/* Position of the first largest along axis, as psg_real; no gradient. */
PSG_API psg_value psg_g_argmax(struct psg_graph *g, psg_value x, int axis);
PSG_API psg_value psg_g_reshape(struct psg_graph *g, psg_value x,
                                const struct psg_shape *shape);
/* Axis i of the result is axis perm[i] of x. */
PSG_API psg_value psg_g_transpose(struct psg_graph *g, psg_value x, const int *perm);
/* x to shape; axis i of x becomes axis map[i] of the result, other axes repeat, an axis of
 * length 1 repeats too. map increases. */
PSG_API psg_value psg_g_broadcast(struct psg_graph *g, psg_value x,
                                  const struct psg_shape *shape, const int *map);
/* Elements start, start + stride, ... < limit of each axis; stride >= 1. */
PSG_API psg_value psg_g_slice(struct psg_graph *g, psg_value x, const int64_t *start,
                              const int64_t *limit, const int64_t *stride);
/* lo and hi cells of value at the ends, interior cells between neighbours; all >= 0. */
PSG_API psg_value psg_g_pad(struct psg_graph *g, psg_value x, const int64_t *lo,
                            const int64_t *hi, const int64_t *interior, double value);
PSG_API psg_value psg_g_concat(struct psg_graph *g, const psg_value *x, int n, int axis);
PSG_API psg_value psg_g_reverse(struct psg_graph *g, psg_value x, unsigned axes);
/* Sum over the paired axes; result axes: batch, rest of a, rest of b. */
struct psg_dot {
    int n_batch, n_contract;
    int batch_a[PSG_MAX_RANK], batch_b[PSG_MAX_RANK];
    int contract_a[PSG_MAX_RANK], contract_b[PSG_MAX_RANK];
};
PSG_API psg_value psg_g_dot(struct psg_graph *g, psg_value a, psg_value b,
                            const struct psg_dot *dims);
/* table [B..., V, D...], id int64 [B..., I...] -> [B..., I..., D...], n_batch leading axes B in
 * common. Ids out of range give zeros. */
PSG_API psg_value psg_g_gather(struct psg_graph *g, psg_value table, psg_value id,
                               int n_batch);
/* Zeros [B..., rows, D...] with x [B..., I..., D...] added at id [B..., I...]. */
PSG_API psg_value psg_g_scatter_add(struct psg_graph *g, psg_value id, psg_value x,
                                    int64_t rows, int n_batch);
/* int64 [S...] -> psg_real [S..., depth]; ids out of range give zeros. */
PSG_API psg_value psg_g_onehot(struct psg_graph *g, psg_value id, int64_t depth);
/* int64 -> psg_real. */
PSG_API psg_value psg_g_convert(struct psg_graph *g, psg_value x);
/* x, as something that no gradient flows back through. */
PSG_API psg_value psg_g_detach(struct psg_graph *g, psg_value x);
/* x [A..., in...] -> [A..., kernel..., out...]; w->in are the last axes of x. */
PSG_API psg_value psg_g_unfold(struct psg_graph *g, psg_value x, const struct psg_window *w,
                               double pad_value);
/* Adjoint: [A..., kernel..., out...] -> [A..., in...]. */
PSG_API psg_value psg_g_fold(struct psg_graph *g, psg_value x, const struct psg_window *w);
/* Repeats `body` T times. body's inputs: n_carry carries, then n_xs slices (xs without axis 0),
 * then n_consts constants; outputs: the new carries, then n_ys values. xs are [T, ...]; ys are
 * stacked to [T, ...]. With reverse, step t = T-1 comes first (ys stay in place). Results go to
 * out[n_carry + n_ys]: the last carries, then the ys. Copies body. */
PSG_API int psg_g_scan(struct psg_graph *g, const struct psg_graph *body, int64_t length,
                       bool reverse, const psg_value *carry, int n_carry, const psg_value *xs,
                       int n_xs, const psg_value *consts, int n_consts, psg_value *out);

/* ---- shorthands made of the above ---- */
#define psg_g_add(g, a, b)    psg_g_binary(g, PSG_ADD, a, b)
#define psg_g_sub(g, a, b)    psg_g_binary(g, PSG_SUB, a, b)
#define psg_g_mul(g, a, b)    psg_g_binary(g, PSG_MUL, a, b)
#define psg_g_div(g, a, b)    psg_g_binary(g, PSG_DIV, a, b)
#define psg_g_neg(g, a)       psg_g_unary(g, PSG_NEG, a)
#define psg_g_exp(g, a)       psg_g_unary(g, PSG_EXP, a)
#define psg_g_log(g, a)       psg_g_unary(g, PSG_LOG, a)
#define psg_g_tanh(g, a)      psg_g_unary(g, PSG_TANH, a)
#define psg_g_sigmoid(g, a)   psg_g_unary(g, PSG_SIGMOID, a)
#define psg_g_sum(g, x, axes) psg_g_reduce(g, PSG_REDUCE_SUM, x, axes)
/* A rank-0 constant; broadcasts with anything. */
PSG_API psg_value psg_g_scalar(struct psg_graph *g, double value);
/* a [..., m, k] x b [..., k, n] with equal leading axes. */
PSG_API psg_value psg_g_matmul(struct psg_graph *g, psg_value a, psg_value b);
/* The same values in the shape of `like`, with leading axes repeated (NumPy's rule). */
PSG_API psg_value psg_g_broadcast_to(struct psg_graph *g, psg_value x,
                                     const struct psg_shape *shape);

/* Copies src's nodes into dst; args[i] stands for input i. out[j] gets output j. */
PSG_API int psg_graph_inline(struct psg_graph *dst, const struct psg_graph *src,
                             const psg_value *args, psg_value *out);

/* ---- transforms: new graphs, inputs in the same order; err tells why NULL came back ---- */
/* Same inputs plus one cotangent for each output; outputs: the cotangent of each input listed
 * in wrt (psg_real inputs only). */
PSG_API struct psg_graph *psg_graph_vjp(const struct psg_graph *g, const int *wrt, int n_wrt,
                                        struct psg_error *err);
/* For a graph whose output 0 has rank 0: same inputs; outputs: all outputs of g, then the
 * gradient of output 0 for each input listed in wrt. */
PSG_API struct psg_graph *psg_graph_grad(const struct psg_graph *g, const int *wrt, int n_wrt,
                                         struct psg_error *err);
/* Inputs with batched[i] gain a leading axis of `size` (>= 0); every output has one. */
PSG_API struct psg_graph *psg_graph_vmap(const struct psg_graph *g, int64_t size,
                                         const bool *batched, struct psg_error *err);
/* The same function with fewer nodes: dead code, common subexpressions, constants, x*1, x+0,
 * reshape and transpose chains, transposes folded into dots. */
PSG_API struct psg_graph *psg_graph_simplify(const struct psg_graph *g, struct psg_error *err);

/* ---- execution ---- */
struct psg_exec;
/* Plans buffers (liveness, one arena) for a checked graph; g must outlive it. */
PSG_API int psg_exec_new(const struct psg_graph *g, const struct psg_backend *backend,
                         struct psg_exec **execp, struct psg_error *err);
PSG_API struct psg_exec *psg_exec_free(struct psg_exec *exec);
PSG_API size_t psg_exec_bytes(const struct psg_exec *exec);
/* in[i], out[j]: tensors of the inputs' and outputs' types. No allocation. One thread at a time
 * per exec. */
PSG_API void psg_exec_run(struct psg_exec *exec, const void *const *in, void *const *out);

#ifdef __cplusplus
}
#endif
#endif
