/* The neutral list: nodes in order, each a layer function or a formula. It is written into a
 * first program as it grows, which gives the shapes; the final program holds what the output
 * needs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "import/archive.h"
#include "psg/expr.h"

/* a loop in the code without an end must stop long before memory does */
enum { NODES_MAX = 20000 };

struct im_node *im_node_new(struct im_run *r, const char *op)
{
    struct im_node *n = im_pool_take(r->pool, sizeof *n);
    if (n)
        n->op = op;
    return n;
}

static struct im_attr *attr_new(struct im_node *n, const char *name,
                                enum psg_attr_kind kind)
{
    struct im_attr *a = &n->attr[n->n_attrs++];
    *a = (struct im_attr){ .name = name, .kind = kind };
    return a;
}

void im_attr_int(struct im_node *n, const char *name, int64_t v)
{
    attr_new(n, name, PSG_ATTR_INT)->i = v;
}

void im_attr_real(struct im_node *n, const char *name, double v)
{
    attr_new(n, name, PSG_ATTR_REAL)->d = v;
}

void im_attr_bool(struct im_node *n, const char *name, bool v)
{
    attr_new(n, name, PSG_ATTR_BOOL)->i = v;
}

void im_attr_text(struct im_node *n, const char *name, const char *v)
{
    attr_new(n, name, PSG_ATTR_STRING)->text = v;
}

void im_attr_ints(struct im_node *n, const char *name, const int64_t *v, int count)
{
    struct im_attr *a = attr_new(n, name, PSG_ATTR_INTS);
    a->n = count;
    if (count > 0)
        memcpy(a->list, v, (size_t)count * sizeof *v);
}

bool im_is_param(const struct im_tensor *t)
{
    struct psg_shape shape = { .rank = t->rank };
    memcpy(shape.dim, t->dim, sizeof shape.dim);
    return t->source == IM_FILE && !t->swapped && !t->same && t->batch < 0 &&
           psg_shape_equal(&shape, &t->stored);
}

int im_use(struct im_run *r, struct im_node *n, const char *role, const struct im_tensor *t)
{
    if (!im_is_param(t))
        return im_fail(r, PSG_E_UNSUPPORTED, "%s is computed, not a parameter of the file",
                       role);
    if (!n->use)
        n->use = im_pool_array(r->pool, IM_USES_MAX, sizeof *n->use);
    if (!n->use)
        return im_no_memory(r);
    if (n->n_uses == IM_USES_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "too many parameters for one layer");
    n->use[n->n_uses++] = (struct im_use){ role, t->file };
    return 0;
}

/* ---- formulas ---- */
const char *im_shape_list(struct im_run *r, const struct psg_shape *shape)
{
    char buf[PSG_MAX_RANK * 22 + 8];
    size_t n = 0;
    buf[n++] = '[';
    for (int i = 0; i < shape->rank; i++)
        n += (size_t)snprintf(buf + n, sizeof buf - n, "%s%lld", i ? ", " : "",
                              (long long)shape->dim[i]);
    buf[n++] = ']';
    return im_pool_text(r->pool, buf, n);
}

const char *im_operand(struct im_run *r, const struct im_tensor *t, char name,
                       const struct psg_shape *shape)
{
    if (t->source == IM_DATA && psg_shape_size(&t->stored) == 1 &&
        psg_shape_size(shape) == 1 && isfinite(t->data[0]) && !r->keep)
        return im_pool_printf(r->pool, "(%.17g)", t->data[0]);
    const char *text = im_pool_printf(r->pool, t->swapped ? "%c.T" : "%c", name);
    struct psg_shape have = t->stored;
    if (t->swapped) {
        have.dim[0] = t->stored.dim[1];
        have.dim[1] = t->stored.dim[0];
    }
    if (!text || psg_shape_equal(&have, shape))
        return text;
    const char *list = im_shape_list(r, shape);
    return list ? im_pool_printf(r->pool, "reshape(%s, %s)", text, list) : NULL;
}

static void expr_destroy(void *e)
{
    psg_expr_free(e);
}

/* A parameter's shape as formulas of numbers. */
static int add_param(struct psg_expr *e, const char *name, const struct psg_shape *shape,
                     struct psg_error *err)
{
    char text[PSG_MAX_RANK][24];
    const char *dims[PSG_MAX_RANK];
    for (int i = 0; i < shape->rank; i++) {
        snprintf(text[i], sizeof text[i], "%lld", (long long)shape->dim[i]);
        dims[i] = text[i];
    }
    return psg_expr_param(e, name, dims, shape->rank, NULL, err);
}

/* A formula node in program p. value[k] is used where operand k is a value. */
static int put_formula(struct psg_program *p, const struct im_node *n,
                       const psg_value *value, psg_value *out, struct psg_error *err)
{
    struct psg_expr *e = psg_expr_new("formula");
    if (!e)
        return psg_fail(err, PSG_E_NOMEM, n->place, "out of memory");
    int status = psg_program_keep(p, e, expr_destroy, err), n_value = 0, n_uses = 0;
    psg_value in[IM_IN_MAX];
    struct psg_param_use uses[IM_IN_MAX];
    static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h",
                                         "i", "j", "k", "l", "m", "n", "o", "p",
                                         "q", "r", "s", "t", "u", "v", "w", "x" };
    for (int k = 0; status == 0 && k < n->n_in; k++) {
        const struct im_tensor *t = n->in[k];
        if (t->source == IM_VALUE) {
            in[n_value++] = value[k];
            status = psg_expr_input(e, names[k], err);
        } else if (t->source == IM_FILE) {
            uses[n_uses++] = (struct psg_param_use){ names[k], t->file->name };
            status = add_param(e, names[k], &t->file->shape, err);
        } else {
            status = psg_expr_buffer(e, names[k], &t->stored, t->data, err);
        }
    }
    if (status == 0)
        status = psg_expr_out(e, n->formula, err);
    const struct psg_op *op = status ? NULL : psg_expr_op(e, err);
    if (!op)
        return status ? status : PSG_E_NOMEM;
    return psg_program_add_op(p, op, n->path, in, n_value, NULL, uses, n_uses, out, NULL,
                              err);
}

/* ---- layer functions ---- */
static int set_attr(struct psg_attrs *attrs, const struct im_attr *a)
{
    switch (a->kind) {
    case PSG_ATTR_INT: return psg_attrs_int(attrs, a->name, a->i);
    case PSG_ATTR_REAL: return psg_attrs_real(attrs, a->name, a->d);
    case PSG_ATTR_BOOL: return psg_attrs_bool(attrs, a->name, a->i != 0);
    case PSG_ATTR_STRING: return psg_attrs_string(attrs, a->name, a->text);
    case PSG_ATTR_INTS: return psg_attrs_ints(attrs, a->name, a->list, a->n);
    case PSG_ATTR_REALS: break;
    }
    return PSG_E_INVALID;
}

static int put_layer(struct psg_program *p, const struct im_node *n, const psg_value *value,
                     psg_value *out, struct psg_error *err)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = psg_attrs_new();
    struct psg_param_use uses[IM_USES_MAX];
    int status = attrs ? 0 : PSG_E_NOMEM, n_out;
    for (int i = 0; status == 0 && i < n->n_attrs; i++)
        status = set_attr(attrs, &n->attr[i]);
    if (status)
        return psg_fail(err, status, n->place, "attributes could not be set");
    for (int i = 0; i < n->n_uses; i++)
        uses[i] = (struct psg_param_use){ n->use[i].role, n->use[i].file->name };
    psg_value made[8];
    status = psg_program_add(p, n->op, n->path, value, n->n_in, attrs, uses, n->n_uses,
                             made, &n_out, err);
    for (int i = 0; status == 0 && i < n_out && i < IM_OUT_MAX; i++)
        out[i] = made[i];
    return status;
}

static int put(struct psg_program *p, struct im_node *n, const psg_value *value,
               psg_value *out, struct psg_error *err)
{
    return n->op ? put_layer(p, n, value, out, err) : put_formula(p, n, value, out, err);
}

static const struct psg_shape *shape_in(const struct im_run *r, psg_value v)
{
    return &psg_program_type(r->program, v)->shape;
}

/* Appends the node to the program at work and to the list. */
static int record(struct im_run *r, struct im_node *n)
{
    psg_value value[IM_IN_MAX];
    struct psg_error err = { 0 };
    for (int k = 0; k < IM_OUT_MAX; k++)
        n->out[k] = PSG_NONE;
    for (int k = 0; k < n->n_in; k++)
        value[k] = n->in[k]->v;
    n->path = im_path(r);
    n->place = im_place(r);
    int status = put(r->program, n, value, n->out, &err);
    if (status)
        return im_fail(r, (enum psg_status)status, "%s", err.text);
    if (r->folding)
        return 0;
    if (r->n_nodes == NODES_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d operations", NODES_MAX);
    struct im_node **at =
        im_pool_grow(r->pool, &r->node, r->n_nodes, &r->node_room, sizeof *at);
    if (!at)
        return im_no_memory(r);
    *at = n;
    r->n_nodes++;
    return 0;
}

static void take_result(struct im_run *r, const struct im_node *n, int k,
                        struct im_tensor *out)
{
    const struct psg_shape *s = shape_in(r, n->out[k]);
    *out = (struct im_tensor){ .type = IM_FLOAT,
                               .source = IM_VALUE,
                               .rank = s->rank,
                               .batch = -1,
                               .inner = 1,
                               .stored = *s,
                               .v = n->out[k] };
    memcpy(out->dim, s->dim, sizeof out->dim);
}

/* ---- numbers ---- */
/* Runs the passing program, whose only output is v. */
static int evaluate(struct im_run *r, psg_value v, struct im_tensor *out)
{
    struct psg_error err = { 0 };
    struct psg_program *p = r->program;
    struct psg_shape shape = *shape_in(r, v);
    int64_t size = psg_shape_size(&shape);
    double *data = size < 0 || size > 1 << 22
                       ? NULL
                       : im_pool_array(r->pool, (size_t)size + 1, sizeof *data);
    _cleanup_free_ psg_real *real = calloc((size_t)(data ? size : 0) + 1, sizeof *real);
    if (!data || !real)
        return im_no_memory(r);
    int status = psg_program_set_output(p, v, &err);
    if (status == 0)
        status = psg_program_check(p, &err);
    if (status)
        return im_fail(r, (enum psg_status)status, "%s", err.text);
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_program_lower(p, false, &err);
    struct psg_exec *exec = NULL;
    if (!g || psg_exec_new(g, psg_backend_ref(), &exec, &err))
        return im_fail(r, err.status, "%s", err.text);
    psg_exec_run(exec, NULL, (void *const[]){ real });
    psg_exec_free(exec);
    for (int64_t i = 0; i < size; i++)
        data[i] = (double)real[i];
    struct im_tensor *t = im_tensor_data(r, IM_FLOAT, &shape, data);
    if (!t)
        return im_no_memory(r);
    *out = *t;
    return 0;
}

/* The result of a node whose operands are all numbers. */
static int fold(struct im_run *r, struct im_node *n, struct im_tensor *const *in,
                struct im_tensor *out)
{
    struct psg_program *outer = r->program;
    bool folding = r->folding;
    int status = 0;
    r->program = psg_program_new();
    r->folding = r->keep = true;
    if (!r->program)
        status = im_no_memory(r);
    for (int k = 0; status == 0 && k < n->n_in; k++) {
        n->in[k] = in[k];
        if (n->op)
            status = im_solid_tensor(r, in[k], &n->in[k]);
    }
    if (status == 0)
        status = record(r, n);
    if (status == 0)
        status = evaluate(r, n->out[0], out);
    psg_program_free(r->program);
    r->program = outer;
    r->folding = folding;
    r->keep = false;
    return status;
}

static bool all_numbers(struct im_tensor *const *in, int n)
{
    for (int k = 0; k < n; k++)
        if (in[k]->source != IM_DATA)
            return false;
    return true;
}

static int layer(struct im_run *r, struct im_node *node, struct im_tensor *const *in,
                 int n_in, bool ids, struct im_tensor *out)
{
    if (!node)
        return im_no_memory(r);
    if (n_in > IM_IN_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "more than %d tensors", IM_IN_MAX);
    node->n_in = n_in;
    if (n_in > 0 && node->n_uses == 0 && all_numbers(in, n_in) && !r->keep)
        return fold(r, node, in, out);
    int status = 0;
    for (int k = 0; status == 0 && k < n_in; k++) {
        if (!(ids && k == 0))
            status = im_solid_tensor(r, in[k], &node->in[k]);
        else if (!(node->in[k] = im_tensor_copy(r, in[k]))) /* it may change in place */
            return im_no_memory(r);
    }
    if (status == 0)
        status = record(r, node);
    for (int k = 0; status == 0 && k < IM_OUT_MAX && node->out[k] != PSG_NONE; k++)
        if (k == 0 || node->n_out > k)
            take_result(r, node, k, &out[k]);
    return status;
}

int im_layer(struct im_run *r, struct im_node *node, struct im_tensor *const *in, int n_in,
             struct im_tensor *out)
{
    return layer(r, node, in, n_in, false, out);
}

int im_layer_ids(struct im_run *r, struct im_node *node, struct im_tensor *const *in,
                 int n_in, struct im_tensor *out)
{
    return layer(r, node, in, n_in, true, out);
}

int im_formula(struct im_run *r, struct im_tensor *const *in, int n_in,
               struct im_tensor *out, const char *fmt, ...)
{
    va_list args;
    char text[PSG_EXPR_TEXT_MAX];
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof text || n_in > IM_IN_MAX)
        return im_fail(r, PSG_E_UNSUPPORTED, "too many operands");
    struct im_node *n = im_node_new(r, NULL);
    if (!n || !(n->formula = im_pool_text(r->pool, text, (size_t)len)))
        return im_no_memory(r);
    n->n_in = n_in;
    for (int k = 0; k < n_in; k++)
        if (!(n->in[k] = im_tensor_copy(r, in[k]))) /* the tensor may change in place */
            return im_no_memory(r);
    if (all_numbers(in, n_in) && !r->keep)
        return fold(r, n, in, out);
    int status = record(r, n);
    if (status == 0)
        take_result(r, n, 0, out);
    return status;
}

/* ---- the final program ---- */
/* Marks the nodes that lead to v; node_of[value] is 1 + the node that makes it. */
static void mark(struct im_run *r, psg_value v, const int *node_of, bool *need)
{
    if (node_of[v])
        need[node_of[v] - 1] = true;
    for (size_t i = r->n_nodes; i-- > 0;) {
        const struct im_node *n = r->node[i];
        for (int k = 0; need[i] && k < n->n_in; k++) {
            psg_value from = n->in[k]->source == IM_VALUE ? n->in[k]->v : PSG_NONE;
            if (from != PSG_NONE && node_of[from])
                need[node_of[from] - 1] = true;
        }
    }
}

static int replay(struct im_run *r, struct psg_program *p, const bool *need, psg_value *to)
{
    for (size_t i = 0; i < r->n_nodes; i++) {
        struct im_node *n = r->node[i];
        psg_value value[IM_IN_MAX] = { 0 }, out[IM_OUT_MAX];
        if (!need[i])
            continue;
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k]->source == IM_VALUE)
                value[k] = to[n->in[k]->v];
            else if (n->in[k]->source == IM_FILE)
                n->in[k]->file->used = true;
        }
        for (int k = 0; k < n->n_uses; k++)
            n->use[k].file->used = true;
        int status = put(p, n, value, out, r->err);
        if (status)
            return status;
        for (int k = 0; k < IM_OUT_MAX; k++)
            if (n->out[k] != PSG_NONE)
                to[n->out[k]] = out[k];
    }
    return 0;
}

int im_finish(struct im_run *r, const struct im_tensor *out)
{
    psg_value v;
    int status = im_solid(r, out, &v);
    if (status)
        return status;
    int n_values = 0;
    while (psg_program_type(r->program, n_values))
        n_values++;
    _cleanup_free_ int *node_of = calloc((size_t)n_values + 1, sizeof *node_of);
    _cleanup_free_ bool *need = calloc(r->n_nodes + 1, sizeof *need);
    _cleanup_free_ psg_value *to = calloc((size_t)n_values + 1, sizeof *to);
    struct psg_program *p = psg_program_new();
    if (!node_of || !need || !to || !p) {
        psg_program_free(p);
        return im_no_memory(r);
    }
    for (size_t i = 0; i < r->n_nodes; i++)
        for (int k = 0; k < IM_OUT_MAX; k++)
            if (r->node[i]->out[k] != PSG_NONE)
                node_of[r->node[i]->out[k]] = (int)i + 1;
    mark(r, v, node_of, need);
    status = 0;
    for (int i = 0; status == 0 && i < psg_program_n_inputs(r->program); i++) {
        const struct psg_input_info *in = psg_program_input_info(r->program, i);
        status =
            psg_program_input(p, in->name, in->type.dtype, &in->type.shape, &to[i], r->err);
    }
    if (status == 0)
        status = replay(r, p, need, to);
    if (status == 0)
        status = psg_program_set_output(p, to[v], r->err);
    psg_program_free(r->program);
    r->program = p;
    r->imp->output = status ? PSG_NONE : to[v];
    return status;
}
