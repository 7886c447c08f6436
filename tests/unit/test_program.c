#include <string.h>

#include "psg/program.h"
#include "suite.h"

static psg_value add_input(struct psg_program *p, const char *name, int64_t dim)
{
    psg_value v = PSG_NONE;
    ck_assert_int_eq(psg_program_input(p, name, PSG_REAL, &PSG_SHAPE(dim), &v, NULL), 0);
    return v;
}

static int add_linear(struct psg_program *p, const char *path, psg_value in, int64_t out,
                      const struct psg_param_use *uses, int n_uses, psg_value *vp,
                      struct psg_error *err)
{
    struct psg_attrs *a = psg_attrs_new();
    ck_assert_int_eq(psg_attrs_int(a, "out_features", out), 0);
    int r = psg_program_add(p, "linear", path, &in, 1, a, uses, n_uses, vp, NULL, err);
    psg_attrs_free(a);
    return r;
}

START_TEST(parameters_have_pytorchs_names_and_trainable_ones_come_first)
{
    struct psg_program *p = psg_program_new();
    psg_value v = add_input(p, "x", 3);
    ck_assert_int_eq(add_linear(p, "0", v, 4, NULL, 0, &v, NULL), 0);
    ck_assert_int_eq(add_linear(p, "1", v, 2, NULL, 0, &v, NULL), 0);
    ck_assert_int_eq(psg_program_freeze(p, "0.weight", NULL), 0);
    ck_assert_int_eq(psg_program_set_output(p, v, NULL), 0);
    ck_assert_int_eq(psg_program_check(p, NULL), 0);
    ck_assert_int_eq(psg_program_trainable_size(p), 4 + 8 + 2);
    ck_assert_int_eq(psg_program_param_size(p), 12 + 4 + 8 + 2);
    const struct psg_param_info *w = psg_program_param(p, psg_program_find_param(p, "0.weight"));
    ck_assert_int_eq(w->offset, 14);
    ck_assert(!w->trainable);
    ck_assert_int_eq(psg_program_param(p, psg_program_find_param(p, "0.bias"))->offset, 0);
    ck_assert_int_eq(psg_program_freeze(p, "1.bias", NULL), PSG_E_INVALID);
    psg_program_free(p);
}
END_TEST

START_TEST(a_tied_parameter_is_one_parameter_and_must_fit)
{
    struct psg_program *p = psg_program_new();
    struct psg_error err;
    struct psg_param_use use = { "weight", "0.weight" }, wrong = { "wieght", "0.weight" };
    psg_value v = add_input(p, "x", 4), w;
    ck_assert_int_eq(add_linear(p, "0", v, 4, NULL, 0, &v, NULL), 0);
    ck_assert_int_eq(add_linear(p, "1", v, 4, &use, 1, &v, NULL), 0);
    ck_assert_int_eq(psg_program_n_params(p), 3);
    ck_assert_int_eq(add_linear(p, "2", v, 5, &use, 1, &w, &err), PSG_E_SHAPE);
    ck_assert_str_eq(err.place, "2");
    ck_assert_ptr_nonnull(strstr(err.text, "0.weight"));
    ck_assert_int_eq(add_linear(p, "2", v, 4, &wrong, 1, &w, &err), PSG_E_INVALID);
    ck_assert_int_eq(add_linear(p, "1", v, 4, NULL, 0, &w, &err), PSG_E_INVALID);
    ck_assert_int_eq(psg_program_n_nodes(p), 2);
    ck_assert_int_eq(psg_program_n_params(p), 3);
    psg_program_free(p);
}
END_TEST

START_TEST(errors_name_path_and_attribute)
{
    struct psg_program *p = psg_program_new();
    struct psg_error err;
    psg_value v = add_input(p, "x", 4), out;
    struct psg_attrs *a = psg_attrs_new();
    ck_assert_int_eq(psg_attrs_int(a, "out_featurs", 3), 0);
    ck_assert_int_eq(psg_attrs_int(a, "out_featurs", 3), PSG_E_INVALID);
    ck_assert_int_eq(psg_program_add(p, "linear", "head", &v, 1, a, NULL, 0, &out, NULL, &err),
                     PSG_E_INVALID);
    ck_assert_str_eq(err.place, "head.out_featurs");
    psg_attrs_free(a);
    ck_assert_int_eq(psg_program_add(p, "no_such", "head", &v, 1, NULL, NULL, 0, &out, NULL,
                                     &err),
                     PSG_E_INVALID);
    ck_assert_int_eq(psg_program_add(p, "linear", "head", &v, 1, NULL, NULL, 0, &out, NULL,
                                     &err),
                     PSG_E_INVALID);
    ck_assert_str_eq(err.place, "head.out_features");
    v = 77;
    ck_assert_int_eq(psg_program_add(p, "linear", "head", &v, 1, NULL, NULL, 0, &out, NULL,
                                     &err),
                     PSG_E_INVALID);
    psg_program_free(p);
}
END_TEST

START_TEST(a_loss_must_be_one_number_and_reach_every_trainable_parameter)
{
    struct psg_program *p = psg_program_new();
    struct psg_error err;
    psg_value v = add_input(p, "x", 4), side, out;
    ck_assert_int_eq(psg_program_check(p, &err), PSG_E_INVALID);
    ck_assert_int_eq(add_linear(p, "0", v, 3, NULL, 0, &out, NULL), 0);
    ck_assert_int_eq(add_linear(p, "side", v, 3, NULL, 0, &side, NULL), 0);
    ck_assert_int_eq(psg_program_set_loss(p, out, &err), PSG_E_SHAPE);
    psg_program_free(p);
}
END_TEST

START_TEST(initial_values_depend_on_the_key_alone)
{
    struct psg_key key;
    psg_real a[26], b[26];
    for (int round = 0; round < 2; round++) {
        struct psg_program *p = psg_program_new();
        psg_value v = add_input(p, "x", 3);
        ck_assert_int_eq(add_linear(p, "0", v, 4, NULL, 0, &v, NULL), 0);
        ck_assert_int_eq(add_linear(p, "1", v, 2, NULL, 0, &v, NULL), 0);
        ck_assert_int_eq(psg_program_set_output(p, v, NULL), 0);
        ck_assert_int_eq(psg_program_check(p, NULL), 0);
        psg_key_from_seed(7, &key);
        psg_program_init_params(p, &key, round ? b : a);
        psg_program_free(p);
    }
    ck_assert_mem_eq(a, b, sizeof a);
    for (int i = 0; i < 16; i++) { /* U(-1/sqrt(3), 1/sqrt(3)), not all alike */
        ck_assert(a[i] > -0.578f && a[i] < 0.578f);
        ck_assert(i == 0 || a[i] != a[i - 1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program");
    TCase *tc = tcase_create("program");
    tcase_add_test(tc, parameters_have_pytorchs_names_and_trainable_ones_come_first);
    tcase_add_test(tc, a_tied_parameter_is_one_parameter_and_must_fit);
    tcase_add_test(tc, errors_name_path_and_attribute);
    tcase_add_test(tc, a_loss_must_be_one_number_and_reach_every_trainable_parameter);
    tcase_add_test(tc, initial_values_depend_on_the_key_alone);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
