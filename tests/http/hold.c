/* Linked into a daemon in place of data_load: reading the data of a dataset whose name begins with
 * "held" waits until the test lets it go on. DPSGD_HOLD names two FIFOs that the test has open:
 * each reading puts a byte into FILE.begun, then takes one out of FILE.go. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/data.h"

int __real_data_load(const struct dataset_spec *spec, int root, struct data **datap,
                     struct problem *p);
int __wrap_data_load(const struct dataset_spec *spec, int root, struct data **datap,
                     struct problem *p);

static int open_fifo(const char *suffix)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", getenv("DPSGD_HOLD"), suffix);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void hold(void)
{
    char byte = '.';
    int begun = open_fifo(".begun"), go = open_fifo(".go");
    if (write(begun, &byte, 1) != 1 || read(go, &byte, 1) != 1)
        abort();
    close(begun);
    close(go);
}

int __wrap_data_load(const struct dataset_spec *spec, int root, struct data **datap,
                     struct problem *p)
{
    if (strncmp(spec->name, "held", 4) == 0)
        hold();
    return __real_data_load(spec, root, datap, p);
}
