/* Places for buffers that live for a while: buffers whose times meet never share a byte, others
 * may. Planned once, so that nothing is allocated while a program runs. */
#ifndef BASE_PLACE_H
#define BASE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "psg/status.h"

enum { BASE_PLACE_ALIGN = 64 };

/* A buffer that is needed from time `first` to time `last`, both included. */
struct base_stay {
    int64_t first, last, bytes;
    int64_t offset; /* base_place's answer, a multiple of 64 */
};

/* Fills in the offsets of stay[n] and the bytes of all together. The largest buffer first,
 * each into the smallest gap that it fits (greedy by size: Pisarchyk and Lee, "Efficient memory
 * management for deep neural net inference", 2020). Quadratic in n. PSG_E_NOMEM, PSG_E_RANGE when
 * a sum does not fit. */
int base_place(struct base_stay *stay, int n, int64_t *bytesp, struct psg_error *err);

#endif
