/* matmul (PyTorch's rules) and einsum in formulas, both as one dot of primitives. */
#include <string.h>

#include "program/expr.h"

static psg_value reshape_drop(struct expr_eval *x, psg_value v, int axis)
{
    struct psg_shape from = expr_shape_of(x, v), to = { 0 };
    if (v == PSG_NONE)
        return v;
    for (int i = 0; i < from.rank; i++)
        if (i != axis)
            to.dim[to.rank++] = from.dim[i];
    return psg_g_reshape(x->g, v, &to);
}

/* A vector on the left is a row, one on the right a column; the axis they gain goes again. */
static psg_value as_matrix(struct expr_eval *x, psg_value v, bool row)
{
    struct psg_shape shape = expr_shape_of(x, v);
    if (shape.rank != 1)
        return v;
    struct psg_shape to = row ? PSG_SHAPE(1, shape.dim[0]) : PSG_SHAPE(shape.dim[0], 1);
    return psg_g_reshape(x->g, v, &to);
}

/* The leading axes of a against those of b, NumPy's rule. */
static int join_batches(struct expr_eval *x, const struct psg_shape *a,
                        const struct psg_shape *b, struct psg_shape *batch)
{
    int na = a->rank - 2, nb = b->rank - 2;
    *batch = (struct psg_shape){ .rank = na > nb ? na : nb };
    for (int i = 0; i < batch->rank; i++) {
        int ia = i - (batch->rank - na), ib = i - (batch->rank - nb);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da != db && da != 1 && db != 1)
            return expr_fail(x, PSG_E_SHAPE, "the leading axes do not broadcast");
        batch->dim[i] = da == 1 ? db : da;
    }
    return 0;
}

static psg_value with_batch(struct expr_eval *x, psg_value v, const struct psg_shape *batch)
{
    struct psg_shape from = expr_shape_of(x, v), to = *batch;
    to.dim[to.rank++] = from.dim[from.rank - 2];
    to.dim[to.rank++] = from.dim[from.rank - 1];
    return psg_shape_equal(&from, &to) ? v : psg_g_broadcast_to(x->g, v, &to);
}

EXPR_RUN(expr_run_matmul)
{
    psg_value left = expr_real(x, &a[0]), right = expr_real(x, &a[1]);
    struct psg_shape sl = expr_shape_of(x, left), sr = expr_shape_of(x, right), batch;
    char tl[96], tr[96];
    (void)f, (void)n;
    if (x->status || left == PSG_NONE || right == PSG_NONE)
        return x->status;
    bool fits = sl.rank > 0 && sr.rank > 0 && sl.rank < PSG_MAX_RANK && sr.rank < PSG_MAX_RANK &&
                sl.dim[sl.rank - 1] == sr.dim[sr.rank > 1 ? sr.rank - 2 : 0];
    if (!fits)
        return expr_fail(x, PSG_E_SHAPE, "%s @ %s does not fit",
                         psg_shape_text(&sl, tl, sizeof tl), psg_shape_text(&sr, tr, sizeof tr));
    bool row = sl.rank == 1, column = sr.rank == 1;
    left = as_matrix(x, left, true);
    right = as_matrix(x, right, false);
    sl = expr_shape_of(x, left);
    sr = expr_shape_of(x, right);
    psg_value y;
    if (sr.rank == 2) { /* one matrix for all rows: a plain dot */
        struct psg_dot dims = { .n_contract = 1, .contract_a = { sl.rank - 1 },
                                .contract_b = { 0 } };
        y = psg_g_dot(x->g, left, right, &dims);
    } else {
        if (join_batches(x, &sl, &sr, &batch))
            return x->status;
        y = psg_g_matmul(x->g, with_batch(x, left, &batch), with_batch(x, right, &batch));
    }
    int rank = expr_shape_of(x, y).rank;
    if (column)
        y = reshape_drop(x, y, rank - 1);
    if (row)
        y = reshape_drop(x, y, rank - 2);
    expr_tensor(out, y);
    return x->status;
}

/* ---- einsum ---- */

struct terms {
    int n;              /* operands */
    char in[2][PSG_MAX_RANK + 1], out[PSG_MAX_RANK + 1];
};

/* "ti,oi->to"; letters, each once in a term */
static int read_terms(struct expr_eval *x, const struct expr_value *a, struct terms *t)
{
    char *to = t->in[0];
    int len = 0;
    bool result = false;
    *t = (struct terms){ .n = 1 };
    for (int i = 0; i < a->n; i++) {
        char c = a->text[i];
        if (c == ' ')
            continue;
        if (c == ',' && !result && t->n < 2) {
            to = t->in[t->n++];
            len = 0;
        } else if (c == '-' && i + 1 < a->n && a->text[i + 1] == '>' && !result) {
            result = true;
            to = t->out;
            len = 0;
            i++;
        } else if (((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) && len < PSG_MAX_RANK &&
                   !strchr(to, c)) {
            to[len++] = c;
        } else {
            return expr_fail(x, PSG_E_INVALID,
                             "einsum reads 'ti,oi->to': letters, each once in a term");
        }
    }
    return result ? 0 : expr_fail(x, PSG_E_INVALID, "einsum needs -> and the result's letters");
}

static bool has(const char *letters, char c)
{
    return c && strchr(letters, c);
}

/* Sums over letters of term k that nobody else has; the term loses them. */
static psg_value sum_alone(struct expr_eval *x, struct terms *t, int k, psg_value v)
{
    const char *other = t->n == 2 ? t->in[1 - k] : "";
    unsigned axes = 0;
    char left[PSG_MAX_RANK + 1] = "";
    for (int i = 0, n = 0; t->in[k][i]; i++) {
        if (has(t->out, t->in[k][i]) || has(other, t->in[k][i]))
            left[n++] = t->in[k][i];
        else
            axes |= 1u << i;
    }
    memcpy(t->in[k], left, sizeof left);
    return axes ? psg_g_sum(x->g, v, axes) : v;
}

static int check_letters(struct expr_eval *x, const struct terms *t, const psg_value *v)
{
    int64_t dim[128];
    memset(dim, 0xff, sizeof dim);
    for (int k = 0; k < t->n; k++) {
        struct psg_shape shape = expr_shape_of(x, v[k]);
        if ((int)strlen(t->in[k]) != shape.rank)
            return expr_fail(x, PSG_E_SHAPE, "operand %d has %d axes, its term %d letters", k + 1,
                             shape.rank, (int)strlen(t->in[k]));
        for (int i = 0; i < shape.rank; i++) {
            int64_t *d = &dim[(unsigned char)t->in[k][i]];
            if (*d >= 0 && *d != shape.dim[i])
                return expr_fail(x, PSG_E_SHAPE, "%c is %lld and %lld", t->in[k][i],
                                 (long long)*d, (long long)shape.dim[i]);
            *d = shape.dim[i];
        }
    }
    for (int i = 0; t->out[i]; i++)
        if (dim[(unsigned char)t->out[i]] < 0)
            return expr_fail(x, PSG_E_INVALID, "%c is in no operand", t->out[i]);
    return 0;
}

/* Letters of both operands are paired: kept in the result, or summed over. have: the letters of
 * the dot's axes in order. */
static psg_value contract(struct expr_eval *x, const struct terms *t, const psg_value *v,
                          char have[2 * PSG_MAX_RANK + 1])
{
    struct psg_dot d = { 0 };
    int n = 0;
    for (int i = 0; t->in[0][i]; i++) {
        const char *at = strchr(t->in[1], t->in[0][i]);
        if (!at)
            continue;
        int j = (int)(at - t->in[1]);
        if (has(t->out, t->in[0][i])) {
            d.batch_a[d.n_batch] = i;
            d.batch_b[d.n_batch++] = j;
            have[n++] = t->in[0][i];
        } else {
            d.contract_a[d.n_contract] = i;
            d.contract_b[d.n_contract++] = j;
        }
    }
    for (int k = 0; k < 2; k++)
        for (int i = 0; t->in[k][i]; i++)
            if (!has(t->in[1 - k], t->in[k][i]))
                have[n++] = t->in[k][i];
    have[n] = '\0';
    if (n > PSG_MAX_RANK)
        return PSG_NONE;
    return psg_g_dot(x->g, v[0], v[1], &d);
}

EXPR_RUN(expr_run_einsum)
{
    struct terms t;
    psg_value v[2] = { PSG_NONE, PSG_NONE }, y;
    char have[2 * PSG_MAX_RANK + 1] = "";
    int perm[PSG_MAX_RANK];
    (void)f;
    if (a[0].kind != VALUE_TEXT)
        return expr_fail(x, PSG_E_INVALID, "einsum begins with a text: 'ti,oi->to'");
    if (read_terms(x, &a[0], &t))
        return x->status;
    if (t.n != n - 1)
        return expr_fail(x, PSG_E_INVALID, "%d terms for %d operands", t.n, n - 1);
    for (int k = 0; k < t.n; k++)
        v[k] = expr_real(x, &a[k + 1]);
    if (x->status || check_letters(x, &t, v))
        return x->status;
    for (int k = 0; k < t.n; k++)
        v[k] = sum_alone(x, &t, k, v[k]);
    y = t.n == 2 ? contract(x, &t, v, have) : v[0];
    if (t.n == 1)
        memcpy(have, t.in[0], sizeof t.in[0]);
    if (y == PSG_NONE && !x->status)
        return expr_fail(x, PSG_E_SHAPE, "the result has too many axes");
    for (int i = 0; t.out[i]; i++)
        perm[i] = (int)(strchr(have, t.out[i]) - have);
    expr_tensor(out, t.out[0] ? psg_g_transpose(x->g, y, perm) : y);
    return x->status;
}
