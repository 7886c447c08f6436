/* Every JSON file among the examples is decoded, and every job there is planned against the dataset
 * that it names: the embedded digits, or the example of that name. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/data.h"
#include "job/plan.h"
#include "suite.h"

enum { FILES_MAX = 64 };

static struct problem p;
static char *file[FILES_MAX]; /* contents */
static char *name[FILES_MAX];
static int n_files;

static const char digits[] = "{\"name\": \"digits\", \"format\": \"embedded\","
                             " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}";

static const char *why(void)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s %s %s", p.detail,
             p.n_errors > 0 ? p.errors[0].pointer : "",
             p.n_errors > 0 ? p.errors[0].message : "");
    return text;
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 16);
    if (f && text && fread(text, 1, (1 << 16) - 1, f) == 0) {
        free(text);
        text = NULL;
    }
    if (f)
        fclose(f);
    return f ? text : NULL;
}

static bool read_examples(const char *dir)
{
    DIR *d = opendir(dir);
    char path[4096];
    for (struct dirent *e; d && n_files < FILES_MAX && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".json") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        name[n_files] = strdup(e->d_name);
        file[n_files] = read_all(path);
        if (!name[n_files] || !file[n_files])
            return false;
        n_files++;
    }
    if (d)
        closedir(d);
    return n_files > 0;
}

/* A job trains, a dataset does not. */
static bool is_job(const char *text)
{
    return strstr(text, "\"train\":") != NULL && strstr(text, "\"model\":") != NULL;
}

/* The spec of the dataset of this name, complete; NULL: no example has it. */
static struct dataset_spec *dataset_named(const char *wanted)
{
    for (int i = -1; i < n_files; i++) {
        const char *text = i < 0 ? digits : file[i];
        struct dataset_spec *spec = NULL;
        if (is_job(text) || dataset_spec_decode(&spec, text, strlen(text), &p))
            continue;
        if (strcmp(spec->name, wanted) != 0) {
            dataset_spec_free(spec);
            continue;
        }
        data_complete_spec(spec);
        if (i < 0)
            spec->nominal_size = 1400;
        return spec;
    }
    return NULL;
}

static void plan_job(const char *title, const char *text)
{
    struct job_spec *spec = NULL;
    struct plan_limits limits = { .n_threads = 1 };
    struct plan *plan = NULL;
    int r = job_spec_decode(&spec, text, strlen(text), &p);
    ck_assert_msg(r == 0, "%s: %s", title, why());
    struct dataset_spec *dataset = dataset_named(spec->dataset);
    ck_assert_msg(dataset != NULL, "%s: no example is the dataset %s", title, spec->dataset);
    problem_init(&p);
    r = plan_make(spec, dataset, 1e-5, &limits, &plan, &p);
    ck_assert_msg(r == 0, "%s: %s", title, why());
    ck_assert_int_gt(plan->steps, 0);
    ck_assert_double_gt(plan->noise_multiplier, 0);
    plan_free(plan);
    dataset_spec_free(dataset);
    job_spec_free(spec);
}

START_TEST(an_example_is_decoded_and_planned)
{
    if (is_job(file[_i])) {
        plan_job(name[_i], file[_i]);
        return;
    }
    struct dataset_spec *spec = NULL;
    int r = dataset_spec_decode(&spec, file[_i], strlen(file[_i]), &p);
    ck_assert_msg(r == 0, "%s: %s", name[_i], why());
    dataset_spec_free(spec);
}
END_TEST

int main(void)
{
    const char *dir = getenv("EXAMPLES");
    if (!dir || !read_examples(dir)) {
        printf("1..0\nBail out! no examples in %s\n", dir ? dir : "EXAMPLES");
        return 1;
    }
    Suite *suite = suite_create("examples");
    TCase *tc = tcase_create("examples");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, an_example_is_decoded_and_planned, 0, n_files);
    suite_add_tcase(suite, tc);
    int r = suite_run(suite);
    for (int i = 0; i < n_files; i++) {
        free(file[i]);
        free(name[i]);
    }
    return r;
}
