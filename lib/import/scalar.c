/* Operators on plain values: Python's arithmetic, sizes with the unknown batch, lists, and tensors
 * made from numbers. */
#include <math.h>
#include <string.h>

#include "import/run.h"

/* ---- numbers ---- */
static int unknown(struct im_run *r)
{
    return im_fail(r, PSG_E_UNSUPPORTED, "a number that depends on the size of the batch");
}

/* x B^p against y B^q with B >= 1; -1, 0, 1, or 2 when it depends on B */
static int compare(const struct im_value *x, const struct im_value *y)
{
    if (x->power == y->power)
        return (x->i > y->i) - (x->i < y->i);
    if (x->power > y->power && x->i > 0 && y->power == 0)
        return y->i < x->i ? 1 : 2;
    if (y->power > x->power && y->i > 0 && x->power == 0)
        return x->i < y->i ? -1 : 2;
    return 2;
}

static int int_binary(struct im_run *r, enum psg_binary f, const struct im_value *x,
                      const struct im_value *y, struct im_value *out)
{
    struct im_value v = im_int(0);
    bool bad = false;
    int c;
    v.power = x->power;
    switch (f) {
    case PSG_ADD:
    case PSG_SUB:
        if (x->i == 0 || y->i == 0)
            v.power = x->i == 0 ? y->power : x->power;
        else if (x->power != y->power)
            return unknown(r);
        bad = f == PSG_ADD ? __builtin_add_overflow(x->i, y->i, &v.i)
                           : __builtin_sub_overflow(x->i, y->i, &v.i);
        break;
    case PSG_MUL:
        bad = __builtin_mul_overflow(x->i, y->i, &v.i);
        if (x->power + y->power > 3)
            return unknown(r);
        v.power = (int8_t)(x->power + y->power);
        break;
    case PSG_MAX:
    case PSG_MIN:
        if ((c = compare(x, y)) == 2)
            return unknown(r);
        v = (c > 0) == (f == PSG_MAX) ? *x : *y;
        break;
    default:
        if ((c = compare(x, y)) == 2)
            return im_fail(r, PSG_E_UNSUPPORTED,
                           "a choice that depends on the size of the batch");
        *out = im_bool(f == PSG_EQ   ? c == 0
                       : f == PSG_NE ? c != 0
                       : f == PSG_LT ? c < 0
                       : f == PSG_LE ? c <= 0
                       : f == PSG_GT ? c > 0
                                     : c >= 0);
        return 0;
    }
    if (bad)
        return im_fail(r, PSG_E_RANGE, "a number of more than 64 bits");
    if (v.i == 0)
        v.power = 0;
    *out = v;
    return 0;
}

static double real_binary(enum psg_binary f, double x, double y)
{
    switch (f) {
    case PSG_ADD: return x + y;
    case PSG_SUB: return x - y;
    case PSG_MUL: return x * y;
    case PSG_DIV: return x / y;
    case PSG_POW: return pow(x, y);
    case PSG_MAX: return x > y ? x : y;
    case PSG_MIN: return x < y ? x : y;
    case PSG_EQ: return x == y;
    case PSG_NE: return x != y;
    case PSG_LT: return x < y;
    case PSG_LE: return x <= y;
    case PSG_GT: return x > y;
    case PSG_GE: return x >= y;
    case PSG_BINARY_COUNT: break;
    }
    return 0;
}

static bool values_equal(const struct im_value *a, const struct im_value *b);

/* Texts and lists: ==, != and + */
static int other_binary(struct im_run *r, enum psg_binary f, const struct im_value *a,
                        const struct im_value *b, struct im_value *out)
{
    if (f == PSG_EQ || f == PSG_NE) {
        *out = im_bool(values_equal(a, b) == (f == PSG_EQ));
        return 0;
    }
    if (f == PSG_ADD && a->kind == b->kind && a->kind == IM_TEXT) {
        const char *s = im_pool_printf(r->pool, "%s%s", a->text->s, b->text->s);
        *out = s ? im_text_new(r->pool, IM_TEXT, s, strlen(s)) : im_none();
        return out->kind == IM_NONE ? im_no_memory(r) : 0;
    }
    const struct im_value *list = a->kind == IM_LIST ? a : b,
                          *times = a->kind == IM_LIST ? b : a;
    bool join = f == PSG_ADD && a->kind == b->kind;
    bool repeat = f == PSG_MUL && times->kind == IM_INT && times->power == 0 &&
                  times->i >= 0 && times->i < 10000;
    if (list->kind != IM_LIST || !(join || repeat))
        return im_fail(r, PSG_E_UNSUPPORTED, "%s and %s", im_kind_name(a->kind),
                       im_kind_name(b->kind));
    *out = im_list_new(r->pool, IM_LIST);
    for (int64_t k = 0; out->kind != IM_NONE && k < (join ? 2 : times->i); k++) {
        const struct im_list *from = join && k == 1 ? b->list : join ? a->list : list->list;
        for (size_t i = 0; i < from->n; i++)
            if (im_list_push(r->pool, out->list, from->item[i]))
                return im_no_memory(r);
    }
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

static struct im_value as_int(const struct im_value *v)
{
    return v->kind == IM_BOOL ? im_int(v->b) : *v;
}

int im_scalar_binary(struct im_run *r, enum psg_binary f, const struct im_value *a,
                     const struct im_value *b, struct im_value *out)
{
    if (!im_is_number(a) || !im_is_number(b))
        return other_binary(r, f, a, b, out);
    struct im_value x = as_int(a), y = as_int(b);
    bool whole = x.kind == IM_INT && y.kind == IM_INT;
    if (whole && f != PSG_DIV && f != PSG_POW)
        return int_binary(r, f, &x, &y, out);
    if (whole && f == PSG_DIV && x.power == y.power && y.i != 0) {
        *out = im_real((double)x.i / (double)y.i);
        return 0;
    }
    double p, q;
    int status = im_arg_real(r, &x, 0, &p);
    if (!status)
        status = im_arg_real(r, &y, 0, &q);
    if (status)
        return status;
    double d = real_binary(f, p, q);
    if (f >= PSG_EQ)
        *out = im_bool(d != 0);
    else if (whole && f == PSG_POW && y.i >= 0 && fabs(d) < 9e15)
        *out = im_int((int64_t)d);
    else
        *out = im_real(d);
    return 0;
}

int im_scalar_floordiv(struct im_run *r, const struct im_value *a, const struct im_value *b,
                       struct im_value *out)
{
    struct im_value x = as_int(a), y = as_int(b);
    double p, q;
    if (x.kind == IM_INT && y.kind == IM_INT) {
        if (y.i == 0)
            return im_fail(r, PSG_E_RANGE, "a division by zero");
        int64_t d = y.i == -1 ? -x.i : x.i / y.i, rest = y.i == -1 ? 0 : x.i % y.i;
        if (rest != 0 && ((rest < 0) != (y.i < 0)))
            d--;
        if (x.power < y.power || (x.power > y.power && rest != 0))
            return unknown(r);
        *out = im_int(d);
        out->power = (int8_t)(x.power - y.power);
        return 0;
    }
    int status = im_arg_real(r, &x, 0, &p);
    if (!status)
        status = im_arg_real(r, &y, 1, &q);
    *out = im_real(floor(p / q));
    return status;
}

static int op_floordiv(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    bool tensors = a[0].kind == IM_TENSOR || a[1].kind == IM_TENSOR;
    if (!tensors)
        return im_scalar_floordiv(r, &a[0], &a[1], out);
    struct im_value args[3] = { a[0], a[1], im_text_new(r->pool, IM_TEXT, "floor", 5) };
    return im_find_op("torch.div")->fn(r, args, out);
}

static int op_remainder(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value q, p;
    int status = op_floordiv(r, a, &q);
    const struct im_value mul[] = { q, a[1] };
    if (!status)
        status = im_find_op("torch.mul")->fn(r, mul, &p);
    const struct im_value sub[] = { a[0], p, { .kind = IM_UNSET } };
    return status ? status : im_find_op("torch.sub")->fn(r, sub, out);
}

static int op_int(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double d;
    if (a[0].kind == IM_INT) {
        *out = a[0];
        return 0;
    }
    int status = im_arg_real(r, &a[0], 0, &d);
    if (!status && !(fabs(d) < 9e15))
        return im_fail(r, PSG_E_RANGE, "not an int: %g", d);
    *out = im_int(status ? 0 : (int64_t)d);
    return status;
}

static int op_float(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double d = 0;
    int status = 0;
    if (a[0].kind == IM_TEXT && (im_text_is(&a[0], "inf") || im_text_is(&a[0], "-inf")))
        d = a[0].text->s[0] == '-' ? -(double)INFINITY : (double)INFINITY;
    else
        status = im_arg_real(r, &a[0], 0, &d);
    *out = im_real(d);
    return status;
}

static int op_bool(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    *out = im_bool(false);
    return im_truth(r, &a[0], &out->b);
}

static int op_item(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (im_is_number(&a[0])) {
        *out = a[0];
        return 0;
    }
    struct im_tensor *t = NULL;
    int status = im_arg_tensor(r, &a[0], &t);
    if (status)
        return status;
    return t->type == IM_FLOAT ? op_float(r, a, out) : op_int(r, a, out);
}

static int op_first(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    *out = a[0];
    return 0;
}

static int op_not(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    bool b;
    int status = im_truth(r, &a[0], &b);
    *out = im_bool(!b);
    return status;
}

static int op_is(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    *out = im_bool(im_same(&a[0], &a[1]));
    return 0;
}

static int op_isnot(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    *out = im_bool(!im_same(&a[0], &a[1]));
    return 0;
}

static int rounded(struct im_run *r, const struct im_value *a, double (*f)(double),
                   struct im_value *out)
{
    double d;
    if (a[0].kind == IM_INT) {
        *out = a[0];
        return 0;
    }
    int status = im_arg_real(r, &a[0], 0, &d);
    *out = im_int(!status && fabs(d) < 9e15 ? (int64_t)f(d) : 0);
    return status;
}

static int op_floor(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (im_is_number(&a[0]))
        return rounded(r, a, floor, out);
    struct im_value args[3] = { a[0], im_int(1),
                                im_text_new(r->pool, IM_TEXT, "floor", 5) };
    return im_find_op("torch.div")->fn(r, args, out);
}

static int op_ceil(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return rounded(r, a, ceil, out);
}

static int op_round(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return rounded(r, a, nearbyint, out);
}

/* ---- equality of plain values, lists by their items ---- */
static bool values_equal(const struct im_value *a, const struct im_value *b)
{
    if (im_is_number(a) && im_is_number(b)) {
        struct im_value x = as_int(a), y = as_int(b);
        if (x.kind == IM_INT && y.kind == IM_INT)
            return x.i == y.i && x.power == y.power;
        return (x.kind == IM_INT ? (double)x.i : x.d) ==
               (y.kind == IM_INT ? (double)y.i : y.d);
    }
    if (a->kind != b->kind)
        return false;
    if (a->kind == IM_TEXT)
        return a->text->n == b->text->n && memcmp(a->text->s, b->text->s, a->text->n) == 0;
    if (a->kind != IM_LIST && a->kind != IM_TUPLE)
        return im_same(a, b);
    if (a->list->n != b->list->n)
        return false;
    for (size_t i = 0; i < a->list->n; i++) {
        const struct im_value *x = &a->list->item[i], *y = &b->list->item[i];
        bool deep = x->kind == IM_LIST || x->kind == IM_TUPLE;
        if (deep ? !im_same(x, y) : !values_equal(x, y))
            return false;
    }
    return true;
}

/* ---- lists and texts ---- */
static int op_len(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    if (a[0].kind == IM_TEXT)
        *out = im_int((int64_t)a[0].text->n);
    else if (a[0].kind == IM_LIST || a[0].kind == IM_TUPLE)
        *out = im_int((int64_t)a[0].list->n);
    else if (a[0].kind == IM_DICT)
        *out = im_int((int64_t)a[0].list->n / 2);
    else if (a[0].kind == IM_OBJECT && a[0].object->attrs)
        *out = im_int((int64_t)a[0].object->attrs->n / 2);
    else {
        int status = im_arg_tensor(r, &a[0], &t);
        if (status)
            return status;
        if (t->rank == 0)
            return im_fail(r, PSG_E_SHAPE, "a number has no length");
        *out = im_int(t->dim[0]);
        out->power = t->batch == 0;
    }
    return 0;
}

static int op_append(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    *out = a[0];
    if (a[0].kind != IM_LIST)
        return im_fail(r, PSG_E_INVALID, "not a list");
    return im_list_push(r->pool, a[0].list, a[1]) ? im_no_memory(r) : 0;
}

static int op_extend(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    *out = im_none();
    if (a[0].kind != IM_LIST || a[1].kind != IM_LIST)
        return im_fail(r, PSG_E_INVALID, "not two lists");
    size_t n = a[1].list->n;
    for (size_t i = 0; i < n; i++)
        if (im_list_push(r->pool, a[0].list, a[1].list->item[i]))
            return im_no_memory(r);
    return 0;
}

static int op_list(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (a[0].kind != IM_LIST && a[0].kind != IM_TUPLE)
        return im_fail(r, PSG_E_UNSUPPORTED, "a list of %s", im_kind_name(a[0].kind));
    *out = im_list_new(r->pool, IM_LIST);
    if (out->kind == IM_NONE)
        return im_no_memory(r);
    const struct im_value both[] = { *out, { .kind = IM_LIST, .list = a[0].list } };
    struct im_value none;
    return op_extend(r, both, &none);
}

static int op_set_item(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int64_t i;
    *out = a[0];
    if (a[0].kind == IM_DICT && a[1].kind == IM_TEXT) {
        struct im_value *at = im_dict_find(a[0].list, a[1].text->s);
        if (at)
            *at = a[2];
        else if (im_list_push(r->pool, a[0].list, a[1]) ||
                 im_list_push(r->pool, a[0].list, a[2]))
            return im_no_memory(r);
        return 0;
    }
    int status = im_arg_int(r, &a[1], 0, &i);
    if (status)
        return status;
    if (a[0].kind != IM_LIST)
        return im_fail(r, PSG_E_INVALID, "not a list");
    i = i < 0 ? i + (int64_t)a[0].list->n : i;
    if (i < 0 || i >= (int64_t)a[0].list->n)
        return im_fail(r, PSG_E_RANGE, "an index past the list");
    a[0].list->item[i] = a[2];
    return 0;
}

/* slice(list, start, end, step) */
int im_list_slice(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int64_t n = (int64_t)a[0].list->n, start, end, step;
    int status = im_arg_int(r, &a[1], 0, &start);
    if (!status)
        status = im_arg_int(r, &a[2], n, &end);
    if (!status)
        status = im_arg_int(r, &a[3], 1, &step);
    if (status)
        return status;
    start = start < 0 ? start + n : start;
    end = end < 0 ? end + n : end;
    start = start < 0 ? 0 : start;
    end = end > n ? n : end;
    if (step < 1)
        return im_fail(r, PSG_E_UNSUPPORTED, "a reversed slice");
    *out = im_list_new(r->pool, IM_LIST);
    if (out->kind == IM_NONE)
        return im_no_memory(r);
    for (int64_t i = start; i < end; i += step)
        if (im_list_push(r->pool, out->list, a[0].list->item[i]))
            return im_no_memory(r);
    return 0;
}

static int op_pop(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int64_t i;
    int status = im_arg_int(r, &a[1], -1, &i);
    if (status)
        return status;
    if (a[0].kind != IM_LIST || a[0].list->n == 0)
        return im_fail(r, PSG_E_RANGE, "nothing to take out");
    struct im_list *l = a[0].list;
    i = i < 0 ? i + (int64_t)l->n : i;
    if (i < 0 || i >= (int64_t)l->n)
        return im_fail(r, PSG_E_RANGE, "an index past the list");
    *out = l->item[i];
    memmove(l->item + i, l->item + i + 1, (l->n - (size_t)i - 1) * sizeof *l->item);
    l->n--;
    return 0;
}

static int op_contains(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (a[0].kind != IM_DICT && a[0].kind != IM_LIST)
        return im_fail(r, PSG_E_UNSUPPORTED, "a search in %s", im_kind_name(a[0].kind));
    size_t step = a[0].kind == IM_DICT ? 2 : 1;
    *out = im_bool(false);
    for (size_t i = 0; i < a[0].list->n; i += step)
        out->b |= values_equal(&a[0].list->item[i], &a[1]);
    return 0;
}

static int dict_part(struct im_run *r, const struct im_value *a, size_t first,
                     struct im_value *out)
{
    if (a[0].kind != IM_DICT)
        return im_fail(r, PSG_E_INVALID, "not a dict");
    *out = im_list_new(r->pool, IM_LIST);
    for (size_t i = first; out->kind != IM_NONE && i < a[0].list->n; i += 2)
        if (im_list_push(r->pool, out->list, a[0].list->item[i]))
            return im_no_memory(r);
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

static int op_keys(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return dict_part(r, a, 0, out);
}

static int op_values(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return dict_part(r, a, 1, out);
}

static int all_or_any(struct im_run *r, const struct im_value *a, bool any,
                      struct im_value *out)
{
    if (a[0].kind != IM_LIST)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "of a tensor: a choice that depends on the data");
    *out = im_bool(!any);
    for (size_t i = 0; i < a[0].list->n; i++) {
        bool b;
        int status = im_truth(r, &a[0].list->item[i], &b);
        if (status)
            return status;
        if (b == any)
            *out = im_bool(any);
    }
    return 0;
}

static int op_all(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return all_or_any(r, a, false, out);
}

static int op_any(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return all_or_any(r, a, true, out);
}

/* range(end), range(start, end, step): a list */
static int op_range(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int64_t start, end, step;
    bool one = !im_given(&a[1]);
    int status = im_arg_int(r, one ? &a[1] : &a[0], 0, &start);
    if (!status)
        status = im_arg_int(r, one ? &a[0] : &a[1], 0, &end);
    if (!status)
        status = im_arg_int(r, &a[2], 1, &step);
    if (status)
        return status;
    if (step == 0 || start < -IM_DIM_MAX || start > IM_DIM_MAX || end < -IM_DIM_MAX ||
        end > IM_DIM_MAX || step < -IM_DIM_MAX || step > IM_DIM_MAX ||
        (end - start) / step > 100000)
        return im_fail(r, PSG_E_RANGE, "a loop of that many steps");
    *out = im_list_new(r->pool, IM_LIST);
    if (out->kind == IM_NONE)
        return im_no_memory(r);
    for (int64_t i = start; step > 0 ? i < end : i > end; i += step)
        if (im_list_push(r->pool, out->list, im_int(i)))
            return im_no_memory(r);
    return 0;
}

/* How often a loop from lo to hi runs, and the number of its i-th turn. */
static int op_range_length(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value list = im_none();
    int status = op_range(r, a, &list);
    *out = im_int(list.kind == IM_LIST ? (int64_t)list.list->n : 0);
    return status;
}

static int op_derive_index(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_value offset = im_none();
    int status = im_scalar_binary(r, PSG_MUL, &a[0], &a[2], &offset);
    return status ? status : im_scalar_binary(r, PSG_ADD, &a[1], &offset, out);
}

static int op_str(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    const char *s = a[0].kind == IM_TEXT ? a[0].text->s : im_kind_name(a[0].kind);
    *out = im_text_new(r->pool, IM_TEXT, s, strlen(s));
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

/* find(text, part, from, to): -1 when it is not there */
static int op_find(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (a[0].kind != IM_TEXT || a[1].kind != IM_TEXT)
        return im_fail(r, PSG_E_INVALID, "not two strings");
    const char *at = strstr(a[0].text->s, a[1].text->s);
    *out = im_int(at ? at - a[0].text->s : -1);
    return 0;
}

static int op_none(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    (void)a;
    *out = im_none();
    return 0;
}

static int op_raise(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)out;
    return im_fail(r, PSG_E_INVALID, "the model says: %.160s",
                   a[0].kind == IM_TEXT ? a[0].text->s : "an error");
}

static int op_true(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    (void)a;
    *out = im_bool(true);
    return 0;
}

static int op_false(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)r;
    (void)a;
    *out = im_bool(false);
    return 0;
}

/* ---- what is known of a tensor ---- */
static int op_size(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int axis, status = im_arg_tensor(r, &a[0], &t);
    if (status)
        return status;
    if (im_given(&a[1])) {
        if ((status = im_arg_axis(r, &a[1], 0, t->rank, &axis)))
            return status;
        *out = im_int(t->dim[axis]);
        out->power = axis == t->batch;
        return 0;
    }
    *out = im_list_new(r->pool, IM_LIST);
    for (int k = 0; out->kind != IM_NONE && k < t->rank; k++) {
        struct im_value v = im_int(t->dim[k]);
        v.power = k == t->batch;
        if (im_list_push(r->pool, out->list, v))
            return im_no_memory(r);
    }
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

static int op_numel(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int status = im_arg_tensor(r, &a[0], &t);
    if (status)
        return status;
    *out = im_int(im_size_of(t));
    out->power = t->batch >= 0;
    return 0;
}

static int op_dim(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    *out = im_int(0);
    if (im_is_number(&a[0]))
        return 0;
    int status = im_arg_tensor(r, &a[0], &t);
    out->i = status ? 0 : t->rank;
    return status;
}

/* PyTorch's numbers of its types */
static int op_dtype(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *t = NULL;
    int status = im_arg_tensor(r, &a[0], &t);
    *out = im_int(status ? 0 : t->type == IM_FLOAT ? 6 : t->type == IM_LONG ? 4 : 11);
    return status;
}

static int op_is_floating(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int status = op_dtype(r, a, out);
    *out = im_bool(out->i == 6);
    return status;
}

static int op_device(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    (void)a;
    *out = im_text_new(r->pool, IM_TEXT, "cpu", 3);
    return out->kind == IM_NONE ? im_no_memory(r) : 0;
}

static enum im_type type_of_code(int64_t code, enum im_type dflt)
{
    return code == 11                               ? IM_BOOLEAN
           : code >= 0 && code <= 4                 ? IM_LONG
           : (code >= 5 && code <= 7) || code == 15 ? IM_FLOAT
                                                    : dflt;
}

/* to(x, dtype or device or tensor, dtype ...) */
static int op_to(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (im_is_number(&a[0])) {
        *out = a[0];
        return 0;
    }
    struct im_tensor *t = NULL, *like = NULL;
    int status = im_arg_tensor(r, &a[0], &t);
    if (status)
        return status;
    enum im_type type = t->type;
    if (a[1].kind == IM_INT)
        type = type_of_code(a[1].i, type);
    else if (a[2].kind == IM_INT || a[3].kind == IM_INT)
        type = type_of_code(a[2].kind == IM_INT ? a[2].i : a[3].i, type);
    else if (a[1].kind == IM_TENSOR) {
        if ((status = im_arg_tensor(r, &a[1], &like)))
            return status;
        type = like->type;
    }
    if (type == t->type)
        return im_set(r, t, out);
    struct im_value args[] = { im_tensor_value(t), im_int(0), im_none() };
    if (type == IM_BOOLEAN)
        return im_find_op("torch.ne")->fn(r, args, out);
    if (type == IM_LONG && t->type == IM_FLOAT) {
        if ((status = im_find_op("torch.trunc")->fn(r, args, out)))
            return status;
        t = out->tensor;
    }
    struct im_tensor *y = im_tensor_copy(r, t);
    if (y)
        y->type = type;
    return im_set(r, y, out);
}

/* ---- tensors of numbers ---- */
int im_full(struct im_run *r, const struct im_size *size, int n, enum im_type type,
            double d, struct im_tensor **out)
{
    struct im_tensor *t = im_tensor_number(r, type, d);
    if (!t)
        return im_no_memory(r);
    if (n >= PSG_MAX_RANK)
        return im_fail(r, PSG_E_UNSUPPORTED, "too many axes");
    t->rank = n;
    for (int k = 0; k < n; k++) {
        if (size[k].n < 1 || size[k].n > IM_DIM_MAX || size[k].power > 1 ||
            (size[k].power && t->batch >= 0))
            return im_fail(r, PSG_E_SHAPE, "a size that a tensor cannot have");
        t->dim[k] = size[k].n;
        t->same |= size[k].n > 1 ? 1u << k : 0;
        if (size[k].power) {
            t->batch = k;
            t->inner = size[k].n;
        }
    }
    *out = t;
    return 0;
}

static int filled(struct im_run *r, const struct im_value *size,
                  const struct im_value *dtype, enum im_type type, double d,
                  struct im_value *out)
{
    struct im_size to[PSG_MAX_RANK];
    struct im_tensor *t = NULL;
    int n, status = im_arg_sizes(r, size, to, &n);
    if (dtype->kind == IM_INT)
        type = type_of_code(dtype->i, type);
    if (!status)
        status = im_full(r, to, n, type, d, &t);
    return status ? status : im_set(r, t, out);
}

static int op_zeros(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return filled(r, &a[0], &a[1], IM_FLOAT, 0, out);
}

static int op_ones(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return filled(r, &a[0], &a[1], IM_FLOAT, 1, out);
}

static enum im_type type_of(const struct im_value *v)
{
    return v->kind == IM_BOOL ? IM_BOOLEAN : v->kind == IM_INT ? IM_LONG : IM_FLOAT;
}

static int op_full(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double d;
    int status = im_arg_real(r, &a[1], 0, &d);
    return status ? status : filled(r, &a[0], &a[2], type_of(&a[1]), d, out);
}

/* new_zeros(self, size, dtype) and so on */
static int op_new_zeros(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return filled(r, &a[1], &a[2], IM_FLOAT, 0, out);
}

static int op_new_ones(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return filled(r, &a[1], &a[2], IM_FLOAT, 1, out);
}

static int op_new_full(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return op_full(r, a + 1, out);
}

static int like(struct im_run *r, const struct im_value *x, const struct im_value *dtype,
                double d, struct im_value *out)
{
    struct im_tensor *t = NULL, *y = NULL;
    struct im_size size[PSG_MAX_RANK];
    int status = im_arg_tensor(r, x, &t);
    if (status)
        return status;
    for (int k = 0; k < t->rank; k++)
        size[k] = (struct im_size){ t->dim[k], k == t->batch };
    enum im_type type = dtype->kind == IM_INT ? type_of_code(dtype->i, t->type) : t->type;
    status = im_full(r, size, t->rank, type, d, &y);
    if (!status && y->batch >= 0)
        y->inner = t->inner;
    return status ? status : im_set(r, y, out);
}

static int op_zeros_like(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return like(r, &a[0], &a[1], 0, out);
}

static int op_ones_like(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return like(r, &a[0], &a[1], 1, out);
}

static int op_full_like(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double d;
    int status = im_arg_real(r, &a[1], 0, &d);
    return status ? status : like(r, &a[0], &a[2], d, out);
}

/* arange(0, n B, n): where bags of n ids begin */
static int offsets(struct im_run *r, int64_t step, struct im_value *out)
{
    struct im_tensor *t = im_tensor_number(r, IM_LONG, (double)step);
    if (!t)
        return im_no_memory(r);
    t->source = IM_OFFSETS;
    t->rank = 1;
    t->dim[0] = 1;
    t->batch = 0;
    return im_set(r, t, out);
}

static int op_arange(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double start, end, step;
    bool one = !im_given(&a[1]) || a[1].kind == IM_TEXT;
    const struct im_value *e = one ? &a[0] : &a[1];
    if (e->kind == IM_INT && e->power == 1) {
        if (!one && a[0].kind == IM_INT && a[0].i == 0 && a[2].kind == IM_INT &&
            a[2].power == 0 && a[2].i == e->i)
            return offsets(r, e->i, out);
        return im_mixes(r, "numbers the samples by their place in the batch");
    }
    struct im_value zero = im_int(0);
    int status = im_arg_real(r, one ? &zero : &a[0], 0, &start);
    if (!status)
        status = im_arg_real(r, e, 0, &end);
    if (!status)
        status = im_arg_real(r, one ? &zero : &a[2], 1, &step);
    step = one ? 1 : step;
    if (status)
        return status;
    double n = ceil((end - start) / step);
    if (!(n >= 1 && n <= 1 << 20))
        return im_fail(r, PSG_E_RANGE, "%g numbers", n);
    double *data = im_pool_array(r->pool, (size_t)n, sizeof *data);
    if (!data)
        return im_no_memory(r);
    for (int64_t i = 0; i < (int64_t)n; i++)
        data[i] = start + (double)i * step;
    bool whole =
        e->kind != IM_REAL && (one || (a[0].kind != IM_REAL && a[2].kind != IM_REAL));
    enum im_type type = whole ? IM_LONG : IM_FLOAT;
    if (a[3].kind == IM_INT)
        type = type_of_code(a[3].i, type);
    return im_set(r, im_tensor_data(r, type, &PSG_SHAPE((int64_t)n), data), out);
}

static int op_linspace(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    double start, end;
    int64_t n;
    int status = im_arg_real(r, &a[0], 0, &start);
    if (!status)
        status = im_arg_real(r, &a[1], 0, &end);
    if (!status)
        status = im_arg_int(r, &a[2], 0, &n);
    if (status)
        return status;
    if (n < 1 || n > 1 << 20)
        return im_fail(r, PSG_E_RANGE, "%lld numbers", (long long)n);
    double *data = im_pool_array(r->pool, (size_t)n, sizeof *data);
    if (!data)
        return im_no_memory(r);
    for (int64_t i = 0; i < n; i++)
        data[i] = n == 1 ? start : start + (end - start) * (double)i / (double)(n - 1);
    return im_set(r, im_tensor_data(r, IM_FLOAT, &PSG_SHAPE(n), data), out);
}

static int op_eye(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    int64_t n, m;
    int status = im_arg_int(r, &a[0], 1, &n);
    if (!status)
        status = im_arg_int(r, &a[1], n, &m);
    if (status)
        return status;
    if (n < 1 || m < 1 || n > 4096 || m > 4096)
        return im_fail(r, PSG_E_RANGE, "a matrix of that size");
    double *data = im_pool_array(r->pool, (size_t)(n * m), sizeof *data);
    if (!data)
        return im_no_memory(r);
    for (int64_t i = 0; i < n * m; i++)
        data[i] = i / m == i % m;
    return im_set(r, im_tensor_data(r, IM_FLOAT, &PSG_SHAPE(n, m), data), out);
}

/* tensor(number or list) */
static int op_tensor(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    if (a[0].kind != IM_LIST) {
        *out = a[0];
        return 0;
    }
    int64_t n = (int64_t)a[0].list->n;
    double *data = im_pool_array(r->pool, (size_t)n + 1, sizeof *data);
    enum im_type type = IM_BOOLEAN;
    if (!data)
        return im_no_memory(r);
    for (int64_t i = 0; i < n; i++) {
        const struct im_value *v = &a[0].list->item[i];
        int status = im_arg_real(r, v, 0, &data[i]);
        if (status)
            return status;
        type = type_of(v) > type ? type_of(v) : type;
    }
    if (n < 1)
        return im_fail(r, PSG_E_SHAPE, "a tensor of nothing");
    return im_set(r, im_tensor_data(r, type, &PSG_SHAPE(n), data), out);
}

static int triangle(struct im_run *r, const struct im_value *a, bool upper,
                    struct im_value *out)
{
    struct im_tensor *t = NULL;
    int64_t diagonal;
    int status = im_arg_tensor(r, &a[0], &t);
    if (!status)
        status = im_arg_int(r, &a[1], 0, &diagonal);
    if (status)
        return status;
    if (t->rank < 2 || t->batch >= t->rank - 2)
        return im_fail(r, PSG_E_UNSUPPORTED, "needs a matrix without the batch axis");
    int64_t n = t->dim[t->rank - 2], m = t->dim[t->rank - 1];
    if (n > 1 << 22 || m > (1 << 22) / n || diagonal < -IM_DIM_MAX || diagonal > IM_DIM_MAX)
        return im_fail(r, PSG_E_RANGE, "a matrix of that size");
    double *data = im_pool_array(r->pool, (size_t)(n * m), sizeof *data);
    if (!data)
        return im_no_memory(r);
    for (int64_t i = 0; i < n * m; i++)
        data[i] = upper ? i % m - i / m >= diagonal : i % m - i / m <= diagonal;
    struct im_tensor *mask = im_tensor_data(r, IM_BOOLEAN, &PSG_SHAPE(n, m), data);
    if (!mask)
        return im_no_memory(r);
    enum im_type type = t->type;
    const struct im_value args[] = { im_tensor_value(mask), a[0], im_int(0) };
    status = im_find_op("torch.where")->fn(r, args, out);
    if (!status)
        out->tensor->type = type;
    return status;
}

static int op_tril(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return triangle(r, a, false, out);
}

static int op_triu(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    return triangle(r, a, true, out);
}

const struct im_op im_ops_scalar[] = {
    { "py.int", "x", op_int },
    { "py.float", "x", op_float },
    { "py.bool", "x", op_bool },
    { "py.str", "x", op_str },
    { "py.range", "a b c", op_range },
    { "__range_length", "lo hi step", op_range_length },
    { "__derive_index", "index start step", op_derive_index },
    { "IntImplicit", "a", op_int },
    { "FloatImplicit", "a", op_float },
    { "ScalarImplicit", "a", op_item },
    { "item", "self", op_item },
    { "floordiv", "a b", op_floordiv },
    { "floor_divide", "self other", op_floordiv },
    { "remainder", "self other", op_remainder },
    { "fmod", "self other", op_remainder },
    { "floor", "self", op_floor },
    { "ceil", "self", op_ceil },
    { "round", "self", op_round },
    { "__not__", "self", op_not },
    { "__is__", "a b", op_is },
    { "__isnot__", "a b", op_isnot },
    { "len", "a", op_len },
    { "append", "self el", op_append },
    { "extend", "self other", op_extend },
    { "list", "l", op_list },
    { "copy", "self", op_list },
    { "pop", "self idx", op_pop },
    { "_set_item", "l idx el", op_set_item },
    { "__contains__", "l item", op_contains },
    { "keys", "self", op_keys },
    { "values", "self", op_values },
    { "all", "self", op_all },
    { "any", "self", op_any },
    { "format", "self a b c d e f g h i", op_first },
    { "find", "self substr start end", op_find },
    { "warn", "message stacklevel", op_none },
    { "device", "a", op_device },
    { "is_grad_enabled", "", op_true },
    { "is_autocast_enabled", "", op_false },
    { "is_scripting", "", op_true },
    { "is_tracing", "", op_false },
    { "size", "self dim", op_size },
    { "numel", "self", op_numel },
    { "dim", "self", op_dim },
    { "is_floating_point", "self", op_is_floating },
    { "to", "self a b dtype layout device pin_memory non_blocking copy memory_format",
      op_to },
    { "_to_copy", "self a b dtype layout device pin_memory non_blocking memory_format",
      op_to },
    { "type_as", "self a b dtype", op_to },
    { "zeros", "size dtype layout device pin_memory", op_zeros },
    { "ones", "size dtype layout device pin_memory", op_ones },
    { "empty", "size dtype layout device pin_memory memory_format", op_zeros },
    { "full", "size fill_value dtype layout device pin_memory", op_full },
    { "new_zeros", "self size dtype layout device pin_memory", op_new_zeros },
    { "new_ones", "self size dtype layout device pin_memory", op_new_ones },
    { "new_full", "self size fill_value dtype layout device pin_memory", op_new_full },
    { "zeros_like", "self dtype layout device pin_memory memory_format", op_zeros_like },
    { "ones_like", "self dtype layout device pin_memory memory_format", op_ones_like },
    { "full_like", "self fill_value dtype layout device pin_memory memory_format",
      op_full_like },
    { "arange", "a b c dtype layout device pin_memory", op_arange },
    { "linspace", "start end steps dtype layout device pin_memory", op_linspace },
    { "eye", "n m dtype layout device pin_memory", op_eye },
    { "tensor", "data dtype device requires_grad", op_tensor },
    { "scalar_tensor", "s dtype layout device pin_memory", op_tensor },
    { "tril", "self diagonal", op_tril },
    { "triu", "self diagonal", op_triu },
    { "prim.NumToTensor", "a", op_first },
    { "prim.data", "a", op_first },
    { "prim.unchecked_unwrap_optional", "a", op_first },
    { "prim.dtype", "a", op_dtype },
    { "prim.device", "a", op_device },
    { "prim.is_cuda", "a", op_false },
    { "prim.is_nested", "a", op_false },
    { "prim.is_quantized", "a", op_false },
    { "prim.is_sparse", "a", op_false },
    { "prim.is_meta", "a", op_false },
    { "prim.requires_grad", "a", op_true },
    { "prim.layout", "a", op_none },
    { "prim.RaiseException", "msg cls", op_raise },
    { NULL, NULL, NULL },
};
