/* Plugins: shared objects with grad samplers and layer functions.
 *
 *   #include <psg/plugin.h>
 *
 *   PSG_API const struct psg_plugin psg_plugin = {
 *       PSG_PLUGIN_HEADER, .name = "mine", .samplers = samplers, .n_samplers = 1,
 *   };
 *
 *   cc -shared -fPIC $(pkg-config --cflags psg) -o mine.so mine.c
 *
 * A plugin calls libpsg through the program that loads it, so it is not linked against the
 * library. Whoever loads a plugin runs its code: take paths from an administrator only. */
#ifndef PSG_PLUGIN_H
#define PSG_PLUGIN_H

#include "psg/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change of a struct that plugins see. */
#define PSG_PLUGIN_ABI 2

/* The symbol `psg_plugin` of the shared object. The first five members keep their place and
 * meaning in every version. */
struct psg_plugin {
    uint32_t abi;       /* PSG_PLUGIN_ABI */
    uint32_t size;      /* of this struct */
    uint32_t real_size; /* of psg_real: 4, or 8 for PSG_REAL_DOUBLE */
    uint32_t op_size;   /* of struct psg_op */
    uint32_t call_size; /* of struct psg_call */
    const char *name;   /* for messages, at most 64 bytes */
    const struct psg_grad_sampler *samplers; /* [n_samplers]; their origin is ignored */
    const struct psg_op *const *ops;         /* [n_ops] */
    int n_samplers, n_ops;
};

#define PSG_PLUGIN_HEADER                                                                      \
    .abi = PSG_PLUGIN_ABI, .size = sizeof(struct psg_plugin), .real_size = sizeof(psg_real),  \
    .op_size = sizeof(struct psg_op), .call_size = sizeof(struct psg_call)

/* Loads the plugin into the registry, which keeps it until it is freed. `path` is absolute; file
 * and folder belong to root or to this process's user and nobody else may write them (a folder
 * with the sticky bit is fine). PSG_E_IO, PSG_E_FORMAT (no symbol), PSG_E_UNSUPPORTED (another
 * ABI) or PSG_E_INVALID (owner, permissions, what it registers), with the path in err->place. */
PSG_API int psg_plugin_load(struct psg_registry *registry, const char *path,
                            struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
