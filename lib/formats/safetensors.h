/* What reader and writer share. */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "psg/formats.h"

/* "F32" and so on, or NULL. */
const char *safetensors_dtype_name(enum psg_array_dtype dtype);

#endif
