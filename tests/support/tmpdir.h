/* A folder of the test's own, removed with everything in it when the process that made it ends. */
#ifndef TESTS_TMPDIR_H
#define TESTS_TMPDIR_H

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char tmpdir_path[64];
static pid_t tmpdir_owner;

static inline int tmpdir_remove_one(const char *path, const struct stat *st, int kind,
                                    struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static inline void tmpdir_remove(void)
{
    if (tmpdir_path[0] && tmpdir_owner == getpid())
        nftw(tmpdir_path, tmpdir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    tmpdir_path[0] = '\0';
}

/* A new, empty folder; the one before is removed. */
static inline const char *tmpdir_new(void)
{
    if (!tmpdir_owner)
        atexit(tmpdir_remove);
    tmpdir_remove();
    tmpdir_owner = getpid();
    strcpy(tmpdir_path, "/tmp/dpsgd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tmpdir_path));
    return tmpdir_path;
}

#endif
