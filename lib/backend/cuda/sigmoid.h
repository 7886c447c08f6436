#ifndef BACKEND_CUDA_SIGMOID_H
#define BACKEND_CUDA_SIGMOID_H

#include <math.h>

#include "launch.h"

DEVICE double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

#endif
