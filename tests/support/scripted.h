/* A TorchScript file as a program with cross entropy as loss. */
#ifndef TESTS_SCRIPTED_H
#define TESTS_SCRIPTED_H

#include "psg/import.h"

struct scripted {
    struct psg_import *import; /* owns the program */
    void *bytes;
};

/* input: of one sample, "2x6x8" or "i64:6"; then a target of one class number. 0, or an error as
 * from psg_import_torchscript(); then there is nothing to close. */
int scripted_open(struct scripted *s, const char *path, const char *input, struct psg_error *err);
void scripted_close(struct scripted *s);

#endif
