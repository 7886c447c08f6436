/* Readers of model archives: zip, pickle, the serialized code. Hostile files are refused with a
 * place, whatever bytes change. */
#include <stdio.h>
#include <string.h>

#include "import/code.h"
#include "import/pickle.h"
#include "import/zip.h"
#include "suite.h"

static struct im_pool pool;
static struct psg_error err;

static void setup(void)
{
    pool = (struct im_pool){ .limit = 64 << 20 };
    memset(&err, 0, sizeof err);
}

static void teardown(void)
{
    im_pool_free(&pool);
}

/* ---- zip: an archive of one stored entry "m/a" with four bytes, written by hand ---- */
static size_t write_zip(uint8_t *out)
{
    static const uint8_t local[] = { 'P', 'K', 3,   4,   20,   0,    0,    0,    0, 0,
                                     0,   0,   0,   0,   0x11, 0xcd, 0x82, 0xed, 4, 0,
                                     0,   0,   4,   0,   0,    0,    3,    0,    0, 0,
                                     'm', '/', 'a', 'a', 'b',  'c',  'd' };
    static const uint8_t central[] = { 'P', 'K', 1, 2, 20, 0, 20,   0,    0,    0,
                                       0,   0,   0, 0, 0,  0, 0x11, 0xcd, 0x82, 0xed,
                                       4,   0,   0, 0, 4,  0, 0,    0,    3,    0,
                                       0,   0,   0, 0, 0,  0, 0,    0,    0,    0,
                                       0,   0,   0, 0, 0,  0, 'm',  '/',  'a' };
    static const uint8_t end[] = { 'P', 'K', 5, 6, 0, 0,  0, 0, 1, 0, 1,
                                   0,   49,  0, 0, 0, 37, 0, 0, 0, 0, 0 };
    memcpy(out, local, sizeof local);
    memcpy(out + sizeof local, central, sizeof central);
    memcpy(out + sizeof local + sizeof central, end, sizeof end);
    return sizeof local + sizeof central + sizeof end;
}

static int read_all(const uint8_t *bytes, size_t n)
{
    struct zip z;
    int r = zip_open(&z, bytes, n, "t.zip", &pool, &err);
    for (size_t i = 0; r == 0 && i < z.n_entries; i++)
        r = zip_read(&z, &z.entry[i], &err);
    return r;
}

START_TEST(zip_reads)
{
    uint8_t bytes[256];
    size_t n = write_zip(bytes);
    struct zip z;
    ck_assert_int_eq(zip_open(&z, bytes, n, "t.zip", &pool, &err), 0);
    ck_assert_uint_eq(z.n_entries, 1);
    ck_assert_ptr_null(zip_find(&z, "m/b"));
    struct zip_entry *e = zip_find(&z, "m/a");
    ck_assert_ptr_nonnull(e);
    ck_assert_msg(zip_read(&z, e, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(e->size, 4);
    ck_assert_mem_eq(e->data, "abcd", 4);
}
END_TEST

START_TEST(zip_refuses_cut)
{
    uint8_t bytes[256];
    size_t n = write_zip(bytes);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(read_all(bytes, i), PSG_E_FORMAT);
}
END_TEST

/* Every byte set to other values: the content is right or the archive is refused. */
START_TEST(zip_refuses_changed)
{
    uint8_t bytes[256];
    size_t n = write_zip(bytes);
    for (size_t i = 0; i < n; i++)
        for (int v = 0; v < 256; v += 5) {
            uint8_t was = bytes[i];
            bytes[i] = (uint8_t)v;
            struct zip z;
            if (zip_open(&z, bytes, n, "t.zip", &pool, &err) == 0 && z.n_entries == 1 &&
                zip_read(&z, &z.entry[0], &err) == 0)
                ck_assert(z.entry[0].size == 4 && memcmp(z.entry[0].data, "abcd", 4) == 0);
            bytes[i] = was;
        }
}
END_TEST

START_TEST(zip_names_checksum)
{
    uint8_t bytes[256];
    size_t n = write_zip(bytes);
    bytes[33] ^= 1;
    ck_assert_int_eq(read_all(bytes, n), PSG_E_FORMAT);
    ck_assert_str_eq(err.place, "t.zip");
    ck_assert_str_eq(err.text, "zip entry m/a: its checksum is wrong");
}
END_TEST

/* ---- pickle ---- */
static int unpickle(const void *bytes, size_t n, struct im_value *v)
{
    return pickle_read(&pool, bytes, n, "data.pkl", v, &err);
}
#define UNPICKLE(TEXT, V) unpickle(TEXT, sizeof(TEXT) - 1, V)

START_TEST(pickle_values)
{
    struct im_value v;
    ck_assert_int_eq(
        UNPICKLE("\x80\x02(K\x01M\x34\x12J\xff\xff\xff\xff\x8a\x02\x00\x80N\x88\x89"
                 "X\x03\0\0\0abcG\x3f\xe0\0\0\0\0\0\0t.",
                 &v),
        0);
    ck_assert_int_eq(v.kind, IM_TUPLE);
    const struct im_value *a = v.list->item;
    ck_assert_uint_eq(v.list->n, 9);
    ck_assert(a[0].i == 1 && a[1].i == 0x1234 && a[2].i == -1 && a[3].i == -32768);
    ck_assert(a[4].kind == IM_NONE && a[5].b && !a[6].b && im_text_is(&a[7], "abc"));
    ck_assert(a[8].kind == IM_REAL && a[8].d == 0.5);
}
END_TEST

START_TEST(pickle_runs_nothing)
{
    struct im_value v;
    ck_assert_int_eq(UNPICKLE("\x80\x02"
                              "cos\nsystem\nX\x04\0\0\0true\x85R.",
                              &v),
                     PSG_E_FORMAT);
    ck_assert_str_eq(err.text,
                     "pickle: offset 2: os.system is not a name that models need");
    ck_assert_int_eq(UNPICKLE("\x80\x02"
                              "c__builtin__\neval\n)R.",
                              &v),
                     PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02(ios\nsystem\n.", &v), PSG_E_FORMAT);
    ck_assert_str_eq(err.text, "pickle: offset 3: opcode 0x69 is not one that models need");
    ck_assert_int_eq(UNPICKLE("\x80\x04\x8c\x02os\x8c\x06system\x93.", &v), PSG_E_FORMAT);
    /* known names are not callable with anything */
    ck_assert_int_eq(UNPICKLE("\x80\x02"
                              "ctorch\nFloatStorage\n)R.",
                              &v),
                     PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02"
                              "c__torch__\nM\n)R.",
                              &v),
                     PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02"
                              "ctorch._utils\n_rebuild_tensor_v2\n)R.",
                              &v),
                     PSG_E_FORMAT);
}
END_TEST

#define TENSOR(N, SIZE, STRIDE)                                                            \
    "\x80\x02"                                                                             \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"        \
    "X\x01\0\0\0"                                                                          \
    "0X\x03\0\0\0cpuK" N "tQK\0K" SIZE "\x85K" STRIDE "\x85\x88"                           \
    "ccollections\nOrderedDict\n)RtR."

START_TEST(pickle_tensor)
{
    struct im_value v;
    ck_assert_msg(UNPICKLE(TENSOR("\x06", "\x03", "\x02"), &v) == 0, "%s", err.text);
    ck_assert_int_eq(v.kind, IM_STORED);
    ck_assert(v.stored->shape.rank == 1 && v.stored->shape.dim[0] == 3);
    ck_assert(v.stored->requires_grad && v.stored->storage->element == IM_F32);
    ck_assert_int_eq(UNPICKLE(TENSOR("\x04", "\x03", "\x02"), &v), PSG_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "reaches past its storage"));
}
END_TEST

START_TEST(pickle_bounds)
{
    struct im_value v;
    static uint8_t deep[200002];
    memset(deep, '(', 100000);
    memset(deep + 100000, 't', 100000);
    deep[200000] = '.';
    ck_assert_int_eq(unpickle(deep, 200001, &v), 0); /* nests, without recursion */
    pool.limit = 1 << 16;
    ck_assert_int_eq(unpickle(deep, 200001, &v), PSG_E_NOMEM);
    pool.limit = 64 << 20;
    ck_assert_int_eq(UNPICKLE("\x80\x02K\x01r\xff\xff\xff\x7f.", &v), PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02X\xff\xff\xff\xff.", &v), PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02", &v), PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02.", &v), PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02(.", &v), PSG_E_FORMAT);
    ck_assert_int_eq(UNPICKLE("\x80\x02K\x01K\x02"
                              "a.",
                              &v),
                     PSG_E_FORMAT);
}
END_TEST

/* ---- code ---- */
static int compile(const char *text, struct code_file **filep)
{
    return code_compile(&pool, "code/m.py", "__torch__.m", text, strlen(text), filep, &err);
}

START_TEST(code_compiles)
{
    struct code_file *file;
    ck_assert_msg(compile("class M(Module):\n"
                          "  weight : Tensor\n"
                          "  size : Final[Tuple[int, int]] = (2, -3)\n"
                          "  def forward(self: M,\n"
                          "    x: Tensor, p: float=0.5) -> Tensor:\n"
                          "    a, b, = torch.chunk(x, 2)\n"
                          "    if p:\n"
                          "      y = torch.add(a, b, alpha=1)\n"
                          "    else:\n"
                          "      y = (self).other(a, )\n"
                          "    return y\n"
                          "def g(x):\n"
                          "  for i in range(3):\n"
                          "    x = [x, i]\n"
                          "  return x, 1\n",
                          &file) == 0,
                  "%s %s", err.place, err.text);
    const struct code_class *m = code_find_class(file, "M");
    ck_assert_ptr_nonnull(m);
    const struct im_value *size = im_dict_find(&m->consts, "size");
    ck_assert(size && size->kind == IM_TUPLE && size->list->item[1].i == -3);
    const struct code_fn *f = code_find_fn(m->fns, "forward");
    ck_assert(f && f->n_params == 3 && f->dflt.item[2].d == 0.5);
    ck_assert_int_eq(f->dflt.item[1].kind, IM_UNSET);
    ck_assert_ptr_nonnull(code_find_fn(file->fns, "g"));
    ck_assert_ptr_null(code_find_fn(file->fns, "h"));
}
END_TEST

START_TEST(code_names_the_line)
{
    static const struct {
        const char *text, *place, *message;
    } bad[] = {
        { "def f(x):\n  return x + 1\n", "code/m.py:2", "expected the end of the line" },
        { "def f(x):\n  return y\n", "code/m.py:2", "y is not set before this line" },
        { "def f(x):\n  y = (x, [1)\n", "code/m.py:2", "expected ']'" },
        { "def f(x):\n  else:\n    pass\n", "code/m.py:2", "an else without its if" },
        { "def f(x):\n\n  with x:\n    pass\n", "code/m.py:3", "'with' is not read" },
        { "def f(x):\n  y = \"abc\n", "code/m.py:2", "a string has no end" },
        { "import os\n", "code/m.py:1", "expected a class or a function" },
        { "def f(x, x):\n  pass\n", "code/m.py:1", "two parameters have one name" },
        { "def f(x):\n  y = 99999999999999999999\n", "code/m.py:2",
          "99999999999999999999 is not a number that is understood" },
    };
    struct code_file *file;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_ne(compile(bad[i].text, &file), 0);
        ck_assert_str_eq(err.place, bad[i].place);
        ck_assert_str_eq(err.text, bad[i].message);
    }
}
END_TEST

START_TEST(code_bounds)
{
    struct code_file *file;
    char *text = malloc(200000);
    ck_assert_ptr_nonnull(text);
    strcpy(text, "def f(x):\n  y = ");
    memset(text + 16, '(', 1000);
    strcpy(text + 1016, "\n");
    ck_assert_int_eq(compile(text, &file), PSG_E_UNSUPPORTED);
    size_t n = (size_t)sprintf(text, "def f(x):\n");
    for (int i = 1; i < 400; i++)
        n += (size_t)sprintf(text + n, "%*sif x:\n", i, "");
    ck_assert_int_eq(compile(text, &file), PSG_E_UNSUPPORTED);
    ck_assert_str_eq(err.text, "blocks nest deeper than 200");
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("import");
    TCase *t = tcase_create("readers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, zip_reads);
    tcase_add_test(t, zip_refuses_cut);
    tcase_add_test(t, zip_refuses_changed);
    tcase_add_test(t, zip_names_checksum);
    tcase_add_test(t, pickle_values);
    tcase_add_test(t, pickle_runs_nothing);
    tcase_add_test(t, pickle_tensor);
    tcase_add_test(t, pickle_bounds);
    tcase_add_test(t, code_compiles);
    tcase_add_test(t, code_names_the_line);
    tcase_add_test(t, code_bounds);
    suite_add_tcase(s, t);
    return suite_run(s);
}
