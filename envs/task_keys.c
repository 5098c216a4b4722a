#include "envs/task_keys.h"

#include <stddef.h>

#include "base/check.h"

struct key {
    const char *name;
    enum opt_type type;
    size_t offset; /* in struct task */
    const char *def;
    const char *range;
    const char *help;
};

#define AT(member) offsetof(struct task, member)

/* Space to tilde, and the newline. */
#define PRINTABLE                                                                              \
    " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"                      \
    "abcdefghijklmnopqrstuvwxyz{|}~\n"

#define MONEY "0..1000000000000000"

/* A default of 0 that the help calls "derived" is resolved by task_parse. */
static const struct key keys[] = {
    {"name", OPT_STRING, AT(name), NULL, NULL, "short name of the task"},
    {"about", OPT_STRING, AT(about), "", NULL, "one line for people"},
    {"seed", OPT_INT, AT(seed), "1", "0..9007199254740991",
     "what everything drawn in the run depends on"},

    {"model.init", OPT_STRING, AT(model.init), "random", NULL,
     "`random`, or the directory of a Hugging Face model to start from"},
    {"model.dim", OPT_INT, AT(model.dim), "64", "8..65536", "width of the hidden state"},
    {"model.layers", OPT_INT, AT(model.layers), "2", "1..256", "number of blocks"},
    {"model.heads", OPT_INT, AT(model.heads), "4", "1..256", "attention heads"},
    {"model.kv_heads", OPT_INT, AT(model.kv_heads), "0", "0..256",
     "key and value heads; 0: as many as heads"},
    {"model.head_dim", OPT_INT, AT(model.head_dim), "0", "0..1024",
     "width of a head; 0: dim / heads"},
    {"model.ffn", OPT_INT, AT(model.ffn), "0", "0..262144",
     "width of the feed-forward layer; 0: 8/3 dim, rounded up to a multiple of 8"},
    {"model.tie", OPT_FLAG, AT(model.tie), "true", NULL,
     "whether input and output embeddings are one tensor"},
    {"model.max_len", OPT_INT, AT(model.max_len), "128", "2..65536",
     "most tokens of prompt and answers together"},
    {"model.tokenizer", OPT_CHOICE, AT(model.tokenizer), "char", "char|byte",
     "one token per character of the alphabet, or per byte"},
    {"model.alphabet", OPT_STRING, AT(model.alphabet), PRINTABLE, NULL,
     "the characters of `char`, none twice; default: printable ASCII and the newline"},
    {"model.template", OPT_STRING, AT(model.template), "", NULL,
     "chat template by its name: prompts are a user's messages, answers the assistant's; "
     "empty: "
     "plain text"},
    {"model.rope_theta", OPT_REAL, AT(model.rope_theta), "10000", "1..1e9",
     "base of the rotary positions"},
    {"model.norm_eps", OPT_REAL, AT(model.norm_eps), "1e-5", "1e-12..0.1",
     "epsilon of the RMS norms"},

    {"environment.file", OPT_STRING, AT(environment.file), "env.lua", NULL,
     "the script, relative to the task file"},
    {"environment.data", OPT_STRING, AT(environment.data), "", NULL,
     "JSON Lines file for the script, relative to the task file"},
    {"environment.instructions", OPT_INT, AT(environment.instructions), "10000000",
     "10000..10000000000", "instructions that one call may execute"},
    {"environment.memory_bytes", OPT_INT, AT(environment.memory_bytes), "67108864",
     "1048576..2147483648", "bytes that one call may allocate; nothing is collected meanwhile"},
    {"environment.wall_ms", OPT_INT, AT(environment.wall_ms), "5000", "10..600000",
     "milliseconds after which a call is killed without a verdict"},
    {"environment.turns", OPT_INT, AT(environment.turns), "1", "1..31",
     "most answers of the model in an episode"},

    {"sampling.group", OPT_INT, AT(sampling.group), "8", "2..64", "samples per prompt"},
    {"sampling.temperature", OPT_REAL, AT(sampling.temperature), "1", "0.01..100",
     "temperature of training samples"},
    {"sampling.max_new_tokens", OPT_INT, AT(sampling.max_new_tokens), "16", "1..65535",
     "most tokens of one answer, the end token included"},

    {"warmup.steps", OPT_INT, AT(warmup.steps), "0", "0..1000000",
     "supervised steps on demonstrations before version 0"},
    {"warmup.batch", OPT_INT, AT(warmup.batch), "64", "1..65536",
     "demonstrations per supervised step"},
    {"warmup.lr", OPT_REAL, AT(warmup.lr), "1e-3", "0..1", "learning rate of the warm-up"},
    {"warmup.stop_loss", OPT_REAL, AT(warmup.stop_loss), "0", "0..100",
     "stop the warm-up at this loss; 0: never"},

    {"algorithm.loss", OPT_CHOICE, AT(algorithm.loss), "two-sided", "two-sided",
     "GRPO with a two-sided clip around the sampling policy"},
    {"algorithm.advantage", OPT_CHOICE, AT(algorithm.advantage), "mean", "mean",
     "reward less the group's mean"},
    {"algorithm.clip_eps", OPT_REAL, AT(algorithm.clip_eps), "0.2", "0.001..0.999",
     "the ratio's clip is [1 - this, 1 + this]"},
    {"algorithm.delta", OPT_REAL, AT(algorithm.delta), "4", "1.001..1000",
     "largest ratio that a negative advantage may use"},
    {"algorithm.log_ratio_max", OPT_REAL, AT(algorithm.log_ratio_max), "20", "0.1..80",
     "the log of the ratio is clamped to [-this, this]"},
    {"algorithm.units_per_batch", OPT_INT, AT(algorithm.units_per_batch), "16", "1..4096",
     "prompts per weight version"},
    {"algorithm.steps", OPT_INT, AT(algorithm.steps), "100", "1..100000000",
     "weight versions to make"},
    {"algorithm.lag", OPT_INT, AT(algorithm.lag), "2", "0..64",
     "a batch is generated with weights this many versions old"},
    {"algorithm.order", OPT_CHOICE, AT(algorithm.order), "unit", "unit|arrival",
     "batches by unit number (reproducible) or as units arrive (throughput)"},
    {"algorithm.max_staleness", OPT_INT, AT(algorithm.max_staleness), "4", "0..1000",
     "units staler than this many versions are dropped"},

    {"algorithm.grad_lanes", OPT_INT, AT(algorithm.grad_lanes), "1", "1..8",
     "runs of a batch whose gradients are summed apart, which processes may share: 1, 2, 4 or "
     "8"},

    {"optimizer.lr", OPT_REAL, AT(optimizer.lr), "1e-3", "0..1", "learning rate"},
    {"optimizer.beta1", OPT_REAL, AT(optimizer.beta1), "0.9", "0..0.999999",
     "decay of the first moment"},
    {"optimizer.beta2", OPT_REAL, AT(optimizer.beta2), "0.999", "0..0.999999",
     "decay of the second moment"},
    {"optimizer.eps", OPT_REAL, AT(optimizer.eps), "1e-8", "1e-16..1",
     "added to the root of the second moment"},
    {"optimizer.weight_decay", OPT_REAL, AT(optimizer.weight_decay), "0", "0..1",
     "decoupled weight decay"},
    {"optimizer.clip_norm", OPT_REAL, AT(optimizer.clip_norm), "1", "0..1e9",
     "largest norm of the whole gradient; 0: no limit"},
    {"optimizer.schedule", OPT_CHOICE, AT(optimizer.schedule), "constant",
     "constant|linear|cosine", "how the learning rate goes on after the rise"},
    {"optimizer.warm_steps", OPT_INT, AT(optimizer.warm_steps), "0", "0..100000000",
     "steps over which the learning rate rises from 0"},
    {"optimizer.lr_end", OPT_REAL, AT(optimizer.lr_end), "0.1", "0..1",
     "last learning rate of linear and cosine, as a part of lr"},

    {"acceptance.reward_min", OPT_REAL, AT(acceptance.reward_min), "0", "-1e6..1e6",
     "least reward; what a failing score is given"},
    {"acceptance.reward_max", OPT_REAL, AT(acceptance.reward_max), "1", "-1e6..1e6",
     "greatest reward"},
    {"acceptance.audit_first", OPT_INT, AT(acceptance.audit_first), "5", "0..1000000",
     "a worker's first units, all checked in full"},
    {"acceptance.audit_floor_ppm", OPT_INT, AT(acceptance.audit_floor_ppm), "50000",
     "0..1000000", "least probability of a full check, per million"},
    {"acceptance.audit_saving_ppm", OPT_INT, AT(acceptance.audit_saving_ppm), "550000",
     "0..1000000", "what a cheat saves, per million of a unit's pay"},
    {"acceptance.audit_detect_ppm", OPT_INT, AT(acceptance.audit_detect_ppm), "980000",
     "1..1000000", "probability that a full check finds a cheat, per million"},
    {"acceptance.unproven_ppm", OPT_INT, AT(acceptance.unproven_ppm), "250000", "0..1000000",
     "of a batch's units, what workers may have that are in their first, per million; at least "
     "one unit, and all while there are no others"},
    {"acceptance.witnesses", OPT_INT, AT(acceptance.witnesses), "1", "0..64",
     "validators' nonces that a draw needs, else all is checked in full; 0: draws have none"},
    {"acceptance.canary_ppm", OPT_INT, AT(acceptance.canary_ppm), "2000", "0..1000000",
     "first attempts at units that only try the validators, per million"},
    {"acceptance.recheck_ppm", OPT_INT, AT(acceptance.recheck_ppm), "100000", "0..1000000",
     "full checks that a second validator makes as well, per million; 0: verdicts are not "
     "sealed"},

    {"acceptance.step_ppm", OPT_INT, AT(acceptance.step_ppm), "50000", "0..1000000",
     "least part of the weight versions that a validator recomputes, per million; 0: none, and "
     "the "
     "last ones neither"},
    {"acceptance.step_first", OPT_INT, AT(acceptance.step_first), "3", "0..1000000",
     "a trainer's first versions, all recomputed; version 0 too unless this is 0"},

    {"budget.deposit", OPT_INT, AT(budget.deposit), "1000000000", MONEY,
     "ucr put in escrow at the opening"},
    {"budget.stake_required", OPT_INT, AT(budget.stake_required), "1000000", MONEY,
     "ucr a worker must have at stake"},
    {"budget.stake_grant", OPT_INT, AT(budget.stake_grant), "1000000", MONEY,
     "ucr of stake given to each worker, validator and trainer: for closed economies"},
    {"budget.bond_required", OPT_INT, AT(budget.bond_required), "100000", MONEY,
     "ucr a validator must have at stake"},
    {"budget.canary_bonus", OPT_INT, AT(budget.canary_bonus), "5000", MONEY,
     "ucr from the jackpot for finding a bad canary, at most a third of it"},
    {"budget.fee_light", OPT_INT, AT(budget.fee_light), "50", MONEY,
     "ucr for a light check's verdict"},
    {"budget.fee_full", OPT_INT, AT(budget.fee_full), "500", MONEY,
     "ucr for a full check's verdict"},
    {"budget.price_step", OPT_INT, AT(budget.price_step), "1000", MONEY,
     "ucr to the trainer for a weight version"},
    {"budget.fee_step", OPT_INT, AT(budget.fee_step), "1000", MONEY,
     "ucr to a validator for recomputing one and finding it right"},
    {"budget.dispute_bond", OPT_INT, AT(budget.dispute_bond), "100000", MONEY,
     "ucr of its stake that a validator loses by challenging a right version; doubled by each "
     "challenge it has lost"},

    {"prices.f32-1", OPT_INT, AT(prices.f32_1), "10", MONEY,
     "ucr per sampled token in class f32-1; 0: the run is not in this class"},
    {"prices.bf16-1", OPT_INT, AT(prices.bf16_1), "0", MONEY,
     "the same in class bf16-1; one of these prices is above 0"},
    {"prices.open-openblas", OPT_INT, AT(prices.open_openblas), "0", MONEY,
     "the same in class open-openblas"},
    {"prices.open-cuda", OPT_INT, AT(prices.open_cuda), "0", MONEY,
     "the same in class open-cuda"},

    {"leases.lease_ms", OPT_INT, AT(leases.lease_ms), "30000", "100..86400000",
     "a lease without token progress ends after this time"},
    {"leases.hard_deadline_ms", OPT_INT, AT(leases.hard_deadline_ms), "600000",
     "100..604800000", "a lease ends after this time whatever the progress"},
    {"leases.check_ms", OPT_INT, AT(leases.check_ms), "30000", "100..86400000",
     "a check without a verdict goes to another validator after this time"},
    {"leases.dispute_ms", OPT_INT, AT(leases.dispute_ms), "120000", "100..86400000",
     "a party to a dispute that makes no move for so long loses, and one whose moves take four "
     "times that together; each may take an eighth of it"},
    {"leases.opening_ms", OPT_INT, AT(leases.opening_ms), "120000", "100..86400000",
     "in open classes, a drawn unit that its worker does not open for so long is refused; more "
     "than a restart takes"},
    {"leases.tries", OPT_INT, AT(leases.tries), "8", "1..1000",
     "leases of a unit before it is given up"},

    {"eval.prompts", OPT_INT, AT(eval.prompts), "64", "0..65536",
     "held-out problems to evaluate on"},
    {"eval.temperature", OPT_REAL, AT(eval.temperature), "0", "0..100",
     "temperature of the evaluation; 0: the likeliest token"},
};

#define N_KEYS (sizeof(keys) / sizeof(keys[0]))
_Static_assert(N_KEYS <= TASK_KEYS_MAX, "raise TASK_KEYS_MAX");

size_t task_keys(struct opt table[TASK_KEYS_MAX], struct task *t)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];

        table[i] = (struct opt){.name = k->name,
                                .type = k->type,
                                .at = (uint8_t *)t + k->offset,
                                .def = k->def,
                                .range = k->range,
                                .help = k->help};
    }
    return N_KEYS;
}
