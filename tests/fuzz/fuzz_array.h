/* What every target does with an array it got: reads all of it, both ways. */
#ifndef FUZZ_ARRAY_H
#define FUZZ_ARRAY_H

#include <stdint.h>
#include <stdlib.h>

#include "psg/formats.h"

static inline void fuzz_touch(const struct psg_array *a)
{
    int64_t rows = psg_array_rows(a), size = psg_array_row_size(a);
    if (psg_array_dtype_name(a->dtype)[0] == '\0' || size > 1 << 20)
        return;
    for (int64_t first = 0; first < rows; first += 1000) {
        int64_t n = rows - first < 1000 ? rows - first : 1000;
        if (size > 1000)
            n = 1;
        psg_real *real = calloc((size_t)(n * size + 1), sizeof *real);
        int64_t *whole = calloc((size_t)(n * size + 1), sizeof *whole);
        if (!real || !whole || psg_array_read_real(a, first, n, real, NULL))
            abort();
        psg_array_read_i64(a, first, n, whole, NULL);
        free(real);
        free(whole);
        if (size > 1000 || size == 0)
            break;
    }
}

#endif
