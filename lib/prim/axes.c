/* reshape, transpose, broadcast, reverse: the same numbers under other axes. All are views. */
#include "prim/prim.h"

#include <string.h>

/* ---- strides ---- */

void prim_dense_strides(const struct psg_shape *shape, int64_t *stride)
{
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        stride[i] = shape->dim[i] == 1 ? 0 : step;
        step *= shape->dim[i] ? shape->dim[i] : 1;
    }
}

bool prim_is_dense(const struct psg_shape *shape, const int64_t *stride)
{
    int64_t step = 1;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] == 0)
            return true;
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (shape->dim[i] > 1 && stride[i] != step)
            return false;
        step *= shape->dim[i];
    }
    return true;
}

void prim_merge_axes(struct psg_shape *shape, int64_t *const *stride, int n_strides)
{
    int n = 0;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] == 1)
            continue;
        bool one = n > 0;
        for (int k = 0; k < n_strides && one; k++)
            one = stride[k][n - 1] == stride[k][i] * shape->dim[i];
        if (one) {
            shape->dim[n - 1] *= shape->dim[i];
        } else {
            shape->dim[n] = shape->dim[i];
            n++;
        }
        for (int k = 0; k < n_strides; k++)
            stride[k][n - 1] = stride[k][i];
    }
    for (int i = n; i < shape->rank; i++) {
        shape->dim[i] = 0;
        for (int k = 0; k < n_strides; k++)
            stride[k][i] = 0;
    }
    shape->rank = n;
}

bool prim_prepend(const struct psg_shape *shape, int64_t n, struct psg_shape *out)
{
    if (shape->rank >= PSG_MAX_RANK)
        return false;
    struct psg_shape s = { .rank = shape->rank + 1, .dim = { n } };
    for (int i = 0; i < shape->rank; i++)
        s.dim[i + 1] = shape->dim[i];
    *out = s;
    return true;
}

/* ---- building ---- */

psg_value psg_g_reshape(struct psg_graph *g, psg_value x, const struct psg_shape *shape)
{
    if (!prim_operands_ok(g, &x, 1, "reshape"))
        return PSG_NONE;
    struct psg_type type = *prim_type(g, x);
    if (psg_shape_equal(&type.shape, shape))
        return x;
    if (shape->rank < 0 || shape->rank > PSG_MAX_RANK ||
        psg_shape_size(&type.shape) != psg_shape_size(shape)) {
        char a[160] = "", b[160];
        if (shape->rank >= 0 && shape->rank <= PSG_MAX_RANK)
            psg_shape_text(shape, a, sizeof a);
        return prim_fail(g, PSG_E_SHAPE, "reshape: %s does not become %s",
                         psg_shape_text(&type.shape, b, sizeof b), a);
    }
    type.shape = *shape;
    return prim_append(g, PRIM_RESHAPE, &x, 1, NULL, 0, &type, 1);
}

psg_value psg_g_transpose(struct psg_graph *g, psg_value x, const int *perm)
{
    struct attr_perm a;
    unsigned seen = 0;
    bool moves = false;
    if (!prim_operands_ok(g, &x, 1, "transpose"))
        return PSG_NONE;
    memset(&a, 0, sizeof a);
    struct psg_type type = *prim_type(g, x);
    const struct psg_shape *s = prim_shape(g, x);
    for (int i = 0; i < s->rank; i++) {
        if (perm[i] < 0 || perm[i] >= s->rank || seen >> perm[i] & 1)
            return prim_fail(g, PSG_E_SHAPE, "transpose: axis %d comes from %d", i, perm[i]);
        seen |= 1u << perm[i];
        a.perm[i] = perm[i];
        type.shape.dim[i] = s->dim[perm[i]];
        moves |= perm[i] != i;
    }
    if (!moves)
        return x;
    return prim_append(g, PRIM_TRANSPOSE, &x, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_broadcast(struct psg_graph *g, psg_value x, const struct psg_shape *shape,
                          const int *map)
{
    struct attr_map a;
    if (!prim_operands_ok(g, &x, 1, "broadcast"))
        return PSG_NONE;
    memset(&a, 0, sizeof a);
    struct psg_type type = *prim_type(g, x);
    const struct psg_shape *s = prim_shape(g, x);
    if (psg_shape_equal(s, shape))
        return x;
    for (int i = 0, last = -1; i < s->rank; i++) {
        if (map[i] <= last || map[i] >= shape->rank ||
            (s->dim[i] != 1 && s->dim[i] != shape->dim[map[i]])) {
            char from[160], to[160];
            return prim_fail(g, PSG_E_SHAPE, "broadcast: axis %d of %s does not fit %s", i,
                             psg_shape_text(s, from, sizeof from),
                             psg_shape_text(shape, to, sizeof to));
        }
        a.map[i] = last = map[i];
    }
    type.shape = *shape;
    return prim_append(g, PRIM_BROADCAST, &x, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_broadcast_to(struct psg_graph *g, psg_value x, const struct psg_shape *shape)
{
    int map[PSG_MAX_RANK];
    if (!prim_operands_ok(g, &x, 1, "broadcast"))
        return PSG_NONE;
    const struct psg_shape *s = prim_shape(g, x);
    if (shape->rank < s->rank || shape->rank > PSG_MAX_RANK)
        return prim_fail(g, PSG_E_SHAPE, "broadcast: rank %d to rank %d", s->rank, shape->rank);
    for (int i = 0; i < s->rank; i++)
        map[i] = shape->rank - s->rank + i;
    return psg_g_broadcast(g, x, shape, map);
}

psg_value psg_g_reverse(struct psg_graph *g, psg_value x, unsigned axes)
{
    struct attr_axes a = { axes };
    if (!prim_operands_ok(g, &x, 1, "reverse"))
        return PSG_NONE;
    struct psg_type type = *prim_type(g, x);
    if (axes >> type.shape.rank)
        return prim_fail(g, PSG_E_SHAPE, "reverse: axes 0x%x of rank %d", axes,
                         type.shape.rank);
    if (!axes)
        return x;
    return prim_append(g, PRIM_REVERSE, &x, 1, &a, sizeof a, &type, 1);
}

psg_value prim_repeat(struct psg_graph *g, psg_value v, int64_t n)
{
    struct psg_shape shape;
    int map[PSG_MAX_RANK];
    if (!prim_operands_ok(g, &v, 1, "vmap"))
        return PSG_NONE;
    if (!prim_prepend(prim_shape(g, v), n, &shape))
        return prim_fail(g, PSG_E_SHAPE, "vmap: no axis left, rank %d is the most",
                         PSG_MAX_RANK);
    for (int i = 0; i + 1 < shape.rank; i++)
        map[i] = i + 1;
    return psg_g_broadcast(g, v, &shape, map);
}

psg_value psg_g_detach(struct psg_graph *g, psg_value x)
{
    if (!prim_reals_ok(g, &x, 1, "detach"))
        return PSG_NONE;
    struct psg_type type = *prim_type(g, x);
    return prim_append(g, PRIM_DETACH, &x, 1, NULL, 0, &type, 1);
}

/* ---- execution: views; a view that must be dense is copied by the planner ---- */

static bool reshape_view(const struct psg_graph *g, const struct prim_node *node,
                         const struct prim_arg *in, struct prim_arg *out)
{
    const struct psg_shape *to = &out->type->shape;
    struct psg_shape from = in->type->shape;
    int64_t stride[PSG_MAX_RANK];
    (void)g;
    (void)node;
    if (in->dense || psg_shape_size(to) == 0) {
        prim_dense_strides(to, out->stride);
        return true;
    }
    memcpy(stride, in->stride, sizeof stride);
    prim_merge_axes(&from, (int64_t *const[]){ stride }, 1);
    int axis = from.rank - 1;
    int64_t left = axis >= 0 ? from.dim[axis] : 1, step = axis >= 0 ? stride[axis] : 0;
    for (int i = to->rank - 1; i >= 0; i--) {
        out->stride[i] = 0;
        if (to->dim[i] == 1)
            continue;
        if (left == 1) {
            axis--;
            left = from.dim[axis];
            step = stride[axis];
        }
        if (left % to->dim[i] != 0)
            return false;
        out->stride[i] = step;
        step *= to->dim[i];
        left /= to->dim[i];
    }
    return true;
}

static bool detach_view(const struct psg_graph *g, const struct prim_node *node,
                        const struct prim_arg *in, struct prim_arg *out)
{
    (void)g;
    (void)node;
    for (int i = 0; i < in->type->shape.rank; i++)
        out->stride[i] = in->stride[i];
    return true;
}

static bool transpose_view(const struct psg_graph *g, const struct prim_node *node,
                           const struct prim_arg *in, struct prim_arg *out)
{
    const int *perm = ((const struct attr_perm *)node->attr)->perm;
    (void)g;
    for (int i = 0; i < in->type->shape.rank; i++)
        out->stride[i] = in->stride[perm[i]];
    return true;
}

static bool broadcast_view(const struct psg_graph *g, const struct prim_node *node,
                           const struct prim_arg *in, struct prim_arg *out)
{
    const int *map = ((const struct attr_map *)node->attr)->map;
    (void)g;
    for (int i = 0; i < out->type->shape.rank; i++)
        out->stride[i] = 0;
    for (int i = 0; i < in->type->shape.rank; i++)
        out->stride[map[i]] = in->stride[i];
    return true;
}

static bool reverse_view(const struct psg_graph *g, const struct prim_node *node,
                         const struct prim_arg *in, struct prim_arg *out)
{
    unsigned axes = ((const struct attr_axes *)node->attr)->axes;
    const struct psg_shape *s = &in->type->shape;
    int64_t size = (int64_t)psg_dtype_size(in->type->dtype);
    bool empty = psg_shape_size(s) == 0;
    (void)g;
    for (int i = 0; i < s->rank; i++) {
        bool back = axes >> i & 1;
        out->stride[i] = back ? -in->stride[i] : in->stride[i];
        if (back && !empty)
            out->offset += (s->dim[i] - 1) * in->stride[i] * size;
    }
    return true;
}

/* ---- reverse mode ---- */

static void reshape_vjp(const struct prim_vjp *d)
{
    struct psg_shape shape = *prim_shape(d->g, d->in[0]);
    d->din[0] = psg_g_reshape(d->g, d->ct[0], &shape);
}

static void transpose_vjp(const struct prim_vjp *d)
{
    const int *perm = ((const struct attr_perm *)d->node->attr)->perm;
    int back[PSG_MAX_RANK];
    for (int i = 0; i < prim_shape(d->g, d->in[0])->rank; i++)
        back[perm[i]] = i;
    d->din[0] = psg_g_transpose(d->g, d->ct[0], back);
}

static void broadcast_vjp(const struct prim_vjp *d)
{
    const int *map = ((const struct attr_map *)d->node->attr)->map;
    struct psg_shape from = *prim_shape(d->g, d->in[0]);
    struct psg_shape to = *prim_shape(d->g, d->out[0]);
    unsigned axes = (1u << to.rank) - 1;
    for (int i = 0; i < from.rank; i++)
        if (from.dim[i] == to.dim[map[i]])
            axes &= ~(1u << map[i]);
    psg_value ct = psg_g_reduce(d->g, PSG_REDUCE_SUM, d->ct[0], axes);
    d->din[0] = psg_g_reshape(d->g, ct, &from);
}

static void reverse_vjp(const struct prim_vjp *d)
{
    d->din[0] = psg_g_reverse(d->g, d->ct[0], ((const struct attr_axes *)d->node->attr)->axes);
}

/* ---- batching ---- */

static bool batched_shape(const struct prim_batch *b, struct psg_shape *shape)
{
    if (prim_prepend(prim_shape(b->src, b->node->out), b->size, shape))
        return true;
    prim_fail(b->g, PSG_E_SHAPE, "vmap: no axis left, rank %d is the most", PSG_MAX_RANK);
    return false;
}

static void reshape_batch(const struct prim_batch *b)
{
    struct psg_shape shape;
    if (batched_shape(b, &shape))
        b->out[0] = psg_g_reshape(b->g, b->in[0], &shape);
}

static void transpose_batch(const struct prim_batch *b)
{
    const int *perm = ((const struct attr_perm *)b->node->attr)->perm;
    int wide[PSG_MAX_RANK + 1] = { 0 };
    for (int i = 0; i < prim_shape(b->src, b->node->out)->rank; i++)
        wide[i + 1] = perm[i] + 1;
    b->out[0] = psg_g_transpose(b->g, b->in[0], wide);
}

static void broadcast_batch(const struct prim_batch *b)
{
    const int *map = ((const struct attr_map *)b->node->attr)->map;
    int wide[PSG_MAX_RANK + 1] = { 0 };
    struct psg_shape shape;
    for (int i = 0; i < prim_shape(b->src, prim_in(b->src, b->node)[0])->rank; i++)
        wide[i + 1] = map[i] + 1;
    if (batched_shape(b, &shape))
        b->out[0] = psg_g_broadcast(b->g, b->in[0], &shape, wide);
}

static void reverse_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_reverse(b->g, b->in[0],
                              ((const struct attr_axes *)b->node->attr)->axes << 1);
}

static void detach_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_detach(b->g, b->in[0]);
}

const struct prim prim_reshape = { .name = "reshape", .view = true, .strided = true,
                                   .view_of = reshape_view, .vjp = reshape_vjp,
                                   .batch = reshape_batch };
const struct prim prim_transpose = { .name = "transpose", .view = true, .strided = true,
                                     .view_of = transpose_view, .vjp = transpose_vjp,
                                     .batch = transpose_batch };
const struct prim prim_broadcast = { .name = "broadcast", .view = true, .strided = true,
                                     .view_of = broadcast_view, .vjp = broadcast_vjp,
                                     .batch = broadcast_batch };
const struct prim prim_reverse = { .name = "reverse", .view = true, .strided = true,
                                   .view_of = reverse_view, .vjp = reverse_vjp,
                                   .batch = reverse_batch };
const struct prim prim_detach = { .name = "detach", .view = true, .strided = true,
                                  .view_of = detach_view, .batch = detach_batch };
