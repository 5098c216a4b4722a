/*
 * tokenizer_parse over arbitrary bytes: what it accepts is printed and parsed again to the same
 * text, and takes the bytes themselves as text to encode.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct tokenizer *t, struct bytes text)
{
    int32_t *ids = malloc((text.len + 1) * sizeof(ids[0]));
    struct buf back;
    size_t n;

    CHECK(ids != NULL);
    buf_init(&back, text.len + 1);
    if (tokenizer_encode(t, text, ids, text.len, &n, NULL) == OK) {
        CHECK(tokenizer_decode(&back, t, ids, n, NULL) == OK);
        CHECK(bytes_equal(buf_bytes(&back), text));
    }
    buf_clear(&back);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t, *again = NULL;
    struct buf a, b;

    if (tokenizer_parse(&t, (struct bytes){data, size}, NULL) != OK)
        return 0;
    buf_init(&a, 1u << 20);
    buf_init(&b, 1u << 20);
    tokenizer_print(&a, t);
    CHECK(tokenizer_parse(&again, buf_bytes(&a), NULL) == OK);
    tokenizer_print(&b, again);
    CHECK(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    use(t, (struct bytes){data, size});
    use(t, buf_bytes(&a));
    buf_clear(&a);
    buf_clear(&b);
    tokenizer_free(&t);
    tokenizer_free(&again);
    return 0;
}
