/*
 * replay/transcript: a real step, published wrong and signed, argued about by two parties, and the
 * file of it replayed by a third who has nothing else.
 */
#include "replay/transcript_play.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/kernels.h"
#include "proto/digest.h"
#include "proto/sign.h"
#include "replay/course.h"
#include "replay/file_proof.h"
#include "rollout/setup.h"
#include "support/test.h"

#include "unit/learn/batches.h"

static const char yaml[] =
    "name: letters\n"
    "seed: 3\n"
    "model: {dim: 16, layers: 1, heads: 2, ffn: 24, max_len: 48, alphabet: \"abc\"}\n"
    "sampling: {group: 4, temperature: 1, max_new_tokens: 40}\n"
    "warmup: {steps: 1, batch: 8, lr: 3e-3}\n"
    "algorithm: {units_per_batch: 2, steps: 4, lag: 1}\n"
    "optimizer: {lr: 1e-3}\n";
static const char lua[] = "return {prompt = function(p) return 'ab' end,"
                          " demo = function(p) return 'ca' end,"
                          " score = function(p, m) return 0 end}";
static const struct digest run = {{5}};

struct fixture {
    struct setup *setup;
    struct course c;         /* at version 0: the state before the step */
    struct batch_made *made; /* batch 0 */
    struct learn_batch batch;
    struct graph *g;
    struct trace *honest, *altered;
    struct public_key defender, challenger;
    struct secret_key defender_secret, challenger_secret;
    struct buf manifest, body, moves, file; /* of the altered step */
    struct buf challenge;                   /* of a dispute without moves */
    struct err e;
};

static void encode_bundle(struct buf *out, const char *task)
{
    struct bundle b = {0};
    struct err e;

    b.file[BUNDLE_TASK] = bytes_str(task);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    buf_init(out, BUNDLE_MAX_BYTES);
    assert_ok(bundle_encode(out, &b, &e), &e);
}

static void open_task(struct fixture *f)
{
    const struct course_options opt = {.run = run, .kernels = kernels_best()};
    struct buf encoded;

    encode_bundle(&encoded, yaml);
    assert_ok(setup_open(&f->setup, buf_bytes(&encoded), NULL, &f->e), &f->e);
    buf_clear(&encoded);
    course_init(&f->c, f->setup, &opt);
    assert_ok(course_begin(&f->c, &f->e), &f->e);
    assert_ok(course_warm_up(&f->c, NULL, NULL, &f->e), &f->e);
}

static void make_batch(struct fixture *f)
{
    const struct learn_rules rules =
        course_rules(&f->setup->task, &f->setup->task_id, f->setup->config.vocab, 0, &run);
    const struct submission_spec spec = {.task = f->setup->task_id,
                                         .numerics = "f32-1",
                                         .n_samples = 4,
                                         .reward = {0.0f, 1.0f, 0.5f, 0.25f},
                                         .n_tokens = 40,
                                         .token = 1,
                                         .vocab = (int32_t)f->setup->config.vocab};

    f->made = batch_new(0);
    batch_add_units(f->made, &run, &spec, 2);
    assert_ok(learn_batch_build(&f->batch, &f->made->m, &rules, &f->e), &f->e);
    assert_ok(msg_batch_encode(&f->body, &f->made->m, &f->e), &f->e);
}

static struct trace *trace_of(struct fixture *f, const struct trace_fault *fault)
{
    const struct trace_options o = {.kernels = kernels_best(), .fault = fault};
    struct trace *t;

    assert_ok(trace_new(&t, f->g, f->c.learner->masters, f->c.learner->opt, &o, &f->e), &f->e);
    assert_ok(trace_commit(t, &f->e), &f->e);
    return t;
}

/* The manifest that a trainer with the altered trace signs. */
static void sign_manifest(struct fixture *f)
{
    struct idem idem = {{1}};
    struct msg_manifest m;
    struct course wrong;
    struct buf body;

    /* What the step makes, but for the roots; the course itself stays before it. */
    const struct course_options opt = {.run = run, .kernels = kernels_best()};
    course_init(&wrong, f->setup, &opt);
    assert_ok(course_begin(&wrong, &f->e), &f->e);
    assert_ok(course_warm_up(&wrong, NULL, NULL, &f->e), &f->e);
    assert_ok(course_step(&wrong, &f->made->m, &f->e), &f->e);
    assert_ok(msg_manifest_decode(&m, buf_bytes(&wrong.manifest), &f->e), &f->e);
    assert_memory_equal(m.masters_after.b, f->honest->masters_after.b, DIGEST_BYTES);
    assert_memory_equal(m.optimizer_after.b, f->honest->optimizer_after.b, DIGEST_BYTES);
    assert_memory_equal(m.masters_before.b, f->honest->masters_before.b, DIGEST_BYTES);
    assert_memory_equal(m.optimizer_before.b, f->honest->optimizer_before.b, DIGEST_BYTES);
    m.masters_after = f->altered->masters_after;
    m.optimizer_after = f->altered->optimizer_after;
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_manifest_encode(&body, &m, &f->e), &f->e);
    assert_ok(msg_envelope_encode(&f->manifest, MSG_PUBLISH, &run, &idem, buf_bytes(&body),
                                  &f->defender_secret, &f->e),
              &f->e);
    buf_clear(&body);
    course_clear(&wrong);
}

static int setup(void **state)
{
    static struct trace_fault fault = {.op = 30, .at = 5, .flip = 1};
    struct fixture *f = test_calloc(1, sizeof(*f));

    sign_keys_of_seed(&f->defender, &f->defender_secret, (const uint8_t[32]){7});
    sign_keys_of_seed(&f->challenger, &f->challenger_secret, (const uint8_t[32]){8});
    buf_init(&f->manifest, MSG_MAX_BYTES);
    buf_init(&f->body, MSG_MAX_BYTES);
    buf_init(&f->moves, TRANSCRIPT_MAX_BYTES);
    buf_init(&f->file, TRANSCRIPT_MAX_BYTES);
    buf_init(&f->challenge, MSG_MAX_BYTES);
    open_task(f);
    make_batch(f);
    assert_ok(graph_new(&f->g, &f->setup->config, &f->c.settings, NUMERICS_F32_1, &f->batch, 0,
                        0, &f->e),
              &f->e);
    f->honest = trace_of(f, NULL);
    f->altered = trace_of(f, &fault);
    sign_manifest(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    trace_free(&f->honest);
    trace_free(&f->altered);
    graph_free(&f->g);
    learn_batch_clear(&f->batch);
    batch_free(&f->made);
    course_clear(&f->c);
    setup_close(&f->setup);
    buf_clear(&f->manifest);
    buf_clear(&f->body);
    buf_clear(&f->moves);
    buf_clear(&f->file);
    buf_clear(&f->challenge);
    test_free(f);
    return 0;
}

static struct transcript transcript_of(const struct fixture *f)
{
    return (struct transcript){.bundle = buf_bytes(&f->setup->bundle),
                               .manifest = buf_bytes(&f->manifest),
                               .batch = buf_bytes(&f->body),
                               .moves = buf_bytes(&f->moves),
                               .challenge = buf_bytes(&f->challenge),
                               .challenger = f->challenger};
}

/* At most n signed moves. */
static void play(struct fixture *f, uint32_t n)
{
    const struct dispute_rules rules = {.kernels = kernels_best(), .move_ms = 1};
    const struct transcript t = transcript_of(f);
    struct dispute_party c, v;
    struct transcript_step s;
    struct dispute d;
    struct buf move;

    assert_ok(transcript_open(&s, &t, &f->e), &f->e);
    dispute_init(&d, s.graph, &s.claim, &rules, 0);
    dispute_party_init(&c, DISPUTE_CHALLENGER, f->honest);
    dispute_party_init(&v, DISPUTE_DEFENDER, f->altered);
    buf_init(&move, OPENING_MAX_BYTES);
    while (d.level != DISPUTE_CLOSED && d.n_moves < n) {
        bool is_defender = d.turn == DISPUTE_DEFENDER;

        buf_reset(&move);
        assert_ok(dispute_party_move(is_defender ? &v : &c, &d, &move, &f->e), &f->e);
        assert_ok(transcript_add(&f->moves, &s.id, &s.run, buf_bytes(&move),
                                 is_defender ? &f->defender_secret : &f->challenger_secret,
                                 &f->e),
                  &f->e);
        assert_ok(dispute_move(&d, d.turn, buf_bytes(&move), 0, &f->e), &f->e);
    }
    buf_clear(&move);
    dispute_clear(&d);
    dispute_party_clear(&c);
    dispute_party_clear(&v);
    transcript_step_clear(&s);
}

static enum status replay(struct fixture *f, struct transcript_result *r)
{
    struct transcript t = transcript_of(f), again;

    buf_reset(&f->file);
    assert_ok(transcript_encode(&f->file, &t, &f->e), &f->e);
    assert_ok(transcript_decode(&again, buf_bytes(&f->file), &f->e), &f->e);
    return transcript_replay(r, &again, NULL, &f->e);
}

static void anyone_sees_who_lost(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;

    play(f, UINT32_MAX);
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_DEFENDER);
    assert_true(key_equal(&r.defender, &f->defender));
    assert_true(key_equal(&r.challenger, &f->challenger));
    assert_int_equal(r.version, 1);
    assert_true(r.n_moves > 5 && r.opened_bytes > 0);
    assert_contains(r.why, "operation 30");
    assert_contains(r.where, "micro-batch 0");
}

static void one_that_stops_names_who_is_silent(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;

    play(f, 3);
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_NOBODY);
    assert_int_equal(r.turn, DISPUTE_CHALLENGER);
    assert_int_equal(r.n_moves, 3);
}

/* A game that is over goes on in the record until one calls it; only its end counts. */
static void a_call_changes_nothing_in_a_game_that_is_over(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r, called;
    const struct transcript t = transcript_of(f);
    struct transcript_step s;

    play(f, UINT32_MAX);
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.n_moves % 2, 1); /* moves alternate: the last one was the defender's */
    assert_ok(transcript_open(&s, &t, &f->e), &f->e);
    assert_ok(transcript_add(&f->moves, &s.id, &s.run, BYTES_LIT("\x04"), &f->challenger_secret,
                             &f->e),
              &f->e);
    transcript_step_clear(&s);
    assert_ok(replay(f, &called), &f->e);
    assert_int_equal(called.n_moves, r.n_moves + 1);
    assert_int_equal(called.loser, DISPUTE_DEFENDER);
    assert_int_equal(called.question.op, r.question.op);
}

static void who_calls_too_early_loses(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;
    const struct transcript t = transcript_of(f);
    struct transcript_step s;

    play(f, 3);
    assert_ok(transcript_open(&s, &t, &f->e), &f->e);
    assert_ok(transcript_add(&f->moves, &s.id, &s.run, BYTES_LIT("\x04"), &f->challenger_secret,
                             &f->e),
              &f->e);
    transcript_step_clear(&s);
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_CHALLENGER);
    assert_contains(r.why, "another kind");
}

/* Nobody can put words into another's mouth, nor leave some out. */
static void moves_are_signed_and_in_a_chain(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;
    struct transcript t = transcript_of(f);
    struct transcript_step s;
    struct bytes first;
    struct reader in;

    play(f, 2);
    assert_ok(transcript_open(&s, &t, &f->e), &f->e);
    assert_ok(
        transcript_add(&f->moves, &s.id, &run, BYTES_LIT("\x01"), &f->challenger_secret, &f->e),
        &f->e);
    transcript_step_clear(&s);
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "move 2 is not signed by whose turn it was");

    buf_reset(&f->moves);
    play(f, 3);
    in = reader_of(buf_bytes(&f->moves));
    first = reader_blob(&in);
    memmove(f->moves.data, f->moves.data + first.len + 4, f->moves.len - first.len - 4);
    f->moves.len -= first.len + 4;
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "move 0 belongs elsewhere");

    buf_reset(&f->moves);
    play(f, 3);
    f->moves.data[f->moves.len - 1] ^= 1;
    assert_status(replay(f, &r), ERR_DIGEST, NULL);
}

/* Else a trainer would have a version that nobody can dispute: without its settings there is no game. */
static void a_manifest_that_contradicts_its_task_has_lost(void **state)
{
    struct fixture *f = *state;
    const struct idem idem = {{1}};
    struct transcript_result r;
    struct transcript_step s;
    struct msg_manifest m;
    struct msg_envelope env;
    struct transcript t;
    struct buf body;

    assert_ok(msg_envelope_decode(&env, buf_bytes(&f->manifest), &f->e), &f->e);
    assert_ok(msg_manifest_decode(&m, env.body, &f->e), &f->e);
    m.settings.b[7] ^= 1;
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_manifest_encode(&body, &m, &f->e), &f->e);
    buf_reset(&f->manifest);
    assert_ok(msg_envelope_encode(&f->manifest, MSG_PUBLISH, &run, &idem, buf_bytes(&body),
                                  &f->defender_secret, &f->e),
              &f->e);
    buf_clear(&body);

    t = transcript_of(f);
    assert_ok(transcript_open(&s, &t, &f->e), &f->e);
    assert_ok(
        transcript_add(&f->moves, &s.id, &run, BYTES_LIT("\x01"), &f->defender_secret, &f->e),
        &f->e);
    assert_ok(
        transcript_add(&f->moves, &s.id, &run, BYTES_LIT("\x04"), &f->challenger_secret, &f->e),
        &f->e);
    transcript_step_clear(&s);
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_DEFENDER);
    assert_contains(r.why, "other settings");
    assert_int_equal(r.n_moves, 2);
}

static void what_was_not_published_is_not_disputed(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;

    play(f, UINT32_MAX);
    f->manifest.data[f->manifest.len - 1] ^= 1;
    assert_status(replay(f, &r), ERR_DIGEST, NULL);
    f->manifest.data[f->manifest.len - 1] ^= 1;
    f->made->m.n--;
    learn_batch_root(&f->made->m.root, &f->made->m);
    buf_reset(&f->body);
    assert_ok(msg_batch_encode(&f->body, &f->made->m, &f->e), &f->e);
    f->made->m.n++;
    assert_status(replay(f, &r), ERR_DIGEST, NULL);
    assert_contains(f->e.text, "the batch is not that of the manifest");
}

/* A challenge of what the manifest publishes, which proves it or says so. */
static void challenge(struct fixture *f, int64_t version, struct bytes proof)
{
    const struct idem idem = {{1}};
    struct msg_step_verdict m = {.version = version, .proof = proof};
    struct buf body;

    digest_of(&m.manifest, buf_bytes(&f->manifest));
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_step_verdict_encode(&body, &m, &f->e), &f->e);
    buf_reset(&f->challenge);
    buf_reset(&f->body);
    assert_ok(msg_envelope_encode(&f->challenge, MSG_STEP_VERDICT, &run, &idem,
                                  buf_bytes(&body), &f->challenger_secret, &f->e),
              &f->e);
    buf_clear(&body);
}

static void publish(struct fixture *f, const struct msg_manifest *m)
{
    const struct idem idem = {{1}};
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_manifest_encode(&body, m, &f->e), &f->e);
    buf_reset(&f->manifest);
    assert_ok(msg_envelope_encode(&f->manifest, MSG_PUBLISH, &run, &idem, buf_bytes(&body),
                                  &f->defender_secret, &f->e),
              &f->e);
    buf_clear(&body);
}

/* A manifest of version 0 as the task makes it, but for what `alter` does, and a challenge of it. */
static void publish_first(struct fixture *f, void (*alter)(struct msg_manifest *m))
{
    struct msg_manifest m;

    assert_int_equal(f->c.version, 0);
    assert_ok(msg_manifest_decode(&m, buf_bytes(&f->c.manifest), &f->e), &f->e);
    if (alter)
        alter(&m);
    publish(f, &m);
    challenge(f, 0, (struct bytes){NULL, 0});
}

static void alter_masters(struct msg_manifest *m)
{
    m->masters_after.b[3] ^= 1;
}

static void alter_moments(struct msg_manifest *m)
{
    m->optimizer_after.b[3] ^= 1;
}

static void alter_weights(struct msg_manifest *m)
{
    m->weights.b[3] ^= 1;
}

/* It has no game: who judges makes it, from the task alone. */
static void version_0_is_what_the_task_makes(void **state)
{
    static void (*const alter[])(struct msg_manifest *) = {NULL, alter_masters, alter_moments,
                                                           alter_weights};
    static const char *const why[] = {"gives these", "other masters", "other moments",
                                      "other weights"};
    struct fixture *f = *state;
    struct transcript_result r;

    for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
        publish_first(f, alter[i]);
        assert_ok(replay(f, &r), &f->e);
        assert_int_equal(r.version, 0);
        assert_int_equal(r.loser, i ? DISPUTE_DEFENDER : DISPUTE_CHALLENGER);
        assert_contains(r.why, why[i]);
    }
    assert_ok(msg_batch_encode(&f->body, &f->made->m, &f->e), &f->e);
    assert_status(replay(f, &r), ERR_DENIED, NULL); /* it is made from none */
    buf_reset(&f->challenge);
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "version 0 has no game");
}

/* Else a process that judges is killed for memory, begins again, and is killed. */
static void version_0_that_does_not_fit_is_not_begun(void **state)
{
    static const char large[] = "name: letters\n"
                                "seed: 3\n"
                                "model: {dim: 16384, layers: 128, heads: 128, ffn: 65536, "
                                "max_len: 48, alphabet: \"abc\"}\n"
                                "sampling: {group: 4, temperature: 1, max_new_tokens: 40}\n"
                                "warmup: {steps: 1, batch: 8, lr: 3e-3}\n"
                                "algorithm: {units_per_batch: 2, steps: 4, lag: 1}\n"
                                "optimizer: {lr: 1e-3}\n";
    struct fixture *f = *state;
    struct transcript_result r;
    struct msg_manifest m;
    struct transcript t;
    uint64_t little, much;
    struct buf bundle;

    assert_ok(transcript_first_bytes(&little, buf_bytes(&f->setup->bundle), &f->e), &f->e);
    assert_true(little < (uint64_t)64 << 20);
    encode_bundle(&bundle, large);
    assert_ok(transcript_first_bytes(&much, buf_bytes(&bundle), &f->e), &f->e);
    assert_true(much > (uint64_t)1
                           << 42); /* of masters, moments and gradients 16 bytes a weight */
    assert_ok(msg_manifest_decode(&m, buf_bytes(&f->c.manifest), &f->e), &f->e);
    bundle_id(m.task.b, buf_bytes(&bundle));
    publish(f, &m);
    challenge(f, 0, (struct bytes){NULL, 0});
    t = transcript_of(f);
    t.bundle = buf_bytes(&bundle);
    assert_status(transcript_replay(&r, &t, NULL, &f->e), ERR_LIMIT, NULL);
    assert_contains(f->e.text, "making version 0 takes");
    buf_clear(&bundle);
}

static void version_0_is_left_where_it_is_stopped(void **state)
{
    const atomic_bool is_stopped = true;
    struct fixture *f = *state;
    struct transcript_result r;
    struct transcript t;

    publish_first(f, NULL);
    t = transcript_of(f);
    assert_status(transcript_replay(&r, &t, &is_stopped, &f->e), ERR_TIMEOUT, NULL);
    assert_contains(f->e.text, "stopped at step 1");
}

/* A step whose masters are right: version 1, but published with the file of version 0. */
static void a_file_that_is_not_the_masters_has_lost(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;
    struct msg_manifest first, m;
    struct buf file, proof;

    buf_init(&file, course_file_bytes(&f->c));
    buf_init(&proof, MSG_MAX_PROOF);
    assert_ok(course_file(&f->c, &file, &f->e), &f->e);
    assert_ok(msg_manifest_decode(&first, buf_bytes(&f->c.manifest), &f->e), &f->e);
    assert_ok(course_step(&f->c, &f->made->m, &f->e), &f->e);
    assert_ok(msg_manifest_decode(&m, buf_bytes(&f->c.manifest), &f->e), &f->e);

    /* As it is, no proof is true. */
    publish(f, &m);
    challenge(f, 1, BYTES_LIT("\x01"));
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_CHALLENGER);

    m.weights = first.weights;
    publish(f, &m);
    assert_ok(file_proof_make(&proof, &m, buf_bytes(&file), f->c.learner->masters, NULL, &f->e),
              &f->e);
    challenge(f, 1, buf_bytes(&proof));
    assert_ok(replay(f, &r), &f->e);
    assert_int_equal(r.loser, DISPUTE_DEFENDER);
    assert_int_equal(r.version, 1);
    assert_contains(r.why, "another number than its masters");
    buf_clear(&proof);
    buf_clear(&file);
}

/* It must be the challenger's, of this manifest, and nothing must be beside it. */
static void a_challenge_belongs_to_its_dispute(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;
    struct msg_manifest m;

    publish_first(f, NULL);
    f->challenger.b[0] ^= 1;
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "not the challenger's");
    f->challenger.b[0] ^= 1;
    f->challenge.data[f->challenge.len - 1] ^= 1;
    assert_status(replay(f, &r), ERR_DIGEST, NULL);
    f->challenge.data[f->challenge.len - 1] ^= 1;
    buf_put_blob(&f->moves, BYTES_LIT("a move"));
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "of another dispute");
    buf_reset(&f->moves);
    assert_ok(msg_manifest_decode(&m, buf_bytes(&f->c.manifest), &f->e), &f->e);
    m.loss += 1.0f;
    publish(f, &m);
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "of another dispute");
    m.version = 1; /* a step without a proof is for a game */
    m.batch = f->made->m.root;
    publish(f, &m);
    challenge(f, 1, (struct bytes){NULL, 0});
    assert_status(replay(f, &r), ERR_DENIED, NULL);
    assert_contains(f->e.text, "has no proof");
}

static void every_changed_byte_of_a_file_is_found(void **state)
{
    struct fixture *f = *state;
    struct transcript_result r;
    struct transcript t;

    play(f, 4);
    assert_ok(replay(f, &r), &f->e);
    for (size_t i = 0; i < f->file.len; i += 1 + f->file.len / 997) {
        f->file.data[i] ^= 1;
        assert_int_not_equal(transcript_decode(&t, buf_bytes(&f->file), &f->e), OK);
        f->file.data[i] ^= 1;
    }
}

int main(int argc, char **argv)
{
    if (env_is_worker(argc, argv))
        return env_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(anyone_sees_who_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_stops_names_who_is_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_changes_nothing_in_a_game_that_is_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_calls_too_early_loses, setup, teardown),
        cmocka_unit_test_setup_teardown(moves_are_signed_and_in_a_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(a_manifest_that_contradicts_its_task_has_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_was_not_published_is_not_disputed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(version_0_is_what_the_task_makes, setup, teardown),
        cmocka_unit_test_setup_teardown(version_0_that_does_not_fit_is_not_begun, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(version_0_is_left_where_it_is_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_the_masters_has_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_challenge_belongs_to_its_dispute, setup, teardown),
        cmocka_unit_test_setup_teardown(every_changed_byte_of_a_file_is_found, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
