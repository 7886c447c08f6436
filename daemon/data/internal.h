/* What the files of the registry share: datasets.c changes it, answers.c tells of it. */
#ifndef DAEMON_DATA_INTERNAL_H
#define DAEMON_DATA_INTERNAL_H

#include "data/datasets.h"

struct datasets {
    struct store *store;
    int root_dir;
};

#define DATASET_COLUMNS "num, id, sha256, spec, n_train, n_test, owner, created_at"

/* A row of DATASET_COLUMNS; clear the record whatever it answers. */
int dataset_record_read(sqlite3_stmt *stmt, struct dataset_record *record, struct problem *p);

/* ---- keys.c; inside of the change, key may be NULL ---- */

/* Answers the change that this owner made with the key before, with key->replayed = true. */
int datasets_key_find(struct store *store, const char *owner, struct datasets_key *key,
                      struct answer *answer, struct problem *p);
int datasets_key_remember(struct store *store, const char *owner, const struct datasets_key *key,
                          const struct answer *answer, struct problem *p);

/* dataset_view */
int datasets_answer(struct datasets *datasets, enum store_side side, const char *id,
                    struct answer *answer, struct problem *p);

#endif
