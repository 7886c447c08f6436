#include "fuzz_message.h"
#include "proto/dataset.h"

FUZZ_MESSAGE(dataset_spec)
