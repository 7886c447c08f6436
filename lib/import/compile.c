/* Classes, functions and statements. Open blocks stand on a stack; a line that is indented less
 * than a block closes it. */
#include "import/compile.h"

#include <string.h>

enum block_kind { K_IF, K_ELSE, K_WHILE, K_FOR };

struct block {
    enum block_kind kind;
    int indent;   /* of the statement that opened it */
    size_t patch; /* jump to be aimed at the block's end */
    size_t start; /* K_WHILE, K_FOR: where to go again */
};

struct body {
    struct compiler *c;
    struct block block[CODE_DEPTH_MAX];
    int depth;
    int indent; /* of the def line */
};

static int expect_line(struct compiler *c)
{
    if (c->lex.token == T_LINE || c->lex.token == T_END)
        return 0;
    return code_fail(c, PSG_E_FORMAT, "expected the end of the line");
}

/* ---- blocks ---- */
static void aim(struct compiler *c, size_t ins, size_t at)
{
    struct code_ins *i = &c->fn->ins[ins];
    *(i->op == CODE_NEXT ? &i->b : &i->a) = (int32_t)at;
}

static int close_block(struct body *b)
{
    struct compiler *c = b->c;
    struct block *k = &b->block[--b->depth];
    if (k->kind == K_WHILE || k->kind == K_FOR) {
        int r = code_emit(c, CODE_JUMP, (int64_t)k->start, 0);
        if (r)
            return r;
    }
    aim(c, k->patch, c->fn->n_ins);
    return 0;
}

static int open_block(struct body *b, enum block_kind kind, int indent, size_t patch,
                      size_t start)
{
    struct compiler *c = b->c;
    if (b->depth == CODE_DEPTH_MAX)
        return code_fail(c, PSG_E_UNSUPPORTED, "blocks nest deeper than %d",
                         CODE_DEPTH_MAX);
    b->block[b->depth++] = (struct block){ kind, indent, patch, start };
    int r = lex_expect(c, ':');
    return r ? r : expect_line(c);
}

static int if_statement(struct body *b, int indent)
{
    struct compiler *c = b->c;
    int r = lex_next(c);
    if (!r)
        r = code_expression(c, false);
    size_t patch = c->fn->n_ins;
    if (!r)
        r = code_emit(c, CODE_JUMP_UNLESS, 0, 0);
    return r ? r : open_block(b, K_IF, indent, patch, 0);
}

/* Stands where the block of its `if` has just been left: that block ends behind a jump. */
static int else_statement(struct body *b, int indent, const struct block *closed)
{
    struct compiler *c = b->c;
    if (!closed || closed->kind != K_IF || closed->indent != indent)
        return code_fail(c, PSG_E_FORMAT, "an else without its if");
    size_t patch = c->fn->n_ins;
    int r = code_emit(c, CODE_JUMP, 0, 0);
    if (!r)
        r = lex_next(c);
    if (r)
        return r;
    aim(c, closed->patch, c->fn->n_ins);
    return open_block(b, K_ELSE, indent, patch, 0);
}

static int while_statement(struct body *b, int indent)
{
    struct compiler *c = b->c;
    size_t start = c->fn->n_ins;
    int r = lex_next(c);
    if (!r)
        r = code_expression(c, false);
    size_t patch = c->fn->n_ins;
    if (!r)
        r = code_emit(c, CODE_JUMP_UNLESS, 0, 0);
    return r ? r : open_block(b, K_WHILE, indent, patch, start);
}

/* Two slots without a name that code could use. */
static int hidden_slots(struct compiler *c)
{
    int first = (int)c->fn->slots.n;
    for (int i = 0; i < 2; i++) {
        struct im_value v = im_text_new(c->pool, IM_TEXT, " ", 1);
        if (v.kind == IM_NONE || first + 1 >= CODE_SLOTS_MAX ||
            im_list_push(c->pool, &c->fn->slots, v))
            return code_no_memory(c);
    }
    return first;
}

static int for_statement(struct body *b, int indent)
{
    struct compiler *c = b->c;
    int r = lex_next(c);
    if (r)
        return r;
    if (c->lex.token != T_NAME)
        return code_fail(c, PSG_E_FORMAT, "expected a name after for");
    struct lexer name = c->lex;
    if ((r = lex_next(c)))
        return r;
    if (!lex_is_name(c, "in"))
        return code_fail(c, PSG_E_FORMAT, "expected in");
    if ((r = lex_next(c)) || (r = code_expression(c, false)))
        return r;
    int slot = code_slot(c, name.text, name.n, true);
    int iter = slot < 0 ? slot : hidden_slots(c);
    if (iter < 0)
        return iter;
    r = code_emit(c, CODE_ITER, iter, 0);
    size_t start = c->fn->n_ins;
    if (!r)
        r = code_emit(c, CODE_NEXT, iter, 0);
    if (!r)
        r = code_emit(c, CODE_STORE, slot, 0);
    return r ? r : open_block(b, K_FOR, indent, start, start);
}

/* ---- assignments ---- */
/* Looks ahead whether the line reads  a = , a, b, = , a : T = , self.a = */
enum shape { S_PLAIN, S_NAMES, S_ATTR };

static int look(struct compiler *c, enum shape *shape, int *n_names)
{
    struct lexer saved = c->lex;
    bool comma = false;
    int r = 0, n = 0;
    *shape = S_PLAIN;
    while (r == 0 && c->lex.token == T_NAME && n < CODE_ARGS_MAX) {
        n++;
        if ((r = lex_next(c)))
            break;
        comma = lex_is(c, ',');
        if (!comma)
            break;
        r = lex_next(c);
    }
    if (r == 0 && n == 1 && lex_is(c, '.')) {
        r = lex_next(c);
        if (r == 0 && c->lex.token == T_NAME)
            r = lex_next(c);
        if (r == 0 && lex_is(c, '='))
            *shape = S_ATTR;
    } else if (r == 0 && n == 1 && !comma && lex_is(c, ':')) {
        r = lex_skip_type(c, "=");
    }
    if (r == 0 && *shape == S_PLAIN && n > 0 && lex_is(c, '='))
        *shape = S_NAMES;
    /* `a, = x` unpacks, `a = x` does not: a last comma is counted as a negative number */
    *n_names = n == 1 && comma ? -1 : n;
    c->lex = saved;
    return r;
}

static int assign_names(struct compiler *c, int n)
{
    struct lexer first = c->lex;
    int r = 0, count = n < 0 ? 1 : n;
    while (r == 0 && !lex_is(c, '='))
        r = lex_is(c, ':') ? lex_skip_type(c, "=") : lex_next(c);
    if (!r)
        r = lex_next(c);
    if (!r)
        r = code_expression(c, true);
    if (!r && n != 1)
        r = code_emit(c, CODE_UNPACK, count, 0);
    struct lexer rest = c->lex;
    c->lex = first;
    for (int i = 0; i < count && r == 0; i++) {
        int slot = code_slot(c, c->lex.text, c->lex.n, true);
        r = slot < 0 ? slot : code_emit(c, CODE_STORE, slot, 0);
        if (r == 0 && i + 1 < count && (r = lex_next(c)) == 0)
            r = lex_next(c);
    }
    c->lex = rest;
    return r ? r : expect_line(c);
}

static int assign_attr(struct compiler *c)
{
    int slot = code_slot(c, c->lex.text, c->lex.n, false);
    if (slot < 0)
        return code_fail(c, PSG_E_FORMAT, "an attribute of an unknown name");
    int r = code_emit(c, CODE_LOAD, slot, 0);
    if (r || (r = lex_next(c)) || (r = lex_next(c)))
        return r;
    struct im_value v = im_text_new(c->pool, IM_TEXT, c->lex.text, c->lex.n);
    if (v.kind == IM_NONE)
        return code_no_memory(c);
    int name = code_const(c, v);
    if (name < 0)
        return name;
    if ((r = lex_next(c)) || (r = lex_expect(c, '=')) || (r = code_expression(c, true)))
        return r;
    r = code_emit(c, CODE_SET_ATTR, name, 0);
    return r ? r : expect_line(c);
}

/* ---- statements ---- */
static int return_statement(struct compiler *c)
{
    int r = lex_next(c);
    if (r)
        return r;
    if (c->lex.token == T_LINE || c->lex.token == T_END) {
        int k = code_const(c, im_none());
        r = k < 0 ? k : code_emit(c, CODE_CONST, k, 0);
    } else {
        r = code_expression(c, true);
    }
    if (!r)
        r = code_emit(c, CODE_RETURN, 0, 0);
    return r ? r : expect_line(c);
}

static int plain_statement(struct compiler *c)
{
    enum shape shape;
    int n, r = look(c, &shape, &n);
    if (r)
        return r;
    if (shape == S_NAMES)
        return assign_names(c, n);
    if (shape == S_ATTR)
        return assign_attr(c);
    r = code_expression(c, true);
    if (!r)
        r = code_emit(c, CODE_POP, 0, 0);
    return r ? r : expect_line(c);
}

/* One line at `indent`; closed is the block that the line's indentation has just ended. */
static int statement(struct body *b, int indent, const struct block *closed)
{
    struct compiler *c = b->c;
    static const char *const refused[] = {
        "with", "try",    "del",  "global", "raise", "assert",   "elif",  "class",
        "def",  "import", "from", "yield",  "break", "continue", "lambda"
    };
    if (lex_is_name(c, "if"))
        return if_statement(b, indent);
    if (lex_is_name(c, "else"))
        return else_statement(b, indent, closed);
    if (lex_is_name(c, "while"))
        return while_statement(b, indent);
    if (lex_is_name(c, "for"))
        return for_statement(b, indent);
    if (lex_is_name(c, "return"))
        return return_statement(c);
    if (lex_is_name(c, "pass")) {
        int r = lex_next(c);
        return r ? r : expect_line(c);
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (lex_is_name(c, refused[i]))
            return code_fail(c, PSG_E_UNSUPPORTED, "'%s' is not read", refused[i]);
    return plain_statement(c);
}

/* The indented lines behind a def; the lexer stands at the line end of the def. */
static int body(struct compiler *c, int indent)
{
    struct body b = { .c = c, .indent = indent };
    int r = 0;
    while (r == 0 && c->lex.token == T_LINE && c->lex.indent > indent) {
        int here = c->lex.indent;
        if ((r = lex_next(c)))
            return r;
        if (c->lex.token == T_END)
            break;
        struct block closed;
        bool any = false;
        while (r == 0 && b.depth && b.block[b.depth - 1].indent >= here) {
            closed = b.block[b.depth - 1];
            any = true;
            if (closed.kind == K_IF && closed.indent == here && lex_is_name(c, "else"))
                b.depth--;
            else
                r = close_block(&b);
        }
        if (r == 0)
            r = statement(&b, here, any ? &closed : NULL);
    }
    while (r == 0 && b.depth)
        r = close_block(&b);
    int k = r ? r : code_const(c, im_none());
    if (k < 0)
        return k;
    r = code_emit(c, CODE_CONST, k, 0);
    return r ? r : code_emit(c, CODE_RETURN, 0, 0);
}

/* ---- functions and classes ---- */
static int parameters(struct compiler *c, struct code_fn *fn)
{
    int r = 0;
    while (r == 0 && !lex_is(c, ')')) {
        if (c->lex.token != T_NAME)
            return code_fail(c, PSG_E_FORMAT, "expected the name of a parameter");
        int slot = code_slot(c, c->lex.text, c->lex.n, true);
        if (slot < 0)
            return slot;
        if (slot != fn->n_params)
            return code_fail(c, PSG_E_FORMAT, "two parameters have one name");
        fn->n_params++;
        struct im_value dflt = { .kind = IM_UNSET };
        r = lex_next(c);
        if (r == 0 && lex_is(c, ':'))
            r = lex_skip_type(c, ",=");
        if (r == 0 && lex_is(c, '=')) {
            r = lex_next(c);
            if (r == 0)
                r = code_literal(c, &dflt);
        }
        if (r == 0 && im_list_push(c->pool, &fn->dflt, dflt))
            return code_no_memory(c);
        if (r == 0 && lex_is(c, ','))
            r = lex_next(c);
        else if (r == 0 && !lex_is(c, ')'))
            return code_fail(c, PSG_E_FORMAT, "expected ',' or ')'");
    }
    return r;
}

static int function(struct compiler *c, int indent, struct code_fn ***endp)
{
    int r = lex_next(c);
    if (r)
        return r;
    struct code_fn *fn = im_pool_take(c->pool, sizeof *fn);
    if (!fn)
        return code_no_memory(c);
    if (c->lex.token != T_NAME)
        return code_fail(c, PSG_E_FORMAT, "expected the name of a function");
    fn->name = im_pool_text(c->pool, c->lex.text, c->lex.n);
    fn->file = c->file;
    fn->line = c->lex.line;
    if (!fn->name)
        return code_no_memory(c);
    c->fn = fn;
    if ((r = lex_next(c)) || (r = lex_expect(c, '(')) || (r = parameters(c, fn)) ||
        (r = lex_expect(c, ')')))
        return r;
    if (c->lex.token == T_ARROW && ((r = lex_next(c)) || (r = lex_skip_type(c, ":"))))
        return r;
    if ((r = lex_expect(c, ':')) || (r = expect_line(c)) || (r = body(c, indent)))
        return r;
    fn->n_slots = (int)fn->slots.n;
    **endp = fn;
    *endp = &fn->next;
    return 0;
}

/* name : T, name : Final[T] = value, __parameters__ = [...] */
static int field(struct compiler *c, struct code_class *cls)
{
    struct im_value name = im_text_new(c->pool, IM_TEXT, c->lex.text, c->lex.n), v;
    if (name.kind == IM_NONE)
        return code_no_memory(c);
    int r = lex_next(c);
    bool typed = r == 0 && lex_is(c, ':');
    if (typed) {
        if (im_list_push(c->pool, &cls->fields, name))
            return code_no_memory(c);
        r = lex_skip_type(c, "=");
    }
    if (r == 0 && !typed && !lex_is(c, '=')) { /* __annotations__["0"] = T, pass */
        while (r == 0 && c->lex.token != T_LINE && c->lex.token != T_END)
            r = lex_next(c);
        return r;
    }
    if (r || !lex_is(c, '='))
        return r ? r : expect_line(c);
    if ((r = lex_next(c)) || (r = code_literal(c, &v)))
        return r;
    if (typed && (im_list_push(c->pool, &cls->consts, name) ||
                  im_list_push(c->pool, &cls->consts, v)))
        return code_no_memory(c);
    return expect_line(c);
}

static int class_(struct compiler *c, int indent, struct code_class ***endp)
{
    int r = lex_next(c);
    if (r)
        return r;
    struct code_class *cls = im_pool_take(c->pool, sizeof *cls);
    if (!cls)
        return code_no_memory(c);
    if (c->lex.token != T_NAME)
        return code_fail(c, PSG_E_FORMAT, "expected the name of a class");
    cls->name = im_pool_text(c->pool, c->lex.text, c->lex.n);
    cls->file = c->file;
    if (!cls->name)
        return code_no_memory(c);
    if ((r = lex_next(c)) || (r = lex_expect(c, '(')))
        return r;
    cls->tuple = lex_is_name(c, "NamedTuple");
    while (r == 0 && c->lex.token == T_NAME)
        r = lex_next(c);
    if (r || (r = lex_expect(c, ')')) || (r = lex_expect(c, ':')) || (r = expect_line(c)))
        return r;
    struct code_fn **fns = &cls->fns;
    while (r == 0 && c->lex.token == T_LINE && c->lex.indent > indent) {
        int here = c->lex.indent;
        if ((r = lex_next(c)))
            return r;
        if (c->lex.token == T_END)
            break;
        if (lex_is_name(c, "def"))
            r = function(c, here, &fns);
        else if (c->lex.token == T_NAME)
            r = field(c, cls);
        else
            r = code_fail(c, PSG_E_FORMAT, "expected a field or a method");
    }
    **endp = cls;
    *endp = &cls->next;
    return r;
}

int code_compile(struct im_pool *pool, const char *path, const char *prefix,
                 const char *text, size_t size, struct code_file **filep,
                 struct psg_error *err)
{
    struct code_file *file = im_pool_take(pool, sizeof *file);
    if (!file)
        return im_pool_fail(err, path);
    file->path = path;
    file->prefix = prefix;
    struct compiler c = { .pool = pool, .file = file, .err = err };
    c.lex.p = text;
    c.lex.end = text + size;
    c.lex.line = c.lex.here = 1;
    struct code_fn **fns = &file->fns;
    struct code_class **classes = &file->classes;
    int r = lex_next(&c);
    while (r == 0 && c.lex.token != T_END) {
        if (c.lex.token == T_LINE)
            r = lex_next(&c);
        else if (lex_is_name(&c, "class"))
            r = class_(&c, 0, &classes);
        else if (lex_is_name(&c, "def"))
            r = function(&c, 0, &fns);
        else
            r = code_fail(&c, PSG_E_FORMAT, "expected a class or a function");
    }
    if (r == 0)
        *filep = file;
    return r;
}

const struct code_fn *code_find_fn(const struct code_fn *list, const char *name)
{
    while (list && strcmp(list->name, name) != 0)
        list = list->next;
    return list;
}

const struct code_class *code_find_class(const struct code_file *file, const char *name)
{
    const struct code_class *c = file->classes;
    while (c && strcmp(c->name, name) != 0)
        c = c->next;
    return c;
}
