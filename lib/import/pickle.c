#include "import/pickle.h"

#include <string.h>

struct machine {
    struct im_pool *pool;
    const uint8_t *p, *start, *end;
    const char *place;
    struct im_list stack, memo;
    struct psg_error *err;
    size_t op_at; /* offset of the opcode at work */
};

static int refuse(struct machine *m, const char *what)
{
    return psg_fail(m->err, PSG_E_FORMAT, m->place, "pickle: offset %zu: %s", m->op_at,
                    what);
}

static int no_memory(struct machine *m)
{
    return im_pool_fail(m->err, m->place);
}

static int push(struct machine *m, struct im_value v)
{
    return im_list_push(m->pool, &m->stack, v) ? no_memory(m) : 0;
}

static struct im_value *top(struct machine *m)
{
    return m->stack.n ? &m->stack.item[m->stack.n - 1] : NULL;
}

/* n bytes of the opcode's argument, or NULL past the end */
static const uint8_t *take(struct machine *m, size_t n)
{
    if ((size_t)(m->end - m->p) < n)
        return NULL;
    m->p += n;
    return m->p - n;
}

static bool number(struct machine *m, int width, uint64_t *out)
{
    const uint8_t *p = take(m, (size_t)width);
    *out = 0;
    for (int i = 0; p && i < width; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return p != NULL;
}

/* Everything above the topmost mark becomes items; the mark goes. */
static int pop_mark(struct machine *m, struct im_value **itemp, size_t *np)
{
    size_t i = m->stack.n;
    while (i > 0 && m->stack.item[i - 1].kind != IM_MARK)
        i--;
    if (i == 0)
        return refuse(m, "no mark on the stack");
    *itemp = m->stack.item + i;
    *np = m->stack.n - i;
    m->stack.n = i - 1;
    return 0;
}

/* A tuple of the n topmost values, which stand at item. */
static int push_tuple(struct machine *m, const struct im_value *item, size_t n)
{
    struct im_value v = im_list_new(m->pool, IM_TUPLE);
    if (v.kind == IM_NONE)
        return no_memory(m);
    for (size_t i = 0; i < n; i++)
        if (item[i].kind == IM_MARK)
            return refuse(m, "a mark inside of a tuple");
        else if (im_list_push(m->pool, v.list, item[i]))
            return no_memory(m);
    return push(m, v);
}

static int small_tuple(struct machine *m, size_t n)
{
    if (m->stack.n < n)
        return refuse(m, "the stack is too short for a tuple");
    m->stack.n -= n;
    return push_tuple(m, m->stack.item + m->stack.n, n);
}

static int mark_tuple(struct machine *m)
{
    struct im_value *item = NULL;
    size_t n = 0;
    int r = pop_mark(m, &item, &n);
    return r ? r : push_tuple(m, item, n);
}

/* SETITEM, SETITEMS, APPEND, APPENDS: n values at item into the container below them */
static int add_items(struct machine *m, enum im_kind kind, const struct im_value *item,
                     size_t n)
{
    struct im_value *into = top(m);
    if (!into || into->kind != kind)
        return refuse(m, kind == IM_DICT ? "items for what is no dict"
                                         : "items for what is no list");
    if (kind == IM_DICT && n % 2)
        return refuse(m, "a key without a value");
    for (size_t i = 0; i < n; i++) {
        if (item[i].kind == IM_MARK)
            return refuse(m, "a mark among items");
        if (im_list_push(m->pool, into->list, item[i]))
            return no_memory(m);
    }
    return 0;
}

static int few_items(struct machine *m, enum im_kind kind, size_t n)
{
    if (m->stack.n < n)
        return refuse(m, "the stack is too short");
    m->stack.n -= n;
    return add_items(m, kind, m->stack.item + m->stack.n, n);
}

static int mark_items(struct machine *m, enum im_kind kind)
{
    struct im_value *item = NULL;
    size_t n = 0;
    int r = pop_mark(m, &item, &n);
    return r ? r : add_items(m, kind, item, n);
}

/* ---- names ---- */
static const struct {
    const char *name;
    enum im_element element;
} storages[] = {
    { "torch.HalfStorage", IM_F16 },  { "torch.BFloat16Storage", IM_BF16 },
    { "torch.FloatStorage", IM_F32 }, { "torch.DoubleStorage", IM_F64 },
    { "torch.CharStorage", IM_I8 },   { "torch.ByteStorage", IM_U8 },
    { "torch.ShortStorage", IM_I16 }, { "torch.IntStorage", IM_I32 },
    { "torch.LongStorage", IM_I64 },  { "torch.BoolStorage", IM_BOOLS },
};

static const char *const callables[] = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.restore_type_tag",
};

static bool name_allowed(const struct im_value *v)
{
    if (v->text->n > 10 && memcmp(v->text->s, "__torch__.", 10) == 0)
        return true;
    for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++)
        if (im_text_is(v, storages[i].name))
            return true;
    for (size_t i = 0; i < sizeof callables / sizeof callables[0]; i++)
        if (im_text_is(v, callables[i]))
            return true;
    return false;
}

static int op_global(struct machine *m)
{
    const uint8_t *module = m->p;
    const uint8_t *line = memchr(module, '\n', (size_t)(m->end - module));
    const uint8_t *name = line ? line + 1 : NULL;
    const uint8_t *stop = name ? memchr(name, '\n', (size_t)(m->end - name)) : NULL;
    if (!stop || stop - module > 1024)
        return refuse(m, "a name is cut off");
    for (const uint8_t *c = module; c < stop; c++)
        if (c != line && (*c < 33 || *c > 126))
            return refuse(m, "a name with characters that names do not have");
    m->p = stop + 1;
    char full[1032];
    size_t n = (size_t)(line - module);
    memcpy(full, module, n);
    full[n] = '.';
    memcpy(full + n + 1, name, (size_t)(stop - name));
    n += 1 + (size_t)(stop - name);
    struct im_value v = im_text_new(m->pool, IM_NAME, full, n);
    if (v.kind == IM_NONE)
        return no_memory(m);
    if (!name_allowed(&v))
        return psg_fail(m->err, PSG_E_FORMAT, m->place,
                        "pickle: offset %zu: %.160s is not a name that models need",
                        m->op_at, v.text->s);
    return push(m, v);
}

/* ---- tensors ---- */
static int op_persid(struct machine *m)
{
    struct im_value *v = top(m);
    if (!v || v->kind != IM_TUPLE || v->list->n != 5)
        return refuse(m, "a storage is described by five values");
    const struct im_value *a = v->list->item;
    struct im_storage *s = im_pool_take(m->pool, sizeof *s);
    if (!s)
        return no_memory(m);
    size_t k = 0, n = sizeof storages / sizeof storages[0];
    while (k < n && !(a[1].kind == IM_NAME && im_text_is(&a[1], storages[k].name)))
        k++;
    if (!im_text_is(&a[0], "storage") || k == n || a[2].kind != IM_TEXT ||
        a[4].kind != IM_INT || a[4].i < 0 || strlen(a[2].text->s) != a[2].text->n)
        return refuse(m, "not the description of a storage");
    *s = (struct im_storage){ storages[k].element, a[2].text->s, a[4].i };
    *v = (struct im_value){ .kind = IM_STORAGE, .storage = s };
    return 0;
}

/* The tensor must lie inside of its storage. */
static bool tensor_fits(const struct im_stored *t)
{
    int64_t last = t->offset, size = psg_shape_size(&t->shape);
    if (size < 0 || t->offset < 0 || t->offset > t->storage->n)
        return false;
    for (int i = 0; size > 0 && i < t->shape.rank; i++) {
        int64_t reach;
        if (t->stride[i] < 0 ||
            __builtin_mul_overflow(t->stride[i], t->shape.dim[i] - 1, &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return false;
    }
    return size == 0 || last < t->storage->n;
}

/* (storage, offset, sizes, strides, requires_grad, hooks) */
static int rebuild_tensor(struct machine *m, const struct im_list *a, struct im_value *out)
{
    if (a->n < 6 || a->item[0].kind != IM_STORAGE || a->item[1].kind != IM_INT ||
        a->item[2].kind != IM_TUPLE || a->item[3].kind != IM_TUPLE ||
        a->item[4].kind != IM_BOOL)
        return refuse(m, "not the description of a tensor");
    const struct im_list *size = a->item[2].list, *stride = a->item[3].list;
    if (size->n != stride->n || size->n > PSG_MAX_RANK)
        return refuse(m, "a tensor with too many axes");
    struct im_stored *t = im_pool_take(m->pool, sizeof *t);
    if (!t)
        return no_memory(m);
    t->storage = a->item[0].storage;
    t->offset = a->item[1].i;
    t->requires_grad = a->item[4].b;
    t->shape.rank = (int)size->n;
    for (size_t i = 0; i < size->n; i++) {
        if (size->item[i].kind != IM_INT || stride->item[i].kind != IM_INT ||
            size->item[i].i < 0)
            return refuse(m, "a tensor's sizes are not numbers");
        t->shape.dim[i] = size->item[i].i;
        t->stride[i] = stride->item[i].i;
    }
    if (!tensor_fits(t))
        return refuse(m, "a tensor reaches past its storage");
    *out = (struct im_value){ .kind = IM_STORED, .stored = t };
    return 0;
}

/* (tensor, requires_grad, hooks) */
static int rebuild_parameter(struct machine *m, const struct im_list *a,
                             struct im_value *out)
{
    if (a->n < 2 || a->item[0].kind != IM_STORED || a->item[1].kind != IM_BOOL)
        return refuse(m, "not the description of a parameter");
    a->item[0].stored->requires_grad = a->item[1].b;
    *out = a->item[0];
    return 0;
}

static int op_reduce(struct machine *m)
{
    if (m->stack.n < 2)
        return refuse(m, "the stack is too short for a call");
    struct im_value args = m->stack.item[--m->stack.n];
    struct im_value f = *top(m), out;
    if (f.kind != IM_NAME || args.kind != IM_TUPLE)
        return refuse(m, "a call of what is not a known name");
    const struct im_list *a = args.list;
    int r = 0;
    if (im_text_is(&f, "collections.OrderedDict") && a->n == 0) {
        out = im_list_new(m->pool, IM_DICT);
        r = out.kind == IM_NONE ? no_memory(m) : 0;
    } else if (im_text_is(&f, "torch._utils._rebuild_tensor_v2")) {
        r = rebuild_tensor(m, a, &out);
    } else if (im_text_is(&f, "torch._utils._rebuild_parameter")) {
        r = rebuild_parameter(m, a, &out);
    } else if (strncmp(f.text->s, "torch.jit._pickle.", 18) == 0 && a->n >= 1) {
        out = a->item[0]; /* typed lists: the list itself */
    } else {
        return psg_fail(m->err, PSG_E_FORMAT, m->place,
                        "pickle: offset %zu: %.160s may not be called like this", m->op_at,
                        f.text->s);
    }
    if (r == 0)
        *top(m) = out;
    return r;
}

static int op_newobj(struct machine *m)
{
    if (m->stack.n < 2 || top(m)->kind != IM_TUPLE || top(m)->list->n != 0)
        return refuse(m, "an object is made without arguments");
    m->stack.n--;
    struct im_value *v = top(m);
    if (v->kind != IM_NAME || strncmp(v->text->s, "__torch__.", 10) != 0)
        return refuse(m, "an object of what is not a class of the archive");
    struct im_object *o = im_pool_take(m->pool, sizeof *o);
    if (!o)
        return no_memory(m);
    o->class_name = v->text->s;
    *v = (struct im_value){ .kind = IM_OBJECT, .object = o };
    return 0;
}

static int op_build(struct machine *m)
{
    if (m->stack.n < 2)
        return refuse(m, "the stack is too short for a state");
    struct im_value state = m->stack.item[--m->stack.n];
    struct im_value *v = top(m);
    if (v->kind != IM_OBJECT || v->object->attrs)
        return refuse(m, "a state for what is no new object");
    if (state.kind != IM_DICT)
        return psg_fail(m->err, PSG_E_UNSUPPORTED, m->place,
                        "pickle: offset %zu: %.120s has a __setstate__ of its own",
                        m->op_at, v->object->class_name);
    for (size_t i = 0; i < state.list->n; i += 2)
        if (state.list->item[i].kind != IM_TEXT)
            return refuse(m, "an attribute's name is no string");
    v->object->attrs = state.list;
    return 0;
}

/* ---- plain opcodes ---- */
static int op_put(struct machine *m, int width)
{
    uint64_t i;
    if (!number(m, width, &i))
        return refuse(m, "cut off");
    if (!m->stack.n || top(m)->kind == IM_MARK)
        return refuse(m, "nothing to remember");
    if (i > m->memo.n)
        return refuse(m, "a memo number out of order");
    if (i == m->memo.n)
        return im_list_push(m->pool, &m->memo, *top(m)) ? no_memory(m) : 0;
    m->memo.item[i] = *top(m);
    return 0;
}

static int op_get(struct machine *m, int width)
{
    uint64_t i;
    if (!number(m, width, &i))
        return refuse(m, "cut off");
    if (i >= m->memo.n)
        return refuse(m, "an unknown memo number");
    return push(m, m->memo.item[i]);
}

static int op_int(struct machine *m, int width)
{
    uint64_t i;
    if (!number(m, width, &i))
        return refuse(m, "cut off");
    return push(m, im_int(width == 4 ? (int32_t)i : (int64_t)i));
}

static int op_long1(struct machine *m)
{
    uint64_t n, i;
    if (!number(m, 1, &n) || n > 8 || !number(m, (int)n, &i))
        return refuse(m, "a number of more than 64 bits, or cut off");
    if (n > 0 && n < 8 && i >> (8 * n - 1) & 1)
        i |= ~UINT64_C(0) << 8 * n;
    return push(m, im_int((int64_t)i));
}

static int op_float(struct machine *m)
{
    const uint8_t *p = take(m, 8);
    uint64_t bits = 0;
    double d;
    if (!p)
        return refuse(m, "cut off");
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    memcpy(&d, &bits, 8);
    return push(m, im_real(d));
}

static int op_text(struct machine *m)
{
    uint64_t n;
    const uint8_t *p = number(m, 4, &n) ? take(m, n) : NULL;
    if (!p)
        return refuse(m, "a string is cut off");
    struct im_value v = im_text_new(m->pool, IM_TEXT, (const char *)p, n);
    return v.kind == IM_NONE ? no_memory(m) : push(m, v);
}

static int push_new(struct machine *m, enum im_kind kind)
{
    struct im_value v = im_list_new(m->pool, kind);
    return v.kind == IM_NONE ? no_memory(m) : push(m, v);
}

static int step(struct machine *m, uint8_t op)
{
    uint64_t version;
    switch (op) {
    case 0x80: /* PROTO */
        return number(m, 1, &version) && version <= 3 ? 0 : refuse(m, "unknown protocol");
    case 'c': return op_global(m);
    case 'q': return op_put(m, 1);
    case 'r': return op_put(m, 4);
    case 'h': return op_get(m, 1);
    case 'j': return op_get(m, 4);
    case '(': return push(m, (struct im_value){ .kind = IM_MARK });
    case ')': return push_new(m, IM_TUPLE);
    case ']': return push_new(m, IM_LIST);
    case '}': return push_new(m, IM_DICT);
    case 't': return mark_tuple(m);
    case 0x85: return small_tuple(m, 1);
    case 0x86: return small_tuple(m, 2);
    case 0x87: return small_tuple(m, 3);
    case 'X': return op_text(m);
    case 'J': return op_int(m, 4);
    case 'K': return op_int(m, 1);
    case 'M': return op_int(m, 2);
    case 0x8a: return op_long1(m);
    case 'G': return op_float(m);
    case 'N': return push(m, im_none());
    case 0x88: return push(m, im_bool(true));
    case 0x89: return push(m, im_bool(false));
    case 'Q': return op_persid(m);
    case 'R': return op_reduce(m);
    case 0x81: return op_newobj(m);
    case 'b': return op_build(m);
    case 's': return few_items(m, IM_DICT, 2);
    case 'u': return mark_items(m, IM_DICT);
    case 'a': return few_items(m, IM_LIST, 1);
    case 'e': return mark_items(m, IM_LIST);
    default:
        return psg_fail(m->err, PSG_E_FORMAT, m->place,
                        "pickle: offset %zu: opcode 0x%02x is not one that models need",
                        m->op_at, op);
    }
}

int pickle_read(struct im_pool *pool, const uint8_t *bytes, size_t size, const char *place,
                struct im_value *out, struct psg_error *err)
{
    struct machine m = { .pool = pool,
                         .p = bytes,
                         .start = bytes,
                         .end = bytes + size,
                         .place = place,
                         .err = err };
    while (m.p < m.end) {
        m.op_at = (size_t)(m.p - m.start);
        uint8_t op = *m.p++;
        if (op == '.') {
            if (m.stack.n != 1 || top(&m)->kind == IM_MARK)
                return refuse(&m, "ends with other than one value");
            *out = *top(&m);
            return 0;
        }
        int r = step(&m, op);
        if (r)
            return r;
    }
    m.op_at = size;
    return refuse(&m, "cut off before its end");
}
