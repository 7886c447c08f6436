/* The rules: what a node over given operands can be replaced by. Each looks a few nodes back,
 * never along a chain of unknown length. */
#include "transform/simplify.h"

#include <math.h>
#include <string.h>

/* ---- what is known of a value ---- */

static const struct prim_node *view_source(const struct psg_graph *g, psg_value v)
{
    const struct prim_node *n = prim_node_of(g, v);
    for (int i = 0; i < 4 && (n->kind == PRIM_BROADCAST || n->kind == PRIM_RESHAPE ||
                              n->kind == PRIM_TRANSPOSE || n->kind == PRIM_SLICE); i++)
        n = prim_node_of(g, prim_in(g, n)[0]);
    return n;
}

/* Every element is 0 or 1. */
static bool is_mask(const struct psg_graph *g, psg_value v)
{
    const struct prim_node *n = view_source(g, v);
    return n->kind == PRIM_ONEHOT ||
           (n->kind == PRIM_BINARY && ((const struct attr_fn *)n->attr)->f >= PSG_EQ);
}

/* No element is infinite or NaN, so that 0 times it is 0. */
static bool is_finite(const struct psg_graph *g, psg_value v)
{
    double c;
    const struct prim_node *n = view_source(g, v);
    return (prim_is_full(g, v, &c) && isfinite(c)) || is_mask(g, v) || n->kind == PRIM_IOTA ||
           n->kind == PRIM_CONVERT;
}

static bool is_number(const struct psg_graph *g, psg_value v, double number)
{
    double c;
    return prim_is_full(g, v, &c) && c == number;
}

/* The operand of v if v is f of something, else PSG_NONE. */
static psg_value is_unary(const struct psg_graph *g, psg_value v, enum psg_unary f)
{
    const struct prim_node *n = prim_node_of(g, v);
    if (n->kind != PRIM_UNARY || ((const struct attr_fn *)n->attr)->f != (int)f)
        return PSG_NONE;
    return prim_in(g, n)[0];
}

/* ---- elementwise ---- */

static psg_value simplify_unary(struct psg_graph *g, enum psg_unary f, psg_value x)
{
    double c;
    const struct prim_node *n = prim_node_of(g, x);
    psg_value inner = is_unary(g, x, f);
    if (inner != PSG_NONE && (f == PSG_ABS || f == PSG_SIGN || f == PSG_FLOOR))
        return x;
    if (inner != PSG_NONE && f == PSG_NEG)
        return inner;
    if (prim_is_full(g, x, &c)) {
        psg_real y = (psg_real)c;
        struct psg_shape shape = *prim_shape(g, x);
        psg_backend_ref()->unary(f, 1, &y, &y);
        return psg_g_full(g, &shape, (double)y);
    }
    if (n->kind == PRIM_BROADCAST) { /* fewer elements to compute */
        struct psg_shape shape = *prim_shape(g, x);
        int map[PSG_MAX_RANK];
        memcpy(map, ((const struct attr_map *)n->attr)->map, sizeof map);
        return psg_g_broadcast(g, psg_g_unary(g, f, prim_in(g, n)[0]), &shape, map);
    }
    return PSG_NONE;
}

/* Two operands repeated from smaller ones along the same axes: repeat the result instead. */
static psg_value broadcast_both(struct psg_graph *g, enum psg_binary f, psg_value a, psg_value b)
{
    const struct prim_node *na = prim_node_of(g, a), *nb = prim_node_of(g, b);
    double c;
    bool full_a = prim_is_full(g, a, &c), full_b = !full_a && prim_is_full(g, b, &c);
    const struct prim_node *n = full_a ? nb : na;
    if (n->kind != PRIM_BROADCAST || n->n_in != 1)
        return PSG_NONE;
    psg_value x = prim_in(g, n)[0], y;
    int map[PSG_MAX_RANK];
    memcpy(map, ((const struct attr_map *)n->attr)->map, sizeof map);
    struct psg_shape small = *prim_shape(g, x), shape = *prim_shape(g, a);
    if (full_a || full_b)
        y = psg_g_full(g, &small, c);
    else if (nb->kind == PRIM_BROADCAST && psg_shape_equal(&small, prim_shape(g, prim_in(g, nb)[0])) &&
             memcmp(na->attr, nb->attr, sizeof map) == 0)
        y = prim_in(g, nb)[0];
    else
        return PSG_NONE;
    psg_value r = psg_g_binary(g, f, full_a ? y : x, full_a ? x : y);
    return psg_g_broadcast(g, r, &shape, map);
}

static psg_value simplify_add(struct psg_graph *g, psg_value a, psg_value b)
{
    psg_value n;
    if (is_number(g, a, 0))
        return b;
    if (is_number(g, b, 0))
        return a;
    if ((n = is_unary(g, b, PSG_NEG)) != PSG_NONE)
        return psg_g_sub(g, a, n);
    if ((n = is_unary(g, a, PSG_NEG)) != PSG_NONE)
        return psg_g_sub(g, b, n);
    return PSG_NONE;
}

/* mask * (mask * x) is mask * x; (-a) * b is -(a * b). */
static psg_value simplify_mul(struct psg_graph *g, psg_value a, psg_value b)
{
    struct psg_shape shape = *prim_shape(g, a);
    for (int side = 0; side < 2; side++) {
        psg_value x = side ? b : a, y = side ? a : b;
        const struct prim_node *n = prim_node_of(g, y);
        if (is_number(g, x, 1))
            return y;
        if (is_number(g, x, -1))
            return psg_g_neg(g, y);
        if (is_number(g, x, 0) && is_finite(g, y))
            return psg_g_full(g, &shape, 0.0);
        if (x == y && is_mask(g, x))
            return x;
        if (n->kind == PRIM_BINARY && ((const struct attr_fn *)n->attr)->f == PSG_MUL &&
            is_mask(g, x) && (prim_in(g, n)[0] == x || prim_in(g, n)[1] == x))
            return y;
    }
    psg_value na = is_unary(g, a, PSG_NEG), nb = is_unary(g, b, PSG_NEG);
    if (na != PSG_NONE && nb != PSG_NONE)
        return psg_g_mul(g, na, nb);
    return PSG_NONE;
}

static psg_value simplify_binary(struct psg_graph *g, enum psg_binary f, psg_value a,
                                 psg_value b)
{
    double ca, cb;
    psg_value n;
    if (prim_is_full(g, a, &ca) && prim_is_full(g, b, &cb)) {
        psg_real x = (psg_real)ca, y = (psg_real)cb, r;
        struct psg_shape shape = *prim_shape(g, a), one = { .rank = 0 };
        psg_backend_ref()->binary(f, &one, &x, NULL, &y, NULL, &r);
        return psg_g_full(g, &shape, (double)r);
    }
    psg_value r = PSG_NONE;
    switch (f) {
    case PSG_ADD: r = simplify_add(g, a, b); break;
    case PSG_MUL: r = simplify_mul(g, a, b); break;
    case PSG_SUB:
        if (is_number(g, b, 0))
            return a;
        if (is_number(g, a, 0))
            return psg_g_neg(g, b);
        if ((n = is_unary(g, b, PSG_NEG)) != PSG_NONE)
            return psg_g_add(g, a, n);
        break;
    case PSG_DIV:
        if (is_number(g, b, 1))
            return a;
        if (is_number(g, a, 1))
            return psg_g_unary(g, PSG_RECIP, b);
        break;
    case PSG_POW:
        if (is_number(g, b, 1))
            return a;
        if (is_number(g, b, 2))
            return psg_g_mul(g, a, a);
        break;
    case PSG_MAX:
    case PSG_MIN:
        if (a == b)
            return a;
        break;
    default: break;
    }
    return r != PSG_NONE ? r : broadcast_both(g, f, a, b);
}

static psg_value simplify_select(struct psg_graph *g, const psg_value *in)
{
    double c;
    if (prim_is_full(g, in[0], &c))
        return c != 0 ? in[1] : in[2];
    if (in[1] == in[2])
        return in[1];
    if (is_mask(g, in[0]) && is_number(g, in[1], 1) && is_number(g, in[2], 0))
        return in[0];
    for (int side = 1; side < 3; side++) {
        const struct prim_node *n = prim_node_of(g, in[side]);
        if (n->kind != PRIM_SELECT || prim_in(g, n)[0] != in[0])
            continue;
        psg_value same = prim_in(g, n)[side];
        return psg_g_select(g, in[0], side == 1 ? same : in[1], side == 2 ? same : in[2]);
    }
    return PSG_NONE;
}

/* ---- reductions ---- */

/* The sum over axes of a dot that are batch axes in it is a dot over those axes as well. */
static psg_value sum_of_dot(struct psg_graph *g, const struct prim_node *n, unsigned axes)
{
    const struct psg_dot *d = n->attr;
    struct psg_dot e = { .n_contract = d->n_contract };
    if (axes >> d->n_batch)
        return PSG_NONE;
    memcpy(e.contract_a, d->contract_a, sizeof e.contract_a);
    memcpy(e.contract_b, d->contract_b, sizeof e.contract_b);
    for (int i = 0; i < d->n_batch; i++) {
        bool gone = axes >> i & 1;
        int at = gone ? e.n_contract++ : e.n_batch++;
        (gone ? e.contract_a : e.batch_a)[at] = d->batch_a[i];
        (gone ? e.contract_b : e.batch_b)[at] = d->batch_b[i];
    }
    psg_value a = prim_in(g, n)[0], b = prim_in(g, n)[1];
    return psg_g_dot(g, a, b, &e);
}

/* The sum over axes along which x repeats is a multiple. */
static psg_value sum_of_broadcast(struct psg_graph *g, const struct prim_node *n,
                                  const struct psg_shape *shape, unsigned axes)
{
    const int *map = ((const struct attr_map *)n->attr)->map;
    psg_value x = prim_in(g, n)[0];
    struct psg_shape from = *prim_shape(g, x), to = { .rank = 0 };
    unsigned kept_axes = 0;
    double times = 1;
    for (int i = 0; i < shape->rank; i++)
        if (axes >> i & 1)
            times *= (double)shape->dim[i];
    int next[PSG_MAX_RANK], rank = 0;
    for (int i = 0; i < shape->rank; i++) {
        next[i] = rank;
        if (!(axes >> i & 1)) {
            to.dim[rank++] = shape->dim[i];
        }
    }
    to.rank = rank;
    int new_map[PSG_MAX_RANK] = { 0 }, at = 0;
    for (int i = 0; i < from.rank; i++) {
        bool gone = axes >> map[i] & 1;
        if (gone && from.dim[i] != 1)
            return PSG_NONE;
        kept_axes |= (unsigned)gone << i;
        if (!gone)
            new_map[at++] = next[map[i]];
    }
    x = psg_g_reduce(g, PSG_REDUCE_SUM, x, kept_axes);
    x = psg_g_mul(g, x, psg_g_scalar(g, times));
    return psg_g_broadcast(g, x, &to, new_map);
}

static psg_value simplify_reduce(struct psg_graph *g, const struct attr_reduce *a, psg_value x,
                                 const struct psg_shape *out)
{
    const struct prim_node *n = prim_node_of(g, x);
    struct psg_shape shape = *prim_shape(g, x);
    unsigned axes = a->axes;
    double c;
    bool ones = true;
    for (int i = 0; i < shape.rank; i++)
        ones &= !(axes >> i & 1) || shape.dim[i] == 1;
    if (ones)
        return psg_g_reshape(g, x, out);
    if (n->kind == PRIM_REDUCE && ((const struct attr_reduce *)n->attr)->f == a->f) {
        /* axes of x counted among those of its operand */
        const struct attr_reduce *b = n->attr;
        int rank = prim_shape(g, prim_in(g, n)[0])->rank, at = 0;
        unsigned all = b->axes;
        for (int i = 0; i < rank; i++)
            if (!(b->axes >> i & 1))
                all |= (axes >> at++ & 1) << i;
        return psg_g_reduce(g, (enum psg_reduce)a->f, prim_in(g, n)[0], all);
    }
    if (a->f != PSG_REDUCE_SUM)
        return PSG_NONE;
    if (prim_is_full(g, x, &c) && isfinite(c)) {
        double times = 1;
        for (int i = 0; i < shape.rank; i++)
            times *= axes >> i & 1 ? (double)shape.dim[i] : 1.0;
        return psg_g_full(g, out, c * times);
    }
    if (n->kind == PRIM_BROADCAST)
        return sum_of_broadcast(g, n, &shape, axes);
    if (n->kind == PRIM_DOT)
        return sum_of_dot(g, n, axes);
    if (is_unary(g, x, PSG_NEG) != PSG_NONE)
        return psg_g_neg(g, psg_g_reduce(g, PSG_REDUCE_SUM, is_unary(g, x, PSG_NEG), axes));
    return PSG_NONE;
}

/* ---- axes ---- */

static psg_value simplify_reshape(struct psg_graph *g, psg_value x, const struct psg_shape *to)
{
    const struct prim_node *n = prim_node_of(g, x);
    double c;
    if (psg_shape_equal(prim_shape(g, x), to))
        return x;
    if (n->kind == PRIM_RESHAPE)
        return psg_g_reshape(g, prim_in(g, n)[0], to);
    if (prim_is_real(g, x) && prim_is_full(g, x, &c))
        return psg_g_full(g, to, c);
    return PSG_NONE;
}

static psg_value simplify_transpose(struct psg_graph *g, const int *perm, psg_value x,
                                    const struct psg_shape *to)
{
    const struct prim_node *n = prim_node_of(g, x);
    struct psg_shape s = *prim_shape(g, x);
    int both[PSG_MAX_RANK] = { 0 }, last = -1;
    double c;
    bool only_ones = true; /* axes longer than 1 keep their order */
    for (int i = 0; i < s.rank; i++) {
        if (s.dim[perm[i]] == 1)
            continue;
        only_ones &= perm[i] > last;
        last = perm[i];
    }
    if (only_ones)
        return psg_g_reshape(g, x, to);
    if (n->kind == PRIM_TRANSPOSE) {
        for (int i = 0; i < s.rank; i++)
            both[i] = ((const struct attr_perm *)n->attr)->perm[perm[i]];
        return psg_g_transpose(g, prim_in(g, n)[0], both);
    }
    if (prim_is_real(g, x) && prim_is_full(g, x, &c))
        return psg_g_full(g, to, c);
    return PSG_NONE;
}

/* A reshape that only adds or drops axes of length 1 vanishes under a broadcast. */
static psg_value broadcast_of_reshape(struct psg_graph *g, const int *map, psg_value inner,
                                      const struct psg_shape *mid, const struct psg_shape *to)
{
    struct psg_shape s = *prim_shape(g, inner), kept = { .rank = 0 };
    int new_map[PSG_MAX_RANK] = { 0 }, at = 0;
    for (int i = 0; i < s.rank; i++)
        if (s.dim[i] != 1)
            kept.dim[kept.rank++] = s.dim[i];
    for (int i = 0; i < mid->rank; i++) {
        if (mid->dim[i] == 1)
            continue;
        if (at >= kept.rank || kept.dim[at] != mid->dim[i])
            return PSG_NONE;
        new_map[at++] = map[i];
    }
    if (at != kept.rank || psg_shape_equal(&kept, mid))
        return PSG_NONE;
    return psg_g_broadcast(g, psg_g_reshape(g, inner, &kept), to, new_map);
}

static psg_value simplify_broadcast(struct psg_graph *g, const int *map, psg_value x,
                                    const struct psg_shape *to)
{
    const struct prim_node *n = prim_node_of(g, x);
    struct psg_shape mid = *prim_shape(g, x);
    double c;
    if (prim_is_real(g, x) && prim_is_full(g, x, &c))
        return psg_g_full(g, to, c);
    if (n->kind == PRIM_BROADCAST) {
        const int *first = ((const struct attr_map *)n->attr)->map;
        psg_value inner = prim_in(g, n)[0];
        int both[PSG_MAX_RANK] = { 0 };
        for (int i = 0; i < prim_shape(g, inner)->rank; i++)
            both[i] = map[first[i]];
        return psg_g_broadcast(g, inner, to, both);
    }
    if (n->kind == PRIM_RESHAPE)
        return broadcast_of_reshape(g, map, prim_in(g, n)[0], &mid, to);
    return PSG_NONE;
}

/* ---- dot: an operand that is a transpose is read through its axes ---- */

static psg_value simplify_dot(struct psg_graph *g, const struct psg_dot *d, const psg_value *in)
{
    for (int side = 0; side < 2; side++) {
        const struct prim_node *n = prim_node_of(g, in[side]);
        if (n->kind != PRIM_TRANSPOSE)
            continue;
        const int *perm = ((const struct attr_perm *)n->attr)->perm;
        struct psg_dot e = *d;
        int *batch = side ? e.batch_b : e.batch_a, *con = side ? e.contract_b : e.contract_a;
        unsigned used = 0;
        int rank = prim_shape(g, in[side])->rank, last = -1;
        for (int i = 0; i < d->n_batch; i++) {
            used |= 1u << batch[i];
            batch[i] = perm[batch[i]];
        }
        for (int i = 0; i < d->n_contract; i++) {
            used |= 1u << con[i];
            con[i] = perm[con[i]];
        }
        bool ordered = true; /* the other axes stand in the result in their order */
        for (int i = 0; i < rank; i++) {
            if (used >> i & 1)
                continue;
            ordered &= perm[i] > last;
            last = perm[i];
        }
        if (!ordered)
            continue;
        psg_value x = prim_in(g, n)[0];
        return psg_g_dot(g, side ? in[0] : x, side ? x : in[1], &e);
    }
    return PSG_NONE;
}

static psg_value simplify_slice(struct psg_graph *g, const struct attr_slice *a, psg_value x,
                                const struct psg_shape *to)
{
    const struct prim_node *n = prim_node_of(g, x);
    double c;
    if (prim_is_real(g, x) && prim_is_full(g, x, &c))
        return psg_g_full(g, to, c);
    if (n->kind != PRIM_SLICE || psg_shape_size(to) == 0)
        return PSG_NONE;
    const struct attr_slice *b = n->attr;
    struct attr_slice both;
    for (int i = 0; i < to->rank; i++) {
        both.start[i] = b->start[i] + a->start[i] * b->stride[i];
        both.stride[i] = to->dim[i] > 1 ? a->stride[i] * b->stride[i] : 1;
        both.limit[i] = both.start[i] + (to->dim[i] - 1) * both.stride[i] + 1;
    }
    return psg_g_slice(g, prim_in(g, n)[0], both.start, both.limit, both.stride);
}

psg_value simplify_node(struct psg_graph *g, const struct psg_graph *src,
                        const struct prim_node *node, const psg_value *in)
{
    struct psg_shape out = *prim_shape(src, node->out);
    const void *a = node->attr;
    switch (node->kind) {
    case PRIM_UNARY:
        return simplify_unary(g, (enum psg_unary)((const struct attr_fn *)a)->f, in[0]);
    case PRIM_BINARY:
        return simplify_binary(g, (enum psg_binary)((const struct attr_fn *)a)->f, in[0],
                               in[1]);
    case PRIM_SELECT: return simplify_select(g, in);
    case PRIM_REDUCE: return simplify_reduce(g, a, in[0], &out);
    case PRIM_RESHAPE: return simplify_reshape(g, in[0], &out);
    case PRIM_TRANSPOSE:
        return simplify_transpose(g, ((const struct attr_perm *)a)->perm, in[0], &out);
    case PRIM_BROADCAST:
        return simplify_broadcast(g, ((const struct attr_map *)a)->map, in[0], &out);
    case PRIM_DOT: return simplify_dot(g, a, in);
    case PRIM_SLICE: return simplify_slice(g, a, in[0], &out);
    case PRIM_PAD: {
        double c;
        if (prim_is_full(g, in[0], &c) && c == ((const struct attr_pad *)a)->value)
            return psg_g_full(g, &out, c);
        return PSG_NONE;
    }
    default: return PSG_NONE;
    }
}
