/* Models in JSON on datasets with several inputs: what they become, that every mode gives the same
 * per-sample gradients, and where mistakes are. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "data/data.h"
#include "job/plan.h"
#include "suite.h"
#include "tmpdir.h"

enum { N = 6, T = 5 };

static struct problem p;
static int dir;

static void put_file(const char *name, const void *data, size_t size)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
    close(fd);
}

/* a .npy file of version 1.0 */
static void put_npy(const char *name, const char *descr, const char *shape, const void *data,
                    size_t size)
{
    char file[8192], dict[200];
    snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr,
             shape);
    int n = snprintf(file, sizeof file, "\x93NUMPY\x01%c%c%c%-117s\n", 0, 118, 0, dict);
    ck_assert_int_eq(n, 7 + 1 + 2 + 118);
    memcpy(file + 128, data, size);
    put_file(name, file, 128 + size);
}

/* Six reviews of at most five words, with a year, an importance and a tag for each word. */
static void put_reviews(int64_t padding)
{
    int64_t words[N][T], turned[T][N], tags[N][T], lengths[N], label[N];
    float year[N][2], weight[N];
    for (int i = 0; i < N; i++) {
        lengths[i] = i % T + (i == 5);
        label[i] = i % 2;
        weight[i] = (float)(0.5 + 0.25 * i);
        year[i][0] = (float)sin(i);
        year[i][1] = (float)cos(i);
        for (int t = 0; t < T; t++) {
            words[i][t] = t < lengths[i] ? 1 + (3 * i + t) % 6 : padding;
            tags[i][t] = t < lengths[i] ? 1 + (i + t) % 3 : 0;
            turned[t][i] = words[i][t];
        }
    }
    put_npy("x.npy", "<i8", "(6, 5)", words, sizeof words);
    put_npy("turned.npy", "<i8", "(5, 6)", turned, sizeof turned);
    put_npy("tags.npy", "<i8", "(6, 5)", tags, sizeof tags);
    put_npy("lengths.npy", "<i8", "(6,)", lengths, sizeof lengths);
    put_npy("y.npy", "<i8", "(6,)", label, sizeof label);
    put_npy("year.npy", "<f4", "(6, 2)", year, sizeof year);
    put_npy("weight.npy", "<f4", "(6,)", weight, sizeof weight);
}

#define REVIEWS(file, axis)                                                                    \
    "{\"name\": \"reviews\", \"format\": \"npy\", \"public\": true, \"classes\": 2,"           \
    " \"files\": {\"train_inputs\": \"" file "\", \"train_labels\": \"y.npy\"},"               \
    " \"inputs\": {\"kind\": \"tokens\", \"shape\": [5], \"vocabulary\": 7,"                   \
    "              \"record_axis\": " axis "},"                                                \
    " \"columns\": [{\"name\": \"lengths\", \"kind\": \"lengths\", \"train\": \"lengths.npy\"}," \
    "  {\"name\": \"year\", \"train\": \"year.npy\", \"shape\": [2]},"                         \
    "  {\"name\": \"weight\", \"train\": \"weight.npy\"},"                                     \
    "  {\"name\": \"tags\", \"kind\": \"tokens\", \"vocabulary\": 4, \"shape\": [5],"          \
    "   \"train\": \"tags.npy\"}]}"

static struct dataset_spec *dataset_of(const char *text)
{
    struct dataset_spec *spec = NULL;
    int r = dataset_spec_decode(&spec, text, strlen(text), &p);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    data_complete_spec(spec);
    spec->nominal_size = N;
    return spec;
}

static const char *start = ""; /* members of the model beside define and layers */

static int make(const struct dataset_spec *dataset, const char *define, const char *layers,
                const char *loss, struct plan **planp)
{
    char text[4096];
    struct job_spec *spec = NULL;
    struct plan_limits limits = { .n_threads = 1, .uploads = -1 };
    snprintf(text, sizeof text,
             "{\"dataset\": \"reviews\", \"model\": {%s \"define\": {%s}, \"layers\": [%s]},"
             " \"loss\": %s, \"optimizer\": {\"type\": \"sgd\", \"lr\": 0.1},"
             " \"privacy\": {\"noise_multiplier\": 2, \"max_grad_norm\": 1, \"delta\": 1e-5},"
             " \"train\": {\"batch_size\": 3, \"epochs\": 1}}",
             start, define, layers, loss);
    int r = job_spec_decode(&spec, text, strlen(text), &p);
    ck_assert_msg(r == 0, "%s: %s %s", text, p.errors[0].pointer, p.errors[0].message);
    problem_init(&p);
    *planp = NULL;
    r = plan_make(spec, dataset, 1e-5, &limits, planp, &p);
    job_spec_free(spec);
    return r;
}

struct run {
    struct dataset_spec *dataset;
    struct data *data;
    struct plan *plan;
    struct psg_column column[8];
    psg_real *params, *rows, loss[N];
    int64_t size; /* trainable parameters */
};

static void rows_of(struct run *run, enum psg_mode mode, psg_real *rows)
{
    struct psg_plan_options o = { .mode = mode, .tile = 4 };
    struct psg_plan *plan = NULL;
    struct psg_error err;
    struct psg_key key;
    psg_key_from_seed(2, &key);
    struct psg_records records = { .n = N, .column = run->column, .key = &key };
    struct psg_grad_out out = { .rows = rows, .loss = run->loss };
    ck_assert_msg(psg_plan_new(run->plan->program, &o, &plan, &err) == 0, "%s %s", err.place,
                  err.text);
    ck_assert_msg(psg_grad_sample(plan, run->params, &records, &out, &err) == 0, "%s %s",
                  err.place, err.text);
    psg_plan_free(plan);
}

static void close_to(const psg_real *a, const psg_real *b, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        ck_assert_double_eq_tol((double)a[k], (double)b[k], 2e-6);
}

static void run_open(struct run *run, const char *dataset, const char *define,
                     const char *layers, const char *loss)
{
    struct psg_key key;
    memset(run, 0, sizeof *run);
    run->dataset = dataset_of(dataset);
    int r = make(run->dataset, define, layers, loss, &run->plan);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    r = data_load(run->dataset, dir, &run->data, &p);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    const struct psg_program *program = run->plan->program;
    ck_assert_int_le(psg_program_n_inputs(program), 8);
    for (int i = 0; i < psg_program_n_inputs(program); i++)
        ck_assert(data_column(run->data, DATA_TRAIN, psg_program_input_info(program, i)->name,
                              &run->column[i]));
    run->size = psg_program_trainable_size(program);
    run->params = calloc((size_t)psg_program_param_size(program), sizeof *run->params);
    run->rows = calloc((size_t)(N * run->size), sizeof *run->rows);
    psg_key_from_seed(1, &key);
    psg_program_init_params(program, &key, run->params);
    rows_of(run, PSG_MODE_HOOKS, run->rows);
}

static void run_close(struct run *run)
{
    plan_free(run->plan);
    data_free(run->data);
    dataset_spec_free(run->dataset);
    free(run->params);
    free(run->rows);
}

static void check_modes(struct run *run)
{
    psg_real *rows = calloc((size_t)(N * run->size), sizeof *rows);
    double largest = 0;
    for (int64_t k = 0; k < N * run->size; k++)
        largest = fmax(largest, fabs((double)run->rows[k]));
    ck_assert_double_gt(largest, 1e-3);
    for (int mode = 1; mode < PSG_MODE_COUNT; mode++) {
        rows_of(run, (enum psg_mode)mode, rows);
        close_to(rows, run->rows, N * run->size);
    }
    free(rows);
}

static void setup(void)
{
    dir = open(tmpdir_new(), O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(dir, 0);
    put_reviews(0);
}

static void teardown(void)
{
    close(dir);
}

#define GATED                                                                                  \
    "\"gated\": {\"inputs\": [\"x\", \"extra\"], \"attributes\": {\"hidden\": null, \"p\": 0.25}," \
    " \"params\": {\"w\": {\"shape\": [\"hidden\", \"size(x, -1)\"]},"                         \
    "              \"v\": {\"shape\": [\"hidden\", \"size(extra, 0)\"], \"init\": {\"normal\": 0.5}}}," \
    " \"buffers\": {\"scale\": {\"data\": 0.5, \"shape\": []}},"                               \
    " \"let\": [\"h = dropout(tanh(x @ w.T) * scale, p)\", \"g = sigmoid(v @ extra)\"],"       \
    " \"out\": [\"h * g\", \"sum(h * h)\"]},"                                                  \
    "\"penalised\": {\"inputs\": [\"logits\", \"target\", \"extra\"],"                         \
    " \"out\": \"-sum(one_hot(target, 2) * log_softmax(logits, 0)) + 0.1 * extra\"}"
#define EMBED                                                                                  \
    "{\"op\": \"embedding\", \"name\": \"words\", \"num_embeddings\": 7, \"embedding_dim\": 4,"  \
    " \"padding_idx\": 0}"

START_TEST(own_layers_with_several_inputs_train_in_every_mode)
{
    struct run run;
    run_open(&run, REVIEWS("x.npy", "0"), GATED,
             EMBED ", {\"op\": \"mean\", \"dim\": 1},"
                   "{\"op\": \"gated\", \"name\": \"g\", \"hidden\": 4, \"in\": [\"words\", \"year\"],"
                   " \"params\": {\"w\": \"shared\"}},"
                   "{\"op\": \"gated\", \"name\": \"again\", \"hidden\": 4, \"in\": [\"g\", \"year\"],"
                   " \"params\": {\"w\": \"shared\"}, \"p\": 0},"
                   "{\"op\": \"mean\", \"dim\": 1, \"name\": \"pooled\"},"
                   "{\"op\": \"linear\", \"out_features\": 2, \"name\": \"fc\"}",
             "{\"type\": \"penalised\", \"in\": [\"fc\", \"target\", \"g:1\"],"
             " \"sample_weight\": \"weight\"}");
    ck_assert_int_ge(psg_program_find_param(run.plan->program, "shared"), 0);
    ck_assert_int_ge(psg_program_find_param(run.plan->program, "again.v"), 0);
    check_modes(&run);
    /* four inputs in the order in which they are named */
    ck_assert_int_eq(psg_program_n_inputs(run.plan->program), 4);
    ck_assert_str_eq(psg_program_input_info(run.plan->program, 1)->name, "year");
    run_close(&run);
}
END_TEST

START_TEST(a_sample_weight_scales_the_record)
{
    static const char layers[] = EMBED ", {\"op\": \"flatten\"}, {\"op\": \"linear\", \"out_features\": 2}";
    struct run plain, weighted;
    run_open(&plain, REVIEWS("x.npy", "0"), "", layers, "\"cross_entropy\"");
    run_open(&weighted, REVIEWS("x.npy", "0"), "", layers,
             "{\"type\": \"cross_entropy\", \"sample_weight\": \"weight\"}");
    for (int i = 0; i < N; i++)
        for (int64_t k = 0; k < plain.size; k++)
            plain.rows[i * plain.size + k] *= (psg_real)(0.5 + 0.25 * i);
    close_to(weighted.rows, plain.rows, N * plain.size);
    check_modes(&weighted);
    run_close(&plain);
    run_close(&weighted);
}
END_TEST

/* the row batch_first=False of the table: the batch axis may be anywhere, in each input anew */
START_TEST(batch_first_false)
{
    static const char layers[] =
        EMBED ", {\"op\": \"lstm\", \"hidden_size\": 3, \"batch_first\": false,"
              " \"return\": \"last_hidden\"},"
              "{\"op\": \"concat\", \"in\": [\"1\", \"year\"], \"dim\": 1},"
              "{\"op\": \"linear\", \"out_features\": 2}";
    char named[1024];
    snprintf(named, sizeof named, "%s", layers);
    const char *lstm = strstr(named, "\"hidden_size\"");
    char text[1100];
    snprintf(text, sizeof text, "%.*s\"name\": \"1\", %s", (int)(lstm - named), named, lstm);
    struct run first, turned;
    run_open(&first, REVIEWS("x.npy", "0"), "", text, "\"cross_entropy\"");
    run_open(&turned, REVIEWS("turned.npy", "1"), "", text, "\"cross_entropy\"");
    ck_assert_mem_eq(first.data->sha256, turned.data->sha256, 32);
    ck_assert_mem_eq(first.rows, turned.rows, (size_t)(N * first.size) * sizeof *first.rows);
    check_modes(&turned);
    run_close(&first);
    run_close(&turned);
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "2"));
    struct data *data = NULL;
    ck_assert_int_eq(data_load(spec, dir, &data, &p), ERROR_REFUSED);
    ck_assert_str_eq(p.errors[0].pointer, "/inputs/record_axis");
    dataset_spec_free(spec);
}
END_TEST

/* What stands behind a record's length changes nothing, in models written in JSON. */
START_TEST(padding_has_no_part)
{
#define WORDS "{\"op\": \"embedding\", \"name\": \"words\", \"num_embeddings\": 7, \"embedding_dim\": 4}"
#define ENDS "{\"op\": \"linear\", \"out_features\": 2, \"name\": \"fc\"}"
    static const struct {
        const char *define, *layers, *loss;
    } cases[] = {
        { "\"attend\": {\"inputs\": [\"x\", \"lengths\"],"
          " \"params\": {\"query\": {\"shape\": [\"size(x, -1)\"], \"init\": {\"normal\": 0.5}}},"
          " \"let\": [\"s = where(arange(size(x, 0)) < lengths, x @ query, -1e9)\"],"
          " \"out\": \"softmax(s, 0) @ x\"}",
          WORDS ", {\"op\": \"lstm\", \"name\": \"r\", \"in\": [\"words\", \"lengths\"],"
                "  \"hidden_size\": 3, \"bidirectional\": true, \"batch_first\": true},"
                "{\"op\": \"attend\", \"in\": [\"r\", \"lengths\"]}," ENDS,
          "\"cross_entropy\"" },
        { "",
          WORDS ", {\"op\": \"padding_mask\", \"name\": \"mask\", \"in\": [\"lengths\"], \"size\": 5},"
                "{\"op\": \"multihead_attention\", \"name\": \"a\", \"num_heads\": 2,"
                " \"in\": [\"words\", \"words\", \"words\", \"mask\"], \"key_padding_mask\": true},"
                "{\"op\": \"sequence_mean\", \"in\": [\"a\", \"lengths\"]}," ENDS,
          "\"cross_entropy\"" },
        { "", WORDS ", {\"op\": \"linear\", \"out_features\": 4, \"name\": \"tagger\"}",
          "{\"type\": \"cross_entropy\", \"in\": [\"tagger\", \"tags\"], \"class_dim\": 2,"
          " \"ignore_index\": 0}" },
    };
    struct run zeros, noise;
    run_open(&zeros, REVIEWS("x.npy", "0"), cases[_i].define, cases[_i].layers, cases[_i].loss);
    put_reviews(5);
    run_open(&noise, REVIEWS("x.npy", "0"), cases[_i].define, cases[_i].layers, cases[_i].loss);
    ck_assert_mem_ne(zeros.data->sha256, noise.data->sha256, 32);
    close_to(noise.rows, zeros.rows, N * zeros.size);
    check_modes(&zeros);
    check_modes(&noise);
    run_close(&zeros);
    run_close(&noise);
}
END_TEST

START_TEST(csv_columns_become_inputs)
{
    static const char text[] = "w,a,b,y,c\n0.5,1,2,0,-1\n2,3,4,1,-2\n1,5,6,0,-3\n";
    put_file("s.csv", text, sizeof text - 1);
    struct dataset_spec *spec = dataset_of(
        "{\"name\": \"s\", \"format\": \"csv\", \"public\": true, \"classes\": 2,"
        " \"files\": {\"train\": \"s.csv\"}, \"csv\": {\"header\": true, \"label_column\": 3},"
        " \"columns\": [{\"name\": \"weight\", \"columns\": [0]},"
        "               {\"name\": \"pair\", \"columns\": [4, 1], \"shape\": [2]}]}");
    struct data *data = NULL;
    struct psg_column column;
    int r = data_load(spec, dir, &data, &p);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    ck_assert_int_eq(data->record_size, 1);
    ck_assert(((const float *)data->part[0].inputs)[2] == 6);
    ck_assert(data_column(data, DATA_TRAIN, "pair", &column));
    ck_assert(((const float *)column.data)[2] == -2 && ((const float *)column.data)[3] == 3);
    ck_assert(data_column(data, DATA_TRAIN, "weight", &column));
    ck_assert(((const float *)column.data)[0] == 0.5f && column.stride == 4);
    data_free(data);
    dataset_spec_free(spec);
}
END_TEST

/* ids and lengths that do not fit, files of another size */
START_TEST(bad_columns_are_refused)
{
    static const struct {
        const char *file, *pointer;
        int64_t lengths[N];
        int n;
    } cases[] = { { "lengths.npy", "/columns/0", { 1, 2, 6, 0, 0, 0 }, 6 },
                  { "lengths.npy", "/columns/0", { 1, 2, -1, 0, 0, 0 }, 6 },
                  { "lengths.npy", "/columns/0/train", { 1, 2, 3, 4, 5 }, 5 } };
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "0"));
    struct data *data = NULL;
    char shape[16];
    snprintf(shape, sizeof shape, "(%d,)", cases[_i].n);
    put_npy(cases[_i].file, "<i8", shape, cases[_i].lengths, (size_t)cases[_i].n * 8);
    problem_init(&p);
    ck_assert_int_eq(data_load(spec, dir, &data, &p), ERROR_REFUSED);
    ck_assert_str_eq(p.errors[0].pointer, cases[_i].pointer);
    dataset_spec_free(spec);
}
END_TEST

static bool trained(const struct psg_program *program, const char *name)
{
    int i = psg_program_find_param(program, name);
    ck_assert_msg(i >= 0, "no parameter %s", name);
    return psg_program_param(program, i)->trainable;
}

/* Adapters alone have gradients, the same in every mode and those of central differences. */
START_TEST(lora_trains_adapters_in_every_mode)
{
    static const char layers[] = EMBED
        ", {\"op\": \"linear\", \"name\": \"mix.q\", \"out_features\": 4}, {\"op\": \"tanh\"},"
        "{\"op\": \"linear\", \"name\": \"mix.v\", \"out_features\": 3},"
        "{\"op\": \"flatten\"}, {\"op\": \"linear\", \"name\": \"head\", \"out_features\": 2}";
    struct run run;
    start = "\"lora\": {\"target_modules\": [\"mix.*\"], \"r\": 2, \"lora_alpha\": 6,"
            " \"init\": \"gaussian\"}, \"trainable\": [\"head.*\"], \"freeze\": [\"*.bias\"],";
    run_open(&run, REVIEWS("x.npy", "0"), "", layers, "\"cross_entropy\"");
    const struct psg_program *program = run.plan->program;
    ck_assert_int_eq(run.size, 2 * (4 + 4) + 2 * (4 + 3) + 15 * 2);
    ck_assert(trained(program, "mix.q.lora_A") && trained(program, "mix.v.lora_B"));
    ck_assert(trained(program, "head.weight") && !trained(program, "head.bias"));
    ck_assert(!trained(program, "mix.q.weight") && !trained(program, "words.weight"));
    const struct psg_param_info *b =
        psg_program_param(program, psg_program_find_param(program, "mix.q.lora_B"));
    for (int64_t k = 0; k < b->size; k++) {
        ck_assert(run.params[b->offset + k] == 0);
        run.params[b->offset + k] = (psg_real)(0.1 * (double)(k % 5) - 0.2);
    }
    rows_of(&run, PSG_MODE_HOOKS, run.rows);
    check_modes(&run);
    for (int64_t k = 0; k < run.size; k++) {
        const psg_real step = (psg_real)0.005, at = run.params[k];
        psg_real above[N], *rows = calloc((size_t)(N * run.size), sizeof *rows);
        run.params[k] = at + step;
        rows_of(&run, PSG_MODE_GHOST, rows);
        memcpy(above, run.loss, sizeof above);
        run.params[k] = at - step;
        rows_of(&run, PSG_MODE_GHOST, rows);
        run.params[k] = at;
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol(((double)above[i] - (double)run.loss[i]) / (2 * (double)step),
                                    (double)run.rows[i * run.size + k], 2e-3);
        free(rows);
    }
    run_close(&run);
    start = "";
}
END_TEST

START_TEST(patterns_must_match)
{
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "0"));
    struct plan *plan;
    start = "\"lora\": {\"target_modules\": [\"fc\", \"words\"]}, \"trainable\": [\"hed.*\"],"
            " \"freeze\": [\"fc.weight\", \"nothing\"],";
    ck_assert_int_eq(make(spec, "", EMBED ", {\"op\": \"flatten\"},"
                          "{\"op\": \"linear\", \"name\": \"fc\", \"out_features\": 2}",
                          "\"cross_entropy\"", &plan), ERROR_REFUSED);
    start = "";
    ck_assert_uint_eq(p.n_errors, 3);
    ck_assert_str_eq(p.errors[0].pointer, "/model/lora/target_modules/1");
    ck_assert_str_eq(p.errors[1].pointer, "/model/trainable/0");
    ck_assert_str_eq(p.errors[2].pointer, "/model/freeze/1");
    dataset_spec_free(spec);
}
END_TEST

/* Building goes on after a mistake: what follows is checked too. */
START_TEST(every_mistake_is_told)
{
    static const struct {
        const char *pointer, *code;
    } want[] = {
        { "/model/layers/1/op", "mixes_samples" },
        { "/model/layers/2/in_features", "shape_mismatch" },
        { "/model/layers/2/p", "invalid_value" },
        { "/model/layers/3/layers/0/in/0", "unknown_name" },
        { "/model/layers/4/track_running_stats", "mixes_samples" },
        { "/model/layers/5/op", "unknown_op" },
        { "/model/layers/6/bais", "invalid_value" },
    };
    enum { N_WANT = sizeof want / sizeof *want };
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "0"));
    struct plan *plan;
    ck_assert_int_eq(
        make(spec, "",
             "{\"op\": \"embedding\", \"num_embeddings\": 7, \"embedding_dim\": 4},"
             "{\"op\": \"BatchNorm1d\", \"num_features\": 5},"
             "{\"op\": \"linear\", \"in_features\": 5, \"out_features\": 4, \"p\": 1},"
             "{\"op\": \"residual\", \"layers\": [{\"op\": \"relu\", \"in\": [\"none\"]}]},"
             "{\"op\": \"instance_norm1d\", \"track_running_stats\": true},"
             "{\"op\": \"atttention\"},"
             "{\"op\": \"linear\", \"out_features\": 2, \"bais\": true}",
             "\"cross_entropy\"", &plan),
        ERROR_REFUSED);
    for (size_t i = 0; i < p.n_errors; i++) {
        ck_assert_msg(i < N_WANT, "%s: %s", p.errors[i].pointer, p.errors[i].message);
        bool found = false;
        for (size_t k = 0; k < N_WANT; k++)
            found = found || (strcmp(p.errors[i].pointer, want[k].pointer) == 0 &&
                              strcmp(p.errors[i].code, want[k].code) == 0);
        ck_assert_msg(found, "%s: %s", p.errors[i].pointer, p.errors[i].message);
    }
    ck_assert_uint_eq(p.n_errors, N_WANT);
    ck_assert_ptr_nonnull(strstr(p.errors[0].message, "group_norm"));
    dataset_spec_free(spec);
}
END_TEST

/* All parameters that do not reach the loss, each at its layer. */
START_TEST(unused_parameters_are_told_together)
{
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "0"));
    struct plan *plan;
    ck_assert_int_eq(
        make(spec, "",
             "{\"op\": \"embedding\", \"name\": \"e\", \"num_embeddings\": 7, "
             "\"embedding_dim\": 4},"
             "{\"op\": \"linear\", \"name\": \"lost\", \"out_features\": 4},"
             "{\"op\": \"flatten\", \"in\": [\"e\"]}, {\"op\": \"linear\", \"out_features\": 2}",
             "\"cross_entropy\"", &plan),
        ERROR_REFUSED);
    ck_assert_uint_eq(p.n_errors, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(p.errors[i].pointer, "/model/layers/1");
        ck_assert_ptr_nonnull(strstr(p.errors[i].message, i ? "lost.bias" : "lost.weight"));
    }
    dataset_spec_free(spec);
}
END_TEST

START_TEST(mistakes_name_formula_column_and_layer)
{
#define OWN(members) "\"own\": {\"inputs\": [\"x\"], " members "}"
#define USE EMBED ", {\"op\": \"own\", \"name\": \"u\"}, {\"op\": \"linear\", \"out_features\": 2}"
    static const struct {
        const char *define, *layers, *loss, *pointer, *message;
    } cases[] = {
        { OWN("\"let\": [\"a = x\", \"b = a @ a\"], \"out\": \"b\""), USE, NULL,
          "/model/define/own/let/1",
          "in layer u: own: column 7: [5, 4] @ [5, 4] does not fit" },
        { OWN("\"let\": [\"a = x +\"], \"out\": \"a\""), USE, NULL, "/model/define/own/let/0",
          "column 8: the formula ends where a value is expected" },
        { OWN("\"out\": \"x * w\""), USE, NULL, "/model/define/own/out",
          "column 5: w is not known here" },
        { OWN("\"params\": {\"w\": {\"shape\": [\"x\"]}}, \"out\": \"x * w\""), USE, NULL,
          "/model/define/own/params/w/shape/0",
          "in layer u: own: column 1: the axis must be a number known before any sample is" },
        { OWN("\"attributes\": {\"k\": null}, \"out\": \"x * k\""), USE, NULL,
          "/model/layers/1/k", "own: k is missing" },
        { OWN("\"out\": \"x\""), EMBED ", {\"op\": \"own\", \"k\": 3}", NULL, "/model/layers/1/k",
          "own: unknown attribute k" },
        { "\"relu\": {\"inputs\": [\"x\"], \"out\": \"x\"}", USE, NULL, "/model/define/relu",
          "is the name of a built-in layer" },
        { "", EMBED ", {\"op\": \"add\", \"in\": [\"words\", \"years\"]}", NULL,
          "/model/layers/1/in/1", NULL },
        { "", EMBED ", {\"op\": \"add\", \"in\": [\"words:1\", \"words\"]}", NULL,
          "/model/layers/1/in/0", NULL },
        { "", EMBED ", {\"op\": \"linear\", \"out_features\": 4}",
          "{\"type\": \"cross_entropy\", \"in\": [\"words\", \"tag\"]}", "/loss/in/1", NULL },
        { "", EMBED ", {\"op\": \"flatten\"}, {\"op\": \"linear\", \"out_features\": 2}",
          "{\"type\": \"cross_entropy\", \"sample_weight\": \"year\"}", "/loss/sample_weight",
          "must be one number for each record" },
        { "", EMBED ", {\"op\": \"flatten\"}, {\"op\": \"linear\", \"out_features\": 2}",
          "{\"type\": \"cross_entropy\", \"sample_weight\": \"no\"}", "/loss/sample_weight", NULL },
        { "\"mine\": {\"inputs\": [\"a\", \"b\"], \"out\": \"a @ b\"}",
          EMBED ", {\"op\": \"flatten\"}, {\"op\": \"linear\", \"out_features\": 2}",
          "{\"type\": \"mine\"}", "/model/define/mine/out", NULL },
    };
    struct dataset_spec *spec = dataset_of(REVIEWS("x.npy", "0"));
    struct plan *plan;
    int r = make(spec, cases[_i].define, cases[_i].layers,
                 cases[_i].loss ? cases[_i].loss : "\"cross_entropy\"", &plan);
    ck_assert_int_eq(r, ERROR_REFUSED);
    ck_assert_str_eq(p.errors[0].pointer, cases[_i].pointer);
    if (cases[_i].message)
        ck_assert_str_eq(p.errors[0].message, cases[_i].message);
    dataset_spec_free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tc = tcase_create("model");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, own_layers_with_several_inputs_train_in_every_mode);
    tcase_add_test(tc, a_sample_weight_scales_the_record);
    tcase_add_test(tc, batch_first_false);
    tcase_add_loop_test(tc, padding_has_no_part, 0, 3);
    tcase_add_test(tc, csv_columns_become_inputs);
    tcase_add_loop_test(tc, bad_columns_are_refused, 0, 3);
    tcase_add_loop_test(tc, mistakes_name_formula_column_and_layer, 0, 13);
    tcase_add_test(tc, every_mistake_is_told);
    tcase_add_test(tc, lora_trains_adapters_in_every_mode);
    tcase_add_test(tc, patterns_must_match);
    tcase_add_test(tc, unused_parameters_are_told_together);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
