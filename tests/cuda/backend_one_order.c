/* The cuda backend as host code, its threads in a mixed order. */
#include "backend/cuda/cuda.h"
#include "backend_cases.h"
#include "emulate.h"

int tested_backends(void)
{
    return 1;
}

const struct psg_backend *tested_backend(int i)
{
    (void)i;
    emulate_set_order(EMULATE_MIXED);
    return cuda_backend();
}
