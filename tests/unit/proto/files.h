/* Reads the example messages. */
#ifndef TESTS_PROTO_FILES_H
#define TESTS_PROTO_FILES_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 512

static inline const char *proto_dir(void)
{
    const char *dir = getenv("PROTO_DIR");
    return dir ? dir : "proto";
}

/* path of a folder below proto/, cut when it is absurdly long */
static inline const char *proto_path(char buf[1024], const char *below)
{
    snprintf(buf, 1024, "%.900s/%s", proto_dir(), below);
    return buf;
}

/* the file's bytes, NUL-terminated, in a block of exactly that size; aborts when missing */
static inline char *file_read(const char *dir, const char *name, size_t *lenp)
{
    char *path;
    ck_assert_int_ge(asprintf(&path, "%s/%s", dir, name), 0);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    free(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    ck_assert_int_ge(size, 0);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(fread(text, 1, (size_t)size, file), (size_t)size);
    text[size] = '\0';
    fclose(file);
    *lenp = (size_t)size;
    return text;
}

/* names of the .json files of a folder, sorted by strcmp; each to be freed */
static inline size_t file_list(const char *dir, char *names[FILES_MAX])
{
    struct dirent **entries;
    int n = scandir(dir, &entries, NULL, alphasort);
    size_t count = 0;
    if (n < 0 || n > FILES_MAX) {
        fprintf(stderr, "cannot list %s\n", dir);
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < n; i++) {
        size_t len = strlen(entries[i]->d_name);
        if (len > 5 && strcmp(entries[i]->d_name + len - 5, ".json") == 0)
            names[count++] = strdup(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return count;
}

#endif
