/* The parts of a DP-SGD step that touch neither programs nor gradients' making: sampling, clip
 * factors, noise, optimizer, schedules. Formulas: privacy.md; sources are named at each. */
#ifndef PSG_DP_H
#define PSG_DP_H

#include <stdbool.h>
#include <stdint.h>

#include "psg/rng.h"
#include "psg/shape.h"
#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Gaussian noise ---- */

/* out[i] = z, a standard normal number of address (purpose, step, tensor, first + i).
 *
 * Box and Muller (1958) on 32 bits a number, in float with polynomials of our own; the same bits
 * on every machine and for any cutting into ranges. Radius: 31 bits, refined to 63 bits where it
 * is large (beyond 4.08), so |z| reaches 9.42 (a true normal exceeds that once in 2^67 draws);
 * angle: 32 bits. Error of a value against exact arithmetic: below 5e-7 times the radius. Floats
 * have gaps: where a proof must cover the last bits, use psg_secure_noise_*.
 *
 * purpose must be one that has a _TAIL beside it (NOISE, TELEMETRY, ADAPTIVE_CLIP), whose stream
 * is used for the refinement. PSG_E_INVALID for others, PSG_E_RANGE as psg_rng_fill_u32. */
PSG_API int psg_normal_fill(const struct psg_key *key, enum psg_rng_purpose purpose,
                            uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                            float *out, struct psg_error *err);

/* out[i] = stddev * z (overwrites) or out[i] += stddev * z, with the z of purpose PSG_RNG_NOISE.
 * PSG_E_RANGE when stddev is negative or not finite. Thread-safe; n may be 0. */
PSG_API int psg_noise_fill(const struct psg_key *key, uint64_t step, uint32_t tensor,
                           int64_t first, int64_t n, double stddev, psg_real *out,
                           struct psg_error *err);
PSG_API int psg_noise_add(const struct psg_key *key, uint64_t step, uint32_t tensor,
                          int64_t first, int64_t n, double stddev, psg_real *out,
                          struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
