/* The backends that layer functions are tested on. */
#include "backend_cases.h"

const struct psg_backend *tested_backend(int i)
{
    return i == 0 ? psg_backend_ref() : i == 1 ? psg_backend_cpu() : NULL;
}
