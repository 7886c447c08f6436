/* What a client brings: grad samplers of its own for layer types, and layer functions of its
 * own. A registry is a handle, not a global: it is given to plans (psg_plan_options.registry) and
 * asked for ops by whoever builds a program.
 *
 *   registry = psg_registry_new();
 *   psg_register_grad_sampler(registry, &(struct psg_grad_sampler){ .op = "linear",
 *                                                                   .grad_sample = mine }, &err);
 *   psg_plan_new(program, &(struct psg_plan_options){ .mode = PSG_MODE_GHOST,
 *                                                     .registry = registry }, &plan, &err);
 *
 * Registered samplers serve hooks, ghost and auto. functorch and ew never call them: before a
 * plan of the other modes is given out, every node whose rules came from a client is run on a
 * few random records and compared with functorch. A rule that differs makes psg_plan_new()
 * return PSG_E_INVALID, with the parameter's name in err->place and the largest difference in
 * err->text. */
#ifndef PSG_REGISTRY_H
#define PSG_REGISTRY_H

#include "psg/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a rule of a client is told: the buffers of the call (psg/op.h) and the node's public
 * description. Everything is of one sample and valid as long as the plan, but for `call`, which
 * lives until the rule returns. */
struct psg_sampler_call {
    const struct psg_call *call; /* geom, saved and saved_i64 belong to the op itself */
    const char *path;            /* module path, "encoder.0.attn" */
    int n_in, n_out, n_param;
    const struct psg_type *in, *out; /* [n_in], [n_out] */
    const struct psg_shape *param;   /* [n_param] */
    const char *const *role;         /* [n_param] "weight", "bias", ... */
    const struct psg_attrs *attrs;   /* psg_attrs_get_*() */
    void *user;                      /* of the sampler */
};

/* Rules of a client for one layer type. They follow the contract of the members of the same name
 * in struct psg_op, are called from several threads at once, and get scratch room for what
 * `scratch` asks. norm_sample and clipped_sum may be missing: then norms and sums are taken from
 * the rows of grad_sample, tile by tile. */
struct psg_grad_sampler {
    const char *op; /* name of the layer function: a built-in one, or a client's own */
    void (*grad_sample)(const struct psg_sampler_call *c); /* required */
    void (*norm_sample)(const struct psg_sampler_call *c);
    void (*clipped_sum)(const struct psg_sampler_call *c);
    /* psg_real numbers of call->scratch that the rules need for n samples; NULL: those of the
     * op. c->call is NULL here */
    int64_t (*scratch)(const struct psg_sampler_call *c, int64_t n);
    void *user;
    const char *origin; /* who brought it, for messages; NULL: "the client" */
};

struct psg_registry;
PSG_API struct psg_registry *psg_registry_new(void); /* NULL: out of memory */
/* Plans that were given the registry must be gone. Takes NULL, returns NULL. */
PSG_API struct psg_registry *psg_registry_free(struct psg_registry *registry);
PSG_API void psg_registry_freep(struct psg_registry **registryp);

/* The struct and its strings are copied. PSG_E_INVALID: no op or grad_sample, or the op has a
 * sampler already. Not while another thread uses the registry. */
PSG_API int psg_register_grad_sampler(struct psg_registry *registry,
                                      const struct psg_grad_sampler *sampler,
                                      struct psg_error *err);
/* A layer function of the client's own; `op` must outlive the registry and every program with
 * it. PSG_E_INVALID: infer or lower is missing, or the name is taken, also by a
 * built-in op. origin as above. */
PSG_API int psg_register_op(struct psg_registry *registry, const struct psg_op *op,
                            const char *origin, struct psg_error *err);

/* NULL when there is none; registry may be NULL. Built-in ops are not looked at. */
PSG_API const struct psg_op *psg_registry_op(const struct psg_registry *registry,
                                             const char *name);
PSG_API const struct psg_grad_sampler *
psg_registry_sampler(const struct psg_registry *registry, const char *op);

/* ---- attributes of a node, for samplers ---- */
/* dflt when there is no attribute of that name and kind; a may be NULL. */
PSG_API int64_t psg_attrs_get_int(const struct psg_attrs *a, const char *name, int64_t dflt);
PSG_API double psg_attrs_get_real(const struct psg_attrs *a, const char *name, double dflt);
PSG_API bool psg_attrs_get_bool(const struct psg_attrs *a, const char *name, bool dflt);
PSG_API const char *psg_attrs_get_string(const struct psg_attrs *a, const char *name,
                                         const char *dflt);
/* The list, or NULL; a single number is a list of one. */
PSG_API const int64_t *psg_attrs_get_ints(const struct psg_attrs *a, const char *name,
                                          int *np);

#ifdef __cplusplus
}
#endif
#endif
