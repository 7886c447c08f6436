/* The inside of a program, shared by the files of this folder and by mode/. */
#ifndef PROGRAM_PROGRAM_H
#define PROGRAM_PROGRAM_H

#include "program/attrs.h"
#include "psg/program.h"

/* A value is made by an input or by a node. */
struct value {
    struct psg_type type;
    int node;  /* producer, or -1 for an input */
    int index; /* number of the output, or of the input */
};

/* A parameter as a node uses it. */
struct node_param {
    char *role;
    int param; /* number in the program */
};

struct node {
    const struct psg_op *op;
    char *path;
    struct psg_attrs *attrs;
    void *geom;
    int n_in, n_out, n_param;
    psg_value *in;
    psg_value *out;
    struct node_param *param;
    /* room, per sample unless said otherwise */
    int64_t save_real, save_i64, random;
    int64_t scratch_fixed, scratch;
    int64_t tile; /* samples in a tile that it works best with; 0: no matter */
    bool unread_in, unread_out; /* no rule of the op reads its inputs, its outputs */
};

struct input {
    char *name;
    psg_value value;
    struct psg_input_info info;
};

struct param {
    char *name;
    struct psg_param_info info;
};

/* Something of the caller's that goes with the program. */
struct kept {
    void *obj;
    void (*destroy)(void *obj);
};

struct psg_program {
    bool checked;
    int n_values, n_inputs, n_nodes, n_params, n_kept;
    struct kept *kept;
    struct value *values;
    struct input *inputs;
    struct node *nodes;
    struct param *params;
    psg_value loss, output; /* or PSG_NONE */
    int64_t trainable_size, param_size;
};

/* What psg_infer_* collect for one node; infer.c fills it, program.c takes it over. */
struct infer_param {
    char role[48];
    struct psg_shape shape;
    struct psg_init init;
};

struct psg_infer_state {
    const struct psg_op *op;
    const char *path;
    const struct psg_attrs *attrs;
    struct psg_error *err;
    int status;
    int n_params, n_outs, n_ranges;
    struct infer_param *params;
    struct psg_type outs[8];
    struct {
        int slot;
        int64_t lo, hi;
    } ranges[4];
    int64_t save_real, save_i64, random, scratch_fixed, scratch, tile;
    bool unread_in, unread_out;
};

/* Runs op->infer; 0 or its error. The caller frees state->params. */
int infer_run(struct psg_infer_state *state, const struct psg_type *in, int n_in, void *geom);
/* Only the names and kinds of the attributes. */
int infer_check_names(struct psg_infer_state *state);
/* used[i]: parameter i has a path to the value `end`. 0 or PSG_E_NOMEM. */
int program_mark_used(const struct psg_program *p, psg_value end, bool *used);

#endif
