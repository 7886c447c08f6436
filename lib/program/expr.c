/* A layer made of formulas: its names, and the op that infers and lowers by running them. */
#include "program/expr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* What a use of the layer knows: the geometry of its node. */
struct use {
    const struct psg_expr *e;
    int64_t n_random;
    struct {
        int n;
        double value[EXPR_LIST_MAX];
    } attr[]; /* [n_attrs] */
};

struct psg_expr *psg_expr_new(const char *name)
{
    struct psg_expr *e = calloc(1, sizeof *e);
    if (e)
        snprintf(e->op_name, sizeof e->op_name, "%s", name);
    return e;
}

struct psg_expr *psg_expr_free(struct psg_expr *e)
{
    if (!e)
        return NULL;
    for (int i = 0; i < e->n_params; i++) {
        for (int k = 0; k < e->param[i].rank; k++)
            expr_code_clear(&e->param[i].shape[k]);
        expr_code_clear(&e->param[i].scale);
    }
    for (int i = 0; i < e->n_buffers; i++)
        free(e->buffer[i].data);
    for (int i = 0; i < e->n_lets; i++)
        expr_code_clear(&e->let[i]);
    for (int i = 0; i < e->n_outs; i++)
        expr_code_clear(&e->out[i]);
    free(e->attr);
    free(e->param);
    free(e->buffer);
    free(e->let);
    free(e->let_name);
    free(e->spec);
    free(e);
    return NULL;
}

void psg_expr_freep(struct psg_expr **ep)
{
    *ep = psg_expr_free(*ep);
}

/* ---- names ---- */

/* Whether name may be declared. */
static int check_name(const struct psg_expr *e, const char *name, const char *place,
                      struct psg_error *err)
{
    if (e->spec)
        return psg_fail(err, PSG_E_INVALID, place, "the layer is finished");
    if (!expr_name_ok(name))
        return psg_fail(err, PSG_E_INVALID, place,
                        "a name is a letter or _, then letters, digits and _, at most %d",
                        PSG_EXPR_NAME_MAX);
    if (expr_find_name(e, name, strlen(name)) >= 0)
        return psg_fail(err, PSG_E_INVALID, place, "%s is declared twice", name);
    if (e->n_names == PSG_EXPR_NAMES_MAX)
        return psg_fail(err, PSG_E_INVALID, place, "more than %d names", PSG_EXPR_NAMES_MAX);
    return 0;
}

static int declare(struct psg_expr *e, const char *name, enum expr_name_kind kind, int number)
{
    struct expr_name *n = &e->name[e->n_names];
    memcpy(n->text, name, strlen(name) + 1); /* check_name has measured it */
    n->kind = kind;
    n->number = number;
    return e->n_names++;
}

/* One more zeroed element at the end of a list; NULL when out of memory. */
static void *grow(void *listp, int n, size_t size)
{
    void **list = listp;
    char *grown = realloc(*list, ((size_t)n + 1) * size);
    if (!grown)
        return NULL;
    *list = grown;
    return memset(grown + (size_t)n * size, 0, size);
}

static int no_memory(const char *place, struct psg_error *err)
{
    return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
}

int psg_expr_input(struct psg_expr *e, const char *name, struct psg_error *err)
{
    char place[64];
    snprintf(place, sizeof place, "inputs/%d", e->n_inputs);
    int r = check_name(e, name, place, err);
    if (r)
        return r;
    if (e->n_inputs == 32)
        return psg_fail(err, PSG_E_INVALID, place, "more than 32 inputs");
    declare(e, name, EXPR_INPUT, e->n_inputs++);
    return 0;
}

int psg_expr_attr(struct psg_expr *e, const char *name, const double *value, int n, bool list,
                  struct psg_error *err)
{
    char place[96];
    snprintf(place, sizeof place, "attributes/%.60s", name);
    int r = check_name(e, name, place, err);
    if (r)
        return r;
    if (n < 0 || n > EXPR_LIST_MAX || (!list && n != 1))
        return psg_fail(err, PSG_E_INVALID, place, "a list has at most %d numbers",
                        EXPR_LIST_MAX);
    struct expr_attr *a = grow(&e->attr, e->n_attrs, sizeof *a);
    if (!a)
        return no_memory(place, err);
    a->n = n;
    a->list = list;
    a->required = !value;
    for (int i = 0; value && i < n; i++)
        a->value[i] = value[i];
    a->name = declare(e, name, EXPR_ATTR, e->n_attrs++);
    return 0;
}

int psg_expr_param(struct psg_expr *e, const char *name, const char *const *shape, int rank,
                   const struct psg_expr_init *init, struct psg_error *err)
{
    char place[128];
    snprintf(place, sizeof place, "params/%.60s", name);
    int r = check_name(e, name, place, err);
    if (r)
        return r;
    if (rank < 0 || rank > PSG_MAX_RANK)
        return psg_fail(err, PSG_E_INVALID, place, "more than %d axes", PSG_MAX_RANK);
    struct expr_param *p = grow(&e->param, e->n_params, sizeof *p);
    if (!p)
        return no_memory(place, err);
    e->n_params++;
    for (int i = 0; r == 0 && i < rank; i++) {
        snprintf(place, sizeof place, "params/%.60s/shape/%d", name, i);
        r = expr_parse(e, shape[i], 0, place, &p->shape[i], err);
        p->rank = i + 1;
    }
    p->has_init = init != NULL;
    if (r == 0 && init) {
        snprintf(place, sizeof place, "params/%.60s/init", name);
        p->kind = init->kind;
        r = expr_parse(e, init->scale, 0, place, &p->scale, err);
    }
    if (r == 0)
        p->name = declare(e, name, EXPR_PARAM, e->n_params - 1);
    return r;
}

int psg_expr_buffer(struct psg_expr *e, const char *name, const struct psg_shape *shape,
                    const double *data, struct psg_error *err)
{
    char place[96];
    snprintf(place, sizeof place, "buffers/%.60s", name);
    int r = check_name(e, name, place, err);
    int64_t size = psg_shape_size(shape);
    if (r)
        return r;
    if (size < 0 || size > EXPR_ELEMENTS_MAX)
        return psg_fail(err, PSG_E_SHAPE, place, "the shape is too large");
    _cleanup_free_ psg_real *copy = calloc((size_t)size + 1, sizeof *copy);
    struct expr_buffer *b = grow(&e->buffer, e->n_buffers, sizeof *b);
    if (!copy || !b)
        return no_memory(place, err);
    for (int64_t i = 0; i < size; i++)
        copy[i] = (psg_real)data[i];
    *b = (struct expr_buffer){ .type = { PSG_REAL, *shape }, .data = steal(&copy) };
    b->name = declare(e, name, EXPR_BUFFER, e->n_buffers++);
    return 0;
}

int psg_expr_let(struct psg_expr *e, const char *text, struct psg_error *err)
{
    char place[64], name[PSG_EXPR_NAME_MAX + 2];
    snprintf(place, sizeof place, "let/%d", e->n_lets);
    size_t n = strspn(text, " \t"), len = strcspn(text + n, " \t=");
    size_t equals = n + len + strspn(text + n + len, " \t");
    if (text[equals] != '=' || text[equals + 1] == '=')
        return psg_fail(err, PSG_E_INVALID, place, "column 1: a step reads \"name = formula\"");
    snprintf(name, sizeof name, "%.*s", (int)(len > PSG_EXPR_NAME_MAX ? PSG_EXPR_NAME_MAX + 1 : len),
             text + n);
    int r = check_name(e, name, place, err);
    if (r)
        return r;
    struct expr_code code = { 0 };
    r = expr_parse(e, text, equals + 1, place, &code, err);
    if (r)
        return r;
    struct expr_code *let = grow(&e->let, e->n_lets, sizeof *let);
    int *of = grow(&e->let_name, e->n_lets, sizeof *of);
    if (!let || !of) {
        expr_code_clear(&code);
        return no_memory(place, err);
    }
    *let = code;
    *of = declare(e, name, EXPR_LET, e->n_lets++);
    return 0;
}

/* "out" alone, "out/1" among several */
static void out_place(int i, char place[64])
{
    snprintf(place, 64, "out/%d", i);
}

int psg_expr_out(struct psg_expr *e, const char *text, struct psg_error *err)
{
    char place[64];
    out_place(e->n_outs, place);
    if (e->spec)
        return psg_fail(err, PSG_E_INVALID, place, "the layer is finished");
    if (e->n_outs == EXPR_OUTS_MAX)
        return psg_fail(err, PSG_E_INVALID, place, "more than %d outputs", EXPR_OUTS_MAX);
    int r = expr_parse(e, text, 0, place, &e->out[e->n_outs], err);
    if (r == 0)
        e->n_outs++;
    return r;
}

/* ---- running all formulas ---- */

/* Runs the steps and outputs; inputs, attributes and parameters have their values. */
static int run_body(struct expr_eval *x, psg_value *out, char place[64])
{
    const struct psg_expr *e = x->e;
    for (int i = 0; i < e->n_buffers; i++)
        expr_tensor(&x->value[e->buffer[i].name],
                    psg_g_constant(x->g, &e->buffer[i].type, e->buffer[i].data));
    for (int i = 0; i < e->n_lets; i++) {
        snprintf(place, 64, "let/%d", i);
        int r = expr_run(x, &e->let[i], &x->value[e->let_name[i]]);
        if (r)
            return r;
    }
    for (int i = 0; i < e->n_outs; i++) {
        struct expr_value value;
        out_place(i, place);
        int r = expr_run(x, &e->out[i], &value);
        if (r)
            return r;
        out[i] = expr_real(x, &value);
        if (x->status)
            return x->status;
    }
    return 0;
}

static void set_known(struct expr_eval *x, const struct use *use, const psg_value *in)
{
    for (int i = 0; i < x->e->n_names; i++) {
        const struct expr_name *name = &x->e->name[i];
        if (name->kind == EXPR_INPUT) {
            expr_tensor(&x->value[i], in[name->number]);
        } else if (name->kind == EXPR_ATTR) {
            struct expr_value *v = &x->value[i];
            *v = (struct expr_value){ .kind = VALUE_NUMBER, .n = use->attr[name->number].n };
            if (x->e->attr[name->number].list)
                v->kind = VALUE_LIST;
            memcpy(v->number, use->attr[name->number].value, sizeof v->number);
        }
    }
}

/* ---- infer ---- */

static int read_attrs(struct psg_infer *c, const struct psg_expr *e, struct use *use)
{
    for (int i = 0; i < e->n_attrs; i++) {
        const struct expr_attr *a = &e->attr[i];
        const char *name = e->name[a->name].text;
        if (!psg_infer_has(c, name)) {
            if (a->required)
                return psg_infer_fail(c, PSG_E_INVALID, name, "%s is missing", name);
            use->attr[i].n = a->n;
            memcpy(use->attr[i].value, a->value, sizeof a->value);
            continue;
        }
        use->attr[i].n = 1;
        if (a->list)
            use->attr[i].n = psg_infer_real_list(c, name, EXPR_LIST_MAX, use->attr[i].value);
        else if (psg_infer_kind(c, name) == PSG_ATTR_BOOL)
            use->attr[i].value[0] = psg_infer_bool(c, name, false);
        else
            use->attr[i].value[0] = psg_infer_real(c, name, 0, -INFINITY, INFINITY);
    }
    return psg_infer_status(c);
}

/* Numbers of a formula for a parameter. */
static int run_number(struct expr_eval *x, const struct expr_code *code, double *out)
{
    struct expr_value value;
    int r = expr_run(x, code, &value);
    if (r)
        return r;
    if (value.kind != VALUE_NUMBER || !isfinite(value.number[0]))
        return expr_fail(x, PSG_E_INVALID, "must be a number known before any sample is");
    *out = value.number[0];
    return 0;
}

static struct psg_init default_init(const struct psg_shape *shape)
{
    int64_t fan_in = 1;
    for (int i = 1; i < shape->rank; i++)
        fan_in *= shape->dim[i];
    if (shape->rank < 2 || fan_in < 1)
        return (struct psg_init){ .kind = PSG_INIT_CONSTANT };
    return (struct psg_init){ .kind = PSG_INIT_UNIFORM, .value = 1 / sqrt((double)fan_in) };
}

static int infer_param(struct psg_infer *c, struct expr_eval *x, int i, char place[64])
{
    const struct expr_param *p = &x->e->param[i];
    const char *name = x->e->name[p->name].text;
    struct psg_shape shape = { .rank = p->rank };
    for (int k = 0; k < p->rank; k++) {
        struct expr_value value;
        snprintf(place, 64, "params/%s/shape/%d", name, k);
        if (expr_run(x, &p->shape[k], &value) ||
            expr_int(x, &value, "the axis", 1, INT32_MAX, &shape.dim[k]))
            return x->status;
    }
    snprintf(place, 64, "params/%s/shape", name);
    if (psg_shape_size(&shape) < 0)
        return expr_fail(x, PSG_E_SHAPE, "the parameter is too large");
    struct psg_init init = default_init(&shape);
    if (p->has_init) {
        init = (struct psg_init){ .kind = p->kind };
        snprintf(place, 64, "params/%s/init", name);
        if (run_number(x, &p->scale, &init.value))
            return x->status;
    }
    psg_infer_param(c, name, &shape, init);
    expr_tensor(&x->value[p->name], psg_graph_input(x->g, PSG_REAL, &shape));
    return 0;
}

static int infer_in(struct psg_infer *c, struct expr_eval *x, struct use *use)
{
    const struct psg_expr *e = x->e;
    psg_value in[32], out[EXPR_OUTS_MAX];
    char place[64] = "";
    int r = 0;
    for (int i = 0; i < c->n_in; i++)
        in[i] = psg_graph_input(x->g, c->in[i].dtype, &c->in[i].shape);
    set_known(x, use, in);
    for (int i = 0; r == 0 && i < e->n_params; i++)
        r = infer_param(c, x, i, place);
    if (r == 0)
        r = run_body(x, out, place);
    if (r)
        return psg_infer_fail(c, x->status, place, "%s", x->text);
    for (int i = 0; i < e->n_outs; i++) {
        struct psg_shape shape = expr_shape_of(x, out[i]);
        psg_infer_out(c, PSG_REAL, &shape);
    }
    use->n_random = x->n_random;
    psg_infer_random(c, x->n_random);
    return psg_infer_status(c);
}

static const struct psg_expr *expr_of(const struct psg_op *op)
{
    return (const struct psg_expr *)((const char *)op - offsetof(struct psg_expr, op));
}

static int expr_infer(struct psg_infer *c)
{
    const struct psg_expr *e = expr_of(psg_infer_op(c));
    struct use *use = c->geom;
    use->e = e;
    if (read_attrs(c, e, use))
        return psg_infer_status(c);
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    _cleanup_free_ struct expr_value *value = calloc(PSG_EXPR_NAMES_MAX, sizeof *value);
    if (!g || !value)
        return psg_infer_fail(c, PSG_E_NOMEM, NULL, "out of memory");
    struct expr_eval x = { .e = e, .g = g, .training = true, .random = PSG_NONE, .value = value };
    return infer_in(c, &x, use);
}

/* ---- lower ---- */

static void expr_lower(struct psg_lower *l)
{
    const struct use *use = l->geom;
    const struct psg_expr *e = use->e;
    char place[64];
    _cleanup_free_ struct expr_value *value = calloc(PSG_EXPR_NAMES_MAX, sizeof *value);
    if (!value)
        return; /* outputs stay PSG_NONE: the caller reports it */
    struct expr_eval x = { .e = e,
                           .g = l->g,
                           .training = l->training,
                           .random = l->random,
                           .value = value };
    set_known(&x, use, l->in);
    for (int i = 0; i < e->n_params; i++)
        expr_tensor(&value[e->param[i].name], l->param[i]);
    run_body(&x, l->out, place);
}

/* ---- the op ---- */

static const struct psg_op_case no_cases[] = { { NULL, NULL } };

const struct psg_op *psg_expr_op(struct psg_expr *e, struct psg_error *err)
{
    if (e->spec)
        return &e->op;
    if (e->n_outs == 0) {
        psg_fail(err, PSG_E_INVALID, "out", "the layer has no output");
        return NULL;
    }
    e->spec = calloc((size_t)e->n_attrs + 1, sizeof *e->spec);
    if (!e->spec) {
        no_memory("", err);
        return NULL;
    }
    for (int i = 0; i < e->n_attrs; i++) {
        const struct expr_attr *a = &e->attr[i];
        e->spec[i].name = e->name[a->name].text;
        e->spec[i].kinds = a->list ? PSG_ATTR_REALS : PSG_ATTR_REAL | PSG_ATTR_BOOL;
        e->spec[i].doc = a->list ? "a list of numbers" : "a number or a flag";
    }
    e->op = (struct psg_op){
        .name = e->op_name,
        .attrs = e->spec,
        .n_in_min = e->n_inputs,
        .n_in_max = e->n_inputs,
        .geom_size = sizeof(struct use) + (size_t)e->n_attrs * sizeof(((struct use *)0)->attr[0]),
        .infer = expr_infer,
        .lower = expr_lower,
        .cases = no_cases,
    };
    return &e->op;
}
