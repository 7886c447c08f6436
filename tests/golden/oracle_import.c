/* oracle_import DIR [--format torchscript,onnx,pt2] [--mode hooks,ew,...] [--verbose] [--tap]
 *
 * Every model file of DIR beside its reference NAME.safetensors: imported, trained on for one
 * batch in every mode; output, loss, norm and per-sample gradients are compared. A file of a
 * format that has no reader, or that cannot be expressed, is a failed case. Last line: "N passed, N
 * failed". With --tap: a TAP line for each case. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "case.h"
#include "psg/import.h"
#include "psg/plan.h"

enum { FORMATS = 3 };
static const struct {
    const char *name, *suffix;
} formats[FORMATS] = { { "torchscript", ".pt" }, { "onnx", ".onnx" }, { "pt2", ".pt2" } };

/* Of the README beside the data: imported models. */
static const double GRAD_TOLERANCE = 5e-6, OUTPUT_TOLERANCE = 2e-6, LOSS_TOLERANCE = 5e-6;

struct options {
    bool mode[PSG_MODE_COUNT], format[FORMATS];
    bool verbose, tap;
    const char *dir;
    int passed, failed;
};

struct result {
    char why[600];
    double worst;
    char worst_at[96];
};

static void fail(struct result *r, const char *place, const char *text)
{
    if (!r->why[0])
        snprintf(r->why, sizeof r->why, "%.200s%s%.380s", place ? place : "",
                 place && *place ? ": " : "", text);
}

static double largest(const struct tensor *t)
{
    double m = 0;
    for (int64_t i = 0; i < t->size; i++)
        m = fmax(m, fabs(tensor_at(t, i)));
    return m;
}

static void check_number(struct result *r, const char *what, int64_t i, double got,
                         double want, double tolerance, double scale)
{
    double error = fabs(got - want), over = error == 0 ? 0 : error / (tolerance * scale);
    if (!(over <= r->worst)) {
        r->worst = over;
        snprintf(r->worst_at, sizeof r->worst_at, "%.60s[%lld]", what, (long long)i);
    }
    if (!(over <= 1) && !r->why[0])
        snprintf(r->why, sizeof r->why, "%s[%lld] is %.9g, should be %.9g (scale %.3g)",
                 what, (long long)i, got, want, scale);
}

static void check_reals(struct result *r, const char *what, const psg_real *got, int64_t n,
                        const struct tensor *ref, double tolerance)
{
    if (!ref || ref->size != n) {
        fail(r, what, "the reference has another size, or none");
        return;
    }
    double scale = largest(ref);
    for (int64_t i = 0; i < n; i++)
        check_number(r, what, i, (double)got[i], tensor_at(ref, i), tolerance, scale);
}

/* A drawn model says how far PyTorch's own float32 is off. */
static double tolerance_of(const struct golden_case *c, const char *key, double least)
{
    const json_t *number = json_object_get(c->info, key);
    return json_is_number(number) ? fmax(json_number_value(number), least) : least;
}

/* ---- one model ---- */
struct model {
    const struct golden_case *c;
    struct psg_import *imp;
    struct psg_program *program;
    psg_real *params;
    int64_t n;
};

static enum psg_column_type column_type(const struct tensor *t)
{
    return t->dtype[0] == 'I'             ? PSG_COL_I64
           : strcmp(t->dtype, "F64") == 0 ? PSG_COL_F64
                                          : PSG_COL_F32;
}

static struct psg_column column_of(const struct tensor *t)
{
    struct psg_column c = { .type = column_type(t), .data = t->data };
    c.stride = c.type == PSG_COL_F32 ? 4 : 8;
    for (int i = 1; i < t->rank; i++)
        c.stride *= (size_t)t->dim[i];
    return c;
}

/* Loss of one sample, as the case says. */
static int add_loss(struct model *m, struct psg_error *err)
{
    const struct tensor *target = case_tensor(m->c, "target");
    const json_t *loss = json_object_get(m->c->info, "loss");
    const char *kind = case_text(loss, "kind", "cross_entropy");
    struct psg_shape shape = psg_shape_make(target->rank - 1, target->dim + 1);
    psg_value v[2] = { psg_import_output(m->imp), PSG_NONE }, out;
    enum psg_dtype dtype = target->dtype[0] == 'I' ? PSG_I64 : PSG_REAL;
    int r = psg_program_input(m->program, "target", dtype, &shape, &v[1], err);
    if (strcmp(kind, "mse") == 0)
        kind = "mse_loss";
    if (r == 0)
        r = psg_program_add(m->program, kind, "loss", v, 2, NULL, NULL, 0, &out, NULL, err);
    if (r == 0)
        r = psg_program_set_loss(m->program, out, err);
    return r ? r : psg_program_check(m->program, err);
}

static int open_model(struct model *m, const uint8_t *bytes, size_t size, const char *file,
                      struct psg_error *err)
{
    const struct tensor *input = case_tensor(m->c, "input");
    struct psg_import_input in = { .dtype = input->dtype[0] == 'I' ? PSG_I64 : PSG_REAL,
                                   .shape =
                                       psg_shape_make(input->rank - 1, input->dim + 1) };
    struct psg_import_options o = { .inputs = &in, .n_inputs = 1, .training = -1 };
    m->n = input->dim[0];
    int r = psg_import_torchscript(bytes, size, file, &o, &m->imp, err);
    if (r)
        return r;
    m->program = psg_import_program(m->imp);
    if ((r = add_loss(m, err)))
        return r;
    m->params = calloc((size_t)psg_program_param_size(m->program) + 1, sizeof *m->params);
    return m->params ? psg_import_params(m->imp, m->params, err)
                     : psg_fail(err, PSG_E_NOMEM, file, "out of memory");
}

static void check_gradients(const struct model *m, const psg_real *rows, struct result *r)
{
    double overall = 0, tolerance = tolerance_of(m->c, "tolerance", GRAD_TOLERANCE);
    int n_ref = 0, n_own = 0;
    for (int i = 0; i < m->c->n_tensors; i++)
        if (strncmp(m->c->tensors[i].name, "grad.", 5) == 0) {
            overall = fmax(overall, largest(&m->c->tensors[i]));
            n_ref++;
        }
    int64_t length = psg_program_trainable_size(m->program);
    for (int i = 0; i < psg_program_n_params(m->program); i++) {
        const struct psg_param_info *p = psg_program_param(m->program, i);
        const struct tensor *ref = case_tensor(m->c, "grad.%s", p->name);
        if (!p->trainable)
            continue;
        n_own++;
        if (!ref || ref->size != m->n * p->size) {
            fail(r, p->name, "the reference has no gradient of that name and size");
            return;
        }
        double scale = fmax(largest(ref), 0.01 * overall);
        for (int64_t k = 0; k < ref->size; k++)
            check_number(r, p->name, k,
                         (double)rows[k / p->size * length + p->offset + k % p->size],
                         tensor_at(ref, k), tolerance, scale);
    }
    if (n_own != n_ref)
        fail(r, "parameters", "not all that the reference has a gradient of");
}

static void check_mode(const struct model *m, enum psg_mode mode, struct result *r)
{
    struct psg_plan_options o = { .mode = mode, .n_threads = 1, .tile = 3 };
    struct psg_error err = { 0 };
    _cleanup_(psg_plan_freep) struct psg_plan *plan = NULL;
    if (psg_plan_new(m->program, &o, &plan, &err)) {
        fail(r, err.place, err.text);
        return;
    }
    int64_t out_size = psg_shape_size(&psg_program_output_type(m->program)->shape);
    size_t rows = (size_t)(m->n * psg_program_trainable_size(m->program)), n = (size_t)m->n;
    _cleanup_free_ psg_real *row = calloc(rows + 1, sizeof *row);
    _cleanup_free_ psg_real *loss = calloc(n + 1, sizeof *loss);
    _cleanup_free_ psg_real *output = calloc(n * (size_t)out_size + 1, sizeof *output);
    _cleanup_free_ psg_real *norm = calloc(n + 1, sizeof *norm);
    _cleanup_free_ double *sq = calloc(n + 1, sizeof *sq);
    struct psg_key key;
    psg_key_from_seed(1, &key);
    struct psg_column column[] = { column_of(case_tensor(m->c, "input")),
                                   column_of(case_tensor(m->c, "target")) };
    struct psg_records records = { .n = m->n, .column = column, .key = &key };
    struct psg_grad_out out = { .rows = row, .sqnorm = sq, .loss = loss, .output = output };
    if (!row || !loss || !output || !norm || !sq) {
        fail(r, NULL, "out of memory");
        return;
    }
    if (psg_grad_sample(plan, m->params, &records, &out, &err)) {
        fail(r, err.place, err.text);
        return;
    }
    for (int64_t i = 0; i < m->n; i++)
        norm[i] = (psg_real)sqrt(sq[i]);
    check_reals(r, "output", output, m->n * out_size, case_tensor(m->c, "output"),
                tolerance_of(m->c, "output_tolerance", OUTPUT_TOLERANCE));
    check_reals(r, "loss", loss, m->n, case_tensor(m->c, "loss"),
                tolerance_of(m->c, "output_tolerance", LOSS_TOLERANCE));
    check_reals(r, "norm", norm, m->n, case_tensor(m->c, "norm"),
                tolerance_of(m->c, "tolerance", LOSS_TOLERANCE));
    check_gradients(m, row, r);
}

static void report(struct options *o, const char *file, const char *mode,
                   const struct result *r)
{
    bool pass = r->why[0] == '\0';
    o->passed += pass;
    o->failed += !pass;
    if (o->tap)
        printf("%s %d - %s %s%s%s\n", pass ? "ok" : "not ok", o->passed + o->failed, mode,
               file, pass ? "" : ": ", r->why);
    else if (!pass)
        printf("FAILED %s %s: %s\n", mode, file, r->why);
    else if (o->verbose)
        printf("ok %s %s: largest error %.2g of the tolerance, at %s\n", mode, file,
               r->worst, r->worst_at);
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long n = -1;
    if (f && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 &&
        fseek(f, 0, SEEK_SET) == 0)
        bytes = malloc((size_t)n + 1);
    if (bytes && fread(bytes, 1, (size_t)n, f) != (size_t)n) {
        free(bytes);
        bytes = NULL;
    }
    if (f)
        fclose(f);
    *size = bytes ? (size_t)n : 0;
    return bytes;
}

static void run_file(struct options *o, const struct golden_case *c, const char *path,
                     const char *file, int format)
{
    struct model m = { .c = c };
    struct psg_error err = { 0 };
    struct result opened = { .why = "" };
    size_t size;
    _cleanup_free_ uint8_t *bytes = read_file(path, &size);
    if (!bytes)
        fail(&opened, file, "cannot be read");
    else if (format != 0)
        fail(&opened, file, "there is no reader of this format");
    else if (open_model(&m, bytes, size, file, &err))
        fail(&opened, err.place, err.text);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct result r = opened;
        if (!o->mode[mode])
            continue;
        if (!r.why[0])
            check_mode(&m, (enum psg_mode)mode, &r);
        report(o, file, psg_mode_name((enum psg_mode)mode), &r);
    }
    free(m.params);
    psg_import_free(m.imp);
}

/* ---- the folder ---- */
/* NAME of the longest NAME.safetensors that the file's name begins with. */
static bool reference_of(const struct options *o, const char *file, char *path, size_t size)
{
    char stem[512];
    snprintf(stem, sizeof stem, "%s", file);
    for (char *dot; (dot = strrchr(stem, '.'));) {
        *dot = '\0';
        snprintf(path, size, "%s/%s.safetensors", o->dir, stem);
        FILE *f = fopen(path, "rb");
        if (f) {
            fclose(f);
            return true;
        }
    }
    return false;
}

static int format_of(const char *file)
{
    const char *dot = strrchr(file, '.');
    for (int i = 0; dot && i < FORMATS; i++)
        if (strcmp(dot, formats[i].suffix) == 0)
            return i;
    return -1;
}

static void run_entry(struct options *o, const char *file)
{
    int format = format_of(file);
    char reference[1200], path[1200], why[160] = "";
    struct golden_case c;
    if (format < 0 || !o->format[format])
        return;
    snprintf(path, sizeof path, "%s/%s", o->dir, file);
    struct result r = { .why = "" };
    bool found = reference_of(o, file, reference, sizeof reference);
    if (found && case_open(&c, reference, why, sizeof why) == 0) {
        run_file(o, &c, path, file, format);
        case_close(&c);
        return;
    }
    fail(&r, reference, found ? why : "there is no reference beside it");
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++)
        if (o->mode[mode])
            report(o, file, psg_mode_name((enum psg_mode)mode), &r);
}

static bool take_word(struct options *o, const char *word, bool mode)
{
    int m = psg_mode_find(word);
    if (mode && m >= 0)
        o->mode[m] = true;
    for (int i = 0; !mode && i < FORMATS; i++)
        if (strcmp(word, formats[i].name) == 0) {
            o->format[i] = true;
            return true;
        }
    return mode && m >= 0;
}

static bool take_list(struct options *o, char *text, bool mode)
{
    char *save = NULL;
    bool ok = true;
    for (char *w = strtok_r(text, ",", &save); ok && w; w = strtok_r(NULL, ",", &save))
        ok = take_word(o, w, mode);
    return ok;
}

static bool parse_args(int argc, char **argv, struct options *o)
{
    bool any_mode = false, any_format = false, ok = true;
    for (int i = 1; ok && i < argc; i++) {
        bool mode = strcmp(argv[i], "--mode") == 0;
        if ((mode || strcmp(argv[i], "--format") == 0) && i + 1 < argc) {
            any_mode |= mode;
            any_format |= !mode;
            ok = take_list(o, argv[++i], mode);
        } else if (strcmp(argv[i], "--verbose") == 0) {
            o->verbose = true;
        } else if (strcmp(argv[i], "--tap") == 0) {
            o->tap = true;
        } else if (argv[i][0] != '-' && !o->dir) {
            o->dir = argv[i];
        } else {
            ok = false;
        }
    }
    for (int m = 0; !any_mode && m < PSG_MODE_COUNT; m++)
        o->mode[m] = true;
    for (int i = 0; !any_format && i < FORMATS; i++)
        o->format[i] = true;
    return ok && o->dir;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct dirent **entry;
    if (!parse_args(argc, argv, &o)) {
        fprintf(stderr, "usage: oracle_import DIR [--format torchscript,onnx,pt2] "
                        "[--mode hooks,functorch,ew,ghost,auto] [--verbose] [--tap]\n");
        return 2;
    }
    int n = scandir(o.dir, &entry, NULL, alphasort);
    if (n < 0 && o.tap) {
        printf("1..0 # SKIP no reference data at %s\n", o.dir);
        return 0;
    }
    if (n < 0) {
        fprintf(stderr, "oracle_import: cannot read %s\n", o.dir);
        return 2;
    }
    for (int i = 0; i < n; i++) {
        run_entry(&o, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    if (o.tap)
        printf("1..%d\n", o.passed + o.failed);
    else
        printf("%d passed, %d failed\n", o.passed, o.failed);
    return o.failed > 0;
}
