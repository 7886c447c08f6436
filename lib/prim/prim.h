/* Inside of graphs: nodes, the table of primitives, and the three things a primitive brings:
 * execution, vjp rule, batching rule. Private to lib/prim and lib/transform. */
#ifndef PRIM_PRIM_H
#define PRIM_PRIM_H

#include "psg/graph.h"

enum prim_kind {
    PRIM_INPUT, PRIM_FULL, PRIM_IOTA, PRIM_CONSTANT, PRIM_UNARY, PRIM_BINARY, PRIM_SELECT,
    PRIM_REDUCE, PRIM_ARGMAX, PRIM_RESHAPE, PRIM_TRANSPOSE, PRIM_BROADCAST, PRIM_SLICE,
    PRIM_PAD, PRIM_CONCAT, PRIM_REVERSE, PRIM_DOT, PRIM_GATHER, PRIM_SCATTER_ADD, PRIM_ONEHOT,
    PRIM_CONVERT, PRIM_UNFOLD, PRIM_FOLD, PRIM_SCAN, PRIM_DETACH,
    PRIM_COUNT
};

/* Bodies of scans nest at most this deep, so that recursion over them is bounded. */
enum { PRIM_MAX_DEPTH = 8 };

/* ---- attributes, one struct for each kind; unused bytes are zero, so memcmp compares ---- */
struct attr_full { double value; };
struct attr_axis { int axis; };                      /* iota, argmax, concat */
struct attr_fn { int f; };                           /* unary, binary */
struct attr_reduce { int f; unsigned axes; };
struct attr_axes { unsigned axes; };                 /* reverse */
struct attr_perm { int perm[PSG_MAX_RANK]; };        /* transpose */
struct attr_map { int map[PSG_MAX_RANK]; };          /* broadcast */
struct attr_slice { int64_t start[PSG_MAX_RANK], limit[PSG_MAX_RANK], stride[PSG_MAX_RANK]; };
struct attr_pad {
    int64_t lo[PSG_MAX_RANK], hi[PSG_MAX_RANK], interior[PSG_MAX_RANK];
    double value;
};
struct attr_table { int64_t rows; int n_batch; int zero; }; /* gather (rows 0), scatter_add */
struct attr_depth { int64_t depth; };                /* onehot */
struct attr_window { struct psg_window w; double pad_value; }; /* unfold, fold */
struct attr_scan {
    struct psg_graph *body; /* shared and never written */
    int64_t length;
    int reverse, n_carry, n_xs, n_consts, n_ys, zero;
};

struct prim_node {
    enum prim_kind kind;
    int n_in, n_out;
    int in_at;         /* its operands are g->operand[in_at ...] */
    psg_value out;     /* its first result; the others follow */
    const char *place; /* who asked for it; "" for nobody */
    const void *attr;  /* of the struct above; the bytes of a constant */
    size_t attr_size;
};

struct prim_value {
    struct psg_type type;
    int node;
};

struct prim_chunk;

struct psg_graph {
    struct prim_node *node;
    struct prim_value *value;
    psg_value *operand, *input, *output;
    int n_node, n_value, n_operand, n_input, n_output;
    int cap_node, cap_value, cap_operand, cap_input, cap_output;
    int depth; /* 0: no scan inside; 1 + depth of the deepest body */
    int refs;  /* owners: its maker and the scans that run it */
    struct prim_chunk *chunk; /* memory of attributes and places */
    const char *place;
    struct psg_error err; /* status 0: none so far */
};

/* ---- building (graph.c) ---- */
/* Types of the results follow from the kind: the builder has checked the operands. Returns the
 * first result. Copies attr. */
psg_value prim_append(struct psg_graph *g, enum prim_kind kind, const psg_value *in, int n_in,
                      const void *attr, size_t attr_size, const struct psg_type *out,
                      int n_out);
/* Copies a node of src into g with other operands; types and attributes stay. */
psg_value prim_append_copy(struct psg_graph *g, const struct psg_graph *src,
                           const struct prim_node *node, const psg_value *in);
/* Keeps the first error of the graph; returns PSG_NONE. */
psg_value prim_fail(struct psg_graph *g, enum psg_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* True when the graph has no error and every operand is a value of it. */
bool prim_operands_ok(struct psg_graph *g, const psg_value *in, int n_in, const char *who);
/* prim_operands_ok, and every operand is psg_real. */
bool prim_reals_ok(struct psg_graph *g, const psg_value *in, int n_in, const char *who);
struct psg_graph *prim_graph_ref(struct psg_graph *g);
/* An input in g for each input of src. */
int prim_copy_inputs(struct psg_graph *g, const struct psg_graph *src, psg_value *args);
/* Copies src's nodes into dst with args[i] for input i; map[v] is what value v became. */
int prim_inline(struct psg_graph *dst, const struct psg_graph *src, const psg_value *args,
                psg_value *map);
/* A graph of its own with the same nodes; NULL: out of memory. */
struct psg_graph *prim_copy(const struct psg_graph *src);
/* Reports the error of a graph that could not be finished and frees it; NULL. */
struct psg_graph *prim_abandon(struct psg_graph *g, struct psg_error *err);

static inline const struct psg_type *prim_type(const struct psg_graph *g, psg_value v)
{
    return &g->value[v].type;
}

static inline const struct psg_shape *prim_shape(const struct psg_graph *g, psg_value v)
{
    return &g->value[v].type.shape;
}

static inline bool prim_is_real(const struct psg_graph *g, psg_value v)
{
    return g->value[v].type.dtype == PSG_REAL;
}

static inline const struct prim_node *prim_node_of(const struct psg_graph *g, psg_value v)
{
    return &g->node[g->value[v].node];
}

static inline const psg_value *prim_in(const struct psg_graph *g, const struct prim_node *node)
{
    return g->operand + node->in_at;
}

/* shape with a new first axis; false when the rank is used up. */
bool prim_prepend(const struct psg_shape *shape, int64_t n, struct psg_shape *out);
/* v [S...] -> [n, S...], repeated. */
psg_value prim_repeat(struct psg_graph *g, psg_value v, int64_t n);
psg_value prim_zeros_like(struct psg_graph *g, psg_value v);
/* True when every element of v is the same number, known now. */
bool prim_is_full(const struct psg_graph *g, psg_value v, double *value);

/* ---- reverse mode: the cotangents of a node's operands from those of its results ---- */
struct prim_vjp {
    struct psg_graph *g;           /* graph being written; all values below are values of it */
    const struct prim_node *node;  /* node of the source graph: kind, attributes */
    const psg_value *in;           /* [n_in] */
    const psg_value *out;          /* [n_out] */
    const psg_value *ct;           /* [n_out] cotangents; PSG_NONE stands for zero; not all are */
    const bool *need;              /* [n_in] */
    psg_value *din;                /* [n_in] the rule writes; starts as PSG_NONE */
    void *keep;                    /* what `forward` kept */
};

/* ---- batching: the node over operands that have gained a leading axis ---- */
struct prim_batch {
    struct psg_graph *g;
    int64_t size;
    const struct psg_graph *src;
    const struct prim_node *node;
    const psg_value *in;  /* [n_in] values of g */
    const bool *batched;  /* [n_in], at least one */
    psg_value *out;       /* [n_out] the rule writes */
    bool *out_batched;    /* [n_out] starts as all true */
};

/* in[i], repeated where it is not batched. */
psg_value prim_batch_arg(const struct prim_batch *b, int i);

/* ---- execution ---- */
struct prim_ctx {
    const struct psg_backend *be;
    char **ptr; /* start of each buffer */
};

/* Where a value lies: element [i...] is at ptr[buf] + offset + sum(i * stride) * size. */
struct prim_arg {
    int buf;
    int64_t offset; /* bytes */
    const struct psg_type *type;
    int64_t stride[PSG_MAX_RANK]; /* elements; 0 for an axis of length 1 */
    bool dense;                   /* row-major without gaps */
};

struct prim_step {
    void (*run)(const struct prim_ctx *x, const struct prim_step *s);
    const struct psg_graph *g;
    const struct prim_node *node;
    int n_in, n_out;
    struct prim_arg *in, *out; /* results are dense */
    int scratch;               /* buffer, or -1 */
    void *plan;                /* the primitive's own, malloc'ed */
    size_t plan_size;          /* bytes that it holds */
};

struct prim {
    const char *name;
    bool view;    /* `view` may describe the result in the operand's memory */
    bool strided; /* operands may have any strides */
    bool inplace; /* the result may take the memory of a dense operand of its size */
    /* Fills out->offset and out->stride; false: only a copy will do. */
    bool (*view_of)(const struct psg_graph *g, const struct prim_node *node,
                    const struct prim_arg *in, struct prim_arg *out);
    /* Prepares s->plan and asks for scratch bytes; 0 or a negative status. */
    int (*plan)(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                struct psg_error *err);
    /* Frees s->plan; NULL: free() does. */
    void (*unplan)(void *plan);
    void (*run)(const struct prim_ctx *x, const struct prim_step *s);
    void (*vjp)(const struct prim_vjp *d); /* NULL: no gradient */
    /* Writes the node's results together with what vjp will want, which is kept (out, ct and
     * din are not set yet). Returns the first result. NULL: the node is copied. */
    psg_value (*forward)(const struct prim_vjp *d, void **keep);
    void (*unkeep)(void *keep);
    void (*batch)(const struct prim_batch *b);
};

extern const struct prim *const prim_table[PRIM_COUNT];

static inline void *prim_ptr(const struct prim_ctx *x, const struct prim_arg *a)
{
    return x->ptr[a->buf] + a->offset;
}

static inline void *prim_scratch(const struct prim_ctx *x, const struct prim_step *s)
{
    return x->ptr[s->scratch];
}

static inline int64_t prim_size(const struct prim_arg *a)
{
    return psg_shape_size(&a->type->shape);
}

/* Strides of a dense value, 0 where an axis has length 1. */
void prim_dense_strides(const struct psg_shape *shape, int64_t *stride);
/* Whether these strides are those of a dense value. */
bool prim_is_dense(const struct psg_shape *shape, const int64_t *stride);
/* Merges neighbouring axes that all n_strides stride lists walk as one. Drops axes of length 1.
 * In place. */
void prim_merge_axes(struct psg_shape *shape, int64_t *const *stride, int n_strides);

extern const struct prim prim_input, prim_full, prim_iota, prim_constant, prim_unary,
    prim_binary, prim_select, prim_reduce, prim_argmax, prim_reshape, prim_transpose,
    prim_broadcast, prim_slice, prim_pad, prim_concat, prim_reverse, prim_dot, prim_gather,
    prim_scatter_add, prim_onehot, prim_convert, prim_unfold, prim_fold, prim_scan,
    prim_detach;

#endif
