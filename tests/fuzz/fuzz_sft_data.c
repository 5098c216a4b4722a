/*
 * sft_data_parse over arbitrary bytes: what it accepts are sequences within the bounds, each with
 * something to learn.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cli/sft_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sequence(const struct learn_demo *demo, const struct tokenizer *t)
{
    CHECK(demo->n >= 2 && demo->n <= 24 && demo->is_answer[0] == 0);
    CHECK(memchr(demo->is_answer, 1, demo->n));
    for (size_t i = 0; i < demo->n; i++)
        CHECK(demo->tokens[i] >= 0 && (uint32_t)demo->tokens[i] < tokenizer_vocab(t));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t = NULL;
    struct sft_reading how = {.max_tokens = 24};
    struct sft_data d;
    struct err e;

    CHECK(tokenizer_new(&t, TOKENIZER_BYTE, (struct bytes){0}, &e) == OK);
    how.tokenizer = t;
    how.too_long = size ? (enum sft_long)(data[size - 1] % 3) : SFT_LONG_CUT;
    sft_data_init(&d);
    if (sft_data_parse(&d, (struct bytes){data, size}, "fuzz", &how, &e))
        CHECK(!strncmp(e.text, "fuzz:", 5));
    for (size_t i = 0; i < d.n; i++) {
        const struct learn_demo demo = sft_data_get(&d, i);

        check_sequence(&demo, t);
    }
    sft_data_clear(&d);
    tokenizer_free(&t);
    return 0;
}
