/* A batch through the tiles.
 *
 *   batch --cut--> tiles --by lane--> workers --add--> lane sums --tree--> sum
 *
 * Tile t belongs to lane t mod n_lanes; a lane's tiles run in order, by whichever thread took
 * the lane. So the order of every addition is fixed by the batch alone. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "backend/memory.h"
#include "mode/mode.h"

enum what { WHAT_GRADS, WHAT_SUM, WHAT_PLAIN, WHAT_EVALUATE };

enum { STATS_LANES = 64 }; /* the most lanes of a plan */

struct work {
    struct psg_plan *plan;
    const struct psg_records *batch;
    const psg_real *params;
    enum what what;
    int64_t tile, n_tiles; /* samples in a tile, at most the plan's */
    int n_lanes; /* lanes with at least one tile */
    const struct psg_grad_out *grads;
    const struct psg_sum_options *options;
    psg_real *sum; /* [P], of lane 0 and then of all */
    struct psg_sum_stats *lane_stats; /* [n_lanes] */
    atomic_int next_lane, n_came; /* threads that took part */
    atomic_bool failed;
    pthread_mutex_t lock;
    int64_t failed_tile; /* the first tile that failed decides the error */
    struct psg_error error;
};

static void work_fail(struct work *work, int64_t tile, const struct psg_error *err)
{
    pthread_mutex_lock(&work->lock);
    if (!atomic_load(&work->failed) || tile < work->failed_tile) {
        work->failed_tile = tile;
        work->error = *err;
    }
    atomic_store(&work->failed, true);
    pthread_mutex_unlock(&work->lock);
}

/* Copies n samples of a value out of the tile. */
static void copy_out(const struct psg_plan *plan, psg_real *to, int64_t first, int64_t n,
                     int64_t size, const psg_real *from)
{
    if (to && from && n * size > 0)
        memory_download(plan->be, (size_t)(n * size) * sizeof *to, from, to + first * size);
}

/* Squared norms, to where the host reads them. */
static void fetch_norms(struct worker *w)
{
    const struct psg_plan *plan = w->plan;
    memory_download(plan->be, (size_t)(plan->n_groups * plan->tile) * sizeof *w->sq, w->sq,
                    w->host_sq);
}

/* Losses of n samples, where the host can read them. */
static const psg_real *fetch_loss(struct worker *w, int64_t n)
{
    const psg_real *loss = w->value[w->plan->program->loss];
    if (!w->host_loss)
        return loss;
    memory_download(w->plan->be, (size_t)n * sizeof *loss, loss, w->host_loss);
    return w->host_loss;
}

/* Rows of the tile to the caller's; false: out of a device's memory. */
static bool rows_out(struct worker *w, int64_t n, psg_real *rows)
{
    struct psg_plan *plan = w->plan;
    int64_t size = plan->program->trainable_size;
    if (!plan->be->device_memory) {
        plan->vt->rows(w, n, rows);
        return true;
    }
    if (!w->row_out && !(w->row_out = worker_reals(w, plan->tile * size)))
        return false;
    plan->vt->rows(w, n, w->row_out);
    memory_download(plan->be, (size_t)(n * size) * sizeof *rows, w->row_out, rows);
    return true;
}

static bool grads_out(struct work *work, struct worker *w, int64_t first, int64_t n)
{
    const struct psg_plan *plan = work->plan;
    const struct psg_program *p = plan->program;
    const struct psg_grad_out *out = work->grads;
    copy_out(plan, out->loss, first, n, 1, w->value[p->loss]);
    if (p->output != PSG_NONE)
        copy_out(plan, out->output, first, n, value_size(plan, p->output), w->value[p->output]);
    fetch_norms(w);
    for (int64_t i = 0; out->sqnorm && i < n; i++)
        for (int g = 0; g < plan->n_groups; g++)
            out->sqnorm[(first + i) * plan->n_groups + g] = w->host_sq[g * plan->tile + i];
    for (int k = 0; out->input_grad && k < p->n_inputs; k++) {
        if (!out->input_grad[k])
            continue;
        int64_t size = value_size(plan, p->inputs[k].value);
        const psg_real *from = plan->vt->input_grad(w, k);
        if (from)
            copy_out(plan, out->input_grad[k], first, n, size, from);
        else
            memset(out->input_grad[k] + first * size, 0,
                   (size_t)(n * size) * sizeof(psg_real));
    }
    return !out->rows || rows_out(w, n, out->rows + first * p->trainable_size);
}

/* A sample whose norm is not finite gets weight 0 in every group. */
static void weigh(struct work *work, struct worker *w, int64_t n, struct psg_sum_stats *stats)
{
    const struct psg_plan *plan = work->plan;
    const struct psg_sum_options *o = work->options;
    const psg_real *loss = fetch_loss(w, n);
    psg_real *weight = w->host_weight;
    int64_t n_weights = plan->n_groups * plan->tile;
    fetch_norms(w);
    if (o->weight)
        o->weight(o->weight_arg, n, plan->tile, plan->n_groups, w->host_sq, weight);
    for (int64_t i = 0; !o->weight && i < n_weights; i++)
        weight[i] = 1;
    for (int64_t i = 0; i < n; i++) {
        double total = 0;
        bool clipped = false;
        for (int g = 0; g < plan->n_groups; g++) {
            total += w->host_sq[g * plan->tile + i];
            clipped |= weight[g * plan->tile + i] < 1;
        }
        bool finite = isfinite(total);
        for (int g = 0; !finite && g < plan->n_groups; g++)
            weight[g * plan->tile + i] = 0;
        stats->n++;
        stats->n_nonfinite += !finite;
        stats->n_clipped += clipped || !finite;
        stats->norm_sum += finite ? sqrt(total) : 0;
        double l = (double)loss[i], bound = o->loss_bound;
        stats->loss_sum += isfinite(l) ? l : 0;
        if (bound > 0)
            l = isnan(l) || l > bound ? bound : l < 0 ? 0 : l;
        stats->loss_bounded_sum += isfinite(l) ? l : 0;
    }
    memory_upload(plan->be, (size_t)n_weights * sizeof *weight, weight, w->weight);
}

static void run_tile(struct work *work, struct worker *w, int64_t tile, psg_real *sum,
                     struct psg_sum_stats *stats)
{
    struct psg_plan *plan = work->plan;
    int64_t first = tile * work->tile;
    int64_t n = work->batch->n - first < work->tile ? work->batch->n - first : work->tile;
    struct psg_error err;
    if (load_tile(w, work->batch, first, n, &err)) {
        work_fail(work, tile, &err);
        return;
    }
    if (work->what != WHAT_EVALUATE && work->batch->key)
        load_random(w, work->batch, first, n);
    switch (work->what) {
    case WHAT_GRADS:
        plan->vt->norms(w, n, w->sq);
        if (!grads_out(work, w, first, n)) {
            psg_fail(&err, PSG_E_NOMEM, NULL, "out of memory");
            work_fail(work, tile, &err);
        }
        break;
    case WHAT_SUM:
        plan->vt->norms(w, n, w->sq);
        weigh(work, w, n, stats);
        plan->vt->sum(w, n, w->weight, sum);
        break;
    case WHAT_PLAIN:
        plan->vt->plain(w, n, sum);
        const psg_real *loss = fetch_loss(w, n);
        for (int64_t i = 0; i < n; i++)
            stats->loss_sum += (double)loss[i];
        break;
    case WHAT_EVALUATE:
        tile_forward(w, n, false);
        if (plan->program->loss != PSG_NONE)
            copy_out(plan, work->grads->loss, first, n, 1, w->value[plan->program->loss]);
        if (plan->program->output != PSG_NONE)
            copy_out(plan, work->grads->output, first, n, value_size(plan, plan->program->output),
                     w->value[plan->program->output]);
        break;
    }
}

/* Lane 0 adds up where the result belongs, or where a device can. */
static psg_real *lane_sum(const struct work *work, int lane)
{
    const struct psg_plan *plan = work->plan;
    if (lane == 0)
        return plan->first_sum ? plan->first_sum : work->sum;
    return plan->lane_sum + (lane - 1) * plan->program->trainable_size;
}

static void run_lanes(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    struct work *work = arg;
    struct psg_plan *plan = work->plan;
    struct worker *w = &plan->workers[thread];
    int64_t size = plan->program->trainable_size;
    atomic_fetch_add(&work->n_came, 1);
    worker_set_params(w, plan->params ? plan->params : work->params);
    for (;;) {
        int lane = atomic_fetch_add(&work->next_lane, 1);
        if (lane >= work->n_lanes)
            return;
        psg_real *sum = lane_sum(work, lane);
        if (work->what == WHAT_SUM || work->what == WHAT_PLAIN)
            plan->be->fill(size, 0, sum);
        for (int64_t t = lane; t < work->n_tiles && !atomic_load(&work->failed);
             t += plan->n_lanes)
            run_tile(work, w, t, sum, &work->lane_stats[lane]);
    }
}

/* Pairs of lanes, pairs of pairs, ...: the shape depends on the number of lanes only. */
static void add_lanes(const struct work *work)
{
    const struct psg_plan *plan = work->plan;
    int64_t size = plan->program->trainable_size;
    for (int step = 1; step < work->n_lanes; step *= 2)
        for (int lane = 0; lane + step < work->n_lanes; lane += 2 * step)
            plan->be->axpy(size, 1, lane_sum(work, lane + step), lane_sum(work, lane));
    if (work->n_lanes == 0)
        plan->be->fill(size, 0, lane_sum(work, 0));
    memory_download(plan->be, (size_t)size * sizeof *work->sum, lane_sum(work, 0), work->sum);
}

static void add_stats(const struct work *work, struct psg_sum_stats *stats)
{
    for (int lane = 0; lane < work->n_lanes; lane++) {
        const struct psg_sum_stats *s = &work->lane_stats[lane];
        stats->n += s->n;
        stats->n_nonfinite += s->n_nonfinite;
        stats->n_clipped += s->n_clipped;
        stats->loss_sum += s->loss_sum;
        stats->loss_bounded_sum += s->loss_bounded_sum;
        stats->norm_sum += s->norm_sum;
    }
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Runs the lanes on as many threads as they are worth: waking one costs about as much as SHARE_NS
 * of work. The time of a sample falls at once and rises slowly, because what disturbs a
 * measurement only lengthens it. Who runs a lane is not in the result's bits. */
static void share_lanes(struct work *work)
{
    static const double SHARE_NS = 120e3;
    struct psg_plan *plan = work->plan;
    double *sample_ns = &plan->sample_ns[work->what], n = (double)work->batch->n;
    double start = now_ns();
    if (work->n_lanes > 1 && !(*sample_ns > 0 && *sample_ns * n < SHARE_NS))
        psg_team_share(plan->team, run_lanes, work);
    else
        run_lanes(work, 0, 1);
    double took = (now_ns() - start) * atomic_load(&work->n_came) / n;
    bool falls = !(*sample_ns > 0) || took < *sample_ns;
    *sample_ns += (took - *sample_ns) * (falls ? 1 : 1.0 / 16);
}

/* Tiles of equal size, an even number of them while there are few, so that two or four threads
 * have the same to do. */
static void cut(struct work *work)
{
    const struct psg_plan *plan = work->plan;
    int64_t n = work->batch->n, k = (n + plan->tile - 1) / plan->tile;
    if (k > 1 && k < plan->n_lanes)
        k += k % 2;
    work->tile = k > 0 ? (n + k - 1) / k : 1;
    work->n_tiles = (n + work->tile - 1) / work->tile;
    work->n_lanes = work->n_tiles < plan->n_lanes ? (int)work->n_tiles : plan->n_lanes;
}

static int work_run(struct work *work, struct psg_error *err)
{
    struct psg_plan *plan = work->plan;
    int r = load_check(plan, work->batch, err);
    if (r)
        return r;
    if (work->what != WHAT_EVALUATE) {
        if (!plan->backward)
            return psg_fail(err, PSG_E_INVALID, NULL, "the program has no loss");
        if (!work->batch->key && program_draws(plan->program))
            return psg_fail(err, PSG_E_INVALID, NULL,
                            "the program draws random numbers, so the batch needs a key");
        if (work->batch->step > PSG_RNG_MAX_STEP)
            return psg_fail(err, PSG_E_RANGE, NULL, "the step number is too large");
    }
    cut(work);
    if (plan->params)
        memory_upload(plan->be, (size_t)psg_program_param_size(plan->program) * sizeof(psg_real),
                      work->params, plan->params);
    pthread_mutex_init(&work->lock, NULL);
    if (work->n_lanes > 0)
        share_lanes(work);
    pthread_mutex_destroy(&work->lock);
    if (!atomic_load(&work->failed))
        return plan->be->wait ? plan->be->wait(err) : 0;
    if (err)
        *err = work->error;
    return work->error.status;
}

int psg_grad_sample(struct psg_plan *plan, const psg_real *params,
                    const struct psg_records *batch, const struct psg_grad_out *out,
                    struct psg_error *err)
{
    struct psg_sum_stats unused[STATS_LANES] = { 0 };
    struct work work = { .plan = plan,
                         .batch = batch,
                         .params = params,
                         .what = WHAT_GRADS,
                         .grads = out,
                         .lane_stats = unused };
    if (out->input_grad && !plan->input_grads)
        return psg_fail(err, PSG_E_INVALID, NULL,
                        "gradients of inputs need a plan with input_grads");
    return work_run(&work, err);
}

int psg_clipped_sum(struct psg_plan *plan, const psg_real *params,
                    const struct psg_records *batch, const struct psg_sum_options *options,
                    psg_real *sum, struct psg_sum_stats *stats, struct psg_error *err)
{
    struct psg_sum_stats lane_stats[STATS_LANES] = { 0 };
    struct work work = { .plan = plan,
                         .batch = batch,
                         .params = params,
                         .what = WHAT_SUM,
                         .options = options,
                         .sum = sum,
                         .lane_stats = lane_stats };
    int r = work_run(&work, err);
    if (r)
        return r;
    add_lanes(&work);
    if (stats) {
        *stats = (struct psg_sum_stats){ 0 };
        add_stats(&work, stats);
    }
    return 0;
}

int psg_plain_sum(struct psg_plan *plan, const psg_real *params, const struct psg_records *batch,
                  psg_real *sum, double *loss_sum, struct psg_error *err)
{
    static const struct psg_sum_options everything;
    struct psg_sum_stats lane_stats[STATS_LANES] = { 0 }, stats = { 0 };
    struct work work = { .plan = plan,
                         .batch = batch,
                         .params = params,
                         .what = plan->vt->plain ? WHAT_PLAIN : WHAT_SUM,
                         .options = &everything,
                         .sum = sum,
                         .lane_stats = lane_stats };
    int r = work_run(&work, err);
    if (r)
        return r;
    add_lanes(&work);
    add_stats(&work, &stats);
    if (loss_sum)
        *loss_sum = stats.loss_sum;
    return 0;
}

int psg_evaluate(struct psg_plan *plan, const psg_real *params, const struct psg_records *batch,
                 psg_real *loss, psg_real *output, struct psg_error *err)
{
    struct psg_sum_stats unused[STATS_LANES] = { 0 };
    struct psg_grad_out out = { .loss = loss, .output = output };
    struct work work = { .plan = plan,
                         .batch = batch,
                         .params = params,
                         .what = WHAT_EVALUATE,
                         .grads = &out,
                         .lane_stats = unused };
    return work_run(&work, err);
}
