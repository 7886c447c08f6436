/* The dataset registry: what a custodian has registered, its privacy budget, its data.
 *
 * A dataset's identity is the digest of its content (of the sorted digests of its records,
 * so that neither order nor file format matters): registering the same data again gives no
 * new budget. Files are looked for beneath one configured folder only.
 *
 * Functions return 0, ERROR_REFUSED with *p filled, or a fatal error. After a change answer
 * from store_on_commit() only. Answers are proto's messages, encoded. Thread: the loop
 * thread only. */
#ifndef DAEMON_DATA_DATASETS_H
#define DAEMON_DATA_DATASETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "proto/dataset.h"
#include "psg/shape.h"
#include "store/store.h"

struct datasets;

struct datasets_config {
    int root_dir;  /* descriptor of the folder that holds the files; -1: none is configured
                    */
    bool embedded; /* register the embedded digits as `digits` */
    const char *actor; /* who registers them, for the ledger */
};

int datasets_open(struct datasets **datasetsp, struct store *store,
                  const struct datasets_config *config, char *text, size_t size);
struct datasets *datasets_close(struct datasets *datasets); /* takes NULL, returns NULL */

/* What is to be known of data before they are registered. */
struct dataset_load {
    struct dataset_spec spec; /* complete; its lists are those of the given one and `shape` */
    int64_t shape[PSG_MAX_RANK];
    int64_t n_train, n_test;
    uint8_t sha256[32]; /* of the train split's content */
};

/* Checks the spec, reads all of the data once beneath root (datasets_root()) and digests them: from
 * any thread, for as long as it takes. load holds pointers into itself and into spec: it must not
 * be moved. 0 or ERROR_REFUSED. */
int dataset_load(struct dataset_load *load, const struct dataset_spec *spec, int root,
                 struct problem *p);

/* Registers what was loaded. *createdp is false when the same content is registered under the
 * same id already (then nothing changes). */
int datasets_enter(struct datasets *datasets, const struct dataset_load *load,
                   const char *actor, struct answer *answer, bool *createdp,
                   struct problem *p); /* dataset_view */

/* Both, on the calling thread. */
int datasets_register(struct datasets *datasets, const struct dataset_spec *spec,
                      const char *actor, struct answer *answer, bool *createdp,
                      struct problem *p); /* dataset_view */
int datasets_get(struct datasets *datasets, const char *id, struct answer *answer,
                 struct problem *p);
/* In order of registration; after NULL: from the first. */
int datasets_list(struct datasets *datasets, const char *after, int limit,
                  struct answer *answer, struct problem *p);

int datasets_budget(struct datasets *datasets, const char *id, struct answer *answer,
                    struct problem *p);
/* Rows of the ledger that concern this dataset with seq > after. */
int datasets_ledger(struct datasets *datasets, const char *id, uint64_t after, int limit,
                    struct answer *answer, struct problem *p);

/* An Idempotency-Key: the same owner, text and fingerprint (of what is asked) within 24 hours
 * answers the first change again, with replayed = true; another fingerprint is refused. */
struct datasets_key {
    const char *text;
    uint8_t fingerprint[32];
    bool replayed; /* out */
};

/* Raises the cap, freezes or thaws. Lowering the cap below what is spent is refused. key NULL:
 * none. */
int datasets_change(struct datasets *datasets, const char *id,
                    const struct budget_change *change, const char *actor,
                    struct datasets_key *key, struct answer *answer, struct problem *p);

/* Counts what was released elsewhere. */
int datasets_import(struct datasets *datasets, const char *id, const struct ledger_import *import,
                    const char *actor, struct datasets_key *key, struct answer *answer,
                    struct problem *p);

/* ---- for jobs ---- */

struct dataset_record {
    int64_t num; /* order of registration */
    char *id, *sha256, *owner;
    struct dataset_spec *spec; /* complete: shape and nominal size are known */
    int64_t n_train, n_test;   /* n_train is private */
    int64_t created_at;
};

/* ERROR_REFUSED with PROBLEM_NOT_FOUND when there is none. */
int datasets_find(struct datasets *datasets, enum store_side side, const char *id,
                  struct dataset_record *record, struct problem *p);
void dataset_record_clear(struct dataset_record *record);

/* Descriptor of the folder that file names are relative to, or -1. */
int datasets_root(const struct datasets *datasets);

#endif
