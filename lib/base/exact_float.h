/* Include first in a file whose float results must be the same bits on every machine, compiler
 * and vector width: products and sums in it are never contracted to fused multiply-adds. What is
 * left, + - * / and sqrt, is rounded as IEEE 754 says everywhere. */
#ifndef BASE_EXACT_FLOAT_H
#define BASE_EXACT_FLOAT_H

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#endif
