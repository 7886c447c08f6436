/* Model files to programs: a TorchScript archive (.pt, torch.jit.trace or torch.jit.script)
 * becomes a program of one sample whose parameters keep their names.
 *
 * The file is untrusted: nothing of it is executed, and sizes, counts and memory are bounded.
 * Its code is interpreted with a symbolic number of samples B. Each tensor is known to have one
 * axis that numbers the samples, or none; every operator must keep samples apart, and what mixes
 * them (statistics over the batch, indexing along it, folding it into another axis) is refused
 * with module path, file and line. So the program that comes out provably describes one sample.
 *
 *   psg_import_torchscript(bytes, size, "model.pt", &options, &imp, &err)
 *   p = psg_import_program(imp)          output is set; add a loss on psg_import_output(imp)
 *   psg_program_check(p, &err)
 *   psg_import_params(imp, params)       the file's values, in the program's flat order
 *
 * B as a number: a traced file holds the batch size of its example wherever the traced code used
 * it as a plain number (x.view(8, -1)). It is taken from options.example_batch, or found from the
 * first shape that needs it and then must fit everywhere. */
#ifndef PSG_IMPORT_H
#define PSG_IMPORT_H

#include "psg/check.h"

#ifdef __cplusplus
extern "C" {
#endif

struct psg_import_input {
    const char *name;       /* of the program's input; NULL: the name in the file */
    enum psg_dtype dtype;   /* PSG_I64: token ids */
    struct psg_shape shape; /* of one sample */
    /* where the file's forward() has the batch axis: 0 is the usual place; -1: the first axis
     * for which the proof succeeds. shape does not count it */
    int batch_axis;
};

struct psg_import_options {
    const struct psg_import_input *inputs; /* the first arguments of forward() */
    int n_inputs;
    int64_t example_batch; /* samples in the example that the file was traced with; 0: unknown */
    int training;          /* 1, 0: what modules see as self.training; -1: as it was saved */
    size_t memory_limit;   /* bytes for the import; 0: 2 GiB */
    /* NULL, or a list that takes everything that is refused: reading then goes on. A norm over the
     * batch becomes a group_norm with the file's parameters, running statistics of an
     * instance_norm are left out; any other operator that is refused is passed over, and what
     * follows from its result is not judged. Place: module path, file and line */
    struct psg_findings *findings;
};

struct psg_import;

/* bytes must outlive *impp; place is the file's name in messages. Errors: err->place is the place
 * in the file ("layer1.0 (code/__torch__/model.py:12)"). */
PSG_API int psg_import_torchscript(const void *bytes, size_t size, const char *place,
                                   const struct psg_import_options *options,
                                   struct psg_import **impp, struct psg_error *err);
PSG_API struct psg_import *psg_import_free(struct psg_import *imp); /* takes NULL */
PSG_API void psg_import_freep(struct psg_import **impp);

/* Lives as long as imp; not checked yet. */
PSG_API struct psg_program *psg_import_program(const struct psg_import *imp);
/* Hands the program over: it is the caller's to free, and outlives imp. */
PSG_API struct psg_program *psg_import_take_program(struct psg_import *imp);
/* The result of forward() (its first tensor), of one sample. */
PSG_API psg_value psg_import_output(const struct psg_import *imp);
/* Batch axis of input i, given or found. */
PSG_API int psg_import_batch_axis(const struct psg_import *imp, int input);
/* Fills params [param_size] of the checked program. */
PSG_API int psg_import_params(const struct psg_import *imp, psg_real *params,
                              struct psg_error *err);
/* Whether an operator was passed over (options.findings): the program is not the file's. */
PSG_API bool psg_import_guessed(const struct psg_import *imp);
/* Names of the file's parameters that the output does not depend on; they are not in the program.
 * NULL past the last. */
PSG_API const char *psg_import_unused(const struct psg_import *imp, int i);

#ifdef __cplusplus
}
#endif
#endif
