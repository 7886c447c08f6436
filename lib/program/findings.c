/* Lists of findings, and the layers that cannot be private. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "psg/check.h"

struct psg_findings {
    int n, room, dropped;
    struct psg_finding *list;
};

struct psg_findings *psg_findings_new(void)
{
    return calloc(1, sizeof(struct psg_findings));
}

struct psg_findings *psg_findings_free(struct psg_findings *f)
{
    if (f)
        free(f->list);
    free(f);
    return NULL;
}

void psg_findings_freep(struct psg_findings **fp)
{
    *fp = psg_findings_free(*fp);
}

int psg_findings_count(const struct psg_findings *f)
{
    return f->n;
}

int psg_findings_dropped(const struct psg_findings *f)
{
    return f->dropped;
}

const struct psg_finding *psg_findings_at(const struct psg_findings *f, int i)
{
    return i >= 0 && i < f->n ? &f->list[i] : NULL;
}

void psg_findings_cut(struct psg_findings *f, int n)
{
    if (n >= 0 && n < f->n)
        f->n = n;
    f->dropped = 0;
}

void psg_findings_add(struct psg_findings *f, const struct psg_error *error, bool mixes,
                      const char *remedy)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->list[i].error.place, error->place) == 0 &&
            strcmp(f->list[i].error.text, error->text) == 0)
            return;
    if (f->n == f->room && f->n < PSG_FINDINGS_MAX) {
        int room = f->room ? 2 * f->room : 16;
        struct psg_finding *list = realloc(f->list, (size_t)room * sizeof *list);
        if (list) {
            f->list = list;
            f->room = room;
        }
    }
    if (f->n == f->room) {
        f->dropped++;
        return;
    }
    struct psg_finding *one = &f->list[f->n++];
    *one = (struct psg_finding){ .error = *error, .mixes = mixes };
    snprintf(one->remedy, sizeof one->remedy, "%s", remedy ? remedy : "");
}

/* ---- layers that mix samples ---- */
#define BATCH_WHY    "its statistics are taken over the batch, so each answer depends on the others"
#define BATCH_REMEDY "use group_norm; dpsgctl model fix rewrites the model"

const struct psg_unprivate *psg_unprivate_find(const char *op)
{
    static const struct psg_unprivate table[] = {
#define BATCH(name, positions) \
    { name, PSG_REPLACE_GROUP_NORM, BATCH_WHY, BATCH_REMEDY, positions }
        BATCH("batch_norm", false),      BATCH("batch_norm1d", false),
        BATCH("batch_norm2d", true),     BATCH("batch_norm3d", true),
        BATCH("sync_batch_norm", false), BATCH("BatchNorm1d", false),
        BATCH("BatchNorm2d", true),      BATCH("BatchNorm3d", true),
        BATCH("SyncBatchNorm", false),
#undef BATCH
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, op) == 0)
            return &table[i];
    return NULL;
}

int64_t psg_group_norm_groups(int64_t channels, bool positions)
{
    int64_t most = positions || channels < 2 ? channels : channels / 2;
    for (int64_t g = most < 32 ? most : 32; g > 1; g--)
        if (channels % g == 0)
            return g;
    return 1;
}
