/* Inside of execution: the plan while it is made and when it runs. */
#ifndef PRIM_EXEC_H
#define PRIM_EXEC_H

#include "prim/prim.h"

enum exec_kind {
    EXEC_INPUT,  /* the caller's, read */
    EXEC_OUTPUT, /* the caller's, written */
    EXEC_FIXED,  /* a constant, a full or an iota: written before the first run */
    EXEC_ARENA
};

/* A stretch of memory that lives from step `first` to step `last`. */
struct exec_buf {
    enum exec_kind kind;
    int64_t bytes;
    int first, last;
    int alias;      /* another buffer whose memory it shares, or -1 */
    int64_t offset; /* in the arena */
    void *fixed;    /* EXEC_FIXED */
};

struct psg_exec {
    const struct psg_graph *g;
    struct prim_ctx ctx;
    struct prim_step *step;
    int n_step, cap_step;
    struct exec_buf *buf; /* 0.. inputs, then outputs, then others */
    int n_buf, cap_buf;
    struct prim_arg *arg; /* of all steps */
    int n_arg, cap_arg;
    char *fixed; /* memory of fulls and iotas, and of constants for a device */
    size_t fixed_size;
    char *fixed_there; /* the same where kernels of a device read it; else NULL */
    char *arena;       /* in the backend's memory */
    size_t bytes;
};

/* Views, steps and buffers (exec_plan.c). Leaves step->in as offsets into e->arg until
 * exec_finish. */
int exec_plan(struct psg_exec *e, struct psg_error *err);
/* In-place results, places in the arena; returns the arena's size or a negative status
 * (exec_place.c). */
int64_t exec_place(struct psg_exec *e, struct psg_error *err);
/* The buffer whose memory b has. */
int exec_root(struct psg_exec *e, int b);

#endif
