/* The GPU itself: finding it, its memory, its stream, and what the plugin exports. All calls of a
 * process go to one stream of one GPU, so they happen in the order in which they were made. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/stream.h"
#include "psg/device.h"

static struct {
    int device;
    bool open;
    cudaStream_t stream;
} gpu;

/* Kernels go to the GPU that the calling thread has chosen. */
cudaStream_t cuda_stream(void)
{
    static thread_local bool chosen;
    if (!chosen && cudaSetDevice(gpu.device) == cudaSuccess)
        chosen = true;
    return gpu.stream;
}

static int fail(struct psg_error *err, enum psg_status status, const char *what,
                cudaError_t error)
{
    if (err) {
        err->status = status;
        snprintf(err->place, sizeof err->place, "device");
        snprintf(err->text, sizeof err->text, "%s: %s", what, cudaGetErrorString(error));
    }
    return status;
}

void *cuda_alloc(size_t bytes)
{
    void *memory = NULL;
    cudaStream_t stream = cuda_stream();
    if (cudaMalloc(&memory, bytes) != cudaSuccess) {
        (void)cudaGetLastError(); /* running out of memory is the caller's to report */
        return NULL;
    }
    (void)cudaMemsetAsync(memory, 0, bytes, stream);
    return memory;
}

void cuda_release(void *memory)
{
    (void)cuda_stream();
    (void)cudaFree(memory);
}

/* Both return when the host's memory may be used again. A failure stays until cuda_wait. */
void cuda_upload(size_t bytes, const void *host, void *memory)
{
    cudaStream_t stream = cuda_stream();
    (void)cudaMemcpyAsync(memory, host, bytes, cudaMemcpyHostToDevice, stream);
    (void)cudaStreamSynchronize(stream);
}

void cuda_download(size_t bytes, const void *memory, void *host)
{
    cudaStream_t stream = cuda_stream();
    (void)cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, stream);
    (void)cudaStreamSynchronize(stream);
}

int cuda_wait(struct psg_error *err)
{
    cudaError_t waited = cudaStreamSynchronize(cuda_stream()), before = cudaGetLastError();
    cudaError_t error = waited != cudaSuccess ? waited : before;
    return error == cudaSuccess ? 0 : fail(err, PSG_E_IO, "the GPU failed", error);
}

/* ---- what the plugin exports ---- */

static void probe_one(int i, struct psg_device *d)
{
    cudaDeviceProp properties;
    size_t left = 0, all = 0;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess)
        return;
    snprintf(d->name, sizeof d->name, "%.95s", properties.name);
    d->major = properties.major;
    d->minor = properties.minor;
    d->memory = (int64_t)properties.totalGlobalMem;
    if (cudaSetDevice(i) == cudaSuccess && cudaMemGetInfo(&left, &all) == cudaSuccess)
        d->memory_free = (int64_t)left;
}

static void plugin_probe(struct psg_devices *devices)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    memset(devices, 0, sizeof *devices);
    if (error == cudaErrorInsufficientDriver) {
        int driver = 0;
        (void)cudaDriverGetVersion(&driver);
        if (driver == 0)
            snprintf(devices->why, sizeof devices->why, "no NVIDIA driver is installed");
        else
            snprintf(devices->why, sizeof devices->why,
                     "the NVIDIA driver is for CUDA %d.%d, older than this program's %d.%d",
                     driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                     CUDART_VERSION % 1000 / 10);
        return;
    }
    if (error != cudaSuccess || n == 0) {
        snprintf(devices->why, sizeof devices->why, "no GPU can be used: %s",
                 error == cudaSuccess ? "the driver knows none" : cudaGetErrorString(error));
        return;
    }
    devices->n = n < PSG_DEVICES_MAX ? n : PSG_DEVICES_MAX;
    for (int i = 0; i < devices->n; i++)
        probe_one(i, &devices->at[i]);
}

static int plugin_open(int device, const struct psg_backend **bep, struct psg_error *err)
{
    if (gpu.open && gpu.device != device) {
        if (err) {
            err->status = PSG_E_UNSUPPORTED;
            snprintf(err->place, sizeof err->place, "device");
            snprintf(err->text, sizeof err->text, "this process already computes on GPU %d",
                     gpu.device);
        }
        return PSG_E_UNSUPPORTED;
    }
    if (!gpu.open) {
        cudaError_t error = cudaSetDevice(device);
        if (error == cudaSuccess)
            error = cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking);
        if (error != cudaSuccess)
            return fail(err, PSG_E_UNSUPPORTED, "the GPU cannot be used", error);
        gpu.device = device;
        gpu.open = true;
    }
    *bep = cuda_backend();
    return 0;
}

static void *plugin_shared(size_t bytes)
{
    void *memory = NULL;
    (void)cuda_stream();
    return cudaMallocManaged(&memory, bytes) == cudaSuccess ? memory : NULL;
}

extern "C" PSG_API const struct psg_cuda_plugin psg_cuda_plugin;
const struct psg_cuda_plugin psg_cuda_plugin = {
    .abi = PSG_CUDA_ABI,
    .real_size = sizeof(psg_real),
    .backend_size = sizeof(struct psg_backend),
    .devices_size = sizeof(struct psg_devices),
    .probe = plugin_probe,
    .open = plugin_open,
    .shared = plugin_shared,
    .shared_free = cuda_release,
};
