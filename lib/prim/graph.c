/* The container: nodes, values, memory, errors. */
#include "prim/prim.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 16384, ALIGN = 16 };

struct prim_chunk {
    struct prim_chunk *next;
    size_t used, size;
    char data[] __attribute__((aligned(ALIGN)));
};

const struct prim *const prim_table[PRIM_COUNT] = {
    [PRIM_INPUT] = &prim_input,         [PRIM_FULL] = &prim_full,
    [PRIM_IOTA] = &prim_iota,           [PRIM_CONSTANT] = &prim_constant,
    [PRIM_UNARY] = &prim_unary,         [PRIM_BINARY] = &prim_binary,
    [PRIM_SELECT] = &prim_select,       [PRIM_REDUCE] = &prim_reduce,
    [PRIM_ARGMAX] = &prim_argmax,       [PRIM_RESHAPE] = &prim_reshape,
    [PRIM_TRANSPOSE] = &prim_transpose, [PRIM_BROADCAST] = &prim_broadcast,
    [PRIM_SLICE] = &prim_slice,         [PRIM_PAD] = &prim_pad,
    [PRIM_CONCAT] = &prim_concat,       [PRIM_REVERSE] = &prim_reverse,
    [PRIM_DOT] = &prim_dot,             [PRIM_GATHER] = &prim_gather,
    [PRIM_SCATTER_ADD] = &prim_scatter_add, [PRIM_ONEHOT] = &prim_onehot,
    [PRIM_CONVERT] = &prim_convert,     [PRIM_UNFOLD] = &prim_unfold,
    [PRIM_FOLD] = &prim_fold,           [PRIM_SCAN] = &prim_scan,
    [PRIM_DETACH] = &prim_detach,
};

const struct prim prim_input = { .name = "input" };

/* Memory that lives as long as the graph; NULL: out of memory. */
static void *graph_alloc(struct psg_graph *g, size_t size)
{
    size_t need;
    if (__builtin_add_overflow(size, (size_t)ALIGN - 1, &need))
        return NULL;
    need &= ~((size_t)ALIGN - 1);
    if (!g->chunk || g->chunk->size - g->chunk->used < need) {
        size_t room = need > CHUNK_BYTES ? need : CHUNK_BYTES;
        if (room > SIZE_MAX - sizeof(struct prim_chunk))
            return NULL;
        struct prim_chunk *c = malloc(sizeof *c + room);
        if (!c)
            return NULL;
        *c = (struct prim_chunk){ .next = g->chunk, .size = room };
        g->chunk = c;
    }
    void *p = g->chunk->data + g->chunk->used;
    g->chunk->used += need;
    return p;
}

/* Room for n more elements in a growing array. */
static bool graph_reserve(void *arrayp, int *cap, int used, int n, size_t elem)
{
    if (n > INT_MAX / 2 - used)
        return false;
    if (used + n <= *cap)
        return true;
    int want = *cap ? *cap : 16;
    while (want < used + n)
        want *= 2;
    void **array = arrayp;
    void *p = reallocarray(*array, (size_t)want, elem);
    if (!p)
        return false;
    *array = p;
    *cap = want;
    return true;
}

struct psg_graph *psg_graph_new(void)
{
    struct psg_graph *g = calloc(1, sizeof *g);
    if (g) {
        g->place = "";
        g->refs = 1;
    }
    return g;
}

struct psg_graph *prim_graph_ref(struct psg_graph *g)
{
    __atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
    return g;
}

/* Recursion goes over bodies of scans: at most PRIM_MAX_DEPTH. */
struct psg_graph *psg_graph_free(struct psg_graph *g)
{
    if (!g || __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return NULL;
    for (int i = 0; g->depth && i < g->n_node; i++) {
        if (g->node[i].kind == PRIM_SCAN)
            psg_graph_free(((const struct attr_scan *)g->node[i].attr)->body);
    }
    while (g->chunk) {
        struct prim_chunk *next = g->chunk->next;
        free(g->chunk);
        g->chunk = next;
    }
    free(g->node);
    free(g->value);
    free(g->operand);
    free(g->input);
    free(g->output);
    free(g);
    return NULL;
}

void psg_graph_freep(struct psg_graph **gp)
{
    *gp = psg_graph_free(*gp);
}

psg_value prim_fail(struct psg_graph *g, enum psg_status status, const char *fmt, ...)
{
    if (g->err.status)
        return PSG_NONE;
    char text[sizeof g->err.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    psg_fail(&g->err, status, g->place, "%s", text);
    return PSG_NONE;
}

struct psg_graph *prim_abandon(struct psg_graph *g, struct psg_error *err)
{
    if (!g || !g->err.status)
        psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    else if (err)
        *err = g->err;
    return psg_graph_free(g);
}

int psg_graph_check(const struct psg_graph *g, struct psg_error *err)
{
    if (!g->err.status)
        return 0;
    if (err)
        *err = g->err;
    return (int)g->err.status;
}

void psg_graph_set_place(struct psg_graph *g, const char *place)
{
    size_t len = place ? strlen(place) : 0;
    if (g->err.status || strcmp(g->place, place ? place : "") == 0)
        return;
    char *copy = graph_alloc(g, len + 1);
    if (!copy) {
        prim_fail(g, PSG_E_NOMEM, "out of memory");
        return;
    }
    memcpy(copy, len ? place : "", len + 1);
    g->place = copy;
}

bool prim_operands_ok(struct psg_graph *g, const psg_value *in, int n_in, const char *who)
{
    if (g->err.status)
        return false;
    for (int i = 0; i < n_in; i++) {
        if (in[i] < 0 || in[i] >= g->n_value) {
            prim_fail(g, PSG_E_INVALID, "%s: operand %d is not a value of the graph", who, i);
            return false;
        }
    }
    return true;
}

bool prim_reals_ok(struct psg_graph *g, const psg_value *in, int n_in, const char *who)
{
    if (!prim_operands_ok(g, in, n_in, who))
        return false;
    for (int i = 0; i < n_in; i++) {
        if (!prim_is_real(g, in[i])) {
            prim_fail(g, PSG_E_SHAPE, "%s: operand %d is int64, real numbers are needed", who,
                      i);
            return false;
        }
    }
    return true;
}

/* Legal rank and lengths, and a size in bytes that fits even if the zero lengths were one, so
 * that no stride can overflow. */
static bool type_fits(struct psg_graph *g, enum prim_kind kind, const struct psg_type *type)
{
    const struct psg_shape *s = &type->shape;
    int64_t size = (int64_t)sizeof(double);
    if (s->rank < 0 || s->rank > PSG_MAX_RANK) {
        prim_fail(g, PSG_E_SHAPE, "%s: rank %d, at most %d is possible",
                  prim_table[kind]->name, s->rank, PSG_MAX_RANK);
        return false;
    }
    for (int i = 0; i < s->rank; i++) {
        int64_t n = s->dim[i] > 1 ? s->dim[i] : 1;
        if (s->dim[i] < 0 || __builtin_mul_overflow(size, n, &size)) {
            char text[200];
            prim_fail(g, PSG_E_SHAPE, "%s: a tensor of shape %s is not possible",
                      prim_table[kind]->name, psg_shape_text(s, text, sizeof text));
            return false;
        }
    }
    return true;
}

static void add_value(struct psg_graph *g, const struct psg_type *type, int node)
{
    struct prim_value *v = &g->value[g->n_value++];
    *v = (struct prim_value){ .node = node };
    v->type.dtype = type->dtype;
    v->type.shape = psg_shape_make(type->shape.rank, type->shape.dim);
}

psg_value prim_append(struct psg_graph *g, enum prim_kind kind, const psg_value *in, int n_in,
                      const void *attr, size_t attr_size, const struct psg_type *out, int n_out)
{
    if (g->err.status)
        return PSG_NONE;
    for (int i = 0; i < n_out; i++)
        if (!type_fits(g, kind, &out[i]))
            return PSG_NONE;
    void *copy = attr_size ? graph_alloc(g, attr_size) : NULL;
    if ((attr_size && !copy) ||
        !graph_reserve(&g->node, &g->cap_node, g->n_node, 1, sizeof *g->node) ||
        !graph_reserve(&g->value, &g->cap_value, g->n_value, n_out, sizeof *g->value) ||
        !graph_reserve(&g->operand, &g->cap_operand, g->n_operand, n_in, sizeof *g->operand))
        return prim_fail(g, PSG_E_NOMEM, "out of memory");
    if (attr_size)
        memcpy(copy, attr, attr_size);
    for (int i = 0; i < n_in; i++)
        g->operand[g->n_operand + i] = in[i];
    g->node[g->n_node] = (struct prim_node){
        .kind = kind, .n_in = n_in, .n_out = n_out, .in_at = g->n_operand,
        .out = g->n_value, .place = g->place, .attr = copy, .attr_size = attr_size,
    };
    psg_value first = g->n_value;
    for (int i = 0; i < n_out; i++)
        add_value(g, &out[i], g->n_node);
    g->n_operand += n_in;
    g->n_node++;
    if (kind == PRIM_SCAN) {
        struct psg_graph *body = ((const struct attr_scan *)copy)->body;
        prim_graph_ref(body);
        if (body->depth + 1 > g->depth)
            g->depth = body->depth + 1;
    }
    return first;
}

psg_value prim_append_copy(struct psg_graph *g, const struct psg_graph *src,
                           const struct prim_node *node, const psg_value *in)
{
    if (!prim_operands_ok(g, in, node->n_in, prim_table[node->kind]->name))
        return PSG_NONE;
    if (node->n_out == 1)
        return prim_append(g, node->kind, in, node->n_in, node->attr, node->attr_size,
                           prim_type(src, node->out), 1);
    struct psg_type *type = calloc((size_t)node->n_out, sizeof *type);
    if (!type)
        return prim_fail(g, PSG_E_NOMEM, "out of memory");
    for (int i = 0; i < node->n_out; i++)
        type[i] = *prim_type(src, node->out + i);
    psg_value v = prim_append(g, node->kind, in, node->n_in, node->attr, node->attr_size, type,
                              node->n_out);
    free(type);
    return v;
}

psg_value psg_graph_input(struct psg_graph *g, enum psg_dtype dtype,
                          const struct psg_shape *shape)
{
    struct psg_type type = { .dtype = dtype, .shape = *shape };
    if (g->err.status)
        return PSG_NONE;
    if (!graph_reserve(&g->input, &g->cap_input, g->n_input, 1, sizeof *g->input))
        return prim_fail(g, PSG_E_NOMEM, "out of memory");
    psg_value v = prim_append(g, PRIM_INPUT, NULL, 0, NULL, 0, &type, 1);
    if (v != PSG_NONE)
        g->input[g->n_input++] = v;
    return v;
}

void psg_graph_output(struct psg_graph *g, psg_value v)
{
    if (!prim_operands_ok(g, &v, 1, "output"))
        return;
    if (!graph_reserve(&g->output, &g->cap_output, g->n_output, 1, sizeof *g->output)) {
        prim_fail(g, PSG_E_NOMEM, "out of memory");
        return;
    }
    g->output[g->n_output++] = v;
}

int psg_graph_n_inputs(const struct psg_graph *g)
{
    return g->n_input;
}

int psg_graph_n_outputs(const struct psg_graph *g)
{
    return g->n_output;
}

int psg_graph_n_nodes(const struct psg_graph *g)
{
    return g->n_node;
}

psg_value psg_graph_input_at(const struct psg_graph *g, int i)
{
    return i >= 0 && i < g->n_input ? g->input[i] : PSG_NONE;
}

psg_value psg_graph_output_at(const struct psg_graph *g, int i)
{
    return i >= 0 && i < g->n_output ? g->output[i] : PSG_NONE;
}

const struct psg_type *psg_graph_type(const struct psg_graph *g, psg_value v)
{
    return v >= 0 && v < g->n_value ? prim_type(g, v) : NULL;
}

int prim_copy_inputs(struct psg_graph *g, const struct psg_graph *src, psg_value *args)
{
    for (int i = 0; i < src->n_input; i++) {
        const struct psg_type *type = prim_type(src, src->input[i]);
        args[i] = psg_graph_input(g, type->dtype, &type->shape);
    }
    return (int)g->err.status;
}

/* Results of a node of src, once its operands are known in dst. */
static int inline_node(struct psg_graph *dst, const struct psg_graph *src,
                       const struct prim_node *node, psg_value *map, psg_value *in)
{
    const psg_value *old = prim_in(src, node);
    for (int i = 0; i < node->n_in; i++)
        in[i] = map[old[i]];
    psg_graph_set_place(dst, node->place);
    psg_value v = prim_append_copy(dst, src, node, in);
    for (int i = 0; v != PSG_NONE && i < node->n_out; i++)
        map[node->out + i] = v + i;
    return (int)dst->err.status;
}

int prim_inline(struct psg_graph *dst, const struct psg_graph *src, const psg_value *args,
                psg_value *map)
{
    int widest = 1;
    for (int i = 0; i < src->n_node; i++)
        widest = src->node[i].n_in > widest ? src->node[i].n_in : widest;
    psg_value *in = malloc(sizeof *in * (size_t)widest);
    const char *place = dst->place;
    if (!in)
        prim_fail(dst, PSG_E_NOMEM, "out of memory");
    else if (src->err.status)
        prim_fail(dst, src->err.status, "%s", src->err.text);
    else
        prim_operands_ok(dst, args, src->n_input, "inline");
    for (int i = 0; !dst->err.status && i < src->n_input; i++) {
        const struct psg_type *want = prim_type(src, src->input[i]);
        const struct psg_type *have = prim_type(dst, args[i]);
        if (want->dtype != have->dtype || !psg_shape_equal(&want->shape, &have->shape))
            prim_fail(dst, PSG_E_SHAPE, "inline: argument %d has another type than input %d",
                      i, i);
        map[src->input[i]] = args[i];
    }
    for (int i = 0; !dst->err.status && i < src->n_node; i++)
        if (src->node[i].kind != PRIM_INPUT)
            inline_node(dst, src, &src->node[i], map, in);
    if (!dst->err.status)
        dst->place = place;
    free(in);
    return (int)dst->err.status;
}

int psg_graph_inline(struct psg_graph *dst, const struct psg_graph *src, const psg_value *args,
                     psg_value *out)
{
    psg_value *map = malloc(sizeof *map * (size_t)(src->n_value + 1));
    if (map)
        prim_inline(dst, src, args, map);
    else
        prim_fail(dst, PSG_E_NOMEM, "out of memory");
    for (int i = 0; i < src->n_output; i++)
        out[i] = dst->err.status ? PSG_NONE : map[src->output[i]];
    free(map);
    return (int)dst->err.status;
}

struct psg_graph *prim_copy(const struct psg_graph *src)
{
    struct psg_graph *g = psg_graph_new();
    psg_value *args = malloc(sizeof *args * ((size_t)src->n_input + 1));
    psg_value *map = malloc(sizeof *map * ((size_t)src->n_value + 1));
    bool ok = g && args && map && !prim_copy_inputs(g, src, args) &&
              !prim_inline(g, src, args, map);
    for (int j = 0; ok && j < src->n_output; j++)
        psg_graph_output(g, map[src->output[j]]);
    free(args);
    free(map);
    return ok && !g->err.status ? g : psg_graph_free(g);
}
