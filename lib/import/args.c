/* Arguments of operators: numbers, lists and tensors out of plain values. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "import/run.h"

int im_fail(struct im_run *r, enum psg_status status, const char *fmt, ...)
{
    char place[160], text[260];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *path = im_path(r), *at = im_place(r);
    snprintf(place, sizeof place, "%.70s%s%.80s%s", path ? path : "",
             path && *path ? " (" : "", at ? at : "", path && *path ? ")" : "");
    if (r->op_name)
        return psg_fail(r->err, status, place, "%.60s: %s", r->op_name, text);
    return psg_fail(r->err, status, place, "%s", text);
}

bool im_is_number(const struct im_value *v)
{
    return v->kind == IM_INT || v->kind == IM_REAL || v->kind == IM_BOOL;
}

static int wrong(struct im_run *r, const struct im_value *v, const char *wanted)
{
    return im_fail(r, PSG_E_INVALID, "got %s where %s is needed", im_kind_name(v->kind),
                   wanted);
}

/* A tensor of one known number. */
static bool known_number(struct im_run *r, const struct im_value *v, double *d)
{
    struct im_tensor *t = NULL;
    if (v->kind == IM_TENSOR)
        t = v->tensor;
    else if (v->kind == IM_STORED && psg_shape_size(&v->stored->shape) == 1 &&
             im_tensor_file(r, v->stored, &t))
        return false;
    if (!t || t->source != IM_DATA || psg_shape_size(&t->stored) != 1 ||
        im_size_of(t) != 1 || t->batch >= 0)
        return false;
    *d = t->data[0];
    return true;
}

int im_arg_int(struct im_run *r, const struct im_value *v, int64_t dflt, int64_t *out)
{
    double d;
    *out = dflt;
    if (!im_given(v))
        return 0;
    if (v->kind == IM_INT && v->power != 0)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "a number that depends on the size of the batch");
    if (v->kind == IM_INT)
        *out = v->i;
    else if (v->kind == IM_BOOL)
        *out = v->b;
    else if (known_number(r, v, &d) && d >= -9e15 && d <= 9e15)
        *out = (int64_t)d;
    else
        return wrong(r, v, "an int");
    return 0;
}

int im_arg_real(struct im_run *r, const struct im_value *v, double dflt, double *out)
{
    *out = dflt;
    if (!im_given(v))
        return 0;
    if (v->kind == IM_INT && v->power != 0)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "a number that depends on the size of the batch");
    if (v->kind == IM_INT)
        *out = (double)v->i;
    else if (v->kind == IM_REAL)
        *out = v->d;
    else if (v->kind == IM_BOOL)
        *out = v->b;
    else if (!known_number(r, v, out))
        return wrong(r, v, "a number");
    return 0;
}

int im_arg_bool(struct im_run *r, const struct im_value *v, bool dflt, bool *out)
{
    *out = dflt;
    return im_given(v) ? im_truth(r, v, out) : 0;
}

int im_arg_sizes(struct im_run *r, const struct im_value *v, struct im_size *out,
                 int *countp)
{
    *countp = 0;
    const struct im_value *item = v;
    size_t n = 1;
    if (v->kind == IM_LIST || v->kind == IM_TUPLE) {
        item = v->list->item;
        n = v->list->n;
    }
    if (n > PSG_MAX_RANK)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d sizes", PSG_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct im_size){ 0 };
        if (item[i].kind == IM_INT) {
            out[i] = (struct im_size){ item[i].i, item[i].power };
            continue;
        }
        if (!im_given(&item[i]))
            return wrong(r, &item[i], "a size");
        int status = im_arg_int(r, &item[i], 0, &out[i].n);
        if (status)
            return status;
    }
    *countp = (int)n;
    return 0;
}

int im_arg_ints(struct im_run *r, const struct im_value *v, int n, int64_t *out,
                int *countp)
{
    struct im_size size[PSG_MAX_RANK];
    int count = 0, status = im_given(v) ? im_arg_sizes(r, v, size, &count) : 0;
    for (int i = 0; i < count && !status; i++) {
        if (size[i].power)
            return im_fail(r, PSG_E_UNSUPPORTED,
                           "a number that depends on the size of the batch");
        out[i] = size[i].n;
    }
    if (status)
        return status;
    if (countp)
        *countp = count;
    if (n > 0 && count == 1)
        for (int i = 1; i < n; i++)
            out[i] = out[0];
    else if (n > 0 && count != n)
        return im_fail(r, PSG_E_INVALID, "%d numbers where %d are needed", count, n);
    return 0;
}

int im_arg_tensor(struct im_run *r, const struct im_value *v, struct im_tensor **out)
{
    *out = NULL;
    if (v->kind == IM_STORED)
        return im_tensor_file(r, v->stored, out);
    if (v->kind == IM_TENSOR) {
        const struct im_tensor *t = *out = v->tensor;
        if (t->changes && t->change != *t->changes)
            return im_fail(r, PSG_E_UNSUPPORTED,
                           "a tensor that was changed in place through another view of it");
        if (t->source == IM_OFFSETS && !(r->op_name && strstr(r->op_name, "embedding_bag")))
            return im_mixes(r, "numbers the samples by their place in the batch");
        return 0;
    }
    double d;
    if (!im_is_number(v))
        return wrong(r, v, "a tensor");
    int status = im_arg_real(r, v, 0, &d);
    if (status)
        return status;
    *out = im_tensor_number(r,
                            v->kind == IM_REAL  ? IM_FLOAT
                            : v->kind == IM_INT ? IM_LONG
                                                : IM_BOOLEAN,
                            d);
    return *out ? 0 : im_no_memory(r);
}

int im_arg_tensors(struct im_run *r, const struct im_value *v, struct im_tensor **out,
                   int max, int *countp)
{
    *countp = 0;
    if (v->kind != IM_LIST && v->kind != IM_TUPLE)
        return wrong(r, v, "a list of tensors");
    if (v->list->n > (size_t)max)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d tensors", max);
    int status = 0;
    for (size_t i = 0; i < v->list->n && !status; i++)
        status = im_arg_tensor(r, &v->list->item[i], &out[i]);
    *countp = status ? 0 : (int)v->list->n;
    return status;
}

int im_arg_axis(struct im_run *r, const struct im_value *v, int64_t dflt, int rank,
                int *out)
{
    int64_t axis;
    int status = im_arg_int(r, v, dflt, &axis);
    *out = 0;
    if (status)
        return status;
    if (axis < -rank || axis >= rank)
        return im_fail(r, PSG_E_RANGE, "axis %lld of a tensor with %d", (long long)axis,
                       rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return 0;
}

int im_truth(struct im_run *r, const struct im_value *v, bool *out)
{
    double d;
    *out = false;
    switch (v->kind) {
    case IM_NONE: return 0;
    case IM_BOOL: *out = v->b; return 0;
    case IM_INT: /* a multiple of the number of samples is not zero */
        *out = v->i != 0;
        return 0;
    case IM_REAL: *out = v->d != 0; return 0;
    case IM_TEXT: *out = v->text->n != 0; return 0;
    case IM_LIST:
    case IM_TUPLE:
    case IM_DICT: *out = v->list->n != 0; return 0;
    default:
        if (!known_number(r, v, &d))
            return im_fail(r, PSG_E_UNSUPPORTED, "a choice that depends on the data");
        *out = d != 0;
        return 0;
    }
}

bool im_same(const struct im_value *a, const struct im_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case IM_NONE: return true;
    case IM_TENSOR: return a->tensor == b->tensor;
    case IM_STORED: return a->stored == b->stored;
    case IM_OBJECT: return a->object == b->object;
    case IM_LIST:
    case IM_TUPLE:
    case IM_DICT: return a->list == b->list;
    case IM_BOOL: return a->b == b->b;
    case IM_INT: return a->i == b->i && a->power == b->power;
    default: return false;
    }
}
