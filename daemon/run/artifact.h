/* What a finished job leaves in its folder. Files appear whole or not at all. */
#ifndef DAEMON_RUN_ARTIFACT_H
#define DAEMON_RUN_ARTIFACT_H

#include "run/checkpoint.h"
#include "run/run.h"

struct artifact_info {
    const char *name;
    int64_t bytes;
    char sha256[65];
};

/* Each writes one file; 0 or a negative errno. */
int artifact_model(const struct run_spec *spec, struct psg_trainer *trainer,
                   struct artifact_info *info); /* PyTorch's names and layouts */
int artifact_metrics(const struct run_spec *spec, const struct metrics *metrics,
                     struct artifact_info *info);
/* epsilon: of all steps; NAN for none. */
int artifact_privacy(const struct run_spec *spec, double epsilon, struct artifact_info *info);
int artifact_job(const struct run_spec *spec, struct artifact_info *info);

#endif
