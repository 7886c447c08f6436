/* The attributes of a node as a small list; read by psg_infer_*. */
#ifndef PROGRAM_ATTRS_H
#define PROGRAM_ATTRS_H

#include "psg/op.h"

struct attr {
    char *name;
    enum psg_attr_kind kind;
    int n; /* length of ints or reals; 1 for a single number */
    union {
        int64_t i;
        double r;
        bool b;
        char *s;
        int64_t *ints;
        double *reals;
    } u;
};

struct psg_attrs {
    int n;
    struct attr *list;
};

/* NULL when a has no attribute of that name; a may be NULL. */
const struct attr *attrs_find(const struct psg_attrs *a, const char *name);
/* A deep copy, or NULL when out of memory. a may be NULL. */
struct psg_attrs *attrs_copy(const struct psg_attrs *a);
/* The same without the attribute of that name (NULL: with all). */
struct psg_attrs *attrs_without(const struct psg_attrs *a, const char *name);

#endif
