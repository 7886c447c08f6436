#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/problem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problem problem, again;
    size_t n, m;
    if (problem_decode(&problem, (const char *)data, size))
        return 0;
    char *once = problem_encode(&problem, &n);
    if (!once || problem_decode(&again, once, n))
        abort();
    char *twice = problem_encode(&again, &m);
    if (!twice || n != m || memcmp(once, twice, n) != 0)
        abort();
    free(once);
    free(twice);
    return 0;
}
