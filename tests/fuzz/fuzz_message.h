/* One proto message under fuzzing: what decodes must encode, and decode to the same again.
 */
#ifndef TESTS_FUZZ_MESSAGE_H
#define TESTS_FUZZ_MESSAGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/problem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_MESSAGE(name)                                                                 \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                           \
    {                                                                                      \
        struct problem problem;                                                            \
        struct name *value, *again;                                                        \
        size_t n, m;                                                                       \
        if (name##_decode(&value, (const char *)data, size, &problem)) {                   \
            if (problem.status < 400 || problem.n_errors > PROBLEM_ITEMS_MAX)              \
                abort();                                                                   \
            return 0;                                                                      \
        }                                                                                  \
        char *once = name##_encode(value, &n);                                             \
        if (!once)                                                                         \
            abort();                                                                       \
        if (name##_decode(&again, once, n, &problem)) {                                    \
            /* a newer daemon's word, "status": "napping", reads as absent */              \
            if (strcmp(problem.errors[0].code, "missing_member") != 0)                     \
                abort();                                                                   \
            name##_free(value);                                                            \
            free(once);                                                                    \
            return 0;                                                                      \
        }                                                                                  \
        char *twice = name##_encode(again, &m);                                            \
        if (!twice || n != m || memcmp(once, twice, n) != 0)                               \
            abort();                                                                       \
        name##_free(value);                                                                \
        name##_free(again);                                                                \
        free(once);                                                                        \
        free(twice);                                                                       \
        return 0;                                                                          \
    }

#endif
