/* DP-SGD with libpsg alone: logistic regression on made-up records, epsilon at the end.
 *
 *   cc example.c $(pkg-config --cflags --libs psg) -lm && ./a.out */
#include <stdio.h>

#include "psg/accountant.h"
#include "psg/train.h"

enum { RECORDS = 2000, FEATURES = 8, BATCH = 100, STEPS = 200 };

static float x[RECORDS][FEATURES];
static int64_t label[RECORDS];

/* Two clouds of points, one for each label. */
static int make_records(struct psg_error *err)
{
    struct psg_key key;
    psg_key_from_seed(1, &key);
    int r = psg_normal_fill(&key, PSG_RNG_NOISE, 0, 0, 0, RECORDS * FEATURES, &x[0][0], err);
    for (int i = 0; i < RECORDS; i++) {
        label[i] = i % 2;
        for (int k = 0; k < FEATURES; k++)
            x[i][k] += label[i] ? 0.5f : -0.5f;
    }
    return r;
}

static int make_program(struct psg_program *p, struct psg_error *err)
{
    psg_value v[2], loss;
    struct psg_attrs *two = psg_attrs_new();
    if (!two)
        return PSG_E_NOMEM;
    int r = psg_attrs_int(two, "out_features", 2);
    if (r == 0)
        r = psg_program_input(p, "x", PSG_REAL, &PSG_SHAPE(FEATURES), &v[0], err);
    if (r == 0)
        r = psg_program_add(p, "linear", "fc", v, 1, two, NULL, 0, v, NULL, err);
    if (r == 0)
        r = psg_program_input(p, "label", PSG_I64, &(struct psg_shape){ 0 }, &v[1], err);
    if (r == 0)
        r = psg_program_add(p, "cross_entropy", "loss", v, 2, NULL, NULL, 0, &loss, NULL, err);
    if (r == 0)
        r = psg_program_set_loss(p, loss, err);
    psg_attrs_free(two);
    return r ? r : psg_program_check(p, err);
}

static int train(const struct psg_program *p, struct psg_error *err)
{
    const struct psg_column column[] = {
        { .type = PSG_COL_F32, .data = x, .stride = sizeof x[0] },
        { .type = PSG_COL_I64, .data = label, .stride = sizeof label[0] },
    };
    const struct psg_train_options options = {
        .plan = { .mode = PSG_MODE_AUTO, .n_threads = 2 },
        .is_private = true,
        .clipping = PSG_CLIP_FLAT,
        .max_grad_norm = { .initial = 1.0 },
        .noise_multiplier = { .initial = 1.0 },
        .poisson = true,
        .sample_rate = (double)BATCH / RECORDS,
        .expected_batch_size = BATCH,
        .optimizer = psg_optimizer_defaults(PSG_SGD),
        .lr = { .initial = 0.5 },
    };
    struct psg_key key;
    struct psg_trainer *trainer = NULL;
    struct psg_dp_epsilon spent;
    int r = psg_key_random(&key, err);
    if (r == 0)
        r = psg_trainer_new(p, &options, column, RECORDS, &key, &trainer, err);
    for (int step = 0; r == 0 && step < STEPS; step++) {
        struct psg_step_report report;
        r = psg_trainer_step(trainer, &report, err);
        if (r == 0 && (step + 1) % 50 == 0)
            printf("step %3d: loss %.3f (exact, for this made-up data only)\n", step + 1,
                   report.exact.loss_sum / (double)(report.exact.n + (report.exact.n == 0)));
    }
    const struct psg_dp_event event = { options.sample_rate, 1.0, STEPS };
    if (r == 0)
        r = psg_dp_epsilon(PSG_ACCOUNTANT_RDP, &event, 1, 1e-5, &spent, err);
    if (r == 0)
        printf("epsilon %.3f at delta 1e-5\n", spent.epsilon);
    psg_trainer_free(trainer);
    psg_key_wipe(&key);
    return r;
}

int main(void)
{
    struct psg_error err = { 0 };
    struct psg_program *p = psg_program_new();
    int r = p ? make_records(&err) : PSG_E_NOMEM;
    if (r == 0)
        r = make_program(p, &err);
    if (r == 0)
        r = train(p, &err);
    if (r)
        fprintf(stderr, "example: %s: %s\n", err.place, err.text);
    psg_program_free(p);
    return r != 0;
}
