/* A layer that a client brings along, out of tree: one struct psg_op in one file, with nothing but
 * the public headers. It says infer and lower; what a mode needs beyond that is derived.
 *
 *   snake   y = x + sin(a x)^2 / a   with one a for each feature (Liu et al. 2020), and the
 *           dropout of its own: y * keep / (1 - p) while training */
#include <math.h>
#include <string.h>

#include "psg/plan.h"
#include "suite.h"

/* ---- the layer ---- */

struct snake {
    struct psg_shape shape;
    double p;
};

static const struct psg_attr_spec snake_attrs[] = {
    { "p", PSG_ATTR_REAL, "0; share of numbers that become zero" },
    { NULL, 0, NULL },
};

static int snake_infer(struct psg_infer *c)
{
    struct snake *g = c->geom;
    g->shape = c->in[0].shape;
    if (c->in[0].dtype != PSG_REAL || g->shape.rank < 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "x must be real numbers with an axis");
    g->p = psg_infer_real(c, "p", 0, 0, 0.99);
    psg_infer_param(c, "alpha", &PSG_SHAPE(g->shape.dim[g->shape.rank - 1]),
                    (struct psg_init){ .kind = PSG_INIT_CONSTANT, .value = 1 });
    psg_infer_out(c, PSG_REAL, &g->shape);
    psg_infer_random(c, g->p > 0 ? psg_shape_size(&g->shape) : 0);
    return psg_infer_status(c);
}

static void snake_lower(struct psg_lower *l)
{
    const struct snake *s = l->geom;
    struct psg_graph *g = l->g;
    psg_value wave = psg_g_unary(g, PSG_SIN, psg_g_mul(g, l->in[0], l->param[0]));
    psg_value y = psg_g_add(g, l->in[0], psg_g_div(g, psg_g_mul(g, wave, wave), l->param[0]));
    if (l->training && s->p > 0) {
        psg_value keep = psg_g_binary(g, PSG_GE, l->random, psg_g_scalar(g, s->p));
        y = psg_g_mul(g, psg_g_mul(g, y, psg_g_scalar(g, 1 / (1 - s->p))),
                      psg_g_reshape(g, keep, &s->shape));
    }
    l->out[0] = y;
}

static const struct psg_op snake = {
    .name = "snake",
    .attrs = snake_attrs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct snake),
    .infer = snake_infer,
    .lower = snake_lower,
};

/* ---- a net with it ---- */

enum { N = 6, IN = 4, HIDDEN = 3, CLASSES = 3, P_MAX = 64 };

struct net {
    struct psg_program *p;
    psg_real params[P_MAX];
    int64_t size;
    double x[N][IN];
    int64_t label[N];
    struct psg_column column[2];
    struct psg_key key;
};

static struct psg_error err;

static psg_value layer(struct psg_program *p, const char *op, const char *path, psg_value a,
                       psg_value b, const char *attr, double value)
{
    psg_value in[2] = { a, b }, out = PSG_NONE;
    struct psg_attrs *attrs = psg_attrs_new();
    if (attr && value == floor(value))
        psg_attrs_int(attrs, attr, (int64_t)value);
    else if (attr)
        psg_attrs_real(attrs, attr, value);
    int n = b == PSG_NONE ? 1 : 2;
    int r = strcmp(op, "snake") == 0
                ? psg_program_add_op(p, &snake, path, in, n, attrs, NULL, 0, &out, NULL, &err)
                : psg_program_add(p, op, path, in, n, attrs, NULL, 0, &out, NULL, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    psg_attrs_free(attrs);
    return out;
}

static void net_open(struct net *n)
{
    psg_value v, y;
    memset(n, 0, sizeof *n);
    n->p = psg_program_new();
    psg_program_input(n->p, "x", PSG_REAL, &PSG_SHAPE(IN), &v, NULL);
    psg_program_input(n->p, "y", PSG_I64, &(struct psg_shape){ 0 }, &y, NULL);
    v = layer(n->p, "linear", "in", v, PSG_NONE, "out_features", HIDDEN);
    v = layer(n->p, "snake", "act", v, PSG_NONE, "p", 0.25);
    v = layer(n->p, "linear", "out", v, PSG_NONE, "out_features", CLASSES);
    v = layer(n->p, "cross_entropy", "loss", v, y, NULL, 0);
    ck_assert_int_eq(psg_program_set_loss(n->p, v, &err), 0);
    ck_assert_int_eq(psg_program_check(n->p, &err), 0);
    n->size = psg_program_trainable_size(n->p);
    ck_assert_int_le(n->size, P_MAX);
    psg_key_from_seed(1, &n->key);
    psg_program_init_params(n->p, &n->key, n->params);
    for (int i = 0; i < N; i++) {
        n->label[i] = i % CLASSES;
        for (int k = 0; k < IN; k++)
            n->x[i][k] = cos(1 + 5 * i + 2 * k);
    }
    n->column[0] =
        (struct psg_column){ .type = PSG_COL_F64, .data = n->x, .stride = sizeof n->x[0] };
    n->column[1] =
        (struct psg_column){ .type = PSG_COL_I64, .data = n->label, .stride = sizeof(int64_t) };
}

static void gradients(struct net *n, enum psg_mode mode, psg_real *rows, psg_real *loss)
{
    struct psg_plan_options o = { .mode = mode, .tile = 4 };
    struct psg_records records = { .n = N, .column = n->column, .key = &n->key, .step = 7 };
    struct psg_grad_out out = { .rows = rows, .loss = loss };
    struct psg_plan *plan = NULL;
    ck_assert_msg(psg_plan_new(n->p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    ck_assert_int_eq(psg_grad_sample(plan, n->params, &records, &out, &err), 0);
    psg_plan_free(plan);
}

START_TEST(it_is_trained_as_functorch_does_in_every_mode)
{
    struct net n;
    psg_real want[N * P_MAX], rows[N * P_MAX];
    net_open(&n);
    gradients(&n, PSG_MODE_FUNCTORCH, want, NULL);
    gradients(&n, (enum psg_mode)_i, rows, NULL);
    for (int64_t k = 0; k < N * n.size; k++)
        ck_assert_double_eq_tol(rows[k], want[k], 1e-12);
    psg_program_free(n.p);
}
END_TEST

START_TEST(its_gradient_is_its_central_difference)
{
    struct net n;
    psg_real rows[N * P_MAX], up[N], down[N];
    const double h = 1e-5;
    net_open(&n);
    gradients(&n, (enum psg_mode)_i, rows, NULL);
    for (int64_t k = 0; k < n.size; k++) {
        psg_real was = n.params[k];
        n.params[k] = was + h;
        gradients(&n, (enum psg_mode)_i, NULL, up);
        n.params[k] = was - h;
        gradients(&n, (enum psg_mode)_i, NULL, down);
        n.params[k] = was;
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol(rows[i * n.size + k], (up[i] - down[i]) / (2 * h), 1e-7);
    }
    psg_program_free(n.p);
}
END_TEST

START_TEST(its_mistakes_name_the_node)
{
    struct psg_program *p = psg_program_new();
    psg_value v, out;
    psg_program_input(p, "x", PSG_REAL, &(struct psg_shape){ 0 }, &v, NULL);
    ck_assert_int_eq(psg_program_add_op(p, &snake, "a.b", &v, 1, NULL, NULL, 0, &out, NULL, &err),
                     PSG_E_SHAPE);
    ck_assert_str_eq(err.place, "a.b");
    psg_program_free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("own_layer");
    TCase *tc = tcase_create("own_layer");
    tcase_add_loop_test(tc, it_is_trained_as_functorch_does_in_every_mode, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, its_gradient_is_its_central_difference, 0, PSG_MODE_COUNT);
    tcase_add_test(tc, its_mistakes_name_the_node);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
