/* Optimizers against hand-computed numbers and against PyTorch's documented formulas,
 * written here a second time, in double, one parameter at a time. Built for float and for
 * double. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "psg/dp.h"
#include "suite.h"

enum { P = 37, STEPS = 7 };

static double grad_of(int step, int i)
{
    return sin(1.7 * step + 0.9 * i) + 0.3 * cos(5.0 * i);
}

static double start_of(int i)
{
    return 0.5 * cos(3.0 * i) + 0.1;
}

static double rate_of(int step)
{
    return 0.05 / step;
}

static double noise_of(int step)
{
    return 0.01 * step;
}

/* torch.optim's pseudo-code for one scalar. */
struct scalar {
    double theta, buffer, m, v, most, square, mean, sum, noise;
};

static void reference_sgd(const struct psg_optimizer_config *c, struct scalar *s, int t,
                          double g)
{
    g += c->weight_decay * s->theta;
    if (c->momentum != 0) {
        s->buffer = t > 1 ? c->momentum * s->buffer + (1 - c->dampening) * g : g;
        g = c->nesterov ? g + c->momentum * s->buffer : s->buffer;
    }
    s->theta -= rate_of(t) * g;
}

static void reference_adam(const struct psg_optimizer_config *c, struct scalar *s, int t,
                           double g)
{
    if (c->kind == PSG_ADAMW)
        s->theta -= rate_of(t) * c->weight_decay * s->theta;
    else
        g += c->weight_decay * s->theta;
    s->m = c->beta1 * s->m + (1 - c->beta1) * g;
    s->v = c->beta2 * s->v + (1 - c->beta2) * g * g;
    s->noise = c->beta2 * s->noise + (1 - c->beta2) * noise_of(t);
    double m_hat = s->m / (1 - pow(c->beta1, t)), v_hat = s->v / (1 - pow(c->beta2, t));
    if (c->amsgrad) {
        s->most = fmax(s->most, s->v);
        v_hat = s->most / (1 - pow(c->beta2, t));
    }
    double divisor = sqrt(v_hat) + c->eps;
    if (c->dp_bias_correction)
        divisor = sqrt(fmax(v_hat - s->noise / (1 - pow(c->beta2, t)), c->dp_bias_floor));
    s->theta -= rate_of(t) * m_hat / divisor;
}

static void reference_rmsprop(const struct psg_optimizer_config *c, struct scalar *s, int t,
                              double g)
{
    g += c->weight_decay * s->theta;
    s->square = c->alpha * s->square + (1 - c->alpha) * g * g;
    double second = s->square;
    if (c->centered) {
        s->mean = c->alpha * s->mean + (1 - c->alpha) * g;
        second -= s->mean * s->mean;
    }
    double move = g / (sqrt(fmax(second, 0)) + c->eps);
    if (c->momentum > 0)
        move = s->buffer = c->momentum * s->buffer + move;
    s->theta -= rate_of(t) * move;
}

static void reference_adagrad(const struct psg_optimizer_config *c, struct scalar *s, int t,
                              double g)
{
    g += c->weight_decay * s->theta;
    s->sum = (t == 1 ? c->initial_accumulator_value : s->sum) + g * g;
    s->theta -= rate_of(t) / (1 + (t - 1) * c->lr_decay) * g / (sqrt(s->sum) + c->eps);
}

static void reference_step(const struct psg_optimizer_config *c, struct scalar *s, int t,
                           double g)
{
    switch (c->kind) {
    case PSG_SGD:
        reference_sgd(c, s, t, g);
        break;
    case PSG_ADAM:
    case PSG_ADAMW:
        reference_adam(c, s, t, g);
        break;
    case PSG_RMSPROP:
        reference_rmsprop(c, s, t, g);
        break;
    case PSG_ADAGRAD:
        reference_adagrad(c, s, t, g);
        break;
    }
}

#define BETAS .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6

static const struct psg_optimizer_config cases[] = {
    { .kind = PSG_SGD },
    { .kind = PSG_SGD, .weight_decay = 0.1 },
    { .kind = PSG_SGD, .momentum = 0.9 },
    { .kind = PSG_SGD, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01 },
    { .kind = PSG_SGD, .momentum = 0.8, .nesterov = true, .weight_decay = 0.05 },
    { .kind = PSG_ADAM, BETAS },
    { .kind = PSG_ADAM, BETAS, .weight_decay = 0.1 },
    { .kind = PSG_ADAM, BETAS, .amsgrad = true },
    { .kind = PSG_ADAM, BETAS, .dp_bias_correction = true, .dp_bias_floor = 1e-2 },
    { .kind = PSG_ADAMW, BETAS, .weight_decay = 0.1 },
    { .kind = PSG_ADAMW, BETAS, .weight_decay = 0.1, .amsgrad = true },
    { .kind = PSG_ADAMW,
      BETAS,
      .weight_decay = 0.1,
      .dp_bias_correction = true,
      .dp_bias_floor = 1e-4 },
    { .kind = PSG_RMSPROP, .alpha = 0.9, .eps = 1e-3 },
    { .kind = PSG_RMSPROP,
      .alpha = 0.9,
      .eps = 1e-3,
      .momentum = 0.7,
      .weight_decay = 0.1 },
    { .kind = PSG_RMSPROP, .alpha = 0.9, .eps = 1e-2, .momentum = 0.7, .centered = true },
    { .kind = PSG_RMSPROP, .alpha = 0.9, .eps = 1e-2, .centered = true },
    { .kind = PSG_ADAGRAD, .eps = 1e-6 },
    { .kind = PSG_ADAGRAD,
      .eps = 1e-6,
      .lr_decay = 0.1,
      .weight_decay = 0.1,
      .initial_accumulator_value = 0.5 },
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static void run_steps(struct psg_optimizer *opt, int from, int to, int piece,
                      psg_real *param)
{
    psg_real grad[P];
    for (int t = from; t <= to; t++) {
        for (int i = 0; i < P; i++)
            grad[i] = (psg_real)grad_of(t, i);
        psg_optimizer_begin(opt, rate_of(t), noise_of(t));
        for (int i = 0; i < P; i += piece) {
            int n = P - i < piece ? P - i : piece;
            psg_optimizer_update(opt, i, n, grad + i, param + i);
        }
    }
}

static struct psg_optimizer *optimizer(const struct psg_optimizer_config *c)
{
    struct psg_optimizer *opt = NULL;
    struct psg_error err = { 0 };
    ck_assert_msg(psg_optimizer_new(c, P, &opt, &err) == 0, "%s: %s", err.place, err.text);
    return opt;
}

static void start(psg_real *param)
{
    for (int i = 0; i < P; i++)
        param[i] = (psg_real)start_of(i);
}

START_TEST(steps_follow_pytorchs_formulas)
{
    const struct psg_optimizer_config *c = &cases[_i];
    struct psg_optimizer *opt = optimizer(c);
    psg_real param[P];
    start(param);
    run_steps(opt, 1, STEPS, P, param);
    double tolerance = sizeof(psg_real) == 8 ? 1e-13 : 3e-6;
    for (int i = 0; i < P; i++) {
        struct scalar s = { .theta = start_of(i) };
        for (int t = 1; t <= STEPS; t++)
            reference_step(c, &s, t, grad_of(t, i));
        ck_assert_double_eq_tol((double)param[i], s.theta, tolerance);
    }
    psg_optimizer_free(opt);
}
END_TEST

START_TEST(cutting_into_ranges_changes_no_bit)
{
    psg_real whole[P], cut[P];
    for (int piece = 1; piece < P; piece += 3) {
        struct psg_optimizer *a = optimizer(&cases[_i]), *b = optimizer(&cases[_i]);
        start(whole);
        start(cut);
        run_steps(a, 1, STEPS, P, whole);
        run_steps(b, 1, STEPS, piece, cut);
        ck_assert_mem_eq(whole, cut, sizeof whole);
        psg_optimizer_free(a);
        psg_optimizer_free(b);
    }
}
END_TEST

START_TEST(restored_state_continues_to_the_same_bits)
{
    struct psg_optimizer *a = optimizer(&cases[_i]), *b = optimizer(&cases[_i]);
    psg_real param[P], resumed[P];
    start(param);
    run_steps(a, 1, 3, P, param);
    memcpy(resumed, param, sizeof param);
    struct psg_optimizer_counters counters = psg_optimizer_counters(a);
    ck_assert_uint_eq(counters.step, 3);
    psg_optimizer_set_counters(b, &counters);
    const char *name_a, *name_b;
    psg_real *data_a, *data_b;
    int n = 0;
    for (; psg_optimizer_state(a, n, &name_a, &data_a); n++) {
        ck_assert(psg_optimizer_state(b, n, &name_b, &data_b));
        ck_assert_str_eq(name_a, name_b);
        memcpy(data_b, data_a, P * sizeof *data_a);
    }
    ck_assert(!psg_optimizer_state(b, n, &name_b, &data_b));
    ck_assert(!psg_optimizer_state(b, -1, &name_b, &data_b));
    run_steps(a, 4, STEPS, P, param);
    run_steps(b, 4, STEPS, P, resumed);
    ck_assert_mem_eq(param, resumed, sizeof param);
    psg_optimizer_free(a);
    psg_optimizer_free(b);
}
END_TEST

START_TEST(sgd_with_momentum_by_hand)
{
    struct psg_optimizer_config c = psg_optimizer_defaults(PSG_SGD);
    c.momentum = 0.5;
    struct psg_optimizer *opt = optimizer(&c);
    psg_real param[2] = { 1, 7 }, grad[1] = { 2 };
    psg_optimizer_begin(opt, 0.25, 0);
    psg_optimizer_update(opt, 0, 1, grad, param);
    ck_assert(param[0] == (psg_real)0.5); /* 1 - 0.25 * 2 */
    grad[0] = 4;
    psg_optimizer_begin(opt, 0.25, 0);
    psg_optimizer_update(opt, 0, 1, grad, param);
    ck_assert(param[0] == (psg_real)-0.75); /* 0.5 - 0.25 * (0.5 * 2 + 4) */
    ck_assert(param[1] == 7);
    psg_optimizer_free(opt);
}
END_TEST

START_TEST(first_adam_step_by_hand)
{
    /* m = 0.1 g, v = 0.001 g^2, both corrected to g and g^2: the step is lr g / (|g| + eps)
     */
    struct psg_optimizer_config c = psg_optimizer_defaults(PSG_ADAM);
    struct psg_optimizer *opt = optimizer(&c);
    psg_real param[2] = { 1, 1 }, grad[2] = { 3, (psg_real)-1e-8 };
    psg_optimizer_begin(opt, 0.1, 0);
    psg_optimizer_update(opt, 0, 2, grad, param);
    ck_assert_double_eq_tol((double)param[0], 0.9, 2e-7);
    ck_assert_double_eq_tol((double)param[1], 1.05, 2e-7);
    psg_optimizer_free(opt);
}
END_TEST

START_TEST(bias_correction_takes_off_the_variance_of_the_noise)
{
    /* Gradients that are noise of variance 4 around 0.5: the corrected divisor sees the
     * mean square of the signal, 0.25, the plain one sees 4.25. */
    struct psg_optimizer_config c = psg_optimizer_defaults(PSG_ADAM);
    c.beta1 = 0;
    c.dp_bias_correction = true;
    c.dp_bias_floor = 1e-6;
    struct psg_optimizer *opt = optimizer(&c);
    psg_real param = 0;
    for (int t = 0; t < 20000; t++) {
        psg_real grad = (psg_real)(t % 2 ? 2.5 : -1.5);
        psg_optimizer_begin(opt, 0, 4);
        psg_optimizer_update(opt, 0, 1, &grad, &param);
    }
    param = 0;
    psg_real grad = (psg_real)0.5;
    psg_optimizer_begin(opt, 1, 4);
    psg_optimizer_update(opt, 0, 1, &grad, &param);
    ck_assert_double_eq_tol((double)param, -0.5 / 0.5, 0.01);
    psg_optimizer_free(opt);
}
END_TEST

START_TEST(defaults_are_pytorchs)
{
    struct psg_optimizer_config c = psg_optimizer_defaults(PSG_ADAMW);
    ck_assert(c.beta1 == 0.9 && c.beta2 == 0.999 && c.eps == 1e-8 &&
              c.weight_decay == 1e-2);
    c = psg_optimizer_defaults(PSG_ADAM);
    ck_assert(c.weight_decay == 0 && !c.amsgrad);
    c = psg_optimizer_defaults(PSG_RMSPROP);
    ck_assert(c.alpha == 0.99 && c.eps == 1e-8 && c.momentum == 0 && !c.centered);
    c = psg_optimizer_defaults(PSG_ADAGRAD);
    ck_assert(c.eps == 1e-10 && c.lr_decay == 0 && c.initial_accumulator_value == 0);
    for (int kind = PSG_SGD; kind <= PSG_ADAGRAD; kind++) {
        c = psg_optimizer_defaults((enum psg_optimizer_kind)kind);
        ck_assert_int_eq(psg_optimizer_check(&c, NULL), 0);
    }
}
END_TEST

static const char *refusal(struct psg_optimizer_config c)
{
    static struct psg_error err;
    struct psg_optimizer *opt = NULL;
    ck_assert_int_lt(psg_optimizer_new(&c, P, &opt, &err), 0);
    ck_assert_ptr_null(opt);
    return err.place;
}

START_TEST(settings_are_checked_by_name)
{
    struct psg_optimizer_config sgd = psg_optimizer_defaults(PSG_SGD), c = sgd;
    c.nesterov = true;
    ck_assert_str_eq(refusal(c), "nesterov");
    c.momentum = 0.9;
    c.dampening = 0.1;
    ck_assert_str_eq(refusal(c), "nesterov");
    c = sgd;
    c.momentum = -0.1;
    ck_assert_str_eq(refusal(c), "momentum");
    c = sgd;
    c.weight_decay = (double)NAN;
    ck_assert_str_eq(refusal(c), "weight_decay");
    c = sgd;
    c.dp_bias_correction = true;
    ck_assert_str_eq(refusal(c), "dp_bias_correction");
    struct psg_optimizer_config adam = psg_optimizer_defaults(PSG_ADAM);
    c = adam;
    c.beta2 = 1;
    ck_assert_str_eq(refusal(c), "beta2");
    c = adam;
    c.amsgrad = c.dp_bias_correction = true;
    ck_assert_str_eq(refusal(c), "dp_bias_correction");
    c = adam;
    c.dp_bias_correction = true;
    c.dp_bias_floor = 0;
    ck_assert_str_eq(refusal(c), "dp_bias_floor");
    c = adam;
    c.kind = (enum psg_optimizer_kind)99;
    ck_assert_str_eq(refusal(c), "optimizer");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optimizer");
    TCase *tc = tcase_create("optimizer");
    tcase_add_loop_test(tc, steps_follow_pytorchs_formulas, 0, N_CASES);
    tcase_add_loop_test(tc, cutting_into_ranges_changes_no_bit, 0, N_CASES);
    tcase_add_loop_test(tc, restored_state_continues_to_the_same_bits, 0, N_CASES);
    tcase_add_test(tc, sgd_with_momentum_by_hand);
    tcase_add_test(tc, first_adam_step_by_hand);
    tcase_add_test(tc, bias_correction_takes_off_the_variance_of_the_noise);
    tcase_add_test(tc, defaults_are_pytorchs);
    tcase_add_test(tc, settings_are_checked_by_name);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
