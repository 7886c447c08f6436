/* A plugin for GPUs that misbehaves in the way that FAKE says. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "psg/device.h"

enum { FINE, CRASH, LEAVE, NONSENSE, OLD };

static void probe(struct psg_devices *devices)
{
    if (FAKE == CRASH)
        __builtin_trap();
    if (FAKE == LEAVE)
        _exit(0);
    devices->n = FAKE == NONSENSE ? 99 : 1;
    memset(devices->at[0].name, 'x', sizeof devices->at[0].name);
    devices->at[0].memory = 80;
    devices->at[0].major = 9;
}

static int open_gpu(int device, const struct psg_backend **bep, struct psg_error *err)
{
    static const struct psg_backend backend = { .name = "fake" };
    if (device != 0) {
        err->status = PSG_E_UNSUPPORTED;
        snprintf(err->text, sizeof err->text, "no such GPU");
        return PSG_E_UNSUPPORTED;
    }
    *bep = &backend;
    return 0;
}

extern PSG_API const struct psg_cuda_plugin psg_cuda_plugin;
const struct psg_cuda_plugin psg_cuda_plugin = {
    .abi = PSG_CUDA_ABI,
    .real_size = sizeof(psg_real),
    .backend_size = FAKE == OLD ? 8 : sizeof(struct psg_backend),
    .devices_size = sizeof(struct psg_devices),
    .probe = probe,
    .open = open_gpu,
};
