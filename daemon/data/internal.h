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

/* dataset_view */
int datasets_answer(struct datasets *datasets, enum store_side side, const char *id,
                    struct answer *answer, struct problem *p);

#endif
