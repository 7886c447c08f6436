/* Rules of recurrent layers, after prepare: each weight is a dense layer over T rows of a
 * sample, kept time first. Formulas: recurrent.c. */
#include "op/recurrent.h"

/* What one parameter's gradient is made of: dw[n] = sum_t dy[t, n] x[t, n]. */
struct part {
    const psg_real *x, *dy; /* [T, N, in], [T, N, out]; x NULL: a bias */
    int64_t in, out;
};

static struct part part_of(const struct rnn_unit *u, int k)
{
    const struct rnn_geom *g = u->g;
    int64_t gh = g->gates * g->h;
    if (g->proj && k == rnn_w_hr(g))
        return (struct part){ u->raw, u->dproj, g->h, g->ho };
    switch (k) {
    case 0: return (struct part){ u->x, u->gates, u->in, gh };
    case 1: return (struct part){ rnn_h_before(u), rnn_from_h(u), g->ho, gh };
    case 2: return (struct part){ NULL, u->gates, 0, gh };
    default: return (struct part){ NULL, rnn_from_h(u), 0, gh };
    }
}

/* Gram matrices x x^T and dy dy^T cost less than dw. */
static bool gram_is_cheaper(const struct rnn_geom *g, const struct part *p)
{
    return (double)g->t * ((double)p->in + (double)p->out) <=
           (double)p->in * (double)p->out;
}

static void declare_part(struct psg_infer *c, const struct rnn_geom *g, int64_t in,
                         int64_t out)
{
    struct part p = { .in = in, .out = out };
    bool gram = gram_is_cheaper(g, &p);
    psg_infer_scratch(c, gram ? 0 : in * out, gram ? 2 * g->t * g->t + 1 : 0);
    psg_infer_scratch(c, 0, out);
    psg_infer_scratch(c, out, g->t * (in + out + 2));
}

void rnn_declare_rules(struct psg_infer *c, const struct rnn_geom *g)
{
    int64_t gh = g->gates * g->h;
    declare_part(c, g, g->i, gh);
    declare_part(c, g, g->dirs * g->ho, gh);
    declare_part(c, g, g->ho, gh);
    declare_part(c, g, g->h, g->ho);
}

/* row n at to + n * stride: dw of sample n, of samples `from` to `from` + n */
static void part_grad(const struct rnn_unit *u, const struct part *p, int64_t from,
                      int64_t n, psg_real *to, int64_t stride)
{
    int64_t all = u->c->n;
    struct psg_gemm m = { .trans_a = true,
                          .m = p->out,
                          .n = p->in,
                          .k = u->g->t,
                          .lda = all * p->out,
                          .ldb = all * p->in,
                          .ldc = p->in,
                          .alpha = 1 };
    u->c->be->gemm_batched(&m, n, p->dy + from * p->out, p->out, p->x + from * p->in, p->in,
                           to, stride);
}

/* db [N, out] = sum_t dy */
static void bias_grad(const struct rnn_unit *u, const struct part *p, psg_real *db)
{
    int64_t row = u->c->n * p->out;
    u->c->be->sum_rows(1, u->g->t, row, p->dy, db, row);
}

void rnn_grad_sample(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    int each = rnn_n_param(g), n_params = g->layers * g->dirs * each;
    for (int r = 0; r < n_params; r++) {
        struct rnn_unit u = rnn_unit_of(c, r / each / g->dirs, r / each % g->dirs);
        struct part p = part_of(&u, r % each);
        if (!c->grad[r])
            continue;
        if (p.x) {
            part_grad(&u, &p, 0, c->n, c->grad[r], c->grad_stride);
            continue;
        }
        bias_grad(&u, &p, c->scratch);
        op_copy_rows(c->be, c->n, p.out, c->scratch, p.out, c->grad[r], c->grad_stride);
    }
}

/* y [N, T, T] = x x^T of each sample; x [T, N, d] */
static void gram(const struct rnn_unit *u, int64_t d, const psg_real *x, psg_real *y)
{
    int64_t t = u->g->t, n = u->c->n;
    struct psg_gemm m = { .trans_b = true,
                          .m = t,
                          .n = t,
                          .k = d,
                          .lda = n * d,
                          .ldb = n * d,
                          .ldc = t,
                          .alpha = 1 };
    u->c->be->gemm_batched(&m, n, x, d, x, d, y, t * t);
}

static void part_norm(const struct rnn_unit *u, const struct part *p, psg_real *scratch,
                      double *sq)
{
    const struct psg_backend *be = u->c->be;
    int64_t n = u->c->n, square = u->g->t * u->g->t, size = p->in * p->out;
    if (!p->x) {
        bias_grad(u, p, scratch);
        be->add_sqnorm(n, p->out, scratch, p->out, sq);
        return;
    }
    if (gram_is_cheaper(u->g, p)) {
        psg_real *a = scratch, *b = a + n * square;
        gram(u, p->in, p->x, a);
        gram(u, p->out, p->dy, b);
        gram_norm(be, n, square, a, b, b + n * square, sq);
        return;
    }
    for (int64_t k = 0; k < n; k++) {
        part_grad(u, p, k, 1, scratch, size);
        be->add_sqnorm(1, size, scratch, size, sq + k);
    }
}

void rnn_norm_sample(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    int each = rnn_n_param(g), n_params = g->layers * g->dirs * each;
    for (int r = 0; r < n_params; r++) {
        struct rnn_unit u = rnn_unit_of(c, r / each / g->dirs, r / each % g->dirs);
        struct part p = part_of(&u, r % each);
        if (c->use[r] && c->n > 0)
            part_norm(&u, &p, c->scratch, c->sq);
    }
}

/* ---- clipped sum: one product over all T N rows ---- */
struct sum_room {
    psg_real *weight, *mask; /* [T, N] */
    psg_real *bias;          /* [out] */
    psg_real *dy, *x;        /* [T, N, out], [T, N, in]; weighted, kept */
    const psg_real *dy_of;   /* what dy is the weighted copy of */
};

static struct sum_room sum_room_of(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    int64_t rows = g->t * c->n;
    struct sum_room s = { .weight = c->scratch, .mask = c->scratch + rows };
    struct psg_shape shape = PSG_SHAPE(g->t, c->n);
    s.bias = s.mask + rows;
    c->be->copy(&shape, sizeof(psg_real), c->weight, (const int64_t[]){ 0, 1 }, s.weight,
                (const int64_t[]){ c->n, 1 });
    return s;
}

static void part_sum(const struct rnn_unit *u, const struct part *p, struct sum_room *s,
                     psg_real *sum)
{
    const struct psg_backend *be = u->c->be;
    int64_t rows = u->g->t * u->c->n;
    s->dy = s->bias + p->out;
    s->x = s->dy + rows * p->out;
    if (s->dy_of != p->dy)
        op_scale_rows(be, rows, p->out, s->weight, p->dy, s->dy);
    s->dy_of = p->dy;
    if (!p->x) {
        be->sum_rows(1, rows, p->out, s->dy, s->bias, p->out);
        be->axpy(p->out, 1, s->bias, sum);
        return;
    }
    op_keep_rows(be, rows, p->in, s->weight, p->x, s->mask, s->x);
    struct psg_gemm m = { .trans_a = true,
                          .m = p->out,
                          .n = p->in,
                          .k = rows,
                          .lda = p->out,
                          .ldb = p->in,
                          .ldc = p->in,
                          .alpha = 1,
                          .beta = 1 };
    be->gemm(&m, s->dy, s->x, sum);
}

void rnn_clipped_sum(const struct psg_call *c)
{
    const struct rnn_geom *g = c->geom;
    int each = rnn_n_param(g), n_params = g->layers * g->dirs * each;
    struct sum_room s = sum_room_of(c);
    for (int r = 0; r < n_params; r++) {
        struct rnn_unit u = rnn_unit_of(c, r / each / g->dirs, r / each % g->dirs);
        struct part p = part_of(&u, r % each);
        if (c->sum[r] && c->n > 0)
            part_sum(&u, &p, &s, c->sum[r]);
    }
}
