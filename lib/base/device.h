/* Marks inline functions that kernels of a GPU use as well; nothing to a C compiler. */
#ifndef BASE_DEVICE_H
#define BASE_DEVICE_H

#ifdef __CUDACC__
#define ON_DEVICE __host__ __device__
#else
#define ON_DEVICE
#endif

#endif
