/* The interpreter of the stack code. Calls stand on a stack of frames; steps are bounded. */
#include <stdio.h>
#include <string.h>

#include "import/run.h"

enum { FRAMES_MAX = 256, STEPS_MAX = 1000000, GUESSES_MAX = 10000 };

static struct im_frame *top(const struct im_run *r)
{
    return r->n_frames ? &r->frame[r->n_frames - 1] : NULL;
}

const char *im_path(const struct im_run *r)
{
    return top(r) && top(r)->path ? top(r)->path : "";
}

const char *im_place(struct im_run *r)
{
    const struct im_frame *f = top(r);
    if (!f)
        return "";
    size_t at = f->pc ? f->pc - 1 : 0;
    int line = at < f->fn->n_ins ? f->fn->ins[at].line : f->fn->line;
    const char *s = im_pool_printf(r->pool, "%s:%d", f->fn->file->path, line);
    return s ? s : f->fn->file->path;
}

/* ---- finding operators ---- */
static const struct im_op *find_in(const struct im_op *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

const struct im_op *im_find_op(const char *name)
{
    static const struct im_op *const tables[] = {
        im_ops_elementwise, im_ops_scalar, im_ops_view, im_ops_join,      im_ops_reduce,
        im_ops_product,     im_ops_layer,  im_ops_norm, im_ops_recurrent, im_ops_attention,
        im_ops_composite,
    };
    char buf[80];
    if (strncmp(name, "torch.", 6) == 0)
        name += 6;
    else if (strncmp(name, "ops.aten.", 9) == 0)
        name += 9;
    else if (strncmp(name, "ops.prim.", 9) == 0)
        name += 4;
    else if (!strchr(name, '.') && strlen(name) < 60) {
        snprintf(buf, sizeof buf, "py.%s", name);
        name = buf;
    }
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        const struct im_op *op = find_in(tables[i], name);
        if (op)
            return op;
    }
    return NULL;
}

/* ---- the value stack ---- */
static int push(struct im_run *r, struct im_value v)
{
    return im_list_push(r->pool, &r->stack, v) ? im_no_memory(r) : 0;
}

static struct im_value pop(struct im_run *r)
{
    return r->stack.item[--r->stack.n];
}

/* ---- calls ---- */
/* Slot number of an argument by name; -1: there is none. */
static int name_at(const char *names, const char *want, size_t n)
{
    int i = 0;
    for (const char *p = names; *p; i++) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, want, n) == 0)
            return i;
        p += len + (p[len] == ' ');
    }
    return -1;
}

static int count_names(const char *names)
{
    int n = *names != '\0';
    for (; *names; names++)
        n += *names == ' ';
    return n;
}

/* Positional and named values into slots; given[n], kw names the last ones (or NULL). */
static int bind(struct im_run *r, const struct im_op *op, const struct im_value *given,
                int n, const struct im_list *kw, struct im_value *slot)
{
    int n_kw = kw ? (int)kw->n : 0, n_slots = count_names(op->args);
    if (n - n_kw > n_slots)
        return im_fail(r, PSG_E_UNSUPPORTED, "%d arguments; at most %d are known", n - n_kw,
                       n_slots);
    for (int i = 0; i < IM_ARGS; i++)
        slot[i] = (struct im_value){ .kind = IM_UNSET };
    for (int i = 0; i < n - n_kw; i++)
        slot[i] = given[i];
    for (int i = 0; i < n_kw; i++) {
        const struct im_text *name = kw->item[i].text;
        int at = name_at(op->args, name->s, name->n);
        if (at < 0)
            return im_fail(r, PSG_E_UNSUPPORTED, "an argument called %.60s", name->s);
        slot[at] = given[n - n_kw + i];
    }
    return 0;
}

/* Results that look into their operand share its count of changes; others begin one. */
static int note_views(struct im_run *r, struct im_value *out)
{
    struct im_value *item = out;
    size_t n = 1;
    if (out->kind == IM_LIST || out->kind == IM_TUPLE) {
        item = out->list->item;
        n = out->list->n;
    }
    for (size_t i = 0; i < n; i++) {
        if (item[i].kind != IM_TENSOR || item[i].tensor->changes)
            continue;
        item[i].tensor->changes = im_pool_take(r->pool, sizeof(int));
        item[i].tensor->change = 0;
        if (!item[i].tensor->changes)
            return im_no_memory(r);
    }
    return 0;
}

static bool in_place(const char *name)
{
    size_t n = strlen(name);
    return n > 1 && name[n - 1] == '_' && name[n - 2] != '_' &&
           !strstr(name, "requires_grad_");
}

/* f, and f_ where only f is in a table. *changes: the first operand takes the result. */
static const struct im_op *find_called(const char *name, bool *changes)
{
    const struct im_op *op = im_find_op(name);
    char plain[80];
    size_t n = strlen(name);
    *changes = in_place(name);
    if (op || !*changes || n > sizeof plain)
        return op;
    snprintf(plain, sizeof plain, "%.*s", (int)(n - 1), name);
    return im_find_op(plain);
}

/* x.f_(): every name of x sees the result, other views of its numbers are out of date. */
static int change(struct im_run *r, const struct im_value *target, struct im_value *out)
{
    if (target->kind == IM_STORED) { /* a counter of batches may count, nobody reads it */
        struct im_tensor *known = target->stored->tensor;
        if (!known || known->source != IM_DATA || out->kind != IM_TENSOR)
            return im_fail(r, PSG_E_UNSUPPORTED, "changes a tensor of the model in place");
        target->stored->tensor = out->tensor;
        return 0;
    }
    if (target->kind != IM_TENSOR || out->kind != IM_TENSOR)
        return 0;
    struct im_tensor *t = target->tensor;
    int *changes = t->changes;
    if (t == out->tensor)
        return 0;
    *t = *out->tensor;
    t->changes = changes;
    if (changes)
        t->change = ++*changes;
    *out = *target;
    return 0;
}

/* Marks, or looks for, tensors that stand for what could not be made. */
static bool touches_guess(const struct im_value *v, int n, bool mark)
{
    bool found = false;
    for (int i = 0; i < n; i++) {
        const struct im_value *item = &v[i];
        size_t count = 1;
        if ((item->kind == IM_LIST || item->kind == IM_TUPLE) && item->list) {
            count = item->list->n;
            item = item->list->item;
        }
        for (size_t k = 0; k < count; k++) {
            if (item[k].kind != IM_TENSOR)
                continue;
            if (mark)
                item[k].tensor->guessed = true;
            found = found || item[k].tensor->guessed;
        }
    }
    return found;
}

/* Takes down why an operator was refused and goes on with its first operand instead. What is
 * refused because of an earlier guess is not taken down. */
static int pass_over(struct im_run *r, int status, const struct im_value *args, int n,
                     bool known, struct im_value *out)
{
    if (!r->findings || r->folding || status == PSG_E_NOMEM || r->n_guesses >= GUESSES_MAX)
        return status;
    if (!known || !touches_guess(args, n, false)) {
        bool mixes = strstr(r->err->text, "mixes samples") != NULL;
        psg_findings_add(r->findings, r->err, mixes,
                         mixes ? "each sample must be worked on by itself" : NULL);
    }
    for (int i = 0; i < n; i++) {
        const struct im_value *v = &args[i];
        if (v->kind == IM_LIST && v->list->n > 0)
            v = &v->list->item[0];
        if (v->kind != IM_TENSOR || v->tensor->source != IM_VALUE)
            continue;
        struct im_tensor *t = im_tensor_copy(r, v->tensor);
        if (!t)
            return im_no_memory(r);
        t->guessed = true;
        t->changes = NULL;
        r->n_guesses++;
        return im_set(r, t, out);
    }
    return status;
}

static int call_op(struct im_run *r, const char *name, const struct im_value *args, int n,
                   const struct im_list *kw, struct im_value *out)
{
    bool changes = false;
    const struct im_op *op = find_called(name, &changes);
    struct im_value slot[IM_ARGS];
    r->op_name = name;
    *out = im_none();
    int status = op ? 0
                    : im_fail(r, PSG_E_UNSUPPORTED, "an operator that is not known here");
    if (!status)
        status = bind(r, op, args, n, kw, slot);
    if (!status)
        status = op->fn(r, slot, out);
    if (!status && changes)
        status = change(r, &slot[0], out);
    if (status)
        status = pass_over(r, status, args, n, op != NULL, out);
    else if (r->n_guesses && touches_guess(args, n, false))
        touches_guess(out, 1, true);
    if (!status)
        status = note_views(r, out);
    r->op_name = NULL;
    return status;
}

/* A frame for fn; self (or NULL) is its first argument. */
static int enter(struct im_run *r, const struct code_fn *fn, const char *path,
                 const struct im_value *self, const struct im_value *args, int n,
                 const struct im_list *kw)
{
    int n_kw = kw ? (int)kw->n : 0, first = self != NULL;
    if (r->n_frames == FRAMES_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "calls nest deeper than %d", FRAMES_MAX);
    if (n - n_kw + first > fn->n_params)
        return im_fail(r, PSG_E_INVALID, "too many arguments for %.100s", fn->name);
    struct im_value *slot = im_pool_array(r->pool, (size_t)fn->n_slots + 1, sizeof *slot);
    struct im_frame *f =
        im_pool_grow(r->pool, &r->frame, r->n_frames, &r->frame_room, sizeof *f);
    if (!slot || !f)
        return im_no_memory(r);
    for (int i = 0; i < fn->n_slots; i++)
        slot[i] =
            i < fn->n_params ? fn->dflt.item[i] : (struct im_value){ .kind = IM_UNSET };
    if (self)
        slot[0] = *self;
    for (int i = 0; i < n - n_kw; i++)
        slot[first + i] = args[i];
    for (int i = 0; i < n_kw; i++) {
        int at = 0;
        const struct im_text *want = kw->item[i].text;
        while (at < fn->n_params && (fn->slots.item[at].text->n != want->n ||
                                     memcmp(fn->slots.item[at].text->s, want->s, want->n)))
            at++;
        if (at == fn->n_params)
            return im_fail(r, PSG_E_INVALID, "%.100s has no argument %.60s", fn->name,
                           want->s);
        slot[at] = args[n - n_kw + i];
    }
    *f = (struct im_frame){ .fn = fn, .stack = r->stack.n, .path = path, .slot = slot };
    r->n_frames++;
    return 0;
}

static int class_of(struct im_run *r, const struct im_object *o,
                    const struct code_class **cls)
{
    const struct code_fn *fn;
    int status = im_find_code(r, o->class_name, &fn, cls);
    if (!status && !*cls)
        return im_fail(r, PSG_E_FORMAT, "%.160s is not a class", o->class_name);
    return status;
}

/* NamedTuple(a, b): an object with its fields in order */
static int make_tuple(struct im_run *r, const char *name, const struct code_class *cls,
                      const struct im_value *args, int n, struct im_value *out)
{
    struct im_object *o = im_pool_take(r->pool, sizeof *o);
    struct im_value attrs = im_list_new(r->pool, IM_DICT);
    if (!o || attrs.kind == IM_NONE)
        return im_no_memory(r);
    if (!cls->tuple || (size_t)n != cls->fields.n)
        return im_fail(r, PSG_E_UNSUPPORTED, "makes an object of %.120s", name);
    for (int i = 0; i < n; i++)
        if (im_list_push(r->pool, attrs.list, cls->fields.item[i]) ||
            im_list_push(r->pool, attrs.list, args[i]))
            return im_no_memory(r);
    o->class_name = name;
    o->attrs = attrs.list;
    o->path = im_path(r);
    *out = (struct im_value){ .kind = IM_OBJECT, .object = o };
    return 0;
}

static int get_attr(struct im_run *r, const struct im_value *of, const struct im_text *name,
                    struct im_value *out)
{
    const struct code_class *cls;
    if (of->kind != IM_OBJECT)
        return im_fail(r, PSG_E_UNSUPPORTED, "attribute %.80s of %s", name->s,
                       im_kind_name(of->kind));
    if (strcmp(name->s, "training") == 0 && im_training(r) >= 0) {
        *out = im_bool(im_training(r));
        return 0;
    }
    const struct im_value *v = im_object_attr(of->object, name->s);
    if (!v) {
        int status = class_of(r, of->object, &cls);
        if (status)
            return status;
        v = im_dict_find(&cls->consts, name->s);
    }
    if (!v)
        return im_fail(r, PSG_E_FORMAT, "%.80s has no attribute %.80s",
                       of->object->class_name, name->s);
    *out = *v;
    return 0;
}

static int set_attr(struct im_run *r, const struct im_text *name)
{
    struct im_value v = pop(r), of = pop(r);
    if (of.kind != IM_OBJECT || !of.object->attrs)
        return im_fail(r, PSG_E_UNSUPPORTED, "sets an attribute of %s",
                       im_kind_name(of.kind));
    struct im_value *at = im_object_attr(of.object, name->s);
    if (at && at->kind == IM_STORED && v.kind == IM_TENSOR && v.tensor->source == IM_VALUE)
        return im_fail(
            r, PSG_E_UNSUPPORTED,
            "%.80s becomes what the model computes: a state that outlives the batch",
            name->s);
    if (at) {
        *at = v;
        return 0;
    }
    struct im_value key = im_text_new(r->pool, IM_TEXT, name->s, name->n);
    if (key.kind == IM_NONE || im_list_push(r->pool, of.object->attrs, key) ||
        im_list_push(r->pool, of.object->attrs, v))
        return im_no_memory(r);
    return 0;
}

/* getattr(x, "0"), isinstance and hasattr are no operators */
static int call_name(struct im_run *r, const char *name, const struct im_value *args, int n,
                     const struct im_list *kw)
{
    const struct code_fn *fn;
    const struct code_class *cls;
    struct im_value out;
    int status;
    if (strcmp(name, "getattr") == 0 && n == 2 && args[1].kind == IM_TEXT) {
        status = get_attr(r, &args[0], args[1].text, &out);
        return status ? status : push(r, out);
    }
    if (strncmp(name, "__torch__.", 10) != 0) {
        status = call_op(r, name, args, n, kw, &out);
        return status ? status : push(r, out);
    }
    status = im_find_code(r, name, &fn, &cls);
    if (status)
        return status;
    if (fn)
        return enter(r, fn, im_path(r), NULL, args, n, kw);
    status = make_tuple(r, name, cls, args, n, &out);
    return status ? status : push(r, out);
}

static const struct im_list *kwargs_of(const struct im_frame *f, const struct code_ins *ins)
{
    return ins->b >= 0 ? f->fn->kwargs.item[ins->b].list : NULL;
}

/* The arguments stay on the stack memory while the callee is set up. */
static int call(struct im_run *r, const struct code_ins *ins)
{
    const struct im_list *kw = kwargs_of(top(r), ins);
    r->stack.n -= (size_t)ins->a + 1;
    const struct im_value *base = r->stack.item + r->stack.n;
    if (base->kind != IM_NAME)
        return im_fail(r, PSG_E_UNSUPPORTED, "calls %s", im_kind_name(base->kind));
    struct im_value args[IM_ARGS];
    if (ins->a > IM_ARGS)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d arguments", IM_ARGS);
    for (int i = 0; i < ins->a; i++)
        args[i] = base[1 + i];
    return call_name(r, base->text->s, args, ins->a, kw);
}

static int method(struct im_run *r, const struct code_ins *ins)
{
    const struct im_list *kw = kwargs_of(top(r), ins);
    const struct im_text *name = top(r)->fn->consts.item[ins->c].text;
    r->stack.n -= (size_t)ins->a + 1;
    struct im_value self = r->stack.item[r->stack.n], args[IM_ARGS];
    const struct code_class *cls;
    if (ins->a > IM_ARGS)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d arguments", IM_ARGS);
    for (int i = 0; i < ins->a; i++)
        args[i] = r->stack.item[r->stack.n + 1 + (size_t)i];
    if (self.kind != IM_OBJECT)
        return im_fail(r, PSG_E_UNSUPPORTED, "method %.80s of %s", name->s,
                       im_kind_name(self.kind));
    int status = class_of(r, self.object, &cls);
    if (status)
        return status;
    const struct code_fn *fn = code_find_fn(cls->fns, name->s);
    if (!fn || fn->n_params < 1)
        return im_fail(r, PSG_E_FORMAT, "%.80s has no method %.80s",
                       self.object->class_name, name->s);
    return enter(r, fn, self.object->path ? self.object->path : im_path(r), &self, args,
                 ins->a, kw);
}

/* ---- containers ---- */
/* Item i of a list, tuple or named tuple; NULL past its end. */
static const struct im_value *item_at(const struct im_value *v, int64_t i, int64_t *n)
{
    size_t step = 1, first = 0;
    const struct im_list *l = NULL;
    if (v->kind == IM_LIST || v->kind == IM_TUPLE) {
        l = v->list;
    } else if (v->kind == IM_OBJECT) {
        l = v->object->attrs;
        step = 2;
        first = 1;
    }
    *n = l ? (int64_t)(l->n / step) : -1;
    i = i < 0 ? i + *n : i;
    return l && i >= 0 && i < *n ? &l->item[(size_t)i * step + first] : NULL;
}

static int index_value(struct im_run *r)
{
    struct im_value i = pop(r), of = pop(r);
    int64_t at, n;
    if (of.kind == IM_DICT && i.kind == IM_TEXT) {
        const struct im_value *v = im_dict_find(of.list, i.text->s);
        return v ? push(r, *v) : im_fail(r, PSG_E_INVALID, "no key %.80s", i.text->s);
    }
    int status = im_arg_int(r, &i, 0, &at);
    if (status)
        return status;
    const struct im_value *v = item_at(&of, at, &n);
    if (!v)
        return im_fail(r, PSG_E_RANGE, "item %lld of %s", (long long)at,
                       im_kind_name(of.kind));
    return push(r, *v);
}

static int slice_value(struct im_run *r)
{
    struct im_value end = pop(r), start = pop(r), of = pop(r), out;
    const struct im_value args[] = { of, start, end, { .kind = IM_UNSET } };
    if (of.kind != IM_LIST && of.kind != IM_TUPLE)
        return im_fail(r, PSG_E_UNSUPPORTED, "a slice of %s", im_kind_name(of.kind));
    int status = im_list_slice(r, args, &out);
    out.kind = status ? IM_NONE : of.kind;
    return status ? status : push(r, out);
}

static int unpack(struct im_run *r, int count)
{
    struct im_value of = pop(r);
    int64_t n;
    item_at(&of, 0, &n);
    if (n != count)
        return im_fail(r, PSG_E_INVALID, "%s does not unpack to %d values",
                       im_kind_name(of.kind), count);
    int status = 0;
    for (int i = count - 1; i >= 0 && !status; i--)
        status = push(r, *item_at(&of, i, &n));
    return status;
}

static int build(struct im_run *r, enum im_kind kind, int n)
{
    struct im_value v = im_list_new(r->pool, kind);
    if (v.kind == IM_NONE)
        return im_no_memory(r);
    r->stack.n -= (size_t)n;
    for (int i = 0; i < n; i++)
        if (im_list_push(r->pool, v.list, r->stack.item[r->stack.n + (size_t)i]))
            return im_no_memory(r);
    return push(r, v);
}

static int iterate(struct im_run *r, struct im_frame *f, int slot)
{
    struct im_value v = pop(r);
    if (v.kind == IM_INT) { /* for i in n */
        const struct im_value args[] = { v, { .kind = IM_UNSET }, { .kind = IM_UNSET } };
        int status = im_find_op("range")->fn(r, args, &v);
        if (status)
            return status;
    }
    if (v.kind != IM_LIST && v.kind != IM_TUPLE)
        return im_fail(r, PSG_E_UNSUPPORTED, "a loop over %s", im_kind_name(v.kind));
    f->slot[slot] = v;
    f->slot[slot + 1] = im_int(0);
    return 0;
}

static int next(struct im_run *r, struct im_frame *f, const struct code_ins *ins)
{
    const struct im_list *l = f->slot[ins->a].list;
    int64_t *at = &f->slot[ins->a + 1].i;
    if ((size_t)*at >= l->n) {
        f->pc = (size_t)ins->b;
        return 0;
    }
    return push(r, l->item[(*at)++]);
}

static int load(struct im_run *r, struct im_frame *f, int slot)
{
    if (f->slot[slot].kind == IM_UNSET)
        return im_fail(r, PSG_E_UNSUPPORTED, "reads %.80s, which is not known here",
                       f->fn->slots.item[slot].text->s);
    return push(r, f->slot[slot]);
}

static int step(struct im_run *r)
{
    struct im_frame *f = top(r);
    const struct code_ins *ins = &f->fn->ins[f->pc++];
    struct im_value v;
    bool yes;
    int status;
    switch (ins->op) {
    case CODE_CONST: return push(r, f->fn->consts.item[ins->a]);
    case CODE_CONSTANTS:
        status = im_constant(r, ins->a, &v);
        return status ? status : push(r, v);
    case CODE_LOAD: return load(r, f, ins->a);
    case CODE_STORE: f->slot[ins->a] = pop(r); return 0;
    case CODE_ATTR:
        v = pop(r);
        status = get_attr(r, &v, f->fn->consts.item[ins->a].text, &v);
        return status ? status : push(r, v);
    case CODE_SET_ATTR: return set_attr(r, f->fn->consts.item[ins->a].text);
    case CODE_INDEX: return index_value(r);
    case CODE_SLICE: return slice_value(r);
    case CODE_LIST: return build(r, IM_LIST, ins->a);
    case CODE_TUPLE: return build(r, IM_TUPLE, ins->a);
    case CODE_DICT: return build(r, IM_DICT, ins->a);
    case CODE_CALL: return call(r, ins);
    case CODE_METHOD: return method(r, ins);
    case CODE_UNPACK: return unpack(r, ins->a);
    case CODE_POP: pop(r); return 0;
    case CODE_JUMP: f->pc = (size_t)ins->a; return 0;
    case CODE_JUMP_UNLESS:
        v = pop(r);
        status = im_truth(r, &v, &yes);
        if (!status && !yes)
            f->pc = (size_t)ins->a;
        return status;
    case CODE_ITER: return iterate(r, f, ins->a);
    case CODE_NEXT: return next(r, f, ins);
    case CODE_RETURN:
        v = pop(r);
        r->stack.n = f->stack;
        r->n_frames--;
        return push(r, v);
    }
    return PSG_E_INVALID;
}

int im_call_forward(struct im_run *r, struct im_object *module, const struct im_value *args,
                    int n_args, struct im_value *out)
{
    const struct code_class *cls;
    struct im_value self = { .kind = IM_OBJECT, .object = module };
    int status = class_of(r, module, &cls);
    if (status)
        return status;
    const struct code_fn *fn = code_find_fn(cls->fns, "forward");
    if (!fn || fn->n_params < 1)
        return im_fail(r, PSG_E_FORMAT, "%.120s has no forward()", module->class_name);
    status = enter(r, fn, "", &self, args, n_args, NULL);
    while (status == 0 && r->n_frames > 0) {
        if (++r->steps > STEPS_MAX)
            return im_fail(r, PSG_E_UNSUPPORTED, "more than %d steps", STEPS_MAX);
        status = step(r);
    }
    if (status == 0)
        *out = pop(r);
    return status;
}
