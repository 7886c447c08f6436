/* Per-sample gradients of a layer made of parts: each parameter, or a block of one, plays
 * one of three roles over R rows of a sample, once the gradients inside of the layer are
 * known.
 *
 *   dense  dw[n, o, i] = sum_r dy[n, r, o] x[n, r, i]
 *   bias   db[n, o] = sum_r dy[n, r, o]
 *   scale  dw[n, o] = sum_r dy[n, r, o] x[n, r, o] */
#ifndef OP_ROLE_H
#define OP_ROLE_H

#include "op/dense.h"

enum role_kind { ROLE_DENSE, ROLE_BIAS, ROLE_SCALE };

struct role {
    enum role_kind kind;
    int param;              /* number in the node */
    int64_t at;             /* where its block starts in the parameter */
    int64_t rows, in, out;  /* R, I (dense), O */
    const psg_real *x, *dy; /* [N, R, I or O], [N, R, O] */
};

/* Scratch of the three functions below for one role. */
void role_declare_room(struct psg_infer *c, enum role_kind kind, int64_t rows, int64_t in,
                       int64_t out);
/* The rules of a node whose parameters play these roles; frozen ones are skipped. */
void roles_grad_sample(const struct psg_call *c, const struct role *r, int n_roles);
void roles_norm_sample(const struct psg_call *c, const struct role *r, int n_roles);
void roles_clipped_sum(const struct psg_call *c, const struct role *r, int n_roles);

#endif
