/* Attributes written as text: "out_features=3 bias=false kernel_size=3,2 eps=1e-3 mode=sum". */
#ifndef TESTS_ATTRS_TEXT_H
#define TESTS_ATTRS_TEXT_H

#include "psg/op.h"

/* true, false; integers; reals (with . or e); comma lists of either ("3," has one element);
 * anything else is a string. NULL when out of memory or the text is malformed. */
struct psg_attrs *attrs_from_text(const char *text);

#endif
