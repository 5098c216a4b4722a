/*
 * envs/task.h - the task file, and the bundle that travels
 *
 * A task is what an initiator publishes: a model's shape, an environment, how to sample, how to
 * learn, what to accept and what to pay. It is written as YAML (`task.yaml`, docs/task-file.md);
 * every key stands once in the table in task_keys.c, with type, default, range and meaning. An
 * unknown key, a key given twice or a value out of range is an error that names the line.
 *
 * A bundle is the task file with the files it needs in one byte string, in a fixed order. Its
 * BLAKE2b-256 is the task id: whoever has the id can check that he has the task.
 *
 *   bundle  = "MUSTERTB" version u32 (1) n u32, then n files
 *   file    = name length u32, name, length u32, bytes       names from bundle_file_name(),
 *             in the order of enum bundle_file, none twice; task.yaml and env.lua must be there
 *
 * Money is in micro-credits (ucr). Times are in milliseconds.
 *
 * Threads: a struct task is plain memory: one writer, or many readers.
 */
#ifndef ENVS_TASK_H
#define ENVS_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

#define TASK_ID_BYTES 32u
/* sampling.group times model.max_len, at most: a submission, and an opening, stay below half of what a
 * message may have (MSG_MAX_BYTES in proto/msg.h), for both travel in one to a validator. */
#define TASK_UNIT_TOKENS_MAX  (5u << 19)
#define TASK_FILE_MAX_BYTES   (64u << 10)
#define TASK_PARAMS_MAX       32u
#define TASK_PARAM_NAME_BYTES 32u
#define BUNDLE_MAX_BYTES      (48u << 20) /* fits one protocol message */

enum bundle_file {
    BUNDLE_TASK,      /* task.yaml */
    BUNDLE_ENV,       /* env.lua */
    BUNDLE_DATA,      /* data.jsonl: one JSON value a line; optional */
    BUNDLE_CONFIG,    /* config.json: the model's shape instead of model.dim ...; optional */
    BUNDLE_TOKENIZER, /* tokenizer.json, instead of model.tokenizer; optional */
    BUNDLE_FILES
};
const char *bundle_file_name(enum bundle_file f);

/* Files lent from the encoded bytes; data == NULL: not there. */
struct bundle {
    struct bytes file[BUNDLE_FILES];
};

/* Appends the canonical encoding. ERR_LIMIT: a file or the whole is too large; ERR_INVALID: a
 * file that must be there is not. */
MUST_USE enum status bundle_encode(struct buf *out, const struct bundle *b, struct err *e);
/* From anyone. Only the canonical encoding is accepted: what decodes encodes to the same bytes.
 * The content of the files is not looked at. */
MUST_USE enum status bundle_decode(struct bundle *b, struct bytes in, struct err *e);
struct task;
/* Reads `path`, a task file or a directory with a task.yaml, and the files it names, parses and
 * checks the task, and appends the bundle's bytes to `out`. Paths in the task are relative to
 * its directory. ERR_NOT_FOUND: one of these files is not there. */
MUST_USE enum status bundle_load(struct buf *out, const char *path, struct err *e);
/* Where model.init of the task in `path` leads, seen from the working directory: a new string of
 * the caller's. NULL: nowhere, the weights begin random. */
char *bundle_model_dir(const char *path, const struct task *t);
void bundle_id(uint8_t id[TASK_ID_BYTES], struct bytes encoded);

/* A value the environment gets in its table `params`. */
enum task_param_kind { TASK_PARAM_INT, TASK_PARAM_REAL, TASK_PARAM_BOOL, TASK_PARAM_TEXT };
struct task_param {
    char name[TASK_PARAM_NAME_BYTES]; /* letters, digits, '_'; does not begin with a digit */
    enum task_param_kind kind;
    int64_t integer; /* INT, BOOL */
    double real;     /* REAL */
    char *text;      /* owned; TEXT */
};

/* Strings are owned; an optional one that was not given is "". */
struct task {
    char *name;
    char *about;  /* one line for people */
    int64_t seed; /* of everything drawn in the run */
    struct {
        char *init; /* "random", or the directory of a Hugging Face model */
        int64_t dim, layers, heads, kv_heads, head_dim, ffn; /* resolved: none is 0 */
        bool tie;        /* input and output embeddings are one tensor */
        int64_t max_len; /* tokens of prompt and completion together */
        char *tokenizer; /* "char" or "byte" */
        char *alphabet;  /* of "char": each character is a token, in this order */
        char *template;  /* name of a chat template (engine/chat.h); "": texts as they stand */
        double rope_theta, norm_eps;
    } model;
    struct {
        char *file;           /* env.lua, relative to the task file */
        char *data;           /* data.jsonl or "" */
        int64_t instructions; /* of one call */
        int64_t memory_bytes; /* of one call; nothing is collected during a call */
        int64_t wall_ms;      /* of one call, before it is killed without a verdict */
        int64_t turns;        /* most answers of the model in an episode */
        struct task_param param[TASK_PARAMS_MAX]; /* environment.params.NAME */
        size_t n_params;
    } environment;
    struct {
        int64_t group; /* samples per prompt */
        double temperature;
        int64_t max_new_tokens; /* per answer of the model */
    } sampling;
    struct {
        int64_t steps, batch; /* supervised steps before version 0; demonstrations per step */
        double lr;
        double stop_loss; /* stop early at this loss; 0: never */
    } warmup;
    struct {
        char *loss;      /* "two-sided" */
        char *advantage; /* "mean" */
        double clip_eps, delta, log_ratio_max;
        int64_t units_per_batch, steps, lag;
        char *order;           /* "unit" or "arrival" */
        int64_t max_staleness; /* versions; of order "arrival" */
        int64_t grad_lanes;    /* 1, 2, 4 or 8: learn/lanes.h */
    } algorithm;
    struct {
        double lr, beta1, beta2, eps, weight_decay, clip_norm; /* clip_norm 0: none */
        char *schedule;     /* "constant", "linear" or "cosine" */
        int64_t warm_steps; /* steps over which lr rises from 0 */
        double lr_end;      /* final lr of linear and cosine, as a part of lr */
    } optimizer;
    struct {
        double reward_min, reward_max; /* what score may return; a failed score is reward_min */
        int64_t audit_first;           /* a worker's first units are all checked fully */
        int64_t audit_floor_ppm;       /* least probability of a full check, per million */
        int64_t audit_saving_ppm;      /* what cheating saves, per million of a unit's pay */
        int64_t audit_detect_ppm;      /* probability that a full check finds a cheat */
        int64_t unproven_ppm; /* of a batch: what workers in their first units may have */
        int64_t witnesses;    /* nonces of validators that a draw needs */
        int64_t recheck_ppm;  /* full checks that a second validator makes as well */
        int64_t canary_ppm;   /* first attempts at units that are canaries */
        int64_t step_ppm;     /* least share of the versions that validators recompute */
        int64_t step_first;   /* a trainer's first versions are all recomputed */
    } acceptance;
    struct {
        int64_t deposit;             /* escrow at the opening */
        int64_t stake_required;      /* of a worker */
        int64_t stake_grant;         /* given to a node at admission: closed economies only */
        int64_t bond_required;       /* stake of a validator */
        int64_t canary_bonus;        /* to a validator that finds a bad one */
        int64_t fee_light, fee_full; /* of one verdict */
        int64_t price_step;          /* of one weight version, to the trainer */
        int64_t fee_step;            /* of recomputing one */
        int64_t dispute_bond;        /* of a challenger's stake */
    } budget;
    struct {
        int64_t f32_1; /* per sampled token in this class; 0: the class is not accepted */
        int64_t bf16_1;
        int64_t open_openblas, open_cuda;
    } prices;
    struct {
        int64_t lease_ms, hard_deadline_ms, check_ms; /* check_ms: a verdict's deadline */
        int64_t dispute_ms;                           /* for each move of a dispute */
        int64_t opening_ms; /* in open classes: how long a drawn unit's opening is waited for */
        int64_t tries;      /* attempts at a unit before it is given up */
    } leases;
    struct {
        int64_t prompts; /* held-out problems */
        double temperature;
    } eval;
};

void task_init(struct task *t); /* all defaults */
void task_clear(struct task *t);

/* Parses and checks. `what` names the source in errors: "task.yaml:12: ...". On failure *t is as
 * after task_init. ERR_MALFORMED: not YAML of the expected shape; ERR_INVALID: a key or value. */
MUST_USE enum status task_parse(struct task *t, struct bytes yaml, const char *what,
                                struct err *e);
/* Rules between keys (group >= 2, prompt fits, ...). task_parse has done it already. */
MUST_USE enum status task_check(const struct task *t, struct err *e);
/* Every setting, "key=value" a line in the order of the table, then the params. */
void task_print(struct buf *out, const struct task *t);
/* The table as lines of Markdown, for docs/task-file.md: its test keeps the page complete. */
void task_describe(struct buf *out);

/* The class that the task pays for: that of submissions and of what checks them. */
const char *task_numerics(const struct task *t);
/* The class of training steps: the same where it defines bits, else "f32-1", so that every step can be
 * computed again whatever the rollouts were made with. */
const char *task_train_numerics(const struct task *t);
/* Price of a sampled token in a numerics class ("f32-1"); 0: not accepted. */
int64_t task_price(const struct task *t, const char *numerics);

#endif
