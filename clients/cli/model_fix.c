/* dpsgctl model fix: layers that mix samples become ones that do not, in a model in JSON. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "model.h"

enum { DEPTH_MAX = MODEL_LAYER_DEPTH_MAX };

struct fixer {
    int n_fixed, n_stuck;
    char pointer[PROBLEM_POINTER_MAX];
};

static void tell(const struct fixer *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void tell(const struct fixer *f, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "%s: %s\n", f->pointer, text);
}

/* batch_norm: name, params, in, trainable, affine and eps stay; so do the parameters' names. */
static void fix_batch_norm(struct fixer *f, json_t *layer, const char *op, bool positions)
{
    const json_t *features = json_object_get(layer, "num_features");
    int64_t channels = json_integer_value(features);
    if (!json_is_integer(features) || channels < 1) {
        tell(f, "%s: num_features is not a number of channels, so the groups cannot be chosen; "
             "give it", op);
        f->n_stuck++;
        return;
    }
    int64_t groups = psg_group_norm_groups(channels, positions);
    tell(f, "%s became group_norm with %lld groups of the %lld channels; momentum and running "
         "statistics are gone", op, (long long)groups, (long long)channels);
    json_object_set_new(layer, "op", json_string("group_norm"));
    json_object_set_new(layer, "num_groups", json_integer(groups));
    json_object_set_new(layer, "num_channels", json_integer(channels));
    json_object_del(layer, "num_features");
    json_object_del(layer, "momentum");
    json_object_del(layer, "track_running_stats");
    json_object_del(layer, "process_group");
    f->n_fixed++;
}

static void fix_layer(struct fixer *f, json_t *layer)
{
    const json_t *name = json_object_get(layer, "op");
    char op[64];
    snprintf(op, sizeof op, "%s", json_is_string(name) ? json_string_value(name) : "");
    const struct psg_unprivate *known = psg_unprivate_find(op);
    if (known && known->with == PSG_REPLACE_GROUP_NORM) {
        fix_batch_norm(f, layer, op, known->positions);
    } else if (strncmp(op, "instance_norm", 13) == 0 &&
               json_is_true(json_object_get(layer, "track_running_stats"))) {
        tell(f, "%s has no running statistics any more (track_running_stats)", op);
        json_object_del(layer, "track_running_stats");
        json_object_del(layer, "momentum");
        f->n_fixed++;
    }
}

/* All layers, with those inside of others. */
static void fix_layers(struct fixer *f, json_t *top, const char *prefix)
{
    struct {
        json_t *list;
        size_t next, length; /* of the pointer before this list */
    } stack[DEPTH_MAX] = { { .list = top } };
    size_t depth = 1, at = (size_t)snprintf(f->pointer, sizeof f->pointer, "%s", prefix);
    stack[0].length = at;
    while (depth) {
        json_t *layer = json_array_get(stack[depth - 1].list, stack[depth - 1].next);
        if (!layer) {
            depth--;
            continue;
        }
        at = stack[depth - 1].length;
        int n = snprintf(f->pointer + at, sizeof f->pointer - at, "/layers/%zu",
                         stack[depth - 1].next++);
        fix_layer(f, layer);
        json_t *inner = json_object_get(layer, "layers");
        if (!json_is_array(inner))
            continue;
        if (depth == DEPTH_MAX || n < 0 || at + (size_t)n + 40 > sizeof f->pointer) {
            tell(f, "layers nested deeper than %d are not looked at", DEPTH_MAX);
            f->n_stuck++;
            continue;
        }
        stack[depth].list = inner;
        stack[depth].next = 0;
        stack[depth++].length = at + (size_t)n;
    }
}

static int write_out(const char *path, const json_t *root)
{
    _cleanup_free_ char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    FILE *out = !path || strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    bool failed = !text || !out;
    if (!failed)
        failed = fprintf(out, "%s\n", text) < 0;
    if (out && out != stdout)
        failed |= fclose(out) != 0;
    if (failed)
        fprintf(stderr, "dpsgctl model fix: %s: cannot be written\n", path ? path : "-");
    return failed ? EXIT_FAILED : EXIT_SUCCEEDED;
}

static int fix_json(const char *file, const char *output, const char *text, size_t size)
{
    json_error_t where;
    struct fixer f = { 0 };
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        fprintf(stderr, "dpsgctl model fix: %s: line %d, column %d: %s\n", file, where.line,
                where.column, where.text);
        return EXIT_FAILED;
    }
    json_t *model = json_object_get(root, "model");
    json_t *layers = json_object_get(model ? model : root, "layers");
    int r = EXIT_FAILED;
    if (!json_is_array(layers)) {
        fprintf(stderr, "dpsgctl model fix: %s: neither a job nor a model: no list of layers\n",
                file);
    } else {
        fix_layers(&f, layers, model ? "/model" : "");
        fprintf(stderr, "%d layer%s changed", f.n_fixed, f.n_fixed == 1 ? "" : "s");
        fprintf(stderr, f.n_stuck ? ", %d could not be\n" : "\n", f.n_stuck);
        r = write_out(output, root);
    }
    json_decref(root);
    return r ? r : f.n_stuck ? EXIT_FAILED : EXIT_SUCCEEDED;
}

int command_model_fix(struct cli *cli, int argc, char **argv)
{
    const char *file, *output = NULL;
    const struct args_option options[] = {
        { "output", "OUT", ARGS_TEXT, &output, "where the new model goes (standard output)" },
    };
    const struct args_spec spec = {
        "model fix",
        "FILE",
        "Replaces what mixes samples in a job or model (JSON) by what does not: batch_norm by "
        "group_norm (32\ngroups, or the most below that divide the channels), instance_norm's "
        "running statistics by none.\nNames of layers and parameters stay. Every change is told "
        "on standard error. Exit status 1: something\ncould not be replaced.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    char whole[] = "--output";
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = whole;
    int r = args_parse(cli, &spec, argc, argv, &file);
    if (r >= 0)
        return r;
    size_t size;
    _cleanup_free_ char *text = cli_read_file(file, MODEL_FILE_MAX, &size);
    if (!text)
        return EXIT_FAILED;
    if (model_is_archive(text, size)) {
        fprintf(stderr, "dpsgctl model fix: %s: a TorchScript archive cannot be rewritten here: "
                        "its code is not JSON.\nReplace what dpsgctl model check names in the "
                        "Python model (BatchNorm by GroupNorm) and trace it again.\n", file);
        return EXIT_FAILED;
    }
    return fix_json(file, output, text, size);
}
