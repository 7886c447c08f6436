/* A job's layers in JSON as a libpsg program. */
#ifndef DAEMON_JOB_MODEL_H
#define DAEMON_JOB_MODEL_H

#include "base/env.h"
#include "proto/dataset.h"
#include "proto/job_spec.h"
#include "psg/import.h"
#include "psg/program.h"
#include "psg/registry.h"

/* What the dataset gives to the model. */
struct model_data {
    struct psg_type input; /* of one record */
    int64_t classes;       /* -1: real targets */
    size_t n_columns;      /* further inputs, by name */
    const struct dataset_column *columns;
    const struct psg_registry *registry; /* layers of plugins, or NULL */
    /* where files that a job names are read from; uploads is a folder or -1 */
    const struct env *env;
    int uploads;
};

/* One that is a file may have several GB on the disk; more than this is not read. */
enum { MODEL_UPLOAD_MAX = 1 << 30 };

/* A checked program with the inputs "input", "target" and those further columns of the dataset that
 * a layer or the loss names. Layers follow one another unless they say `in`; `sequential` and
 * `residual` contain others; an op is libpsg's or one of the model's own. ERROR_REFUSED with JSON
 * pointers into the spec ("/model/layers/3/kernel_size").
 *
 * A model that is a file is read, imported and given the loss; what the importer refuses is told at
 * "/model/torchscript", with the place in the file. *startp: its parameters [param_size], to be
 * freed; NULL for layers, which are drawn. Thread: any. */
int model_build(const struct job_spec *spec, const struct model_data *data,
                struct psg_program **programp, psg_real **startp, struct problem *p);

/* Reads and imports the file of a model; only the program's loss is missing. *bytesp: the file, which
 * must outlive *impp, to be freed. */
int model_import(const struct job_spec *spec, const struct model_data *data, char **bytesp,
                 struct psg_import **impp, struct problem *p);

/* Whether the loss compares class numbers with one logit for each. */
bool model_loss_wants_class(const struct loss *loss);

#endif
