/* bf16 activations. The reference is the same net in float32 with every layer but the last wrapped
 * in an op that rounds what the layer makes and saves through bf16: the plan must give its
 * gradients, norms, losses and sums. A bound derived by hand says how far from float32 that may
 * lie. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "net_data.h"
#include "program/program.h"
#include "suite.h"

/* ---- a layer whose numbers are rounded ---- */
struct wrapped {
    struct psg_op op;
    const struct psg_op *of;
};

/* in front of the geometry of the layer itself */
struct head {
    _Alignas(16) const struct psg_op *of;
    int n_out;
    int64_t out[8], saved;
};

static int wrapped_infer(struct psg_infer *c)
{
    const struct wrapped *w = (const struct wrapped *)psg_infer_op(c);
    struct head *h = c->geom;
    struct psg_infer inner = *c;
    inner.geom = h + 1;
    inner.state->op = w->of;
    int r = w->of->infer(&inner);
    inner.state->op = &w->op;
    h->of = w->of;
    h->n_out = c->state->n_outs;
    h->saved = c->state->save_real;
    for (int j = 0; r == 0 && j < h->n_out; j++)
        h->out[j] = c->state->outs[j].dtype == PSG_REAL
                        ? psg_shape_size(&c->state->outs[j].shape)
                        : 0;
    return r;
}

static const struct psg_op *inside(const struct psg_call *c, struct psg_call *inner)
{
    const struct head *h = c->geom;
    *inner = *c;
    inner->geom = h + 1;
    return h->of;
}

static void through_bf16(int64_t n, psg_real *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_to_real(bf16_from_real(x[i]));
}

static void wrapped_forward(const struct psg_call *c)
{
    const struct head *h = c->geom;
    struct psg_call inner;
    inside(c, &inner)->forward(&inner);
    if (!c->training)
        return;
    for (int j = 0; j < h->n_out; j++)
        through_bf16(c->n * h->out[j], c->out[j]);
    through_bf16(c->n * h->saved, c->saved);
}

#define PASS_ON(rule)                                                                          \
    static void wrapped_##rule(const struct psg_call *c)                                       \
    {                                                                                          \
        struct psg_call inner;                                                                 \
        inside(c, &inner)->rule(&inner);                                                       \
    }
PASS_ON(prepare)
PASS_ON(backward)
PASS_ON(grad_sample)
PASS_ON(norm_sample)
PASS_ON(clipped_sum)

static void wrapped_lower(struct psg_lower *l)
{
    const struct head *h = l->geom;
    struct psg_lower inner = *l;
    inner.geom = h + 1;
    h->of->lower(&inner);
    for (int j = 0; j < h->n_out && l->training; j++)
        if (h->out[j] > 0)
            l->out[j] = psg_g_unary(l->g, PSG_BF16, l->out[j]);
}

static struct wrapped made[64];
static int n_made;

static const struct psg_op *wrap(const char *name, bool last)
{
    const struct psg_op *of = psg_op_find(name);
    if (last || !of)
        return of;
    ck_assert_int_lt(n_made, 64);
    struct wrapped *w = &made[n_made++];
    *w = (struct wrapped){ .op = *of, .of = of };
    w->op.geom_size = sizeof(struct head) + of->geom_size;
    w->op.infer = wrapped_infer;
    w->op.forward = of->forward ? wrapped_forward : NULL;
    w->op.prepare = of->prepare ? wrapped_prepare : NULL;
    w->op.backward = of->backward ? wrapped_backward : NULL;
    w->op.grad_sample = of->grad_sample ? wrapped_grad_sample : NULL;
    w->op.norm_sample = of->norm_sample ? wrapped_norm_sample : NULL;
    w->op.clipped_sum = of->clipped_sum ? wrapped_clipped_sum : NULL;
    w->op.lower = wrapped_lower;
    return &w->op;
}

/* ---- the plan against the reference ---- */
static double distance(const psg_real *a, const psg_real *b, int64_t n, double *norm)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    *norm = sqrt(s);
    return sqrt(d);
}

static void same(const char *what, const struct net_text *net, const psg_real *a,
                 const psg_real *b, int64_t n, double tolerance)
{
    double norm, d = distance(a, b, n, &norm);
    ck_assert_msg(d <= tolerance * norm, "%s, %s: off by %g of %g", net->layers[0], what, d, norm);
}

static struct psg_plan_options options(int mode, enum psg_precision precision)
{
    return (struct psg_plan_options){ .mode = (enum psg_mode)mode, .tile = 3, .n_threads = 2,
                                      .precision = precision };
}

static void run(struct net_data *d, const struct net_text *net, net_op find,
                struct psg_plan_options o)
{
    net_data_open(d, net, find);
    struct psg_plan *plan = net_data_plan(d, o);
    net_data_run(d, plan);
    psg_plan_free(plan);
}

START_TEST(equals_a_run_on_rounded_activations)
{
    int n_rounded = 0;
    for (int i = 0; net_at(i); i++) {
        const struct net_text *net = net_at(i);
        struct net_data got, want, full;
        n_made = 0;
        run(&got, net, NULL, options(_i, PSG_PRECISION_BF16));
        run(&want, net, wrap, options(_i, PSG_PRECISION_F32));
        run(&full, net, NULL, options(_i, PSG_PRECISION_F32));
        int64_t size = psg_program_trainable_size(got.p);
        same("rows", net, got.rows, want.rows, NET_N * size, 2e-6);
        same("sum", net, got.sum, want.sum, size, 2e-6);
        same("loss", net, got.loss, want.loss, NET_N, 1e-6);
        for (int s = 0; s < NET_N; s++)
            ck_assert_double_le(fabs(got.sq[s] - want.sq[s]), 4e-6 * want.sq[s]);
        double norm, d = distance(got.rows, full.rows, NET_N * size, &norm);
        n_rounded += d > 1e-5 * norm;
        ck_assert_msg(d <= 0.1 * norm, "%s: %g of %g from float32", net->layers[0], d, norm);
        net_data_close(&got);
        net_data_close(&want);
        net_data_close(&full);
    }
    ck_assert_int_ge(n_rounded, 30); /* the option does something */
}
END_TEST

/* Nets whose layers save nothing in real numbers and whose derivatives need no value that is
 * rounded later: there all modes compute the same function of the same numbers. */
static const struct net_text plain_nets[] = {
    { NULL, "6", { "a linear out_features=5", "r relu", "b linear out_features=4", "g gelu",
                   "o linear out_features=3" } },
    { NULL, "2x6x5", { "c conv2d out_channels=4 kernel_size=3 padding=1", "r relu",
                       "p max_pool2d kernel_size=2", "f flatten", "l linear out_features=3" } },
    { NULL, "i64<7:5", { "e embedding num_embeddings=7 embedding_dim=4", "s silu", "m mean dim=1,",
                         "l linear out_features=3" } },
};

START_TEST(all_modes_agree)
{
    for (size_t i = 0; i < sizeof plain_nets / sizeof *plain_nets; i++) {
        struct net_data got, want;
        struct psg_plan_options ref = { .mode = PSG_MODE_HOOKS, .tile = 1,
                                        .backend = psg_backend_ref(),
                                        .precision = PSG_PRECISION_BF16 };
        run(&want, &plain_nets[i], NULL, ref);
        run(&got, &plain_nets[i], NULL, options(_i, PSG_PRECISION_BF16));
        int64_t size = psg_program_trainable_size(got.p);
        same("rows", &plain_nets[i], got.rows, want.rows, NET_N * size, 3e-6);
        same("sum", &plain_nets[i], got.sum, want.sum, size, 3e-6);
        net_data_close(&got);
        net_data_close(&want);
    }
}
END_TEST

/* ---- how far from float32 ----
 *
 * x -> h = relu(A x + a) -> z = B h + b -> cross entropy, rounding h by at most u |h|, u = 2^-8.
 * |dz| <= m = max_i sum_j |B_ij| u |h_j|, so each probability changes by a factor of at most
 * e^(2m), |dg_i| <= (e^(2m) - 1) p_i =: e_i, and
 *   gradient of B_ij = g_i h_j:             error <= e_i |h_j| (1 + u) + |g_i| u |h_j|
 *   gradient of A_jk = sum_i B_ij g_i x_k:  error <= sum_i |B_ij| e_i |x_k| */
enum { IN = 6, HIDDEN = 5 };

static const struct net_text two_layers = {
    NULL, "6", { "a linear out_features=5", "r relu", "o linear out_features=3" }
};

static void bound_sample(const struct net_data *d, int s, double *bound)
{
    const double u = 0x1p-8, slack = 1e-5; /* of float32 itself */
    const psg_real *A = d->params, *a = A + HIDDEN * IN, *B = a + HIDDEN,
                   *b = B + NET_CLASSES * HIDDEN;
    const double *x = (const double *)d->x + s * IN;
    double h[HIDDEN], z[NET_CLASSES], total = 0, m = 0;
    for (int j = 0; j < HIDDEN; j++) {
        h[j] = (double)a[j];
        for (int k = 0; k < IN; k++)
            h[j] += (double)A[j * IN + k] * x[k];
        h[j] = fmax(h[j], 0);
    }
    for (int i = 0; i < NET_CLASSES; i++) {
        double e = 0;
        z[i] = (double)b[i];
        for (int j = 0; j < HIDDEN; j++) {
            z[i] += (double)B[i * HIDDEN + j] * h[j];
            e += fabs((double)B[i * HIDDEN + j]) * u * h[j];
        }
        m = fmax(m, e);
    }
    for (int i = 0; i < NET_CLASSES; i++)
        total += exp(z[i]);
    for (int j = 0; j < HIDDEN; j++) {
        double back = 0;
        for (int i = 0; i < NET_CLASSES; i++)
            back += fabs((double)B[i * HIDDEN + j]) * (expm1(2 * m) * exp(z[i]) / total);
        for (int k = 0; k < IN; k++)
            bound[j * IN + k] = back * fabs(x[k]) + slack;
        bound[HIDDEN * IN + j] = back + slack;
    }
    double *of_b = bound + HIDDEN * IN + HIDDEN, *of_bias = of_b + NET_CLASSES * HIDDEN;
    for (int i = 0; i < NET_CLASSES; i++) {
        double p = exp(z[i]) / total, e = expm1(2 * m) * p;
        double g = p - (i == (int)d->y[s] ? 1 : 0);
        for (int j = 0; j < HIDDEN; j++)
            of_b[i * HIDDEN + j] = e * h[j] * (1 + u) + fabs(g) * u * h[j] + slack;
        of_bias[i] = e + slack;
    }
}

START_TEST(lies_within_a_derived_bound_of_float32)
{
    struct net_data half, full;
    run(&half, &two_layers, NULL, options(_i, PSG_PRECISION_BF16));
    run(&full, &two_layers, NULL, options(_i, PSG_PRECISION_F32));
    int64_t size = psg_program_trainable_size(half.p);
    double bound[HIDDEN * IN + HIDDEN + NET_CLASSES * HIDDEN + NET_CLASSES], most = 0;
    ck_assert_int_eq(size, sizeof bound / sizeof *bound);
    for (int s = 0; s < NET_N; s++) {
        bound_sample(&full, s, bound);
        for (int64_t k = 0; k < size; k++) {
            double off = fabs((double)half.rows[s * size + k] - (double)full.rows[s * size + k]);
            ck_assert_double_le(off, bound[k]);
            most = fmax(most, off / bound[k]);
        }
    }
    ck_assert_double_ge(most, 0.05); /* the bound is not idle */
    net_data_close(&half);
    net_data_close(&full);
}
END_TEST

/* Evaluation is in float32; the answer says what a plan is. */
START_TEST(evaluation_stays_float32)
{
    struct net_data d;
    psg_real loss[2][NET_N], output[2][NET_N * NET_CLASSES];
    net_data_open(&d, &two_layers, NULL);
    for (int k = 0; k < PSG_PRECISION_COUNT; k++) {
        struct psg_plan_info info;
        struct psg_plan *plan = net_data_plan(&d, options(_i, (enum psg_precision)k));
        psg_plan_info(plan, &info);
        ck_assert_int_eq(info.precision, k);
        ck_assert_int_eq(
            psg_evaluate(plan, d.params, &d.records, loss[k], output[k], NULL), 0);
        psg_plan_free(plan);
    }
    ck_assert_mem_eq(loss[0], loss[1], sizeof loss[0]);
    ck_assert_mem_eq(output[0], output[1], sizeof output[0]);
    struct psg_plan_options wrong = { .precision = PSG_PRECISION_COUNT };
    struct psg_plan *plan = NULL;
    ck_assert_int_eq(psg_plan_new(d.p, &wrong, &plan, NULL), PSG_E_INVALID);
    net_data_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("precision");
    TCase *tc = tcase_create("precision");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, equals_a_run_on_rounded_activations, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, all_modes_agree, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, lies_within_a_derived_bound_of_float32, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, evaluation_stays_float32, 0, PSG_MODE_COUNT);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
