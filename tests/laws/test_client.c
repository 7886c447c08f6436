/* Rules that a client brings: the right ones are used, the wrong ones refused with numbers. */
#include <math.h>
#include <string.h>

#include "attrs_text.h"
#include "client_sampler.h"
#include "psg/plan.h"
#include "suite.h"

enum { N = 7, D = 6 };

static const enum psg_mode served[] = { PSG_MODE_HOOKS, PSG_MODE_GHOST, PSG_MODE_AUTO };

struct net {
    struct psg_program *p;
    psg_real *params;
    double x[N][D];
    struct psg_column column[1];
};

static psg_value add(struct psg_program *p, const struct psg_op *op, const char *path,
                     psg_value x, const char *text, const struct psg_param_use *use)
{
    struct psg_error err = { 0 };
    struct psg_attrs *attrs = attrs_from_text(text);
    psg_value out[8];
    ck_assert_msg(psg_program_add_op(p, op, path, &x, 1, attrs, use, use ? 1 : 0, out, NULL,
                                     &err) == 0,
                  "%s: %s", err.place, err.text);
    psg_attrs_free(attrs);
    return out[0];
}

/* linear in.(frozen bias), square op or tanh, two linear layers with one weight, sum */
static void net_open(struct net *n, const struct psg_op *own)
{
    static const struct psg_param_use tie = { "weight", "a.weight" };
    struct psg_key key;
    struct psg_error err = { 0 };
    psg_value v;
    memset(n, 0, sizeof *n);
    n->p = psg_program_new();
    ck_assert_int_eq(psg_program_input(n->p, "x", PSG_REAL, &PSG_SHAPE(2, D / 2), &v, NULL), 0);
    v = add(n->p, psg_op_find("linear"), "in", v, "out_features=4", NULL);
    if (own)
        v = add(n->p, own, "own", v, "", NULL);
    v = add(n->p, psg_op_find("tanh"), "t", v, "", NULL);
    v = add(n->p, psg_op_find("linear"), "a", v, "out_features=4", NULL);
    v = add(n->p, psg_op_find("tanh"), "u", v, "", NULL);
    v = add(n->p, psg_op_find("linear"), "b", v, "out_features=4", &tie);
    v = add(n->p, psg_op_find("linear"), "out", v, "out_features=3 bias=false", NULL);
    v = add(n->p, psg_op_find("tanh"), "w", v, "", NULL);
    v = add(n->p, psg_op_find("sum"), "sum", v, "", NULL);
    ck_assert_int_eq(psg_program_freeze(n->p, "in.bias", NULL), 0);
    ck_assert_int_eq(psg_program_set_loss(n->p, v, NULL), 0);
    ck_assert_msg(psg_program_check(n->p, &err) == 0, "%s: %s", err.place, err.text);
    psg_key_from_seed(3, &key);
    n->params = calloc((size_t)psg_program_param_size(n->p) + 1, sizeof *n->params);
    psg_program_init_params(n->p, &key, n->params);
    ck_assert_int_eq(psg_rng_fill_uniform(&key, PSG_RNG_USER, 0, 0, 0, N * D, &n->x[0][0], NULL),
                     0);
    n->column[0] = (struct psg_column){ .type = PSG_COL_F64, .data = n->x,
                                        .stride = sizeof n->x[0] };
}

static void net_close(struct net *n)
{
    psg_program_free(n->p);
    free(n->params);
}

static int plan_open(const struct net *n, enum psg_mode mode, const struct psg_registry *reg,
                     struct psg_plan **planp, struct psg_error *err)
{
    struct psg_plan_options o = { .mode = mode, .tile = 3, .n_threads = 2, .registry = reg };
    return psg_plan_new(n->p, &o, planp, err);
}

static void ask(const struct net *n, struct psg_plan *plan, int64_t count, psg_real *rows,
                double *sq, psg_real *sum)
{
    struct psg_records records = { .n = count, .column = n->column };
    struct psg_grad_out out = { .rows = rows, .sqnorm = sq };
    struct psg_sum_options options = { 0 };
    ck_assert_int_eq(psg_grad_sample(plan, n->params, &records, &out, NULL), 0);
    ck_assert_int_eq(psg_clipped_sum(plan, n->params, &records, &options, sum, NULL, NULL), 0);
}

static void equal(const psg_real *a, const psg_real *b, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_le(fabs((double)a[i] - (double)b[i]), 3e-6 * largest);
}

static void agrees_with_functorch(const struct net *n, struct psg_plan *plan, int64_t count)
{
    struct psg_plan *ref = NULL;
    int64_t size = psg_program_trainable_size(n->p);
    psg_real *a = calloc((size_t)(N * size + size), sizeof *a), *b = calloc(
                 (size_t)(N * size + size), sizeof *b);
    double sq[N] = { 0 }, want[N] = { 0 };
    ck_assert_int_eq(plan_open(n, PSG_MODE_FUNCTORCH, NULL, &ref, NULL), 0);
    ask(n, plan, count, a, sq, a + N * size);
    ask(n, ref, count, b, want, b + N * size);
    equal(a, b, count * size);
    equal(a + N * size, b + N * size, size);
    for (int64_t i = 0; i < count; i++)
        ck_assert_double_le(fabs(sq[i] - want[i]), 1e-5 * want[i]);
    psg_plan_free(ref);
    free(a);
    free(b);
}

static struct psg_registry *registry_with(struct psg_grad_sampler s)
{
    struct psg_registry *r = psg_registry_new();
    struct psg_error err = { 0 };
    ck_assert_msg(psg_register_grad_sampler(r, &s, &err) == 0, "%s: %s", err.place, err.text);
    return r;
}

START_TEST(a_grad_sampler_serves_hooks_ghost_and_auto)
{
    struct net n;
    struct client_count count = { 0 };
    struct psg_registry *reg = registry_with(
        (struct psg_grad_sampler){ .op = "linear", .grad_sample = client_linear_grad,
                                   .user = &count });
    struct psg_plan *plan = NULL;
    struct psg_error err = { 0 };
    net_open(&n, NULL);
    ck_assert_msg(plan_open(&n, served[_i], reg, &plan, &err) == 0, "%s: %s", err.place,
                  err.text);
    ck_assert_int_gt(count.grad, 0); /* the check ran it */
    int before = count.grad;
    ck_assert_str_eq(psg_plan_route(plan, 0), "grad_sample");
    agrees_with_functorch(&n, plan, N);
    ck_assert_int_ge(count.grad, before + 2 * 4 * 3); /* two calls, four layers, three tiles */
    before = count.grad;
    agrees_with_functorch(&n, plan, 0);
    ck_assert_int_eq(count.grad, before);
    psg_plan_free(plan);
    psg_registry_free(reg);
    net_close(&n);
}
END_TEST

START_TEST(norm_and_sum_of_a_client_spare_ghost_the_rows)
{
    struct net n;
    struct client_count count = { 0 };
    struct psg_registry *reg = registry_with((struct psg_grad_sampler){
        .op = "linear", .grad_sample = client_linear_grad, .norm_sample = client_linear_norm,
        .clipped_sum = client_linear_sum, .user = &count });
    struct psg_plan *plan = NULL;
    net_open(&n, NULL);
    ck_assert_int_eq(plan_open(&n, PSG_MODE_GHOST, reg, &plan, NULL), 0);
    ck_assert_str_eq(psg_plan_route(plan, 0), "norm_sample");
    ck_assert_str_eq(psg_plan_route(plan, 2), "grad_sample"); /* tied */
    int norm = count.norm, sum = count.sum;
    agrees_with_functorch(&n, plan, N);
    ck_assert_int_ge(count.norm, norm + 2 * 2 * 3);
    ck_assert_int_gt(count.sum, sum);
    psg_plan_free(plan);
    psg_registry_free(reg);
    net_close(&n);
}
END_TEST

static void refused(const struct net *n, const struct psg_registry *reg, enum psg_mode mode,
                    const char *place, const char *text)
{
    struct psg_plan *plan = NULL;
    struct psg_error err = { 0 };
    ck_assert_int_eq(plan_open(n, mode, reg, &plan, &err), PSG_E_INVALID);
    ck_assert_ptr_null(plan);
    ck_assert_str_eq(err.place, place);
    ck_assert_msg(strstr(err.text, text) != NULL, "%s", err.text);
    ck_assert_msg(strstr(err.text, "largest difference") != NULL, "%s", err.text);
}

START_TEST(a_wrong_gradient_is_refused_with_the_numbers)
{
    struct net n;
    struct client_count count = { 0 };
    struct psg_registry *reg = registry_with(
        (struct psg_grad_sampler){ .op = "linear", .grad_sample = client_linear_wrong,
                                   .user = &count, .origin = "plugin mine" });
    net_open(&n, NULL);
    refused(&n, reg, served[_i], "a.bias", "linear, brought by plugin mine");
    /* functorch and ew never ask a sampler */
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *plan = NULL;
        if (mode != PSG_MODE_FUNCTORCH && mode != PSG_MODE_EW)
            continue;
        int before = count.grad;
        ck_assert_int_eq(plan_open(&n, (enum psg_mode)mode, reg, &plan, NULL), 0);
        agrees_with_functorch(&n, plan, N);
        ck_assert_int_eq(count.grad, before);
        psg_plan_free(plan);
    }
    psg_registry_free(reg);
    net_close(&n);
}
END_TEST

static void double_norm(const struct psg_sampler_call *c)
{
    client_linear_norm(c);
    client_linear_norm(c);
}

static void heavy_sum(const struct psg_sampler_call *c)
{
    client_linear_sum(c);
    client_linear_sum(c);
}

START_TEST(a_wrong_norm_or_sum_is_refused)
{
    struct net n;
    struct client_count count = { 0 };
    struct psg_registry *norm = registry_with((struct psg_grad_sampler){
        .op = "linear", .grad_sample = client_linear_grad, .norm_sample = double_norm,
        .clipped_sum = client_linear_sum, .user = &count });
    struct psg_registry *sum = registry_with((struct psg_grad_sampler){
        .op = "linear", .grad_sample = client_linear_grad, .norm_sample = client_linear_norm,
        .clipped_sum = heavy_sum, .user = &count });
    net_open(&n, NULL);
    for (int i = 0; i < 3; i++) {
        refused(&n, norm, served[i], "in", "the norm of linear");
        refused(&n, sum, served[i], "in.weight", "of linear");
    }
    psg_registry_free(norm);
    psg_registry_free(sum);
    net_close(&n);
}
END_TEST

static void spoil(psg_real *to, int64_t n)
{
    if (to && n > 0)
        to[0] += (psg_real)0.5;
}

static void wrong_forward(const struct psg_call *c)
{
    client_square.forward(c);
    spoil(c->out[0], c->n);
}

static void wrong_backward(const struct psg_call *c)
{
    client_square.backward(c);
    spoil(c->din[0], c->n);
}

static void wrong_grad(const struct psg_call *c)
{
    client_square.grad_sample(c);
    spoil(c->grad[0], c->n);
}

START_TEST(an_op_of_the_client_is_checked_rule_by_rule)
{
    struct psg_op ops[] = { client_square, client_square, client_square, client_square };
    static const char *const place[] = { NULL, "own", "own", "own.weight" };
    static const char *const text[] = { NULL, "forward", "backward", "the per-sample gradient" };
    ops[1].forward = wrong_forward;
    ops[2].backward = wrong_backward;
    ops[3].grad_sample = wrong_grad;
    struct net n;
    net_open(&n, &ops[_i]);
    for (int i = 0; i < 3; i++) {
        struct psg_plan *plan = NULL;
        if (_i > 0) {
            refused(&n, NULL, served[i], place[_i], text[_i]);
            continue;
        }
        ck_assert_int_eq(plan_open(&n, served[i], NULL, &plan, NULL), 0);
        agrees_with_functorch(&n, plan, N);
        psg_plan_free(plan);
    }
    net_close(&n);
}
END_TEST

static void square_sampler(const struct psg_sampler_call *c)
{
    atomic_fetch_add(&((struct client_count *)c->user)->grad, 1);
    client_square.grad_sample(c->call);
}

static int64_t no_room(const struct psg_sampler_call *c, int64_t n)
{
    (void)c;
    return -n;
}

START_TEST(a_registry_keeps_ops_and_refuses_what_is_incomplete)
{
    struct client_count count = { 0 };
    struct psg_registry *reg = psg_registry_new();
    struct psg_error err;
    struct psg_op part = client_square, taken = client_square;
    part.lower = NULL;
    taken.name = "linear";
    ck_assert_int_eq(psg_register_op(reg, &part, NULL, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.text, "lower is missing");
    ck_assert_int_eq(psg_register_op(reg, &taken, NULL, NULL), PSG_E_INVALID);
    ck_assert_int_eq(psg_register_op(reg, &client_square, NULL, NULL), 0);
    ck_assert_int_eq(psg_register_op(reg, &client_square, NULL, NULL), PSG_E_INVALID);
    ck_assert_ptr_eq(psg_registry_op(reg, "client_square"), &client_square);
    ck_assert_ptr_null(psg_registry_op(reg, "other"));
    struct psg_grad_sampler s = { .op = "client_square", .user = &count };
    ck_assert_int_eq(psg_register_grad_sampler(reg, &s, NULL), PSG_E_INVALID);
    s.grad_sample = square_sampler;
    ck_assert_int_eq(psg_register_grad_sampler(reg, &s, NULL), 0);
    ck_assert_int_eq(psg_register_grad_sampler(reg, &s, NULL), PSG_E_INVALID);
    s.op = "";
    ck_assert_int_eq(psg_register_grad_sampler(reg, &s, NULL), PSG_E_INVALID);
    struct net n;
    struct psg_plan *plan = NULL;
    net_open(&n, psg_registry_op(reg, "client_square"));
    ck_assert_int_eq(plan_open(&n, PSG_MODE_GHOST, reg, &plan, NULL), 0);
    agrees_with_functorch(&n, plan, N);
    ck_assert_int_gt(count.grad, 0);
    psg_plan_free(plan);
    plan = NULL;
    s.op = "linear";
    s.scratch = no_room;
    ck_assert_int_eq(psg_register_grad_sampler(reg, &s, NULL), 0);
    ck_assert_int_eq(plan_open(&n, PSG_MODE_HOOKS, reg, &plan, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.place, "in");
    net_close(&n);
    psg_registry_free(reg);
}
END_TEST

START_TEST(attributes_are_read_by_name_and_kind)
{
    struct psg_attrs *a = attrs_from_text("i=3 r=0.5 b=true s=same l=1,2");
    int n;
    ck_assert_int_eq(psg_attrs_get_int(a, "i", 0), 3);
    ck_assert_int_eq(psg_attrs_get_int(a, "r", 7), 7);
    ck_assert(psg_attrs_get_real(a, "r", 0) == 0.5 && psg_attrs_get_real(a, "i", 0) == 3);
    ck_assert(psg_attrs_get_bool(a, "b", false) && psg_attrs_get_bool(NULL, "b", true));
    ck_assert_str_eq(psg_attrs_get_string(a, "s", ""), "same");
    ck_assert_str_eq(psg_attrs_get_string(a, "i", "none"), "none");
    ck_assert_int_eq(psg_attrs_get_ints(a, "l", &n)[1], 2);
    ck_assert_int_eq(psg_attrs_get_ints(a, "i", &n)[0], 3);
    ck_assert_int_eq(n, 1);
    ck_assert_ptr_null(psg_attrs_get_ints(a, "s", &n));
    psg_attrs_free(a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *tc = tcase_create("client");
    tcase_add_loop_test(tc, a_grad_sampler_serves_hooks_ghost_and_auto, 0, 3);
    tcase_add_test(tc, norm_and_sum_of_a_client_spare_ghost_the_rows);
    tcase_add_loop_test(tc, a_wrong_gradient_is_refused_with_the_numbers, 0, 3);
    tcase_add_test(tc, a_wrong_norm_or_sum_is_refused);
    tcase_add_loop_test(tc, an_op_of_the_client_is_checked_rule_by_rule, 0, 4);
    tcase_add_test(tc, a_registry_keeps_ops_and_refuses_what_is_incomplete);
    tcase_add_test(tc, attributes_are_read_by_name_and_kind);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
