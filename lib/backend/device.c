/* The plugin for GPUs: found, asked in a child process, loaded. */
#include "psg/device.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backend/plugin_path.h"

enum { PROBE_MS = 30000 };

const char *psg_cuda_plugin_path(void)
{
    const char *path = secure_getenv("DPSGD_CUDA_PLUGIN");
    return path && *path ? path : PSG_CUDA_PLUGIN;
}

/* The last part of a path is enough to tell a user what is missing. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const struct psg_cuda_plugin *psg_cuda_load(const char *path, struct psg_error *err)
{
    path = path ? path : psg_cuda_plugin_path();
    if (access(path, F_OK) != 0) {
        psg_fail(err, PSG_E_UNSUPPORTED, "device", "the GPU plugin %s is not installed",
                 base_name(path));
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        psg_fail(err, PSG_E_UNSUPPORTED, "device", "the GPU plugin cannot be loaded: %.200s",
                 dlerror());
        return NULL;
    }
    const struct psg_cuda_plugin *p = dlsym(handle, "psg_cuda_plugin");
    if (p && p->abi == PSG_CUDA_ABI && p->real_size == sizeof(psg_real) &&
        p->backend_size == sizeof(struct psg_backend) &&
        p->devices_size == sizeof(struct psg_devices))
        return p;
    dlclose(handle);
    psg_fail(err, PSG_E_UNSUPPORTED, "device", "the GPU plugin %s belongs to another version",
             base_name(path));
    return NULL;
}

/* ---- the child ---- */

static void devices_none(struct psg_devices *devices, const char *why)
{
    memset(devices, 0, sizeof *devices);
    snprintf(devices->why, sizeof devices->why, "%.239s", why);
}

/* Never returns. What plugin and driver print goes nowhere. */
static void probe_child(const char *path, int out)
{
    struct psg_devices devices = { 0 };
    struct psg_error err = { 0 };
    const struct psg_cuda_plugin *p = psg_cuda_load(path, &err);
    if (p)
        p->probe(&devices);
    else
        devices_none(&devices, err.text);
    const char *from = (const char *)&devices;
    for (size_t left = sizeof devices; left > 0;) {
        ssize_t n = write(out, from, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        from += n;
        left -= (size_t)n;
    }
    _exit(0);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* True if the whole answer came before the child ended or time ran out. */
static bool read_answer(int in, struct psg_devices *devices, bool *late)
{
    int64_t end = now_ms() + PROBE_MS;
    char *to = (char *)devices;
    for (size_t left = sizeof *devices; left > 0;) {
        struct pollfd ready = { .fd = in, .events = POLLIN };
        int64_t wait = end - now_ms();
        *late = wait <= 0;
        int r = *late ? 0 : poll(&ready, 1, (int)wait);
        if (r < 0 && errno == EINTR)
            continue;
        ssize_t n = r > 0 ? read(in, to, left) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (r == 0 && !*late)
            continue;
        if (n <= 0)
            return false;
        to += n;
        left -= (size_t)n;
    }
    return true;
}

/* The answer comes from code that may be broken: its fields are held to their ranges. */
static void devices_hold(struct psg_devices *devices)
{
    devices->why[sizeof devices->why - 1] = '\0';
    if (devices->n < 0 || devices->n > PSG_DEVICES_MAX)
        devices_none(devices, "the GPU plugin gave an answer that makes no sense");
    for (int i = 0; i < devices->n; i++)
        devices->at[i].name[sizeof devices->at[i].name - 1] = '\0';
    if (devices->n == 0 && !devices->why[0])
        devices_none(devices, "there is no GPU");
}

static void probe_parent(pid_t child, int in, struct psg_devices *devices)
{
    bool late = false, answered = read_answer(in, devices, &late);
    int status = 0;
    if (!answered)
        kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (answered)
        devices_hold(devices);
    else if (late)
        devices_none(devices, "the GPU driver did not answer within 30 s");
    else
        devices_none(devices, "looking for GPUs crashed: the GPU plugin or driver is broken");
}

void psg_cuda_probe(const char *path, struct psg_devices *devices)
{
    int ends[2];
    path = path ? path : psg_cuda_plugin_path();
    memset(devices, 0, sizeof *devices);
    if (access(path, F_OK) != 0) {
        snprintf(devices->why, sizeof devices->why, "the GPU plugin %s is not installed",
                 base_name(path));
        return;
    }
    if (pipe(ends) != 0) {
        devices_none(devices, "looking for GPUs failed: no pipe");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        probe_child(path, ends[1]);
    }
    close(ends[1]);
    if (child < 0)
        devices_none(devices, "looking for GPUs failed: no process");
    else
        probe_parent(child, ends[0], devices);
    close(ends[0]);
}

int psg_cuda_open(const char *path, int device, const struct psg_backend **bep,
                  struct psg_error *err)
{
    const struct psg_cuda_plugin *p = psg_cuda_load(path, err);
    *bep = NULL;
    return p ? p->open(device, bep, err) : PSG_E_UNSUPPORTED;
}
