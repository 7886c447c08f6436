/* Thresholds of exact coins, in fixed point with 127 bits after the point. */
#include "chance.h"

#include <math.h>

typedef unsigned __int128 u128;
enum { FRACTION_BITS = 127 };
static const u128 ONE = (u128)1 << FRACTION_BITS;

struct psg_chance chance_of_fixed(u128 p)
{
    if (p >= ONE)
        return (struct psg_chance){ .certain = true };
    u128 t = p >> (FRACTION_BITS - 96);
    return (struct psg_chance){ .high = (uint32_t)(t >> 64), .low = (uint64_t)t };
}

/* p 2^127 for p in [0, 1], rounded down; exact when the lowest bit of p is at least 2^-127.
 */
static u128 fixed_of_double(double p)
{
    int e;
    double m = frexp(p, &e); /* p = m 2^e, m in [1/2, 1) */
    u128 bits = (u128)(uint64_t)ldexp(m, 53);
    int shift = FRACTION_BITS - 53 + e;
    if (shift >= 0)
        return bits << shift;
    return shift > -53 ? bits >> -shift : 0;
}

struct psg_chance chance_of_double(double p)
{
    return chance_of_fixed(fixed_of_double(p));
}

/* a b for a, b <= 1, rounded down; error below 2^-126. */
static u128 multiply(u128 a, u128 b)
{
    uint64_t a1 = (uint64_t)(a >> 64), a0 = (uint64_t)a;
    uint64_t b1 = (uint64_t)(b >> 64), b0 = (uint64_t)b;
    u128 low = ((u128)a0 * b0) >> 64;
    u128 mid1 = (u128)a1 * b0, mid0 = (u128)a0 * b1;
    u128 carry = (low + (uint64_t)mid1 + (uint64_t)mid0) >> 64;
    u128 high = (u128)a1 * b1 + (mid1 >> 64) + (mid0 >> 64) + carry;
    return high << 1; /* the product has 254 bits after the point, high holds 126 of them */
}

/* x / (1 + x) for x <= 1, bit by bit, rounded down. The shift may push a bit out of 128;
 * the subtraction that then follows brings it back, as the remainder is below the
 * denominator. */
static u128 odds_to_chance(u128 x)
{
    if (x >= ONE)
        return ONE >> 1;
    u128 denominator = ONE + x, rest = x, quotient = 0;
    for (int bit = 0; bit < FRACTION_BITS; bit++) {
        bool out = rest >> 127;
        rest <<= 1;
        quotient <<= 1;
        if (out || rest >= denominator) {
            rest -= denominator;
            quotient |= 1;
        }
    }
    return quotient;
}

void chance_of_gap_digits(double q, struct psg_chance digit[32], struct psg_chance *beyond)
{
    u128 power = ONE - fixed_of_double(q); /* r^(2^j); each squaring doubles its error */
    for (int j = 0; j < 32; j++) {
        digit[j] = chance_of_fixed(odds_to_chance(power));
        power = multiply(power, power);
    }
    *beyond = chance_of_fixed(power);
}

int chance_compare(uint64_t word, uint64_t n, uint64_t d, uint64_t *rest)
{
    /* Nearly always the quotient in double decides. Its error: n, d and the division, 2^-53
     * each, and 2^-53 of the word, of numbers up to 2^64: below 2^13. */
    double near = (double)n / (double)d * 0x1p64, u = (double)word;
    if (u < near - 0x1p14)
        return 1;
    if (u > near + 0x1p14)
        return 0;
    if (n == d)
        return 1;
    u128 shifted = (u128)n << 64;
    uint64_t quotient = (uint64_t)(shifted / d);
    *rest = (uint64_t)(shifted % d);
    if (word == quotient)
        return *rest == 0 ? 0 : -1;
    return word < quotient;
}
