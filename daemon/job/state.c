#include "job/state.h"

#define TO(status) (1u << JOB_STATUS_##status)

static const unsigned next[JOB_STATUS_CANCELLED + 1] = {
    [0] = TO(QUEUED),
    [JOB_STATUS_QUEUED] = TO(RUNNING) | TO(CANCELLED) | TO(FAILED),
    [JOB_STATUS_RUNNING] = TO(QUEUED) | TO(PAUSED) | TO(CANCELLING) | TO(SUCCEEDED) | TO(FAILED),
    [JOB_STATUS_PAUSED] = TO(QUEUED) | TO(CANCELLED),
    [JOB_STATUS_CANCELLING] = TO(CANCELLED) | TO(SUCCEEDED) | TO(FAILED),
};

bool state_may_follow(enum job_status from, enum job_status to)
{
    return (unsigned)from <= JOB_STATUS_CANCELLED && (next[from] & (1u << to)) != 0;
}
