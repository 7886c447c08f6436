/* A model that is a file. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"
#include "job/model.h"
#include "upload/upload.h"

/* what examining a file may take, besides a few times its size */
enum { IMPORT_MEMORY = 256 << 20 };

static const char pointer[] = "/model/torchscript";

static int refuse_read(int r, struct problem *p)
{
    if (r == -ENOMEM)
        return error_nomem(p);
    if (r == -EFBIG)
        problem_invalid(p, pointer, ITEM_TOO_LONG, "a model's file may have %d bytes",
                        (int)MODEL_UPLOAD_MAX);
    else if (r == -EBADMSG)
        problem_invalid(p, pointer, ITEM_FILE,
                        "the file is damaged on the server's disk: delete the upload and send it "
                        "again");
    else
        problem_invalid(p, pointer, ITEM_UNKNOWN_NAME, "there is no complete upload of this digest");
    return ERROR_REFUSED;
}

/* The type of an argument of forward(). */
static bool find_type(const struct model_data *data, const char *name, struct psg_type *type)
{
    if (strcmp(name, "input") == 0) {
        *type = data->input;
        return true;
    }
    for (size_t i = 0; i < data->n_columns; i++)
        if (strcmp(data->columns[i].name, name) == 0 &&
            data->columns[i].kind != DATASET_COLUMN_USER) {
            *type = data_column_type(&data->columns[i]);
            return true;
        }
    return false;
}

static int find_inputs(const struct model *model, const struct model_data *data,
                       struct psg_import_input in[MODEL_FILE_INPUTS_MAX], int *n_inp, struct problem *p)
{
    static const char *const usual[] = { "input" };
    const char *const *names = model->n_inputs ? model->inputs : usual;
    *n_inp = model->n_inputs ? (int)model->n_inputs : 1;
    for (int i = 0; i < *n_inp; i++) {
        struct psg_type type;
        char place[32];
        if (!find_type(data, names[i], &type)) {
            snprintf(place, sizeof place, "/model/inputs/%d", i);
            problem_invalid(p, place, ITEM_UNKNOWN_NAME,
                            "names no column of the dataset, nor \"input\"");
            return ERROR_REFUSED;
        }
        in[i] = (struct psg_import_input){
            .name = names[i], .dtype = type.dtype, .shape = type.shape, .batch_axis = -1
        };
    }
    return 0;
}

int model_import(const struct job_spec *spec, const struct model_data *data,
                 char **bytesp, struct psg_import **impp, struct problem *p)
{
    const struct model *model = &spec->model;
    struct psg_import_input in[MODEL_FILE_INPUTS_MAX];
    struct psg_import_options options = {
        .inputs = in,
        .example_batch = model->example_batch > 0 ? model->example_batch : 0,
        .training = -1,
    };
    _cleanup_free_ char *bytes = NULL;
    size_t size = 0;
    struct psg_error err = { .place = "" };
    int r = find_inputs(model, data, in, &options.n_inputs, p);
    if (r)
        return r;
    r = data->uploads < 0 ? -ENOENT
                          : upload_read(data->env, data->uploads, model->torchscript,
                                        MODEL_UPLOAD_MAX, &bytes, &size);
    if (r < 0)
        return refuse_read(r, p);
    options.memory_limit = IMPORT_MEMORY + 4 * size;
    r = psg_import_torchscript(bytes, size, "model", &options, impp, &err);
    if (r == 0) {
        *bytesp = steal(&bytes);
        return 0;
    }
    char text[sizeof err.text];
    if (err.place[0]) {
        snprintf(text, sizeof text, "%.150s: %.165s", err.place, err.text);
        memcpy(err.text, text, sizeof text);
    }
    return error_from_psg(p, pointer, &err);
}
