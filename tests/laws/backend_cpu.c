/* The versions of the cpu backend that this machine can execute. */
#include "backend/cpu/cpu.h"
#include "backend_cases.h"

const struct psg_backend *tested_backend(int i)
{
    return cpu_backend_version(i);
}
