/* dpsgctl model check: reads a model, without a daemon, and tells everything that is wrong. */
#include "model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "data/data.h"
#include "job/model.h"
#include "job/weights.h"

struct model_report *model_report_new(const char *file)
{
    struct model_report *report = calloc(1, sizeof *report);
    if (!report) {
        fprintf(stderr, "dpsgctl: out of memory\n");
        return NULL;
    }
    report->file = file;
    return report;
}

void model_report_free(struct model_report *report)
{
    if (!report)
        return;
    if (report->import)
        psg_import_free(report->import);
    else
        psg_program_free(report->program);
    free(report->bytes);
    free(report);
}

void model_report_add(struct model_report *report, const char *place, const char *code,
                      const char *text, const char *remedy)
{
    if (report->n_items == PSG_FINDINGS_MAX) {
        report->n_dropped++;
        return;
    }
    struct model_item *item = &report->items[report->n_items++];
    snprintf(item->place, sizeof item->place, "%s", place);
    snprintf(item->code, sizeof item->code, "%s", code);
    snprintf(item->text, sizeof item->text, "%s", text);
    snprintf(item->remedy, sizeof item->remedy, "%s", remedy ? remedy : "");
}

void model_report_findings(struct model_report *report, const struct psg_findings *f, int first)
{
    for (int i = first; i < psg_findings_count(f); i++) {
        const struct psg_finding *one = psg_findings_at(f, i);
        enum problem_item_code code = one->mixes ? ITEM_MIXES_SAMPLES
                                                 : error_item_code(one->error.status);
        model_report_add(report, one->error.place, problem_item_text(code), one->error.text,
                         one->remedy);
    }
    report->n_dropped += (size_t)psg_findings_dropped(f);
}

/* ---- inputs ---- */

static int bad_input(const char *text)
{
    fprintf(stderr, "dpsgctl model: an input is [NAME=]AxBxC[:int64][@BATCH_AXIS], not %s\n",
            text);
    return EXIT_USAGE;
}

/* "8x8" or "" into shape */
static int parse_shape(const char *text, struct psg_shape *shape)
{
    *shape = (struct psg_shape){ 0 };
    while (*text) {
        char *end;
        long long n = strtoll(text, &end, 10);
        if (end == text || n < 1 || n > INT32_MAX || shape->rank == PSG_MAX_RANK ||
            (*end && *end != 'x') || (*end == 'x' && !end[1]))
            return -1;
        shape->dim[shape->rank++] = n;
        text = *end ? end + 1 : end;
    }
    return 0;
}

int model_input_parse(char *text, struct psg_import_input *input)
{
    char *name = strchr(text, '='), *axis = strrchr(text, '@'), *type, *end;
    *input = (struct psg_import_input){ .dtype = PSG_REAL, .batch_axis = -1 };
    if (axis) {
        long n = strtol(axis + 1, &end, 10);
        if (end == axis + 1 || *end || n < 0 || n >= PSG_MAX_RANK)
            return bad_input(text);
        input->batch_axis = (int)n;
        *axis = '\0';
    }
    if (name) {
        *name = '\0';
        input->name = text;
        text = name + 1;
    }
    type = strchr(text, ':');
    if (type) {
        *type++ = '\0';
        if (strcmp(type, "int64") == 0)
            input->dtype = PSG_I64;
        else if (strcmp(type, "float32") != 0)
            return bad_input(type);
    }
    return parse_shape(text, &input->shape) ? bad_input(text) : 0;
}

bool model_is_archive(const void *bytes, size_t size)
{
    return size > 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}

/* ---- JSON ---- */

/* What the model sees of a record, by the command line, a dataset's file or a job's name. */
struct seen {
    struct dataset_spec *dataset;
    struct dataset_spec digits;
    struct dataset_column column[MODEL_INPUTS_MAX];
    int64_t shape[MODEL_INPUTS_MAX][PSG_MAX_RANK];
    struct model_data data;
    char *text[MODEL_INPUTS_MAX];
};

static void seen_close(struct seen *s)
{
    dataset_spec_free(s->dataset);
    for (int i = 0; i < MODEL_INPUTS_MAX; i++)
        free(s->text[i]);
}

static int fail_problem(const struct problem *p, const char *file)
{
    fprintf(stderr, "dpsgctl model: %s: %s\n", file, p->detail[0] ? p->detail : p->title);
    for (size_t i = 0; i < p->n_errors; i++)
        fprintf(stderr, "  %s: %s\n", p->errors[i].pointer, p->errors[i].message);
    return EXIT_FAILED;
}

static void see_dataset(struct seen *s, const struct dataset_spec *spec)
{
    s->data = (struct model_data){ .input = data_input_type(spec),
                                   .classes = spec->classes,
                                   .n_columns = spec->n_columns,
                                   .columns = spec->columns };
}

static int see_file(struct seen *s, const char *file)
{
    struct problem p;
    size_t n;
    char *text = cli_read_file(file, 1u << 20, &n);
    if (!text)
        return EXIT_FAILED;
    problem_init(&p);
    int r = dataset_spec_decode(&s->dataset, text, n, &p);
    free(text);
    if (r)
        return fail_problem(&p, file);
    data_complete_spec(s->dataset);
    if (s->dataset->inputs.n_shape == 0) {
        fprintf(stderr, "dpsgctl model: %s: says no inputs.shape; give --input\n", file);
        return EXIT_USAGE;
    }
    see_dataset(s, s->dataset);
    return 0;
}

/* --input: without a name, or called input, it is the model's input; others are columns */
static int see_inputs(struct seen *s, const struct model_options *o, bool *given)
{
    for (size_t i = 0; i < o->inputs.n && i < MODEL_INPUTS_MAX; i++) {
        struct psg_import_input in;
        s->text[i] = strdup(o->inputs.values[i]);
        int r = s->text[i] ? model_input_parse(s->text[i], &in) : EXIT_FAILED;
        if (r)
            return r;
        if (!in.name || strcmp(in.name, "input") == 0) {
            s->data.input = (struct psg_type){ in.dtype, in.shape };
            *given = true;
            continue;
        }
        if (s->data.columns != s->column)
            s->data.n_columns = 0;
        memcpy(s->shape[i], in.shape.dim, sizeof in.shape.dim);
        s->column[s->data.n_columns++] = (struct dataset_column){
            .name = in.name,
            .kind = in.dtype == PSG_I64 ? DATASET_COLUMN_TOKENS : DATASET_COLUMN_FEATURES,
            .n_shape = (size_t)in.shape.rank,
            .shape = s->shape[i],
        };
        s->data.columns = s->column;
    }
    return 0;
}

static int see(struct seen *s, const struct model_options *o, const struct job_spec *spec)
{
    bool given = false;
    int r = 0;
    s->data.classes = -1;
    if (o->dataset) {
        r = see_file(s, o->dataset);
        given = true;
    } else if (strcmp(spec->dataset, "digits") == 0) {
        s->digits = (struct dataset_spec){ .format = DATASET_EMBEDDED, .normalize.divide_by = 1 };
        data_complete_spec(&s->digits);
        see_dataset(s, &s->digits);
        given = true;
    } else if (model_loss_wants_class(&spec->loss)) {
        s->data.classes = 1; /* not known: any number of logits will do */
    }
    if (r == 0)
        r = see_inputs(s, o, &given);
    if (r == 0 && !given) {
        fprintf(stderr, "dpsgctl model: the file does not say what a record looks like: give "
                        "--input (1x28x28) or --dataset FILE\n");
        r = EXIT_USAGE;
    }
    if (o->classes >= 0)
        s->data.classes = o->classes;
    return r;
}

/* A bare model becomes a job around it. */
static json_t *job_around(json_t *root, const char *loss)
{
    if (json_object_get(root, "model") || !json_object_get(root, "layers"))
        return json_incref(root);
    return json_pack("{s:s, s:O, s:s, s:{s:s, s:f}, s:n, s:{s:i, s:i}}", "dataset", "any",
                     "model", root, "loss", loss ? loss : "cross_entropy", "optimizer", "type",
                     "sgd", "lr", 1.0, "privacy", "train", "batch_size", 1, "steps", 1);
}

static void add_problem(struct model_report *report, const struct problem *p)
{
    bool bare = strcmp(report->kind, "model") == 0;
    for (size_t i = 0; i < p->n_errors; i++) {
        const char *pointer = p->errors[i].pointer;
        if (bare && strncmp(pointer, "/model", 6) == 0 && (!pointer[6] || pointer[6] == '/'))
            pointer += 6;
        model_report_add(report, pointer, p->errors[i].code, p->errors[i].message, NULL);
    }
    if (p->n_errors == 0)
        model_report_add(report, "", problem_slug(p->code), p->detail[0] ? p->detail : p->title,
                         NULL);
}

/* A file of start weights against the program, by the job's own rules. */
static int check_weights(struct model_report *report, const char *file,
                         const struct job_spec *spec)
{
    static const struct weights_spec strict = { .strict = true };
    const struct weights_spec *weights = spec->model.start.weights;
    struct problem p;
    size_t size;
    _cleanup_free_ char *bytes = cli_read_file(file, MODEL_FILE_MAX, &size);
    if (!bytes)
        return EXIT_FAILED;
    problem_init(&p);
    if (weights_compare(weights ? weights : &strict, report->program, bytes, size, NULL, &p))
        add_problem(report, &p);
    return 0;
}

static int check_spec(struct model_report *report, const struct model_options *o,
                      const struct job_spec *spec)
{
    struct seen s = { 0 };
    struct problem p;
    psg_real *start = NULL;
    int r = see(&s, o, spec);
    problem_init(&p);
    s.data.uploads = -1; /* there is no daemon whose they could be */
    if (r == 0 && model_build(spec, &s.data, &report->program, &start, &p))
        add_problem(report, &p);
    if (r == 0 && o->weights && report->program)
        r = check_weights(report, o->weights, spec);
    if (r == 0 && !o->mode)
        report->mode = (enum psg_mode)psg_mode_find(grad_sample_mode_name(spec->grad_sample_mode));
    if (r == 0 && o->batch < 0 && strcmp(report->kind, "job") == 0)
        report->batch = spec->train.batch_size;
    free(start);
    seen_close(&s);
    return r;
}

int model_read_json(struct model_report *report, const struct model_options *o, char *text,
                    size_t size)
{
    json_error_t where;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!root) {
        fprintf(stderr, "dpsgctl model: %s: line %d, column %d: %s\n", report->file, where.line,
                where.column, where.text);
        return EXIT_FAILED;
    }
    json_t *job = job_around(root, o->loss);
    report->kind = job && job != root ? "model" : "job";
    if (job == root && o->loss)
        json_object_set_new(job, "loss", json_string(o->loss));
    _cleanup_free_ char *whole = job ? json_dumps(job, JSON_COMPACT) : NULL;
    json_decref(job);
    json_decref(root);
    if (!whole) {
        fprintf(stderr, "dpsgctl model: %s: out of memory\n", report->file);
        return EXIT_FAILED;
    }
    struct job_spec *spec = NULL;
    struct problem p;
    problem_init(&p);
    if (job_spec_decode(&spec, whole, strlen(whole), &p)) {
        add_problem(report, &p);
        return 0;
    }
    int r = check_spec(report, o, spec);
    job_spec_free(spec);
    return r;
}

/* ---- TorchScript archives ---- */

/* The program's answer, summed up: a loss to have gradients of. */
static int add_sum(struct psg_import *imp, struct psg_error *err)
{
    psg_value y = psg_import_output(imp), loss;
    struct psg_program *p = psg_import_program(imp);
    int r = 0;
    if (psg_program_type(p, y)->shape.rank > 0)
        r = psg_program_add(p, "sum", "loss", &y, 1, NULL, NULL, 0, &loss, NULL, err);
    else
        loss = y;
    return r ? r : psg_program_set_loss(p, loss, err);
}

static int finish_archive(struct model_report *report, struct psg_findings *f)
{
    struct psg_error err;
    struct psg_program *p = psg_import_program(report->import);
    if (psg_import_guessed(report->import)) /* what is used cannot be told */
        return 0;
    int r = add_sum(report->import, &err);
    if (r == 0)
        r = psg_check_program(p, f, &err);
    for (int i = 0; r == 0 && psg_import_unused(report->import, i); i++) {
        struct psg_error unused;
        psg_fail(&unused, PSG_E_INVALID, psg_import_unused(report->import, i),
                 "this parameter is not used in what forward() returns: it has no gradient");
        psg_findings_add(f, &unused, false, "freeze it (requires_grad_(False)) or remove it");
    }
    bool clean = psg_findings_count(f) == 0;
    if (r == 0 && clean)
        r = psg_program_check(p, &err);
    if (r == 0 && clean)
        report->program = p;
    if (r)
        model_report_add(report, err.place, problem_item_text(error_item_code(err.status)),
                         err.text, NULL);
    return 0;
}

int model_read_archive(struct model_report *report, const struct model_options *o, void *bytes,
                       size_t size)
{
    struct psg_import_input input[MODEL_INPUTS_MAX];
    char *text[MODEL_INPUTS_MAX] = { 0 };
    _cleanup_(psg_findings_freep) struct psg_findings *f = psg_findings_new();
    struct psg_error err;
    int n = 0, r = f ? 0 : EXIT_FAILED;
    report->kind = "torchscript";
    report->bytes = bytes;
    for (; r == 0 && n < (int)o->inputs.n && n < MODEL_INPUTS_MAX; n++) {
        text[n] = strdup(o->inputs.values[n]);
        r = text[n] ? model_input_parse(text[n], &input[n]) : EXIT_FAILED;
    }
    if (r == 0 && n == 0) {
        fprintf(stderr, "dpsgctl model: %s: an archive does not say what its inputs look like: "
                        "give --input (1x28x28) for each, without the batch\n", report->file);
        r = EXIT_USAGE;
    }
    if (r == 0) {
        const struct psg_import_options options = { .inputs = input,
                                                    .n_inputs = n,
                                                    .example_batch = o->example_batch,
                                                    .training = 1,
                                                    .findings = f };
        const char *slash = strrchr(report->file, '/');
        if (psg_import_torchscript(bytes, size, slash ? slash + 1 : report->file, &options,
                                   &report->import, &err)) {
            if (psg_findings_count(f) == 0)
                psg_findings_add(f, &err, false, NULL);
        } else
            r = finish_archive(report, f);
        model_report_findings(report, f, 0);
    }
    for (int i = 0; i < MODEL_INPUTS_MAX; i++)
        free(text[i]);
    return r;
}

/* ---- the command ---- */

int command_model_check(struct cli *cli, int argc, char **argv)
{
    struct model_options o = { .classes = -1, .batch = -1, .threads = 1 };
    const char *file;
    const struct args_option options[] = {
        { "input", "SPEC", ARGS_LIST, &o.inputs,
          "[NAME=]AxBxC[:int64][@AXIS]: one record's shape; repeatable" },
        { "dataset", "FILE", ARGS_TEXT, &o.dataset,
          "inputs and classes as in this file (see dataset add)" },
        { "classes", "N", ARGS_INT, &o.classes, "number of classes of the labels" },
        { "loss", "NAME", ARGS_TEXT, &o.loss, "loss of a model without a job (cross_entropy)" },
        { "weights", "FILE", ARGS_TEXT, &o.weights,
          "safetensors file the job would start from (JSON models)" },
        { "mode", "MODE", ARGS_TEXT, &o.mode, "hooks, functorch, ew, ghost or auto" },
        { "batch", "N", ARGS_INT, &o.batch, "expected batch size, for the cost of a step" },
        { "example-batch", "N", ARGS_INT, &o.example_batch,
          "samples in the example a .pt was traced with" },
        { "threads", "N", ARGS_INT, &o.threads, "threads that memory is counted for (1)" },
    };
    const struct args_spec spec = {
        "model check",
        "FILE",
        "Checks the model of a job (JSON), a bare model (JSON) or a TorchScript archive (.pt) and "
        "lists everything\nthat stands in the way of training it privately, with its place and "
        "what to do; otherwise prints what\neach layer is, needs and costs. No daemon is needed. "
        "Exit status 1: something was found.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &file);
    if (r >= 0)
        return r;
    int mode = psg_mode_find(o.mode ? o.mode : "auto");
    if (mode < 0 || o.threads < 1 || o.threads > 1024) {
        fprintf(stderr, "dpsgctl model check: there is no mode %s, or no such number of threads\n",
                o.mode ? o.mode : "auto");
        return EXIT_USAGE;
    }
    size_t size;
    char *bytes = cli_read_file(file, MODEL_FILE_MAX, &size);
    struct model_report *report = bytes ? model_report_new(file) : NULL;
    if (!report) {
        free(bytes);
        return EXIT_FAILED;
    }
    report->mode = (enum psg_mode)mode;
    report->batch = o.batch;
    r = model_is_archive(bytes, size) ? model_read_archive(report, &o, bytes, size)
                                      : model_read_json(report, &o, bytes, size);
    if (r == 0)
        r = model_print(cli, report, (int)o.threads);
    model_report_free(report);
    return r;
}
