/* One layer function on one batch, outside of any plan: every buffer has canaries around
 * it, and what a rule must write starts as NaN. */
#ifndef LAWS_OP_RUN_H
#define LAWS_OP_RUN_H

#include "program/program.h"

enum { OP_IO_MAX = 8, OP_PARAM_MAX = 64 };

/* A case: the node that attributes and inputs make. */
struct op_bench {
    const struct psg_op *op;
    struct psg_program *program;
    const struct node *node;
    struct {
        enum psg_dtype dtype;
        struct psg_shape shape;
        int64_t size, below; /* ids are in [0, below) */
        bool positive;
    } in[OP_IO_MAX];
    int n_in, n_out, n_param;
    int64_t out_size[OP_IO_MAX];
    struct psg_shape param_shape[OP_PARAM_MAX];
    int64_t param_size[OP_PARAM_MAX], param_at[OP_PARAM_MAX];
    int64_t n_coord; /* P: coordinates of all parameters */
};

/* text is NULL or a reason. PSG_E_INVALID where the case itself is malformed. */
int op_bench_open(struct op_bench *b, const struct psg_op *op, const char *attrs,
                  const char *inputs, struct psg_error *err);
void op_bench_close(struct op_bench *b);

/* Inputs, parameters and backprops of n samples. */
struct op_batch {
    int64_t n;
    void *in[OP_IO_MAX];
    psg_real *param[OP_PARAM_MAX];
    psg_real *random;
    psg_real *dout[OP_IO_MAX];
    psg_real *weight; /* [n], sample 1 has weight 0 */
    bool no_backward; /* the rules run without it, as where no input wants a gradient */
    bool frozen;      /* every other parameter is */
    bool first_out;   /* only output 0 leads to the loss */
};

int op_batch_open(struct op_batch *batch, const struct op_bench *b, int64_t n,
                  uint64_t seed);
/* The sample `sample` of another batch, alone. */
int op_batch_single(struct op_batch *batch, const struct op_bench *b,
                    const struct op_batch *from, int64_t sample);
void op_batch_close(struct op_batch *batch);

/* What the rules gave. Entries stay NULL where the op has no such rule. */
struct op_result {
    psg_real *out[OP_IO_MAX];
    psg_real *din[OP_IO_MAX]; /* real inputs only */
    psg_real *rows;           /* [n, P] */
    double *sq;               /* [n] */
    psg_real *sum;            /* [P], on top of op_sum_start */
};
static const double op_sum_start = 0.25;

/* Runs forward and every rule. On failure `why` tells which buffer was overrun or not
 * written. */
bool op_run(const struct op_bench *b, const struct psg_backend *be,
            const struct op_batch *batch, bool training, bool rules,
            struct op_result *result, char *why, size_t size);
void op_result_close(struct op_result *r);

#endif
