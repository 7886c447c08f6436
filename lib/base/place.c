#include "base/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct turn {
    int64_t bytes;
    int index;
};

/* larger ones first, then in the order given */
static int compare(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool meet(const struct base_stay *a, const struct base_stay *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Those that are placed, by offset. */
struct placed {
    struct base_stay **by_offset;
    int n;
};

static void insert(struct placed *p, struct base_stay *s)
{
    int lo = 0, hi = p->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (p->by_offset[mid]->offset <= s->offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    memmove(p->by_offset + lo + 1, p->by_offset + lo,
            (size_t)(p->n++ - lo) * sizeof *p->by_offset);
    p->by_offset[lo] = s;
}

/* The smallest gap between neighbours of the same time, or the place behind all of them. */
static int64_t best_fit(const struct placed *p, const struct base_stay *s, int64_t size)
{
    int64_t end = 0, best = -1, best_gap = INT64_MAX;
    for (int i = 0; i < p->n; i++) {
        const struct base_stay *o = p->by_offset[i];
        if (!meet(o, s))
            continue;
        int64_t gap = o->offset - end;
        if (gap >= size && gap < best_gap) {
            best = end;
            best_gap = gap;
        }
        if (o->offset + o->bytes > end)
            end = o->offset + o->bytes;
    }
    if (best >= 0)
        return best;
    return (end + BASE_PLACE_ALIGN - 1) / BASE_PLACE_ALIGN * BASE_PLACE_ALIGN;
}

static int place_all(struct base_stay *stay, const struct turn *turn, int n, struct placed *p,
                     int64_t *bytesp, struct psg_error *err)
{
    const int64_t most = INT64_MAX / 4;
    *bytesp = 0;
    for (int i = 0; i < n; i++) {
        struct base_stay *s = &stay[turn[i].index];
        s->offset = 0;
        if (s->bytes <= 0)
            continue;
        if (s->bytes > most - *bytesp)
            return psg_fail(err, PSG_E_RANGE, NULL, "the buffers do not fit in memory");
        s->bytes = (s->bytes + BASE_PLACE_ALIGN - 1) / BASE_PLACE_ALIGN * BASE_PLACE_ALIGN;
        s->offset = best_fit(p, s, s->bytes);
        insert(p, s);
        if (s->offset + s->bytes > *bytesp)
            *bytesp = s->offset + s->bytes;
    }
    return 0;
}

int base_place(struct base_stay *stay, int n, int64_t *bytesp, struct psg_error *err)
{
    _cleanup_free_ struct turn *turn = calloc((size_t)n + 1, sizeof *turn);
    struct placed p = { .by_offset = calloc((size_t)n + 1, sizeof *p.by_offset) };
    int r = PSG_E_NOMEM;
    if (turn && p.by_offset) {
        for (int i = 0; i < n; i++)
            turn[i] = (struct turn){ stay[i].bytes, i };
        qsort(turn, (size_t)n, sizeof *turn, compare);
        r = place_all(stay, turn, n, &p, bytesp, err);
    } else {
        psg_fail(err, r, NULL, "out of memory");
    }
    free(p.by_offset);
    return r;
}
