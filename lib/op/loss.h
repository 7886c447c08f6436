/* Losses that are a sum or a mean of one term per element of a sample: loss[n] = scale *
 * sum_i term(output[n, i], target[n, i]).
 *
 * A loss brings its terms with both derivatives as formulas of the backend, and the terms
 * as primitives; the reduction over the sample's own elements and the rules are here. */
#ifndef OP_LOSS_H
#define OP_LOSS_H

#include "op/common.h"

struct loss;

struct loss_geom {
    /* term, dx and dt [n * size] from x and t */
    void (*terms)(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt);
    psg_value (*lower)(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                       psg_value t);
    int64_t size; /* elements of one sample */
    int64_t last; /* length of the last axis (1 for a scalar) */
    int n_tmp;
    double scale; /* 1, or 1 / size */
    double p[2];  /* the loss' own numbers */
    bool flag[2];
    int n_list[2]; /* numbers along the last axis: 0 (none), 1 or last */
    double list[2][OP_LIST_MAX];
};

/* A running evaluation of terms(). */
struct loss {
    const struct psg_backend *be;
    const struct loss_geom *g;
    int64_t n; /* elements of the tile: samples * size */
    const psg_real *x, *t;
    psg_real *tmp[3];
    psg_real *constant; /* [1] */
    psg_real *row;      /* [last] */
};

/* Reads `reduction`, checks that output and target are real and of one shape, declares room
 * for n_tmp <= 3 arrays. Everything else in the geometry is the caller's. */
int loss_infer(struct psg_infer *c, int n_tmp,
               void (*terms)(const struct loss *, psg_real *, psg_real *, psg_real *),
               psg_value (*lower)(struct psg_lower *, const struct loss_geom *, psg_value,
                                  psg_value));
/* Reads a list attribute of 1 or `last` numbers; after loss_infer. */
void loss_list(struct psg_infer *c, const char *name, int which);

/* y = f(a, b) and y = f(a, number), over the tile; y may be a or b */
void loss_binary(const struct loss *s, enum psg_binary f, const psg_real *a,
                 const psg_real *b, psg_real *y);
void loss_number(const struct loss *s, enum psg_binary f, const psg_real *a, double b,
                 psg_real *y);
void loss_unary(const struct loss *s, enum psg_unary f, const psg_real *x, psg_real *y);
/* y = f(a, list), the list running along the last axis */
void loss_with_list(const struct loss *s, enum psg_binary f, const psg_real *a, int which,
                    psg_real *y);
/* the list as primitives, shaped to broadcast with the elements */
psg_value loss_list_lower(struct psg_lower *l, const struct loss_geom *g, int which);

/* The rules of every such loss. */
void loss_forward(const struct psg_call *c);
void loss_backward(const struct psg_call *c);
void loss_lower(struct psg_lower *l);

extern const char *const loss_inputs[];
/* "mean|sum" is read by loss_infer */
#define LOSS_REDUCTION                                                                     \
    {                                                                                      \
        "reduction", PSG_ATTR_STRING, "mean or sum, over the elements of one sample"       \
    }

#define LOSS_OP(NAME, ATTRS, CASES)                                                        \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = ATTRS,                                                                    \
        .inputs = loss_inputs,                                                             \
        .n_in_min = 2,                                                                     \
        .n_in_max = 2,                                                                     \
        .geom_size = sizeof(struct loss_geom),                                             \
        .infer = NAME##_infer,                                                             \
        .forward = loss_forward,                                                           \
        .backward = loss_backward,                                                         \
        .lower = loss_lower,                                                               \
        .cases = CASES,                                                                    \
    }

#endif
