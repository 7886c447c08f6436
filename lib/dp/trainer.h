/* One run, as the files of dp/ that make a step see it. */
#ifndef LIB_DP_TRAINER_H
#define LIB_DP_TRAINER_H

#include "psg/train.h"

struct psg_trainer {
    const struct psg_program *program;
    struct psg_train_options options;
    struct psg_plan *plan;
    struct psg_optimizer *optimizer;
    struct psg_key key;
    struct psg_poisson poisson;
    struct psg_shuffle *shuffle;
    struct psg_batch batch; /* records, or units where records come in units */
    struct psg_column *column;
    int64_t n_records, n_trainable;
    int n_bounds;
    double *bound0, *bound; /* [n_bounds] at step 0, and of this step */
    int *group;             /* [n_params] of each parameter; NULL: all in group 0 */
    psg_real *params, *sum;
    psg_real *unit_sum; /* [n_trainable] of one unit; the next two [n_bounds]; NULL without units */
    double *unit_sq;
    psg_real *unit_weight;
    uint64_t step;
};

bool trainer_is_grouped(enum psg_clipping kind);
/* Sets the bounds of this step; returns C, the L2 bound of one record's whole contribution. */
double trainer_set_bounds(struct psg_trainer *t);
/* Makes t->sum [n_trainable] of the drawn batch, and what is known of it. */
int trainer_sum(struct psg_trainer *t, struct psg_step_report *r, int64_t *n_within,
                struct psg_error *err);

/* Noise of one coordinate of the sum. */
struct trainer_noise {
    bool on, secure;
    double stddev;
    struct psg_secure_noise plan; /* when secure */
};
/* Of a step with the whole release's noise multiplier s and the bound C: what telemetry and the
 * count behind an adaptive bound take is taken off. */
int trainer_noise_of(const struct psg_train_options *o, int64_t n_trainable, double s, double c,
                     struct trainer_noise *noise, struct psg_error *err);
/* Adds the noise, divides, updates. */
void trainer_finish(struct psg_trainer *t, const struct trainer_noise *noise);
/* The two noised numbers of privacy.md, "The stream is a release too". */
int trainer_telemetry(const struct psg_trainer *t, double s, struct psg_step_report *r,
                      struct psg_error *err);

#endif
