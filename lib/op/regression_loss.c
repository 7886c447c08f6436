/* mse_loss, l1_loss, smooth_l1_loss, huber_loss: a term per element of d = output - target.
 *
 *   mse        d^2
 *   l1         |d|
 *   huber      c (d - c / 2), c = d clamped to [-delta, delta]; d term / dd = c
 *   smooth_l1  huber with delta = beta, divided by beta; beta = 0 is l1 */
#include "op/loss.h"
#include "op/ops.h"

static void mse_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *d = s->tmp[0];
    loss_binary(s, PSG_SUB, s->x, s->t, d);
    loss_binary(s, PSG_MUL, d, d, term);
    loss_binary(s, PSG_ADD, d, d, dx);
    loss_unary(s, PSG_NEG, dx, dt);
}

static void l1_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *d = s->tmp[0];
    loss_binary(s, PSG_SUB, s->x, s->t, d);
    loss_unary(s, PSG_ABS, d, term);
    loss_unary(s, PSG_SIGN, d, dx);
    loss_unary(s, PSG_NEG, dx, dt);
}

/* p[0] delta, p[1] divisor */
static void huber_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    double delta = s->g->p[0], divisor = s->g->p[1];
    psg_real *d = s->tmp[0];
    loss_binary(s, PSG_SUB, s->x, s->t, d);
    loss_number(s, PSG_MAX, d, -delta, dx);
    loss_number(s, PSG_MIN, dx, delta, dx);
    loss_number(s, PSG_MUL, dx, 0.5, term);
    loss_binary(s, PSG_SUB, d, term, term);
    loss_binary(s, PSG_MUL, dx, term, term);
    loss_number(s, PSG_DIV, term, divisor, term);
    loss_number(s, PSG_DIV, dx, divisor, dx);
    loss_unary(s, PSG_NEG, dx, dt);
}

static psg_value mse_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                           psg_value t)
{
    (void)g;
    psg_value d = psg_g_sub(l->g, x, t);
    return psg_g_mul(l->g, d, d);
}

static psg_value l1_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                          psg_value t)
{
    (void)g;
    return psg_g_unary(l->g, PSG_ABS, psg_g_sub(l->g, x, t));
}

/* by cases: 0.5 d^2 inside, delta (|d| - delta / 2) outside */
static psg_value huber_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                             psg_value t)
{
    double delta = g->p[0];
    psg_value a = psg_g_unary(l->g, PSG_ABS, psg_g_sub(l->g, x, t));
    psg_value in = psg_g_mul(l->g, psg_g_mul(l->g, a, a), psg_g_scalar(l->g, 0.5));
    psg_value out = psg_g_mul(l->g, psg_g_sub(l->g, a, psg_g_scalar(l->g, delta / 2)),
                              psg_g_scalar(l->g, delta));
    psg_value is_in = psg_g_binary(l->g, PSG_LT, a, psg_g_scalar(l->g, delta));
    return psg_g_div(l->g, psg_g_select(l->g, is_in, in, out), psg_g_scalar(l->g, g->p[1]));
}

static int mse_loss_infer(struct psg_infer *c)
{
    return loss_infer(c, 1, mse_terms, mse_lower);
}

static int l1_loss_infer(struct psg_infer *c)
{
    return loss_infer(c, 1, l1_terms, l1_lower);
}

static int smooth_l1_loss_infer(struct psg_infer *c)
{
    struct loss_geom *g = c->geom;
    g->p[0] = g->p[1] = psg_infer_real(c, "beta", 1, 0, 1e30);
    if (g->p[0] == 0)
        return l1_loss_infer(c);
    return loss_infer(c, 1, huber_terms, huber_lower);
}

static int huber_loss_infer(struct psg_infer *c)
{
    struct loss_geom *g = c->geom;
    g->p[0] = psg_infer_real(c, "delta", 1, 1e-30, 1e30);
    g->p[1] = 1;
    return loss_infer(c, 1, huber_terms, huber_lower);
}

static const struct psg_attr_spec plain_attrs[] = { LOSS_REDUCTION, { NULL, 0, NULL } };
static const struct psg_attr_spec beta_attrs[] = {
    LOSS_REDUCTION,
    { "beta", PSG_ATTR_REAL, "1; at least 0" },
    { NULL, 0, NULL },
};
static const struct psg_attr_spec delta_attrs[] = {
    LOSS_REDUCTION,
    { "delta", PSG_ATTR_REAL, "1; above 0" },
    { NULL, 0, NULL },
};

static const struct psg_op_case plain_cases[] = {
    { "", "5 5" },
    { "reduction=sum", "2x3 2x3" },
    { "", "- -" },
    { NULL, NULL },
};
static const struct psg_op_case beta_cases[] = {
    { "", "5 5" },
    { "reduction=sum beta=0.3", "2x3 2x3" },
    { "beta=0", "4 4" },
    { NULL, NULL },
};
static const struct psg_op_case delta_cases[] = {
    { "", "5 5" },
    { "reduction=sum delta=0.4", "2x3 2x3" },
    { NULL, NULL },
};

LOSS_OP(mse_loss, plain_attrs, plain_cases);
LOSS_OP(l1_loss, plain_attrs, plain_cases);
LOSS_OP(smooth_l1_loss, beta_attrs, beta_cases);
LOSS_OP(huber_loss, delta_attrs, delta_cases);
