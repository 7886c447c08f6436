#include "scripted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

static int read_file(struct scripted *s, const char *path, size_t *sizep, struct psg_error *err)
{
    FILE *f = fopen(path, "rb");
    s->bytes = malloc(FILE_MAX);
    *sizep = f && s->bytes ? fread(s->bytes, 1, FILE_MAX, f) : 0;
    if (f)
        fclose(f);
    return *sizep ? 0 : psg_fail(err, PSG_E_IO, path, "cannot be read");
}

static int add_loss(struct psg_import *import, struct psg_error *err)
{
    struct psg_program *p = psg_import_program(import);
    struct psg_shape scalar = { 0 };
    psg_value v[2] = { psg_import_output(import), PSG_NONE }, loss;
    int r = psg_program_input(p, "target", PSG_I64, &scalar, &v[1], err);
    if (r == 0)
        r = psg_program_add(p, "cross_entropy", "loss", v, 2, NULL, NULL, 0, &loss, NULL, err);
    if (r == 0)
        r = psg_program_set_loss(p, loss, err);
    return r ? r : psg_program_check(p, err);
}

int scripted_open(struct scripted *s, const char *path, const char *input, struct psg_error *err)
{
    struct psg_import_input in = { .dtype = input[0] == 'i' ? PSG_I64 : PSG_REAL };
    const char *text = input[0] == 'i' ? strchr(input, ':') + 1 : input;
    for (char *end; *text; text = *end ? end + 1 : end)
        in.shape.dim[in.shape.rank++] = strtoll(text, &end, 10);
    struct psg_import_options o = { .inputs = &in, .n_inputs = 1, .training = -1 };
    size_t size = 0;
    *s = (struct scripted){ 0 };
    int r = read_file(s, path, &size, err);
    if (r == 0)
        r = psg_import_torchscript(s->bytes, size, path, &o, &s->import, err);
    if (r == 0)
        r = add_loss(s->import, err);
    if (r)
        scripted_close(s);
    return r;
}

void scripted_close(struct scripted *s)
{
    s->import = psg_import_free(s->import);
    free(s->bytes);
    s->bytes = NULL;
}
