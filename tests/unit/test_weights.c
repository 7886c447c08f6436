/* Weights of files into programs: names, mismatches; merged adapters. */
#include <stdlib.h>
#include <string.h>

#include "psg/plan.h"
#include "psg/weights.h"
#include "suite.h"

static struct psg_error err;
static struct psg_findings *findings;
static struct psg_program *p;
static psg_real params[64];

static psg_value layer(const char *op, const char *path, psg_value in, int64_t out, int64_t r)
{
    struct psg_attrs *attrs = psg_attrs_new();
    psg_attrs_int(attrs, "out_features", out);
    if (r) {
        psg_attrs_int(attrs, "r", r);
        psg_attrs_real(attrs, "lora_alpha", 3);
    }
    ck_assert_int_eq(psg_program_add(p, op, path, &in, 1, attrs, NULL, 0, &in, NULL, &err), 0);
    psg_attrs_free(attrs);
    return in;
}

/* a: lora_linear 3 -> 2 of rank 1; head: linear 2 -> 1 */
static void setup(void)
{
    psg_value v;
    memset(params, 0, sizeof params);
    p = psg_program_new();
    findings = psg_findings_new();
    ck_assert_int_eq(psg_program_input(p, "x", PSG_REAL, &PSG_SHAPE(3), &v, &err), 0);
    v = layer("lora_linear", "a", v, 2, 1);
    v = layer("linear", "head", v, 1, 0);
    ck_assert_int_eq(psg_program_set_output(p, v, &err), 0);
    ck_assert_int_eq(psg_program_check(p, &err), 0);
}

static void teardown(void)
{
    psg_program_free(p);
    psg_findings_free(findings);
}

static const float numbers[] = { 1, 2, 3, 4, 5, 6, 7, 8 };

struct tensor {
    const char *name;
    int rank;
    int64_t dim[2];
    enum psg_array_dtype dtype;
};

static void load(const struct tensor *t, size_t n, const struct psg_weights_options *o)
{
    struct psg_safetensors_item item[8];
    struct psg_safetensors *file;
    void *bytes;
    size_t size;
    for (size_t i = 0; i < n; i++)
        item[i] = (struct psg_safetensors_item){
            t[i].name, { .dtype = t[i].dtype ? t[i].dtype : PSG_ARRAY_F32,
                         .shape = psg_shape_make(t[i].rank, t[i].dim), .data = numbers }
        };
    ck_assert_int_eq(psg_safetensors_pack(item, n, NULL, 0, &bytes, &size, &err), 0);
    ck_assert_int_eq(psg_safetensors_open_bytes(bytes, size, "f", &file, &err), 0);
    ck_assert_int_eq(psg_weights_load(p, file, o, params, findings, &err), 0);
    psg_safetensors_close(file);
    free(bytes);
}

static psg_real *param(const char *name)
{
    return params + psg_program_param(p, psg_program_find_param(p, name))->offset;
}

START_TEST(names_are_mapped)
{
    static const struct tensor t[] = { { "net.a.weight", 2, { 2, 3 }, 0 },
                                       { "net.a.bias", 1, { 2 }, 0 },
                                       { "net.a.lora_A.weight", 2, { 1, 3 }, 0 },
                                       { "fc.weight", 2, { 1, 2 }, 0 },
                                       { "fc.bias", 1, { 1 }, 0 } };
    static const struct psg_rename rename[] = { { "net.", "" }, { "fc", "head" } };
    load(t, 5, &(struct psg_weights_options){ rename, 2, true });
    ck_assert_int_eq(psg_findings_count(findings), 0); /* lora_B need not be there */
    ck_assert(param("a.weight")[5] == 6 && param("a.lora_A")[2] == 3 && param("head.bias")[0] == 1);
}
END_TEST

START_TEST(every_mismatch_is_told)
{
    static const struct tensor t[] = { { "a.weight", 2, { 3, 2 }, 0 },
                                       { "a.bias", 1, { 2 }, PSG_ARRAY_I64 },
                                       { "head.weight", 2, { 1, 2 }, 0 },
                                       { "other", 1, { 2 }, 0 } };
    static const char *const want[] = { "a.bias", "a.weight", "other", "head.bias" };
    load(t, 4, &(struct psg_weights_options){ .strict = true });
    ck_assert_int_eq(psg_findings_count(findings), 4);
    for (int i = 0; i < 4; i++)
        ck_assert_str_eq(psg_findings_at(findings, i)->error.place, want[i]);
    psg_findings_cut(findings, 0);
    load(t, 4, &(struct psg_weights_options){ .strict = false }); /* shapes still must fit */
    ck_assert_int_eq(psg_findings_count(findings), 2);
}
END_TEST

START_TEST(a_file_about_another_model_is_told)
{
    static const struct tensor t[] = { { "other", 1, { 2 }, 0 } };
    load(t, 1, &(struct psg_weights_options){ .strict = false });
    ck_assert_int_eq(psg_findings_count(findings), 1);
}
END_TEST

/* The merged layer gives what the adapted one gave. */
START_TEST(merged_is_the_same_function)
{
    const struct psg_column column = { .type = PSG_COL_F32, .data = (float[]){ 1, -2, 3 },
                                       .stride = 12 };
    const struct psg_records records = { .n = 1, .column = &column };
    const struct psg_plan_options options = { .mode = PSG_MODE_HOOKS };
    struct psg_plan *plan;
    psg_real before, after;
    for (int i = 0; i < 64; i++)
        params[i] = (psg_real)(0.1 * (i % 7) - 0.25);
    ck_assert_int_eq(psg_plan_new(p, &options, &plan, &err), 0);
    ck_assert_int_eq(psg_evaluate(plan, params, &records, NULL, &before, &err), 0);
    psg_real weight = param("a.weight")[0];
    psg_lora_merge(p, params);
    ck_assert(param("a.weight")[0] != weight);
    for (int i = 0; i < psg_program_n_params(p); i++)
        if (psg_program_is_adapter(p, i))
            for (int64_t k = 0; k < psg_program_param(p, i)->size; k++)
                params[psg_program_param(p, i)->offset + k] = 0;
    ck_assert_int_eq(psg_evaluate(plan, params, &records, NULL, &after, &err), 0);
    ck_assert_double_eq_tol((double)before, (double)after, 1e-5);
    psg_plan_free(plan);
}
END_TEST

START_TEST(patterns)
{
    static const struct {
        const char *pattern, *name;
        bool yes;
    } c[] = { { "*", "", true }, { "*", "a.b", true }, { "a.*", "a.b.c", true },
              { "a.*", "b.a.c", false }, { "*.q", "x.q", true }, { "*.q", "x.qq", false },
              { "*a*b*", "xxaxxb", true }, { "a?c", "abc", true }, { "a?c", "ac", false },
              { "", "a", false }, { "*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false } };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        ck_assert_msg(psg_name_matches(c[i].pattern, c[i].name) == c[i].yes, "%s on %s",
                      c[i].pattern, c[i].name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("weights");
    TCase *t = tcase_create("weights");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, names_are_mapped);
    tcase_add_test(t, every_mismatch_is_told);
    tcase_add_test(t, a_file_about_another_model_is_told);
    tcase_add_test(t, merged_is_the_same_function);
    tcase_add_test(t, patterns);
    suite_add_tcase(s, t);
    return suite_run(s);
}
