/* The cuda backend as host code, its threads in a mixed order. */
#include "backend/cuda/cuda.h"
#include "backend_cases.h"
#include "emulate.h"

const struct psg_backend *tested_backend(int i)
{
    emulate_set_order(EMULATE_MIXED);
    return i == 0 ? cuda_backend() : NULL;
}
