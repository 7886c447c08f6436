/* The part of the pickle format (protocol 2) that model archives use, read into plain values.
 *
 * Nothing is executed: GLOBAL makes a name, and REDUCE and NEWOBJ understand a fixed list of
 * names (tensors, ordered dicts, typed lists, the archive's own __torch__ classes). Any other
 * opcode or name is refused with its offset. */
#ifndef IMPORT_PICKLE_H
#define IMPORT_PICKLE_H

#include "import/value.h"

int pickle_read(struct im_pool *pool, const uint8_t *bytes, size_t size, const char *place,
                struct im_value *out, struct psg_error *err);

#endif
