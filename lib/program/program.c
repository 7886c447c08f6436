#include "program/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { NODES_MAX = 65536, PARAM_NAME_MAX = 200 };

struct psg_program *psg_program_new(void)
{
    struct psg_program *p = calloc(1, sizeof *p);
    if (p)
        p->loss = p->output = PSG_NONE;
    return p;
}

static void node_clear(struct node *node)
{
    for (int i = 0; i < node->n_param; i++)
        free(node->param[i].role);
    free(node->param);
    free(node->path);
    free(node->geom);
    free(node->in);
    free(node->out);
    psg_attrs_free(node->attrs);
}

struct psg_program *psg_program_free(struct psg_program *p)
{
    if (!p)
        return NULL;
    for (int i = 0; i < p->n_nodes; i++)
        node_clear(&p->nodes[i]);
    for (int i = 0; i < p->n_inputs; i++)
        free(p->inputs[i].name);
    for (int i = 0; i < p->n_params; i++)
        free(p->params[i].name);
    free(p->nodes);
    free(p->inputs);
    free(p->params);
    free(p->values);
    for (int i = 0; i < p->n_kept; i++)
        p->kept[i].destroy(p->kept[i].obj);
    free(p->kept);
    free(p);
    return NULL;
}

void psg_program_freep(struct psg_program **pp)
{
    *pp = psg_program_free(*pp);
}

static int no_memory(struct psg_error *err, const char *place)
{
    return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
}

/* One more zeroed element at the end of a list; NULL when out of memory. A list has room for
 * the next power of two, so that it moves only where n is one. */
static void *grow(void *listp, int n, size_t size)
{
    void **list = listp;
    if ((n & (n - 1)) == 0) {
        char *grown = realloc(*list, (n ? 2 * (size_t)n : 1) * size);
        if (!grown)
            return NULL;
        *list = grown;
    }
    return memset((char *)*list + (size_t)n * size, 0, size);
}

static psg_value value_new(struct psg_program *p, const struct psg_type *type, int node,
                           int index)
{
    struct value *v = grow(&p->values, p->n_values, sizeof *v);
    if (!v)
        return PSG_NONE;
    *v = (struct value){ .type = *type, .node = node, .index = index };
    return p->n_values++;
}

static bool value_known(const struct psg_program *p, psg_value v)
{
    return v >= 0 && v < p->n_values;
}

static int refuse_checked(const struct psg_program *p, struct psg_error *err)
{
    return p->checked ? psg_fail(err, PSG_E_INVALID, NULL, "the program is checked already")
                      : 0;
}

int psg_program_input(struct psg_program *p, const char *name, enum psg_dtype dtype,
                      const struct psg_shape *shape, psg_value *vp, struct psg_error *err)
{
    int r = refuse_checked(p, err);
    if (r)
        return r;
    for (int i = 0; i < p->n_inputs; i++)
        if (strcmp(p->inputs[i].name, name) == 0)
            return psg_fail(err, PSG_E_INVALID, name, "two inputs have this name");
    if (shape->rank < 0 || shape->rank > PSG_MAX_RANK || psg_shape_size(shape) < 0)
        return psg_fail(err, PSG_E_SHAPE, name, "the shape of the input is too large");
    struct psg_type type = { dtype, *shape };
    _cleanup_free_ char *copy = strdup(name);
    struct input *in = grow(&p->inputs, p->n_inputs, sizeof *in);
    psg_value v = copy && in ? value_new(p, &type, -1, p->n_inputs) : PSG_NONE;
    if (v == PSG_NONE)
        return no_memory(err, name);
    in->name = steal(&copy);
    in->value = v;
    in->info = (struct psg_input_info){
        .name = in->name, .type = type, .lo = INT64_MIN, .hi = INT64_MAX
    };
    p->n_inputs++;
    *vp = v;
    return 0;
}

int psg_program_find_param(const struct psg_program *p, const char *name)
{
    for (int i = 0; i < p->n_params; i++)
        if (strcmp(p->params[i].name, name) == 0)
            return i;
    return -1;
}

/* Finds the parameter that a node's role means, or makes it; its number or an error. */
static int param_bind(struct psg_program *p, const char *path, const struct infer_param *want,
                      const char *use, struct psg_error *err)
{
    char name[PARAM_NAME_MAX];
    int len = use ? snprintf(name, sizeof name, "%s", use)
                  : snprintf(name, sizeof name, "%s%s%s", path, *path ? "." : "", want->role);
    if (len < 0 || (size_t)len >= sizeof name)
        return psg_fail(err, PSG_E_INVALID, path, "the parameter's name is too long");
    int found = psg_program_find_param(p, name);
    if (found >= 0) {
        const struct psg_shape *have = &p->params[found].info.shape;
        char a[96], b[96];
        if (!use)
            return psg_fail(err, PSG_E_INVALID, path, "two nodes have this path");
        if (!psg_shape_equal(have, &want->shape))
            return psg_fail(err, PSG_E_SHAPE, path,
                            "parameter %s has shape %s, %s needs %s", name,
                            psg_shape_text(have, a, sizeof a), want->role,
                            psg_shape_text(&want->shape, b, sizeof b));
        return found;
    }
    _cleanup_free_ char *copy = strdup(name);
    struct param *param = grow(&p->params, p->n_params, sizeof *param);
    if (!copy || !param)
        return no_memory(err, path);
    param->name = steal(&copy);
    param->info = (struct psg_param_info){ .name = param->name,
                                           .shape = want->shape,
                                           .size = psg_shape_size(&want->shape),
                                           .trainable = true,
                                           .init = want->init };
    return p->n_params++;
}

static const char *use_find(const struct psg_param_use *uses, int n_uses, const char *role)
{
    for (int i = 0; i < n_uses; i++)
        if (strcmp(uses[i].role, role) == 0)
            return uses[i].name;
    return NULL;
}

static int check_uses(const struct psg_infer_state *s, const struct psg_param_use *uses,
                      int n_uses)
{
    for (int i = 0; i < n_uses; i++) {
        bool known = false;
        for (int j = 0; j < s->n_params; j++)
            known |= strcmp(s->params[j].role, uses[i].role) == 0;
        if (!known)
            return psg_fail(s->err, PSG_E_INVALID, s->path, "%s has no parameter called %s",
                            s->op->name, uses[i].role);
    }
    return 0;
}

/* Takes parameters, outputs and room from a finished infer into the node. */
static int node_adopt(struct psg_program *p, struct node *node, const struct psg_infer_state *s,
                      const struct psg_param_use *uses, int n_uses)
{
    int r = check_uses(s, uses, n_uses);
    if (r)
        return r;
    node->param = calloc((size_t)s->n_params + 1, sizeof *node->param);
    node->out = calloc((size_t)s->n_outs, sizeof *node->out);
    if (!node->param || !node->out)
        return no_memory(s->err, s->path);
    for (int i = 0; i < s->n_params; i++) {
        const char *use = use_find(uses, n_uses, s->params[i].role);
        int number = param_bind(p, s->path, &s->params[i], use, s->err);
        if (number < 0)
            return number;
        node->param[i].param = number;
        node->param[i].role = strdup(s->params[i].role);
        node->n_param = i + 1;
        if (!node->param[i].role)
            return no_memory(s->err, s->path);
    }
    for (int i = 0; i < s->n_outs; i++) {
        node->out[i] = value_new(p, &s->outs[i], p->n_nodes, i);
        if (node->out[i] == PSG_NONE)
            return no_memory(s->err, s->path);
    }
    node->n_out = s->n_outs;
    node->save_real = s->save_real;
    node->save_i64 = s->save_i64;
    node->random = s->random;
    node->scratch_fixed = s->scratch_fixed;
    node->scratch = s->scratch;
    node->tile = s->tile;
    node->unread_in = s->unread_in;
    node->unread_out = s->unread_out;
    return 0;
}

/* Class numbers and token ids that come straight from an input get that input's legal range. */
static void narrow_inputs(struct psg_program *p, const struct node *node,
                          const struct psg_infer_state *s)
{
    for (int i = 0; i < s->n_ranges; i++) {
        const struct value *v = &p->values[node->in[s->ranges[i].slot]];
        if (v->node >= 0 || v->type.dtype != PSG_I64)
            continue;
        struct psg_input_info *info = &p->inputs[v->index].info;
        if (s->ranges[i].lo > info->lo)
            info->lo = s->ranges[i].lo;
        if (s->ranges[i].hi < info->hi)
            info->hi = s->ranges[i].hi;
    }
}

static int node_fill(struct psg_program *p, struct node *node, struct psg_infer_state *s,
                     const psg_value *in, int n_in, const struct psg_param_use *uses,
                     int n_uses)
{
    struct psg_type types[32];
    if (n_in < 0 || n_in > (int)(sizeof types / sizeof types[0]))
        return psg_fail(s->err, PSG_E_UNSUPPORTED, s->path, "%d inputs are too many", n_in);
    for (int i = 0; i < n_in; i++) {
        if (!value_known(p, in[i]))
            return psg_fail(s->err, PSG_E_INVALID, s->path, "input %d does not exist", i);
        types[i] = p->values[in[i]].type;
    }
    node->op = s->op;
    node->n_in = n_in;
    node->path = strdup(s->path);
    node->attrs = attrs_copy(s->attrs);
    node->geom = calloc(1, s->op->geom_size + 1);
    node->in = calloc((size_t)n_in + 1, sizeof *node->in);
    if (!node->path || !node->attrs || !node->geom || !node->in)
        return no_memory(s->err, s->path);
    memcpy(node->in, in, (size_t)n_in * sizeof *in);
    s->attrs = node->attrs; /* strings that infer keeps live as long as the node */
    int r = infer_run(s, types, n_in, node->geom);
    if (r == 0)
        r = node_adopt(p, node, s, uses, n_uses);
    if (r == 0)
        narrow_inputs(p, node, s);
    return r;
}

int psg_program_add_op(struct psg_program *p, const struct psg_op *op, const char *path,
                       const psg_value *in, int n_in, const struct psg_attrs *attrs,
                       const struct psg_param_use *uses, int n_uses, psg_value *out,
                       int *n_outp, struct psg_error *err)
{
    int r = refuse_checked(p, err);
    if (r)
        return r;
    if (p->n_nodes == NODES_MAX)
        return psg_fail(err, PSG_E_RANGE, path, "more than %d nodes", NODES_MAX);
    int n_values = p->n_values, n_params = p->n_params;
    struct node *node = grow(&p->nodes, p->n_nodes, sizeof *node);
    if (!node)
        return no_memory(err, path);
    struct psg_infer_state s = { .op = op, .path = path, .attrs = attrs, .err = err };
    r = node_fill(p, node, &s, in, n_in, uses, n_uses);
    free(s.params);
    if (r) { /* leave no trace of the node */
        node_clear(node);
        for (int i = n_params; i < p->n_params; i++)
            free(p->params[i].name);
        p->n_values = n_values;
        p->n_params = n_params;
        return r;
    }
    for (int i = 0; i < node->n_out; i++)
        out[i] = node->out[i];
    if (n_outp)
        *n_outp = node->n_out;
    p->n_nodes++;
    return 0;
}

int psg_program_add(struct psg_program *p, const char *op, const char *path,
                    const psg_value *in, int n_in, const struct psg_attrs *attrs,
                    const struct psg_param_use *uses, int n_uses, psg_value *out, int *n_outp,
                    struct psg_error *err)
{
    const struct psg_op *found = psg_op_find(op);
    if (!found)
        return psg_fail(err, PSG_E_INVALID, path, "unknown op %.64s", op);
    return psg_program_add_op(p, found, path, in, n_in, attrs, uses, n_uses, out, n_outp, err);
}

int psg_program_keep(struct psg_program *p, void *obj, void (*destroy)(void *obj),
                     struct psg_error *err)
{
    struct kept *kept = grow(&p->kept, p->n_kept, sizeof *kept);
    if (!kept) {
        destroy(obj);
        return no_memory(err, NULL);
    }
    *kept = (struct kept){ obj, destroy };
    p->n_kept++;
    return 0;
}

int psg_program_set_output(struct psg_program *p, psg_value v, struct psg_error *err)
{
    int r = refuse_checked(p, err);
    if (r)
        return r;
    if (!value_known(p, v) || p->values[v].type.dtype != PSG_REAL)
        return psg_fail(err, PSG_E_INVALID, NULL, "the output must be a real tensor");
    p->output = v;
    return 0;
}

int psg_program_set_loss(struct psg_program *p, psg_value v, struct psg_error *err)
{
    int r = refuse_checked(p, err);
    if (r)
        return r;
    if (!value_known(p, v) || p->values[v].type.dtype != PSG_REAL)
        return psg_fail(err, PSG_E_INVALID, NULL, "the loss must be a real number");
    if (p->values[v].type.shape.rank != 0) {
        char text[96];
        return psg_fail(err, PSG_E_SHAPE, NULL,
                        "the loss of one sample must be one number, it has shape %s",
                        psg_shape_text(&p->values[v].type.shape, text, sizeof text));
    }
    p->loss = v;
    return 0;
}

int psg_program_freeze(struct psg_program *p, const char *param, struct psg_error *err)
{
    int r = refuse_checked(p, err);
    int found = psg_program_find_param(p, param);
    if (r)
        return r;
    if (found < 0)
        return psg_fail(err, PSG_E_INVALID, param, "there is no parameter of this name");
    p->params[found].info.trainable = false;
    return 0;
}

int program_mark_used(const struct psg_program *p, psg_value end, bool *used)
{
    _cleanup_free_ bool *live = calloc((size_t)p->n_values + 1, sizeof *live);
    if (!live)
        return PSG_E_NOMEM;
    live[end] = true;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &p->nodes[i];
        bool wanted = false;
        for (int j = 0; j < node->n_out; j++)
            wanted |= live[node->out[j]];
        for (int j = 0; wanted && j < node->n_in; j++)
            live[node->in[j]] = true;
        for (int j = 0; wanted && j < node->n_param; j++)
            used[node->param[j].param] = true;
    }
    return 0;
}

/* Trainable parameters first, each group in order of definition. */
static int assign_offsets(struct psg_program *p, struct psg_error *err)
{
    int64_t at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < p->n_params; i++) {
            struct psg_param_info *info = &p->params[i].info;
            if (info->trainable != (pass == 0))
                continue;
            info->offset = at;
            if (__builtin_add_overflow(at, info->size, &at))
                return psg_fail(err, PSG_E_SHAPE, info->name, "the model is too large");
        }
        if (pass == 0)
            p->trainable_size = at;
    }
    p->param_size = at;
    return 0;
}

int psg_program_check(struct psg_program *p, struct psg_error *err)
{
    if (p->checked)
        return 0;
    if (p->loss == PSG_NONE && p->output == PSG_NONE)
        return psg_fail(err, PSG_E_INVALID, NULL, "the program has neither loss nor output");
    _cleanup_free_ bool *used = calloc((size_t)p->n_params + 1, sizeof *used);
    if (!used || (p->loss != PSG_NONE && program_mark_used(p, p->loss, used)))
        return no_memory(err, NULL);
    for (int i = 0; p->loss != PSG_NONE && i < p->n_params; i++) {
        if (p->params[i].info.trainable && !used[i])
            return psg_fail(err, PSG_E_INVALID, p->params[i].name,
                            "this parameter does not reach the loss; freeze it or remove it");
    }
    for (int i = 0; i < p->n_inputs; i++) {
        const struct psg_input_info *in = &p->inputs[i].info;
        if (in->lo >= in->hi)
            return psg_fail(err, PSG_E_RANGE, in->name, "no number is legal for all its uses");
    }
    int r = assign_offsets(p, err);
    if (r == 0)
        p->checked = true;
    return r;
}
