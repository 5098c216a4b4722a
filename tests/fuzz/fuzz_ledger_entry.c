/*
 * Entries and bodies from hostile bytes: nothing crashes, and what decodes encodes to the same
 * bytes. The input is one entry, or with a first byte below 0x40 the body of that type; an entry
 * is also offered to an empty log and put into words.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/log.h"
#include "ledger/show.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_body(enum ledger_type type, struct bytes in)
{
    union ledger_body *b = xcalloc(1, sizeof(*b));
    enum status st = OK;
    struct buf out;

    buf_init(&out, LEDGER_BODY_MAX);
    if (ledger_body_decode(b, type, in, NULL) == OK) {
#define ENCODE_CASE(NAME, number, body, moves_money, text)                                     \
    case LEDGER_##NAME: st = ledger_##body##_body_encode(&out, &b->body##_, NULL); break;
        switch (type) {
            LEDGER_TYPE_MAP(ENCODE_CASE)
        case LEDGER_NONE:
        case LEDGER_TYPE_COUNT: break;
        }
#undef ENCODE_CASE
        CHECK(st == OK && bytes_equal(buf_bytes(&out), in));
        (void)ledger_body_has_unit(type, b, 7);
    }
    buf_clear(&out);
    free(b);
}

static void check_entry(struct bytes in)
{
    struct ledger_log *log;
    struct ledger_entry en;
    struct buf out;

    if (ledger_entry_decode(&en, in, NULL))
        return;
    buf_init(&out, (size_t)1 << 20);
    CHECK(ledger_entry_encode(&out, &en, NULL) == OK && bytes_equal(buf_bytes(&out), in));
    check_body(en.type, en.body);
    for (int is_json = 0; is_json < 2; is_json++) {
        buf_reset(&out);
        (void)!ledger_show(&out, &en, NULL, is_json, NULL);
    }
    ledger_log_new(&log);
    (void)!ledger_replay(log, in, NULL, NULL);
    ledger_log_free(&log);
    buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] < 0x40)
        check_body((enum ledger_type)data[0], (struct bytes){data + 1, size - 1});
    else
        check_entry((struct bytes){data, size});
    return 0;
}
