/* gather, scatter_add, onehot, convert: int64 ids and the real numbers they name. No gradient
 * flows to ids. */
#include "prim/prim.h"

#include <string.h>

/* ---- building ---- */

static bool is_id(struct psg_graph *g, psg_value id, const char *who)
{
    if (prim_type(g, id)->dtype == PSG_I64)
        return true;
    prim_fail(g, PSG_E_SHAPE, "%s: the ids are real numbers, int64 is needed", who);
    return false;
}

static bool same_leading(struct psg_graph *g, psg_value a, psg_value b, int n, const char *who)
{
    const struct psg_shape *sa = prim_shape(g, a), *sb = prim_shape(g, b);
    bool ok = n >= 0 && sa->rank >= n && sb->rank >= n;
    for (int i = 0; ok && i < n; i++)
        ok = sa->dim[i] == sb->dim[i];
    if (!ok) {
        char ta[160], tb[160];
        prim_fail(g, PSG_E_SHAPE, "%s: %s and %s do not share %d leading axes", who,
                  psg_shape_text(sa, ta, sizeof ta), psg_shape_text(sb, tb, sizeof tb), n);
    }
    return ok;
}

psg_value psg_g_gather(struct psg_graph *g, psg_value table, psg_value id, int n_batch)
{
    psg_value in[2] = { table, id };
    struct attr_table a = { .n_batch = n_batch };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_operands_ok(g, in, 2, "gather") || !prim_reals_ok(g, &table, 1, "gather") ||
        !is_id(g, id, "gather") || !same_leading(g, table, id, n_batch, "gather"))
        return PSG_NONE;
    const struct psg_shape *t = prim_shape(g, table);
    if (t->rank <= n_batch)
        return prim_fail(g, PSG_E_SHAPE, "gather: the table of rank %d has no rows", t->rank);
    type.shape = *prim_shape(g, id);
    if (type.shape.rank + t->rank - n_batch - 1 > PSG_MAX_RANK)
        return prim_fail(g, PSG_E_SHAPE, "gather: more than %d axes", PSG_MAX_RANK);
    for (int i = n_batch + 1; i < t->rank; i++)
        type.shape.dim[type.shape.rank++] = t->dim[i];
    return prim_append(g, PRIM_GATHER, in, 2, &a, sizeof a, &type, 1);
}

psg_value psg_g_scatter_add(struct psg_graph *g, psg_value id, psg_value x, int64_t rows,
                            int n_batch)
{
    psg_value in[2] = { id, x };
    struct attr_table a = { .rows = rows, .n_batch = n_batch };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_operands_ok(g, in, 2, "scatter_add") || !prim_reals_ok(g, &x, 1, "scatter_add") ||
        !is_id(g, id, "scatter_add"))
        return PSG_NONE;
    const struct psg_shape *si = prim_shape(g, id), *sx = prim_shape(g, x);
    if (!same_leading(g, id, x, si->rank, "scatter_add"))
        return PSG_NONE;
    if (rows < 0 || n_batch < 0 || n_batch > si->rank ||
        n_batch + 1 + sx->rank - si->rank > PSG_MAX_RANK)
        return prim_fail(g, PSG_E_SHAPE, "scatter_add: %lld rows, %d batch axes of %d",
                         (long long)rows, n_batch, si->rank);
    for (int i = 0; i < n_batch; i++)
        type.shape.dim[type.shape.rank++] = si->dim[i];
    type.shape.dim[type.shape.rank++] = rows;
    for (int i = si->rank; i < sx->rank; i++)
        type.shape.dim[type.shape.rank++] = sx->dim[i];
    return prim_append(g, PRIM_SCATTER_ADD, in, 2, &a, sizeof a, &type, 1);
}

psg_value psg_g_onehot(struct psg_graph *g, psg_value id, int64_t depth)
{
    struct attr_depth a = { depth };
    struct psg_type type = { .dtype = PSG_REAL };
    if (!prim_operands_ok(g, &id, 1, "onehot") || !is_id(g, id, "onehot"))
        return PSG_NONE;
    type.shape = *prim_shape(g, id);
    if (depth < 0 || type.shape.rank >= PSG_MAX_RANK)
        return prim_fail(g, PSG_E_SHAPE, "onehot: depth %lld, rank %d", (long long)depth,
                         type.shape.rank);
    type.shape.dim[type.shape.rank++] = depth;
    return prim_append(g, PRIM_ONEHOT, &id, 1, &a, sizeof a, &type, 1);
}

psg_value psg_g_convert(struct psg_graph *g, psg_value x)
{
    if (!prim_operands_ok(g, &x, 1, "convert") || !is_id(g, x, "convert"))
        return PSG_NONE;
    struct psg_type type = { .dtype = PSG_REAL, .shape = *prim_shape(g, x) };
    return prim_append(g, PRIM_CONVERT, &x, 1, NULL, 0, &type, 1);
}

/* ---- execution ---- */

static int64_t product(const struct psg_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}

static void gather_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_table *a = s->node->attr;
    const struct psg_shape *t = &s->in[0].type->shape, *id = &s->in[1].type->shape;
    int64_t rows = t->dim[a->n_batch], dim = product(t, a->n_batch + 1, t->rank);
    if (prim_size(&s->out[0]) > 0)
        x->be->gather(product(id, 0, a->n_batch), product(id, a->n_batch, id->rank), rows, dim,
                      prim_ptr(x, &s->in[0]), rows * dim, prim_ptr(x, &s->in[1]),
                      prim_ptr(x, &s->out[0]));
}

static void scatter_add_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_table *a = s->node->attr;
    const struct psg_shape *id = &s->in[0].type->shape, *v = &s->in[1].type->shape;
    int64_t dim = product(v, id->rank, v->rank), size = prim_size(&s->out[0]);
    psg_real *y = prim_ptr(x, &s->out[0]);
    x->be->fill(size, 0, y);
    if (size > 0 && prim_size(&s->in[1]) > 0)
        x->be->scatter_add(product(id, 0, a->n_batch), product(id, a->n_batch, id->rank),
                           a->rows, dim, prim_ptr(x, &s->in[0]), prim_ptr(x, &s->in[1]), y,
                           a->rows * dim);
}

/* Each id is a batch entry of its own with a table of `depth` rows of one number. The ones that
 * are added stand in scratch. */
static int onehot_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                       struct psg_error *err)
{
    (void)be;
    (void)err;
    *scratch = prim_size(&s->in[0]) * (int64_t)sizeof(psg_real);
    return 0;
}

static void onehot_run(const struct prim_ctx *x, const struct prim_step *s)
{
    int64_t n = prim_size(&s->in[0]), depth = ((const struct attr_depth *)s->node->attr)->depth;
    psg_real *y = prim_ptr(x, &s->out[0]);
    if (n * depth == 0)
        return;
    psg_real *ones = prim_scratch(x, s);
    x->be->fill(n * depth, 0, y);
    x->be->fill(n, 1, ones);
    x->be->scatter_add(n, 1, depth, 1, prim_ptr(x, &s->in[0]), ones, y, depth);
}

static void convert_run(const struct prim_ctx *x, const struct prim_step *s)
{
    x->be->convert(prim_size(&s->out[0]), prim_ptr(x, &s->in[0]), prim_ptr(x, &s->out[0]));
}

/* ---- reverse mode ---- */

static void gather_vjp(const struct prim_vjp *d)
{
    const struct attr_table *a = d->node->attr;
    int64_t rows = prim_shape(d->g, d->in[0])->dim[a->n_batch];
    d->din[0] = psg_g_scatter_add(d->g, d->in[1], d->ct[0], rows, a->n_batch);
}

static void scatter_add_vjp(const struct prim_vjp *d)
{
    const struct attr_table *a = d->node->attr;
    d->din[1] = psg_g_gather(d->g, d->ct[0], d->in[0], a->n_batch);
}

/* ---- batching ---- */

/* v with axis `from` moved to place `to`. */
static psg_value move_axis(struct psg_graph *g, psg_value v, int from, int to)
{
    int perm[PSG_MAX_RANK], rank, at = 0;
    if (g->err.status)
        return PSG_NONE;
    rank = prim_shape(g, v)->rank;
    for (int i = 0; i < rank; i++) {
        if (i == to) {
            perm[i] = from;
            continue;
        }
        perm[i] = at + (at >= from);
        at++;
    }
    return psg_g_transpose(g, v, perm);
}

/* A table that is not batched stays one: the new axis of the ids goes behind the batch axes. */
static void gather_batch(const struct prim_batch *b)
{
    int n_batch = ((const struct attr_table *)b->node->attr)->n_batch;
    if (b->batched[0]) {
        b->out[0] = psg_g_gather(b->g, b->in[0], prim_batch_arg(b, 1), n_batch + 1);
        return;
    }
    psg_value id = move_axis(b->g, b->in[1], 0, n_batch);
    b->out[0] = move_axis(b->g, psg_g_gather(b->g, b->in[0], id, n_batch), n_batch, 0);
}

static void scatter_add_batch(const struct prim_batch *b)
{
    const struct attr_table *a = b->node->attr;
    b->out[0] = psg_g_scatter_add(b->g, prim_batch_arg(b, 0), prim_batch_arg(b, 1), a->rows,
                                  a->n_batch + 1);
}

static void onehot_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_onehot(b->g, b->in[0], ((const struct attr_depth *)b->node->attr)->depth);
}

static void convert_batch(const struct prim_batch *b)
{
    b->out[0] = psg_g_convert(b->g, b->in[0]);
}

const struct prim prim_gather = { .name = "gather", .run = gather_run, .vjp = gather_vjp,
                                  .batch = gather_batch };
const struct prim prim_scatter_add = { .name = "scatter_add", .run = scatter_add_run,
                                       .vjp = scatter_add_vjp, .batch = scatter_add_batch };
const struct prim prim_onehot = { .name = "onehot", .plan = onehot_plan, .run = onehot_run,
                                  .batch = onehot_batch };
const struct prim prim_convert = { .name = "convert", .run = convert_run,
                                   .batch = convert_batch };
