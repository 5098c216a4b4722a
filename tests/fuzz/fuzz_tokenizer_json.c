/*
 * tokenizer_parse over arbitrary bytes: what it accepts is printed and parsed again to the same
 * text, and takes the bytes themselves as text to encode. What decodes comes out the same at once
 * and id by id; of our own kinds it is the text.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX 4096u

static void use(const struct tokenizer *t, struct bytes text)
{
    int32_t *ids;
    struct buf at_once, by_id;
    struct tokenizer_stream s;
    size_t n, cap;

    text.len = text.len > TEXT_MAX ? TEXT_MAX : text.len;
    cap = 64 * text.len + 64;
    ids = malloc(cap * sizeof(ids[0]));
    CHECK(ids != NULL);
    buf_init(&at_once, (size_t)1 << 26);
    buf_init(&by_id, (size_t)1 << 26);
    tokenizer_stream_init(&s, t);
    if (tokenizer_encode_trusted(t, text, ids, cap, &n, NULL) == OK &&
        tokenizer_encode(t, text, ids, cap, &n, NULL) == OK &&
        tokenizer_decode(&at_once, t, ids, n, NULL) == OK) {
        for (size_t i = 0; i < n; i++) {
            CHECK(tokenizer_stream_push(&s, &by_id, ids[i], NULL) == OK);
            CHECK(tokenizer_kind(t) == TOKENIZER_BYTE ||
                  utf8_valid(buf_bytes(&by_id)) == by_id.len);
        }
        CHECK(tokenizer_stream_flush(&s, &by_id, NULL) == OK);
        CHECK(bytes_equal(buf_bytes(&at_once), buf_bytes(&by_id)));
        CHECK(tokenizer_kind(t) == TOKENIZER_BPE || bytes_equal(buf_bytes(&at_once), text));
    }
    tokenizer_stream_clear(&s);
    buf_clear(&at_once);
    buf_clear(&by_id);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t, *again = NULL;
    struct buf a, b;

    if (tokenizer_parse(&t, (struct bytes){data, size}, NULL) != OK)
        return 0;
    buf_init(&a, (size_t)1 << 26);
    buf_init(&b, (size_t)1 << 26);
    tokenizer_print(&a, t);
    CHECK(tokenizer_parse(&again, buf_bytes(&a), NULL) == OK);
    tokenizer_print(&b, again);
    CHECK(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    use(t, (struct bytes){data, size});
    use(t, buf_bytes(&a));
    use(t, BYTES_LIT("Hello  wo\xc3\xa9rld \xe2\x96\x81 <s> 123\n\xf0\x9f\xa4\x97"));
    buf_clear(&a);
    buf_clear(&b);
    tokenizer_free(&t);
    tokenizer_free(&again);
    return 0;
}
