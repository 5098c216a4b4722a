/*
 * Lines of prompts, over arbitrary bytes: what is accepted are prompts of the model's ids that leave room
 * for an answer.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cli/generate_prompts.h"
#include "cli/jsonl.h"

#define MAX_LEN 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t = NULL;
    struct model_config c = {.bos = 256, .max_len = MAX_LEN};
    struct prompts p = {.c = &c};
    struct err e;

    CHECK(tokenizer_new(&t, TOKENIZER_BYTE, (struct bytes){0}, &e) == OK);
    p.t = t;
    p.spelt.reads_special = size > 0 && data[size - 1] % 2;
    if (jsonl_parse((struct bytes){data, size}, "fuzz", prompts_object, &p, &e)) {
        CHECK(!strncmp(e.text, "fuzz:", 5));
    } else {
        for (size_t i = 0; i < p.n; i++) {
            CHECK(p.at[i].n > 0 && p.at[i].n < MAX_LEN && p.at[i].n <= p.longest);
            for (size_t j = 0; j < p.at[i].n; j++)
                CHECK(p.at[i].ids[j] >= 0 && (uint32_t)p.at[i].ids[j] < tokenizer_vocab(t));
        }
    }
    prompts_clear(&p);
    tokenizer_free(&t);
    return 0;
}
