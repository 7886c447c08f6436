/* Exact coins: events whose probability is a multiple of 2^-96, drawn lazily. */
#ifndef DP_CHANCE_H
#define DP_CHANCE_H

#include "psg/dp.h"

/* p in [0, 1] rounded down to a multiple of 2^-96; exact for doubles p >= 2^-43. */
struct psg_chance chance_of_double(double p);

/* From a fraction p / 2^127 with p <= 2^127, rounded down. */
struct psg_chance chance_of_fixed(unsigned __int128 p);

/* The binary digits of a geometric gap for sample rate q in (0, 1); see struct psg_poisson.
 */
void chance_of_gap_digits(double q, struct psg_chance digit[32], struct psg_chance *beyond);

/* Compares the uniform number whose first 64 bits are `word` with n / d, 0 <= n <= d, 0 < d
 * < 2^64: 1 below, 0 not below, -1 when these bits do not decide; then *rest / d is what
 * the next 64 bits are to be compared with. Exact. */
int chance_compare(uint64_t word, uint64_t n, uint64_t d, uint64_t *rest);

#endif
