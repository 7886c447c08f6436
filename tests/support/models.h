/* The models of the benchmarks, to the shape; see models.c. */
#ifndef TESTS_MODELS_H
#define TESTS_MODELS_H

#include "psg/program.h"
#include "psg/registry.h"

struct model {
    const char *name;
    int64_t n_params; /* checked when it is built; 0: any number */
    int n_classes;                /* 1: bce_with_logits; 0: the loss is the sum of the output */
    const char *input;            /* "1x28x28", or "i64<10004:256" */
    const char *const *layers;    /* "path op attributes", in order; NULL ends. "op*3" takes its
                                   * input three times; " @a,b" takes outputs of layers before */
};

const struct model *model_find(const char *name);
const struct model *model_at(int i); /* NULL past the end */
/* Inputs "x" and "target" (one class number), cross entropy as loss; see n_classes. */
int model_build(const struct model *m, struct psg_program **pp, struct psg_error *err);
/* The same with the ops of a client. */
int model_build_with(const struct model *m, const struct psg_registry *registry,
                     struct psg_program **pp, struct psg_error *err);

#endif
