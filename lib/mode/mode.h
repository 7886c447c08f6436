/* The inside of a plan, shared by the files of this folder.
 *
 *   run.c     batch -> tiles -> workers -> lanes -> sum
 *   load.c    columns of the batch -> inputs of a tile
 *   room.c    buffers of a tile: when they live, where they lie
 *   tile.c    forward and backward of a tile, layer by layer
 *   derive.c  rules that an op leaves out, made from its lowering
 *   registry.c client.c  samplers and ops that a client brought; check.c compares them
 *   layered.c hooks, ghost, auto: a route for each node; route.c chooses it
 *   graph.c   functorch, ew: one transformed graph for the whole program */
#ifndef MODE_MODE_H
#define MODE_MODE_H

#include "mode/room.h"
#include "program/lower.h"
#include "psg/plan.h"

struct worker;

/* What a mode does with a tile of n loaded samples. norms leaves what sum needs in the worker. */
struct mode_vtable {
    int (*compile)(struct psg_plan *plan, struct psg_error *err);
    void (*destroy)(struct psg_plan *plan);
    int (*worker_open)(struct worker *w, struct psg_error *err);
    void (*worker_close)(struct worker *w);
    /* loss[i], and sq[g * tile + i] = squared norm in group g, for i < n */
    void (*norms)(struct worker *w, int64_t n, double *sq);
    /* sum[p] += sum_i weight[group * tile + i] * gradient of sample i; after norms */
    void (*sum)(struct worker *w, int64_t n, const psg_real *weight, psg_real *sum);
    /* row i at rows + i * P; after norms. May spoil what sum needs */
    void (*rows)(struct worker *w, int64_t n, psg_real *rows);
    /* sum[p] += gradient summed over the tile, without norms; NULL: norms and sum do it */
    void (*plain)(struct worker *w, int64_t n, psg_real *sum);
    /* gradient of program input i [n, ...] after norms; only with options.input_grads */
    const psg_real *(*input_grad)(struct worker *w, int input);
    const char *(*route)(const struct psg_plan *plan, int node);
};
extern const struct mode_vtable mode_layered, mode_graph;

/* ---- route.c ---- */
enum route { ROUTE_NONE, ROUTE_ROWS, ROUTE_NORM };
/* route[n_nodes], n_uses[n_params] of zeros: by nodes that lead to the loss. */
void route_choose(const struct psg_plan *plan, enum route *route, int *n_uses);
/* Length of the per-sample gradients that hooks, ghost or auto would keep for each sample. */
int64_t layered_row_reals(const struct psg_program *p, enum psg_mode mode,
                          const struct psg_registry *registry);

/* How the gradient of a value or parameter is put down at one of its uses. */
enum put { PUT_NONE, PUT_WRITE, PUT_ADD };

/* A node's share of the plan. */
struct node_plan {
    bool summed;         /* its rules run again after the way back: clipped_sum */
    bool live;           /* lies between a trainable parameter and the loss */
    bool zero_out[8];    /* output j has no consumer on the way: its gradient is zero */
    enum put *in_put;    /* [n_in] */
    int64_t *in_temp;    /* [n_in] place in the temp room, per sample, of a PUT_ADD */
    /* rules that the op leaves out, or NULL; forward[1] while training, forward[0] NULL where
     * that is the same */
    struct derived *back, *rows, *forward[2];
    struct client *client; /* the grad sampler that a client registered, or NULL */
    int64_t client_scratch; /* reals that it asks for, for a whole tile */
};

/* Forward and backward for whole tiles: what tile.c compiles once and workers share. */
struct tile_plan {
    struct node_plan *node; /* [n_nodes] */
    bool *wants_grad;       /* [n_values] gradient buffer needed */
    int64_t temp; /* per sample, for gradients that are added */
};

/* A run of gradient coordinates that are kept as rows and belong to one group. */
struct span {
    int64_t row_at, sum_at, length;
    int group;
};

struct psg_plan {
    const struct psg_program *program;
    const struct psg_backend *be;
    const struct psg_registry *registry; /* or NULL */
    const struct mode_vtable *vt;
    enum psg_mode mode;
    int64_t tile;
    int n_lanes, n_threads, n_groups;
    int *group; /* [n_params] */
    bool input_grads;
    bool backward; /* compiled for gradients: the program has a loss */
    struct tile_plan tp;
    bool whole_graph; /* inputs and answers pass through one graph */
    bool bf16;
    bool *round; /* [n_nodes] outputs and saved numbers are rounded to bf16 while training */
    int64_t row_reals, row_temp; /* per sample: rows that a mode keeps, or adds */
    struct rooms rooms;
    bool poison; /* tests: what nobody needs any more becomes NaN */
    void *mode_state;
    psg_real *lane_sum; /* [n_lanes - 1, P]; lane 0 adds up in the caller's sum */
    /* in a device's memory, else NULL: lane 0's sum, the parameters of the current call */
    psg_real *first_sum, *params;
    struct psg_team *team;
    double sample_ns[4]; /* one thread's time, by kind of work; 0: not known. Not in the bits */
    struct worker *workers; /* [n_threads] */
    size_t bytes;
};

/* One thread's buffers. */
struct worker {
    struct psg_plan *plan;
    char *arena;       /* plan->rooms.bytes */
    void **value;      /* [n_values] -> [tile, ...], until its last reader forward */
    psg_real **grad;   /* [n_values] or NULL entries */
    psg_real **saved;  /* [n_nodes] */
    int64_t **saved_i64;
    psg_real **random;
    const psg_real ***param;   /* [n_nodes][n_param], set by worker_set_params */
    struct psg_exec **back, **rows, **forward[2]; /* [n_nodes], derived rules or NULL entries */
    const void **exec_in;      /* room for one psg_exec_run */
    void **exec_out;
    const psg_real *params;    /* the flat vector of this call */
    psg_real *temp;
    double *sq;        /* [n_groups, tile] */
    psg_real *weight;  /* [n_groups, tile] */
    psg_real *ones;    /* [tile] */
    /* the same three where the host reads and writes; on the host the very same */
    double *host_sq;
    psg_real *host_weight, *host_loss; /* loss: only with a device, [tile] */
    void *stage;       /* of a device: what is loaded, before it goes there */
    psg_real *row_out; /* of a device: [tile, P], made when rows are asked for */
    void *mode_state;
    void *blocks;      /* list of everything allocated for this worker */
};

/* Room for n elements, zeroed, 64-byte aligned, freed with the worker; counted in plan->bytes.
 * NULL when out of memory. n may be 0. */
void *worker_room(struct worker *w, int64_t n, size_t size);
/* The same in the memory that the backend's kernels work in. */
void *worker_memory(struct worker *w, int64_t n, size_t size);
#define worker_reals(w, n) ((psg_real *)worker_memory(w, n, sizeof(psg_real)))

/* ---- load.c ---- */
/* Fills the inputs of the tile with samples first .. first + n. */
int load_tile(struct worker *w, const struct psg_records *batch, int64_t first, int64_t n,
              struct psg_error *err);
/* Fills the random numbers of the tile; key must not be NULL if any node draws. */
void load_random(struct worker *w, const struct psg_records *batch, int64_t first, int64_t n);
/* Checks columns against the program: counts, types. */
int load_check(const struct psg_plan *plan, const struct psg_records *batch,
               struct psg_error *err);
bool program_draws(const struct psg_program *p);

/* ---- tile.c ---- */
int tile_compile(struct psg_plan *plan, bool backward, struct psg_error *err);
void tile_destroy(struct psg_plan *plan);
/* Buffers of forward, and of backward when the plan was compiled for it. */
int tile_open(struct worker *w, struct psg_error *err);
void tile_close(struct worker *w);
void tile_forward(struct worker *w, int64_t n, bool training);
/* Called for each live node, last first, when the gradients of its outputs are there. */
typedef void (*tile_visit)(struct worker *w, int node, struct psg_call *call, void *arg);
void tile_backward(struct worker *w, int64_t n, tile_visit visit, void *arg);
/* A call with everything that forward left for this node; rules fill in the rest. */
struct tile_call {
    struct psg_call call;
    const void *in[32];
    psg_real *out[8];
    const psg_real *dout[8];
};
void tile_call_init(struct worker *w, int node, int64_t n, enum phase phase,
                    struct tile_call *tc);
/* Tests with plan->poison: what lives no longer than time t is overwritten. */
void tile_poison(struct worker *w, int64_t t);
void *worker_at(const struct worker *w, int room); /* NULL for NO_ROOM */
int64_t value_size(const struct psg_plan *plan, psg_value v);
bool param_trainable(const struct psg_plan *plan, const struct node *node, int r);
void worker_set_params(struct worker *w, const psg_real *params);

/* ---- client.c, registry.c, check.c: what a client brought ---- */
struct client {
    const struct psg_grad_sampler *sampler;
    struct psg_sampler_call about; /* call is filled in for each call */
    struct psg_type *in, *out;
    struct psg_shape *param;
    const char **role;
};
/* Finds the registered sampler of each node, and room for it. */
int client_rules_bind(struct psg_plan *plan, struct psg_error *err);
struct client *client_rules_free(struct client *c);
/* Who brought the rules of this op, for messages. */
const char *registry_origin(const struct psg_registry *registry, const struct psg_op *op);
/* Takes over a dlopen() handle; closes it at once when out of memory. */
int registry_keep(struct psg_registry *registry, void *handle, struct psg_error *err);
/* The rules of a node: the client's if there is one, else the op's. */
bool rule_has_grad(const struct psg_plan *plan, int node);
bool rule_has_sum(const struct psg_plan *plan, int node);
bool rule_has_norm(const struct psg_registry *registry, const struct psg_op *op);
void rule_grad_sample(const struct psg_plan *plan, int node, const struct psg_call *call);
void rule_norm_sample(const struct psg_plan *plan, int node, const struct psg_call *call);
void rule_clipped_sum(const struct psg_plan *plan, int node, const struct psg_call *call);
/* Compares every rule that came from a client with functorch: PSG_E_INVALID where one differs. */
int client_rules_check(const struct psg_program *p, const struct psg_plan_options *options,
                struct psg_error *err);

/* ---- plan.c ---- */
/* psg_plan_new() without client_rules_check(). */
int plan_new_unchecked(const struct psg_program *program, const struct psg_plan_options *options,
              struct psg_plan **planp, struct psg_error *err);

/* ---- derive.c ---- */
struct derived {
    struct psg_graph *graph; /* vmapped over the tile */
    int n_wrt;
    int *of; /* [n_wrt] input slots, or role numbers */
};
/* The vjp of one node's lowering for a whole tile: gradients of the inputs that want one, or
 * per-sample gradients of the trainable parameters. */
int derive_node(const struct psg_plan *plan, int node, bool inputs, struct derived **dp,
                struct psg_error *err);
/* The lowering itself for a whole tile, for an op without forward. */
int derive_forward(const struct psg_plan *plan, int node, bool training, struct derived **dp,
                   struct psg_error *err);
void derive_run_forward(struct worker *w, int node, struct psg_exec *exec,
                        const struct psg_call *call);
struct derived *derive_free(struct derived *d);
/* Runs it; to[slot] or to[role] receives contiguous [tile, ...]. */
void derive_run(struct worker *w, int node, const struct derived *d, struct psg_exec *exec,
                const struct psg_call *call, psg_real *const *to);

#endif
