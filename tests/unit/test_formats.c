#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "psg/formats.h"
#include "suite.h"

/* The linker sends the library's allocations here (--wrap); the fail_at-th one fails. */
static long fail_at, n_allocations;
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static bool fails(void)
{
    return ++n_allocations == fail_at;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}

static char folder[] = "/tmp/test_formats.XXXXXX";
static struct psg_error err;

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *put(const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(path_of(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
    return path_of(name);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void expect_reals(const struct psg_array *a, int64_t first, int64_t n,
                         const double *want, size_t count)
{
    psg_real got[64];
    ck_assert_uint_le(count, 64);
    ck_assert_int_eq(psg_array_row_size(a) * n, (int64_t)count);
    ck_assert_int_eq(psg_array_read_real(a, first, n, got, &err), 0);
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(got[i] == (psg_real)want[i], "element %zu: %g, want %g", i,
                      (double)got[i], want[i]);
}

#define EXPECT(a, first, n, ...)                                                           \
    expect_reals(a, first, n, (const double[]){ __VA_ARGS__ },                             \
                 sizeof((const double[]){ __VA_ARGS__ }) / sizeof(double))

static const uint8_t idx_u8[] = { 0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 3, 4, 5, 255 };
static const uint8_t idx_i16[] = { 0, 0, 11, 1, 0, 0, 0, 2, 1, 2, 0xff, 0xfe };

START_TEST(idx_is_read_plain_and_compressed)
{
    struct psg_array a = { 0 };
    ck_assert_int_eq(psg_idx_read(put("u8", idx_u8, sizeof idx_u8), &a, &err), 0);
    ck_assert_int_eq(a.dtype, PSG_ARRAY_U8);
    ck_assert_int_eq(a.shape.rank, 2);
    EXPECT(&a, 1, 2, 3, 4, 5, 255);
    psg_array_free(&a);
    psg_array_free(&a);
    ck_assert_int_eq(psg_idx_read(put("i16", idx_i16, sizeof idx_i16), &a, &err), 0);
    EXPECT(&a, 0, 2, 258, -2);
    psg_array_free(&a);

    const uint8_t *const plain[] = { idx_u8, idx_i16 };
    const unsigned size[] = { sizeof idx_u8, sizeof idx_i16 };
    for (int i = 0; i < 2; i++) {
        gzFile z = gzopen(path_of("z"), "wb");
        ck_assert_int_eq(gzwrite(z, plain[i], size[i]), (int)size[i]);
        gzclose(z);
        ck_assert_int_eq(psg_idx_read(path_of("z"), &a, &err), 0);
        if (i == 0)
            EXPECT(&a, 0, 3, 1, 2, 3, 4, 5, 255);
        else
            EXPECT(&a, 0, 2, 258, -2);
        psg_array_free(&a);
    }
}
END_TEST

START_TEST(idx_that_lies_is_refused)
{
    struct psg_array a = { 0 };
    uint8_t bad[sizeof idx_u8 + 1] = { 0 };
    memcpy(bad, idx_u8, sizeof idx_u8);
    for (size_t size = 0; size <= sizeof bad; size++) {
        int r = psg_idx_decode(bad, size, "idx", &a, &err);
        ck_assert_int_eq(r, size == sizeof idx_u8 ? 0 : PSG_E_FORMAT);
    }
    bad[2] = 7;
    ck_assert_int_eq(psg_idx_decode(bad, sizeof idx_u8, "idx", &a, &err), PSG_E_FORMAT);
    /* 4 GiB of zeros promised by a file of some bytes */
    uint8_t bomb[16] = { 0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff };
    gzFile z = gzopen(path_of("bomb"), "wb");
    ck_assert_int_eq(gzwrite(z, bomb, sizeof bomb), (int)sizeof bomb);
    gzclose(z);
    ck_assert_int_eq(psg_idx_read(path_of("bomb"), &a, &err), PSG_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "unpack"));
    ck_assert_ptr_nonnull(strstr(err.place, "bomb"));
    /* one byte more than the header says, and a damaged checksum */
    z = gzopen(path_of("more"), "wb");
    ck_assert_int_eq(gzwrite(z, idx_u8, sizeof idx_u8), (int)sizeof idx_u8);
    ck_assert_int_eq(gzwrite(z, "x", 1), 1);
    gzclose(z);
    ck_assert_int_eq(psg_idx_read(path_of("more"), &a, &err), PSG_E_FORMAT);
    z = gzopen(path_of("crc"), "wb");
    ck_assert_int_eq(gzwrite(z, idx_u8, sizeof idx_u8), (int)sizeof idx_u8);
    gzclose(z);
    FILE *f = fopen(path_of("crc"), "r+b");
    fseek(f, -8, SEEK_END);
    int ch = fgetc(f);
    fseek(f, -8, SEEK_END);
    fputc(ch ^ 1, f);
    fclose(f);
    ck_assert_int_eq(psg_idx_read(path_of("crc"), &a, &err), PSG_E_FORMAT);
}
END_TEST

START_TEST(files_that_cannot_be_opened_name_themselves)
{
    struct psg_array a = { 0 };
    ck_assert_int_eq(psg_idx_read(path_of("absent"), &a, &err), PSG_E_IO);
    ck_assert_str_eq(err.place, path_of("absent"));
    ck_assert_int_eq(psg_npy_read(folder, &a, &err), PSG_E_IO);
    ck_assert_int_eq(mkfifo(path_of("pipe"), 0600), 0);
    ck_assert_int_eq(psg_npy_read(path_of("pipe"), &a, &err), PSG_E_IO);
}
END_TEST

static size_t npy_make(uint8_t *out, const char *dict, const void *data, size_t size)
{
    size_t n = strlen(dict);
    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = (uint8_t)n;
    out[9] = 0;
    memcpy(out + 10, dict, n);
    memcpy(out + 10 + n, data, size);
    return 10 + n + size;
}

START_TEST(npy_is_read)
{
    uint8_t file[300];
    const float data[6] = { 1, -2, 3.5f, 4, 5, 6 };
    struct psg_array a = { 0 };
    size_t n =
        npy_make(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n",
                 data, sizeof data);
    ck_assert_int_eq(psg_npy_read(put("npy", file, n), &a, &err), 0);
    ck_assert_int_eq(a.dtype, PSG_ARRAY_F32);
    EXPECT(&a, 0, 3, 1, -2, 3.5, 4, 5, 6);
    psg_array_free(&a);
    const int64_t big[2] = { INT64_MIN, INT64_MAX };
    int64_t got[2];
    n = npy_make(file, "{'shape': (2,), 'fortran_order': True, 'descr': \"<i8\"}", big,
                 sizeof big);
    ck_assert_int_eq(psg_npy_decode(file, n, "npy", &a, &err), 0);
    ck_assert_int_eq(psg_array_read_i64(&a, 0, 2, got, &err), 0);
    ck_assert_mem_eq(got, big, sizeof big);
}
END_TEST

START_TEST(npy_that_is_not_for_us_says_why)
{
    static const struct {
        const char *dict;
        enum psg_status status;
        const char *says;
    } cases[] = {
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", PSG_E_UNSUPPORTED,
          "Fortran" },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (6,)}", PSG_E_UNSUPPORTED,
          "big-endian" },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}", PSG_E_UNSUPPORTED,
          "<c8" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}",
          PSG_E_UNSUPPORTED, "records" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}", PSG_E_FORMAT,
          "promises" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6)}", PSG_E_FORMAT, "','" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}", PSG_E_FORMAT,
          "dimension" },
        { "{'descr': '<f4', 'fortran_order': False}", PSG_E_FORMAT, "missing" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'shape': (6,)}",
          PSG_E_FORMAT, "twice" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}", PSG_E_FORMAT, "True" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x", PSG_E_FORMAT,
          "after" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
          PSG_E_FORMAT, "promises" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t file[300], data[24] = { 0 };
        struct psg_array a = { 0 };
        size_t n = npy_make(file, cases[i].dict, data, sizeof data);
        ck_assert_int_eq(psg_npy_decode(file, n, "f.npy", &a, &err), cases[i].status);
        ck_assert_msg(strstr(err.text, cases[i].says) != NULL, "%s", err.text);
        ck_assert_str_eq(err.place, "f.npy");
    }
}
END_TEST

static int csv(const char *text, const struct psg_csv_options *o, struct psg_array *x,
               struct psg_array *y)
{
    return psg_csv_decode(text, strlen(text), "t.csv", o, x, y, &err);
}

START_TEST(csv_selects_columns)
{
    struct psg_array x = { 0 }, y = { 0 };
    const char *const columns[] = { "b c", "0" };
    struct psg_csv_options o = {
        .header = true, .column = columns, .n_columns = 2, .label = "y"
    };
    const char *text =
        "\xef\xbb\xbf"
        "a,\"b c\",y,text\r\n"
        "1,2.5,0,x\r\n\"-3\",4e1,1,\"q \"\"w\"\", e\nr\"\r\n\r\n 5 ,6,2,\r\n";
    ck_assert_int_eq(csv(text, &o, &x, &y), 0);
    EXPECT(&x, 0, 3, 2.5, 1, 40, -3, 6, 5);
    EXPECT(&y, 0, 3, 0, 1, 2);
    psg_array_free(&x);
    psg_array_free(&y);
    o = (struct psg_csv_options){ .delimiter = ';' };
    ck_assert_int_eq(csv("1;2\n3;4", &o, &x, NULL), 0);
    EXPECT(&x, 0, 2, 1, 2, 3, 4);
    psg_array_free(&x);
}
END_TEST

START_TEST(csv_errors_name_file_line_and_column)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "a,b\n1,2\n3,x\n", "line 3: column 'b' does not" },
        { "a,b\n1,2\n\n\"3\n\",4\n5,6\n", "line 4: column 'a' does not" },
        { "a,b\n\"1\",2\n5\n", "line 3: 1 fields" },
        { "a,b\n1,2,3\n", "line 2: more than 2" },
        { "a,b\n1,\n", "line 2: column 'b' is empty" },
        { "a,b\n1,nan\n", "line 2: column 'b' does not" },
        { "a,b\n1,1e999\n", "line 2: column 'b' does not" },
        { "a,b\n1,0x10\n", "line 2: column 'b' does not" },
        { "a,b\n1,1 2\n", "line 2: column 'b' does not" },
        { "a,b\n1,\"2\n", "line 2: a quoted field does not end" },
        { "a,b\n1,\"2\"3\n", "line 2: text after" },
        { "", "empty" },
    };
    struct psg_csv_options o = { .header = true };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct psg_array x = { 0 };
        ck_assert_int_eq(csv(cases[i].text, &o, &x, NULL), PSG_E_FORMAT);
        ck_assert_msg(strncmp(err.text, cases[i].says, strlen(cases[i].says)) == 0 ||
                          strstr(err.text, cases[i].says) != NULL,
                      "%s", err.text);
        ck_assert_str_eq(err.place, "t.csv");
    }
    struct psg_array x = { 0 }, y = { 0 };
    o.label = "c";
    ck_assert_int_eq(csv("a,b\n1,2\n", &o, &x, &y), PSG_E_INVALID);
    o.label = "a";
    ck_assert_int_eq(csv("a,a\n1,2\n", &o, &x, &y), PSG_E_INVALID);
    o.delimiter = '"';
    ck_assert_int_eq(csv("a,a\n1,2\n", &o, &x, &y), PSG_E_INVALID);
}
END_TEST

START_TEST(every_dtype_converts)
{
    const uint16_t half[] = { 0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000 };
    struct psg_array a = { .dtype = PSG_ARRAY_F16, .shape = PSG_SHAPE(5), .data = half };
    EXPECT(&a, 0, 5, 1, -2, 0x1p-24, 65504, 0);
    const uint16_t bfloat[] = { 0x3f80, 0xc040 };
    a = (struct psg_array){ .dtype = PSG_ARRAY_BF16,
                            .shape = PSG_SHAPE(2),
                            .data = bfloat };
    EXPECT(&a, 0, 2, 1, -3);
    const double f64[] = { 3, -4, 2.5, 1e300 };
    int64_t whole[4];
    a = (struct psg_array){ .dtype = PSG_ARRAY_F64, .shape = PSG_SHAPE(4), .data = f64 };
    ck_assert_int_eq(psg_array_read_i64(&a, 0, 2, whole, &err), 0);
    ck_assert_int_eq(whole[1], -4);
    ck_assert_int_eq(psg_array_read_i64(&a, 1, 2, whole, &err), PSG_E_RANGE);
    ck_assert_ptr_nonnull(strstr(err.text, "row 2 holds 2.5"));
    ck_assert_int_eq(psg_array_read_i64(&a, 3, 1, whole, &err), PSG_E_RANGE);
    ck_assert_int_eq(psg_array_read_i64(&a, 3, 2, whole, &err), PSG_E_RANGE);
    ck_assert_int_eq(psg_array_read_i64(&a, -1, 1, whole, &err), PSG_E_RANGE);
    ck_assert_int_eq(psg_array_read_i64(&a, 4, 0, whole, &err), 0);
}
END_TEST

static const char *case_text = "{\"name\": \"caf\u00e9\", \"tab\": \"\\t\"}\t\x01";

static void write_model(const char *path)
{
    const float w[6] = { 1, 2, 3, 4, 5, 6 };
    const uint8_t flag[3] = { 1, 0, 1 };
    const int64_t step = -7;
    struct psg_safetensors_item item[] = {
        { "mask", { .dtype = PSG_ARRAY_BOOL, .shape = PSG_SHAPE(3), .data = flag } },
        { "fc.weight", { .dtype = PSG_ARRAY_F32, .shape = PSG_SHAPE(2, 3), .data = w } },
        { "a \"quoted\" name",
          { .dtype = PSG_ARRAY_F32, .shape = PSG_SHAPE(0, 3), .data = w } },
        { "step", { .dtype = PSG_ARRAY_I64, .data = &step } },
    };
    struct psg_safetensors_meta meta[] = { { "format", "pt" }, { "case", case_text } };
    ck_assert_int_eq(psg_safetensors_write(path, item, 4, meta, 2, &err), 0);
}

START_TEST(safetensors_come_back)
{
    write_model(path_of("m"));
    struct psg_safetensors *f;
    ck_assert_int_eq(psg_safetensors_open(path_of("m"), &f, &err), 0);
    ck_assert_uint_eq(psg_safetensors_count(f), 4);
    ck_assert_str_eq(psg_safetensors_at(f, 0)->name, "a \"quoted\" name");
    const struct psg_array *w = psg_safetensors_find(f, "fc.weight");
    ck_assert_ptr_nonnull(w);
    EXPECT(w, 1, 1, 4, 5, 6);
    ck_assert_uint_eq((uintptr_t)w->data % 4, 0);
    int64_t step;
    const struct psg_array *s = psg_safetensors_find(f, "step");
    ck_assert_int_eq(psg_array_read_i64(s, 0, 1, &step, &err), 0);
    ck_assert_int_eq(step, -7);
    ck_assert_ptr_null(psg_safetensors_find(f, "fc.bias"));
    ck_assert_str_eq(psg_safetensors_metadata(f, "case"), case_text);
    ck_assert_str_eq(psg_safetensors_metadata(f, "format"), "pt");
    ck_assert_ptr_null(psg_safetensors_metadata(f, "none"));
    psg_safetensors_close(f);
}
END_TEST

START_TEST(safetensors_layout_is_what_others_expect)
{
    write_model(path_of("m"));
    char bytes[600], header[600];
    FILE *f = fopen(path_of("m"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    size_t size = (size_t)(unsigned char)bytes[0] | (size_t)(unsigned char)bytes[1] << 8;
    ck_assert_uint_eq(size % 8, 0);
    ck_assert_uint_eq(n, 8 + size + 8 + 24 + 3);
    memcpy(header, bytes + 8, size);
    header[size] = '\0';
    /* widest elements first, then by name; metadata in front */
    const char *const order[] = {
        "{\"__metadata__\":{\"case\":",
        "\"format\":\"pt\"}",
        "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}",
        "\"a \\\"quoted\\\" name\"",
        "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],"
        "\"data_offsets\":[8,32]}",
        "\"mask\":{\"dtype\":\"BOOL\""
    };
    const char *at = header;
    for (int i = 0; i < 6; i++) {
        at = strstr(at, order[i]);
        ck_assert_msg(at != NULL, "%s is not in its place in %s", order[i], header);
    }
    /* only the file itself is left behind */
    char command[200];
    snprintf(command, sizeof command, "test \"$(ls -A '%s')\" = m", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(safetensors_writer_refuses)
{
    const float w[1] = { 0 };
    struct psg_array a = { .dtype = PSG_ARRAY_F32, .shape = PSG_SHAPE(1), .data = w };
    struct psg_safetensors_item twice[] = { { "w", a }, { "w", a } };
    ck_assert_int_eq(psg_safetensors_write(path_of("x"), twice, 2, NULL, 0, &err),
                     PSG_E_INVALID);
    struct psg_safetensors_item meta = { "__metadata__", a }, latin = { "caf\xe9", a };
    ck_assert_int_eq(psg_safetensors_write(path_of("x"), &meta, 1, NULL, 0, &err),
                     PSG_E_INVALID);
    ck_assert_int_eq(psg_safetensors_write(path_of("x"), &latin, 1, NULL, 0, &err),
                     PSG_E_INVALID);
    ck_assert_int_eq(psg_safetensors_write(path_of("no/x"), twice, 1, NULL, 0, &err),
                     PSG_E_IO);
    ck_assert_int_ne(access(path_of("x"), F_OK), 0);
    /* a failed write leaves the old file as it was: the path is a folder that is not empty
     */
    ck_assert_int_eq(mkdir(path_of("d"), 0700), 0);
    put("d/keep", "x", 1);
    ck_assert_int_eq(psg_safetensors_write(path_of("d"), twice, 1, NULL, 0, &err),
                     PSG_E_IO);
    ck_assert_int_eq(access(path_of("d/keep"), F_OK), 0);
}
END_TEST

START_TEST(safetensors_header_is_strict)
{
#define T(shape, offsets)                                                                  \
    "{\"dtype\":\"U8\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"
    static const struct {
        const char *header, *says; /* says NULL: fine */
    } cases[] = {
        { "{\"a\":" T("8", "0,8") "}", NULL },
        { "{ \"a\" : " T("8", "0,8") " }  ", NULL },
        { "{\"a\":" T("4", "0,4") ",\"b\":" T("4", "4,8") "}", NULL },
        { "{\"a\":" T("4", "4,8") ",\"b\":" T("4", "0,4") "}", NULL },
        { "{\"\\u00e9\\ud83d\\ude00\":" T("8", "0,8") "}", NULL },
        { " {\"a\":" T("8", "0,8") "}", "'{'" },
        { "{\"a\":" T("8", "0,8") "}x", "after the header" },
        { "{\"a\":" T("8", "0,8") ",}", "string is missing" },
        { "{\"a\":" T("7", "0,8") "}", "needs 7" },
        { "{\"a\":" T("9", "0,9") "}", "take 9 bytes" },
        { "{\"a\":" T("8", "8,0") "}", "data_offsets" },
        { "{\"a\":" T("08", "0,8") "}", "whole number" },
        { "{\"a\":" T("-8", "0,8") "}", "whole number" },
        { "{\"a\":" T("8.0", "0,8") "}", "',' or ']'" },
        { "{\"a\":" T("99999999999999999999", "0,8") "}", "whole number" },
        { "{\"a\":" T("9223372036854775807,3", "0,8") "}", "needs -1" },
        { "{\"a\":" T("1,1,1,1,1,1,1,1,1,1,1,1,8", "0,8") "}", "too many" },
        { "{\"a\":" T("8", "0,8,8") "}", "too many" },
        { "{\"a\":" T("8", "8") "}", "two numbers" },
        { "{\"a\":" T("5", "0,5") ",\"b\":" T("4", "4,8") "}", "inside of data" },
        { "{\"a\":" T("3", "0,3") ",\"b\":" T("4", "4,8") "}", "hole" },
        { "{\"a\":" T("4", "0,4") ",\"a\":" T("4", "4,8") "}", "twice" },
        { "{\"a\":" T("4", "0,4") ",\"\\u0061\":" T("4", "4,8") "}", "twice" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[8]}}", "lacks" },
        { "{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", "C64" },
        { "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", "twice" },
        { "{\"a\":{\"size\":8}}", "unknown key" },
        { "{\"a\\u0000\":" T("8", "0,8") "}", "escape" },
        { "{\"\\ud83d\":" T("8", "0,8") "}", "escape" },
        { "{\"\\x\":" T("8", "0,8") "}", "escape" },
        { "{\"a\n\":" T("8", "0,8") "}", "control" },
        { "{\"\xff\":" T("8", "0,8") "}", "UTF-8" },
        { "{\"\xed\xa0\x80\":" T("8", "0,8") "}", "UTF-8" },
        { "{\"\xc0\x80\":" T("8", "0,8") "}", "UTF-8" },
        { "{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"},\"a\":" T("8", "0,8") "}", "twice" },
        { "{\"__metadata__\":{\"a\":{}},\"a\":" T("8", "0,8") "}", "string is missing" },
        { "{\"__metadata__\":{},\"__metadata__\":{},\"a\":" T("8", "0,8") "}", "twice" },
        { "{\"__metadata__\":{},\"a\":" T("8", "0,8") "}", NULL },
        { "{}", "the file has 8" },
        { "[]", "'{'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[400] = { 0 };
        size_t n = strlen(cases[i].header);
        file[0] = (char)n;
        memcpy(file + 8, cases[i].header, n);
        struct psg_safetensors *f;
        int r = psg_safetensors_open_bytes(file, 8 + n + 8, "f", &f, &err);
        ck_assert_msg((r == 0) == (cases[i].says == NULL), "%s: %d", cases[i].header, r);
        if (r)
            ck_assert_msg(strstr(err.text, cases[i].says) != NULL, "%s: %s",
                          cases[i].header, err.text);
        else
            psg_safetensors_close(f);
        for (size_t cut = 0; cut < 8 + n; cut++)
            ck_assert_int_ne(psg_safetensors_open_bytes(file, cut, "f", &f, &err), 0);
    }
}
END_TEST

static int use_everything(void)
{
    struct psg_array x = { 0 }, y = { 0 };
    struct psg_csv_options o = { .header = true, .label = "y" };
    struct psg_safetensors *f = NULL;
    int r = psg_idx_read(path_of("u8"), &x, &err);
    psg_array_free(&x);
    if (!r)
        r = psg_idx_read(path_of("z"), &x, &err);
    psg_array_free(&x);
    if (!r)
        r = csv("x,y\n1,2\n", &o, &x, &y);
    psg_array_free(&x);
    psg_array_free(&y);
    if (!r)
        r = psg_safetensors_open(path_of("m"), &f, &err);
    psg_safetensors_close(f);
    const float w = 1;
    struct psg_safetensors_item item = { "w", { .dtype = PSG_ARRAY_F32, .data = &w } };
    struct psg_safetensors_meta meta = { "k", "v" };
    if (!r)
        r = psg_safetensors_write(path_of("out"), &item, 1, &meta, 1, &err);
    return r;
}

START_TEST(every_failing_allocation_is_survived)
{
    put("u8", idx_u8, sizeof idx_u8);
    gzFile z = gzopen(path_of("z"), "wb");
    ck_assert_int_eq(gzwrite(z, idx_i16, sizeof idx_i16), (int)sizeof idx_i16);
    gzclose(z);
    write_model(path_of("m"));
    long k = 1;
    for (int r = -1; r; k++) {
        n_allocations = 0;
        fail_at = k;
        r = use_everything();
        fail_at = 0;
        ck_assert_msg(r == 0 || r == PSG_E_NOMEM || r == PSG_E_IO, "allocation %ld: %d", k,
                      r);
        ck_assert_int_lt(k, 1000);
    }
    ck_assert_int_gt(k, 15);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("formats");
    TCase *tc = tcase_create("formats");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, idx_is_read_plain_and_compressed);
    tcase_add_test(tc, idx_that_lies_is_refused);
    tcase_add_test(tc, files_that_cannot_be_opened_name_themselves);
    tcase_add_test(tc, npy_is_read);
    tcase_add_test(tc, npy_that_is_not_for_us_says_why);
    tcase_add_test(tc, csv_selects_columns);
    tcase_add_test(tc, csv_errors_name_file_line_and_column);
    tcase_add_test(tc, every_dtype_converts);
    tcase_add_test(tc, safetensors_come_back);
    tcase_add_test(tc, safetensors_layout_is_what_others_expect);
    tcase_add_test(tc, safetensors_writer_refuses);
    tcase_add_test(tc, safetensors_header_is_strict);
    tcase_add_test(tc, every_failing_allocation_is_survived);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
