/* The cuda backend as host code, once for each order in which its threads can run. */
#include "backend/cuda/cuda.h"
#include "backend_cases.h"
#include "emulate.h"

int tested_backends(void)
{
    return EMULATE_ORDERS;
}

const struct psg_backend *tested_backend(int i)
{
    emulate_set_order((enum emulate_order)i);
    return cuda_backend();
}
