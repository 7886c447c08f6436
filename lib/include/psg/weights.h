/* Weights of a file as the start of a program's parameters, choosing parameters by name, and LoRA
 * adapters (Hu et al. 2022) taken apart from or merged into the layers that they adapt. */
#ifndef PSG_WEIGHTS_H
#define PSG_WEIGHTS_H

#include "psg/check.h"
#include "psg/formats.h"

#ifdef __cplusplus
extern "C" {
#endif

/* '*' stands for any characters, dots included, '?' for one; the whole name must match. Takes time
 * in proportion to the product of the lengths at most. */
PSG_API bool psg_name_matches(const char *pattern, const char *name);

/* A name that begins with `from` begins with `to` instead; the first that fits is applied. */
struct psg_rename {
    const char *from, *to;
};

struct psg_weights_options {
    const struct psg_rename *rename;
    int n_rename;
    /* every parameter but LoRA adapters must be in the file, and every tensor of the file must be
     * a parameter's; else what is missing keeps its value and what is left over is ignored */
    bool strict;
};

/* Copies the tensors of an open file into params [param_size] of the checked program; NULL: only
 * looks. A tensor is the parameter's of its (renamed) name; "x.lora_A.weight", as PEFT has it, is
 * "x.lora_A". Floating numbers of any width; shapes must be equal. Every mismatch goes to f, its
 * place is the name of the parameter or tensor; the parameters are then of no use. 0, or
 * PSG_E_NOMEM. */
PSG_API int psg_weights_load(const struct psg_program *p, const struct psg_safetensors *file,
                             const struct psg_weights_options *options, psg_real *params,
                             struct psg_findings *f, struct psg_error *err);

/* Whether parameter i is lora_A or lora_B of a lora_linear. */
PSG_API bool psg_program_is_adapter(const struct psg_program *p, int i);
/* weight += lora_alpha / r * lora_B lora_A for every lora_linear, in params [param_size]; the
 * adapters' own entries stay. A weight that several layers share: every adapter is added. */
PSG_API void psg_lora_merge(const struct psg_program *p, psg_real *params);

#ifdef __cplusplus
}
#endif
#endif
