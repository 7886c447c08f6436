/* Shared objects of an administrator: checked, opened, and put into a registry. */
#include "psg/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mode/mode.h"

static int refuse_os(const char *path, const char *what, struct psg_error *err)
{
    return psg_fail(err, PSG_E_IO, path, "the %s cannot be opened: %s", what, strerror(errno));
}

/* Whoever may write here may run code as us. */
static int check_owner(const struct stat *st, const char *path, const char *what,
                       struct psg_error *err)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return psg_fail(err, PSG_E_INVALID, path,
                        "the %s belongs to user %ld; it must belong to root or to user %ld",
                        what, (long)st->st_uid, (long)geteuid());
    bool sticky = S_ISDIR(st->st_mode) && st->st_mode & S_ISVTX;
    if (st->st_mode & S_IWOTH && !sticky)
        return psg_fail(err, PSG_E_INVALID, path, "everybody may write the %s: chmod o-w", what);
    return 0;
}

static int check_folder(const char *path, struct psg_error *err)
{
    char folder[4096];
    struct stat st;
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof folder)
        return psg_fail(err, PSG_E_INVALID, path, "the path is too long");
    memcpy(folder, path, n);
    folder[n] = '\0';
    if (stat(folder, &st) != 0)
        return refuse_os(path, "folder", err);
    return check_owner(&st, path, "folder", err);
}

static int check_file(const char *path, struct psg_error *err)
{
    struct stat st;
    if (path[0] != '/')
        return psg_fail(err, PSG_E_INVALID, path, "the path of a plugin must be absolute");
    int r = check_folder(path, err);
    if (r)
        return r;
    if (lstat(path, &st) != 0)
        return refuse_os(path, "file", err);
    if (!S_ISREG(st.st_mode))
        return psg_fail(err, PSG_E_INVALID, path, "a plugin must be a regular file");
    return check_owner(&st, path, "file", err);
}

static int check_abi(const struct psg_plugin *p, const char *path, struct psg_error *err)
{
    if (p->abi != PSG_PLUGIN_ABI)
        return psg_fail(err, PSG_E_UNSUPPORTED, path,
                        "built for plugin ABI %u, this is %d: build it again", p->abi,
                        PSG_PLUGIN_ABI);
    if (p->size != sizeof *p || p->op_size != sizeof(struct psg_op) ||
        p->call_size != sizeof(struct psg_call) || p->real_size != sizeof(psg_real))
        return psg_fail(err, PSG_E_UNSUPPORTED, path,
                        "built with other headers than this program: build it again");
    if (!p->name || !*p->name || strnlen(p->name, 65) > 64)
        return psg_fail(err, PSG_E_INVALID, path, "a plugin needs a name of at most 64 bytes");
    if (p->n_samplers < 0 || p->n_ops < 0 || p->n_samplers + p->n_ops == 0 ||
        (p->n_samplers > 0 && !p->samplers) || (p->n_ops > 0 && !p->ops))
        return psg_fail(err, PSG_E_INVALID, path, "plugin %s brings nothing", p->name);
    return 0;
}

static int take(struct psg_registry *registry, const struct psg_plugin *p, const char *path,
                struct psg_error *err)
{
    char origin[80];
    struct psg_error own = { 0 };
    int r = 0;
    snprintf(origin, sizeof origin, "plugin %s", p->name);
    for (int i = 0; r == 0 && i < p->n_ops; i++)
        r = psg_register_op(registry, p->ops[i], origin, &own);
    for (int i = 0; r == 0 && i < p->n_samplers; i++) {
        struct psg_grad_sampler s = p->samplers[i];
        s.origin = origin;
        if (s.op && !psg_op_find(s.op) && !psg_registry_op(registry, s.op))
            r = psg_fail(&own, PSG_E_INVALID, s.op, "there is no layer function of this name");
        else
            r = psg_register_grad_sampler(registry, &s, &own);
    }
    return r ? psg_fail(err, own.status, path, "%s: %s: %s", origin, own.place, own.text) : 0;
}

int psg_plugin_load(struct psg_registry *registry, const char *path, struct psg_error *err)
{
    int r = check_file(path, err);
    if (r)
        return r;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return psg_fail(err, PSG_E_FORMAT, path, "it cannot be loaded: %.250s", dlerror());
    const struct psg_plugin *p = dlsym(handle, "psg_plugin");
    if (!p)
        r = psg_fail(err, PSG_E_FORMAT, path, "it has no symbol psg_plugin");
    if (r == 0)
        r = check_abi(p, path, err);
    if (r) {
        dlclose(handle);
        return r;
    }
    r = registry_keep(registry, handle, err);
    return r ? r : take(registry, p, path, err);
}
