/* dot: sums of products over paired axes, and its execution as matrix products.
 *
 * Every axis is of one of four sorts: batch (in a, b and c), m (a and c), n (b and c), k (a and
 * b). One axis each of m, n and k becomes a gemm, reading a and b through whatever strides they
 * have; the others become loops around it, the longest of them gemm_batched's count. Only where
 * no choice of axes suits gemm, or where it would leave many tiny products, is an operand
 * copied to rows first. */
#include "prim/dot_exec.h"

#include <stdlib.h>
#include <string.h>

/* ---- building ---- */

static bool axes_ok(struct psg_graph *g, const struct psg_shape *s, const int *batch,
                    int n_batch, const int *contract, int n_contract, unsigned *used)
{
    *used = 0;
    for (int i = 0; i < n_batch + n_contract; i++) {
        int axis = i < n_batch ? batch[i] : contract[i - n_batch];
        if (axis < 0 || axis >= s->rank || *used >> axis & 1) {
            prim_fail(g, PSG_E_SHAPE, "dot: axis %d of rank %d is missing or named twice", axis,
                      s->rank);
            return false;
        }
        *used |= 1u << axis;
    }
    return true;
}

/* The shape of the result: batch, rest of a, rest of b. */
static bool dot_shape(struct psg_graph *g, const struct psg_shape *a, const struct psg_shape *b,
                      const struct psg_dot *d, struct psg_shape *out)
{
    unsigned used[2];
    int rank = 0;
    if (d->n_batch < 0 || d->n_contract < 0 || d->n_batch > PSG_MAX_RANK ||
        d->n_contract > PSG_MAX_RANK) {
        prim_fail(g, PSG_E_SHAPE, "dot: %d batch and %d contracted axes", d->n_batch,
                  d->n_contract);
        return false;
    }
    if (!axes_ok(g, a, d->batch_a, d->n_batch, d->contract_a, d->n_contract, &used[0]) ||
        !axes_ok(g, b, d->batch_b, d->n_batch, d->contract_b, d->n_contract, &used[1]))
        return false;
    for (int i = 0; i < d->n_batch + d->n_contract; i++) {
        int k = i - d->n_batch;
        int64_t na = a->dim[k < 0 ? d->batch_a[i] : d->contract_a[k]];
        int64_t nb = b->dim[k < 0 ? d->batch_b[i] : d->contract_b[k]];
        if (na != nb) {
            char sa[160], sb[160];
            prim_fail(g, PSG_E_SHAPE, "dot: paired axes of %s and %s have lengths %lld and %lld",
                      psg_shape_text(a, sa, sizeof sa), psg_shape_text(b, sb, sizeof sb),
                      (long long)na, (long long)nb);
            return false;
        }
        if (k < 0)
            out->dim[rank++] = na;
    }
    if (a->rank + b->rank - d->n_batch - 2 * d->n_contract > PSG_MAX_RANK) {
        prim_fail(g, PSG_E_SHAPE, "dot: the result would have more than %d axes", PSG_MAX_RANK);
        return false;
    }
    for (int side = 0; side < 2; side++) {
        const struct psg_shape *s = side ? b : a;
        for (int i = 0; i < s->rank; i++)
            if (!(used[side] >> i & 1))
                out->dim[rank++] = s->dim[i];
    }
    out->rank = rank;
    return true;
}

psg_value psg_g_dot(struct psg_graph *g, psg_value a, psg_value b, const struct psg_dot *dims)
{
    psg_value in[2] = { a, b };
    struct psg_type type = { .dtype = PSG_REAL };
    struct psg_dot d;
    if (!prim_reals_ok(g, in, 2, "dot") ||
        !dot_shape(g, prim_shape(g, a), prim_shape(g, b), dims, &type.shape))
        return PSG_NONE;
    memset(&d, 0, sizeof d);
    d.n_batch = dims->n_batch;
    d.n_contract = dims->n_contract;
    for (int i = 0; i < d.n_batch; i++) {
        d.batch_a[i] = dims->batch_a[i];
        d.batch_b[i] = dims->batch_b[i];
    }
    for (int i = 0; i < d.n_contract; i++) {
        d.contract_a[i] = dims->contract_a[i];
        d.contract_b[i] = dims->contract_b[i];
    }
    return prim_append(g, PRIM_DOT, in, 2, &d, sizeof d, &type, 1);
}

psg_value psg_g_matmul(struct psg_graph *g, psg_value a, psg_value b)
{
    psg_value in[2] = { a, b };
    if (!prim_reals_ok(g, in, 2, "matmul"))
        return PSG_NONE;
    int ra = prim_shape(g, a)->rank, rb = prim_shape(g, b)->rank;
    if (ra < 2 || ra != rb)
        return prim_fail(g, PSG_E_SHAPE, "matmul: ranks %d and %d", ra, rb);
    struct psg_dot d = { .n_batch = ra - 2, .n_contract = 1 };
    for (int i = 0; i < ra - 2; i++)
        d.batch_a[i] = d.batch_b[i] = i;
    d.contract_a[0] = ra - 1;
    d.contract_b[0] = ra - 2;
    return psg_g_dot(g, a, b, &d);
}

/* ---- reverse mode ---- */

/* Axes of one operand in order: batch, rest, contracted (in the order of dims). */
struct side {
    int rank, n_rest, rest[PSG_MAX_RANK];
    const int *batch, *contract;
};

static void side_of(const struct psg_shape *s, const struct psg_dot *d, bool b, struct side *x)
{
    unsigned used = 0;
    *x = (struct side){ .rank = s->rank, .batch = b ? d->batch_b : d->batch_a,
                        .contract = b ? d->contract_b : d->contract_a };
    for (int i = 0; i < d->n_batch; i++)
        used |= 1u << x->batch[i];
    for (int i = 0; i < d->n_contract; i++)
        used |= 1u << x->contract[i];
    for (int i = 0; i < s->rank; i++)
        if (!(used >> i & 1))
            x->rest[x->n_rest++] = i;
}

/* order[i]: which axis of `mine` stands at place i when contracted axes come in the order of the
 * other operand's axes. */
static void contract_order(const struct side *mine, const struct side *other,
                           const struct psg_dot *d, int *order)
{
    for (int i = 0; i < d->n_contract; i++) {
        int place = 0;
        for (int k = 0; k < d->n_contract; k++)
            place += other->contract[k] < other->contract[i];
        order[place] = mine->contract[i];
    }
}

static bool is_identity(const int *perm, int n)
{
    for (int i = 0; i < n; i++)
        if (perm[i] != i)
            return false;
    return true;
}

/* The cotangent of operand `mine` [batch, mine.rest, k]: the cotangent of the result, [batch,
 * rest of a, rest of b], times the other operand, over the other's rest. Written with the
 * result's side first or last, whichever needs no transpose afterwards. */
static psg_value operand_ct(const struct prim_vjp *v, bool of_b)
{
    const struct psg_dot *d = v->node->attr;
    struct side mine, other;
    side_of(prim_shape(v->g, v->in[of_b]), d, of_b, &mine);
    side_of(prim_shape(v->g, v->in[!of_b]), d, !of_b, &other);
    int nb = d->n_batch, nr = mine.n_rest, nk = d->n_contract;
    int order[PSG_MAX_RANK], from[2][PSG_MAX_RANK]; /* axis of mine at each place of the result */
    contract_order(&mine, &other, d, order);
    for (int i = 0; i < nb; i++)
        from[0][i] = from[1][i] = mine.batch[i];
    for (int i = 0; i < nr; i++)
        from[0][nb + i] = from[1][nb + nk + i] = mine.rest[i];
    for (int i = 0; i < nk; i++)
        from[0][nb + nr + i] = from[1][nb + i] = order[i];
    int swap = !is_identity(from[0], mine.rank) && is_identity(from[1], mine.rank);
    /* dot of the cotangent (c) with the other operand (o) */
    struct psg_dot e = { .n_batch = nb, .n_contract = other.n_rest };
    int *batch_c = swap ? e.batch_b : e.batch_a, *batch_o = swap ? e.batch_a : e.batch_b;
    int *con_c = swap ? e.contract_b : e.contract_a, *con_o = swap ? e.contract_a : e.contract_b;
    for (int i = 0; i < nb; i++) {
        batch_c[i] = i;
        batch_o[i] = other.batch[i];
    }
    for (int i = 0; i < other.n_rest; i++) {
        con_c[i] = of_b ? nb + i : nb + nr + i;
        con_o[i] = other.rest[i];
    }
    psg_value c = v->ct[0], o = v->in[!of_b];
    psg_value r = psg_g_dot(v->g, swap ? o : c, swap ? c : o, &e);
    int perm[PSG_MAX_RANK] = { 0 };
    for (int i = 0; i < mine.rank; i++)
        perm[from[swap][i]] = i;
    return psg_g_transpose(v->g, r, perm);
}

static void dot_vjp(const struct prim_vjp *v)
{
    for (int i = 0; i < 2; i++)
        if (v->need[i])
            v->din[i] = operand_ct(v, i);
}

/* ---- batching ---- */

/* Both batched: one more batch axis. Only a: the new axis is its first rest axis, so the result
 * has it first after the batch axes. Only b: the operands are swapped where that keeps the
 * order of the result, else a is repeated (read with stride 0, never written). */
static void dot_batch(const struct prim_batch *b)
{
    const struct psg_dot *d = b->node->attr;
    struct psg_dot e = { .n_batch = d->n_batch, .n_contract = d->n_contract };
    struct side sa, sb;
    const psg_value *old = prim_in(b->src, b->node);
    psg_value x = b->in[0], y = b->in[1];
    bool in_a = b->batched[0], in_b = b->batched[1], swap = false;
    side_of(prim_shape(b->src, old[0]), d, false, &sa);
    side_of(prim_shape(b->src, old[1]), d, true, &sb);
    if (!in_a && d->n_batch == 0 && sb.n_rest == 0)
        swap = true;
    else if (in_a != in_b && (d->n_batch > 0 || in_b)) {
        x = prim_batch_arg(b, 0);
        y = prim_batch_arg(b, 1);
        in_a = in_b = true;
    }
    int shift_a = in_a, shift_b = in_b, extra = in_a && in_b;
    e.n_batch += extra;
    for (int i = 0; i < d->n_batch; i++) {
        e.batch_a[i + extra] = d->batch_a[i] + shift_a;
        e.batch_b[i + extra] = d->batch_b[i] + shift_b;
    }
    for (int i = 0; i < d->n_contract; i++) {
        e.contract_a[i] = d->contract_a[i] + shift_a;
        e.contract_b[i] = d->contract_b[i] + shift_b;
    }
    if (swap) {
        struct psg_dot t = e;
        memcpy(e.batch_a, t.batch_b, sizeof t.batch_b);
        memcpy(e.batch_b, t.batch_a, sizeof t.batch_a);
        memcpy(e.contract_a, t.contract_b, sizeof t.contract_b);
        memcpy(e.contract_b, t.contract_a, sizeof t.contract_a);
    }
    b->out[0] = psg_g_dot(b->g, swap ? y : x, swap ? x : y, &e);
}

const struct prim prim_dot = { .name = "dot", .strided = true, .plan = dot_plan,
                               .run = dot_run, .vjp = dot_vjp,
                               .batch = dot_batch };
