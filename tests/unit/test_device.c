/* Looking for GPUs: whatever the plugin does, the caller gets GPUs or one reason. */
#include "psg/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "suite.h"

static const struct {
    const char *name;
    int n;
    const char *why;
} fakes[] = {
    { "fake_gpu_fine.so", 1, "" },
    { "fake_gpu_crash.so", 0, "crashed" },
    { "fake_gpu_leave.so", 0, "crashed" },
    { "fake_gpu_nonsense.so", 0, "makes no sense" },
    { "fake_gpu_old.so", 0, "another version" },
    { "no_such_file.so", 0, "no_such_file.so is not installed" },
    { "test_device.p", 0, "cannot be loaded" }, /* a folder */
};

START_TEST(probe_answers)
{
    char path[512];
    struct psg_devices devices;
    snprintf(path, sizeof path, "%s/%s", FAKE_DIR, fakes[_i].name);
    psg_cuda_probe(path, &devices);
    ck_assert_int_eq(devices.n, fakes[_i].n);
    ck_assert_msg(strstr(devices.why, fakes[_i].why) != NULL, "%s: %s", fakes[_i].name,
                  devices.why);
    ck_assert_int_eq(devices.n == 0, devices.why[0] != '\0');
    if (devices.n == 1) {
        ck_assert_uint_eq(strlen(devices.at[0].name), sizeof devices.at[0].name - 1);
        ck_assert_int_eq(devices.at[0].memory, 80);
    }
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left behind */
}
END_TEST

START_TEST(open_gives_a_backend)
{
    char path[512];
    const struct psg_backend *be = NULL;
    struct psg_error err = { 0 };
    snprintf(path, sizeof path, "%s/fake_gpu_fine.so", FAKE_DIR);
    ck_assert_int_eq(psg_cuda_open(path, 0, &be, &err), 0);
    ck_assert_str_eq(be->name, "fake");
    ck_assert_int_eq(psg_cuda_open(path, 3, &be, &err), PSG_E_UNSUPPORTED);
    ck_assert_str_eq(err.text, "no such GPU");
    ck_assert_ptr_null(be);
    snprintf(path, sizeof path, "%s/fake_gpu_old.so", FAKE_DIR);
    ck_assert_int_eq(psg_cuda_open(path, 0, &be, &err), PSG_E_UNSUPPORTED);
    ck_assert_str_eq(err.place, "device");
}
END_TEST

START_TEST(path_comes_from_the_environment)
{
    unsetenv("DPSGD_CUDA_PLUGIN");
    ck_assert_ptr_nonnull(strstr(psg_cuda_plugin_path(), "libpsg-cuda.so"));
    setenv("DPSGD_CUDA_PLUGIN", "/somewhere/else.so", 1);
    ck_assert_str_eq(psg_cuda_plugin_path(), "/somewhere/else.so");
}
END_TEST

/* The plugin of this build, where there is one: it loads, and finds GPUs or says why not. */
START_TEST(own_plugin_answers)
{
    const char *path = getenv("BUILT_CUDA_PLUGIN");
    struct psg_devices devices;
    if (!path || !*path)
        return;
    psg_cuda_probe(path, &devices);
    ck_assert_msg(!strstr(devices.why, "plugin"), "%s", devices.why);
    for (int i = 0; i < devices.n; i++)
        ck_assert_int_gt(devices.at[i].memory, 0);
    if (devices.n == 0)
        printf("# no GPU: %s\n", devices.why);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tc = tcase_create("device");
    tcase_add_loop_test(tc, probe_answers, 0, (int)(sizeof fakes / sizeof *fakes));
    tcase_add_test(tc, open_gives_a_backend);
    tcase_add_test(tc, path_comes_from_the_environment);
    tcase_add_test(tc, own_plugin_answers);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
