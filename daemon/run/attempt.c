#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"
#include "run/artifact.h"
#include "run/checkpoint.h"
#include "run/run.h"
#include "run/weights.h"
#include "upload/upload.h"

enum { LEASE_MAX = 4096, EVAL_CHUNK = 512, LATER_MS = 2000, COLUMNS_MAX = 34 };
#define LEASE_NS 1000000000.0 /* a lease covers about a second of work: at most one sync a second */

struct attempt {
    const struct run_spec *spec;
    struct run_port *port;
    struct run_result result;
    struct data *data;
    struct psg_trainer *trainer;
    struct psg_accountant *accountant;
    struct metrics *metrics;
    int64_t done;   /* steps */
    int64_t leased; /* the steps below it may be run */
    double step_ns; /* moving average of a step's time */
    /* since the last step event: telemetry, averaged so that its noise is smaller */
    double loss_sum, clip_sum, weight;
    struct psg_step_report last;
    uint64_t start_ns, event_ns, checkpoint_ns;
    int64_t start_step;
    /* what the accountant said for the first epsilon_step steps */
    double epsilon;
    int64_t epsilon_step;
    double ask_ns; /* spent on asking it */
};

static uint64_t now_ns(const struct attempt *a)
{
    return a->spec->env->monotonic_ns(a->spec->env);
}

/* false, so that `return fail(...)` ends a phase */
static bool fail(struct attempt *a, enum job_reason reason, bool may_retry)
{
    a->result.end = RUN_FAILED;
    a->result.reason = reason;
    a->result.may_retry = may_retry;
    return false;
}

static bool fail_psg(struct attempt *a, int status)
{
    if (status == PSG_E_NOMEM)
        return fail(a, JOB_REASON_OOM, true);
    return fail(a, JOB_REASON_INTERNAL, false);
}

static bool fail_errno(struct attempt *a, int r)
{
    if (r == -ENOMEM)
        return fail(a, JOB_REASON_OOM, true);
    if (r == -ENOSPC || r == -EDQUOT)
        return fail(a, JOB_REASON_DISK_FULL, true);
    return fail(a, JOB_REASON_INTERNAL, true);
}

static void warn(const struct attempt *a, enum warning_code code)
{
    struct event event;
    event_init(&event, EVENT_WARNING);
    event.warning.code = code;
    a->port->event(a->port, &event);
}

/* ---- opening ---- */

static bool open_data(struct attempt *a)
{
    struct problem p;
    char sha256[65];
    problem_init(&p);
    int r = data_load(a->spec->dataset, a->spec->data_root, &a->data, &p);
    if (r && p.code == PROBLEM_OUT_OF_MEMORY)
        return fail(a, JOB_REASON_OOM, true);
    if (r)
        return fail(a, JOB_REASON_DATASET_MISSING, false);
    sodium_bin2hex(sha256, sizeof sha256, a->data->sha256, sizeof a->data->sha256);
    if (strcmp(sha256, a->spec->dataset_sha256) != 0)
        return fail(a, JOB_REASON_DATASET_MISSING, false);
    return true;
}

/* One column for each input of the program, by name. */
static void fill_columns(const struct attempt *a, enum data_split split,
                         struct psg_column column[COLUMNS_MAX])
{
    for (int i = 0; i < psg_program_n_inputs(a->spec->program) && i < COLUMNS_MAX; i++)
        data_column(a->data, split, psg_program_input_info(a->spec->program, i)->name,
                    &column[i]);
}

/* Steps that were leased can only be run again with the key they were run with. */
static bool open_trainer(struct attempt *a)
{
    struct psg_key key;
    struct psg_column column[COLUMNS_MAX];
    struct psg_error err;
    int r = 0;
    if (a->spec->has_seed)
        psg_key_from_seed(a->spec->seed, &key);
    else
        r = run_secret(a->spec->env, a->spec->dir, a->spec->leased == 0, &key);
    if (r < 0)
        return fail_errno(a, r);
    fill_columns(a, DATA_TRAIN, column);
    struct psg_train_options options = a->spec->options;
    if (a->spec->is_private && a->spec->unit == PRIVACY_UNIT_USER)
        options.units = (struct psg_units){ .n = a->data->n_units,
                                            .first = a->data->unit_first,
                                            .record = a->data->unit_record,
                                            .sum = options.sum_reduction };
    r = psg_trainer_new(a->spec->program, &options, column,
                        a->data->part[DATA_TRAIN].n, &key, &a->trainer, &err);
    psg_key_wipe(&key);
    return r < 0 ? fail_psg(a, r) : true;
}

/* Composes the steps from *stepp to `to`, in runs of equal noise. */
static bool compose(struct attempt *a, struct psg_accountant *acc, int64_t *stepp, int64_t to)
{
    const struct psg_schedule *s = &a->spec->options.noise_multiplier;
    struct psg_error err;
    double q = a->spec->poisson_sampling ? a->spec->sample_rate : 1;
    while (*stepp < to) {
        int64_t at = *stepp, end = to;
        int64_t period = s->kind == PSG_SCHEDULE_CONSTANT ? to : (int64_t)s->period;
        if (period < to - at / period * period)
            end = (at / period + 1) * period;
        struct psg_dp_event event = {
            q, psg_trainer_noise_multiplier(&a->spec->options, (uint64_t)at), end - at
        };
        int r = psg_accountant_compose(acc, &event, &err);
        if (r < 0)
            return fail_psg(a, r);
        *stepp = end;
    }
    return true;
}

/* Tells the accountant all steps of the job, so that it need not plan anew at every question. */
static bool expect_all(struct attempt *a)
{
    struct psg_accountant *all = NULL;
    struct psg_error err;
    int64_t step = 0;
    size_t n = 0;
    int r = psg_accountant_new(PSG_ACCOUNTANT_GDP, &all, &err); /* keeps events and nothing else */
    bool good = r == 0 ? compose(a, all, &step, a->spec->steps) : fail_psg(a, r);
    if (good) {
        const struct psg_dp_event *event = psg_accountant_history(all, &n);
        r = psg_accountant_expect(a->accountant, event, n, &err);
        good = r == 0 || fail_psg(a, r);
    }
    psg_accountant_free(all);
    return good;
}

static bool open_accountant(struct attempt *a)
{
    struct psg_error err;
    a->epsilon = NAN;
    if (!a->spec->is_private)
        return true;
    int r = psg_accountant_new(a->spec->accountant, &a->accountant, &err);
    return r < 0 ? fail_psg(a, r) : expect_all(a);
}

static psg_real *trainer_params(const struct attempt *a)
{
    struct psg_state_tensor t;
    for (int i = 0; psg_trainer_tensor(a->trainer, i, &t); i++)
        if (strcmp(t.name, "params") == 0)
            return t.data;
    return NULL;
}

/* The start weights in place of random ones. An attempt that goes on from a checkpoint has them in
 * there; reading them again changes nothing. */
static bool load_weights(struct attempt *a)
{
    const struct weights_spec *weights = a->spec->weights;
    _cleanup_free_ char *bytes = NULL;
    size_t size = 0;
    struct psg_error err;
    if (!weights)
        return true;
    int r = upload_read(a->spec->env, a->spec->upload_dir, weights->digest, SIZE_MAX / 2, &bytes,
                        &size);
    if (r == -ENOENT || r == -EBADMSG)
        return fail(a, JOB_REASON_WEIGHTS_MISSING, false);
    if (r < 0)
        return fail_errno(a, r);
    _cleanup_(psg_findings_freep) struct psg_findings *f = psg_findings_new();
    if (!f)
        return fail(a, JOB_REASON_OOM, true);
    r = run_weights_load(weights, a->spec->program, bytes, size, trainer_params(a), f, &err);
    if (r == PSG_E_NOMEM)
        return fail(a, JOB_REASON_OOM, true);
    return r == 0 && psg_findings_count(f) == 0 ? true
                                                : fail(a, JOB_REASON_WEIGHTS_MISSING, false);
}

static bool resume(struct attempt *a)
{
    bool found = false;
    int r = checkpoint_load(a->spec->env, a->spec->dir, a->spec->leased, a->trainer, a->metrics,
                            &found);
    if (r < 0)
        return fail_errno(a, r);
    a->done = a->start_step = (int64_t)psg_trainer_step_number(a->trainer);
    a->leased = a->done;
    if (found)
        warn(a, WARNING_RESUMED);
    return true;
}

static bool open_all(struct attempt *a)
{
    a->metrics = malloc(sizeof *a->metrics);
    if (!a->metrics)
        return fail(a, JOB_REASON_OOM, true);
    metrics_init(a->metrics);
    if (!open_data(a) || !open_accountant(a) || !open_trainer(a) || !load_weights(a) ||
        !resume(a))
        return false;
    if (!a->spec->is_private)
        warn(a, WARNING_NON_PRIVATE);
    else if (!a->spec->poisson_sampling)
        warn(a, WARNING_NOT_AMPLIFIED);
    if (a->spec->dataset->test_split != SPLIT_PUBLIC && a->data->part[DATA_TEST].n > 0)
        warn(a, WARNING_EVAL_SKIPPED);
    a->start_ns = a->checkpoint_ns = now_ns(a);
    return true;
}

/* ---- epsilon ---- */

/* How many steps ahead to ask for. prv takes milliseconds, and up to a second to plan for a schedule, so
 * that live numbers go in strides, larger ones where asking would show in the run's time. */
static int64_t stride_of(const struct attempt *a)
{
    double share = a->ask_ns / ((double)(now_ns(a) - a->start_ns) + 1);
    if (a->spec->accountant != PSG_ACCOUNTANT_PRV)
        return 0;
    return a->spec->steps / (share < 0.01 ? 50 : share < 0.05 ? 20 : 5);
}

/* An upper bound of the cost of `done` steps: exact while asking is cheap, else that of a few
 * steps more. */
static bool update_epsilon(struct attempt *a)
{
    struct psg_dp_epsilon eps;
    struct psg_error err;
    if (!a->spec->is_private || a->epsilon_step >= a->done)
        return true;
    int64_t stride = stride_of(a);
    int64_t target = a->done + stride < a->spec->steps ? a->done + stride : a->spec->steps;
    uint64_t before = now_ns(a);
    if (!compose(a, a->accountant, &a->epsilon_step, target))
        return false;
    int r = psg_accountant_epsilon_bound(a->accountant, a->spec->accounting_delta, &eps, &err);
    if (r < 0)
        return fail_psg(a, r);
    a->ask_ns += (double)(now_ns(a) - before);
    a->epsilon = isfinite(eps.epsilon) ? eps.epsilon : NAN;
    return true;
}

/* ---- evaluation on a public test split ---- */

struct score {
    double loss_sum;
    int64_t right;
};

static int argmax(const psg_real *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (int)best;
}

static void count(const struct attempt *a, int64_t first, int64_t n, const psg_real *loss,
                  const psg_real *output, int64_t classes, struct score *score)
{
    const struct data_part *test = &a->data->part[DATA_TEST];
    for (int64_t i = 0; i < n; i++) {
        score->loss_sum += (double)loss[i];
        if (classes > 0)
            score->right += argmax(output + i * classes, classes) ==
                            ((const int64_t *)test->labels)[first + i];
    }
}

static int evaluate_chunks(struct attempt *a, int64_t classes, int64_t width,
                           struct score *score)
{
    const struct data_part *test = &a->data->part[DATA_TEST];
    _cleanup_free_ psg_real *loss = calloc(EVAL_CHUNK, sizeof *loss);
    _cleanup_free_ psg_real *output = calloc((size_t)(EVAL_CHUNK * width), sizeof *output);
    struct psg_error err;
    if (!loss || !output)
        return PSG_E_NOMEM;
    for (int64_t first = 0; first < test->n; first += EVAL_CHUNK) {
        int64_t n = test->n - first < EVAL_CHUNK ? test->n - first : EVAL_CHUNK;
        struct psg_column column[COLUMNS_MAX];
        fill_columns(a, DATA_TEST, column);
        for (int c = 0; c < psg_program_n_inputs(a->spec->program) && c < COLUMNS_MAX; c++)
            column[c].data = (const char *)column[c].data + (size_t)first * column[c].stride;
        struct psg_records records = { .n = n, .column = column };
        int r = psg_evaluate(psg_trainer_plan(a->trainer), psg_trainer_params(a->trainer),
                             &records, loss, output, &err);
        if (r < 0)
            return r;
        count(a, first, n, loss, output, classes, score);
    }
    return 0;
}

/* again: it is told once more, the metrics have it. */
static bool evaluate(struct attempt *a, bool again)
{
    const struct dataset_spec *dataset = a->spec->dataset;
    const struct psg_type *type = psg_program_output_type(a->spec->program);
    int64_t n = a->data->part[DATA_TEST].n, width = type ? psg_shape_size(&type->shape) : 0;
    struct score score = { 0 };
    if (dataset->test_split != SPLIT_PUBLIC || n == 0 || width < 1)
        return true;
    bool has_classes = dataset->classes > 0 && type->shape.rank == 1 && width > 1;
    int r = evaluate_chunks(a, has_classes ? width : 0, width, &score);
    if (r < 0)
        return fail_psg(a, r);
    struct event event;
    event_init(&event, EVENT_EVAL);
    event.eval.step = a->done;
    event.eval.split = "test";
    event.eval.loss = score.loss_sum / (double)n;
    event.eval.accuracy = has_classes ? (double)score.right / (double)n : NAN;
    a->port->event(a->port, &event);
    struct metric line = { .step = a->done, .loss = NAN, .clip_fraction = NAN, .lr = a->last.lr,
                           .epsilon = a->epsilon, .eval_loss = event.eval.loss,
                           .eval_accuracy = event.eval.accuracy };
    if (!again)
        metrics_add(a->metrics, &line, true);
    return true;
}

/* ---- step events ---- */

static void collect(struct attempt *a, const struct psg_step_report *r)
{
    a->last = *r;
    if (a->spec->telemetry == TELEMETRY_PRIVATE && a->spec->is_private) {
        a->loss_sum += r->noisy_loss;
        a->clip_sum += r->noisy_clip_fraction;
        a->weight += 1;
    } else if (a->spec->telemetry == TELEMETRY_RAW) {
        a->loss_sum += r->exact.loss_sum;
        a->clip_sum += a->spec->is_private ? (double)r->exact.n_clipped : NAN;
        a->weight += (double)r->exact.n;
    }
}

static bool params_are_finite(const struct attempt *a)
{
    const psg_real *params = psg_trainer_params(a->trainer);
    int64_t n = psg_program_trainable_size(a->spec->program);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(params[i]))
            return false;
    return true;
}

static void fill_speed(const struct attempt *a, struct event_step *e)
{
    double seconds = (double)(now_ns(a) - a->start_ns) * 1e-9;
    double per_s = seconds > 0 ? (double)(a->done - a->start_step) / seconds : NAN;
    e->examples_per_s = per_s * a->spec->options.expected_batch_size;
    e->eta_s = (double)(a->spec->steps - a->done) / per_s;
}

static void send_step(struct attempt *a, double loss, double clip_fraction)
{
    struct event event;
    event_init(&event, EVENT_STEP);
    struct event_step *e = &event.step;
    e->step = a->done;
    e->of = a->spec->steps;
    e->epoch = (double)a->done / (double)a->spec->steps_per_epoch;
    e->lr = a->last.lr;
    e->expected_batch_size = a->spec->options.expected_batch_size;
    e->loss = loss;
    e->clip_fraction = clip_fraction;
    e->is_private = isfinite(loss) && a->spec->telemetry == TELEMETRY_RAW &&
                    !a->spec->dataset->is_public;
    if (a->spec->is_private) {
        e->noise_multiplier = a->last.noise_multiplier;
        e->epsilon = a->epsilon;
        e->delta = a->spec->delta;
    }
    fill_speed(a, e);
    a->port->event(a->port, &event);
}

static bool tell_step(struct attempt *a)
{
    if (!params_are_finite(a))
        return fail(a, JOB_REASON_DIVERGED, false);
    if (!update_epsilon(a))
        return false;
    struct metric line = { .step = a->done, .loss = NAN, .clip_fraction = NAN, .lr = a->last.lr,
                           .epsilon = a->epsilon, .eval_loss = NAN,
                           .eval_accuracy = NAN };
    if (a->weight > 0) {
        line.loss = a->loss_sum / a->weight;
        line.clip_fraction = a->clip_sum / a->weight;
    }
    send_step(a, line.loss, line.clip_fraction);
    metrics_add(a->metrics, &line, false);
    a->loss_sum = a->clip_sum = a->weight = 0;
    a->event_ns = now_ns(a);
    return true;
}

/* The checkpoint behind the last step may have outlived the events that told of it: they are told
 * again, with the same numbers. */
static bool tell_last_step_again(struct attempt *a)
{
    struct metric line = { .loss = NAN, .clip_fraction = NAN };
    for (int64_t i = 0; i < a->metrics->n; i++)
        if (a->metrics->line[i].step == a->done && isnan(a->metrics->line[i].eval_loss))
            line = a->metrics->line[i];
    a->last.lr = line.lr;
    a->last.noise_multiplier =
        psg_trainer_noise_multiplier(&a->spec->options, (uint64_t)a->done - 1);
    if (!update_epsilon(a))
        return false;
    send_step(a, line.loss, line.clip_fraction);
    return evaluate(a, true);
}

static bool step_event_is_due(const struct attempt *a)
{
    double rate = a->spec->step_events_per_s;
    if (rate <= 0 || a->done == a->start_step + 1 || a->done == a->spec->steps)
        return true;
    return (double)(now_ns(a) - a->event_ns) >= 1e9 / rate;
}

/* ---- the loop ---- */

static bool save(struct attempt *a, bool required)
{
    struct checkpoint_info info;
    int r = checkpoint_save(a->spec->env, a->spec->dir, a->trainer, a->metrics, &info);
    a->checkpoint_ns = now_ns(a);
    if (r < 0) {
        warn(a, WARNING_CHECKPOINT_FAILED);
        return required ? fail_errno(a, r) : true;
    }
    struct event event;
    event_init(&event, EVENT_CHECKPOINT);
    event.checkpoint = (struct event_checkpoint){ .step = info.step,
                                                  .bytes = info.bytes,
                                                  .sha256 = info.sha256 };
    a->port->event(a->port, &event);
    return true;
}

/* Nothing is computed before the lease that covers it is durable. */
static bool take_lease(struct attempt *a)
{
    while (a->done >= a->leased && a->port->stop(a->port) == RUN_GO) {
        double n = a->step_ns > 0 ? LEASE_NS / a->step_ns : 1;
        int64_t size = n < 1 ? 1 : n > LEASE_MAX ? LEASE_MAX : (int64_t)n;
        int64_t to = a->spec->steps - a->done < size ? a->spec->steps : a->done + size;
        switch (a->port->lease(a->port, a->done, to)) {
        case RUN_LEASE_GRANTED: a->leased = to; break;
        case RUN_LEASE_LATER: a->port->wait(a->port, LATER_MS); break;
        case RUN_LEASE_FENCED: a->result.end = RUN_FENCED; return false;
        }
    }
    return true;
}

static bool step(struct attempt *a)
{
    struct psg_step_report report;
    struct psg_error err;
    uint64_t before = now_ns(a);
    int r = psg_trainer_step(a->trainer, &report, &err);
    if (r < 0)
        return fail_psg(a, r);
    double took = (double)(now_ns(a) - before);
    a->step_ns = a->step_ns > 0 ? 0.8 * a->step_ns + 0.2 * took : took;
    a->done++;
    collect(a, &report);
    if (step_event_is_due(a) && !tell_step(a))
        return false;
    bool last = a->done == a->spec->steps;
    if ((last || (a->spec->eval_every > 0 && a->done % a->spec->eval_every == 0)) &&
        !evaluate(a, false))
        return false;
    /* the last step too: what follows it can be begun again without training */
    double since = (double)(now_ns(a) - a->checkpoint_ns) * 1e-9;
    return last || since >= a->spec->checkpoint_every_s ? save(a, false) : true;
}

static bool train(struct attempt *a)
{
    if (a->done == a->spec->steps && a->done > 0 && !tell_last_step_again(a))
        return false;
    while (a->done < a->spec->steps) {
        if (!take_lease(a))
            return false;
        switch (a->port->stop(a->port)) {
        case RUN_GO: break;
        case RUN_STOP_CANCEL:
            a->result.end = RUN_CANCELLED;
            a->result.reason = JOB_REASON_USER_CANCEL;
            return false;
        case RUN_STOP_DRAIN:
            if (save(a, true)) {
                a->result.end = RUN_DRAINED;
                a->result.reason = JOB_REASON_SERVER_RESTART;
            }
            return false;
        }
        if (!step(a))
            return false;
    }
    return params_are_finite(a) ? true : fail(a, JOB_REASON_DIVERGED, false);
}

/* ---- the end ---- */

static bool tell_artifact(struct attempt *a, int r, const struct artifact_info *info)
{
    if (r < 0)
        return fail_errno(a, r);
    struct event event;
    event_init(&event, EVENT_ARTIFACT);
    event.artifact = (struct event_artifact){ info->name, info->bytes, info->sha256 };
    a->port->event(a->port, &event);
    return true;
}

static bool write_audit(struct attempt *a)
{
    struct artifact_info info;
    bool refuted = false;
    int r = artifact_audit(a->spec, &refuted, &info);
    if (r >= 0 && refuted)
        warn(a, WARNING_AUDIT_REFUTED);
    return tell_artifact(a, r, &info);
}

static bool write_artifacts(struct attempt *a)
{
    struct artifact_info info;
    if (!update_epsilon(a) || (a->spec->audit && a->spec->is_private && !write_audit(a)))
        return false;
    int r = artifact_model(a->spec, a->trainer, &info);
    if (!tell_artifact(a, r, &info))
        return false;
    r = artifact_adapters(a->spec, a->trainer, &info);
    if (r != 0 && !tell_artifact(a, r < 0 ? r : 0, &info))
        return false;
    r = artifact_metrics(a->spec, a->metrics, &info);
    if (!tell_artifact(a, r, &info))
        return false;
    r = artifact_privacy(a->spec, a->accountant, &info);
    if (!tell_artifact(a, r, &info))
        return false;
    r = artifact_job(a->spec, &info);
    return tell_artifact(a, r, &info);
}

struct run_result attempt_run(const struct run_spec *spec, struct run_port *port)
{
    struct attempt a = { .spec = spec, .port = port };
    if (open_all(&a) && train(&a) && write_artifacts(&a)) {
        a.result.end = RUN_DONE;
        a.result.reason = JOB_REASON_OK;
    }
    a.result.done = a.done;
    psg_trainer_free(a.trainer);
    psg_accountant_free(a.accountant);
    data_free(a.data);
    free(a.metrics);
    return a.result;
}
