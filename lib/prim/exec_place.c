/* Where buffers lie: results take over operands that die (elementwise steps), the others share
 * one arena by the time they live. */
#include "prim/exec.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

int exec_root(struct psg_exec *e, int b)
{
    int root = b;
    while (e->buf[root].alias >= 0)
        root = e->buf[root].alias;
    while (e->buf[b].alias >= 0) {
        int next = e->buf[b].alias;
        e->buf[b].alias = root;
        b = next;
    }
    return root;
}

/* Operand i of the step may be overwritten while it is read, element by element. */
static bool can_take(struct psg_exec *e, const struct prim_step *s, int at, int i)
{
    int root = exec_root(e, s->in[i].buf);
    const struct exec_buf *b = &e->buf[root];
    if (!s->in[i].dense || s->in[i].offset || b->kind != EXEC_ARENA || b->last != at ||
        b->bytes != prim_size(&s->out[0]) * (int64_t)sizeof(psg_real))
        return false;
    for (int k = 0; k < s->n_in; k++)
        if (exec_root(e, s->in[k].buf) == root && (!s->in[k].dense || s->in[k].offset))
            return false;
    return true;
}

static void take_over(struct psg_exec *e)
{
    for (int t = 0; t < e->n_step; t++) {
        const struct prim_step *s = &e->step[t];
        const struct prim *prim = prim_table[s->node->kind];
        if (!prim->inplace || s->run != prim->run)
            continue;
        for (int i = 0; i < s->n_in; i++) {
            if (!can_take(e, s, t, i))
                continue;
            int from = exec_root(e, s->in[i].buf), to = exec_root(e, s->out[0].buf);
            if (e->buf[to].kind == EXEC_OUTPUT) {
                e->buf[from].alias = to;
            } else {
                e->buf[to].alias = from;
                e->buf[from].last = e->buf[to].last;
            }
            break;
        }
    }
}

/* ---- the arena ---- */

struct gap {
    int64_t at, size;
};

struct arena {
    struct gap *gap; /* free stretches below `top`, by place */
    int n, cap;
    int64_t top;
};

static int64_t arena_take(struct arena *a, int64_t size)
{
    int best = -1;
    for (int i = 0; i < a->n; i++)
        if (a->gap[i].size >= size && (best < 0 || a->gap[i].size < a->gap[best].size))
            best = i;
    if (best >= 0) {
        int64_t at = a->gap[best].at;
        a->gap[best].at += size;
        a->gap[best].size -= size;
        if (a->gap[best].size == 0)
            memmove(a->gap + best, a->gap + best + 1,
                    (size_t)(--a->n - best) * sizeof *a->gap);
        return at;
    }
    /* the last gap may reach the top: grow from there */
    int64_t at = a->top;
    if (a->n && a->gap[a->n - 1].at + a->gap[a->n - 1].size == a->top)
        at = a->gap[--a->n].at;
    if (__builtin_add_overflow(at, size, &a->top))
        return -1;
    return at;
}

static void arena_give(struct arena *a, int64_t at, int64_t size)
{
    int lo = 0, hi = a->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (a->gap[mid].at < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool before = lo > 0 && a->gap[lo - 1].at + a->gap[lo - 1].size == at;
    bool after = lo < a->n && at + size == a->gap[lo].at;
    if (before) {
        a->gap[lo - 1].size += size;
        if (after) {
            a->gap[lo - 1].size += a->gap[lo].size;
            memmove(a->gap + lo, a->gap + lo + 1, (size_t)(--a->n - lo) * sizeof *a->gap);
        }
    } else if (after) {
        a->gap[lo].at = at;
        a->gap[lo].size += size;
    } else {
        memmove(a->gap + lo + 1, a->gap + lo, (size_t)(a->n++ - lo) * sizeof *a->gap);
        a->gap[lo] = (struct gap){ at, size };
    }
}

static int64_t room(const struct exec_buf *b)
{
    return (b->bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Buffers were made in the order of their first step. dying[t] lists those whose last step is
 * t, chained by next. */
static int64_t sweep(struct psg_exec *e, struct arena *a, int *dying, int *next)
{
    int b = 0;
    for (int t = 0; t < e->n_step; t++) {
        for (; b < e->n_buf && e->buf[b].first <= t; b++) {
            struct exec_buf *x = &e->buf[b];
            if (x->kind != EXEC_ARENA || x->alias >= 0 || room(x) == 0)
                continue;
            x->offset = arena_take(a, room(x));
            if (x->offset < 0)
                return PSG_E_SHAPE;
            next[b] = dying[x->last];
            dying[x->last] = b;
        }
        for (int d = dying[t]; d >= 0; d = next[d])
            arena_give(a, e->buf[d].offset, room(&e->buf[d]));
    }
    return a->top;
}

int64_t exec_place(struct psg_exec *e, struct psg_error *err)
{
    struct arena a = { .cap = e->n_buf + 1 };
    int *dying = malloc(sizeof *dying * (size_t)(e->n_step + 1));
    int *next = malloc(sizeof *next * (size_t)(e->n_buf + 1));
    int64_t size;
    a.gap = malloc(sizeof *a.gap * (size_t)a.cap);
    take_over(e);
    if (dying && next && a.gap) {
        for (int i = 0; i <= e->n_step; i++)
            dying[i] = -1;
        size = sweep(e, &a, dying, next);
        if (size < 0)
            psg_fail(err, PSG_E_SHAPE, "", "the graph needs more memory than can be addressed");
    } else {
        size = psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    }
    free(dying);
    free(next);
    free(a.gap);
    return size;
}
