/* Memory of a plan: ghost keeps no [B, P] tensor, in its own accounts and in those of the
 * kernel, for every layer with many parameters; and no mode's memory depends on the batch. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models.h"
#include "psg/plan.h"
#include "suite.h"

#define LAYERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* nets in which one layer has nearly all parameters */
static const struct net {
    const char *input;
    const char *const *layers;
} nets[] = {
    { "512", LAYERS("l linear out_features=768", "h linear out_features=3") },
    { "6x512", LAYERS("l linear out_features=512", "m mean dim=1,", "h linear out_features=3") },
    { "128x3x3", LAYERS("c conv2d out_channels=256 kernel_size=3 padding=1", "m mean dim=2,3",
                        "h linear out_features=3") },
    { "128x4", LAYERS("c conv_transpose1d out_channels=256 kernel_size=9", "m mean dim=2,",
                      "h linear out_features=3") },
    { "i64<20000:16", LAYERS("e embedding num_embeddings=20000 embedding_dim=16", "m mean dim=1,",
                             "h linear out_features=3") },
    { "i64<20000:16", LAYERS("e embedding_bag num_embeddings=20000 embedding_dim=16",
                             "h linear out_features=3") },
    { "3x256", LAYERS("r lstm hidden_size=256 return=last_hidden", "h linear out_features=3") },
    { "3x256", LAYERS("r gru hidden_size=256 return=last_hidden", "h linear out_features=3") },
    { "4x256", LAYERS("a multihead_attention num_heads=4", "m mean dim=1,",
                      "h linear out_features=3") },
    { "4x128", LAYERS("t transformer_encoder_layer nhead=4 dim_feedforward=1024",
                      "m mean dim=1,", "h linear out_features=3") },
};

static struct psg_program *open_net(const struct net *net)
{
    const struct model m = { .name = "net", .n_classes = 3, .input = net->input,
                             .layers = net->layers };
    struct psg_error err = { 0 };
    struct psg_program *p = NULL;
    ck_assert_msg(model_build(&m, &p, &err) == 0, "%s: %s", err.place, err.text);
    return p;
}

static struct psg_plan *open_plan(const struct psg_program *p, enum psg_mode mode, int64_t tile)
{
    struct psg_plan_options o = { .mode = mode, .tile = tile, .n_lanes = 2 };
    struct psg_error err = { 0 };
    struct psg_plan *plan = NULL;
    ck_assert_msg(psg_plan_new(p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    return plan;
}

static size_t plan_bytes(const struct psg_program *p, enum psg_mode mode, int64_t tile)
{
    struct psg_plan *plan = open_plan(p, mode, tile);
    struct psg_plan_info info;
    psg_plan_info(plan, &info);
    psg_plan_free(plan);
    return info.bytes;
}

/* Bytes that one more sample in the tile costs. */
static double slope(const struct psg_program *p, enum psg_mode mode)
{
    return ((double)plan_bytes(p, mode, 64) - (double)plan_bytes(p, mode, 32)) / 32;
}

START_TEST(ghost_keeps_no_row_of_parameters)
{
    struct psg_program *p = open_net(&nets[_i]);
    double row = (double)psg_program_trainable_size(p) * sizeof(psg_real);
    double ghost = slope(p, PSG_MODE_GHOST), hooks = slope(p, PSG_MODE_HOOKS);
    ck_assert_double_lt(ghost, row / 4);
    ck_assert_double_ge(hooks, row);
    /* two lanes of sums, one weight gradient in the making, weights laid out for a kernel */
    ck_assert_double_lt((double)plan_bytes(p, PSG_MODE_GHOST, 1), 4.2 * row + (1 << 18));
    psg_program_free(p);
}
END_TEST

/* What the plan says is what it takes from the heap (a sanitizer's heap counts nothing). */
START_TEST(the_accounts_are_true)
{
    struct psg_program *p = open_net(&nets[_i]);
    struct mallinfo2 before = mallinfo2();
    struct psg_plan *plan = open_plan(p, PSG_MODE_GHOST, 16);
    struct mallinfo2 after = mallinfo2();
    struct psg_plan_info info;
    psg_plan_info(plan, &info);
    double taken = (double)(after.uordblks + after.hblkhd) -
                   (double)(before.uordblks + before.hblkhd);
    ck_assert_double_lt(taken, 1.05 * (double)info.bytes + (1 << 16));
    psg_plan_free(plan);
    psg_program_free(p);
}
END_TEST

/* ---- the process ---- */
static double status_kb(const char *name)
{
    char line[128];
    double kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtod(line + strlen(name) + 1, NULL);
    if (f)
        fclose(f);
    return kb;
}

/* The peak forgets what was before; false where the kernel has no such thing. */
static bool forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    bool done = f && fputs("5", f) >= 0 && fflush(f) == 0;
    if (f)
        fclose(f);
    return done && status_kb("VmHWM:") > 0;
}

static void sum(struct psg_program *p, struct psg_plan *plan, const psg_real *params,
                const void *x, size_t stride, int64_t n, psg_real *to)
{
    static const int64_t target[1] = { 1 };
    struct psg_key key;
    psg_key_from_seed(1, &key);
    const struct psg_column column[2] = {
        { .type = psg_program_input_info(p, 0)->type.dtype == PSG_I64 ? PSG_COL_I64 : PSG_COL_F64,
          .data = x, .stride = stride },
        { .type = PSG_COL_I64, .data = target, .stride = 0 },
    };
    struct psg_records records = { .n = n, .column = column, .key = &key };
    struct psg_sum_options all = { 0 };
    struct psg_error err = { 0 };
    ck_assert_msg(psg_clipped_sum(plan, params, &records, &all, to, NULL, &err) == 0, "%s: %s",
                  err.place, err.text);
}

/* A batch of 256 takes no more than one of 8, with 1/30 of what B * P would be to spare. */
START_TEST(no_batch_by_parameters_in_the_process)
{
    enum { SMALL = 8, LARGE = 256 };
    struct psg_program *p = open_net(&nets[_i]);
    int64_t size = psg_shape_size(&psg_program_input_info(p, 0)->type.shape);
    int64_t n_params = psg_program_trainable_size(p);
    double *x = calloc((size_t)size, sizeof *x);
    psg_real *params = calloc((size_t)n_params, sizeof *params);
    psg_real *to = calloc((size_t)n_params, sizeof *to);
    struct psg_key key;
    psg_key_from_seed(2, &key);
    ck_assert(x && params && to);
    psg_program_init_params(p, &key, params);
    struct psg_plan *plan = open_plan(p, PSG_MODE_GHOST, 4);
    sum(p, plan, params, x, 0, SMALL, to);
    if (forget_peak()) {
        double start = status_kb("VmRSS:"), row = (double)n_params * sizeof(psg_real) / 1024;
        sum(p, plan, params, x, 0, LARGE, to);
        ck_assert_double_lt(status_kb("VmHWM:") - start, LARGE * row / 30);
    }
    psg_plan_free(plan);
    psg_program_free(p);
    free(x);
    free(params);
    free(to);
}
END_TEST

START_TEST(no_mode_depends_on_the_batch)
{
    struct psg_program *p = open_net(&nets[0]);
    int64_t n_params = psg_program_trainable_size(p);
    double x[512] = { 0 };
    psg_real *params = calloc((size_t)n_params, sizeof *params);
    psg_real *to = calloc((size_t)n_params, sizeof *to);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *plan = open_plan(p, (enum psg_mode)mode, 2);
        struct psg_plan_info before, after;
        psg_plan_info(plan, &before);
        sum(p, plan, params, x, 0, 63, to);
        psg_plan_info(plan, &after);
        ck_assert_uint_eq(before.bytes, after.bytes);
        psg_plan_free(plan);
    }
    psg_program_free(p);
    free(params);
    free(to);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tc = tcase_create("memory");
    int n = (int)(sizeof nets / sizeof *nets);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, ghost_keeps_no_row_of_parameters, 0, n);
    tcase_add_loop_test(tc, the_accounts_are_true, 0, n);
    tcase_add_loop_test(tc, no_batch_by_parameters_in_the_process, 0, n);
    tcase_add_test(tc, no_mode_depends_on_the_batch);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
