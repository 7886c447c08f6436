/* Scans as rules see them. */
#ifndef PRIM_SCAN_H
#define PRIM_SCAN_H

#include "prim/prim.h"

/* Appends a scan that shares a->body (takes a reference of its own). in: carries, slices,
 * constants. Returns the first result. */
psg_value prim_scan_append(struct psg_graph *g, const struct attr_scan *a, const psg_value *in);

/* transform/scan_vjp.c, transform/scan_batch.c */
psg_value scan_forward(const struct prim_vjp *d, void **keep);
void scan_unkeep(void *keep);
void scan_vjp(const struct prim_vjp *d);
void scan_batch(const struct prim_batch *b);

#endif
