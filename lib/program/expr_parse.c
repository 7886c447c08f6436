/* Formulas to code: operator precedence with two explicit stacks (Dijkstra's shunting yard). */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "program/expr.h"

enum waiting_kind { WAIT_OPERATOR, WAIT_PAREN, WAIT_CALL, WAIT_LIST };
enum { PREC_COMPARE = 1, PREC_ADD, PREC_MUL, PREC_SIGN, PREC_POWER };

/* what stands on the operator stack */
struct waiting {
    enum waiting_kind kind;
    int prec, function, n, column;
};

struct parser {
    struct psg_expr *e;
    const char *text, *place;
    size_t at, size;
    bool operand; /* an operand must come next */
    struct waiting wait[EXPR_STACK_MAX];
    int n_wait, depth; /* depth: values that code so far leaves on the stack */
    struct expr_code *code;
    struct psg_error *err;
};

bool expr_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > PSG_EXPR_NAME_MAX || isdigit((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_')
            return false;
    return true;
}

int expr_find_name(const struct psg_expr *e, const char *name, size_t len)
{
    for (int i = e->n_names - 1; i >= 0; i--)
        if (strlen(e->name[i].text) == len && memcmp(e->name[i].text, name, len) == 0)
            return i;
    return -1;
}

void expr_code_clear(struct expr_code *code)
{
    free(code->text);
    free(code->step);
    *code = (struct expr_code){ 0 };
}

__attribute__((format(printf, 3, 4))) static int refuse(const struct parser *p, int column,
                                                        const char *fmt, ...)
{
    char text[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return psg_fail(p->err, PSG_E_INVALID, p->place, "column %d: %s", column, text);
}

static int here(const struct parser *p)
{
    return (int)p->at + 1;
}

/* takes: values it pops; it pushes one */
static int emit(struct parser *p, struct expr_step step, int takes)
{
    if (p->e->n_steps == PSG_EXPR_STEPS_MAX)
        return refuse(p, step.column, "more than %d steps in this layer", PSG_EXPR_STEPS_MAX);
    if (p->depth - takes + 1 > EXPR_STACK_MAX)
        return refuse(p, step.column, "too deeply nested");
    struct expr_step *grown =
        realloc(p->code->step, ((size_t)p->code->n + 1) * sizeof *grown);
    if (!grown)
        return psg_fail(p->err, PSG_E_NOMEM, p->place, "out of memory");
    p->code->step = grown;
    grown[p->code->n++] = step;
    p->depth += 1 - takes;
    p->e->n_steps++;
    return 0;
}

static int push(struct parser *p, struct waiting w)
{
    if (p->n_wait == EXPR_STACK_MAX)
        return refuse(p, w.column, "too deeply nested");
    p->wait[p->n_wait++] = w;
    return 0;
}

static int emit_call(struct parser *p, int function, int n, int column)
{
    const struct expr_function *f = expr_function_at(function);
    if (n < f->min || n > f->max)
        return f->min == f->max
                   ? refuse(p, column, "%s takes %d arguments, not %d", f->name, f->min, n)
                   : refuse(p, column, "%s takes %d to %d arguments, not %d", f->name, f->min,
                            f->max, n);
    struct expr_step step = { .kind = EXPR_CALL, .column = column, .at = function, .n = n };
    return emit(p, step, n);
}

/* Emits the operators on top of the stack that bind at least as tightly as prec. */
static int reduce(struct parser *p, int prec)
{
    int r = 0;
    while (r == 0 && p->n_wait && p->wait[p->n_wait - 1].kind == WAIT_OPERATOR &&
           p->wait[p->n_wait - 1].prec >= prec) {
        struct waiting w = p->wait[--p->n_wait];
        r = emit_call(p, w.function, w.n, w.column);
    }
    return r;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->size && strchr(" \t", p->text[p->at]))
        p->at++;
}

static char peek(const struct parser *p)
{
    return p->at < p->size ? p->text[p->at] : '\0';
}

/* ---- operands ---- */

static int read_number(struct parser *p)
{
    char buf[64];
    int column = here(p);
    size_t n = 0;
    /* our own scan keeps strtod from hexadecimal numbers, names and the locale's surprises */
    while (p->at < p->size && n < sizeof buf - 1) {
        char c = p->text[p->at];
        bool sign = (c == '+' || c == '-') && n && strchr("eE", buf[n - 1]);
        if (!isdigit((unsigned char)c) && c != '.' && !sign && !strchr("eE", c))
            break;
        if (c == '.' && p->at + 1 < p->size && p->text[p->at + 1] == 'T')
            break;
        buf[n++] = c;
        p->at++;
    }
    buf[n] = '\0';
    char *end;
    double value = strtod(buf, &end);
    bool name = isalnum((unsigned char)peek(p)) || peek(p) == '_';
    if (n == 0 || *end || name || !isfinite(value))
        return refuse(p, column, "this is not a number");
    struct expr_step step = { .kind = EXPR_NUMBER, .column = column, .number = value };
    return emit(p, step, 0);
}

static int read_text(struct parser *p)
{
    int column = here(p);
    char quote = p->text[p->at++];
    size_t from = p->at;
    while (p->at < p->size && p->text[p->at] != quote)
        p->at++;
    if (p->at == p->size)
        return refuse(p, column, "this quote is never closed");
    struct expr_step step = { .kind = EXPR_TEXT,
                              .column = column,
                              .at = (int)from,
                              .n = (int)(p->at++ - from) };
    return emit(p, step, 0);
}

static bool constant_find(const char *name, size_t len, double *value)
{
    static const struct {
        const char *name;
        double value;
    } constants[] = { { "pi", M_PI }, { "inf", INFINITY }, { "true", 1 }, { "false", 0 } };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (strlen(constants[i].name) == len && memcmp(constants[i].name, name, len) == 0) {
            *value = constants[i].value;
            return true;
        }
    return false;
}

static int read_name(struct parser *p)
{
    int column = here(p);
    const char *name = p->text + p->at;
    size_t len = 0;
    while (p->at < p->size &&
           (isalnum((unsigned char)p->text[p->at]) || p->text[p->at] == '_')) {
        p->at++;
        len++;
    }
    skip_space(p);
    int shown = len > 60 ? 60 : (int)len;
    if (peek(p) == '(') {
        int function = expr_find_function(name, len);
        p->at++;
        if (function < 0)
            return refuse(p, column, "there is no function %.*s", shown, name);
        p->operand = true;
        return push(p, (struct waiting){ WAIT_CALL, 0, function, 0, column });
    }
    p->operand = false;
    struct expr_step step = { .kind = EXPR_NAME, .column = column };
    step.at = expr_find_name(p->e, name, len);
    if (step.at < 0 && constant_find(name, len, &step.number))
        step.kind = EXPR_NUMBER;
    else if (step.at < 0)
        return refuse(p, column, "%.*s is not known here", shown, name);
    return emit(p, step, 0);
}

static int close_call(struct parser *p, int n);

static int read_operand(struct parser *p)
{
    char c = peek(p);
    int column = here(p);
    struct waiting *top = p->n_wait ? &p->wait[p->n_wait - 1] : NULL;
    bool empty = top && top->n == 0 &&
                 ((c == ')' && top->kind == WAIT_CALL) || (c == ']' && top->kind == WAIT_LIST));
    if (empty) {
        p->at++;
        return close_call(p, 0);
    }
    if (isalpha((unsigned char)c) || c == '_')
        return read_name(p);
    if (c == '(' || c == '[') {
        p->at++;
        return push(p, (struct waiting){ c == '(' ? WAIT_PAREN : WAIT_LIST, 0, 0, 0, column });
    }
    if (c == '-') {
        p->at++;
        return push(p, (struct waiting){ WAIT_OPERATOR, PREC_SIGN,
                                         expr_find_function("neg", 3), 1, column });
    }
    p->operand = false;
    if (isdigit((unsigned char)c) || c == '.')
        return read_number(p);
    if (c == '\'' || c == '"')
        return read_text(p);
    if (!c)
        return refuse(p, column, "the formula ends where a value is expected");
    return refuse(p, column, "a value is expected here");
}

/* ---- operators ---- */

static int close_call(struct parser *p, int n)
{
    struct waiting w = p->wait[--p->n_wait];
    p->operand = false;
    if (w.kind == WAIT_CALL)
        return emit_call(p, w.function, n, w.column);
    if (w.kind == WAIT_PAREN)
        return 0;
    if (n > EXPR_LIST_MAX)
        return refuse(p, w.column, "a list has at most %d numbers", EXPR_LIST_MAX);
    return emit(p, (struct expr_step){ .kind = EXPR_LIST, .column = w.column, .n = n }, n);
}

static int read_bracket(struct parser *p, char c)
{
    int column = here(p);
    int r = reduce(p, 0);
    if (r)
        return r;
    struct waiting *top = p->n_wait ? &p->wait[p->n_wait - 1] : NULL;
    if (c == ',') {
        if (!top || top->kind == WAIT_PAREN)
            return refuse(p, column, "a comma belongs into a call or a list");
        if (++top->n >= EXPR_ARGS_MAX)
            return refuse(p, column, "more than %d arguments", EXPR_ARGS_MAX);
        p->operand = true;
    } else if (!top || (top->kind == WAIT_LIST) != (c == ']')) {
        return refuse(p, column, "there is nothing that this bracket closes");
    } else {
        r = close_call(p, top->n + 1);
    }
    p->at++;
    return r;
}

static int read_operator(struct parser *p)
{
    static const struct {
        const char *text;
        int prec;
    } operators[] = {
        { "**", PREC_POWER },   { "//", PREC_MUL },     { "==", PREC_COMPARE },
        { "!=", PREC_COMPARE }, { "<=", PREC_COMPARE }, { ">=", PREC_COMPARE },
        { "<", PREC_COMPARE },  { ">", PREC_COMPARE },  { "+", PREC_ADD },
        { "-", PREC_ADD },      { "*", PREC_MUL },      { "/", PREC_MUL },
        { "@", PREC_MUL },
    };
    int column = here(p);
    if (strncmp(p->text + p->at, ".T", 2) == 0) {
        p->at += 2;
        return emit_call(p, expr_find_function("T", 1), 1, column);
    }
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        size_t len = strlen(operators[i].text);
        int prec = operators[i].prec;
        if (strncmp(p->text + p->at, operators[i].text, len) != 0)
            continue;
        /* ** groups to the right: it lets an earlier ** wait */
        int r = reduce(p, prec == PREC_POWER ? PREC_POWER + 1
                          : prec == PREC_COMPARE ? PREC_COMPARE + 1
                                                 : prec);
        struct waiting *top = p->n_wait ? &p->wait[p->n_wait - 1] : NULL;
        if (r)
            return r;
        if (prec == PREC_COMPARE && top && top->kind == WAIT_OPERATOR)
            return refuse(p, column, "comparisons do not chain: use parentheses");
        p->at += len;
        p->operand = true;
        return push(p, (struct waiting){ WAIT_OPERATOR, prec,
                                         expr_find_function(operators[i].text, len), 2,
                                         column });
    }
    return refuse(p, column, "an operator is expected here");
}

int expr_parse(struct psg_expr *e, const char *text, size_t first, const char *place,
               struct expr_code *code, struct psg_error *err)
{
    struct parser p = { .e = e, .text = text, .place = place, .at = first, .size = strlen(text),
                        .operand = true, .code = code, .err = err };
    int r = 0;
    if (p.size > PSG_EXPR_TEXT_MAX)
        return psg_fail(err, PSG_E_INVALID, place, "longer than %d bytes", PSG_EXPR_TEXT_MAX);
    for (skip_space(&p); r == 0 && (p.at < p.size || p.operand); skip_space(&p)) {
        char c = peek(&p);
        if (p.operand)
            r = read_operand(&p);
        else if (c == ')' || c == ']' || c == ',')
            r = read_bracket(&p, c);
        else
            r = read_operator(&p);
    }
    if (r == 0)
        r = reduce(&p, 0);
    if (r == 0 && p.n_wait)
        r = refuse(&p, p.wait[p.n_wait - 1].column, "this bracket is never closed");
    if (r == 0 && !(code->text = strdup(text)))
        r = psg_fail(err, PSG_E_NOMEM, place, "out of memory");
    if (r)
        expr_code_clear(code);
    return r;
}
