/* Window geometry that max_pool and avg_pool share. */
#ifndef OP_POOL_H
#define OP_POOL_H

#include "op/common.h"

struct pool_geom {
    struct psg_window
        win;       /* pad_hi is the nominal padding; out may reach past it (ceil_mode) */
    int64_t outer; /* channels of one sample */
    int64_t n_in, n_out, n_kernel;
    bool count_include_pad;
    int64_t divisor;
};

/* Input [channels, in...] with `rank` spatial axes; declares the output. */
int pool_infer(struct psg_infer *c, struct pool_geom *g, int rank, bool has_dilation);
/* The window with pad_hi grown until the formula of psg/backend.h gives `out`. */
struct psg_window pool_grown(const struct pool_geom *g);
/* v [channels, in...] -> patches [channels, kernel, out] */
psg_value pool_patches(struct psg_lower *l, const struct pool_geom *g, psg_value v,
                       double pad_value);
/* [channels, out] -> [channels, out...] */
psg_value pool_output(struct psg_lower *l, const struct pool_geom *g, psg_value v);

#endif
