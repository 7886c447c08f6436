/* Convolutions of 3 x 3 with stride 1 and many channels, by minimal filtering: F(2 x 2, 3 x 3) of
 * Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (Winograd 1980). An
 * output tile of 2 x 2 takes 16 multiplications for each pair of channels instead of 36:
 *
 *   y  = A' [ (G w G') .* (B' x B) ] A       x a tile of 4 x 4, w of 3 x 3
 *   dw = G' [ (A dy A') .* (B' x B) ] G      summed over the tiles of a sample
 *   dx: y of dy with w turned by half a circle and its channels exchanged
 *
 *   B' = 1  0 -1  0     G = 1    0    0      A' = 1  1  1  0
 *        0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
 *        0 -1  1  0         1/2 -1/2  1/2
 *        0  1  0 -1         0    0    1
 *
 * Summed over channels (y) or tiles (dw), each of the 16 places is one matrix product. Images are
 * turned to [row][column][channel], so that all transforms run along the channels:
 *
 *   x ──turn──> image ──B'..B──> v[16][tile][ci]  times  u[16][ci][co] ──> m[16][tile][co] ──A'..A──> y
 *
 * B' and A' hold ones only and G halves, so rounding grows by a small factor. Edge tiles reach into
 * zeros. Tiles come in chunks, so that scratch does not follow the image. */
#ifndef CPU_KERNELS_WINOGRAD_H
#define CPU_KERNELS_WINOGRAD_H

#include "backend/cpu/kernels/tile.h"

enum { WINO_PLACES = 16, WINO_CHUNK = 64 };

/* One of the products, for n_from channels into n_to. Channel counts are padded to vectors. */
struct wino {
    int64_t height, width;         /* of what is transformed by B */
    int64_t out_height, out_width; /* of what is made of tiles */
    int64_t shift[2];              /* padding in front */
    int64_t from, to, wide_from, wide_to;
    int64_t rows, columns; /* of tiles */
    int64_t n_image;                     /* numbers of both images */
    int64_t step_left, step_right, step_u; /* from place to place in v, right and u */
    psg_real *image, *v, *right, *u;
};

/* ---- transforms: vectors of channels ---- */

/* B' d, in place */
CPU_INLINE void wino_input_line(vec *d, int step)
{
    vec a = d[0] - d[2 * step], b = d[step] + d[2 * step];
    vec c = d[2 * step] - d[step], e = d[step] - d[3 * step];
    d[0] = a;
    d[step] = b;
    d[2 * step] = c;
    d[3 * step] = e;
}

/* A d: two numbers into four */
CPU_INLINE void wino_spread_line(const vec *d, int step, vec *to, int to_step)
{
    to[0] = d[0];
    to[to_step] = d[0] + d[step];
    to[2 * to_step] = d[0] - d[step];
    to[3 * to_step] = -d[step];
}

/* A' m: four numbers into two */
CPU_INLINE void wino_output_line(const vec *m, int step, vec *to, int to_step)
{
    to[0] = m[0] + m[step] + m[2 * step];
    to[to_step] = m[step] - m[2 * step] - m[3 * step];
}

/* G g: three numbers into four */
CPU_INLINE void wino_weight_line(const vec *g, int step, vec *to, int to_step)
{
    vec half = (g[0] + g[2 * step]) * (psg_real)0.5, middle = g[step] * (psg_real)0.5;
    to[0] = g[0];
    to[to_step] = half + middle;
    to[2 * to_step] = half - middle;
    to[3 * to_step] = g[2 * step];
}

/* G' d: four numbers into three */
CPU_INLINE void wino_gradient_line(const vec *d, int step, vec *to, int to_step)
{
    vec sum = (d[step] + d[2 * step]) * (psg_real)0.5;
    to[0] = d[0] + sum;
    to[to_step] = (d[step] - d[2 * step]) * (psg_real)0.5;
    to[2 * to_step] = sum + d[3 * step];
}

/* ---- weights: u[place][from][to] ---- */

/* w is [co][ci][9]. turned: the weights of the gradient of the input, from co to ci. */
static void wino_weights(const struct wino *p, bool turned, const psg_real *w)
{
    int64_t step_from = turned ? p->to * 9 : 9, step_to = turned ? 9 : p->from * 9;
    const psg_real *end = w + p->from * p->to * 9;
    psg_real packed[9 * VEC_LEN];
    for (int64_t from = 0; from < p->from; from++)
        for (int64_t to = 0; to < p->to; to += VEC_LEN) {
            int64_t n = p->to - to < VEC_LEN ? p->to - to : VEC_LEN;
            vec g[9], half[12], u[WINO_PLACES];
            tile_pack_transposed(9, n, VEC_LEN, w + from * step_from + to * step_to, step_to, end,
                                 packed);
            CPU_UNROLL
            for (int i = 0; i < 9; i++)
                g[i] = vec_load(packed + (turned ? 8 - i : i) * VEC_LEN);
            CPU_UNROLL
            for (int j = 0; j < 3; j++)
                wino_weight_line(g + j, 3, half + j, 3);
            CPU_UNROLL
            for (int i = 0; i < 4; i++)
                wino_weight_line(half + 3 * i, 1, u + 4 * i, 1);
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                vec_store(p->u + k * p->step_u + from * p->wide_to + to, u[k]);
        }
}

/* dw[to][from][9] from u[place][to][wide_from], n of them */
static void wino_gradient(const struct wino *p, int64_t n_to, const psg_real *from_u, psg_real *dw)
{
    for (int64_t to = 0; to < n_to; to++)
        for (int64_t from = 0; from < p->from; from += VEC_LEN) {
            int64_t n = p->from - from < VEC_LEN ? p->from - from : VEC_LEN;
            vec u[WINO_PLACES], half[12], g[9];
            psg_real turned[9 * VEC_LEN];
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                u[k] = vec_load(from_u + k * p->step_u + to * p->wide_from + from);
            CPU_UNROLL
            for (int j = 0; j < 4; j++)
                wino_gradient_line(u + j, 4, half + j, 4);
            CPU_UNROLL
            for (int i = 0; i < 3; i++)
                wino_gradient_line(half + 4 * i, 1, g + 3 * i, 1);
            CPU_UNROLL
            for (int i = 0; i < 9; i++)
                vec_store(turned + i * VEC_LEN, g[i]);
            psg_real *at = dw + (to * p->from + from) * 9;
            tile_store_transposed(8, n, VEC_LEN, turned, NULL, at, 9);
            for (int64_t j = 0; j < n; j++)
                at[j * 9 + 8] = turned[8 * VEC_LEN + j];
        }
}

/* ---- images and tiles ---- */

/* image[row][column][padded] of x [channels][height][width], rows and columns beyond it zero */
static void wino_turn(int64_t channels, int64_t padded, int64_t height, int64_t width,
                      int64_t low_row, int64_t low_column, int64_t columns, const psg_real *x,
                      const psg_real *end, psg_real *image)
{
    for (int64_t i = 0; i < height; i++)
        tile_pack_transposed(width, channels, padded, x + i * width, height * width, end,
                             image + ((i + low_row) * columns + low_column) * padded);
}

/* v[place][tile][wide] of tiles first .. first + n, B' x B */
static void wino_input_tiles(const struct wino *p, int64_t first, int64_t n)
{
    int64_t pitch = (2 * p->columns + 2) * p->wide_from, place = p->step_left;
    for (int64_t t = 0; t < n; t++) {
        int64_t row = (first + t) / p->columns, column = (first + t) % p->columns;
        const psg_real *at = p->image + 2 * row * pitch + 2 * column * p->wide_from;
        psg_real *to = p->v + t * p->wide_from;
        for (int64_t c = 0; c < p->wide_from; c += VEC_LEN) {
            vec d[WINO_PLACES];
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                d[k] = vec_load(at + k / 4 * pitch + k % 4 * p->wide_from + c);
            CPU_UNROLL
            for (int j = 0; j < 4; j++)
                wino_input_line(d + j, 4);
            CPU_UNROLL
            for (int i = 0; i < 4; i++)
                wino_input_line(d + 4 * i, 1);
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                vec_store(to + k * place + c, d[k]);
        }
    }
}

/* right[place][tile][wide_to] of the gradient's image, A dy A' */
static void wino_gradient_tiles(const struct wino *p, const psg_real *image, int64_t first,
                                int64_t n)
{
    int64_t pitch = 2 * p->columns * p->wide_to, place = p->step_right;
    for (int64_t t = 0; t < n; t++) {
        int64_t row = (first + t) / p->columns, column = (first + t) % p->columns;
        const psg_real *at = image + 2 * row * pitch + 2 * column * p->wide_to;
        psg_real *to = p->right + t * p->wide_to;
        for (int64_t c = 0; c < p->wide_to; c += VEC_LEN) {
            vec d[4], half[8], z[WINO_PLACES];
            CPU_UNROLL
            for (int k = 0; k < 4; k++)
                d[k] = vec_load(at + k / 2 * pitch + k % 2 * p->wide_to + c);
            CPU_UNROLL
            for (int j = 0; j < 2; j++)
                wino_spread_line(d + j, 2, half + j, 2);
            CPU_UNROLL
            for (int i = 0; i < 4; i++)
                wino_spread_line(half + 2 * i, 1, z + 4 * i, 1);
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                vec_store(to + k * place + c, z[k]);
        }
    }
}

/* A' m A of the tiles: their part of the image of results, [row][column][wide_to] */
static void wino_output_tiles(const struct wino *p, int64_t first, int64_t n, psg_real *image)
{
    int64_t pitch = 2 * p->columns * p->wide_to, place = p->step_right;
    for (int64_t t = 0; t < n; t++) {
        int64_t row = (first + t) / p->columns, column = (first + t) % p->columns;
        psg_real *to = image + 2 * row * pitch + 2 * column * p->wide_to;
        for (int64_t c = 0; c < p->wide_to; c += VEC_LEN) {
            vec m[WINO_PLACES], half[8], y[4];
            CPU_UNROLL
            for (int k = 0; k < WINO_PLACES; k++)
                m[k] = vec_load(p->right + k * place + t * p->wide_to + c);
            CPU_UNROLL
            for (int j = 0; j < 4; j++)
                wino_output_line(m + j, 4, half + j, 4);
            CPU_UNROLL
            for (int i = 0; i < 2; i++)
                wino_output_line(half + 4 * i, 1, y + 2 * i, 1);
            CPU_UNROLL
            for (int k = 0; k < 4; k++)
                vec_store(to + k / 2 * pitch + k % 2 * p->wide_to + c, y[k]);
        }
    }
}

/* ---- products ---- */

/* right[place][tile][to] = v u for n tiles */
static void wino_multiply(const struct wino *p, int64_t n)
{
    for (int64_t k = 0; k < WINO_PLACES; k++) {
        const psg_real *left = p->v + k * p->step_left;
        for (int64_t j = 0; j < p->wide_to;) {
            int nv = tile_vectors(p->wide_to - j);
            const psg_real *u = p->u + k * p->step_u + j;
            psg_real *to = p->right + k * p->step_right + j;
            for (int64_t t = 0; t < n;) {
                int mr = tile_rows(n - t);
                const psg_real *rows[TILE_MR];
                for (int i = 0; i < mr; i++)
                    rows[i] = left + (t + i) * p->wide_from;
                tile_step[tile_class(mr)][nv - 1](p->from, rows, 1, NULL, u, p->wide_to,
                                                  to + t * p->wide_to, p->wide_to);
                t += mr;
            }
            j += nv * VEC_LEN;
        }
    }
}

/* u[place][mr][wide_from] = right' v over n tiles, or plus as much, of mr channels from co on */
static void wino_multiply_gradient(const struct wino *p, int64_t n, bool more, int64_t co, int mr,
                                   psg_real *u)
{
    psg_real tile[TILE_MR * TILE_NR];
    for (int64_t k = 0; k < WINO_PLACES; k++) {
        const psg_real *right = p->v + k * p->step_left, *rows[TILE_MR];
        for (int i = 0; i < mr; i++)
            rows[i] = p->right + k * p->step_right + co + i;
        for (int64_t j = 0; j < p->wide_from;) {
            int nv = tile_vectors(p->wide_from - j);
            psg_real *to = u + k * p->step_u + j;
            tile_fn *fn = tile_step[tile_class(mr)][nv - 1];
            fn(n, rows, p->wide_to, NULL, right + j, p->wide_from, more ? tile : to,
               more ? TILE_NR : p->wide_from);
            for (int i = 0; i < mr && more; i++)
                for (int64_t l = i * p->wide_from, v = 0; v < nv * VEC_LEN; v += VEC_LEN)
                    vec_store(to + l + v, vec_load(to + l + v) + vec_load(tile + i * TILE_NR + v));
            j += nv * VEC_LEN;
        }
    }
}

/* y[to][out_height][out_width] of its image, plus bias */
static void wino_turn_back(const struct wino *p, const psg_real *image, const psg_real *bias,
                           psg_real *y)
{
    int64_t pitch = 2 * p->columns * p->wide_to;
    for (int64_t i = 0; i < p->out_height; i++)
        for (int64_t j = 0; j < p->out_width;) {
            int mr = tile_rows(p->out_width - j);
            tile_store_transposed(mr, p->to, p->wide_to, image + i * pitch + j * p->wide_to, bias,
                                  y + i * p->out_width + j, p->out_height * p->out_width);
            j += mr;
        }
}

/* ---- plans ---- */

/* Where the products outweigh the transforms: measured by bench_kernels. */
static bool wino_is_better(const struct psg_conv *c)
{
    const struct psg_window *w = &c->win;
    if (w->rank != 2 || c->groups != 1 || c->in_channels < VEC_LEN || c->out_channels < VEC_LEN ||
        c->in_channels * c->out_channels > 1 << 20)
        return false;
    for (int i = 0; i < 2; i++)
        if (w->kernel[i] != 3 || w->stride[i] != 1 || w->dilation[i] != 1 || w->pad_lo[i] > 2 ||
            w->pad_hi[i] > 2 || w->out[i] < 4 || w->out[i] > 4096 || w->in[i] < 2 ||
            w->in[i] > 4096 || w->out[i] != w->in[i] + w->pad_lo[i] + w->pad_hi[i] - 2)
            return false;
    return true;
}

/* Few tiles do not pay for turning 16 places into 9 weights. */
static bool wino_weight_is_better(const struct psg_conv *c)
{
    return c->win.out[0] * c->win.out[1] >= 4 * 12;
}

/* turned: from dy to dx */
static struct wino wino_plan(const struct psg_conv *c, bool turned, psg_real *scratch)
{
    const struct psg_window *w = &c->win;
    struct wino p = { .from = turned ? c->out_channels : c->in_channels,
                      .to = turned ? c->in_channels : c->out_channels };
    const int64_t *in = turned ? w->out : w->in, *out = turned ? w->in : w->out;
    p.height = in[0];
    p.width = in[1];
    p.out_height = out[0];
    p.out_width = out[1];
    for (int i = 0; i < 2; i++)
        p.shift[i] = turned ? 2 - w->pad_lo[i] : w->pad_lo[i];
    p.wide_from = tile_padded(p.from);
    p.wide_to = tile_padded(p.to);
    p.rows = (p.out_height + 1) / 2;
    p.columns = (p.out_width + 1) / 2;
    int64_t read = (2 * p.rows + 2) * (2 * p.columns + 2) * p.wide_from;
    p.n_image = read + 4 * p.rows * p.columns * p.wide_to;
    /* a vector more: powers of two would put all places into the same lines of a cache */
    p.step_left = WINO_CHUNK * p.wide_from + VEC_LEN;
    p.step_right = WINO_CHUNK * p.wide_to + VEC_LEN;
    int64_t one = p.from * p.wide_to, other = p.to * p.wide_from;
    p.step_u = (one > other ? one : other) + VEC_LEN;
    p.image = scratch;
    if (scratch) {
        p.v = p.image + p.n_image;
        p.right = p.v + WINO_PLACES * p.step_left;
        p.u = p.right + WINO_PLACES * p.step_right;
    }
    return p;
}

static int64_t wino_scratch(const struct psg_conv *c)
{
    const bool both[] = { false, true };
    int64_t most = 0;
    for (int i = 0; i < 2; i++) {
        struct wino p = wino_plan(c, both[i], NULL);
        int64_t size = p.n_image + WINO_PLACES * (p.step_left + p.step_right + p.step_u);
        most = size > most ? size : most;
    }
    return most;
}

/* ---- the three products ---- */

static psg_real *wino_second_image(const struct wino *p)
{
    return p->image + (2 * p->rows + 2) * (2 * p->columns + 2) * p->wide_from;
}

/* the rows and columns around the image stay zero from sample to sample */
static void wino_turn_input(const struct wino *p, const psg_real *x, const psg_real *end)
{
    wino_turn(p->from, p->wide_from, p->height, p->width, p->shift[0], p->shift[1],
              2 * p->columns + 2, x, end, p->image);
}

static void wino_conv(const struct psg_conv *c, bool turned, int64_t n, const psg_real *x,
                      const psg_real *w, const psg_real *bias, psg_real *y, psg_real *scratch)
{
    struct wino p = wino_plan(c, turned, scratch);
    int64_t n_in = p.from * p.height * p.width, n_tiles = p.rows * p.columns;
    psg_real *results = wino_second_image(&p);
    memset(p.image, 0, (size_t)(results - p.image) * sizeof *p.image);
    wino_weights(&p, turned, w);
    for (int64_t s = 0; s < n; s++) {
        wino_turn_input(&p, x + s * n_in, x + n * n_in);
        for (int64_t t = 0; t < n_tiles; t += WINO_CHUNK) {
            int64_t m = n_tiles - t < WINO_CHUNK ? n_tiles - t : WINO_CHUNK;
            wino_input_tiles(&p, t, m);
            wino_multiply(&p, m);
            wino_output_tiles(&p, t, m, results);
        }
        wino_turn_back(&p, results, bias, y + s * p.to * p.out_height * p.out_width);
    }
}

static void wino_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                            const psg_real *dy, psg_real *dw, int64_t stride, psg_real *scratch)
{
    struct wino p = wino_plan(c, false, scratch);
    int64_t n_in = p.from * p.height * p.width, n_out = p.to * p.out_height * p.out_width;
    int64_t n_tiles = p.rows * p.columns;
    psg_real *gradient = wino_second_image(&p);
    memset(p.image, 0, (size_t)p.n_image * sizeof *p.image);
    for (int64_t s = 0; s < n; s++) {
        wino_turn_input(&p, x + s * n_in, x + n * n_in);
        wino_turn(p.to, p.wide_to, p.out_height, p.out_width, 0, 0, 2 * p.columns, dy + s * n_out,
                  dy + n * n_out, gradient);
        for (int64_t t = 0; t < n_tiles; t += WINO_CHUNK) {
            int64_t m = n_tiles - t < WINO_CHUNK ? n_tiles - t : WINO_CHUNK;
            wino_input_tiles(&p, t, m);
            wino_gradient_tiles(&p, gradient, t, m);
            for (int64_t co = 0; co < p.to;) {
                int mr = tile_rows(p.to - co);
                psg_real *u = p.u + (n_tiles > WINO_CHUNK ? co * p.wide_from : 0);
                wino_multiply_gradient(&p, m, t > 0, co, mr, u);
                if (t + m == n_tiles)
                    wino_gradient(&p, mr, u, dw + s * stride + co * p.from * 9);
                co += mr;
            }
        }
    }
}

#endif
