#include "op/role.h"

void role_declare_room(struct psg_infer *c, enum role_kind kind, int64_t rows, int64_t in,
                       int64_t out)
{
    int64_t fixed, per_sample;
    if (kind != ROLE_DENSE) {
        psg_infer_scratch(c, 0, OP_PROD(c, rows + 1, out));
        return;
    }
    OP_PROD(c, 2, rows, rows);
    OP_PROD(c, rows + 1, in + out);
    OP_PROD(c, in, out);
    if (psg_infer_status(c))
        return;
    dense_norm_scratch(rows, in, out, &fixed, &per_sample);
    psg_infer_scratch(c, fixed, per_sample);
    psg_infer_scratch(c, 0, dense_sum_scratch(rows, in, out));
}

/* y = dy x, elementwise */
static void product(const struct psg_call *c, const struct role *r, psg_real *y)
{
    op_binary(c->be, PSG_MUL, c->n * r->rows * r->out, r->dy, r->x, y);
}

void roles_grad_sample(const struct psg_call *c, const struct role *r, int n_roles)
{
    for (int k = 0; k < n_roles; k++, r++) {
        const psg_real *terms = r->dy;
        if (!c->grad[r->param])
            continue;
        psg_real *g = c->grad[r->param] + r->at;
        if (r->kind == ROLE_DENSE) {
            dense_grad(c->be, c->n, r->rows, r->in, r->out, r->x, r->dy, g, c->grad_stride);
            continue;
        }
        if (r->kind == ROLE_SCALE) {
            product(c, r, c->scratch);
            terms = c->scratch;
        }
        c->be->sum_rows(c->n, r->rows, r->out, terms, g, c->grad_stride);
    }
}

/* terms of a bias or scale in scratch, and the room behind them */
static const psg_real *terms_of(const struct psg_call *c, const struct role *r,
                                psg_real **rest)
{
    *rest = c->scratch;
    if (r->kind == ROLE_BIAS)
        return r->dy;
    product(c, r, c->scratch);
    *rest = c->scratch + c->n * r->rows * r->out;
    return c->scratch;
}

void roles_norm_sample(const struct psg_call *c, const struct role *r, int n_roles)
{
    psg_real *rest;
    for (int k = 0; k < n_roles; k++, r++) {
        if (!c->use[r->param])
            continue;
        if (r->kind == ROLE_DENSE) {
            dense_norm(c->be, c->n, r->rows, r->in, r->out, r->x, r->dy, c->scratch, c->sq);
            continue;
        }
        const psg_real *terms = terms_of(c, r, &rest);
        dense_bias_norm(c->be, c->n, r->rows, r->out, terms, rest, c->sq);
    }
}

void roles_clipped_sum(const struct psg_call *c, const struct role *r, int n_roles)
{
    psg_real *rest;
    for (int k = 0; k < n_roles; k++, r++) {
        if (!c->sum[r->param])
            continue;
        psg_real *sum = c->sum[r->param] + r->at;
        if (r->kind == ROLE_DENSE) {
            dense_sum(c->be, c->n, r->rows, r->in, r->out, c->weight, r->x, r->dy,
                      c->scratch, sum);
            continue;
        }
        const psg_real *terms = terms_of(c, r, &rest);
        dense_bias_sum(c->be, c->n, r->rows, r->out, c->weight, terms, rest, sum);
    }
}
