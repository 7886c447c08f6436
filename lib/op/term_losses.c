/* poisson_nll_loss, kl_div, hinge_embedding_loss, soft_margin_loss: a term per element.
 *
 *   poisson  log_input: exp(x) - t x; else x - t log(x + eps); full adds, where t > 1,
 *            Stirling's t log t - t + log(2 pi t) / 2
 *   kl_div   x log-probabilities: t (log t - x), 0 where t = 0; log_target: exp(t) (t - x)
 *   hinge_embedding  t = 1: x; else max(0, margin - x)
 *   soft_margin      log(1 + exp(-t x)) */
#include <math.h>

#include "op/loss.h"
#include "op/ops.h"

/* ---- poisson_nll_loss: flag log_input, full; p[0] eps ---- */
static void add_stirling(const struct loss *s, psg_real *term, psg_real *dt)
{
    psg_real *t = s->tmp[0], *log_t = s->tmp[1], *more = s->tmp[2];
    /* max(t, 1) keeps the logarithm away from 0; its value does not count there */
    loss_number(s, PSG_MAX, s->t, 1, t);
    loss_unary(s, PSG_LOG, t, log_t);
    loss_number(s, PSG_ADD, t, 0.5, more);
    loss_binary(s, PSG_MUL, more, log_t, more);
    loss_binary(s, PSG_SUB, more, t, more);
    loss_number(s, PSG_ADD, more, 0.5 * log(2 * M_PI), more);
    loss_unary(s, PSG_RECIP, t, t);
    loss_number(s, PSG_MUL, t, 0.5, t);
    loss_binary(s, PSG_ADD, log_t, t, log_t);
    loss_number(s, PSG_GT, s->t, 1, t);
    loss_binary(s, PSG_MUL, more, t, more);
    loss_binary(s, PSG_MUL, log_t, t, log_t);
    loss_binary(s, PSG_ADD, term, more, term);
    loss_binary(s, PSG_ADD, dt, log_t, dt);
}

static void poisson_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *a = s->tmp[0], *b = s->tmp[1];
    if (s->g->flag[0]) {
        loss_unary(s, PSG_EXP, s->x, a);
        loss_binary(s, PSG_SUB, a, s->t, dx);
        loss_unary(s, PSG_NEG, s->x, dt);
    } else {
        loss_number(s, PSG_ADD, s->x, s->g->p[0], b);
        loss_binary(s, PSG_DIV, s->t, b, dx);
        loss_unary(s, PSG_NEG, dx, dx);
        loss_number(s, PSG_ADD, dx, 1, dx);
        loss_unary(s, PSG_LOG, b, dt);
        loss_unary(s, PSG_NEG, dt, dt);
        loss_number(s, PSG_ADD, s->x, 0, a);
    }
    loss_binary(s, PSG_MUL, s->t, dt, term);
    loss_binary(s, PSG_ADD, term, a, term);
    if (s->g->flag[1])
        add_stirling(s, term, dt);
}

static psg_value poisson_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                               psg_value t)
{
    psg_value log_rate = x, rate = x, one = psg_g_scalar(l->g, 1);
    if (g->flag[0])
        rate = psg_g_exp(l->g, x);
    else
        log_rate = psg_g_log(l->g, psg_g_add(l->g, x, psg_g_scalar(l->g, g->p[0])));
    psg_value term = psg_g_sub(l->g, rate, psg_g_mul(l->g, t, log_rate));
    if (!g->flag[1])
        return term;
    psg_value large = psg_g_binary(l->g, PSG_GT, t, one);
    psg_value safe = psg_g_select(l->g, large, t, one);
    psg_value tail = psg_g_log(l->g, psg_g_mul(l->g, safe, psg_g_scalar(l->g, 2 * M_PI)));
    psg_value sum = psg_g_sub(l->g, psg_g_mul(l->g, safe, psg_g_log(l->g, safe)), safe);
    sum = psg_g_add(l->g, sum, psg_g_mul(l->g, tail, psg_g_scalar(l->g, 0.5)));
    return psg_g_add(l->g, term, psg_g_select(l->g, large, sum, psg_g_scalar(l->g, 0)));
}

static int poisson_nll_loss_infer(struct psg_infer *c)
{
    struct loss_geom *g = c->geom;
    g->flag[0] = psg_infer_bool(c, "log_input", true);
    g->flag[1] = psg_infer_bool(c, "full", false);
    g->p[0] = psg_infer_real(c, "eps", 1e-8, 0, 1e30);
    return loss_infer(c, 3, poisson_terms, poisson_lower);
}

/* ---- kl_div: flag log_target ---- */
static void kl_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *a = s->tmp[0], *log_t = s->tmp[1], *positive = s->tmp[2];
    if (s->g->flag[0]) {
        loss_unary(s, PSG_EXP, s->t, a);
        loss_binary(s, PSG_SUB, s->t, s->x, log_t);
        loss_binary(s, PSG_MUL, a, log_t, term);
        loss_unary(s, PSG_NEG, a, dx);
        loss_binary(s, PSG_ADD, term, a, dt);
        return;
    }
    loss_number(s, PSG_GT, s->t, 0, positive);
    s->be->fill(s->n, 1, a);
    s->be->select(s->n, positive, s->t, a, a);
    loss_unary(s, PSG_LOG, a, log_t);
    loss_binary(s, PSG_SUB, log_t, s->x, dt);
    loss_binary(s, PSG_MUL, s->t, dt, term);
    loss_binary(s, PSG_ADD, dt, positive, dt);
    loss_unary(s, PSG_NEG, s->t, dx);
}

static psg_value kl_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                          psg_value t)
{
    if (g->flag[0])
        return psg_g_mul(l->g, psg_g_exp(l->g, t), psg_g_sub(l->g, t, x));
    psg_value positive = psg_g_binary(l->g, PSG_GT, t, psg_g_scalar(l->g, 0));
    psg_value safe = psg_g_select(l->g, positive, t, psg_g_scalar(l->g, 1));
    psg_value entropy = psg_g_mul(l->g, t, psg_g_log(l->g, safe));
    return psg_g_sub(l->g, entropy, psg_g_mul(l->g, t, x));
}

static int kl_div_infer(struct psg_infer *c)
{
    struct loss_geom *g = c->geom;
    g->flag[0] = psg_infer_bool(c, "log_target", false);
    return loss_infer(c, 3, kl_terms, kl_lower);
}

/* ---- hinge_embedding_loss: p[0] margin; targets 1 and -1 ---- */
static void hinge_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *is_one = s->tmp[0], *gap = s->tmp[1], *open = s->tmp[2];
    loss_number(s, PSG_EQ, s->t, 1, is_one);
    loss_unary(s, PSG_NEG, s->x, gap);
    loss_number(s, PSG_ADD, gap, s->g->p[0], gap);
    loss_number(s, PSG_GT, gap, 0, open);
    loss_number(s, PSG_MAX, gap, 0, gap);
    s->be->select(s->n, is_one, s->x, gap, term);
    loss_unary(s, PSG_NEG, open, open);
    s->be->select(s->n, is_one, is_one, open, dx);
    s->be->fill(s->n, 0, dt);
}

static psg_value hinge_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                             psg_value t)
{
    psg_value zero = psg_g_scalar(l->g, 0);
    psg_value gap = psg_g_sub(l->g, psg_g_scalar(l->g, g->p[0]), x);
    psg_value open = psg_g_select(l->g, psg_g_binary(l->g, PSG_GT, gap, zero), gap, zero);
    return psg_g_select(l->g, psg_g_binary(l->g, PSG_EQ, t, psg_g_scalar(l->g, 1)), x,
                        open);
}

static int hinge_embedding_loss_infer(struct psg_infer *c)
{
    struct loss_geom *g = c->geom;
    g->p[0] = psg_infer_real(c, "margin", 1, -1e30, 1e30);
    return loss_infer(c, 3, hinge_terms, hinge_lower);
}

/* ---- soft_margin_loss ---- */
static void soft_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *z = s->tmp[0];
    loss_binary(s, PSG_MUL, s->x, s->t, z);
    s->be->act(PSG_ACT_LOGSIGMOID, NULL, s->n, z, term);
    loss_unary(s, PSG_NEG, term, term);
    loss_unary(s, PSG_NEG, z, z);
    loss_unary(s, PSG_SIGMOID, z, z);
    loss_unary(s, PSG_NEG, z, z);
    loss_binary(s, PSG_MUL, z, s->t, dx);
    loss_binary(s, PSG_MUL, z, s->x, dt);
}

static psg_value soft_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                            psg_value t)
{
    (void)g;
    psg_value z = psg_g_neg(l->g, psg_g_mul(l->g, x, t)), zero = psg_g_scalar(l->g, 0);
    psg_value tail = psg_g_exp(l->g, psg_g_neg(l->g, psg_g_unary(l->g, PSG_ABS, z)));
    psg_value top = psg_g_select(l->g, psg_g_binary(l->g, PSG_GT, z, zero), z, zero);
    return psg_g_add(l->g, top, psg_g_unary(l->g, PSG_LOG1P, tail));
}

static int soft_margin_loss_infer(struct psg_infer *c)
{
    return loss_infer(c, 1, soft_terms, soft_lower);
}

static const struct psg_attr_spec poisson_attrs[] = {
    LOSS_REDUCTION,
    { "log_input", PSG_ATTR_BOOL, "true; false: the output is the rate itself" },
    { "full", PSG_ATTR_BOOL, "false; true adds Stirling's approximation of log(t!)" },
    { "eps", PSG_ATTR_REAL, "1e-8; keeps the logarithm finite without log_input" },
    { NULL, 0, NULL },
};
static const struct psg_attr_spec kl_attrs[] = {
    LOSS_REDUCTION,
    { "log_target", PSG_ATTR_BOOL, "false; true: targets are log-probabilities" },
    { NULL, 0, NULL },
};
static const struct psg_attr_spec hinge_attrs[] = {
    LOSS_REDUCTION,
    { "margin", PSG_ATTR_REAL, "1" },
    { NULL, 0, NULL },
};
static const struct psg_attr_spec plain_attrs[] = { LOSS_REDUCTION, { NULL, 0, NULL } };

static const struct psg_op_case poisson_cases[] = {
    { "", "5 +5" },
    { "full=true reduction=sum", "2x3 +2x3" },
    { "log_input=false full=true", "+4 +4" },
    { NULL, NULL },
};
static const struct psg_op_case kl_cases[] = {
    { "", "5 +5" },
    { "log_target=true reduction=sum", "2x3 2x3" },
    { "reduction=batchmean", "4 +4" },
    { NULL, NULL },
};
static const struct psg_op_case hinge_cases[] = {
    { "", "5 5" },
    { "margin=0.5 reduction=sum", "2x3 2x3" },
    { NULL, NULL },
};
static const struct psg_op_case plain_cases[] = {
    { "", "5 5" },
    { "reduction=sum", "2x3 2x3" },
    { NULL, NULL },
};

LOSS_OP(poisson_nll_loss, poisson_attrs, poisson_cases);
LOSS_OP(kl_div, kl_attrs, kl_cases);
LOSS_OP(hinge_embedding_loss, hinge_attrs, hinge_cases);
LOSS_OP(soft_margin_loss, plain_attrs, plain_cases);
