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

#endif
