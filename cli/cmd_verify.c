/*
 * muster verify: replay the evidence of a rejection or the moves of a dispute, or check the proof that a
 * trainer equivocates
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "proto/content.h"
#include "replay/transcript_play.h"
#include "rollout/evidence.h"
#include "shardcast/cast_proof.h"

static void print_result(const struct evidence_result *r, bool as_json)
{
    char worker[2 * KEY_BYTES + 1], trainer[2 * KEY_BYTES + 1], run[2 * DIGEST_BYTES + 1];
    const struct rollout_finding *f = &r->finding;

    hex_encode(worker, BYTES_OF(r->worker.b));
    hex_encode(trainer, BYTES_OF(r->trainer.b));
    hex_encode(run, BYTES_OF(r->run.b));
    if (as_json) {
        printf("{\"unit\": %" PRIu64 ", \"lease\": %" PRIu64 ", \"version\": %" PRId64
               ", \"run\": \"%s\", \"trainer\": \"%s\", \"worker\": \"%s\", \"confirmed\": %s, "
               "\"reason\": \"%s\", \"sample\": %" PRIu32 ", \"position\": %" PRIu32
               ", \"claimed\": \"%" PRIx64 "\", \"found\": \"%" PRIx64 "\"}\n",
               r->unit, r->lease, r->version, run, trainer, worker,
               f->is_accepted ? "false" : "true", reason_name(f->code), f->sample, f->position,
               f->claimed, f->found);
        return;
    }
    printf("unit %" PRIu64 " (lease %" PRIu64 ") of version %" PRId64 ", signed by %s\n",
           r->unit, r->lease, r->version, worker);
    printf("with weights signed by %s for run %s:\ncompare that key with the run's trainer "
           "('muster status'); anybody could sign weights of his own\n",
           trainer, run);
    if (f->is_accepted)
        printf("NOT confirmed: the replay gives the very bits that were submitted\n");
    else
        printf("confirmed: %s\nunless the worker was told to: a CANARY_REVEAL of this lease in "
               "the "
               "run's ledger clears it ('muster ledger show DIR --unit %" PRIu64 "')\n",
               f->text, r->unit);
}

static const char *side_name(enum dispute_side s)
{
    return s == DISPUTE_DEFENDER     ? "trainer"
           : s == DISPUTE_CHALLENGER ? "challenger"
                                     : "nobody";
}

static void print_dispute(const struct transcript_result *r, bool as_json)
{
    char defender[2 * KEY_BYTES + 1], challenger[2 * KEY_BYTES + 1], run[2 * DIGEST_BYTES + 1];

    hex_encode(defender, BYTES_OF(r->defender.b));
    hex_encode(challenger, BYTES_OF(r->challenger.b));
    hex_encode(run, BYTES_OF(r->run.b));
    if (as_json) {
        printf("{\"version\": %" PRId64 ", \"run\": \"%s\", \"trainer\": \"%s\", "
               "\"challenger\": \"%s\", \"moves\": %" PRIu32 ", \"opened_bytes\": %" PRIu64
               ", \"loser\": \"%s\", \"silent\": \"%s\", \"where\": \"%s\", \"why\": "
               "\"%s\"}\n",
               r->version, run, defender, challenger, r->n_moves, r->opened_bytes,
               side_name(r->loser), side_name(r->turn), r->where, r->why);
        return;
    }
    printf("step to version %" PRId64 " of run %s\n", r->version, run);
    printf("trainer %s\nchallenger %s\n", defender, challenger);
    printf("%" PRIu32 " signed moves, %" PRIu64 " bytes opened\n", r->n_moves, r->opened_bytes);
    if (r->loser == DISPUTE_NOBODY)
        printf("NOT over: it is the %s's turn, who loses by silence at the deadline\n",
               side_name(r->turn));
    else
        printf("the %s loses: %s%s%s\n", side_name(r->loser), r->why, r->where[0] ? ": " : "",
               r->where);
}

/* Status 0: the dispute is over, and the trainer lost it; else 1, as for a rejection. */
static int verify_dispute(struct bytes in, const char *path, bool as_json)
{
    struct transcript_result r;
    struct transcript t;
    struct err e;

    if (transcript_decode(&t, in, &e) || transcript_replay(&r, &t, NULL, &e)) {
        (void)err_prefix(&e, e.code, "'%s'", path);
        return usage_fail(e.text);
    }
    print_dispute(&r, as_json);
    return r.loser == DISPUTE_DEFENDER ? 0 : 1;
}

static void print_proof(const struct cast_proof_result *r, bool as_json)
{
    char trainer[2 * KEY_BYTES + 1], run[2 * DIGEST_BYTES + 1], text[CONTENT_TEXT_BYTES];

    hex_encode(trainer, BYTES_OF(r->trainer.b));
    hex_encode(run, BYTES_OF(r->run.b));
    content_text(text, &r->about);
    if (as_json)
        printf("{\"run\": \"%s\", \"trainer\": \"%s\", \"version\": %" PRId64
               ", \"content\": \"%s\", \"equivocates\": true}\n",
               run, trainer, r->about.version, text);
    else
        printf("run %s\ntrainer %s\nsigned two things about version %s that cannot both be "
               "true\ncompare that key with the run's trainer ('muster status'); anybody could "
               "contradict himself\n",
               run, trainer, text);
}

/* Status 0: who signed both equivocated. */
static int verify_proof(struct bytes in, const char *path, bool as_json)
{
    struct cast_proof_result r;
    struct cast_proof p;
    struct err e;

    if (cast_proof_decode(&p, in, &e) || cast_proof_judge(&p, &r, &e)) {
        (void)err_prefix(&e, e.code, "'%s'", path);
        return usage_fail(e.text);
    }
    print_proof(&r, as_json);
    return 0;
}

static bool begins_with(struct bytes in, struct bytes magic)
{
    return in.len >= magic.len && bytes_equal(bytes_slice(in, 0, magic.len), magic);
}

static int verify_evidence(struct bytes in, const char *path, bool as_json,
                           const struct env_options *eo)
{
    struct evidence_result r;
    struct evidence v;
    struct err e;

    if (evidence_decode(&v, in, &e) || evidence_replay(&v, eo, &r, &e)) {
        (void)err_prefix(&e, e.code, "'%s'", path);
        return usage_fail(e.text);
    }
    print_result(&r, as_json);
    return r.finding.is_accepted ? 1 : 0;
}

static int verify_file(const char *path, bool as_json, const struct env_options *eo)
{
    struct file_map file;
    struct err e;
    int status;

    if (file_map_open(&file, path, &e))
        return usage_fail(e.text);
    if (begins_with(file.bytes, BYTES_LIT(TRANSCRIPT_MAGIC)))
        status = verify_dispute(file.bytes, path, as_json);
    else if (begins_with(file.bytes, BYTES_LIT(CAST_PROOF_MAGIC)))
        status = verify_proof(file.bytes, path, as_json);
    else
        status = verify_evidence(file.bytes, path, as_json, eo);
    file_map_close(&file);
    return status;
}

int cmd_verify(int argc, char **argv)
{
    bool as_json = false, allow_unsandboxed = false;
    const char **file = xcalloc((size_t)argc, sizeof(*file));
    struct opt table[] = {
        {"json", OPT_FLAG, &as_json, "false", NULL, "one JSON object a file", false},
        {"allow-unsandboxed", OPT_FLAG, &allow_unsandboxed, "false", NULL,
         "run the environment even where the kernel gives no sandbox", false},
    };
    struct usage u = {
        .line = "muster verify FILE... [options]",
        .about =
            "Replays the evidence of a rejection, as a validator wrote it into its\n"
            "DIR/evidence, or a dispute over a version (its moves, or a challenge that needs\n"
            "none: of version 0 it makes the whole warm-up), or checks the "
            "proof\n"
            "that a trainer published two contents for one version, as every node wrote "
            "it into\n"
            "its DIR/evidence. Status 0: the rejection was right, the trainer lost, or\n"
            "equivocated, in each of the files; 1: it was not, it did not, or a file is "
            "unsound.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = file,
        .max_operands = (size_t)argc,
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && !u.n_operands)
        status = usage_complain(u.line, "no file was named");
    if (status == USAGE_RUN) {
        const struct env_options eo = {.allow_unsandboxed = allow_unsandboxed};

        status = 0;
        for (size_t i = 0; i < u.n_operands; i++) {
            if (u.n_operands > 1 && !as_json)
                printf("%s%s\n", i ? "\n" : "", file[i]);
            if (verify_file(file[i], as_json, &eo))
                status = 1;
        }
    }
    free(file);
    return status;
}
