/* Operators that take tensors apart and put them together. None of them does so along the batch. */
#include <string.h>

#include "import/run.h"

static int not_batch(struct im_run *r, const struct im_tensor *t, int axis)
{
    return axis == t->batch ? im_mixes(r, "picks along the batch axis") : 0;
}

/* Takes source, value and stored of `made` for y. */
static void adopt(struct im_tensor *y, const struct im_tensor *made)
{
    y->source = made->source;
    y->v = made->v;
    y->data = made->data;
    y->file = NULL;
    y->stored = made->stored;
    y->swapped = false;
}

int im_slice(struct im_run *r, const struct im_tensor *t, int axis, int64_t start,
             int64_t end, int64_t step, struct im_tensor **out)
{
    int status = not_batch(r, t, axis);
    if (status)
        return status;
    int64_t along = t->dim[axis];
    start = start < 0 ? start + along : start;
    end = end < 0 ? end + along : end;
    start = start < 0 ? 0 : start > along ? along : start;
    end = end < start ? start : end > along ? along : end;
    if (step < 1 || end == start)
        return im_fail(r, PSG_E_UNSUPPORTED, "an empty or reversed slice");
    struct im_tensor *y = im_tensor_copy(r, t), made;
    if (!y)
        return im_no_memory(r);
    *out = y;
    y->dim[axis] = (end - start - 1) / step + 1;
    if (y->dim[axis] == along || t->same >> axis & 1)
        return 0;
    struct im_tensor *thin = im_tensor_copy(r, t);
    if (!thin)
        return im_no_memory(r);
    struct psg_shape shape = im_thin_shape(t);
    bool plain = t->source == IM_VALUE && psg_shape_equal(&t->stored, &shape) && !t->same &&
                 psg_program_type(r->program, t->v)->dtype == PSG_REAL;
    if (plain) {
        struct im_node *n = im_node_new(r, "slice");
        if (!n)
            return im_no_memory(r);
        im_attr_int(n, "dim", im_axis(t, axis) + 1);
        im_attr_int(n, "start", start);
        im_attr_int(n, "end", end);
        im_attr_int(n, "step", step);
        status = im_layer(r, n, &thin, 1, &made);
    } else {
        const char *text = im_operand(r, thin, 'a', &shape);
        status = text ? im_formula(r, &thin, 1, &made, "slice(%s, %d, %lld, %lld, %lld)",
                                   text, im_axis(t, axis), (long long)start, (long long)end,
                                   (long long)step)
                      : im_no_memory(r);
    }
    if (status == 0)
        adopt(y, &made);
    return status;
}

/* A bound of a slice: UNSET and None are the end that they stand at; a size of the batch axis may
 * stand at its end. */
static int bound(struct im_run *r, const struct im_tensor *t, int axis,
                 const struct im_value *v, int64_t dflt, int64_t *out)
{
    if (v->kind == IM_INT && v->power == 1 && axis == t->batch && v->i == t->dim[axis]) {
        *out = INT64_MAX;
        return 0;
    }
    return im_arg_int(r, v, dflt, out);
}

static int op_slice(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t start, end, step;
    if (a[0].kind == IM_LIST)
        return im_list_slice(r, a, out);
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = bound(r, t, axis, &a[2], 0, &start);
    if (!status)
        status = bound(r, t, axis, &a[3], INT64_MAX, &end);
    if (!status)
        status = im_arg_int(r, &a[4], 1, &step);
    if (status)
        return status;
    if (axis == t->batch && start == 0 && end >= INT32_MAX && step == 1)
        return im_set(r, t, out);
    status = im_slice(r, t, axis, start, end, step, &y);
    return status ? status : im_set(r, y, out);
}

static int op_narrow(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t start, n;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = im_arg_int(r, &a[2], 0, &start);
    if (!status)
        status = im_arg_int(r, &a[3], 0, &n);
    if (!status && (n < 1 || n > IM_DIM_MAX || start > IM_DIM_MAX || start < -IM_DIM_MAX))
        return im_fail(r, PSG_E_RANGE, "a length that the axis does not have");
    if (!status)
        start = start < 0 ? start + t->dim[axis] : start;
    if (!status)
        status = im_slice(r, t, axis, start, start + n, 1, &y);
    return status ? status : im_set(r, y, out);
}

static int select_at(struct im_run *r, const struct im_tensor *t, int axis, int64_t i,
                     struct im_tensor **out)
{
    int status = not_batch(r, t, axis);
    if (status)
        return status;
    i = i < 0 ? i + t->dim[axis] : i;
    if (i < 0 || i >= t->dim[axis])
        return im_fail(r, PSG_E_RANGE, "index %lld of an axis of %lld", (long long)i,
                       (long long)t->dim[axis]);
    status = im_slice(r, t, axis, i, i + 1, 1, out);
    if (status)
        return status;
    if ((*out)->swapped && (status = im_solid_tensor(r, *out, out)))
        return status;
    struct im_tensor *y = im_tensor_copy(r, *out);
    if (!y)
        return im_no_memory(r);
    im_drop_axis(y, axis);
    *out = y;
    return 0;
}

static int op_select(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t i;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = im_arg_int(r, &a[2], 0, &i);
    if (!status)
        status = select_at(r, t, axis, i, &y);
    return status ? status : im_set(r, y, out);
}

/* ---- to lists ---- */
static int list_of(struct im_run *r, struct im_value *out)
{
    *out = im_list_new(r->pool, IM_LIST);
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

static int add(struct im_run *r, struct im_value *list, struct im_tensor *t)
{
    return im_list_push(r->pool, list->list, im_tensor_value(t)) ? im_no_memory(r) : 0;
}

/* Pieces of the lengths in n[]. */
static int pieces(struct im_run *r, struct im_tensor *t, int axis, const int64_t *n,
                  int count, struct im_value *out)
{
    int64_t at = 0;
    int status = list_of(r, out);
    for (int i = 0; i < count && status == 0; i++) {
        struct im_tensor *y = NULL;
        if (n[i] < 1 || n[i] > t->dim[axis] - at)
            return im_fail(r, PSG_E_SHAPE, "pieces longer than the axis");
        status = im_slice(r, t, axis, at, at + n[i], 1, &y);
        if (status == 0)
            status = add(r, out, y);
        at += n[i];
    }
    return status;
}

static int even_pieces(struct im_run *r, struct im_tensor *t, int axis, int64_t length,
                       struct im_value *out)
{
    int64_t n[CODE_ARGS_MAX], along = t->dim[axis];
    int count = 0;
    if (length < 1 || (along + length - 1) / length > CODE_ARGS_MAX)
        return im_fail(r, PSG_E_RANGE, "too many pieces");
    for (int64_t at = 0; at < along; at += length)
        n[count++] = along - at < length ? along - at : length;
    return pieces(r, t, axis, n, count, out);
}

static int op_chunk(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int64_t chunks;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_int(r, &a[1], 0, &chunks);
    if (!status)
        status = im_arg_axis(r, &a[2], 0, t->rank, &axis);
    if (!status)
        status = not_batch(r, t, axis);
    if (!status && chunks < 1)
        return im_fail(r, PSG_E_RANGE, "at least one chunk");
    return status ? status : even_pieces(r, t, axis, (t->dim[axis] - 1) / chunks + 1, out);
}

static int op_split(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int64_t n[PSG_MAX_RANK * 4];
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[2], 0, t->rank, &axis);
    if (!status)
        status = not_batch(r, t, axis);
    if (status)
        return status;
    if (a[1].kind == IM_LIST) {
        if (a[1].list->n > sizeof n / sizeof *n)
            return im_fail(r, PSG_E_UNSUPPORTED, "too many pieces");
        for (size_t i = 0; i < a[1].list->n; i++)
            if ((status = im_arg_int(r, &a[1].list->item[i], 0, &n[i])))
                return status;
        return pieces(r, t, axis, n, (int)a[1].list->n, out);
    }
    status = im_arg_int(r, &a[1], 0, &n[0]);
    return status ? status : even_pieces(r, t, axis, n[0], out);
}

/* The pieces of unsafe_ operators are taken as tensors of their own. */
static int own_pieces(struct im_run *r, const struct im_value *a, im_op_fn fn,
                      struct im_value *out)
{
    int status = fn(r, a, out);
    for (size_t i = 0; status == 0 && i < out->list->n; i++) {
        struct im_value *v = &out->list->item[i];
        struct im_tensor *y = im_tensor_copy(r, v->tensor);
        if (!y)
            return im_no_memory(r);
        y->changes = NULL;
        *v = im_tensor_value(y);
    }
    return status;
}

static int op_unsafe_chunk(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return own_pieces(r, a, op_chunk, out);
}

static int op_unsafe_split(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return own_pieces(r, a, op_split, out);
}

static int op_unbind(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = not_batch(r, t, axis);
    if (!status)
        status = list_of(r, out);
    if (!status && t->dim[axis] > CODE_ARGS_MAX)
        return im_fail(r, PSG_E_RANGE, "too many pieces");
    for (int64_t i = 0; status == 0 && i < t->dim[axis]; i++) {
        struct im_tensor *y = NULL;
        status = select_at(r, t, axis, i, &y);
        if (status == 0)
            status = add(r, out, y);
    }
    return status;
}

/* ---- joining ---- */
/* Gives t the batch axis `batch` of the others: its entries there must all be the same. */
static int join_batch(struct im_run *r, struct im_tensor **tp, int batch,
                      const struct im_tensor *like)
{
    const struct im_tensor *t = *tp;
    if (t->batch == batch && t->dim[batch] == like->dim[batch] && t->inner == like->inner)
        return 0;
    int64_t n = t->dim[batch], own = like->dim[batch];
    bool same = t->batch < 0 && own == 1 && t->same >> batch & 1 &&
                (r->batch == 0 || r->batch == n);
    if (!same)
        return im_mixes(r, t->batch >= 0
                               ? "joins tensors whose batch axes differ"
                               : "joins a tensor without batch to one with a batch");
    r->batch = n;
    struct im_tensor *y = im_tensor_copy(r, t);
    if (!y)
        return im_no_memory(r);
    y->dim[batch] = 1;
    y->same &= ~(1u << batch);
    y->batch = batch;
    y->inner = 1;
    *tp = y;
    return 0;
}

int im_concat(struct im_run *r, struct im_tensor *const *in, int n, int axis,
              struct im_tensor **out)
{
    struct im_tensor *t[IM_IN_MAX], made;
    const struct im_tensor *like = in[0];
    int status = 0;
    int64_t along = 0;
    if (n < 1 || n > IM_IN_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "joins more than %d tensors", IM_IN_MAX);
    for (int i = 0; i < n; i++)
        if (in[i]->batch >= 0 && like->batch < 0)
            like = in[i];
    for (int i = 0; i < n && status == 0; i++) {
        t[i] = in[i];
        if (t[i]->rank != like->rank)
            return im_fail(r, PSG_E_SHAPE, "tensors of different ranks");
        if (like->batch >= 0)
            status = join_batch(r, &t[i], like->batch, like);
        along += t[i]->dim[axis];
    }
    if (status == 0)
        status = not_batch(r, like, axis);
    struct im_tensor *y = status ? NULL : im_tensor_copy(r, like);
    if (!y)
        return status ? status : im_no_memory(r);
    *out = y;
    if (n == 1)
        return 0;
    struct im_node *node = im_node_new(r, "concat");
    if (!node)
        return im_no_memory(r);
    im_attr_int(node, "dim", im_axis(like, axis) + 1);
    status = im_layer(r, node, t, n, &made);
    y->dim[axis] = along;
    y->same = 0;
    y->changes = NULL;
    y->type = IM_FLOAT;
    for (int i = 0; i < n; i++)
        y->type = i == 0 || t[i]->type > y->type ? t[i]->type : y->type;
    if (status == 0)
        adopt(y, &made);
    return status;
}

static int op_cat(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t[IM_IN_MAX], *y = NULL;
    int n, axis, status = im_arg_tensors(r, &a[0], t, IM_IN_MAX, &n);
    if (!status && n == 0)
        return im_fail(r, PSG_E_SHAPE, "joins nothing");
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t[0]->rank, &axis);
    if (!status)
        status = im_concat(r, t, n, axis, &y);
    return status ? status : im_set(r, y, out);
}

static int op_stack(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t[IM_IN_MAX], *y = NULL;
    int n, axis, status = im_arg_tensors(r, &a[0], t, IM_IN_MAX, &n);
    if (!status && (n == 0 || t[0]->rank + 1 >= PSG_MAX_RANK))
        return im_fail(r, PSG_E_SHAPE, "joins nothing, or too many axes");
    int rank = status ? 0 : t[0]->rank;
    if (!status)
        status = im_arg_axis(r, &a[1], 0, rank + 1, &axis);
    for (int i = 0; i < n && status == 0; i++) {
        if (t[i]->rank != rank)
            return im_fail(r, PSG_E_SHAPE, "tensors of different ranks");
        struct im_tensor *wide = im_tensor_copy(r, t[i]);
        if (!wide)
            return im_no_memory(r);
        if (wide->swapped && (status = im_solid_tensor(r, t[i], &wide)))
            return status;
        im_add_axis(wide, axis);
        t[i] = wide;
    }
    if (!status)
        status = im_concat(r, t, n, axis, &y);
    return status ? status : im_set(r, y, out);
}

static int op_flip(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL, made;
    int64_t dims[PSG_MAX_RANK];
    struct psg_shape axes = { 0 };
    int n, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_ints(r, &a[1], 0, dims, &n);
    for (int i = 0; i < n && !status; i++) {
        struct im_value v = im_int(dims[i]);
        int axis;
        if ((status = im_arg_axis(r, &v, 0, t->rank, &axis)) ||
            (status = not_batch(r, t, axis)))
            return status;
        axes.dim[axes.rank++] = im_axis(t, axis);
    }
    if (status || (status = im_solid_tensor(r, t, &y)))
        return status;
    status = im_formula(r, &y, 1, &made, "flip(a, %s)", im_shape_list(r, &axes));
    if (status)
        return status;
    adopt(y, &made);
    return im_set(r, y, out);
}

static int op_roll(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *y = NULL;
    int64_t shift[PSG_MAX_RANK], dims[PSG_MAX_RANK];
    int n, m, status = im_arg_tensor(r, &a[0], &y);
    if (!status)
        status = im_arg_ints(r, &a[1], 0, shift, &n);
    if (!status)
        status = im_arg_ints(r, &a[2], 0, dims, &m);
    if (!status && (n != m || n == 0))
        return im_fail(r, PSG_E_UNSUPPORTED, "needs an axis for every shift");
    for (int i = 0; i < n && !status; i++) {
        struct im_value v = im_int(dims[i]);
        struct im_tensor *part[2] = { NULL, NULL };
        int axis;
        if ((status = im_arg_axis(r, &v, 0, y->rank, &axis)) ||
            (status = not_batch(r, y, axis)))
            return status;
        int64_t along = y->dim[axis], by = ((shift[i] % along) + along) % along;
        if (by == 0)
            continue;
        status = im_slice(r, y, axis, along - by, along, 1, &part[0]);
        if (!status)
            status = im_slice(r, y, axis, 0, along - by, 1, &part[1]);
        if (!status)
            status = im_concat(r, part, 2, axis, &y);
    }
    return status ? status : im_set(r, y, out);
}

/* ---- padding: pairs (before, after), last axis first ---- */
static int pad_zeros(struct im_run *r, struct im_tensor **tp, int axis, int64_t lo,
                     int64_t hi, double value)
{
    struct im_tensor *y = NULL, made;
    int status = im_solid_tensor(r, *tp, &y);
    if (status)
        return status;
    status = im_formula(r, &y, 1, &made, "pad(a, %d, %lld, %lld, (%.17g))",
                        im_axis(y, axis), (long long)lo, (long long)hi, value);
    if (status)
        return status;
    y->dim[axis] += lo + hi;
    adopt(y, &made);
    *tp = y;
    return 0;
}

/* Cells of the axis itself: mirrored, its last one, or from the other end. */
static int pad_own(struct im_run *r, struct im_tensor **tp, int axis, int64_t lo,
                   int64_t hi, char how)
{
    struct im_tensor *t = *tp, *part[IM_IN_MAX];
    int64_t along = t->dim[axis];
    int n = 0, status = 0;
    if (lo < 0 || hi < 0 || lo + hi + 1 > IM_IN_MAX ||
        (how != 'r' && (lo >= along + (how == 'c') || hi >= along + (how == 'c'))))
        return im_fail(r, PSG_E_UNSUPPORTED, "padding of %lld and %lld", (long long)lo,
                       (long long)hi);
    for (int64_t i = -lo; i < along + hi && status == 0; i++) {
        if (i == 0) {
            part[n++] = t;
            i = along - 1;
            continue;
        }
        int64_t at = how == 'c'   ? (i + along) % along
                     : how == 'r' ? (i < 0 ? 0 : along - 1)
                                  : (i < 0 ? -i : 2 * along - 2 - i);
        status = im_slice(r, t, axis, at, at + 1, 1, &part[n++]);
    }
    return status ? status : im_concat(r, part, n, axis, tp);
}

static int pad_axes(struct im_run *r, const struct im_value *x, const struct im_value *pads,
                    const char *mode, double value, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int64_t pad[2 * PSG_MAX_RANK];
    int n = 0, status = im_arg_tensor(r, x, &t);
    if (!status &&
        (pads->kind != IM_LIST || pads->list->n > 2 * (size_t)t->rank || pads->list->n % 2))
        return im_fail(r, PSG_E_INVALID, "padding comes in pairs");
    for (; !status && n < (int)pads->list->n; n++)
        status = im_arg_int(r, &pads->list->item[n], 0, &pad[n]);
    for (int i = 0; i + 1 < n && !status; i += 2) {
        int axis = t->rank - 1 - i / 2;
        int64_t lo = pad[i], hi = pad[i + 1];
        if (lo == 0 && hi == 0)
            continue;
        if ((status = not_batch(r, t, axis)))
            return status;
        if (lo < 0 || hi < 0) {
            status = im_slice(r, t, axis, lo < 0 ? -lo : 0,
                              t->dim[axis] + (hi < 0 ? hi : 0), 1, &t);
            lo = lo < 0 ? 0 : lo;
            hi = hi < 0 ? 0 : hi;
        }
        if (status || (lo == 0 && hi == 0))
            continue;
        if (lo > IM_DIM_MAX || hi > IM_DIM_MAX)
            return im_fail(r, PSG_E_RANGE, "padding is too large");
        status = mode[0] == 'c' && mode[1] == 'o' ? pad_zeros(r, &t, axis, lo, hi, value)
                 : strcmp(mode, "reflect") == 0   ? pad_own(r, &t, axis, lo, hi, 'm')
                 : strcmp(mode, "replicate") == 0 ? pad_own(r, &t, axis, lo, hi, 'r')
                                                  : pad_own(r, &t, axis, lo, hi, 'c');
    }
    return status ? status : im_set(r, t, out);
}

static int op_pad(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double value;
    const char *mode = a[2].kind == IM_TEXT ? a[2].text->s : "constant";
    int status = im_arg_real(r, &a[3], 0, &value);
    return status ? status : pad_axes(r, &a[0], &a[1], mode, value, out);
}

static int op_constant_pad(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double value;
    int status = im_arg_real(r, &a[2], 0, &value);
    return status ? status : pad_axes(r, &a[0], &a[1], "constant", value, out);
}

static int op_reflection_pad(struct im_run *r, const struct im_value *a,
                             struct im_value *out)
{
    return pad_axes(r, &a[0], &a[1], "reflect", 0, out);
}

static int op_replication_pad(struct im_run *r, const struct im_value *a,
                              struct im_value *out)
{
    return pad_axes(r, &a[0], &a[1], "replicate", 0, out);
}

/* ---- indices that are known ---- */
/* Rows `index` of an axis, in runs of neighbours. */
static int pick(struct im_run *r, struct im_tensor *t, int axis,
                const struct im_tensor *index, struct im_tensor **out)
{
    struct im_tensor *part[IM_IN_MAX];
    int64_t n = psg_shape_size(&index->stored);
    int parts = 0, status = not_batch(r, t, axis);
    if (status)
        return status;
    if (index->source != IM_DATA || index->same || index->batch >= 0)
        return im_fail(r, PSG_E_UNSUPPORTED, "indices that depend on the data");
    for (int64_t i = 0; i < n && status == 0;) {
        int64_t at = (int64_t)index->data[i], k = 1;
        at = at < 0 ? at + t->dim[axis] : at;
        while (i + k < n && (int64_t)index->data[i + k] == at + k)
            k++;
        if (at < 0 || at + k > t->dim[axis])
            return im_fail(r, PSG_E_RANGE, "an index past the axis");
        if (parts == IM_IN_MAX)
            return im_fail(r, PSG_E_UNSUPPORTED, "picks from more than %d places",
                           IM_IN_MAX);
        status = im_slice(r, t, axis, at, at + k, 1, &part[parts++]);
        i += k;
    }
    return status ? status : im_concat(r, part, parts, axis, out);
}

static int op_index_select(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *index = NULL, *y = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_axis(r, &a[1], 0, t->rank, &axis);
    if (!status)
        status = im_arg_tensor(r, &a[2], &index);
    if (!status)
        status = pick(r, t, axis, index, &y);
    return status ? status : im_set(r, y, out);
}

/* x[i], x[:, i] with one tensor of indices */
static int op_index(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL, *index = NULL, *y = NULL;
    int axis = -1, status = im_arg_tensor(r, &a[0], &t);
    if (!status && (a[1].kind != IM_LIST || (int)a[1].list->n > t->rank))
        return im_fail(r, PSG_E_INVALID, "indices are a list");
    for (size_t i = 0; !status && i < a[1].list->n; i++) {
        if (!im_given(&a[1].list->item[i]))
            continue;
        if (axis >= 0)
            return im_fail(r, PSG_E_UNSUPPORTED, "indices for two axes at once");
        axis = (int)i;
        status = im_arg_tensor(r, &a[1].list->item[i], &index);
    }
    if (status || axis < 0)
        return status ? status : im_set(r, t, out);
    if (index->type == IM_BOOLEAN)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "a mask as an index: its result has no fixed shape");
    if (axis == 0 && im_is_param(t) && t->rank == 2 && index->source == IM_VALUE)
        status = im_embedding(r, t, index, -1, &y);
    else if (index->rank == 0)
        status = index->source == IM_DATA
                     ? select_at(r, t, axis, (int64_t)index->data[0], &y)
                     : im_fail(r, PSG_E_UNSUPPORTED, "an index that depends on the data");
    else if (index->rank == 1)
        status = pick(r, t, axis, index, &y);
    else
        status = im_fail(r, PSG_E_UNSUPPORTED, "indices of more than one axis");
    return status ? status : im_set(r, y, out);
}

/* ---- pixels ---- */
static int op_pixel_shuffle(struct im_run *r, const struct im_value *a,
                            struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    int64_t f;
    int status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_int(r, &a[1], 1, &f);
    if (status)
        return status;
    if (t->rank != 4 || t->batch != 0 || f < 1 || f > 1024 || t->dim[1] % (f * f))
        return im_fail(r, PSG_E_SHAPE, "channels do not divide");
    struct im_size b = { t->dim[0], 1 };
    struct im_size six[] = { b,        { t->dim[1] / (f * f), 0 }, { f, 0 },
                             { f, 0 }, { t->dim[2], 0 },           { t->dim[3], 0 } };
    struct im_size four[] = {
        b, { t->dim[1] / (f * f), 0 }, { t->dim[2] * f, 0 }, { t->dim[3] * f, 0 }
    };
    const int perm[] = { 0, 1, 4, 2, 5, 3 };
    status = im_reshape(r, t, six, 6, &y);
    if (!status)
        status = im_permute(r, y, perm, &y);
    if (!status)
        status = im_reshape(r, y, four, 4, &y);
    return status ? status : im_set(r, y, out);
}

const struct im_op im_ops_join[] = {
    { "slice", "self dim start end step", op_slice },
    { "narrow", "self dim start length", op_narrow },
    { "select", "self dim index", op_select },
    { "chunk", "self chunks dim", op_chunk },
    { "unsafe_chunk", "self chunks dim", op_unsafe_chunk },
    { "split", "self split_size dim", op_split },
    { "unsafe_split", "self split_size dim", op_unsafe_split },
    { "split_with_sizes", "self split_sizes dim", op_split },
    { "unbind", "self dim", op_unbind },
    { "cat", "tensors dim", op_cat },
    { "concat", "tensors dim", op_cat },
    { "concatenate", "tensors dim", op_cat },
    { "stack", "tensors dim", op_stack },
    { "flip", "self dims", op_flip },
    { "roll", "self shifts dims", op_roll },
    { "pad", "input pad mode value", op_pad },
    { "constant_pad_nd", "self pad value", op_constant_pad },
    { "reflection_pad1d", "self padding", op_reflection_pad },
    { "reflection_pad2d", "self padding", op_reflection_pad },
    { "reflection_pad3d", "self padding", op_reflection_pad },
    { "replication_pad1d", "self padding", op_replication_pad },
    { "replication_pad2d", "self padding", op_replication_pad },
    { "replication_pad3d", "self padding", op_replication_pad },
    { "index_select", "self dim index", op_index_select },
    { "index", "self indices", op_index },
    { "pixel_shuffle", "self upscale_factor", op_pixel_shuffle },
    { NULL, NULL, NULL },
};
