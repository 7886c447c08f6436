/* The kernels for what every processor of this architecture can do. */
#define CPU_VERSION      cpu_backend_base
#define CPU_VECTOR_BYTES 16
#include "backend/cpu/kernels/table.h"
