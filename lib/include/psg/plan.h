/* Plans: a checked program compiled for one mode, backend and thread team. A plan answers the
 * library's basic questions about a batch: per-sample gradients, their norms, the clipped sum.
 *
 * A batch of any size N >= 0 is cut into tiles of a few samples; a tile runs forward, backward,
 * gradients, norms and accumulation before the next one starts, so memory does not depend on N.
 * Sums are taken over fixed lanes and a fixed tree: results are bit-identical for any number of
 * threads. */
#ifndef PSG_PLAN_H
#define PSG_PLAN_H

#include "psg/program.h"
#include "psg/registry.h"
#include "psg/team.h"

#ifdef __cplusplus
extern "C" {
#endif

enum psg_mode {
    PSG_MODE_HOOKS,     /* recorded activations and backprops, grad sampler per layer */
    PSG_MODE_FUNCTORCH, /* lower to primitives, grad, vmap */
    PSG_MODE_EW,        /* per-sample rule per function */
    PSG_MODE_GHOST,     /* norms without per-sample gradients, then one weighted backward */
    PSG_MODE_AUTO,      /* the cheapest exact route per layer */
    PSG_MODE_COUNT
};
/* "hooks", "functorch", "ew", "ghost", "auto". */
PSG_API const char *psg_mode_name(enum psg_mode mode);
/* -1: no mode of that name. */
PSG_API int psg_mode_find(const char *name);

/* What the activations are while training: the values that nodes hand on, and what layers keep of
 * them for the way back. PSG_PRECISION_BF16 rounds each to the nearest bf16 as soon as it is
 * made and keeps it so where that saves memory; every rule reads the rounded number, and the
 * rounding passes gradients on as they are. Parameters, gradients, norms, sums, noise, the
 * program's output and whatever is computed from it (the loss) stay psg_real, and so does
 * everything in psg_evaluate(). */
enum psg_precision { PSG_PRECISION_F32, PSG_PRECISION_BF16, PSG_PRECISION_COUNT };
/* "float32", "bf16". */
PSG_API const char *psg_precision_name(enum psg_precision precision);

struct psg_plan_options {
    enum psg_mode mode;
    const struct psg_backend *backend; /* NULL: cpu */
    int n_threads;                     /* 0: 1 */
    int64_t tile;                      /* samples per tile; 0: chosen from the program */
    int n_lanes; /* at most 64; 0: chosen from the program. Part of the result's bits */
    /* clipping groups: group[i] of trainable parameter i (program order, frozen ones included
     * and ignored), 0 <= group < n_groups. NULL: one group */
    const int *group;
    int n_groups;
    bool input_grads; /* psg_grad_sample also gives gradients of real inputs */
    const struct psg_registry *registry; /* a client's samplers, or NULL; outlives the plan */
    enum psg_precision precision;
};

struct psg_plan;
/* program must outlive the plan. PSG_E_UNSUPPORTED names the node that this mode cannot run,
 * PSG_E_INVALID the parameter whose gradient a client's rule gets wrong (psg/registry.h). */
PSG_API int psg_plan_new(const struct psg_program *program,
                         const struct psg_plan_options *options, struct psg_plan **planp,
                         struct psg_error *err);
PSG_API struct psg_plan *psg_plan_free(struct psg_plan *plan);
PSG_API void psg_plan_freep(struct psg_plan **planp);

struct psg_plan_info {
    enum psg_mode mode;
    int64_t tile;
    int n_lanes, n_threads, n_groups;
    enum psg_precision precision;
    size_t bytes; /* everything that the plan allocated; no call allocates more */
};
PSG_API void psg_plan_info(const struct psg_plan *plan, struct psg_plan_info *info);
/* The threads that run its tiles; between calls of the plan they may do other work. */
PSG_API struct psg_team *psg_plan_team(struct psg_plan *plan);
/* Route of each node in this plan ("grad_sample", "norm_sample", "derived", ...). */
PSG_API const char *psg_plan_route(const struct psg_plan *plan, int node);

/* ---- records: the samples of one call ---- */
enum psg_column_type { PSG_COL_F32, PSG_COL_F64, PSG_COL_U8, PSG_COL_I32, PSG_COL_I64 };

/* Where one input of the program finds its rows. Real inputs read value * scale + shift (scale 0
 * stands for 1); int64 inputs read U8, I32 and I64 columns. Element e of record r lies at
 * data + r * stride + offset(e) * element size; offset(e) = e unless `inner` splits the sample:
 * for a batch axis that is not first, the sample's elements come in runs of `inner` elements
 * whose starts are `outer_stride` elements apart (inner 0: one run). */
struct psg_column {
    enum psg_column_type type;
    const void *data;
    size_t stride; /* bytes from a record to the next */
    int64_t inner, outer_stride;
    double scale, shift;
};

struct psg_records {
    int64_t n;             /* samples, >= 0 */
    const int64_t *record; /* [n] record numbers, or NULL for 0 .. n-1 */
    const struct psg_column *column; /* one per input of the program */
    /* dropout draws from (key, step, position in the batch); key NULL: as if not training */
    const struct psg_key *key;
    uint64_t step;
};

/* ---- what a plan computes; params [param_size] in the program's flat order ---- */
struct psg_grad_out {     /* each may be NULL */
    psg_real *rows;       /* [N, P] per-sample gradients, trainable parameters in flat order */
    double *sqnorm;       /* [N, n_groups] squared L2 norms */
    psg_real *loss;       /* [N] */
    psg_real *output;     /* [N, output...] */
    psg_real *const *input_grad; /* per input [N, shape...]; NULL entries are skipped */
};
/* The library's basic service. PSG_E_RANGE names input and record of an id out of range. */
PSG_API int psg_grad_sample(struct psg_plan *plan, const psg_real *params,
                            const struct psg_records *batch, const struct psg_grad_out *out,
                            struct psg_error *err);

/* How samples are weighted, given their norms. Called for each tile, from several threads:
 * sqnorm and weight are [n_groups][stride], sample i of the tile at [g * stride + i], with
 * i < n. A weight of 0 leaves the sample out entirely. */
typedef void (*psg_weight_fn)(const void *arg, int64_t n, int64_t stride, int n_groups,
                              const double *sqnorm, psg_real *weight);

/* What a custodian may see of a batch; all of it is private. */
struct psg_sum_stats {
    int64_t n;             /* samples */
    int64_t n_nonfinite;   /* samples whose gradient is not finite; weight 0 was used */
    int64_t n_clipped;     /* samples with a weight below 1 in some group */
    double loss_sum;       /* of the finite losses */
    double loss_bounded_sum; /* each loss clipped to [0, loss_bound]; non-finite as loss_bound */
    double norm_sum;       /* of the finite total norms */
};

struct psg_sum_options {
    psg_weight_fn weight; /* NULL: every weight is 1 */
    const void *weight_arg;
    double loss_bound;    /* L; <= 0: infinite */
};

/* sum[P] = sum over samples and groups of weight * gradient; sum is overwritten, also when the
 * call fails. */
PSG_API int psg_clipped_sum(struct psg_plan *plan, const psg_real *params,
                            const struct psg_records *batch, const struct psg_sum_options *options,
                            psg_real *sum, struct psg_sum_stats *stats, struct psg_error *err);

/* The ordinary gradient: sum[P] of all samples, no norms, the cheapest backward that the same
 * kernels allow. The floor that private steps are measured against. */
PSG_API int psg_plain_sum(struct psg_plan *plan, const psg_real *params,
                          const struct psg_records *batch, psg_real *sum, double *loss_sum,
                          struct psg_error *err);

/* Forward only, not training: loss [N] and output [N, ...], each may be NULL. */
PSG_API int psg_evaluate(struct psg_plan *plan, const psg_real *params,
                         const struct psg_records *batch, psg_real *loss, psg_real *output,
                         struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
