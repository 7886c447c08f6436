#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAULT_FILES = 64, FAULT_FDS = 256 };

struct pending {
    struct pending *next;
    int64_t at;
    int n;
    int64_t old_size;
    unsigned char *before; /* [n], zeros past old_size */
    unsigned char *after;
};

struct fault_file {
    sqlite3_file base;
    struct pending *first, **last; /* since the last sync */
    sqlite3_file *real;            /* lies behind this struct */
    const char *name;              /* SQLite's, until it is closed */
};

static struct {
    pthread_mutex_t lock;
    enum fault_mode mode;
    uint64_t n, count, random, asked;
    int64_t clock_ms;
    bool files_only;    /* SQLite's operations do not count */
    bool database_only; /* only SQLite's do */
    struct fault_file *files[FAULT_FILES];
    bool unsynced[FAULT_FDS];
    off_t synced[FAULT_FDS]; /* bytes before the first write since the last sync */
    struct env env;
} fault = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t draw(void)
{
    uint64_t z = (fault.random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void fault_arm(enum fault_mode mode, uint64_t n, uint64_t seed)
{
    pthread_mutex_lock(&fault.lock);
    fault.mode = mode;
    fault.n = n;
    fault.count = 0;
    fault.random = seed;
    pthread_mutex_unlock(&fault.lock);
}

uint64_t fault_count(void)
{
    return fault.count;
}

bool fault_hit(void)
{
    return fault.count >= fault.n && fault.mode != FAULT_NONE;
}

void fault_files_only(bool yes)
{
    fault.files_only = yes;
}

void fault_database_only(bool yes)
{
    fault.database_only = yes;
}

void fault_clock(int64_t add_ms)
{
    fault.clock_ms += add_ms;
}

/* ---- the power cut ---- */

static void undo(sqlite3_file *real, struct pending *w)
{
    if (!w)
        return;
    /* newest first: the list is short enough for a walk per entry */
    size_t n = 0;
    for (struct pending *i = w; i; i = i->next)
        n++;
    while (n-- > 0) {
        struct pending *i = w;
        for (size_t k = 0; k < n; k++)
            i = i->next;
        real->pMethods->xWrite(real, i->before, i->n, i->at);
        real->pMethods->xTruncate(real, i->old_size);
    }
}

static void redo_some(sqlite3_file *real, const struct pending *w)
{
    for (; w; w = w->next) {
        uint64_t fate = draw() % 4;
        int n = w->n;
        if (fate == 0)
            continue; /* never reached the disk */
        if (fate == 1 && n > 512)
            n = 512 * (int)(draw() % (uint64_t)(n / 512));
        if (n > 0)
            real->pMethods->xWrite(real, w->after, n, w->at);
    }
}

static void drop(struct fault_file *f)
{
    while (f->first) {
        struct pending *w = f->first;
        f->first = w->next;
        free(w->before);
        free(w->after);
        free(w);
    }
    f->last = &f->first;
}

static void lose_writes(void)
{
    for (int i = 0; i < FAULT_FILES; i++)
        if (fault.files[i]) {
            undo(fault.files[i]->real, fault.files[i]->first);
            redo_some(fault.files[i]->real, fault.files[i]->first);
            drop(fault.files[i]);
        }
    for (int fd = 0; fd < FAULT_FDS; fd++)
        if (fault.unsynced[fd]) {
            off_t size = lseek(fd, 0, SEEK_END), kept = fault.synced[fd];
            if (size > kept && ftruncate(fd, kept + (off_t)(draw() % (uint64_t)(size - kept))) < 0)
                _exit(1);
        }
}

static bool is_named(const struct fault_file *f, const char *end)
{
    size_t n = f && f->name ? strlen(f->name) : 0, m = strlen(end);
    return n >= m && strcmp(f->name + n - m, end) == 0;
}

/* newest first, as undo() does it */
static void take_back(int fd, const struct pending *first)
{
    size_t n = 0;
    for (const struct pending *i = first; i; i = i->next)
        n++;
    while (n-- > 0) {
        const struct pending *w = first;
        for (size_t k = 0; k < n; k++)
            w = w->next;
        if (pwrite(fd, w->before, (size_t)w->n, (off_t)w->at) != w->n ||
            ftruncate(fd, (off_t)w->old_size) < 0)
            abort();
    }
}

static void copy_file(const char *from, const char *to)
{
    char room[65536];
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), in = -1;
    for (int i = 0; i < FAULT_FILES && in < 0; i++)
        if (is_named(fault.files[i], from))
            in = open(fault.files[i]->name, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; in >= 0 && (n = read(in, room, sizeof room)) > 0;)
        if (write(out, room, (size_t)n) != n)
            abort();
    for (int i = 0; i < FAULT_FILES; i++)
        if (is_named(fault.files[i], from))
            take_back(out, fault.files[i]->first);
    if (in >= 0)
        close(in);
    close(out);
}

void fault_copy_durable(const char *from, const char *to)
{
    char log[2][256];
    snprintf(log[0], sizeof log[0], "%s-wal", from);
    snprintf(log[1], sizeof log[1], "%s-wal", to);
    pthread_mutex_lock(&fault.lock);
    copy_file(from, to);
    copy_file(log[0], log[1]);
    pthread_mutex_unlock(&fault.lock);
}

/* true: this operation fails */
static bool env_tick(bool is_write)
{
    pthread_mutex_lock(&fault.lock);
    fault.count++;
    bool now = fault.mode == FAULT_ONCE ? fault.count == fault.n : fault.count >= fault.n;
    if (now && fault.mode == FAULT_CUT) {
        lose_writes();
        _exit(FAULT_EXIT);
    }
    if (fault.mode == FAULT_CRASH && fault.count == fault.n)
        lose_writes();
    bool fails = now && (fault.mode == FAULT_ONCE || fault.mode == FAULT_FROM ||
                         fault.mode == FAULT_CRASH || (fault.mode == FAULT_FULL && is_write));
    pthread_mutex_unlock(&fault.lock);
    return fails;
}

static bool env_fails(bool is_write)
{
    return !fault.database_only && env_tick(is_write);
}

/* ---- SQLite's file layer ---- */

static bool tick(bool is_write)
{
    return !fault.files_only && env_tick(is_write);
}

/* The list is also read by a power cut that another thread's operation brings about. */
static void forget(struct fault_file *f)
{
    pthread_mutex_lock(&fault.lock);
    drop(f);
    pthread_mutex_unlock(&fault.lock);
}

static void remember(struct fault_file *f, const void *data, int n, int64_t at)
{
    struct pending *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->before = calloc(1, (size_t)n);
    w->after = malloc((size_t)n);
    if (!w->before || !w->after)
        abort();
    w->at = at;
    w->n = n;
    sqlite3_int64 size = 0;
    f->real->pMethods->xFileSize(f->real, &size);
    w->old_size = size;
    if (at < size)
        f->real->pMethods->xRead(f->real, w->before, n, at);
    memcpy(w->after, data, (size_t)n);
    pthread_mutex_lock(&fault.lock);
    *f->last = w;
    f->last = &w->next;
    pthread_mutex_unlock(&fault.lock);
}

static int file_close(sqlite3_file *file)
{
    struct fault_file *f = (struct fault_file *)file;
    pthread_mutex_lock(&fault.lock);
    for (int i = 0; i < FAULT_FILES; i++)
        if (fault.files[i] == f)
            fault.files[i] = NULL;
    pthread_mutex_unlock(&fault.lock);
    forget(f);
    return f->real->pMethods->xClose(f->real);
}

static int file_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xRead(f->real, out, n, at);
}

static int file_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    struct fault_file *f = (struct fault_file *)file;
    if (fault.mode == FAULT_CUT || fault.mode == FAULT_CRASH)
        remember(f, data, n, at);
    if (tick(true))
        return fault.mode == FAULT_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    return f->real->pMethods->xWrite(f->real, data, n, at);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct fault_file *f = (struct fault_file *)file;
    if (tick(false))
        return SQLITE_IOERR_TRUNCATE;
    return f->real->pMethods->xTruncate(f->real, size);
}

static int file_sync(sqlite3_file *file, int flags)
{
    struct fault_file *f = (struct fault_file *)file;
    if (tick(false))
        return SQLITE_IOERR_FSYNC;
    forget(f);
    (void)flags; /* nobody pulls the real plug in a test: skipping the real sync is safe */
    return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xFileSize(f->real, size);
}

static int file_lock(sqlite3_file *file, int level)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xLock(f->real, level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xUnlock(f->real, level);
}

static int file_check_lock(sqlite3_file *file, int *out)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xCheckReservedLock(f->real, out);
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xFileControl(f->real, op, arg);
}

static int file_sector(sqlite3_file *file)
{
    (void)file;
    return 512;
}

static int file_traits(sqlite3_file *file)
{
    (void)file;
    return 0; /* the least that a disk may promise */
}

static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xShmMap(f->real, page, size, extend, out);
}

static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xShmLock(f->real, offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
    struct fault_file *f = (struct fault_file *)file;
    f->real->pMethods->xShmBarrier(f->real);
}

static int file_shm_unmap(sqlite3_file *file, int drop)
{
    struct fault_file *f = (struct fault_file *)file;
    return f->real->pMethods->xShmUnmap(f->real, drop);
}

static const sqlite3_io_methods methods = {
    2, file_close, file_read, file_write, file_truncate, file_sync, file_size, file_lock,
    file_unlock, file_check_lock, file_control, file_sector, file_traits, file_shm_map,
    file_shm_lock, file_shm_barrier, file_shm_unmap, NULL, NULL,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    sqlite3_vfs *real = vfs->pAppData;
    struct fault_file *f = (struct fault_file *)file;
    memset(f, 0, sizeof *f);
    f->last = &f->first;
    f->real = (sqlite3_file *)(f + 1);
    int rc = real->xOpen(real, name, f->real, flags, out);
    if (rc != SQLITE_OK)
        return rc;
    f->base.pMethods = &methods;
    f->name = name;
    pthread_mutex_lock(&fault.lock);
    int i = 0;
    while (i < FAULT_FILES && fault.files[i])
        i++;
    if (i == FAULT_FILES)
        abort();
    fault.files[i] = f;
    pthread_mutex_unlock(&fault.lock);
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    sqlite3_vfs *real = vfs->pAppData;
    if (tick(false))
        return SQLITE_IOERR_DELETE;
    return real->xDelete(real, name, sync_dir);
}

/* ---- env ---- */

static uint64_t fault_monotonic_ns(const struct env *env)
{
    (void)env;
    pthread_mutex_lock(&fault.lock);
    uint64_t now = ++fault.asked * UINT64_C(1000000000);
    pthread_mutex_unlock(&fault.lock);
    return now;
}

static int64_t fault_realtime_ms(const struct env *env)
{
    (void)env;
    return 1767225600000 + fault.clock_ms; /* 2026-01-01 */
}

static int fault_random(const struct env *env, void *buf, size_t n)
{
    (void)env;
    return env_system()->random(env_system(), buf, n);
}

static int fault_open(const struct env *env, int dir, const char *name, int flags, mode_t mode)
{
    (void)env;
    int fd = env_system()->open(env_system(), dir, name, flags, mode);
    if (fd >= 0 && fd < FAULT_FDS)
        fault.unsynced[fd] = false; /* the number was another file's */
    return fd;
}

static ssize_t fault_write(const struct env *env, int fd, const void *buf, size_t n)
{
    (void)env;
    struct stat st;
    if (fd < FAULT_FDS && !fault.unsynced[fd] && fstat(fd, &st) == 0) {
        fault.unsynced[fd] = true;
        fault.synced[fd] = st.st_size;
    }
    if (env_fails(true))
        return fault.mode == FAULT_FULL ? -ENOSPC : -EIO;
    return env_system()->write(env_system(), fd, buf, n);
}

static int fault_fsync(const struct env *env, int fd)
{
    (void)env;
    if (env_fails(false))
        return -EIO;
    if (fd < FAULT_FDS)
        fault.unsynced[fd] = false;
    return 0;
}

static int fault_rename(const struct env *env, int dir, const char *from, const char *to)
{
    (void)env;
    return env_fails(false) ? -EIO : env_system()->rename(env_system(), dir, from, to);
}

static int fault_unlink(const struct env *env, int dir, const char *name)
{
    (void)env;
    return env_fails(false) ? -EIO : env_system()->unlink(env_system(), dir, name);
}

const struct env *fault_env(void)
{
    static sqlite3_vfs vfs;
    if (!vfs.zName) {
        sqlite3_vfs *real = sqlite3_vfs_find(NULL);
        vfs = *real;
        vfs.zName = "fault";
        vfs.pNext = NULL;
        vfs.pAppData = real;
        vfs.szOsFile = (int)sizeof(struct fault_file) + real->szOsFile;
        vfs.xOpen = vfs_open;
        vfs.xDelete = vfs_delete;
        sqlite3_vfs_register(&vfs, 0);
        fault.env = (struct env){
            .monotonic_ns = fault_monotonic_ns,
            .realtime_ms = fault_realtime_ms,
            .random = fault_random,
            .open = fault_open,
            .write = fault_write,
            .fsync = fault_fsync,
            .rename = fault_rename,
            .unlink = fault_unlink,
            .vfs = "fault",
        };
    }
    return &fault.env;
}
