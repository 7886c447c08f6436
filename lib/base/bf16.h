/* bf16: the upper half of a float32, 1 sign, 8 exponent and 7 fraction bits. Its range is that
 * of float32, its unit roundoff 2^-8. Conversions work on bits alone, so subnormals are right
 * whatever the processor is told to do with them. */
#ifndef BASE_BF16_H
#define BASE_BF16_H

#include <stdint.h>
#include <string.h>

#include "base/device.h"
#include "psg/shape.h"

/* Nearest, ties to even; beyond the largest bf16 (about 3.39e38) infinity; a NaN stays one,
 * quiet, with its sign. Without branches, so that loops over it become vector code. */
static inline ON_DEVICE uint16_t bf16_from_real(psg_real x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, nan = (u >> 16) | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

static inline ON_DEVICE psg_real bf16_to_real(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return (psg_real)f;
}

#endif
