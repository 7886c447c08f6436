#include <stdlib.h>

#include "psg/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psg_import_input in = { .dtype = PSG_REAL, .shape = PSG_SHAPE(6, 8) };
    struct psg_import_options o = {
        .inputs = &in, .n_inputs = 1, .training = -1, .memory_limit = 32 << 20
    };
    struct psg_import *imp = NULL;
    struct psg_error err = { 0 };
    if (psg_import_torchscript(data, size, "fuzz.pt", &o, &imp, &err) == 0) {
        if (psg_program_output_type(psg_import_program(imp)) == NULL)
            abort();
        psg_import_free(imp);
    } else if (err.text[0] == '\0') {
        abort();
    }
    return 0;
}
