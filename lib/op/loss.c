#include "op/loss.h"

const char *const loss_inputs[] = { "output", "target", NULL };

int loss_infer(struct psg_infer *c, int n_tmp,
               void (*terms)(const struct loss *, psg_real *, psg_real *, psg_real *),
               psg_value (*lower)(struct psg_lower *, const struct loss_geom *, psg_value,
                                  psg_value))
{
    struct loss_geom *g = c->geom;
    const struct psg_shape *shape = &c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "output") ||
        !op_need_dtype(c, 1, PSG_REAL, "target"))
        return psg_infer_status(c);
    char text[120];
    if (!psg_shape_equal(shape, &c->in[1].shape))
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "the target must have the output's shape %s; losses never "
                              "broadcast",
                              psg_shape_text(shape, text, sizeof text));
    g->terms = terms;
    g->lower = lower;
    g->n_tmp = n_tmp;
    g->size = psg_shape_size(shape);
    g->last = shape->rank > 0 ? shape->dim[shape->rank - 1] : 1;
    /* batchmean divides a batch by its size: nothing to do for one sample */
    bool mean = psg_infer_choice(c, "reduction", "mean", "mean|sum|batchmean") == 0;
    g->scale = !mean ? 1 : g->size > 0 ? 1 / (double)g->size : 0;
    op_out(c, (struct psg_shape){ 0 });
    psg_infer_save(c, OP_PROD(c, 2, g->size), 0);
    psg_infer_scratch(c, 1 + g->last, OP_PROD(c, n_tmp + 1, g->size) + 1);
    return psg_infer_status(c);
}

void loss_list(struct psg_infer *c, const char *name, int which)
{
    struct loss_geom *g = c->geom;
    if (psg_infer_status(c))
        return;
    int n = psg_infer_real_list(c, name, OP_LIST_MAX, g->list[which]);
    if (n > 1 && n != g->last)
        psg_infer_fail(c, PSG_E_SHAPE, name, "%d numbers for a last axis of %lld", n,
                       (long long)g->last);
    if (n == 0 && psg_infer_has(c, name))
        psg_infer_fail(c, PSG_E_INVALID, name, "%s is empty", name);
    g->n_list[which] = n > 0 ? n : 0;
}

void loss_binary(const struct loss *s, enum psg_binary f, const psg_real *a,
                 const psg_real *b, psg_real *y)
{
    op_binary(s->be, f, s->n, a, b, y);
}

void loss_number(const struct loss *s, enum psg_binary f, const psg_real *a, double b,
                 psg_real *y)
{
    s->be->fill(1, (psg_real)b, s->constant);
    op_binary_scalar(s->be, f, s->n, a, s->constant, y);
}

void loss_unary(const struct loss *s, enum psg_unary f, const psg_real *x, psg_real *y)
{
    s->be->unary(f, s->n, x, y);
}

void loss_with_list(const struct loss *s, enum psg_binary f, const psg_real *a, int which,
                    psg_real *y)
{
    const struct loss_geom *g = s->g;
    int n = g->n_list[which];
    if (n == 1) {
        loss_number(s, f, a, g->list[which][0], y);
        return;
    }
    op_fill_list(s->be, n, g->list[which], s->row);
    op_binary_cols(s->be, f, g->last > 0 ? s->n / g->last : 0, g->last, a, s->row, y);
}

psg_value loss_list_lower(struct psg_lower *l, const struct loss_geom *g, int which)
{
    if (g->n_list[which] == 1)
        return psg_g_scalar(l->g, g->list[which][0]);
    return op_g_list(l, g->n_list[which], g->list[which]);
}

void loss_forward(const struct psg_call *c)
{
    const struct loss_geom *g = c->geom;
    struct loss s = { .be = c->be,
                      .g = g,
                      .n = c->n * g->size,
                      .x = op_in(c, 0),
                      .t = op_in(c, 1),
                      .constant = c->scratch,
                      .row = c->scratch + 1 };
    psg_real *terms = s.row + g->last, *sums = terms + s.n * (g->n_tmp + 1);
    for (int i = 0; i < g->n_tmp; i++)
        s.tmp[i] = terms + s.n * (i + 1);
    g->terms(&s, terms, c->saved, c->saved + s.n);
    c->be->sum_rows(c->n, g->size, 1, terms, sums, 1);
    op_scale(c->be, c->n, g->scale, sums, c->out[0]);
}

void loss_backward(const struct psg_call *c)
{
    const struct loss_geom *g = c->geom;
    psg_real *scaled = c->scratch;
    op_scale(c->be, c->n, g->scale, c->dout[0], scaled);
    for (int i = 0; i < 2; i++)
        if (op_wants_din(c, i))
            op_binary_rows(c->be, PSG_MUL, c->n, g->size, c->saved + i * c->n * g->size,
                           scaled, c->din[i]);
}

void loss_lower(struct psg_lower *l)
{
    const struct loss_geom *g = l->geom;
    psg_value terms = g->lower(l, g, l->in[0], l->in[1]);
    unsigned axes = (1u << l->in_type[0].shape.rank) - 1;
    l->out[0] = psg_g_mul(l->g, psg_g_sum(l->g, terms, axes), psg_g_scalar(l->g, g->scale));
}
