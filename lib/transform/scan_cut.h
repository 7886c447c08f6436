/* What the reverse mode of a scan keeps between its forward and its backward scan; see scan_vjp.c. */
#ifndef TRANSFORM_SCAN_CUT_H
#define TRANSFORM_SCAN_CUT_H

#include "prim/scan.h"

/* A stacked value of the backward pass. */
enum from { FROM_KEPT, FROM_SLICE, FROM_STACKED };
struct source {
    enum from from;
    int at; /* which of the kept values, slices, or stacked results */
};

/* A dot that is done after the scan: term of the gradient of body input `input`. */
struct late_dot {
    int input;
    psg_value dot;       /* value of the joint graph */
    psg_value transpose; /* the value that is its transpose, or PSG_NONE */
    struct source factor[2];
};

struct scan_keep {
    struct psg_graph *back; /* body of the backward scan */
    int n_body_in, n_carry, n_ys;
    bool *on;               /* [n_body_in] gradient flows to it */
    bool *on_y;             /* [n_ys] and from it */
    bool *used;             /* [n_body_in] slices and constants that back reads */
    bool *summed;           /* [n_body_in] constants whose gradient is carried */
    psg_value *kept;        /* [n_kept] stacked, in the graph being written */
    int n_kept, n_stacked;
    struct late_dot *late;
    struct psg_dot *late_dims;
    struct attr_perm *late_perm;
    int n_late;
};

/* Cuts the joint graph of body and pullback in two: appends the forward scan to d->g and leaves the
 * body of the backward scan in k, whose on and on_y are set. Owns joint. Returns the first result of
 * the forward scan, PSG_NONE on an error (in d->g). */
psg_value scan_cut(const struct prim_vjp *d, struct scan_keep *k, struct psg_graph *joint);

#endif
