/* The one stream of the one GPU of this process (device.cu). */
#ifndef BACKEND_CUDA_STREAM_H
#define BACKEND_CUDA_STREAM_H

#include <cuda_runtime.h>

cudaStream_t cuda_stream(void);

#endif
