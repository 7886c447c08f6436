#include <stdlib.h>
#include <string.h>

#include "job/internal.h"

bool queue_add(struct jobs *jobs, const struct job_row *row)
{
    size_t n = strlen(row->owner) + 1;
    struct waiting *w = calloc(1, sizeof *w + n);
    if (!w)
        return false;
    w->num = row->num;
    w->priority = row->priority;
    w->created_at = row->created_at;
    strncpy(w->id, row->id, sizeof w->id - 1);
    memcpy(w->owner, row->owner, n);
    struct waiting **at = &jobs->waiting;
    while (*at && (*at)->num < w->num)
        at = &(*at)->next;
    w->next = *at;
    *at = w;
    jobs->n_waiting++;
    return true;
}

void queue_remove(struct jobs *jobs, const char *id)
{
    for (struct waiting **at = &jobs->waiting; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct waiting *w = *at;
            *at = w->next;
            free(w);
            jobs->n_waiting--;
            return;
        }
}

void queue_clear(struct jobs *jobs)
{
    while (jobs->waiting) {
        struct waiting *w = jobs->waiting;
        jobs->waiting = w->next;
        free(w);
    }
    jobs->n_waiting = 0;
}

static int n_running(const struct jobs *jobs, const char *owner)
{
    int n = 0;
    for (const struct active *a = jobs->active; a; a = a->next)
        n += strcmp(a->row.owner, owner) == 0;
    return n;
}

const struct waiting *queue_next(const struct jobs *jobs)
{
    const struct waiting *best = NULL;
    int best_running = 0;
    for (const struct waiting *w = jobs->waiting; w; w = w->next) {
        if (best && w->priority < best->priority)
            continue;
        int running = n_running(jobs, w->owner);
        if (!best || w->priority > best->priority || running < best_running) {
            best = w;
            best_running = running;
        }
    }
    return best;
}

static bool is_before(const struct waiting *a, const struct waiting *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->num < b->num;
}

int64_t queue_position(const struct jobs *jobs, const char *id)
{
    const struct waiting *self = jobs->waiting;
    while (self && strcmp(self->id, id) != 0)
        self = self->next;
    if (!self)
        return -1;
    int64_t position = 1;
    for (const struct waiting *w = jobs->waiting; w; w = w->next)
        position += is_before(w, self);
    return position;
}

static int compare(const void *a, const void *b)
{
    const struct waiting *x = *(const struct waiting *const *)a;
    const struct waiting *y = *(const struct waiting *const *)b;
    return is_before(x, y) ? -1 : is_before(y, x);
}

const struct waiting **queue_sorted(const struct jobs *jobs)
{
    const struct waiting **list = calloc((size_t)jobs->n_waiting + 1, sizeof *list);
    size_t n = 0;
    for (const struct waiting *w = jobs->waiting; list && w; w = w->next)
        list[n++] = w;
    if (list)
        qsort(list, n, sizeof *list, compare);
    return list;
}
