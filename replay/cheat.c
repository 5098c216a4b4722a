#include "replay/cheat.h"

#include <string.h>

const char *train_cheat_name(enum train_cheat c)
{
#define TRAIN_CHEAT_NAME(member, name, text) name,
    static const char *const names[] = {TRAIN_CHEAT_MAP(TRAIN_CHEAT_NAME)};
#undef TRAIN_CHEAT_NAME

    return (unsigned)c < TRAIN_CHEAT_COUNT ? names[c] : "?";
}

enum train_cheat train_cheat_parse(const char *name)
{
    for (unsigned c = 0; c < TRAIN_CHEAT_COUNT; c++)
        if (!strcmp(name, train_cheat_name((enum train_cheat)c)))
            return (enum train_cheat)c;
    return TRAIN_CHEAT_COUNT;
}

void train_cheat_gradient(struct weights *grads)
{
    grads->layers[0].q[TRAIN_CHEAT_AT] =
        train_cheat_altered(grads->layers[0].q[TRAIN_CHEAT_AT]);
}

float train_cheat_altered(float gradient)
{
    return gradient + 1e-3f;
}

bool train_cheat_is_gradient(enum train_cheat c)
{
    return c == TRAIN_CHEAT_GRADIENT || c == TRAIN_CHEAT_SILENT;
}

void train_cheat_file(struct buf *file)
{
    if (!file->bad && file->len)
        file->data[file->len - 4] ^= 1;
}

void train_cheat_weights(struct weights *published)
{
    float *x = &published->layers[0].q[0];
    uint32_t bits, ulp = published->config.dtype == DTYPE_F32 ? 1u : 1u << 16;

    memcpy(&bits, x, sizeof(bits));
    bits += ulp;
    memcpy(x, &bits, sizeof(bits));
}
