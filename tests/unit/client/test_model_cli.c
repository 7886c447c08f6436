/* dpsgctl model: check and fix, the program itself. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

static char output[65536], file[64], fixed[64];

static void setup(void)
{
    strcpy(file, "/tmp/dpsgctl-model-XXXXXX");
    strcpy(fixed, "/tmp/dpsgctl-fixed-XXXXXX");
    close(mkstemp(file));
    close(mkstemp(fixed));
}

static void teardown(void)
{
    unlink(file);
    unlink(fixed);
}

static void put(const char *text)
{
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

static int run(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "'%s' %s 2>&1", getenv("DPSGCTL"), arguments);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run_on(const char *format, const char *path)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "model %s", format);
    size_t n = strlen(arguments);
    snprintf(arguments + n, sizeof arguments - n, " %s", path);
    return run(arguments);
}

static void has(const char *text)
{
    ck_assert_msg(strstr(output, text) != NULL, "no %s in: %s", text, output);
}

#define CNN(norm)                                                                              \
    "{\"layers\": [{\"op\": \"conv2d\", \"in_channels\": 1, \"out_channels\": 48,"             \
    "               \"kernel_size\": 3}," norm ", {\"op\": \"relu\"}, {\"op\": \"flatten\"},"  \
    "              {\"op\": \"linear\", \"out_features\": 10}]}"

START_TEST(check_counts_a_model)
{
    put(CNN("{\"op\": \"group_norm\", \"num_groups\": 24}"));
    ck_assert_int_eq(run_on("check --json --input 1x8x8 --classes 10 --mode ghost", file), 0);
    json_t *root = json_loads(output, 0, NULL), *total, *layers;
    ck_assert_ptr_nonnull(root);
    total = json_object_get(root, "total");
    layers = json_object_get(root, "layers");
    ck_assert(json_is_true(json_object_get(root, "ok")));
    ck_assert_int_eq(json_integer_value(json_object_get(total, "params")),
                     48 * 9 + 48 + 96 + 48 * 36 * 10 + 10);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(layers, 0), "route")),
                     "norm_sample");
    /* 2 x 48 x 36 positions x 9, and the bias */
    double flops =
        json_real_value(json_object_get(json_array_get(layers, 0), "forward_flops"));
    ck_assert_double_eq(flops, 2.0 * 48 * 36 * 9 + 48 * 36);
    ck_assert(json_real_value(json_object_get(total, "private_flops")) >
              json_real_value(json_object_get(total, "plain_flops")));
    json_decref(root);
    ck_assert_int_eq(run_on("check --input 1x8x8", file), 0);
    has("nothing stands in the way");
    ck_assert_int_eq(run_on("check", file), 64);
    has("--input");
    ck_assert_int_eq(run_on("check --input 1x8y8", file), 64);
    ck_assert_int_eq(run_on("check --input 1x8x8 --mode no", file), 64);
}
END_TEST

START_TEST(check_lists_and_fix_replaces)
{
    put(CNN("{\"op\": \"batch_norm2d\", \"num_features\": 48, \"momentum\": 0.1, \"name\": \"n\"},"
            "{\"op\": \"sequential\", \"layers\": [{\"op\": \"instance_norm2d\","
            "  \"track_running_stats\": true}]}"));
    ck_assert_int_eq(run_on("check --input 1x8x8", file), 1);
    has("/layers/1/op: batch_norm2d mixes samples");
    has("/layers/2/layers/0/track_running_stats: ");
    has("2 findings");
    char fix[160];
    snprintf(fix, sizeof fix, "fix -o %s", fixed);
    ck_assert_int_eq(run_on(fix, file), 0);
    has("/layers/1: batch_norm2d became group_norm with 24 groups of the 48 channels");
    has("2 layers changed");
    ck_assert_int_eq(run_on("check --input 1x8x8", fixed), 0);
    has("n     group_norm");
    json_t *root = json_load_file(fixed, 0, NULL);
    json_t *norm = json_array_get(json_object_get(root, "layers"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(norm, "name")), "n");
    ck_assert_ptr_null(json_object_get(norm, "momentum"));
    json_decref(root);
}
END_TEST

START_TEST(what_cannot_be_fixed_is_told)
{
    put("{\"model\": {\"layers\": [{\"op\": \"BatchNorm1d\"}]}}");
    ck_assert_int_eq(run_on("fix", file), 1);
    has("/model/layers/0: BatchNorm1d: num_features");
    put("PK\3\4 no archive");
    ck_assert_int_eq(run_on("fix", file), 1);
    has("TorchScript");
    ck_assert_int_eq(run_on("check --input 3", file), 1);
    has("[file]");
    put("{\"layers\": 3}");
    ck_assert_int_eq(run_on("fix", file), 1);
    ck_assert_int_eq(run_on("check --input 3", file), 1);
    has("/layers: ");
    put("[");
    ck_assert_int_eq(run_on("check --input 3", file), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model_cli");
    TCase *t = tcase_create("model");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, check_counts_a_model);
    tcase_add_test(t, check_lists_and_fix_replaces);
    tcase_add_test(t, what_cannot_be_fixed_is_told);
    suite_add_tcase(s, t);
    return suite_run(s);
}
