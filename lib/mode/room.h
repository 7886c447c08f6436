/* Which buffers a tile needs, when each of them lives and where it lies in a worker's arena.
 *
 * Time runs through a tile: it is loaded at 0, node i runs forward at 1 + i, the way back takes
 * the nodes in reverse, then losses and outputs are read, then the sums of the nodes are taken in
 * order. A buffer lives from the step that writes it to the last one that reads it.
 *
 * With bf16 activations a value that waits for the way back is kept as bf16 between its last
 * reader forward and its first reader back, and widened for each step that reads it, wherever
 * that takes less memory than the numbers themselves, which are bf16 numbers either way. */
#ifndef MODE_ROOM_H
#define MODE_ROOM_H

#include "base/place.h"
#include "psg/plan.h"

enum phase { PHASE_EVALUATE, PHASE_FORWARD, PHASE_BACKWARD, PHASE_SUM };
/* the two phases that read what forward left; wide rooms exist for each */
enum { READ_BACKWARD, READ_SUM, READ_COUNT };

enum { NO_ROOM = -1 };

/* Rooms of a node, as numbers in rooms.stay, or NO_ROOM. */
struct node_rooms {
    int saved, saved_i64, random;
    int half_saved, wide_saved[READ_COUNT];
    int scratch[PHASE_SUM + 1];
    int *wide[READ_COUNT]; /* [n_in + n_out] */
};

struct rooms {
    struct base_stay *stay; /* [n], in bytes for a whole tile */
    int n, cap;
    int *value, *half, *grad; /* [n_values] */
    struct node_rooms *node;  /* [n_nodes] */
    int temp, row, row_temp;
    int64_t bytes;
};

/* Reads node[].live, in_put and so on, and plan->row_reals and row_temp: after the mode has been
 * compiled. */
int rooms_plan(struct psg_plan *plan, struct psg_error *err);
void rooms_free(struct psg_plan *plan);
int64_t time_forward(int node);
int64_t time_backward(const struct psg_plan *plan, int node);
int64_t time_sum(const struct psg_plan *plan, int node);

#endif
