#include "fuzz_array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psg_array a = { 0 };
    struct psg_error err;
    if (psg_npy_decode(data, size, "fuzz", &a, &err) == 0)
        fuzz_touch(&a);
    psg_array_free(&a);
    return 0;
}
