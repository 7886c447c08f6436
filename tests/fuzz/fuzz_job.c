#include "fuzz_message.h"
#include "proto/job.h"

FUZZ_MESSAGE(job_view)
