/* What the words of backend/cuda/launch.h mean to a host compiler: blocks run one after the
 * other, and within a block THREADS is a loop over the threads. A kernel is called once for
 * each block, so shared variables are its local variables.
 *
 * The order of threads and blocks can be changed. Kernels whose result depends on it, because
 * two threads touch the same number between two barriers, differ from ref in some order. */
#ifndef TESTS_CUDA_EMULATE_H
#define TESTS_CUDA_EMULATE_H

#include <stdint.h>

enum emulate_order { EMULATE_FORWARD, EMULATE_BACKWARD, EMULATE_MIXED, EMULATE_ORDERS };

#ifdef __cplusplus
extern "C" {
#endif

/* For all launches from now on; not while kernels run. */
void emulate_set_order(enum emulate_order order);

#ifdef __cplusplus
}

struct emulate_index {
    unsigned x;
};
extern __thread struct emulate_index threadIdx, blockIdx, blockDim, gridDim;

/* Turns of the threads of a block: begin; while (more) { ...; next }. */
void emulate_begin();
bool emulate_more();
void emulate_next();

void emulate_open(unsigned blocks, unsigned threads);
bool emulate_block(); /* sets blockIdx; false after the last one */
void emulate_close();

/* memory.cpp: whether the host may touch what cuda_alloc gave */
void emulate_memory(bool readable);

#define KERNEL static void
#define DEVICE static inline
#define METHOD inline
#define SHARED
#define UNROLL
#define THREADS for (emulate_begin(); emulate_more(); emulate_next())
#define PER_THREAD(type, name) type name[CUDA_THREADS]
#define OWN(name) name[threadIdx.x]
#define LAUNCH(kernel, blocks, threads, ...)                                              \
    do {                                                                                  \
        int64_t blocks_ = (blocks);                                                       \
        if (blocks_ > 0) {                                                                \
            emulate_open((unsigned)blocks_, (unsigned)(threads));                         \
            while (emulate_block())                                                       \
                kernel(__VA_ARGS__);                                                      \
            emulate_close();                                                              \
        }                                                                                 \
    } while (0)
#endif
#endif
