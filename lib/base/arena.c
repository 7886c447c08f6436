/* See arena.h. With canaries a piece is [length, 64 bytes][data][pattern, 64 bytes], so
 * that the check can walk from one to the next. */
#include "arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CANARY_BYTES = BASE_ARENA_ALIGN, CANARY = 0xc5 };
static const size_t HUGE_PAGE = (size_t)2 << 20;

void *base_arena_take(struct base_arena *a, size_t count, size_t width)
{
    size_t bytes, start = a->used, end;
    size_t frame = a->canaries ? CANARY_BYTES : 0;
    if (a->overflow || __builtin_mul_overflow(count, width, &bytes) ||
        __builtin_add_overflow(bytes, BASE_ARENA_ALIGN - 1, &bytes)) {
        a->overflow = true;
        return NULL;
    }
    bytes -= bytes % BASE_ARENA_ALIGN;
    if (__builtin_add_overflow(start, bytes, &end) ||
        __builtin_add_overflow(end, 2 * frame, &end) || (a->block && end > a->size)) {
        a->overflow = true;
        return NULL;
    }
    a->used = end;
    a->n_pieces++;
    if (!a->block)
        return NULL;
    uint8_t *data = a->block + start + frame;
    if (a->canaries) {
        size_t exact =
            count * width; /* bytes between the data's end and 64 are guarded too */
        memcpy(a->block + start, &exact, sizeof exact);
        memset(data + exact, CANARY, bytes - exact + CANARY_BYTES);
    }
    return data;
}

int base_arena_open(struct base_arena *a, struct psg_error *err)
{
    if (a->overflow)
        return psg_fail(err, PSG_E_RANGE, "arena", "size does not fit in memory");
    size_t align = a->used >= HUGE_PAGE ? HUGE_PAGE : BASE_ARENA_ALIGN, size;
    if (__builtin_add_overflow(a->used ? a->used : 1, align - 1, &size))
        return psg_fail(err, PSG_E_RANGE, "arena", "size does not fit in memory");
    size -= size % align;
    uint8_t *block = aligned_alloc(align, size);
    if (!block)
        return psg_fail(err, PSG_E_NOMEM, "arena", "no memory for %zu bytes", size);
    if (size >= HUGE_PAGE)
        (void)madvise(block, size, MADV_HUGEPAGE); /* a wish: without it only slower */
    memset(block, 0, size);
    a->block = block;
    a->size = size;
    base_arena_reset(a);
    return 0;
}

void base_arena_reset(struct base_arena *a)
{
    a->used = 0;
    a->n_pieces = 0;
    a->overflow = false;
}

int base_arena_check(const struct base_arena *a, struct psg_error *err)
{
    const uint8_t *at = a->block;
    for (size_t i = 0; a->canaries && at && i < a->n_pieces; i++) {
        size_t exact;
        memcpy(&exact, at, sizeof exact);
        size_t left = a->used - (size_t)(at - a->block);
        if (exact > left)
            return psg_fail(err, PSG_E_INVALID, "arena",
                            "piece %zu: written before its start", i);
        size_t padded =
            (exact + BASE_ARENA_ALIGN - 1) / BASE_ARENA_ALIGN * BASE_ARENA_ALIGN;
        const uint8_t *data = at + CANARY_BYTES, *end = data + padded + CANARY_BYTES;
        for (const uint8_t *p = data + exact; p < end; p++)
            if (*p != CANARY)
                return psg_fail(err, PSG_E_INVALID, "arena",
                                "piece %zu of %zu bytes: byte %zu past its end was written",
                                i, exact, (size_t)(p - data) - exact);
        at = end;
    }
    return 0;
}

void base_arena_close(struct base_arena *a)
{
    free(a->block);
    *a = (struct base_arena){ 0 };
}
