#include "emulate.h"

#include <stdio.h>
#include <stdlib.h>

__thread struct emulate_index threadIdx, blockIdx, blockDim, gridDim;

static enum emulate_order order;
static __thread unsigned turn, block_turn;
static __thread bool inside, open;

void emulate_set_order(enum emulate_order o)
{
    order = o;
}

static void insist(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "emulated kernel: %s\n", what);
    abort();
}

/* The i-th of n in the chosen order. Mixed: steps of an odd length around a power of two,
 * else backward. */
static unsigned place(unsigned i, unsigned n)
{
    if (order == EMULATE_MIXED && (n & (n - 1)) == 0)
        return (i * 77 + 5) & (n - 1);
    return order == EMULATE_FORWARD ? i : n - 1 - i;
}

void emulate_begin()
{
    insist(open, "THREADS outside of a launch");
    insist(!inside, "THREADS inside of THREADS: a barrier that not every thread reaches");
    inside = true;
    turn = 0;
}

bool emulate_more()
{
    inside = turn < blockDim.x;
    if (inside)
        threadIdx.x = place(turn, blockDim.x);
    return inside;
}

void emulate_next()
{
    turn++;
}

void emulate_open(unsigned blocks, unsigned threads)
{
    insist(!open, "a launch inside of a kernel");
    insist(threads > 0 && threads <= 1024, "a block has 1 to 1024 threads");
    insist(blocks <= 0x7fffffffu, "a grid has at most 2^31 - 1 blocks");
    emulate_memory(true);
    open = true;
    gridDim.x = blocks;
    blockDim.x = threads;
    block_turn = 0;
}

bool emulate_block()
{
    insist(!inside, "THREADS was left by break or return");
    if (block_turn == gridDim.x)
        return false;
    blockIdx.x = place(block_turn++, gridDim.x);
    return true;
}

void emulate_close()
{
    open = false;
    emulate_memory(false);
}
