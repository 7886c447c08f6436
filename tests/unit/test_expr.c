/* Layers written as formulas: what each function gives, what is refused and where, and that a net
 * of such layers has the same per-sample gradients in every mode and by central differences. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "psg/expr.h"
#include "psg/plan.h"
#include "suite.h"

enum { N = 5 };

static struct psg_error err;

/* ---- one formula ---- */

static const double x_data[12] = { 1, -2, 3, 0.5, -1, 2, 0, 4, 2.5, -0.5, 1, -3 };
static const double v_data[4] = { 1, 2, -1, 0.5 };
static const int64_t id_data[2] = { 2, 0 };

static struct psg_expr *base(void)
{
    struct psg_expr *e = psg_expr_new("own");
    const double three = 3, list[2] = { 4, 3 };
    const double eye[4] = { 1, 0, 0, 2 };
    ck_assert_int_eq(psg_expr_input(e, "x", &err), 0);
    ck_assert_int_eq(psg_expr_input(e, "v", &err), 0);
    ck_assert_int_eq(psg_expr_input(e, "ids", &err), 0);
    ck_assert_int_eq(psg_expr_attr(e, "k", &three, 1, false, &err), 0);
    ck_assert_int_eq(psg_expr_attr(e, "to", list, 2, true, &err), 0);
    ck_assert_int_eq(psg_expr_buffer(e, "eye", &PSG_SHAPE(2, 2), eye, &err), 0);
    return e;
}

static int add_own(struct psg_program *p, const struct psg_op *op, psg_value *out)
{
    psg_value in[3];
    ck_assert_int_eq(psg_program_input(p, "x", PSG_REAL, &PSG_SHAPE(3, 4), &in[0], NULL), 0);
    ck_assert_int_eq(psg_program_input(p, "v", PSG_REAL, &PSG_SHAPE(4), &in[1], NULL), 0);
    ck_assert_int_eq(psg_program_input(p, "ids", PSG_I64, &PSG_SHAPE(2), &in[2], NULL), 0);
    return psg_program_add_op(p, op, "net.0", in, 3, NULL, NULL, 0, out, NULL, &err);
}

/* shape and numbers of the formula's value, as text */
static void value_of(const char *formula, char *text, size_t size)
{
    struct psg_expr *e = base();
    struct psg_program *p = psg_program_new();
    struct psg_plan *plan;
    struct psg_plan_options options = { 0 };
    psg_value out;
    psg_real y[256] = { 0 };
    int r = psg_expr_out(e, formula, &err);
    ck_assert_msg(r == 0, "%s: %s", formula, err.text);
    r = add_own(p, psg_expr_op(e, &err), &out);
    ck_assert_msg(r == 0, "%s: %s %s", formula, err.place, err.text);
    ck_assert_int_eq(psg_program_set_output(p, out, &err), 0);
    ck_assert_int_eq(psg_program_check(p, &err), 0);
    ck_assert_msg(psg_plan_new(p, &options, &plan, &err) == 0, "%s", err.text);
    const struct psg_column column[3] = { { .type = PSG_COL_F64, .data = x_data },
                                          { .type = PSG_COL_F64, .data = v_data },
                                          { .type = PSG_COL_I64, .data = id_data } };
    struct psg_records records = { .n = 1, .column = column };
    ck_assert_msg(psg_evaluate(plan, y, &records, NULL, y, &err) == 0, "%s", err.text);
    const struct psg_shape *shape = &psg_program_output_type(p)->shape;
    psg_shape_text(shape, text, size);
    for (int64_t i = 0; i < psg_shape_size(shape); i++) {
        size_t n = strlen(text);
        snprintf(text + n, size - n, " %.6g", (double)y[i] + 0.0);
    }
    psg_plan_free(plan);
    psg_program_free(p);
    psg_expr_free(e);
}

/* right sides: NumPy's and PyTorch's meaning, the transcendental ones from Python's math */
static const struct {
    const char *formula, *want;
} formulas[] = {
    { "v", "[4] 1 2 -1 0.5" },
    { "2 ** 3 ** 2 - 10 // 3 + -2 ** 2 + (1 < 2) * 7 + v * 0", "[4] 512 512 512 512" },
    { "-v * 2 - 1 / (2 + 2)", "[4] -2.25 -4.25 1.75 -1.25" },
    { "v >= 1", "[4] 1 1 0 0" },
    { "(v == 0.5) != (v < 0)", "[4] 0 0 1 1" },
    { "full([2], k * size(x, -1) + sqrt(16))", "[2] 16 16" },
    { "x @ v", "[3] -5.75 5 -1" },
    { "v @ x.T", "[3] -5.75 5 -1" },
    { "x @ x.T", "[3, 3] 14.25 -3 5 -3 21 -15.5 5 -15.5 16.5" },
    { "v @ v", "[] 6.25" },
    { "unsqueeze(eye, 0) @ reshape(v, [1, 2, 2])", "[1, 2, 2] 1 2 -2 1" },
    { "expand(unsqueeze(eye, 0), [2, 2, 2]) @ reshape(x, [1, 2, 6])",
      "[2, 2, 6] 1 -2 3 0.5 -1 2 0 8 5 -1 2 -6 1 -2 3 0.5 -1 2 0 8 5 -1 2 -6" },
    { "einsum('ij,j->i', x, v)", "[3] -5.75 5 -1" },
    { "einsum('ij,kj->ki', x, x)", "[3, 3] 14.25 -3 5 -3 21 -15.5 5 -15.5 16.5" },
    { "einsum('ij->j', x)", "[4] 2.5 -0.5 4 1.5" },
    { "einsum('ij,ij->i', x, x)", "[3] 14.25 21 16.5" },
    { "einsum('i,j->ji', v, select(x, 0, 0))",
      "[4, 4] 1 2 -1 0.5 -2 -4 2 -1 3 6 -3 1.5 0.5 1 -0.5 0.25" },
    { "sum(x)", "[] 7.5" },
    { "sum(x, 0)", "[4] 2.5 -0.5 4 1.5" },
    { "mean(x, [-1], true)", "[3, 1] 0.625 1.25 0" },
    { "amax(x, 1) - amin(x, 1)", "[3] 5 5 5.5" },
    { "softmax(v, 0)", "[4] 0.224208 0.60946 0.0303432 0.135989" },
    { "log_softmax(v, -1)", "[4] -1.49518 -0.495182 -3.49518 -1.99518" },
    { "logsumexp(x, 1)", "[3] 3.20225 4.14876 2.74452" },
    { "logsumexp(v, 0, true)", "[1] 2.49518" },
    { "argmax(x, 1)", "[3] 2 3 0" },
    { "relu(v) + silu(v) + gelu(v)", "[4] 2.5724 5.71609 -0.427597 1.15696" },
    { "softplus(v) + logsigmoid(-v)", "[4] 0 0 0 0" },
    { "tanh(v) + sigmoid(v) + exp(v) + abs(v) + sign(v)",
      "[4] 6.21093 12.2339 -0.124773 4.2333" },
    { "clamp(v, -0.5, 1)", "[4] 1 1 -0.5 0.5" },
    { "where(v > 0.75, v, -inf)", "[4] 1 2 -inf -inf" },
    { "maximum(v, 0.75) + minimum(v, 0.75)", "[4] 1.75 2.75 -0.25 1.25" },
    { "floor(v / 2) + ceil(v / 2) + v // 2", "[4] 1 3 -2 1" },
    { "reshape(x, [-1, 6])", "[2, 6] 1 -2 3 0.5 -1 2 0 4 2.5 -0.5 1 -3" },
    { "reshape(x, to)", "[4, 3] 1 -2 3 0.5 -1 2 0 4 2.5 -0.5 1 -3" },
    { "flatten(eye)", "[4] 1 0 0 2" },
    { "transpose(x, 0, 1) - permute(x, [1, 0]) + x.T",
      "[4, 3] 1 -1 2.5 -2 2 -0.5 3 0 1 0.5 4 -3" },
    { "squeeze(unsqueeze(v, -1), 1)", "[4] 1 2 -1 0.5" },
    { "concat(v, select(x, 0, -1), 0)", "[8] 1 2 -1 0.5 2.5 -0.5 1 -3" },
    { "slice(v, 0, 1, inf)", "[3] 2 -1 0.5" },
    { "slice(v, 0, -3, -1)", "[2] 2 -1" },
    { "slice(v, 0, 0, 4, 2)", "[2] 1 -1" },
    { "pad(v, 0, 1, 2, 9)", "[7] 9 1 2 -1 0.5 9 9" },
    { "flip(eye, [0, 1])", "[2, 2] 2 0 0 1" },
    { "unfold(v, 2, 1, 1, 2)", "[2, 4] 0 1 2 -1 2 -1 0.5 0" },
    { "embedding(ids, x)", "[2, 4] 2.5 -0.5 1 -3 1 -2 3 0.5" },
    { "one_hot(ids, 3)", "[2, 3] 0 0 1 1 0 0" },
    { "float(ids) / 2 + ids", "[2] 3 0" },
    { "arange(3) * ones([2, 1]) + zeros([3])", "[2, 3] 0 1 2 0 1 2" },
    { "dropout(v, 0.5)", "[4] 1 2 -1 0.5" },
    { "detach(v) + pi - pi", "[4] 1 2 -1 0.5" },
    { "v ** 2 + v ** 3 + square(v) - pow(v, 2)", "[4] 2 12 0 0.375" },
};

START_TEST(functions_mean_what_they_do_in_pytorch)
{
    char text[2048];
    value_of(formulas[_i].formula, text, sizeof text);
    ck_assert_msg(strcmp(text, formulas[_i].want) == 0, "%s\n   is %s\nwant %s",
                  formulas[_i].formula, text, formulas[_i].want);
}
END_TEST

/* ---- mistakes ---- */

static const struct {
    const char *formula, *text; /* as written: found when the layer is declared */
} wrong[] = {
    { "", "column 1: the formula ends where a value is expected" },
    { "v +", "column 4: the formula ends where a value is expected" },
    { "v + * 2", "column 5: a value is expected here" },
    { "(v", "column 1: this bracket is never closed" },
    { "v)", "column 2: there is nothing that this bracket closes" },
    { "sum(v]", "column 6: there is nothing that this bracket closes" },
    { "v, 2", "column 2: a comma belongs into a call or a list" },
    { "v v", "column 3: an operator is expected here" },
    { "w * 2", "column 1: w is not known here" },
    { "2 * fft(v)", "column 5: there is no function fft" },
    { "relu(v, 2)", "column 1: relu takes 1 arguments, not 2" },
    { "sum()", "column 1: sum takes 1 to 3 arguments, not 0" },
    { "1 < v < 2", "column 7: comparisons do not chain: use parentheses" },
    { "1.2.3 * v", "column 1: this is not a number" },
    { "0x10 * v", "column 1: this is not a number" },
    { "1e999 * v", "column 1: this is not a number" },
    { "einsum('i->i, v)", "column 8: this quote is never closed" },
    { "[1,2,3,4,5,6,7,8,9,10,11,12,13]", "column 1: a list has at most 12 numbers" },
    { "v $ 2", "column 3: an operator is expected here" },
};

START_TEST(what_cannot_be_read_names_its_column)
{
    struct psg_expr *e = base();
    ck_assert_int_eq(psg_expr_out(e, wrong[_i].formula, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.place, "out/0");
    ck_assert_str_eq(err.text, wrong[_i].text);
    psg_expr_free(e);
}
END_TEST

static const struct {
    const char *formula, *text; /* found where the layer is used */
} misfit[] = {
    { "x @ x", "own: column 3: [3, 4] @ [3, 4] does not fit" },
    { "v + ids", "" },
    { "reshape(x, [5, -1])", "own: column 1: the shape does not hold the 12 numbers of [3, 4]" },
    { "reshape(x, [-1, -1])", "own: column 1: only one axis may be -1" },
    { "sum(x, 2)", "own: column 1: the axis is 2, must be a whole number from -2 to 1" },
    { "sum(x, [0, -2])", "own: column 1: axis 0 is named twice" },
    { "sum(x, v)", "own: column 1: axes must be a number or a list of numbers" },
    { "transpose(x, 0.5, 1)",
      "own: column 1: the axis is 0.5, must be a whole number from -2 to 1" },
    { "embedding(v, x)", "own: column 1: ids must be an integer input" },
    { "einsum('ij,jk->ik', x, x)", "own: column 1: j is 4 and 3" },
    { "einsum('ij,j->k', x, v)", "own: column 1: k is in no operand" },
    { "einsum('ii->i', x)",
      "own: column 1: einsum reads 'ti,oi->to': letters, each once in a term" },
    { "v + 'text'", "own: column 3: a quoted text is no tensor" },
    { "[1, 2] + v", "own: column 8: a list is no tensor" },
    { "[v, 1]", "own: column 1: lists are made of numbers known before any sample is" },
    { "dropout(v, 2)", "own: column 1: p must be a number from 0 to 1" },
    { "0 / 0 * v", "own: column 3: this is not a number" },
    { "zeros([100000, 100000])", "own: column 1: the shape is too large" },
    { "reshape(arange(10000), [10000, 1]) * arange(10000)",
      "own: column 36: makes a tensor of more than 67108864 numbers" },
    { "squeeze(x, 0)", "own: column 1: axis 0 has length 3, not 1" },
    { "concat(x, v, 0)", "" },
    { "v.T", "own: column 2: .T needs two axes" },
    { "select(x, 0, 3)",
      "own: column 1: the index is 3, must be a whole number from -3 to 2" },
};

START_TEST(what_does_not_fit_names_step_and_column)
{
    struct psg_expr *e = base();
    struct psg_program *p = psg_program_new();
    psg_value out;
    ck_assert_int_eq(psg_expr_let(e, "first = v * 2", &err), 0);
    char text[512];
    snprintf(text, sizeof text, "second = %s", misfit[_i].formula);
    ck_assert_int_eq(psg_expr_let(e, text, &err), 0);
    ck_assert_int_eq(psg_expr_out(e, "second", &err), 0);
    ck_assert_int_lt(add_own(p, psg_expr_op(e, &err), &out), 0);
    ck_assert_str_eq(err.place, "net.0.let/1");
    int shift = (int)strlen("second = ");
    if (misfit[_i].text[0]) { /* else the primitive's own words */
        int column = 0, skip = 0;
        ck_assert_int_eq(sscanf(misfit[_i].text, "own: column %d:%n", &column, &skip), 1);
        snprintf(text, sizeof text, "own: column %d:%s", column + shift,
                 misfit[_i].text + skip);
        ck_assert_str_eq(err.text, text);
    }
    psg_program_free(p);
    psg_expr_free(e);
}
END_TEST

START_TEST(depth_length_and_number_are_bounded)
{
    struct psg_expr *e = base();
    char text[PSG_EXPR_TEXT_MAX + 8];
    memset(text, '(', sizeof text);
    text[1000] = '\0';
    ck_assert_int_eq(psg_expr_out(e, text, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.text, "column 49: too deeply nested");
    memset(text, '-', sizeof text);
    text[1000] = '\0';
    ck_assert_int_eq(psg_expr_out(e, text, &err), PSG_E_INVALID);
    memset(text, '1', sizeof text);
    text[PSG_EXPR_TEXT_MAX + 1] = '\0';
    ck_assert_int_eq(psg_expr_out(e, text, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.text, "longer than 2048 bytes");
    int r = 0, n = 0;
    for (; r == 0 && n < PSG_EXPR_NAMES_MAX + 1; n++) {
        snprintf(text, sizeof text, "step%d = v", n);
        r = psg_expr_let(e, text, &err);
    }
    ck_assert_int_eq(r, PSG_E_INVALID);
    ck_assert_str_eq(err.text, "more than 128 names");
    psg_expr_free(e);
    e = base();
    strcpy(text, "v");
    for (int i = 0; i < 600; i++)
        strcat(text, "+v");
    ck_assert_int_eq(psg_expr_out(e, text, &err), PSG_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 1024 steps"));
    psg_expr_free(e);
}
END_TEST

START_TEST(names_are_checked)
{
    struct psg_expr *e = base();
    ck_assert_int_eq(psg_expr_input(e, "x", &err), PSG_E_INVALID);
    ck_assert_str_eq(err.text, "x is declared twice");
    ck_assert_int_eq(psg_expr_input(e, "2x", &err), PSG_E_INVALID);
    ck_assert_int_eq(psg_expr_let(e, "v + 1", &err), PSG_E_INVALID);
    ck_assert_str_eq(err.text, "column 1: a step reads \"name = formula\"");
    ck_assert_int_eq(psg_expr_let(e, "a == v", &err), PSG_E_INVALID);
    ck_assert_int_eq(psg_expr_let(e, "v = 1", &err), PSG_E_INVALID);
    ck_assert_str_eq(err.place, "let/0");
    ck_assert_ptr_null(psg_expr_op(e, &err));
    ck_assert_str_eq(err.place, "out");
    const char *shape[1] = { "k +" };
    ck_assert_int_eq(psg_expr_param(e, "w", shape, 1, NULL, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.place, "params/w/shape/0");
    psg_expr_free(e);
}
END_TEST

/* ---- a net of own layers ---- */

static void destroy(void *e)
{
    psg_expr_free(e);
}

/* y = dropout(silu(x w^T) * (x v^T) + b, p) o^T * scale: three products, a vector, a buffer, an
 * attribute, a tied parameter when `o` has the shape of w^T */
static struct psg_expr *gated(void)
{
    struct psg_expr *e = psg_expr_new("gated");
    const double p = 0.25, scale[2] = { 0.5, 2 };
    const char *wide[2] = { "hidden", "size(x, -1)" }, *narrow[2] = { "2", "hidden" },
               *bias[1] = { "hidden" };
    struct psg_expr_init init = { PSG_INIT_NORMAL, "1 / sqrt(hidden)" };
    ck_assert_int_eq(psg_expr_input(e, "x", &err), 0);
    ck_assert_int_eq(psg_expr_attr(e, "hidden", NULL, 1, false, &err), 0);
    ck_assert_int_eq(psg_expr_attr(e, "p", &p, 1, false, &err), 0);
    ck_assert_int_eq(psg_expr_buffer(e, "scale", &PSG_SHAPE(2), scale, &err), 0);
    ck_assert_int_eq(psg_expr_param(e, "w", wide, 2, NULL, &err), 0);
    ck_assert_int_eq(psg_expr_param(e, "v", wide, 2, NULL, &err), 0);
    ck_assert_int_eq(psg_expr_param(e, "b", bias, 1, &init, &err), 0);
    ck_assert_int_eq(psg_expr_param(e, "o", narrow, 2, &init, &err), 0);
    ck_assert_int_eq(psg_expr_let(e, "gate = silu(x @ w.T)", &err), 0);
    ck_assert_int_eq(psg_expr_let(e, "h = dropout(gate * (x @ v.T) + b, p)", &err), 0);
    ck_assert_int_eq(psg_expr_out(e, "(h @ o.T) * scale", &err), 0);
    ck_assert_int_eq(psg_expr_out(e, "sum(h ** 2) / size(h, -1)", &err), 0);
    return e;
}

/* mean squared distance to a target, with a second term, from two inputs of the layer */
static struct psg_expr *distance(void)
{
    struct psg_expr *e = psg_expr_new("distance");
    ck_assert_int_eq(psg_expr_input(e, "y", &err), 0);
    ck_assert_int_eq(psg_expr_input(e, "extra", &err), 0);
    ck_assert_int_eq(psg_expr_input(e, "target", &err), 0);
    ck_assert_int_eq(psg_expr_input(e, "weight", &err), 0);
    ck_assert_int_eq(psg_expr_out(e, "weight * mean((y - target) ** 2) + 0.1 * extra", &err), 0);
    return e;
}

static psg_value add_keep(struct psg_program *p, struct psg_expr *e, const char *path,
                          const psg_value *in, int n_in, int hidden,
                          const struct psg_param_use *use, psg_value out[2])
{
    struct psg_attrs *attrs = psg_attrs_new();
    const struct psg_op *op = psg_expr_op(e, &err);
    if (hidden)
        ck_assert_int_eq(psg_attrs_int(attrs, "hidden", hidden), 0);
    int r = psg_program_add_op(p, op, path, in, n_in, attrs, use, use ? 1 : 0, out, NULL, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    psg_attrs_free(attrs);
    return out[0];
}

struct net {
    struct psg_program *p;
    double x[N][3], target[N][2], weight[N];
    struct psg_column column[3];
    struct psg_key key;
    psg_real params[128];
    int64_t size;
};

static void net_open(struct net *n)
{
    static const struct psg_param_use tie = { "o", "b.o" };
    psg_value x, target, weight, out[2], loss[2];
    memset(n, 0, sizeof *n);
    struct psg_expr *own = gated(), *end = distance();
    n->p = psg_program_new();
    psg_program_input(n->p, "x", PSG_REAL, &PSG_SHAPE(3), &x, NULL);
    psg_program_input(n->p, "target", PSG_REAL, &PSG_SHAPE(2), &target, NULL);
    psg_program_input(n->p, "weight", PSG_REAL, &(struct psg_shape){ 0 }, &weight, NULL);
    add_keep(n->p, own, "b", &x, 1, 4, NULL, out);
    psg_value first = out[1];
    add_keep(n->p, own, "c", out, 1, 4, &tie, out);
    psg_program_set_output(n->p, out[0], NULL);
    add_keep(n->p, end, "loss", (psg_value[]){ out[0], first, target, weight }, 4, 0, NULL, loss);
    ck_assert_int_eq(psg_program_set_loss(n->p, loss[0], &err), 0);
    ck_assert_int_eq(psg_program_freeze(n->p, "c.b", &err), 0);
    ck_assert_int_eq(psg_program_keep(n->p, own, destroy, &err), 0);
    ck_assert_int_eq(psg_program_keep(n->p, end, destroy, &err), 0);
    ck_assert_msg(psg_program_check(n->p, &err) == 0, "%s %s", err.place, err.text);
    n->size = psg_program_trainable_size(n->p);
    ck_assert_int_eq(n->size, 2 * 12 + 4 + 8 + 2 * 8);
    psg_key_from_seed(3, &n->key);
    psg_program_init_params(n->p, &n->key, n->params);
    for (int i = 0; i < N; i++) {
        n->weight[i] = 1 + 0.5 * i;
        for (int k = 0; k < 3; k++)
            n->x[i][k] = sin(1 + 3 * i + k);
        for (int k = 0; k < 2; k++)
            n->target[i][k] = cos(2 * i + k);
    }
    n->column[0] = (struct psg_column){ .type = PSG_COL_F64, .data = n->x, .stride = 24 };
    n->column[1] = (struct psg_column){ .type = PSG_COL_F64, .data = n->target, .stride = 16 };
    n->column[2] = (struct psg_column){ .type = PSG_COL_F64, .data = n->weight, .stride = 8 };
}

static struct psg_plan *open_plan(const struct net *n, enum psg_mode mode, int64_t tile)
{
    struct psg_plan_options o = { .mode = mode, .tile = tile };
    struct psg_plan *plan = NULL;
    ck_assert_msg(psg_plan_new(n->p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    return plan;
}

static void gradients(struct net *n, struct psg_plan *plan, psg_real *rows, psg_real *loss,
                      double *sq)
{
    struct psg_records records = { .n = N, .column = n->column, .key = &n->key, .step = 2 };
    struct psg_grad_out out = { .rows = rows, .loss = loss, .sqnorm = sq };
    ck_assert_msg(psg_grad_sample(plan, n->params, &records, &out, &err) == 0, "%s", err.text);
}

START_TEST(own_layers_have_central_differences_in_every_mode)
{
    struct net n;
    net_open(&n);
    struct psg_plan *plan = open_plan(&n, (enum psg_mode)_i, 2);
    psg_real rows[N][64], up[N], down[N], loss[N];
    double sq[N];
    ck_assert_int_le(n.size, 64);
    psg_real *flat = calloc((size_t)(N * n.size), sizeof *flat);
    gradients(&n, plan, flat, loss, sq);
    for (int i = 0; i < N; i++)
        memcpy(rows[i], flat + i * n.size, (size_t)n.size * sizeof *flat);
    for (int64_t k = 0; k < n.size; k++) {
        const double h = 1e-5;
        psg_real was = n.params[k];
        n.params[k] = was + h;
        gradients(&n, plan, flat, up, sq);
        n.params[k] = was - h;
        gradients(&n, plan, flat, down, sq);
        n.params[k] = was;
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol(rows[i][k], (up[i] - down[i]) / (2 * h), 1e-7);
    }
    free(flat);
    psg_plan_free(plan);
    psg_program_free(n.p);
}
END_TEST

static void clip(const void *arg, int64_t n, int64_t stride, int n_groups, const double *sq,
                 psg_real *weight)
{
    (void)arg;
    for (int g = 0; g < n_groups; g++)
        for (int64_t i = 0; i < n; i++)
            weight[g * stride + i] = fmin(1, 0.5 / (sqrt(sq[g * stride + i]) + 1e-6));
}

/* flat clipping, and a group for each parameter (per layer) */
START_TEST(own_layers_clip_alike_in_every_mode)
{
    struct net n;
    net_open(&n);
    int group[16], n_params = psg_program_n_params(n.p);
    psg_real want[64], sum[64];
    for (int i = 0; i < n_params; i++)
        group[i] = _i ? i : 0;
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan_options o = { .mode = (enum psg_mode)mode, .tile = 3, .group = group,
                                      .n_groups = _i ? n_params : 1 };
        struct psg_plan *plan = NULL;
        struct psg_records records = { .n = N, .column = n.column, .key = &n.key, .step = 2 };
        struct psg_sum_options so = { .weight = clip };
        struct psg_sum_stats stats;
        ck_assert_int_eq(psg_plan_new(n.p, &o, &plan, &err), 0);
        ck_assert_int_eq(psg_clipped_sum(plan, n.params, &records, &so, sum, &stats, &err), 0);
        if (mode == 0)
            memcpy(want, sum, sizeof want);
        ck_assert_int_gt(stats.n_clipped, 0);
        for (int64_t k = 0; k < n.size; k++)
            ck_assert_double_eq_tol(sum[k], want[k], 1e-12);
        records.n = 0;
        ck_assert_int_eq(psg_clipped_sum(plan, n.params, &records, &so, sum, &stats, &err), 0);
        for (int64_t k = 0; k < n.size; k++)
            ck_assert(sum[k] == 0);
        psg_plan_free(plan);
    }
    psg_program_free(n.p);
}
END_TEST

/* the same mask in forward and gradient is what central differences have shown; here that there
 * is one, and none in evaluation */
START_TEST(dropout_inside_draws_while_training_only)
{
    struct net n;
    net_open(&n);
    struct psg_plan *plan = open_plan(&n, PSG_MODE_HOOKS, 2);
    psg_real *rows = calloc((size_t)(N * n.size), sizeof *rows), a[N], b[N], c[N];
    double sq[N];
    gradients(&n, plan, rows, a, sq);
    struct psg_records records = { .n = N, .column = n.column, .key = &n.key, .step = 3 };
    struct psg_grad_out out = { .loss = b };
    ck_assert_int_eq(psg_grad_sample(plan, n.params, &records, &out, &err), 0);
    ck_assert(memcmp(a, b, sizeof a) != 0);
    ck_assert_int_eq(psg_evaluate(plan, n.params, &records, b, NULL, &err), 0);
    records.step = 4;
    ck_assert_int_eq(psg_evaluate(plan, n.params, &records, c, NULL, &err), 0);
    ck_assert_mem_eq(b, c, sizeof b);
    free(rows);
    psg_plan_free(plan);
    psg_program_free(n.p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("expr");
    TCase *tc = tcase_create("expr");
    tcase_add_loop_test(tc, functions_mean_what_they_do_in_pytorch, 0,
                        (int)(sizeof formulas / sizeof *formulas));
    tcase_add_loop_test(tc, what_cannot_be_read_names_its_column, 0,
                        (int)(sizeof wrong / sizeof *wrong));
    tcase_add_loop_test(tc, what_does_not_fit_names_step_and_column, 0,
                        (int)(sizeof misfit / sizeof *misfit));
    tcase_add_test(tc, depth_length_and_number_are_bounded);
    tcase_add_test(tc, names_are_checked);
    tcase_add_loop_test(tc, own_layers_have_central_differences_in_every_mode, 0,
                        PSG_MODE_COUNT);
    tcase_add_loop_test(tc, own_layers_clip_alike_in_every_mode, 0, 2);
    tcase_add_test(tc, dropout_inside_draws_while_training_only);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
