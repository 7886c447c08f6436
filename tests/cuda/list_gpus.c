/* Prints the GPUs, a line each, or why there is none, with status 1. */
#include <stdio.h>

#include "psg/device.h"

int main(void)
{
    struct psg_devices devices;
    psg_cuda_probe(NULL, &devices);
    for (int i = 0; i < devices.n; i++)
        printf("cuda:%d %s, %.1f GiB of %.1f free, compute capability %d.%d\n", i,
               devices.at[i].name, (double)devices.at[i].memory_free / 0x1p30,
               (double)devices.at[i].memory / 0x1p30, devices.at[i].major,
               devices.at[i].minor);
    if (devices.n == 0)
        printf("%s\n", devices.why);
    return devices.n == 0;
}
