/* The few words in which kernels are written, so that the same text is compiled by nvcc for a
 * GPU and by a host compiler for tests (tests/cuda/emulate.h gives them another meaning).
 *
 *   THREADS statement        every thread of the block runs the statement, then they meet.
 *                            `continue` ends a thread's turn; no break, no return in it
 *   PER_THREAD(type, name)   a variable of each thread that lives across several THREADS
 *   OWN(name)                this thread's one
 *   EACH_OF_GRID(i, n)       a loop over [0, n) that the threads of the grid share
 *   LAUNCH(kernel, blocks, threads, ...)   queues a kernel; blocks 0: nothing
 *
 * A kernel is a sequence of THREADS; between them stand declarations and loops whose bounds
 * are the same for the whole block. Because THREADS ends in a barrier, none can be forgotten. */
#ifndef BACKEND_CUDA_LAUNCH_H
#define BACKEND_CUDA_LAUNCH_H

#include <stdint.h>

enum { CUDA_THREADS = 256 }; /* the most threads of a block */

#ifdef __CUDACC__

#include "stream.h"

#define KERNEL static __global__ void
#define DEVICE static __device__ inline
#define METHOD __device__ inline
#define SHARED __shared__
#define UNROLL _Pragma("unroll")
#define THREADS for (int once_ = 1; once_; once_ = 0, __syncthreads())
#define PER_THREAD(type, name) type name[1]
#define OWN(name) name[0]
#define LAUNCH(kernel, blocks, threads, ...)                                              \
    do {                                                                                  \
        int64_t blocks_ = (blocks);                                                       \
        if (blocks_ > 0)                                                                  \
            kernel<<<(unsigned)blocks_, (unsigned)(threads), 0, cuda_stream()>>>(         \
                __VA_ARGS__);                                                             \
    } while (0)

#else
#include "emulate.h"
#endif

#define EACH_OF_GRID(i, n)                                                                \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);             \
         i += (int64_t)gridDim.x * blockDim.x)

/* Blocks for n independent items; past the limit a thread takes several. */
static inline int64_t cuda_blocks(int64_t n)
{
    const int64_t limit = 1 << 16;
    int64_t blocks = (n + CUDA_THREADS - 1) / CUDA_THREADS;
    return blocks < limit ? blocks : limit;
}

/* Threads for a row of dim numbers: a power of two, as sums over a block need. */
static inline int cuda_row_threads(int64_t dim)
{
    int threads = 32;
    while (threads < CUDA_THREADS && threads < dim)
        threads *= 2;
    return threads;
}

#define LAUNCH_EACH(kernel, n, ...) LAUNCH(kernel, cuda_blocks(n), CUDA_THREADS, __VA_ARGS__)

/* Adds part[0 .. threads) up into part[0], by halves: an order that does not depend on time.
 * Stands outside of THREADS. */
DEVICE void block_sum(double *part)
{
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2)
        THREADS if (threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
}

#endif
