/*
 * The tables. nanopb's generated lists of fields give names, tags and types; the structs of
 * proto/msg.h give places; the rules below give what the schema cannot say.
 */
#include "proto/msg_table.h"

#include "proto/muster.pb.h"

/* NOLINTBEGIN(bugprone-macro-parentheses): names of members take no parentheses. */

/* Which member counts a repeated one, and which table describes its elements. */
#define N_msg_roster_entry     n
#define N_msg_lease_item       n
#define N_msg_heartbeat_item   n
#define N_msg_drawn_item       n
#define N_msg_checks_item      n
#define N_msg_verdicts_item    n
#define N_msg_beat_dropped     n_dropped
#define N_msg_submit_sample    n_samples
#define N_msg_batch_envelope   n
#define N_msg_head_offer       n
#define SUB_msg_roster_entry   &table_roster_entry
#define SUB_msg_lease_item     &table_lease_item
#define SUB_msg_heartbeat_item &table_progress_item
#define SUB_msg_drawn_item     &table_attempt
#define SUB_msg_checks_item    &table_check_item
#define SUB_msg_verdicts_item  &table_attempt
#define SUB_msg_submit_sample  &table_sample
#define SUB_msg_head_offer     &table_offer

/* nanopb's names of types to ours. */
#define TYPE_UINT32             MSG_TYPE_UINT32
#define TYPE_UINT64             MSG_TYPE_UINT64
#define TYPE_SINT64             MSG_TYPE_SINT64
#define TYPE_BOOL               MSG_TYPE_BOOL
#define TYPE_FLOAT              MSG_TYPE_FLOAT
#define TYPE_FIXED_LENGTH_BYTES MSG_TYPE_FIXED
#define TYPE_BYTES              MSG_TYPE_BYTES
#define TYPE_STRING             MSG_TYPE_STRING
#define TYPE_FIXED64            MSG_TYPE_FIXED64
#define TYPE_MESSAGE            MSG_TYPE_MESSAGE

#define MEMBER(owner, member)         (((struct owner *)0)->member)
#define SUB_OF_MESSAGE(owner, member) SUB_##owner##_##member
#define SUB_OF_FIXED64(owner, member) NULL
#define SUB_OF_BYTES(owner, member)   NULL

#define FIELD_SINGULAR(owner, ltype, fname, ftag)                                              \
    {.name = #fname,                                                                           \
     .tag = (ftag),                                                                            \
     .type = TYPE_##ltype,                                                                     \
     .offset = offsetof(struct owner, fname),                                                  \
     .size = sizeof(MEMBER(owner, fname))},
#define FIELD_REPEATED(owner, ltype, fname, ftag)                                              \
    {.name = #fname,                                                                           \
     .tag = (ftag),                                                                            \
     .type = TYPE_##ltype,                                                                     \
     .is_repeated = true,                                                                      \
     .offset = offsetof(struct owner, fname),                                                  \
     .size = sizeof(MEMBER(owner, fname[0])),                                                  \
     .cap = sizeof(MEMBER(owner, fname)) / sizeof(MEMBER(owner, fname[0])),                    \
     .n_offset = offsetof(struct owner, N_##owner##_##fname),                                  \
     .sub = SUB_OF_##ltype(owner, fname)},
#define FIELD(owner, alloc, rule, ltype, fname, ftag) FIELD_##rule(owner, ltype, fname, ftag)

/* The size a member must have for its type; fixed bytes are compared with nanopb's struct. */
#define SIZE_UINT32(owner, member)             4
#define SIZE_UINT64(owner, member)             8
#define SIZE_SINT64(owner, member)             8
#define SIZE_BOOL(owner, member)               sizeof(bool)
#define SIZE_FLOAT(owner, member)              4
#define SIZE_FIXED_LENGTH_BYTES(owner, member) sizeof(PB_##owner.member)
#define SIZE_BYTES(owner, member)              sizeof(struct bytes)
#define SIZE_STRING(owner, member)             sizeof(MEMBER(owner, member))
#define SIZE_FIXED64(owner, member)            8
#define SIZE_MESSAGE(owner, member)            sizeof(MEMBER(owner, member[0]))
#define ASSERT_SINGULAR(owner, ltype, member)                                                  \
    _Static_assert(sizeof(MEMBER(owner, member)) == SIZE_##ltype(owner, member),               \
                   #owner "." #member);
#define ASSERT_REPEATED(owner, ltype, member)                                                  \
    _Static_assert(sizeof(MEMBER(owner, member[0])) == SIZE_##ltype(owner, member),            \
                   #owner "." #member);
#define ASSERT(owner, alloc, rule, ltype, member, tag) ASSERT_##rule(owner, ltype, member)

#define RANGE(owner, member, low, high)                                                        \
    {                                                                                          \
        .name = #member, .kind = MSG_RULE_RANGE, .offset = offsetof(struct owner, member),     \
        .lo = (low), .hi = (high)                                                              \
    }
#define MIN(owner, member, low)                                                                \
    {                                                                                          \
        .name = #member, .kind = MSG_RULE_MIN, .offset = offsetof(struct owner, member),       \
        .lo = (low)                                                                            \
    }
#define LENGTH(owner, member, low, high, step)                                                 \
    {                                                                                          \
        .name = #member, .kind = MSG_RULE_LENGTH, .offset = offsetof(struct owner, member),    \
        .lo = (low), .hi = (high), .unit = (step)                                              \
    }
#define REQUIRED(owner, member)                                                                \
    {                                                                                          \
        .name = #member, .kind = MSG_RULE_REQUIRED, .offset = offsetof(struct owner, member),  \
        .size = sizeof(MEMBER(owner, member))                                                  \
    }
#define COUNT(owner, repeated, low)                                                            \
    {                                                                                          \
        .name = #repeated, .kind = MSG_RULE_COUNT,                                             \
        .offset = offsetof(struct owner, N_##owner##_##repeated), .lo = (low),                 \
        .hi = UINT32_MAX                                                                       \
    }
#define NO_RULE(owner)                                                                         \
    {                                                                                          \
        .kind = MSG_RULE_NONE, .name = ""                                                      \
    }

#define ROLE(owner)         RANGE(owner, role, ROLE_NONE + 1, ROLE_COUNT - 1)
#define REASON(owner)       RANGE(owner, code, 0, REASON_COUNT - 1)
#define SOME(owner, member) LENGTH(owner, member, 1, MSG_MAX_BYTES, 1)
#define PROOF_UNIT          258u /* TOPLOC_PROOF_BYTES */
#define CONTENT(owner)                                                                         \
    MIN(owner, version, 0), RANGE(owner, kind, CONTENT_FULL, CONTENT_STATE),                   \
        MIN(owner, base, -1)
#define INDICES(owner, low, high) LENGTH(owner, indices, 4L * (low), 4L * (high), 4)

#define TABLE(linkage, id, text, ctype, Proto, ...)                                            \
    muster_##Proto##_FIELDLIST(ASSERT, ctype) static const struct msg_field fields_##id[] = {  \
        muster_##Proto##_FIELDLIST(FIELD, ctype)};                                             \
    static const struct msg_rule rules_##id[] = {__VA_ARGS__};                                 \
    linkage const struct msg_table id = {                                                      \
        .name = (text),                                                                        \
        .field = fields_##id,                                                                  \
        .n_fields = sizeof(fields_##id) / sizeof(fields_##id[0]),                              \
        .rule = rules_##id,                                                                    \
        .n_rules = sizeof(rules_##id) / sizeof(rules_##id[0]),                                 \
        .bytes = sizeof(struct ctype),                                                         \
    };
#define MESSAGE(id, Proto, ...)              TABLE(, msg_table_##id, #id, msg_##id, Proto, __VA_ARGS__)
#define ELEMENT(id, text, ctype, Proto, ...) TABLE(static, id, text, ctype, Proto, __VA_ARGS__)

/* NOLINTEND(bugprone-macro-parentheses) */

/* Where nanopb's struct holds fixed bytes. */
#define PB(Proto)            (*(muster_##Proto *)0)
#define PB_msg_wire          PB(Envelope)
#define PB_msg_join          PB(Join)
#define PB_msg_joined        PB(Joined)
#define PB_msg_welcome       PB(Welcome)
#define PB_msg_bundle_ask    PB(BundleAsk)
#define PB_roster_entry      PB(RosterEntry)
#define PB_msg_submit        PB(Submit)
#define PB_msg_opening       PB(Opening)
#define PB_msg_receipt       PB(Receipt)
#define PB_msg_canary_order  PB(CanaryOrder)
#define PB_msg_witness_call  PB(WitnessCall)
#define PB_msg_witness       PB(Witness)
#define PB_msg_check         PB(Check)
#define PB_msg_verdicts      PB(Verdicts)
#define PB_msg_verdict_seal  PB(VerdictSeal)
#define PB_msg_verdict       PB(Verdict)
#define PB_msg_batch         PB(Batch)
#define PB_msg_manifest      PB(Manifest)
#define PB_msg_abandon       PB(Abandon)
#define PB_msg_audit_ask     PB(AuditAsk)
#define PB_msg_audit         PB(Audit)
#define PB_msg_step_verdict  PB(StepVerdict)
#define PB_msg_dispute_ask   PB(DisputeAsk)
#define PB_msg_dispute_state PB(DisputeState)
#define PB_msg_dispute       PB(Dispute)
#define PB_msg_task_close    PB(TaskClose)
#define PB_msg_segment       PB(Segment)
#define PB_msg_pong          PB(Pong)
#define PB_msg_ping_ask      PB(PingAsk)

/* clang-format off */
MESSAGE(wire, Envelope, LENGTH(msg_wire, body, 0, MSG_MAX_BYTES, 1))

MESSAGE(join, Join, REQUIRED(msg_join, transport), REQUIRED(msg_join, node),
        REQUIRED(msg_join, owner), REQUIRED(msg_join, owner_sig), ROLE(msg_join),
        REQUIRED(msg_join, mac))
MESSAGE(joined, Joined, REQUIRED(msg_joined, node), REQUIRED(msg_joined, transport),
        REQUIRED(msg_joined, owner), ROLE(msg_joined))
MESSAGE(refused, Refused, REASON(msg_refused))

MESSAGE(hello, Hello, ROLE(msg_hello), MIN(msg_hello, newest_version, -1))
MESSAGE(welcome, Welcome, MIN(msg_welcome, head_version, -1))
MESSAGE(bundle_ask, BundleAsk, REQUIRED(msg_bundle_ask, task))
MESSAGE(bundle, Bundle, LENGTH(msg_bundle, data, 0, MSG_MAX_BYTES, 1))
MESSAGE(roster_ask, RosterAsk, NO_RULE(msg_roster_ask))
ELEMENT(table_roster_entry, "roster entry", roster_entry, RosterEntry,
        REQUIRED(roster_entry, node), REQUIRED(roster_entry, transport), ROLE(roster_entry))
MESSAGE(roster, Roster, NO_RULE(msg_roster))

MESSAGE(lease_ask, LeaseAsk, MIN(msg_lease_ask, newest_version, -1),
        MIN(msg_lease_ask, oldest_version, -1), RANGE(msg_lease_ask, max, 1, MSG_MAX_LEASES))
ELEMENT(table_lease_item, "lease item", lease_item, LeaseItem,
        MIN(lease_item, version, 0), LENGTH(lease_item, order, 0, MSG_MAX_ORDER, 1))
MESSAGE(witness_ask, WitnessAsk, NO_RULE(msg_witness_ask))
MESSAGE(witness_call, WitnessCall, REQUIRED(msg_witness_call, entry))
MESSAGE(witness, Witness, REQUIRED(msg_witness, entry), REQUIRED(msg_witness, next))
MESSAGE(canary_order, CanaryOrder, REQUIRED(msg_canary_order, salt))
MESSAGE(lease, Lease, COUNT(msg_lease, item, 1))
MESSAGE(wait, Wait, REASON(msg_wait), MIN(msg_wait, head_version, -1))
ELEMENT(table_progress_item, "progress item", progress_item, ProgressItem,
        NO_RULE(progress_item))
MESSAGE(heartbeat, Heartbeat, NO_RULE(msg_heartbeat))
MESSAGE(beat, Beat, MIN(msg_beat, head_version, -1))
ELEMENT(table_sample, "sample", msg_sample, Sample,
        LENGTH(msg_sample, tokens, 0, 4L * MSG_MAX_TOKENS, 4),
        LENGTH(msg_sample, logprobs, 0, 4L * MSG_MAX_TOKENS, 4),
        LENGTH(msg_sample, mask, 0, MSG_MAX_TOKENS, 1),
        RANGE(msg_sample, finish, FINISH_END, FINISH_ENV))
MESSAGE(submit, Submit, MIN(msg_submit, version, 0),
        LENGTH(msg_submit, prompt, 0, 4L * MSG_MAX_TOKENS, 4), COUNT(msg_submit, sample, 1))
MESSAGE(opening, Opening, LENGTH(msg_opening, proofs, 0, MSG_MAX_BYTES, PROOF_UNIT),
        REQUIRED(msg_opening, states))
MESSAGE(drawn_ask, DrawnAsk, NO_RULE(msg_drawn_ask))
ELEMENT(table_attempt, "attempt", attempt, Attempt, NO_RULE(attempt))
MESSAGE(drawn, Drawn, NO_RULE(msg_drawn))
MESSAGE(receipt, Receipt, REASON(msg_receipt))
MESSAGE(check_ask, CheckAsk, MIN(msg_check_ask, newest_version, -1),
        MIN(msg_check_ask, oldest_version, -1))
MESSAGE(check, Check, RANGE(msg_check, depth, CHECK_LIGHT, CHECK_FULL),
        SOME(msg_check, submission), LENGTH(msg_check, peers, 0, 32L * MSG_MAX_OPENED, 32))
ELEMENT(table_check_item, "check item", check_item, CheckItem, SOME(check_item, submission))
MESSAGE(checks, Checks, COUNT(msg_checks, item, 1))
MESSAGE(verdicts, Verdicts, REQUIRED(msg_verdicts, submissions), COUNT(msg_verdicts, item, 1))
MESSAGE(verdict_seal, VerdictSeal, REQUIRED(msg_verdict_seal, verdict))
MESSAGE(verdict, Verdict, REQUIRED(msg_verdict, submission),
        RANGE(msg_verdict, depth, CHECK_LIGHT, CHECK_FULL), REASON(msg_verdict),
        LENGTH(msg_verdict, opened, 0, 64L * MSG_MAX_OPENED, 64))

MESSAGE(batch_ask, BatchAsk, NO_RULE(msg_batch_ask))
MESSAGE(batch, Batch, NO_RULE(msg_batch))
MESSAGE(manifest, Manifest, CONTENT(msg_manifest), REQUIRED(msg_manifest, weights),
        RANGE(msg_manifest, shard_bytes, 1, SHARD_BYTES),
        RANGE(msg_manifest, n_shards, 1, MSG_MAX_SHARDS))
MESSAGE(abandon, Abandon, MIN(msg_abandon, version, 0))
MESSAGE(audit_ask, AuditAsk, MIN(msg_audit_ask, version, -1))
MESSAGE(audit, Audit, MIN(msg_audit, version, 0), SOME(msg_audit, manifest))
MESSAGE(step_verdict, StepVerdict, MIN(msg_step_verdict, version, 0), REQUIRED(msg_step_verdict, manifest),
        LENGTH(msg_step_verdict, proof, 0, MSG_MAX_PROOF, 1))
MESSAGE(dispute_ask, DisputeAsk, NO_RULE(msg_dispute_ask))
MESSAGE(dispute_state, DisputeState, REQUIRED(msg_dispute_state, dispute),
        MIN(msg_dispute_state, version, 0), REQUIRED(msg_dispute_state, challenger),
        SOME(msg_dispute_state, manifest), LENGTH(msg_dispute_state, moves, 0, MSG_MAX_BYTES, 1))
MESSAGE(dispute, Dispute, REQUIRED(msg_dispute, dispute),
        LENGTH(msg_dispute, move, 1, MSG_MAX_BYTES, 1))

MESSAGE(status_ask, StatusAsk, RANGE(msg_status_ask, what, STATUS_SUMMARY, STATUS_VERSIONS))
MESSAGE(status, Status, LENGTH(msg_status, json, 0, MSG_MAX_BYTES, 1))
MESSAGE(drain, Drain, NO_RULE(msg_drain))
MESSAGE(task_publish, TaskPublish, SOME(msg_task_publish, bundle),
        MIN(msg_task_publish, deposit, 0))
MESSAGE(task_close, TaskClose, REQUIRED(msg_task_close, task))
MESSAGE(ledger_ask, LedgerAsk, NO_RULE(msg_ledger_ask))
MESSAGE(ledger, Ledger, LENGTH(msg_ledger, entries, 0, MSG_MAX_BYTES, 1))
MESSAGE(invite_ask, InviteAsk, ROLE(msg_invite_ask))
MESSAGE(invite, Invite, NO_RULE(msg_invite))

ELEMENT(table_offer, "offer", msg_offer, Offer, CONTENT(msg_offer))
MESSAGE(head, Head, MIN(msg_head, version, -1))
MESSAGE(segment, Segment, CONTENT(msg_segment), RANGE(msg_segment, shard_bytes, 1, SHARD_BYTES),
        RANGE(msg_segment, number, 0, MSG_MAX_SHARDS / MSG_MAX_LEAVES - 1),
        LENGTH(msg_segment, leaves, 32, 32L * MSG_MAX_LEAVES, 32))
MESSAGE(head_ask, HeadAsk, NO_RULE(msg_head_ask))
MESSAGE(manifest_ask, ManifestAsk, CONTENT(msg_manifest_ask))
MESSAGE(segment_ask, SegmentAsk, CONTENT(msg_segment_ask),
        RANGE(msg_segment_ask, n, 1, MSG_MAX_SHARDS / MSG_MAX_LEAVES))
MESSAGE(have_ask, HaveAsk, CONTENT(msg_have_ask))
MESSAGE(have, Have, CONTENT(msg_have), LENGTH(msg_have, bitmap, 0, MSG_MAX_SHARDS / 8, 1))
MESSAGE(have_news, HaveNews, CONTENT(msg_have_news),
        INDICES(msg_have_news, 1, MSG_MAX_INDICES))
MESSAGE(shard_ask, ShardAsk, CONTENT(msg_shard_ask), INDICES(msg_shard_ask, 1, MSG_MAX_ASKED))
MESSAGE(shard, Shard, CONTENT(msg_shard), RANGE(msg_shard, index, 0, MSG_MAX_SHARDS - 1),
        LENGTH(msg_shard, data, 0, SHARD_BYTES, 1))
MESSAGE(cancel, Cancel, CONTENT(msg_cancel), INDICES(msg_cancel, 0, MSG_MAX_INDICES))
MESSAGE(choke, Choke, NO_RULE(msg_choke))
MESSAGE(neighbour_reply, NeighbourReply, NO_RULE(msg_neighbour_reply))
MESSAGE(leave, Leave, REASON(msg_leave))
MESSAGE(ping, Ping, NO_RULE(msg_ping))
MESSAGE(pong, Pong, NO_RULE(msg_pong))
MESSAGE(ping_ask, PingAsk, REQUIRED(msg_ping_ask, about))
MESSAGE(proof, Proof, SOME(msg_proof, first), SOME(msg_proof, second))
/* clang-format on */
