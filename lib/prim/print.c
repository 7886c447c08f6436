/* Text of a graph, one node a line:  %3 = dot %1 %2 batch 0:0 over 1:0 : f[4, 5]  # encoder.0 */
#include "prim/prim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const unary_name[PSG_UNARY_COUNT] = {
    "neg", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "tanh",
    "sigmoid", "erf", "abs", "sign", "floor", "sin", "cos", "recip", "bf16",
};
static const char *const binary_name[PSG_BINARY_COUNT] = {
    "add", "sub", "mul", "div", "pow", "max", "min", "eq", "ne", "lt", "le", "gt", "ge",
};
static const char *const reduce_name[PSG_REDUCE_COUNT] = { "sum", "max", "min" };

static const char *node_name(const struct prim_node *n)
{
    switch (n->kind) {
    case PRIM_UNARY: return unary_name[((const struct attr_fn *)n->attr)->f];
    case PRIM_BINARY: return binary_name[((const struct attr_fn *)n->attr)->f];
    case PRIM_REDUCE: return reduce_name[((const struct attr_reduce *)n->attr)->f];
    default: return prim_table[n->kind]->name;
    }
}

static void print_i64s(FILE *f, const char *name, const int64_t *x, int n)
{
    fprintf(f, " %s", name);
    for (int i = 0; i < n; i++)
        fprintf(f, "%c%lld", i ? ',' : ' ', (long long)x[i]);
}

static void print_axes(FILE *f, unsigned axes)
{
    fputs(" axes", f);
    for (int i = 0, n = 0; axes >> i; i++)
        if (axes >> i & 1)
            fprintf(f, "%c%d", n++ ? ',' : ' ', i);
}

static void print_pairs(FILE *f, const char *name, const int *a, const int *b, int n)
{
    if (n)
        fprintf(f, " %s", name);
    for (int i = 0; i < n; i++)
        fprintf(f, "%c%d:%d", i ? ',' : ' ', a[i], b[i]);
}

static void print_window(FILE *f, const struct psg_window *w)
{
    print_i64s(f, "kernel", w->kernel, w->rank);
    print_i64s(f, "stride", w->stride, w->rank);
    print_i64s(f, "dilation", w->dilation, w->rank);
    print_i64s(f, "pad", w->pad_lo, w->rank);
    print_i64s(f, "to", w->pad_hi, w->rank);
}

static void print_ints(FILE *f, const char *name, const int *x, int n)
{
    fprintf(f, " %s", name);
    for (int i = 0; i < n; i++)
        fprintf(f, "%c%d", i ? ',' : ' ', x[i]);
}

static void print_attr(FILE *f, const struct psg_graph *g, const struct prim_node *n)
{
    const void *a = n->attr;
    int rank_in = n->n_in ? prim_shape(g, prim_in(g, n)[0])->rank : 0;
    switch (n->kind) {
    case PRIM_FULL: fprintf(f, " %.9g", ((const struct attr_full *)a)->value); break;
    case PRIM_IOTA:
    case PRIM_ARGMAX:
    case PRIM_CONCAT: fprintf(f, " axis %d", ((const struct attr_axis *)a)->axis); break;
    case PRIM_REDUCE: print_axes(f, ((const struct attr_reduce *)a)->axes); break;
    case PRIM_REVERSE: print_axes(f, ((const struct attr_axes *)a)->axes); break;
    case PRIM_TRANSPOSE:
        print_ints(f, "perm", ((const struct attr_perm *)a)->perm, rank_in);
        break;
    case PRIM_BROADCAST:
        print_ints(f, "map", ((const struct attr_map *)a)->map, rank_in);
        break;
    case PRIM_SLICE:
        print_i64s(f, "from", ((const struct attr_slice *)a)->start, rank_in);
        print_i64s(f, "to", ((const struct attr_slice *)a)->limit, rank_in);
        print_i64s(f, "step", ((const struct attr_slice *)a)->stride, rank_in);
        break;
    case PRIM_PAD:
        print_i64s(f, "lo", ((const struct attr_pad *)a)->lo, rank_in);
        print_i64s(f, "hi", ((const struct attr_pad *)a)->hi, rank_in);
        print_i64s(f, "gaps", ((const struct attr_pad *)a)->interior, rank_in);
        fprintf(f, " with %.9g", ((const struct attr_pad *)a)->value);
        break;
    case PRIM_DOT: {
        const struct psg_dot *d = a;
        print_pairs(f, "batch", d->batch_a, d->batch_b, d->n_batch);
        print_pairs(f, "over", d->contract_a, d->contract_b, d->n_contract);
        break;
    }
    case PRIM_GATHER:
    case PRIM_SCATTER_ADD:
        fprintf(f, " batch %d", ((const struct attr_table *)a)->n_batch);
        break;
    case PRIM_UNFOLD:
    case PRIM_FOLD: print_window(f, &((const struct attr_window *)a)->w); break;
    case PRIM_SCAN: {
        const struct attr_scan *s = a;
        fprintf(f, " length %lld carries %d slices %d constants %d%s", (long long)s->length,
                s->n_carry, s->n_xs, s->n_consts, s->reverse ? " reverse" : "");
        break;
    }
    default: break;
    }
}

static void print_type(FILE *f, const struct psg_type *type)
{
    char text[PSG_MAX_RANK * 22 + 4];
    fprintf(f, " %c%s", type->dtype == PSG_I64 ? 'i' : 'f',
            psg_shape_text(&type->shape, text, sizeof text));
}

/* Recursion goes over bodies of scans: at most PRIM_MAX_DEPTH. */
static void print_graph(FILE *f, const struct psg_graph *g, int indent)
{
    for (int i = 0; i < g->n_node; i++) {
        const struct prim_node *n = &g->node[i];
        fprintf(f, "%*s", indent, "");
        for (int k = 0; k < n->n_out; k++)
            fprintf(f, "%s%%%d", k ? ", " : "", n->out + k);
        fprintf(f, " = %s", node_name(n));
        for (int k = 0; k < n->n_in; k++)
            fprintf(f, " %%%d", prim_in(g, n)[k]);
        print_attr(f, g, n);
        fputs(" :", f);
        for (int k = 0; k < n->n_out; k++)
            print_type(f, prim_type(g, n->out + k));
        fprintf(f, "%s%s\n", n->place[0] ? "  # " : "", n->place);
        if (n->kind == PRIM_SCAN)
            print_graph(f, ((const struct attr_scan *)n->attr)->body, indent + 4);
    }
    fprintf(f, "%*soutput", indent, "");
    for (int j = 0; j < g->n_output; j++)
        fprintf(f, " %%%d", g->output[j]);
    fputc('\n', f);
}

char *psg_graph_print(const struct psg_graph *g)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    print_graph(f, g, 0);
    if (g->err.status)
        fprintf(f, "error: %s: %s\n", g->err.place, g->err.text);
    bool bad = ferror(f);
    if (fclose(f) != 0 || bad) {
        free(text);
        return NULL;
    }
    return text;
}
