/* Making and reading plans. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/memory.h"
#include "base/cleanup.h"
#include "mode/mode.h"
#include "psg/blas.h"

static const char *const mode_names[PSG_MODE_COUNT] = {
    [PSG_MODE_HOOKS] = "hooks", [PSG_MODE_FUNCTORCH] = "functorch", [PSG_MODE_EW] = "ew",
    [PSG_MODE_GHOST] = "ghost", [PSG_MODE_AUTO] = "auto",
};

const char *psg_mode_name(enum psg_mode mode)
{
    return mode >= 0 && mode < PSG_MODE_COUNT ? mode_names[mode] : "?";
}

int psg_mode_find(const char *name)
{
    for (int i = 0; i < PSG_MODE_COUNT; i++)
        if (strcmp(mode_names[i], name) == 0)
            return i;
    return -1;
}

const char *psg_precision_name(enum psg_precision precision)
{
    return precision == PSG_PRECISION_BF16 ? "bf16" : "float32";
}

/* A block of worker memory; the list is freed with the worker. */
struct block {
    struct block *next;
    const struct psg_backend *be; /* whose memory it is */
    void *memory;
};

static void *worker_block(struct worker *w, const struct psg_backend *be, int64_t n, size_t size)
{
    size_t bytes;
    if (n < 0 || __builtin_mul_overflow((size_t)n, size, &bytes) || bytes > SIZE_MAX - 256)
        return NULL;
    bytes += 63;
    struct block *block = calloc(1, sizeof *block);
    void *memory = block ? memory_new(be, bytes) : NULL;
    if (!memory) {
        free(block);
        return NULL;
    }
    *block = (struct block){ .next = w->blocks, .be = be, .memory = memory };
    w->blocks = block;
    w->plan->bytes += (bytes + 64) / 64 * 64 + sizeof *block;
    return memory;
}

void *worker_room(struct worker *w, int64_t n, size_t size)
{
    return worker_block(w, psg_backend_ref(), n, size);
}

void *worker_memory(struct worker *w, int64_t n, size_t size)
{
    return worker_block(w, w->plan->be, n, size);
}

static void worker_close(struct worker *w)
{
    if (!w->plan)
        return;
    w->plan->vt->worker_close(w);
    for (struct block *b = w->blocks, *next; b; b = next) {
        next = b->next;
        memory_free(b->be, b->memory);
        free(b);
    }
    memset(w, 0, sizeof *w);
}

/* The most bytes that are loaded at once: an input or a node's random numbers. */
static int64_t stage_bytes(const struct psg_plan *plan)
{
    const struct psg_program *p = plan->program;
    int64_t most = 0;
    for (int i = 0; i < p->n_inputs; i++) {
        const struct psg_type *type = &p->inputs[i].info.type;
        int64_t bytes = psg_shape_size(&type->shape) * (int64_t)psg_dtype_size(type->dtype);
        most = bytes > most ? bytes : most;
    }
    for (int i = 0; i < p->n_nodes; i++) {
        int64_t bytes = p->nodes[i].random * (int64_t)sizeof(psg_real);
        most = bytes > most ? bytes : most;
    }
    return most * plan->tile;
}

/* Where the host sees what a device computes, and where it writes what a device reads. */
static bool open_host_side(struct worker *w)
{
    const struct psg_plan *plan = w->plan;
    w->host_sq = w->sq;
    w->host_weight = w->weight;
    if (!plan->be->device_memory)
        return true;
    w->host_sq = worker_room(w, plan->n_groups * plan->tile, sizeof *w->host_sq);
    w->host_weight = worker_room(w, plan->n_groups * plan->tile, sizeof *w->host_weight);
    w->host_loss = worker_room(w, plan->tile, sizeof *w->host_loss);
    w->stage = worker_room(w, stage_bytes(plan), 1);
    return w->host_sq && w->host_weight && w->host_loss && w->stage;
}

static int worker_open(struct psg_plan *plan, struct worker *w, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    int most = 32;
    for (int i = 0; i < p->n_nodes; i++)
        if (p->nodes[i].n_in + p->nodes[i].n_param + 16 > most)
            most = p->nodes[i].n_in + p->nodes[i].n_param + 16;
    w->plan = plan;
    if (!(w->sq = worker_memory(w, plan->n_groups * plan->tile, sizeof *w->sq)) ||
        !(w->weight = worker_reals(w, plan->n_groups * plan->tile)) ||
        !(w->ones = worker_reals(w, plan->tile)) ||
        !(w->exec_in = worker_room(w, most, sizeof *w->exec_in)) ||
        !(w->exec_out = worker_room(w, most, sizeof *w->exec_out)) || !open_host_side(w))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    plan->be->fill(plan->tile, 1, w->ones);
    return plan->vt->worker_open(w, err);
}

/* Bytes that one sample keeps busy in a tile: activations, their gradients, rows. */
static double sample_bytes(const struct psg_program *p, const struct psg_plan_options *o)
{
    bool layered = o->mode != PSG_MODE_FUNCTORCH && o->mode != PSG_MODE_EW;
    double reals = (double)(layered ? layered_row_reals(p, o->mode, o->registry)
                                    : p->trainable_size);
    for (int v = 0; v < p->n_values; v++)
        reals += 2 * (double)psg_shape_size(&p->values[v].type.shape);
    for (int i = 0; i < p->n_nodes; i++)
        reals += (double)(p->nodes[i].save_real + p->nodes[i].scratch);
    return reals * sizeof(psg_real);
}

enum { TILE_MAX = 32, DEVICE_TILE_MAX = 256, LANES_DEFAULT = 8, LANES_MAX = 64 };

/* On the host few enough samples that a tile stays in a core's share of the cache, unless a layer needs
 * more to be fast; a device wants many, as far as a part of its memory
 * goes. The choice depends on program and mode alone: it is part of the result's
 * bits. */
static int64_t choose_tile(const struct psg_program *p, const struct psg_plan_options *o)
{
    const double cache = 2 << 20, room = 64 << 20, device_room = 1 << 30;
    double bytes = sample_bytes(p, o), fit = cache / bytes;
    if (o->backend && o->backend->device_memory) {
        fit = device_room / bytes;
        return fit < 1 ? 1 : fit > DEVICE_TILE_MAX ? DEVICE_TILE_MAX : (int64_t)fit;
    }
    for (int i = 0; i < p->n_nodes; i++)
        fit = fmax(fit, fmin((double)p->nodes[i].tile, room / bytes));
    return fit < 1 ? 1 : fit > TILE_MAX ? TILE_MAX : (int64_t)fit;
}

static int choose_lanes(const struct psg_program *p)
{
    const double room = 256 << 20;
    double fit = room / ((double)p->trainable_size * sizeof(psg_real) + 1);
    return fit < 1 ? 1 : fit > LANES_DEFAULT ? LANES_DEFAULT : (int)fit;
}

static int copy_groups(struct psg_plan *plan, const struct psg_plan_options *o,
                       struct psg_error *err)
{
    int n = plan->program->n_params;
    plan->group = calloc((size_t)n + 1, sizeof *plan->group);
    if (!plan->group)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    plan->n_groups = o->group ? o->n_groups : 1;
    if (plan->n_groups < 1)
        return psg_fail(err, PSG_E_INVALID, "n_groups", "there must be at least one group");
    for (int i = 0; o->group && i < n; i++) {
        const struct psg_param_info *info = &plan->program->params[i].info;
        if (!info->trainable)
            continue;
        if (o->group[i] < 0 || o->group[i] >= plan->n_groups)
            return psg_fail(err, PSG_E_RANGE, info->name, "group %d is not from 0 to %d",
                            o->group[i], plan->n_groups - 1);
        plan->group[i] = o->group[i];
    }
    return 0;
}

/* [n_lanes, size], every page touched, so that no batch takes more memory than another. */
static psg_real *lanes_new(const struct psg_backend *be, int n_lanes, int64_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow((size_t)size, n_lanes * sizeof(psg_real), &bytes))
        return NULL;
    return memory_new(be, bytes);
}

/* What belongs to no worker. */
static int open_sums(struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    plan->lane_sum = lanes_new(plan->be, plan->n_lanes - 1, p->trainable_size);
    plan->workers = calloc((size_t)plan->n_threads, sizeof *plan->workers);
    if (plan->be->device_memory) {
        plan->first_sum = lanes_new(plan->be, 1, p->trainable_size);
        plan->params = lanes_new(plan->be, 1, psg_program_param_size(p));
    }
    if (!plan->lane_sum || !plan->workers ||
        (plan->be->device_memory && (!plan->first_sum || !plan->params)))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    plan->bytes += (size_t)(plan->n_lanes - 1) * (size_t)p->trainable_size * sizeof(psg_real);
    return 0;
}

/* Layers and samplers of the user's own are functions of the host. */
static int check_device(const struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    for (int i = 0; plan->be->device_memory && i < p->n_nodes; i++) {
        const struct psg_op *op = p->nodes[i].op;
        bool own = psg_op_find(op->name) != op &&
                   (op->forward || op->backward || op->prepare || op->grad_sample);
        if (own || (p->nodes[i].n_param > 0 && psg_registry_sampler(plan->registry, op->name)))
            return psg_fail(err, PSG_E_UNSUPPORTED, p->nodes[i].path,
                            "%s has code of the user's own, which does not run on %s", op->name,
                            plan->be->name);
    }
    return 0;
}

/* The nodes whose numbers are rounded: not those that make the program's output or the loss, nor
 * what is computed from the output. */
static int choose_rounding(struct psg_plan *plan)
{
    const struct psg_program *p = plan->program;
    plan->round = calloc((size_t)p->n_nodes + 1, sizeof *plan->round);
    _cleanup_free_ bool *exact = calloc((size_t)p->n_values + 1, sizeof *exact);
    if (!plan->round || !exact)
        return PSG_E_NOMEM;
    if (p->output != PSG_NONE)
        exact[p->output] = true;
    if (p->loss != PSG_NONE)
        exact[p->loss] = true;
    for (int i = 0; plan->bf16 && i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        bool any = false;
        for (int j = 0; j < node->n_in; j++)
            any |= exact[node->in[j]];
        for (int j = 0; j < node->n_out; j++)
            any |= exact[node->out[j]];
        for (int j = 0; any && j < node->n_out; j++)
            exact[node->out[j]] = true;
        plan->round[i] = !any;
    }
    return 0;
}

static int plan_fill(struct psg_plan *plan, const struct psg_plan_options *o,
                     struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    plan->be = o->backend ? o->backend : psg_backend_cpu();
    plan->mode = o->mode;
    plan->registry = o->registry;
    plan->vt = o->mode == PSG_MODE_FUNCTORCH || o->mode == PSG_MODE_EW ? &mode_graph
                                                                       : &mode_layered;
    plan->tile = o->tile > 0 ? o->tile : choose_tile(p, o);
    plan->n_lanes = o->n_lanes > 0 ? o->n_lanes : plan->be->device_memory ? 1 : choose_lanes(p);
    plan->n_threads = o->n_threads > 0 && !plan->be->device_memory ? o->n_threads : 1;
    plan->input_grads = o->input_grads;
    plan->backward = p->loss != PSG_NONE;
    plan->bf16 = o->precision == PSG_PRECISION_BF16;
    if (choose_rounding(plan))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    /* threads of a matrix product inside threads over tiles would only wait for each other */
    int r = plan->be == psg_backend_cpu() ? psg_blas_check(plan->n_threads, err) : 0;
    if (r == 0)
        r = check_device(plan, err);
    if (r == 0)
        r = copy_groups(plan, o, err);
    if (r == 0)
        r = plan->vt->compile(plan, err);
    if (r == 0)
        r = rooms_plan(plan, err);
    if (r == 0)
        r = open_sums(plan, err);
    for (int t = 0; r == 0 && t < plan->n_threads; t++)
        r = worker_open(plan, &plan->workers[t], err);
    if (r == 0)
        r = psg_team_new(plan->n_threads, &plan->team, err);
    return r;
}

int plan_new_unchecked(const struct psg_program *program, const struct psg_plan_options *options,
              struct psg_plan **planp, struct psg_error *err)
{
    if (!program->checked)
        return psg_fail(err, PSG_E_INVALID, NULL, "the program has not been checked");
    if (options->mode < 0 || options->mode >= PSG_MODE_COUNT)
        return psg_fail(err, PSG_E_INVALID, "mode", "there is no mode %d", options->mode);
    if (options->precision < 0 || options->precision >= PSG_PRECISION_COUNT)
        return psg_fail(err, PSG_E_INVALID, "precision", "there is no precision %d",
                        options->precision);
    if (options->n_lanes > LANES_MAX)
        return psg_fail(err, PSG_E_RANGE, "n_lanes", "%d lanes, at most %d are possible",
                        options->n_lanes, LANES_MAX);
    _cleanup_(psg_plan_freep) struct psg_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    plan->program = program;
    int r = plan_fill(plan, options, err);
    if (r)
        return r;
    *planp = steal(&plan);
    return 0;
}

int psg_plan_new(const struct psg_program *program, const struct psg_plan_options *options,
                 struct psg_plan **planp, struct psg_error *err)
{
    _cleanup_(psg_plan_freep) struct psg_plan *plan = NULL;
    int r = plan_new_unchecked(program, options, &plan, err);
    if (r == 0)
        r = client_rules_check(program, options, err);
    if (r == 0)
        *planp = steal(&plan);
    return r;
}

struct psg_plan *psg_plan_free(struct psg_plan *plan)
{
    if (!plan)
        return NULL;
    plan->team = psg_team_free(plan->team);
    for (int t = 0; plan->workers && t < plan->n_threads; t++)
        worker_close(&plan->workers[t]);
    free(plan->workers);
    if (plan->vt) {
        plan->vt->destroy(plan);
        rooms_free(plan);
        tile_destroy(plan);
    }
    if (plan->be) {
        memory_free(plan->be, plan->lane_sum);
        memory_free(plan->be, plan->first_sum);
        memory_free(plan->be, plan->params);
    }
    free(plan->group);
    free(plan->round);
    free(plan);
    return NULL;
}

void psg_plan_freep(struct psg_plan **planp)
{
    *planp = psg_plan_free(*planp);
}

void psg_plan_info(const struct psg_plan *plan, struct psg_plan_info *info)
{
    *info = (struct psg_plan_info){ .mode = plan->mode,
                                    .tile = plan->tile,
                                    .n_lanes = plan->n_lanes,
                                    .n_threads = plan->n_threads,
                                    .n_groups = plan->n_groups,
                                    .precision = plan->bf16 ? PSG_PRECISION_BF16
                                                            : PSG_PRECISION_F32,
                                    .bytes = plan->bytes };
}

struct psg_team *psg_plan_team(struct psg_plan *plan)
{
    return plan->team;
}

const char *psg_plan_route(const struct psg_plan *plan, int node)
{
    if (node < 0 || node >= plan->program->n_nodes)
        return "";
    return plan->vt->route(plan, node);
}
