/* Expressions to stack code. Brackets that are open stand on a stack of frames. */
#include <math.h>
#include <string.h>

#include "import/compile.h"

enum bracket { B_GROUP, B_LIST, B_DICT, B_CALL, B_METHOD, B_INDEX, B_CAST };

struct frame {
    enum bracket kind;
    int n;             /* values so far, the one at work left out */
    int method;        /* constant */
    bool colon;        /* B_INDEX: a slice */
    bool comma;        /* B_GROUP: a tuple even of one */
    bool named;        /* calls: the argument at work has a name */
    struct im_list kw; /* names of keyword arguments */
};

struct parse {
    struct compiler *c;
    struct frame frame[CODE_DEPTH_MAX];
    int depth;
    bool operand; /* a value is complete; an operator may follow */
    int n;        /* top level: values before the one at work */
};

int code_const(struct compiler *c, struct im_value v)
{
    if (c->fn->consts.n >= INT32_MAX || im_list_push(c->pool, &c->fn->consts, v))
        return code_no_memory(c);
    return (int)c->fn->consts.n - 1;
}

static int emit3(struct compiler *c, enum code_op op, int64_t a, int64_t b, int64_t d)
{
    struct code_fn *fn = c->fn;
    struct code_ins *at =
        im_pool_grow(c->pool, &fn->ins, fn->n_ins, &fn->ins_room, sizeof *at);
    if (!at || fn->n_ins >= INT32_MAX)
        return code_no_memory(c);
    *at = (struct code_ins){ op, (int32_t)a, (int32_t)b, (int32_t)d, c->lex.line };
    fn->n_ins++;
    return 0;
}

int code_emit(struct compiler *c, enum code_op op, int64_t a, int64_t b)
{
    return emit3(c, op, a, b, 0);
}

static int emit_const(struct compiler *c, struct im_value v)
{
    int k = code_const(c, v);
    return k < 0 ? k : code_emit(c, CODE_CONST, k, 0);
}

int code_slot(struct compiler *c, const char *name, size_t n, bool make)
{
    struct im_list *slots = &c->fn->slots;
    for (size_t i = slots->n; i-- > 0;)
        if (slots->item[i].text->n == n && memcmp(slots->item[i].text->s, name, n) == 0)
            return (int)i;
    if (!make)
        return CODE_UNKNOWN;
    if (slots->n >= CODE_SLOTS_MAX)
        return code_fail(c, PSG_E_UNSUPPORTED, "more than %d names in a function",
                         CODE_SLOTS_MAX);
    struct im_value v = im_text_new(c->pool, IM_TEXT, name, n);
    if (v.kind == IM_NONE || im_list_push(c->pool, slots, v))
        return code_no_memory(c);
    return (int)slots->n - 1;
}

static struct frame *top(struct parse *p)
{
    return p->depth ? &p->frame[p->depth - 1] : NULL;
}

static int open_frame(struct parse *p, enum bracket kind)
{
    if (p->depth == CODE_DEPTH_MAX)
        return code_fail(p->c, PSG_E_UNSUPPORTED, "brackets nest deeper than %d",
                         CODE_DEPTH_MAX);
    p->frame[p->depth++] = (struct frame){ .kind = kind };
    p->operand = false;
    return lex_next(p->c);
}

static int value_done(struct parse *p)
{
    p->operand = true;
    return lex_next(p->c);
}

static int parse_const(struct parse *p, struct im_value v)
{
    int r = emit_const(p->c, v);
    return r ? r : value_done(p);
}

/* torch.a.b, ops.prim.x, __torch__.m.f, CONSTANTS.c3: a name of something global */
static int global_name(struct parse *p)
{
    struct compiler *c = p->c;
    const char *start = c->lex.text;
    bool constants = lex_is_name(c, "CONSTANTS");
    const char *stop;
    int r;
    do {
        stop = c->lex.text + c->lex.n;
        if ((r = lex_next(c)))
            return r;
        if (!lex_is(c, '.'))
            break;
        if ((r = lex_next(c)))
            return r;
        if (c->lex.token != T_NAME)
            return code_fail(c, PSG_E_FORMAT, "expected a name after '.'");
    } while (true);
    p->operand = true;
    if (constants) {
        const char *digits = start + 11; /* behind "CONSTANTS.c" */
        int64_t k = 0;
        bool ok = stop > digits && digits[-1] == 'c' && stop - digits < 8;
        for (const char *d = digits; ok && d < stop; d++) {
            ok = *d >= '0' && *d <= '9';
            k = k * 10 + (*d - '0');
        }
        return ok ? code_emit(c, CODE_CONSTANTS, k, 0)
                  : code_fail(c, PSG_E_FORMAT, "not the name of a constant");
    }
    struct im_value v = im_text_new(c->pool, IM_NAME, start, (size_t)(stop - start));
    return v.kind == IM_NONE ? code_no_memory(c) : emit_const(c, v);
}

/* annotate(T, x), unchecked_cast(T, x): x. uninitialized(T): a value that may not be read */
static int cast(struct parse *p, bool unset)
{
    struct compiler *c = p->c;
    int r = lex_next(c);
    if (!r && !lex_is(c, '('))
        return code_fail(c, PSG_E_FORMAT, "expected '('");
    if (!r)
        r = lex_next(c);
    if (!r)
        r = lex_skip_type(c, unset ? ")" : ",");
    if (r)
        return r;
    if (unset) {
        r = emit_const(c, (struct im_value){ .kind = IM_UNKNOWN });
        p->operand = true;
        return r ? r : lex_expect(c, ')');
    }
    if (!lex_is(c, ','))
        return code_fail(c, PSG_E_FORMAT, "expected ','");
    return open_frame(p, B_CAST);
}

/* name=value in a call */
static int keyword(struct parse *p, const struct lexer *name, bool *taken)
{
    struct compiler *c = p->c;
    struct frame *f = top(p);
    *taken = f && (f->kind == B_CALL || f->kind == B_METHOD) && lex_is(c, '=');
    if (!*taken)
        return 0;
    f->named = true;
    struct im_value v = im_text_new(c->pool, IM_TEXT, name->text, name->n);
    if (v.kind == IM_NONE || im_list_push(c->pool, &f->kw, v))
        return code_no_memory(c);
    return lex_next(c);
}

static bool is_global(const struct compiler *c)
{
    return lex_is_name(c, "torch") || lex_is_name(c, "ops") ||
           lex_is_name(c, "__torch__") || lex_is_name(c, "CONSTANTS");
}

static int name_operand(struct parse *p)
{
    struct compiler *c = p->c;
    if (lex_is_name(c, "True") || lex_is_name(c, "False"))
        return parse_const(p, im_bool(lex_is_name(c, "True")));
    if (lex_is_name(c, "None"))
        return parse_const(p, im_none());
    if (lex_is_name(c, "inf") || lex_is_name(c, "nan"))
        return parse_const(p,
                           im_real(lex_is_name(c, "inf") ? (double)INFINITY : (double)NAN));
    if (lex_is_name(c, "uninitialized"))
        return cast(p, true);
    if (lex_is_name(c, "annotate") || lex_is_name(c, "unchecked_cast"))
        return cast(p, false);
    int slot = code_slot(c, c->lex.text, c->lex.n, false);
    if (slot == CODE_UNKNOWN && is_global(c))
        return global_name(p);
    struct lexer name = c->lex;
    bool taken;
    int r = lex_next(c);
    if (!r)
        r = keyword(p, &name, &taken);
    if (r || taken)
        return r;
    p->operand = true;
    if (slot >= 0)
        return code_emit(c, CODE_LOAD, slot, 0);
    if (!lex_is(c, '(') && !lex_is(c, '.'))
        return code_fail(c, PSG_E_FORMAT, "%.*s is not set before this line",
                         name.n > 80 ? 80 : (int)name.n, name.text);
    struct im_value v = im_text_new(c->pool, IM_NAME, name.text, name.n);
    return v.kind == IM_NONE ? code_no_memory(c) : emit_const(c, v);
}

static int negative(struct parse *p)
{
    struct compiler *c = p->c;
    int r = lex_next(c);
    if (r)
        return r;
    if (c->lex.token == T_INT)
        return parse_const(p, im_int(-c->lex.value.i));
    if (c->lex.token == T_REAL)
        return parse_const(p, im_real(-c->lex.value.d));
    if (lex_is_name(c, "inf"))
        return parse_const(p, im_real(-(double)INFINITY));
    return code_fail(c, PSG_E_UNSUPPORTED, "a minus that is not before a number");
}

static int close_call(struct parse *p, const struct frame *f)
{
    struct compiler *c = p->c;
    int64_t names = -1;
    if (f->n > CODE_ARGS_MAX)
        return code_fail(c, PSG_E_UNSUPPORTED, "more than %d arguments", CODE_ARGS_MAX);
    if (f->kw.n) {
        struct im_value v = im_list_new(c->pool, IM_LIST);
        if (v.kind == IM_NONE)
            return code_no_memory(c);
        *v.list = f->kw;
        names = (int64_t)c->fn->kwargs.n;
        if (im_list_push(c->pool, &c->fn->kwargs, v))
            return code_no_memory(c);
    }
    return emit3(c, f->kind == B_METHOD ? CODE_METHOD : CODE_CALL, f->n, names, f->method);
}

/* The argument at work is complete. */
static int end_argument(struct parse *p, struct frame *f)
{
    if (f->kw.n && !f->named)
        return code_fail(p->c, PSG_E_FORMAT, "a plain argument after a named one");
    f->named = false;
    f->n++;
    return 0;
}

/* A closing bracket. */
static int close_frame(struct parse *p, char ch)
{
    struct compiler *c = p->c;
    struct frame *f = top(p);
    static const char closing[] = {
        [B_GROUP] = ')',  [B_LIST] = ']',  [B_DICT] = '}', [B_CALL] = ')',
        [B_METHOD] = ')', [B_INDEX] = ']', [B_CAST] = ')',
    };
    if (closing[f->kind] != ch)
        return code_fail(c, PSG_E_FORMAT, "expected '%c'", closing[f->kind]);
    int r = p->operand ? end_argument(p, f) : 0;
    if (r)
        return r;
    switch (f->kind) {
    case B_GROUP: r = f->n != 1 || f->comma ? code_emit(c, CODE_TUPLE, f->n, 0) : 0; break;
    case B_LIST: r = code_emit(c, CODE_LIST, f->n, 0); break;
    case B_DICT:
        r = f->n % 2 ? code_fail(c, PSG_E_FORMAT, "a key without a value")
                     : code_emit(c, CODE_DICT, f->n, 0);
        break;
    case B_CALL:
    case B_METHOD: r = close_call(p, f); break;
    case B_INDEX:
        if (f->n != 1 + f->colon)
            r = code_fail(c, PSG_E_FORMAT, "one index is expected");
        else
            r = code_emit(c, f->colon ? CODE_SLICE : CODE_INDEX, 0, 0);
        break;
    case B_CAST:
        r = f->n == 1 ? 0 : code_fail(c, PSG_E_FORMAT, "one value is expected");
        break;
    }
    p->depth--;
    return r ? r : value_done(p);
}

static int operand(struct parse *p)
{
    struct compiler *c = p->c;
    switch (c->lex.token) {
    case T_NAME: return name_operand(p);
    case T_INT:
    case T_REAL:
    case T_TEXT: return parse_const(p, c->lex.value);
    case T_OTHER:
        if (c->lex.ch == '-')
            return negative(p);
        if (c->lex.ch == '(')
            return open_frame(p, B_GROUP);
        if (c->lex.ch == '[')
            return open_frame(p, B_LIST);
        if (c->lex.ch == '{')
            return open_frame(p, B_DICT);
        if (p->depth && strchr(")]}", c->lex.ch))
            return close_frame(p, c->lex.ch);
        break;
    case T_END:
    case T_LINE:
    case T_ARROW: break;
    }
    return code_fail(c, PSG_E_FORMAT, "expected a value");
}

/* .name or .name( */
static int attribute(struct parse *p)
{
    struct compiler *c = p->c;
    int r = lex_next(c);
    if (r)
        return r;
    if (c->lex.token != T_NAME)
        return code_fail(c, PSG_E_FORMAT, "expected a name after '.'");
    struct im_value v = im_text_new(c->pool, IM_TEXT, c->lex.text, c->lex.n);
    if (v.kind == IM_NONE)
        return code_no_memory(c);
    int name = code_const(c, v);
    r = name < 0 ? name : lex_next(c);
    if (r)
        return r;
    if (!lex_is(c, '('))
        return code_emit(c, CODE_ATTR, name, 0);
    r = open_frame(p, B_METHOD);
    if (r == 0)
        top(p)->method = name;
    return r;
}

/* What may follow a value. *done: nothing of this expression. */
static int operator(struct parse *p, bool list, bool *done)
{
    struct compiler *c = p->c;
    struct frame *f = top(p);
    char ch = c->lex.token == T_OTHER ? c->lex.ch : '\0';
    if (ch == '.')
        return attribute(p);
    if (ch == '(')
        return open_frame(p, B_CALL);
    if (ch == '[')
        return open_frame(p, B_INDEX);
    if (f && ch == ',' && f->kind != B_INDEX && f->kind != B_CAST) {
        f->comma = true;
        p->operand = false;
        int r = end_argument(p, f);
        return r ? r : lex_next(c);
    }
    if (f && ch == ':' &&
        ((f->kind == B_DICT && f->n % 2 == 0) || (f->kind == B_INDEX && !f->colon))) {
        f->n++;
        f->colon = true;
        p->operand = false;
        return lex_next(c);
    }
    if (f && (ch == ')' || ch == ']' || ch == '}'))
        return close_frame(p, ch);
    if (f)
        return code_fail(c, PSG_E_FORMAT, "expected ',' or a closing bracket");
    *done = !(list && ch == ',');
    if (*done)
        return 0;
    p->n++;
    p->operand = false;
    return lex_next(c);
}

int code_expression(struct compiler *c, bool list)
{
    struct parse p = { .c = c };
    bool done = false;
    int r = 0;
    while (r == 0 && !done) {
        if (p.operand)
            r = operator(&p, list, &done);
        else if (p.depth == 0 && p.n > 0 &&
                 (c->lex.token == T_LINE || c->lex.token == T_END))
            done = true; /* after a last comma */
        else
            r = operand(&p);
    }
    int n = p.n + p.operand;
    if (r == 0 && list && p.n > 0)
        r = code_emit(c, CODE_TUPLE, n, 0);
    return r;
}

/* Runs code of constants, lists and tuples. */
static int fold(struct compiler *c, const struct code_fn *fn, struct im_value *out)
{
    struct im_list stack = { 0 };
    *out = (struct im_value){ .kind = IM_UNSET };
    for (size_t i = 0; i < fn->n_ins; i++) {
        const struct code_ins *ins = &fn->ins[i];
        struct im_value v;
        if (ins->op == CODE_CONST) {
            v = fn->consts.item[ins->a];
        } else if (ins->op == CODE_LIST || ins->op == CODE_TUPLE || ins->op == CODE_DICT) {
            v = im_list_new(c->pool, ins->op == CODE_LIST    ? IM_LIST
                                     : ins->op == CODE_TUPLE ? IM_TUPLE
                                                             : IM_DICT);
            if (v.kind == IM_NONE)
                return code_no_memory(c);
            stack.n -= (size_t)ins->a;
            for (int k = 0; k < ins->a; k++)
                if (im_list_push(c->pool, v.list, stack.item[stack.n + (size_t)k]))
                    return code_no_memory(c);
        } else {
            return 0;
        }
        if (im_list_push(c->pool, &stack, v))
            return code_no_memory(c);
    }
    if (stack.n == 1)
        *out = stack.item[0];
    return 0;
}

int code_literal(struct compiler *c, struct im_value *out)
{
    struct code_fn scratch = { .file = c->file }, *outer = c->fn;
    c->fn = &scratch;
    int r = code_expression(c, false);
    c->fn = outer;
    return r ? r : fold(c, &scratch, out);
}
