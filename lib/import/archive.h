/* A TorchScript archive that is being read, and the import that comes out of it. */
#ifndef IMPORT_ARCHIVE_H
#define IMPORT_ARCHIVE_H

#include "import/run.h"
#include "import/zip.h"

struct psg_import {
    struct im_pool pool;
    struct zip zip;
    const char *top;           /* folder in the archive, with its slash */
    struct im_object *module;  /* the model */
    struct im_value constants; /* of constants.pkl: a tuple */
    struct code_file *files;   /* compiled so far */
    struct im_stored **file;   /* tensors of the module tree, once each */
    size_t n_files, file_room;
    int training;
    int batch_axis[IM_IN_MAX];
    int n_inputs;
    uint64_t steps; /* of the interpreter, in all attempts */
    struct psg_program *program;
    psg_value output;
    bool guessed; /* an operator was passed over */
    struct psg_error err; /* of functions whose caller wants none */
};

/* Zip, pickles and the names of the module tree. */
int archive_open(struct psg_import *imp, const uint8_t *bytes, size_t size,
                 const char *place, struct psg_error *err);

#endif
