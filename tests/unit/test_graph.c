/* Building, printing, planning and running graphs; errors; failing allocations. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "psg/graph.h"
#include "suite.h"

static struct psg_graph *new_graph(void)
{
    struct psg_graph *g = psg_graph_new();
    ck_assert_ptr_nonnull(g);
    return g;
}

static psg_value input(struct psg_graph *g, struct psg_shape shape)
{
    return psg_graph_input(g, PSG_REAL, &shape);
}

/* Runs g once and frees the plan. */
static void run(const struct psg_graph *g, const void *const *in, void *const *out)
{
    struct psg_exec *e;
    struct psg_error err = { 0 };
    ck_assert_msg(psg_exec_new(g, psg_backend_ref(), &e, &err) == 0, "%s: %s", err.place,
                  err.text);
    ck_assert_uint_gt(psg_exec_bytes(e), 0);
    psg_exec_run(e, in, out);
    psg_exec_free(e);
}

START_TEST(formula_reads_as_one_expression)
{
    struct psg_graph *g = new_graph();
    psg_value x = input(g, PSG_SHAPE(2, 3)), b = input(g, PSG_SHAPE(3));
    psg_graph_output(g, psg_g_tanh(g, psg_g_add(g, x, b)));
    psg_real xv[6] = { 0, 1, 2, 3, 4, 5 }, bv[3] = { 1, 0, -1 }, y[6];
    ck_assert_int_eq(psg_graph_check(g, NULL), 0);
    run(g, (const void *[]){ xv, bv }, (void *[]){ y });
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq_tol(y[i], tanh(xv[i] + bv[i % 3]), 1e-6);
    psg_graph_free(g);
}
END_TEST

START_TEST(first_error_is_kept_with_its_place)
{
    struct psg_graph *g = new_graph();
    struct psg_error err = { 0 };
    psg_graph_set_place(g, "encoder.0");
    psg_value x = input(g, PSG_SHAPE(2, 3)), y = input(g, PSG_SHAPE(4));
    psg_value bad = psg_g_add(g, x, y);
    ck_assert_int_eq(bad, PSG_NONE);
    psg_graph_set_place(g, "encoder.1");
    ck_assert_int_eq(psg_g_exp(g, bad), PSG_NONE);
    ck_assert_int_eq(psg_graph_check(g, &err), PSG_E_SHAPE);
    ck_assert_str_eq(err.place, "encoder.0");
    ck_assert_ptr_nonnull(strstr(err.text, "[2, 3]"));
    struct psg_exec *e;
    ck_assert_int_eq(psg_exec_new(g, psg_backend_ref(), &e, NULL), PSG_E_SHAPE);
    ck_assert_ptr_null(psg_graph_vmap(g, 2, (bool[]){ true, true }, NULL));
    psg_graph_free(g);
}
END_TEST

START_TEST(shapes_that_overflow_are_refused)
{
    struct psg_graph *g = new_graph();
    ck_assert_int_eq(input(g, PSG_SHAPE(INT64_MAX, 2)), PSG_NONE);
    ck_assert_int_eq(psg_graph_check(g, NULL), PSG_E_SHAPE);
    psg_graph_free(g);
    g = new_graph();
    ck_assert_int_eq(input(g, PSG_SHAPE(INT64_MAX, INT64_MAX, 0)), PSG_NONE);
    psg_graph_free(g);
    g = new_graph();
    psg_value x = input(g, PSG_SHAPE(3));
    psg_g_pad(g, x, (int64_t[]){ INT64_MAX }, (int64_t[]){ 1 }, (int64_t[]){ 0 }, 0);
    ck_assert_int_eq(psg_graph_check(g, NULL), PSG_E_SHAPE);
    psg_graph_free(g);
    g = new_graph();
    x = input(g, PSG_SHAPE(1 << 20, 1 << 20));
    struct psg_error err;
    ck_assert_ptr_null(psg_graph_vmap(g, INT64_MAX / 2, (bool[]){ true }, &err));
    psg_graph_free(g);
}
END_TEST

START_TEST(print_names_every_node)
{
    struct psg_graph *g = new_graph();
    psg_value a = input(g, PSG_SHAPE(4, 3)), b = input(g, PSG_SHAPE(3, 5));
    psg_graph_set_place(g, "fc1");
    psg_graph_output(g, psg_g_matmul(g, a, b));
    char *text = psg_graph_print(g);
    ck_assert_str_eq(text, "%0 = input : f[4, 3]\n%1 = input : f[3, 5]\n"
                           "%2 = dot %0 %1 over 1:0 : f[4, 5]  # fc1\noutput %2\n");
    free(text);
    psg_graph_free(g);
}
END_TEST

START_TEST(int64_values_move_and_are_converted)
{
    struct psg_graph *g = new_graph();
    struct psg_shape s = PSG_SHAPE(2, 2);
    psg_value id = psg_graph_input(g, PSG_I64, &s);
    psg_value turned = psg_g_transpose(g, id, (int[]){ 1, 0 });
    psg_graph_output(g, turned);
    psg_graph_output(g, psg_g_convert(g, turned));
    psg_graph_output(g, psg_g_onehot(g, id, 3));
    int64_t v[4] = { 2, -1, 5, 0 }, t[4];
    psg_real c[4], h[12];
    run(g, (const void *[]){ v }, (void *[]){ t, c, h });
    ck_assert_int_eq(t[1], 5);
    ck_assert_double_eq(c[2], -1);
    const double want[12] = { 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0 };
    for (int i = 0; i < 12; i++)
        ck_assert_double_eq(h[i], want[i]);
    psg_graph_free(g);
}
END_TEST

START_TEST(outputs_may_be_inputs_views_and_repeated)
{
    struct psg_graph *g = new_graph();
    psg_value x = input(g, PSG_SHAPE(2, 3));
    psg_value e = psg_g_neg(g, x), r = psg_g_reshape(g, e, &PSG_SHAPE(3, 2));
    psg_graph_output(g, x);
    psg_graph_output(g, psg_g_transpose(g, x, (int[]){ 1, 0 }));
    psg_graph_output(g, r);
    psg_graph_output(g, e);
    psg_graph_output(g, e);
    psg_graph_output(g, psg_g_full(g, &PSG_SHAPE(4), 7));
    psg_graph_output(g, psg_g_iota(g, &PSG_SHAPE(2, 2), 1));
    psg_real xv[6] = { 0, 1, 2, 3, 4, 5 }, o[5][6], f[4], n[4];
    run(g, (const void *[]){ xv }, (void *[]){ o[0], o[1], o[2], o[3], o[4], f, n });
    for (int i = 0; i < 6; i++) {
        ck_assert_double_eq(o[0][i], xv[i]);
        ck_assert_double_eq(o[1][i], xv[i % 2 * 3 + i / 2]);
        for (int k = 2; k < 5; k++)
            ck_assert_double_eq(o[k][i], -xv[i]);
    }
    ck_assert_double_eq(f[3], 7);
    ck_assert_double_eq(n[3], 1);
    psg_graph_free(g);
}
END_TEST

START_TEST(dying_operands_are_reused)
{
    /* a chain of elementwise nodes needs one buffer at most, whatever its length */
    size_t bytes[2];
    for (int k = 0; k < 2; k++) {
        struct psg_graph *g = new_graph();
        psg_value x = input(g, PSG_SHAPE(1 << 20)), y = x;
        for (int i = 0; i < 4 + 8 * k; i++)
            y = psg_g_tanh(g, psg_g_mul(g, y, x));
        psg_graph_output(g, psg_g_sum(g, y, 1));
        struct psg_exec *e;
        ck_assert_int_eq(psg_exec_new(g, psg_backend_ref(), &e, NULL), 0);
        bytes[k] = psg_exec_bytes(e);
        psg_exec_free(e);
        psg_graph_free(g);
    }
    ck_assert_uint_lt(bytes[0], (sizeof(psg_real) << 20) * 3 / 2);
    ck_assert_uint_lt(bytes[1], (sizeof(psg_real) << 20) * 3 / 2);
}
END_TEST

START_TEST(a_hundred_thousand_nodes)
{
    struct psg_graph *g = new_graph();
    struct psg_error err;
    psg_value x = input(g, PSG_SHAPE(4)), y = x;
    for (int i = 0; i < 50000; i++)
        y = psg_g_mul(g, psg_g_sub(g, y, x), psg_g_full(g, &PSG_SHAPE(4), 0.5));
    psg_graph_output(g, psg_g_sum(g, y, 1));
    struct psg_graph *d = psg_graph_grad(g, (int[]){ 0 }, 1, &err);
    struct psg_graph *v = psg_graph_vmap(d, 2, (bool[]){ true }, &err);
    struct psg_graph *s = psg_graph_simplify(v, &err);
    ck_assert_ptr_nonnull(s);
    psg_real xv[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, loss[2], dx[8];
    run(s, (const void *[]){ xv }, (void *[]){ loss, dx });
    /* y = -x (1/2 + 1/4 + ...) in the limit, from y0 = x */
    for (int i = 0; i < 8; i++)
        ck_assert_double_eq_tol(dx[i], -1, 1e-5);
    psg_graph_free(g);
    psg_graph_free(d);
    psg_graph_free(v);
    psg_graph_free(s);
}
END_TEST

START_TEST(inline_checks_its_arguments)
{
    struct psg_graph *f = new_graph(), *g = new_graph();
    psg_value x = input(f, PSG_SHAPE(3));
    psg_graph_output(f, psg_g_mul(f, x, x));
    psg_value y = input(g, PSG_SHAPE(3)), out;
    ck_assert_int_eq(psg_graph_inline(g, f, &y, &out), 0);
    ck_assert_int_eq(psg_graph_inline(g, f, &out, &out), 0);
    psg_graph_output(g, out);
    psg_real v[3] = { 1, 2, 3 }, r[3];
    run(g, (const void *[]){ v }, (void *[]){ r });
    ck_assert_double_eq(r[2], 81);
    psg_value z = input(g, PSG_SHAPE(4));
    ck_assert_int_eq(psg_graph_inline(g, f, &z, &out), PSG_E_SHAPE);
    psg_graph_free(f);
    psg_graph_free(g);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph");
    TCase *tc = tcase_create("graph");
    tcase_add_test(tc, formula_reads_as_one_expression);
    tcase_add_test(tc, first_error_is_kept_with_its_place);
    tcase_add_test(tc, shapes_that_overflow_are_refused);
    tcase_add_test(tc, print_names_every_node);
    tcase_add_test(tc, int64_values_move_and_are_converted);
    tcase_add_test(tc, outputs_may_be_inputs_views_and_repeated);
    tcase_add_test(tc, dying_operands_are_reused);
    tcase_add_test(tc, a_hundred_thousand_nodes);
    tcase_add_test(tc, inline_checks_its_arguments);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
