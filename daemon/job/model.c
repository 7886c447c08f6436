#include "job/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"
#include "job/define.h"
#include "psg/check.h"
#include "psg/weights.h"

enum { PATH_MAX_SIZE = 160, USES_MAX = MODEL_ATTRS_MAX, OUTS_MAX = 8 };

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
    const struct model_data *data;
    const struct psg_op *own[MODEL_DEFINES_MAX];
    psg_value input, target;
    psg_value *column;         /* [data->n_columns], PSG_NONE until one is named */
    psg_value (*out)[OUTS_MAX]; /* [n_layers], PSG_NONE until known */
    bool *unknown;              /* [n_layers] could not be made: its outputs are not known */
    struct frame stack[MODEL_LAYER_DEPTH_MAX + 1];
    int depth;
    struct psg_findings *findings;
    char (*path)[PATH_MAX_SIZE]; /* [n_layers] */
    bool *adapted; /* [lora's target_modules] matches a linear layer */
    struct psg_import *imp; /* of a model that is a file, else NULL */
    bool refused; /* something was found; the program is only looked at further */
    struct problem *p;
};

/* The op of this name: the model's own, libpsg's or a plugin's. *definep: number of the definition,
 * or -1. */
static const struct psg_op *find_op(const struct builder *b, const char *name, int *definep)
{
    *definep = define_find(&b->spec->model, name);
    if (*definep >= 0)
        return b->own[*definep];
    const struct psg_op *op = psg_op_find(name);
    return op ? op : psg_registry_op(b->data->registry, name);
}

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

/* err->place is the node's path, or path.attribute, or path.let/1 in a definition. */
static int refuse_layer(const struct builder *b, size_t i, const char *path,
                        const struct psg_error *err)
{
    char pointer[PROBLEM_POINTER_MAX];
    size_t n = strlen(path);
    const char *attr = NULL, *op = b->spec->model.layers[i].op;
    int define = define_find(&b->spec->model, op);
    if (define_pointer(&b->spec->model, define, path, err, pointer, sizeof pointer)) {
        struct psg_error told = *err;
        snprintf(told.text, sizeof told.text, "in layer %.60s: %.240s", path, err->text);
        return error_from_psg(b->p, pointer, &told);
    }
    if (strncmp(err->place, path, n) == 0 && err->place[n] == '.')
        attr = err->place + n + 1;
    layer_pointer(&b->spec->model, i, attr, pointer, sizeof pointer);
    return error_from_psg(b->p, pointer, err);
}

static enum problem_item_code finding_code(const struct psg_finding *f)
{
    return f->mixes ? ITEM_MIXES_SAMPLES : error_item_code(f->error.status);
}

/* One finding of libpsg at this pointer. */
static void tell_finding(struct builder *b, const char *pointer, const struct psg_finding *f)
{
    problem_invalid(b->p, pointer, finding_code(f), "%s%s%s", f->error.text,
                    f->remedy[0] ? "; " : "", f->remedy);
    b->refused = true;
}

/* What was found about layer i from finding number `first` on. */
static void tell_layer(struct builder *b, size_t i, const char *path, int first)
{
    const struct model *model = &b->spec->model;
    size_t n = strlen(path);
    for (int k = first; k < psg_findings_count(b->findings); k++) {
        const struct psg_finding *f = psg_findings_at(b->findings, k);
        char pointer[PROBLEM_POINTER_MAX];
        int define = define_find(model, model->layers[i].op);
        if (define_pointer(model, define, path, &f->error, pointer, sizeof pointer)) {
            struct psg_finding told = *f;
            snprintf(told.error.text, sizeof told.error.text, "in layer %.60s: %.240s", path,
                     f->error.text);
            tell_finding(b, pointer, &told);
            continue;
        }
        bool unknown = !psg_op_find(model->layers[i].op) && define < 0;
        const char *attr = unknown ? "op" : NULL;
        if (strncmp(f->error.place, path, n) == 0 && f->error.place[n] == '.')
            attr = f->error.place + n + 1;
        layer_pointer(model, i, attr, pointer, sizeof pointer);
        tell_finding(b, pointer, f);
    }
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

/* "lstm:1" is the second output of lstm; a name that has a colon itself wins. */
static bool names_output(const char *layer, const char *name, int *kp)
{
    size_t n = strlen(layer);
    *kp = 0;
    if (strcmp(layer, name) == 0)
        return true;
    if (strncmp(layer, name, n) != 0 || name[n] != ':' || name[n + 1] < '0' ||
        name[n + 1] >= '0' + OUTS_MAX || name[n + 2])
        return false;
    *kp = name[n + 1] - '0';
    return true;
}

/* An input of the program for this column of the dataset, once. */
static int find_column(struct builder *b, const char *name, psg_value *vp, struct psg_error *err)
{
    for (size_t i = 0; i < b->data->n_columns; i++) {
        const struct dataset_column *column = &b->data->columns[i];
        struct psg_type type = data_column_type(column);
        if (strcmp(column->name, name) != 0 || column->kind == DATASET_COLUMN_USER)
            continue;
        int r = b->column[i] == PSG_NONE ? psg_program_input(b->program, name, type.dtype,
                                                             &type.shape, &b->column[i], err)
                                         : 0;
        *vp = b->column[i];
        return r;
    }
    *vp = PSG_NONE;
    return 0;
}

/* A value that was made before layer `end`: of a layer, a column, the model's input. PSG_NONE
 * when there is none of this name, or with *unknownp when its layer could not be made. */
static int find_value(struct builder *b, size_t end, const char *name, psg_value *vp,
                      bool *unknownp, struct psg_error *err)
{
    const struct model *model = &b->spec->model;
    int output;
    *unknownp = false;
    for (size_t k = end; k-- > 0;)
        if (model->layers[k].name && names_output(model->layers[k].name, name, &output) &&
            (b->out[k][output] != PSG_NONE || b->unknown[k])) {
            *vp = b->out[k][output];
            *unknownp = b->unknown[k];
            return 0;
        }
    if (strcmp(name, "input") == 0) {
        *vp = b->input;
        return 0;
    }
    return find_column(b, name, vp, err);
}

static int find_inputs(struct builder *b, size_t i, psg_value cur,
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
        struct psg_error err;
        char pointer[24];
        bool unknown;
        snprintf(pointer, sizeof pointer, "in/%zu", k);
        if (find_value(b, i, layer->in[k], &in[k], &unknown, &err) < 0)
            return refuse_layer(b, i, "", &err);
        if (in[k] == PSG_NONE && !unknown) {
            refuse(b, i, pointer, ITEM_UNKNOWN_NAME,
                   "names no earlier layer, no column of the dataset, nor \"input\"");
            b->refused = true;
        }
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

/* Whether layer i becomes a lora_linear; notes which patterns name it. */
static bool is_adapted(struct builder *b, size_t i)
{
    const struct lora_spec *lora = b->spec->model.start.lora;
    bool any = false;
    if (!lora || strcmp(b->spec->model.layers[i].op, "linear") != 0)
        return false;
    for (size_t k = 0; k < lora->n_target_modules; k++)
        if (psg_name_matches(lora->target_modules[k], b->path[i]))
            any = b->adapted[k] = true;
    return any;
}

static int put_lora(const struct builder *b, struct psg_attrs *attrs)
{
    const struct lora_spec *lora = b->spec->model.start.lora;
    const char *init = lora->init == LORA_INIT_GAUSSIAN ? "gaussian" : "kaiming";
    if (psg_attrs_int(attrs, "r", lora->r) || psg_attrs_real(attrs, "lora_alpha", lora->lora_alpha) ||
        psg_attrs_real(attrs, "lora_dropout", lora->lora_dropout) ||
        psg_attrs_string(attrs, "init", init))
        return error_nomem(b->p);
    return 0;
}

static int add_leaf(struct builder *b, size_t i, psg_value cur, psg_value *outp)
{
    const struct layer *layer = &b->spec->model.layers[i];
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = NULL;
    struct psg_param_use uses[USES_MAX];
    psg_value in[MODEL_ATTRS_MAX], *out = b->out[i];
    struct psg_error err;
    int n_in = 0, define, n_found = psg_findings_count(b->findings);
    const struct psg_op *op = find_op(b, layer->op, &define);
    const char *path = b->path[i];
    layer_path(b, i, b->path[i]);
    int r = find_inputs(b, i, cur, in, &n_in);
    if (r == 0)
        r = make_attrs(layer->attrs, layer->n_attrs, &attrs, b->p);
    if (r == 0 && is_adapted(b, i)) {
        op = psg_op_find("lora_linear");
        r = put_lora(b, attrs);
    }
    if (r)
        return r;
    for (size_t k = 0; k < layer->n_params && k < USES_MAX; k++)
        uses[k] = (struct psg_param_use){ layer->params[k].role, layer->params[k].name };
    int first = psg_program_n_params(b->program);
    if (psg_check_add(b->program, op, layer->op, path, in, n_in, attrs, uses,
                      (int)layer->n_params, out, OUTS_MAX, b->findings, &err) < 0)
        return error_nomem(b->p);
    if (!op && !psg_unprivate_find(layer->op)) {
        psg_findings_cut(b->findings, n_found);
        refuse(b, i, "op", ITEM_UNKNOWN_OP, "there is no layer function of this name");
        b->refused = true;
    }
    tell_layer(b, i, path, n_found);
    *outp = out[0];
    b->unknown[i] = out[0] == PSG_NONE;
    bool trainable = layer->trainable && (b->depth == 0 || b->stack[b->depth - 1].trainable);
    return trainable || b->unknown[i] ? 0 : freeze(b, i, path, first);
}

/* ---- containers ---- */

static int push(struct builder *b, size_t i, psg_value cur)
{
    const struct layer *layer = &b->spec->model.layers[i];
    psg_value in[MODEL_ATTRS_MAX];
    int n_in = 0, r = 0;
    if (!is_sequential(layer) && !is_residual(layer))
        r = refuse(b, i, "op", ITEM_UNKNOWN_OP,
                   "only sequential and residual have layers inside");
    for (size_t k = 0; k < layer->n_attrs; k++)
        r = refuse(b, i, layer->attrs[k].name, ITEM_UNKNOWN_MEMBER,
                   "is not an attribute of this layer");
    b->refused |= r != 0;
    r = find_inputs(b, i, cur, in, &n_in);
    if (r)
        return r;
    if (n_in != 1) {
        refuse(b, i, "in", ITEM_TOO_MANY, "takes one input");
        b->refused = true;
    }
    struct frame *frame = &b->stack[b->depth];
    layer_path(b, i, frame->path);
    snprintf(b->path[i], PATH_MAX_SIZE, "%s", frame->path);
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
        int n_found = psg_findings_count(b->findings);
        if (psg_check_add(b->program, NULL, "add", frame->path, in, 2, NULL, NULL, 0, curp, 1,
                          b->findings, &err) < 0)
            return error_nomem(b->p);
        if (*curp == PSG_NONE)
            *curp = frame->in;
        for (int k = n_found; k < psg_findings_count(b->findings); k++) {
            char pointer[PROBLEM_POINTER_MAX];
            layer_pointer(&b->spec->model, frame->layer, NULL, pointer, sizeof pointer);
            tell_finding(b, pointer, psg_findings_at(b->findings, k));
        }
    }
    b->out[frame->layer][0] = *curp;
    b->unknown[frame->layer] = *curp == PSG_NONE;
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

bool model_loss_wants_class(const struct loss *loss)
{
    return wants_class(loss->type);
}

/* "mse" is mse_loss */
static const struct psg_op *loss_op(const struct builder *b, int *definep)
{
    const char *type = b->spec->loss.type;
    const struct psg_op *op = find_op(b, type, definep);
    char room[64];
    if (op)
        return op;
    snprintf(room, sizeof room, "%.50s_loss", type);
    return psg_op_find(room);
}

static int refuse_loss(const struct builder *b, const char *pointer,
                       enum problem_item_code code, const char *text)
{
    problem_invalid(b->p, pointer, code, "%s", text);
    return ERROR_REFUSED;
}

/* The labels as an input: a class number, or a real number in the shape of what it is compared
 * with. */
static int add_target(struct builder *b, const char *op, psg_value like)
{
    const struct model_data *data = b->data;
    struct psg_type type = *psg_program_type(b->program, like);
    bool own = define_find(&b->spec->model, b->spec->loss.type) >= 0;
    struct psg_error err;
    if (wants_class(op) && data->classes < 0)
        return refuse_loss(b, "/loss", ITEM_NOT_APPLICABLE,
                           "needs classes, and the dataset has real targets");
    if (wants_class(op) && (type.shape.rank != 1 || type.shape.dim[0] < data->classes)) {
        char text[96];
        problem_invalid(b->p, "/model", ITEM_SHAPE_MISMATCH,
                        "the output must be one number for each of the %lld classes, it has "
                        "shape %s",
                        (long long)data->classes,
                        psg_shape_text(&type.shape, text, sizeof text));
        return ERROR_REFUSED;
    }
    if (wants_class(op) || (own && data->classes > 0))
        type = (struct psg_type){ .dtype = PSG_I64 };
    else if (own)
        type = (struct psg_type){ .dtype = PSG_REAL };
    else if (psg_shape_size(&type.shape) != 1)
        return refuse_loss(b, "/model", ITEM_SHAPE_MISMATCH,
                           "this loss needs an output of one number, as the labels are");
    if (psg_program_input(b->program, "target", type.dtype, &type.shape, &b->target, &err) < 0)
        return error_from_psg(b->p, "/loss", &err);
    return 0;
}

/* What the loss is computed from: the output and the labels, or what `in` names. */
static int loss_inputs(struct builder *b, const char *op, psg_value output,
                       psg_value in[MODEL_ATTRS_MAX], int *n_inp)
{
    const struct loss *loss = &b->spec->loss;
    struct psg_error err;
    in[0] = output;
    *n_inp = loss->n_in ? (int)loss->n_in : 2;
    for (int k = 0; k < *n_inp; k++) {
        const char *name = loss->n_in ? loss->in[k] : k ? "target" : NULL;
        char pointer[32];
        bool unknown = !name && output == PSG_NONE;
        int r = 0;
        snprintf(pointer, sizeof pointer, "/loss/in/%d", k);
        if (name && strcmp(name, "target") == 0) {
            r = b->target == PSG_NONE && in[0] != PSG_NONE ? add_target(b, op, in[0]) : 0;
            in[k] = b->target;
        } else if (name &&
                   find_value(b, b->spec->model.n_layers, name, &in[k], &unknown, &err) < 0) {
            r = error_from_psg(b->p, pointer, &err);
        } else if (name && in[k] == PSG_NONE && !unknown) {
            r = refuse_loss(b, pointer, ITEM_UNKNOWN_NAME,
                            "names no layer, no column of the dataset, nor \"target\"");
        }
        if (r)
            return r;
    }
    return 0;
}

static int loss_attrs(const struct builder *b, int define, struct psg_attrs **attrsp)
{
    const struct loss *loss = &b->spec->loss;
    int r = make_attrs(loss->attrs, loss->n_attrs, attrsp, b->p);
    if (r)
        return r;
    if (define >= 0 && loss->reduction_given)
        return refuse_loss(b, "/loss/reduction", ITEM_NOT_APPLICABLE,
                           "a loss of one's own gives one number");
    const char *reduction = loss->reduction == LOSS_REDUCTION_SUM ? "sum" : "mean";
    if (define < 0 && psg_attrs_string(*attrsp, "reduction", reduction) < 0)
        return error_nomem(b->p);
    return 0;
}

static void tell_loss(struct builder *b, int define, int first)
{
    for (int k = first; k < psg_findings_count(b->findings); k++) {
        const struct psg_finding *f = psg_findings_at(b->findings, k);
        char pointer[PROBLEM_POINTER_MAX] = "/loss";
        if (!define_pointer(&b->spec->model, define, "loss", &f->error, pointer,
                            sizeof pointer) &&
            strncmp(f->error.place, "loss.", 5) == 0)
            snprintf(pointer, sizeof pointer, "/loss/%.100s", f->error.place + 5);
        tell_finding(b, pointer, f);
    }
}

/* loss times the record's own weight */
static int weight_loss(struct builder *b, psg_value *lossp)
{
    const char *name = b->spec->loss.sample_weight;
    psg_value in[2] = { *lossp, PSG_NONE };
    struct psg_error err;
    if (!name)
        return 0;
    if (find_column(b, name, &in[1], &err) < 0)
        return error_from_psg(b->p, "/loss/sample_weight", &err);
    if (in[1] == PSG_NONE)
        return refuse_loss(b, "/loss/sample_weight", ITEM_UNKNOWN_NAME,
                           "names no column of the dataset");
    if (psg_program_type(b->program, in[1])->shape.rank != 0)
        return refuse_loss(b, "/loss/sample_weight", ITEM_SHAPE_MISMATCH,
                           "must be one number for each record");
    if (psg_program_add(b->program, "mul", "loss.sample_weight", in, 2, NULL, NULL, 0, lossp, NULL,
                        &err) < 0)
        return error_from_psg(b->p, "/loss/sample_weight", &err);
    return 0;
}

static int add_loss(struct builder *b, psg_value output)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = NULL;
    psg_value in[MODEL_ATTRS_MAX], out[OUTS_MAX];
    struct psg_error err;
    int n_in = 0, define, n_found = psg_findings_count(b->findings);
    const struct psg_op *op = loss_op(b, &define);
    if (!op)
        return refuse_loss(b, "/loss", ITEM_UNKNOWN_OP, "there is no loss of this name");
    int r = loss_inputs(b, op->name, output, in, &n_in);
    if (r == 0)
        r = loss_attrs(b, define, &attrs);
    if (r)
        return r;
    if (psg_check_add(b->program, op, op->name, "loss", in, n_in, attrs, NULL, 0, out, OUTS_MAX,
                      b->findings, &err) < 0)
        return error_nomem(b->p);
    tell_loss(b, define, n_found);
    if (out[0] == PSG_NONE)
        return ERROR_REFUSED;
    r = weight_loss(b, &out[0]);
    if (r)
        return r;
    if (psg_program_set_output(b->program, output, &err) < 0)
        return error_from_psg(b->p, "/model", &err);
    return psg_program_set_loss(b->program, out[0], &err) < 0 ? error_from_psg(b->p, "/loss", &err)
                                                              : 0;
}

/* ---- the whole program ---- */

/* The layer that brought a parameter, or the model. */
static void param_pointer(const struct builder *b, const char *name, char *pointer, size_t size)
{
    const struct model *model = &b->spec->model;
    for (size_t i = 0; i < model->n_layers; i++) {
        size_t n = strlen(b->path[i]);
        if (!model->layers[i].nested && n && strncmp(name, b->path[i], n) == 0 &&
            name[n] == '.') {
            layer_pointer(model, i, NULL, pointer, size);
            return;
        }
    }
    snprintf(pointer, size, model->torchscript ? "/model/torchscript" : "/model");
}

/* ---- what is trained ---- */

static bool matches_any(const char *const *pattern, size_t n, const char *name, bool *used)
{
    bool any = false;
    for (size_t k = 0; k < n; k++)
        if (psg_name_matches(pattern[k], name))
            any = used[k] = true;
    return any;
}

static void tell_unmatched(struct builder *b, const char *member, const char *const *pattern,
                           size_t n, const bool *used, const char *what)
{
    for (size_t k = 0; k < n; k++) {
        char pointer[64];
        if (used[k])
            continue;
        snprintf(pointer, sizeof pointer, "/model/%s/%zu", member, k);
        problem_invalid(b->p, pointer, ITEM_UNKNOWN_NAME, "%.100s matches no %s", pattern[k], what);
        b->refused = true;
    }
}

/* With adapters, or a list of what is trained, everything else is frozen. */
static int choose_trainable(struct builder *b)
{
    const struct model_start *s = &b->spec->model.start;
    _cleanup_free_ bool *kept = calloc(s->n_trainable + 1, sizeof *kept);
    _cleanup_free_ bool *frozen = calloc(s->n_freeze + 1, sizeof *frozen);
    if (!kept || !frozen)
        return error_nomem(b->p);
    for (int i = 0; i < psg_program_n_params(b->program); i++) {
        const char *name = psg_program_param(b->program, i)->name;
        bool keep = matches_any(s->trainable, s->n_trainable, name, kept) ||
                    (s->lora && psg_program_is_adapter(b->program, i)) ||
                    (!s->lora && !s->n_trainable);
        struct psg_error err;
        if (matches_any(s->freeze, s->n_freeze, name, frozen))
            keep = false;
        if (!keep && psg_program_freeze(b->program, name, &err) < 0)
            return error_from_psg(b->p, "/model", &err);
    }
    if (s->lora)
        tell_unmatched(b, "lora/target_modules", s->lora->target_modules,
                       s->lora->n_target_modules, b->adapted, "linear layer");
    tell_unmatched(b, "trainable", s->trainable, s->n_trainable, kept, "parameter");
    tell_unmatched(b, "freeze", s->freeze, s->n_freeze, frozen, "parameter");
    return 0;
}

static int check_program(struct builder *b)
{
    struct psg_error err;
    int n_found = psg_findings_count(b->findings);
    if (psg_check_program(b->program, b->findings, &err) < 0)
        return error_nomem(b->p);
    for (int k = n_found; k < psg_findings_count(b->findings); k++) {
        struct psg_finding f = *psg_findings_at(b->findings, k);
        char pointer[PROBLEM_POINTER_MAX];
        param_pointer(b, f.error.place, pointer, sizeof pointer);
        if (f.error.place[0]) {
            char text[320];
            snprintf(text, sizeof text, "%.100s: %.200s", f.error.place, f.error.text);
            memcpy(f.error.text, text, sizeof text);
        }
        tell_finding(b, pointer, &f);
    }
    if (b->refused)
        return ERROR_REFUSED;
    return psg_program_check(b->program, &err) < 0 ? error_from_psg(b->p, "/model", &err) : 0;
}

/* The file's inputs are the program's first; a column that is among them is not added again. */
static void take_inputs(struct builder *b)
{
    for (int i = 0; i < psg_program_n_inputs(b->program); i++) {
        const char *name = psg_program_input_info(b->program, i)->name;
        psg_value v = psg_program_input_value(b->program, i);
        if (strcmp(name, "input") == 0)
            b->input = v;
        for (size_t k = 0; k < b->data->n_columns; k++)
            if (strcmp(b->data->columns[k].name, name) == 0)
                b->column[k] = v;
    }
}

static int build_file(struct builder *b, psg_real **startp)
{
    struct psg_error err;
    int r = define_open(&b->spec->model, b->program, b->own, b->p);
    if (r)
        return r;
    take_inputs(b);
    r = add_loss(b, psg_import_output(b->imp));
    if (r == 0)
        r = choose_trainable(b);
    if (r == 0)
        r = check_program(b);
    if (r)
        return r;
    _cleanup_free_ psg_real *start =
        calloc((size_t)psg_program_param_size(b->program) + 1, sizeof *start);
    if (!start)
        return error_nomem(b->p);
    if (psg_import_params(b->imp, start, &err) < 0)
        return error_from_psg(b->p, "/model/torchscript", &err);
    *startp = steal(&start);
    return 0;
}

static int build(struct builder *b)
{
    struct psg_error err;
    psg_value output = PSG_NONE;
    int r = define_open(&b->spec->model, b->program, b->own, b->p);
    if (r)
        return r;
    if (psg_program_input(b->program, "input", b->data->input.dtype, &b->data->input.shape,
                          &b->input, &err) < 0)
        return error_from_psg(b->p, "/model", &err);
    r = add_layers(b, &output);
    if (r == 0)
        r = add_loss(b, output);
    if (r == 0)
        r = choose_trainable(b);
    return r ? r : check_program(b);
}

int model_build(const struct job_spec *spec, const struct model_data *data,
                struct psg_program **programp, psg_real **startp, struct problem *p)
{
    size_t n = spec->model.n_layers;
    _cleanup_(psg_program_freep) struct psg_program *program = psg_program_new();
    _cleanup_free_ char *bytes = NULL; /* outlives imp: freed after it */
    _cleanup_(psg_import_freep) struct psg_import *imp = NULL;
    _cleanup_(psg_findings_freep) struct psg_findings *findings = psg_findings_new();
    _cleanup_free_ psg_value(*out)[OUTS_MAX] = calloc(n + 1, sizeof *out);
    _cleanup_free_ psg_value *column = calloc(data->n_columns + 1, sizeof *column);
    _cleanup_free_ bool *unknown = calloc(n + 1, sizeof *unknown);
    _cleanup_free_ char(*path)[PATH_MAX_SIZE] = calloc(n + 1, sizeof *path);
    const struct lora_spec *lora = spec->model.start.lora;
    _cleanup_free_ bool *adapted = calloc(lora ? lora->n_target_modules : 1, sizeof *adapted);
    if (!program || !findings || !out || !column || !unknown || !path || !adapted)
        return error_nomem(p);
    for (size_t i = 0; i < n * OUTS_MAX; i++)
        out[i / OUTS_MAX][i % OUTS_MAX] = PSG_NONE;
    for (size_t i = 0; i < data->n_columns; i++)
        column[i] = PSG_NONE;
    struct builder b = { .spec = spec, .program = program, .data = data, .target = PSG_NONE,
                         .column = column, .out = out, .unknown = unknown, .path = path,
                         .adapted = adapted, .findings = findings, .p = p };
    *startp = NULL;
    if (!spec->model.torchscript) {
        int r = build(&b);
        if (r == 0)
            *programp = steal(&program);
        return r;
    }
    int r = model_import(spec, data, &bytes, &imp, p);
    if (r)
        return r;
    b.imp = imp;
    b.program = psg_import_program(imp);
    b.input = PSG_NONE;
    r = build_file(&b, startp);
    if (r == 0)
        *programp = psg_import_take_program(imp);
    return r;
}
