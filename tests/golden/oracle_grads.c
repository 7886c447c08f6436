/* oracle_grads DIR [--mode hooks,ew,...] [--device cpu,ref,cuda] [--verbose] [--tap]
 *
 * Every reference case of DIR in every mode: output, loss, norm, per-sample gradients of
 * parameters and inputs; DP-SGD trajectories step by step. One line for each failing case with
 * the largest error; what cannot be expressed is a failed case. Last line: "N passed, N failed".
 * With --tap: a TAP line for each case, for the test runner. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "grads.h"
#include "psg/device.h"

enum device { CPU, REF, CUDA, N_DEVICES };

static const char *const device_names[N_DEVICES] = { "cpu", "ref", "cuda" };

struct run_options {
    bool mode[PSG_MODE_COUNT];
    bool device[N_DEVICES];
    const struct psg_backend *backend[N_DEVICES];
    bool verbose, tap;
    const char *dir;
};

struct totals {
    int passed, failed;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_cases(const char *dir, char ***namesp)
{
    DIR *d = opendir(dir);
    char **names = NULL;
    int n = 0;
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 13 || strcmp(e->d_name + len - 12, ".safetensors") != 0)
            continue;
        char **grown = realloc(names, ((size_t)n + 1) * sizeof *names);
        if (!grown || !(grown[n] = strdup(e->d_name))) {
            closedir(d);
            return -1;
        }
        names = grown;
        n++;
    }
    closedir(d);
    if (n > 0)
        qsort(names, (size_t)n, sizeof *names, compare_names);
    *namesp = names;
    return n;
}

/* The entry of index.json for a file, or NULL. */
static const json_t *index_entry(const json_t *index, const char *file)
{
    size_t i;
    const json_t *e;
    json_array_foreach(index, i, e)
    {
        if (strcmp(case_text(e, "file", ""), file) == 0)
            return e;
    }
    return NULL;
}

static bool parse_list(const char *text, bool (*take)(struct run_options *, const char *),
                       struct run_options *o)
{
    char *copy = strdup(text), *save = NULL;
    bool ok = copy != NULL;
    for (char *word = strtok_r(copy, ",", &save); ok && word; word = strtok_r(NULL, ",", &save))
        ok = take(o, word);
    free(copy);
    return ok;
}

static bool take_mode(struct run_options *o, const char *word)
{
    int mode = psg_mode_find(word);
    if (mode >= 0)
        o->mode[mode] = true;
    return mode >= 0;
}

static bool take_device(struct run_options *o, const char *word)
{
    for (int i = 0; i < N_DEVICES; i++)
        if (strcmp(word, device_names[i]) == 0)
            return o->device[i] = true;
    return false;
}

static bool parse_args(int argc, char **argv, struct run_options *o)
{
    bool any_mode = false, ok = true;
    for (int i = 1; ok && i < argc; i++) {
        if (strcmp(argv[i], "--mode") == 0 && i + 1 < argc) {
            any_mode = true;
            ok = parse_list(argv[++i], take_mode, o);
        } else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
            ok = parse_list(argv[++i], take_device, o);
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
    o->device[CPU] |= !o->device[REF] && !o->device[CUDA];
    return ok && o->dir;
}

static void run_case(const struct run_options *o, const json_t *index, const char *file,
                     struct totals *totals)
{
    char path[1024];
    struct golden_case c;
    snprintf(path, sizeof path, "%s/%s", o->dir, file);
    char opened[160] = "";
    bool ok = case_open(&c, path, opened, sizeof opened) == 0;
    for (int k = 0; k < N_DEVICES * PSG_MODE_COUNT; k++) {
        enum psg_mode mode = (enum psg_mode)(k % PSG_MODE_COUNT);
        int device = k / PSG_MODE_COUNT;
        if (!o->mode[mode] || !o->device[device])
            continue;
        struct outcome out = { .tolerance = case_real(index_entry(index, file), "tolerance", 0),
                               .tolerance_after =
                                   case_real(index_entry(index, file), "tolerance_abs_after5", 0) };
        if (ok)
            case_check(&c, mode, o->backend[device], &out);
        else
            snprintf(out.why, sizeof out.why, "%s", opened);
        bool pass = ok && out.why[0] == '\0';
        totals->passed += pass;
        totals->failed += !pass;
        if (o->tap)
            printf("%s %d - %s %s %s%s%s\n", pass ? "ok" : "not ok",
                   totals->passed + totals->failed, psg_mode_name(mode), device_names[device],
                   file, pass ? "" : ": ", pass ? "" : out.why);
        else if (!pass || o->verbose)
            printf("%s %s %s %s: %s (largest error %.2g of the tolerance, at %s)\n",
                   pass ? "ok" : "FAILED", psg_mode_name(mode), device_names[device], file,
                   pass ? "" : out.why, out.worst, out.worst_at);
    }
    case_close(&c);
}

/* false: there is no GPU; why tells the reason */
static bool open_backends(struct run_options *o, char *why, size_t size)
{
    struct psg_devices gpus;
    struct psg_error err = { 0 };
    o->backend[CPU] = psg_backend_cpu();
    o->backend[REF] = psg_backend_ref();
    if (!o->device[CUDA])
        return true;
    psg_cuda_probe(NULL, &gpus);
    if (gpus.n > 0 && psg_cuda_open(NULL, 0, &o->backend[CUDA], &err) == 0)
        return true;
    snprintf(why, size, "%s", gpus.n > 0 ? err.text : gpus.why);
    return false;
}

int main(int argc, char **argv)
{
    struct run_options o = { 0 };
    struct totals totals = { 0 };
    char path[1024];
    if (!parse_args(argc, argv, &o)) {
        fprintf(stderr, "usage: oracle_grads DIR [--mode hooks,functorch,ew,ghost,auto] "
                        "[--device cpu,ref,cuda] [--verbose] [--tap]\n");
        return 2;
    }
    char **names = NULL, why[320];
    if (!open_backends(&o, why, sizeof why)) {
        printf(o.tap ? "1..0 # SKIP %s\n" : "no GPU: %s\n", why);
        return o.tap ? 0 : 2;
    }
    int n = list_cases(o.dir, &names);
    if (n < 0 && o.tap) {
        printf("1..0 # SKIP no reference data at %s\n", o.dir);
        return 0;
    }
    if (n < 0) {
        fprintf(stderr, "oracle_grads: cannot read %s\n", o.dir);
        return 2;
    }
    snprintf(path, sizeof path, "%s/index.json", o.dir);
    json_t *index = json_load_file(path, 0, NULL);
    for (int i = 0; i < n; i++) {
        run_case(&o, index, names[i], &totals);
        free(names[i]);
    }
    free(names);
    json_decref(index);
    if (o.tap)
        printf("1..%d\n", totals.passed + totals.failed);
    else
        printf("%d passed, %d failed\n", totals.passed, totals.failed);
    return totals.failed > 0;
}
