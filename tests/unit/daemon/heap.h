/* A heap whose n-th allocation fails: the program's own (the linker sends them here, --wrap),
 * SQLite's and jansson's. */
#ifndef TESTS_HEAP_H
#define TESTS_HEAP_H

#include <stdbool.h>

enum heap_mode {
    HEAP_COUNT, /* none fails */
    HEAP_ONCE,  /* the n-th fails */
    HEAP_FROM   /* the n-th and all later ones fail */
};

/* Before anything else uses SQLite or jansson. */
void heap_init(void);

/* Starts to count at 1. */
void heap_arm(enum heap_mode mode, long n);
/* From here on nothing fails. True when the n-th allocation was reached. */
bool heap_disarm(void);

#endif
