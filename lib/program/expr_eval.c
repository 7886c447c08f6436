/* Runs the code of formulas: plain numbers are calculated, tensors become primitives. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "program/expr.h"

int expr_fail(struct expr_eval *x, enum psg_status status, const char *fmt, ...)
{
    if (x->status)
        return x->status;
    int n = snprintf(x->text, sizeof x->text, "column %d: ", x->column);
    va_list args;
    va_start(args, fmt);
    vsnprintf(x->text + n, sizeof x->text - (size_t)n, fmt, args);
    va_end(args);
    x->status = status;
    return status;
}

void expr_tensor(struct expr_value *out, psg_value v)
{
    *out = (struct expr_value){ .kind = VALUE_TENSOR, .v = v };
}

void expr_number(struct expr_value *out, double number)
{
    *out = (struct expr_value){ .kind = VALUE_NUMBER, .n = 1, .number = { number } };
}

struct psg_shape expr_shape_of(const struct expr_eval *x, psg_value v)
{
    return v == PSG_NONE ? (struct psg_shape){ 0 } : psg_graph_type(x->g, v)->shape;
}

psg_value expr_real(struct expr_eval *x, const struct expr_value *a)
{
    if (a->kind == VALUE_NUMBER)
        return psg_g_scalar(x->g, a->number[0]);
    if (a->kind != VALUE_TENSOR) {
        expr_fail(x, PSG_E_INVALID, "a %s is no tensor",
                  a->kind == VALUE_LIST ? "list" : "quoted text");
        return PSG_NONE;
    }
    const struct psg_type *type = a->v == PSG_NONE ? NULL : psg_graph_type(x->g, a->v);
    return type && type->dtype == PSG_I64 ? psg_g_convert(x->g, a->v) : a->v;
}

int expr_int(struct expr_eval *x, const struct expr_value *a, const char *what, int64_t lo,
             int64_t hi, int64_t *out)
{
    double v = a->number[0];
    if (a->kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "%s must be a number known before any sample is",
                         what);
    if (!(v == floor(v)) || v < (double)lo || v > (double)hi)
        return expr_fail(x, PSG_E_RANGE, "%s is %g, must be a whole number from %lld to %lld",
                         what, v, (long long)lo, (long long)hi);
    *out = (int64_t)v;
    return 0;
}

int expr_axis(struct expr_eval *x, const struct expr_value *a, int rank, int *out)
{
    int64_t axis = 0;
    if (rank == 0)
        return expr_fail(x, PSG_E_SHAPE, "a single number has no axes");
    int r = expr_int(x, a, "the axis", -rank, rank - 1, &axis);
    if (r == 0)
        *out = (int)(axis < 0 ? axis + rank : axis);
    return r;
}

int expr_axes(struct expr_eval *x, const struct expr_value *a, int rank, unsigned *out)
{
    *out = 0;
    if (a->kind != VALUE_LIST && a->kind != VALUE_NUMBER)
        return expr_fail(x, PSG_E_INVALID, "axes must be a number or a list of numbers");
    for (int i = 0; i < a->n; i++) {
        struct expr_value one;
        int axis = 0;
        expr_number(&one, a->number[i]);
        int r = expr_axis(x, &one, rank, &axis);
        if (r)
            return r;
        if (*out >> axis & 1)
            return expr_fail(x, PSG_E_INVALID, "axis %d is named twice", axis);
        *out |= 1u << axis;
    }
    return 0;
}

static int make_list(struct expr_eval *x, const struct expr_value *a, int n,
                     struct expr_value *out)
{
    struct expr_value list = { .kind = VALUE_LIST, .n = n };
    for (int i = 0; i < n; i++) {
        if (a[i].kind != VALUE_NUMBER)
            return expr_fail(x, PSG_E_INVALID,
                             "lists are made of numbers known before any sample is");
        list.number[i] = a[i].number[0];
    }
    *out = list;
    return 0;
}

/* What came out is a number, or a tensor of a size that can be worked with. */
static int check_result(struct expr_eval *x, const struct expr_value *out)
{
    struct psg_error err;
    if (x->status)
        return x->status;
    if (psg_graph_check(x->g, &err))
        return expr_fail(x, err.status, "%s", err.text);
    for (int i = 0; out->kind == VALUE_NUMBER && i < 1; i++)
        if (isnan(out->number[i]))
            return expr_fail(x, PSG_E_RANGE, "this is not a number");
    if (out->kind != VALUE_TENSOR)
        return 0;
    struct psg_shape shape = expr_shape_of(x, out->v);
    int64_t size = psg_shape_size(&shape);
    if (size < 0 || size > EXPR_ELEMENTS_MAX)
        return expr_fail(x, PSG_E_SHAPE, "makes a tensor of more than %d numbers",
                         EXPR_ELEMENTS_MAX);
    return 0;
}

static int run_step(struct expr_eval *x, const struct expr_code *code,
                    const struct expr_step *s, struct expr_value *args, struct expr_value *out)
{
    const struct expr_function *f;
    switch (s->kind) {
    case EXPR_NUMBER: expr_number(out, s->number); return 0;
    case EXPR_NAME: *out = x->value[s->at]; return 0;
    case EXPR_LIST: return make_list(x, args, s->n, out);
    case EXPR_TEXT:
        *out = (struct expr_value){ .kind = VALUE_TEXT, .n = s->n, .text = code->text + s->at };
        return 0;
    case EXPR_CALL:
        f = expr_function_at(s->at);
        return f->run(x, f, args, s->n, out);
    }
    return PSG_E_INVALID;
}

int expr_run(struct expr_eval *x, const struct expr_code *code, struct expr_value *out)
{
    struct expr_value stack[EXPR_STACK_MAX + 1];
    int n = 0;
    for (int i = 0; i < code->n; i++) {
        const struct expr_step *s = &code->step[i];
        int takes = s->kind == EXPR_CALL || s->kind == EXPR_LIST ? s->n : 0;
        struct expr_value result = { .kind = VALUE_NUMBER };
        x->column = s->column;
        int r = run_step(x, code, s, &stack[n - takes], &result);
        if (r == 0)
            r = check_result(x, &result);
        if (r)
            return r;
        n -= takes;
        stack[n++] = result;
    }
    x->column = 1;
    if (stack[0].kind == VALUE_TEXT)
        return expr_fail(x, PSG_E_INVALID, "a quoted text is no value");
    *out = stack[0];
    return 0;
}
