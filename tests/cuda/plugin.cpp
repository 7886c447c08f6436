/* The emulated GPU as a plugin, so that every program that can use a GPU can use this one. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "emulate.h"
#include "psg/device.h"

static void probe(struct psg_devices *devices)
{
    devices->n = 1;
    snprintf(devices->at[0].name, sizeof devices->at[0].name, "emulated");
    devices->at[0].memory = devices->at[0].memory_free = (int64_t)1 << 30;
}

static int open_gpu(int device, const struct psg_backend **bep, struct psg_error *err)
{
    if (device != 0) {
        if (err) {
            *err = {};
            err->status = PSG_E_UNSUPPORTED;
            snprintf(err->text, sizeof err->text, "there is one emulated GPU");
        }
        return PSG_E_UNSUPPORTED;
    }
    emulate_set_order(EMULATE_MIXED);
    *bep = cuda_backend();
    return 0;
}

extern "C" PSG_API const struct psg_cuda_plugin psg_cuda_plugin;
const struct psg_cuda_plugin psg_cuda_plugin = {
    .abi = PSG_CUDA_ABI,
    .real_size = sizeof(psg_real),
    .backend_size = sizeof(struct psg_backend),
    .devices_size = sizeof(struct psg_devices),
    .probe = probe,
    .open = open_gpu,
    .shared = malloc,
    .shared_free = free,
};
