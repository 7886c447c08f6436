/* The cuda backend as host code, once for each order in which its threads can run. */
#include "backend/cuda/cuda.h"
#include "backend_cases.h"
#include "emulate.h"

const struct psg_backend *tested_backend(int i)
{
    if (i >= EMULATE_ORDERS)
        return NULL;
    emulate_set_order((enum emulate_order)i);
    return cuda_backend();
}
