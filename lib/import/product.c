/* Matrix products: linear layers where a parameter of the file is the matrix, formulas elsewhere. */
#include <string.h>

#include "import/run.h"

/* y takes its axes from `axes`, its numbers from made. */
static int result(struct im_run *r, const struct im_tensor *axes,
                  const struct im_tensor *made, struct im_tensor **out)
{
    struct im_tensor *y = im_tensor_copy(r, axes);
    if (!y)
        return im_no_memory(r);
    y->source = made->source;
    y->v = made->v;
    y->data = made->data;
    y->file = NULL;
    y->stored = made->stored;
    y->swapped = false;
    y->same = 0;
    y->changes = NULL;
    y->type = IM_FLOAT;
    *out = y;
    return 0;
}

/* ---- x wᵀ + b with parameters of the file ---- */
static bool plain_matrix(const struct im_tensor *w)
{
    return w->source == IM_FILE && w->rank == 2 && w->stored.rank == 2 && !w->same &&
           w->batch < 0 && psg_shape_size(&w->stored) == w->dim[0] * w->dim[1];
}

int im_linear(struct im_run *r, struct im_tensor *x, struct im_tensor *w,
              struct im_tensor *b, struct im_tensor **out)
{
    struct im_tensor *y = NULL, *t = NULL, made;
    int status;
    if (x->rank < 1 || w->rank < 1 || w->rank > 2)
        return im_fail(r, PSG_E_SHAPE, "needs a vector and a matrix");
    if (x->batch == x->rank - 1)
        return im_mixes(r, "a product over the batch axis");
    bool layer = plain_matrix(w) && !w->swapped && w->stored.dim[0] == w->dim[0] &&
                 (!b || (im_is_param(b) && b->rank == 1 && b->stored.rank == 1)) &&
                 x->dim[x->rank - 1] == w->dim[1] && x->source != IM_FILE;
    if (!layer) {
        struct im_tensor *wt = w;
        if (w->rank == 2 && (status = im_swap_axes(r, w, 0, 1, &wt)))
            return status;
        status = im_matmul(r, x, wt, &y);
        if (!status && b)
            status = im_binary(r, PSG_ADD, y, b, &y);
        *out = status ? NULL : y;
        return status;
    }
    if ((status = im_solid_tensor(r, x, &t)))
        return status;
    struct im_node *n = im_node_new(r, "linear");
    if (!n)
        return im_no_memory(r);
    im_attr_int(n, "in_features", w->dim[1]);
    im_attr_int(n, "out_features", w->dim[0]);
    im_attr_bool(n, "bias", b != NULL);
    if ((status = im_use(r, n, "weight", w)) || (b && (status = im_use(r, n, "bias", b))) ||
        (status = im_layer(r, n, &t, 1, &made)))
        return status;
    struct im_tensor axes = *t;
    axes.dim[t->rank - 1] = w->dim[0];
    return result(r, &axes, &made, out);
}

/* ---- matmul ---- */
/* The axes [..., m, k] of an operand: vectors get one of length 1 that goes afterwards. */
static int widen(struct im_run *r, struct im_tensor **tp, int at)
{
    struct im_tensor *y = im_tensor_copy(r, *tp);
    if (!y)
        return im_no_memory(r);
    if (y->rank == 1)
        im_add_axis(y, at);
    *tp = y;
    return 0;
}

/* Formula text of an operand as [leading..., rows, columns] of one sample, without the leading axis
 * `batch` (-1: none); a pure batch axis among rows or columns counts 1. */
static const char *matrix_text(struct im_run *r, const struct im_tensor *t, char name,
                               int rank, int batch)
{
    struct psg_shape s = { 0 };
    for (int at = 0; at < rank; at++) {
        int k = at - (rank - t->rank);
        bool lead = at < rank - 2;
        if (lead && at == batch)
            continue;
        if (lead && k < 0 && s.rank == 0)
            continue;
        s.dim[s.rank++] = k < 0 || t->same >> k & 1 ? 1 : t->dim[k];
    }
    return im_operand(r, t, name, &s);
}

/* Leading axes of a and b broadcast; the batch must meet itself or a 1. */
static int leading(struct im_run *r, struct im_tensor *a, struct im_tensor *b,
                   struct im_tensor *out)
{
    struct im_tensor *in[2], heads[2];
    struct psg_shape shape[2];
    for (int i = 0; i < 2; i++) {
        heads[i] = i ? *b : *a;
        heads[i].rank -= 2;
        if (heads[i].batch >= heads[i].rank)
            heads[i].batch = -1;
        in[i] = &heads[i];
    }
    for (int i = 0; i < 2; i++) {
        int k = in[!i]->batch + in[i]->rank - in[!i]->rank;
        if (in[i]->batch < 0 && in[!i]->batch >= 0 && k >= 0 && in[i]->dim[k] != 1)
            return im_mixes(r, "a matrix for each place in the batch");
    }
    return im_align(r, in, 2, out, shape);
}

/* Stand-in for shapes: thin leading axes are fine, rows and columns must be solid. */
static int prepare(struct im_run *r, struct im_tensor **tp)
{
    struct im_tensor *t = *tp;
    unsigned last = 3u << (t->rank - 2);
    return t->same & last ? im_solid_tensor(r, t, tp) : 0;
}

int im_matmul(struct im_run *r, struct im_tensor *a, struct im_tensor *b,
              struct im_tensor **out)
{
    bool va = a->rank == 1, vb = b->rank == 1;
    struct im_tensor axes, made;
    int status;
    if (a->rank < 1 || b->rank < 1)
        return im_fail(r, PSG_E_SHAPE, "a product with a number");
    if (a->batch == a->rank - 1 || b->batch == (vb ? 0 : b->rank - 2))
        return im_mixes(r, "a product over the batch axis");
    bool matrix = plain_matrix(b) && b->swapped && a->source == IM_VALUE && !va &&
                  b->stored.dim[1] == b->dim[0] && a->dim[a->rank - 1] == b->dim[0];
    if (matrix) { /* x wᵀ: the matrix as it lies in the file */
        struct im_tensor *w = im_tensor_copy(r, b);
        if (!w)
            return im_no_memory(r);
        w->swapped = false;
        w->dim[0] = b->dim[1];
        w->dim[1] = b->dim[0];
        return im_linear(r, a, w, NULL, out);
    }
    if ((status = widen(r, &a, 0)) || (status = widen(r, &b, 1)) ||
        (status = prepare(r, &a)) || (status = prepare(r, &b)) ||
        (status = leading(r, a, b, &axes)))
        return status;
    int64_t m = a->dim[a->rank - 2], k = a->dim[a->rank - 1], n = b->dim[b->rank - 1];
    if (k != b->dim[b->rank - 2])
        return im_fail(r, PSG_E_SHAPE, "%lld columns and %lld rows", (long long)k,
                       (long long)b->dim[b->rank - 2]);
    bool numbers = a->source == IM_DATA && b->source == IM_DATA;
    if (numbers && (double)m * (double)k * (double)n > 1 << 24)
        return im_fail(r, PSG_E_RANGE, "a product of that many known numbers");
    int rank = axes.rank + 2, lead = axes.batch;
    bool rows = a->batch == a->rank - 2, columns = b->batch == b->rank - 1;
    if ((rows || columns) && (lead >= 0 || (rows && columns)))
        return im_mixes(r, "rows of one sample meet columns of another");
    int gone = lead >= 0 && axes.dim[lead] == 1 ? lead : -1;
    const char *ta = matrix_text(r, a, 'a', rank, gone);
    const char *tb = matrix_text(r, b, 'b', rank, gone);
    struct im_tensor *in[] = { a, b };
    if (!ta || !tb)
        return im_no_memory(r);
    if ((status = im_formula(r, in, 2, &made, "matmul(%s, %s)", ta, tb)))
        return status;
    axes.rank = rank;
    axes.dim[rank - 2] = m;
    axes.dim[rank - 1] = n;
    if (rows || columns) {
        axes.batch = rank - (rows ? 2 : 1);
        axes.inner = rows ? a->inner : b->inner;
    }
    if ((status = result(r, &axes, &made, out)))
        return status;
    if (vb)
        im_drop_axis(*out, (*out)->rank - 1);
    if (va)
        im_drop_axis(*out, (*out)->rank - (vb ? 1 : 2));
    return 0;
}

/* ---- operators ---- */
static int op_linear(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *b = NULL, *y = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_tensor(r, &a[1], &w);
    if (!status && im_given(&a[2]))
        status = im_arg_tensor(r, &a[2], &b);
    if (!status)
        status = im_linear(r, x, w, b, &y);
    return status ? status : im_set(r, y, out);
}

static int op_matmul(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *w = NULL, *y = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_tensor(r, &a[1], &w);
    if (!status)
        status = im_matmul(r, x, w, &y);
    return status ? status : im_set(r, y, out);
}

/* beta c + alpha a b */
static int op_addmm(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *c = NULL, *x = NULL, *w = NULL, *y = NULL, *z = NULL;
    double beta, alpha;
    int status = im_arg_tensor(r, &a[0], &c);
    if (!status)
        status = im_arg_tensor(r, &a[1], &x);
    if (!status)
        status = im_arg_tensor(r, &a[2], &w);
    if (!status)
        status = im_arg_real(r, &a[3], 1, &beta);
    if (!status)
        status = im_arg_real(r, &a[4], 1, &alpha);
    if (status)
        return status;
    if (beta == 1 && alpha == 1 && plain_matrix(w) && w->swapped && im_is_param(c) &&
        c->rank == 1) {
        struct im_tensor *wt = NULL;
        status = im_swap_axes(r, w, 0, 1, &wt);
        if (!status)
            status = im_linear(r, x, wt, c, &y);
        return status ? status : im_set(r, y, out);
    }
    struct im_tensor *fa = im_tensor_number(r, IM_FLOAT, alpha);
    struct im_tensor *fb = im_tensor_number(r, IM_FLOAT, beta);
    if (!fa || !fb)
        return im_no_memory(r);
    status = im_matmul(r, x, w, &y);
    if (!status && alpha != 1)
        status = im_binary(r, PSG_MUL, y, fa, &y);
    if (!status && beta != 1)
        status = im_binary(r, PSG_MUL, c, fb, &c);
    if (!status)
        status = im_binary(r, PSG_ADD, y, c, &z);
    return status ? status : im_set(r, z, out);
}

/* outer(a, b) */
static int op_outer(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value x, y;
    const struct im_op *unsqueeze = im_find_op("torch.unsqueeze");
    const struct im_value left[] = { a[0], im_int(1) }, right[] = { a[1], im_int(0) };
    int status = unsqueeze->fn(r, left, &x);
    if (!status)
        status = unsqueeze->fn(r, right, &y);
    const struct im_value both[] = { x, y };
    return status ? status : im_find_op("torch.mul")->fn(r, both, out);
}

static int op_bilinear(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *x = NULL, *z = NULL, *w = NULL, *b = NULL, *y = NULL, made;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = im_arg_tensor(r, &a[1], &z);
    if (!status)
        status = im_arg_tensor(r, &a[2], &w);
    if (!status && im_given(&a[3]))
        status = im_arg_tensor(r, &a[3], &b);
    if (status)
        return status;
    if (w->rank != 3 || x->rank != z->rank || x->batch != z->batch ||
        x->batch == x->rank - 1)
        return im_fail(r, PSG_E_SHAPE,
                       "two inputs whose axes meet, and a weight of three axes");
    struct im_node *n = im_node_new(r, "bilinear");
    if (!n)
        return im_no_memory(r);
    im_attr_int(n, "out_features", w->dim[0]);
    im_attr_bool(n, "bias", b != NULL);
    struct im_tensor *in[] = { x, z };
    if ((status = im_use(r, n, "weight", w)) || (b && (status = im_use(r, n, "bias", b))) ||
        (status = im_layer(r, n, in, 2, &made)))
        return status;
    struct im_tensor axes = *x;
    axes.dim[x->rank - 1] = w->dim[0];
    status = result(r, &axes, &made, &y);
    return status ? status : im_set(r, y, out);
}

/* ---- einsum: products of two, each axis in the result or summed ---- */
struct letters {
    char s[PSG_MAX_RANK + 1];
    int n;
};

static bool read_letters(const char **p, char stop, struct letters *l)
{
    l->n = 0;
    for (; **p && **p != stop && **p != '-'; (*p)++) {
        if (**p == ' ')
            continue;
        if (**p < 'A' || **p > 'z' || l->n == PSG_MAX_RANK)
            return false;
        l->s[l->n++] = **p;
    }
    l->s[l->n] = '\0';
    return true;
}

/* Axes of t in the order of `want`; those it lacks get length 1, others must not be there. */
static int spread(struct im_run *r, struct im_tensor *t, const struct letters *have,
                  const char *want, struct im_tensor **out)
{
    int perm[PSG_MAX_RANK], n = 0, status;
    for (const char *c = want; *c; c++) {
        const char *at = strchr(have->s, *c);
        if (at)
            perm[n++] = (int)(at - have->s);
    }
    if (n != t->rank)
        return im_fail(r, PSG_E_UNSUPPORTED, "an equation with repeated letters");
    if ((status = im_permute(r, t, perm, out)))
        return status;
    if ((*out)->swapped && (status = im_solid_tensor(r, *out, out)))
        return status;
    struct im_tensor *y = im_tensor_copy(r, *out);
    if (!y)
        return im_no_memory(r);
    for (int i = 0; want[i]; i++)
        if (!strchr(have->s, want[i]))
            im_add_axis(y, i);
    *out = y;
    return 0;
}

/* One contracted letter that stands last in both, or none: a product and a sum otherwise. */
static int einsum2(struct im_run *r, struct im_tensor **t, const struct letters *l,
                   const struct letters *to, struct im_tensor **out)
{
    char all[3 * PSG_MAX_RANK + 1];
    int n = 0, status;
    unsigned sum = 0;
    struct im_tensor *x[2], *y;
    for (int i = 0; i < to->n; i++)
        all[n++] = to->s[i];
    all[n] = '\0';
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < l[k].n; i++)
            if (!strchr(all, l[k].s[i])) {
                sum |= 1u << n;
                all[n++] = l[k].s[i];
                all[n] = '\0';
            }
    if (n > PSG_MAX_RANK - 1)
        return im_fail(r, PSG_E_UNSUPPORTED, "an equation with too many letters");
    for (int k = 0; k < 2; k++)
        if ((status = spread(r, t[k], &l[k], all, &x[k])))
            return status;
    if ((status = im_binary(r, PSG_MUL, x[0], x[1], &y)))
        return status;
    return sum ? im_reduce(r, y, "sum", sum, false, out) : (*out = y, 0);
}

/* The usual form: leading axes in both, then one row axis each and one summed axis. */
static bool as_matmul(const struct letters *l, const struct letters *to, char *order_a,
                      char *order_b)
{
    char shared = 0, row = 0, column = 0;
    int na = 0, nb = 0;
    for (int i = 0; i < l[0].n; i++) {
        char c = l[0].s[i];
        bool other = strchr(l[1].s, c), kept = strchr(to->s, c);
        if (other && kept)
            order_a[na++] = order_b[nb++] = c;
        else if (other && !shared)
            shared = c;
        else if (kept && !other && !row)
            row = c;
        else
            return false;
    }
    for (int i = 0; i < l[1].n; i++) {
        char c = l[1].s[i];
        if (strchr(l[0].s, c))
            continue;
        if (!strchr(to->s, c) || column)
            return false;
        column = c;
    }
    if (!shared || !row || !column)
        return false;
    order_a[na++] = row;
    order_a[na++] = order_b[nb++] = shared;
    order_b[nb++] = column;
    order_a[na] = order_b[nb] = '\0';
    return true;
}

static int op_einsum(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t[2], *y = NULL;
    struct letters l[2] = { 0 }, to;
    int n, status = im_arg_tensors(r, &a[1], t, 2, &n);
    if (status)
        return status;
    const char *p = a[0].kind == IM_TEXT ? a[0].text->s : "";
    bool ok = read_letters(&p, ',', &l[0]);
    if (ok && *p == ',') {
        p++;
        ok = read_letters(&p, ',', &l[1]);
    }
    ok = ok && p[0] == '-' && p[1] == '>' && (p += 2, read_letters(&p, ',', &to)) && !*p;
    if (!ok || n != 2 || l[0].n != t[0]->rank || l[1].n != t[1]->rank)
        return im_fail(r, PSG_E_UNSUPPORTED, "an equation other than of two tensors");
    char oa[PSG_MAX_RANK + 2], ob[PSG_MAX_RANK + 2];
    if (!as_matmul(l, &to, oa, ob)) {
        status = einsum2(r, t, l, &to, &y);
        return status ? status : im_set(r, y, out);
    }
    status = spread(r, t[0], &l[0], oa, &t[0]);
    if (!status)
        status = spread(r, t[1], &l[1], ob, &t[1]);
    if (!status)
        status = im_matmul(r, t[0], t[1], &y);
    if (status)
        return status;
    struct letters made = { .n = (int)strlen(oa) };
    memcpy(made.s, oa, sizeof made.s);
    made.s[made.n - 1] = ob[strlen(ob) - 1];
    status = spread(r, y, &made, to.s, &y);
    return status ? status : im_set(r, y, out);
}

const struct im_op im_ops_product[] = {
    { "linear", "input weight bias", op_linear },
    { "matmul", "self other", op_matmul },
    { "mm", "self other", op_matmul },
    { "bmm", "self other", op_matmul },
    { "mv", "self other", op_matmul },
    { "dot", "self other", op_matmul },
    { "addmm", "self mat1 mat2 beta alpha", op_addmm },
    { "baddbmm", "self mat1 mat2 beta alpha", op_addmm },
    { "outer", "self vec2", op_outer },
    { "bilinear", "input1 input2 weight bias", op_bilinear },
    { "einsum", "equation operands path", op_einsum },
    { NULL, NULL, NULL },
};
