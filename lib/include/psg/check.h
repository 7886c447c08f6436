/* What stands in the way of training a model privately: every finding, not only the first, each
 * with its place and what to do; and what each layer of a checked program costs.
 *
 *   f = psg_findings_new()
 *   psg_check_add(p, "batch_norm2d", ..., f, &err)    as psg_program_add(), but goes on
 *   psg_check_program(p, f, &err)                     unused parameters, ids without a legal value
 *
 * After a mistake building goes on with the nearest thing that works (an attribute left out, a
 * private replacement), so that what follows is checked too; a program with findings is for
 * looking at, not for training. */
#ifndef PSG_CHECK_H
#define PSG_CHECK_H

#include "psg/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* At most this many are kept; psg_findings_dropped() counts the others. */
#define PSG_FINDINGS_MAX 256

struct psg_finding {
    struct psg_error error; /* place and what is wrong */
    bool mixes;             /* an answer for one sample would depend on others */
    char remedy[160];       /* what to do; may be empty */
};

struct psg_findings;
PSG_API struct psg_findings *psg_findings_new(void); /* NULL: out of memory */
PSG_API struct psg_findings *psg_findings_free(struct psg_findings *f); /* takes NULL */
PSG_API void psg_findings_freep(struct psg_findings **fp);
PSG_API int psg_findings_count(const struct psg_findings *f);
PSG_API int psg_findings_dropped(const struct psg_findings *f);
PSG_API const struct psg_finding *psg_findings_at(const struct psg_findings *f, int i);
/* The same place with the same text is one finding. remedy may be NULL. */
PSG_API void psg_findings_add(struct psg_findings *f, const struct psg_error *error, bool mixes,
                              const char *remedy);
/* Forgets all but the first n. */
PSG_API void psg_findings_cut(struct psg_findings *f, int n);

/* ---- layers that mix samples, and what stands in for them ---- */
enum psg_replace { PSG_REPLACE_GROUP_NORM, PSG_REPLACE_INSTANCE_NORM };

struct psg_unprivate {
    const char *name; /* as people write it: "batch_norm2d", "BatchNorm2d", ... */
    enum psg_replace with;
    const char *why, *remedy;
    bool positions; /* a channel always has several numbers (images) */
};
/* Layers that PyTorch has and that cannot be trained privately, by name; NULL: not one of them. */
PSG_API const struct psg_unprivate *psg_unprivate_find(const char *op);
/* Groups of the group_norm that stands in for a batch_norm: the largest divisor of the channels
 * that is at most 32 (Opacus: min(32, channels), where that divides), and with one number in a
 * channel at most half of the channels: a group of one number would always be normalised to 0. */
PSG_API int64_t psg_group_norm_groups(int64_t channels, bool positions);

/* ---- checking while building ---- */
/* As psg_program_add_op() (op NULL: by name). Inputs may be PSG_NONE: not known because of an
 * earlier finding; then only names and kinds of the attributes are looked at. What is wrong goes
 * to f; out[] are PSG_NONE where nothing could be made (n_out of them at most are set). The return
 * value is 0, also with findings, or PSG_E_NOMEM. */
PSG_API int psg_check_add(struct psg_program *p, const struct psg_op *op, const char *name,
                          const char *path, const psg_value *in, int n_in,
                          const struct psg_attrs *attrs, const struct psg_param_use *uses,
                          int n_uses, psg_value *out, int n_out, struct psg_findings *f,
                          struct psg_error *err);
/* Everything that psg_program_check() would refuse (it is not run), and nothing to train. */
PSG_API int psg_check_program(const struct psg_program *p, struct psg_findings *f,
                              struct psg_error *err);

/* ---- what a layer costs ---- */
struct psg_layer_cost {
    const char *path, *op, *route; /* route "": nothing of it is trained */
    struct psg_type type;          /* of the first output, one sample */
    int64_t params, trainable;     /* shared ones where they occur first */
    /* bytes for each sample of a tile: activations, their gradients and what rules keep; and
     * per-sample gradients that the route keeps */
    int64_t activation_bytes, row_bytes;
    /* floating-point operations for each sample, counted on the lowering to primitives: forward;
     * a step without privacy (forward, gradients of inputs and parameters); a step as planned */
    double forward_flops, plain_flops, private_flops;
};
/* Node i of the plan's program. The last two are estimates: they count a gradient as much work
 * as the forward pass it belongs to. */
PSG_API int psg_layer_cost(const struct psg_plan *plan, const struct psg_program *p, int i,
                           struct psg_layer_cost *cost, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
