#include "verifier/verify_cheat.h"

#include <stdio.h>
#include <string.h>

static const char *const names[VERIFY_CHEAT_COUNT] = {"none",    "lazy",      "framing",
                                                      "copying", "colluding", "challenging"};

const char *verify_cheat_name(enum verify_cheat c)
{
    return c < VERIFY_CHEAT_COUNT ? names[c] : "?";
}

enum verify_cheat verify_cheat_parse(const char *name)
{
    for (int c = 0; c < VERIFY_CHEAT_COUNT; c++)
        if (!strcmp(names[c], name))
            return (enum verify_cheat)c;
    return VERIFY_CHEAT_COUNT;
}

/* Numbers as good as any for who made no prefill. */
static void invent(struct rollout_probe *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->found[i] = p->draw;
        p->found[i].b[0] ^= (uint8_t)(1 + i);
    }
}

bool verify_cheat_says(struct rollout_finding *f, struct rollout_probe *probe,
                       const struct verify_run_options *opt, const struct public_key *worker,
                       const struct msg_submit *s)
{
    memset(f, 0, sizeof(*f));
    invent(probe);
    switch (opt->cheat) {
    case VERIFY_CHEAT_LAZY:
    case VERIFY_CHEAT_COPYING: f->is_accepted = true; return true;
    case VERIFY_CHEAT_COLLUDING:
        f->is_accepted = true;
        return key_equal(worker, &opt->accomplice);
    case VERIFY_CHEAT_FRAMING:
        f->code = REASON_TOKEN;
        if (s->sample[0].tokens.len)
            f->claimed = s->sample[0].tokens.data[0];
        f->found = f->claimed ^ 1;
        snprintf(f->text, sizeof(f->text), "%s", reason_text(f->code));
        return true;
    case VERIFY_CHEAT_NONE:
    case VERIFY_CHEAT_CHALLENGING:
    case VERIFY_CHEAT_COUNT: break;
    }
    return false;
}
