/* bce_with_logits: term = w ((1 - t) x + (1 + (v - 1) t) softplus(-x)),
 * x the logit, t the target in [0, 1], w weight, v pos_weight (each 1, or a number per class
 * along the last axis).
 *
 *   d/dx = w ((1 - t) - (1 + (v - 1) t) (1 - sigmoid(x)))
 *   d/dt = w ((v - 1) softplus(-x) - x) */
#include "op/loss.h"
#include "op/ops.h"

enum { POS_WEIGHT, WEIGHT };

static const struct psg_attr_spec attrs[] = {
    LOSS_REDUCTION,
    { "pos_weight", PSG_ATTR_REALS, "1; one number, or one per class along the last axis" },
    { "weight", PSG_ATTR_REALS, "1; one number, or one per element along the last axis" },
    { NULL, 0, NULL },
};

/* y = 1 + (v - 1) t */
static void positive_factor(const struct loss *s, psg_real *y)
{
    if (!s->g->n_list[POS_WEIGHT]) {
        s->be->fill(s->n, 1, y);
        return;
    }
    loss_with_list(s, PSG_MUL, s->t, POS_WEIGHT, y);
    loss_binary(s, PSG_SUB, y, s->t, y);
    loss_number(s, PSG_ADD, y, 1, y);
}

static void bce_terms(const struct loss *s, psg_real *term, psg_real *dx, psg_real *dt)
{
    psg_real *soft = s->tmp[0], *factor = s->tmp[1], *rest = s->tmp[2];
    s->be->act(PSG_ACT_LOGSIGMOID, NULL, s->n, s->x, soft);
    loss_unary(s, PSG_NEG, soft, soft);
    positive_factor(s, factor);
    loss_unary(s, PSG_NEG, s->t, rest);
    loss_number(s, PSG_ADD, rest, 1, rest);
    loss_binary(s, PSG_MUL, rest, s->x, term);
    loss_binary(s, PSG_MUL, factor, soft, dt);
    loss_binary(s, PSG_ADD, term, dt, term);
    /* 1 - sigmoid(x) = sigmoid(-x) without cancellation */
    loss_unary(s, PSG_NEG, s->x, dx);
    loss_unary(s, PSG_SIGMOID, dx, dx);
    loss_binary(s, PSG_MUL, factor, dx, dx);
    loss_binary(s, PSG_SUB, rest, dx, dx);
    loss_unary(s, PSG_NEG, s->x, dt);
    if (s->g->n_list[POS_WEIGHT]) {
        loss_with_list(s, PSG_MUL, soft, POS_WEIGHT, rest);
        loss_binary(s, PSG_SUB, rest, soft, rest);
        loss_binary(s, PSG_ADD, dt, rest, dt);
    }
    if (s->g->n_list[WEIGHT]) {
        loss_with_list(s, PSG_MUL, term, WEIGHT, term);
        loss_with_list(s, PSG_MUL, dx, WEIGHT, dx);
        loss_with_list(s, PSG_MUL, dt, WEIGHT, dt);
    }
}

/* -w (v t log sigmoid(x) + (1 - t) log sigmoid(-x)) */
static psg_value bce_lower(struct psg_lower *l, const struct loss_geom *g, psg_value x,
                           psg_value t)
{
    psg_value one = psg_g_scalar(l->g, 1), zero = psg_g_scalar(l->g, 0);
    psg_value tail = psg_g_exp(l->g, psg_g_neg(l->g, psg_g_unary(l->g, PSG_ABS, x)));
    psg_value log1p = psg_g_unary(l->g, PSG_LOG1P, tail);
    psg_value positive = psg_g_binary(l->g, PSG_GT, x, zero);
    psg_value plus = psg_g_add(l->g, psg_g_select(l->g, positive, x, zero), log1p);
    psg_value minus = psg_g_sub(l->g, plus, x);
    psg_value yes = psg_g_mul(l->g, t, minus);
    psg_value no = psg_g_mul(l->g, psg_g_sub(l->g, one, t), plus);
    if (g->n_list[POS_WEIGHT])
        yes = psg_g_mul(l->g, yes, loss_list_lower(l, g, POS_WEIGHT));
    psg_value term = psg_g_add(l->g, yes, no);
    return g->n_list[WEIGHT] ? psg_g_mul(l->g, term, loss_list_lower(l, g, WEIGHT)) : term;
}

static int bce_with_logits_infer(struct psg_infer *c)
{
    if (loss_infer(c, 3, bce_terms, bce_lower) == 0) {
        loss_list(c, "pos_weight", POS_WEIGHT);
        loss_list(c, "weight", WEIGHT);
    }
    return psg_infer_status(c);
}

static const struct psg_op_case cases[] = {
    { "", "5 5" },
    { "", "- -" },
    { "reduction=sum pos_weight=1,3,0.5,2", "4 4" },
    { "pos_weight=1,2,3 weight=0.5,2,1.5", "2x3 2x3" },
    { NULL, NULL },
};

LOSS_OP(bce_with_logits, attrs, cases);
