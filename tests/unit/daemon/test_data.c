#include <math.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "data/data.h"
#include "data/datasets.h"
#include "fault.h"
#include "suite.h"
#include "tmpdir.h"

static struct problem p;

static struct dataset_spec *decode(const char *text)
{
    struct dataset_spec *spec = NULL;
    int r = dataset_spec_decode(&spec, text, strlen(text), &p);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    data_complete_spec(spec);
    return spec;
}

static void put_file(int dir, const char *name, const char *text)
{
    ck_assert_int_eq(env_write_file(env_system(), dir, name, text, strlen(text), 0600), 0);
}

static int open_tmp(void)
{
    int dir = open(tmpdir_new(), O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(dir, 0);
    return dir;
}

START_TEST(digits_are_whole_and_split_evenly)
{
    struct dataset_spec *spec = decode("{\"name\": \"d\", \"format\": \"embedded\", \"public\": true}");
    struct data *data = NULL;
    ck_assert_int_eq(data_load(spec, -1, &data, &p), 0);
    ck_assert_int_eq(data->part[0].n + data->part[1].n, 1797);
    int n[2][10] = { { 0 } };
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < data->part[s].n; i++)
            n[s][((int64_t *)data->part[s].labels)[i]]++;
    for (int c = 0; c < 10; c++) {
        ck_assert_int_ge(n[DATA_TEST][c], 34); /* a fifth of each class */
        ck_assert_int_le(n[DATA_TEST][c], 36);
        ck_assert_int_eq((n[0][c] + n[1][c]) / 5, n[DATA_TEST][c]);
    }
    /* pixels of the first record: a zero, as the source has it */
    static const unsigned char first[] = { 0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0 };
    ck_assert_mem_eq(data->part[0].inputs, first, sizeof first);
    struct psg_column column;
    ck_assert(data_column(data, DATA_TRAIN, "input", &column));
    ck_assert(0 * column.scale + column.shift == -1);
    ck_assert(16 * column.scale + column.shift == 1);
    ck_assert(!data_column(data, DATA_TRAIN, "lengths", &column));
    data_free(data);
    dataset_spec_free(spec);
}
END_TEST

#define CSV_SPEC                                                                               \
    "{\"name\": \"c\", \"format\": \"csv\", \"files\": {\"train\": \"%s\"},"                   \
    " \"inputs\": {\"kind\": \"features\"}, \"classes\": 3, \"public\": true}"

static int load_csv(int dir, const char *name, struct data **datap)
{
    char text[512];
    snprintf(text, sizeof text, CSV_SPEC, name);
    struct dataset_spec *spec = decode(text);
    problem_init(&p);
    int r = data_load(spec, dir, datap, &p);
    dataset_spec_free(spec);
    return r;
}

START_TEST(identity_is_the_content_not_its_order_or_file)
{
    int dir = open_tmp();
    struct data *a = NULL, *b = NULL, *c = NULL;
    put_file(dir, "a.csv", "1,2.5,0\n3,4,1\n-5,6,2\n");
    put_file(dir, "b.csv", "-5.0,6,2\n1.0,2.50,0\r\n3,4e0,1\n");
    put_file(dir, "c.csv", "-5.0,6,2\n1.0,2.50,0\n3,4,2\n");
    ck_assert_int_eq(load_csv(dir, "a.csv", &a), 0);
    ck_assert_int_eq(load_csv(dir, "b.csv", &b), 0);
    ck_assert_int_eq(load_csv(dir, "c.csv", &c), 0);
    ck_assert_mem_eq(a->sha256, b->sha256, 32);
    ck_assert_mem_ne(a->sha256, c->sha256, 32);
    ck_assert_int_eq(a->record_size, 2);
    ck_assert_int_eq(a->part[0].n, 3);
    data_free(a);
    data_free(b);
    data_free(c);
    close(dir);
}
END_TEST

START_TEST(files_lie_beneath_the_root)
{
    int dir = open_tmp();
    char link[160];
    struct data *data = NULL;
    ck_assert_int_eq(mkdirat(dir, "root", 0700), 0);
    put_file(dir, "secret.csv", "1,2,0\n");
    int root = openat(dir, "root", O_RDONLY | O_DIRECTORY);
    snprintf(link, sizeof link, "%s/secret.csv", tmpdir_path);
    ck_assert_int_eq(symlinkat(link, root, "out.csv"), 0);
    ck_assert_int_eq(symlinkat("../secret.csv", root, "up.csv"), 0);
    ck_assert_int_eq(mkfifoat(root, "fifo.csv", 0600), 0);
    static const char *const names[] = { "out.csv", "up.csv", "fifo.csv", "none.csv" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_int_eq(load_csv(root, names[i], &data), ERROR_REFUSED);
        ck_assert_str_eq(p.errors[0].pointer, "/files/train");
        ck_assert_ptr_null(data);
    }
    ck_assert_int_eq(load_csv(-1, "a.csv", &data), ERROR_REFUSED);
    close(root);
    close(dir);
}
END_TEST

START_TEST(bad_records_are_refused)
{
    int dir = open_tmp();
    struct data *data = NULL;
    static const char *const texts[] = { "1,2,3\n", "1,2,-1\n", "1,2,0.5\n", "1,x,0\n", "" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put_file(dir, "a.csv", texts[i]);
        ck_assert_int_eq(load_csv(dir, "a.csv", &data), ERROR_REFUSED);
        ck_assert_int_eq(p.status, 422);
        ck_assert_ptr_null(data);
    }
    close(dir);
}
END_TEST

static void put_npy(int dir, const char *name, const char *descr, const char *shape,
                    const void *values, size_t n)
{
    char header[128], file[1024];
    int len = snprintf(header, sizeof header,
                       "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    memset(header + len, ' ', sizeof header - (size_t)len);
    header[117] = '\n'; /* 10 + 118 bytes: a multiple of 64 */
    memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(file + 10, header, 118);
    memcpy(file + 128, values, n);
    ck_assert_int_eq(env_write_file(env_system(), dir, name, file, 128 + n, 0600), 0);
}

START_TEST(npy_pairs_with_channels_and_a_test_split)
{
    int dir = open_tmp();
    static const float x[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    static const int64_t y[3] = { 1, 0, 1 };
    put_npy(dir, "x.npy", "<f4", "3, 2, 2", x, sizeof x);
    put_npy(dir, "y.npy", "<i8", "3,", y, sizeof y);
    put_npy(dir, "tx.npy", "<f4", "1, 2, 2", x, 16);
    put_npy(dir, "ty.npy", "<i8", "1,", y, 8);
    struct dataset_spec *spec = decode(
        "{\"name\": \"n\", \"format\": \"npy\", \"files\": {\"train_inputs\": \"x.npy\","
        " \"train_labels\": \"y.npy\", \"test_inputs\": \"tx.npy\", \"test_labels\": \"ty.npy\"},"
        " \"inputs\": {\"kind\": \"image\", \"shape\": [2, 1, 2]}, \"classes\": 2,"
        " \"normalize\": {\"divide_by\": 2, \"mean\": [1, 2], \"std\": [1, 0.5]},"
        " \"public\": true}");
    struct data *data = NULL;
    int r = data_load(spec, dir, &data, &p);
    ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
    ck_assert_int_eq(data->part[DATA_TRAIN].n, 3);
    ck_assert_int_eq(data->part[DATA_TEST].n, 1);
    static const float want[] = { -1, -0.5f, -2, -1 }; /* (x/2 - 1)/1 and (x/2 - 2)/0.5 */
    for (int k = 0; k < 4; k++)
        ck_assert_float_eq(((float *)data->part[DATA_TRAIN].inputs)[k], want[k]);
    data_free(data);
    dataset_spec_free(spec);
    close(dir);
}
END_TEST

static int load_spec(int dir, const char *text, struct data **datap)
{
    struct dataset_spec *spec = decode(text);
    problem_init(&p);
    int r = data_load(spec, dir, datap, &p);
    dataset_spec_free(spec);
    return r;
}

#define USERS_CSV                                                                              \
    "{\"name\": \"u\", \"format\": \"csv\", \"files\": {\"train\": \"u.csv\", \"test\": \"t.csv\"}," \
    " \"columns\": [{\"name\": \"who\", \"kind\": \"user\", \"columns\": [1]}], \"unit\": \"user\","   \
    " \"classes\": 3, \"public\": true}"
#define USERS_NPY                                                                              \
    "{\"name\": \"u\", \"format\": \"npy\", \"files\": {\"train_inputs\": \"x.npy\","                \
    " \"train_labels\": \"y.npy\"}, \"columns\": [{\"name\": \"who\", \"kind\": \"user\","               \
    " \"train\": \"%s\"}], \"classes\": 3, \"public\": true}"

/* Users -7, 4 and 2^50 + 1 have records 1; 0, 3 and 4; 2. */
START_TEST(records_of_a_user_are_one_unit)
{
    static const int64_t first[] = { 0, 1, 4, 5 }, record[] = { 1, 0, 3, 4, 2 };
    static const int64_t y[] = { 0, 1, 2, 0, 1 }, who[] = { 4, -7, (1LL << 50) + 1, 4, 4 };
    static const float x[] = { 1, 2, 3, 4, 5 };
    int dir = open_tmp();
    char text[512];
    struct data *data = NULL;
    struct psg_column column;
    put_file(dir, "u.csv", "1,4,0\n2,-7,1\n3,1125899906842625,2\n4,4,0\n5,4,1\n");
    put_file(dir, "t.csv", "1,4,0\n");
    put_npy(dir, "x.npy", "<f4", "5, 1", x, sizeof x);
    put_npy(dir, "y.npy", "<i8", "5,", y, sizeof y);
    put_npy(dir, "who.npy", "<i8", "5,", who, sizeof who);
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, USERS_NPY, "who.npy");
        int r = load_spec(dir, i ? text : USERS_CSV, &data);
        ck_assert_msg(r == 0, "%s %s", p.errors[0].pointer, p.errors[0].message);
        ck_assert_int_eq(data->record_size, 1); /* the id is no feature */
        ck_assert_int_eq(data->n_units, 3);
        ck_assert_mem_eq(data->unit_first, first, sizeof first);
        ck_assert_mem_eq(data->unit_record, record, sizeof record);
        ck_assert(!data_column(data, DATA_TEST, "who", &column));
        data = data_free(data);
    }
    close(dir);
}
END_TEST

START_TEST(ids_of_users_must_be_whole_and_complete)
{
    static const float half[] = { 1, 2, 3, 4, 5.5f };
    static const int64_t y[] = { 0, 1, 2, 0, 1 }, four[] = { 1, 2, 3, 4 };
    static const float x[] = { 1, 2, 3, 4, 5 };
    static const char *const names[] = { "half.npy", "four.npy", "none.npy" };
    int dir = open_tmp();
    char text[512];
    struct data *data = NULL;
    put_npy(dir, "x.npy", "<f4", "5, 1", x, sizeof x);
    put_npy(dir, "y.npy", "<i8", "5,", y, sizeof y);
    put_npy(dir, "half.npy", "<f4", "5,", half, sizeof half);
    put_npy(dir, "four.npy", "<i8", "4,", four, sizeof four);
    for (size_t i = 0; i < 3; i++) {
        snprintf(text, sizeof text, USERS_NPY, names[i]);
        ck_assert_int_eq(load_spec(dir, text, &data), ERROR_REFUSED);
        ck_assert_str_eq(p.errors[0].pointer, "/columns/0/train");
    }
    /* a fraction, a hole, and beyond what a double tells apart */
    static const char *const tables[] = { "1,4.5,0\n2,5,1\n", "1,,0\n2,5,1\n",
                                          "1,9007199254740993,0\n2,5,1\n" };
    put_file(dir, "t.csv", "1,4,0\n");
    for (size_t i = 0; i < 3; i++) {
        put_file(dir, "u.csv", tables[i]);
        ck_assert_int_eq(load_spec(dir, USERS_CSV, &data), ERROR_REFUSED);
        ck_assert_str_eq(p.errors[0].pointer, "/columns/0/columns");
    }
    close(dir);
}
END_TEST

START_TEST(sizes_round_to_two_digits)
{
    ck_assert_int_eq(data_round_size(1442), 1400);
    ck_assert_int_eq(data_round_size(60000), 60000);
    ck_assert_int_eq(data_round_size(99), 99);
    ck_assert_int_eq(data_round_size(155), 160);
    ck_assert_int_eq(data_round_size(996), 1000);
    ck_assert_int_eq(data_round_size(1), 1);
}
END_TEST

START_TEST(the_registry_answers)
{
    char path[128], text[256];
    struct store *store = NULL;
    struct datasets *datasets = NULL;
    struct answer answer;
    struct datasets_config config = { .root_dir = -1, .embedded = true, .actor = "installation" };
    snprintf(path, sizeof path, "%s/state.db", tmpdir_new());
    for (int round = 0; round < 2; round++) { /* the second start finds them there */
        ck_assert_int_eq(store_open(&store, env_system(), path, text, sizeof text), 0);
        int r = datasets_open(&datasets, store, &config, text, sizeof text);
        ck_assert_msg(r == 0, "%s", text);
        struct dataset_view *view = NULL;
        ck_assert_int_eq(datasets_get(datasets, "digits", &answer, &p), 0);
        ck_assert_int_eq(dataset_view_decode(&view, answer.text, answer.size, &p), 0);
        ck_assert_int_eq(view->nominal_size, 1400);
        ck_assert(view->budget && view->budget->epsilon == 8 && view->budget->spent == 0);
        ck_assert_int_eq(view->telemetry, TELEMETRY_PRIVATE);
        dataset_view_free(view);
        answer_clear(&answer);
        datasets_close(datasets);
        store = store_close(store);
    }
    ck_assert_int_eq(store_open(&store, env_system(), path, text, sizeof text), 0);
    config.embedded = false;
    ck_assert_int_eq(datasets_open(&datasets, store, &config, text, sizeof text), 0);
    ck_assert_int_eq(datasets_get(datasets, "none", &answer, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.status, 404);
    struct ledger_page *page = NULL;
    ck_assert_int_eq(datasets_ledger(datasets, "digits", 0, 10, &answer, &p), 0);
    ck_assert_int_eq(ledger_page_decode(&page, answer.text, answer.size, &p), 0);
    ck_assert_uint_eq(page->n_data, 1);
    ck_assert_int_eq(page->data[0].kind, LEDGER_OPEN);
    ledger_page_free(page);
    answer_clear(&answer);
    ck_assert_int_eq(datasets_list(datasets, NULL, 10, &answer, &p), 0);
    ck_assert_ptr_nonnull(strstr(answer.text, "\"digits\""));
    answer_clear(&answer);
    ck_assert_int_eq(datasets_list(datasets, "digits", 10, &answer, &p), 0);
    ck_assert_ptr_null(strstr(answer.text, "\"digits\""));
    answer_clear(&answer);
    datasets_close(datasets);
    store_close(store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data");
    TCase *tc = tcase_create("data");
    tcase_add_test(tc, digits_are_whole_and_split_evenly);
    tcase_add_test(tc, identity_is_the_content_not_its_order_or_file);
    tcase_add_test(tc, files_lie_beneath_the_root);
    tcase_add_test(tc, bad_records_are_refused);
    tcase_add_test(tc, npy_pairs_with_channels_and_a_test_split);
    tcase_add_test(tc, records_of_a_user_are_one_unit);
    tcase_add_test(tc, ids_of_users_must_be_whole_and_complete);
    tcase_add_test(tc, sizes_round_to_two_digits);
    tcase_add_test(tc, the_registry_answers);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
