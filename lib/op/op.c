#include "psg/op.h"

#include <string.h>

#include "op/ops.h"

static const struct psg_op *const table[] = {
#define OP(name) &layer_##name,
#include "op/ops.inc"
#undef OP
    NULL,
};

const struct psg_op *psg_op_at(int i)
{
    if (i < 0 || (size_t)i >= sizeof table / sizeof *table)
        return NULL;
    return table[i];
}

const struct psg_op *psg_op_find(const char *name)
{
    for (int i = 0; table[i]; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}
