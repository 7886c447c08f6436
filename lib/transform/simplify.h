/* Inside of psg_graph_simplify. */
#ifndef TRANSFORM_SIMPLIFY_H
#define TRANSFORM_SIMPLIFY_H

#include "prim/prim.h"

struct entry;

struct simplify {
    const struct psg_graph *src;
    struct psg_graph *g;
    psg_value *map;     /* [n_value of src] */
    psg_value *in;      /* operands of one node */
    int n_stand;        /* values of g below this are settled */
    psg_value *fresh;   /* what stands for value n_stand + i */
    int cap_fresh;
    struct entry *table;
    size_t cap, used;
};

/* A value of g equal to node of src over operands in, cheaper than the node itself, or
 * PSG_NONE. May append nodes. */
psg_value simplify_node(struct psg_graph *g, const struct psg_graph *src,
                        const struct prim_node *node, const psg_value *in);

#endif
