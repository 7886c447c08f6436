/* GPUs: which ones there are, and a backend that computes on one.
 *
 * The code for them is a shared object of its own (libpsg-cuda.so) that is loaded when a GPU is
 * asked for, so that a program runs the same on machines without one. */
#ifndef PSG_DEVICE_H
#define PSG_DEVICE_H

#include "psg/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PSG_DEVICES_MAX = 16 };

struct psg_device {
    char name[96];
    int64_t memory, memory_free; /* bytes */
    int major, minor;            /* compute capability */
};

struct psg_devices {
    int n; /* at most PSG_DEVICES_MAX */
    struct psg_device at[PSG_DEVICES_MAX];
    char why[240]; /* n is 0: the reason, one sentence without a final full stop */
};

/* Where the plugin is looked for unless a path is given: DPSGD_CUDA_PLUGIN in the environment
 * (not in programs that run with another user's rights), else where it was installed. */
PSG_API const char *psg_cuda_plugin_path(void);

/* Finds the GPUs. The plugin and the driver are loaded in a child process, so that nothing that
 * they do, crash and hang included, reaches the caller; after 30 s the child is ended. Always
 * fills *devices: no GPU is an answer, not an error. path NULL: psg_cuda_plugin_path(). */
PSG_API void psg_cuda_probe(const char *path, struct psg_devices *devices);

/* Loads the plugin into this process and returns the backend of GPU `device`. A process uses one
 * GPU: PSG_E_UNSUPPORTED for another one afterwards. The plugin stays loaded. PSG_E_UNSUPPORTED
 * with the reason where there is no plugin, driver or device. */
PSG_API int psg_cuda_open(const char *path, int device, const struct psg_backend **bep,
                          struct psg_error *err);

/* ---- what the plugin exports, as the symbol psg_cuda_plugin ---- */

#define PSG_CUDA_ABI 1

struct psg_cuda_plugin {
    uint32_t abi;          /* PSG_CUDA_ABI */
    uint32_t real_size;    /* of psg_real */
    uint32_t backend_size; /* of struct psg_backend */
    uint32_t devices_size; /* of struct psg_devices */
    void (*probe)(struct psg_devices *devices);
    int (*open)(int device, const struct psg_backend **bep, struct psg_error *err);
    /* For tests, after open: memory that kernels and the host both read, once kernels are done. */
    void *(*shared)(size_t bytes);
    void (*shared_free)(void *memory);
};

/* Loads the plugin at path, NULL: psg_cuda_plugin_path(). NULL with err filled. */
PSG_API const struct psg_cuda_plugin *psg_cuda_load(const char *path, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
