/* Auditing: a lower bound of epsilon from what a run does to canaries, with its confidence.
 *
 * A canary is a record whose presence is decided by the auditor. Each one plays a game: it was in
 * the data or not, the auditor sees what was released and gives it a score. A mechanism that is
 * (epsilon, delta)-private keeps P(score >= t | in) <= exp(epsilon) P(score >= t | out) + delta for
 * every t, and the same with `in` and `out` exchanged. Frequencies of both events, bounded by
 * Clopper and Pearson, therefore bound epsilon from below: Jagielski, Ullman, Oprea 2020, "Auditing
 * differentially private machine learning"; Nasr et al. 2023, "Tight auditing of differentially
 * private machine learning". Many canaries may share a run when they have a coordinate each, so
 * that their games are independent; what holds without that is in Steinke, Nasr, Jagielski 2023,
 * "Privacy auditing with one (1) training run". */
#ifndef PSG_AUDIT_H
#define PSG_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "psg/accountant.h"
#include "psg/status.h"
#include "psg/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bounds of a probability after `hits` in n independent trials, each wrong with probability at
 * most 1 - confidence (Clopper and Pearson 1934). 0 <= hits <= n, confidence in (0, 1). */
PSG_API double psg_binomial_lower(int64_t hits, int64_t n, double confidence);
PSG_API double psg_binomial_upper(int64_t hits, int64_t n, double confidence);

struct psg_audit_bound {
    double epsilon; /* >= 0; true epsilon at delta is at least this with the confidence */
    double threshold;
    bool
        guess_in; /* the event is score >= threshold, likely `in`; else score < threshold */
    int64_t hits, n_hits;   /* events on the likely side, and of how many scores */
    int64_t slips, n_slips; /* on the other side */
};

/* Largest epsilon that the scores in[n_in] and out[n_out] refute at delta. The first half of each
 * chooses the threshold, the second half is counted. At least 8 of each; NaN scores count as
 * -INFINITY. delta in [0, 1), confidence in (0, 1). PSG_E_NOMEM, PSG_E_RANGE. */
PSG_API int psg_audit_bound(const double *in, int64_t n_in, const double *out,
                            int64_t n_out, double delta, double confidence,
                            struct psg_audit_bound *bound, struct psg_error *err);

struct psg_audit_noise {
    double noise_multiplier; /* at most this much noise; INFINITY: nothing was refuted */
    struct psg_audit_bound bound; /* epsilon: of so much noise, by prv's lower side */
};

/* What the scores say when the mechanism is known to be claim->steps sampled Gaussians with
 * claim->sample_rate, and only its noise is in question: the noise multipliers whose whole
 * trade-off curve allows the counted rates (Nasr et al. 2023, section 4: the curve of the mechanism
 * instead of one line of it). Tight with few scores, since the threshold may lie where they are
 * many; but a bug that makes another mechanism of it may escape, so ask psg_audit_bound() too.
 * claim->noise_multiplier is not looked at. PSG_E_NOMEM, PSG_E_RANGE. */
PSG_API int psg_audit_noise(const double *in, int64_t n_in, const double *out,
                            int64_t n_out, const struct psg_dp_event *claim, double delta,
                            double confidence, struct psg_audit_noise *answer,
                            struct psg_error *err);

/* Score of one step for a canary with a coordinate of its own: the privacy loss of seeing x there,
 * in units of the clip bound, log((1 - q) + q exp((2 x - 1) / (2 s^2))). Scores of steps add up to
 * the best score there is against the sampled Gaussian mechanism. s > 0. */
PSG_API double psg_audit_step_score(double sample_rate, double noise_multiplier, double x);

/* ---- a job's shadow ---- */

struct psg_audit_options {
    int64_t n_canaries; /* half of them in the data */
    int64_t steps;
    double delta, confidence;
    int n_threads;
};

struct psg_audit_report {
    int64_t n_canaries, steps;
    double claim;                 /* epsilon of so many steps by prv */
    struct psg_audit_bound bound; /* the largest of several scores' */
    struct psg_audit_noise noise; /* all zero where the noise has a schedule */
    bool refuted;                 /* one of the two is above the claim */
};

/* Runs the first steps of a job once more, with its clipping, noise, sampling and units, but with
 * canaries for records and a coordinate for each of them: nothing of the job's data is looked at,
 * so the answer costs no budget. What it tells is about the library's mechanism with these options,
 * not about the job's own gradients. All statements together are wrong with probability at most
 * 1 - confidence. program: the job's, for the number of its bounds; key: any that was not used for
 * what is released. PSG_E_RANGE without privacy, or outside of 32 .. 2^21 canaries. */
PSG_API int psg_audit_shadow(const struct psg_program *program,
                             const struct psg_train_options *job,
                             const struct psg_audit_options *options, const struct psg_key *key,
                             struct psg_audit_report *report, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
