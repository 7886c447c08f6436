/* TorchScript code that keeps samples apart, and code that does not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_archive.h"
#include "psg/import.h"
#include "psg/plan.h"
#include "suite.h"

static struct archive archive;
static struct psg_error err;

/* forward(self, x) with this body; x is [B, 6, 8] unless axis says otherwise. */
static int import_axis(const char *body, int axis, int64_t example,
                       struct psg_import **impp)
{
    char code[4096];
    snprintf(
        code, sizeof code,
        "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n  training : bool\n"
        "  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n%s",
        body);
    archive_module(&archive, code);
    struct psg_import_input in = { .dtype = PSG_REAL,
                                   .shape = PSG_SHAPE(6, 8),
                                   .batch_axis = axis };
    struct psg_import_options o = {
        .inputs = &in, .n_inputs = 1, .example_batch = example, .training = -1
    };
    memset(&err, 0, sizeof err);
    return psg_import_torchscript(archive.bytes, archive.n, "m.pt", &o, impp, &err);
}

static const struct {
    const char *body, *why;
} mixing[] = {
    { "    return torch.mean(x, [0])\n", "torch.mean: mixes samples" },
    { "    return torch.mean(x)\n", "torch.mean: mixes samples" },
    { "    return torch.softmax(x, 0)\n", "torch.softmax: mixes samples" },
    { "    return torch.cumsum(x, 0)\n", "torch.cumsum: mixes samples" },
    { "    return torch.select(x, 0, 0)\n", "torch.select: mixes samples" },
    { "    return torch.slice(x, 0, 1)\n", "torch.slice: mixes samples" },
    { "    return torch.flip(x, [0])\n", "torch.flip: mixes samples" },
    { "    return torch.roll(x, [1], [0])\n", "torch.roll: mixes samples" },
    { "    return torch.view(x, [-1, 96])\n", "torch.view: mixes samples" },
    { "    return torch.view(x, [8, 6, (torch.size(x))[0]])\n",
      "torch.view: mixes samples" },
    { "    return torch.matmul(torch.permute(x, [2, 1, 0]), torch.select(x, 2, 0))\n",
      "torch.matmul: mixes samples" },
    { "    return torch.add(x, torch.transpose(torch.expand(x, [-1, -1, -1]), 0, 1))\n",
      "torch.add: mixes samples" },
    { "    return torch.cat([x, x])\n", "torch.cat: mixes samples" },
    { "    i = torch.arange((torch.size(x))[0])\n    return torch.add(x, i)\n",
      "torch.arange: mixes samples" },
    { "    return torch.div(x, (torch.size(x))[0])\n", "depends on the size of the batch" },
    { "    if torch.gt((torch.size(x))[0], 3):\n      y = x\n    else:\n      y = x\n"
      "    return y\n",
      "depends on the size of the batch" },
    { "    return torch.batch_norm(x, None, None, None, None, True, 0.1, 1.0e-05, True)\n",
      "use GroupNorm instead" },
    { "    return torch.instance_norm(x, None, None, self.w, self.w, True, 0.1, 1.0e-05, "
      "True)\n",
      "running statistics" },
    { "    y = torch.view(x, [-1, 48])\n    z = torch.add_(y, 1)\n    return torch.mul(x, "
      "2)\n",
      "changed in place through another view" },
    { "    if torch.gt(torch.select(torch.select(torch.select(x, 1, 0), 1, 0), 0, 0), 0):\n"
      "      y = x\n    else:\n      y = x\n    return y\n",
      "mixes samples" },
    { "    return torch.linear(torch.slice(x, 2, 1), self.w, None)\n",
      "7 columns and 8 rows" },
    { "    return self.w\n", "forward() returns no tensor" },
    { "    return torch.os_system(x)\n", "an operator that is not known here" },
    { "    ops.prim.RaiseException(\"no\")\n    return x\n", "the model says: no" },
    { "    while True:\n      pass\n    return x\n", "more than 1000000 steps" },
    { "    while True:\n      x = torch.add(x, 1)\n    return x\n", "more than 20000 operations" },
};

START_TEST(refuses)
{
    struct psg_import *imp = NULL;
    ck_assert_int_ne(import_axis(mixing[_i].body, 0, 0, &imp), 0);
    ck_assert_msg(strstr(err.text, mixing[_i].why), "%s says: %s", mixing[_i].body,
                  err.text);
    if (!strstr(err.text, "returns no"))
        ck_assert_msg(strstr(err.place, "code/__torch__.py:"), "%s", err.place);
}
END_TEST

/* All that is refused is told, with its line; what follows from a guess is not. */
START_TEST(tells_everything)
{
    static const struct {
        const char *text, *line;
        bool mixes;
    } want[] = { { "statistics over the batch", ":7", true },
                 { "torch.softmax: mixes samples", ":8", true },
                 { "torch.os_system: an operator that is not known here", ":11", false } };
    archive_module(&archive,
                   "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n"
                   "  training : bool\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n"
                   "    a = torch.batch_norm(x, None, None, None, None, True, 0.1, 1.0e-05, True)\n"
                   "    b = torch.softmax(a, 0)\n"
                   "    c = torch.linear(torch.slice(b, 2, 1), self.w, None)\n"
                   "    e = torch.relu(c)\n"
                   "    return torch.os_system(e)\n");
    struct psg_findings *f = psg_findings_new();
    struct psg_import *imp = NULL;
    struct psg_import_input in = { .dtype = PSG_REAL, .shape = PSG_SHAPE(6, 8) };
    struct psg_import_options o = { .inputs = &in, .n_inputs = 1, .training = 1, .findings = f };
    ck_assert_int_eq(psg_import_torchscript(archive.bytes, archive.n, "m.pt", &o, &imp, &err), 0);
    ck_assert(psg_import_guessed(imp));
    for (int i = 0; i < psg_findings_count(f); i++) {
        const struct psg_finding *one = psg_findings_at(f, i);
        ck_assert_msg(i < 3 && strstr(one->error.text, want[i].text), "%s", one->error.text);
        ck_assert_msg(strstr(one->error.place, want[i].line) != NULL, "%s", one->error.place);
        ck_assert_int_eq(one->mixes, want[i].mixes);
    }
    ck_assert_int_eq(psg_findings_count(f), 3);
    psg_import_free(imp);
    psg_findings_free(f);
}
END_TEST

/* What has a private replacement becomes it, with the file's parameters; the rest is the file's. */
START_TEST(replaces_norms)
{
    archive_module(&archive,
                   "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n"
                   "  training : bool\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n"
                   "    a = torch.batch_norm(x, None, None, None, None, True, 0.1, 1.0e-05, True)\n"
                   "    return torch.linear(a, self.w, None)\n");
    struct psg_findings *f = psg_findings_new();
    struct psg_import *imp = NULL;
    struct psg_import_input in = { .dtype = PSG_REAL, .shape = PSG_SHAPE(6, 8) };
    struct psg_import_options o = { .inputs = &in, .n_inputs = 1, .training = 1, .findings = f };
    ck_assert_int_eq(psg_import_torchscript(archive.bytes, archive.n, "m.pt", &o, &imp, &err), 0);
    ck_assert(!psg_import_guessed(imp));
    ck_assert_int_eq(psg_findings_count(f), 1);
    ck_assert_ptr_nonnull(strstr(psg_findings_at(f, 0)->remedy, "GroupNorm"));
    struct psg_program *p = psg_import_program(imp);
    ck_assert_str_eq(psg_program_node_op(p, 0)->name, "group_norm");
    ck_assert_str_eq(psg_program_param(p, 0)->name, "w");
    psg_import_free(imp);
    psg_findings_free(f);
}
END_TEST

/* Output of one sample: the program's, for x = 0.01 k, against the shape that is expected. */
static const struct {
    const char *body, *shape;
} apart[] = {
    { "    return torch.linear(x, self.w, None)\n", "[6, 4]" },
    { "    return torch.matmul(x, torch.t(self.w))\n", "[6, 4]" },
    { "    return torch.flatten(x, 1)\n", "[48]" },
    { "    B = (torch.size(x))[0]\n    y = torch.view(x, [B, 6, 2, 4])\n"
      "    return torch.transpose(y, 1, 2)\n",
      "[2, 6, 4]" },
    { "    B = (torch.size(x))[0]\n    y = torch.view(x, [torch.mul(B, 6), 8])\n"
      "    z = torch.relu(torch.linear(y, self.w, None))\n    return torch.view(z, [B, "
      "-1])\n",
      "[24]" },
    { "    B = (torch.size(x))[0]\n    y = torch.transpose(x, 0, 1)\n"
      "    y0 = torch.transpose(torch.view(y, [6, torch.mul(B, 2), 4]), 0, 1)\n"
      "    a = torch.softmax(torch.bmm(y0, torch.transpose(y0, 1, 2)), -1)\n"
      "    return torch.transpose(torch.view(torch.transpose(torch.bmm(a, y0), 0, 1), "
      "[6, B, 8]), 0, 1)\n",
      "[6, 8]" },
    { "    return torch.add(x, torch.zeros([(torch.size(x))[0], 1, 8]))\n", "[6, 8]" },
    { "    y = torch.split(x, [2, 4], 1)\n    return torch.cat([(y)[1], (y)[0]], 1)\n",
      "[6, 8]" },
    { "    m = torch.tril(torch.ones([6, 6]))\n    s = torch.matmul(x, torch.transpose(x, "
      "1, 2))\n"
      "    return torch.masked_fill(s, torch.eq(m, 0), -1.5)\n",
      "[6, 6]" },
    { "    y = torch.einsum(\"btj,oj->bto\", [x, self.w])\n    return torch.sum(y, [1])\n",
      "[4]" },
    { "    y = x\n    for i in range(3):\n      y = torch.tanh(torch.add(y, i))\n"
      "    return torch.amax(y, [1, 2])\n",
      "[]" },
    { "    if self.training:\n      y = torch.select(x, 1, -1)\n    else:\n      y = x\n"
      "    return y\n",
      "[8]" },
};

START_TEST(accepts)
{
    struct psg_import *imp = NULL;
    char text[96];
    ck_assert_msg(import_axis(apart[_i].body, 0, 0, &imp) == 0, "%s: %s %s", apart[_i].body,
                  err.place, err.text);
    struct psg_program *p = psg_import_program(imp);
    psg_shape_text(&psg_program_output_type(p)->shape, text, sizeof text);
    ck_assert_str_eq(text, apart[_i].shape);
    psg_import_free(imp);
}
END_TEST

/* Two ways to say the same. */
static const struct {
    const char *body, *same;
} equal[] = {
    { "    y = torch.mul(x, 2)\n    z = torch.add_(x, 1)\n    return torch.mul(y, z)\n",
      "    return torch.mul(torch.mul(x, 2), torch.add(x, 1))\n" },
    { "    y = torch.pow(x, 3)\n    z = torch.exp_(x)\n    return torch.add(y, x)\n",
      "    return torch.add(torch.pow(x, 3), torch.exp(x))\n" },
    { "    return torch.constant_pad_nd(x, [1, 0, 0, 2], 0.5)\n",
      "    y = torch.cat([torch.full([(torch.size(x))[0], 6, 1], 0.5), x], 2)\n"
      "    return torch.cat([y, torch.full([(torch.size(x))[0], 2, 9], 0.5)], 1)\n" },
    { "    return torch.flip(torch.flip(x, [2]), [1])\n",
      "    return torch.flip(x, [1, 2])\n" },
    { "    return torch.mean(torch.stack([x, torch.tanh(x)], 0), [0])\n",
      "    return torch.mul(torch.add(x, torch.tanh(x)), 0.5)\n" },
    { "    return torch.sum(torch.stack([x, torch.tanh(x)], -1), [-1])\n",
      "    return torch.add(x, torch.tanh(x))\n" },
    { "    return torch.addcmul(x, x, torch.sin(x), value=0.5)\n",
      "    return torch.add(x, torch.mul(x, torch.sin(x)), alpha=0.5)\n" },
    { "    return torch.addcdiv(x, x, torch.exp(x), value=2)\n",
      "    return torch.add(x, torch.div(x, torch.exp(x)), alpha=2)\n" },
    { "    return torch.lerp(x, torch.exp(x), 0.25)\n",
      "    return torch.add(torch.mul(x, 0.75), torch.mul(torch.exp(x), 0.25))\n" },
    { "    return torch.frobenius_norm(x, [2], True)\n",
      "    return torch.norm(x, 2., [2], True)\n" },
    { "    return torch.norm(x, 3., [2], False)\n",
      "    return torch.pow(torch.sum(torch.pow(torch.abs(x), 3), [2]), 0.3333333333333333)\n" },
    { "    return torch.linalg_vector_norm(x, inf, [1], False)\n",
      "    return torch.amax(torch.abs(x), [1])\n" },
    { "    return torch.logaddexp(x, torch.sin(x))\n",
      "    return torch.logsumexp(torch.stack([x, torch.sin(x)], 3), [3])\n" },
    { "    return torch.hypot(x, torch.cos(x))\n",
      "    return torch.norm(torch.stack([x, torch.cos(x)], 3), 2., [3], False)\n" },
    { "    return torch.mul(torch.tan(x), torch.cos(x))\n", "    return torch.sin(x)\n" },
    { "    return torch.add(torch.sinh(x), torch.cosh(x))\n", "    return torch.exp(x)\n" },
    { "    return torch.cosine_similarity(x, torch.add(x, 1), 2)\n",
      "    y = torch.add(x, 1)\n    d = torch.sum(torch.mul(x, y), [2])\n"
      "    n = torch.mul(torch.norm(x, 2., [2]), torch.norm(y, 2., [2]))\n"
      "    return torch.div(d, n)\n" },
    { "    return torch.clamp(x, -0.5, 0.5)\n",
      "    return torch.minimum(torch.maximum(x, torch.full([1], -0.5)), torch.full([1], 0.5))\n" },
};

/* Output for one sample of 48 numbers from -2.4 to 2.3; how many they are. */
static int64_t compute(const char *body, psg_real *out, int64_t room)
{
    struct psg_import *imp = NULL;
    struct psg_plan *plan = NULL;
    psg_real params[32];
    double x[48];
    ck_assert_msg(import_axis(body, 0, 0, &imp) == 0, "%s: %s %s", body, err.place, err.text);
    struct psg_program *p = psg_import_program(imp);
    psg_value v = psg_import_output(imp), loss;
    ck_assert_int_eq(psg_program_add(p, "sum", "loss", &v, 1, NULL, NULL, 0, &loss, NULL, &err), 0);
    ck_assert_int_eq(psg_program_set_loss(p, loss, &err), 0);
    ck_assert_msg(psg_program_check(p, &err) == 0, "%s: %s", body, err.text);
    int64_t n = psg_shape_size(&psg_program_output_type(p)->shape);
    ck_assert_int_le(n, room);
    for (int i = 0; i < 48; i++)
        x[i] = 0.1 * (i * 29 % 48) - 2.4;
    struct psg_column column = { .type = PSG_COL_F64, .data = x, .stride = sizeof x };
    struct psg_records record = { .n = 1, .column = &column };
    struct psg_plan_options o = { .mode = PSG_MODE_HOOKS };
    ck_assert_int_eq(psg_import_params(imp, params, &err), 0);
    ck_assert_msg(psg_plan_new(p, &o, &plan, &err) == 0, "%s: %s", body, err.text);
    ck_assert_int_eq(psg_evaluate(plan, params, &record, NULL, out, &err), 0);
    psg_plan_free(plan);
    psg_import_free(imp);
    return n;
}

START_TEST(computes)
{
    enum { ROOM = 128 };
    psg_real got[ROOM], want[ROOM];
    int64_t n = compute(equal[_i].body, got, ROOM);
    ck_assert_int_eq(compute(equal[_i].same, want, ROOM), n);
    for (int64_t k = 0; k < n; k++)
        ck_assert_msg(fabs((double)(got[k] - want[k])) <= 2e-5 * (1 + fabs((double)want[k])),
                      "%s: [%lld] is %g, not %g", equal[_i].body, (long long)k,
                      (double)got[k], (double)want[k]);
}
END_TEST

/* A traced view with the example's batch size as a number. */
START_TEST(example_batch)
{
    static const char code[] = "    y = torch.view(x, [5, 48])\n"
                               "    return torch.add(y, torch.zeros([5, 48]))\n";
    struct psg_import *imp = NULL;
    ck_assert_msg(import_axis(code, 0, 0, &imp) == 0, "%s", err.text);
    imp = psg_import_free(imp);
    ck_assert_msg(import_axis(code, 0, 5, &imp) == 0, "%s", err.text);
    imp = psg_import_free(imp);
    ck_assert_int_ne(import_axis(code, 0, 3, &imp), 0);
    ck_assert_int_ne(import_axis("    y = torch.view(x, [5, 48])\n"
                                 "    return torch.add(y, torch.zeros([4, 48]))\n",
                                 0, 0, &imp),
                     0);
}
END_TEST

START_TEST(finds_axis)
{
    struct psg_import *imp = NULL; /* time is the mean's axis 0, so the batch is 1 */
    ck_assert_msg(import_axis("    return torch.mean(x, [0])\n", -1, 0, &imp) == 0, "%s",
                  err.text);
    ck_assert_int_eq(psg_import_batch_axis(imp, 0), 1);
    psg_import_free(imp);
}
END_TEST

START_TEST(parameters)
{
    struct psg_import *imp = NULL;
    psg_real w[32];
    ck_assert_int_eq(import_axis("    return torch.linear(x, self.w, None)\n", 0, 0, &imp),
                     0);
    struct psg_program *p = psg_import_program(imp);
    ck_assert_int_eq(psg_program_n_params(p), 1);
    ck_assert_str_eq(psg_program_param(p, 0)->name, "w");
    ck_assert_ptr_null(psg_import_unused(imp, 0));
    ck_assert_int_eq(psg_program_check(p, &err), 0);
    ck_assert_int_eq(psg_import_params(imp, w, &err), 0);
    ck_assert(w[0] == 0 && w[31] == 31);
    imp = psg_import_free(imp);
    ck_assert_int_eq(import_axis("    return torch.relu(x)\n", 0, 0, &imp), 0);
    ck_assert_str_eq(psg_import_unused(imp, 0), "w");
    psg_import_free(imp);
}
END_TEST

/* Any change of a byte gives an archive that imports or an error with a text. */
START_TEST(changed_bytes)
{
    struct psg_import *imp = NULL;
    uint64_t state = 12345;
    ck_assert_int_eq(import_axis(apart[4].body, 0, 0, &imp), 0);
    imp = psg_import_free(imp);
    struct psg_import_input in = { .dtype = PSG_REAL, .shape = PSG_SHAPE(6, 8) };
    struct psg_import_options o = {
        .inputs = &in, .n_inputs = 1, .training = -1, .memory_limit = 16 << 20
    };
    for (int round = 0; round < 4000; round++) {
        uint8_t *bytes = malloc(archive.n);
        ck_assert_ptr_nonnull(bytes);
        memcpy(bytes, archive.bytes, archive.n);
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t n = round % 8 == 0 ? (size_t)(state >> 33) % archive.n : archive.n;
        for (int k = 0; k < 1 + round % 3; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[(size_t)(state >> 20) % archive.n] ^= (uint8_t)(1u << (state >> 60));
        }
        err.text[0] = '\0';
        if (psg_import_torchscript(bytes, n, "m.pt", &o, &imp, &err))
            ck_assert(err.text[0] != '\0');
        else
            imp = psg_import_free(imp);
        free(bytes);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("import_batch");
    TCase *t = tcase_create("batch");
    tcase_add_loop_test(t, refuses, 0, sizeof mixing / sizeof mixing[0]);
    tcase_add_loop_test(t, accepts, 0, sizeof apart / sizeof apart[0]);
    tcase_add_test(t, tells_everything);
    tcase_add_test(t, replaces_norms);
    tcase_add_loop_test(t, computes, 0, sizeof equal / sizeof equal[0]);
    tcase_add_test(t, example_batch);
    tcase_add_test(t, finds_axis);
    tcase_add_test(t, parameters);
    tcase_add_test(t, changed_bytes);
    suite_add_tcase(s, t);
    return suite_run(s);
}
