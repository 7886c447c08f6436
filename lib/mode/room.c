/* See room.h. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mode/mode.h"

/* ---- time ---- */

int64_t time_forward(int i)
{
    return 1 + i;
}

/* before the first node on the way back */
static int64_t time_turn(const struct psg_plan *plan)
{
    return 1 + (int64_t)plan->program->n_nodes;
}

int64_t time_backward(const struct psg_plan *plan, int i)
{
    return time_turn(plan) + plan->program->n_nodes - i;
}

/* losses, outputs and gradients of inputs are read */
static int64_t time_answer(const struct psg_plan *plan)
{
    return time_turn(plan) + plan->program->n_nodes + 1;
}

int64_t time_sum(const struct psg_plan *plan, int i)
{
    return time_answer(plan) + 1 + i;
}

static int64_t time_end(const struct psg_plan *plan)
{
    return time_sum(plan, plan->program->n_nodes);
}

/* ---- buffers ---- */

/* A span of time that grows by what happens in it. */
struct life {
    int64_t first, last;
};

static void life_add(struct life *l, int64_t at)
{
    if (at < l->first)
        l->first = at;
    if (at > l->last)
        l->last = at;
}

static struct life life_none(void)
{
    return (struct life){ INT64_MAX, INT64_MIN };
}

struct builder {
    struct psg_plan *plan;
    struct rooms *rooms;
    int64_t least_wait; /* steps that a value waits before it is kept as bf16 */
    bool failed;
};

/* A buffer of count * width bytes for each sample, and `fixed` bytes once. */
static int add(struct builder *b, int64_t count, size_t width, int64_t fixed, struct life l)
{
    struct rooms *r = b->rooms;
    int64_t bytes;
    if (l.last < l.first)
        return NO_ROOM;
    if (__builtin_mul_overflow(count, b->plan->tile, &bytes) ||
        __builtin_mul_overflow(bytes, (int64_t)width, &bytes) ||
        __builtin_add_overflow(bytes, fixed, &bytes) || r->n == INT_MAX / 2) {
        b->failed = true;
        return NO_ROOM;
    }
    if (r->n == r->cap) {
        int cap = r->cap ? 2 * r->cap : 64;
        struct base_stay *stay = reallocarray(r->stay, (size_t)cap, sizeof *stay);
        if (!stay) {
            b->failed = true;
            return NO_ROOM;
        }
        r->stay = stay;
        r->cap = cap;
    }
    /* a line more than is used: streams that start at the same place of a page get in each other's
     * way in the cache */
    if (bytes > 0)
        bytes += BASE_PLACE_ALIGN;
    r->stay[r->n] = (struct base_stay){ .first = l.first, .last = l.last, .bytes = bytes };
    return r->n++;
}

static int add_reals(struct builder *b, int64_t count, struct life l)
{
    return add(b, count, sizeof(psg_real), 0, l);
}

static struct life life_at(int64_t t)
{
    return (struct life){ t, t };
}

/* ---- who reads what ---- */

/* Rules that come from the lowering read the inputs and never the outputs. */
static bool reads_in(const struct psg_plan *plan, int i)
{
    const struct node_plan *np = &plan->tp.node[i];
    return !plan->program->nodes[i].unread_in || np->back || np->rows || np->client;
}

static bool reads_out(const struct psg_plan *plan, int i)
{
    const struct psg_op *op = plan->program->nodes[i].op;
    bool rules = op->prepare || op->backward || op->grad_sample || op->norm_sample ||
                 op->clipped_sum;
    return plan->tp.node[i].client || (rules && !plan->program->nodes[i].unread_out);
}

/* The steps back at which node i reads what forward left. */
static void add_reads(const struct psg_plan *plan, int i, struct life *l)
{
    if (plan->tp.node[i].live)
        life_add(l, time_backward(plan, i));
    if (plan->tp.node[i].summed)
        life_add(l, time_sum(plan, i));
}

/* fore: written and read forward; back: read on the way back. Values that the whole graph of
 * functorch or ew reads and writes live through all of the tile, and so do ids: a rule made from a
 * lowering runs over full tiles, and finds old but legal ids behind the last sample. */
struct use {
    struct life fore, back;
};

static void find_uses(const struct psg_plan *plan, struct use *use)
{
    const struct psg_program *p = plan->program;
    for (int v = 0; v < p->n_values; v++) {
        int i = p->values[v].node;
        use[v] = (struct use){ life_none(), life_none() };
        life_add(&use[v].fore, i < 0 ? 0 : time_forward(i));
        if (i >= 0 && reads_out(plan, i))
            add_reads(plan, i, &use[v].back);
        bool answer = v == p->loss || v == p->output;
        if (answer)
            life_add(&use[v].fore, time_answer(plan));
        if (p->values[v].type.dtype == PSG_I64 || (plan->whole_graph && (answer || i < 0))) {
            life_add(&use[v].fore, 0);
            life_add(&use[v].fore, time_end(plan));
        }
    }
    for (int i = 0; i < p->n_nodes; i++)
        for (int j = 0; j < p->nodes[i].n_in; j++) {
            struct use *u = &use[p->nodes[i].in[j]];
            life_add(&u->fore, time_forward(i));
            if (reads_in(plan, i))
                add_reads(plan, i, &u->back);
        }
}

/* ---- the rooms ---- */

static void add_wide(struct builder *b, psg_value v, bool out, int i, int slot)
{
    const struct psg_plan *plan = b->plan;
    struct node_rooms *nr = &b->rooms->node[i];
    bool reads = out ? reads_out(plan, i) : reads_in(plan, i);
    if (reads && plan->tp.node[i].live)
        nr->wide[READ_BACKWARD][slot] =
            add_reals(b, value_size(plan, v), life_at(time_backward(plan, i)));
    if (reads && plan->tp.node[i].summed)
        nr->wide[READ_SUM][slot] =
            add_reals(b, value_size(plan, v), life_at(time_sum(plan, i)));
}

static void add_values(struct builder *b, const struct use *use)
{
    const struct psg_plan *plan = b->plan;
    const struct psg_program *p = plan->program;
    struct rooms *r = b->rooms;
    for (int v = 0; v < p->n_values; v++) {
        struct life all = use[v].fore, back = use[v].back;
        int64_t size = value_size(plan, v);
        bool waits = back.last >= back.first;
        int i = p->values[v].node;
        if (waits && i >= 0 && plan->round[i] && p->values[v].type.dtype == PSG_REAL &&
            back.first - all.last > b->least_wait) {
            struct life half = { time_forward(i), back.last };
            r->half[v] = add(b, size, sizeof(uint16_t), 0, half);
        } else if (waits) {
            life_add(&all, back.last);
        }
        r->value[v] = add(b, size, psg_dtype_size(p->values[v].type.dtype), 0, all);
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        for (int j = 0; j < node->n_in; j++)
            if (r->half[node->in[j]] != NO_ROOM)
                add_wide(b, node->in[j], false, i, j);
        for (int j = 0; j < node->n_out; j++)
            if (r->half[node->out[j]] != NO_ROOM)
                add_wide(b, node->out[j], true, i, node->n_in + j);
    }
}

/* A gradient that nobody writes keeps the zeros that it started with. */
static void add_grads(struct builder *b)
{
    const struct psg_plan *plan = b->plan;
    const struct psg_program *p = plan->program;
    const struct tile_plan *tp = &plan->tp;
    _cleanup_free_ struct life *life = calloc((size_t)p->n_values + 1, sizeof *life);
    if (!life) {
        b->failed = true;
        return;
    }
    for (int v = 0; v < p->n_values; v++) {
        life[v] = life_none();
        if (v == p->loss)
            life_add(&life[v], time_turn(plan));
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        for (int j = 0; j < node->n_in; j++)
            if (tp->node[i].in_put[j] != PUT_NONE)
                life_add(&life[node->in[j]], time_backward(plan, i));
        for (int j = 0; j < node->n_out; j++)
            if (tp->wants_grad[node->out[j]])
                add_reads(plan, i, &life[node->out[j]]);
    }
    for (int v = 0; v < p->n_values; v++) {
        if (!tp->wants_grad[v])
            continue;
        if (p->values[v].node < 0)
            life_add(&life[v], life[v].last < 0 ? 0 : time_answer(plan));
        if (life[v].first == 0)
            life_add(&life[v], time_end(plan));
        b->rooms->grad[v] = add_reals(b, value_size(plan, v), life[v]);
    }
}

/* What prepare adds to the saved numbers has to last until the sum of its node. */
static void add_saved(struct builder *b, int i)
{
    const struct psg_plan *plan = b->plan;
    const struct node *node = &plan->program->nodes[i];
    const struct node_plan *np = &plan->tp.node[i];
    struct node_rooms *nr = &b->rooms->node[i];
    struct life fore = life_at(time_forward(i)), back = life_none(), all = fore;
    add_reads(plan, i, &back);
    if (np->live)
        life_add(&all, back.last);
    nr->saved_i64 = add(b, node->save_i64, sizeof(int64_t), 0, all);
    if (!np->live || !plan->round[i] || back.first - fore.last <= b->least_wait ||
        node->save_real == 0) {
        nr->saved = add_reals(b, node->save_real, all);
        return;
    }
    bool prepare = node->op->prepare != NULL;
    struct life half = { fore.first, prepare ? back.first : back.last };
    nr->saved = add_reals(b, node->save_real, fore);
    nr->half_saved = add(b, node->save_real, sizeof(uint16_t), 0, half);
    struct life wide = { back.first, prepare ? back.last : back.first };
    nr->wide_saved[READ_BACKWARD] = add_reals(b, node->save_real, wide);
    if (np->summed)
        nr->wide_saved[READ_SUM] =
            prepare ? nr->wide_saved[READ_BACKWARD]
                    : add_reals(b, node->save_real, life_at(time_sum(plan, i)));
}

static int add_scratch(struct builder *b, int i, int64_t t)
{
    const struct node *node = &b->plan->program->nodes[i];
    int64_t own = node->scratch_fixed, client = b->plan->tp.node[i].client_scratch;
    int64_t fixed = (own > client ? own : client) * (int64_t)sizeof(psg_real);
    return add(b, node->scratch, sizeof(psg_real), fixed, life_at(t));
}

static void add_node(struct builder *b, int i)
{
    const struct psg_plan *plan = b->plan;
    const struct node *node = &plan->program->nodes[i];
    const struct node_plan *np = &plan->tp.node[i];
    struct node_rooms *nr = &b->rooms->node[i];
    struct life random = { 0, time_forward(i) };
    add_reads(plan, i, &random);
    if (plan->whole_graph)
        life_add(&random, time_end(plan));
    nr->random = add_reals(b, node->random, random);
    add_saved(b, i);
    nr->scratch[PHASE_FORWARD] = add_scratch(b, i, time_forward(i));
    nr->scratch[PHASE_EVALUATE] = nr->scratch[PHASE_FORWARD];
    if (np->live)
        nr->scratch[PHASE_BACKWARD] = add_scratch(b, i, time_backward(plan, i));
    if (np->summed)
        nr->scratch[PHASE_SUM] = add_scratch(b, i, time_sum(plan, i));
}

static void forget(struct rooms *r, const struct psg_program *p)
{
    r->n = 0;
    for (int v = 0; v < p->n_values; v++)
        r->value[v] = r->half[v] = r->grad[v] = NO_ROOM;
    for (int i = 0; i < p->n_nodes; i++) {
        struct node_rooms *nr = &r->node[i];
        nr->saved = nr->saved_i64 = nr->random = nr->half_saved = NO_ROOM;
        for (int k = 0; k <= PHASE_SUM; k++)
            nr->scratch[k] = NO_ROOM;
        for (int k = 0; k < READ_COUNT; k++) {
            nr->wide_saved[k] = NO_ROOM;
            for (int j = 0; j < p->nodes[i].n_in + p->nodes[i].n_out; j++)
                nr->wide[k][j] = NO_ROOM;
        }
    }
}

/* One layout; least_wait decides which values are kept as bf16. */
static int layout(struct psg_plan *plan, const struct use *use, int64_t least_wait,
                  struct psg_error *err)
{
    struct rooms *r = &plan->rooms;
    struct builder b = { .plan = plan, .rooms = r, .least_wait = least_wait };
    struct life back = { time_turn(plan), time_answer(plan) };
    struct life rest = { time_turn(plan), time_end(plan) };
    forget(r, plan->program);
    add_values(&b, use);
    add_grads(&b);
    for (int i = 0; i < plan->program->n_nodes; i++)
        add_node(&b, i);
    r->temp = add_reals(&b, plan->tp.temp, back);
    r->row = add_reals(&b, plan->row_reals, rest);
    r->row_temp = add_reals(&b, plan->row_temp, back);
    if (b.failed)
        return psg_fail(err, PSG_E_NOMEM, NULL, "no memory for the buffers of a tile");
    return base_place(r->stay, r->n, &r->bytes, err);
}

static bool allocate(struct rooms *r, const struct psg_program *p)
{
    r->value = calloc((size_t)p->n_values + 1, sizeof *r->value);
    r->half = calloc((size_t)p->n_values + 1, sizeof *r->half);
    r->grad = calloc((size_t)p->n_values + 1, sizeof *r->grad);
    r->node = calloc((size_t)p->n_nodes + 1, sizeof *r->node);
    for (int i = 0; r->node && i < p->n_nodes; i++)
        for (int k = 0; k < READ_COUNT; k++) {
            size_t n = (size_t)(p->nodes[i].n_in + p->nodes[i].n_out) + 1;
            r->node[i].wide[k] = calloc(n, sizeof *r->node[i].wide[k]);
            if (!r->node[i].wide[k])
                return false;
        }
    return r->value && r->half && r->grad && r->node;
}

/* Numbers that no step needs in full are kept as bf16: a short wait is not worth the second copy
 * that widening takes, how short is tried. */
int rooms_plan(struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    _cleanup_free_ struct use *use = calloc((size_t)p->n_values + 1, sizeof *use);
    if (!use || !allocate(&plan->rooms, p))
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    find_uses(plan, use);
    int r = layout(plan, use, INT64_MAX, err);
    int64_t best = INT64_MAX, least = plan->rooms.bytes;
    for (int64_t wait = 0; r == 0 && plan->bf16 && wait < time_end(plan); wait = 2 * wait + 1) {
        r = layout(plan, use, wait, err);
        if (r == 0 && plan->rooms.bytes < least) {
            best = wait;
            least = plan->rooms.bytes;
        }
    }
    return r || !plan->bf16 ? r : layout(plan, use, best, err);
}

void rooms_free(struct psg_plan *plan)
{
    struct rooms *r = &plan->rooms;
    for (int i = 0; r->node && i < plan->program->n_nodes; i++)
        for (int k = 0; k < READ_COUNT; k++)
            free(r->node[i].wide[k]);
    free(r->node);
    free(r->stay);
    free(r->value);
    free(r->half);
    free(r->grad);
    *r = (struct rooms){ 0 };
}
