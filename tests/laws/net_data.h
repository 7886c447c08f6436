/* A net of table.inc as a program, with parameters and a batch to run it on. */
#ifndef TESTS_NET_DATA_H
#define TESTS_NET_DATA_H

#include "psg/plan.h"

enum { NET_N = 7, NET_LAYERS_MAX = 8, NET_CLASSES = 3 };

struct net_text {
    const char *title; /* opens a row of the table */
    const char *input;
    const char *layers[NET_LAYERS_MAX];
};

/* How to find an op: of the built-in ones, or another in its place. last: of the layer that makes
 * the logits. */
typedef const struct psg_op *(*net_op)(const char *name, bool last);

struct net_data {
    struct psg_program *p;
    psg_real *params, *sum, *rows;
    void *x;
    int64_t y[NET_N];
    double sq[NET_N];
    psg_real loss[NET_N];
    struct psg_column column[2];
    struct psg_key key;
    struct psg_records records;
};

/* Fails the test when the net cannot be built. find NULL: psg_op_find. */
void net_data_open(struct net_data *d, const struct net_text *net, net_op find);
void net_data_close(struct net_data *d);
struct psg_plan *net_data_plan(const struct net_data *d, struct psg_plan_options o);
/* Per-sample gradients, norms and losses, and the sum of gradients clipped to 0.5. */
void net_data_run(struct net_data *d, struct psg_plan *plan);
/* Nets of table.inc without a client's ops. */
const struct net_text *net_at(int i);

#endif
