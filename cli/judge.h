/*
 * cli/judge.h - replay/transcript_play.h as the ledger's judge of disputes (ledger/steps.h)
 *
 * The orchestrator and the audit know no model; they are lent this.
 */
#ifndef CLI_JUDGE_H
#define CLI_JUDGE_H

#include "ledger/steps.h"

MUST_USE enum status judge_dispute(struct bytes transcript, const atomic_bool *is_stopped,
                                   struct ledger_judgement *out, struct err *e);

#endif
