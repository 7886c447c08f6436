/* The backends that layer functions are tested on. */
#include "backend_cases.h"

int tested_backends(void)
{
    return 2;
}

const struct psg_backend *tested_backend(int i)
{
    return i == 0 ? psg_backend_ref() : psg_backend_cpu();
}
