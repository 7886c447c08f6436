#include "cpu.h"

#include <stddef.h>

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

const struct psg_backend *cpu_backend_version(int i)
{
    const struct psg_backend *found[3];
    int n = 0;
#if defined(__x86_64__)
    if (has_avx512())
        found[n++] = &cpu_backend_avx512;
    if (has_avx2())
        found[n++] = &cpu_backend_avx2;
#endif
    found[n++] = &cpu_backend_base;
    return i < n ? found[i] : NULL;
}

const struct psg_backend *psg_backend_cpu(void)
{
    return cpu_backend_version(0);
}
