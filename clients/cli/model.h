/* dpsgctl model: what its commands share. */
#ifndef CLI_MODEL_H
#define CLI_MODEL_H

#include "base/error.h"
#include "cli.h"
#include "proto/job_spec.h"
#include "psg/check.h"
#include "psg/import.h"

enum { MODEL_INPUTS_MAX = 16, MODEL_FILE_MAX = 1 << 30 };

/* What the file does not say itself, from the command line. */
struct model_options {
    const char *mode, *loss, *dataset; /* names; dataset: a file as for dataset add */
    const char *weights;               /* safetensors file of the start weights */
    struct args_list inputs;           /* "[NAME=]AxBxC[:int64][@AXIS]" */
    int64_t classes, batch, example_batch, threads;
};

/* One thing that is wrong, from JSON or from an archive. */
struct model_item {
    char place[PROBLEM_POINTER_MAX];
    char code[32], text[PROBLEM_MESSAGE_MAX], remedy[160];
};

struct model_report {
    const char *file;
    const char *kind; /* "job", "model", "torchscript" */
    size_t n_items, n_dropped;
    struct model_item items[PSG_FINDINGS_MAX];
    /* there only when nothing is wrong */
    struct psg_program *program;
    struct psg_import *import; /* owns the program when it is there */
    void *bytes;               /* of the file, as long as import needs them */
    enum psg_mode mode;
    int64_t batch;
};

/* A new report about nothing; NULL: out of memory, which was said. */
struct model_report *model_report_new(const char *file);
void model_report_free(struct model_report *report);
void model_report_add(struct model_report *report, const char *place, const char *code,
                      const char *text, const char *remedy);
/* Findings from number `first` on. */
void model_report_findings(struct model_report *report, const struct psg_findings *f, int first);

/* "[NAME=]AxBxC[:int64][@AXIS]"; 0, or an exit status after it was said. The name lies in text,
 * which is cut. */
int model_input_parse(char *text, struct psg_import_input *input);
/* Whether the bytes are a zip archive. */
bool model_is_archive(const void *bytes, size_t size);

/* Fill the report; an exit status other than 0 was told. The bytes are taken over. */
int model_read_json(struct model_report *report, const struct model_options *o, char *text,
                    size_t size);
int model_read_archive(struct model_report *report, const struct model_options *o, void *bytes,
                       size_t size);

/* Prints table, totals and findings; an exit status. */
int model_print(const struct cli *cli, struct model_report *report, int threads);

#endif
