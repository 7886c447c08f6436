/* One block of memory, handed out front to back in 64-byte steps, never freed piece by
 * piece.
 *
 * The room is planned first: with no block (struct base_arena a = { 0 }) base_arena_take
 * only counts and returns NULL; base_arena_open then allocates what was counted, and the
 * same sequence of takes hands it out. With canaries each piece is followed by 64 bytes of
 * a pattern that base_arena_check looks at. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "psg/status.h"

enum { BASE_ARENA_ALIGN = 64 };

struct base_arena {
    uint8_t *block; /* NULL while room is counted */
    size_t size;    /* of block */
    size_t used;    /* so far, rounded up to 64 */
    size_t n_pieces;
    bool canaries; /* set before the first take */
    bool overflow; /* a size did not fit in size_t, or the block was too small */
};

/* count * width bytes, 64-byte aligned, contents undefined; NULL while counting, on
 * overflow (see a->overflow), and when the block is used up. */
void *base_arena_take(struct base_arena *a, size_t count, size_t width);
/* Ends counting: allocates a->used bytes and starts over. Large blocks ask for huge pages,
 * and every page is touched here, not in the first step. PSG_E_NOMEM, PSG_E_RANGE on
 * overflow. */
int base_arena_open(struct base_arena *a, struct psg_error *err);
/* All pieces are free again; the block stays. */
void base_arena_reset(struct base_arena *a);
/* PSG_E_INVALID when a byte between two pieces was written. 0 without canaries. */
int base_arena_check(const struct base_arena *a, struct psg_error *err);
void base_arena_close(struct base_arena *a);

#endif
