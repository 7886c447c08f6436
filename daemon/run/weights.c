#include "run/weights.h"

#include <stdlib.h>

#include "base/cleanup.h"

int run_weights_load(const struct weights_spec *weights, const struct psg_program *program,
                     const void *bytes, size_t size, psg_real *params, struct psg_findings *f,
                     struct psg_error *err)
{
    _cleanup_free_ struct psg_rename *rename = calloc(weights->n_rename + 1, sizeof *rename);
    struct psg_safetensors *file = NULL;
    if (!rename)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    for (size_t i = 0; i < weights->n_rename; i++)
        rename[i] = (struct psg_rename){ weights->rename[i].from, weights->rename[i].to };
    const struct psg_weights_options options = { .rename = rename,
                                                 .n_rename = (int)weights->n_rename,
                                                 .strict = weights->strict };
    int r = psg_safetensors_open_bytes(bytes, size, "weights", &file, err);
    if (r == 0)
        r = psg_weights_load(program, file, &options, params, f, err);
    psg_safetensors_close(file);
    return r;
}
