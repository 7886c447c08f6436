#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "data/data.h"

enum { DIGITS_RECORDS = 1797, DIGITS_PIXELS = 64, DIGITS_RECORD = DIGITS_PIXELS + 1 };

extern const unsigned char data_digits_begin[], data_digits_end[];

static bool inflate_all(unsigned char *out, size_t size)
{
    z_stream z = { .avail_in = (uInt)(data_digits_end - data_digits_begin),
                   .next_out = out,
                   .avail_out = (uInt)size };
    z.next_in = (z_const Bytef *)(uintptr_t)data_digits_begin;
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return false;
    int rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return rc == Z_STREAM_END && z.total_out == size;
}

/* The split, fixed for ever: of each class, in the order of the file, every fifth record is a
 * test record. */
static void deal(const unsigned char *records, bool is_test[DIGITS_RECORDS], int64_t n[2])
{
    int seen[10] = { 0 };
    n[DATA_TRAIN] = n[DATA_TEST] = 0;
    for (int i = 0; i < DIGITS_RECORDS; i++) {
        int class = records[i * DIGITS_RECORD + DIGITS_PIXELS] % 10;
        is_test[i] = ++seen[class] % 5 == 0;
        n[is_test[i] ? DATA_TEST : DATA_TRAIN]++;
    }
}

int data_load_digits(struct data *data, struct problem *p)
{
    _cleanup_free_ unsigned char *records = malloc(DIGITS_RECORDS * DIGITS_RECORD);
    bool is_test[DIGITS_RECORDS];
    int64_t n[2], at[2] = { 0, 0 };
    if (!records)
        return error_nomem(p);
    if (!inflate_all(records, DIGITS_RECORDS * DIGITS_RECORD))
        return ERROR_INTERNAL;
    deal(records, is_test, n);
    for (int s = 0; s < 2; s++) {
        data->part[s].inputs = malloc((size_t)n[s] * DIGITS_PIXELS);
        data->part[s].labels = malloc((size_t)n[s] * sizeof(int64_t));
        if (!data->part[s].inputs || !data->part[s].labels)
            return error_nomem(p);
        data->part[s].n = n[s];
    }
    for (int i = 0; i < DIGITS_RECORDS; i++) {
        const unsigned char *record = records + i * DIGITS_RECORD;
        struct data_part *part = &data->part[is_test[i] ? DATA_TEST : DATA_TRAIN];
        int64_t to = at[is_test[i] ? DATA_TEST : DATA_TRAIN]++;
        memcpy((unsigned char *)part->inputs + to * DIGITS_PIXELS, record, DIGITS_PIXELS);
        ((int64_t *)part->labels)[to] = record[DIGITS_PIXELS];
    }
    data->input = (struct psg_type){ PSG_REAL, PSG_SHAPE(1, 8, 8) };
    data->input_type = PSG_COL_U8;
    data->label_type = PSG_COL_I64;
    data->record_size = DIGITS_PIXELS;
    return 0;
}
