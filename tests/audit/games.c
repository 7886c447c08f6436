#include "games.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "attrs_text.h"
#include "planted.h"
#include "psg/accountant.h"
#include "suite.h"

/* One run: `present` records (or users) with a coordinate each, n coordinates in all. */
struct run {
    const struct setup *setup;
    int n, present;
    struct psg_program *program;
    int64_t *token, *first, *record;
    float *target;
    struct psg_trainer *trainer;
    float *before;
    double values[2];
};

/* The model is a row of an embedding against a target far away: the gradient of record j is -2e6
 * or so in coordinate j. */
static struct psg_program *program_of(int n)
{
    char text[64];
    psg_value v[2], loss;
    struct psg_program *p = psg_program_new();
    struct psg_shape scalar = { .rank = 1, .dim = { 1 } };
    snprintf(text, sizeof text, "num_embeddings=%d embedding_dim=1", n);
    struct psg_attrs *a = attrs_from_text(text), *flat = attrs_from_text("");
    ck_assert_int_eq(psg_program_input(p, "x", PSG_I64, &scalar, v, NULL), 0);
    ck_assert_int_eq(psg_program_add(p, "embedding", "0", v, 1, a, NULL, 0, v, NULL, NULL),
                     0);
    ck_assert_int_eq(psg_program_add(p, "flatten", "1", v, 1, flat, NULL, 0, v, NULL, NULL),
                     0);
    ck_assert_int_eq(psg_program_input(p, "y", PSG_REAL, &scalar, &v[1], NULL), 0);
    ck_assert_int_eq(
        psg_program_add(p, "mse_loss", "loss", v, 2, NULL, NULL, 0, &loss, NULL, NULL), 0);
    ck_assert_int_eq(psg_program_set_loss(p, loss, NULL), 0);
    ck_assert_int_eq(psg_program_check(p, NULL), 0);
    psg_attrs_free(a);
    psg_attrs_free(flat);
    return p;
}

static void fill_records(struct run *run, int per_user)
{
    int n = run->present * per_user;
    run->token = calloc((size_t)n + 1, sizeof *run->token);
    run->record = calloc((size_t)n + 1, sizeof *run->record);
    run->first = calloc((size_t)run->present + 1, sizeof *run->first);
    run->target = calloc((size_t)n + 1, sizeof *run->target);
    for (int i = 0; i < n; i++) {
        run->token[i] = i / per_user;
        run->record[i] = i;
        run->target[i] = 1e6f;
    }
    for (int u = 0; u <= run->present; u++)
        run->first[u] = (int64_t)u * per_user;
}

static struct psg_train_options options_of(struct run *run)
{
    const struct setup *s = run->setup;
    double batch = s->sequential ? 1 : s->q * s->n;
    run->values[0] = 1;
    run->values[1] = s->clip_growth;
    struct psg_train_options o = {
        .plan = { .mode = PSG_MODE_AUTO, .n_threads = 1 },
        .is_private = true,
        .clipping = s->clipping,
        .max_grad_norm = { .initial = 1 },
        .noise_multiplier = { .initial = s->s },
        .adaptive = { .bound = 1,
                      .quantile = 0.5,
                      .learning_rate = 1e-3,
                      .count_stddev = 0.55 * s->s,
                      .expected_batch_size = batch,
                      .min_bound = 1e-3,
                      .max_bound = 1e3 },
        .telemetry_share = s->telemetry_share,
        .loss_bound = 1,
        .poisson = true,
        .sample_rate = s->q,
        .expected_batch_size = batch,
        .secure_noise = s->secure,
        .optimizer = psg_optimizer_defaults(PSG_SGD),
        .lr = { .initial = batch }, /* a step moves the weights by minus the noisy sum */
    };
    if (s->clip_growth > 0)
        o.max_grad_norm = (struct psg_schedule){
            .kind = PSG_SCHEDULE_LIST, .period = 1, .list = run->values, .n_list = 2
        };
    if (s->records_per_user > 0 && planted_now() != RECORDS_FOR_USERS)
        o.units = (struct psg_units){ .n = run->present,
                                      .first = run->first,
                                      .record = run->record };
    return o;
}

static void run_open(struct run *run)
{
    const struct setup *s = run->setup;
    int per_user = s->records_per_user > 0 ? s->records_per_user : 1;
    struct psg_key key;
    struct psg_error err = { 0 };
    psg_key_from_seed(s->seed * 2 + (run->present > 0), &key);
    run->program = program_of(run->n);
    run->before = calloc((size_t)run->n, sizeof *run->before);
    fill_records(run, per_user);
    struct psg_column column[2] = {
        { .type = PSG_COL_I64, .data = run->token, .stride = sizeof *run->token },
        { .type = PSG_COL_F32, .data = run->target, .stride = sizeof *run->target },
    };
    struct psg_train_options o = options_of(run);
    ck_assert_msg(psg_trainer_new(run->program, &o, column,
                                  (int64_t)run->present * per_user, &key, &run->trainer,
                                  &err) == 0,
                  "%s: %s", err.place, err.text);
}

static void run_close(struct run *run)
{
    psg_trainer_free(run->trainer);
    psg_program_free(run->program);
    free(run->token);
    free(run->record);
    free(run->first);
    free(run->target);
    free(run->before);
}

/* What a step gave away beside the coordinates: its privacy loss for one record more. */
static double side_loss(const struct run *run, const struct psg_step_report *r)
{
    const struct setup *s = run->setup;
    double loss = 0;
    if (s->telemetry_share > 0) { /* loss and clip sums, each 1 more with noise `spread` */
        double spread = s->s / sqrt(s->telemetry_share / 2),
               e = s->sequential ? 1 : s->q * s->n;
        loss += (2 * r->noisy_loss * e - 1) / (2 * spread * spread);
        loss += (2 * r->noisy_clip_fraction * e - 1) / (2 * spread * spread);
    }
    if (s->clipping == PSG_CLIP_ADAPTIVE) { /* the count, -1/2 more with noise 0.55 s */
        struct psg_trainer_state state = psg_trainer_state(run->trainer);
        double moved = log(state.adaptive_bound / r->max_grad_norm) / -1e-3;
        double count = moved, b = 0.55 * s->s;
        loss += (-count - 0.25) / (2 * b * b);
    }
    return loss;
}

/* Plays one game of every coordinate: score[k][i] for coordinate i. */
static void game(struct run *run, double *const score[N_SCORES])
{
    const struct setup *s = run->setup;
    const float *w = psg_trainer_params(run->trainer);
    double *low = calloc((size_t)run->n, sizeof *low),
           *high = calloc((size_t)run->n, sizeof *high);
    for (int k = 0; k < N_SCORES; k++)
        for (int i = 0; i < run->n; i++)
            score[k][i] = 0;
    for (int step = 0; step < s->steps; step++) {
        struct psg_step_report r;
        for (int i = 0; i < run->n; i++)
            run->before[i] = w[i];
        ck_assert_int_eq(psg_trainer_step(run->trainer, &r, NULL), 0);
        double side = side_loss(run, &r);
        for (int i = 0; i < run->n; i++) {
            double x = ((double)w[i] - (double)run->before[i]) / r.max_grad_norm;
            double loss = psg_audit_step_score(s->q, s->s, x);
            low[i] = step == 0 ? x : fmin(low[i], x);
            high[i] = step == 0 ? x : fmax(high[i], x);
            score[SCORE_LOSS][i] += loss;
            score[SCORE_SILENCE][i] -= x == 0;
            score[SCORE_JOINT][i] += loss + side;
            score[SCORE_RANGE][i] = high[i] - low[i];
        }
    }
    free(low);
    free(high);
}

/* Fills games first, first + 1, ... */
static void play_parallel(const struct setup *setup, struct games *g, int first)
{
    struct run run = { .setup = setup, .n = 2 * setup->n, .present = setup->n };
    double *score[N_SCORES];
    for (int k = 0; k < N_SCORES; k++)
        score[k] = calloc((size_t)run.n, sizeof **score);
    run_open(&run);
    game(&run, score);
    for (int k = 0; k < N_SCORES; k++)
        for (int i = 0; i < setup->n; i++) {
            g->in[k][first + i] = score[k][i];
            g->out[k][first + i] = score[k][setup->n + i];
        }
    run_close(&run);
    for (int k = 0; k < N_SCORES; k++)
        free(score[k]);
}

static void play_sequential(const struct setup *setup, struct games *g)
{
    for (int present = 0; present < 2; present++) {
        struct run run = { .setup = setup, .n = 1, .present = present };
        run_open(&run);
        for (int i = 0; i < setup->n; i++) {
            double *score[N_SCORES];
            for (int k = 0; k < N_SCORES; k++)
                score[k] = (present ? g->in[k] : g->out[k]) + i;
            game(&run, score);
        }
        run_close(&run);
    }
}

void games_play(const struct setup *setup, struct games *games)
{
    int runs = setup->runs > 1 ? setup->runs : 1;
    *games = (struct games){ .n = setup->n * runs };
    for (int k = 0; k < N_SCORES; k++) {
        games->in[k] = calloc((size_t)games->n, sizeof *games->in[k]);
        games->out[k] = calloc((size_t)games->n, sizeof *games->out[k]);
    }
    if (setup->sequential)
        play_sequential(setup, games);
    for (int i = 0; i < runs && !setup->sequential; i++) {
        struct setup one = *setup;
        one.seed += 1000 * (uint64_t)i;
        play_parallel(&one, games, setup->n * i);
    }
}

void games_free(struct games *games)
{
    for (int k = 0; k < N_SCORES; k++) {
        free(games->in[k]);
        free(games->out[k]);
    }
}

double games_claim(const struct setup *setup, double delta)
{
    struct psg_dp_event event = { setup->q, setup->s, setup->steps };
    struct psg_dp_epsilon at;
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, &event, 1, delta, &at, NULL), 0);
    return at.epsilon;
}
