/* The kernels for x86-64 with avx2, fma. Headers of the system come first, so that
 * their inline functions stay as they are. */
#include <math.h>
#include <string.h>

#include "cpu.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define CPU_VERSION      cpu_backend_avx2
#define CPU_VECTOR_BYTES 32
#include "backend/cpu/kernels/table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
