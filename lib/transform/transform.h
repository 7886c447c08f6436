/* What transforms offer to the rules of scan. */
#ifndef TRANSFORM_TRANSFORM_H
#define TRANSFORM_TRANSFORM_H

#include "prim/prim.h"

/* Reverse mode in two passes over src, both writing nodes of g. */
struct grad {
    struct psg_graph *g;
    const struct psg_graph *src;
    bool *need;      /* [n_value of src] a real number that depends on an input of wrt */
    psg_value *map;  /* [n_value of src] where it stands in g */
    psg_value *ct;   /* [n_value of src] its cotangent, PSG_NONE: zero */
    psg_value *room; /* operands and their cotangents, of one node */
    bool *need_in;
    void **keep;     /* [n_node of src] NULL where src has no scan */
};

/* need[v] for every value of g: true for the inputs that are on, and for what follows from them
 * through nodes that have a gradient. need [n_value] starts as all false. */
void grad_mark(const struct psg_graph *g, const bool *on, bool *need);
/* Writes src's nodes with args[i] for input i; on[i]: its gradient is wanted. Returns the
 * status of g. Followed by grad_close, whatever it returns. */
int grad_forward(struct grad *r, struct psg_graph *g, const struct psg_graph *src,
                 const psg_value *args, const bool *on);
/* Writes the cotangents: seed[j] that of output j, PSG_NONE for zero. r->ct[v] has results. */
int grad_backward(struct grad *r, const psg_value *seed);
void grad_close(struct grad *r);

/* psg_graph_vmap where only outputs with force[j] (NULL: none) must be batched; out_batched[j]
 * tells which are. */
struct psg_graph *vmap_graph(const struct psg_graph *g, int64_t size, const bool *batched,
                             const bool *force, bool *out_batched, struct psg_error *err);

#endif
