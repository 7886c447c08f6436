#include "fuzz_message.h"
#include "proto/job_spec.h"

FUZZ_MESSAGE(job_spec)
