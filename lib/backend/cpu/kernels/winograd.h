/* Convolutions of 3 x 3 with stride 1 and many channels, by minimal filtering: F(m x m, 3 x 3) of
 * Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (Winograd 1980), m 2 or
 * 4. An output tile of m x m takes (m + 2)^2 multiplications for each pair of channels instead of
 * 9 m^2:
 *
 *   y  = A' [ (G w G') .* (B' x B) ] A       x a tile of (m + 2) x (m + 2), w of 3 x 3
 *   dw = G' [ (A dy A') .* (B' x B) ] G      summed over the tiles of a sample
 *   dx: y of dy with w turned by half a circle and its channels exchanged
 *
 *   m = 2   B' = 1  0 -1  0     G = 1    0    0      A' = 1  1  1  0
 *                0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
 *                0 -1  1  0         1/2 -1/2  1/2
 *                0  1  0 -1         0    0    1
 *
 *   m = 4, points 0, +-p, +-q with p = sqrt(1/2), q = sqrt(2), whose rounding is smaller than that
 *   of 0, +-1, +-2 (Barabasz et al. 2020, "Error analysis and improving the accuracy of Winograd
 *   convolution for deep neural networks"):
 *
 *       B' = 1   0   -5/2  0    1  0     G =  1    0     0       A' = 1   1   1   1   1   0
 *            0  -2p  -2    p    1  0        -2/3 -2p/3 -1/3           0   p  -p   q  -q   0
 *            0   2p  -2   -p    1  0        -2/3  2p/3 -1/3           0  1/2 1/2  2   2   0
 *            0  -q/2 -1/2  q    1  0         1/6  q/6   1/3           0  p/2 -p/2 2q -2q  1
 *            0   q/2 -1/2 -q    1  0         1/6 -q/6   1/3
 *            0   1    0   -5/2  0  1         0    0     1
 *
 * Summed over channels (y) or tiles (dw), each of the (m + 2)^2 places is one matrix product.
 * Images are turned to [row][column][channel], so that all transforms run along the channels:
 *
 *   x -turn-> image -B'..B-> v[place][tile][ci] u[place][ci][co] = right[place][tile][co] -A'..A-> y
 *
 * Edge tiles reach into zeros. Tiles come in chunks, so that scratch does not follow the image;
 * small images share a chunk. */
#ifndef CPU_KERNELS_WINOGRAD_H
#define CPU_KERNELS_WINOGRAD_H

#include "backend/cpu/kernels/tile.h"

enum { WINO_EDGE_MAX = 6, WINO_PLACES_MAX = WINO_EDGE_MAX * WINO_EDGE_MAX };

/* One of the products, for `from` channels into `to`. Channel counts are padded to vectors. */
struct wino {
    int m, edge, places;           /* edge m + 2, places edge^2 */
    int64_t height, width;         /* of what is transformed by B */
    int64_t out_height, out_width; /* of what is made of tiles */
    int64_t shift[2];              /* padding in front */
    int64_t from, to, wide_from, wide_to;
    int64_t rows, columns, n_tiles; /* of an image */
    int64_t chunk, group;           /* tiles, and images that share a chunk */
    int64_t terms;                  /* channels of one sum */
    int64_t n_image, n_result;      /* numbers of an image, padded */
    int64_t step_left, step_right, step_u; /* from place to place in v, right and u */
    psg_real *image, *result, *v, *right, *u;
};

static const psg_real wino_p = (psg_real)0.70710678118654752, wino_q = (psg_real)1.41421356237309505;

/* ---- transforms of a line: vectors of channels, `step` vectors apart ---- */

/* B' d, in place */
CPU_INLINE void wino_input_line(int m, vec *d, int s)
{
    if (m == 2) {
        vec a = d[0] - d[2 * s], b = d[s] + d[2 * s], c = d[2 * s] - d[s], e = d[s] - d[3 * s];
        d[0] = a;
        d[s] = b;
        d[2 * s] = c;
        d[3 * s] = e;
        return;
    }
    const psg_real half = (psg_real)0.5, more = (psg_real)2.5;
    vec even_p = d[4 * s] - 2 * d[2 * s], odd_p = wino_p * (d[3 * s] - 2 * d[s]);
    vec even_q = d[4 * s] - half * d[2 * s], odd_q = wino_q * (d[3 * s] - half * d[s]);
    d[0] = d[0] + d[4 * s] - more * d[2 * s];
    d[5 * s] = d[s] + d[5 * s] - more * d[3 * s];
    d[s] = even_p + odd_p;
    d[2 * s] = even_p - odd_p;
    d[3 * s] = even_q + odd_q;
    d[4 * s] = even_q - odd_q;
}

/* A d: m numbers into m + 2 */
CPU_INLINE void wino_spread_line(int m, const vec *d, int s, vec *to, int to_step)
{
    if (m == 2) {
        to[0] = d[0];
        to[to_step] = d[0] + d[s];
        to[2 * to_step] = d[0] - d[s];
        to[3 * to_step] = -d[s];
        return;
    }
    const psg_real half = (psg_real)0.5;
    vec even_p = d[0] + half * d[2 * s], odd_p = wino_p * (d[s] + half * d[3 * s]);
    vec even_q = d[0] + 2 * d[2 * s], odd_q = wino_q * (d[s] + 2 * d[3 * s]);
    to[0] = d[0];
    to[to_step] = even_p + odd_p;
    to[2 * to_step] = even_p - odd_p;
    to[3 * to_step] = even_q + odd_q;
    to[4 * to_step] = even_q - odd_q;
    to[5 * to_step] = d[3 * s];
}

/* A' x: m + 2 numbers into m */
CPU_INLINE void wino_output_line(int m, const vec *x, int s, vec *to, int to_step)
{
    if (m == 2) {
        to[0] = x[0] + x[s] + x[2 * s];
        to[to_step] = x[s] - x[2 * s] - x[3 * s];
        return;
    }
    vec even_p = x[s] + x[2 * s], odd_p = wino_p * (x[s] - x[2 * s]);
    vec even_q = x[3 * s] + x[4 * s], odd_q = wino_q * (x[3 * s] - x[4 * s]);
    to[0] = x[0] + even_p + even_q;
    to[to_step] = odd_p + odd_q;
    to[2 * to_step] = (psg_real)0.5 * even_p + 2 * even_q;
    to[3 * to_step] = (psg_real)0.5 * odd_p + 2 * odd_q + x[5 * s];
}

/* G g: three numbers into m + 2 */
CPU_INLINE void wino_weight_line(int m, const vec *g, int s, vec *to, int to_step)
{
    vec outer = g[0] + g[2 * s];
    if (m == 2) {
        to[0] = g[0];
        to[to_step] = (psg_real)0.5 * (outer + g[s]);
        to[2 * to_step] = (psg_real)0.5 * (outer - g[s]);
        to[3 * to_step] = g[2 * s];
        return;
    }
    const psg_real third = (psg_real)1 / 3;
    vec even_p = -third * (g[0] + outer), odd_p = (-2 * third * wino_p) * g[s];
    vec even_q = third * ((psg_real)0.5 * g[0] + g[2 * s]), odd_q = (third * wino_p) * g[s];
    to[0] = g[0];
    to[to_step] = even_p + odd_p;
    to[2 * to_step] = even_p - odd_p;
    to[3 * to_step] = even_q + odd_q;
    to[4 * to_step] = even_q - odd_q;
    to[5 * to_step] = g[2 * s];
}

/* G' x: m + 2 numbers into three */
CPU_INLINE void wino_gradient_line(int m, const vec *x, int s, vec *to, int to_step)
{
    if (m == 2) {
        vec sum = (psg_real)0.5 * (x[s] + x[2 * s]);
        to[0] = x[0] + sum;
        to[to_step] = (psg_real)0.5 * (x[s] - x[2 * s]);
        to[2 * to_step] = sum + x[3 * s];
        return;
    }
    const psg_real third = (psg_real)1 / 3;
    vec even_p = third * (x[s] + x[2 * s]), odd_p = x[s] - x[2 * s];
    vec even_q = third * (x[3 * s] + x[4 * s]), odd_q = x[3 * s] - x[4 * s];
    to[0] = x[0] - 2 * even_p + (psg_real)0.5 * even_q;
    to[to_step] = (third * wino_p) * (odd_q - 2 * odd_p);
    to[2 * to_step] = even_q - even_p + x[5 * s];
}

/* ---- weights: u[place][from][to] ---- */

/* w is [co][ci][9]. turned: the weights of the gradient of the input, from co to ci. */
CPU_INLINE void wino_weights(int m, const struct wino *p, bool turned, const psg_real *w)
{
    int64_t step_from = turned ? p->to * 9 : 9, step_to = turned ? 9 : p->from * 9;
    const psg_real *end = w + p->from * p->to * 9;
    psg_real packed[9 * VEC_LEN];
    int edge = m + 2;
    for (int64_t from = 0; from < p->from; from++)
        for (int64_t to = 0; to < p->to; to += VEC_LEN) {
            int64_t n = p->to - to < VEC_LEN ? p->to - to : VEC_LEN;
            vec g[9], half[3 * WINO_EDGE_MAX];
            tile_pack_transposed(9, n, VEC_LEN, w + from * step_from + to * step_to, step_to, end,
                                 packed);
            CPU_UNROLL
            for (int i = 0; i < 9; i++)
                g[i] = vec_load(packed + (turned ? 8 - i : i) * VEC_LEN);
            CPU_UNROLL
            for (int j = 0; j < 3; j++)
                wino_weight_line(m, g + j, 3, half + j, 3);
            CPU_UNROLL
            for (int i = 0; i < edge; i++) {
                vec u[WINO_EDGE_MAX];
                wino_weight_line(m, half + 3 * i, 1, u, 1);
                CPU_UNROLL
                for (int j = 0; j < edge; j++)
                    vec_store(p->u + (i * edge + j) * p->step_u + from * p->wide_to + to, u[j]);
            }
        }
}

/* dw[to][from][9] from u[place][to][wide_from], n_to of them */
CPU_INLINE void wino_gradient(int m, const struct wino *p, int64_t n_to, const psg_real *u,
                              psg_real *dw)
{
    int edge = m + 2;
    for (int64_t to = 0; to < n_to; to++)
        for (int64_t from = 0; from < p->from; from += VEC_LEN) {
            int64_t n = p->from - from < VEC_LEN ? p->from - from : VEC_LEN;
            const psg_real *at = u + to * p->wide_from + from;
            vec half[3 * WINO_EDGE_MAX];
            psg_real turned[9 * VEC_LEN];
            CPU_UNROLL
            for (int j = 0; j < edge; j++) {
                vec x[WINO_EDGE_MAX];
                CPU_UNROLL
                for (int i = 0; i < edge; i++)
                    x[i] = vec_load(at + (i * edge + j) * p->step_u);
                wino_gradient_line(m, x, 1, half + j, edge);
            }
            CPU_UNROLL
            for (int i = 0; i < 3; i++) {
                vec g[3];
                wino_gradient_line(m, half + edge * i, 1, g, 1);
                CPU_UNROLL
                for (int j = 0; j < 3; j++)
                    vec_store(turned + (3 * i + j) * VEC_LEN, g[j]);
            }
            psg_real *out = dw + (to * p->from + from) * 9;
            tile_store_transposed(8, n, VEC_LEN, turned, NULL, out, 9);
            for (int64_t j = 0; j < n; j++)
                out[j * 9 + 8] = turned[8 * VEC_LEN + j];
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

/* Tile t of a group of images, each `size` numbers with m rows of `pitch` for a row of tiles. */
CPU_INLINE int64_t wino_tile_at(const struct wino *p, int64_t t, int64_t size, int64_t pitch,
                                int64_t wide_pixel)
{
    int64_t sample = t / p->n_tiles, inside = t % p->n_tiles;
    return sample * size + inside / p->columns * p->m * pitch +
           inside % p->columns * p->m * wide_pixel;
}

/* v[place][tile][wide_from] of tiles first .. first + n, B' x B */
CPU_INLINE void wino_input_tiles(int m, const struct wino *p, int64_t first, int64_t n)
{
    int64_t pitch = (m * p->columns + 2) * p->wide_from;
    int edge = m + 2;
    for (int64_t t = 0; t < n; t++) {
        const psg_real *at =
            p->image + wino_tile_at(p, first + t, p->n_image, pitch, p->wide_from);
        psg_real *to = p->v + t * p->wide_from;
        for (int64_t c = 0; c < p->wide_from; c += VEC_LEN) {
            vec d[WINO_PLACES_MAX];
            CPU_UNROLL
            for (int j = 0; j < edge; j++) {
                CPU_UNROLL
                for (int i = 0; i < edge; i++)
                    d[i * edge + j] = vec_load(at + i * pitch + j * p->wide_from + c);
                wino_input_line(m, d + j, edge);
            }
            CPU_UNROLL
            for (int i = 0; i < edge; i++) {
                wino_input_line(m, d + edge * i, 1);
                CPU_UNROLL
                for (int j = 0; j < edge; j++)
                    vec_store(to + (i * edge + j) * p->step_left + c, d[i * edge + j]);
            }
        }
    }
}

/* right[place][tile][wide_to] of the gradient's image, A dy A' */
CPU_INLINE void wino_gradient_tiles(int m, const struct wino *p, int64_t first, int64_t n)
{
    int64_t pitch = m * p->columns * p->wide_to;
    int edge = m + 2;
    for (int64_t t = 0; t < n; t++) {
        const psg_real *at =
            p->result + wino_tile_at(p, first + t, p->n_result, pitch, p->wide_to);
        psg_real *to = p->right + t * p->wide_to;
        for (int64_t c = 0; c < p->wide_to; c += VEC_LEN) {
            vec half[4 * WINO_EDGE_MAX];
            CPU_UNROLL
            for (int j = 0; j < m; j++) {
                vec d[4];
                CPU_UNROLL
                for (int i = 0; i < m; i++)
                    d[i] = vec_load(at + i * pitch + j * p->wide_to + c);
                wino_spread_line(m, d, 1, half + j, m);
            }
            CPU_UNROLL
            for (int i = 0; i < edge; i++) {
                vec z[WINO_EDGE_MAX];
                wino_spread_line(m, half + m * i, 1, z, 1);
                CPU_UNROLL
                for (int j = 0; j < edge; j++)
                    vec_store(to + (i * edge + j) * p->step_right + c, z[j]);
            }
        }
    }
}

/* A' right A of the tiles: their part of the images of results, [row][column][wide_to] */
CPU_INLINE void wino_output_tiles(int m, const struct wino *p, int64_t first, int64_t n)
{
    int64_t pitch = m * p->columns * p->wide_to;
    int edge = m + 2;
    for (int64_t t = 0; t < n; t++) {
        psg_real *to = p->result + wino_tile_at(p, first + t, p->n_result, pitch, p->wide_to);
        const psg_real *at = p->right + t * p->wide_to;
        for (int64_t c = 0; c < p->wide_to; c += VEC_LEN) {
            vec half[4 * WINO_EDGE_MAX];
            CPU_UNROLL
            for (int j = 0; j < edge; j++) {
                vec x[WINO_EDGE_MAX];
                CPU_UNROLL
                for (int i = 0; i < edge; i++)
                    x[i] = vec_load(at + (i * edge + j) * p->step_right + c);
                wino_output_line(m, x, 1, half + j, edge);
            }
            CPU_UNROLL
            for (int i = 0; i < m; i++) {
                vec y[4];
                wino_output_line(m, half + edge * i, 1, y, 1);
                CPU_UNROLL
                for (int j = 0; j < m; j++)
                    vec_store(to + i * pitch + j * p->wide_to + c, y[j]);
            }
        }
    }
}

/* ---- products ---- */

/* to += tile, mr rows of nv vectors */
CPU_INLINE void wino_add(int mr, int nv, const psg_real *tile, psg_real *to, int64_t ldo)
{
    for (int i = 0; i < mr; i++)
        for (int v = 0; v < nv * VEC_LEN; v += VEC_LEN)
            vec_store(to + i * ldo + v,
                      vec_load(to + i * ldo + v) + vec_load(tile + i * TILE_NR + v));
}

/* A panel of one place: sums of few channels are added up, which halves the rounding. */
static void wino_multiply_panel(const struct wino *p, int64_t n, int nv, const psg_real *left,
                                const psg_real *u, psg_real *to)
{
    psg_real tile[TILE_MR * TILE_NR];
    for (int64_t t = 0; t < n;) {
        int mr = tile_rows(n - t);
        tile_fn *fn = tile_step[tile_class(mr)][nv - 1];
        psg_real *out = to + t * p->wide_to;
        for (int64_t l = 0; l < p->from; l += p->terms) {
            int64_t k = p->from - l < p->terms ? p->from - l : p->terms;
            const psg_real *rows[TILE_MR];
            for (int i = 0; i < mr; i++)
                rows[i] = left + (t + i) * p->wide_from + l;
            fn(k, rows, 1, NULL, u + l * p->wide_to, p->wide_to, l ? tile : out,
               l ? TILE_NR : p->wide_to);
            if (l)
                wino_add(mr, nv, tile, out, p->wide_to);
        }
        t += mr;
    }
}

/* right[place][tile][to] = v u for n tiles */
static void wino_multiply(const struct wino *p, int64_t n)
{
    for (int k = 0; k < p->places; k++)
        for (int64_t j = 0; j < p->wide_to;) {
            int nv = tile_vectors(p->wide_to - j);
            wino_multiply_panel(p, n, nv, p->v + k * p->step_left, p->u + k * p->step_u + j,
                                p->right + k * p->step_right + j);
            j += nv * VEC_LEN;
        }
}

/* u[place][mr][wide_from] = right' v over n tiles, or plus as much, of mr channels from co on */
static void wino_multiply_gradient(const struct wino *p, int64_t n, bool more, int64_t co, int mr,
                                   psg_real *u)
{
    psg_real tile[TILE_MR * TILE_NR];
    for (int k = 0; k < p->places; k++) {
        const psg_real *right = p->v + k * p->step_left, *rows[TILE_MR];
        for (int i = 0; i < mr; i++)
            rows[i] = p->right + k * p->step_right + co + i;
        for (int64_t j = 0; j < p->wide_from;) {
            int nv = tile_vectors(p->wide_from - j);
            psg_real *to = u + k * p->step_u + j;
            tile_fn *fn = tile_step[tile_class(mr)][nv - 1];
            fn(n, rows, p->wide_to, NULL, right + j, p->wide_from, more ? tile : to,
               more ? TILE_NR : p->wide_from);
            if (more)
                wino_add(mr, nv, tile, to, p->wide_from);
            j += nv * VEC_LEN;
        }
    }
}

/* y[to][out_height][out_width] of its image, plus bias */
static void wino_turn_back(const struct wino *p, const psg_real *image, const psg_real *bias,
                           psg_real *y)
{
    int64_t pitch = p->m * p->columns * p->wide_to;
    for (int64_t i = 0; i < p->out_height; i++)
        for (int64_t j = 0; j < p->out_width;) {
            int mr = tile_rows(p->out_width - j);
            tile_store_transposed(mr, p->to, p->wide_to, image + i * pitch + j * p->wide_to, bias,
                                  y + i * p->out_width + j, p->out_height * p->out_width);
            j += mr;
        }
}

/* ---- plans: what is better was measured by bench_kernels ---- */

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

enum wino_product { WINO_CONV, WINO_BWD_DATA, WINO_BWD_WEIGHT, WINO_PRODUCTS };

static int64_t wino_tiles(int m, const int64_t out[2])
{
    return ((out[0] + m - 1) / m) * ((out[1] + m - 1) / m);
}

/* Few tiles do not pay for turning the places into 9 weights. */
static bool wino_weight_is_better(const struct psg_conv *c)
{
    return wino_tiles(2, c->win.out) >= 12;
}

/* m: 4 has fewer multiplications, if edge tiles leave it that, but more places and, with many
 * channels, more sums to be added up. Without fused multiply-adds rounding would show. */
static int wino_m(enum wino_product which, int64_t from, const int64_t out[2])
{
    int64_t two = wino_tiles(2, out), four = wino_tiles(4, out);
    bool fused = CPU_VECTOR_BYTES >= 32;
    bool many = which == WINO_BWD_WEIGHT ? four >= 16 : four >= 4 && from <= 64;
    return fused && many && 36 * four * 5 < 16 * two * 4 ? 4 : 2;
}

static struct wino wino_plan(const struct psg_conv *c, enum wino_product which, psg_real *scratch)
{
    const struct psg_window *w = &c->win;
    bool turned = which == WINO_BWD_DATA;
    const int64_t *in = turned ? w->out : w->in, *out = turned ? w->in : w->out;
    int64_t from = turned ? c->out_channels : c->in_channels;
    struct wino p = { .m = wino_m(which, from, out),
                      .height = in[0],
                      .width = in[1],
                      .out_height = out[0],
                      .out_width = out[1],
                      .from = from,
                      .to = turned ? c->in_channels : c->out_channels };
    for (int i = 0; i < 2; i++)
        p.shift[i] = turned ? 2 - w->pad_lo[i] : w->pad_lo[i];
    p.edge = p.m + 2;
    p.places = p.edge * p.edge;
    p.wide_from = tile_padded(p.from);
    p.wide_to = tile_padded(p.to);
    p.rows = (p.out_height + p.m - 1) / p.m;
    p.columns = (p.out_width + p.m - 1) / p.m;
    p.n_tiles = p.rows * p.columns;
    p.chunk = p.m == 2 ? 64 : 32;
    p.terms = p.m == 2 ? 128 : 8; /* rounding: of m = 2 less than of a direct sum, of 4 a fifth more */
    p.group = which == WINO_BWD_WEIGHT || p.n_tiles > p.chunk ? 1 : p.chunk / p.n_tiles;
    p.n_image = (p.m * p.rows + 2) * (p.m * p.columns + 2) * p.wide_from;
    p.n_result = p.m * p.m * p.n_tiles * p.wide_to;
    /* a vector more: powers of two would put all places into the same lines of a cache */
    p.step_left = p.chunk * p.wide_from + VEC_LEN;
    p.step_right = p.chunk * p.wide_to + VEC_LEN;
    p.step_u = (which == WINO_BWD_WEIGHT ? p.to * p.wide_from : p.from * p.wide_to) + VEC_LEN;
    if (scratch) {
        p.image = scratch;
        p.result = p.image + p.group * p.n_image;
        p.v = p.result + p.group * p.n_result;
        p.right = p.v + p.places * p.step_left;
        p.u = p.right + p.places * p.step_right;
    }
    return p;
}

static int64_t wino_scratch(const struct psg_conv *c)
{
    int64_t most = 0;
    for (int i = 0; i < WINO_PRODUCTS; i++) {
        struct wino p = wino_plan(c, i, NULL);
        int64_t size = p.group * (p.n_image + p.n_result) +
                       p.places * (p.step_left + p.step_right + p.step_u);
        most = size > most ? size : most;
    }
    return most;
}

/* ---- the three products ---- */

/* the rows and columns around an image stay zero from sample to sample */
static void wino_turn_input(const struct wino *p, int64_t g, const psg_real *x,
                            const psg_real *end)
{
    wino_turn(p->from, p->wide_from, p->height, p->width, p->shift[0], p->shift[1],
              p->m * p->columns + 2, x, end, p->image + g * p->n_image);
}

CPU_INLINE void wino_chunks(int m, const struct wino *p, int64_t n_tiles)
{
    for (int64_t t = 0; t < n_tiles; t += p->chunk) {
        int64_t n = n_tiles - t < p->chunk ? n_tiles - t : p->chunk;
        wino_input_tiles(m, p, t, n);
        wino_multiply(p, n);
        wino_output_tiles(m, p, t, n);
    }
}

static void wino_chunks_2(const struct wino *p, int64_t n_tiles)
{
    wino_chunks(2, p, n_tiles);
}

static void wino_chunks_4(const struct wino *p, int64_t n_tiles)
{
    wino_chunks(4, p, n_tiles);
}

static void wino_weights_2(const struct wino *p, bool turned, const psg_real *w)
{
    wino_weights(2, p, turned, w);
}

static void wino_weights_4(const struct wino *p, bool turned, const psg_real *w)
{
    wino_weights(4, p, turned, w);
}

static void wino_conv(const struct psg_conv *c, bool turned, int64_t n, const psg_real *x,
                      const psg_real *w, const psg_real *bias, psg_real *y, psg_real *scratch)
{
    struct wino p = wino_plan(c, turned ? WINO_BWD_DATA : WINO_CONV, scratch);
    int64_t n_in = p.from * p.height * p.width, n_out = p.to * p.out_height * p.out_width;
    memset(p.image, 0, (size_t)(p.group * p.n_image) * sizeof *p.image);
    (p.m == 2 ? wino_weights_2 : wino_weights_4)(&p, turned, w);
    for (int64_t s = 0; s < n; s += p.group) {
        int64_t images = n - s < p.group ? n - s : p.group;
        for (int64_t g = 0; g < images; g++)
            wino_turn_input(&p, g, x + (s + g) * n_in, x + n * n_in);
        (p.m == 2 ? wino_chunks_2 : wino_chunks_4)(&p, images * p.n_tiles);
        for (int64_t g = 0; g < images; g++)
            wino_turn_back(&p, p.result + g * p.n_result, bias, y + (s + g) * n_out);
    }
}

/* One sample whose images are turned. */
CPU_INLINE void wino_sample_gradient(int m, const struct wino *p, psg_real *dw)
{
    for (int64_t t = 0; t < p->n_tiles; t += p->chunk) {
        int64_t n = p->n_tiles - t < p->chunk ? p->n_tiles - t : p->chunk;
        wino_input_tiles(m, p, t, n);
        wino_gradient_tiles(m, p, t, n);
        for (int64_t co = 0; co < p->to;) {
            int mr = tile_rows(p->to - co);
            psg_real *u = p->u + (p->n_tiles > p->chunk ? co * p->wide_from : 0);
            wino_multiply_gradient(p, n, t > 0, co, mr, u);
            if (t + n == p->n_tiles)
                wino_gradient(m, p, mr, u, dw + co * p->from * 9);
            co += mr;
        }
    }
}

static void wino_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                            const psg_real *dy, psg_real *dw, int64_t stride, psg_real *scratch)
{
    struct wino p = wino_plan(c, WINO_BWD_WEIGHT, scratch);
    int64_t n_in = p.from * p.height * p.width, n_out = p.to * p.out_height * p.out_width;
    memset(p.image, 0, (size_t)(p.n_image + p.n_result) * sizeof *p.image);
    for (int64_t s = 0; s < n; s++) {
        wino_turn_input(&p, 0, x + s * n_in, x + n * n_in);
        wino_turn(p.to, p.wide_to, p.out_height, p.out_width, 0, 0, p.m * p.columns,
                  dy + s * n_out, dy + n * n_out, p.result);
        if (p.m == 2)
            wino_sample_gradient(2, &p, dw + s * stride);
        else
            wino_sample_gradient(4, &p, dw + s * stride);
    }
}

#endif
