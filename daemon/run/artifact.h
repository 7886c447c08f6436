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
                   struct artifact_info *info); /* PyTorch's names and layouts; adapters merged */
/* LoRA adapters apart, under PEFT's names: 1; 0: the model has none, nothing is written */
int artifact_adapters(const struct run_spec *spec, struct psg_trainer *trainer,
                      struct artifact_info *info);
int artifact_metrics(const struct run_spec *spec, const struct metrics *metrics,
                     struct artifact_info *info);
/* statement.c: what was released and what it costs by every accountant, with what that rests on.
 * accountant holds the history; NULL without privacy. */
int artifact_privacy(const struct run_spec *spec, const struct psg_accountant *accountant,
                     struct artifact_info *info);
/* Writes a text as a whole file of the job's folder. */
int artifact_save(const struct run_spec *spec, const char *name, const void *data, size_t n,
                  struct artifact_info *info);
/* audit.c: runs a shadow of the job with canaries; *refutedp: it shows more than is claimed. */
int artifact_audit(const struct run_spec *spec, bool *refutedp, struct artifact_info *info);
int artifact_job(const struct run_spec *spec, struct artifact_info *info);

#endif
