/* A DP-SGD run, one logical step after the other: sample, clipped sum, noise, update.
 *
 * With per-sample gradients g_i, bound C, noise multiplier s and expected batch size E:
 *
 *     S = sum over the drawn records of c_i g_i  +  N(0, (s C)^2) per coordinate
 *     gradient = S / E        (S itself when the reduction is a sum)
 *
 * and the optimizer takes it from there. The noise is drawn once per step, also for an empty
 * batch. Everything random comes from one key by address (psg/rng.h), so a step that is run
 * again releases exactly the same thing. Sources: Abadi et al. 2016; formulas in privacy.md. */
#ifndef PSG_TRAIN_H
#define PSG_TRAIN_H

#include "psg/dp.h"
#include "psg/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Records that belong together, of one user say: a unit joins a batch as a whole, and its one
 * gradient, the mean over its records (sum: their sum), is clipped. Unit u has the records
 * record[first[u] .. first[u + 1] - 1]. Borrowed until the trainer ends. */
struct psg_units {
    int64_t n; /* 0: every record is its own unit */
    const int64_t *first; /* [n + 1] */
    const int64_t *record;
    bool sum;
};

struct psg_train_options {
    struct psg_plan_options plan; /* group and n_groups: only for PSG_CLIP_PER_GROUP */
    bool is_private;               /* false: no clipping, no noise; the three below are unused */
    enum psg_clipping clipping;
    /* C by step, for the kinds with one bound; noise multiplier s by step */
    struct psg_schedule max_grad_norm, noise_multiplier;
    /* PER_LAYER: C_p of each trainable parameter in order, or one number for all; PER_GROUP: of
     * each group. NULL for the other kinds. Copied. Scaled with max_grad_norm's schedule
     * relative to its value at step 0 */
    const double *group_norm;
    int n_group_norm;
    struct psg_adaptive_clip adaptive; /* PSG_CLIP_ADAPTIVE */
    double auto_gamma; /* PSG_CLIP_AUTO_S: C / (n + gamma); 0 stands for 0.01 */
    /* share f of 1/s^2 that pays for the two telemetry numbers; 0: none are made. The gradient's
     * noise multiplier becomes s / sqrt(1 - f), theirs s / sqrt(f / 2): together a Gaussian
     * mechanism with noise multiplier s */
    double telemetry_share;
    double loss_bound;            /* L: each loss is clipped to [0, L] in telemetry */
    bool poisson;                 /* else shuffled batches of batch_size */
    double sample_rate;           /* q, Poisson */
    int64_t batch_size;           /* shuffled batches */
    int64_t max_batch_size;       /* Poisson: larger batches are cut to it; 0: none is. Costs
                                   * psg_truncation_delta() more */
    int64_t max_records;          /* with max_batch_size: the bound on the number of records (or
                                   * units) that this was computed for; 0: none was */
    struct psg_units units;
    double expected_batch_size;   /* E, in units where records come in units */
    bool sum_reduction;           /* the gradient is S, not S / E */
    /* Discrete Gaussian on a grid (psg/dp.h) instead of floating-point noise. Its standard
     * deviation covers the rounding, and an error of the float sum of 2^-23 C per expected
     * record: an allowance, not a bound that is proved. epsilon is that of s */
    bool secure_noise;
    struct psg_optimizer_config optimizer;
    struct psg_schedule lr;
    /* [param_size] where training begins, in the program's flat order; copied by psg_trainer_new().
     * NULL: as psg_program_init_params draws them */
    const psg_real *start;
};

struct psg_trainer;

/* program must outlive the trainer; key is copied. column[] (one per input of the program; copied, the data borrowed) hold n_records
 * records. */
PSG_API int psg_trainer_new(const struct psg_program *program,
                            const struct psg_train_options *options,
                            const struct psg_column *column, int64_t n_records,
                            const struct psg_key *key, struct psg_trainer **trainerp,
                            struct psg_error *err);
PSG_API struct psg_trainer *psg_trainer_free(struct psg_trainer *trainer);
PSG_API void psg_trainer_freep(struct psg_trainer **trainerp);

/* What a step gives away, and what it must not. */
struct psg_step_report {
    uint64_t step;           /* the number of this step, from 0 */
    double lr, noise_multiplier, max_grad_norm; /* public constants of this step */
    /* released with noise of their own (telemetry_share > 0), else NaN: mean over E records of
     * the bounded loss, share of E records that were clipped. May lie outside of [0, L], [0, 1] */
    double noisy_loss, noisy_clip_fraction;
    struct psg_sum_stats exact; /* private data: never to leave but under policy `raw` */
};

/* Runs step number psg_trainer_step_number() and advances it. On an error nothing has changed. */
PSG_API int psg_trainer_step(struct psg_trainer *trainer, struct psg_step_report *report,
                             struct psg_error *err);
PSG_API uint64_t psg_trainer_step_number(const struct psg_trainer *trainer);
PSG_API const psg_real *psg_trainer_params(const struct psg_trainer *trainer);
PSG_API struct psg_plan *psg_trainer_plan(struct psg_trainer *trainer); /* for evaluation */

/* ---- state, for checkpoints: the same numbers in a new trainer continue bit-identically ---- */
struct psg_state_tensor {
    char name[64];  /* "params", "optimizer.momentum_buffer", ... */
    psg_real *data; /* to be read, or to be written into a new trainer */
    int64_t n;
};
/* i counts from 0; false past the last tensor. */
PSG_API bool psg_trainer_tensor(struct psg_trainer *trainer, int i,
                                struct psg_state_tensor *tensor);
/* Numbers beside the tensors. */
struct psg_trainer_state {
    uint64_t step;
    double adaptive_bound; /* C of the next step; unused unless clipping is adaptive */
    struct psg_optimizer_counters optimizer;
};
PSG_API struct psg_trainer_state psg_trainer_state(const struct psg_trainer *trainer);
PSG_API void psg_trainer_set_state(struct psg_trainer *trainer,
                                   const struct psg_trainer_state *state);

/* For the accountant: noise multiplier of the whole release of step k (s, whatever the split). */
PSG_API double psg_trainer_noise_multiplier(const struct psg_train_options *options,
                                            uint64_t step);

#ifdef __cplusplus
}
#endif
#endif
