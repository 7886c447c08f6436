#ifndef CLIENT_JOBS_H
#define CLIENT_JOBS_H

#include "dpsgd/client.h"

/* of proto's enum job_status */
enum dpc_job_status job_status_public(int status);

#endif
