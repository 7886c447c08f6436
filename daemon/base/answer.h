/* An answer to a client, encoded already: JSON on one line. */
#ifndef DAEMON_BASE_ANSWER_H
#define DAEMON_BASE_ANSWER_H

#include <stdlib.h>

struct answer {
    char *text; /* malloc'ed; NULL: none */
    size_t size;
};

static inline void answer_clear(struct answer *answer)
{
    free(answer->text);
    *answer = (struct answer){ 0 };
}

#endif
