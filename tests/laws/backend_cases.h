/* Law 2: every kernel of a backend equals `ref`. A case draws shapes from its seed, runs
 * both and compares. Tolerances are K * eps times the sum of absolute terms, K the number
 * of terms in a sum (bound of Higham, Accuracy and Stability of Numerical Algorithms,
 * section 3.1). */
#ifndef TESTS_BACKEND_CASES_H
#define TESTS_BACKEND_CASES_H

#include "buffers.h"

struct backend_case {
    const char *name;
    int rounds; /* seeds to run */
    void (*run)(const struct psg_backend *be, struct seed *s);
};

/* each ends with name NULL */
extern const struct backend_case backend_matrix_cases[];
extern const struct backend_case backend_elementwise_cases[];
extern const struct backend_case backend_window_cases[];

/* How many versions of a backend this program tests; 0: none can be tested here, and why has been
 * printed for TAP. */
int tested_backends(void);
/* Version i of them. Called by the test itself, in its process. */
const struct psg_backend *tested_backend(int i);

#endif
