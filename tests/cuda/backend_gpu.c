/* The GPU of the plugin that DPSGD_CUDA_PLUGIN names. Kernels and the host read the same memory,
 * and a kernel is done when its call returns. SKIP where there is no GPU. */
#include <stdio.h>
#include <stdlib.h>

#include "backend_cases.h"
#include "psg/device.h"

int tested_backends(void)
{
    struct psg_devices devices;
    psg_cuda_probe(NULL, &devices);
    if (devices.n == 0)
        printf("1..0 # SKIP %s\n", devices.why);
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    return devices.n > 0;
}

static const struct psg_cuda_plugin *plugin(void)
{
    struct psg_error err = { 0 };
    const struct psg_cuda_plugin *p = psg_cuda_load(NULL, &err);
    ck_assert_msg(p != NULL, "%s", err.text);
    return p;
}

const struct psg_backend *tested_backend(int i)
{
    const struct psg_backend *be = NULL;
    struct psg_error err = { 0 };
    ck_assert_msg(plugin()->open(i, &be, &err) == 0, "%s", err.text);
    return be;
}

void *shared_room(size_t bytes)
{
    return plugin()->shared(bytes);
}

void shared_free(void *memory)
{
    plugin()->shared_free(memory);
}
