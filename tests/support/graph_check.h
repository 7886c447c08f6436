/* Laws of graphs, checked on one graph with given values: reverse mode against central
 * differences, batching against a loop over samples. Built with psg_real = double. */
#ifndef TESTS_GRAPH_CHECK_H
#define TESTS_GRAPH_CHECK_H

#include "psg/graph.h"

/* Small random numbers; the same seed gives the same case on every machine. */
struct gen {
    uint64_t state;
    int max_dim, max_rank; /* of the shapes drawn */
};

struct gen gen_make(uint64_t seed, int max_dim, int max_rank);
uint64_t gen_next(struct gen *g);
int64_t gen_int(struct gen *g, int64_t lo, int64_t hi); /* lo <= n < hi */
double gen_real(struct gen *g, double lo, double hi);
struct psg_shape gen_shape(struct gen *g, int min_rank);

/* Values of a graph's inputs or outputs, with guard words on both sides of each. */
struct values {
    int n;
    void **at;
    struct psg_type *type;
};

struct values values_of_inputs(const struct psg_graph *g);
struct values values_of_outputs(const struct psg_graph *g);
/* Reals from [lo, hi), ids from [-1, 7). */
void values_draw(struct values *v, struct gen *g, double lo, double hi);
/* False when a guard word was overwritten. Frees. */
bool values_free(struct values *v);

/* What went wrong, or an empty text. */
struct complaint {
    char text[400];
};

bool complain(struct complaint *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Runs g on `ref`. */
bool graph_run(const struct psg_graph *g, const struct values *in, struct values *out,
               struct complaint *c);
/* psg_graph_vjp for all real inputs against central differences along random directions;
 * `order` times (2: the vjp of the vjp too). */
bool check_vjp(const struct psg_graph *g, const struct values *in, struct gen *gen, int order,
               struct complaint *c);
/* psg_graph_vmap for n samples, with random inputs batched (at least one), against a loop; as
 * it is and simplified. */
bool check_vmap(const struct psg_graph *g, int64_t n, struct gen *gen, double lo, double hi,
                struct complaint *c);
/* Both graphs give the same outputs. */
bool check_same(const struct psg_graph *a, const struct psg_graph *b, const struct values *in,
                const char *what, struct complaint *c);

#endif
