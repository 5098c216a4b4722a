/*
 * cli/commands.h - the subcommands of muster, one file each
 *
 * Each takes its own argument vector (argv[0] is the command's name) and returns the process'
 * exit status: 0 done, 1 it was tried and failed, 2 the command line was wrong. Results go to
 * stdout, logs and errors to stderr; `--help` goes to stdout with status 0.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

/* X(word, function, group, summary). Groups in the order of --help; "" is not listed. */
#define COMMAND_MAP(X)                                                                         \
    X("up", cmd_up, "Network", "run a whole network on this machine")                          \
    X("orchestrator", cmd_orchestrator, "Network", "lease work, keep the ledger")              \
    X("trainer", cmd_trainer, "Network", "update the policy and publish its weights")          \
    X("inference", cmd_inference, "Network", "generate rollouts")                              \
    X("verifier", cmd_verifier, "Network", "check rollouts for a fee")                         \
    X("relay", cmd_relay, "Network", "pass weight shards on")                                  \
    X("invite", cmd_invite, "Network", "make a link by which a node may join")                 \
    X("join", cmd_join, "Network", "join a run by a link, in the role it names")               \
    X("drain", cmd_drain, "Network", "let a node finish its work and get no more")             \
    X("keys", cmd_keys, "Operator", "make and show keys")                                      \
    X("doctor", cmd_doctor, "Operator", "check this machine")                                  \
    X("status", cmd_status, "Operator", "what a run does, and why it waits")                   \
    X("metrics", cmd_metrics, "Operator", "rewards, losses, cost of each weight version")      \
    X("shardcast", cmd_shardcast, "Operator", "what of the weights is here, and what moves")   \
    X("task", cmd_task, "Initiator", "check, publish, list, show and close tasks")             \
    X("env", cmd_env, "Initiator", "check and try an environment")                             \
    X("eval", cmd_eval, "Initiator", "how good a model is at a task")                          \
    X("econ", cmd_econ, "Initiator", "what honest work and cheats bring under a task")         \
    X("explain", cmd_explain, "Audit", "why a unit was paid or refused")                       \
    X("verify", cmd_verify, "Audit", "replay the evidence of a rejection")                     \
    X("ledger", cmd_ledger, "Audit", "show and audit a ledger")                                \
    X("replay", cmd_replay, "Audit", "recompute every weight version of a finished run")       \
    X("model", cmd_model, "Engine", "info, logits, generate, init, convert")                   \
    X("tokenize", cmd_tokenize, "Engine", "text to the ids of a model and back")               \
    X("sft", cmd_sft, "Engine", "supervised fine-tuning on demonstrations or JSONL")           \
    X("bench", cmd_bench, "Engine", "figures, and whether all ways of computing agree")        \
    X("sim", cmd_sim, "Engine", "whole networks of these machines in virtual time")            \
    X("toploc", cmd_toploc, "Engine", "prove and verify activations")                          \
    X("cast-node", cmd_cast_node, "", "one node of a shardcast measurement (internal)")        \
    X("lane-worker", cmd_lane_worker, "", "makes some lanes of a trainer's steps (internal)")  \
    X("env-worker", cmd_env_worker, "", "runs one environment in its sandbox (internal)")

#define COMMAND_DECLARE(word, function, group, summary) int function(int argc, char **argv);
COMMAND_MAP(COMMAND_DECLARE)
#undef COMMAND_DECLARE

#endif
