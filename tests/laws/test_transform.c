/* Transforms in combination: nested grad and vmap, simplified or not, on small models; and
 * graphs that must come out small. In double. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph_check.h"
#include "suite.h"

static psg_value input(struct psg_graph *g, struct psg_shape s)
{
    return psg_graph_input(g, PSG_REAL, &s);
}

/* ---- models of one sample: inputs, parameters -> loss ---- */

static psg_value cross_entropy(struct psg_graph *g, psg_value z, psg_value label, int64_t n)
{
    psg_value top = psg_g_reduce(g, PSG_REDUCE_MAX, z, 1);
    psg_value e = psg_g_sub(g, z, top);
    psg_value lse = psg_g_log(g, psg_g_sum(g, psg_g_exp(g, e), 1));
    psg_value at = psg_g_sum(g, psg_g_mul(g, e, psg_g_onehot(g, label, n)), 1);
    return psg_g_sub(g, lse, at);
}

static psg_value linear(struct psg_graph *g, psg_value w, psg_value x, psg_value b)
{
    struct psg_dot d = { .n_contract = 1, .contract_a = { 1 } };
    return psg_g_add(g, psg_g_dot(g, w, x, &d), b);
}

/* Two layers; inputs x, label, then 4 parameters. */
static struct psg_graph *mlp(void)
{
    struct psg_graph *g = psg_graph_new();
    struct psg_shape one = { 0 };
    psg_value x = input(g, PSG_SHAPE(5)), label = psg_graph_input(g, PSG_I64, &one);
    psg_value w1 = input(g, PSG_SHAPE(4, 5)), b1 = input(g, PSG_SHAPE(4));
    psg_value w2 = input(g, PSG_SHAPE(3, 4)), b2 = input(g, PSG_SHAPE(3));
    psg_value h = psg_g_tanh(g, linear(g, w1, x, b1));
    psg_graph_output(g, cross_entropy(g, linear(g, w2, h, b2), label, 3));
    return g;
}

/* Convolution 3x3 with padding and stride, relu, max pool, linear. */
static struct psg_graph *cnn(void)
{
    struct psg_graph *g = psg_graph_new();
    struct psg_shape one = { 0 };
    psg_value x = input(g, PSG_SHAPE(2, 7, 6)), label = psg_graph_input(g, PSG_I64, &one);
    psg_value w1 = input(g, PSG_SHAPE(3, 2, 3, 3)), b1 = input(g, PSG_SHAPE(3));
    psg_value w2 = input(g, PSG_SHAPE(3, 18)), b2 = input(g, PSG_SHAPE(3));
    struct psg_window win = { .rank = 2, .in = { 7, 6 }, .kernel = { 3, 3 },
                              .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad_lo = { 1, 1 },
                              .pad_hi = { 1, 1 } };
    struct psg_window pool = { .rank = 2, .in = { 7, 6 }, .kernel = { 2, 2 },
                               .stride = { 2, 3 }, .dilation = { 1, 1 } };
    struct psg_dot d = { .n_contract = 3, .contract_a = { 1, 2, 3 }, .contract_b = { 0, 1, 2 } };
    psg_value y = psg_g_dot(g, w1, psg_g_unfold(g, x, &win, 0), &d);
    y = psg_g_add(g, y, psg_g_reshape(g, b1, &PSG_SHAPE(3, 1, 1)));
    y = psg_g_binary(g, PSG_MAX, y, psg_g_scalar(g, 0));
    y = psg_g_reduce(g, PSG_REDUCE_MAX, psg_g_unfold(g, y, &pool, -1e30), 2 | 4);
    y = psg_g_reshape(g, y, &PSG_SHAPE(18));
    psg_graph_output(g, cross_entropy(g, linear(g, w2, y, b2), label, 3));
    return g;
}

/* Embedding, recurrent layer over 4 positions, linear. */
static struct psg_graph *rnn(void)
{
    struct psg_graph *g = psg_graph_new(), *b = psg_graph_new();
    struct psg_shape one = { 0 }, four = PSG_SHAPE(4);
    psg_value h0 = input(b, PSG_SHAPE(3)), xt = input(b, PSG_SHAPE(3));
    psg_value whh = input(b, PSG_SHAPE(3, 3));
    psg_graph_output(b, psg_g_tanh(b, linear(b, whh, h0, xt)));
    psg_value id = psg_graph_input(g, PSG_I64, &four), label = psg_graph_input(g, PSG_I64, &one);
    psg_value table = input(g, PSG_SHAPE(6, 5)), wih = input(g, PSG_SHAPE(3, 5));
    psg_value w = input(g, PSG_SHAPE(3, 3)), w2 = input(g, PSG_SHAPE(3, 3)), out;
    struct psg_dot d = { .n_contract = 1, .contract_a = { 1 }, .contract_b = { 1 } };
    psg_value x = psg_g_dot(g, psg_g_gather(g, table, id, 0), wih, &d);
    psg_value h = psg_g_full(g, &PSG_SHAPE(3), 0);
    psg_g_scan(g, b, 4, false, &h, 1, &x, 1, &w, 1, &out);
    psg_graph_output(g, cross_entropy(g, linear(g, w2, out, h), label, 3));
    psg_graph_free(b);
    return g;
}

/* A scan in the body of a scan. */
static struct psg_graph *nested(void)
{
    struct psg_graph *g = psg_graph_new(), *b = psg_graph_new(), *c = psg_graph_new();
    psg_value h = input(c, PSG_SHAPE(2)), x = input(c, PSG_SHAPE(2)), k = input(c, PSG_SHAPE(2));
    psg_graph_output(c, psg_g_tanh(c, psg_g_add(c, psg_g_mul(c, h, k), x)));
    psg_value s = input(b, PSG_SHAPE(2)), xs = input(b, PSG_SHAPE(3, 2));
    psg_value w = input(b, PSG_SHAPE(2)), out;
    psg_g_scan(b, c, 3, true, &s, 1, &xs, 1, &w, 1, &out);
    psg_graph_output(b, psg_g_mul(b, out, w));
    psg_value all = input(g, PSG_SHAPE(2, 3, 2)), v = input(g, PSG_SHAPE(2));
    psg_value start = psg_g_full(g, &PSG_SHAPE(2), 0.5);
    psg_g_scan(g, b, 2, false, &start, 1, &all, 1, &v, 1, &out);
    psg_graph_output(g, psg_g_sum(g, out, 1));
    psg_graph_free(b);
    psg_graph_free(c);
    return g;
}

struct model {
    const char *name;
    struct psg_graph *(*make)(void);
};
static const struct model models[] = {
    { "mlp", mlp }, { "cnn", cnn }, { "rnn", rnn }, { "nested scans", nested },
};
enum { N_MODELS = sizeof models / sizeof models[0] };

static struct psg_graph *must(struct psg_graph *g, const struct psg_error *err)
{
    ck_assert_msg(g != NULL, "%s: %s", err->place, err->text);
    return g;
}

static struct psg_graph *grad_of_all(const struct psg_graph *g)
{
    struct psg_error err = { 0 };
    int wrt[16], n = 0;
    for (int i = 0; i < psg_graph_n_inputs(g); i++)
        if (psg_graph_type(g, psg_graph_input_at(g, i))->dtype == PSG_REAL)
            wrt[n++] = i;
    return must(psg_graph_grad(g, wrt, n, &err), &err);
}

static void check(bool ok, const char *name, const struct complaint *c)
{
    ck_assert_msg(ok, "%s: %s", name, c->text);
}

START_TEST(gradient_and_its_gradient)
{
    struct complaint c = { "" };
    struct gen r = gen_make(7, 3, 3);
    struct psg_graph *g = models[_i].make();
    struct values in = values_of_inputs(g);
    values_draw(&in, &r, -1, 1);
    check(check_vjp(g, &in, &r, 2, &c), models[_i].name, &c);
    values_free(&in);
    psg_graph_free(g);
}
END_TEST

START_TEST(per_sample_gradients_equal_the_loop)
{
    static const int64_t batch[4] = { 0, 1, 2, 7 };
    struct complaint c = { "" };
    struct gen r = gen_make(8, 3, 3);
    struct psg_graph *g = models[_i].make(), *d = grad_of_all(g);
    for (int i = 0; i < 4; i++)
        check(check_vmap(d, batch[i], &r, -1, 1, &c), models[_i].name, &c);
    /* and the gradient of the gradient */
    struct psg_error err = { 0 };
    struct psg_graph *dd = must(psg_graph_vjp(d, (int[]){ 2 + (_i == 3 ? -1 : 0) }, 1, &err),
                                &err);
    check(check_vmap(dd, 2, &r, -1, 1, &c), models[_i].name, &c);
    psg_graph_free(dd);
    psg_graph_free(d);
    psg_graph_free(g);
}
END_TEST

START_TEST(vmap_of_vmap_equals_the_loop)
{
    struct complaint c = { "" };
    struct gen r = gen_make(9, 3, 3);
    struct psg_error err = { 0 };
    struct psg_graph *g = models[_i].make(), *d = grad_of_all(g);
    for (unsigned mask = 1; mask < 16; mask += 3) {
        bool on[16];
        for (int i = 0; i < 16; i++)
            on[i] = mask >> (i % 4) & 1;
        struct psg_graph *v = must(psg_graph_vmap(d, 2, on, &err), &err);
        check(check_vmap(v, 3, &r, -1, 1, &c), models[_i].name, &c);
        psg_graph_free(v);
    }
    psg_graph_free(d);
    psg_graph_free(g);
}
END_TEST

/* The gradient of the mean over a batch: grad(vmap(f)). */
START_TEST(gradient_of_a_batch)
{
    struct complaint c = { "" };
    struct gen r = gen_make(10, 3, 3);
    struct psg_error err = { 0 };
    struct psg_graph *f = models[_i].make();
    bool on[16] = { true, _i != 3 };
    struct psg_graph *v = must(psg_graph_vmap(f, 3, on, &err), &err);
    struct psg_graph *g = psg_graph_new();
    psg_value args[16], losses;
    for (int i = 0; i < psg_graph_n_inputs(v); i++) {
        const struct psg_type *t = psg_graph_type(v, psg_graph_input_at(v, i));
        args[i] = psg_graph_input(g, t->dtype, &t->shape);
    }
    ck_assert_int_eq(psg_graph_inline(g, v, args, &losses), 0);
    psg_graph_output(g, psg_g_sum(g, losses, 1));
    struct psg_graph *d = grad_of_all(g), *s = must(psg_graph_simplify(d, &err), &err);
    struct values in = values_of_inputs(g);
    values_draw(&in, &r, -1, 1);
    check(check_vjp(g, &in, &r, 2, &c), models[_i].name, &c);
    check(check_same(s, d, &in, "simplify", &c), models[_i].name, &c);
    values_free(&in);
    psg_graph_free(s);
    psg_graph_free(d);
    psg_graph_free(g);
    psg_graph_free(v);
    psg_graph_free(f);
}
END_TEST

/* ---- what simplify must achieve ---- */

static int count(const struct psg_graph *g, const char *word)
{
    char *text = psg_graph_print(g);
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
        n++;
    free(text);
    return n;
}

static struct psg_graph *simple(struct psg_graph *g)
{
    struct psg_error err = { 0 };
    struct psg_graph *s = must(psg_graph_simplify(g, &err), &err);
    psg_graph_free(g);
    return s;
}

START_TEST(neutral_elements_vanish)
{
    struct psg_graph *g = psg_graph_new();
    psg_value x = input(g, PSG_SHAPE(3, 2)), y = x;
    y = psg_g_add(g, y, psg_g_scalar(g, 0));
    y = psg_g_mul(g, psg_g_full(g, &PSG_SHAPE(2), 1), y);
    y = psg_g_neg(g, psg_g_neg(g, y));
    y = psg_g_transpose(g, psg_g_transpose(g, y, (int[]){ 1, 0 }), (int[]){ 1, 0 });
    y = psg_g_reshape(g, psg_g_reshape(g, y, &PSG_SHAPE(6)), &PSG_SHAPE(3, 2));
    psg_graph_output(g, y);
    g = simple(g);
    ck_assert_int_eq(psg_graph_n_nodes(g), 1);
    ck_assert_int_eq(psg_graph_output_at(g, 0), psg_graph_input_at(g, 0));
    psg_graph_free(g);
}
END_TEST

START_TEST(zero_times_unknown_stays)
{
    struct psg_graph *g = psg_graph_new();
    psg_value x = input(g, PSG_SHAPE(2));
    psg_graph_output(g, psg_g_mul(g, x, psg_g_scalar(g, 0)));
    g = simple(g);
    psg_real v[2] = { INFINITY, 1 }, y[2];
    struct psg_exec *e;
    ck_assert_int_eq(psg_exec_new(g, psg_backend_ref(), &e, NULL), 0);
    psg_exec_run(e, (const void *[]){ v }, (void *[]){ y });
    ck_assert(isnan(y[0]));
    ck_assert_double_eq(y[1], 0);
    psg_exec_free(e);
    psg_graph_free(g);
}
END_TEST

START_TEST(equal_nodes_become_one)
{
    struct psg_graph *g = psg_graph_new();
    psg_value x = input(g, PSG_SHAPE(2)), y = PSG_NONE;
    for (int i = 0; i < 5; i++) {
        psg_value e = psg_g_exp(g, psg_g_mul(g, x, psg_g_scalar(g, 2)));
        y = i ? psg_g_binary(g, PSG_MAX, y, e) : e;
    }
    psg_graph_output(g, y);
    g = simple(g);
    ck_assert_int_eq(count(g, " exp "), 1);
    ck_assert_int_eq(count(g, " max "), 0);
    psg_graph_free(g);
}
END_TEST

START_TEST(transposes_go_into_dots)
{
    struct psg_graph *g = psg_graph_new();
    psg_value a = input(g, PSG_SHAPE(4, 3)), b = input(g, PSG_SHAPE(4, 5));
    psg_graph_output(g, psg_g_matmul(g, psg_g_transpose(g, a, (int[]){ 1, 0 }), b));
    g = simple(g);
    ck_assert_int_eq(count(g, "transpose"), 0);
    psg_graph_free(g);
}
END_TEST

/* The gradient of the recurrent weight is one product over all positions: none in the bodies
 * but those that carry h and its cotangent. */
START_TEST(recurrent_weight_gradient_is_one_dot)
{
    struct psg_error err = { 0 };
    struct psg_graph *f = rnn();
    struct psg_graph *d = simple(must(psg_graph_grad(f, (int[]){ 4 }, 1, &err), &err));
    char *text = psg_graph_print(d);
    int in_bodies = 0;
    for (char *p = text; (p = strstr(p, "\n    %")); p++) {
        char *end = strchr(p + 1, '\n'), *dot = strstr(p, " = dot ");
        in_bodies += dot && dot < end;
    }
    ck_assert_int_eq(in_bodies, 2);
    ck_assert_int_eq(count(d, " = scan "), 2);
    free(text);
    psg_graph_free(d);
    psg_graph_free(f);
}
END_TEST

/* Summed over the batch, a weight gradient is one product too: no [N, O, I] is written. */
START_TEST(batch_gradient_has_no_per_sample_weights)
{
    struct psg_error err = { 0 };
    struct psg_graph *g = psg_graph_new(), *f = psg_graph_new();
    psg_value x = input(f, PSG_SHAPE(5)), w = input(f, PSG_SHAPE(4, 5));
    struct psg_dot d = { .n_contract = 1, .contract_a = { 1 } };
    psg_graph_output(f, psg_g_sum(f, psg_g_tanh(f, psg_g_dot(f, w, x, &d)), 1));
    struct psg_graph *v = must(psg_graph_vmap(f, 9, (bool[]){ true, false }, &err), &err);
    psg_value args[2] = { input(g, PSG_SHAPE(9, 5)), input(g, PSG_SHAPE(4, 5)) }, out;
    psg_graph_inline(g, v, args, &out);
    psg_graph_output(g, psg_g_sum(g, out, 1));
    struct psg_graph *s = simple(must(psg_graph_grad(g, (int[]){ 1 }, 1, &err), &err));
    ck_assert_int_eq(count(s, "[9, 4, 5]"), 0);
    psg_graph_free(s);
    psg_graph_free(v);
    psg_graph_free(f);
    psg_graph_free(g);
}
END_TEST

START_TEST(wrong_requests_are_refused)
{
    struct psg_error err = { 0 };
    struct psg_graph *g = mlp();
    ck_assert_ptr_null(psg_graph_grad(g, (int[]){ 1 }, 1, &err));
    ck_assert_int_eq(err.status, PSG_E_INVALID);
    ck_assert_ptr_null(psg_graph_grad(g, (int[]){ 99 }, 1, &err));
    ck_assert_ptr_null(psg_graph_vmap(g, -1, (bool[6]){ true }, &err));
    psg_graph_free(g);
    g = psg_graph_new();
    psg_graph_output(g, input(g, PSG_SHAPE(2)));
    ck_assert_ptr_null(psg_graph_grad(g, (int[]){ 0 }, 1, &err));
    ck_assert_int_eq(err.status, PSG_E_SHAPE);
    psg_graph_free(g);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transform");
    TCase *tc = tcase_create("nested"), *small = tcase_create("simplify");
    tcase_add_loop_test(tc, gradient_and_its_gradient, 0, N_MODELS);
    tcase_add_loop_test(tc, per_sample_gradients_equal_the_loop, 0, N_MODELS);
    tcase_add_loop_test(tc, vmap_of_vmap_equals_the_loop, 0, N_MODELS);
    tcase_add_loop_test(tc, gradient_of_a_batch, 0, N_MODELS);
    tcase_add_test(small, neutral_elements_vanish);
    tcase_add_test(small, zero_times_unknown_stays);
    tcase_add_test(small, equal_nodes_become_one);
    tcase_add_test(small, transposes_go_into_dots);
    tcase_add_test(small, recurrent_weight_gradient_is_one_dot);
    tcase_add_test(small, batch_gradient_has_no_per_sample_weights);
    tcase_add_test(small, wrong_requests_are_refused);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, small);
    return suite_run(suite);
}
