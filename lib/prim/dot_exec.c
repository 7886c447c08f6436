#include "prim/dot_exec.h"

#include <stdlib.h>
#include <string.h>

/* An axis of the loop nest and how far one step along it goes in a, b and c. */
struct dot_axis {
    int64_t n, step[3];
};

enum { A, B, C };
enum { MAX_AXES = 2 * PSG_MAX_RANK };

/* Axes of one sort, outermost first. */
struct dot_axes {
    int n;
    struct dot_axis at[MAX_AXES];
};

/* Copy of an operand to rows, in the order batch, m, k or batch, k, n. */
struct dot_pack {
    bool wanted;
    struct psg_shape shape;
    int64_t from[PSG_MAX_RANK], to[PSG_MAX_RANK];
    int64_t offset; /* in scratch, in psg_real */
};

struct dot_plan {
    bool empty;     /* the result has no elements */
    bool zero;      /* sums over nothing */
    bool outer;     /* no k: a product of every pair, elementwise */
    struct dot_pack pack[2];
    /* outer */
    struct psg_shape shape;
    int64_t sa[PSG_MAX_RANK], sb[PSG_MAX_RANK];
    /* gemm */
    struct psg_gemm gemm;
    bool swap;              /* the transposed product: b comes first */
    struct dot_axis count;  /* gemm_batched's */
    int n_loop;             /* loops around; those over k come first */
    struct dot_axis loop[MAX_AXES];
};

/* ---- sorts of axes ---- */

struct dot_nest {
    struct dot_axes batch, m, n, k;
};

static void axes_add(struct dot_axes *x, int64_t n, int64_t a, int64_t b, int64_t c)
{
    if (n != 1)
        x->at[x->n++] = (struct dot_axis){ n, { a, b, c } };
}

/* Joins neighbours that are walked as one by all three operands. */
static void axes_merge(struct dot_axes *x)
{
    int n = 0;
    for (int i = 0; i < x->n; i++) {
        struct dot_axis *in = &x->at[i], *out = n ? &x->at[n - 1] : NULL;
        bool one = out != NULL;
        for (int k = 0; one && k < 3; k++)
            one = out->step[k] == in->step[k] * in->n;
        if (one) {
            in->n *= out->n;
            *out = *in;
        } else {
            x->at[n++] = *in;
        }
    }
    x->n = n;
}

/* k axes may come in any order: largest step in a first, so that they merge. */
static void sort_k(struct dot_axes *k)
{
    for (int i = 1; i < k->n; i++)
        for (int j = i; j > 0 && llabs(k->at[j - 1].step[A]) < llabs(k->at[j].step[A]); j--) {
            struct dot_axis t = k->at[j];
            k->at[j] = k->at[j - 1];
            k->at[j - 1] = t;
        }
}

/* A batch axis along which one operand stands still is an m or n axis. */
static void nest_of(const struct psg_dot *d, const struct psg_shape *a, const int64_t *sa,
                    const struct psg_shape *b, const int64_t *sb, struct dot_nest *x)
{
    const struct psg_shape *shape[2] = { a, b };
    const int64_t *stride[2] = { sa, sb };
    unsigned used[2] = { 0, 0 };
    int64_t sc[PSG_MAX_RANK];
    struct psg_shape c = { .rank = a->rank + b->rank - d->n_batch - 2 * d->n_contract };
    int at = 0;
    memset(x, 0, sizeof *x);
    for (int i = 0; i < d->n_batch + d->n_contract; i++) {
        int k = i - d->n_batch;
        used[A] |= 1u << (k < 0 ? d->batch_a[i] : d->contract_a[k]);
        used[B] |= 1u << (k < 0 ? d->batch_b[i] : d->contract_b[k]);
    }
    for (int i = 0; i < d->n_batch; i++)
        c.dim[at++] = a->dim[d->batch_a[i]];
    for (int o = A; o <= B; o++)
        for (int i = 0; i < shape[o]->rank; i++)
            if (!(used[o] >> i & 1))
                c.dim[at++] = shape[o]->dim[i];
    prim_dense_strides(&c, sc);
    at = 0;
    for (int i = 0; i < d->n_batch; i++, at++) {
        int64_t s = sa[d->batch_a[i]], t = sb[d->batch_b[i]];
        axes_add(t == 0 ? &x->m : s == 0 ? &x->n : &x->batch, c.dim[at], s, t, sc[at]);
    }
    for (int o = A; o <= B; o++)
        for (int i = 0; i < shape[o]->rank; i++)
            if (!(used[o] >> i & 1)) {
                int64_t s = stride[o][i];
                axes_add(o == A ? &x->m : &x->n, c.dim[at], o == A ? s : 0, o == B ? s : 0,
                         sc[at]);
                at++;
            }
    for (int i = 0; i < d->n_contract; i++)
        axes_add(&x->k, a->dim[d->contract_a[i]], sa[d->contract_a[i]], sb[d->contract_b[i]], 0);
    sort_k(&x->k);
    axes_merge(&x->batch);
    axes_merge(&x->m);
    axes_merge(&x->n);
    axes_merge(&x->k);
}

/* ---- choosing the gemm ---- */

static const struct dot_axis unit_axis = { 1, { 0, 0, 0 } };

static const struct dot_axis *axis_or_unit(const struct dot_axes *x, int i)
{
    return i < x->n ? &x->at[i] : &unit_axis;
}

/* How a stored matrix of r rows and s columns is read when its axes have these steps: rows of
 * unit stride, or transposed. */
static bool leading(int64_t r, int64_t step_r, int64_t s, int64_t step_s, bool *trans,
                    int64_t *ld)
{
    if (s == 1 || step_s == 1) {
        *trans = false;
        *ld = r == 1 ? s : step_r;
        if (*ld >= s)
            return true;
    }
    if (r == 1 || step_r == 1) {
        *trans = true;
        *ld = s == 1 ? r : step_s;
        if (*ld >= r)
            return true;
    }
    return false;
}

/* rows and cols of c; a is the operand that has the rows, b the other. */
static bool gemm_of(const struct dot_axis *rows, const struct dot_axis *cols,
                    const struct dot_axis *k, int a, int b, struct psg_gemm *g)
{
    bool c_trans = false;
    *g = (struct psg_gemm){ .m = rows->n, .n = cols->n, .k = k->n, .alpha = 1 };
    return leading(rows->n, rows->step[a], k->n, k->step[a], &g->trans_a, &g->lda) &&
           leading(k->n, k->step[b], cols->n, cols->step[b], &g->trans_b, &g->ldb) &&
           leading(rows->n, rows->step[C], cols->n, cols->step[C], &c_trans, &g->ldc) &&
           !c_trans;
}

/* The axes left over become loops: k first, then the others; the longest of the others that
 * gemm_batched can count is taken out of them. */
static void place_loops(const struct dot_nest *x, int m, int n, int k, struct dot_plan *p)
{
    const struct dot_axes *sorts[4] = { &x->k, &x->batch, &x->m, &x->n };
    int skip[4] = { k, -1, m, n }, best = -1, first = 0;
    p->n_loop = 0;
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < sorts[s]->n; i++)
            if (i != skip[s])
                p->loop[p->n_loop++] = sorts[s]->at[i];
        if (s == 0)
            first = p->n_loop;
    }
    for (int i = first; i < p->n_loop; i++)
        if (best < 0 || p->loop[i].n > p->loop[best].n)
            best = i;
    p->count = unit_axis;
    if (best >= 0) {
        p->count = p->loop[best];
        p->n_loop--;
        memmove(&p->loop[best], &p->loop[best + 1],
                (size_t)(p->n_loop - best) * sizeof p->loop[0]);
    }
}

/* The largest gemm these strides allow; a 1 x 1 x 1 product always is. Returns m * n * k. */
static double choose(const struct dot_nest *x, struct dot_plan *p)
{
    double work = 0;
    for (int m = 0; m <= x->m.n; m++)
        for (int n = 0; n <= x->n.n; n++)
            for (int k = 0; k <= x->k.n; k++) {
                struct psg_gemm g;
                const struct dot_axis *am = axis_or_unit(&x->m, m);
                const struct dot_axis *an = axis_or_unit(&x->n, n);
                const struct dot_axis *ak = axis_or_unit(&x->k, k);
                double w = (double)am->n * (double)an->n * (double)ak->n;
                if (w <= work)
                    continue;
                bool straight = gemm_of(am, an, ak, A, B, &g);
                if (!straight && !gemm_of(an, am, ak, B, A, &g))
                    continue;
                work = w;
                p->gemm = g;
                p->swap = !straight;
                place_loops(x, m, n, k, p);
            }
    return work;
}

/* ---- packing ---- */

/* Strides of operand o after a copy in the order batch, m, k (a) or batch, k, n (b). */
static void pack_operand(const struct psg_dot *d, int o, const struct psg_shape *s,
                         int64_t *stride, struct dot_pack *pack)
{
    const int *batch = o == A ? d->batch_a : d->batch_b;
    const int *contract = o == A ? d->contract_a : d->contract_b;
    int order[PSG_MAX_RANK], at = 0;
    unsigned used = 0;
    int64_t dense[PSG_MAX_RANK];
    for (int i = 0; i < d->n_batch; i++) {
        order[at++] = batch[i];
        used |= 1u << batch[i];
    }
    for (int i = 0; i < d->n_contract; i++)
        used |= 1u << contract[i];
    for (int i = 0; o == B && i < d->n_contract; i++)
        order[at++] = contract[i];
    for (int i = 0; i < s->rank; i++)
        if (!(used >> i & 1))
            order[at++] = i;
    for (int i = 0; o == A && i < d->n_contract; i++)
        order[at++] = contract[i];
    pack->wanted = true;
    pack->shape = (struct psg_shape){ .rank = s->rank };
    for (int i = 0; i < s->rank; i++) {
        bool still = stride[order[i]] == 0; /* a repeated axis is copied once */
        pack->shape.dim[i] = still ? 1 : s->dim[order[i]];
        pack->from[i] = stride[order[i]];
    }
    prim_dense_strides(&pack->shape, dense);
    for (int i = 0; i < s->rank; i++) {
        pack->to[i] = dense[i];
        stride[order[i]] = dense[i];
    }
    prim_merge_axes(&pack->shape, (int64_t *const[]){ pack->from, pack->to }, 2);
}

/* A product of at least this many multiply-adds makes up for the call. */
static const double work_enough = 16384;

static double repeats(const struct dot_plan *p, const struct dot_nest *x)
{
    double batch = 1, all = (double)p->count.n;
    for (int i = 0; i < x->batch.n; i++)
        batch *= (double)x->batch.at[i].n;
    for (int i = 0; i < p->n_loop; i++)
        all *= (double)p->loop[i].n;
    return all / batch;
}

static void plan_gemm(const struct prim_step *s, struct dot_plan *p)
{
    const struct psg_dot *d = s->node->attr;
    const struct psg_shape *a = &s->in[A].type->shape, *b = &s->in[B].type->shape;
    int64_t stride[2][PSG_MAX_RANK];
    /* as they are, then a in rows, b in rows, both */
    for (int packed = 0; packed < 4; packed++) {
        struct dot_nest x;
        memcpy(stride[A], s->in[A].stride, sizeof stride[A]);
        memcpy(stride[B], s->in[B].stride, sizeof stride[B]);
        p->pack[A].wanted = p->pack[B].wanted = false;
        if (packed & 1)
            pack_operand(d, A, a, stride[A], &p->pack[A]);
        if (packed & 2)
            pack_operand(d, B, b, stride[B], &p->pack[B]);
        nest_of(d, a, stride[A], b, stride[B], &x);
        if (choose(&x, p) >= work_enough || repeats(p, &x) <= 1)
            return;
    }
}

/* Result axes and the operands' steps along them, for a product without sums. */
static void plan_outer(const struct dot_nest *x, struct dot_plan *p)
{
    struct dot_axes all = { 0 };
    const struct dot_axes *sorts[3] = { &x->batch, &x->m, &x->n };
    for (int s = 0; s < 3; s++)
        for (int i = 0; i < sorts[s]->n; i++) {
            int at = all.n++;
            while (at > 0 && all.at[at - 1].step[C] < sorts[s]->at[i].step[C]) {
                all.at[at] = all.at[at - 1];
                at--;
            }
            all.at[at] = sorts[s]->at[i];
        }
    p->outer = true;
    p->shape.rank = all.n;
    for (int i = 0; i < all.n; i++) {
        p->shape.dim[i] = all.at[i].n;
        p->sa[i] = all.at[i].step[A];
        p->sb[i] = all.at[i].step[B];
    }
}

int dot_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
             struct psg_error *err)
{
    const struct psg_dot *d = s->node->attr;
    struct dot_nest x;
    struct dot_plan *p = calloc(1, sizeof *p);
    (void)be;
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    s->plan = p;
    s->plan_size = sizeof *p;
    p->empty = prim_size(&s->out[0]) == 0;
    p->zero = prim_size(&s->in[A]) == 0 || prim_size(&s->in[B]) == 0;
    if (p->empty || p->zero)
        return 0;
    nest_of(d, &s->in[A].type->shape, s->in[A].stride, &s->in[B].type->shape, s->in[B].stride,
            &x);
    if (x.k.n == 0 && x.batch.n + x.m.n + x.n.n <= PSG_MAX_RANK) {
        plan_outer(&x, p);
        return 0;
    }
    plan_gemm(s, p);
    for (int o = A; o <= B; o++)
        if (p->pack[o].wanted) {
            p->pack[o].offset = *scratch / (int64_t)sizeof(psg_real);
            *scratch += psg_shape_size(&p->pack[o].shape) * (int64_t)sizeof(psg_real);
        }
    return 0;
}

/* ---- running ---- */

/* Loops over k come first: c is written while all of them are at their start, added to after. */
static void run_gemm(const struct prim_ctx *x, const struct dot_plan *p, const psg_real *a,
                     const psg_real *b, psg_real *c)
{
    int64_t index[MAX_AXES] = { 0 };
    struct psg_gemm g = p->gemm;
    int first = p->swap ? B : A, second = p->swap ? A : B;
    for (;;) {
        g.beta = 0;
        for (int i = 0; i < p->n_loop; i++)
            if (index[i] > 0 && p->loop[i].step[C] == 0)
                g.beta = 1;
        if (p->count.n == 1)
            x->be->gemm(&g, a, b, c);
        else
            x->be->gemm_batched(&g, p->count.n, a, p->count.step[first], b,
                                p->count.step[second], c,
                                p->count.step[C]);
        int i = p->n_loop - 1;
        for (; i >= 0; i--) {
            const struct dot_axis *l = &p->loop[i];
            bool again = ++index[i] < l->n;
            int64_t by = again ? 1 : 1 - l->n;
            a += by * l->step[first];
            b += by * l->step[second];
            c += by * l->step[C];
            if (again)
                break;
            index[i] = 0;
        }
        if (i < 0)
            return;
    }
}

void dot_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct dot_plan *p = s->plan;
    const psg_real *in[2] = { prim_ptr(x, &s->in[A]), prim_ptr(x, &s->in[B]) };
    psg_real *c = prim_ptr(x, &s->out[0]);
    if (p->empty)
        return;
    if (p->zero) {
        x->be->fill(prim_size(&s->out[0]), 0, c);
        return;
    }
    if (p->outer) {
        x->be->binary(PSG_MUL, &p->shape, in[A], p->sa, in[B], p->sb, c);
        return;
    }
    for (int o = A; o <= B; o++)
        if (p->pack[o].wanted) {
            psg_real *rows = (psg_real *)prim_scratch(x, s) + p->pack[o].offset;
            x->be->copy(&p->pack[o].shape, sizeof *rows, in[o], p->pack[o].from, rows,
                        p->pack[o].to);
            in[o] = rows;
        }
    run_gemm(x, p, in[p->swap ? B : A], in[p->swap ? A : B], c);
}
