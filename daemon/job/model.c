#include "job/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"

enum { PATH_MAX_SIZE = 160, USES_MAX = MODEL_ATTRS_MAX };

/* a layer with layers inside, while these are being added */
struct frame {
    size_t layer;
    psg_value in;
    char path[PATH_MAX_SIZE];
    bool trainable;
};

struct builder {
    const struct job_spec *spec;
    struct psg_program *program;
    psg_value input;
    psg_value *out; /* [n_layers], PSG_NONE until known */
    struct frame stack[MODEL_LAYER_DEPTH_MAX + 1];
    int depth;
    struct problem *p;
};

/* ---- attributes ---- */

static int put_attr(struct psg_attrs *attrs, const struct attr *a)
{
    switch (a->kind) {
    case ATTR_INT: return psg_attrs_int(attrs, a->name, a->integer);
    case ATTR_REAL: return psg_attrs_real(attrs, a->name, a->real);
    case ATTR_BOOL: return psg_attrs_bool(attrs, a->name, a->boolean);
    case ATTR_STRING: return psg_attrs_string(attrs, a->name, a->string);
    case ATTR_INTS: return psg_attrs_ints(attrs, a->name, a->integers, (int)a->n);
    case ATTR_REALS: return psg_attrs_reals(attrs, a->name, a->reals, (int)a->n);
    }
    return PSG_E_INVALID;
}

static int make_attrs(const struct attr *list, size_t n, struct psg_attrs **attrsp,
                      struct problem *p)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = psg_attrs_new();
    int r = attrs ? 0 : PSG_E_NOMEM;
    for (size_t i = 0; i < n && r == 0; i++)
        r = put_attr(attrs, &list[i]);
    if (r)
        return r == PSG_E_NOMEM ? error_nomem(p) : ERROR_INTERNAL;
    *attrsp = steal(&attrs);
    return 0;
}

/* ---- places ---- */

/* err->place is the node's path, or path.attribute. */
static int refuse_layer(const struct builder *b, size_t i, const char *path,
                        const struct psg_error *err)
{
    char pointer[PROBLEM_POINTER_MAX];
    size_t n = strlen(path);
    const char *attr = NULL;
    if (strncmp(err->place, path, n) == 0 && err->place[n] == '.')
        attr = err->place + n + 1;
    layer_pointer(&b->spec->model, i, attr, pointer, sizeof pointer);
    return error_from_psg(b->p, pointer, err);
}

static int refuse(const struct builder *b, size_t i, const char *member,
                  enum problem_item_code code, const char *text)
{
    char pointer[PROBLEM_POINTER_MAX];
    layer_pointer(&b->spec->model, i, member, pointer, sizeof pointer);
    problem_invalid(b->p, pointer, code, "%s", text);
    return ERROR_REFUSED;
}

static bool is_named(const char *op, const char *a, const char *b)
{
    return strcmp(op, a) == 0 || strcmp(op, b) == 0;
}

static bool is_sequential(const struct layer *layer)
{
    return is_named(layer->op, "sequential", "Sequential");
}

static bool is_residual(const struct layer *layer)
{
    return is_named(layer->op, "residual", "Residual");
}

/* "block.0.conv": names where they are given, else positions, as torch.nn.Sequential does */
static void layer_path(const struct builder *b, size_t i, char path[PATH_MAX_SIZE])
{
    const struct layer *layer = &b->spec->model.layers[i];
    char own[24];
    snprintf(own, sizeof own, "%zu", layer->position);
    const char *name = layer->name ? layer->name : own;
    char parent[PATH_MAX_SIZE] = ""; /* path may be a field of the stack itself */
    if (b->depth > 0)
        memcpy(parent, b->stack[b->depth - 1].path, sizeof parent);
    snprintf(path, PATH_MAX_SIZE, "%.100s%s%.50s", parent, b->depth > 0 ? "." : "", name);
}

/* ---- inputs of a layer ---- */

static int find_value(const struct builder *b, size_t i, const char *name, psg_value *vp)
{
    const struct model *model = &b->spec->model;
    for (size_t k = i; k-- > 0;)
        if (model->layers[k].name && strcmp(model->layers[k].name, name) == 0 &&
            b->out[k] != PSG_NONE) {
            *vp = b->out[k];
            return 0;
        }
    if (strcmp(name, "input") == 0) {
        *vp = b->input;
        return 0;
    }
    return refuse(b, i, "in", ITEM_UNKNOWN_NAME, "names no earlier layer, nor \"input\"");
}

static int find_inputs(const struct builder *b, size_t i, psg_value cur,
                       psg_value in[MODEL_ATTRS_MAX], int *n_inp)
{
    const struct layer *layer = &b->spec->model.layers[i];
    in[0] = cur;
    *n_inp = 1;
    if (layer->n_in == 0)
        return 0;
    if (layer->n_in > MODEL_ATTRS_MAX)
        return refuse(b, i, "in", ITEM_TOO_MANY, "has too many inputs");
    *n_inp = (int)layer->n_in;
    for (size_t k = 0; k < layer->n_in; k++) {
        int r = find_value(b, i, layer->in[k], &in[k]);
        if (r)
            return r;
    }
    return 0;
}

/* ---- one layer ---- */

/* Parameters that this layer brought, and shared ones that it names. */
static int freeze(const struct builder *b, size_t i, const char *path, int first)
{
    const struct layer *layer = &b->spec->model.layers[i];
    struct psg_error err;
    for (int k = first; k < psg_program_n_params(b->program); k++)
        if (psg_program_freeze(b->program, psg_program_param(b->program, k)->name, &err) < 0)
            return refuse_layer(b, i, path, &err);
    for (size_t k = 0; k < layer->n_params; k++)
        if (psg_program_freeze(b->program, layer->params[k].name, &err) < 0)
            return refuse_layer(b, i, path, &err);
    return 0;
}

static int add_leaf(const struct builder *b, size_t i, psg_value cur, psg_value *outp)
{
    const struct layer *layer = &b->spec->model.layers[i];
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = NULL;
    struct psg_param_use uses[USES_MAX];
    psg_value in[MODEL_ATTRS_MAX], out[MODEL_ATTRS_MAX];
    char path[PATH_MAX_SIZE];
    struct psg_error err;
    int n_in = 0, n_out = 0;
    if (!psg_op_find(layer->op))
        return refuse(b, i, "op", ITEM_UNKNOWN_OP, "there is no layer function of this name");
    layer_path(b, i, path);
    int r = find_inputs(b, i, cur, in, &n_in);
    if (r == 0)
        r = make_attrs(layer->attrs, layer->n_attrs, &attrs, b->p);
    if (r)
        return r;
    for (size_t k = 0; k < layer->n_params && k < USES_MAX; k++)
        uses[k] = (struct psg_param_use){ layer->params[k].role, layer->params[k].name };
    int first = psg_program_n_params(b->program);
    if (psg_program_add(b->program, layer->op, path, in, n_in, attrs, uses,
                        (int)layer->n_params, out, &n_out, &err) < 0)
        return refuse_layer(b, i, path, &err);
    *outp = out[0];
    bool trainable = layer->trainable && (b->depth == 0 || b->stack[b->depth - 1].trainable);
    return trainable ? 0 : freeze(b, i, path, first);
}

/* ---- containers ---- */

static int push(struct builder *b, size_t i, psg_value cur)
{
    const struct layer *layer = &b->spec->model.layers[i];
    psg_value in[MODEL_ATTRS_MAX];
    int n_in = 0;
    if (!is_sequential(layer) && !is_residual(layer))
        return refuse(b, i, "op", ITEM_UNKNOWN_OP,
                      "only sequential and residual have layers inside");
    if (layer->n_attrs)
        return refuse(b, i, layer->attrs[0].name, ITEM_UNKNOWN_MEMBER,
                      "is not an attribute of this layer");
    int r = find_inputs(b, i, cur, in, &n_in);
    if (r)
        return r;
    if (n_in != 1)
        return refuse(b, i, "in", ITEM_TOO_MANY, "takes one input");
    struct frame *frame = &b->stack[b->depth];
    layer_path(b, i, frame->path);
    frame->layer = i;
    frame->in = in[0];
    frame->trainable = layer->trainable && (b->depth == 0 || b->stack[b->depth - 1].trainable);
    b->depth++;
    return 0;
}

static int pop(struct builder *b, psg_value *curp)
{
    struct frame *frame = &b->stack[--b->depth];
    const struct layer *layer = &b->spec->model.layers[frame->layer];
    if (is_residual(layer)) {
        psg_value in[2] = { frame->in, *curp };
        struct psg_error err;
        int n_out;
        if (psg_program_add(b->program, "add", frame->path, in, 2, NULL, NULL, 0, curp, &n_out,
                            &err) < 0)
            return refuse_layer(b, frame->layer, frame->path, &err);
    }
    b->out[frame->layer] = *curp;
    return 0;
}

static int add_layers(struct builder *b, psg_value *outp)
{
    const struct model *model = &b->spec->model;
    psg_value cur = b->input;
    int r = 0;
    for (size_t i = 0; i < model->n_layers && r == 0; i++) {
        while (r == 0 && b->depth && model->layers[b->stack[b->depth - 1].layer].end == i)
            r = pop(b, &cur);
        if (r)
            break;
        if (model->layers[i].nested) {
            r = push(b, i, cur);
            if (r == 0)
                cur = b->stack[b->depth - 1].in;
        } else {
            r = add_leaf(b, i, cur, &cur);
            b->out[i] = cur;
        }
    }
    while (r == 0 && b->depth)
        r = pop(b, &cur);
    *outp = cur;
    return r;
}

/* ---- loss ---- */

static bool wants_class(const char *op)
{
    static const char *const names[] = { "cross_entropy", "nll_loss", "multi_margin_loss" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(op, names[i]) == 0)
            return true;
    return false;
}

/* "mse" is mse_loss */
static const char *loss_op(const char *type, char room[64])
{
    if (psg_op_find(type))
        return type;
    snprintf(room, 64, "%.50s_loss", type);
    return psg_op_find(room) ? room : NULL;
}

static int add_target(struct builder *b, const struct model_data *data, const char *op,
                      psg_value output, psg_value *vp)
{
    struct psg_type type = *psg_program_type(b->program, output);
    struct psg_error err;
    if (wants_class(op)) {
        if (data->classes < 0) {
            problem_invalid(b->p, "/loss", ITEM_NOT_APPLICABLE,
                            "needs classes, and the dataset has real targets");
            return ERROR_REFUSED;
        }
        if (type.shape.rank != 1 || type.shape.dim[0] < data->classes) {
            char text[96];
            problem_invalid(b->p, "/model", ITEM_SHAPE_MISMATCH,
                            "the output must be one number for each of the %lld classes, it has "
                            "shape %s",
                            (long long)data->classes,
                            psg_shape_text(&type.shape, text, sizeof text));
            return ERROR_REFUSED;
        }
        type = (struct psg_type){ .dtype = PSG_I64 };
    } else if (psg_shape_size(&type.shape) != 1) {
        problem_invalid(b->p, "/model", ITEM_SHAPE_MISMATCH,
                        "this loss needs an output of one number, as the labels are");
        return ERROR_REFUSED;
    }
    if (psg_program_input(b->program, "target", type.dtype, &type.shape, vp, &err) < 0)
        return error_from_psg(b->p, "/loss", &err);
    return 0;
}

static int add_loss(struct builder *b, const struct model_data *data, psg_value output)
{
    const struct loss *loss = &b->spec->loss;
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = NULL;
    char room[64];
    const char *op = loss_op(loss->type, room);
    if (!op) {
        problem_invalid(b->p, "/loss", ITEM_UNKNOWN_OP, "there is no loss of this name");
        return ERROR_REFUSED;
    }
    psg_value in[2] = { output, PSG_NONE }, out[MODEL_ATTRS_MAX];
    struct psg_error err;
    int n_out = 0;
    int r = add_target(b, data, op, output, &in[1]);
    if (r == 0)
        r = make_attrs(loss->attrs, loss->n_attrs, &attrs, b->p);
    if (r == 0 && psg_attrs_string(attrs, "reduction",
                                   loss->reduction == LOSS_REDUCTION_SUM ? "sum" : "mean") < 0)
        r = error_nomem(b->p);
    if (r)
        return r;
    if (psg_program_add(b->program, op, "loss", in, 2, attrs, NULL, 0, out, &n_out, &err) < 0) {
        char pointer[PROBLEM_POINTER_MAX] = "/loss";
        if (strncmp(err.place, "loss.", 5) == 0)
            snprintf(pointer, sizeof pointer, "/loss/%.100s", err.place + 5);
        return error_from_psg(b->p, pointer, &err);
    }
    if (psg_program_set_output(b->program, output, &err) < 0 ||
        psg_program_set_loss(b->program, out[0], &err) < 0 ||
        psg_program_check(b->program, &err) < 0)
        return error_from_psg(b->p, "/model", &err);
    return 0;
}

int model_build(const struct job_spec *spec, const struct model_data *data,
                struct psg_program **programp, struct problem *p)
{
    _cleanup_(psg_program_freep) struct psg_program *program = psg_program_new();
    _cleanup_free_ psg_value *out = calloc(spec->model.n_layers + 1, sizeof *out);
    if (!program || !out)
        return error_nomem(p);
    for (size_t i = 0; i < spec->model.n_layers; i++)
        out[i] = PSG_NONE;
    struct builder b = { .spec = spec, .program = program, .out = out, .p = p };
    struct psg_error err;
    psg_value output = PSG_NONE;
    if (psg_program_input(program, "input", data->input.dtype, &data->input.shape, &b.input,
                          &err) < 0)
        return error_from_psg(p, "/model", &err);
    int r = add_layers(&b, &output);
    if (r == 0)
        r = add_loss(&b, data, output);
    if (r)
        return r;
    if (psg_program_trainable_size(program) < 1) {
        problem_invalid(p, "/model", ITEM_TOO_FEW, "there is nothing to train");
        return ERROR_REFUSED;
    }
    *programp = steal(&program);
    return 0;
}
