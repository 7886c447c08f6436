/* The parts of a DP-SGD step that touch neither programs nor gradients' making: sampling, clip
 * factors, noise, optimizer, schedules. Formulas: privacy.md; sources are named at each. */
#ifndef PSG_DP_H
#define PSG_DP_H

#include <stdbool.h>
#include <stdint.h>

#include "psg/rng.h"
#include "psg/shape.h"
#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Gaussian noise ---- */

/* out[i] = z, a standard normal number of address (purpose, step, tensor, first + i).
 *
 * Box and Muller (1958) on 32 bits a number, in float with polynomials of our own; the same bits
 * on every machine and for any cutting into ranges. Radius: 31 bits, refined to 63 bits where it
 * is large (beyond 4.08), so |z| reaches 9.42 (a true normal exceeds that once in 2^67 draws);
 * angle: 32 bits. Error of a value against exact arithmetic: below 5e-7 times the radius. Floats
 * have gaps: where a proof must cover the last bits, use psg_secure_noise_*.
 *
 * purpose must be one that has a _TAIL beside it (NOISE, TELEMETRY, ADAPTIVE_CLIP), whose stream
 * is used for the refinement. PSG_E_INVALID for others, PSG_E_RANGE as psg_rng_fill_u32. */
PSG_API int psg_normal_fill(const struct psg_key *key, enum psg_rng_purpose purpose,
                            uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                            float *out, struct psg_error *err);

/* out[i] = stddev * z (overwrites) or out[i] += stddev * z, with the z of purpose PSG_RNG_NOISE.
 * PSG_E_RANGE when stddev is negative or not finite. Thread-safe; n may be 0. */
PSG_API int psg_noise_fill(const struct psg_key *key, uint64_t step, uint32_t tensor,
                           int64_t first, int64_t n, double stddev, psg_real *out,
                           struct psg_error *err);
PSG_API int psg_noise_add(const struct psg_key *key, uint64_t step, uint32_t tensor,
                          int64_t first, int64_t n, double stddev, psg_real *out,
                          struct psg_error *err);

/* ---- discrete Gaussian noise on a grid ---- */

/* Noise whose every bit is covered by the proof: the sum is rounded to multiples of a power of
 * two, `grid`, in integers, and gets a discrete Gaussian, P(z) proportional to
 * exp(-z^2 / (2 sigma^2)) on the integers z. Canonne, Kamath, Steinke 2020, "The discrete
 * Gaussian for differential privacy": for integer vectors that differ by D in L2 its Renyi
 * divergence is at most that of the Gaussian, alpha D^2 / (2 sigma^2) (theorem 14). Drawn by
 * their algorithms 1 to 3 with integers and exact coins, no floating point. */
struct psg_secure_noise {
    double grid;        /* a power of two */
    int64_t sigma;      /* in steps of the grid, 2^23 or a little more */
    double sensitivity; /* raised for rounding; sigma * grid >= noise_multiplier * this */
};

/* Two neighbouring sums [P] differ by at most max_grad_norm in L2; rounding moves each of them by
 * at most grid sqrt(P) / 2, and the float summation by at most sum_error (L2; 0 where sums are
 * exact), so sensitivity = max_grad_norm + grid sqrt(P) + 2 sum_error. The rise by rounding is
 * noise_multiplier * sqrt(P) 2^-23 of max_grad_norm: 0.012% for a million parameters and 1.
 * PSG_E_RANGE for numbers that are not positive (sum_error: negative) and finite. */
PSG_API int psg_secure_noise_plan(double max_grad_norm, double noise_multiplier,
                                  int64_t n_params, double sum_error,
                                  struct psg_secure_noise *plan, struct psg_error *err);
/* out[i] = the discrete Gaussian of address (step, tensor, first + i), overwrites. sigma is in
 * [1, 2^25]. Any sub-range gives the same values as the whole; thread-safe. */
PSG_API int psg_discrete_gaussian_fill(const struct psg_key *key, uint64_t step,
                                       uint32_t tensor, int64_t first, int64_t n,
                                       int64_t sigma, int64_t *out, struct psg_error *err);
/* sum[i] = grid * (sum[i] / grid rounded to an integer + discrete Gaussian). What follows the
 * integer addition is post-processing. Sums beyond 2^60 steps are moved to that limit, which
 * brings neighbours no further apart; NaN counts as 0. */
PSG_API int psg_secure_noise_add(const struct psg_secure_noise *plan, const struct psg_key *key,
                                 uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                                 psg_real *sum, struct psg_error *err);

/* ---- which records join a batch ---- */

/* Record numbers of one batch, ascending for Poisson sampling. Starts zeroed; grows as needed and
 * keeps its room between draws. The number n is private data when sampling is Poisson's. */
struct psg_batch {
    int64_t *record; /* [n] */
    int64_t n;
    int64_t capacity;
};

PSG_API void psg_batch_free(struct psg_batch *batch);

/* A probability in 96 bits: hits / 2^96, or one. */
struct psg_chance {
    uint32_t high;
    uint64_t low;
    bool certain;
};

/* Poisson sampling: every record joins on its own with probability q.
 *
 * Exact: for q >= 1/32 a record joins when its 96-bit number is below q 2^96. Otherwise the gap G
 * to the next record that joins is drawn, P(G >= k) = (1 - q)^k, from its binary digits, which
 * for a geometric number are independent: P(digit j is 1) = r^(2^j) / (1 + r^(2^j)), r = 1 - q,
 * and P(G >= 2^32) = r^(2^32). Each digit compares 96 bits with a threshold that is within
 * 2^-93 of this probability, so a batch of B records differs from the ideal by at most
 * 33 (B + 1) 2^-93 in total variation: 2^-71 for B = 10^5. No logarithm, no rounding of gaps.
 *
 * Whether record i joins does not depend on how many records follow it. Cost: 132 random bytes
 * per record that joins, or 4 per record of the data when q >= 1/32. */
struct psg_poisson {
    struct psg_key key;
    int64_t n_records;
    bool by_gaps;
    struct psg_chance join;      /* q */
    struct psg_chance digit[32]; /* P(digit j of the gap is 1) */
    struct psg_chance beyond;    /* P(gap >= 2^32) */
};

/* n_records in [0, 2^32], q in [0, 1]; PSG_E_RANGE otherwise. Wipe the copy of the key with
 * psg_key_wipe(&p->key). */
PSG_API int psg_poisson_init(struct psg_poisson *p, const struct psg_key *key,
                             int64_t n_records, double sample_rate, struct psg_error *err);
/* The batch of a step; replaces what was in *batch. It may hold no record: that is a step like
 * any other. Thread-safe for different batches. */
PSG_API int psg_poisson_draw(const struct psg_poisson *p, uint64_t step,
                             struct psg_batch *batch, struct psg_error *err);

/* Cuts a batch to a uniformly random subset of at most max records, in ascending order, drawn
 * from stream 2 of PSG_RNG_SAMPLING. max is at least 1. What it costs: psg_truncation_delta(). */
PSG_API int psg_batch_truncate(const struct psg_key *key, uint64_t step, int64_t max,
                               struct psg_batch *batch, struct psg_error *err);

/* Shuffled batches of fixed size: each epoch is a fresh uniform permutation (Fisher and Yates,
 * unbiased numbers), cut into ceil(n / batch_size) batches, the last of which may be shorter.
 * Has no amplification by sampling. Not thread-safe. */
struct psg_shuffle;
PSG_API int psg_shuffle_new(const struct psg_key *key, int64_t n_records, int64_t batch_size,
                            struct psg_shuffle **shufflep, struct psg_error *err);
PSG_API struct psg_shuffle *psg_shuffle_free(struct psg_shuffle *shuffle);
PSG_API int64_t psg_shuffle_steps_per_epoch(const struct psg_shuffle *shuffle);
/* The batch of a step, any step in any order; costs O(n) when the epoch changes. */
PSG_API int psg_shuffle_draw(struct psg_shuffle *shuffle, uint64_t step,
                             struct psg_batch *batch, struct psg_error *err);

/* ---- clip factors ---- */

enum psg_clipping {
    PSG_CLIP_FLAT,      /* min(1, C / (n + 1e-6)) */
    PSG_CLIP_PER_LAYER, /* min(1, C_p / (n_p + 1e-6)) for each parameter tensor */
    PSG_CLIP_PER_GROUP, /* the same for groups of tensors */
    PSG_CLIP_ADAPTIVE,  /* flat, with a bound that follows a quantile of the norms */
    PSG_CLIP_AUTO_S,    /* C / (n + 0.01), Bu et al. 2023, "Automatic clipping" */
    PSG_CLIP_AUTO_V     /* C / n; 0 for n = 0 */
};

/* Private data, as the norms are. */
struct psg_clip_count {
    int64_t clipped;    /* records with a factor below 1 */
    int64_t not_finite; /* records whose norm is not finite: all their factors are 0 */
};

/* factor[n] from squared norms sq[n] of the whole gradient (accumulated in double). Factors are
 * rounded towards zero to psg_real, so that factor * norm never exceeds the bound. kind is FLAT,
 * ADAPTIVE, AUTO_S or AUTO_V. Adds to *count (may be NULL). A record with factor 0 must be left
 * out of the sum, not multiplied: 0 times infinity is not 0. bound must be positive and finite. */
PSG_API int psg_clip_factors(enum psg_clipping kind, double bound, int64_t n, const double *sq,
                             psg_real *factor, struct psg_clip_count *count,
                             struct psg_error *err);
/* AUTO_S with a stabilizer gamma > 0 other than 0.01: factor = C / (norm + gamma). */
PSG_API int psg_clip_factors_auto_s(double bound, double gamma, int64_t n, const double *sq,
                                    psg_real *factor, struct psg_clip_count *count,
                                    struct psg_error *err);
/* factor[n, K] from sq[n, K], one column for each layer or group, bound[K]. A norm that is not
 * finite in one column makes the whole row 0. */
PSG_API int psg_clip_factors_grouped(int64_t n, int64_t n_groups, const double *bound,
                                     const double *sq, psg_real *factor,
                                     struct psg_clip_count *count, struct psg_error *err);
/* sqrt(sum of bound[k]^2): the L2 bound of one record's whole contribution. */
PSG_API double psg_clip_total_bound(int64_t n_groups, const double *bound);

/* Adaptive bound: Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially private learning
 * with adaptive clipping". Each record contributes +1/2 (norm <= bound) or -1/2 to a sum that is
 * released with Gaussian noise of standard deviation count_stddev; the bound then moves by
 * exp(-learning_rate (fraction - quantile)). */
struct psg_adaptive_clip {
    double bound; /* the C of the next step */
    double quantile;
    double learning_rate;
    double count_stddev;
    double expected_batch_size;
    double min_bound, max_bound;
};

PSG_API int psg_adaptive_check(const struct psg_adaptive_clip *a, struct psg_error *err);
/* Noise multiplier of the gradient so that gradient and count together are a Gaussian mechanism
 * with noise multiplier s: (s^-2 - (2 count_stddev)^-2)^-1/2. PSG_E_RANGE unless
 * 0 < s < 2 count_stddev. */
PSG_API int psg_adaptive_noise_multiplier(double s, double count_stddev, double *zp,
                                          struct psg_error *err);
/* How many of sq[n] have a norm within the bound; norms that are not finite do not. */
PSG_API int64_t psg_adaptive_count(const struct psg_adaptive_clip *a, int64_t n,
                                   const double *sq);
/* Moves the bound after a step whose batch held n records, n_within of them within the bound.
 * The noise is that of (PSG_RNG_ADAPTIVE_CLIP, step, tensor 0, coordinate 0). */
PSG_API int psg_adaptive_update(struct psg_adaptive_clip *a, const struct psg_key *key,
                                uint64_t step, int64_t n, int64_t n_within,
                                struct psg_error *err);

/* ---- optimizers ---- */

enum psg_optimizer_kind {
    PSG_SGD,
    PSG_ADAM,  /* Kingma and Ba 2015; weight decay is added to the gradient */
    PSG_ADAMW, /* Loshchilov and Hutter 2019: decoupled weight decay */
    PSG_RMSPROP,
    PSG_ADAGRAD
};

/* PyTorch's names, meanings and order of operations (torch.optim). Numbers that a kind does not
 * use are ignored. */
struct psg_optimizer_config {
    enum psg_optimizer_kind kind;
    double weight_decay;
    double momentum;  /* SGD, RMSprop */
    double dampening; /* SGD */
    bool nesterov;    /* SGD; needs momentum > 0 and no dampening */
    double beta1, beta2; /* Adam, AdamW; in [0, 1) */
    double eps;          /* all but SGD */
    bool amsgrad;        /* Adam, AdamW */
    double alpha;        /* RMSprop */
    bool centered;       /* RMSprop */
    double lr_decay;     /* Adagrad */
    double initial_accumulator_value; /* Adagrad */
    /* Adam, AdamW: the noise adds its variance to the second moment; take it off again and
     * divide by sqrt(max(v - variance, floor)) instead of sqrt(v) + eps. Tang, Shpilevskiy,
     * Lecuyer 2023, "DP-AdamBC", algorithm 1. Not together with amsgrad. */
    bool dp_bias_correction;
    double dp_bias_floor; /* positive */
};

/* PyTorch's defaults of a kind; dp_bias_floor 5e-8. */
PSG_API struct psg_optimizer_config psg_optimizer_defaults(enum psg_optimizer_kind kind);
PSG_API int psg_optimizer_check(const struct psg_optimizer_config *config,
                                struct psg_error *err);

/* State for a flat vector of parameters [P]. */
struct psg_optimizer;
PSG_API int psg_optimizer_new(const struct psg_optimizer_config *config, int64_t n_params,
                              struct psg_optimizer **optp, struct psg_error *err);
PSG_API struct psg_optimizer *psg_optimizer_free(struct psg_optimizer *opt);

/* Starts the next step: counts it and computes what all parameters share. noise_variance is that
 * of one coordinate of the gradient as update receives it, (s C / E)^2; it is only used by the
 * DP bias correction. */
PSG_API void psg_optimizer_begin(struct psg_optimizer *opt, double learning_rate,
                                 double noise_variance);
/* param[i] -= ... grad[i] for parameters first .. first + n - 1; both arrays [n] start at
 * `first`. Each parameter at most once a step, in any cutting and by any threads; ranges that
 * are never passed keep their values and their zero state. */
PSG_API void psg_optimizer_update(struct psg_optimizer *opt, int64_t first, int64_t n,
                                  const psg_real *grad, psg_real *param);

/* What a checkpoint must hold: the named arrays [P], and two numbers. i counts from 0; false past
 * the last array. Names are PyTorch's ("momentum_buffer", "exp_avg", "exp_avg_sq",
 * "max_exp_avg_sq", "square_avg", "grad_avg", "sum"). */
PSG_API bool psg_optimizer_state(struct psg_optimizer *opt, int i, const char **namep,
                                 psg_real **datap);
struct psg_optimizer_counters {
    uint64_t step;           /* steps begun */
    double noise_second_moment; /* running average of noise_variance, as exp_avg_sq is of g^2 */
};
PSG_API struct psg_optimizer_counters psg_optimizer_counters(const struct psg_optimizer *opt);
PSG_API void psg_optimizer_set_counters(struct psg_optimizer *opt,
                                        const struct psg_optimizer_counters *counters);

/* ---- schedules of learning rate, noise multiplier and clip bound ---- */

enum psg_schedule_kind {
    PSG_SCHEDULE_CONSTANT,
    PSG_SCHEDULE_EXPONENTIAL, /* initial * gamma^(step / period), smooth */
    PSG_SCHEDULE_STEP,        /* initial * gamma^floor(step / period) */
    PSG_SCHEDULE_COSINE,      /* initial to final over `period` steps by half a cosine */
    PSG_SCHEDULE_LIST         /* list[floor(step / period)], the last one for ever */
};

struct psg_schedule {
    enum psg_schedule_kind kind;
    double initial;
    double gamma;
    double final;
    uint64_t period;       /* steps, at least 1; steps of an epoch for schedules by epoch */
    uint64_t warmup;       /* steps; the value is multiplied by min(1, (step + 1) / warmup) */
    const double *list;    /* borrowed */
    int64_t n_list;
};

PSG_API int psg_schedule_check(const struct psg_schedule *schedule, struct psg_error *err);
/* Value for step 0, 1, ... of a schedule that passed the check. */
PSG_API double psg_schedule_value(const struct psg_schedule *schedule, uint64_t step);

#ifdef __cplusplus
}
#endif
#endif
