/* A shadow of a job, with canaries for records. See psg/audit.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "psg/audit.h"
#include "psg/op.h"
#include "psg/program.h"

/* Canaries 0 .. n - 1 are in the data, n .. 2 n - 1 are not. Where users are the unit, each
 * present canary is a user with two records. */
struct shadow {
    const struct psg_train_options *job;
    int64_t n, steps;
    int per_unit;
    struct psg_program *program;
    struct psg_trainer *trainer;
    struct psg_train_options options;
    double total_norm; /* C of a whole record at step 0 */
    int64_t *token, *first, *record;
    float *target;
    psg_real *before;
    double *score;   /* [2 n]: privacy losses of the steps, added up */
    double *silence; /* [2 n]: minus the number of exact zeros: noise that was left out */
    double *low, *high; /* [2 n]: extremes; equal where noise is the same in every step */
};

static void shadow_free(struct shadow *s)
{
    psg_trainer_free(s->trainer);
    psg_program_free(s->program);
    free(s->token);
    free(s->first);
    free(s->record);
    free(s->target);
    free(s->before);
    free(s->score);
    free(s->silence);
    free(s->low);
    free(s->high);
}

/* ---- the canaries ---- */

/* A row of an embedding against a target far away: each canary's gradient lies in a coordinate of
 * its own and is far longer than the bound. */
static int build_program(struct shadow *s, struct psg_error *err)
{
    psg_value v[2], loss;
    struct psg_shape scalar = { .rank = 1, .dim = { 1 } };
    _cleanup_(psg_attrs_freep) struct psg_attrs *attrs = psg_attrs_new();
    struct psg_program *p = s->program = psg_program_new();
    if (!attrs || !p)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = psg_attrs_int(attrs, "num_embeddings", 2 * s->n);
    if (r == 0)
        r = psg_attrs_int(attrs, "embedding_dim", 1);
    if (r < 0)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    r = psg_program_input(p, "x", PSG_I64, &scalar, v, err);
    if (r == 0)
        r = psg_program_add(p, "embedding", "0", v, 1, attrs, NULL, 0, v, NULL, err);
    if (r == 0)
        r = psg_program_add(p, "flatten", "1", v, 1, NULL, NULL, 0, v, NULL, err);
    if (r == 0)
        r = psg_program_input(p, "y", PSG_REAL, &scalar, &v[1], err);
    if (r == 0)
        r = psg_program_add(p, "mse_loss", "loss", v, 2, NULL, NULL, 0, &loss, NULL, err);
    if (r == 0)
        r = psg_program_set_loss(p, loss, err);
    return r ? r : psg_program_check(p, err);
}

static int make_records(struct shadow *s, struct psg_error *err)
{
    size_t n = (size_t)(s->n * s->per_unit), all = (size_t)(2 * s->n);
    s->token = calloc(n, sizeof *s->token);
    s->record = calloc(n, sizeof *s->record);
    s->target = calloc(n, sizeof *s->target);
    s->first = calloc((size_t)s->n + 1, sizeof *s->first);
    s->before = calloc(all, sizeof *s->before);
    s->score = calloc(all, sizeof *s->score);
    s->silence = calloc(all, sizeof *s->silence);
    s->low = calloc(all, sizeof *s->low);
    s->high = calloc(all, sizeof *s->high);
    if (!s->token || !s->record || !s->target || !s->first || !s->before || !s->score ||
        !s->silence || !s->low || !s->high)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    for (int64_t i = 0; i < s->n * s->per_unit; i++) {
        s->token[i] = i / s->per_unit;
        s->record[i] = i;
        s->target[i] = 1e6f;
    }
    for (int64_t u = 0; u <= s->n; u++)
        s->first[u] = u * s->per_unit;
    return 0;
}

/* ---- the options: the job's, for another model ---- */

static double total_norm(const struct psg_train_options *o, const struct psg_program *program)
{
    double squares = 0;
    int n_bounds = 0;
    if (o->clipping == PSG_CLIP_ADAPTIVE)
        return o->adaptive.bound;
    if (o->clipping != PSG_CLIP_PER_LAYER && o->clipping != PSG_CLIP_PER_GROUP)
        return o->max_grad_norm.initial;
    for (int i = 0; i < psg_program_n_params(program); i++)
        n_bounds += psg_program_param(program, i)->trainable;
    n_bounds = o->clipping == PSG_CLIP_PER_GROUP ? o->n_group_norm : n_bounds;
    for (int i = 0; i < n_bounds; i++) {
        double c = o->group_norm[o->n_group_norm == 1 ? 0 : i];
        squares += c * c;
    }
    return sqrt(squares);
}

static void make_options(struct shadow *s, int n_threads)
{
    struct psg_train_options *o = &s->options;
    *o = *s->job;
    if (o->clipping == PSG_CLIP_PER_GROUP)
        o->clipping = PSG_CLIP_PER_LAYER; /* one parameter: the same */
    if (o->clipping == PSG_CLIP_PER_LAYER) {
        o->group_norm = &s->total_norm;
        o->n_group_norm = 1;
    }
    o->plan = (struct psg_plan_options){ .mode = PSG_MODE_AUTO, .n_threads = n_threads };
    o->units = (struct psg_units){ .n = 0 };
    if (s->per_unit > 1)
        o->units = (struct psg_units){ .n = s->n, .first = s->first, .record = s->record };
    /* shuffled batches are accounted as if every record took part in every step */
    o->sample_rate = o->poisson ? o->sample_rate : 1;
    o->poisson = true;
    o->max_batch_size = o->max_records = 0;
    o->expected_batch_size = o->sample_rate * (double)s->n;
    o->adaptive.expected_batch_size = o->expected_batch_size;
    o->sum_reduction = false;
    o->optimizer = psg_optimizer_defaults(PSG_SGD);
    /* a step moves the weights by minus the noisy sum */
    o->lr = (struct psg_schedule){ .kind = PSG_SCHEDULE_CONSTANT,
                                   .initial = o->expected_batch_size,
                                   .period = 1 };
}

static int open_shadow(struct shadow *s, const struct psg_key *key, int n_threads,
                       struct psg_error *err)
{
    int r = build_program(s, err);
    if (r == 0)
        r = make_records(s, err);
    if (r)
        return r;
    make_options(s, n_threads);
    struct psg_column column[2] = {
        { .type = PSG_COL_I64, .data = s->token, .stride = sizeof *s->token },
        { .type = PSG_COL_F32, .data = s->target, .stride = sizeof *s->target },
    };
    return psg_trainer_new(s->program, &s->options, column, s->n * s->per_unit, key, &s->trainer,
                           err);
}

/* ---- the run ---- */

static int run_steps(struct shadow *s, struct psg_error *err)
{
    const psg_real *w = psg_trainer_params(s->trainer);
    bool grouped = s->options.clipping == PSG_CLIP_PER_LAYER;
    for (int64_t step = 0; step < s->steps; step++) {
        struct psg_step_report report;
        memcpy(s->before, w, (size_t)(2 * s->n) * sizeof *w);
        int r = psg_trainer_step(s->trainer, &report, err);
        if (r < 0)
            return r;
        double c = report.max_grad_norm;
        if (grouped)
            c *= s->total_norm / s->options.max_grad_norm.initial;
        for (int64_t i = 0; i < 2 * s->n; i++) {
            double x = ((double)w[i] - (double)s->before[i]) / c;
            s->score[i] += psg_audit_step_score(s->options.sample_rate, report.noise_multiplier, x);
            s->silence[i] -= x == 0;
            s->low[i] = step == 0 ? x : fmin(s->low[i], x);
            s->high[i] = step == 0 ? x : fmax(s->high[i], x);
        }
    }
    for (int64_t i = 0; i < 2 * s->n; i++)
        s->high[i] -= s->low[i];
    return 0;
}

static int claim_of(const struct shadow *s, double delta, double *claim, struct psg_error *err)
{
    struct psg_accountant *accountant = NULL;
    struct psg_dp_epsilon at;
    int r = psg_accountant_new(PSG_ACCOUNTANT_PRV, &accountant, err);
    for (int64_t step = 0; step < s->steps && r == 0; step++) {
        struct psg_dp_event event = {
            s->options.sample_rate, psg_trainer_noise_multiplier(s->job, (uint64_t)step), 1
        };
        r = psg_accountant_compose(accountant, &event, err);
    }
    if (r == 0)
        r = psg_accountant_epsilon(accountant, delta, &at, err);
    psg_accountant_free(accountant);
    *claim = r == 0 ? at.epsilon : 0;
    return r;
}

/* The largest of what three scores refute, each at a third of the error. */
static int judge(const struct shadow *s, double delta, double confidence,
                 struct psg_audit_report *report, struct psg_error *err)
{
    const double *score[] = { s->score, s->silence, s->high };
    double each = 1 - (1 - confidence) / 4;
    int64_t n = s->n;
    int r = claim_of(s, delta, &report->claim, err);
    for (int k = 0; k < 3 && r == 0; k++) {
        struct psg_audit_bound b;
        r = psg_audit_bound(score[k], n, score[k] + n, n, delta, each, &b, err);
        if (r == 0 && (k == 0 || b.epsilon > report->bound.epsilon))
            report->bound = b;
    }
    if (r == 0 && s->job->noise_multiplier.kind == PSG_SCHEDULE_CONSTANT) {
        struct psg_dp_event event = { s->options.sample_rate, s->job->noise_multiplier.initial,
                                      s->steps };
        r = psg_audit_noise(s->score, n, s->score + n, n, &event, delta, each, &report->noise, err);
    }
    report->refuted = report->bound.epsilon > report->claim ||
                      report->noise.bound.epsilon > report->claim;
    return r;
}

int psg_audit_shadow(const struct psg_program *program, const struct psg_train_options *job,
                     const struct psg_audit_options *options, const struct psg_key *key,
                     struct psg_audit_report *report, struct psg_error *err)
{
    _cleanup_(shadow_free) struct shadow s = {
        .job = job,
        .n = options->n_canaries / 2,
        .steps = options->steps,
        .per_unit = job->units.n > 0 ? 2 : 1,
        .total_norm = total_norm(job, program),
    };
    *report = (struct psg_audit_report){ .n_canaries = 2 * s.n, .steps = s.steps };
    if (!job->is_private || s.n < 16 || s.n > 1 << 20 || s.steps < 1)
        return psg_fail(err, PSG_E_RANGE, "options", "is no private run with canaries and steps");
    int r = open_shadow(&s, key, options->n_threads, err);
    if (r == 0)
        r = run_steps(&s, err);
    return r ? r : judge(&s, options->delta, options->confidence, report, err);
}
