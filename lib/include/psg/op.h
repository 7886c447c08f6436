/* What a layer function is: one constant struct psg_op, in one file.
 *
 * An op describes ONE sample; the executor hands it a tile of N samples at a time, N >= 0. The
 * file of an op holds, in this order: formula and shapes, infer, forward, backward,
 * grad_sample, norm_sample, clipped_sum, lower, cases.
 *
 * Users can bring an op of their own: build a struct psg_op and give it to
 * psg_program_add_op(). Only infer and lower are required; what is missing is derived from the
 * lowering by the transforms of psg/graph.h. A layer written as formulas: psg/expr.h. */
#ifndef PSG_OP_H
#define PSG_OP_H

#include "psg/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- attributes: named values of a node ---- */
enum psg_attr_kind {
    PSG_ATTR_INT = 1,
    PSG_ATTR_REAL = 2, /* accepts an int too */
    PSG_ATTR_BOOL = 4,
    PSG_ATTR_STRING = 8,
    PSG_ATTR_INTS = 16,
    PSG_ATTR_REALS = 32 /* accepts ints too */
};

struct psg_attrs;
PSG_API struct psg_attrs *psg_attrs_new(void);
PSG_API struct psg_attrs *psg_attrs_free(struct psg_attrs *a); /* takes NULL, returns NULL */
PSG_API void psg_attrs_freep(struct psg_attrs **ap);
/* Each returns 0, PSG_E_NOMEM, or PSG_E_INVALID for a name that is set already. */
PSG_API int psg_attrs_int(struct psg_attrs *a, const char *name, int64_t value);
PSG_API int psg_attrs_real(struct psg_attrs *a, const char *name, double value);
PSG_API int psg_attrs_bool(struct psg_attrs *a, const char *name, bool value);
PSG_API int psg_attrs_string(struct psg_attrs *a, const char *name, const char *value);
PSG_API int psg_attrs_ints(struct psg_attrs *a, const char *name, const int64_t *value, int n);
PSG_API int psg_attrs_reals(struct psg_attrs *a, const char *name, const double *value, int n);

struct psg_attr_spec {
    const char *name; /* PyTorch's; NULL ends the table */
    unsigned kinds;   /* enum psg_attr_kind, or-ed */
    const char *doc;  /* default and meaning, for people */
};

/* ---- infer: attributes and input types -> output types, parameters, room ---- */
enum psg_init_kind { PSG_INIT_CONSTANT, PSG_INIT_UNIFORM, PSG_INIT_NORMAL };

struct psg_init {
    enum psg_init_kind kind;
    double value;      /* the constant, the bound of U(-value, value), or the std of N(0, value^2) */
    int64_t zero_row;  /* 1 + row that starts at zero (embedding padding_idx); 0: none */
};

/* The context of infer. The first error sticks: accessors return the default after it, and
 * psg_infer_status() is what infer returns. */
struct psg_infer {
    int n_in;
    const struct psg_type *in; /* [n_in], one sample */
    void *geom;                /* op->geom_size zero bytes for what forward and so on need */
    struct psg_infer_state *state;
};

/* The op whose infer runs: for one function that serves several ops. */
PSG_API const struct psg_op *psg_infer_op(const struct psg_infer *c);
PSG_API bool psg_infer_has(const struct psg_infer *c, const char *name);
/* enum psg_attr_kind of the attribute as it was given; 0: it was not. */
PSG_API unsigned psg_infer_kind(const struct psg_infer *c, const char *name);
PSG_API int64_t psg_infer_int(struct psg_infer *c, const char *name, int64_t dflt, int64_t lo,
                              int64_t hi);
/* Fails when the attribute is missing. */
PSG_API int64_t psg_infer_int_required(struct psg_infer *c, const char *name, int64_t lo,
                                       int64_t hi);
PSG_API double psg_infer_real(struct psg_infer *c, const char *name, double dflt, double lo,
                              double hi);
PSG_API bool psg_infer_bool(struct psg_infer *c, const char *name, bool dflt);
/* Position of the string in choices ("zeros|reflect|circular"); dflt is one of them. */
PSG_API int psg_infer_choice(struct psg_infer *c, const char *name, const char *dflt,
                             const char *choices);
/* The string itself; valid as long as the program. */
PSG_API const char *psg_infer_string(struct psg_infer *c, const char *name, const char *dflt);
/* n numbers; a single int stands for all of them. dflt NULL: required. */
PSG_API void psg_infer_ints(struct psg_infer *c, const char *name, int n, const int64_t *dflt,
                            int64_t lo, int64_t hi, int64_t *out);
/* However many there are (at most max); 0 and -1 as a count mean missing and error. */
PSG_API int psg_infer_int_list(struct psg_infer *c, const char *name, int max, int64_t *out);
PSG_API int psg_infer_real_list(struct psg_infer *c, const char *name, int max, double *out);
/* Declares parameter number 0, 1, ... of the node; returns its number. role is PyTorch's
 * attribute name ("weight", "weight_ih_l0"). */
PSG_API int psg_infer_param(struct psg_infer *c, const char *role,
                            const struct psg_shape *shape, struct psg_init init);
PSG_API int psg_infer_out(struct psg_infer *c, enum psg_dtype dtype,
                          const struct psg_shape *shape);
/* Room per sample that forward writes and backward, grad_sample, ... read. */
PSG_API void psg_infer_save(struct psg_infer *c, int64_t n_real, int64_t n_i64);
/* Room in psg_real for one call: fixed + per_sample * N. Contents do not survive a call. The
 * room is sized for the larger of what forward and the rules ask for. */
PSG_API void psg_infer_scratch(struct psg_infer *c, int64_t fixed, int64_t per_sample);
/* The op works in many small steps over all samples of a tile (a recurrence) or prepares its
 * weights in each call, and is fast only when there are n samples. */
PSG_API void psg_infer_tile(struct psg_infer *c, int64_t n);
/* What no rule after forward (prepare, backward, grad_sample, norm_sample, clipped_sum) reads: the
 * real inputs, the outputs. Their memory is used again before those run. Nothing is promised
 * unless an op says so. */
PSG_API void psg_infer_unread(struct psg_infer *c, bool in, bool out);
/* Uniform numbers in (0, 1) that this node draws for each sample: the same in forward, in every
 * rule and in the lowering (dropout). */
PSG_API void psg_infer_random(struct psg_infer *c, int64_t per_sample);
/* Int64 input `slot` must lie in [lo, hi); checked when a tile is loaded. */
PSG_API void psg_infer_index_range(struct psg_infer *c, int slot, int64_t lo, int64_t hi);
/* attr: the attribute at fault, or NULL. Returns the status. */
PSG_API int psg_infer_fail(struct psg_infer *c, enum psg_status status, const char *attr,
                           const char *fmt, ...) __attribute__((format(printf, 4, 5)));
PSG_API int psg_infer_status(const struct psg_infer *c);

/* ---- the rules ---- */
/* Buffers of one call. Tensors are [N, shape of one sample], contiguous. A rule overwrites what
 * it writes, always all of it; sums over several uses of a value or a parameter are the
 * executor's business. */
struct psg_call {
    const struct psg_backend *be;
    const void *geom;
    int64_t n; /* N, samples in this tile */
    bool training;
    const void *const *in;         /* psg_real or int64_t */
    psg_real *const *out;
    const psg_real *const *param;  /* [shape], shared by the samples */
    psg_real *saved;               /* [N * n_real], in any layout the op likes */
    int64_t *saved_i64;            /* [N * n_i64] */
    const psg_real *random;        /* [N, per_sample] */
    psg_real *scratch;
    /* After one forward every rule sees the same dout. NULL stands for zeros (an output that
     * does not lead to the loss; at least one is there). backward writes din[i] [N, ...] where
     * it is not NULL */
    const psg_real *const *dout;
    psg_real *const *din;
    /* grad_sample: row n of parameter r is grad[r] + n * grad_stride; NULL = frozen, skip */
    psg_real *const *grad;
    int64_t grad_stride;
    /* norm_sample: sq[n] += squared norm over the parameters with use[r] */
    double *sq;
    const bool *use;
    /* clipped_sum: sum[r] += sum_n weight[n] * row n; samples with weight 0 contribute nothing
     * even where their rows are not finite. NULL = frozen */
    const psg_real *weight;
    psg_real *const *sum;
};

/* ---- lowering to primitives, for one sample ---- */
struct psg_lower {
    struct psg_graph *g;
    const void *geom;
    bool training;
    const psg_value *in;
    const struct psg_type *in_type;
    const psg_value *param; /* psg_graph values of the parameters */
    psg_value random;       /* [per_sample], or PSG_NONE */
    psg_value *out;         /* lower writes these */
};

/* A case of the law tests: attributes as text, one-sample input shapes. */
struct psg_op_case {
    const char *attrs;  /* "in_features=5 out_features=3 bias=false kernel_size=3,2" */
    const char *inputs; /* "5" or "3x4" a tensor, "+3x4" of numbers above 0,
                         * "i64<10:6" ids below 10 of shape [6]; several
                         * separated by spaces; "-" is a scalar */
};

struct psg_op {
    const char *name;
    const struct psg_attr_spec *attrs; /* NULL: none */
    const char *const *inputs;         /* names of the inputs, for messages; NULL ends */
    int n_in_min, n_in_max;
    size_t geom_size;
    int (*infer)(struct psg_infer *c);
    void (*forward)(const struct psg_call *c);     /* NULL: from the lowering */
    /* NULL, or work that the rules share (the way back in time of a recurrent layer): runs
     * once after forward and before the rules, reads dout, writes saved */
    void (*prepare)(const struct psg_call *c);
    void (*backward)(const struct psg_call *c);    /* NULL: from the lowering */
    void (*grad_sample)(const struct psg_call *c); /* NULL: from the lowering, if it has parameters */
    void (*norm_sample)(const struct psg_call *c); /* NULL: from grad_sample rows */
    void (*clipped_sum)(const struct psg_call *c); /* NULL: from grad_sample rows */
    void (*lower)(struct psg_lower *l);            /* errors stay in l->g */
    const struct psg_op_case *cases;               /* ends with attrs NULL */
};

/* The built-in layer functions by name; NULL when there is none. */
PSG_API const struct psg_op *psg_op_find(const char *name);
/* i-th built-in layer function, NULL past the end. */
PSG_API const struct psg_op *psg_op_at(int i);

#ifdef __cplusplus
}
#endif
#endif
