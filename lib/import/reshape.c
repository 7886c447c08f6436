/* view, permute, expand: operators that only move axes, and the proof that they keep samples
 * apart. */
#include <string.h>

#include "import/run.h"

static int64_t product(const int64_t *dim, int from, int to)
{
    int64_t p = 1;
    for (int i = from; i < to; i++)
        p *= dim[i];
    return p;
}

/* Of a tensor [.. outer B inner ..] in row-major order, sample b is found at
 * (o * B + b) * I + i with o < O, i < I; axis k of `dim` may be the one with the batch when its
 * share of a sample is c = o' * i' with i' * (product right of it) = I and
 * (product left of it) * o' = O. *innerp gets i'. */
static bool batch_fits(const int64_t *dim, int n, int k, int64_t O, int64_t I,
                       int64_t *innerp)
{
    int64_t right = product(dim, k + 1, n), left = product(dim, 0, k);
    if (right <= 0 || I % right != 0)
        return false;
    int64_t inner = I / right;
    if (dim[k] % inner != 0 || left * (dim[k] / inner) != O)
        return false;
    *innerp = inner;
    return true;
}

struct target {
    int64_t dim[PSG_MAX_RANK]; /* of one sample, once known */
    int n, free_axis;          /* -1: none */
    int batch;
    int64_t inner;
};

/* The length of the axis given as -1; false when nothing fits. */
static bool fill_free(struct target *to, int64_t size)
{
    if (to->free_axis < 0)
        return product(to->dim, 0, to->n) == size;
    to->dim[to->free_axis] = 1;
    int64_t known = product(to->dim, 0, to->n);
    if (known <= 0 || size % known != 0)
        return false;
    to->dim[to->free_axis] = size / known;
    return true;
}

/* Axis k holds numbers that count the example's samples: tries it with e of them. */
static bool try_example(const struct target *to, int k, int64_t e, int64_t O, int64_t I,
                        struct target *found)
{
    *found = *to;
    if (e <= 0 || k == to->free_axis || to->dim[k] % e != 0)
        return false;
    found->dim[k] = to->dim[k] / e;
    found->batch = k;
    return fill_free(found, O * I) && batch_fits(found->dim, to->n, k, O, I, &found->inner);
}

/* No axis is known to have the batch: the one given as -1, or one of plain numbers of the
 * example. */
static int find_batch(struct im_run *r, struct target *to, int64_t O, int64_t I)
{
    struct target found = *to;
    if (to->free_axis >= 0 && fill_free(&found, O * I) &&
        batch_fits(found.dim, to->n, to->free_axis, O, I, &found.inner)) {
        found.batch = to->free_axis;
        *to = found;
        return 0;
    }
    for (int k = 0; k < to->n; k++) {
        int64_t e = r->batch;
        if (e == 0 && to->free_axis < 0) { /* all numbers are known: e follows */
            int64_t all = product(to->dim, 0, to->n);
            e = O * I > 0 && all % (O * I) == 0 ? all / (O * I) : 0;
        } else if (e == 0 && k < to->free_axis) { /* with no part of the sample behind B */
            int64_t left = product(to->dim, 0, k);
            e = left > 0 && O % left == 0 ? to->dim[k] / (O / left) : 0;
        }
        if (!try_example(to, k, e, O, I, &found))
            continue;
        r->batch = e;
        *to = found;
        return 0;
    }
    if (r->batch == 0)
        return im_mixes(r,
                        "the new sizes fold the batch into another axis (if one of them is "
                        "the number of samples of a traced example, give that number)");
    return im_mixes(r, "the new sizes fold the batch into another axis");
}

static int read_target(struct im_run *r, const struct im_size *to, int n, struct target *t)
{
    *t = (struct target){ .n = n, .free_axis = -1, .batch = -1 };
    if (n > PSG_MAX_RANK)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d axes", PSG_MAX_RANK);
    for (int i = 0; i < n; i++) {
        if (to[i].power > 1 || (to[i].power == 1 && t->batch >= 0))
            return im_mixes(r, "the batch would be in two axes");
        if (to[i].n == -1 && to[i].power == 0 && t->free_axis < 0)
            t->free_axis = i;
        else if (to[i].n < 1 || to[i].n > IM_DIM_MAX)
            return im_fail(r, PSG_E_SHAPE, "a size that a tensor cannot have");
        if (to[i].power == 1)
            t->batch = i;
        t->dim[i] = to[i].n;
    }
    return 0;
}

int im_reshape(struct im_run *r, const struct im_tensor *t, const struct im_size *to, int n,
               struct im_tensor **out)
{
    struct target target;
    int status = read_target(r, to, n, &target);
    if (status)
        return status;
    int64_t size = im_size_of(t), I = 1, O = size;
    if (t->batch >= 0) {
        I = t->inner * product(t->dim, t->batch + 1, t->rank);
        O = size / I;
        if (target.batch >= 0) {
            if (!fill_free(&target, size))
                return im_fail(r, PSG_E_SHAPE,
                               "the new sizes do not hold the same numbers");
            if (!batch_fits(target.dim, n, target.batch, O, I, &target.inner))
                return im_mixes(r, "the new sizes fold the batch into another axis");
        } else if ((status = find_batch(r, &target, O, I))) {
            return status;
        }
    } else if (target.batch >= 0) {
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "a size of the batch for a tensor without batch");
    } else if (!fill_free(&target, size)) {
        return im_fail(r, PSG_E_SHAPE, "the new sizes do not hold the same numbers");
    }
    struct im_tensor *y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    if (y->same || y->swapped) {
        bool constant = psg_shape_size(&t->stored) == 1;
        if (!constant && (status = im_solid_tensor(r, t, &y)))
            return status;
        y->same = constant ? (1u << n) - 1 : 0;
    }
    y->rank = n;
    memcpy(y->dim, target.dim, sizeof y->dim);
    y->batch = target.batch;
    y->inner = target.batch >= 0 ? target.inner : 1;
    if (y->batch >= 0)
        y->same &= ~(1u << y->batch);
    *out = y;
    return 0;
}

/* ---- order of axes ---- */
int im_permute(struct im_run *r, const struct im_tensor *t, const int *perm,
               struct im_tensor **out)
{
    struct im_tensor *y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    y->same = 0;
    for (int i = 0; i < t->rank; i++) {
        y->dim[i] = t->dim[perm[i]];
        y->same |= (t->same >> perm[i] & 1) << i;
        if (perm[i] == t->batch)
            y->batch = i;
    }
    *out = y;
    bool matrix = t->source == IM_FILE && t->rank == 2 && t->stored.rank == 2 && !t->same &&
                  t->batch < 0 && t->stored.dim[t->swapped] == t->dim[0] &&
                  t->stored.dim[!t->swapped] == t->dim[1];
    if (matrix) {
        y->swapped = perm[0] == 1 ? !t->swapped : t->swapped;
        return 0;
    }
    /* the order of the axes that a sample has more than one of */
    int order[PSG_MAX_RANK], n = 0, last = -1;
    bool moves = false;
    for (int i = 0; i < t->rank; i++) {
        int axis = im_axis(t, perm[i]);
        if (axis < 0)
            continue;
        order[n++] = axis;
        if (t->dim[perm[i]] == 1 || t->same >> perm[i] & 1)
            continue;
        moves |= axis < last;
        last = axis;
    }
    if (!moves)
        return 0; /* the numbers stay where they are */
    struct im_tensor *thin = im_tensor_copy(r, t), made;
    if (!thin)
        return im_no_memory(r);
    struct psg_shape shape = im_thin_shape(t), list = { .rank = n };
    for (int i = 0; i < n; i++)
        list.dim[i] = order[i];
    const char *text = im_operand(r, thin, 'a', &shape), *axes = im_shape_list(r, &list);
    if (!text || !axes)
        return im_no_memory(r);
    int status;
    bool plain = t->source == IM_VALUE && psg_shape_equal(&t->stored, &shape) && !t->same;
    if (plain && psg_program_type(r->program, t->v)->dtype == PSG_REAL) {
        struct im_node *node = im_node_new(r, "permute");
        int64_t dims[PSG_MAX_RANK + 1] = { 0 };
        for (int i = 0; i < n; i++)
            dims[i + 1] = order[i] + 1;
        if (!node)
            return im_no_memory(r);
        struct im_attr *a = &node->attr[node->n_attrs++];
        if (n + 1 > PSG_MAX_RANK)
            return im_fail(r, PSG_E_UNSUPPORTED, "too many axes");
        *a = (struct im_attr){ .name = "dims", .kind = PSG_ATTR_INTS, .n = n + 1 };
        memcpy(a->list, dims, (size_t)(n + 1) * sizeof *dims);
        struct im_tensor *solid = NULL;
        status = im_solid_tensor(r, t, &solid);
        if (status == 0)
            status = im_layer(r, node, &solid, 1, &made);
    } else {
        status = im_formula(r, &thin, 1, &made, "permute(%s, %s)", text, axes);
    }
    if (status)
        return status;
    y->source = made.source;
    y->v = made.v;
    y->data = made.data;
    y->stored = made.stored;
    y->swapped = false;
    return 0;
}

int im_swap_axes(struct im_run *r, const struct im_tensor *t, int i, int j,
                 struct im_tensor **out)
{
    int perm[PSG_MAX_RANK];
    for (int k = 0; k < t->rank; k++)
        perm[k] = k;
    if (t->rank > 0) {
        perm[i] = j;
        perm[j] = i;
    }
    return im_permute(r, t, perm, out);
}

/* ---- operators ---- */
static int op_view(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size to[PSG_MAX_RANK];
    int n, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_sizes(r, &a[1], to, &n);
    if (!status)
        status = im_reshape(r, t, to, n, &y);
    return status ? status : im_set(r, y, out);
}

/* sizes of t; the batch axis with its power */
static void sizes_of(const struct im_tensor *t, struct im_size *s)
{
    for (int i = 0; i < t->rank; i++)
        s[i] = (struct im_size){ t->dim[i], i == t->batch };
}

static int op_view_as(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *like = NULL, *y = NULL;
    struct im_size to[PSG_MAX_RANK];
    int status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_tensor(r, &a[1], &like);
    if (status)
        return status;
    sizes_of(like, to);
    status = im_reshape(r, t, to, like->rank, &y);
    return status ? status : im_set(r, y, out);
}

static int op_flatten(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size from[PSG_MAX_RANK], to[PSG_MAX_RANK];
    int first, last, n = 0, status = im_arg_tensor(r, &a[0], &t);
    if (!status && t->rank == 0)
        return im_set(r, t, out);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &first);
    if (!status)
        status = im_arg_axis(r, &a[2], -1, t->rank, &last);
    if (status)
        return status;
    if (first > last)
        return im_fail(r, PSG_E_RANGE, "start_dim is behind end_dim");
    sizes_of(t, from);
    for (int i = 0; i < t->rank; i++) {
        if (i > first && i <= last) {
            to[n - 1].n *= from[i].n;
            to[n - 1].power += from[i].power;
        } else {
            to[n++] = from[i];
        }
    }
    status = im_reshape(r, t, to, n, &y);
    return status ? status : im_set(r, y, out);
}

/* unflatten(x, dim, sizes) */
static int op_unflatten(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size from[PSG_MAX_RANK], to[2 * PSG_MAX_RANK], inner[PSG_MAX_RANK];
    int axis, n = 0, m, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = im_arg_sizes(r, &a[2], inner, &m);
    if (status)
        return status;
    sizes_of(t, from);
    for (int i = 0; i < t->rank; i++)
        if (i != axis)
            to[n++] = from[i];
        else
            for (int k = 0; k < m; k++)
                to[n++] = inner[k];
    status = im_reshape(r, t, to, n, &y);
    return status ? status : im_set(r, y, out);
}

static int op_squeeze(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int64_t dims[PSG_MAX_RANK];
    int n = 0, status = im_arg_tensor(r, &a[0], &t);
    if (!status && im_given(&a[1]))
        status = im_arg_ints(r, &a[1], 0, dims, &n);
    struct im_tensor *y = status ? NULL : im_tensor_copy(r, t);
    if (!y)
        return status ? status : im_no_memory(r);
    unsigned drop = im_given(&a[1]) ? 0 : ~0u;
    for (int i = 0; i < n; i++) {
        struct im_value v = im_int(dims[i]);
        int axis;
        if ((status = im_arg_axis(r, &v, 0, t->rank, &axis)))
            return status;
        drop |= 1u << axis;
    }
    for (int k = t->rank - 1; k >= 0; k--)
        if (drop >> k & 1 && t->dim[k] == 1 && k != t->batch)
            im_drop_axis(y, k);
    return im_set(r, y, out);
}

static int op_unsqueeze(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank + 1, &axis);
    if (status)
        return status;
    struct im_tensor *y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    if (t->rank + 1 >= PSG_MAX_RANK)
        return im_fail(r, PSG_E_UNSUPPORTED, "too many axes");
    if (y->swapped && (status = im_solid_tensor(r, t, &y)))
        return status;
    im_add_axis(y, axis);
    return im_set(r, y, out);
}

static int op_permute(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t dims[PSG_MAX_RANK];
    int n, perm[PSG_MAX_RANK], status = im_arg_tensor(r, &a[0], &t);
    unsigned seen = 0;
    if (!status)
        status = im_arg_ints(r, &a[1], 0, dims, &n);
    for (int i = 0; !status && i < n; i++) {
        struct im_value v = im_int(dims[i]);
        status = im_arg_axis(r, &v, 0, t->rank, &perm[i]);
        seen |= status ? 0 : 1u << perm[i];
    }
    if (status)
        return status;
    if (n != t->rank || seen != (1u << n) - 1)
        return im_fail(r, PSG_E_SHAPE, "must name every axis once");
    status = im_permute(r, t, perm, &y);
    return status ? status : im_set(r, y, out);
}

static int op_transpose(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int i, j, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &i);
    if (!status)
        status = im_arg_axis(r, &a[2], 0, t->rank, &j);
    if (!status)
        status = im_swap_axes(r, t, i, j, &y);
    return status ? status : im_set(r, y, out);
}

/* t(x), numpy_T(x): all axes the other way round */
static int op_t(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int perm[PSG_MAX_RANK], status = im_arg_tensor(r, &a[0], &t);
    for (int i = 0; !status && i < t->rank; i++)
        perm[i] = t->rank - 1 - i;
    if (!status)
        status = im_permute(r, t, perm, &y);
    return status ? status : im_set(r, y, out);
}

static int op_mt(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int status = im_arg_tensor(r, &a[0], &t);
    if (!status && t->rank < 2)
        return im_fail(r, PSG_E_SHAPE, "needs two axes");
    if (!status)
        status = im_swap_axes(r, t, t->rank - 2, t->rank - 1, &y);
    return status ? status : im_set(r, y, out);
}

static int op_movedim(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t from[PSG_MAX_RANK], to[PSG_MAX_RANK];
    int n, m, perm[PSG_MAX_RANK], status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_ints(r, &a[1], 0, from, &n);
    if (!status)
        status = im_arg_ints(r, &a[2], 0, to, &m);
    if (status)
        return status;
    if (n != m)
        return im_fail(r, PSG_E_INVALID, "source and destination have different lengths");
    unsigned used = 0;
    for (int i = 0; i < t->rank; i++)
        perm[i] = -1;
    for (int i = 0; i < n; i++) {
        struct im_value v = im_int(from[i]), w = im_int(to[i]);
        int s, d;
        if ((status = im_arg_axis(r, &v, 0, t->rank, &s)) ||
            (status = im_arg_axis(r, &w, 0, t->rank, &d)))
            return status;
        if (perm[d] >= 0 || used >> s & 1)
            return im_fail(r, PSG_E_INVALID, "an axis is named twice");
        perm[d] = s;
        used |= 1u << s;
    }
    for (int i = 0, next = 0; i < t->rank; i++) {
        if (perm[i] >= 0)
            continue;
        while (used >> next & 1)
            next++;
        perm[i] = next++;
    }
    status = im_permute(r, t, perm, &y);
    return status ? status : im_set(r, y, out);
}

/* One axis of expand: y->dim[k] becomes `want`. */
static int expand_axis(struct im_run *r, struct im_tensor *y, int k, struct im_size want)
{
    if (k == y->batch) {
        bool fits = want.n == -1 || (want.power == 1 && want.n == y->dim[k]) ||
                    (want.power == 0 && r->batch > 0 && want.n == y->dim[k] * r->batch);
        if (!fits && want.power == 0 && r->batch == 0 && want.n % y->dim[k] == 0) {
            r->batch = want.n / y->dim[k];
            fits = true;
        }
        return fits ? 0 : im_fail(r, PSG_E_SHAPE, "another size for the batch axis");
    }
    if (want.power == 0 && (want.n == -1 || want.n == y->dim[k]))
        return 0;
    if (y->dim[k] != 1)
        return im_fail(r, PSG_E_SHAPE, "an axis of %lld does not repeat",
                       (long long)y->dim[k]);
    if (want.n < 1 || want.n > IM_DIM_MAX || want.power > 1)
        return im_fail(r, PSG_E_SHAPE, "a size that a tensor cannot have");
    if (want.power == 1 && y->batch >= 0)
        return im_mixes(r, "the batch would be in two axes");
    y->dim[k] = want.n;
    y->same |= 1u << k;
    if (want.power == 1) {
        y->batch = k;
        y->inner = want.n;
        if (want.n == 1)
            y->same &= ~(1u << k);
    }
    return 0;
}

static int expand_to(struct im_run *r, const struct im_tensor *t, const struct im_size *to,
                     int n, struct im_tensor **out)
{
    struct im_tensor *y = im_tensor_copy(r, t);
    int status = 0;
    if (!y)
        return im_no_memory(r);
    if (n < t->rank || n >= PSG_MAX_RANK)
        return im_fail(r, PSG_E_SHAPE, "not so many axes");
    if (y->swapped && (status = im_solid_tensor(r, t, &y)))
        return status;
    while (y->rank < n)
        im_add_axis(y, 0);
    for (int k = 0; k < n && status == 0; k++)
        status = expand_axis(r, y, k, to[k]);
    *out = y;
    return status;
}

static int op_expand(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size to[PSG_MAX_RANK];
    int n, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_sizes(r, &a[1], to, &n);
    if (!status)
        status = expand_to(r, t, to, n, &y);
    return status ? status : im_set(r, y, out);
}

static int op_expand_as(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *like = NULL, *y = NULL;
    struct im_size to[PSG_MAX_RANK];
    int status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_tensor(r, &a[1], &like);
    if (status)
        return status;
    sizes_of(like, to);
    status = expand_to(r, t, to, like->rank, &y);
    return status ? status : im_set(r, y, out);
}

/* repeat(x, counts): an axis of length 1 is repeated without work, others are joined. */
static int op_repeat(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size times[PSG_MAX_RANK];
    int n, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_sizes(r, &a[1], times, &n);
    if (status)
        return status;
    y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    if (n < t->rank || n >= PSG_MAX_RANK)
        return im_fail(r, PSG_E_SHAPE, "needs a number for every axis");
    while (y->rank < n)
        im_add_axis(y, 0);
    for (int k = 0; k < n && status == 0; k++) {
        if (times[k].n == 1 && times[k].power == 0)
            continue;
        if (k == y->batch)
            return im_mixes(r, "the batch axis is repeated");
        if (y->dim[k] == 1) {
            status = expand_axis(r, y, k, times[k]);
            continue;
        }
        struct im_tensor *part[IM_IN_MAX];
        if (times[k].power || times[k].n < 1 || times[k].n > IM_IN_MAX)
            return im_fail(r, PSG_E_UNSUPPORTED, "repeats an axis that often");
        for (int i = 0; i < times[k].n; i++)
            part[i] = y;
        status = im_concat(r, part, (int)times[k].n, k, &y);
    }
    return status ? status : im_set(r, y, out);
}

const struct im_op im_ops_view[] = {
    { "view", "self size", op_view },
    { "reshape", "self shape", op_view },
    { "_unsafe_view", "self size", op_view },
    { "view_as", "self other", op_view_as },
    { "reshape_as", "self other", op_view_as },
    { "flatten", "self start_dim end_dim", op_flatten },
    { "unflatten", "self dim sizes", op_unflatten },
    { "squeeze", "self dim", op_squeeze },
    { "squeeze_", "self dim", op_squeeze },
    { "unsqueeze", "self dim", op_unsqueeze },
    { "unsqueeze_", "self dim", op_unsqueeze },
    { "permute", "self dims", op_permute },
    { "transpose", "self dim0 dim1", op_transpose },
    { "transpose_", "self dim0 dim1", op_transpose },
    { "swapaxes", "self axis0 axis1", op_transpose },
    { "swapdims", "self dim0 dim1", op_transpose },
    { "t", "self", op_t },
    { "numpy_T", "self", op_t },
    { "mT", "self", op_mt },
    { "adjoint", "self", op_mt },
    { "movedim", "self source destination", op_movedim },
    { "moveaxis", "self source destination", op_movedim },
    { "expand", "self size", op_expand },
    { "broadcast_to", "self size", op_expand },
    { "expand_as", "self other", op_expand_as },
    { "repeat", "self repeats", op_repeat },
    { "tile", "self dims", op_repeat },
    { NULL, NULL, NULL },
};
