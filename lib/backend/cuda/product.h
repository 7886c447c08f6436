/* One tiled matrix product for everything that is one: matrices, and convolutions, whose right
 * operand is read through a window instead of being written out.
 *
 *   out[batch, i, j] = sum over l < k of a(batch, i, l) * b(batch, l, j)
 *
 * A block makes a tile of TILE x TILE results, a thread SIDE x SIDE of them; sums run over l in
 * order. A Product has m, n, k, count (of batches), a_along_l and b_along_l (which index is
 * nearer in memory), and the methods a, b and store. */
#ifndef BACKEND_CUDA_PRODUCT_H
#define BACKEND_CUDA_PRODUCT_H

#include "launch.h"
#include "psg/shape.h"

enum { TILE = 64, DEPTH = 16, SIDE = 4, ACROSS = TILE / SIDE };

struct product_sums {
    psg_real at[SIDE][SIDE];
};

/* Where a block's tile lies. */
struct product_tile {
    int64_t batch, i0, j0;
};

template <class Product> DEVICE struct product_tile product_tile_at(const Product &p)
{
    int64_t across = (p.n + TILE - 1) / TILE, down = (p.m + TILE - 1) / TILE;
    int64_t id = blockIdx.x;
    return { id / across / down, id / across % down * TILE, id % across * TILE };
}

/* Copies a[i0.., l0..] and b[l0.., j0..] into the tiles; zeros outside of the matrices. */
template <class Product>
DEVICE void product_load(const Product &p, const struct product_tile &t, int64_t l0,
                         psg_real (*a)[TILE + 1], psg_real (*b)[TILE + 1])
{
    for (int e = (int)threadIdx.x; e < DEPTH * TILE; e += CUDA_THREADS) {
        int l = p.a_along_l ? e % DEPTH : e / TILE, i = p.a_along_l ? e / DEPTH : e % TILE;
        bool is_in = t.i0 + i < p.m && l0 + l < p.k;
        a[l][i] = is_in ? p.a(t.batch, t.i0 + i, l0 + l) : 0;
        l = p.b_along_l ? e % DEPTH : e / TILE;
        int j = p.b_along_l ? e / DEPTH : e % TILE;
        is_in = t.j0 + j < p.n && l0 + l < p.k;
        b[l][j] = is_in ? p.b(t.batch, l0 + l, t.j0 + j) : 0;
    }
}

/* This thread's results are rows ti + ACROSS r and columns tj + ACROSS c of the tile. */
DEVICE void product_step(const psg_real (*a)[TILE + 1], const psg_real (*b)[TILE + 1],
                         int depth, struct product_sums &sums)
{
    int ti = (int)threadIdx.x / ACROSS, tj = (int)threadIdx.x % ACROSS;
    for (int l = 0; l < depth; l++) {
        psg_real left[SIDE], right[SIDE];
        UNROLL for (int s = 0; s < SIDE; s++)
        {
            left[s] = a[l][ti + ACROSS * s];
            right[s] = b[l][tj + ACROSS * s];
        }
        UNROLL for (int r = 0; r < SIDE; r++)
            UNROLL for (int c = 0; c < SIDE; c++)
                sums.at[r][c] += left[r] * right[c];
    }
}

template <class Product>
DEVICE void product_store(const Product &p, const struct product_tile &t,
                          const struct product_sums &sums)
{
    int ti = (int)threadIdx.x / ACROSS, tj = (int)threadIdx.x % ACROSS;
    UNROLL for (int r = 0; r < SIDE; r++)
        UNROLL for (int c = 0; c < SIDE; c++)
        {
            int64_t i = t.i0 + ti + ACROSS * r, j = t.j0 + tj + ACROSS * c;
            if (i < p.m && j < p.n)
                p.store(t.batch, i, j, sums.at[r][c]);
        }
}

template <class Product> KERNEL product_kernel(Product p)
{
    SHARED psg_real a[DEPTH][TILE + 1], b[DEPTH][TILE + 1];
    PER_THREAD(struct product_sums, sums);
    struct product_tile t = product_tile_at(p);
    THREADS OWN(sums) = {};
    for (int64_t l0 = 0; l0 < p.k; l0 += DEPTH) {
        THREADS product_load(p, t, l0, a, b);
        int depth = p.k - l0 < DEPTH ? (int)(p.k - l0) : DEPTH;
        THREADS product_step(a, b, depth, OWN(sums));
    }
    THREADS product_store(p, t, OWN(sums));
}

template <class Product> static void product_launch(const Product &p)
{
    int64_t across = (p.n + TILE - 1) / TILE, down = (p.m + TILE - 1) / TILE;
    LAUNCH(product_kernel<Product>, across * down * p.count, CUDA_THREADS, p);
}

#endif
