/* The first byte chooses the options. */
#include "fuzz_array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const columns[] = { "b", "0" };
    if (size == 0)
        return 0;
    struct psg_csv_options o = {
        .delimiter = data[0] & 1 ? ';' : 0,
        .header = data[0] & 2,
        .column = data[0] & 4 ? columns : NULL,
        .n_columns = 2,
        .label = data[0] & 8    ? "label"
                 : data[0] & 16 ? "1"
                                : NULL,
    };
    struct psg_array x = { 0 }, y = { 0 };
    struct psg_error err;
    if (psg_csv_decode(data + 1, size - 1, "fuzz", &o, &x, &y, &err) == 0) {
        fuzz_touch(&x);
        if (o.label)
            fuzz_touch(&y);
    }
    psg_array_free(&x);
    psg_array_free(&y);
    return 0;
}
