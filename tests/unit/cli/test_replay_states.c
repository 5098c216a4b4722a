/*
 * cli/replay_states: who was struck rightly, and who was not.
 */
#include "cli/replay_states.h"

#include <string.h>

#include "proto/states.h"
#include "support/test.h"

static const struct digest own = {{1}};
static const struct digest theirs[2] = {{{2}}, {{3}}};

/* What an honest validator says. */
static struct ledger_verdict honest(void)
{
    struct ledger_verdict v = {.validator = {{7}}, .n_opened = 2};

    states_seal(&v.states, &v.validator, &own);
    for (uint32_t i = 0; i < 2; i++)
        v.opened[i] =
            (struct ledger_opened){.validator = {{(uint8_t)(8 + i)}}, .found = theirs[i]};
    return v;
}

static void an_honest_validator_was_struck_wrongly(void **state)
{
    struct ledger_verdict v = honest();

    (void)state;
    assert_false(replay_states_differ(&v, &own, theirs));
}

static void whoever_sealed_or_opened_something_else_was_struck_rightly(void **state)
{
    struct ledger_verdict v = honest();

    (void)state;
    v.states.b[0] ^= 1;
    assert_true(replay_states_differ(&v, &own, theirs));
    v = honest();
    v.opened[1].found.b[31] ^= 1;
    assert_true(replay_states_differ(&v, &own, theirs));
    v = honest();
    v.validator.b[0] ^= 1; /* copied from another */
    assert_true(replay_states_differ(&v, &own, theirs));
}

static void cases_are_noted_with_the_struck_verdict(void **state)
{
    struct replay_states r = {0};
    union ledger_body *b = test_calloc(1, sizeof(*b));

    (void)state;
    b->verdict_ = honest();
    replay_states_note(&r, NULL, LEDGER_VERDICT, b);
    b->verdict_.states = (struct digest){{0}};
    replay_states_note(&r, NULL, LEDGER_VERDICT, b); /* a light one */
    assert_int_equal(r.n_verdicts, 1);
    assert_int_equal(r.n, 0);
    replay_states_clear(&r);
    test_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_validator_was_struck_wrongly),
        cmocka_unit_test(whoever_sealed_or_opened_something_else_was_struck_rightly),
        cmocka_unit_test(cases_are_noted_with_the_struck_verdict),
    };

    return cmocka_run_group_tests_name("cli/replay_states", tests, NULL, NULL);
}
