/* Programs: a model as a graph of layer functions that describes ONE sample, from inputs and
 * parameters to a scalar loss. There is no batch axis, so a program cannot mix samples.
 *
 *   psg_program_new -> input, add, add, ... -> set_output, set_loss -> check -> plan (plan.h)
 *
 * After psg_program_check() a program is immutable and may be shared by threads. */
#ifndef PSG_PROGRAM_H
#define PSG_PROGRAM_H

#include "psg/op.h"
#include "psg/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

struct psg_program;

PSG_API struct psg_program *psg_program_new(void); /* NULL: out of memory */
PSG_API struct psg_program *psg_program_free(struct psg_program *p); /* takes NULL */
PSG_API void psg_program_freep(struct psg_program **pp);

/* Shape is of one sample. Names are unique. */
PSG_API int psg_program_input(struct psg_program *p, const char *name, enum psg_dtype dtype,
                              const struct psg_shape *shape, psg_value *vp,
                              struct psg_error *err);

/* "This node's `role` is the parameter called `name`": ties weights, or renames. */
struct psg_param_use {
    const char *role;
    const char *name;
};

/* Adds a node: op by name, path of its module ("encoder.layers.0"; parameters are called
 * path.role unless uses say otherwise), inputs, attributes (copied; NULL: none). Results go to
 * out[0..]; *n_outp (may be NULL) is their number. Errors name the path, then the attribute:
 * err->place is "path" or "path.attribute". */
PSG_API int psg_program_add(struct psg_program *p, const char *op, const char *path,
                            const psg_value *in, int n_in, const struct psg_attrs *attrs,
                            const struct psg_param_use *uses, int n_uses, psg_value *out,
                            int *n_outp, struct psg_error *err);
/* The same with an op of the caller's own, which must outlive the program. */
PSG_API int psg_program_add_op(struct psg_program *p, const struct psg_op *op,
                               const char *path, const psg_value *in, int n_in,
                               const struct psg_attrs *attrs, const struct psg_param_use *uses,
                               int n_uses, psg_value *out, int *n_outp, struct psg_error *err);
/* Hands obj over: destroy(obj) is called after the program is gone (an op that only this program
 * uses), also when this call fails. */
PSG_API int psg_program_keep(struct psg_program *p, void *obj, void (*destroy)(void *obj),
                             struct psg_error *err);
/* What the model answers (logits, ...) and the per-sample loss (rank 0). */
PSG_API int psg_program_set_output(struct psg_program *p, psg_value v, struct psg_error *err);
PSG_API int psg_program_set_loss(struct psg_program *p, psg_value v, struct psg_error *err);
/* Parameters are trainable unless they are frozen here, by exact name. */
PSG_API int psg_program_freeze(struct psg_program *p, const char *param, struct psg_error *err);
/* Last step of building: loss present and scalar, every trainable parameter used on the way to
 * the loss (PSG_E_INVALID names the one that is not), offsets assigned. */
PSG_API int psg_program_check(struct psg_program *p, struct psg_error *err);

/* ---- reading ---- */
struct psg_param_info {
    const char *name; /* PyTorch's: "0.weight" */
    struct psg_shape shape;
    int64_t size;
    int64_t offset; /* in the flat parameter vector; trainable parameters come first */
    bool trainable;
    struct psg_init init;
};

struct psg_input_info {
    const char *name;
    struct psg_type type;
    int64_t lo, hi; /* int64 inputs: legal values are lo <= v < hi */
};

PSG_API int psg_program_n_params(const struct psg_program *p);
PSG_API const struct psg_param_info *psg_program_param(const struct psg_program *p, int i);
PSG_API int psg_program_find_param(const struct psg_program *p, const char *name); /* or -1 */
PSG_API int64_t psg_program_trainable_size(const struct psg_program *p); /* P */
PSG_API int64_t psg_program_param_size(const struct psg_program *p); /* P + frozen */
PSG_API int psg_program_n_inputs(const struct psg_program *p);
PSG_API const struct psg_input_info *psg_program_input_info(const struct psg_program *p, int i);
/* The value of input i, for psg_program_add(). */
PSG_API psg_value psg_program_input_value(const struct psg_program *p, int i);
PSG_API const struct psg_type *psg_program_output_type(const struct psg_program *p); /* or NULL */
PSG_API const struct psg_type *psg_program_type(const struct psg_program *p, psg_value v);
PSG_API int psg_program_n_nodes(const struct psg_program *p);
PSG_API const char *psg_program_node_path(const struct psg_program *p, int i);
PSG_API const struct psg_op *psg_program_node_op(const struct psg_program *p, int i);
PSG_API const struct psg_type *psg_program_node_out_type(const struct psg_program *p, int i);
/* A table of the nodes: path, op, output shape, parameters; malloc'ed, or NULL. */
PSG_API char *psg_program_print(const struct psg_program *p);

/* Fills params [param_size] with PyTorch's default initialisation of each layer, drawn from key
 * (purpose PSG_RNG_INIT). */
PSG_API void psg_program_init_params(const struct psg_program *p, const struct psg_key *key,
                                     psg_real *params);

/* The program as a graph of primitives for one sample. Inputs: the program's inputs, then its
 * parameters in order, then one [k] tensor of uniform numbers for each node that draws.
 * Outputs: loss, output, for whichever is set. */
PSG_API struct psg_graph *psg_program_lower(const struct psg_program *p, bool training,
                                            struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
