/* Steps on a net of layers written as formulas, with tied and frozen parameters of their own: with
 * every kind of clipping and in every mode, what a step takes off the parameters is the clipped sum
 * of gradients that `ref` computes one sample at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "psg/expr.h"
#include "psg/train.h"
#include "suite.h"

enum { N = 9, STEPS = 3, PARAMS_MAX = 64 };

static struct psg_error err;

struct net {
    struct psg_program *p;
    double x[N][3], target[N][4];
    struct psg_column column[2];
    struct psg_key key;
    int64_t size;
};

static void ok(int r)
{
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
}

/* y = tanh(x w^T) * g + b: a matrix, a scale and a shift of its own */
static struct psg_expr *layer(void)
{
    static const char *const matrix[] = { "hidden", "size(x, -1)" }, *const row[] = { "hidden" };
    const struct psg_expr_init normal = { PSG_INIT_NORMAL, "0.7" }, one = { PSG_INIT_CONSTANT, "1" };
    struct psg_expr *e = psg_expr_new("squash");
    ok(psg_expr_input(e, "x", &err));
    ok(psg_expr_attr(e, "hidden", NULL, 1, false, &err));
    ok(psg_expr_param(e, "w", matrix, 2, &normal, &err));
    ok(psg_expr_param(e, "g", row, 1, &one, &err));
    ok(psg_expr_param(e, "b", row, 1, NULL, &err));
    ok(psg_expr_out(e, "tanh(x @ w.T) * g + b", &err));
    return e;
}

static struct psg_expr *loss(void)
{
    struct psg_expr *e = psg_expr_new("distance");
    ok(psg_expr_input(e, "y", &err));
    ok(psg_expr_input(e, "target", &err));
    ok(psg_expr_out(e, "sum((y - target) ** 2)", &err));
    return e;
}

static void destroy(void *e)
{
    psg_expr_free(e);
}

static psg_value add(struct net *n, struct psg_expr *e, const char *path, psg_value *in, int n_in,
                     bool hidden, const struct psg_param_use *use)
{
    psg_value out[8];
    struct psg_attrs *attrs = psg_attrs_new();
    if (hidden)
        ok(psg_attrs_int(attrs, "hidden", 4));
    ok(psg_program_add_op(n->p, psg_expr_op(e, &err), path, in, n_in, attrs, use, use ? 1 : 0, out,
                          NULL, &err));
    psg_attrs_free(attrs);
    return out[0];
}

/* a -> b -> c -> d; c has b's matrix, d has a's scale; b's shift and c's scale stay as they are */
static void net_open(struct net *n)
{
    static const struct psg_param_use matrix = { "w", "b.w" }, scale = { "g", "a.g" };
    psg_value v, in[2];
    memset(n, 0, sizeof *n);
    struct psg_expr *own = layer(), *end = loss();
    n->p = psg_program_new();
    ok(psg_program_input(n->p, "x", PSG_REAL, &PSG_SHAPE(3), &v, &err));
    ok(psg_program_input(n->p, "target", PSG_REAL, &PSG_SHAPE(4), &in[1], &err));
    v = add(n, own, "a", &v, 1, true, NULL);
    v = add(n, own, "b", &v, 1, true, NULL);
    v = add(n, own, "c", &v, 1, true, &matrix);
    v = add(n, own, "d", &v, 1, true, &scale);
    in[0] = v;
    ok(psg_program_set_loss(n->p, add(n, end, "loss", in, 2, false, NULL), &err));
    ok(psg_program_freeze(n->p, "b.b", &err));
    ok(psg_program_freeze(n->p, "c.g", &err));
    ok(psg_program_keep(n->p, own, destroy, &err));
    ok(psg_program_keep(n->p, end, destroy, &err));
    ok(psg_program_check(n->p, &err));
    n->size = psg_program_trainable_size(n->p);
    ck_assert_int_eq(n->size, 12 + 4 + 4 + 16 + 4 + 4 + 16 + 4);
    psg_key_from_seed(5, &n->key);
    for (int i = 0; i < N; i++) {
        double far = i % 3 == 0 ? 4 : 0.2; /* so that some are clipped and some are not */
        for (int k = 0; k < 3; k++)
            n->x[i][k] = sin(2 + 5 * i + k);
        for (int k = 0; k < 4; k++)
            n->target[i][k] = far * cos(3 * i + k);
    }
    n->column[0] = (struct psg_column){ .type = PSG_COL_F64, .data = n->x, .stride = 24 };
    n->column[1] = (struct psg_column){ .type = PSG_COL_F64, .data = n->target, .stride = 32 };
}

/* ---- the kinds ---- */
static const struct kind {
    enum psg_clipping clipping;
    double gamma;
    int n_groups; /* 0: one bound */
} kinds[] = {
    { PSG_CLIP_FLAT, 0, 0 },     { PSG_CLIP_PER_LAYER, 0, 8 }, { PSG_CLIP_PER_GROUP, 0, 3 },
    { PSG_CLIP_ADAPTIVE, 0, 0 }, { PSG_CLIP_AUTO_S, 0, 0 },    { PSG_CLIP_AUTO_S, 0.3, 0 },
    { PSG_CLIP_AUTO_V, 0, 0 },
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const double bounds[8] = { 0.9, 0.2, 0.5, 1.1, 0.3, 0.7, 0.4, 0.6 };

/* group[i] of parameter i, and how many there are */
static int groups_of(const struct net *n, const struct kind *k, int *group)
{
    int next = 0;
    for (int i = 0; i < psg_program_n_params(n->p); i++) {
        group[i] = 0;
        if (!psg_program_param(n->p, i)->trainable)
            continue;
        if (k->clipping == PSG_CLIP_PER_LAYER)
            group[i] = next++;
        else if (k->clipping == PSG_CLIP_PER_GROUP)
            group[i] = i % 3;
    }
    return k->n_groups ? k->n_groups : 1;
}

static double factor(const struct kind *k, double bound, double norm)
{
    switch (k->clipping) {
    case PSG_CLIP_AUTO_S: return bound / (norm + (k->gamma > 0 ? k->gamma : 0.01));
    case PSG_CLIP_AUTO_V: return bound / norm;
    default: return fmin(1, bound / (norm + 1e-6));
    }
}

/* sum[size] from rows that ref makes one sample at a time, by the definition of the kind */
static int reference(struct net *n, const struct kind *k, const psg_real *params, double bound,
                     double *sum)
{
    struct psg_plan_options o = { .mode = PSG_MODE_HOOKS, .backend = psg_backend_ref(), .tile = 1 };
    struct psg_records records = { .n = N, .column = n->column, .key = &n->key };
    psg_real rows[N * PARAMS_MAX];
    struct psg_grad_out out = { .rows = rows };
    struct psg_plan *plan = NULL;
    int group[16], n_groups = groups_of(n, k, group), n_clipped = 0;
    ok(psg_plan_new(n->p, &o, &plan, &err));
    ok(psg_grad_sample(plan, params, &records, &out, &err));
    psg_plan_free(plan);
    memset(sum, 0, (size_t)n->size * sizeof *sum);
    for (int i = 0; i < N; i++)
        for (int g = 0; g < n_groups; g++) {
            double sq = 0;
            for (int pass = 0; pass < 2; pass++) {
                double c = pass ? factor(k, k->n_groups ? bounds[g] : bound, sqrt(sq)) : 0;
                n_clipped += pass && c < 1;
                for (int p = 0; p < psg_program_n_params(n->p); p++) {
                    const struct psg_param_info *info = psg_program_param(n->p, p);
                    if (!info->trainable || group[p] != g)
                        continue;
                    for (int64_t j = info->offset; j < info->offset + info->size; j++) {
                        double v = (double)rows[i * n->size + j];
                        sq += pass ? 0 : v * v;
                        sum[j] += c * v;
                    }
                }
            }
        }
    return n_clipped;
}

static struct psg_trainer *open_trainer(const struct net *n, const struct kind *k,
                                        enum psg_mode mode, const int *group)
{
    bool per_group = k->clipping == PSG_CLIP_PER_GROUP, adaptive = k->clipping == PSG_CLIP_ADAPTIVE;
    struct psg_train_options o = {
        .plan = { .mode = mode, .tile = 4, .n_threads = 2, .group = per_group ? group : NULL,
                  .n_groups = per_group ? k->n_groups : 0 },
        .is_private = true,
        .clipping = k->clipping,
        .max_grad_norm = { .initial = 0.8 },
        .noise_multiplier = { .initial = adaptive ? 1e-12 : 0 },
        .group_norm = k->n_groups ? bounds : NULL,
        .n_group_norm = k->n_groups,
        .adaptive = { .bound = 0.8, .quantile = 0.5, .learning_rate = 0.4, .count_stddev = 0.1,
                      .expected_batch_size = N, .min_bound = 1e-3, .max_bound = 1e3 },
        .auto_gamma = k->gamma,
        .batch_size = N,
        .expected_batch_size = N,
        .sum_reduction = true,
        .optimizer = { .kind = PSG_SGD },
        .lr = { .initial = 0.05 },
    };
    struct psg_trainer *t = NULL;
    ok(psg_trainer_new(n->p, &o, n->column, N, &n->key, &t, &err));
    return t;
}

START_TEST(a_step_is_the_clipped_sum_in_every_mode)
{
    const struct kind *k = &kinds[_i % N_KINDS];
    enum psg_mode mode = (enum psg_mode)(_i / N_KINDS);
    struct net n;
    net_open(&n);
    int group[16], n_clipped = 0;
    groups_of(&n, k, group);
    struct psg_trainer *t = open_trainer(&n, k, mode, group);
    int64_t n_params = psg_program_param_size(n.p);
    psg_real before[PARAMS_MAX + 16];
    double sum[PARAMS_MAX], bound = 0.8;
    ck_assert_int_le(n_params, PARAMS_MAX + 16);
    for (int step = 0; step < STEPS; step++) {
        struct psg_step_report report;
        if (k->clipping == PSG_CLIP_ADAPTIVE)
            bound = psg_trainer_state(t).adaptive_bound;
        memcpy(before, psg_trainer_params(t), (size_t)n_params * sizeof *before);
        n_clipped += reference(&n, k, before, bound, sum);
        ok(psg_trainer_step(t, &report, &err));
        ck_assert_int_eq(report.exact.n, N);
        const psg_real *after = psg_trainer_params(t);
        for (int64_t j = 0; j < n.size; j++) {
            double took = ((double)before[j] - (double)after[j]) / 0.05;
            ck_assert_msg(fabs(took - sum[j]) <= 1e-9 * (1 + fabs(sum[j])),
                          "step %d, coordinate %d: %.12g instead of %.12g", step, (int)j, took,
                          sum[j]);
        }
        ck_assert_mem_eq(before + n.size, after + n.size,
                         (size_t)(n_params - n.size) * sizeof *before);
    }
    if (k->clipping == PSG_CLIP_ADAPTIVE)
        ck_assert_double_gt(fabs(psg_trainer_state(t).adaptive_bound - 0.8), 1e-3);
    ck_assert_int_gt(n_clipped, 0);
    psg_trainer_free(t);
    psg_program_free(n.p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("own_clip");
    TCase *tc = tcase_create("own_clip");
    tcase_add_loop_test(tc, a_step_is_the_clipped_sum_in_every_mode, 0,
                        N_KINDS * PSG_MODE_COUNT);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
