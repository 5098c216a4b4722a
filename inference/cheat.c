#include "inference/cheat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/msg.h"
#include "proto/submission.h"

static const char *const names[CHEAT_COUNT] = {"none",   "int8",   "stale",
                                               "reward", "tokens", "seed"};

const char *infer_cheat_name(enum infer_cheat c)
{
    return c < CHEAT_COUNT ? names[c] : "?";
}

enum infer_cheat infer_cheat_parse(const char *name)
{
    for (int c = 0; c < CHEAT_COUNT; c++)
        if (!strcmp(names[c], name))
            return (enum infer_cheat)c;
    return CHEAT_COUNT;
}

void cheat_quantise(struct weights *w)
{
    for (size_t t = 0; t < w->n_tensors; t++) {
        struct weights_tensor *x = &w->tensors[t];

        for (size_t r = 0; x->is_matrix && r < x->rows; r++) {
            float *row = x->data + r * x->cols;
            float top = 0.0f;

            for (size_t i = 0; i < x->cols; i++)
                top = fmaxf(top, fabsf(row[i]));
            for (size_t i = 0; i < x->cols && top > 0.0f; i++)
                row[i] = rintf(row[i] * (127.0f / top)) * (top / 127.0f);
        }
    }
}

/* Alters what msg_submit lends, in a copy of its own. */
static uint8_t *copy_of(struct bytes b)
{
    uint8_t *p = xmalloc(b.len ? b.len : 1);

    memcpy(p, b.data, b.len);
    return p;
}

enum status cheat_submission(struct buf *body, enum infer_cheat cheat, const struct task *t,
                             struct err *e)
{
    struct msg_submit *m;
    struct buf forged;
    uint8_t *tokens[MSG_MAX_SAMPLES] = {NULL};
    enum status st;

    if (cheat != CHEAT_REWARD && cheat != CHEAT_TOKENS)
        return OK;
    m = xcalloc(1, sizeof(*m));
    buf_init(&forged, MSG_MAX_BYTES);
    st = msg_submit_decode(m, buf_bytes(body), e);
    for (uint32_t i = 0; !st && i < m->n_samples; i++) {
        struct msg_sample *s = &m->sample[i];

        if (cheat == CHEAT_REWARD) {
            s->reward = (float)t->acceptance.reward_max;
            continue;
        }
        tokens[i] = copy_of(s->tokens);
        tokens[i][0] ^= 1; /* the first token's lowest bit */
        s->tokens.data = tokens[i];
    }
    if (!st) {
        submission_root(&m->root, m);
        st = msg_submit_encode(&forged, m, e);
    }
    if (!st) {
        buf_reset(body);
        buf_append(body, buf_bytes(&forged));
    }
    for (uint32_t i = 0; i < MSG_MAX_SAMPLES; i++)
        free(tokens[i]);
    buf_clear(&forged);
    free(m);
    return st;
}
