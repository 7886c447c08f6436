#include "job/define.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "psg/expr.h"

/* "out/0" of a definition that has one output is "out" */
static void place_pointer(const struct define *def, const char *place, char *pointer,
                          size_t size)
{
    if (def->n_out == 1 && strcmp(place, "out/0") == 0)
        place = "out";
    snprintf(pointer, size, "/model/define/%s/%.100s", def->name, place);
}

static int refuse_define(const struct define *def, const struct psg_error *err,
                         struct problem *p)
{
    char pointer[PROBLEM_POINTER_MAX];
    place_pointer(def, err->place, pointer, sizeof pointer);
    return error_from_psg(p, pointer, err);
}

static int add_attr(struct psg_expr *e, const struct define_attr *a, struct psg_error *err)
{
    enum { LIST_MAX = 64 };
    double value[LIST_MAX] = { 0 };
    bool list = a->attr.kind == ATTR_INTS || a->attr.kind == ATTR_REALS;
    int n = list ? (int)(a->attr.n < LIST_MAX ? a->attr.n : LIST_MAX) : 1;
    if (a->required)
        return psg_expr_attr(e, a->attr.name, NULL, 1, false, err);
    switch (a->attr.kind) {
    case ATTR_INT: value[0] = (double)a->attr.integer; break;
    case ATTR_REAL: value[0] = a->attr.real; break;
    case ATTR_BOOL: value[0] = a->attr.boolean; break;
    case ATTR_STRING: return psg_fail(err, PSG_E_INVALID, a->attr.name, "texts have no value");
    case ATTR_INTS:
        for (int i = 0; i < n; i++)
            value[i] = (double)a->attr.integers[i];
        break;
    case ATTR_REALS:
        for (int i = 0; i < n; i++)
            value[i] = a->attr.reals[i];
        break;
    }
    return psg_expr_attr(e, a->attr.name, value, n, list, err);
}

static int add_param(struct psg_expr *e, const struct define_param *p, struct psg_error *err)
{
    static const enum psg_init_kind kinds[] = { [DEFINE_INIT_CONSTANT] = PSG_INIT_CONSTANT,
                                                [DEFINE_INIT_UNIFORM] = PSG_INIT_UNIFORM,
                                                [DEFINE_INIT_NORMAL] = PSG_INIT_NORMAL };
    struct psg_expr_init init = { .scale = p->scale };
    if (p->init)
        init.kind = kinds[p->init];
    return psg_expr_param(e, p->name, p->shape, (int)p->n_shape, p->init ? &init : NULL, err);
}

static int fill(struct psg_expr *e, const struct define *def, struct psg_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < def->n_inputs; i++)
        r = psg_expr_input(e, def->inputs[i], err);
    for (size_t i = 0; r == 0 && i < def->n_attrs; i++)
        r = add_attr(e, &def->attrs[i], err);
    for (size_t i = 0; r == 0 && i < def->n_params; i++)
        r = add_param(e, &def->params[i], err);
    for (size_t i = 0; r == 0 && i < def->n_buffers; i++) {
        const struct define_buffer *b = &def->buffers[i];
        struct psg_shape shape = psg_shape_make((int)b->n_shape, b->shape);
        r = psg_expr_buffer(e, b->name, &shape, b->data, err);
    }
    for (size_t i = 0; r == 0 && i < def->n_let; i++)
        r = psg_expr_let(e, def->let[i], err);
    for (size_t i = 0; r == 0 && i < def->n_out; i++)
        r = psg_expr_out(e, def->out[i], err);
    return r;
}

static void destroy(void *e)
{
    psg_expr_free(e);
}

static int open_one(const struct define *def, struct psg_program *program,
                    const struct psg_op **op, struct problem *p)
{
    struct psg_error err = { 0 };
    struct psg_expr *e = psg_expr_new(def->name);
    if (!e)
        return error_nomem(p);
    if (psg_program_keep(program, e, destroy, &err))
        return error_nomem(p);
    if (fill(e, def, &err) || !(*op = psg_expr_op(e, &err)))
        return refuse_define(def, &err, p);
    return 0;
}

int define_find(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->n_defines; i++)
        if (strcmp(model->defines[i].name, name) == 0)
            return (int)i;
    return -1;
}

int define_open(const struct model *model, struct psg_program *program,
                const struct psg_op **op, struct problem *p)
{
    int r = 0;
    for (size_t i = 0; i < model->n_defines && r == 0; i++) {
        const struct define *def = &model->defines[i];
        char pointer[PROBLEM_POINTER_MAX];
        snprintf(pointer, sizeof pointer, "/model/define/%s", def->name);
        if (psg_op_find(def->name) || strcmp(def->name, "sequential") == 0 ||
            strcmp(def->name, "residual") == 0) {
            problem_invalid(p, pointer, ITEM_DUPLICATE_NAME, "is the name of a built-in layer");
            return ERROR_REFUSED;
        }
        r = open_one(def, program, &op[i], p);
    }
    return r;
}

bool define_pointer(const struct model *model, int define, const char *path,
                    const struct psg_error *err, char *pointer, size_t size)
{
    static const char *const parts[] = { "let/", "out/", "params/", "buffers/" };
    size_t n = strlen(path);
    if (define < 0 || strncmp(err->place, path, n) != 0 || err->place[n] != '.')
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strncmp(err->place + n + 1, parts[i], strlen(parts[i])) == 0) {
            place_pointer(&model->defines[define], err->place + n + 1, pointer, size);
            return true;
        }
    return false;
}
