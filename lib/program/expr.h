/* Formulas, compiled: text -> code for a stack machine -> primitives or numbers.
 *
 *   expr.c            a layer's names and formulas, and the op made of them
 *   expr_parse.c      text to code, by operator precedence, without recursion
 *   expr_eval.c       code to graph values
 *   expr_functions.c  functions of one sample's tensors, expr_shape.c those of their shapes,
 *   expr_product.c    matmul and einsum */
#ifndef PROGRAM_EXPR_H
#define PROGRAM_EXPR_H

#include "psg/expr.h"

enum {
    EXPR_STACK_MAX = 48,     /* values or operators that wait */
    EXPR_ARGS_MAX = 32,      /* of one call */
    EXPR_LIST_MAX = PSG_MAX_RANK,
    EXPR_OUTS_MAX = 8,
    EXPR_ELEMENTS_MAX = 1 << 26 /* of one intermediate tensor */
};

enum expr_step_kind { EXPR_NUMBER, EXPR_TEXT, EXPR_NAME, EXPR_LIST, EXPR_CALL };

struct expr_step {
    enum expr_step_kind kind;
    int column;     /* from 1 */
    int at;         /* name number, function number, place of the text */
    int n;          /* arguments, elements, length of the text */
    double number;
};

struct expr_code {
    char *text; /* a copy, where quoted texts lie */
    struct expr_step *step;
    int n;
};

enum expr_name_kind { EXPR_INPUT, EXPR_ATTR, EXPR_PARAM, EXPR_BUFFER, EXPR_LET };

struct expr_name {
    char text[PSG_EXPR_NAME_MAX + 1];
    enum expr_name_kind kind;
    int number; /* among those of its kind */
};

struct expr_param {
    int name, rank;
    struct expr_code shape[PSG_MAX_RANK];
    bool has_init;
    enum psg_init_kind kind;
    struct expr_code scale;
};

struct expr_buffer {
    int name;
    struct psg_type type;
    psg_real *data;
};

struct expr_attr {
    int name, n;
    bool required, list;
    double value[EXPR_LIST_MAX];
};

struct psg_expr {
    char op_name[PSG_EXPR_NAME_MAX + 1];
    int n_names, n_inputs, n_attrs, n_params, n_buffers, n_lets, n_outs, n_steps;
    struct expr_name name[PSG_EXPR_NAMES_MAX];
    struct expr_attr *attr;
    struct expr_param *param;
    struct expr_buffer *buffer;
    struct expr_code *let;
    int *let_name;
    struct expr_code out[EXPR_OUTS_MAX];
    struct psg_op op; /* once it is asked for */
    struct psg_attr_spec *spec;
};

/* ---- expr_parse.c ---- */
bool expr_name_ok(const char *name);
int expr_find_name(const struct psg_expr *e, const char *name, size_t len); /* or -1 */
/* first: bytes of text that are not part of the formula ("y = "). Counts into e->n_steps. */
int expr_parse(struct psg_expr *e, const char *text, size_t first, const char *place,
               struct expr_code *code, struct psg_error *err);
void expr_code_clear(struct expr_code *code);

/* ---- expr_eval.c ---- */
enum expr_value_kind { VALUE_NUMBER, VALUE_LIST, VALUE_TEXT, VALUE_TENSOR };

struct expr_value {
    enum expr_value_kind kind;
    int n; /* numbers of a list, length of a text */
    double number[EXPR_LIST_MAX];
    const char *text;
    psg_value v;
};

struct expr_eval {
    const struct psg_expr *e;
    struct psg_graph *g;
    bool training;
    psg_value random;  /* [k] uniform numbers; PSG_NONE while k is being found out */
    int64_t n_random;  /* used so far */
    struct expr_value *value; /* [n_names] */
    int column;
    char text[256]; /* the first error; empty: none */
    enum psg_status status;
};

/* Runs the code; the result goes to *out. 0 or x->status with x->text. */
int expr_run(struct expr_eval *x, const struct expr_code *code, struct expr_value *out);
/* Keeps the first error; returns its status. */
int expr_fail(struct expr_eval *x, enum psg_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* a as a tensor of real numbers. */
psg_value expr_real(struct expr_eval *x, const struct expr_value *a);
struct psg_shape expr_shape_of(const struct expr_eval *x, psg_value v);
void expr_tensor(struct expr_value *out, psg_value v);
void expr_number(struct expr_value *out, double number);
/* A whole number within [lo, hi]. */
int expr_int(struct expr_eval *x, const struct expr_value *a, const char *what, int64_t lo,
             int64_t hi, int64_t *out);
/* An axis of a tensor of that rank; negative counts from the end. */
int expr_axis(struct expr_eval *x, const struct expr_value *a, int rank, int *out);
/* Axes as bits, from a number or a list. */
int expr_axes(struct expr_eval *x, const struct expr_value *a, int rank, unsigned *out);

/* ---- functions ---- */
struct expr_function {
    const char *name;
    int min, max; /* arguments */
    int (*run)(struct expr_eval *x, const struct expr_function *f, struct expr_value *a, int n,
               struct expr_value *out);
    int f; /* enum psg_unary, psg_binary, ... */
};

/* Number of the function, or -1. Operators are functions: "+", "neg", "@", "T". */
int expr_find_function(const char *name, size_t len);
const struct expr_function *expr_function_at(int i);

#define EXPR_RUN(NAME)                                                                         \
    int NAME(struct expr_eval *x, const struct expr_function *f, struct expr_value *a, int n,  \
             struct expr_value *out)
EXPR_RUN(expr_run_reshape);
EXPR_RUN(expr_run_flatten);
EXPR_RUN(expr_run_transpose);
EXPR_RUN(expr_run_swap);
EXPR_RUN(expr_run_permute);
EXPR_RUN(expr_run_unsqueeze);
EXPR_RUN(expr_run_squeeze);
EXPR_RUN(expr_run_expand);
EXPR_RUN(expr_run_concat);
EXPR_RUN(expr_run_slice);
EXPR_RUN(expr_run_select);
EXPR_RUN(expr_run_pad);
EXPR_RUN(expr_run_flip);
EXPR_RUN(expr_run_unfold);
EXPR_RUN(expr_run_size);
EXPR_RUN(expr_run_arange);
EXPR_RUN(expr_run_full);
EXPR_RUN(expr_run_matmul);
EXPR_RUN(expr_run_einsum);

#endif
