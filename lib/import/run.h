/* The middle: ATen-like operators on tensors whose batch axis is known, whatever file they came
 * from.
 *
 * A tensor has logical axes, as the file's code sees them. At most one of them numbers the
 * samples; it may be merged with others: of [T * B * H] a sample has [T * H], and `inner` = H says
 * where the samples lie. What the program computes is the tensor of one sample: the logical axes
 * without the batch, or with its own share of a merged axis. Axes along which all entries are
 * equal (of zeros(), expand()) are not stored: `same`. */
#ifndef IMPORT_RUN_H
#define IMPORT_RUN_H

#include "import/code.h"
#include "psg/import.h"

enum im_type { IM_BOOLEAN, IM_LONG, IM_FLOAT };
enum im_source {
    IM_VALUE,  /* a value of the program */
    IM_FILE,   /* a tensor of the file, untouched */
    IM_DATA,   /* known numbers */
    IM_OFFSETS /* 0, L, 2 L, ... for the samples, L in data[0]: where bags of L ids begin */
};

struct im_tensor {
    enum im_type type;
    enum im_source source;
    int rank, batch;           /* batch -1: none */
    int64_t dim[PSG_MAX_RANK]; /* of one sample; of the batch axis its own share, or 1 */
    int64_t inner;             /* entries of the batch axis behind each other of a sample */
    unsigned same;             /* bit k: stored once for all of dim[k] */
    struct psg_shape
        stored; /* shape of value, file tensor or data; the order of the entries
                                   * is that of the logical axes */
    psg_value v;
    struct im_stored *file;
    int *changes; /* in place, of all tensors that share these numbers */
    int change;   /* the last one that this tensor has seen */
    bool guessed; /* stands for a result that could not be made */
    bool swapped; /* IM_FILE: seen with its two axes swapped; dim says how */
    const double *data;
};

enum {
    IM_IN_MAX = 24,
    IM_OUT_MAX = 4,
    IM_ATTRS_MAX = 12,
    IM_USES_MAX = 80,
    IM_DIM_MAX = 1 << 30
};

struct im_attr {
    const char *name;
    enum psg_attr_kind kind;
    int64_t i;
    double d;
    const char *text;
    int64_t list[PSG_MAX_RANK];
    int n;
};

struct im_use {
    const char *role;
    struct im_stored *file;
};

/* One entry of the neutral list: a layer function, or a formula over its operands. */
struct im_node {
    const char *op;      /* NULL: formula */
    const char *formula; /* operands are called a, b, c ... */
    const char *path, *place;
    int n_in, n_attrs, n_uses, n_out;
    struct im_tensor *in[IM_IN_MAX]; /* layer functions: values only */
    struct im_attr attr[IM_ATTRS_MAX];
    struct im_use *use;
    psg_value out[IM_OUT_MAX];
};

struct im_frame {
    const struct code_fn *fn;
    size_t pc, stack; /* height of the stack below the frame's values */
    const char *path;
    struct im_value *slot;
};

struct im_run {
    struct im_pool *pool;
    struct psg_error *err;
    struct psg_import *imp;
    struct psg_program *program; /* gives shapes; the final one is made of what is needed */
    struct im_node **node;
    size_t n_nodes, node_room;
    int64_t batch;       /* of the example; 0: unknown */
    const char *op_name; /* at work, for messages */
    struct im_frame *frame;
    size_t n_frames, frame_room;
    struct im_list stack;
    uint64_t steps;
    struct psg_findings *findings; /* or NULL: the first mistake ends the import */
    int n_guesses;
    bool keep;    /* make a node even where all operands are numbers */
    bool folding; /* the program is a passing one: nothing is recorded */
};

/* ---- messages ---- */
/* The place is module path, file and line; the text begins with the operator. */
int im_fail(struct im_run *r, enum psg_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int im_no_memory(struct im_run *r);
/* "mixes samples: WHY" */
int im_mixes(struct im_run *r, const char *why);
/* Makes a finding of it. 0, or im_mixes() when nobody collects them. */
int im_replaces(struct im_run *r, const char *why, const char *remedy);

/* ---- arguments of operators ---- */
enum { IM_ARGS = 32 }; /* at most; what is not given is unset */
typedef int (*im_op_fn)(struct im_run *r, const struct im_value *a, struct im_value *out);
struct im_op {
    const char *name; /* without "torch." */
    const char *args; /* names, separated by spaces */
    im_op_fn fn;
};
/* The operator of a name ("torch.add", "ops.prim.dtype", "int"), or NULL. */
const struct im_op *im_find_op(const char *name);
/* Each file of operators has a table that ends with a NULL name. */
extern const struct im_op im_ops_scalar[], im_ops_view[], im_ops_join[],
    im_ops_elementwise[], im_ops_reduce[], im_ops_product[], im_ops_layer[], im_ops_norm[],
    im_ops_recurrent[], im_ops_attention[], im_ops_composite[];

static inline bool im_given(const struct im_value *v)
{
    return v->kind != IM_UNSET && v->kind != IM_NONE;
}
/* A plain number. UNSET and None give dflt; r fails otherwise. */
int im_arg_int(struct im_run *r, const struct im_value *v, int64_t dflt, int64_t *out);
int im_arg_real(struct im_run *r, const struct im_value *v, double dflt, double *out);
int im_arg_bool(struct im_run *r, const struct im_value *v, bool dflt, bool *out);
/* A list of numbers, or one number; n of them when n > 0, a single one stands for all. *countp
 * may be NULL when n > 0. An empty or missing list: count 0. */
int im_arg_ints(struct im_run *r, const struct im_value *v, int n, int64_t *out,
                int *countp);
/* Sizes: the same with powers of the batch. */
struct im_size {
    int64_t n;
    int power;
};
int im_arg_sizes(struct im_run *r, const struct im_value *v, struct im_size *out,
                 int *countp);
/* A tensor; numbers become tensors of rank 0. */
int im_arg_tensor(struct im_run *r, const struct im_value *v, struct im_tensor **out);
int im_arg_tensors(struct im_run *r, const struct im_value *v, struct im_tensor **out,
                   int max, int *countp);
/* An axis of a tensor of this rank, negative from the end. */
int im_arg_axis(struct im_run *r, const struct im_value *v, int64_t dflt, int rank,
                int *out);
bool im_is_number(const struct im_value *v);

/* ---- tensors (tensor.c) ---- */
struct im_value im_tensor_value(struct im_tensor *t);
int im_set(struct im_run *r, struct im_tensor *t,
           struct im_value *out); /* t NULL: no memory */
struct im_tensor *im_tensor_copy(struct im_run *r, const struct im_tensor *t);
struct im_tensor *im_tensor_number(struct im_run *r, enum im_type type, double d);
/* Numbers of this shape, none of it the batch; data is adopted. */
struct im_tensor *im_tensor_data(struct im_run *r, enum im_type type,
                                 const struct psg_shape *shape, const double *data);
/* Of the file; numbers at once when it is not a floating tensor. */
int im_tensor_file(struct im_run *r, struct im_stored *file, struct im_tensor **out);
/* Its numbers, which have been opened, as known ones. */
int im_tensor_file_numbers(struct im_run *r, struct im_stored *file,
                           struct im_tensor **out);
/* Entry i of a stored tensor, and all of them. */
double im_stored_at(const struct im_stored *s, int64_t i);
int im_stored_open(struct im_run *r, struct im_stored *s);
/* The axis of a sample that a logical axis is; -1 for a batch axis that a sample has no share of */
int im_axis(const struct im_tensor *t, int k);
/* The shape of a sample with every axis at full length. */
struct psg_shape im_sample_shape(const struct im_tensor *t);
/* The same with length 1 where `same`. */
struct psg_shape im_thin_shape(const struct im_tensor *t);
int64_t im_size_of(const struct im_tensor *t); /* of a sample */
/* A program value in the full shape of a sample. */
int im_solid(struct im_run *r, const struct im_tensor *t, psg_value *v);
/* The same as a tensor: IM_VALUE, same 0, stored = sample shape. */
int im_solid_tensor(struct im_run *r, const struct im_tensor *t, struct im_tensor **out);
/* Whether all numbers are d. */
bool im_all_equal(const struct im_tensor *t, double d);
/* Takes away axis k, or puts in one of length 1 (both without work). */
void im_drop_axis(struct im_tensor *t, int k);
void im_add_axis(struct im_tensor *t, int k);
bool im_pure_batch(
    const struct im_tensor *t); /* the batch axis is nothing but the samples */

/* ---- nodes (emit.c) ---- */
/* A value of the program for each result. Layer function: in are made solid. */
int im_layer(struct im_run *r, struct im_node *node, struct im_tensor *const *in, int n_in,
             struct im_tensor *out);
/* The same; in[0] are ids of an input as they are. */
int im_layer_ids(struct im_run *r, struct im_node *node, struct im_tensor *const *in,
                 int n_in, struct im_tensor *out);
struct im_node *im_node_new(struct im_run *r, const char *op);
void im_attr_int(struct im_node *n, const char *name, int64_t v);
void im_attr_real(struct im_node *n, const char *name, double v);
void im_attr_bool(struct im_node *n, const char *name, bool v);
void im_attr_text(struct im_node *n, const char *name, const char *v);
void im_attr_ints(struct im_node *n, const char *name, const int64_t *v, int count);
/* The parameter of a role; t must be a file's tensor, unswapped, of floating type. */
int im_use(struct im_run *r, struct im_node *n, const char *role,
           const struct im_tensor *t);
bool im_is_param(const struct im_tensor *t);
/* formula over operands a, b, ... as they are stored. out: rank, dims and stored of the result, no
 * batch; numbers when all operands are numbers. */
int im_formula(struct im_run *r, struct im_tensor *const *in, int n_in,
               struct im_tensor *out, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Text of operand `name` in this shape: "a", "reshape(a, [2, 3])", or a number. */
const char *im_operand(struct im_run *r, const struct im_tensor *t, char name,
                       const struct psg_shape *shape);
const char *im_shape_list(struct im_run *r, const struct psg_shape *shape);
/* The program that computes out, and nothing else. */
int im_finish(struct im_run *r, const struct im_tensor *out);

/* ---- shared by operators ---- */
/* Broadcasting: the result's axes into *out (dims, batch, inner, same), and each operand's shape
 * of one sample, leading ones stripped, into shape[]. */
int im_align(struct im_run *r, struct im_tensor *const *in, int n, struct im_tensor *out,
             struct psg_shape *shape);
/* All numbers alike, of these sizes. */
int im_full(struct im_run *r, const struct im_size *size, int n, enum im_type type,
            double d, struct im_tensor **out);
int im_list_slice(struct im_run *r, const struct im_value *a, struct im_value *out);
/* Whether two values are one object. */
bool im_same(const struct im_value *a, const struct im_value *b);
int im_truth(struct im_run *r, const struct im_value *v, bool *out);
/* Plain numbers, texts and lists, as Python has it. */
int im_scalar_binary(struct im_run *r, enum psg_binary f, const struct im_value *a,
                     const struct im_value *b, struct im_value *out);
int im_scalar_floordiv(struct im_run *r, const struct im_value *a, const struct im_value *b,
                       struct im_value *out);
int im_binary(struct im_run *r, enum psg_binary f, struct im_tensor *a, struct im_tensor *b,
              struct im_tensor **out);
int im_embedding(struct im_run *r, struct im_tensor *w, struct im_tensor *ids,
                 int64_t padding, struct im_tensor **out);
int im_reshape(struct im_run *r, const struct im_tensor *t, const struct im_size *to, int n,
               struct im_tensor **out);
int im_permute(struct im_run *r, const struct im_tensor *t, const int *perm,
               struct im_tensor **out);
int im_swap_axes(struct im_run *r, const struct im_tensor *t, int i, int j,
                 struct im_tensor **out);
int im_slice(struct im_run *r, const struct im_tensor *t, int axis, int64_t start,
             int64_t end, int64_t step, struct im_tensor **out);
int im_concat(struct im_run *r, struct im_tensor *const *in, int n, int axis,
              struct im_tensor **out);
int im_matmul(struct im_run *r, struct im_tensor *a, struct im_tensor *b,
              struct im_tensor **out);
int im_linear(struct im_run *r, struct im_tensor *x, struct im_tensor *w,
              struct im_tensor *b, struct im_tensor **out);
int im_softmax(struct im_run *r, struct im_tensor *x, int axis, bool log,
               struct im_tensor **out);
int im_reduce(struct im_run *r, struct im_tensor *x, const char *how, unsigned axes,
              bool keepdim, struct im_tensor **out);
int im_dropout(struct im_run *r, struct im_tensor *x, double p, bool training,
               struct im_tensor **out);
int im_activation(struct im_run *r, const char *op, struct im_tensor *x,
                  struct im_tensor **out);
int im_layer_norm(struct im_run *r, struct im_tensor *x, int n_axes, struct im_tensor *w,
                  struct im_tensor *b, double eps, struct im_tensor **out);

/* ---- the interpreter (vm.c) and the archive (archive.c) ---- */
int im_call_forward(struct im_run *r, struct im_object *module, const struct im_value *args,
                    int n_args, struct im_value *out);
const char *im_path(const struct im_run *r); /* of the module at work */
const char *im_place(struct im_run *r);      /* "code/...py:12" */
/* PSG_E_FORMAT when the archive has no such thing. */
int im_find_code(struct im_run *r, const char *name, const struct code_fn **fnp,
                 const struct code_class **classp);
int im_constant(struct im_run *r, int64_t k, struct im_value *out);
int im_training(const struct im_run *r); /* -1: as saved */

#endif
