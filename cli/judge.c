#include "cli/judge.h"

#include <stdio.h>
#include <string.h>

#include "replay/transcript_play.h"

enum status judge_dispute(struct bytes transcript, const atomic_bool *is_stopped,
                          struct ledger_judgement *out, struct err *e)
{
    struct transcript_result r;
    struct transcript t;
    enum status st = transcript_decode(&t, transcript, e);

    memset(out, 0, sizeof(*out));
    if (!st)
        st = transcript_replay(&r, &t, is_stopped, e);
    if (st)
        return st;
    *out = (struct ledger_judgement){.is_over = r.loser != DISPUTE_NOBODY,
                                     .has_trainer_lost = r.loser == DISPUTE_DEFENDER,
                                     .op = r.question.op,
                                     .out = r.question.out,
                                     .tile = r.question.tile,
                                     .segment = (uint32_t)r.question.first};
    snprintf(out->why, sizeof(out->why), "%.*s%s%.100s", 90, r.why, r.where[0] ? ": " : "",
             r.where);
    return OK;
}
