/* Runs a fuzz target over the files of a folder: driver FOLDER. Prints TAP. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    uint8_t *data = NULL;
    size_t size = 0, n;
    do {
        uint8_t *grown = realloc(data, size + 65536);
        if (!grown)
            abort();
        data = grown;
        n = fread(data + size, 1, 65536, f);
        size += n;
    } while (n > 0);
    fclose(f);
    /* a copy of exactly this size lets sanitizers see a read past the end */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    for (size_t i = 0; i < size; i++)
        exact[i] = data[i];
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent **entry;
    int n = argc == 2 ? scandir(argv[1], &entry, NULL, alphasort) : -1;
    int done = 0, failed = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry[i]->d_name);
        if (entry[i]->d_name[0] != '.') {
            int bad = run_file(path) != 0;
            failed += bad;
            printf("%s %d - %s\n", bad ? "not ok" : "ok", ++done, entry[i]->d_name);
            fflush(stdout);
        }
        free(entry[i]);
    }
    if (n >= 0)
        free(entry);
    printf("1..%d\n", done);
    return failed || done == 0;
}
