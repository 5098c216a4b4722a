/*
 * muster verify: replay the evidence of a rejection
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "rollout/evidence.h"

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
        printf("confirmed: %s\n", f->text);
}

int cmd_verify(int argc, char **argv)
{
    bool as_json = false, allow_unsandboxed = false;
    const char *path = NULL;
    struct opt table[] = {
        {"json", OPT_FLAG, &as_json, "false", NULL, "one JSON object", false},
        {"allow-unsandboxed", OPT_FLAG, &allow_unsandboxed, "false", NULL,
         "run the environment even where the kernel gives no sandbox", false},
    };
    struct usage u = {
        .line = "muster verify FILE [options]",
        .about =
            "Replays the evidence of a rejection, as a validator wrote it into its\n"
            "DIR/evidence. Status 0: the rejection was right; 1: it was not, or the evidence\n"
            "is unsound.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &path,
        .max_operands = 1,
    };
    struct evidence_result r;
    struct evidence v;
    struct file_map file;
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        return status;
    if (!path) {
        fprintf(stderr, "muster: no file was named\nusage: %s\n", u.line);
        return 2;
    }
    if (file_map_open(&file, path, &e))
        return usage_fail(e.text);
    const struct env_options eo = {.allow_unsandboxed = allow_unsandboxed};
    if (evidence_decode(&v, file.bytes, &e) || evidence_replay(&v, &eo, &r, &e)) {
        status = usage_fail(e.text);
    } else {
        print_result(&r, as_json);
        status = r.finding.is_accepted ? 1 : 0;
    }
    file_map_close(&file);
    return status;
}
