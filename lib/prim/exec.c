/* Making, running and freeing a plan. See exec_plan.c and exec_place.c for how it comes about. */
#include "prim/exec.h"

#include <stdlib.h>

#include "backend/memory.h"

enum { ALIGN = 64 };

/* Fulls, iotas and constants were written by the host; kernels read them where they can. */
static int place_fixed(struct psg_exec *e, struct psg_error *err)
{
    const struct psg_backend *be = e->ctx.be;
    if (!be->device_memory)
        return 0;
    char *memory = memory_new(be, e->fixed_size);
    if (!memory)
        return psg_fail(err, PSG_E_NOMEM, "", "out of memory of %s", be->name);
    memory_upload(be, e->fixed_size, e->fixed, memory);
    for (int b = 0; b < e->n_buf; b++)
        if (e->buf[b].kind == EXEC_FIXED)
            e->buf[b].fixed = memory + ((char *)e->buf[b].fixed - e->fixed);
    e->fixed_there = memory;
    return 0;
}

/* Steps get their arguments' addresses and final buffers; ptr is filled but for the caller's. */
static int finish(struct psg_exec *e, struct psg_error *err)
{
    int64_t size = exec_place(e, err);
    if (size < 0)
        return (int)size;
    size_t arena = ((size_t)size / ALIGN + 1) * ALIGN;
    int r = place_fixed(e, err);
    if (r)
        return r;
    e->arena = memory_new(e->ctx.be, arena);
    e->ctx.ptr = calloc((size_t)e->n_buf + 1, sizeof *e->ctx.ptr);
    if (!e->arena || !e->ctx.ptr)
        return psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    for (int i = 0; i < e->n_arg; i++)
        e->arg[i].buf = exec_root(e, e->arg[i].buf);
    for (int b = 0; b < e->n_buf; b++)
        e->ctx.ptr[b] = e->buf[b].kind == EXEC_FIXED ? e->buf[b].fixed
                                                     : e->arena + e->buf[b].offset;
    e->bytes += arena + ((size_t)e->n_buf + 1) * sizeof *e->ctx.ptr +
                (size_t)e->cap_step * sizeof *e->step + (size_t)e->cap_arg * sizeof *e->arg;
    for (int t = 0; t < e->n_step; t++)
        e->bytes += e->step[t].plan_size;
    free(e->buf);
    e->buf = NULL;
    return 0;
}

/* The arguments have stopped moving: steps point into the array. */
static void bind_args(struct psg_exec *e)
{
    struct prim_arg *at = e->arg;
    for (int t = 0; t < e->n_step; t++) {
        e->step[t].in = at;
        e->step[t].out = at + e->step[t].n_in;
        at += e->step[t].n_in + e->step[t].n_out;
    }
}

int psg_exec_new(const struct psg_graph *g, const struct psg_backend *backend,
                 struct psg_exec **execp, struct psg_error *err)
{
    *execp = NULL;
    int r = psg_graph_check(g, err);
    if (r)
        return r;
    struct psg_exec *e = calloc(1, sizeof *e);
    if (!e)
        return psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    e->g = g;
    e->ctx.be = backend;
    e->bytes = sizeof *e;
    r = exec_plan(e, err);
    if (!r) {
        bind_args(e);
        r = finish(e, err);
    }
    if (r) {
        psg_exec_free(e);
        return r;
    }
    *execp = e;
    return 0;
}

struct psg_exec *psg_exec_free(struct psg_exec *e)
{
    if (!e)
        return NULL;
    for (int t = 0; t < e->n_step; t++) {
        struct prim_step *s = &e->step[t];
        if (!s->plan)
            continue;
        if (s->run == prim_table[s->node->kind]->run && prim_table[s->node->kind]->unplan)
            prim_table[s->node->kind]->unplan(s->plan);
        else
            free(s->plan);
    }
    free(e->step);
    free(e->arg);
    free(e->buf);
    free(e->fixed);
    memory_free(e->ctx.be, e->fixed_there);
    memory_free(e->ctx.be, e->arena);
    free(e->ctx.ptr);
    free(e);
    return NULL;
}

size_t psg_exec_bytes(const struct psg_exec *e)
{
    return e->bytes;
}

void psg_exec_run(struct psg_exec *e, const void *const *in, void *const *out)
{
    for (int i = 0; i < e->g->n_input; i++)
        e->ctx.ptr[i] = (char *)(uintptr_t)in[i];
    for (int j = 0; j < e->g->n_output; j++)
        e->ctx.ptr[e->g->n_input + j] = out[j];
    for (int t = 0; t < e->n_step; t++)
        e->step[t].run(&e->ctx, &e->step[t]);
}
