/* One reference file: tensors in the safetensors format and a JSON description of the case. The
 * reader is the tests' own, so that it also checks what libpsg writes. */
#ifndef GOLDEN_CASE_H
#define GOLDEN_CASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct tensor {
    const char *name;
    char dtype[8]; /* "F32", "F64", "I64", "U8", "BOOL" */
    int rank;
    int64_t dim[8];
    int64_t size;
    const void *data;
};

struct golden_case {
    char path[512];
    json_t *header, *info; /* whole header; __metadata__.case */
    void *map;
    size_t map_size;
    int n_tensors;
    struct tensor *tensors;
};

/* 0, or -1 with a sentence in why. */
int case_open(struct golden_case *c, const char *path, char *why, size_t why_size);
void case_close(struct golden_case *c);
const struct tensor *case_tensor(const struct golden_case *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
double tensor_at(const struct tensor *t, int64_t i);

/* Attribute readers with defaults. */
const char *case_text(const json_t *o, const char *key, const char *dflt);
double case_real(const json_t *o, const char *key, double dflt);
bool case_flag(const json_t *o, const char *key);

#endif
