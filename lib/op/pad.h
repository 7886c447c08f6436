/* Spatial padding by reflecting, repeating the edge or wrapping around, and its adjoint.
 * Works in place on a padded buffer, one axis after the other, so that corners come out as
 * in PyTorch (where axes are padded independently). */
#ifndef OP_PAD_H
#define OP_PAD_H

#include "op/common.h"

enum pad_mode { PAD_ZEROS, PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR };
#define PAD_MODES "zeros|reflect|replicate|circular"

struct pad_geom {
    enum pad_mode mode; /* not PAD_ZEROS */
    int rank;           /* spatial axes, 1..3 */
    int64_t in[3], lo[3], hi[3];
};

/* Fails unless every padding fits: reflect below the length, circular up to the length. */
bool pad_check(struct psg_infer *c, const struct pad_geom *g);
/* Cells of the padded space. */
int64_t pad_size(const struct pad_geom *g);
/* y [outer, in + lo + hi] from x [outer, in] */
void pad_forward(const struct psg_backend *be, const struct pad_geom *g, int64_t outer,
                 const psg_real *x, psg_real *y);
/* dx [outer, in] from dy [outer, in + lo + hi], which is overwritten; tmp as large as dy */
void pad_backward(const struct psg_backend *be, const struct pad_geom *g, int64_t outer,
                  psg_real *dy, psg_real *tmp, psg_real *dx);
/* The same as primitives: v [..., in] -> [..., in + lo + hi] */
psg_value pad_lower(struct psg_lower *l, const struct pad_geom *g, psg_value v);

#endif
