/* The versions of the cpu backend that this machine can execute. */
#include "backend/cpu/cpu.h"
#include "backend_cases.h"

int tested_backends(void)
{
    int n = 0;
    while (cpu_backend_version(n))
        n++;
    return n;
}

const struct psg_backend *tested_backend(int i)
{
    return cpu_backend_version(i);
}
