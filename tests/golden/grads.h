#ifndef GOLDEN_GRADS_H
#define GOLDEN_GRADS_H

#include "case_program.h"
#include "psg/plan.h"

struct outcome {
    double tolerance, tolerance_after; /* from the index; 0: from the case's own float32 error */
    char why[600];      /* empty: passed */
    double worst;       /* largest error over tolerance */
    char worst_at[96];
};

/* Runs one case; what is wrong first goes to why. */
void case_check(const struct golden_case *c, enum psg_mode mode,
                const struct psg_backend *backend, struct outcome *out);

/* ---- shared by per-sample cases and trajectories ---- */
struct fixture {
    const struct golden_case *c;
    struct psg_program *program;
    struct psg_plan *plan;
    psg_real *params;
    struct psg_column column[16];
    struct outcome *out;
};

/* Program, plan, parameters and columns of a case; false with why filled. */
bool fixture_open(struct fixture *f, const struct golden_case *c, enum psg_mode mode,
                  const struct psg_backend *backend, const int *group, int n_groups,
                  bool input_grads, struct outcome *out);
void fixture_close(struct fixture *f);
void fixture_fail(struct fixture *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Compares got[i] with ref's element first + i: |got - ref| <= tolerance * scale. */
void fixture_compare(struct fixture *f, const char *what, const double *got,
                     const struct tensor *ref, int64_t first, int64_t n, double tolerance,
                     double scale);
/* Largest |value| of a tensor's range. */
double tensor_largest(const struct tensor *t, int64_t first, int64_t n);

void trajectory_check(const struct golden_case *c, enum psg_mode mode,
                      const struct psg_backend *backend, struct outcome *out);

#endif
