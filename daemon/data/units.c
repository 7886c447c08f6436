/* Records by user: the units of jobs that protect all records of a user at once. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"

struct owned {
    int64_t user, record;
};

static int compare(const void *a, const void *b)
{
    const struct owned *x = a, *y = b;
    if (x->user != y->user)
        return x->user < y->user ? -1 : 1;
    return (x->record > y->record) - (x->record < y->record);
}

int data_units_open(const struct dataset_spec *spec, struct data *data, struct problem *p)
{
    size_t column = dataset_user_column(spec->n_columns, spec->columns);
    int64_t n = data->part[DATA_TRAIN].n, n_units = 0;
    if (column == spec->n_columns || n == 0)
        return 0;
    const int64_t *user = data->columns[column].values[DATA_TRAIN];
    _cleanup_free_ struct owned *owned = calloc((size_t)n, sizeof *owned);
    data->unit_first = calloc((size_t)n + 1, sizeof *data->unit_first);
    data->unit_record = calloc((size_t)n, sizeof *data->unit_record);
    if (!owned || !data->unit_first || !data->unit_record)
        return error_nomem(p);
    for (int64_t i = 0; i < n; i++)
        owned[i] = (struct owned){ user[i], i };
    qsort(owned, (size_t)n, sizeof *owned, compare);
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || owned[i].user != owned[i - 1].user)
            data->unit_first[n_units++] = i;
        data->unit_record[i] = owned[i].record;
    }
    data->unit_first[n_units] = n;
    data->n_units = n_units;
    return 0;
}
