/* Which status may follow which: the table of the picture in README.md. */
#ifndef DAEMON_JOB_STATE_H
#define DAEMON_JOB_STATE_H

#include <stdbool.h>

#include "proto/job.h"

/* from 0: the job is created. */
bool state_may_follow(enum job_status from, enum job_status to);

#endif
